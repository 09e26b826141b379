#!/usr/bin/python3
"""Torc tests: all copies in sync of a shard are lost for good; an operator goes on from one that is left. Root only.

    tests/e2e/loss_test.py [WORD…]   all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed.
"""
import json
import os
import shlex
import shutil
import signal
import subprocess
import time

from node import PROGRAMS, Checks, refused
from replicated import Replicated

KEYS, SHARDS = 24, 2
WHOLE_S = 60
USAGE, UNAVAILABLE = 2, 3
checks = Checks()


def shard_verb(cluster, node, *words):
    return subprocess.run([PROGRAMS["torc"], "shard", *map(str, words), "--data", cluster.data(node), "-o", "json"],
                          capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=60)


def look(cluster, node, shard):
    done = shard_verb(cluster, node, "accept-loss", shard)
    return json.loads(done.stdout) if done.returncode == 0 else {"refused": done.stderr.decode()}


def await_that(what):
    end = time.monotonic() + WHOLE_S
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


def members(cluster, node):
    said = cluster.ask(node)
    return {shard["shard"]: sorted(shard["members"]) for shard in said["shards"]} if said else {}


def epochs(cluster, node):
    said = cluster.ask(node)
    return {shard["shard"]: shard["epoch"] for shard in said["shards"]} if said else {}


def advice(cluster, node):
    said = cluster.ask(node)
    return "\n".join(said["advice"]) if said else ""


def found(cluster, node):
    return dict(line.split(None, 1) for line in cluster.torc("range", 0, KEYS, number=node).splitlines())


def client(cluster, *words):
    return subprocess.run([PROGRAMS["torc"], *map(str, words), "--timeout", "2000"], env=cluster.client(3),
                          capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=60)


def fill(cluster):
    """What every copy has, and what only nodes 1 and 2 have."""
    for key in range(KEYS):
        cluster.torc("put", key, f"old-{key}")
    for node in cluster.nodes:
        answers = []  # a node that has not yet seen the last epoch says: try again
        await_that(lambda node=node, answers=answers: b"is in sync: nothing is lost" in (
            answers.append(shard_verb(cluster, node, "accept-loss", 1)) or answers[-1].stderr))
        checks.program(f"a copy in sync at node {node}: nothing to accept", answers[-1], UNAVAILABLE,
                       "is in sync: nothing is lost")
    before = {}
    checks.that("status shows each shard's epoch",
                await_that(lambda: before.update(epochs(cluster, 1)) or len(before) == SHARDS), before)
    cluster("kill", 3)
    checks.that("node 3 is out of the sets",
                await_that(lambda: members(cluster, 1) == {shard: [1, 2] for shard in range(1, SHARDS + 1)}))

    def shows(node):
        seen = epochs(cluster, node)
        return all(seen.get(shard, 0) > epoch for shard, epoch in before.items())

    for node in (1, 2):  # each has them by a watch of its own
        checks.that(f"status shows the epochs that began so, at node {node}",
                    await_that(lambda node=node: shows(node)), (before, epochs(cluster, node)))
    cluster.torc("put", 1, "acknowledged without node 3")


def closed(cluster):
    """The number of closed shards that node 3 has for monitoring."""
    return json.loads(cluster.torc("stats", "--data", cluster.data(3), "-o", "json"))["control"]["torc_control_shards_closed"]


def lose(cluster):
    """Node 1's disk is gone, node 2's is out of reach; node 3 is all there is."""
    for pid in [cluster.pids(node)["dataplane"] for node in (1, 2)]:
        os.kill(pid, signal.SIGSTOP)  # at once: neither takes over from the other
    for node in (1, 2):
        cluster("kill", node)
    shutil.rmtree(cluster.data(1))
    cluster.data(2).rename(cluster.data(2).with_suffix(".away"))
    cluster("start", 3)
    checks.that("node 3 says that its shards are closed, and what can be done",
                await_that(lambda: f"{SHARDS} shards (1 …) are closed" in advice(cluster, 3)), advice(cluster, 3))
    checks.equal("its metric counts them", closed(cluster), SHARDS)
    said = advice(cluster, 3)
    checks.that("by its verb", "torc shard accept-loss 1" in said and ("node 1,2" in said or "node 2,1" in said), said)
    for words in (("get", 1), ("put", 1, "x")):
        done = refused(lambda words=words: client(cluster, *words))
        checks.equal(f"{words[0]} is refused, not answered with less", (done.returncode, done.stdout), (UNAVAILABLE, b""))
        checks.that(f"{words[0]}: its client is told where to look", b"see torc status" in done.stderr and
                    b"torc shard accept-loss" in done.stderr, done.stderr)


def check_refusals(cluster):
    said = look(cluster, 3, 1)
    checks.equal("who may have a copy is named", sorted(line["node"] for line in said["lost_copies"]), [1, 2])
    checks.that("nobody knows it gone yet", all("may have" in line["state"] for line in said["lost_copies"]), said)
    checks.that("it is not said that nothing is lost", said["loss"].startswith("what was acknowledged"), said)
    checks.equal("to look changes nothing", look(cluster, 3, 1), said)
    epoch = said["epoch"]
    cluster("start", 1)  # with an empty directory
    checks.that("node 1 has another memory now", await_that(lambda: gone(cluster) == [1]), look(cluster, 3, 1))
    checks.program("another epoch", shard_verb(cluster, 3, "accept-loss", 1, "--epoch", epoch + 1, "--off", 2), USAGE,
                   f"in epoch {epoch} now")
    checks.program("node 2 is not named", shard_verb(cluster, 3, "accept-loss", 1, "--epoch", epoch), USAGE,
                   "node 2 may have its copy")
    checks.program("a node that is no member", shard_verb(cluster, 3, "accept-loss", 1, "--epoch", epoch, "--off", "2,3"),
                   USAGE, "--off 3")
    checks.program("no such shard", shard_verb(cluster, 3, "accept-loss", 99), UNAVAILABLE, "no copy of shard 99")
    checks.program("no word", shard_verb(cluster, 3, "accept-loss", 1, "--off", "x"), USAGE, "--off x")
    checks.program("another verb", shard_verb(cluster, 3, "split", 1), USAGE, "accept-loss or acknowledge-loss")
    checks.equal("nothing was changed", look(cluster, 3, 1)["epoch"], epoch)


def gone(cluster):
    """Whose copies are known to be."""
    return [line["node"] for line in look(cluster, 3, 1).get("lost_copies", []) if "gone" in line["state"]]


def accept(cluster):
    for shard in range(1, SHARDS + 1):
        words = shlex.split(look(cluster, 3, shard)["to_accept"])
        checks.equal("what is to be said is told", [word for word in words if not word.isdigit()],
                     ["torc", "shard", "accept-loss", "--epoch", "--off"])
        done = shard_verb(cluster, 3, *words[2:])
        checks.program(f"shard {shard}: accepted", done, 0, '"accepted":true')
    # Node 1 is fed from nothing: then there are two, and writes go on.
    checks.that("writes go on", await_that(lambda: client(cluster, "put", 2, "after").returncode == 0), advice(cluster, 3))
    checks.that("none is closed then", await_that(lambda: closed(cluster) == 0), closed(cluster))
    accepted = int(words[words.index("--epoch") + 1])
    checks.that("status shows the epoch that it led to", epochs(cluster, 3)[SHARDS] > accepted, (accepted, epochs(cluster, 3)))
    wanted = {str(key): f"old-{key}" for key in range(KEYS)} | {"2": "after"}
    checks.equal("all that node 3 had is there, and only that", found(cluster, 3), wanted)
    log = (cluster.data(3) / "run" / "serve.log").read_text(encoding="utf-8")
    lines = [line for line in log.splitlines() if " loss-accepted " in line]
    checks.that("the log has a line for each", len(lines) == SHARDS and "shard=1" in lines[0] and "node=3" in lines[0] and
                "1:" in lines[0].rsplit("lost_copies=", 1)[1], lines)
    checks.that("status shows it", "shard 1: a loss was accepted" in advice(cluster, 3), advice(cluster, 3))
    return wanted


def check_return(cluster, wanted):
    """The disk that had the write comes back: as a copy that has to learn."""
    cluster.data(2).with_suffix(".away").rename(cluster.data(2))
    cluster("start", 2)
    checks.that("node 2 joins again", await_that(
        lambda: members(cluster, 3) == {shard: [1, 2, 3] for shard in range(1, SHARDS + 1)}), members(cluster, 3))
    checks.equal("what it alone had stays lost", found(cluster, 2), wanted)
    cluster("kill", 3)
    checks.that("it may lead", await_that(lambda: client_of(cluster, 2, "put", 1, "once more").returncode == 0))
    checks.equal("with what all have", found(cluster, 2), wanted | {"1": "once more"})
    checks.program("seen", shard_verb(cluster, 1, "acknowledge-loss", 1), 0)
    checks.that("and then it is not shown any more",
                await_that(lambda: "shard 1: a loss" not in advice(cluster, 1)), advice(cluster, 1))
    checks.that("the other one is", "shard 2: a loss" in advice(cluster, 1), advice(cluster, 1))
    checks.program("twice", shard_verb(cluster, 1, "acknowledge-loss", 1), 1, "no loss of shard 1")


def client_of(cluster, node, *words):
    return subprocess.run([PROGRAMS["torc"], *map(str, words), "--timeout", "2000"], env=cluster.client(node),
                          capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=60)


def case_two_disks():
    """two of three disks are lost, with all copies in sync; the third goes on when an operator says so"""
    with Replicated(3, 3, KEYS, shards=SHARDS) as cluster:
        cluster.await_whole(WHOLE_S)
        fill(cluster)
        lose(cluster)
        check_refusals(cluster)
        check_return(cluster, accept(cluster))


if __name__ == "__main__":
    checks.cases(globals())
