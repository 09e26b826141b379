"""Torc tests: what the tests of a real node's wire have in common: the node, a good client, strangers, bad packets.

`mode` says whether the node that is being tested takes keys, and which: all clients and strangers made here follow it.
Over IPv4 they take the best suite, over IPv6 ChaCha20-Poly1305, so that both ciphers are met.
"""
import os
import pathlib
import socket
import struct
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import torc_client as t  # noqa: E402
from node import Checks  # noqa: E402

KEYS = 1 << 32
FAR_AHEAD = (time.time_ns() // 1000 + 3600 * 1000000) << 12
checks = Checks()


class Mode:
    """key: None in CLEAR mode."""
    key = None

    def begin(self, node, sealed):
        self.key = None
        if sealed:
            self.key = t.read_key(pathlib.Path(node.data, "local.key").read_text(encoding="ascii"))

    def suites(self, host):
        return None if not self.key else t.CHACHA20_POLY1305 if ":" in host else t.SUITES

    def settings(self, sealed):
        return "--security", "keys" if sealed else "clear"


mode = Mode()


def connect(host, **options):
    """A client of this mode."""
    return t.Client(host, **{"key": mode.key, "suites": mode.suites(host), **options})


def key8(key):
    return struct.pack("<Q", key)


class Setup:
    """The node, and a good client whose session each test may use."""

    def __init__(self, node):
        self.node = node
        self.host4, self.host6 = node.network.host(11), node.network.host6(11)
        self.good = connect(self.host4)

    def sync(self):
        """All cores have seen what was sent before."""
        for core in range(self.good.accept["cores"]):
            self.good.ping(b"still there?", core)

    def drops(self, prefix):
        stats = self.node.admin("stats")
        return sum(row["packets"] for row in stats["drops"] if row["reason"].startswith(prefix))

    def expect_drops(self, sentence, prefix, send, count=1, exact=True):
        before = self.drops(prefix)
        send()
        self.sync()
        seen, end = self.drops(prefix) - before, time.monotonic() + 10
        while seen < count and time.monotonic() < end:  # another flow's ping may overtake between two processors
            time.sleep(0.01)
            seen = self.drops(prefix) - before
        checks.that(f"{sentence}: drop {prefix}", seen == count if exact else seen >= count,
                    f"{seen} of {count}")


class Stranger:
    """A socket without a session."""

    def __init__(self, host, port=28700):
        self.socket = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.to = (host, port)
        self.bytes_out = self.bytes_in = 0
        self.repeated = set()  # random numbers of INITs that were sent again: further answers to them are passed over

    def send(self, packet):
        self.bytes_out += len(packet)
        self.socket.sendto(packet, self.to)

    def answers(self, wait=0.15, count=1 << 30):
        found, end = [], time.monotonic() + wait
        while len(found) < count and (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                packet = self.socket.recv(65535)
            except socket.timeout:
                break
            self.bytes_in += len(packet)
            if packet[8:24] not in self.repeated:
                found.append(packet)
        return found

    def ask(self, packet, wait=10.0):
        """The one answer, or None."""
        self.send(packet)
        found = self.answers(wait, 1)
        return found[0] if found else None

    def cookie(self):
        random = os.urandom(16)
        for tries in range(10):  # the machine may be busy with something else
            answer = self.ask(t.encode_init(random), 1.0)
            if answer is not None:
                if tries > 0:
                    self.repeated.add(random)
                return t.decode_retry(answer)
        raise t.NoAnswer("no RETRY")

    def init(self, retry, key=None, **changes):
        """An INIT with the cookie, of the mode or of this key; psk: another one than the key's for the node."""
        key = key or mode.key
        fields = {"node": retry["node"], "cookie": retry["cookie"], "seen": retry["versions"],
                  "client_id": int.from_bytes(os.urandom(7), "little") << 8, "client_index": 77, "agent": b"stranger"}
        if not key:
            fields.update(changes)
            return t.encode_init(os.urandom(16), **fields)
        fields.update({"principal": key.principal, "key": key.number, **changes})
        psk = fields.pop("psk", key.of_node(retry["cluster"], retry["node"]))
        return t.seal_init(os.urandom(16), psk, os.urandom(32), **fields)[0]


def statuses(replies):
    return [(reply.opcode, reply.status) for reply in replies]


def one(client, op, core=0, **options):
    replies = client.exchange(op, core, **options)
    return replies[0] if replies else t.Reply(0, 0xff, 0, 0, b"")


def replies_of(client, count=1, opcode=None):
    """The replies (of that opcode) to what was sent raw: so many are waited for, and a moment for more."""
    replies, until = [], time.monotonic() + 10
    while (packet := client.next_raw(until)) is not None:
        replies += [reply for reply in client.open(packet) if opcode in (None, reply.opcode)]
        if len(replies) >= count:
            until = min(until, time.monotonic() + 0.3)
    return replies


def place(client, key):
    """The core and the epoch of a key."""
    entry = client.entry_of(key)
    return client.core_of(entry), client.epoch(entry)


def put_op(client, key, value, wseq, **options):
    fields = {"lowest": wseq, "stamp": client.stamp(), "epoch": place(client, key)[1], "attempt": 1}
    fields.update(options)
    return t.encode_write(t.PUT, client.new_op(), key, wseq, fields.pop("lowest"), fields.pop("stamp"),
                          fields.pop("epoch"), fields.pop("attempt"), value, **fields)
