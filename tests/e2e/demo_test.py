#!/usr/bin/python3
"""Torc tests: `torc demo` from a build tree and from an installation, what it says when it cannot, and what is left
when it is ended early. Root only.

    tests/e2e/demo_test.py [WORD…]   all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed.
"""
import json
import os
import pathlib
import pty
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time

from node import BUILD, ROOT, Checks, run

WAIT_S = 120  # without a word
PROGRESS = re.compile(rb"\r\x1b\[Kloaded [^\r]*(\r\n)?")
checks = Checks()


class Demo:
    """A folder of its own, and a torc: that of the build, or another one."""

    def __init__(self, torc=BUILD / "client/torc"):
        self.torc = torc
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="torc-demo-"))
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TORC_")}
        self.environment["TORC_CLUSTER_DIR"] = str(self.folder / "cluster")
        self.state = None

    def words(self, *words):
        return [self.torc, "demo", "--data", BUILD / "data", *words]

    def run(self, *words, before=(), **environment):
        return run(*before, *self.words(*words), check=False, env={**self.environment, **environment}, timeout=WAIT_S)

    def follow(self, *words):
        """Status, output, errors. At a terminal it says each step before it does it, and how far the load is: the whole
        may take as long as the machine needs (minutes, where others compute), but it may not fall silent."""
        ours, theirs = pty.openpty()
        with subprocess.Popen(self.words(*words), env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=theirs) as process:
            os.close(theirs)
            said = {process.stdout.fileno(): b"", ours: b""}
            open_files = list(said)
            while open_files:
                ready = select.select(open_files, [], [], WAIT_S)[0]
                if not ready:
                    process.terminate()  # it takes down what it made, and is waited for
                    raise RuntimeError(f"the demo said nothing for {WAIT_S} s after {list(said.values())}"[-2000:])
                for file in ready:
                    try:
                        piece = os.read(file, 65536)
                    except OSError:  # nobody is at the terminal any more
                        piece = b""
                    said[file] += piece
                    if not piece:
                        open_files.remove(file)
        os.close(ours)
        return process.returncode, *said.values()

    def start(self):
        return subprocess.Popen(self.words("--nodes", "3"), env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)

    def await_state(self, process, ready):
        """Until ready(); notes what the cluster is made of."""
        file = self.folder / "cluster" / "cluster.json"
        end = time.monotonic() + WAIT_S
        while process.poll() is None and time.monotonic() < end:
            if file.exists():
                self.state = json.loads(file.read_text(encoding="utf-8"))
                self.link = run("ip", "-o", "link", "show", self.state["link"]).stdout.split()[0]
                if ready():
                    return
            time.sleep(0.01)
        raise RuntimeError(f"the demo ended, or took over {WAIT_S} s")

    def check_nothing_is_left(self, name):
        checks.that(f"{name}: no folder is left", not (self.folder / "cluster").exists())
        if self.state is not None:
            spaces = run("ip", "netns", "list").stdout.decode()
            checks.that(f"{name}: no namespace is left", self.state["namespace"] not in spaces, spaces)
            links = run("ip", "-o", "link").stdout.splitlines()  # by number: a name may be another test's by now
            checks.that(f"{name}: no link is left", not any(line.split()[0] == self.link for line in links), links)

    def close(self):
        if (self.folder / "cluster" / "cluster.json").exists():
            run(ROOT / "scripts/cluster", "down", check=False, env=self.environment)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def fetch():
    run(ROOT / "scripts/fetch-data", "tor-geoipdb", "--into", BUILD / "data")


def check_demo(demo, name):
    status, output, errors = demo.follow("--nodes", "3")
    said = output.decode(errors="replace")
    if checks.equal(f"{name}: ends well", (status, PROGRESS.sub(b"", errors)[-500:]), (0, b"")):
        death = re.search(r"had (\d+) answers, no error, and waited (\d+) ms at most", said)
        checks.that(f"{name}: says how long the client waited", death is not None and int(death[1]) > 10, said[-800:])
        checks.that(f"{name}: the primary was killed, and is back", re.search(r"node (\d) is back, and has its copy", said), said)
    demo.check_nothing_is_left(name)


def case_build():
    """torc demo from a build tree"""
    fetch()
    with Demo() as demo:
        check_demo(demo, "build")


def case_installed():
    """torc demo from an installation, its scripts beside it"""
    fetch()
    with tempfile.TemporaryDirectory(prefix="torc-install-") as folder:
        options = json.loads(run("meson", "introspect", "--buildoptions", BUILD).stdout)
        prefix = next(option["value"] for option in options if option["name"] == "prefix")
        run("meson", "install", "-C", BUILD, "--no-rebuild", env=dict(os.environ, DESTDIR=folder))
        with Demo(pathlib.Path(folder + prefix) / "bin/torc") as demo:
            check_demo(demo, "installed")


def case_cannot():
    """what it lacks is said"""
    with Demo() as demo:
        checks.program("not root", demo.run(before=("unshare", "--user")), 1, "torc demo: ", "run it as root")
        checks.program("no iproute2", demo.run(PATH="/nonexistent"), 1, "it needs ip, ", "apt-get install iproute2")
        checks.program("one node", demo.run("--nodes", 1), 1, "2 or more")
        checks.program("a word it does not know", demo.run("--nodse", 3), 2, "--nodse")
        checks.program("help", demo.run("--help"), 0, "--metastore", "--keep")
        demo.check_nothing_is_left("what cannot be")
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy2(BUILD / "client/torc", folder)
        alone = run(f"{folder}/torc", "demo", check=False, env=dict(os.environ, LD_LIBRARY_PATH=str(BUILD / "client")))
        checks.program("a torc without its scripts", alone, 1, "demo is neither beside torc")


def case_ended_early():
    """SIGTERM and Ctrl-C take down what was made, at any moment"""
    fetch()
    moments = (("its network", lambda demo: True),
               ("its first node", lambda demo: (demo.folder / "cluster/node1/run/serve.pid").exists()),
               ("all nodes", lambda demo: (demo.folder / "cluster/node3/run/cluster").exists()))
    for name, ready in moments:
        for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
            with Demo() as demo, demo.start() as process:
                demo.await_state(process, lambda: ready(demo))
                if number == signal.SIGINT:
                    os.killpg(process.pid, number)  # as a terminal does
                else:
                    process.send_signal(number)
                _, errors = process.communicate(timeout=WAIT_S)
                checks.equal(f"{name}, {number.name}: its status", process.returncode, status)
                checks.that(f"{name}, {number.name}: no traceback", b"Traceback" not in errors, errors[-1500:])
                demo.check_nothing_is_left(f"{name}, {number.name}")


if __name__ == "__main__":
    checks.cases(globals())
