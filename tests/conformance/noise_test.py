#!/usr/bin/python3
"""Torc tests: the Noise handshake of the client that was written from docs/PROTOCOL.md.

Byte by byte what Debian's python3-dissononce says, an implementation that knows nothing of Torc; no changed bit of
either message, of the prologue or of the key is taken; and the client gets a session, and never less than the best
suite, from a node of a few lines. Ends with `N passed, N failed`.
"""
import os
import pathlib
import random
import socket
import struct
import sys
import threading

from dissononce.cipher.chachapoly import ChaChaPolyCipher
from dissononce.dh.x25519.private import PrivateKey
from dissononce.dh.x25519.x25519 import X25519DH
from dissononce.extras.dh.dangerous.dh_nogen import NoGenDH
from dissononce.hash.blake2b import Blake2bHash
from dissononce.processing.handshakepatterns.interactive.NN import NNHandshakePattern
from dissononce.processing.impl.cipherstate import CipherState
from dissononce.processing.impl.handshakestate import HandshakeState
from dissononce.processing.impl.symmetricstate import SymmetricState
from dissononce.processing.modifiers.psk import PSKPatternModifier

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import torc_client as t  # noqa: E402
import torc_noise as n  # noqa: E402
from node import Checks  # noqa: E402

checks = Checks()
SEED = int(os.environ.get("TORC_SEED", "1"))
dice = random.Random(SEED)
LOW_ORDER = [bytes(32), b"\1" + bytes(31),
             bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
             bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")]


def oracle(secret, psk, prologue, *, initiator):
    state = HandshakeState(SymmetricState(CipherState(ChaChaPolyCipher()), Blake2bHash()),
                           NoGenDH(X25519DH(), PrivateKey(secret)))
    state.initialize(PSKPatternModifier(0).modify(NNHandshakePattern()), initiator, prologue, psks=(psk,))
    return state


def damaged(function, *arguments):
    try:
        function(*arguments)
    except (n.Damaged, ValueError):
        return True
    return False


def test_oracle():
    """the transcript is the oracle's"""
    for _ in range(20):
        psk, mine, theirs, prologue = (dice.randbytes(size) for size in (32, 32, 32, 64))
        first, second = dice.randbytes(144), dice.randbytes(160)
        initiator, responder = n.Initiator(psk, prologue, mine), n.Responder(psk, prologue)
        client, server = oracle(mine, psk, prologue, initiator=True), oracle(theirs, psk, prologue, initiator=False)
        out, opened = bytearray(), bytearray()
        client.write_message(first, out)
        e, sealed = initiator.init(first)
        checks.that("message 1", bytes(out) == e + sealed)
        server.read_message(bytes(out), opened)
        checks.that("payload 1 both ways", bytes(opened) == first == responder.open_init(e, sealed))
        out = bytearray()
        to_server, to_client = server.write_message(second, out)
        e, sealed, pair = responder.accept(second, theirs)
        checks.that("message 2", bytes(out) == e + sealed)
        payload, ours = initiator.accept(e, sealed)
        checks.that("payload 2", payload == second and ours == pair)
        for theirs_key, key in ((to_server, pair.to_server), (to_client, pair.to_client)):
            checks.that("the keys", theirs_key.encrypt_with_ad(b"", b"x") ==
                        n.ChaCha20Poly1305(key).encrypt(bytes(12), b"x", b""))


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_flips():
    """no changed bit is taken"""
    psk, mine, theirs, prologue = (dice.randbytes(size) for size in (32, 32, 32, 64))
    initiator, responder = n.Initiator(psk, prologue, mine), n.Responder(psk, prologue)
    e, sealed = initiator.init(bytes(144))
    init = e + sealed
    taken = [bit for bit in range(8 * len(init)) if not damaged(
        n.Responder(psk, prologue).open_init, flipped(init, bit)[:32], flipped(init, bit)[32:])]
    checks.equal("of message 1", taken, [])
    taken = [bit for bit in range(512) if not damaged(n.Responder(psk, flipped(prologue, bit)).open_init, e, sealed)]
    checks.equal("of the prologue", taken, [])
    taken = [bit for bit in range(256) if not damaged(n.Responder(flipped(psk, bit), prologue).open_init, e, sealed)]
    checks.equal("of the key", taken, [])
    responder.open_init(e, sealed)
    e, sealed, _ = responder.accept(bytes(160), theirs)
    answer = e + sealed
    # X25519 takes no notice of the last bit of a public key; the transcript does.
    taken = [bit for bit in range(8 * len(answer)) if not damaged(
        initiator.accept, flipped(answer, bit)[:32], flipped(answer, bit)[32:])]
    checks.equal("of message 2", taken, [])
    checks.that("and what was not changed still is", initiator.accept(e, sealed)[0] == bytes(160))
    for point in LOW_ORDER:
        responder = n.Responder(psk, prologue)
        shake = n.Initiator(psk, prologue, mine)
        shake.state.mix_hash(point)
        shake.state.mix_key(point)
        responder.open_init(point, shake.state.seal(bytes(144)))
        checks.that("a point of low order ends the handshake", damaged(responder.accept, bytes(160), theirs))


# ---- A node of a few lines

class TinyNode(threading.Thread):
    """Answers handshakes with a key, and PING. Its lists are true; `suite` is what it says it chose."""

    def __init__(self, key, *, suite=n.AES_256_GCM, retry_suites=3, wrong_key=False):
        super().__init__(daemon=True)
        self.key, self.suite, self.retry_suites = key, suite, retry_suites
        self.psk = bytes(32) if wrong_key else key.of_node(5, 1)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.offers, self.lanes = set(), None
        self.start()

    def run(self):
        while True:
            packet, source = self.socket.recvfrom(9000)
            if not packet:
                return
            answer = self.answer_init(packet) if packet[1] == 0x10 else self.answer_data(packet)
            if answer:
                self.socket.sendto(answer, source)

    def answer_init(self, packet):
        init = t.decode_init(packet)
        self.offers.add(init["suites"])
        if not init["flags"]:
            return struct.pack("<BBBBHH16sIB3xQ24s", 0x54, 0x11, 0, 0, 64, 2, init["random"], 1, self.retry_suites, 5,
                               b"c" * 24)
        responder = n.Responder(self.psk, packet[:64])
        try:
            payload = t.decode_init_payload(responder.open_init(packet[64:96], packet[96:]))
        except n.Damaged:
            return struct.pack("<BBBBHH16sIHHII", 0x54, 0x13, 0, 0, 40, 2, init["random"], 1, 1, 0, 0, 0)
        fields = dict.fromkeys(t.ACCEPT_FIELDS, 0) | {
            "session_index": 0x100001, "lanes": 1, "suite": self.suite, "cores": 1, "base_port": self.port, "node": 1,
            "payload_max": 1472, "cluster": 5, "keys": 1 << 32, "versions": 2, "suites": 3, "ticket": bytes(24),
            "zero_192": bytes(32)}
        public, sealed, pair = responder.accept(t.ACCEPT_PAYLOAD.pack(*fields.values()), os.urandom(32))
        self.lanes = pair.lane(0, self.suite & 3 or n.AES_256_GCM), payload["client_index"]
        head = struct.pack("<BBBBHH16sII", 0x54, 0x12, 0, 0, 240, 0, init["random"], 1, 0)
        return head + public + sealed

    def answer_data(self, packet):
        lane, index = self.lanes
        opened = t.decode_packet(packet, lane.to_server, t.TO_SERVER)
        if opened is None:
            return None
        ping = opened["ops"]
        reply = bytes([ping[0] | 0x80, 0]) + ping[2:8] + bytes(8) + ping[16:]
        return t.encode_packet(reply, lane.to_client, core=0, index=index, seq=opened["seq"], flags=1,
                               direction=t.TO_CLIENT)

    def close(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
            stop.sendto(b"", ("127.0.0.1", self.port))
        self.join()
        self.socket.close()


def no_session(node, hint, **options):
    """What the client says when it gets none, or None when it got one. Without the hint it asks for longer."""
    said = ""
    for timeout in (0.4, 10):
        try:
            t.Client("127.0.0.1", node.port, timeout=timeout, **options).close()
        except t.NoAnswer as why:
            said = str(why)
        else:
            return None
        if hint in said and node.offers:
            break
    return said


def test_client():
    """the client and a node of a few lines"""
    key = n.Key(7, 1, dice.randbytes(32))
    for suite, offer in ((n.AES_256_GCM, 3), (n.AES_256_GCM, 1), (n.CHACHA20_POLY1305, 2)):
        node = TinyNode(key, suite=suite)
        with t.Client("127.0.0.1", node.port, key=key, suites=offer) as client:
            checks.equal(f"a ping in suite {suite} of offer {offer}", client.ping(b"sealed"), b"sealed")
            checks.equal("which is what stands in ACCEPT", client.accept["suite"], suite)
        node.close()
    for sentence, options, hint in (
            ("less than the best suite", {"suite": n.CHACHA20_POLY1305}, ""),
            ("a suite that was not offered", {"suite": n.CLEAR}, ""),
            ("a node that takes CLEAR only", {"retry_suites": n.CLEAR}, "takes suites 80"),
            ("a node that has another key", {"wrong_key": True}, "'code': 1")):
        node = TinyNode(key, **options)
        said = no_session(node, hint, key=key)
        checks.that(f"{sentence}: no session", said is not None and hint in said, said)
        checks.equal(f"{sentence}: and CLEAR was never offered", node.offers, {3})
        node.close()


if __name__ == "__main__":
    print(f"TORC_SEED={SEED}")
    for test in (test_oracle, test_flips, test_client):
        checks.case(test)
    checks.end()
