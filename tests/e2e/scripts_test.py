#!/usr/bin/python3
"""Torc tests: what people run by hand removes nothing that is not its own, and leaves nothing when it is ended early:
scripts/quickstart by a user with sudo, install-deps, fetch-data, cluster, demo and crash. Root only. What they would
call is mostly a stand-in; sudo is one that asks nobody.

    tests/e2e/scripts_test.py [WORD…]   all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed.
"""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time

from node import BUILD, ROOT, Checks, run

WAIT_S = 20
OURS = "#!/bin/sh\n# of scripts/install-deps of Torc while it runs, as process {}\nexit 101\n"
THEIRS = "#!/bin/sh\n# none of ours\nexit 101\n"
# Of a node, what quickstart sees: a directory of root's, its locked file, and no second one beside it.
FAKE_TORC = """#!/bin/sh
verb=$1
while [ $# -gt 1 ]; do [ "$1" != --data ] || data=$2; shift; done
case $verb in
  serve)
    flock -n link.lock true || { echo another node has the link >&2; exit 1; }
    mkdir -p -m 750 $data $data/run
    echo nowhere >$data/run/cluster
    flock --no-fork link.lock flock --no-fork $data/run/serve.pid sleep 60 >/dev/null 2>&1 &
    echo $! >node.pid
    while flock -n $data/run/serve.pid true; do sleep 0.01; done ;;
  stop)
    [ ! -e stubborn ] || exit 1
    kill $(cat node.pid) && flock $data/run/serve.pid true ;;
esac
"""
FAKE_SUDO = '#!/bin/sh\nexec "${0%/*}/as-root" --reuid 0 --regid 0 --clear-groups "$@"\n'
checks = Checks()


@contextlib.contextmanager
def scratch(**programs):
    """A folder, with these programs in its bin/."""
    with tempfile.TemporaryDirectory(prefix="torc-scripts-") as name:
        folder = pathlib.Path(name)
        for path, text in programs.items():
            write(folder / "bin" / path.replace("_", "-"), text)
        yield folder


def write(path, text="#!/bin/sh\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def environment(folder, **more):
    words = {name: word for name, word in os.environ.items() if not name.startswith("TORC_")}
    return {**words, "PATH": f"{folder}/bin:{words['PATH']}", **more}


def end_early(words, ready, number, group=True, again=False, **options):
    """Status of a command that got a signal, as from a terminal or alone, once ready() holds; again: and more of them
    while it ends."""
    def prepare():
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(one, signal.SIG_DFL)
    with subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL, start_new_session=True, preexec_fn=prepare, **options) as process:
        try:
            end = time.monotonic() + WAIT_S
            while not ready():
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{words[0]} ended, or took over {WAIT_S} s")
                time.sleep(0.01)
            (os.killpg if group else os.kill)(process.pid, number)
            while again and process.poll() is None and time.monotonic() < end + WAIT_S:
                time.sleep(0.05)
                process.send_signal(number)
            return process.wait(WAIT_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


# -- quickstart


def quickstart(folder):
    return run(folder / "scripts/quickstart", check=False, cwd=folder, env=environment(folder, TMPDIR=str(folder)),
               user="nobody", group="nogroup", extra_groups=[])


def node_lives(folder):
    return run("flock", "-n", folder / "link.lock", "true", check=False).returncode != 0


def case_quickstart():
    """quickstart by a user with sudo knows whether its node runs, and removes no data under one"""
    with scratch(sudo=FAKE_SUDO, ninja="#!/bin/sh\n") as folder:
        if os.statvfs(folder).f_flag & os.ST_NOSUID:
            print(f"quickstart: {folder} lets nobody become root, its checks are left out")
            return
        write(folder / "build/client/torc", FAKE_TORC)
        write(folder / "build/meson-info/intro-buildoptions.json", '"name": "buildtype", "value": "release"')
        write(folder / "build/build.ninja")
        write(folder / "scripts/install-deps")
        write(folder / "scripts/fetch-data", "#!/bin/sh\nexit 7\n")  # which ends quickstart while its node runs
        shutil.copy2(ROOT / "scripts/quickstart", folder / "scripts")
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, "nobody", "nogroup")
        shutil.copy(shutil.which("setpriv"), folder / "bin/as-root")
        (folder / "bin/as-root").chmod(0o4755)  # in a folder that only nobody can enter
        data = folder / "build/quickstart"
        serve = ("build/client/torc", "serve", "--data", data)
        try:
            checks.program("quickstart: what fails ends it", quickstart(folder), 7, "stopped early (status 7)")
            checks.that("quickstart: its node is stopped", not node_lives(folder))
            checks.that("quickstart: and its data removed", not data.exists())
            run(*serve, cwd=folder)
            checks.program("quickstart: a node that was kept is seen", quickstart(folder), 7, "an earlier quickstart still runs")
            checks.that("quickstart: it and the new one are stopped", not node_lives(folder) and not data.exists())
            run(*serve, cwd=folder)
            write(folder / "scripts/install-deps", "#!/bin/sh\nexit 5\n")
            checks.program("quickstart: ended before it begins", quickstart(folder), 5)
            checks.that("quickstart: a node that was kept goes on", node_lives(folder) and (data / "run/cluster").exists())
            run("build/client/torc", "stop", "--data", data, cwd=folder)
            write(folder / "scripts/install-deps")
            write(folder / "stubborn")
            checks.program("quickstart: a node that does not stop", quickstart(folder), 7, "its data are left")
            checks.that("quickstart: has its data", node_lives(folder) and (data / "run/cluster").exists())
        finally:
            (folder / "stubborn").unlink(missing_ok=True)
            if node_lives(folder):
                run("kill", (folder / "node.pid").read_text(encoding="ascii").strip())


# -- what is fetched


def case_install_deps():
    """install-deps takes back that no service is started, also when it is ended early"""
    fakes = {"dpkg_query": '#!/bin/sh\n[ ! -e "${0%/*}/../all" ] || echo ok installed\n',
             "apt_get": '#!/bin/sh\n[ "$1" = update ] || { touch "${0%/*}/../begun"; exec sleep 10; }\n',
             "systemctl": '#!/bin/sh\n[ "$1" != is-enabled ] && echo "$*" >>"${0%/*}/../services"\n'}
    with scratch(**fakes) as folder:
        policy, begun = folder / "sbin/policy-rc.d", folder / "begun"
        policy.parent.mkdir()
        words = ["unshare", "--mount", "sh", "-ec", f'mount --bind {folder}/sbin /usr/sbin; exec "$@"', "sh",
                 ROOT / "scripts/install-deps", "--test"]
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            status = end_early(words, begun.exists, number, env=environment(folder))
            checks.equal(f"install-deps: {number.name}: its status", status, 128 + number)
            checks.that(f"install-deps: {number.name}: services may be started again", not policy.exists())
            checks.that(f"install-deps: {number.name}: what was installed is off",
                        "disable redis-server" in (folder / "services").read_text(encoding="utf-8"))
            for path in (begun, folder / "services"):
                path.unlink()
        end_early(words, begun.exists, signal.SIGKILL, env=environment(folder))
        checks.that("install-deps: killed, it leaves its file", policy.exists())
        write(folder / "all")
        run(*words, env=environment(folder))
        checks.that("install-deps: the next run removes it", not policy.exists())
        write(policy, OURS.format(os.getpid()))
        run(*words, env=environment(folder))
        checks.that("install-deps: also where its number is somebody else's", not policy.exists())
        with subprocess.Popen(["sh", "-c", "read line", "scripts/install-deps"], stdin=subprocess.PIPE) as runs:
            for name, text in (("another's", THEIRS), ("that of one that runs", OURS.format(runs.pid))):
                write(policy, text)
                run(*words, env=environment(folder))
                checks.that(f"install-deps: {name} stays", policy.exists())
            runs.stdin.close()


def case_fetch_data():
    """fetch-data, ended early, does nothing more"""
    fake = '#!/bin/sh\necho "$*" >>"${0%/*}/../asked"\nexec sleep 5\n'
    with scratch(apt_get=fake) as folder:
        asked = folder / "asked"
        for number in (signal.SIGINT, signal.SIGTERM):
            status = end_early([ROOT / "scripts/fetch-data", "nothing", "--into", folder / "data"],
                               lambda: asked.exists() and asked.stat().st_size > 0, number, env=environment(folder))
            checks.equal(f"fetch-data: {number.name}: its status", status, 128 + number)
            checks.equal(f"fetch-data: {number.name}: apt-get is called once",
                         len(asked.read_text(encoding="utf-8").splitlines()), 1)
            checks.equal(f"fetch-data: {number.name}: no file is left", list((folder / "data").iterdir()), [])
            asked.unlink()


# -- clusters


def case_cluster():
    """a cluster is taken down by who made it, and nothing else with it"""
    with scratch() as folder:
        words = environment(folder, TORC_BUILD=str(BUILD), TORC_CLUSTER_DIR=f"{folder}/cluster")
        state = folder / "cluster/cluster.json"
        write(state, json.dumps({"namespace": "torc-no-such", "link": "torc-no-such"}))
        write(folder / "cluster/mine")
        write(folder / "cluster/node1/torc.node")
        for name in ("node1-backup", "node18-src", "node"):
            write(folder / "cluster" / name / "mine")
        done = run(ROOT / "scripts/demo", check=False, env=words)
        checks.program("demo: another's cluster", done, 1, "there is a cluster", "down ends it")
        checks.that("demo: is not taken down", state.exists() and (folder / "cluster/node1").exists())
        run(ROOT / "scripts/cluster", "down", env=words)
        left = sorted(path.name for path in (folder / "cluster").iterdir())
        checks.equal("cluster: down removes what it made, and no other file", left, ["mine", "node", "node1-backup", "node18-src"])
        for name in ("node2", "meta"):
            write(folder / "cluster" / name / "mine")
            done = run(ROOT / "scripts/cluster", "up", "--nodes", "1", check=False, env=words)
            checks.program(f"cluster: up beside somebody's {name}", done, 1, f"has {name} already")
            checks.that(f"cluster: {name} stays", (folder / "cluster" / name / "mine").exists() and not state.exists())
            if state.exists():  # else it would outlive this test
                run(ROOT / "scripts/cluster", "down", env=words)
            shutil.rmtree(folder / "cluster" / name, ignore_errors=True)


# Runs a program as it stands, and signals it when its main is over.
LATE = """import atexit, os, runpy, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    atexit.register(os.kill, os.getpid(), number)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def case_late_signal():
    """a signal that comes while the interpreter ends changes nothing, and nothing is said of it"""
    with scratch() as folder:
        words = environment(folder, TORC_BUILD=str(BUILD), TORC_CLUSTER_DIR=f"{folder}/cluster")
        write(folder / "cluster/cluster.json", json.dumps({"namespace": "torc-no-such", "link": "torc-no-such", "clear": True}))
        for name in ("client/torc", "dataplane/torc-dataplane", "control/torc-control"):
            write(folder / "fake" / name, "#!/bin/sh\necho no such link >&2\nexit 2\n")
        fake = environment(folder, TORC_BUILD=f"{folder}/fake", TMPDIR=str(folder))
        for line, status, said, env in (("cluster keys", 0, "none", words), ("demo", 1, "there is a cluster", words),
                                        ("crash", 1, "no such link", fake)):
            name, *more = line.split()
            done = run("/usr/bin/python3", "-c", LATE, ROOT / "scripts" / name, *more, check=False, env=env)
            checks.program(f"{name}: signals at its end", done, status, said)
            checks.that(f"{name}: and no exception", b"Exception ignored" not in done.stderr, done.stderr.decode(errors="replace"))
        ours, theirs = os.pipe()
        os.close(ours)
        done = subprocess.run([ROOT / "scripts/cluster", "keys"], stdin=subprocess.DEVNULL, stdout=theirs,
                              stderr=subprocess.PIPE, check=False, env=words)
        os.close(theirs)
        checks.equal("cluster: who asked has gone", (done.returncode, done.stderr), (1, b""))


def case_crash_keep():
    """crash --keep keeps what shows why a node does not start"""
    with scratch() as folder:
        write(folder / "client/torc", "#!/bin/sh\necho no such link >&2\nexit 2\n")
        write(folder / "dataplane/torc-dataplane")
        write(folder / "control/torc-control")
        for words, kept in ((["--keep"], 1), ([], 0)):
            place = folder / f"kept{kept}"
            place.mkdir()
            done = run(ROOT / "scripts/crash", *words, check=False,
                       env=environment(folder, TORC_BUILD=str(folder), TMPDIR=str(place)))
            checks.program(f"crash {words}: the node does not start", done, 1, "no such link")
            logs = list(place.glob("torc-crash-*/torc-test-*/serve.log"))
            checks.equal(f"crash {words}: what is left", (len(logs), len(list(place.iterdir()))), (kept, kept))


def case_crash():
    """crash, ended early by a signal and more of them, leaves no client and no file"""
    with scratch() as folder:
        place = folder / "tmp"
        place.mkdir()
        status = end_early([ROOT / "scripts/crash", "--rounds", 1000],
                           lambda: any(place.glob("torc-crash-*/history.jsonl")), signal.SIGTERM, group=False, again=True,
                           env=environment(folder, TORC_BUILD=str(BUILD), TMPDIR=str(place)))
        checks.equal("crash: its status", status, 128 + signal.SIGTERM)
        checks.equal("crash: no file is left", list(place.iterdir()), [])
        left = [int(path.parts[2]) for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if holds(path, bytes(place))]
        checks.equal("crash: no client is left", left, [])
        for pid in left:
            os.kill(pid, signal.SIGKILL)


def holds(path, text):
    try:
        return text in path.read_bytes()
    except OSError:
        return False  # it ended


if __name__ == "__main__":
    checks.cases(globals())
