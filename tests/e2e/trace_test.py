#!/usr/bin/python3
"""Torc tests: `torc trace` and what it is made of: where one request's time went, against a real node.

    tests/e2e/trace_test.py [WORD…]     all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed. Needs root (node.py).
"""
import json
import os
import sys

from node import BUILD, ROOT, Checks, Node

os.environ.setdefault("TORC_BUILD", str(BUILD))
sys.path.insert(0, str(ROOT / "client" / "python"))
import torc  # noqa: E402  after the path

NOT_FOUND, USAGE, UNAVAILABLE = 1, 2, 3  # exit statuses, client/cli/args.h
PARTS = ("wire", "queue", "tree", "log", "sync", "reply")
checks = Checks()


def trace(node, *words, status=0):
    done = node.torc("trace", *words, "-o", "json", check=False)
    checks.equal(f"trace {' '.join(map(str, words))}", done.returncode, status)
    return json.loads(done.stdout)


def adds_up(what, got, unknown=()):
    """Each part is there and not negative, and together they are the total, to the nanosecond."""
    parts = {part: got[f"{part}_ns"] for part in PARTS}
    checks.equal(f"{what}: not known", sorted(part for part in PARTS if parts[part] is None), sorted(unknown))
    checks.that(f"{what}: no part is negative", all(ns is None or ns >= 0 for ns in parts.values()), parts)
    checks.equal(f"{what}: the sum", sum(ns or 0 for ns in parts.values()), got["total_ns"])
    checks.that(f"{what}: the total is one", 0 < got["total_ns"] < 60e9, got)


def case_parts_add_up(node):
    """get, put and delete: parts that make the total"""
    got = trace(node, "put", 42, "forty-two")
    adds_up("put", got)
    checks.that("a durable put waits for the disk", got["sync_ns"] > 0, got)
    checks.that("and its record was written and logged", got["tree_ns"] > 0 and got["log_ns"] > 0, got)
    got = trace(node, "get", 42)
    adds_up("get", got, ("log", "sync"))
    checks.that("a get takes time in the tree", got["tree_ns"] > 0, got)
    checks.equal("what it was", (got["verb"], got["key"], got["status"], got["count"]), ("get", 42, "OK", 1))
    adds_up("delete", trace(node, "delete", 42))
    checks.equal("the value is gone", node.torc("get", 42, check=False).returncode, NOT_FOUND)
    got = trace(node, "get", 42, status=NOT_FOUND)
    adds_up("a get of nothing", got, ("log", "sync"))
    checks.equal("says so", got["status"], "NOT_FOUND")


def case_medians(node):
    """--limit repeats a get"""
    node.torc("put", 1, "one")
    got = trace(node, "get", 1, "--limit", 200)
    checks.equal("how many", got["count"], 200)
    checks.that("sent at least as often", got["sends"] >= 200, got)
    checks.that("medians of parts are below that of the total",
                all(got[f"{part}_ns"] is None or got[f"{part}_ns"] <= got["total_ns"] for part in PARTS), got)
    shown = node.torc("trace", "get", 1, "-n", 5).stdout.decode()
    checks.that("for people", "get 1: OK, medians of 5\n  total " in shown and "wire" in shown, shown)
    shown = node.torc("trace", "put", 1, "one").stdout.decode()
    checks.that("a put shows its sync", "sync" in shown and "on disk" in shown, shown)
    lines = node.torc("trace", "get", 1, "-o", "csv").stdout.decode().splitlines()
    checks.equal("csv: parts", [line.split(",")[0] for line in lines], ["total", "wire", "queue", "tree", "reply"])


def case_no_room(node):
    """the server leaves its part out when its answer is full, and for values in pieces"""
    node.torc("put", 2, "-", stdin=b"v" * 300_000)
    got = trace(node, "get", 2)
    checks.equal("a value in pieces: only the total", [got[f"{part}_ns"] for part in PARTS], [None] * 6)
    checks.that("is told", got["total_ns"] > 0, got)
    shown = node.torc("trace", "get", 2).stdout.decode()
    checks.that("for people too", "the server said nothing" in shown, shown)
    got = trace(node, "put", 2, "x" * 20_000)
    checks.that("a put in pieces has a total", got["total_ns"] > 0, got)


def case_wrong_words(node):
    """what cannot be traced is told"""
    for words, text in ((("scan", 1), "get, put or delete"), (("get", 1, 2), "usage: torc trace"),
                        (("put", 1), "usage: torc trace"), (("put", 1, "x", "--limit", 3), "--limit repeats gets only"),
                        (("get", "one"), "KEY"), (("get", 1, "--limit", 0), "--limit 0")):
        done = node.torc("trace", *words, check=False)
        checks.equal(f"trace {words}", done.returncode, USAGE)
        checks.that(f"trace {words}: says {text!r}", text in done.stderr.decode(), done.stderr.decode())


def case_python(node):
    """the same from Python"""
    with torc.Store(node.address, key_file=node.key_file, timeout=10) as store:
        checks.equal("nothing at first", store.last_trace, None)
        store.put(7, "seven", trace=True)
        put = store.last_trace
        checks.that("a put", put.sync > 0 and put.sends >= 1, put)
        checks.equal("adds up", put.total, sum(put[1:7]))
        checks.equal("a get", store.get(7, trace=True), b"seven")
        got = store.last_trace
        checks.equal("of a get no log", (got.log, got.sync), (None, None))
        checks.equal("adds up too", got.total, got.wire + got.queue + got.tree + got.reply)
        store.get(7)
        checks.equal("an untraced call leaves it", store.last_trace, got)
        checks.that("delete", store.delete(7, trace=True) and store.last_trace != got)


with Node(workers=2) as one:
    checks.cases(globals(), one)
