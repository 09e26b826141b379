#!/usr/bin/python3
"""Torc tests: `torc stats memory` says where each byte goes. Root only.

    tests/e2e/memory_test.py
Last line: `N passed, N failed`. Loads values of several sizes, deletes half of them, and holds the rows against what
the kernel says of both processes (smaps_rollup): within 3 %. It is shown first that a row that lacks is found.
"""
import json
import os
import random
import re
import sys
import time

from node import BUILD, ROOT, Checks, Node

os.environ.setdefault("TORC_BUILD", str(BUILD))
sys.path.insert(0, str(ROOT / "client/python"))
import torc  # noqa: E402  after the path

SIZES = {8: 60000, 100: 60000, 200: 40000, 1000: 40000, 5000: 3000, 100000: 200}
checks = Checks()


def off(rows, whole):
    """How far the rows are from the whole, as a share."""
    return abs(sum(rows.values()) - whole) / whole


def asked(node):
    answer = json.loads(node.torc("stats", "memory", "--data", node.data, "-o", "json").stdout)
    return answer, {row["use"]: row["bytes"] for row in answer["memory"]}


def account(node):
    """The rows as of now: the dataplane looks every few seconds."""
    begun = time.monotonic()
    while time.monotonic() < begun + 60:
        answer, rows = asked(node)
        # A look that began before now is of the past; books are up to 0.2 s older still.
        if answer["age_ms"] < (time.monotonic() - begun - 0.5) * 1000:
            return answer, rows
        time.sleep(0.2)
    raise RuntimeError("the dataplane does not look at its memory any more")


def kernel_says(node):
    """Resident and hugetlb bytes of both processes; what they share counts once."""
    whole = 0
    for process in ("dataplane", "control"):
        with open(f"/proc/{node.pid(process)}/smaps_rollup", encoding="ascii") as rollup:
            for line in rollup:
                if line.split(":")[0] in ("Pss", "Shared_Hugetlb", "Private_Hugetlb"):
                    whole += int(line.split()[1]) << 10
    return whole


def hold(node, what):
    # Both are of moments: memory is made resident ahead of its use, and nodes of other tests that begin and end
    # change what a shared page of the program counts here. Looked at again until they are of one moment.
    end = time.monotonic() + 20
    while True:
        answer, rows = account(node)
        whole = kernel_says(node)
        share = off(rows, whole)
        if share <= 0.03 or time.monotonic() > end:
            break
        time.sleep(0.3)
    print(f"{what}: rows {sum(rows.values()) / 1e6:.1f} MB, kernel {whole / 1e6:.1f} MB, off {100 * share:.2f} %")
    checks.that(f"{what}: the rows are within 3 % of what the kernel says", share <= 0.03, (answer, whole))
    checks.that(f"{what}: its own sums hold", answer["sum_bytes"] == sum(rows.values()) and
                answer["difference_bytes"] ==
                answer["sum_bytes"] - answer["resident_bytes"] - answer["hugetlb_bytes"], answer)
    return rows


def keys_of(size, count):
    draw = random.Random(size)
    return [draw.randrange(1 << 32) for _ in range(count)]


def load(store):
    for size, count in SIZES.items():
        value = os.urandom(size)
        keys = keys_of(size, count)
        for at in range(0, count, 500):
            store.put_many((key, value) for key in keys[at:at + 500])


def delete_half(store):
    for size, count in SIZES.items():
        keys = keys_of(size, count)
        for at in range(0, count // 2, 500):
            store.batch(torc.Delete(key) for key in keys[at:min(at + 500, count // 2)])


def check_faces(node):
    """The same numbers as a table, as lines and for Prometheus."""
    table = node.torc("stats", "memory", "--data", node.data).stdout.decode()
    _, rows = asked(node)
    for use in rows:
        checks.that(f"the table has a row {use}", re.search(rf"^  {re.escape(use)} +\d+  \w", table, re.M), table)
    checks.that("the table ends in sum, resident and difference",
                re.search(r"^sum_bytes +\d+\nresident_bytes +\d+\nhugetlb_bytes +\d+\ndifference_bytes +-?\d+\n"
                          r"difference_percent +-?[\d.]+\n", table, re.M), table)
    lines = node.torc("stats", "memory", "--data", node.data, "-o", "raw").stdout.decode()
    checks.that("raw output is one line a value", re.search(r"^memory\.0\.use leaves\.used$", lines, re.M), lines)
    wrong = node.torc("stats", "nonsense", "--data", node.data, check=False)
    checks.that("another word is refused by name", wrong.returncode == 2 and b"nonsense" in wrong.stderr, wrong)


def check_metrics(node):
    page = node.network.run("curl", "-s", "http://127.0.0.1:28601/metrics").stdout.decode()
    found = dict(re.findall(r'^torc_memory_bytes\{use="([^"]+)"\} (\d+)$', page, re.M))
    resident = int(re.search(r"^torc_memory_resident_bytes (\d+)$", page, re.M)[1])
    _, rows = asked(node)
    checks.equal("Prometheus sees the same rows", set(found), set(rows))
    checks.that("and they add up", off({use: int(text) for use, text in found.items()}, resident) <= 0.03, page)


def main():
    checks.that("a row that lacks is found", off({"a": 96, "b": 0}, 100) > 0.03 and off({"a": 98}, 100) <= 0.03)
    with Node("--keys", "4294967296", "--durability", "none") as node:
        hold(node, "an empty node")
        with torc.Store(node.address) as store:
            load(store)
            rows = hold(node, "loaded")
            # A huge page at a time, so up to one beyond touch-ahead; a worker a core at most.
            checks.that("some memory is resident before it is needed, and not much",
                        0 < rows["chunks.ahead"] < (34 << 20) * os.cpu_count(), rows)
            user = sum(size * count for size, count in SIZES.items() if size > 128)
            checks.that("large values are counted as users count", rows["large.values"] >= 0.99 * user, rows)
            checks.that("leaves hold the small ones", rows["leaves.used"] >= 60000 * 108, rows)
            checks.that("large values waste little", rows["large.rounding"] + rows["large.slabs"] < user / 10, rows)
            delete_half(store)
            hold(node, "half deleted")
            load(store)
            hold(node, "loaded again")
        check_faces(node)
        check_metrics(node)
    checks.end()


if __name__ == "__main__":
    main()
