#!/usr/bin/python3
"""Torc tests: stops that are planned: nodes hand their primaries over before they end, and get them back; clients see
none of it but redirects. And one that was not: a node is away and another comes back. Root only.

    tests/e2e/drain_test.py [WORD…]   all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed.
"""
import pathlib
import subprocess
import sys
import time

from node import PROGRAMS, ROOT, Checks
from replicated import Load, Replicated

sys.path.insert(0, str(ROOT / "tests" / "history"))
import check  # noqa: E402

KEYS, SHARDS = 24, 6
WAIT_S = 40
checks = Checks()


def primaries(cluster, node=1):
    said = cluster.ask(node)
    return {shard["shard"]: shard["primary"] for shard in said["shards"]} if said else {}


def at_home(cluster):
    """Whether each shard is led by whom placement wishes."""
    said = cluster.ask(1)
    return said is not None and all(shard["primary"] == shard["wished"] for shard in said["shards"])


def await_that(what):
    """Whether `what` came to hold."""
    end = time.monotonic() + WAIT_S
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def handed_over(cluster, node):
    """What each stop of the node said: shards that nobody had taken."""
    log = pathlib.Path(cluster.data(node)) / "run" / "serve.log"
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if " handed-over " in line]
    return [int(line.rsplit("left=", 1)[1]) for line in lines]


def check_load(load, name):
    result = load.end()
    checks.equal(f"{name}: nothing failed, was in doubt or torn",
                 (result["failed"], result["in_doubt"], result["torn"]), (0, 0, 0))
    checks.that(f"{name}: there was something to fail", result["ops"] > 200, result)
    checks.equal(f"{name}: the history is linearizable", check.check(load.lines())[1], [])


def case_rolling_restart():
    """all nodes are restarted in turn under load, and nobody notices"""
    # What nobody took within `handover` is left to a takeover: an heir that waits for a processor may take a while.
    with Replicated(3, 3, KEYS, shards=SHARDS, settings=("--handover", "60s")) as cluster:
        cluster.await_whole(WAIT_S)
        with Load(cluster, seed=11) as load:
            done = cluster("rolling-restart")
            checks.equal("each node is spoken of", done.stdout.count(b"stopped in"), 3)
            checks.equal("nothing was left to a takeover", [handed_over(cluster, node) for node in cluster.nodes],
                         [[0], [0], [0]])
            checks.that("primaries come back to whom placement wishes", await_that(lambda: at_home(cluster)),
                        primaries(cluster))
            check_load(load, "a rolling restart")


def node_verb(cluster, verb, node):
    return subprocess.run([PROGRAMS["torc"], "node", verb, str(node), "--data", cluster.data(1), "-o", "json"],
                          capture_output=True, stdin=subprocess.DEVNULL, check=False, timeout=60)


def led_by(cluster, node):
    return sum(primary == node for primary in primaries(cluster).values())


def said_of(cluster, node):
    """Its state, and the members of each shard: once it is drained and a member of all, else as they were last. One
    that is in no set for a moment is said to be that, before it is said to be drained."""
    seen = [], []

    def holds():
        nonlocal seen
        said = cluster.ask(1) or {"nodes": [], "shards": []}
        seen = ([line["state"] for line in said["nodes"] if line["node"] == node],
                [shard["members"] for shard in said["shards"]])
        return seen[0] == ["drained"] and all(node in members for members in seen[1])

    await_that(holds)
    return seen


def case_drain():
    """a drained node keeps its replicas and leads nothing, until it is undrained"""
    with Replicated(3, 3, KEYS, shards=SHARDS) as cluster:
        cluster.await_whole(WAIT_S)
        checks.that("primaries are where placement wishes", await_that(lambda: at_home(cluster)), primaries(cluster))
        most = max(cluster.nodes, key=lambda node: led_by(cluster, node))
        least = min(cluster.nodes, key=lambda node: led_by(cluster, node))
        with Load(cluster, seed=12) as load:
            checks.that("drain", await_that(lambda: node_verb(cluster, "drain", most).returncode == 0))
            checks.that("it leads nothing", await_that(lambda: led_by(cluster, most) == 0), primaries(cluster))
            states, members = said_of(cluster, most)
            checks.equal("status says so", states, ["drained"])
            checks.that("it keeps its replicas", members and all(most in one for one in members), members)
            # On a busy machine a slow member is out of a set for a moment, and the verb refused.
            checks.that("so is another one", await_that(lambda: node_verb(cluster, "drain", least).returncode == 0))
            other = next(node for node in cluster.nodes if node not in (most, least))
            checks.program("the last one is not", node_verb(cluster, "drain", other), 3, "no other node could lead")
            checks.program("nor is one that is not there", node_verb(cluster, "drain", 9), 1, "no such node")
            checks.program("nor is a word a node", node_verb(cluster, "drain", "x"), 2, "number of a node")
            for node in (most, least):
                checks.program("undrain", node_verb(cluster, "undrain", node), 0)
            checks.that("its shards come back", await_that(lambda: at_home(cluster)), primaries(cluster))
            check_load(load, "draining")


def case_one_away():
    """while one node is away and nobody could say so, another that comes back is a member again"""
    with Replicated(3, 3, KEYS, shards=SHARDS) as cluster:
        cluster.await_whole(WAIT_S)
        with Load(cluster, seed=13) as load:
            for away, back in ((2, 3), (3, 2)):  # placement wishes either before the other, for some shards
                both = sorted(set(cluster.nodes) - {away})
                cluster("kill", away)

                def members(wanted=both):
                    said = cluster.ask(1)
                    return said is not None and all(sorted(shard["members"]) == wanted for shard in said["shards"])

                def serves(back=back, killed=cluster.pids(back)["dataplane"]):
                    lives = cluster.pids(back).get("dataplane", killed) != killed
                    said = cluster.ask(back) if lives else None
                    return said is not None and said["state"] == "serving"

                checks.that(f"node {away} is a member no more", await_that(members), cluster.ask(1))
                cluster.kill_parts(back, "dataplane")
                checks.that(f"node {back} serves again", await_that(serves))
                checks.that("and is a member", await_that(members), cluster.ask(1))
                cluster("start", away)
                cluster.await_whole(WAIT_S)
            check_load(load, "one after the other")


if __name__ == "__main__":
    checks.cases(globals())
