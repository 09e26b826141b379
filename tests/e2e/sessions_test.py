#!/usr/bin/python3
"""Torc tests: `torc sessions`: who is connected, as an operator sees it.

    tests/e2e/sessions_test.py [WORD…]     all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed. Needs root (node.py).
"""
import csv
import io
import json
import os
import sys
import threading
import time

from node import BUILD, ROOT, Checks, Node

os.environ.setdefault("TORC_BUILD", str(BUILD))
sys.path[:0] = [str(ROOT / "client" / "python"), str(ROOT / "tests" / "conformance")]
import torc  # noqa: E402  after the path
import torc_client as t  # noqa: E402

USAGE, UNAVAILABLE = 2, 3  # exit statuses, client/cli/args.h
checks = Checks()


def show(node, *words, **options):
    return node.torc("sessions", "--data", node.data, *words, **options)


def sessions(node, *words):
    answer = json.loads(show(node, "-o", "json", *words).stdout)
    checks.equal("none is lost", answer["open"], len(answer["sessions"]) + answer["left_out"])
    return answer


def rows(node):
    return sessions(node, "--limit", 4096)["sessions"]


def wait_for(what, condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    checks.that(what, condition())


def keys(node, *words):
    node.torc("keys", *words, "--data", node.data)


def export(node, name):
    path = os.path.join(node.data, f"{name}.{time.monotonic_ns()}.key")
    keys(node, "export", name, "--out", path)
    return path


def case_two_clients():
    """two clients appear with what they do; one closes and is gone"""
    with Node(security="keys", workers=2) as node:
        keys(node, "add", "web", "--roles", "read,write")
        checks.equal("nobody at first", rows(node), [])
        with torc.Store(node.address, key_file=node.key_file) as local:
            web = torc.Store(node.address, key_file=export(node, "web"))
            web.put(1, "one")
            local.get(1)
            found = {row["name"]: row for row in rows(node)}
            checks.equal("both", sorted(found), ["local", "web"])
            row = found["web"]
            checks.equal("the principal's number", row["principal"], 2)
            checks.that("where from", row["address"].startswith("10.") and ":" in row["address"], row)
            checks.that("who says it is", row["agent"].startswith("libtorc"), row)
            checks.that("sealed", row["suite"] in ("AES-256-GCM", "ChaCha20-Poly1305"), row)
            checks.equal("open, first lane", (row["state"], row["lane"]), ("open", 0))
            checks.that("just now", row["idle_s"] <= 5 and row["age_s"] <= 20, row)
            checks.equal("nothing in flight", row["in_flight"], 0)
            for key in range(50):
                web.get(key * 20_000_000)
            after = {row["name"]: row for row in rows(node)}["web"]
            checks.that("packets are counted, over both cores", after["packets_in"] >= row["packets_in"] + 50 and
                        after["packets_out"] >= row["packets_out"] + 50, (row, after))
            web.close()
            wait_for("who closed is gone", lambda: [row["name"] for row in rows(node)] == ["local"])


def case_revoked():
    """a revoked principal's sessions disappear, others' stay"""
    with Node(security="keys") as node:
        keys(node, "add", "web", "--roles", "read,write")
        with torc.Store(node.address, key_file=export(node, "web"), timeout=2) as first, \
                torc.Store(node.address, key_file=export(node, "web"), timeout=2) as second, \
                torc.Store(node.address, key_file=node.key_file) as local:
            for store in (first, second, local):
                store.get(1)
            checks.equal("three", sorted(row["name"] for row in rows(node)), ["local", "web", "web"])
            keys(node, "revoke", "web")
            checks.equal("one", [row["name"] for row in rows(node)], ["local"])


def case_clear():
    """CLEAR sessions are marked"""
    with Node(security="clear") as node:
        with torc.Store(node.address, key_file="none") as store:
            store.get(1)
            row = rows(node)[0]
            checks.equal("marked", (row["suite"], row["principal"], row["name"]), ("CLEAR", 0, "-"))
            checks.that("for people too", "CLEAR" in show(node).stdout.decode())


def case_many():
    """a list has an end: those heard of last come first, and the rest is counted"""
    with Node(security="clear", workers=2) as node:
        stores = [torc.Store(node.address, key_file="none") for _ in range(60)]
        for store in stores:
            store.get(1)
        answer = sessions(node, "--limit", 10)
        checks.equal("ten of sixty", (answer["open"], len(answer["sessions"]), answer["left_out"]), (60, 10, 50))
        wait_for("status counts each once, whatever the cores", lambda: node.admin("status")["sessions"] == 60)
        idle = [row["idle_s"] for row in rows(node)]
        checks.equal("sorted", idle, sorted(idle))
        time.sleep(2.1)
        stores[17].get(1)
        top = sessions(node, "--limit", 1)["sessions"][0]
        checks.that("who spoke last is first", top["idle_s"] < rows(node)[-1]["idle_s"], top)
        text = show(node, "-n", 5).stdout.decode()
        checks.that("for people", "left_out" in text and "packets_in" in text, text)
        table = list(csv.DictReader(io.StringIO(show(node, "-n", 7, "-o", "csv").stdout.decode())))
        checks.equal("csv: rows", len(table), 7)
        checks.that("csv: columns", all(row["address"] and row["suite"] == "CLEAR" for row in table), table[0])
        checks.equal("each once", len({row["index"] for row in rows(node)}), 60)
        several = []
        threads = [threading.Thread(target=lambda: several.append(sessions(node)["open"])) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        checks.equal("many who ask at once all get a list", several, [60] * 6)
        for store in stores:
            store.close()
        wait_for("all have gone", lambda: rows(node) == [])


LIMITS = {"packet-ops-max": 32, "inflight-ops-max": 100, "inflight-packets-max": 20, "cursors-max": 2,
          "message-window": 5, "write-window": 500, "session-idle": "11s", "session-age": "70s", "deadline-max": "3s"}
TOLD = {"packet_ops": 32, "core_ops": 100, "packets": 20, "cursors": 2, "message_window": 5, "write_window": 500,
        "idle_s": 11, "age_s": 70, "deadline_ms": 3000}


def case_limits():
    """what the settings say about sessions is told to clients, and kept to"""
    words = [word for name, value in LIMITS.items() for word in (f"--{name}", value)]
    with Node(*words, security="clear") as node:
        large = bytes(range(256)) * 400
        with torc.Store(node.address, key_file="none") as store:
            for key in range(100):
                store.put(key, bytes(100))
            store.put(1000, large)  # more pieces than may go unasked
            checks.equal("a large value", store.get(1000), large)
        host, port = node.address.rsplit(":", 1)
        with t.Client(host, int(port)) as client:
            checks.equal("told", {name: client.accept[name] for name in TOLD}, TOLD)
            statuses = [client.open_cursor(0, 100).status for _ in range(3)]
            checks.equal("the third cursor of two", statuses, ["OK", "OK", "LIMIT"])
        with torc.Store(node.address, key_file="none") as store:
            store.get(7)
            wait_for("a session that is silent for 11 s ends", lambda: not rows(node), 40)


def case_errors():
    """a limit that is none, and a node without a dataplane"""
    with Node(security="clear") as node:
        done = show(node, "--limit", 0, check=False)
        checks.equal("limit 0", done.returncode, USAGE)
        for limit in (0, 4097, -1, "many"):
            answer = node.admin("sessions", limit=limit)
            checks.equal(f"admin: limit {limit}", answer.get("error"), "INVALID_ARGUMENT")
        checks.equal("admin: without a limit", node.admin("sessions")["sessions"], [])


checks.cases(globals())
