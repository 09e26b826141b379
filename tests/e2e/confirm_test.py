#!/usr/bin/python3
"""Torc tests: read-mode = confirm on three real nodes, whose primary is stopped and goes on. Root only.

    tests/e2e/confirm_test.py [WORD…]   all cases, or those whose name holds a word
A key's value only grows; the node that leads it is stopped (SIGSTOP) until another does, and is asked, by the client
that was written from docs/PROTOCOL.md and at its own address, while it goes on: what it says must be no older than
what was acknowledged before it was asked, or a refusal. Once the cluster is whole again every get is answered, and
right. That clocks stand still meanwhile cannot be made here; the simulator does that (--confirm).
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed.
"""
import struct
import threading
import time

from node import Checks
from replicated import Replicated
from stale_test import KEY, KEYS, WHOLE_S, Clock, counted, roles, t, torc

SETTINGS = ("--durability", "replicated", "--read-mode", "confirm")
STOPS = 4
KEPT = range(KEYS // 2, KEYS - 1)  # written once
ASKED = 50  # gets, or answers waited for
checks = Checks()


class Asker:
    """Plain gets at one node, whatever it is for the key, one after the other in a thread of their own."""

    def __init__(self, cluster, node, clock):
        self.client = t.Client(cluster.node(node).rsplit(":", 1)[0])
        self.clock = clock
        self.statuses = {}
        self.lies = []
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        least = {}  # by operation: what its answer must show, which may come late
        while not self.ends.is_set():
            op_id = self.client.new_op()
            least[op_id] = self.clock.least(time.monotonic())
            for reply in self.client.exchange(t.encode_op(t.GET, op_id, struct.pack("<Q", KEY)), timeout=0.2):
                self.statuses[reply.status] = self.statuses.get(reply.status, 0) + 1
                if reply.status == "OK" and int(reply.body) < least[reply.op_id]:
                    self.lies.append((reply.body, least[reply.op_id]))

    def answers(self):
        return sum(self.statuses.values())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ends.set()
        self.thread.join()
        self.client.close()


def await_that(holds):
    """However slow the machine is; False when it takes too long."""
    end = time.monotonic() + WHOLE_S
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def waited(cluster):
    return sum(counted(cluster, node, "torc_confirm_waited_total") for node in cluster.nodes)


def check_stop(cluster, clock):
    """Its primary stops until another leads, and goes on."""
    primary, _ = roles(cluster)
    other = next(node for node in cluster.nodes if node != primary)
    with Asker(cluster, primary, clock) as asker:
        checks.that("the primary answers", await_that(lambda: asker.statuses.get("OK", 0) >= ASKED), asker.statuses)
        cluster("stop", primary)
        cluster.await_status(other, lambda said: all(shard["primary"] != primary for shard in said["shards"]), WHOLE_S)
        before = len(clock.told)
        checks.that("writes go on without it", await_that(lambda: len(clock.told) >= before + ASKED), len(clock.told) - before)
        before = asker.answers()
        cluster("cont", primary)
        checks.that("when it goes on it says something", await_that(lambda: asker.answers() >= before + ASKED), asker.statuses)
    checks.equal("and nothing that was older than acknowledged", asker.lies, [])
    cluster.await_whole(WHOLE_S)
    check_after(cluster, clock)


def check_after(cluster, clock):
    """The fault is over: every get is answered, and right."""
    wrong = []
    with torc.Store(cluster.address, key_file="none", timeout=WHOLE_S) as store:
        for _ in range(ASKED):
            least = clock.least(time.monotonic())
            number = int(store.get(KEY))
            most = len(clock.told) + len(clock.failed) + 1  # the last one is under way
            if not least <= number <= most:
                wrong.append((least, number, most))
        checks.equal("what grows", wrong, [])
        checks.equal("what stays", store.get_many(KEPT), [str(number).encode() for number in KEPT])
        checks.equal("what was deleted", store.get(KEYS - 1), None)


def check_kinds(cluster):
    """All that reads, by libtorc, waits and is right."""
    begun = waited(cluster)
    with torc.Store(cluster.address, key_file="none") as store:
        for number in range(KEYS // 2, KEYS):
            store.put(number, str(number))
        pairs = dict(store.range_query(KEYS // 2, KEYS))
        checks.equal("a range", pairs, {number: str(number).encode() for number in range(KEYS // 2, KEYS)})
        checks.equal("many at once", store.get_many(range(KEYS // 2, KEYS)), list(pairs.values()))
        large = bytes(range(256)) * 200
        store.put(KEYS - 1, large)
        checks.equal("a value of many packets", store.get(KEYS - 1), large)
        store.delete(KEYS - 1)
        checks.equal("nothing after a delete", store.get(KEYS - 1), None)
        checks.equal("of an age", store.get(KEYS // 2, max_age=1), str(KEYS // 2).encode())
    checks.that("and they waited", waited(cluster) > begun + 10, waited(cluster) - begun)


def case_stop():
    """reads are right though the primary stops and goes on, four times"""
    with Replicated(3, 3, KEYS, shards=3, settings=SETTINGS) as cluster:
        cluster.await_whole(WHOLE_S)
        check_kinds(cluster)
        with Clock(cluster) as clock:
            cluster.torc("put", KEY + 1, "x")
            for _ in range(STOPS):
                check_stop(cluster, clock)
        checks.equal("no write failed", clock.failed, [])


def case_sealed():
    """the same in sealed packets, by the program"""
    with Replicated(3, 3, KEYS, shards=3, settings=SETTINGS, sealed=True) as cluster:
        cluster.await_whole(WHOLE_S)
        begun = waited(cluster)
        for number in range(20):
            cluster.torc("put", number, str(number))
            checks.equal("what was put", cluster.torc("get", number, "-o", "raw").strip(), str(number))
        checks.that("and gets waited", waited(cluster) >= begun + 20, waited(cluster) - begun)


if __name__ == "__main__":
    checks.cases(globals())
