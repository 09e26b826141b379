#!/usr/bin/python3
"""Torc tests: the test vectors of docs/PROTOCOL.md. `vectors_test.py [PROGRAM]`

Each is decoded with the client that was written from that document (torc_client.py), or made by it, and must
say what is written here. PROGRAM (else tests/wire-vectors of the build that TORC_BUILD names) prints the same
vectors from the C encoders: both must be equal, so that document, C and Python agree. Ends with `N passed, N failed`.
"""
import os
import pathlib
import re
import subprocess
import sys

import torc_client as t

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TORC_BUILD", ROOT / "build"))
VERSION = 0x65c0a9f3d0000002
STAMP = 0x65c0a9f3d0000001
TEXT = b"forty-two"
RANDOM_A, RANDOM_B = bytes(range(0xa0, 0xb0)), bytes(range(0xb0, 0xc0))
CLUSTER = 0xc1c2c3c4c5c6c7c8


def document_vectors():
    text = (ROOT / "docs/PROTOCOL.md").read_text()
    return {name: "".join(body.split()) for name, body in re.findall(r"```vector (\S+)\n(.*?)```", text, re.S)}


def only_reply(data):
    replies = list(t.decode_replies(data))
    assert len(replies) == 1
    return replies[0]


def reply_of(data, opcode, op_id, status="OK", info=None):
    reply = only_reply(data)
    assert (reply.opcode, reply.op_id, reply.status) == (opcode, op_id, status), vars(reply)
    assert info is None or reply.info == info, vars(reply)
    return reply.body


def chunk_of(data):
    return t.decode_chunk(reply_of(data, 0xa0, 32, info=VERSION))


def expect(wanted, got):
    assert got == wanted, f"{got} != {wanted}"


def subset(wanted, got):
    expect(wanted, {name: got[name] for name in wanted})


def put(**more):
    return dict(op_id=18, key=42, wseq=7, lowest=5, stamp=STAMP, epoch=2, attempt=1, budget=1000000, **more)


# ---- Handshake

def check_init(data):
    subset({"random": RANDOM_A, "node": 0xffffffff, "flags": 0, "suites": 0x80, "lanes": 1}, t.decode_init(data))
    expect(data, t.encode_init(RANDOM_A))


def check_init_cookie(data):
    fields = t.decode_init(data)
    subset({"random": RANDOM_B, "node": 1, "flags": 1, "seen": 2, "client_id": 0x1122334455667700,
            "client_index": 0x01020304, "payload_max": 1472, "agent": b"vectors/1"}, fields)
    expect(data, t.encode_init(RANDOM_B, node=1, seen=2, cookie=fields["cookie"], client_id=0x1122334455667700,
                               client_index=0x01020304, payload_max=1472, agent=b"vectors/1"))


def check_accept(data):
    subset({"session_index": 0x00100007, "cores": 2, "base_port": 28700, "payload_max": 1472, "roles": 7,
            "cluster": CLUSTER, "keys": 1 << 32, "boot": 3, "map_version": 9, "node": 1, "value_max": 1 << 20,
            "packet_ops": 64, "core_ops": 256, "packets": 64, "cursors": 16, "message_window": 16, "idle_s": 600,
            "age_s": 3600, "durability": 0, "deadline_ms": 60000, "message_bytes": 4 << 20, "write_window": 4096,
            "hlc": STAMP, "to_server": 0x5555555566666666, "to_client": 0x7777777788888888, "random": RANDOM_B},
           t.decode_accept(data))


# ---- Sealed handshake: all is made anew from the secrets

KEY = t.Key(7, 1, bytes(range(0x40, 0x60)))
CLIENT_SECRET, SERVER_SECRET = bytes(range(0x60, 0x80)), bytes(range(0x80, 0xa0))


def seal_init(cookie):
    return t.seal_init(RANDOM_B, KEY.of_node(CLUSTER, 1), CLIENT_SECRET, node=1, seen=2, cookie=cookie, principal=7,
                       key=1, client_id=0x1122334455667700, client_index=0x01020304, payload_max=1472,
                       agent=b"vectors/1")


def sealed_session():
    """What the document's INIT and ACCEPT give."""
    document = {name: bytes.fromhex(text) for name, text in document_vectors().items()}
    _, shake = seal_init(t.decode_init(document["init-cookie"])["cookie"])
    return t.decode_accept(document["accept-sealed"], shake)


def check_init_sealed(data):
    packet, _ = seal_init(t.decode_init(data)["cookie"])
    expect(data, packet)
    payload = t.decode_init_payload(t.Responder(KEY.of_node(CLUSTER, 1), data[:64]).open_init(data[64:96], data[96:]))
    expect({"client_id": 0x1122334455667700, "client_index": 0x01020304, "payload_max": 1472, "agent": b"vectors/1"},
           payload)


def check_accept_sealed(data):
    accept = sealed_session()
    same = t.decode_accept(bytes.fromhex(document_vectors()["accept"]))
    for name in ("suite", "suites", "to_server", "to_client"):
        same.pop(name)
    subset({**same, "suite": 1, "suites": 3}, accept)
    document = {name: bytes.fromhex(text) for name, text in document_vectors().items()}
    init = document["init-sealed"]
    responder = t.Responder(KEY.of_node(CLUSTER, 1), init[:64])
    responder.open_init(init[64:96], init[96:])
    public, sealed, pair = responder.accept(
        t.ACCEPT_PAYLOAD.pack(*(accept[name] for name in t.ACCEPT_FIELDS)), SERVER_SECRET)
    expect(data, data[:32] + public + sealed)
    expect(pair, accept["pair"])


def check_lane_keys(data):
    pair = sealed_session()["pair"]
    expect(data, t.lane_key(pair.to_server, 1) + t.lane_key(pair.to_client, 1))


def sealed(check, suite):
    return lambda data: check(data, *sealed_session()["pair"].lane(0, suite))


# ---- Data packets

def check_packet_get(data, to_server=0x5555555566666666, _=None):
    expect(data, t.encode_packet(t.encode_op(t.GET, 16, (42).to_bytes(8, "little"), aux=2), to_server, core=1,
                                 index=0x00100007, seq=1, clock=123456, reply_bytes=1472, reply_packets=1, hlc=STAMP))


def check_packet_reply(data, _=None, to_client=0x7777777788888888):
    opened = t.decode_packet(data, to_client)
    subset({"core": 1, "flags": 1, "index": 0x01020304, "seq": 1, "clock": 123456, "hold": 4321, "hlc": VERSION},
           opened)
    expect(TEXT, reply_of(opened["ops"], 0x90, 16, info=VERSION))
    damaged = bytearray(data)
    damaged[40] ^= 1
    expect(None, t.decode_packet(bytes(damaged), to_client))


# ---- Map

def check_map_entry(data):
    subset({"lo": 0, "hi": 1 << 30, "version": 9, "shard": 0, "epoch": 2, "primary": 0,
            "members": [(1, 1, 1), (2, 255, 2)]}, t.decode_map_entry(only_reply(data)))


def check_node_entry(data):
    address = bytes(10) + b"\xff\xff" + bytes([10, 79, 0, 11])
    expect({"node": 1, "base_port": 28700, "cores": 2, "flags": 0, "addresses": [address]},
           t.decode_node_entry(only_reply(data)))


def key(number):
    return number.to_bytes(8, "little")


# ---- Between nodes: section 13, made anew

HLC_A, HLC_B, HLC_C = 0x65c0a9f3d0000001, 0x65c0a9f3d0000002, 0x65c0a9f3d0000003


def peer(opcode, layout, *fields, aux=9):
    return t.encode_op(opcode, 0, t.struct.pack("<" + layout, *fields), aux=aux)


def peer_append(*records, first=102, count=1):
    return peer(0x41, "IIQQH6x", 6, 5, first, 101, count)[:48] + b"".join(records)


def peer_record(kind, flags, value_bytes, hlc, key_, rest=b""):
    return t.pad8(t.struct.pack("<BBHIQQ", kind, flags, 0, value_bytes, hlc, key_) + rest)


def with_length(operation):
    """The operation with the length it has now, of which the padding is none."""
    return operation[:2] + len(operation).to_bytes(2, "little") + operation[4:]


PUT_OF_CLIENT = peer_record(1, 1, 9, HLC_A, 42, t.struct.pack("<QQII", 0x1122334455667700, 7, 2, 2) + TEXT)
LAST_PART = t.struct.pack("<II", 512, 1) + bytes(range(8))
SNAP = (5, 4, 3, 1, 95)
PEER_CHECKS = {
    "peer-epoch": peer(0x40, "IIQQQQBBB5xQIIQIIQIIQII", 5, 2, 7, 0x0102030405060708, 101, 60, 1, 2, 2,
                       31, 2, 0, 32, 3, 0, 90, 4, 0, 101, 5, 0),
    "peer-append": with_length(peer_append(PUT_OF_CLIENT, peer_record(2, 0, 0, HLC_B, 43), count=2)),
    "peer-append-part": with_length(peer_append(peer_record(1, 2, 520, HLC_B, 43, LAST_PART), first=103)),
    "peer-ack": peer(0x42, "IB3xQQQQ", 5, 2, 32, 103, 102, 1),
    "peer-refuse": peer(0x43, "II", 4, 5),
    "peer-probe": peer(0x44, "II", 5, 2),
    "peer-probe-ack": peer(0x45, "IIQQQB7x", 5, 2, 32, 103, 101, 1),
    "peer-transfer": peer(0x46, "IIQQ", 5, 0, 103, HLC_C),
    "peer-snap-piece": peer(0x47, "B3xIIIQQQQIIII9s", 0, *SNAP, 0, 0, 9, 9, 0, 0, TEXT),
    "peer-snap-end": peer(0x47, "B3xIIIQQQQ", 1, *SNAP, 100, HLC_A),
    "peer-beat": peer(0x50, "QQQQQBB6x", 1000000007, 1790000000000000, 4, HLC_C, (1 << 64) - 1, 2, 2, aux=0),
    "peer-beat-ack": peer(0x51, "QQQIIB7x64s", 1000000007, 4, HLC_C, 9, 6, 2, b"\x05" + bytes(62) + b"\x80", aux=0),
    "peer-claim": peer(0x52, "QQIIIIH6xIIH6x", 3, 4, 2, 0, 9, 5, 0, 10, 0, 511, aux=0),
    "peer-mark": peer(0x48, "B7xQQ", 0, 101, 1000000007),
}

CHECKS = {
    "crc32c": lambda d: expect(int.from_bytes(d, "big"), t.crc32c(b"123456789")),
    "init": check_init,
    "retry": lambda d: subset({"random": RANDOM_A, "node": 1, "suites": 0x80, "versions": 2, "cluster": CLUSTER},
                              t.decode_retry(d)),
    "init-cookie": check_init_cookie,
    "accept": check_accept,
    "refuse": lambda d: subset({"code": 3, "retry_ms": 250, "node": 1, "random": RANDOM_B}, t.decode_refuse(d)),
    "version": lambda d: expect({"versions": 2, "random": RANDOM_B, "node": 1}, t.decode_version(d)),
    "nosession": lambda d: subset({"core": 1, "index": 0x00100007, "seq": 5, "node": 1}, t.decode_nosession(d)),
    "nop": lambda d: expect(d, t.encode_op(t.NOP, 0)),
    "ping": lambda d: expect(d, t.encode_op(t.PING, 1, TEXT)),
    "cancel": lambda d: expect(d, t.encode_op(t.CANCEL, 2, aux=1)),
    "close": lambda d: expect(d, t.encode_op(t.CLOSE, 3)),
    "cookie": lambda d: expect(d, t.encode_op(t.COOKIE, 4, bytes(24))),
    "status": lambda d: expect(d, t.encode_op(t.STATUS, 5, aux=4096)),
    "map": lambda d: expect(d, t.encode_op(t.MAP, 6, key(0) + key(1 << 32), aux=8)),
    "clock": lambda d: expect(d, t.encode_op(t.CLOCK, 7, key(10) + key(20))),
    "get": lambda d: expect(d, t.encode_op(t.GET, 16, key(42), aux=2)),
    "get-at": lambda d: expect(d, t.encode_op(t.GET, 17, key(42) + key(STAMP), aux=2, flags=5)),
    "put": lambda d: expect(d, t.encode_write(t.PUT, **put(value=TEXT))),
    "put-if-version": lambda d: expect(d, t.encode_write(t.PUT, **put(
        value=TEXT, flags=0x10, version=0x65c0a9f3cffff000))),
    "put-fragmented": lambda d: expect(d, t.encode_write(t.PUT, **put(
        value=TEXT[:8], total=20, fragment_bytes=8))),
    "delete": lambda d: expect(d, t.encode_write(t.DELETE, **put(flags=2))),
    "pull": lambda d: expect(d, t.encode_pull(19, 42, VERSION, 3, 1400, 0x0d)),
    "frag": lambda d: expect(d, t.encode_op(t.FRAG, 18, key(42) + TEXT[:4], aux=2)),
    "frag-query": lambda d: expect(d, t.encode_op(t.FRAG_QUERY, 18, key(42) + bytes(32))),
    "range-read": lambda d: expect(d, t.encode_range(t.RANGE_READ, 32, 100, 200, flags=9, limit=10, epoch=2)),
    "range-open": lambda d: expect(d, t.encode_range(t.RANGE_OPEN, 33, 100, 200, flags=9, limit=10, epoch=2,
                                                     credit=4)),
    "range-credit": lambda d: expect(d, t.encode_op(t.RANGE_CREDIT, 33, key(150), aux=8)),
    "range-close": lambda d: expect(d, t.encode_op(t.RANGE_CLOSE, 33)),
    "reply-get": lambda d: expect(TEXT, reply_of(d, 0x90, 16, info=VERSION)),
    "reply-not-found": lambda d: expect(b"", reply_of(d, 0x90, 16, "NOT_FOUND")),
    "reply-partial": lambda d: expect({"total": 1 << 20, "bytes": b"abcd"},
                                      t.decode_partial(reply_of(d, 0x90, 16, "PARTIAL", VERSION))),
    "reply-put": lambda d: expect({"attempt": 1, "value": b""},
                                  t.decode_write_reply(reply_of(d, 0x91, 18, info=VERSION))),
    "reply-condition-failed": lambda d: expect({"attempt": 1, "value": TEXT}, t.decode_write_reply(
        reply_of(d, 0x91, 18, "CONDITION_FAILED", VERSION))),
    "reply-no-space": lambda d: reply_of(d, 0x91, 18, "NO_SPACE", 1000 << 8 | 2),
    "reply-pull": lambda d: expect({"fragment": 3, "bytes": TEXT},
                                   t.decode_pull_reply(reply_of(d, 0x88, 19, info=VERSION))),
    "reply-frag-state": lambda d: expect({"first_missing": 3, "send_limit": 19, "have": {4, 5}},
                                         t.decode_frag_state(reply_of(d, 0x8a, 18))),
    "reply-shed": lambda d: expect({"retry_us": 250, "delay_us": 130},
                                   t.decode_shed(reply_of(d, 0xf0, 0, "BUSY", 5))),
    "reply-unread": lambda d: expect((1 << 63 | 5, 250, 0),
                                     t.struct.unpack("<QII", reply_of(d, 0xf4, 0, "BUSY", 5))),
    "reply-trace": lambda d: expect((100, 2000, 3000, 90000, 95000),
                                    t.struct.unpack("<5I", reply_of(d, 0xf3, 18))),
    "reply-map-entry": check_map_entry,
    "reply-node-entry": check_node_entry,
    "reply-chunk": lambda d: expect(
        {"lo": 100, "hi": 200, "number": 0, "last": True, "count": None,
         "rows": [(101, b"forty", 0, None), (150, b"two", 0, None)]}, chunk_of(d)),
    "reply-chunk-reverse": lambda d: expect([(199, b"fo", 12, None), (101, b"rt", 11, None)], chunk_of(d)["rows"]),
    "reply-chunk-keys": lambda d: expect([(101, None, 0, None), (150, None, 0, None)], chunk_of(d)["rows"]),
    "reply-chunk-reference": lambda d: expect(
        [(101, b"forty", 0, None), (102, None, 0, 100000), (103, b"f", 0, None)], chunk_of(d)["rows"]),
    "reply-count": lambda d: expect(12345, chunk_of(d)["count"]),
    "packet-get": check_packet_get,
    "packet-get-reply": check_packet_reply,
    "psk-node": lambda d: expect(d, KEY.of_node(CLUSTER, 1)),
    "init-sealed": check_init_sealed,
    "accept-sealed": check_accept_sealed,
    "lane-keys": check_lane_keys,
    "packet-get-aes": sealed(check_packet_get, t.AES_256_GCM),
    "packet-get-reply-aes": sealed(check_packet_reply, t.AES_256_GCM),
    "packet-get-chacha": sealed(check_packet_get, t.CHACHA20_POLY1305),
    "packet-get-reply-chacha": sealed(check_packet_reply, t.CHACHA20_POLY1305),
    **{name: lambda d, wanted=wanted: expect(d, wanted) for name, wanted in PEER_CHECKS.items()},
}


def judge(name, document, program):
    if name not in document:
        return "is not in docs/PROTOCOL.md"
    if name not in CHECKS:
        return "has no check here"
    if program.get(name) != document[name]:
        return f"the C encoders say {program.get(name)}"
    try:
        CHECKS[name](bytes.fromhex(document[name]))
    except (AssertionError, ValueError, t.struct.error, t.Damaged) as why:
        return f"{type(why).__name__}: {why}"
    return None


def table_faults(program):
    """Sentences about what the document's tables and the code's tables do not have in common."""
    text = (ROOT / "docs/PROTOCOL.md").read_text()
    code = {"drop": set(), "status": set(), "opcode": set(), "peer": set()}
    for line in run(program, "tables"):
        kind, number, name = line.split(" ", 2)
        code[kind].add((number, name))
    code["drop"].discard(("none", "not dropped"))
    code["status"] = {(number, name) for number, name in code["status"] if int(number, 16) < 0x80}
    written = {
        "drop": set(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.M)),
        "status": set(re.findall(r"\| ([0-9A-F]{2}) \| ([A-Z_]+) \|", text[text.index("**Statuses.**"):text.index("## 13.")])),
        "opcode": set(re.findall(r"^\| ([0-2][0-9A-F]) \| ([A-Z_]+) \|", text[:text.index("**Statuses.**")], re.M)),
        "peer": set(re.findall(r"^\| ([45][0-9A-F]) \| ([A-Z_]+) \|", text[text.index("## 13."):], re.M)),
    }
    client = {(f"{number:02X}", name) for number, name in t.STATUSES.items()}
    for kind, rows in code.items():
        if rows != written[kind]:
            yield f"table of {kind}: only in code {rows - written[kind]}, only in the document {written[kind] - rows}"
    if client != code["status"]:
        yield f"statuses: the client has {client ^ code['status']}"


def run(program, *words):
    return subprocess.run([program, *words], check=True, capture_output=True, text=True).stdout.splitlines()


def main():
    document = document_vectors()
    path = sys.argv[1] if len(sys.argv) > 1 else BUILD / "tests/wire-vectors"
    program = dict(line.split() for line in run(path))
    faults = list(table_faults(path))
    failed = len(faults)
    print("".join(f"not ok {fault}\n" for fault in faults), end="")
    names = sorted({*document, *CHECKS, *program})
    for name in names:
        why = judge(name, document, program)
        if why:
            failed += 1
            print(f"not ok {name}: {why}")
    print(f"{len(names) + 5 - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
