"""Torc perf: what the benchmark scripts share: builds, cores, a Redis to compare with, rows and plots.

Rows have the form of docs/OPERATIONS.md's "Benchmarks": one JSON object a line with table, name, ours, peer,
ratio, goal, met. `ratio` is ours over the peer where more is better and the peer over ours where less is;
so a goal is met when ratio >= goal.
"""
import json
import os
import pathlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))


def build():
    """The release build; made when $TORC_BUILD names none."""
    if "TORC_BUILD" not in os.environ:
        folder = ROOT / "build"
        if not (folder / "build.ninja").exists():
            subprocess.run(["meson", "setup", folder, "--buildtype=release"], cwd=ROOT, check=True,
                           stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", folder], check=True, stdout=subprocess.DEVNULL)
        os.environ["TORC_BUILD"] = str(folder)
    return pathlib.Path(os.environ["TORC_BUILD"]).resolve()


def cores():
    """(server's core, client's core): the first and the last this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def on_core(core, command):
    return ["taskset", "-c", str(core), *map(str, command)]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def busy_jiffies():
    with open("/proc/stat", encoding="ascii") as file:
        fields = list(map(int, file.readline().split()[1:]))
    return sum(fields) - fields[3] - fields[4]  # idle and waiting for I/O apart


def own_jiffies(pids):
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        except OSError:
            pass
    return total


class Others:
    """The share of a core that strangers took during the `with`: busy time of the machine, less that of the
    processes named and of children that ended meanwhile."""

    def __init__(self, *pids):
        self.pids = pids
        self.share = 0.0

    def _now(self):
        children = os.times()
        ended = (children.children_user + children.children_system) * os.sysconf("SC_CLK_TCK")
        return busy_jiffies() - own_jiffies(self.pids) - own_jiffies([os.getpid()]) - ended, time.monotonic()

    def __enter__(self):
        self.before = self._now()
        return self

    def __exit__(self, *_):
        jiffies, when = self._now()
        seconds = max(when - self.before[1], 1e-9)
        self.share = max(0.0, (jiffies - self.before[0]) / os.sysconf("SC_CLK_TCK") / seconds)


class Redis:
    """A redis-server on loopback, in memory or with an append-only file synced at each write."""

    def __init__(self, core, durable=False):
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="torc-redis-", dir=os.environ.get("TORC_TEST_DATA"))
        words = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--dir", self.folder,
                 "--daemonize", "no", "--appendonly", "yes" if durable else "no", "--appendfsync",
                 "always", "--loglevel", "warning"]
        self.process = subprocess.Popen(on_core(core, words), stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    raise RuntimeError("redis-server does not start") from None
                time.sleep(0.05)

    def cli(self, *words):
        return subprocess.run(["redis-cli", "-p", str(self.port), *map(str, words)], check=True,
                              capture_output=True).stdout.decode()

    def fill(self, count, value_bytes):
        """Keys key:000000000000 … as redis-benchmark names them."""
        script = ("local v=string.rep('x',tonumber(ARGV[3])) for i=ARGV[1],ARGV[2] do "
                  "redis.call('SET',string.format('key:%012d',i),v) end")
        for start in range(0, count, 500000):
            self.cli("EVAL", script, 0, start, min(start + 500000, count) - 1, value_bytes)

    def fill_sorted(self, count, value_bytes):
        """One sorted set `z` with members of that size and scores 0 … count - 1."""
        script = ("for i=ARGV[1],ARGV[2] do redis.call('ZADD','z',i,"
                  "string.format('%0'..ARGV[3]..'d',i)) end")
        for start in range(0, count, 200000):
            self.cli("EVAL", script, 0, start, min(start + 200000, count) - 1, value_bytes)

    def benchmark(self, core, *words, requests, pipeline, clients, records):
        """(requests a second, p50 in µs) of one command."""
        done = subprocess.run(on_core(core, [
            "redis-benchmark", "-p", self.port, "-n", requests, "-P", pipeline, "-c", clients, "-r", records,
            "--csv", *words]), check=True, capture_output=True)
        line = done.stdout.decode().splitlines()[-1]
        fields = re.findall(r'"([^"]*)"', line)
        return float(fields[1]), float(fields[4]) * 1000

    def close(self):
        self.process.terminate()
        self.process.wait(10)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def torc_perf(folder, core, address, environment, *words):
    """One run of torc-perf: its JSON object. A wrong answer or a void run is an error."""
    done = subprocess.run(on_core(core, [folder / "perf" / "torc-perf", "--cluster", address, "--json", *words]),
                          check=False, capture_output=True, env=environment, timeout=600)
    if done.returncode not in (0, 4) or not done.stdout.strip():
        raise RuntimeError(f"torc-perf {' '.join(map(str, words))}: status {done.returncode}: "
                           f"{done.stderr.decode(errors='replace').strip()}")
    result = json.loads(done.stdout.decode().splitlines()[-1])
    if done.returncode == 4:
        result["void"] = True
    return result


class Row:
    """One line of a table. `better` says whether more or less of `ours` is."""

    def __init__(self, table, name, ours, peer, goal, better="more", unit="", note=""):
        self.table, self.name, self.ours, self.peer, self.goal = table, name, ours, peer, goal
        self.unit, self.note = unit, note
        self.runs = ours if isinstance(ours, list) else [ours]
        peers = peer if isinstance(peer, list) else [peer]
        self.ours, self.peer = statistics.median(self.runs), statistics.median(peers)
        self.ratio = (self.ours / self.peer if better == "more" else self.peer / self.ours) \
            if self.peer and self.ours else 0.0
        self.met = self.ratio >= goal

    def json(self):
        return json.dumps({"table": self.table, "name": self.name, "ours": round(self.ours, 3),
                           "peer": round(self.peer, 3), "ratio": round(self.ratio, 3), "goal": self.goal,
                           "met": self.met, "unit": self.unit, "min": round(min(self.runs), 3),
                           "max": round(max(self.runs), 3), **({"note": self.note} if self.note else {})})

    @staticmethod
    def of(entry):
        """From another program's line."""
        row = Row.__new__(Row)
        row.__dict__.update({"unit": "", "note": "", **entry})
        row.runs = [entry["ours"]]
        row.json = lambda: json.dumps(entry)
        return row
