#!/usr/bin/python3
"""Torc tests: a disk that fails under a real node. Root only.

    tests/e2e/faults_test.py
Last line: `N passed, N failed`. The error is the kernel's own: torc-control is forbidden (RLIMIT_FSIZE, with
SIGXFSZ ignored) to write beyond the first 4 KiB of any file, so the next log write fails with EFBIG. A full
disk and a full memory are in control_test.py and cli_test.py.
"""
import os
import resource
import signal
import sys
import threading

from node import BUILD, ROOT, Checks, Node, refused

os.environ.setdefault("TORC_BUILD", str(BUILD))
sys.path.insert(0, str(ROOT / "client" / "python"))
import torc  # noqa: E402  after the path

WRITERS = 4
KEYS_EACH = 10_000  # of each writer
checks = Checks()


class Writer(threading.Thread):
    """Puts rising keys one after the other until one is not acknowledged; remembers the answers."""

    def __init__(self, address, first):
        super().__init__(daemon=True)
        self.address, self.first = address, first
        self.versions = {}  # acknowledged
        self.error = None
        self.enough = threading.Event()

    @staticmethod
    def value(key):
        return f"value of {key} ".encode() * (1 + key % 400)  # up to some packets long

    def run(self):
        with torc.Store(self.address, timeout=3) as store:
            for key in range(self.first, self.first + KEYS_EACH):
                try:
                    self.versions[key] = store.put(key, self.value(key))
                except torc.Error as error:
                    self.error = error
                    self.enough.set()
                    return
                if len(self.versions) >= 30:
                    self.enough.set()


def health(node):
    """The text and the status of /health."""
    done = node.network.run("curl", "-s", "-w", "\n%{http_code}", "http://127.0.0.1:28601/health")
    text, status = done.stdout.decode().rsplit("\n", 1)
    return text, int(status)


def put_error(store):
    """Why a put failed, or None."""
    try:
        store.put(1, "never")
    except torc.Error as error:
        return error
    return None


def fail_writes(node):
    resource.prlimit(node.pid("control"), resource.RLIMIT_FSIZE, (4096, 4096))


def case_log_error():
    """a log write error is final: nothing more is acknowledged, the node says why, reads go on"""
    node = Node("--keys", WRITERS * KEYS_EACH, "--segment-bytes", "4M", wait=False)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # programs that Node starts inherit it
    with node:
        node.start()
        writers = [Writer(node.address, number * KEYS_EACH) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        for writer in writers:
            checks.that("log error: writes are acknowledged before it", writer.enough.wait(30))
        checks.equal("log error: all is well before it", health(node)[1], 200)
        fail_writes(node)
        for writer in writers:
            writer.join(30)
            checks.that("log error: a write is not acknowledged",
                        isinstance(writer.error, (torc.Unavailable, torc.InDoubt)), repr(writer.error))
        with torc.Store(node.address, timeout=1) as store:
            for _ in range(3):
                error = refused(lambda: put_error(store), lambda error: isinstance(error, torc.InDoubt))
                checks.that("log error: no later write is acknowledged", error is not None)
                checks.that("log error: later writes are told why", "log write failed" in str(error), error)
            check_data(store, writers, "reads go on")
        status = node.admin("status")
        checks.equal("log error: status", status["log"]["state"], "failed")
        checks.that("log error: status says which write, and what to do",
                    "File too large" in status["log"]["text"] and "mend the disk" in status["health"], status["health"])
        text, code = health(node)
        checks.that("log error: /health is 503 with the reason", code == 503 and "File too large" in text, (code, text))
        checks.equal("log error: it is the same dataplane still", status["boot"], 1)
        checks.that("log error: an event of level error", " error log failed stream=1 " in node.log())

        checks.equal("log error: it can be stopped, which is no clean stop", node.stop(), 6)
        node.start()
        with torc.Store(node.address, timeout=5) as store:
            check_data(store, writers, "after a restart")
            checks.that("log error: after a restart writes go on", store.put(1, "again") > 0)
        checks.equal("log error: after a restart all is well", health(node), ("ok\n", 200))


def check_data(store, writers, when):
    """Every acknowledged write is there, as it was answered; one that was not is there whole or not at all."""
    for writer in writers:
        rows = {key: (value, version) for key, value, version in
                store.scan_with_versions(writer.first, writer.first + KEYS_EACH)}
        wanted = {key: (writer.value(key), version) for key, version in writer.versions.items()}
        if writer.first == 0:
            rows.pop(1, None)  # other puts try it; its own is acknowledged long before
            wanted.pop(1)
        lost = [key for key in wanted if rows.get(key) != wanted[key]]
        checks.equal(f"log error, {when}: no acknowledged write is lost or changed", lost, [])
        torn = [key for key in rows if key not in wanted and rows[key][0] != writer.value(key)]
        checks.equal(f"log error, {when}: nothing is there by half", torn, [])
        checks.that(f"log error, {when}: at most the one in doubt is there beside them", len(rows) <= len(wanted) + 1,
                    (len(rows), len(wanted)))


def main():
    checks.case(case_log_error)
    checks.end()


if __name__ == "__main__":
    main()
