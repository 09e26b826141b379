"""Torc tests: a cluster whose shards have several members, under load, for programs that kill parts of it.

    with Replicated(nodes=3, replicas=3, keys=24) as cluster:
        load = Load(cluster, seed=7)              # torc-perf --workload check, until end()
        cluster.kill_parts(2, "dataplane")        # SIGKILL; its torc serve starts it again
        cluster.await_whole(60)                   # every node runs, every shard has all members
        result = load.end()                       # torc-perf's last line; load.entries(): the history
"""
import errno
import json
import os
import pathlib
import signal
import subprocess
import time

from cluster_test import Cluster
from node import BUILD, PROGRAMS, run

PROBE_S = 0.1
CALM_S = 0.3  # whole means: this long without a change


class Replicated(Cluster):
    """A cluster as scripts/cluster makes it; who is in it, and what can befall its nodes. The last node has, with
    small_disk_mib, a disk of its own of that size."""

    def __init__(self, nodes, replicas, keys, *words, sealed=False, small_disk_mib=0, **more):
        self.count, self.replicas, self.small_disk_mib = nodes, replicas, small_disk_mib
        try:
            super().__init__(*(() if sealed else ("--clear",)), "--replicas", replicas, *words, nodes=nodes, keys=keys,
                             **more)
        except BaseException:
            self.close()
            raise

    def prepare(self):
        if self.small_disk_mib:
            self.data(self.count).mkdir(parents=True)
            run("mount", "-t", "tmpfs", "-o", f"mode=750,size={self.small_disk_mib}m", "torc-rounds", self.data(self.count))

    def close(self):
        self("down", check=False)
        if self.small_disk_mib:
            run("umount", "-l", self.data(self.count), check=False)
        super().close()

    def fill_disk(self):
        """Leaves no byte of the last node's disk. Its name, to be removed."""
        ballast = self.data(self.count) / "ballast"
        with open(ballast, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(1 << 16))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        return ballast

    def cut_pair(self, one, other, cut):
        """Takes two nodes' words for each other away, or gives them back: all others hear both."""
        state = json.loads((pathlib.Path(self.folder) / "cluster" / "cluster.json").read_text(encoding="utf-8"))
        for node in (one, other):
            run("ip", "-n", state["namespace"], "link", "set", f"torc{node}h", "type", "bridge_slave", "isolated",
                "on" if cut else "off")

    def await_status(self, node, holds, timeout):
        """Until what the node says of itself holds, but no longer than that."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            said = self.ask(node)
            if said is not None and holds(said):
                return
            time.sleep(PROBE_S)

    @property
    def nodes(self):
        return range(1, self.count + 1)

    def pids(self, node):
        """{"dataplane": pid, "control": pid} of those that run."""
        found, mark = {}, str(self.data(node)).encode()
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            name = words[0].rsplit(b"/", 1)[-1].decode(errors="replace")
            if name in ("torc-dataplane", "torc-control") and mark in words:
                found[name[5:]] = int(folder.name)
        return found

    def kill_parts(self, node, *parts):
        pids = self.pids(node)
        for part in parts:
            if part in pids:
                os.kill(pids[part], signal.SIGKILL)

    def stop_cleanly(self, node):
        done = subprocess.run([PROGRAMS["torc"], "stop", "--data", self.data(node)], capture_output=True,
                              stdin=subprocess.DEVNULL, check=False, timeout=60)
        if done.returncode != 0:
            raise RuntimeError(f"torc stop: {done.stderr.decode()[-500:]}")

    def ask(self, node):
        """What `torc status` of a node says; None when it does not answer."""
        try:
            done = subprocess.run([PROGRAMS["torc"], "status", "--data", self.data(node), "-o", "json"],
                                  capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=10)
            return json.loads(done.stdout) if done.returncode == 0 else None
        except (subprocess.TimeoutExpired, ValueError):
            return None

    def lacks(self):
        """Why the cluster is not whole, in a sentence; "" when it is. And what it looked at, to be compared."""
        seen = {}
        for node in self.nodes:
            said = self.ask(node) if len(self.pids(node)) == 2 else None
            if said is None or said["state"] != "serving":
                return f"node {node} is {said and said['state']}", None
            for other in said["nodes"]:
                if other["state"] != "up":
                    return f"node {node} takes node {other['node']} for {other['state']}", None
            for shard in said["shards"]:
                members = sorted(shard["members"])
                if len(members) != self.replicas:
                    return f"shard {shard['shard']} has members {members}, as node {node} knows it", None
                seen[shard["shard"]] = (shard["primary"], members)
        return ("", seen) if seen else ("no node has a shard", None)

    def await_whole(self, timeout):
        """Seconds until every node was up and every shard had all its members, for some time."""
        begun = calm = time.monotonic()
        last = None
        while True:
            why, seen = self.lacks()
            now = time.monotonic()
            if why or seen != last:
                calm, last = now, seen
            elif now - calm >= CALM_S:
                return calm - begun
            if now - begun > timeout:
                raise RuntimeError(f"not whole after {timeout} s: {why or 'primaries move'}\n{self.words()}")
            time.sleep(PROBE_S)

    def words(self):
        """The last words of every node."""
        texts = []
        for node in self.nodes:
            log = self.data(node) / "run" / "serve.log"
            if log.exists():
                texts.append(f"-- node {node}\n{log.read_text(encoding='utf-8', errors='replace')[-1500:]}")
        return "\n".join(texts)


class Load:
    """Clients that do every operation and keep the history of what they saw, until end()."""

    def __init__(self, cluster, seed, clients=8, records=24, timeout_ms=30000, value_bytes=3000):
        self.history = pathlib.Path(cluster.folder) / f"history-{len(cluster.histories)}"
        cluster.histories.append(self.history)
        self.process = subprocess.Popen(
            [BUILD / "perf/torc-perf", "--cluster", cluster.address, "--json", "--workload", "check", "--clients",
             str(clients), "--records", str(records), "--seconds", "86400", "--warmup", "0", "--timeout-ms",
             str(timeout_ms), "--value-bytes", str(value_bytes), "--seed", str(seed), "--history", self.history],
            env=cluster.client(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def lives(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"torc-perf ended with status {self.process.returncode}: "
                               f"{self.process.stderr.read()[-500:]}")

    def end(self, timeout=120):
        """{"ops":…,"in_doubt":…,"failed":…,"torn":…}"""
        self.process.send_signal(signal.SIGTERM)
        out, errors = self.process.communicate(timeout=timeout)
        lines = [line for line in out.splitlines() if line.startswith("{")]
        if not lines:
            raise RuntimeError(f"torc-perf ended with status {self.process.returncode}: {errors[-500:]}")
        return json.loads(lines[-1])

    def lines(self):
        return self.history.read_text(encoding="utf-8").splitlines()

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
