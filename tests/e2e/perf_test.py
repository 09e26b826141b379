#!/usr/bin/python3
"""Torc tests: torc-perf, as its users meet it: against a node that `torc serve` runs.

    tests/e2e/perf_test.py
Last line: `N passed, N failed`. Needs root (node.py).
"""
import base64
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

from node import BUILD, ROOT, Checks, Node

sys.path.insert(0, str(ROOT / "tests" / "history"))
import check  # noqa: E402  after the path

PERF = BUILD / "perf" / "torc-perf"
RECORDS = 200_000  # as many inserts have room
FIELDS = {"workload", "records", "clients", "window", "batch", "rate", "value_bytes", "load_seconds", "seconds", "ops",
          "ops_per_s", "rows", "rows_per_s", "errors", "verified", "wrong", "late", "void", "steal", "packets_sent",
          "resends", "resends_timer", "resends_overtaken", "resends_refused", "range_repairs", "busy"}
TIMES = {"count", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "mean_us"}
MIXES = {"a": {"read": 50, "update": 50}, "b": {"read": 95, "update": 5}, "c": {"read": 100},
         "d": {"read": 95, "insert": 5}, "e": {"scan": 95, "insert": 5}, "f": {"read": 50, "rmw": 50},
         "get": {"read": 100}, "put": {"update": 100}, "range": {"scan": 100}}
checks = Checks()


def spawn(node, *words, address=None):
    return subprocess.Popen([str(PERF), "--cluster", address or node.address, "--block", "--warmup", "0", "--seconds",
                             "1", *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=node.environment)


def ended(program, status):
    """Of a run: (its JSON object or what it printed, stderr). It must have ended with this status, or as a void one."""
    try:
        out, complaint = program.communicate(timeout=60)
    finally:
        program.kill()  # nothing, if it has ended
    text, complaint = out.decode(), complaint.decode()
    result = json.loads(text) if text.startswith("{") else text
    void = isinstance(result, dict) and result.get("void", False)
    checks.equal(f"{' '.join(program.args[3:])}: status", (program.returncode, complaint if program.returncode != status
                 and not void else ""), (4 if void else status, ""))
    return result, complaint


def perf(node, *words, status=0, **options):
    return ended(spawn(node, *words, **options), status)


# -- histograms


def unsigned(text, at):
    """(number, place behind it) of a LEB128 of at most nine bytes."""
    number = 0
    for i in range(9):
        byte = text[at + i]
        number |= (byte if i == 8 else byte & 0x7f) << 7 * i
        if i == 8 or byte < 0x80:
            return number, at + i + 1
    raise ValueError("endless number")


def counts(encoded):
    """{slot: count} of a V2 histogram with three digits, by the format's own description."""
    packed = base64.b64decode(encoded)
    cookie, packed_bytes = struct.unpack(">II", packed[:8])
    plain = zlib.decompress(packed[8:8 + packed_bytes])
    inner, payload, _, digits = struct.unpack(">IIII", plain[:16])
    if (cookie & ~0xf0, inner & ~0xf0, digits) != (0x1c849304, 0x1c849303, 3) or len(plain) != 40 + payload:
        raise ValueError("not a V2 histogram of three digits")
    slots, at, slot = {}, 40, 0
    while at < len(plain):
        number, at = unsigned(plain, at)
        number = number >> 1 ^ -(number & 1)
        if number < 0:
            slot -= number
        else:
            slots[slot] = number
            slot += 1
    return slots


def slot_ns(slot):
    """The greatest value that falls into a slot: 2048 slots of 1, then 1024 for each doubling."""
    if slot < 2048:
        return slot
    bucket = slot // 1024 - 1
    return ((1024 + slot % 1024 + 1) << bucket) - 1


def quantile(slots, share):
    wanted, seen = share * sum(slots.values()), 0
    for slot in sorted(slots):
        seen += slots[slot]
        if seen >= wanted:
            return slot_ns(slot)
    return 0


def read_histograms(path):
    """{tag: counts} of a log; its head must say what it is."""
    with open(path, encoding="ascii") as file:
        lines = file.read().splitlines()
    checks.that("a histogram log says its format and its start", lines[0].startswith("#[Histogram log format")
                and lines[1].startswith("#[StartTime: "), lines[:2])
    return {line.split(",")[0].removeprefix("Tag="): counts(line.split(",", 4)[4])
            for line in lines if line.startswith("Tag=")}


# -- cases


def case_workloads(node):
    """each workload runs, says what it did, and mixes as it should"""
    for name, mix in MIXES.items():
        words = ["--no-load"] if name != "a" else []
        result, _ = perf(node, "--workload", name, "--records", RECORDS, "--scan-length", 20, "--json", *words)
        checks.equal(f"{name}: the fields", FIELDS - set(result), set())
        checks.that(f"{name}: busy is a share", 0 < result["busy"] < 1.1, result["busy"])
        checks.equal(f"{name}: the actions", {key for key in result if isinstance(result[key], dict)} - {"errors"},
                     set(mix))
        checks.that(f"{name}: no wrong answer, no failure, never late", (result["wrong"], result["errors"],
                    result["void"]) == (0, {}, False), result)
        checks.that(f"{name}: answers were verified", result["verified"] > 0 or name == "put", result)
        for action, percent in mix.items():
            times = result[action]
            share = 100 * times["count"] / result["ops"]
            checks.equal(f"{name}: times of {action}", TIMES - set(times), set())
            checks.that(f"{name}: {action} is {percent} %", abs(share - percent) < 6, share)
            checks.that(f"{name}: quantiles of {action} rise", 0 < times["p50_us"] <= times["p90_us"] <=
                        times["p99_us"] <= times["p999_us"] <= times["max_us"] * 1.001, times)
        if "scan" in mix:
            checks.that(f"{name}: rows are counted", result["rows"] >= result["scan"]["count"], result)
        if name == "range":
            checks.that("range: each has its length", result["rows"] <= 20 * result["ops"] and
                        result["rows"] > 19 * result["ops"], result)


def case_shapes(node):
    """value sizes, windows, batches, sessions, orders of keys"""
    for words in (["--value-bytes", 0], ["--value-bytes", 16, "--batch", 16, "--window", 64],
                  ["--value-bytes", 3000, "--window", 4], ["--clients", 8, "--window", 2, "--keys", "sequential"],
                  ["--alone", "--keys", "zipf", "--theta", 500], ["--rising", "--keys", "latest"]):
        result, _ = perf(node, "--workload", "a", "--records", 300, "--json", *words)
        checks.that(f"{words}: right answers", result["wrong"] == 0 and result["verified"] > 0, result)
    text, _ = perf(node, "--workload", "c", "--records", 300)
    checks.that("without --json a table is printed", "operations in" in text and "p99 us" in text, text)


def case_histogram(node):
    """--histogram can be read back, and says what the summary says"""
    with tempfile.NamedTemporaryFile() as file:
        result, _ = perf(node, "--workload", "a", "--records", RECORDS, "--json", "--histogram", file.name)
        histograms = read_histograms(file.name)
    checks.equal("a histogram for each action", set(histograms), {"read", "update"})
    for action, slots in histograms.items():
        checks.equal(f"{action}: all are counted", sum(slots.values()), result[action]["count"])
        for name, share in (("p50_us", .5), ("p90_us", .9), ("p99_us", .99), ("p999_us", .999)):
            seen, said = quantile(slots, share) / 1000, result[action][name]
            checks.that(f"{action}: {name}", abs(seen - said) <= said * 0.002 + 0.01, f"{seen} and {said}")


def gets(node):
    return node.admin("stats")["requests"].get("GET", 0)


def await_run(node, before):
    """Until a run has begun: some of its reads were asked for."""
    end = time.monotonic() + 20
    while gets(node) < before + 100 and time.monotonic() < end:
        time.sleep(0.01)


def case_open_loop(node):
    """open loop: the rate is kept, and a server that stands still is held against it"""
    # What was due when the machine stood still at the run's end is not asked: of 2 s two thirds must be.
    result, _ = perf(node, "--workload", "c", "--records", RECORDS, "--rate", 2000, "--seconds", 2, "--json")
    checks.that("about as many operations as asked for", 2600 < result["ops"] < 4800, result["ops"])
    with tempfile.NamedTemporaryFile() as file:
        before = gets(node)
        program = spawn(node, "--workload", "c", "--records", RECORDS, "--no-load", "--rate", 2000, "--window", 4096,
                        "--seconds", 2, "--histogram", file.name, "--json")
        await_run(node, before)
        stopped = node.pid("dataplane")
        os.kill(stopped, signal.SIGSTOP)
        threading.Timer(0.5, os.kill, (stopped, signal.SIGCONT)).start()
        result, _ = ended(program, 0)
        slow = sum(count for slot, count in read_histograms(file.name)["read"].items() if slot_ns(slot) > 100e6)
    checks.that("a standstill of 0.5 s is seen", result["read"]["max_us"] > 400e3, result)
    checks.that("by all operations that were due meanwhile", slow > 400, slow)
    checks.equal("a run is void if over 1 % came late", result["void"], result["late"] * 100 > result["ops"])


def case_void(node):
    """open loop: a generator that fell behind says so"""
    before = gets(node)
    program = spawn(node, "--workload", "c", "--records", RECORDS, "--no-load", "--rate", 2000, "--window", 4096,
                    "--seconds", 2, "--json")
    await_run(node, before)
    program.send_signal(signal.SIGSTOP)
    time.sleep(0.5)
    program.send_signal(signal.SIGCONT)
    result, complaint = ended(program, 4)
    checks.that("void", result["void"] and result["late"] > 20, result)
    checks.that("with the figures", "late" in complaint, complaint)


def case_wrong(node):
    """answers that are not what was written are found"""
    words = ["--workload", "get", "--records", 1, "--json"]
    perf(node, *words)
    node.torc("put", 0, "x" * 100)
    result, complaint = perf(node, *words, "--no-load", status=1)
    checks.that("another value is a wrong answer", result["wrong"] > 0 and "key 0" in complaint, complaint)
    node.torc("put", 0, "short")
    result, complaint = perf(node, *words, "--no-load", status=1)
    checks.that("one of another length too", result["wrong"] == result["ops"], complaint)
    node.torc("delete", 0)
    result, complaint = perf(node, *words, "--no-load", status=1)
    checks.that("and one that is missing", result["wrong"] > 0 and "not there" in complaint, complaint)
    result, complaint = perf(node, "--workload", "range", "--records", 1, "--json", "--no-load", status=1)
    checks.that("and a range that begins elsewhere", result["wrong"] > 0 and "range" in complaint, complaint)


def case_check(node):
    """workload check: a history that the checker accepts"""
    with tempfile.NamedTemporaryFile() as file:
        result, _ = perf(node, "--workload", "check", "--clients", 4, "--window", 2, "--records", 8, "--history",
                         file.name, "--json")
        with open(file.name, encoding="utf-8") as lines:
            history = lines.readlines()
    entries = [json.loads(line) for line in history]
    count, complaints = check.check(history)
    checks.that("all is linearizable", count > 100 and not complaints, complaints[:2])
    checks.equal("each operation has its line", len(entries), result["ops"])
    checks.that("none torn, none failed", (result["torn"], result["failed"]) == (0, 0), result)
    checks.equal("every kind of operation is there", {entry["op"] for entry in entries},
                 {"put", "get", "delete", "put_if", "range"})
    read = next(i for i, entry in enumerate(entries) if entry["op"] == "get" and entry["status"] == "ok")
    entries[read] = {**entries[read], "result": "never written"}
    checks.that("a value that nobody wrote is found", check.check(map(json.dumps, entries))[1])
    for key in {entry["key"] for entry in entries if "key" in entry}:
        node.torc("delete", key, check=False)


def case_usage(node):
    """what is asked for wrongly, and what is not there"""
    for words, word in ((["--workload", "z"], "workload"), (["--records", "0"], "--records"),
                        (["--records", "12x"], "--records"), (["--keys", "wild"], "--keys"), (["stray"], "stray"),
                        (["--records", 5_000_000, "--workload", "c"], "--records")):
        _, complaint = perf(node, *words, status=2)
        checks.that(f"{words}: the complaint names {word}", word in complaint, complaint)
    _, complaint = perf(node, "--workload", "c", "--timeout-ms", 1000, address="127.0.0.1:1", status=3)
    checks.that("nobody there: NOT_CONNECTED", "NOT_CONNECTED" in complaint, complaint)
    _, complaint = perf(node, "--histogram", "/proc/nowhere", "--records", 10, status=3)
    checks.that("a histogram that cannot be written is named", "/proc/nowhere" in complaint, complaint)


def totals(node, *names):
    """The first worker's counters of these names."""
    found = {}
    for line in node.torc("stats", "-o", "raw", "--data", node.data).stdout.decode().splitlines():
        for name in names:
            if name in line and name not in found:
                found[name] = float(line.split()[-1])
    return [found[name] for name in names]


def case_large_packets():
    """over memif a packet holds what `mtu` says"""
    words = ["--records", 5000, "--value-bytes", 1000, "--workload", "range", "--scan-length", 500, "--window", 2,
             "--seconds", 1]
    for mtu, least in ((1500, 500), (9000, 2500)):
        with Node("--keys", "1000000", "--durability", "none", "--port", "memif", "--memif-slots", 1, "--mtu",
                  mtu) as node:
            address = f"torc+memif:{node.data}/run/memif,address={node.network.host(10 + node.number)},mtu={mtu}"
            result, _ = perf(node, "--json", *words, address=address)
            tx_bytes, tx_packets = totals(node, "torc_tx_bytes_total", "torc_tx_packets_total")
            mean = tx_bytes / tx_packets
            checks.that(f"mtu {mtu}: rows come in packets of that size", result["rows"] > 0 and least < mean < mtu, mean)


def case_document():
    """docs/OPERATIONS.md names every field"""
    text = (ROOT / "docs" / "OPERATIONS.md").read_text(encoding="utf-8")
    fields = FIELDS | TIMES | {action for mix in MIXES.values() for action in mix}
    checks.equal("fields that are not documented", {field for field in fields if f"`{field}`" not in text}, set())


def main():
    if not PERF.exists():
        sys.exit(f"{PERF} is missing: build it, or say TORC_BUILD=DIRECTORY")
    with Node("--keys", "1000000", "--durability", "none") as node:
        # `check` wants an empty store.
        for case in (case_check, case_workloads, case_shapes, case_histogram, case_open_loop, case_void, case_wrong,
                     case_usage):
            start = time.monotonic()
            checks.case(case, node)
            if os.environ.get("TORC_VERBOSE"):
                print(f"{case.__name__}: {time.monotonic() - start:.1f} s", flush=True)
    checks.case(case_large_packets)
    checks.case(case_document)
    checks.end()


if __name__ == "__main__":
    main()
