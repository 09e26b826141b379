"""Kills primaries of loaded shards and measures how long their clients waited. Root only.

    perf/failover [--kills N] [--quick] [--json] [--seed S] [--plot FILE]
    perf/failover --planned [--kills N] [--quick] [--json] [--seed S]

Three nodes on this machine (`scripts/cluster`), three copies of each shard, a primary on each node, eight clients
that keep a history. Each kill takes one node:

    silent   SIGKILL to the whole node, control too: the others have nothing but its silence to go by
    told     SIGKILL to the dataplane alone: its control says so in the metastore

The pause of a kill is the longest time without an answer to any put, get or delete of a shard whose primary died,
beginning or lying over the kill, as the clients' history has it. The takeover is the moment when the metastore's
file got the shard's new record: until there a death was noticed, asked about, and the record was swapped. A pause that
begins later is of who comes back, whose start and recovery take the cores that all nodes share: what began before is told
beside it. Before the next kill every shard has all members.

Then all nodes are stopped and started in turn, and no request may fail.

--planned: nodes are stopped as an operator does it, in place of kills (perf/planned.py).

Rows as perf/report has them; the last line is {"kills":…,"silent":{…},"told":{…},"failed":…,"lost":…}, with p50, p99
and most of pauses and takeovers in milliseconds; with --planned {"stops":…,"stop":{…},"back":{…},"calm":{…},…}.
Status 1 when a request failed or the history is not linearizable.
"""
import argparse
import bisect
import ctypes
import json
import os
import pathlib
import random
import re
import signal
import statistics
import struct
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "e2e"), str(HERE.parent / "tests" / "history")]
import bench  # noqa: E402

KEYS, SHARDS, NODES = 24, 3, 3
AWAY_S = 1.0  # a silent node is started again so long after its death
WINDOW_NS = 10**9  # a pause begins within this of the kill: later ones are of who comes back
SETTLE_S = 0.5
GOAL_MS = 100  # p99
KINDS = {"silent": "primary's node killed, control too", "told": "primary's dataplane killed, control lives"}
IN_MODIFY = 2


class Journal(threading.Thread):
    """When the file metastore got which shard's record, by inotify: [(ns of boot time, shard)]."""

    PUT = re.compile(rb"\x01\x00(..).{12}(shard/(\d+))", re.DOTALL)  # control/journal.h

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.path, self.seen = folder / "journal", []
        libc = ctypes.CDLL(None, use_errno=True)
        self.events = libc.inotify_init1(os.O_CLOEXEC)
        if self.events < 0 or libc.inotify_add_watch(self.events, bytes(self.path), IN_MODIFY) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def run(self):
        with open(self.path, "rb") as file:
            file.seek(0, os.SEEK_END)
            while os.read(self.events, 65536):
                now, fresh = time.clock_gettime_ns(time.CLOCK_BOOTTIME), file.read()
                for size, key, shard in self.PUT.findall(fresh):
                    # The digits may run into the record: the key's length says how many are its own.
                    extra = len(key) - struct.unpack("<H", size)[0]
                    if extra >= 0:
                        self.seen.append((now, int(shard[:len(shard) - extra] or -1)))

    def first(self, shard, after):
        """Nanoseconds from then to the shard's next record; None if there was none."""
        return next((when - after for when, which in list(self.seen) if which == shard and when >= after), None)


def kills_of(quick):
    return 6 if quick else 52


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=0, help="of both kinds together, or planned stops [52, 12; with --quick "
                                                             "6, 3]")
    parser.add_argument("--planned", action="store_true", help="planned stops in place of kills")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", action="store_true", help="rows and the last line alone")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--plot", type=pathlib.Path, help="a picture of both distributions")
    return parser.parse_args()


def prefer(cluster):
    """Nodes have sessions of their own, a new one after each start."""
    for node in cluster.nodes:
        for pid in cluster.pids(node).values():
            bench.prefer(pid)


def stretch_of(cluster):
    """The largest k of all nodes: silence is suspected after k times suspect_after (docs/PROTOCOL.md, beats)."""
    from node import PROGRAMS  # pylint: disable=import-outside-toplevel  # wants TORC_BUILD
    found = [1]
    for node in cluster.nodes:
        said = subprocess.run([PROGRAMS["torc"], "stats", "-o", "raw", "--data", cluster.data(node)], check=False,
                              capture_output=True, stdin=subprocess.DEVNULL).stdout.decode()
        found += [int(line.rsplit(None, 1)[1]) for line in said.splitlines() if "torc_watch_stretch" in line]
    return max(found)


def led_by(cluster, node):
    """[(shard, lo, hi)] whose primary the node is."""
    said = cluster.ask(node)
    return [(int(shard["shard"]), int(shard["lo"]), int(shard["hi"])) for shard in said["shards"]
            if shard["primary"] == node]


def one_kill(cluster, journal, kind, node):
    """{"kind", "at", "shards", "takeovers"} of one death."""
    shards, stretch = led_by(cluster, node), stretch_of(cluster)
    pids = cluster.pids(node)
    victims = [pids["dataplane"]]
    if kind == "silent":
        serve = int((cluster.data(node) / "run" / "serve.pid").read_text(encoding="ascii").split()[0])
        victims = [serve, pids["control"], *victims]
    at = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    for pid in victims:
        os.kill(pid, signal.SIGKILL)
    if kind == "silent":
        time.sleep(AWAY_S)
        cluster("start", node)
    cluster.await_whole(60)
    prefer(cluster)
    takeovers = [journal.first(shard, at) for shard, _, _ in shards]
    return {"kind": kind, "at": at, "shards": shards, "takeovers": takeovers, "k": stretch}


def pause_of(answers, lo, hi, at, window=WINDOW_NS):
    """The longest time without an answer that begins within the window, or lies over the kill."""
    times = answers[(lo, hi)]
    first = bisect.bisect_right(times, at) - 1
    last = bisect.bisect_right(times, at + window)
    near = times[max(first, 0):last + 1]
    return max((after - before for before, after in zip(near, near[1:])), default=window)


def answers_of(lines, spans):
    """{(lo, hi): when operations on single keys of it were answered}"""
    answers = {span: [] for span in spans}
    for line in lines:
        entry = json.loads(line)
        if entry["op"] == "range" or entry["status"] not in ("ok", "not_found", "condition_failed"):
            continue
        for lo, hi in spans:
            if lo <= entry["key"] < hi:
                answers[(lo, hi)].append(entry["return_ns"])
    for times in answers.values():
        times.sort()
    return answers


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


def figures(values):
    return {"p50": round(statistics.median(values), 2) if values else 0.0, "p99": round(percentile(values, 0.99), 2),
            "most": round(max(values, default=0.0), 2), "count": len(values)}


def measure(kills, seed):
    """(deaths, lines of the history, torc-perf's result)"""
    from replicated import Load, Replicated  # pylint: disable=import-outside-toplevel  # they want TORC_BUILD
    draw = random.Random(seed)
    deaths = []
    with Replicated(NODES, 3, KEYS, shards=SHARDS) as cluster:
        cluster.await_whole(60)
        bench.prefer()
        prefer(cluster)
        journal = Journal(pathlib.Path(cluster.folder) / "cluster" / "meta")
        journal.start()
        with Load(cluster, seed, records=KEYS, value_bytes=0) as load:
            tries = 0
            while len(deaths) < kills:
                tries += 1
                if tries > 20 * kills:
                    raise RuntimeError("most nodes have no primary of any shard")
                kind = tuple(KINDS)[len(deaths) % len(KINDS)]
                node = 1 + draw.randrange(NODES)
                time.sleep(SETTLE_S + draw.random() / 10)
                if not led_by(cluster, node):
                    continue  # its shards are not back yet
                deaths.append(one_kill(cluster, journal, kind, node))
                load.lives()
                bench.say(f"kill {len(deaths)} of {kills}: {kind}, node {node}")
            time.sleep(SETTLE_S)
            result = load.end()
            return deaths, load.lines(), result


def plot(picture, series):
    """Shares of kills whose pause, and whose takeover, was at most so long."""
    blocks, lines = [], []
    colours = {"silent": "#3b6ea5", "told": "#c0392b"}
    for kind, found in series.items():
        for name, values in found.items():
            if not values or name not in ("pauses", "takeovers"):
                continue
            points = "\n".join(f"{value} {(at + 1) / len(values)}" for at, value in enumerate(sorted(values)))
            block = f"${kind}_{name}"
            blocks.append(f"{block} << END\n{points}\nEND")
            lines.append(f"{block} using 1:2 with steps lw 2 dt {1 if name == 'pauses' else 3} lc rgb "
                         f"'{colours[kind]}' title '{kind}: {name[:-1]}'")
    script = "\n".join([
        "set terminal pngcairo size 1200,500 font 'sans,9'", f"set output '{picture}'",
        "set title 'Torc: a primary is killed under load. Share of kills whose pause (takeover: dotted) was at most'",
        *blocks, "set logscale x; set xlabel 'milliseconds'; set yrange [0:1]; set grid; set key right bottom",
        f"set arrow from {GOAL_MS}, graph 0 to {GOAL_MS}, graph 1 nohead lc rgb '#808080'",
        "plot " + ", ".join(lines)])
    subprocess.run(["gnuplot"], input=script.encode(), check=True)


def rows(series, failed, lost, kills):
    """As perf/report prints them."""
    for kind, found in series.items():
        takeovers = found["takeovers"]
        reached = ", ".join(f"{found['stretches'].count(k)} at k = {k}" for k in sorted(set(found["stretches"])))
        for which, name, goal in (("unstretched", "pause of its clients while k = 1, p99 ms", 1),
                                  ("pauses", "pause of its clients whatever k was, p99 ms",
                                   0 if found["unstretched"] else 1)):
            pauses = found[which]
            note = f"{len(pauses)} pauses; p50 {figures(pauses)['p50']}, most {figures(pauses)['most']}; kills: {reached}"
            if pauses:
                yield bench.Row("availability", f"{KINDS[kind]}: {name}", percentile(pauses, 0.99), GOAL_MS, goal,
                                better="less", unit="ms", note=note)
        if found["followed"]:
            yield bench.Row("availability", f"{KINDS[kind]}: pauses begun before the takeover was written, p99 ms",
                            percentile(found["followed"], 0.99), GOAL_MS, 0, better="less", unit="ms",
                            note=f"p50 {figures(found['followed'])['p50']}, whatever k was; the rest is of who comes back")
        yield bench.Row("availability", f"{KINDS[kind]}: until the takeover was written, median ms",
                        figures(takeovers)["p50"], 30, 1, better="less", unit="ms",
                        note=f"p99 {figures(takeovers)['p99']}; holds the detection, the probe and the swap")
    good = kills if not failed and not lost else 0
    yield bench.Row("availability", "kills with no failed request and a linearizable history, of those made", good, kills, 1)


def judged(kills, seed):
    """(series, failed requests, complaints about the history) of so many kills."""
    from check import check  # pylint: disable=import-outside-toplevel
    deaths, lines, result = measure(kills, seed)
    answers = answers_of(lines, {shard[1:] for death in deaths for shard in death["shards"]})
    series = {}
    for kind in KINDS:
        mine = [death for death in deaths if death["kind"] == kind]
        pauses = [(death["k"], pause_of(answers, lo, hi, death["at"]) / 1e6) for death in mine
                  for _, lo, hi in death["shards"]]
        series[kind] = {
            "pauses": [pause for _, pause in pauses],
            "followed": [pause_of(answers, lo, hi, death["at"], ns) / 1e6 for death in mine
                         for (_, lo, hi), ns in zip(death["shards"], death["takeovers"]) if ns is not None],
            "takeovers": [ns / 1e6 for death in mine for ns in death["takeovers"] if ns is not None],
            "unstretched": [pause for stretch, pause in pauses if stretch == 1],
            "stretches": [death["k"] for death in mine]}
    return series, result["failed"] + result["in_doubt"], check(lines)[1]


def rolling(seed):
    """Every node is stopped and started, one after the other: (requests, those that failed, complaints)."""
    from check import check  # pylint: disable=import-outside-toplevel
    from replicated import Load, Replicated  # pylint: disable=import-outside-toplevel
    with Replicated(NODES, 3, KEYS, shards=SHARDS) as cluster:
        cluster.await_whole(60)
        with Load(cluster, seed, records=KEYS, value_bytes=0) as load:
            for node in cluster.nodes:
                time.sleep(SETTLE_S)
                bench.say(f"node {node} of {NODES} is restarted")
                cluster.stop_cleanly(node)
                cluster("start", node)
                cluster.await_whole(60)
                prefer(cluster)
                load.lives()
            time.sleep(SETTLE_S)
            result = load.end()
            return result["ops"], result["failed"] + result["in_doubt"], check(load.lines())[1]


def rolling_row(seed):
    requests, failed, complaints = rolling(seed)
    return bench.Row("availability", "all nodes restarted in turn under load: requests that did not fail, of all",
                     0 if complaints else requests - failed, requests, 1, note="and a linearizable history")


def main():
    arguments = options()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(128 + signal.SIGTERM))
    kills = arguments.kills or kills_of(arguments.quick)
    bench.build()
    if arguments.planned:
        import planned  # pylint: disable=import-outside-toplevel,cyclic-import  # it uses this file
        said, complaints = planned.run(arguments)
        for text in complaints[:5]:
            print(text, file=sys.stderr)
        print(json.dumps(said, separators=(",", ":")))
        return 1 if said["failed"] or complaints else 0
    series, failed, complaints = judged(kills, arguments.seed)
    for row in rows(series, failed, len(complaints), kills):
        print(row.json() if arguments.json else row.text())
    row = rolling_row(arguments.seed)
    print(row.json() if arguments.json else row.text())
    for text in complaints[:5]:
        print(text, file=sys.stderr)
    if arguments.plot:
        plot(arguments.plot, series)
    print(json.dumps({"kills": kills, **{kind: {name: figures(values) for name, values in found.items()
                                                if name != "stretches"}
                                         for kind, found in series.items()},
                      "failed": failed, "lost": len(complaints)}, separators=(",", ":")))
    return 1 if failed or complaints or not row.met else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP))  # else its own end shows them as tracebacks
