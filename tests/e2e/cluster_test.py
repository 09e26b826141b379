#!/usr/bin/python3
"""Torc tests: a cluster of three nodes, as scripts/cluster makes it: one client reaches all keys through any node;
nodes die, stop, are cut off and come back; with `file` and with etcd as metastore. Root only.

    tests/e2e/cluster_test.py [WORD…]   all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed.
"""
import importlib.machinery
import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

from node import BUILD, PROGRAMS, ROOT, Checks, close_at_the_end, is_closed, reserve_k, run

KEYS = 1000000
FEW = 24  # of a cluster whose keys are all in a history
SETTINGS = ("--workers", "1", "--memory", "128M", "--large-memory", "32M", "--segment-bytes", "4M")
checks = Checks()


class Cluster:
    """scripts/cluster up … down, in a folder of its own."""

    def __init__(self, *words, nodes=3, keys=KEYS, shards=12, settings=()):
        self.histories = []
        self.shards = {}  # of each node, as first asked
        self.folder = tempfile.mkdtemp(prefix="torc-cluster-", dir=os.environ.get("TORC_TEST_DATA"))
        self.environment = dict(os.environ, TORC_BUILD=str(BUILD), TORC_CLUSTER_DIR=f"{self.folder}/cluster")
        close_at_the_end(self)
        self.prepare()
        self.up = self("up", "--nodes", nodes, *words, "--", *SETTINGS, "--shards", shards, "--keys", keys,
                       *settings, check=False)
        self.address = self.up.stdout.decode().splitlines()[-1] if self.up.returncode == 0 else None

    def prepare(self):
        """What has to be there before the nodes are."""

    def __call__(self, *words, check=True):
        done = subprocess.run([ROOT / "scripts/cluster", *map(str, words)], env=self.environment, capture_output=True,
                              stdin=subprocess.DEVNULL, check=False, timeout=120)
        if check and done.returncode != 0:
            raise RuntimeError(f"cluster {words}: status {done.returncode}: {done.stderr.decode()[-2000:]}")
        return done

    def node(self, number):
        """Address of a node."""
        return self.address.replace(".11:", f".{10 + number}:")

    def client(self, number=1):
        """Environment of a client that begins at a node."""
        keys = self("keys").stdout.decode().strip()
        return dict(os.environ, TORC_CLUSTER=self.node(number), TORC_KEY_FILE=keys)

    def torc(self, *words, number=1, check=True, timeout=60):
        done = subprocess.run([PROGRAMS["torc"], *map(str, words)], env=self.client(number), capture_output=True,
                              stdin=subprocess.DEVNULL, check=False, timeout=timeout)
        if check and done.returncode != 0:
            raise RuntimeError(f"torc {words}: status {done.returncode}: {done.stderr.decode()[-500:]}")
        return done.stdout.decode()

    def status(self):
        return self("status").stdout.decode().splitlines()

    def data(self, number):
        return pathlib.Path(self.folder) / "cluster" / f"node{number}"

    def __enter__(self):
        if self.address is None:
            error = self.up.stderr.decode()[-3000:]
            self.close()
            raise RuntimeError(f"the cluster does not come up: {error}")
        return self

    def close(self):
        self("down", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)
        is_closed(self)

    def __exit__(self, *_):
        self.close()


def rows(text):
    return dict(line.split(None, 1) for line in text.splitlines())


def fill(cluster, count=200):
    """Keys all over the key space; what they should be."""
    wanted = {str(key): f"value-{key}" for key in range(0, KEYS, KEYS // count)}
    lines = "".join(f"{key},{value}\n" for key, value in wanted.items())
    subprocess.run([PROGRAMS["torc"], "load", "-"], env=cluster.client(), input=lines.encode(), capture_output=True,
                   check=True, timeout=60)
    return wanted


def one_store(cluster, wanted):
    """Whichever node a client begins at."""
    for number in (1, 2, 3):
        checks.equal(f"all keys by node {number}", rows(cluster.torc("range", 0, KEYS, number=number)), wanted)
    spread = [sum(here(cluster, key, number) for key in wanted) for number in (1, 2, 3)]
    checks.equal("each key has one node", sum(spread), len(wanted))
    checks.that("each node has a third of them", min(spread) > len(wanted) // 4, spread)


def status_of(cluster, number):
    answer = subprocess.run([PROGRAMS["torc"], "status", "--data", cluster.data(number), "-o", "json"],
                            capture_output=True, stdin=subprocess.DEVNULL, check=True, timeout=30)
    return json.loads(answer.stdout)


def status_once(cluster, number, holds):
    """The first status of a node of which that holds, else the last in 20 s."""
    end = time.monotonic() + 20
    said = status_of(cluster, number)
    while not holds(said) and time.monotonic() < end:
        time.sleep(0.05)
        said = status_of(cluster, number)
    return said


def shards(cluster, number):
    return status_of(cluster, number)["shards"]


def check_history(cluster, sentence, during=lambda: None, patience=20000):
    """Eight clients, every operation; what they saw must be linearizable."""
    history = pathlib.Path(cluster.folder) / f"history-{len(cluster.histories)}"
    cluster.histories.append(history)  # with all that went before: a record may be of an earlier run
    running = subprocess.Popen([BUILD / "perf/torc-perf", "--cluster", cluster.address, "--json", "--workload", "check",
                                "--clients", "8", "--records", str(FEW), "--seconds", "3", "--warmup", "0",
                                "--timeout-ms", str(patience), "--history", history],
                               env=cluster.client(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        during()
    finally:
        _, errors = running.communicate(timeout=120)
    if not checks.equal(f"{sentence}: torc-perf ends well", (running.returncode, errors), (0, "")):
        return
    answered = sum(1 for line in history.read_text().splitlines() if '"status":"ok"' in line)
    checks.that(f"{sentence}: work is done", answered > 50, f"{answered} operations ended OK")
    judged = subprocess.run([ROOT / "tests/history/check.py", *cluster.histories], capture_output=True, text=True, check=False)
    checks.that(f"{sentence}: linearizable", judged.returncode == 0, judged.stdout[-2000:] + judged.stderr[-500:])


# -- Cases


def case_file():
    """three nodes with a metastore in a file are one store, and nodes come and go"""
    with Cluster() as cluster:
        wanted = fill(cluster)
        one_store(cluster, wanted)
        checks.that("keys has its file", os.path.exists(cluster("keys").stdout.decode().strip()))
        cluster("kill", 2)
        checks.that("status shows a dead node", "down" in cluster.status()[1], cluster.status())
        checks.equal("twice is refused", cluster("kill", 2, check=False).returncode, 1)
        alive = [key for key in wanted if here(cluster, key, 1) or here(cluster, key, 3)]
        checks.that("the others' keys are served", 50 < len(alive) < len(wanted), len(alive))
        checks.equal("also by who asks the dead one's neighbour", cluster.torc("get", alive[-1], number=3).strip(),
                     wanted[alive[-1]])
        cluster("start", 2)
        checks.that("status shows that it is back", " up" in cluster.status()[1], cluster.status())
        checks.equal("with what it had", rows(cluster.torc("range", 0, KEYS)), wanted)
        subprocess.run([PROGRAMS["torc"], "stop", "--data", cluster.data(2)], capture_output=True, check=True)
        # Node 1 reads in the metastore what node 2 wrote there as its last.
        said = status_once(cluster, 1, lambda said: [line["state"] for line in said["nodes"]] == ["up", "down", "up"])
        checks.that("who was stopped cleanly is known to be down, and what to do",
                    any("node 2 is down: start it; 4 shards" in line for line in said["advice"]), said["advice"])
        checks.equal("all nodes are shown", [line["state"] for line in said["nodes"]], ["up", "down", "up"])
        checks.equal("and whose each shard is", {shard["primary"] for shard in said["shards"]}, {1})


def here(cluster, key, number):
    """Whether the node has the key's shard."""
    if number not in cluster.shards:
        cluster.shards[number] = shards(cluster, number)
    return any(int(shard["lo"]) <= int(key) < int(shard["hi"]) for shard in cluster.shards[number])


def case_faults():
    """a node that is stopped or cut off is waited for, and nothing is lost"""
    with Cluster("--clear", keys=FEW) as cluster:
        checks.equal("no keys with --clear", cluster("keys").stdout, b"none\n")

        def stop_and_go():
            cluster("stop", 3)
            checks.that("status shows it", "stopped" in cluster.status()[2], cluster.status())
            cluster("cont", 3)
            cluster("isolate", 2)
            checks.that("and that one is alone", "isolated" in cluster.status()[1], cluster.status())
            cluster("heal", 2)
        check_history(cluster, "stopped and cut off", stop_and_go)
        check_history(cluster, "killed", lambda: (cluster("kill", 2), cluster("start", 2)))
        metastore_away(cluster)
        # A node's control alone: its dataplane goes on, and it goes on with it.
        control = pid_of(cluster, 1, "torc-control")
        os.kill(control, 9)
        while pid_of(cluster, 1, "torc-control") in (None, control) or " up: " not in cluster.status()[0]:
            pass
        checks.equal("a write after control came back", cluster.torc("put", 5, "late"), "")
        checks.equal("and it is read", cluster.torc("get", 5, number=2).strip(), "late")


def metastore_away(cluster):
    """The metastore is asked by nobody who reads or writes keys."""
    for verb, back in (("kill", "start"), ("stop", "cont")):
        cluster(verb, "metastore")
        checks.equal(f"{verb} metastore: a write meanwhile", cluster.torc("put", 7, verb), "")
        checks.equal(f"{verb} metastore: a read meanwhile", cluster.torc("get", 7, number=2).strip(), verb)
        if verb == "kill":
            checks.equal("killed twice is refused", cluster("kill", "metastore", check=False).returncode, 1)
        cluster(back, "metastore")
    checks.equal("started twice is refused", cluster("start", "metastore", check=False).returncode, 1)


def pid_of(cluster, number, name):
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(name.encode()) and str(cluster.data(number)).encode() in words:
            return int(folder.name)
    return None


def callers(cluster, number):
    """The nodes that have sessions with this one, and by which cipher."""
    done = subprocess.run([PROGRAMS["torc"], "sessions", "--data", cluster.data(number), "-o", "json"],
                          capture_output=True, stdin=subprocess.DEVNULL, check=True, timeout=30)
    return {(row["principal"] - 2**31, row["suite"]) for row in json.loads(done.stdout)["sessions"]
            if row["agent"] == "torc node" and row["idle_s"] < 3}


def check_callers(cluster, sentence, suites):
    for number in (1, 2, 3):
        end = time.monotonic() + 20
        others, heard = {1, 2, 3} - {number}, set()
        while {node for node, _ in heard} != others and time.monotonic() < end:
            heard = callers(cluster, number)
            time.sleep(0.05)
        checks.that(f"{sentence}: node {number} is called by the others",
                    {node for node, _ in heard} == others and {suite for _, suite in heard} <= suites, heard)


def case_peers():
    """nodes have sessions with each other, under keys of their own, and new ones when one of them restarts"""
    with Cluster() as cluster:
        check_callers(cluster, "at first", {"AES-256-GCM", "ChaCha20-Poly1305"})
        cluster("kill", 2)
        cluster("start", 2)
        check_callers(cluster, "after a restart", {"AES-256-GCM", "ChaCha20-Poly1305"})
        for words in (("rotate", "nodes"), ("remove-key", "nodes", "1")):
            for number in (1, 2, 3):
                if number > 1:
                    shutil.copy2(cluster.data(1) / "torc.keys", cluster.data(number) / "torc.keys")
                done = subprocess.run([PROGRAMS["torc"], "keys", *(words if number == 1 else ("reload",)), "--data",
                                       cluster.data(number)], capture_output=True, stdin=subprocess.DEVNULL, check=False)
                checks.equal(f"{words[0]} at node {number}", (done.returncode, done.stderr), (0, b""))
            check_callers(cluster, f"after {words[0]}", {"AES-256-GCM", "ChaCha20-Poly1305"})
    with Cluster("--clear") as cluster:
        check_callers(cluster, "in the clear", {"CLEAR"})


def case_etcd():
    """the same with etcd"""
    with Cluster("--metastore", "etcd") as cluster:
        wanted = fill(cluster)
        one_store(cluster, wanted)
        metastore_away(cluster)
        wanted = rows(cluster.torc("range", 0, KEYS))
        cluster("kill", 1)
        cluster("start", 1)
        checks.equal("all is there after a death", rows(cluster.torc("range", 0, KEYS, number=2)), wanted)


class NotingCluster(Cluster):
    """Notes what `ip` did, for other tests make networks meanwhile."""

    def prepare(self):
        program = pathlib.Path(self.folder, "bin", "ip")
        self.notes = pathlib.Path(self.folder, "ip.log")
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\n{shutil.which("ip")} "$@"\nstatus=$?\n'
                           f'echo "$status $*" >>{self.notes}\nexit $status\n', encoding="ascii")
        program.chmod(0o755)
        self.environment["PATH"] = f"{program.parent}:{os.environ['PATH']}"

    def done(self):
        """The words of each command that ended well."""
        lines = [line.split() for line in self.notes.read_text(encoding="ascii").splitlines()]
        return [line[1:] for line in lines if line[0] == "0"]


def case_refused():
    """what cannot be made leaves nothing"""
    cluster = NotingCluster("--clear", nodes=2, settings=("--undo-age", "never"))
    checks.program("a setting that makes no sense ends it", cluster.up, 1, "undo-age")
    checks.that("nothing is left of it", not os.path.exists(f"{cluster.folder}/cluster"))
    done = cluster.done()
    for kind, name in (("link", "torcl"), ("netns", "torc-c")):
        made = [words[2] for words in done if words[:2] == [kind, "add"] and words[2].startswith(name)]
        checks.equal(f"{kind}: one was made", len(made), 1)
        checks.that(f"{kind}: it was removed", [kind, "del", made[0]] in done, done)
    checks.program("no cluster", cluster("status", check=False), 1, "up --nodes 3")
    cluster.close()


def case_networks():
    """a network that another is just making, and that has no route yet, is left to it"""
    loader = importlib.machinery.SourceFileLoader("cluster", str(ROOT / "scripts/cluster"))
    cluster = importlib.util.module_from_spec(importlib.util.spec_from_loader("cluster", loader))
    loader.exec_module(cluster)
    reserve = (("torct", reserve_k), ("torcl", cluster.reserve_k))
    for (other, take_other), (own, take) in (reserve, reserve[::-1]):
        made = [(other, take_other()), (own, take())]
        for name, k in made:
            run("ip", "link", "del", f"{name}{k}")
        checks.that(f"{own} beside {other}", made[0][1] != made[1][1], str(made))


def case_join():
    """nodes that come later join; those that do not fit are told why"""
    with Cluster("--clear", nodes=1) as cluster:
        words = [PROGRAMS["torc-control"], "init", "--metastore", f"file:{cluster.folder}/cluster/meta"]
        folder = pathlib.Path(cluster.folder)

        def init(node, *more):
            return subprocess.run([*words, "--data", folder / f"late{node}", "--node", str(node), *more],
                                  stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)
        checks.program("a second node joins", init(2, "--security", "clear"), 0, "made node 2 of cluster")
        checks.program("once", init(2, "--security", "clear"), 2, "already holds a node")
        shutil.rmtree(folder / "late2")
        checks.program("and again while it has not started", init(2), 0, "made node 2")
        checks.program("but not in the place of one that has data", init(1, "--data", str(folder / "other")), 3,
                       "knows node 1, whose data is not here")
        checks.program("not on a cluster that needs a metastore for all",
                       subprocess.run([PROGRAMS["torc-control"], "init", "--data", folder / "x", "--nodes", "3"],
                                      capture_output=True, check=False), 2, "metastore")
    with Cluster(nodes=1) as cluster:
        done = subprocess.run([PROGRAMS["torc-control"], "init", "--metastore", f"file:{cluster.folder}/cluster/meta",
                               "--data", f"{cluster.folder}/late", "--node", "2"], capture_output=True, check=False)
        checks.program("with keys, they have to be there", done, 2, "torc.keys is missing", "node 1")


def case_maker_without_its_disk():
    """the node that made the cluster comes back with an empty disk: it makes no keys of its own"""
    with Cluster("--replicas", 2, nodes=2) as cluster:
        keys = cluster.data(1) / "torc.keys"
        cluster("kill", 1)

        def init():
            return subprocess.run([PROGRAMS["torc-control"], "init", "--node", "1", "--data", f"{cluster.folder}/new",
                                   "--metastore", f"file:{cluster.folder}/cluster/meta"],
                                  stdin=subprocess.DEVNULL, capture_output=True, check=False)

        def init_once():
            """When node 2 leads."""
            end = time.monotonic() + 30
            while b"whose data is not here" in (done := init()).stderr and time.monotonic() < end:
                time.sleep(0.1)
            return done
        checks.program("it is told so", init_once(), 2, "torc.keys is missing", "another node")
        cluster("start", 1)  # its disk was only not mounted
        checks.equal("its own directory is as good as before", status_of(cluster, 1)["node"], 1)
        cluster("kill", 1)
        checks.program("it is told so again", init_once(), 2, "torc.keys is missing", "another node")
        shutil.copy2(keys, f"{cluster.folder}/new/torc.keys")
        checks.program("with them it comes back", init(), 0, "made node 1")


if __name__ == "__main__":
    checks.cases(globals())
