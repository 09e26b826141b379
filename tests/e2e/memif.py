"""Torc tests: a memif client that dies where it is told to, message by message.

    from memif import Client, STEPS

    client = Client("/…/run/memif-0", "connect")  # a process that has come so far, and stays there
    client.kill()

    line = flood("/…/run/memif-0")         # a client that has said much and hears nothing, of this process

The messages are those of DPDK's driver (drivers/net/memif/memif.h, version 2.0): after the server's hello
the client says init, add region, add ring twice, connect, each answered; then packets are in flight.
"""
import array
import mmap
import os
import signal
import socket
import struct
import sys
import traceback

STEPS = ("nothing", "hello", "init", "region", "ring", "rings", "connect", "packets")
MESSAGE_BYTES = 128
ACK, HELLO, INIT, ADD_REGION, ADD_RING, CONNECT, CONNECTED = range(1, 8)
VERSION = 2 << 8
COOKIE = 0x3E31F20
RING_LOG2 = 10
RING_BYTES = 192 + (16 << RING_LOG2)  # cookie, flags, head; tail; descriptors: a cache line each before
BUFFER_BYTES = 2048
FLOOD_MESSAGES = 1500  # a socket's buffer has room for some 300 answers, and as many questions
REGION_BYTES = 2 * RING_BYTES + (2 * BUFFER_BYTES << RING_LOG2)


def _region():
    """Two rings, each with all its buffers: those from the client are full of packets."""
    fd = os.memfd_create("torc-test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, REGION_BYTES)
    memory = mmap.mmap(fd, REGION_BYTES)
    for ring in range(2):
        at = ring * RING_BYTES
        struct.pack_into("<IHH", memory, at, COOKIE, 0, 0)
        for place in range(1 << RING_LOG2):
            buffer = 2 * RING_BYTES + ((ring << RING_LOG2) + place) * BUFFER_BYTES
            struct.pack_into("<HHIII", memory, at + 192 + 16 * place, 0, 0, 64 if ring == 0 else BUFFER_BYTES,
                             buffer, 0)
    return fd, memory


class _Talk:
    """In the client's process. Deaf: it says all without waiting for answers."""

    def __init__(self, path, deaf):
        self.deaf = deaf
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(10)
        self.socket.connect(path)

    def hear(self, kind):
        if not self.deaf:
            message = self.socket.recv(MESSAGE_BYTES)
            if len(message) != MESSAGE_BYTES or message[0] != kind:
                raise ConnectionError(f"{message[:34]} where {kind} was expected")

    def say(self, kind, body, fd=None, answer=ACK):
        message = (struct.pack("<H", kind) + body).ljust(MESSAGE_BYTES, b"\0")
        more = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
        self.socket.sendmsg([message], more)
        self.hear(answer)

    def ring(self, number):
        event = os.eventfd(0)
        self.say(ADD_RING, struct.pack("<HHHIBH", 1 - number, 0, 0, number * RING_BYTES, RING_LOG2, 0), event)
        os.close(event)

    def go(self, to):
        """The steps up to `to`."""
        fd, memory = _region()
        deeds = {
            "nothing": lambda: None,
            "hello": lambda: self.hear(HELLO),
            "init": lambda: self.say(INIT, struct.pack("<HIB", VERSION, 0, 0)),
            "region": lambda: self.say(ADD_REGION, struct.pack("<HQ", 0, REGION_BYTES), fd),
            "ring": lambda: self.ring(0),
            "rings": lambda: self.ring(1),
            "connect": lambda: self.say(CONNECT, b"", answer=CONNECTED),
            # All that a ring holds, both ways.
            "packets": lambda: [struct.pack_into("<H", memory, at + 6, 1 << RING_LOG2) for at in (0, RING_BYTES)],
        }
        for step in STEPS[:STEPS.index(to) + 1]:
            deeds[step]()


def flood(path):
    """A client that says `add ring` again and again and reads no answer; its socket, to be kept."""
    talk = _Talk(path, False)
    talk.go("region")
    talk.deaf = True
    for _ in range(FLOOD_MESSAGES):
        talk.ring(0)
    return talk.socket


class Client:
    """A process that went up to a step; an error when it did not get there."""

    def __init__(self, path, step, deaf=False):
        near, far = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            try:
                near.close()
                talk = _Talk(path, deaf)
                talk.go(step)
                far.send(b"x")
                far.recv(1)  # nothing comes
            except OSError:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(1)
        far.close()
        there = near.recv(1)
        self._line = near
        if there != b"x":
            self.kill()
            raise ConnectionError(f"no memif client that comes to {step}")

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self._line.close()
