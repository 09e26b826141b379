"""Torc tests: a stranger in the middle, who answers for a worker of a node: SHED, as a worker under load does.

A load that makes a worker shed cannot be made to order; one packet that says so can. The node's own answers are taken
for it: header, check and token stay, so the client sees a packet of its session. Only of use to sessions in the clear,
and to nodes of one worker.
"""
import os
import pathlib
import random
import socket
import struct
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "conformance"))
import torc_bytes as t  # noqa: E402  after the path

HEAD = slice(0, 32)
RETRY_US = 500


class Middle:
    """Passes packets on between clients of `address` and the node; so many answers as `left` says become SHED."""

    def __init__(self, node):
        host, port = node.address.rsplit(":", 1)
        self.near, self.far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        # The node tells its port to clients, so the address must differ; at random, for tests that run beside this.
        self.near.bind((f"127.{random.randrange(1, 255)}.{os.getpid() >> 8 & 255}.{os.getpid() & 255}", int(port)))
        self.far.connect((host, int(port)))
        self.address = ":".join(map(str, self.near.getsockname()))
        self.client, self.token, self.requests = None, 0, {}
        self.left, self.shed, self.ended = 0, 0, False
        self.threads = [threading.Thread(target=self._pass, args=way) for way in (
            (self.near, self._from_client), (self.far, self._from_node))]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended = True
        for thread in self.threads:
            thread.join()
        self.near.close()
        self.far.close()

    def _pass(self, sock, take):
        sock.settimeout(0.05)
        while not self.ended:
            try:
                take(*sock.recvfrom(65536))
            except OSError:  # nothing came, or nobody listens
                continue

    def _from_client(self, packet, sender):
        self.client = sender
        if packet[1] & 0xf == t.CLEAR:
            seq, clock = struct.unpack("<QI", packet[8:20])
            self.requests[clock] = seq
        self.far.send(packet)

    def _from_node(self, packet, _):
        if packet[1] & 0xf == t.ACCEPT:
            self.token = t.decode_accept(packet)["to_client"]
        opened = t.decode_packet(packet, self.token)
        if opened is not None and self.left > 0 and opened["clock"] in self.requests:
            if any(reply.opcode & 0x7f in (t.GET, t.PUT) for reply in t.decode_replies(opened["ops"])):
                packet = self._shed(packet, self.requests[opened["clock"]])
                self.left -= 1
                self.shed += 1
        self.near.sendto(packet, self.client)

    def _shed(self, packet, seq):
        shed = struct.pack("<BBHIQII", t.SHED, t.CODES["BUSY"], 24, 0, seq, RETRY_US, RETRY_US // 2)
        packet = packet[HEAD] + shed
        return packet + struct.pack("<IIQ", t.crc32c(packet), 0, self.token)
