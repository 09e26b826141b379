#!/usr/bin/python3
"""Torc tests: durability = replicated, on three real nodes: what survives what, and what is said of the rest. Root only.

    tests/e2e/durability_test.py [WORD…]   all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed.
"""
import subprocess
import sys
import tempfile
import time

from node import PROGRAMS, ROOT, Checks, refused
from replicated import Load, Replicated

sys.path.insert(0, str(ROOT / "tests" / "history"))
from check import check  # noqa: E402

KEYS = 24
SHARDS = 3
WHOLE_S = 60
checks = Checks()


def copies(cluster, number=1):
    """The number of each node's memory, as the metastore has it."""
    return {line["node"]: line["copy"] for line in cluster.ask(number)["nodes"]}


def judge(sentence, load):
    result = load.end()
    lines = load.lines()
    wrong = check(lines)[1]
    answered = sum('"status":"ok"' in line for line in lines)
    checks.that(f"{sentence}: linearizable, and nothing acknowledged is lost", not wrong, wrong[:3])
    checks.equal(f"{sentence}: no request fails", (result["failed"], result["in_doubt"], result["torn"]), (0, 0, 0))
    checks.that(f"{sentence}: work is done", answered > 50, answered)


def check_words(cluster):
    said = cluster.ask(1)
    checks.that("status says what it means", said["durability"].startswith("replicated: power lost"), said["durability"])
    log = (cluster.data(1) / "run" / "serve.log").read_text(encoding="utf-8")
    checks.that("and the start warns", "replicated" in log and "stays closed" in log, log[-800:])


def check_one_at_a_time(cluster):
    """Nothing is lost; who forgot is another copy."""
    before = copies(cluster)
    with Load(cluster, 5, records=KEYS) as load:
        cluster.kill_parts(1, "dataplane")
        cluster.await_whole(WHOLE_S)
        cluster.kill_parts(2, "dataplane", "control")
        cluster.await_whole(WHOLE_S)
        cluster.kill_parts(3, "control")  # the memory is the dataplane's
        cluster.await_whole(WHOLE_S)
        judge("killed in turn", load)
    after = copies(cluster)
    checks.that("whose dataplane died is another copy", after[1] != before[1] and after[2] != before[2], (before, after))
    checks.equal("whose control died is not", after[3], before[3])


def check_stopped(cluster):
    """All nodes stopped cleanly, one after the other: all is there."""
    wanted = {str(key): f"value-{key}" for key in range(KEYS)}
    for key, value in wanted.items():
        cluster.torc("put", key, value)
    before = copies(cluster)
    for node in cluster.nodes:
        cluster.stop_cleanly(node)
    for node in cluster.nodes:
        cluster("start", node)
    cluster.await_whole(WHOLE_S)
    checks.equal("after a clean stop each remembers", copies(cluster), before)
    found = dict(line.split(None, 1) for line in cluster.torc("range", 0, KEYS).splitlines())
    checks.equal("every key has its value", found, wanted)


def check_start_cut_short(cluster):
    """All nodes stopped cleanly, then starts that fail behind the metastore's change: nobody served, so each still
    remembers. A life that served and was killed does not, however many starts were cut short around it."""
    before = copies(cluster)
    for node in cluster.nodes:
        cluster.stop_cleanly(node)
    for node in cluster.nodes:
        fail_starts(cluster, node)
    for node in cluster.nodes:
        cluster("start", node)
    cluster.await_whole(WHOLE_S)
    checks.equal("after starts that were cut short each remembers", copies(cluster), before)
    found = dict(line.split(None, 1) for line in cluster.torc("range", 0, KEYS).splitlines())
    checks.equal("every key has its value still", found, {str(key): f"value-{key}" for key in range(KEYS)})
    cluster("kill", 2)
    fail_starts(cluster, 2)
    cluster("start", 2)
    cluster.await_whole(WHOLE_S)
    after = copies(cluster)
    checks.that("who served in between and was killed is another copy", after[2] != before[2], (before, after))


def fail_starts(cluster, node, count=2):
    """Starts that raise the node's boot and cannot write torc.node."""
    blocked = cluster.data(node) / "torc.node.new"
    blocked.mkdir()
    for turn in range(count):
        done = cluster("start", node, check=False)
        checks.that(f"node {node}: start {turn + 1} fails as it should",
                    done.returncode != 0 and b"write torc.node.new" in done.stderr, done.stderr[-600:])
    blocked.rmdir()


def check_power(cluster):
    """All nodes killed at once, as by a loss of power: closed, and said so."""
    for node in cluster.nodes:
        cluster("kill", node)
    for node in cluster.nodes:
        cluster("start", node)
    end = time.monotonic() + WHOLE_S
    advice = []

    def says_why():
        return any(f"{SHARDS} shards are closed" in line and "lost power together" in line for line in advice)

    while not says_why() and time.monotonic() < end:
        said = cluster.ask(1)
        advice = said["advice"] if said else []
    checks.that("status says that the shards are closed, and why", says_why(), advice)
    for words in (("get", "1"), ("put", "1", "two")):
        done = refused(lambda words=words: subprocess.run(
            [PROGRAMS["torc"], *words, "--timeout", "2000"], env=cluster.client(), capture_output=True,
            stdin=subprocess.DEVNULL, check=False, timeout=60))
        checks.equal(f"{words[0]} is refused, not answered with less", (done.returncode, done.stdout), (3, b""))


def case_nodes():
    """what three nodes lose: one at a time nothing, all stopped nothing, all killed: closed, and said so"""
    with Replicated(3, 3, KEYS, shards=SHARDS, settings=("--durability", "replicated")) as cluster:
        cluster.await_whole(WHOLE_S)
        check_words(cluster)
        check_one_at_a_time(cluster)
        check_stopped(cluster)
        check_start_cut_short(cluster)
        check_power(cluster)


def case_alone():
    """one copy in memory is refused, with what to do"""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([PROGRAMS["torc-control"], "init", "--data", f"{folder}/data", "--durability", "replicated"],
                              capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=60)
        checks.program("replicas = 1", done, 2, "replicas (2 to 7)")


if __name__ == "__main__":
    checks.cases(globals())
