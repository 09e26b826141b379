#!/usr/bin/python3
"""Torc tests: every answer is right over a bad network. Root only.

A relay between the client (torc_client.py) and a real node loses, repeats, delays, reorders and damages packets in
both directions. Random writes, reads and ranges must then give what a dictionary says; a chain of conditional writes
shows that each took effect exactly once. Under keys, then in CLEAR mode. The seed is printed; TORC_SEED=n replays the
choices (not the scheduling). Ends with `N passed, N failed`.
"""
import heapq
import os
import pathlib
import random
import selectors
import socket
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import torc_client as t  # noqa: E402
from node import Node  # noqa: E402
from wire_rig import checks, connect, mode  # noqa: E402

KEYS = 1 << 16
OPERATIONS = 200


class Relay(threading.Thread):
    """127.0.0.1:base+core for each core of the node; one socket to the node for all of a client's packets."""

    def __init__(self, host, cores, seed):
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.host = host
        self.done = False
        self.counts = dict.fromkeys(("passed", "lost", "repeated", "delayed", "damaged"), 0)
        self.queue, self.order = [], 0
        self.fronts, self.upstream = self.open_fronts(cores)
        self.base_port = self.fronts[0].getsockname()[1]
        self.client = None  # (address, core) by which it was reached last
        self.selector = selectors.DefaultSelector()
        for core, front in enumerate(self.fronts):
            self.selector.register(front, selectors.EVENT_READ, core)
        self.selector.register(self.upstream, selectors.EVENT_READ, None)

    @staticmethod
    def open_fronts(cores):
        """As many ports in a row as there are cores, wherever they are free."""
        while True:
            fronts = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(cores)]
            try:
                fronts[0].bind(("127.0.0.1", 0))
                base = fronts[0].getsockname()[1]
                for core in range(1, cores):
                    fronts[core].bind(("127.0.0.1", base + core))
            except (OSError, OverflowError):
                for front in fronts:
                    front.close()
                continue
            return fronts, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def pass_on(self, packet, send):
        """Perhaps now, perhaps later, perhaps twice, perhaps not, perhaps not as it was."""
        chance = self.random.random
        if chance() < 0.10:
            self.counts["lost"] += 1
            return
        if packet and chance() < 0.05:
            self.counts["damaged"] += 1
            damaged = bytearray(packet)
            damaged[self.random.randrange(len(packet))] ^= 1 << self.random.randrange(8)
            packet = bytes(damaged)
        copies = 1
        if chance() < 0.10:
            self.counts["repeated"] += 1
            copies = 2
        for _ in range(copies):
            delay = 0
            if chance() < 0.20:
                self.counts["delayed"] += 1
                delay = self.random.choice((0.001, 0.01, 0.1))
            self.counts["passed"] += 1
            self.order += 1
            heapq.heappush(self.queue, (time.monotonic() + delay, self.order, packet, send))

    def run(self):
        while not self.done:
            now = time.monotonic()
            while self.queue and self.queue[0][0] <= now:
                _, _, packet, send = heapq.heappop(self.queue)
                send(packet)
            wait = max(0, self.queue[0][0] - now) if self.queue else 0.02
            for ready, _ in self.selector.select(wait):
                self.take(ready.fileobj, ready.data)

    def take(self, sock, core):
        packet, sender = sock.recvfrom(65535)
        if core is not None:
            self.client = sender
            self.pass_on(packet, lambda packet: self.upstream.sendto(packet, (self.host, 28700 + core)))
        elif self.client is not None:
            front, client = self.fronts[min(sender[1] - 28700, len(self.fronts) - 1)], self.client
            self.pass_on(packet, lambda packet: front.sendto(packet, client))

    def close(self):
        self.done = True
        self.join()
        for sock in (*self.fronts, self.upstream):
            sock.close()


def same(client, oracle, key, operation):
    """One random operation, in both."""
    value = os.urandom(random.choice((0, 8, 100, 1000, 5000)))
    if operation == "put":
        oracle[key] = (client.put(key, value), value)
    elif operation == "delete":
        checks.equal("delete", client.delete(key), oracle.pop(key, None) is not None)
    elif operation == "get":
        checks.that("get", client.get(key) == oracle.get(key), key)
    elif operation == "absent":
        try:
            oracle[key] = (client.put(key, value, if_absent=True), value) if key not in oracle else client.put(
                key, value, if_absent=True)
        except t.TorcError as error:
            checks.equal("if absent", (error.status, error.info), ("CONDITION_FAILED", oracle[key][0]))
    else:
        lo, hi = sorted((key, random.randrange(KEYS)))
        wanted = [(at, oracle[at][1], oracle[at][0]) for at in sorted(oracle) if lo <= at < hi]
        reverse = operation == "reverse"
        got = client.range(lo, hi, versions=True, reverse=reverse)
        checks.that(operation, got == (wanted[::-1] if reverse else wanted), f"[{lo}, {hi})")


def random_operations(client):
    """random operations give what a dictionary says"""
    oracle = {}
    keys = [random.randrange(KEYS) for _ in range(40)]
    weights = {"put": 6, "delete": 2, "get": 6, "absent": 2, "range": 1, "reverse": 1}
    for _ in range(OPERATIONS):
        same(client, oracle, random.choice(keys), random.choices(list(weights), list(weights.values()))[0])
    same(client, oracle, 0, "range")
    checks.equal("a count at the end", client.count(0, KEYS), len(oracle))


def chain(client):
    """each of a chain of conditional writes takes effect once"""
    version = client.put(77, b"0")
    for step in range(1, 51):
        version = client.put(77, b"%d" % step, if_version=version)
    checks.equal("the chain's end", client.get(77), (version, b"50"))


def one_mode(sealed, seed):
    """over the relay"""
    random.seed(seed)
    with Node("--keys", KEYS, *mode.settings(sealed), workers=2) as node:
        mode.begin(node, sealed)
        relay = Relay(node.network.host(11), 2, seed)
        relay.start()
        with connect("127.0.0.1", base_port=relay.base_port, timeout=30) as client:
            checks.case(random_operations, client)
            checks.case(chain, client)
        relay.close()
        drops = {row["reason"]: row["packets"] for row in node.admin("stats")["drops"]}
        checks.that("packets were lost, repeated, delayed and damaged", min(relay.counts.values()) > 10, relay.counts)
        checks.that("the node saw damaged ones", drops.get("auth_fail", 0) > 0, drops)
        checks.that("the node saw repeated ones", drops.get("replay_dup", 0) > 0, drops)


def main():
    seed = int(os.environ.get("TORC_SEED", int.from_bytes(os.urandom(4), "little")))
    print(f"TORC_SEED={seed}")
    for sealed in (True, False):
        print("under keys" if sealed else "in CLEAR mode", flush=True)
        checks.case(one_mode, sealed, seed)
    checks.end()


if __name__ == "__main__":
    main()
