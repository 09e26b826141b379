#!/usr/bin/python3
"""Torc tests: the program torc, verb by verb, as its users meet it: against a node that `torc serve` runs.

    tests/e2e/cli_test.py [WORD…]       all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed. Needs root (node.py).
"""
import base64
import csv
import fcntl
import io
import json
import os
import pathlib
import pty
import re
import select
import shutil
import struct
import subprocess
import sys
import tempfile
import time

from node import BUILD, PROGRAMS, ROOT, Checks, Network, Node, refused, run

OK, NOT_FOUND, USAGE, UNAVAILABLE, CONDITION, IN_DOUBT, FAULT = range(7)  # client/cli/args.h
M = 1_000_000
VALUE_MAX = 1 << 20
checks = Checks()


def expect(sentence, done, status, *texts, out=None):
    """The exit status, texts that standard error must hold, and standard output when it is given."""
    said = done.stderr.decode(errors="replace")
    good = checks.that(sentence, done.returncode == status,
                       f"status {done.returncode} instead of {status}: {said.strip()[-300:]}")
    for text in texts:
        checks.that(f"{sentence}: says {text!r}", str(text) in said, f"{said.strip()[-300:]!r}")
    if out is not None and good:
        checks.equal(f"{sentence}: output", done.stdout, out)


def ask(node, *words, stdin=b""):
    return node.torc(*words, check=False, stdin=stdin)


# -- points

def case_points(node):
    """put, get and delete"""
    expect("put stores a value", ask(node, "put", 1, "one"), OK, out=b"")
    expect("get shows it", ask(node, "get", 1), OK, out=b"one\n")
    expect("raw adds nothing", ask(node, "get", 1, "-o", "raw"), OK, out=b"one")
    expect("put replaces", ask(node, "put", 1, "uno"), OK)
    expect("the last value stays", ask(node, "get", 1, "-o", "raw"), OK, out=b"uno")
    expect("a missing key is exit status 1", ask(node, "get", 2), NOT_FOUND, "key 2 has no value", out=b"")
    expect("of several keys those found are shown", ask(node, "get", 1, 2, "-o", "csv"), NOT_FOUND, out=b"1,uno\n")
    expect("delete deletes", ask(node, "delete", 1), OK)
    expect("what is deleted is missing", ask(node, "get", 1), NOT_FOUND)
    expect("deleting a missing key is exit status 1", ask(node, "delete", 1), NOT_FOUND, "key 1 has no value")
    expect("keys in hexadecimal", ask(node, "put", "ff", "x", "-f", "hex"), OK)
    expect("are the same keys", ask(node, "get", 255, "-o", "csv"), OK, out=b"255,x\n")
    expect("as dotted quads too", ask(node, "get", "0.0.0.255", "-f", "ip", "-o", "csv"), OK, out=b"0.0.0.255,x\n")
    expect("one key deleted", ask(node, "delete", 255), OK)
    expect("the first key", ask(node, "put", 0, "first"), OK)
    expect("the last key", ask(node, "put", M - 1, "last"), OK)
    expect("both are there", ask(node, "get", 0, M - 1, "-o", "raw"), OK, out=b"first\nlast\n")


def case_values(node):
    """values of every size and kind"""
    expect("an empty value is a value", ask(node, "put", 10, ""), OK)
    expect("raw shows it as nothing", ask(node, "get", 10, "-o", "raw"), OK, out=b"")
    expect("JSON shows it as an empty text", ask(node, "get", 10, "-o", "json"), OK, out=b'{"key":10,"value":""}\n')
    every = bytes(range(256)) * 4
    expect("a value from standard input", ask(node, "put", 11, "-", stdin=every), OK)
    expect("comes back byte for byte", ask(node, "get", 11, "-o", "raw"), OK, out=every)
    shown = ask(node, "get", 11, "-o", "json")
    checks.equal("JSON holds binary values in base64", base64.b64decode(json.loads(shown.stdout)["value_base64"]), every)
    table = ask(node, "get", 11).stdout
    checks.that("a table shows no control byte", re.search(rb"[\x00-\x09\x0b-\x1f\x7f]", table) is None, table[:80])
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"from a file\n")
        file.flush()
        expect("a value from a file", ask(node, "put", 12, "@" + file.name), OK)
    expect("is the file's bytes", ask(node, "get", 12, "-o", "raw"), OK, out=b"from a file\n")
    for size in (1, 100, 1000, 1399, 1400, 1500, 4096, 70_000, VALUE_MAX - 1, VALUE_MAX):
        value = os.urandom(size)
        expect(f"a value of {size} bytes", ask(node, "put", 13, "-", stdin=value), OK)
        expect(f"a value of {size} bytes comes back", ask(node, "get", 13, "-o", "raw"), OK, out=value)
    expect("a value over the limit is refused", ask(node, "put", 14, "-", stdin=b"x" * (VALUE_MAX + 1)), USAGE,
           VALUE_MAX + 1, VALUE_MAX)
    expect("and not stored", ask(node, "get", 14), NOT_FOUND)
    expect("one far over it too", ask(node, "put", 14, "-", stdin=b"x" * (20 << 20)), USAGE)
    for key in (10, 11, 12, 13):
        ask(node, "delete", key)


def version(done):
    return json.loads(done.stdout)["version"]


def case_conditions(node):
    """conditional writes"""
    first = version(ask(node, "put", 20, "a", "--if-absent", "-o", "json"))
    expect("if-absent refuses a second time", ask(node, "put", 20, "b", "--if-absent"), CONDITION, first)
    expect("nothing was changed", ask(node, "get", 20, "-o", "raw"), OK, out=b"a")
    second = version(ask(node, "put", 20, "c", "--if-version", first, "-o", "json"))
    checks.that("versions rise", second > first, f"{first} then {second}")
    expect("if-version refuses the old version", ask(node, "put", 20, "d", "--if-version", first), CONDITION, second)
    checks.equal("get shows the version", version(ask(node, "get", 20, "-v", "-o", "json")), second)
    expect("if-present writes", ask(node, "put", 20, "e", "--if-present"), OK)
    expect("if-present refuses a missing key", ask(node, "put", 21, "e", "--if-present"), CONDITION, "has no value")
    expect("delete takes conditions", ask(node, "delete", 20, "--if-version", first), CONDITION)
    expect("two conditions are one too many", ask(node, "put", 20, "x", "--if-absent", "--if-present"), USAGE, "only one")
    expect("delete if-present", ask(node, "delete", 20, "--if-present"), OK)


# -- ranges

def case_ranges(node):
    """range, count and their bounds"""
    keys = [100, 101, 105, 200, 300, 999]
    for key in keys:
        ask(node, "put", key, f"v{key}")
    rows = [f"{key},v{key}\n".encode() for key in keys]
    expect("a range is sorted", ask(node, "range", 100, 1000, "-o", "csv"), OK, out=b"".join(rows))
    expect("its end is not in it", ask(node, "range", 100, 200, "-o", "csv"), OK, out=b"".join(rows[:3]))
    expect("reverse", ask(node, "range", 100, 1000, "-r", "-o", "csv"), OK, out=b"".join(reversed(rows)))
    expect("limit", ask(node, "range", 100, 1000, "-n", 2, "-o", "csv"), OK, out=b"".join(rows[:2]))
    expect("a limit of one pair", ask(node, "range", 100, 1000, "-n", 1, "-o", "csv"), OK, out=rows[0])
    expect("the last pair before a key", ask(node, "range", 0, 250, "-r", "-n", 1, "-o", "csv"), OK, out=rows[3])
    ask(node, "put", M - 1, "last")
    expect("reverse from the end of all keys", ask(node, "range", 0, M, "-r", "-n", 1, "-o", "csv"), OK,
           out=f"{M - 1},last\n".encode())
    expect("keys only", ask(node, "range", 100, 201, "-k", "-o", "raw"), OK, out=b"100\n101\n105\n200\n")
    expect("a limit beyond what is there", ask(node, "range", 100, 102, "-n", 50, "-o", "csv"), OK, out=b"".join(rows[:2]))
    expect("raw", ask(node, "range", 100, 102, "-o", "raw"), OK, out=b"v100\nv101\n")
    shown = [json.loads(line) for line in ask(node, "range", 100, 102, "-v", "-o", "json").stdout.splitlines()]
    checks.that("JSON with versions", [row["key"] for row in shown] == [100, 101] and shown[0]["version"] > 0, shown)
    expect("count", ask(node, "count", 100, 1000), OK, out=b"6\n")
    expect("range --count", ask(node, "range", 100, 1000, "--count"), OK, out=b"6\n")
    expect("count in JSON", ask(node, "count", 100, 1000, "-o", "json"), OK, out=b'{"count":6}\n')
    expect("start equal to end is empty", ask(node, "range", 100, 100), OK, out=b"")
    expect("an empty range", ask(node, "range", 400, 500), OK, out=b"")
    expect("an empty range's count", ask(node, "count", 400, 500), OK, out=b"0\n")
    expect("start above end", ask(node, "range", 10, 9), USAGE, "10", "9")
    expect("start above end, counted", ask(node, "count", 10, 9), USAGE, "10", "9")
    expect("end equal to M is legal", ask(node, "count", M - 1, M), OK, out=b"1\n")
    expect("end above M", ask(node, "range", 0, M + 1), USAGE, M + 1, M)
    expect("start above M", ask(node, "range", M + 1, M + 2), USAGE, M)
    expect("a key equal to M, put", ask(node, "put", M, "x"), USAGE, M)
    expect("a key equal to M, get", ask(node, "get", M), USAGE, M)
    expect("a key equal to M, delete", ask(node, "delete", M), USAGE, M)
    expect("the largest number as key", ask(node, "get", 2**64 - 1), USAGE, 2**64 - 1)
    expect("a number too large for any key", ask(node, "get", 2**64), USAGE, 2**64)
    expect("a negative key", ask(node, "get", "--", "-1"), USAGE, "-1")
    expect("a word as key", ask(node, "get", "seven"), USAGE, "seven")
    expect("a range over all shards", ask(node, "count", 0, M), OK)
    snapshot = ("--consistency", "snapshot")
    expect("a snapshot within one shard", ask(node, "range", 100, 201, *snapshot, "-o", "csv"), OK, out=b"".join(rows[:4]))
    whole = ask(node, "range", 0, M, "-o", "csv").stdout
    expect("one of all shards", ask(node, "range", 0, M, *snapshot, "-o", "csv"), OK, out=whole)
    expect("its count", ask(node, "range", 100, 201, "--count", *snapshot), OK, out=b"4\n")
    expect("counted over all shards", ask(node, "range", 0, M, "--count", *snapshot), OK, out=b"%d\n" % whole.count(b"\n"))
    for key in (110, 111, 112):  # two of them are more than a page
        ask(node, "put", key, "-", stdin=bytes(700_000))
    expect("a snapshot of several pages", ask(node, "range", 110, 113, "-k", *snapshot, "-o", "raw"), OK, out=b"110\n111\n112\n")
    expect("with its values", ask(node, "range", 110, 113, *snapshot, "-o", "raw"), OK,
           out=(bytes(700_000) + b"\n") * 3)
    expect("one page of it may be asked for", ask(node, "range", 110, 113, "-n", 1, "-k", *snapshot, "-o", "raw"), OK, out=b"110\n")
    for key in (110, 111, 112):
        ask(node, "delete", key)


def case_arguments(node):
    """what is typed wrong is named, with what was meant"""
    expect("an unknown verb", ask(node, "gte", 1), USAGE, "did you mean get?")
    expect("an unknown option", ask(node, "get", 1, "--outptu", "csv"), USAGE, "did you mean --output?")
    expect("an option of another verb", ask(node, "get", 1, "--limit", 3), USAGE, "--limit is not an option of torc get")
    expect("too few words", ask(node, "range", 1), USAGE, "START END")
    expect("too many words", ask(node, "count", 1, 2, 3), USAGE, "one word too many")
    expect("a value is missing", ask(node, "get", 1, "-o"), USAGE, "a value is missing")
    expect("an unknown format", ask(node, "get", 1, "-o", "xml"), USAGE, "table, json, csv or raw")
    expect("a limit of nothing", ask(node, "range", 0, 1, "-n", 0), USAGE, "--limit 0")
    expect("without a verb and a terminal", ask(node), USAGE)
    for verb in re.findall(r"^  ([a-z]+) {2,}", ask(node, "help").stdout.decode().split("exit codes:")[0], re.M):
        done = ask(node, "help", verb)
        checks.that(f"help {verb} has an example", done.returncode == 0 and b"example: torc " in done.stdout)
    expect("help on nothing", ask(node, "help", "gett"), USAGE, "no such verb")
    expect("the version", ask(node, "--version"), OK)
    expect("nobody answers there", ask(node, "--cluster", node.network.host(99), "--timeout", "400ms", "get", 1), UNAVAILABLE)
    expect("a port that is none", ask(node, "--cluster", f"{node.network.host(99)}:99999", "get", 1), USAGE, "99999")
    expect("a full output is an error", subprocess.run(
        [PROGRAMS["torc"], "help"], stdout=open("/dev/full", "w", encoding="ascii"), stderr=subprocess.PIPE, check=False), FAULT)


# -- files

def case_load(node):
    """load and export"""
    table = b"# a comment\n\n5000,one\n5001,\"two, with a comma\"\n5002,\"a \"\"quote\"\" and a\nline\"\n5003,\n"
    expect("load reads CSV", ask(node, "load", "-", stdin=table), OK, out=b"")
    expect("as RFC 4180 means it", ask(node, "range", 5000, 5004, "-o", "json"), OK,
           out=b'{"key":5000,"value":"one"}\n{"key":5001,"value":"two, with a comma"}\n'
               b'{"key":5002,"value":"a \\"quote\\" and a\\nline"}\n{"key":5003,"value":""}\n')
    expect("columns and separators", ask(node, "load", "-", "--separator", "tab", "--key", 2, "--values", "3,1",
                                         stdin=b"x\t5010\ty\tz\r\n"), OK)
    expect("value columns are joined", ask(node, "get", 5010, "-o", "raw"), OK, out=b"y\tx")
    expect("the last of two lines stays", ask(node, "load", "-", stdin=b"".join(
        b"5020,%d\n" % i for i in range(2000))), OK)
    expect("the last of two lines", ask(node, "get", 5020, "-o", "raw"), OK, out=b"1999")
    expect("a bad key names its line", ask(node, "load", "-", stdin=b"5030,a\n# c\nfive,b\n5031,c\n"), USAGE, "line 3", "five")
    expect("what stood before it is stored", ask(node, "get", 5030, "-o", "raw"), OK, out=b"a")
    expect("what stood behind it is not", ask(node, "get", 5031), NOT_FOUND)
    expect("a key outside names its line", ask(node, "load", "-", stdin=f"5032,a\n{M},b\n".encode()), USAGE, "line 2", M)
    expect("a missing column names its line", ask(node, "load", "-", "--values", "3", stdin=b"1,2,3\n4,5\n"), USAGE, "line 2", "no column 3")
    expect("an open quote names its line", ask(node, "load", "-", stdin=b'5033,a\n5034,"b\n'), USAGE, "line 2")
    expect("a value over the limit names its line",
           ask(node, "load", "-", stdin=b"5035,a\n5036," + b"x" * (VALUE_MAX + 1) + b"\n"), USAGE, "line 2")
    expect("a file that is not there", ask(node, "load", "/nonexistent.csv"), USAGE, "No such file")
    expect("separator and quote must differ", ask(node, "load", "-", "--separator", '"'), USAGE)

    # A copy that was cut short: inside a key, behind one, inside a value.
    ask(node, "put", 504, "kept")
    expect("a key alone is no line", ask(node, "load", "-", stdin=b"5040,a\n504"), USAGE, "line 2", "no value")
    expect("and nothing is stored of it", ask(node, "get", 504, "-o", "raw"), OK, out=b"kept")
    expect("what stood before it is", ask(node, "get", 5040, "-o", "raw"), OK, out=b"a")
    expect("a last line without an end is told of", ask(node, "load", "-", stdin=b"5040,a\n5041,b"), OK, "line 2", "cut")
    expect("and stored", ask(node, "get", 5041, "-o", "raw"), OK, out=b"b")

    rows = {6000 + i: os.urandom(i % 700) for i in range(3000)}
    text = io.BytesIO()
    for key, value in rows.items():
        text.write(b'%d,"%s"\n' % (key, value.replace(b'"', b'""')))
    expect("3000 binary values", ask(node, "load", "-", stdin=text.getvalue()), OK)
    expect("are counted", ask(node, "count", 6000, 9000), OK, out=b"3000\n")
    copy = ask(node, "export", 6000, 9000)
    expect("export", copy, OK)
    checks.equal("exported bytes are the loaded ones", copy.stdout.count(b"\n") >= 3000, True)
    for key in (6000, 6001, 8999):
        ask(node, "delete", key)
    expect("load reads what export wrote", ask(node, "load", "-", stdin=copy.stdout), OK)
    for key in (6000, 6001, 6699, 8999):
        expect(f"value {key} after export and load", ask(node, "get", key, "-o", "raw"), OK, out=rows[key])


def case_large_range(node):
    """a range larger than the client's memory comes in pages, whole"""
    value = os.urandom(VALUE_MAX)
    for i in range(80):  # 80 MiB; the library holds 64 MiB at most
        done = ask(node, "put", 700_000 + i, "-", stdin=struct.pack("<I", i) + value[4:])
        if done.returncode != OK:
            checks.that("a value of 1 MiB is stored", False, done.stderr)
            return
    digest = 0
    with subprocess.Popen([PROGRAMS["torc"], "range", "700000", "700100", "-o", "raw"], env=node.environment,
                          stdout=subprocess.PIPE) as reader:
        for i in range(80):
            row = reader.stdout.read(VALUE_MAX + 1)
            digest += row == struct.pack("<I", i) + value[4:] + b"\n"
        rest = reader.stdout.read()
    checks.equal("80 values of 1 MiB, in order", (digest, rest, reader.returncode), (80, b"", 0))
    for i in range(80):
        ask(node, "delete", 700_000 + i)


# -- the node

def case_admin(node):
    """status, stats, checkpoint"""
    status = json.loads(node.torc("status", "--data", node.data, "-o", "json").stdout)
    checks.that("status says it is well", status.get("ok") is True and status.get("state") == "serving", status)
    checks.equal("status knows the processes", (status.get("pid"), status.get("dataplane_pid")),
                 (node.pid("control"), node.pid("dataplane")))
    checks.that("status for people", b"serving" in node.torc("status", "--data", node.data).stdout)
    checks.that("stats", json.loads(node.torc("stats", "--data", node.data, "-o", "json").stdout)["ok"])
    lines = node.torc("stats", "--data", node.data, "-o", "raw").stdout.decode().splitlines()
    numbers = dict(line.split(" ", 1) for line in lines)
    checks.that("stats for programs", int(numbers.get("torc_log_records_total", 0)) > 0, lines[:5])
    lines = node.torc("status", "--data", node.data, "-o", "csv").stdout.decode().splitlines()
    checks.that("status for programs", "state,serving" in lines and "shards.0.lo,0" in lines, lines)
    expect("checkpoint", ask(node, "checkpoint", "--data", node.data), OK)
    expect("status without a node", ask(node, "status", "--data", "/nonexistent"), UNAVAILABLE, "torc serve")
    expect("--data finds the node's address", ask(node, "put", 30, "x", "--data", node.data), OK)
    expect("--data of no node", ask(node, "get", 30, "--data", "/nonexistent"), UNAVAILABLE, "/nonexistent")


def case_bench(node):
    """bench"""
    expect("bench: a key", ask(node, "put", 7, "kept"), OK)
    lines = [json.loads(line) for line in node.torc(
        "bench", "--seconds", 1, "--records", 8, "-o", "json").stdout.splitlines()]
    checks.equal("bench only reads unless told", [line["operation"] for line in lines], ["get"])
    expect("bench: the key is as it was", ask(node, "get", 7), OK, out=b"kept\n")
    lines = [json.loads(line) for line in node.torc(
        "bench", "--seconds", 1, "--records", 1000, "--reads", 50, "--window", 16, "-o", "json").stdout.splitlines()]
    checks.equal("bench measures both kinds", [line["operation"] for line in lines], ["get", "put"])
    checks.that("bench counts", all(line["count"] > 0 and line["p99_us"] >= line["p50_us"] for line in lines), lines)


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, program, environment):
        self.child, self.fd = pty.fork()
        if self.child == 0:
            os.execve(program, [os.path.basename(program)], environment)
        self.seen = b""

    def until(self, text, seconds=20):
        """What it said up to and with `text`, or all that came in that time."""
        end = time.monotonic() + seconds
        while text not in self.seen and time.monotonic() < end:
            if select.select([self.fd], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:  # it ended
                    break
        at = self.seen.find(text)
        cut = at + len(text) if at >= 0 else len(self.seen)
        said, self.seen = self.seen[:cut], self.seen[cut:]
        return said

    def end(self):
        _, status = os.waitpid(self.child, 0)
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


def case_shell(node):
    """the interactive shell"""
    ask(node, "delete", 41)
    with tempfile.TemporaryDirectory() as home:
        # libedit never frees the two names of EL_ADDFN: no concern of a leak check on this program.
        environment = dict(node.environment, HOME=home, TERM="dumb", ASAN_OPTIONS="detect_leaks=0")
        environment.pop("XDG_STATE_HOME", None)
        terminal = Terminal(PROGRAMS["torc"], environment)
        terminal.until(b"torc> ")
        for line, wanted in ((b"put 40 'forty in a shell'", b"torc> "), (b"get 40", b"forty in a shell\r\n"),
                             (b"get 41", b"has no value"), (b"gte 41", b"did you mean get?"), (b"help get", b"example: torc get"),
                             (b"range 40 41 -o json", b'"value":"forty in a shell"'), (b"he\tge\t", b"example: torc get")):
            os.write(terminal.fd, line + b"\n")
            said = terminal.until(wanted)
            checks.that(f"shell: {line.decode()}", wanted in said, said[-200:])
            if not wanted.endswith(b"> "):
                terminal.until(b"torc> ")
        os.write(terminal.fd, b"quit\n")
        checks.equal("shell: quit ends it", terminal.end(), 0)
        with open(os.path.join(home, ".local/state/torc/history"), encoding="utf-8") as file:
            checks.that("shell: history is kept", "get" in file.read())


def case_completion(_node):
    """completion for bash"""
    script = run(PROGRAMS["torc"], "completion", "bash").stdout.decode()

    def complete(*words):
        line = (f"{script}\nCOMP_WORDS=({' '.join(words)} ''); COMP_WORDS[{len(words) - 1}]='{words[-1]}'\n"
                f"COMP_CWORD={len(words) - 1}\n_torc\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"")
        return run("bash", "-c", line).stdout.decode().split()
    checks.equal("completion of a verb", complete("torc", "pu"), ["put"])
    checks.equal("completion of an option", complete("torc", "range", "0", "9", "--rev"), ["--reverse"])
    checks.equal("completion of a word", complete("torc", "get", "1", "-o", "j"), ["json"])
    checks.equal("completion of a setting", complete("torc", "serve", "--durab"), ["--durability"])


def readme_examples(node):
    with open(ROOT / "README.md", encoding="utf-8") as file:
        text = file.read()
    blocks = dict(re.findall(r"^## Five lines in ([^\n]+)\n\n```\w+\n(.*?)^```", text, re.M | re.S))
    blocks = {name: block.replace("10.79.0.11", node.address) for name, block in blocks.items()}
    with tempfile.TemporaryDirectory() as folder:
        lines = [line.split("  #")[0] for line in blocks["the shell"].splitlines()]
        checks.equal("README: the last shell line is the shell", lines.pop().strip(), "torc")
        environment = dict(node.environment, PATH=f"{BUILD}/client:{os.environ['PATH']}")
        done = run("bash", "-ec", "\n".join(lines), cwd=folder, env=environment, check=False)
        checks.that("README: the shell example", done.returncode == 0 and b"forty-two\n" in done.stdout, done)
        expect("README: what was loaded", ask(node, "get", "0x1000000", "-o", "raw"), OK, out=b"1.0.0.255,AU")

        head, body = blocks["C"].split("\n", 1)
        with open(f"{folder}/example.c", "w", encoding="ascii") as file:
            file.write(f"{head}\n#include <stdio.h>\nint main(void)\n{{\n{body}return 0;\n}}\n")
        done = run("cc", "-Wall", "-Wextra", "-Werror", "-I", ROOT / "include", f"{folder}/example.c", "-o", f"{folder}/example",
                   "-L", BUILD / "client", "-ltorc", check=False)
        if checks.that("README: the C example compiles", done.returncode == 0, done.stderr.decode()):
            done = run(f"{folder}/example", env=node.environment, check=False)
            checks.equal("README: the C example", (done.returncode, done.stdout), (0, b"forty-two"))
        done = run("/usr/bin/python3", "-c", blocks["Python"], env=node.environment, check=False)
        checks.that("README: the Python example", done.returncode == 0 and done.stdout.startswith(b"b'forty-two' None\n")
                    and b"(42, b'forty-two')" in done.stdout, done)


def case_readme(network):
    """the examples of README.md do what they say, on a node as `torc serve` makes it"""
    with Node(network=network) as node:
        readme_examples(node)


# -- other key spaces

def case_one_key(network):
    """M = 1"""
    with Node("--keys", 1, network=network) as node:
        expect("M = 1: its only key", ask(node, "put", 0, "zero"), OK)
        expect("M = 1: is there", ask(node, "range", 0, 1, "-o", "csv"), OK, out=b"0,zero\n")
        expect("M = 1: no other key", ask(node, "put", 1, "one"), USAGE, "1")
        expect("M = 1: no other range", ask(node, "range", 0, 2), USAGE, "2")
        expect("M = 1: reverse", ask(node, "range", 0, 1, "-r", "-o", "csv"), OK, out=b"0,zero\n")
        expect("M = 1: delete", ask(node, "delete", 0), OK)
        expect("M = 1: count", ask(node, "count", 0, 1), OK, out=b"0\n")


def case_all_keys(network):
    """M = 2^64 - 1"""
    most = 2**64 - 1
    with Node("--keys", most, network=network) as node:
        expect("M = 2^64-1: the first key", ask(node, "put", 0, "first"), OK)
        expect("M = 2^64-1: the last key", ask(node, "put", most - 1, "last"), OK)
        expect("M = 2^64-1: one in the middle", ask(node, "put", 2**63, "middle"), OK)
        expect("M = 2^64-1: the key M", ask(node, "put", most, "x"), USAGE, most)
        expect("M = 2^64-1: all of it", ask(node, "range", 0, most, "-o", "csv"), OK,
               out=f"0,first\n{2**63},middle\n{most - 1},last\n".encode())
        expect("M = 2^64-1: from the end", ask(node, "range", 0, most, "-r", "-n", 1, "-o", "csv"), OK,
               out=f"{most - 1},last\n".encode())
        expect("M = 2^64-1: counted", ask(node, "count", 0, most), OK, out=b"3\n")
        node.restart()
        expect("M = 2^64-1: after a restart", ask(node, "count", 0, most), OK, out=b"3\n")


def case_unicode(network):
    """Debian's unicode-data in a store of its own"""
    folder = run(ROOT / "scripts/fetch-data", "unicode-data", "--into", BUILD / "data").stdout.decode().strip()
    path = f"{folder}/usr/share/unicode/UnicodeData.txt"
    with open(path, encoding="utf-8") as file:
        names = {int(row[0], 16): row[1] for row in csv.reader(file, delimiter=";", quoting=csv.QUOTE_NONE)}
    with Node("--keys", 0x110000, network=network) as node:
        expect("unicode: load", ask(node, "load", path, "--separator", ";", "--quote", "none", "--comment", "none",
                                    "--key-format", "hex", "--key", 1, "--values", 2), OK)
        expect("unicode: all are there", ask(node, "count", 0, 0x110000), OK, out=f"{len(names)}\n".encode())

        def arrows():
            done = ask(node, "range", "2190", "2200", "-f", "hex", "-o", "csv")
            rows = {int(row[0], 16): row[1] for row in csv.reader(done.stdout.decode().splitlines())}
            return rows
        wanted = {key: name for key, name in names.items() if 0x2190 <= key < 0x2200}
        checks.equal("unicode: what lies between U+2190 and U+2200", arrows(), wanted)
        checks.equal("unicode: the first of it", wanted[0x2190], "LEFTWARDS ARROW")
        expect("unicode: a point", ask(node, "get", "1F980", "-f", "hex"), OK, out=b"CRAB\n")
        node.restart()
        checks.equal("unicode: the same after a clean stop", arrows(), wanted)
        expect("unicode: all are still there", ask(node, "count", 0, 0x110000), OK, out=f"{len(names)}\n".encode())
        node.kill("serve")
        node.process.wait()
        for _ in range(100):  # its children end with it
            if not run("ip", "netns", "pids", node.network.namespace).stdout.strip():
                break
            time.sleep(0.1)
        node.start()
        expect("unicode: all after the death of torc serve", ask(node, "count", 0, 0x110000), OK, out=f"{len(names)}\n".encode())


def case_deaths(network):
    """either process may die alone"""
    with Node("--keys", M, network=network) as node:
        ask(node, "put", 1, "before")
        for who in (("dataplane",), ("control",), ("dataplane", "control")):
            before = node.pid("serve"), node.pid("dataplane"), node.pid("control")
            node.kill(*who)
            node.wait_ready()
            after = node.pid("serve"), node.pid("dataplane"), node.pid("control")
            name = " and ".join(who)
            checks.that(f"death of {name}: only that one is new",
                        [a != b for a, b in zip(before, after)] == [False, "dataplane" in who, "control" in who], (before, after))
            expect(f"death of {name}: data is there", ask(node, "get", 1, "-o", "raw"), OK, out=b"before")
            expect(f"death of {name}: writes go on", ask(node, "put", 1, "before"), OK)
        checks.equal("a clean stop is exit status 0", node.stop(), 0)
        links = network.run("ip", "-o", "link").stdout.decode()
        checks.that("the stop removes the node's links", "torc1" not in links, links)


def case_memory(network):
    """the memory limit: NO_SPACE that says so, reads and deletes go on"""
    with Node("--keys", M, "--memory", "4M", "--large-memory", "4M", network=network) as node:
        rows = b"".join(b"%d,%s\n" % (key, b"x" * 200) for key in range(150_000))
        done = ask(node, "load", "-", "--timeout", "1s", stdin=rows)
        if b"in doubt" in done.stderr or b"is not known" in done.stderr:  # a last answer that took too long
            expect("memory: writes beyond it, one in doubt", done, IN_DOUBT, "NO_SPACE", "line ")
        else:
            expect("memory: writes beyond it", done, UNAVAILABLE, "NO_SPACE", "memory", "line ")
        line = int(re.search(rb"line (\d+): key", done.stderr)[1])
        expect("memory: all lines before the named one are stored", ask(node, "count", 0, line - 1), OK, out=b"%d\n" % (line - 1))
        count = int(ask(node, "count", 0, M).stdout)
        checks.that("memory: much of it was stored", 10_000 < count < 150_000, count)
        expect("memory: reads go on", ask(node, "get", 7, "-o", "raw"), OK, out=b"x" * 200)
        done = refused(lambda: ask(node, "put", M - 1, "-", "--timeout", "500ms", stdin=b"y" * 100_000))
        expect("memory: a new value is refused", done, UNAVAILABLE, "NO_SPACE")
        for key in range(40):
            expect("memory: deletes go on", ask(node, "delete", key), OK)
        expect("memory: and make room", ask(node, "put", 1, "z" * 200), OK)
        node.restart()
        expect("memory: all of it after a restart", ask(node, "count", 0, M), OK, out=b"%d\n" % (count - 39))


# -- data directories

def start_fails(sentence, node, status, *texts):
    """torc serve must end by itself, with this status, saying why."""
    before = len(node.log())
    node.spawn()
    try:
        code = node.wait_end(30)
    except subprocess.TimeoutExpired:
        node.stop()
        checks.that(sentence, False, "it runs")
        return
    said = node.log()[before:]
    checks.that(sentence, code == status, f"status {code} instead of {status}: {said[-400:]}")
    for text in texts:
        checks.that(f"{sentence}: says {text!r}", text in said, said[-400:])


def case_directories(network):
    """a data directory that cannot be used is refused, with the reason"""
    with Node("--keys", M, network=network) as node:
        expect("data: a key", ask(node, "put", 1, "one"), OK)
        other = Node("--keys", M, network=network, data=node.data, number=2, wait=False)
        start_fails("data in use: a second torc serve", other, UNAVAILABLE, str(node.pid("serve")))
        other.close()
        done = network.run(PROGRAMS["torc-control"], "--data", node.data, "--lock-wait", "0s", check=False)
        checks.equal("data in use: a second torc-control", done.returncode, UNAVAILABLE)
        link = Node("--keys", M, network=network, wait=False)
        start_fails("link in use: another node with the same number", link, UNAVAILABLE, "--node")
        link.close()
        expect("data in use: the node goes on", ask(node, "get", 1), OK, out=b"one\n")
        node.stop()

        path = os.path.join(node.data, "torc.node")
        with open(path, "rb") as file:
            good = file.read()
        with open(path, "wb") as file:  # the version is what follows the magic number: docs/FORMATS.md
            file.write(good[:8] + struct.pack("<I", 999) + good[12:])
        start_fails("data of a newer version", node, FAULT, "version")
        with open(path, "wb") as file:
            file.write(good[:-1] + bytes([good[-1] ^ 1]))
        start_fails("a damaged torc.node", node, FAULT)
        with open(path, "wb") as file:
            file.write(good)

        os.chown(node.data, 65534, 65534)
        start_fails("data of another owner", node, USAGE, "owner")
        os.chown(node.data, 0, 0)

        run("mount", "--bind", node.data, node.data)
        try:
            run("mount", "-o", "remount,bind,ro", node.data)
            start_fails("read-only data", node, USAGE, "ead-only")
        finally:
            run("umount", node.data)
        node.start()
        expect("data: all well again", ask(node, "get", 1), OK, out=b"one\n")
        node.stop()

    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(folder, "letter.txt"), "w", encoding="ascii") as file:
            file.write("not Torc's\n")
        foreign = Node("--keys", M, network=network, data=folder, wait=False)
        start_fails("a folder with other files", foreign, USAGE, folder)
        foreign.close()
        checks.equal("a folder with other files is left alone", os.listdir(folder), ["letter.txt"])
        fresh = Node("--keys", M, network=network, data=os.path.join(folder, "a", "b"))
        expect("a missing folder is made", ask(fresh, "put", 1, "x"), OK)
        fresh.close()


def case_serve(network):
    """init, serve --detach, stop, settings"""
    with tempfile.TemporaryDirectory() as folder:
        data = os.path.join(folder, "data")
        address = f"{network.host(11)}/24"
        inside = network.command(PROGRAMS["torc"])
        done = run(*inside, "init", "--data", data, "--keys", 5000, "--shards", 3, check=False)
        expect("init makes a directory", done, OK)
        expect("init a second time", run(*inside, "init", "--data", data, check=False), USAGE, data)
        words = ["--data", data, "--address", address, "--address6", "off", "--workers", 1]
        done = run(*inside, "serve", "--detach", *words, check=False)
        expect("serve --detach returns when the node is ready", done, OK)
        checks.that("it says where the node is", f"{network.host(11)}:28700" in done.stdout.decode(), done.stdout)
        torc = PROGRAMS["torc"]
        expect("the node answers", run(torc, "--data", data, "put", 4999, "x", check=False), OK)
        expect("its keys are those of init", run(torc, "--data", data, "put", 5000, "x", check=False), USAGE, 5000)
        log = os.path.join(data, "run/serve.log")
        os.truncate(log, 17 << 20)  # long enough for another name
        expect("a second start says who runs", run(*inside, "serve", "--detach", *words, check=False), UNAVAILABLE, "torc stop")
        checks.that("and leaves the log its name", not os.path.exists(log + ".1"), os.listdir(os.path.dirname(log)))
        expect("stop", run(torc, "stop", "--data", data, check=False), OK)
        shutil.rmtree(os.path.join(data, "run"))
        words[1] = os.path.relpath(data)
        done = run(*inside, "serve", "--detach", *words, check=False)
        expect("it starts without run/, by a relative name", done, OK)
        expect("stop again", run(torc, "stop", "--data", data, check=False), OK)
        expect("stop where nothing runs", run(torc, "stop", "--data", data, check=False), OK)
        expect("get from a stopped node", run(torc, "--data", data, "--timeout", "500ms", "get", 1, check=False), UNAVAILABLE)
        expect("verify", run(torc, "verify", "--data", data, check=False), OK)
        expect("an unknown setting", run(torc, "serve", "--durabilty", "none", check=False), USAGE, "did you mean durability?")
        expect("a wrong setting", run(torc, "serve", "--durability", "maybe", check=False), USAGE, "durability", "maybe")
        expect("a word where a setting should be", run(torc, "serve", "now", check=False), USAGE, "now")
        expect("the configuration as a file", done := run(torc, "serve", "--print-config", "--keys", 77, check=False), OK)
        path = os.path.join(folder, "torc.ini")
        with open(path, "wb") as file:
            file.write(done.stdout)
        expect("reads back", run(torc, "serve", "--config", path, "--check-config", check=False), OK)


def seen(folder):
    """Everything below a folder, by name: kind, size, times of change, bytes."""
    found = {}
    for path in sorted([folder, *folder.rglob("*")]):
        at = path.lstat()
        found[str(path)] = (at.st_mode, at.st_size, at.st_mtime_ns, at.st_ctime_ns, path.is_file() and path.read_bytes())
    return found


def has_open(pid, path):
    def link(name):
        try:
            return os.readlink(f"/proc/{pid}/fd/{name}")
        except OSError:  # closed meanwhile
            return ""
    return str(path) in map(link, os.listdir(f"/proc/{pid}/fd"))


def case_verify(network):
    """verify looks and leaves no trace, and says so when a node runs"""
    with tempfile.TemporaryDirectory() as folder:
        data, copy = pathlib.Path(folder, "data"), pathlib.Path(folder, "copy")
        node = Node("--keys", M, "--shards", 3, network=network, data=data)
        for key in range(20):
            expect("put", ask(node, "put", key, "x" * key), OK)
        torc = PROGRAMS["torc"]
        done = run(torc, "verify", "--data", data, "--lock-wait", 0, check=False)
        expect("verify of a running node", done, UNAVAILABLE, data, "in use by a running node", "stop it first", out=b"")
        node.close()
        # A copy as OPERATIONS.md has it: without run/, and without what only a start makes.
        shutil.copytree(data, copy, ignore=shutil.ignore_patterns("run", "LOCK", "lock"))
        for what in (data, copy):
            before = seen(what)
            done = run(torc, "verify", "--data", what, check=False)
            expect("verify", done, OK)
            checks.that("it says that there is no damage", b"no damage found" in done.stdout, done.stdout)
            after = seen(what)
            checks.equal("verify leaves all as it was", [n for n in {**before, **after} if before.get(n) != after.get(n)], [])
        for name, text in (("meta/journal", "journal"), ("checkpoint", "checkpoint is missing")):
            part = copy / name
            part.rename(copy / "away")
            before = seen(copy)
            done = run(torc, "verify", "--data", copy, check=False)
            expect(f"verify without {name}", done, FAULT, text)
            checks.equal("and makes none", sorted(seen(copy)), sorted(before))
            (copy / "away").rename(part)
        read_only = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$1" verify --data "$0"'
        expect("verify where nothing can be written", run("unshare", "-m", "sh", "-c", read_only, copy, torc, check=False), OK)
        for _ in range(5):
            status, said = verify_beside_a_start(copy)
            if "held by another process for over a second" not in said:  # this test stood still for so long
                break
        checks.that("verify says that a node was started meanwhile",
                    status == UNAVAILABLE and "a node was started" in said, f"{status}: {said}")


def verify_beside_a_start(copy):
    """Without LOCK nothing keeps a node from starting while a copy is read: what verify says of that."""
    (copy / "LOCK").unlink(missing_ok=True)
    (copy / "meta/lock").touch()
    with open(copy / "meta/lock", "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # verify waits for it, or gives up
        with subprocess.Popen([PROGRAMS["torc"], "verify", "--data", copy], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as looks:
            await_that(lambda: has_open(looks.pid, copy / "checkpoint") or looks.poll() is not None)
            (copy / "LOCK").touch()
            fcntl.flock(lock, fcntl.LOCK_UN)
            said = looks.communicate()[1].decode()
    return looks.returncode, said


def await_that(what, seconds=60):
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(what())


def case_detach_alone(network):
    """serve --detach whose waiting command is killed during the start"""
    with tempfile.TemporaryDirectory() as folder:
        data = pathlib.Path(folder, "data")
        inside = network.command(PROGRAMS["torc"])
        run(*inside, "init", "--data", data, "--keys", 5000)
        far, near = pty.openpty()  # on a terminal it says how the start goes, too
        with open(data / "LOCK", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # torc-control waits for it
            with subprocess.Popen([*map(str, inside), "serve", "--detach", "--data", str(data), "--address",
                                   f"{network.host(11)}/24", "--address6", "off", "--workers", "1"],
                                  stdin=subprocess.DEVNULL, stdout=near) as waits:
                started = await_that(lambda: (data / "run/serve.log").exists() and
                                     "program=torc-control" in (data / "run/serve.log").read_text())
                waits.kill()
                early = (data / "run/cluster").exists()  # asked while the lock is held: then it goes on at once
        os.close(near)
        os.close(far)
        checks.that("it was killed during the start", started and not early)
        torc = PROGRAMS["torc"]
        checks.that("the node becomes ready without it", await_that((data / "run/cluster").exists),
                    (data / "run/serve.log").read_text()[-1500:])
        expect("and serves", run(torc, "--data", data, "put", 1, "x", check=False), OK)
        expect("and is stopped", run(torc, "stop", "--data", data, check=False), OK)
        checks.that("its log says what happened", "the command that started this is gone" in
                    (data / "run/serve.log").read_text())


NODE_CASES = (case_points, case_values, case_conditions, case_ranges, case_arguments, case_load, case_large_range,
              case_admin, case_bench, case_shell, case_completion)
NETWORK_CASES = (case_readme, case_serve, case_verify, case_detach_alone, case_directories, case_deaths, case_one_key, case_all_keys, case_unicode, case_memory)


def main():
    words = sys.argv[1:]

    def chosen(cases):
        return [case for case in cases if not words or any(word in case.__name__ for word in words)]
    with Network() as network:
        if chosen(NODE_CASES):
            with Node("--keys", M, network=network) as node:
                for case in chosen(NODE_CASES):
                    checks.case(case, node)
        for case in chosen(NETWORK_CASES):
            checks.case(case, network)
    checks.end()


if __name__ == "__main__":
    main()
