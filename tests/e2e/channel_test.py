#!/usr/bin/python3
"""Torc tests: one of a node's two processes dies, the other goes on. Root only.

The last line is `N passed, N failed`.
"""
import os
import signal
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from node import Checks, Node  # noqa: E402

checks = Checks()
SMALL = ["--keys", "1000000", "--shards", "2", "--memory", "256M"]


def wait_for(what, seconds=20):
    """Until what() is true; whether it was."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if what():
            return True
        time.sleep(0.05)
    return False


def control_stopped():
    """Control says nothing: reads go on, writes are refused after the grace time, and all is well again."""
    with Node(*SMALL) as node:
        node.torc("put", 1, "one")
        os.kill(node.pid("control"), signal.SIGSTOP)
        time.sleep(1)  # control-grace is 500 ms
        checks.equal("reads go on without control", node.torc("get", 1).stdout.strip(), b"one")
        done = node.torc("put", 2, "two", "--timeout", "500ms", check=False)
        checks.that("a write is not acknowledged without control", done.returncode != 0, done.stderr)
        os.kill(node.pid("control"), signal.SIGCONT)
        node.torc("put", 3, "three")
        checks.equal("a write after control came back", node.torc("get", 3).stdout.strip(), b"three")


def control_killed():
    """Control dies: the dataplane stays the same process, a new control attaches, writes resume."""
    with Node(*SMALL) as node:
        node.torc("put", 1, "one")
        dataplane, control = node.pid("dataplane"), node.pid("control")
        node.kill("control")
        checks.equal("reads go on while control is dead", node.torc("get", 1).stdout.strip(), b"one")
        checks.that("a new control is started", wait_for(lambda: node.pid("control") not in (None, control)))
        node.torc("put", 2, "two")
        checks.equal("writes resume", node.torc("get", 2).stdout.strip(), b"two")
        checks.equal("the dataplane did not notice", node.pid("dataplane"), dataplane)
        # The line of the new one comes after the answer to it, when the main thread has its turn.
        wait_for(lambda: node.log().count("channel attached") >= 2)
        checks.that("and says that control was lost and came back",
                    "channel lost" in node.log() and node.log().count("channel attached") == 2, node.log())


def dataplane_killed():
    """The dataplane dies: it is started again and rebuilt from disk; no acknowledged write is lost."""
    with Node(*SMALL) as node:
        for key in range(20):
            node.torc("put", key, f"value {key}")
        node.kill("dataplane")
        node.wait_ready()
        rows = node.torc("range", 0, 20).stdout.splitlines()
        checks.equal("all that was acknowledged is there", len(rows), 20)
        node.torc("put", 20, "more")
        checks.equal("and writing goes on", node.torc("get", 20).stdout.strip(), b"more")


def both_killed():
    """Both die at once: the same."""
    with Node(*SMALL) as node:
        for key in range(20):
            node.torc("put", key, f"value {key}")
        node.kill("dataplane", "control")
        node.wait_ready()
        checks.equal("all that was acknowledged is there", len(node.torc("range", 0, 20).stdout.splitlines()), 20)


def a_second_dataplane_is_refused():
    """A dataplane on a directory that is served ends with status 3 and takes nothing away."""
    from node import PROGRAMS  # pylint: disable=import-outside-toplevel
    with Node(*SMALL) as node:
        done = node.network.run(PROGRAMS["torc-dataplane"], "--data", node.data, "--port", "memif",
                                "--memif-slots", "1", check=False)
        checks.equal("status", done.returncode, 3)
        checks.that("the reason", b"another dataplane serves this data directory" in done.stderr, done.stderr)
        node.torc("put", 1, "one")
        checks.equal("the first one serves on", node.torc("get", 1).stdout.strip(), b"one")


def main():
    for case in (control_stopped, control_killed, dataplane_killed, both_killed, a_second_dataplane_is_refused):
        checks.case(case)
    checks.end()


if __name__ == "__main__":
    main()
