#!/usr/bin/python3
"""Torc tests: keys, the Noise handshake and sealed packets in plain Python, from docs/PROTOCOL.md alone.

    key = Key(principal=7, number=1, psk=bytes(32))
    shake = Initiator(key.of_node(cluster, node), prologue, secret)      # 32 random bytes
    e, sealed = shake.init(payload_1)                                    # 32 and 160 bytes
    payload_2, pair = shake.accept(their_e, their_sealed)                # pair: keys of all lanes
    lane = pair.lane(0, AES_256_GCM)
    packet = lane.to_server.seal(head, plain, core, 0, seq)

`Responder` is the other side: with it the client is tested without a node. The pattern is exactly
Noise_NNpsk0_25519_ChaChaPoly_BLAKE2b (revision 34). X25519 and the two ciphers come from python3-cryptography.
"""
import hashlib
import hmac
import struct
import typing

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NAME = b"Noise_NNpsk0_25519_ChaChaPoly_BLAKE2b"
AES_256_GCM, CHACHA20_POLY1305, CLEAR = 1, 2, 0x80
HASH_BYTES, TAG_BYTES, KEY_BYTES = 64, 16, 32


class Damaged(Exception):
    """A tag that is not right: another key, other bytes before it, or a changed byte."""


def hkdf(chaining_key, material, count):
    """Noise's HKDF: HMAC over BLAKE2b, `count` outputs of 64 bytes."""
    temporary = hmac.digest(chaining_key, material, "blake2b")
    outputs, last = [], b""
    for number in range(1, count + 1):
        last = hmac.digest(temporary, last + bytes([number]), "blake2b")
        outputs.append(last)
    return outputs


def public_of(secret):
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def exchange(secret, public):
    """The shared secret; ValueError for a public key of low order, whose secret would be all zero."""
    return X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))


class Key(typing.NamedTuple):
    """What a client has: who it is, which of that principal's keys, and the key: perhaps that of one node alone."""
    principal: int
    number: int
    psk: bytes
    bound: int | None = None

    def of_node(self, cluster, node):
        """The key for one node: what that node holds of it cannot be used at another."""
        if self.bound is not None:
            return self.psk
        text = b"torc/1 node\0" + struct.pack("<QI", cluster, node)
        return hashlib.blake2b(text, key=self.psk, digest_size=KEY_BYTES).digest()


class Symmetric:
    """Noise's SymmetricState with its CipherState."""

    def __init__(self, prologue, name=NAME):
        self.h = name.ljust(HASH_BYTES, b"\0") if len(name) <= HASH_BYTES else hashlib.blake2b(name).digest()
        self.ck, self.key, self.count = self.h, None, 0
        self.mix_hash(prologue)

    def mix_hash(self, data):
        self.h = hashlib.blake2b(self.h + data).digest()

    def mix_key(self, material):
        self.ck, key = hkdf(self.ck, material, 2)
        self.key, self.count = key[:KEY_BYTES], 0

    def mix_key_and_hash(self, material):
        self.ck, extra, key = hkdf(self.ck, material, 3)
        self.mix_hash(extra)
        self.key, self.count = key[:KEY_BYTES], 0

    def nonce(self):
        self.count += 1
        return struct.pack("<4xQ", self.count - 1)

    def seal(self, plain):
        sealed = ChaCha20Poly1305(self.key).encrypt(self.nonce(), plain, self.h)
        self.mix_hash(sealed)
        return sealed

    def open(self, sealed):
        try:
            plain = ChaCha20Poly1305(self.key).decrypt(self.nonce(), sealed, self.h)
        except InvalidTag as why:
            raise Damaged("a handshake payload") from why
        self.mix_hash(sealed)
        return plain

    def split(self):
        return [key[:KEY_BYTES] for key in hkdf(self.ck, b"", 2)]


class Initiator:
    """The client's side: one object for each INIT that differs, with a secret of its own."""

    def __init__(self, psk, prologue, secret):
        self.state, self.secret = Symmetric(prologue), secret
        self.state.mix_key_and_hash(psk)

    def init(self, payload):
        public = public_of(self.secret)
        self.state.mix_hash(public)
        self.state.mix_key(public)
        return public, self.state.seal(payload)

    def accept(self, their_public, sealed):
        """Payload 2 and the keys; Damaged when the other side has not the same key and the same INIT."""
        state = Symmetric(b"")
        state.__dict__.update(self.state.__dict__)  # a forged ACCEPT leaves ours as it was
        state.mix_hash(their_public)
        state.mix_key(their_public)
        state.mix_key(exchange(self.secret, their_public))
        return state.open(sealed), Pair(*state.split())


class Responder:
    """The server's side."""

    def __init__(self, psk, prologue):
        self.state, self.theirs = Symmetric(prologue), None
        self.state.mix_key_and_hash(psk)

    def open_init(self, public, sealed):
        """Payload 1, before any Diffie-Hellman."""
        self.theirs = public
        self.state.mix_hash(public)
        self.state.mix_key(public)
        return self.state.open(sealed)

    def accept(self, payload, secret):
        public = public_of(secret)
        self.state.mix_hash(public)
        self.state.mix_key(public)
        self.state.mix_key(exchange(secret, self.theirs))
        sealed = self.state.seal(payload)
        return public, sealed, Pair(*self.state.split())


class Pair(typing.NamedTuple):
    """What a handshake ends with: a key for each direction, of which those of the lanes are made."""
    to_server: bytes
    to_client: bytes

    def lane(self, number, suite):
        return Lane(*(Sealer(lane_key(key, number), suite) for key in self))


class Lane(typing.NamedTuple):
    to_server: "Sealer"
    to_client: "Sealer"


def lane_key(key, lane):
    """libsodium's crypto_kdf_derive_from_key: 32 bytes, id = lane, context "torc-dat"."""
    return hashlib.blake2b(b"", key=key, digest_size=KEY_BYTES, salt=struct.pack("<Q8x", lane),
                           person=b"torc-dat".ljust(16, b"\0")).digest()


class Sealer:
    """One direction of one lane."""

    def __init__(self, key, suite):
        self.cipher = {AES_256_GCM: AESGCM, CHACHA20_POLY1305: ChaCha20Poly1305}[suite](key)

    @staticmethod
    def nonce(core, direction, seq):
        return struct.pack("<BBHQ", core, direction, 0, seq)

    def seal(self, head, plain, nonce):
        """The packet: its 24 bytes of header, the rest sealed, the tag."""
        return head + self.cipher.encrypt(nonce, plain, head)

    def open(self, packet, nonce):
        """What was sealed, or None."""
        try:
            return self.cipher.decrypt(nonce, packet[24:], packet[:24])
        except InvalidTag:
            return None
