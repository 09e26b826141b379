#!/usr/bin/python3
"""Torc tests: a flood of bad packets of each family leaves nothing behind. Root only.

One core sends bad packets as fast as it can (torc-flood), from addresses without a session and in the name of a
session that exists. Each family must be dropped under its own counter, gets no more bytes back than it sent, makes no
session and no memory, a good client's operations all end well meanwhile, and where strangers are answered new clients
get in after a few tries. Shown, never asserted: what the flood costs a good client, against the same flood sent to an
Ethernet address that the bridge drops (median of `--rounds N` pairs; with two cores the flood has one and the client
shares the worker's). What a packet costs the worker is told by torc-worker-bench: a worker that waits spins, so its
time says nothing here. `--json` prints a line a family. Ends with `N passed, N failed`.
"""
import argparse
import json
import os
import pathlib
import socket
import statistics
import struct
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "conformance")]

import torc_client as t  # noqa: E402
from node import BUILD, Checks, Node, run  # noqa: E402

ALONE_MS, BESIDE_MS = 400, 1000
NEWCOMERS_MS = 20000  # at most: it is ended after them. One tries for 5 s
NEWCOMERS, NEWCOMERS_S = 8, 1.5  # so many, or those that come within so long
TRIES_MAX = 12  # packets from the first INIT to a session; a client sends about so many in its 5 seconds
RESIDENT_MAX = 1 << 20  # what a flood may leave: the first use of some buffers
UDP = 14 + 20 + 8  # where the payload begins in a frame
NOBODY = b"\x02\0\0\0\x99\x99"
QUICK = bool(os.environ.get("TORC_TEST_QUICK"))  # a third of the families
checks = Checks()


def cores():
    """For the flood, the client and the worker; they differ as far as there are any."""
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[len(allowed) // 2], allowed[-1]


def on_core(core, *command):
    return ["taskset", "-c", str(core), *map(str, command)]


class Newcomer(t.Client):
    """Counts what it sends until it has a session."""
    tries = 0

    def send_raw(self, packet, core=0):
        self.tries += 1
        super().send_raw(packet, core)


class Flooded:
    """A node, the session that bad packets claim to be of, and what is needed to forge frames."""

    def __init__(self, node):
        self.node, self.link = node, node.network.link
        self.host, self.near = node.network.host(11), node.network.host(2)
        self.key = t.read_key(pathlib.Path(node.data, "local.key").read_text(encoding="ascii"))
        self.victim = t.Client(self.host, key=self.key)
        self.victim.ping(b"here")
        self.source_mac = bytes.fromhex(pathlib.Path(f"/sys/class/net/{self.link}/address").read_text().replace(
            ":", "").strip())
        neighbour = json.loads(run("ip", "-j", "neigh", "show", self.host).stdout)[0]["lladdr"]
        self.target_mac = bytes.fromhex(neighbour.replace(":", ""))
        for line in json.loads(node.network.run("ip", "-j", "link", "show", "master", "torcbr").stdout):
            node.network.run("bridge", "link", "set", "dev", line["ifname"], "flood", "off")

    def frame(self, payload, source=None, port=None, to_port=28700):
        udp = struct.pack(">HHHH", port or self.victim.socket.getsockname()[1], to_port, 8 + len(payload), 0)
        head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0x4000, 64, 17, 0,
                           socket.inet_aton(source or self.near), socket.inet_aton(self.host))
        return self.target_mac + self.source_mac + b"\x08\0" + head + udp + payload

    def families(self):
        """name: (the counter, frame, what is random in each copy)"""
        # What is forged is numbered above all that the victim sends: only the tag can tell.
        ping, large = (self.victim.seal(t.encode_op(t.PING, 9, bytes(size)), 0, seq=1 << 29) for size in (8, 1336))
        unknown = bytearray(ping)
        unknown[4:8] = struct.pack("<I", 0x7ff00000 | self.victim.accept["session_index"] & 0xfffff)
        self.victim.ping(b"to be repeated")
        seen = self.victim.last_packet
        any_seq, tag = (UDP + 8, 3), (UDP + len(ping) - 8, 8)
        hello = t.encode_init(os.urandom(16))
        cookie = t.encode_init(os.urandom(16), node=1, seen=2, cookie=bytes(range(24)), client_id=256)
        return {
            "empty": ("short", self.frame(b""), [(34, 2)]),
            "not Torc's": ("magic", self.frame(b"\x55" + bytes(63)), [(34, 2), (UDP + 1, 63)]),
            "unknown type": ("type", self.frame(b"\x54\x1f" + bytes(62)), [(34, 2)]),
            "another version": (None, self.frame(b"\x54\x20" + bytes(254)), [(34, 2), (UDP + 8, 16)]),
            "another port": ("l4_port", self.frame(ping, to_port=28699), []),
            "no session": (None, self.frame(bytes(unknown)), [any_seq]),
            "another's session": ("address", self.frame(ping, source=self.node.network.host(77)), [any_seq]),
            "forged, 64 B": ("auth_fail", self.frame(ping), [any_seq, tag]),
            "forged, 1400 B": ("auth_fail", self.frame(large), [any_seq, (UDP + 100, 8)]),
            "replayed": ("replay_", self.frame(seen), []),
            "hello": (None, self.frame(hello), [(34, 2), (UDP + 8, 16)]),
            "hello, false cookie": (None, self.frame(cookie), [(34, 2), (UDP + 8, 16), (UDP + 40, 24)]),
        }

    # ---- What it looks at

    def stats(self):
        stats = self.node.admin("stats")
        drops = {row["reason"]: row["packets"] for row in stats["drops"]}
        return stats["workers"], drops

    def resident(self):
        text = pathlib.Path(f"/proc/{self.node.pid('dataplane')}/status").read_text()
        return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS"))) << 10

    def link_bytes(self):
        folder = pathlib.Path(f"/sys/class/net/{self.link}/statistics")
        return int((folder / "tx_bytes").read_text()), int((folder / "rx_bytes").read_text())

    def start(self, frame, varied, milliseconds):
        line = frame.hex() + "".join(f" {at} {count}" for at, count in varied) + "\n"
        flood = subprocess.Popen(on_core(cores()[0], BUILD / "tests/torc-flood", self.link, milliseconds),
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        flood.stdin.write(line)
        flood.stdin.close()
        return flood

    @staticmethod
    def end(flood):
        sent = json.loads(flood.stdout.read())["sent"]
        flood.stdout.close()
        flood.wait(10)
        return sent

    def good(self, *more):
        """A good client's rate; every operation must end well."""
        done = subprocess.run(on_core(cores()[1], BUILD / "perf/torc-perf", "--cluster", self.node.address, "--json",
                                      "--workload", "a", "--records", 10000, "--value-bytes", 32, "--block",
                                      "--warmup", 0, "--seconds", 1, "--timeout-ms", 20000, *more),
                              env=self.node.environment, capture_output=True, text=True, timeout=60, check=False)
        if done.returncode != 0:
            raise RuntimeError(done.stderr)
        return json.loads(done.stdout.splitlines()[-1])


def flood_alone(flooded, name, counter, frame, varied):
    """Counters and bytes while nobody else talks."""
    flooded.victim.ping(b"of before is nothing left?")  # what was sent first is looked at first
    numbers, drops = flooded.stats()
    out, back = flooded.link_bytes()
    resident = flooded.resident()
    sent = flooded.end(flooded.start(frame, varied, ALONE_MS))
    flooded.victim.ping(b"seen all?")
    after, drops_after = flooded.stats()
    out, back = (new - old for new, old in zip(flooded.link_bytes(), (out, back)))
    received = after["torc_rx_packets_total"] - numbers["torc_rx_packets_total"]
    checks.that(f"{name}: the flood arrives", received > 1000, f"{received} of {sent}")
    checks.that(f"{name}: no more bytes come back than were sent", back <= out, f"{back} for {out}")
    if counter is not None:
        risen = {reason: count - drops.get(reason, 0) for reason, count in drops_after.items()
                 if count != drops.get(reason, 0)}
        dropped = sum(count for reason, count in risen.items() if reason.startswith(counter))
        checks.that(f"{name}: dropped as {counter}", dropped >= received * 0.95, f"of {received}: {risen}")
    checks.that(f"{name}: no session was made", after["torc_sessions"] <= numbers["torc_sessions"],
                (numbers["torc_sessions"], after["torc_sessions"]))
    grown = flooded.resident() - resident
    checks.that(f"{name}: no memory is taken", grown < RESIDENT_MAX, f"{grown} bytes")
    return {"received": received, "per_s": round(received * 1000 / ALONE_MS), "bytes_back": round(back / out, 3)}


def flood_beside(flooded, name, frame, varied):
    """A good client's rate beside the flood, and beside the same flood that the bridge drops."""
    rates = []
    for to in (NOBODY, flooded.target_mac):
        flood = flooded.start(to + frame[6:], varied, BESIDE_MS + 500)
        rates.append(flooded.good("--no-load")["ops_per_s"])
        flooded.end(flood)
    checks.that(f"{name}: a good client works beside it", min(rates) > 0, rates)
    return rates


def newcomers(flooded, name, frame, varied):
    """How many packets new clients need for a session while strangers flood what answers strangers."""
    flood = flooded.start(frame, varied, NEWCOMERS_MS)
    end = time.monotonic() + NEWCOMERS_S
    time.sleep(0.2)  # what was saved of the budget is used up
    tries = []
    try:
        while not tries or (len(tries) < NEWCOMERS and time.monotonic() < end):
            with Newcomer(flooded.host, key=flooded.key) as newcomer:
                tries.append(newcomer.tries)
                newcomer.ping(b"in")
        checks.that(f"{name}: the flood lasted as long as they came", flood.poll() is None)
    finally:
        flood.terminate()
        flooded.end(flood)
    checks.that(f"{name}: new clients get in within {TRIES_MAX} packets", max(tries) <= TRIES_MAX, tries)
    return tries


def family(flooded, name, counter, frame, varied):
    row = {"family": name, **flood_alone(flooded, name, counter, frame, varied)}
    pairs = [flood_beside(flooded, name, frame, varied) for _ in range(options.rounds)]
    row["client"] = round(statistics.median(bad / dropped for dropped, bad in pairs), 2)
    row["rates"] = pairs
    if counter is None:  # they are answered, within the budget of strangers
        row["tries"] = newcomers(flooded, name, frame, varied)
    if options.json:
        print(json.dumps(row), flush=True)
    else:
        print(f"{name}: {row['per_s']} packets/s, {row['bytes_back']:.3f} of the bytes come back, a good client keeps "
              f"{row['client']:.2f}" + (f", new ones send {max(row['tries'])} packets" if "tries" in row else ""),
              flush=True)


def main():
    with Node("--keys", 1 << 32, "--durability", "none", "--cores", cores()[2], workers=1) as node:
        flooded = Flooded(node)
        flooded.good()
        families = flooded.families()
        flooded.end(flooded.start(*families["hello"][1:], ALONE_MS))  # all packet buffers were touched
        for name, (counter, frame, varied) in list(families.items())[::3 if QUICK else 1]:
            if not options.families or name in options.families:
                checks.case(family, flooded, name, counter, frame, varied)
        checks.equal("the session that was abused still works", flooded.victim.ping(b"after all"), b"after all")
        flooded.victim.close()
    checks.end()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("families", nargs="*")
    options = parser.parse_args()
    main()
