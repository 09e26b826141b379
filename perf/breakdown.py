"""Torc perf: where the nanoseconds of an operation go, on the server's core and on the client's.

    for name, unit, rate, times in measure(settings): times["server"]["tree"]   # ns an operation

Two clocks that check each other:
- Time stamps. Both loops stamp each round and add up those that found work (torc_busy_nanoseconds_total of the
  worker, `busy` of torc-perf): what a core is busy for, divided by its operations, is what one costs. A core that is
  busy all the time is the limit; one that is not waits for the other.
- Samples. `perf record` looks at both threads 2000 times a second; each sample is given to a phase by the innermost
  function of ours (inlined ones included) whose file or name is in PHASES; libraries count for who called them. So no
  clock is read inside of what is measured, and pure code has none.
Samples of empty looks at the ports (time less busy time) are taken out of `poll` and what an empty look goes through
besides: the phases add up to busy time, and what is left is waiting for the other core.
Needs `perf` (Debian: linux-perf) and a build with debug information (it changes no code): build(), apart from the
build that the report measures.
"""
import collections
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import threading
import time

import bench

FREQUENCY = 2000
STACK_BYTES = 512  # copied with each sample: leaves of libraries are told from their callers
OURS = ("torc-dataplane", "torc-perf", "libtorc-memif.so")

# (function, file) as regular expressions, and the phase; the first that fits counts, from the innermost frame out.
# Files of ours are what they do (docs/ARCHITECTURE.md), so few functions need a line of their own.
PHASES = [(re.compile(function), re.compile(file), phase) for function, file, phase in (
    (r"aes_gcm_dec|aes_gcm_.*dec", r"", "open"),
    (r"aes_gcm_enc|aes_gcm_.*enc", r"", "seal"),
    (r"^ipsec_open|^torc_data_open|^tag_is", r"", "open"),
    (r"^ipsec_seal|^torc_data_seal", r"", "seal"),
    (r"^(loop_receive|loop_take_frame|loop_gather|memif_receive|memif_take|memif_alive|memif_wait)", r"", "rx"),
    (r"^rte_eth_rx", r"", "rx"),
    (r"^(loop_send|loop_dress|loop_stock|loop_restock|loop_refill|memif_send)", r"", "tx"),
    (r"^rte_eth_tx", r"", "tx"),
    (r"^torc_frame_udp_write|^put_ip|^answer_send", r"", "tx headers"),
    (r"^(torc_lane_seal|build_seal|torc_data_encode)", r"", "seal"),
    (r"^(torc_lane_open|torc_lane_matches|torc_data_decode)", r"", "frames, sessions"),
    (r"^(torc_shard_commit|shard_commit|pending_apply|pending_finish|commit_)", r"", "commit"),
    (r"^torc_shard_get|^torc_worker_look_up", r"", "tree"),
    (r"^(torc_request_decode|torc_framing|read_note|torc_worker_note_gets|op_answer|op_may|op_run)", r"", "decode"),
    (r"^(torc_reply_encode|torc_answer_|write_put_answer|read_value|read_answer)", r"", "encode"),
    (r"^(torc_reply_decode|reply_)", r"client/|wire/", "decode"),
    (r"^torc_request_encode", r"", "encode"),
    (r"^(tile_|scan_|page_|torc_page|torc_scan|rows_|torc_rows|row_set|chunk_)", r"client/|wire/rows", "rows"),
    (r"", r"storage/(tree|leaf|inner|chunk|hot)", "tree"),
    (r"", r"storage/scan", "tree"),
    (r"", r"storage/undo", "undo"),
    (r"", r"storage/memory", "large values"),
    (r"", r"storage/completion", "duplicates"),
    (r"", r"storage/shard", "shard engine"),
    (r"", r"storage/log|dataplane/log", "log append"),
    (r"", r"wire/(frame|data|session)|dataplane/(worker_rx|session|admit)", "frames, sessions"),
    (r"", r"wire/aead|wire/noise", "seal"),
    (r"", r"wire/rows", "rows"),
    (r"", r"dataplane/scan", "rows"),
    (r"", r"wire/op", "encode"),
    (r"", r"dataplane/worker_(write|put)", "writes' bookkeeping"),
    (r"", r"dataplane/(worker_ops|worker_read)", "decode"),
    (r"", r"dataplane/answer", "encode"),
    (r"", r"dataplane/worker|dataplane/loop|dataplane/node|kit/spsc", "poll"),
    (r"^(queue_receive|queue_send|queue_time|poll_work|torc_poll|torc_engine_transmit)", r"client/", "poll"),
    (r"", r"client/queue|client/guard", "API"),
    (r"", r"client/(path|send|node|shake)", "packets in flight"),
    (r"", r"client/wheel", "timers"),
    (r"", r"client/", "operations"),
    (r"^run_phase|^run_now_ns|^run_heard|^torc_clock", r"", "poll"),
    (r"", r"perf/", "generator"),
)]
LIBRARIES = {"librte_net_memif": "memif", "librte_net_af_xdp": "poll", "librte_ethdev": "poll"}


class Frames:
    """Addresses of our programs as chains of (function, file), inlined ones first."""

    def __init__(self, folder):
        self.binaries = {path.name: path for name in OURS for path in folder.glob(f"*/{name}")}
        self.symbols = {name: self._symbols(path) for name, path in self.binaries.items()}
        self.chains = {}

    @staticmethod
    def _symbols(path):
        lines = subprocess.run(["nm", path], check=True, capture_output=True).stdout.decode().splitlines()
        fields = [line.split() for line in lines]
        return {field[2]: int(field[0], 16) for field in fields if len(field) == 3}

    def resolve(self, wanted):
        """wanted: (binary, symbol, offset) of all samples; asked for in one go each binary."""
        for name, path in self.binaries.items():
            mine = {}
            for place in wanted:
                if place[0] == name and place[1] in self.symbols[name]:
                    mine.setdefault(self.symbols[name][place[1]] + place[2], []).append(place)
            if not mine:
                continue
            out = subprocess.run(["addr2line", "-e", path, "-i", "-f", "-a"], check=True, capture_output=True,
                                 input="\n".join(hex(at) for at in mine).encode()).stdout.decode()
            for block in re.split(r"^0x", out, flags=re.M)[1:]:
                lines = block.splitlines()
                frames = [(re.sub(r"\..*", "", lines[i]), lines[i + 1].split(":")[0])
                          for i in range(1, len(lines) - 1, 2)]
                for place in mine.get(int(lines[0], 16), []):
                    self.chains[place] = frames

    def chain(self, place):
        return self.chains.get(place, [(re.sub(r"\..*", "", place[1]), "")])


def phase_of(frames, stack):
    """A sample's phase: of its innermost known frame."""
    for place in stack:
        library = place[0].split(".so")[0]
        if library in LIBRARIES and library != "librte_net_memif":
            return LIBRARIES[library]
        for function, file in frames.chain(place):
            for want_function, want_file, phase in PHASES:
                if want_function.search(function) and want_file.search(file):
                    if want_function.pattern or want_file.pattern:
                        return phase
    if stack and stack[0][0].startswith("[kernel"):
        return "kernel"
    return "other"


SAMPLE = re.compile(r"^\s*(\S.*?)\s+\d+\s*$")
FRAME = re.compile(r"^\s*[0-9a-f]+\s+(.*?)(?:\+0x([0-9a-f]+))?\s+\((.*)\)$")


def read_samples(file):
    """{thread's name: [stack]}; a stack is (binary, symbol, offset), innermost first."""
    out = subprocess.run(["perf", "script", "-i", file, "--no-inline", "-F", "comm,tid,ip,sym,symoff,dso"], check=True,
                         capture_output=True).stdout.decode(errors="replace")
    stacks = collections.defaultdict(list)
    for block in out.split("\n\n"):
        lines = block.strip("\n").splitlines()
        head = SAMPLE.match(lines[0]) if lines else None
        if head is None:
            continue
        frames = [FRAME.match(line) for line in lines[1:]]
        # A return address lies behind the call: one less is inside of it.
        stacks[head[1]].append([(pathlib.PurePath(found[3]).name, found[1], max(0, int(found[2] or "0", 16) - (i > 0)))
                                for i, found in enumerate(frames) if found is not None])
    return stacks


def build():
    """The folder of a release build with debug information."""
    folder = bench.ROOT / "build-breakdown"
    if not (folder / "build.ninja").exists():
        bench.say(f"building {folder.name}/")
        subprocess.run(["meson", "setup", folder, "--buildtype=release", "-Ddebug=true", "-Db_lto=true"],
                       cwd=bench.ROOT, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", folder, *bench.PROGRAMS], check=True, stdout=subprocess.DEVNULL)
    return folder


# (short name, value bytes, words of torc-perf, what one is: an operation or a pair of a range)
ROWS = (
    ("GET, 16 to a packet", 32, ("--workload", "get", "--window", 256, "--batch", 16), "operation"),
    ("PUT, 16 to a packet", 32, ("--workload", "put", "--window", 256, "--batch", 16), "operation"),
    ("GET, one to a packet", 32, ("--workload", "get", "--window", 64, "--alone"), "operation"),
    ("GET, window 1", 32, ("--workload", "get", "--window", 1), "operation"),
    ("ranges of 100, 16 in flight", 16, ("--workload", "range", "--memory-mb", 512, "--scan-length", 100, "--window",
                                         16), "pair"),
    ("ranges of 1000, 16 in flight", 16, ("--workload", "range", "--memory-mb", 512, "--scan-length", 1000,
                                          "--window", 16), "pair"),
    ("streamed, 16 B", 16, ("--workload", "range", "--memory-mb", 512, "--scan-length", 50000, "--window", 4), "pair"),
    ("streamed, 1000 B, MTU 9000", 1000, ("--workload", "range", "--memory-mb", 512, "--scan-length", 2000, "--window", 4),
     "pair"),
)
RECORDS = {32: 5_000_000, 16: 5_000_000, 1000: 300_000}
BEGIN_S, WINDOW_S = 1.3, 1.5


class Watch(threading.Thread):
    """The worker's busy share while samples are taken."""

    def __init__(self, read):
        super().__init__()
        self.read, self.share = read, 0.0
        self.start()

    def run(self):
        time.sleep(BEGIN_S)
        begun, busy = time.monotonic(), self.read()
        time.sleep(WINDOW_S)
        self.share = (self.read() - busy) / 1e9 / (time.monotonic() - begun)


def share_out(stacks, frames, busy, each_ns):
    """Nanoseconds of one operation by phase: busy time, and what is left is `waiting`."""
    count = collections.Counter(phase_of(frames, stack) for stack in stacks)
    total = sum(count.values())
    times = {phase: number / total * each_ns for phase, number in count.items()}
    left = max(0.0, 1.0 - busy) * each_ns
    for phase in ("poll", "rx", "API"):  # an empty look goes through all of them
        part = min(left, times.get(phase, 0.0))
        times[phase] = times.get(phase, 0.0) - part
        times["waiting"] = times.get("waiting", 0.0) + part
        left -= part
    return times


def look(settings, node, frames, words, unit):
    """(a second, {core: {phase: ns}}) of one row."""
    from report_tables import memif, node_counters  # pylint: disable=import-outside-toplevel,cyclic-import
    with tempfile.TemporaryDirectory(prefix="torc-breakdown-") as folder:
        file = os.path.join(folder, "perf.data")
        looker = subprocess.Popen(["perf", "record", "-q", "-a", "-F", str(FREQUENCY), "-e", "cpu-clock", "--call-graph",
                                   f"dwarf,{STACK_BYTES}", "-D", str(int(BEGIN_S * 1000)), "-o", file, "--", "sleep",
                                   str(BEGIN_S + WINDOW_S)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                  preexec_fn=bench.die_with_parent)
        watch = Watch(lambda: node_counters(node)["torc_busy_nanoseconds_total"])
        figures = settings.perf(node, memif(node), *words)
        looker.wait()
        watch.join()
        stacks = read_samples(file)
    wanted = {"server": ("torc-worker-0", watch.share), "client": ("torc-perf", figures["busy"])}
    frames.resolve({place for name, _ in wanted.values() for stack in stacks[name] for place in stack})
    rate = figures["rows"] if unit == "pair" else figures["ops"]
    return rate, {core: share_out(stacks[name], frames, busy, 1e9 / rate) for core, (name, busy) in wanted.items()}


def measure(settings, names=None):
    """[(row's name, unit, a second, {core: {phase: ns}})] of all rows, or those whose name contains one of `names`."""
    from report_tables import JUMBO  # pylint: disable=import-outside-toplevel,cyclic-import
    frames = Frames(settings.folder)
    rows = [row for row in ROWS if not names or any(name in row[0] for name in names)]
    for value_bytes in dict.fromkeys(row[1] for row in rows):
        with settings.node("--durability", "none", "--security", "keys",
                           mtu=JUMBO if value_bytes == 1000 else 1500) as node:
            settings.load(node, RECORDS[value_bytes], value_bytes)
            for name, _, words, unit in (row for row in rows if row[1] == value_bytes):
                bench.say(f"breakdown: {name}")
                yield (name, unit, *look(settings, node, frames, ["--records", RECORDS[value_bytes], "--value-bytes",
                                                                  value_bytes, *words], unit))


def number(value):
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}"


def table(rows, core):
    """Markdown: phases by rows of the report; those below 1 % everywhere are added up in `other`."""
    sums = [sum(times[core].values()) for _, _, _, times in rows]
    phases = dict.fromkeys(phase for _, _, _, times in rows for phase, _ in
                           sorted(times[core].items(), key=lambda item: -item[1]))
    small = [phase for phase in phases if phase == "other" or all(
        times[core].get(phase, 0) < 0.01 * whole for (_, _, _, times), whole in zip(rows, sums))]
    lines = [f"| {core}, ns | " + " | ".join(name for name, *_ in rows) + " |",
             "| --- |" + " --- |" * len(rows)]
    kept = [phase for phase in phases if phase not in small and phase != "waiting"]
    for phase in kept:
        lines.append(f"| {phase} | " + " | ".join(number(times[core].get(phase, 0)) for *_, times in rows) + " |")
    for label, group in (("other", small), ("waiting for the other core", ["waiting"])):
        lines.append(f"| {label} | " + " | ".join(number(sum(times[core].get(phase, 0) for phase in group))
                                                  for *_, times in rows) + " |")
    lines.append("| **together** | " + " | ".join(f"**{number(whole)}**" for whole in sums) + " |")
    return "\n".join(lines)


def main(quick):
    """Measures all rows, prints two tables and keeps them for perf/REPORT.md."""
    import report_page  # pylint: disable=import-outside-toplevel
    from report_tables import Settings  # pylint: disable=import-outside-toplevel,cyclic-import
    if shutil.which("perf") is None:
        raise SystemExit("report: perf is missing: apt-get install linux-perf")
    os.environ.setdefault("TORC_BUILD", str(build()))
    settings = Settings(1, quick, False)
    settings.seconds = 3
    rows = list(measure(settings))
    tables = [table(rows, core) for core in ("server", "client")]
    print("\n\n".join(tables))
    if not quick:
        report_page.keep("breakdown", tables)
        report_page.write()
    return 0
