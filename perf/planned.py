"""Stops nodes as an operator does, under load, and measures how long clients of what they led waited. Part of
perf/failover (--planned); the cluster, its clients and the history are the same.

A stop takes a node that leads shards: it hands them over and ends, is started, and placement's own wish brings them
back when all has been calm for 2 s. Three pauses, each the longest time without an answer to any put, get or delete of
a shard, that begins within it or lies over its beginning:

    stop   from the request to the end of the node
    back   from the moment when every shard has all members again, until each is led by whom placement wishes
    calm   of the same shards, in the half second after it: what clients wait when nothing happens
"""
import random
import time

import bench
import failover

HOME_S = 30
NAMES = {"stop": "node stopped: pause of the clients of what it led", "back": "shards handed back to it: the same"}


def now():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def await_home(cluster):
    """Until each shard is led by whom placement wishes."""
    end = time.monotonic() + HOME_S
    while True:
        said = cluster.ask(1)
        if said and all(shard["primary"] == shard["wished"] for shard in said["shards"]):
            return
        if time.monotonic() > end:
            raise RuntimeError(f"primaries are not back after {HOME_S} s")
        time.sleep(0.05)


def one_stop(cluster, node):
    """{"stop", "back", "calm": (from, until), "shards"} of one planned stop."""
    found = {"shards": failover.led_by(cluster, node)}
    begun = now()
    cluster.stop_cleanly(node)
    found["stop"] = (begun, now())
    cluster("start", node)
    cluster.await_whole(60)
    failover.prefer(cluster)
    whole = now()
    await_home(cluster)
    found["back"] = (whole, now())
    time.sleep(failover.SETTLE_S)
    found["calm"] = (found["back"][1], now())
    return found


def measure(stops, seed):
    """(stops, lines of the history, torc-perf's result)"""
    from replicated import Load, Replicated  # pylint: disable=import-outside-toplevel  # they want TORC_BUILD
    draw = random.Random(seed)
    done = []
    with Replicated(failover.NODES, 3, failover.KEYS, shards=failover.SHARDS) as cluster:
        cluster.await_whole(60)
        await_home(cluster)
        bench.prefer()
        failover.prefer(cluster)
        leaders = [node for node in cluster.nodes if failover.led_by(cluster, node)]
        with Load(cluster, seed, records=failover.KEYS, value_bytes=0) as load:
            time.sleep(failover.SETTLE_S)
            while len(done) < stops:
                node = draw.choice(leaders)
                done.append(one_stop(cluster, node))
                load.lives()
                bench.say(f"stop {len(done)} of {stops}: node {node}")
            result = load.end()
            return done, load.lines(), result


def judged(stops, seed):
    """(pauses by kind in milliseconds, failed requests, complaints about the history) of so many stops."""
    from check import check  # pylint: disable=import-outside-toplevel
    done, lines, result = measure(stops, seed)
    answers = failover.answers_of(lines, {shard[1:] for stop in done for shard in stop["shards"]})
    pauses = {kind: [failover.pause_of(answers, lo, hi, stop[kind][0], stop[kind][1] - stop[kind][0]) / 1e6
                     for stop in done for _, lo, hi in stop["shards"]] for kind in (*NAMES, "calm")}
    return pauses, result["failed"] + result["in_doubt"], check(lines)[1]


def rows(pauses, failed, lost, stops):
    """As perf/report prints them. A planned stop may not cost more than a death; beside it, what clients wait anyway."""
    calm = failover.percentile(pauses["calm"], 0.99)
    for kind, name in NAMES.items():
        found = failover.figures(pauses[kind])
        yield bench.Row("availability", f"{name}, p99 ms", found["p99"], failover.GOAL_MS, 1, better="less", unit="ms",
                        note=f"{found['count']} pauses; p50 {found['p50']}, most {found['most']}")
        yield bench.Row("availability", f"{name}, p99 ms, beside p99 without a stop", found["p99"], calm, 0, better="less",
                        unit="ms")
    good = stops if not failed and not lost else 0
    yield bench.Row("availability", "planned stops with no failed request and a linearizable history, of those made", good,
                    stops, 1)


def run(arguments):
    """The figures of the last line, and complaints."""
    stops = arguments.kills or (3 if arguments.quick else 12)
    pauses, failed, complaints = judged(stops, arguments.seed)
    for row in rows(pauses, failed, len(complaints), stops):
        print(row.json() if arguments.json else row.text())
    return {"stops": stops, **{kind: failover.figures(found) for kind, found in pauses.items()}, "failed": failed,
            "lost": len(complaints)}, complaints
