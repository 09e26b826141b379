#!/usr/bin/python3
"""Torc tests: a node that joins a running cluster of three copies is given its share under load, and nothing is lost; with
`file` and with etcd as metastore. Root only.

    tests/e2e/join_test.py [WORD…]   all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed.
"""
import json
import os
import pathlib
import shutil
import signal
import time

import cluster_test
from cluster_test import FEW, Cluster, check_history, checks, pid_of, shards

SHARDS = 12
COPIES = 3
WAIT_S = 40
AWAY = "copies in sync: start the nodes that are away (node 4)"


def members(cluster, nodes):
    """Who has which shard, as those nodes say that have it."""
    found = {}
    for number in range(1, nodes + 1):
        for shard in shards(cluster, number):
            if number in shard["members"]:
                found[shard["shard"]] = set(shard["members"])
    return found


def shares(cluster, nodes):
    lists = members(cluster, nodes).values()
    return [sum(node in one for one in lists) for node in range(1, nodes + 1)]


def spread(cluster, nodes):
    """Each shard has its copies, and each node about as many."""
    least = SHARDS * COPIES // nodes - 1
    return (all(len(one) == COPIES for one in members(cluster, nodes).values()) and min(shares(cluster, nodes)) >= least and
            all(len(shards(cluster, node)) == share for node, share in enumerate(shares(cluster, nodes), 1)))


def await_true(what, *words):
    end = time.monotonic() + WAIT_S
    while not (holds := what(*words)) and time.monotonic() < end:
        time.sleep(0.1)
    return holds


def restart_control(cluster, number):
    """It goes on with its dataplane, also where replicas are learners, which no map lists."""
    dataplane, control = (pid_of(cluster, number, name) for name in ("torc-dataplane", "torc-control"))
    os.kill(control, signal.SIGKILL)
    while pid_of(cluster, number, "torc-control") in (None, control) or " up: " not in cluster.status()[number - 1]:
        pass
    checks.equal("a control that restarts goes on with its dataplane", pid_of(cluster, number, "torc-dataplane"), dataplane)


def join(cluster, during):
    checks.that("at first each of three nodes has all", await_true(spread, cluster, 3), shares(cluster, 3))
    check_history(cluster, "a fourth node joins", during)
    checks.that("it is given its share, and the others have as many less", await_true(spread, cluster, 4),
                (shares(cluster, 4), members(cluster, 4), [len(shards(cluster, node)) for node in range(1, 5)]))


def placement(cluster, number, form):
    return cluster.torc("placement", "--data", cluster.data(number), "-o", form)


def words_of(cluster):
    """What an operator is told of it: by each node whether it leads, by node 2 all of it, and in words. A node that
    had to wait for a processor is out of its sets for a moment, or leads no more."""
    said = {}

    def agree():
        said["leads"] = [node for node in range(1, 5) if cluster_test.status_of(cluster, node)["placement"]["leads"]]
        said["told"] = told = json.loads(placement(cluster, 2, "json"))
        said["text"] = placement(cluster, 2, "table")
        lines = told["nodes"]
        return (said["leads"] == [told["leader"]] and f"leader                   {told['leader']}" in said["text"] and
                sum(line["copies"] for line in lines) == SHARDS * COPIES and
                all(line["to_have"] == line["copies"] for line in lines) and
                sum(line["leads"] for line in lines) == SHARDS)

    await_true(agree)
    return said["leads"], said["told"], said["text"]


def check_words(cluster):
    """What an operator is told of it, at any node."""
    leads, said, text = words_of(cluster)
    checks.equal("one node leads", len(leads), 1)
    checks.equal("who leads is known everywhere", [said["leader"]], leads)
    checks.equal("each node's share is told", sum(line["copies"] for line in said["nodes"]), SHARDS * COPIES)
    checks.equal("and is what it should be", [line["to_have"] for line in said["nodes"]],
                 [line["copies"] for line in said["nodes"]])
    checks.equal("each shard has one who leads it", sum(line["leads"] for line in said["nodes"]), SHARDS)
    checks.that("in words too", f"leader                   {said['leader']}" in text and "to_have" in text, text)
    cluster("kill", 3)
    waits = await_true(lambda: any(move["step"] in ("join", "wait") and move["why"]
                                   for move in json.loads(placement(cluster, 2, "json"))["moves"]))
    checks.that("what a dead node lacks is under way, and says why", waits, placement(cluster, 2, "json"))
    cluster("start", 3)
    checks.that("until it is back", await_true(spread, cluster, 4), shares(cluster, 4))


def case_file():
    """a fourth node gets its share under load, and nothing is lost"""
    with Cluster("--replicas", COPIES, keys=FEW, shards=SHARDS) as cluster:
        join(cluster, lambda: (cluster("add"), restart_control(cluster, 4), restart_control(cluster, 4)))
        check_words(cluster)
        cluster("kill", 4)
        cluster("start", 4)
        checks.that("what it has outlives it", await_true(spread, cluster, 4), shares(cluster, 4))
        check_history(cluster, "and work goes on", lambda: (cluster("kill", 2), cluster("start", 2)))


def die_and_look(cluster):
    """Node 4 dies; what node 2 says of it until its copies are made anew elsewhere: its states, and advice."""
    states, advice = set(), set()

    def told():
        states.add(json.loads(placement(cluster, 2, "json"))["nodes"][3]["state"])
        advice.update(cluster_test.status_of(cluster, 2)["advice"])
        return "out of sync" in states and any(AWAY in line for line in advice)

    cluster("kill", 4)
    await_true(told)
    return states, advice


def case_gone():
    """a node that is away for longer than placement-gone loses its copies to the others, and gets a share when it is back"""
    with Cluster("--replicas", COPIES, keys=FEW, shards=SHARDS, nodes=4,
                 settings=("--placement-gone", "6s", "--placement-pace", "10ms", "--placement-lease", "4s")) as cluster:
        checks.that("at first each of four nodes has its share", await_true(spread, cluster, 4), shares(cluster, 4))
        cluster("kill", 4)
        cluster("start", 4)
        checks.that("it starts again with what it has", await_true(spread, cluster, 4), shares(cluster, 4))
        looks = []
        check_history(cluster, "a machine dies", lambda: looks.extend(die_and_look(cluster)))
        states, advice = looks
        checks.that("nobody wrote that it is down; its shards tell",
                    "out of sync" in states and "down" not in states, states)
        checks.that("and what is wrong says so", any(AWAY in line for line in advice), advice)
        checks.that("its copies are made anew on the three others", await_true(spread, cluster, 3), members(cluster, 3))
        healthy = await_true(lambda: cluster_test.status_of(cluster, 2)["health"] == "ok")
        checks.that("then all is well", healthy, cluster_test.status_of(cluster, 2)["advice"])
        cluster("start", 4)
        checks.that("when it is back it is given a share", await_true(spread, cluster, 4), shares(cluster, 4))
        # Its log holds records of these shards from before as well: a start must tell them apart.
        check_history(cluster, "it dies again", lambda: (cluster("kill", 4), cluster("start", 4)))
        checks.that("and goes on with what it was given", await_true(spread, cluster, 4), shares(cluster, 4))
        cluster.torc("stop", "--data", cluster.data(4))
        checks.that("one that was stopped loses its copies too", await_true(spread, cluster, 3), members(cluster, 3))
        healthy = await_true(lambda: cluster_test.status_of(cluster, 2)["health"] == "ok")
        checks.that("and nobody misses it then", healthy, cluster_test.status_of(cluster, 2)["advice"])
        checks.equal("though it is told as down", json.loads(placement(cluster, 2, "json"))["nodes"][3]["state"], "down")


def checkpoints(cluster, number):
    """Shards of which the node has a checkpoint."""
    return {int(path.name.split("-")[0]) for path in (cluster.data(number) / "checkpoint").glob("*-*[0-9]")}


def case_old_metastore():
    """nodes that start beside a metastore from before they got shards remove none of them"""
    with Cluster("--replicas", COPIES, keys=FEW, shards=SHARDS, nodes=4,
                 settings=("--placement-gone", "6s", "--placement-pace", "10ms", "--placement-lease", "4s")) as cluster:
        checks.that("at first each of four nodes has its share", await_true(spread, cluster, 4), shares(cluster, 4))
        meta = cluster.data(1).parent / "meta"
        shutil.copytree(meta, f"{meta}.old")
        cluster("kill", 4)
        checks.that("three have them all", await_true(spread, cluster, 3), members(cluster, 3))
        for key in range(FEW):
            cluster.torc("put", key, f"value {key}")
        for node in (1, 2, 3):
            cluster.torc("checkpoint", "--data", cluster.data(node))
        had = {node: checkpoints(cluster, node) for node in (1, 2, 3)}
        checks.equal("on the disk", [len(one) for one in had.values()], [SHARDS] * 3)
        for node in (1, 2, 3):
            cluster("kill", node)
        meta.rename(f"{meta}.new")
        shutil.copytree(f"{meta}.old", meta)
        for node in (1, 2, 3):
            done = cluster("start", node, check=False)
            checks.program(f"node {node} does not start", done, 1, "METASTORE_WENT_BACK", "put the right metastore back")
            checks.equal("and keeps what it has", checkpoints(cluster, node), had[node])
        shutil.rmtree(meta)
        pathlib.Path(f"{meta}.new").rename(meta)
        for node in (1, 2, 3):
            cluster("start", node)
        checks.that("with the right one all is there", await_true(spread, cluster, 3), members(cluster, 3))
        checks.equal("and every value", [cluster.torc("get", key, "-o", "raw") for key in range(FEW)],
                     [f"value {key}" for key in range(FEW)])


def case_etcd():
    """the same with etcd, in the clear"""
    with Cluster("--clear", "--replicas", COPIES, "--metastore", "etcd", keys=FEW, shards=SHARDS) as cluster:
        join(cluster, lambda: cluster("add"))


if __name__ == "__main__":
    checks.cases(globals())
