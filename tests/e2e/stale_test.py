#!/usr/bin/python3
"""Torc tests: reads of a bounded age on three real nodes, one of them cut off from its primary. Root only.

    tests/e2e/stale_test.py [WORD…]   all cases, or those whose name holds a word
A member that is cut off is asked by the client that was written from docs/PROTOCOL.md, at its own address: what it
says must be no older than was asked for, by one clock, or be refused. libtorc, Python and `torc` go on to another.
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed.
"""
import json
import os
import subprocess
import sys
import threading
import time

from node import BUILD, PROGRAMS, ROOT, Checks
from replicated import Replicated

os.environ.setdefault("TORC_BUILD", str(BUILD))
sys.path[:0] = [str(ROOT / "client" / "python"), str(ROOT / "tests" / "conformance")]
import torc  # noqa: E402
import torc_client as t  # noqa: E402

KEYS = 64
WHOLE_S = 60
AGE_S = 0.25
KEY = 7
checks = Checks()


class Clock:
    """A key whose value only grows, written all the time; when each value was acknowledged."""

    def __init__(self, cluster):
        self.told = []  # (monotonic, number)
        self.failed = []
        self.ends = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(cluster.address,))
        self.thread.start()

    def run(self, address):
        number = 0
        with torc.Store(address, key_file="none", timeout=20) as store:
            while not self.ends.is_set():
                number += 1
                try:
                    store.put(KEY, str(number))
                    self.told.append((time.monotonic(), number))
                except torc.Error as error:
                    self.failed.append(error)
                time.sleep(0.002)

    def least(self, at):
        """What everybody who asked since then must see."""
        return max((number for when, number in list(self.told) if when <= at), default=0)

    def end(self):
        self.ends.set()
        self.thread.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()


class Reader:
    """What one member says, asked directly."""

    def __init__(self, cluster, node):
        self.client = t.Client(cluster.node(node).rsplit(":", 1)[0])
        self.statuses = {}
        self.lies = []

    def ask(self, clock, age_s=AGE_S):
        begun = time.monotonic()
        status, number = self.client.stale_get(KEY, int(age_s * 1000))
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if status == "OK" and int(number) < clock.least(begun - age_s):
            self.lies.append((number, clock.least(begun - age_s)))
        return status

    def ask_for(self, clock, seconds, status="OK", count=0, pause=0.004):
        """For so long, and then until so many answers have that status: a machine that stands still for a while delays
        them. WHOLE_S at most."""
        begun = time.monotonic()
        self.statuses.clear()
        passed = 0
        while passed < seconds or (passed < WHOLE_S and self.statuses.get(status, 0) < count):
            self.ask(clock)
            time.sleep(pause)
            passed = time.monotonic() - begun
        return dict(self.statuses)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()


def roles(cluster):
    """The primary of KEY's shard, and its other members."""
    shard = next(shard for shard in cluster.ask(1)["shards"] if shard["lo"] <= KEY < shard["hi"])
    return shard["primary"], [node for node in shard["members"] if node != shard["primary"]]


def counted(cluster, node, metric):
    done = subprocess.run([PROGRAMS["torc"], "stats", "--data", cluster.data(node), "-o", "json"], capture_output=True,
                          stdin=subprocess.DEVNULL, check=True, timeout=30)
    return json.loads(done.stdout)["workers"][metric]


def check_copies(cluster, clock):
    """Every member answers, none of them too old; who leads not says how often."""
    for node in cluster.nodes:
        with Reader(cluster, node) as reader:
            seen = reader.ask_for(clock, 0.6, "OK", 21)
            checks.that(f"every member answers (node {node})", seen.get("OK", 0) > 20, seen)
            checks.equal("nothing older than was asked for", reader.lies, [])
    served = [counted(cluster, node, "torc_stale_served_total") for node in cluster.nodes]
    checks.that("those that lead not count it", sum(served) > 40, served)  # who leads may have moved
    end = time.monotonic() + WHOLE_S
    while True:
        primary, others = roles(cluster)
        with Reader(cluster, primary) as reader:
            seen = set(reader.ask_for(clock, 0.2, "OK", 1)), reader.client.stale_get(KEY, 1)[0]
        # Else it moved meanwhile, or a machine that stood still had no lease for a moment.
        if (roles(cluster)[0] == primary and seen == ({"OK"}, "OK")) or time.monotonic() > end:
            break
    checks.equal("the primary's age is 0, also for 1 ms", seen, ({"OK"}, "OK"))
    with Reader(cluster, others[0]) as reader:
        checks.equal("no other copy is of age 0", reader.client.stale_get(KEY, 0)[0], "TOO_STALE")
        checks.that("which is counted, too", counted(cluster, others[0], "torc_stale_refused_total") > 0)


def check_clients(cluster, clock, sentence):
    """libtorc by Python, and the program."""
    lies = []
    with torc.Store(cluster.address, key_file="none") as store:
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            begun = time.monotonic()
            for number in (store.get(KEY, max_age=AGE_S), store.get_many([KEY], max_age=AGE_S)[0],
                           dict(store.range_query(0, KEYS, max_age=AGE_S))[KEY]):
                if int(number) < clock.least(begun - AGE_S):
                    lies.append((number, clock.least(begun - AGE_S)))
    checks.equal(f"{sentence}: Python never sees what is older", lies, [])
    for words in (("get", KEY, "-o", "raw"), ("range", KEY, KEY + 1, "-o", "raw"), ("count", KEY, KEY + 1)):
        least = clock.least(time.monotonic() - AGE_S)
        said = cluster.torc(*words, "--stale", "250ms").split()[-1]
        checks.that(f"{sentence}: torc {words[0]} --stale", words[0] == "count" or int(said) >= least, (said, least))


def check_cut(cluster, clock):
    """A member that is cut off from its primary refuses in time; clients are answered by others."""
    primary, others = roles(cluster)
    with Reader(cluster, others[0]) as reader:
        reader.ask_for(clock, 0.3)
        cluster.cut_pair(primary, others[0], True)
        seen = reader.ask_for(clock, 2.0, "TOO_STALE", 51)
        checks.that("who is cut off refuses, once its copy is older", seen.get("TOO_STALE", 0) > 50, seen)
        checks.equal("and says nothing that is older", reader.lies, [])
        check_clients(cluster, clock, "one cut off")
        cluster.cut_pair(primary, others[0], False)
        cluster.await_whole(WHOLE_S)
        checks.that("it answers again", reader.ask_for(clock, 0.5, "OK", 21).get("OK", 0) > 20, reader.statuses)
        checks.equal("nothing older, before and after", reader.lies, [])


def refused(call):
    """What it returned, or True: an error."""
    try:
        return call()
    except torc.Error:
        return True


def check_away(cluster):
    """Nobody leads, and nobody can: a copy tells what is young enough for its reader, and then no more."""
    cluster.torc("put", KEY, "100")
    primary, others = roles(cluster)
    with torc.Store(cluster.node(others[0]), key_file="none") as store:
        seen = set()
        for _ in range(200):
            seen.add(store.get(KEY, max_age=10))
            time.sleep(0.002)
        checks.that("it is there", b"100" in seen, seen)  # one copy or another may lack it for ten seconds
        cluster("stop", "metastore")
        for node in (primary, others[1]):
            cluster("stop", node)
        begun = time.monotonic()
        checks.equal("a copy alone tells what it knows", store.get(KEY, max_age=10, timeout=5), b"100")
        checks.equal("but not as the newest", refused(lambda: store.get(KEY, timeout=1)), True)
        time.sleep(max(0.0, begun + 2 - time.monotonic()))
        checks.equal("nor as a second old, later", refused(lambda: store.get(KEY, max_age=1, timeout=1)), True)
        for node in (primary, others[1], "metastore"):
            cluster("cont", node)
        checks.equal("and when all are back, all is well", store.get(KEY, timeout=30), b"100")


def case_copies():
    """reads of a bounded age by all members, by those of one that is cut off, and by one alone"""
    with Replicated(3, 3, KEYS, shards=3, settings=("--durability", "replicated")) as cluster:
        cluster.await_whole(WHOLE_S)
        with Clock(cluster) as clock:
            cluster.torc("put", KEY + 1, "x")
            check_copies(cluster, clock)
            check_clients(cluster, clock, "three members")
            check_cut(cluster, clock)
        checks.equal("no write failed", clock.failed, [])
        check_away(cluster)


def case_words():
    """bad ages are named"""
    for words, text in ((("get", "1", "--stale", "5x"), "--stale"), (("get", "1", "--stale", "10us"), "at least 1ms"),
                        (("range", "0", "1", "--stale", "1s", "--consistency", "snapshot"), "snapshot")):
        done = subprocess.run([PROGRAMS["torc"], *words], capture_output=True, stdin=subprocess.DEVNULL, check=False,
                              timeout=30)
        checks.program(f"torc {' '.join(words)}", done, 2, text)


if __name__ == "__main__":
    checks.cases(globals())
