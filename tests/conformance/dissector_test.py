#!/usr/bin/python3
"""Torc tests: docs/torc.lua shows what is on the wire. Root only.

First the test vectors of docs/PROTOCOL.md, made into a capture file: tshark's text for each must be the one of
dissector.txt (`dissector_test.py --write` makes it anew; look at the difference). Then a live capture of a client at
a real node: every packet must be told, none called damaged, each answer must name its request. Ends with
`N passed, N failed`.
"""
import difflib
import json
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import torc_client as t  # noqa: E402
from node import Checks, Node  # noqa: E402
from vectors_test import document_vectors  # noqa: E402

LUA = ROOT / "docs/torc.lua"
GOLDEN = HERE / "dissector.txt"
FIRST_S = 1790000000
CLIENT, SERVER = ("10.79.0.1", 40000), ("10.79.0.11", 28700)
TO_CLIENT = ("retry", "accept", "refuse", "version", "nosession", "reply-", "packet-get-reply")
checks = Checks()


# ---- Captures

def ipv4_checksum(header):
    total = sum(struct.unpack(f">{len(header) // 2}H", header))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def frame(payload, source, target):
    udp = struct.pack(">HHHH", source[1], target[1], 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0x4000, 64, 17, 0,
                       socket.inet_aton(source[0]), socket.inet_aton(target[0]))
    head = head[:10] + struct.pack(">H", ipv4_checksum(head)) + head[12:]
    return b"\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0" + head + udp


def write_pcap(path, frames):
    """frames: (seconds, microseconds, bytes)."""
    with open(path, "wb") as file:
        file.write(struct.pack("<IHHiIII", 0xa1b2c3d4, 2, 4, 0, 0, 65535, 1))
        for seconds, micros, data in frames:
            file.write(struct.pack("<IIII", seconds, micros, len(data), len(data)) + data)


def tshark(path, *options):
    done = subprocess.run(["tshark", "-X", f"lua_script:{LUA}", "-r", str(path), *options],
                          capture_output=True, text=True, timeout=120)
    trouble = [line for line in done.stderr.splitlines() if "Running as user" not in line]
    checks.that("tshark has no complaint", done.returncode == 0 and not trouble, done.stderr[-500:])
    return done.stdout


# ---- The vectors

def vector_packet(name, data):
    """An operation goes in a packet of its own; what is a packet already stays."""
    if data[0] == 0x54 or name == "version":
        return data
    to_client = name.startswith(TO_CLIENT)
    return t.encode_packet(data, 0x7777777788888888 if to_client else 0x5555555566666666, core=1,
                           index=0x01020304 if to_client else 0x00100007, seq=1, clock=123456,
                           reply_bytes=1472, reply_packets=1, hlc=0, flags=1 if to_client else 0)


def vectors_capture(path):
    frames, micros = [], 0
    for name, text in document_vectors().items():
        data = bytes.fromhex(text)
        if name in ("crc32c", "psk-node", "lane-keys") or (data[0] != 0x54 and len(data) % 8):
            continue
        ways = (SERVER, CLIENT) if name.startswith(TO_CLIENT) else (CLIENT, SERVER)
        micros += 5
        frames.append((FIRST_S, micros, frame(vector_packet(name, data), *ways)))
    write_pcap(path, frames)
    return len(frames)


def shown_text(path):
    text = tshark(path, "-O", "torc", "-V", "-t", "r")
    text = re.sub(r"^(Frame \d+): .*", r"\1", text, flags=re.M)
    return re.sub(r"^(Ethernet II|Internet Protocol Version|User Datagram Protocol|Linux cooked).*\n", "", text,
                  flags=re.M)


def vectors(folder):
    """the vectors of PROTOCOL.md are shown as dissector.txt has them"""
    path = folder / "vectors.pcap"
    count = vectors_capture(path)
    text = shown_text(path)
    if "--write" in sys.argv:
        GOLDEN.write_text(text)
    difference = list(difflib.unified_diff(GOLDEN.read_text().splitlines(), text.splitlines(), "dissector.txt",
                                           "tshark", lineterm="", n=2))
    checks.that("the text is that of dissector.txt", not difference, "\n".join(difference[:40]))
    told = tshark(path, "-Y", "torc").splitlines()
    checks.equal("every vector is told for Torc's", len(told), count)
    damaged = tshark(path, "-Y", "torc.framing || torc.short").splitlines()
    checks.equal("no vector is called damaged", damaged, [])


def damaged(folder):
    """a packet that is cut, or whose operation does not fit, is called damaged and nothing worse"""
    good = bytes.fromhex(document_vectors()["packet-get"])
    long_op = bytearray(good)
    long_op[32 + 2] = 0xff  # the operation's length
    bad = [good[:40], bytes(long_op), bytes.fromhex(document_vectors()["accept"])[:100]]
    path = folder / "damaged.pcap"
    write_pcap(path, [(FIRST_S, i, frame(data, CLIENT, SERVER)) for i, data in enumerate(bad)])
    checks.equal("damaged packets", len(tshark(path, "-Y", "torc.framing || torc.short").splitlines()), len(bad))


# ---- A live capture

class Capture(threading.Thread):
    """What passes an interface of this namespace, UDP at Torc's ports."""

    def __init__(self, link):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.bind((link, 0))
        self.socket.settimeout(0.1)
        self.frames, self.done = [], False

    def run(self):
        while not self.done:
            try:
                data = self.socket.recv(65535)
            except socket.timeout:
                continue
            now = time.time()
            if data[12:14] == b"\x08\0" and data[23] == 17:
                self.frames.append((int(now), int(now % 1 * 1e6), data))

    def close(self):
        time.sleep(0.2)  # what was answered was captured by then
        self.done = True
        self.join()
        self.socket.close()


def live(folder, node, link):
    """a client's packets at a real node are told whole, and each answer names its request"""
    capture = Capture(link)
    capture.start()
    with t.Client(node.network.host(11)) as client:
        for key in range(20):
            client.put(key, b"x" * (key * 40))
        client.put(99, bytes(20000))
        client.get(3)
        client.get(99)
        client.get(1 << 20)
        client.range(0, 100)
        client.count(0, 100)
        client.delete(3)
    capture.close()
    path = folder / "live.pcap"
    write_pcap(path, capture.frames)
    rows = [row.split("\t") for row in tshark(path, "-Y", "torc", "-T", "fields", "-e", "torc.type", "-e",
                                              "torc.op.code", "-e", "torc.op.time", "-e", "torc.op.id").splitlines()]
    checks.equal("every packet is Torc's", len(rows), len(capture.frames))
    checks.equal("none is damaged", tshark(path, "-Y", "torc.framing || torc.short"), "")
    replies = [row for row in rows if row[1] and int(row[1].split(",")[0], 16) >= 0x80]
    checks.that("there are answers", len(replies) > 25, len(replies))
    # A request that was sent again may be answered again: its id has had its answer then.
    answered, strays = set(), []
    for row in replies:
        ids = set(row[3].split(","))
        if not row[2] and not ids <= answered:
            strays.append(row)
        answered |= ids
    checks.equal("answers without a request", strays, [])
    times = [float(number) for row in replies if row[2] for number in row[2].split(",")]
    checks.that("an answer comes after its request", times and min(times) >= 0, times[:5])


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        checks.case(vectors, folder)
        checks.case(damaged, folder)
        with Node("--keys", 1 << 32, "--security", "clear", workers=1) as node:
            links = json.loads(subprocess.run(["ip", "-j", "-4", "route", "get", node.network.host(11)],
                                              capture_output=True, text=True, check=True).stdout)
            checks.case(live, folder, node, links[0]["dev"])
    checks.end()


if __name__ == "__main__":
    main()
