#!/usr/bin/python3
"""Torc tests: /metrics is what Prometheus reads, and shows what happens to packets. Root only.

    tests/e2e/metrics_test.py
Last line: `N passed, N failed`. The parser holds the page to the text format 0.0.4 and to the naming rules of
docs/STYLE.md; it is shown first that it finds what is wrong with a page.
"""
import re
import socket
import time

from node import Checks, Node

NAME = r"[a-z_][a-z0-9_]*"
SAMPLE = re.compile(rf"({NAME})(?:\{{(.*)\}})? (-?[0-9.eE+]+|NaN|[+-]Inf)")
LABEL = re.compile(rf'({NAME})="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
GOOD = """# HELP torc_a_total a
# TYPE torc_a_total counter
torc_a_total{worker="0"} 1
# HELP torc_b_seconds b
# TYPE torc_b_seconds histogram
torc_b_seconds_bucket{le="0.001"} 1
torc_b_seconds_bucket{le="+Inf"} 2
torc_b_seconds_sum 0.5
torc_b_seconds_count 2
"""
BAD = {  # what is wrong: (a text of the good page, what takes its place)
    "a sample without TYPE": ("# TYPE torc_a_total counter\n", ""),
    "a sample without HELP": ("# HELP torc_a_total a\n", ""),
    "a counter not named _total": ("torc_a_total", "torc_a"),
    "a series twice": ('torc_a_total{worker="0"} 1\n', 'torc_a_total{worker="0"} 1\ntorc_a_total{worker="0"} 2\n'),
    "a label without quotes": ('worker="0"', "worker=0"),
    "a quote inside a label": ('worker="0"', 'worker="0"1"'),
    "no number": ('{worker="0"} 1', '{worker="0"} one'),
    "buckets that fall": ('le="0.001"} 1', 'le="0.001"} 3'),
    "buckets out of order": ('torc_b_seconds_bucket{le="0.001"} 1\n',
                             'torc_b_seconds_bucket{le="0.002"} 1\ntorc_b_seconds_bucket{le="0.001"} 1\n'),
    "no last bucket": ('torc_b_seconds_bucket{le="+Inf"} 2\n', ""),
    "a count that is not the last bucket": ("torc_b_seconds_count 2", "torc_b_seconds_count 3"),
    "a family in two places": ("torc_b_seconds_count 2\n", 'torc_b_seconds_count 2\ntorc_a_total{worker="1"} 1\n'),
    "a name that is not ours": ("torc_a_total", "tork_a_total"),
    "no end of line": ("torc_b_seconds_count 2\n", "torc_b_seconds_count 2"),
    "a negative counter": ('{worker="0"} 1', '{worker="0"} -1'),
}
checks = Checks()


class Page:
    """A page taken apart: `values[(name, labels)]`, and `faults`, what is wrong with it."""

    def __init__(self, text):
        self.values, self.types, self.faults = {}, {}, []
        self.family = None
        self.helped = set()
        if not text.endswith("\n"):
            self.faults.append("the last line has no end")
        for line in text.splitlines():
            self._line(line)
        for family, kind in self.types.items():
            if kind == "histogram":
                self._histogram(family)

    def _line(self, line):
        words = line.split(" ", 3)
        if words[:2] == ["#", "HELP"] and len(words) == 4:
            self.helped.add(words[2])
        elif words[:2] == ["#", "TYPE"] and len(words) == 4:
            self._type(words[2], words[3])
        else:
            self._sample(line)

    def _type(self, family, kind):
        if family in self.types or kind not in SUFFIXES or family not in self.helped:
            self.faults.append(f"TYPE of {family}")
        if not re.fullmatch(f"torc_{NAME}", family) or (kind == "counter") != family.endswith("_total"):
            self.faults.append(f"the name {family} of a {kind}")
        self.types[family] = kind
        self.family = family

    def _sample(self, line):
        found = SAMPLE.fullmatch(line)
        if found is None:
            self.faults.append(f"line {line!r}")
            return
        name, inside, value = found.groups()
        labels = tuple(LABEL.findall(inside or ""))
        if "".join(f'{label}="{text}",' for label, text in labels)[:-1] != (inside or ""):
            self.faults.append(f"labels of {line!r}")
        kind = self.types.get(self.family)
        if kind is None or name not in [self.family + suffix for suffix in SUFFIXES[kind]]:
            self.faults.append(f"{name} stands outside its family")
        if (name, labels) in self.values:
            self.faults.append(f"{name} {labels} twice")
        self.values[name, labels] = float(value)
        if kind != "gauge" and float(value) < 0:
            self.faults.append(f"{name} is negative")

    def _histogram(self, family):
        rows = [(dict(labels)["le"], value) for (name, labels), value in self.values.items()
                if name == family + "_bucket"]
        bounds = [float(bound) for bound, _ in rows]
        counts = [value for _, value in rows]
        if not rows or rows[-1][0] != "+Inf" or bounds != sorted(set(bounds)) or counts != sorted(counts):
            self.faults.append(f"buckets of {family}")
        elif self.values.get((family + "_count", ())) != counts[-1] or (family + "_sum", ()) not in self.values:
            self.faults.append(f"count or sum of {family}")

    def get(self, name, **labels):
        return self.values.get((name, tuple(labels.items())), 0)


def read(node):
    done = node.network.run("curl", "-s", "-D", "-", "http://127.0.0.1:28601/metrics")
    head, body = done.stdout.decode().split("\r\n\r\n", 1)
    return head, body


def case_parser():
    """the parser finds what is wrong"""
    checks.equal("parser: a good page", Page(GOOD).faults, [])
    for name, (old, new) in BAD.items():
        checks.that(f"parser: {name}", old in GOOD and Page(GOOD.replace(old, new)).faults != [])


def case_page(node):
    """the page of a node"""
    node.torc("put", 1, "one")
    node.torc("get", 1)
    node.torc("get", 2, check=False)
    head, body = read(node)
    checks.that("page: content type", re.search(r"(?i)^content-type: text/plain; version=0\.0\.4", head, re.M), head)
    page = Page(body)
    checks.equal("page: is well-formed", page.faults, [])
    checks.that("page: gets are counted", page.get("torc_requests_total", op="GET") >= 2)
    checks.that("page: answers by status", page.get("torc_replies_total", status="NOT_FOUND") >= 1)
    checks.that("page: writes are timed", page.get("torc_write_seconds_count") >= 1)
    end = time.monotonic() + 10  # a worker sets its gauges once a second
    # One program wrote one key: a client of one shard, with one answer.
    names = ("torc_records", "torc_completion_clients", "torc_completion_records")
    while [of_workers(page, name) for name in names] != [1, 1, 1] and time.monotonic() < end:
        page = Page(read(node)[1])
    checks.equal("page: records, clients and answers of all workers", [of_workers(page, name) for name in names], [1, 1, 1])
    node.torc("put", 2, "two")  # another program is another client
    end = time.monotonic() + 10
    while of_workers(page, "torc_completion_clients") != 2 and time.monotonic() < end:
        page = Page(read(node)[1])
    checks.equal("page: one client more", of_workers(page, "torc_completion_clients"), 2)
    checks.that("page: and the room for them", min(of_workers(page, f"torc_completion_{what}_max")
                                                   for what in ("clients", "records")) > 1000)


def of_workers(page, name):
    return sum(page.get(name, worker=str(core)) for core in (0, 1))


def case_drops(node):
    """packets that are dropped are counted by reason, at once"""
    before = Page(read(node)[1])
    host, port = node.address.rsplit(":", 1)
    sent = {"short": 7, "magic": 11, "version": 5, "type": 3}
    payloads = {"short": b"\x54\x19", "magic": b"GET / HTTP/1.1\r\n\r\n" + bytes(64), "version": b"\x54\x00" + bytes(254),
                "type": b"\x54\x1f" + bytes(254)}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        for reason, count in sent.items():
            for _ in range(count):
                link.sendto(payloads[reason], (host, int(port)))

    def rise(reason):
        return after.get("torc_drops_total", reason=reason) - before.get("torc_drops_total", reason=reason)
    end = time.monotonic() + 5
    while True:
        after = Page(read(node)[1])
        seen = {reason: rise(reason) for reason in sent}
        if seen == sent or time.monotonic() > end:
            break
    checks.equal("drops: by reason in /metrics", seen, sent)
    checks.equal("drops: the page is still well-formed", after.faults, [])
    rows = {row["reason"]: row for row in node.admin("stats")["drops"]}
    checks.that("drops: torc stats has them, with what they mean",
                all(rows[reason]["packets"] >= count and rows[reason]["meaning"] for reason, count in sent.items()), rows)
    people = node.torc("stats", "--data", node.data).stdout.decode()
    checks.that("drops: also for people", all(reason in people for reason in sent), people[-600:])


def case_ready(node):
    """/ready and /health"""
    def code(path):
        return int(node.network.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
                                    f"http://127.0.0.1:28601/{path}").stdout)
    checks.equal("ready: a node that serves", (code("ready"), code("health")), (200, 200))
    checks.equal("ready: another page", code("metrics2"), 404)
    node.kill("dataplane")
    node.wait_ready()
    checks.equal("ready: again after the dataplane's death", (code("ready"), code("health")), (200, 200))
    page = Page(read(node)[1])
    checks.equal("ready: the page after it", page.faults, [])
    checks.equal("ready: the rebuild is counted", page.get("torc_control_recoveries_total"), 2)


def main():
    case_parser()
    with Node("--keys", 1000, "--memory", "256M", workers=2) as node:
        for case in (case_page, case_drops, case_ready):
            checks.case(case, node)
    checks.end()


if __name__ == "__main__":
    main()
