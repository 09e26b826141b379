"""Torc perf: what the benchmark scripts share: builds, cores, strangers, a Redis to compare with, rows.

Rows have the form of docs/OPERATIONS.md's "Benchmarks": one JSON object a line with table, name, ours, peer,
ratio, goal, met. `ratio` is ours over the peer where more is better and the peer over ours where less is;
so a goal is met when ratio >= goal.
"""
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
PROGRAMS = ["client/torc", "client/libtorc-memif.so", "control/torc-control", "dataplane/torc-dataplane",
            "perf/torc-perf", "perf/torc-machine", "perf/torc-tree-bench",
            "perf/torc-undo-bench", "tests/torc-worker-bench", "tests/torc-overload-bench"]
OTHERS_MAX = 0.1  # of a core; a run with more is repeated, then marked
TICK = os.sysconf("SC_CLK_TCK")


def say(text):
    """Progress: standard output is for rows."""
    print(f"report: {text}", file=sys.stderr, flush=True)


def is_release(folder):
    options = folder / "meson-info" / "intro-buildoptions.json"
    if not options.exists():
        return False
    values = {option["name"]: option["value"] for option in json.loads(options.read_text(encoding="utf-8"))}
    return values["buildtype"] == "release" and values.get("b_sanitize", "none") == "none"


def build():
    """A release build's folder, made when $TORC_BUILD names none: build/, or where that is for something else
    build-release/."""
    if "TORC_BUILD" not in os.environ:
        folder = ROOT / "build"
        if folder.exists() and not is_release(folder):
            folder = ROOT / "build-release"
        if not (folder / "build.ninja").exists():
            say(f"building {folder.name}/")
            subprocess.run(["meson", "setup", folder, "--buildtype=release", "-Db_lto=true"], cwd=ROOT, check=True,
                           stdout=subprocess.DEVNULL)
        subprocess.run(["ninja", "-C", folder, *PROGRAMS], check=True, stdout=subprocess.DEVNULL)
        os.environ["TORC_BUILD"] = str(folder)
    return pathlib.Path(os.environ["TORC_BUILD"]).resolve()


def cores():
    """(server's core, client's core): the first and the last this process may use."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


def on_core(core, command):
    return ["taskset", "-c", str(core), *map(str, command)]


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG


def prefer(pid="self"):
    """Gives the session of a measured process, ours or the peer's, a larger share than strangers get."""
    try:
        pathlib.Path(f"/proc/{pid}/autogroup").write_text("-15", encoding="ascii")
    except OSError:
        pass  # a kernel without autogroups, or not root


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# -- strangers


def busy_jiffies():
    with open("/proc/stat", encoding="ascii") as file:
        fields = list(map(int, file.readline().split()[1:9]))
    return sum(fields) - fields[3] - fields[4]  # idle and waiting for I/O apart


def jiffies(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])
    except (OSError, IndexError):
        return 0


def kernel_threads():
    """What the kernel does for everybody (disk, network) is nobody's in particular."""
    try:
        with open("/proc/2/task/2/children", encoding="ascii") as file:
            return file.read().split()
    except OSError:
        return []


class Others:
    """The share of a core that strangers took during the `with`: busy time of the machine, less that of the
    processes named, of children that ended meanwhile, and of the kernel's own threads."""

    def __init__(self, *pids):
        self.pids = [pid for pid in pids if pid is not None]
        self.share = 0.0

    def _now(self):
        children = os.times()
        ended = (children.children_user + children.children_system) * TICK
        own = sum(map(jiffies, [*self.pids, os.getpid(), *kernel_threads()]))
        return busy_jiffies() - own - ended, time.monotonic()

    def __enter__(self):
        self.before = self._now()
        return self

    def __exit__(self, *_):
        spent, when = self._now()
        seconds = max(when - self.before[1], 1e-9)
        self.share = max(0.0, (spent - self.before[0]) / TICK / seconds)


class Value(float):
    """What one run measured, and the strangers' share meanwhile."""

    others = 0.0

    @staticmethod
    def like(figure, value):
        """Another figure of the same run."""
        made = Value(figure)
        made.others = value.others
        return made


def guarded(measure, pids, again):
    """One run of measure(), which returns figures by name; once more if strangers disturbed it (and `again`): the
    quieter one counts."""
    best, least = {}, None
    for _ in range(2 if again else 1):
        with Others(*pids()) as others:
            figures = measure()
        if least is None or others.share < least:
            best, least = figures, others.share
        if least <= OTHERS_MAX:
            break
    values = {name: Value(figure) for name, figure in best.items()}
    for value in values.values():
        value.others = least
    return values


# -- Redis

FILL = """local v = string.rep('x', tonumber(ARGV[3])) local t = {} local n = 0 local f = string.format
for i = ARGV[1], ARGV[2] do
  t[n + 1] = f('key:%012d', i) t[n + 2] = v n = n + 2
  if n == 2000 then redis.call('MSET', unpack(t, 1, n)) n = 0 end
end
if n > 0 then redis.call('MSET', unpack(t, 1, n)) end"""
FILL_SORTED = """local t = {'z'} local n = 1 local f = string.format local name = '%0' .. ARGV[3] .. 'd'
for i = ARGV[1], ARGV[2] do
  t[n + 1] = i t[n + 2] = f(name, i) n = n + 2
  if n == 2001 then redis.call('ZADD', unpack(t, 1, n)) n = 1 end
end
if n > 1 then redis.call('ZADD', unpack(t, 1, n)) end"""
FILL_STEP = 500000


class Redis:
    """A redis-server on loopback, in memory or with an append-only file synced at each write."""

    def __init__(self, core, durable=False):
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="torc-redis-", dir=os.environ.get("TORC_TEST_DATA"))
        words = ["redis-server", "--port", self.port, "--bind", "127.0.0.1", "--save", "", "--dir", self.folder,
                 "--daemonize", "no", "--appendonly", "yes" if durable else "no", "--appendfsync", "always",
                 "--auto-aof-rewrite-percentage", "0", "--loglevel", "warning"]
        self.process = subprocess.Popen(on_core(core, words), stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
        end = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                break
            except OSError:
                if time.monotonic() > end or self.process.poll() is not None:
                    self.close()
                    raise RuntimeError("redis-server does not start") from None
                time.sleep(0.05)

    def cli(self, *words):
        done = subprocess.run(["redis-cli", "-p", str(self.port), *map(str, words)], check=True,
                              capture_output=True).stdout.decode()
        if done.startswith(("ERR", "(error)")):
            raise RuntimeError(f"redis: {done.strip()}")
        return done

    def _fill(self, script, count, value_bytes):
        for start in range(0, count, FILL_STEP):
            self.cli("EVAL", script, 0, start, min(start + FILL_STEP, count) - 1, value_bytes)

    def fill(self, count, value_bytes):
        """Keys key:000000000000 … as redis-benchmark names them."""
        self._fill(FILL, count, value_bytes)
        self._expect(self.cli("DBSIZE"), count)

    def fill_sorted(self, count, value_bytes):
        """One sorted set `z` with members of that size and scores 0 … count - 1."""
        self._fill(FILL_SORTED, count, value_bytes)
        self._expect(self.cli("ZCARD", "z"), count)

    @staticmethod
    def _expect(answer, count):
        if int(answer) != count:
            raise RuntimeError(f"redis holds {answer.strip()} records instead of {count}")

    def benchmark(self, core, *words, requests, pipeline, clients, records):
        """(requests a second, p50 in µs) of one command."""
        done = subprocess.run(on_core(core, [
            "redis-benchmark", "-p", self.port, "-n", requests, "-P", pipeline, "-c", clients, "-r", records,
            "--csv", *words]), check=False, capture_output=True)
        if done.returncode != 0:
            raise RuntimeError(f"redis-benchmark {' '.join(map(str, words))}: status {done.returncode}: "
                               f"{(done.stdout + done.stderr)[-300:].decode(errors='replace')}")
        line = done.stdout.decode().splitlines()[-1]
        fields = re.findall(r'"([^"]*)"', line)
        return float(fields[1]), float(fields[4]) * 1000

    def close(self):
        self.process.terminate()
        self.process.wait(30)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


# -- torc-perf


def torc_perf(folder, core, address, environment, *words):
    """One run of torc-perf: its JSON object. A wrong answer is an error; a void run says so."""
    done = subprocess.run(on_core(core, [folder / "perf" / "torc-perf", "--cluster", address, "--json", *words]),
                          check=False, capture_output=True, env=environment, timeout=600,
                          preexec_fn=die_with_parent)
    if done.returncode not in (0, 4) or not done.stdout.strip():
        raise RuntimeError(f"torc-perf {' '.join(map(str, words))}: status {done.returncode}: "
                           f"{done.stderr.decode(errors='replace').strip()}")
    return json.loads(done.stdout.decode().splitlines()[-1])


# -- rows


class Row:
    """One line of a table. `better` says whether more or less of `ours` is. `ours` and `peer` are one figure or
    those of all runs."""

    KEYS = ("table", "name", "ours", "peer", "ratio", "goal", "met")

    def __init__(self, table, name, ours, peer, goal, better="more", unit="", note=""):
        runs = ours if isinstance(ours, list) else [ours]
        peers = peer if isinstance(peer, list) else [peer]
        ours, peer = statistics.median(runs), statistics.median(peers)
        ratio = 0.0
        if peer and ours:
            ratio = ours / peer if better == "more" else peer / ours
        others = max(getattr(value, "others", 0.0) for value in [*runs, *peers])
        self.kept = {"table": table, "name": name, "ours": round(ours, 3), "peer": round(peer, 3),
                     "ratio": round(ratio, 3), "goal": round(goal, 3), "met": ratio >= goal, "unit": unit,
                     "min": round(min(runs), 3), "max": round(max(runs), 3), "peer_min": round(min(peers), 3),
                     "peer_max": round(max(peers), 3), "runs": len(runs), "others": round(others, 2)}
        if note:
            self.kept["note"] = note

    @staticmethod
    def of(entries):
        """From other programs' lines: the same row of several runs."""
        row = Row.__new__(Row)
        middle = sorted(entries, key=lambda entry: entry["ratio"])[len(entries) // 2]
        ours = [entry["ours"] for entry in entries]
        row.kept = {**middle, "min": min(ours), "max": max(ours), "runs": len(entries),
                    "others": max(entry.get("others", 0.0) for entry in entries)}
        return row

    def __getattr__(self, name):
        try:
            return self.__dict__["kept"][name]
        except KeyError:
            raise AttributeError(name) from None

    def json(self):
        """The line of --json."""
        return json.dumps({key: self.kept[key] for key in self.KEYS}, ensure_ascii=False)

    def text(self):
        mark = f" (others {self.kept['others']})" if self.kept.get("others", 0) > OTHERS_MAX else ""
        return (f"{'met   ' if self.met else 'missed'} {self.table:11} {self.name}: {self.ours:.6g} beside "
                f"{self.peer:.6g} = {self.ratio:.3g} (goal {self.goal:.3g}){mark}")
