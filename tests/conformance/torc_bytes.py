"""Torc tests: the bytes of Torc's protocol in plain Python, written from docs/PROTOCOL.md alone.

Encoders and decoders of packets and operations, each alone: vectors_test.py runs them over the document's test
vectors, torc_client.py makes a client of them. Noise and the ciphers are in torc_noise.py.
"""
import struct

from torc_noise import AES_256_GCM, CHACHA20_POLY1305, Damaged, Initiator, Sealer

MAGIC = 0x54
INIT, RETRY, ACCEPT, REFUSE, NOSESSION, VERSION, DATA, CLEAR = 0, 1, 2, 3, 4, 5, 8, 9
SUITES = AES_256_GCM | CHACHA20_POLY1305
SUITE_CLEAR = 0x80
NOP, PING, CANCEL, CLOSE, COOKIE, STATUS, MAP, CLOCK, PULL, FRAG, FRAG_QUERY = range(0x0b)
GET, PUT, DELETE = 0x10, 0x11, 0x12
RANGE_READ, RANGE_OPEN, RANGE_CREDIT, RANGE_CLOSE = 0x20, 0x21, 0x22, 0x23
SHED, MAP_ENTRY, NODE_ENTRY, TRACE = 0xf0, 0xf1, 0xf2, 0xf3

STATUSES = {
    0x00: "OK", 0x01: "NOT_FOUND", 0x02: "PARTIAL", 0x03: "CONDITION_FAILED", 0x10: "INVALID_ARGUMENT",
    0x11: "FORBIDDEN", 0x12: "TOO_LARGE", 0x13: "UNSUPPORTED", 0x14: "BAD_PACKET", 0x15: "SNAPSHOT_TOO_OLD",
    0x16: "DEADLINE", 0x17: "CANCELLED", 0x18: "EXPIRED", 0x20: "WRONG_SHARD", 0x21: "BUSY", 0x22: "UNAVAILABLE",
    0x23: "NO_SPACE", 0x24: "TOO_STALE", 0x25: "NO_CURSOR", 0x26: "NO_MESSAGE", 0x27: "VERSION_GONE",
    0x28: "LIMIT", 0x29: "TAKING_OVER", 0x2a: "CLOCK_AHEAD", 0x40: "SEQ_OLD", 0x41: "INTERNAL",
    0x60: "IN_DOUBT", 0x61: "PENDING"}
CODES = {name: code for code, name in STATUSES.items()}


class TorcError(Exception):
    """An answer that is not OK. `status` is its name."""

    def __init__(self, status, info=0, text=""):
        super().__init__(f"{status} info {info} {text}".strip())
        self.status, self.info, self.text = status, info, text


class NoAnswer(Exception):
    pass


# ---- Bytes: checks

def crc_table():
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82f63b78 if byte & 1 else 0)
        yield byte


CRC_TABLE = tuple(crc_table())


def crc32c(data):
    crc = 0xffffffff
    table = CRC_TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xff] ^ crc >> 8
    return crc ^ 0xffffffff


def pad8(data):
    return data + bytes(-len(data) % 8)


# ---- Bytes: handshake

INIT_HEAD = struct.Struct("<BBBBHH16sIIBBBBHH24s")
INIT_PAYLOAD = struct.Struct("<QIHHQQ16s32s64s")
ACCEPT_PAYLOAD = struct.Struct("<IBBHHHIQQQQQIIHHHHHHHBBHBBI24sIIQ32s")
ACCEPT_FIELDS = (
    "session_index lanes suite cores base_port payload_max roles cluster keys boot map_version features node "
    "value_max packet_ops core_ops packets cursors message_window idle_s age_s durability zero_143 versions suites "
    "zero_147 deadline_ms ticket message_bytes write_window hlc zero_192").split()


def encode_init_head(random, *, core=0, node=0xffffffff, lanes=1, seen=0, cookie=None, suites=SUITE_CLEAR, versions=2,
                     principal=0, key=0):
    """Bytes 0 to 64: of a sealed INIT, the prologue of the handshake."""
    return INIT_HEAD.pack(MAGIC, 1 << 4 | INIT, core, 1 if cookie else 0, 256, versions, random, node, principal, key,
                          suites, lanes, 1, seen, 0, cookie or bytes(24))


def encode_init_payload(*, client_id=0, client_index=0, payload_max=1472, agent=b""):
    return INIT_PAYLOAD.pack(client_id, client_index, payload_max, 0, 0, 0, bytes(16), agent, bytes(64))


PAYLOAD_FIELDS = ("client_id", "client_index", "payload_max", "agent")


def init_parts(random, fields):
    payload = {name: fields.pop(name) for name in PAYLOAD_FIELDS if name in fields}
    return encode_init_head(random, **fields), payload


def encode_init(random, **fields):
    """Without a cookie, or of CLEAR."""
    head, payload = init_parts(random, fields)
    if not fields.get("cookie"):
        return head + bytes(256 - len(head))
    packet = head + bytes(32) + encode_init_payload(**payload)
    return packet + struct.pack("<I", crc32c(packet)) + bytes(12)


def seal_init(random, psk, secret, **fields):
    """With a cookie, of a client that has a key; psk: that of the node. The packet, and the handshake."""
    head, payload = init_parts(random, {"suites": SUITES, **fields})
    shake = Initiator(psk, head, secret)
    public, sealed = shake.init(encode_init_payload(**payload))
    return head + public + sealed, shake


def decode_init(packet):
    fields = dict(zip("magic type core flags length versions random node principal key suites lanes pattern seen zero "
                      "cookie".split(), INIT_HEAD.unpack(packet[:64])))
    assert len(packet) == 256 and fields["magic"] == MAGIC and fields["type"] == 0x10 and fields["length"] == 256
    if not fields["flags"] & 1:
        assert not any(packet[40:])
    elif fields["suites"] == SUITE_CLEAR:
        assert struct.unpack("<I", packet[240:244])[0] == crc32c(packet[:240]) and not any(packet[244:])
        fields.update(decode_init_payload(packet[96:240]))
    return fields


def decode_init_payload(payload):
    fields = INIT_PAYLOAD.unpack(payload)
    return dict(zip(PAYLOAD_FIELDS, (fields[0], fields[1], fields[2], fields[7].rstrip(b"\0"))))


def decode_retry(packet):
    magic, kind, core, _, length, versions, random, node, suites, _, cluster, cookie = struct.unpack(
        "<BBBBHH16sIB3sQ24s", packet)
    assert magic == MAGIC and kind == 0x11 and length == 64
    return {"core": core, "versions": versions, "random": random, "node": node, "suites": suites,
            "cluster": cluster, "cookie": cookie}


def decode_accept(packet, shake=None):
    """shake: what seal_init gave. The tokens of CLEAR, or lane 0's sealers, are to_server and to_client."""
    assert len(packet) == 240 and packet[0] == MAGIC and packet[1] == 0x12
    core, length, random, node = struct.unpack("<2xBxH2x16sI4x", packet[:32])
    assert length == 240
    head = {"core": core, "random": random}
    if shake is None:
        assert struct.unpack("<I", packet[224:228])[0] == crc32c(packet[:224]) and not any(packet[228:])
        payload = packet[64:224]
        head["to_server"], head["to_client"] = struct.unpack("<QQ", packet[32:48])
    else:
        payload, head["pair"] = shake.accept(packet[32:64], packet[64:])
    accept = dict(zip(ACCEPT_FIELDS, ACCEPT_PAYLOAD.unpack(payload)))
    assert accept["node"] == node
    assert (accept["suite"] == SUITE_CLEAR) == (shake is None)
    accept.update(head)
    if shake is not None:
        accept["to_server"], accept["to_client"] = head["pair"].lane(0, accept["suite"])
    return accept


def decode_refuse(packet):
    magic, kind, core, _, length, versions, random, node, code, _, retry_ms, _ = struct.unpack(
        "<BBBBHH16sIHHII", packet)
    assert magic == MAGIC and kind == 0x13 and length == 40
    return {"core": core, "versions": versions, "random": random, "node": node, "code": code, "retry_ms": retry_ms}


def decode_version(packet):
    magic, kind, versions, _, random, node, _ = struct.unpack("<BBHI16sII", packet)
    assert magic == MAGIC and kind == 5
    return {"versions": versions, "random": random, "node": node}


def decode_nosession(packet):
    magic, kind, core, _, index, seq, node, _, cookie = struct.unpack("<BBBBIQII24s", packet)
    assert magic == MAGIC and kind == 0x14
    return {"core": core, "index": index, "seq": seq, "node": node, "cookie": cookie}


def unless_damaged(decode, packet, *more):
    """The packet, or None: from the network anything may come."""
    try:
        return decode(packet, *more)
    except (AssertionError, ValueError, KeyError, struct.error, Damaged):
        return None


# ---- Bytes: data packets

TO_SERVER, TO_CLIENT = 0, 1


def encode_packet(ops, token, *, core, index, seq, clock=0, reply_bytes=1472, reply_packets=1, hlc=0, flags=0,
                  kind=None, direction=TO_SERVER):
    """token: the token of CLEAR, or the Sealer of this direction."""
    sealed = isinstance(token, Sealer)
    kind = kind or 0x10 | (DATA if sealed else CLEAR)
    head = struct.pack("<BBBBIQIHH", MAGIC, kind, core, flags, index, seq, clock & 0xffffffff, reply_bytes,
                       reply_packets)
    plain = struct.pack("<Q", hlc) + ops
    if sealed:
        return token.seal(head, plain, token.nonce(core, direction, seq))
    packet = head + plain
    return packet + struct.pack("<IIQ", crc32c(packet), 0, token)


def decode_packet(packet, token, direction=TO_CLIENT):
    """A reply's header and its operations; None when it is not whole or not of this session."""
    sealed = isinstance(token, Sealer)
    if len(packet) < 64 or packet[0] != MAGIC or packet[1] != 0x10 | (DATA if sealed else CLEAR):
        return None
    core, flags, index, seq, clock, hold = struct.unpack("<2xBBIQII", packet[:24])
    if sealed:
        plain = token.open(packet, token.nonce(core, direction, seq))
        if plain is None:
            return None
    else:
        crc, zero, its_token = struct.unpack("<IIQ", packet[-16:])
        if crc != crc32c(packet[:-16]) or zero != 0 or its_token != token:
            return None
        plain = packet[24:-16]
    return {"core": core, "flags": flags, "index": index, "seq": seq, "clock": clock, "hold": hold,
            "hlc": struct.unpack_from("<Q", plain)[0], "ops": plain[8:]}


# ---- Bytes: operations

def encode_op(opcode, op_id, body=b"", *, flags=0, budget=0, aux=0):
    return pad8(struct.pack("<BBHIII", opcode, flags, 16 + len(body), op_id, budget, aux) + body)


def encode_write(opcode, op_id, key, wseq, lowest, stamp, epoch, attempt, value=b"", *, flags=0, version=None,
                 total=None, fragment_bytes=0, budget=0):
    body = struct.pack("<QQQIB3x", key, wseq, stamp, epoch, attempt & 0xff)
    if version is not None:
        flags |= 4
        body += struct.pack("<Q", version)
    if total is not None:
        flags |= 8
        body += struct.pack("<IHH", total, fragment_bytes, 0)
    return encode_op(opcode, op_id, body + value, flags=flags, budget=budget, aux=wseq - lowest)


def encode_range(opcode, op_id, lo, hi, *, flags=0, ts=0, limit=0, epoch=0, max_age_ms=0, credit=0, budget=0):
    body = struct.pack("<QQQQII", lo, hi, ts, limit, epoch, max_age_ms)
    return encode_op(opcode, op_id, body, flags=flags, aux=credit, budget=budget)


def encode_pull(op_id, key, version, first, size, bitmap):
    return encode_op(PULL, op_id, struct.pack("<QQIHHQ", key, version, first, size, 0, bitmap))


class Reply:
    def __init__(self, opcode, status, op_id, info, body):
        self.opcode, self.op_id, self.info, self.body = opcode, op_id, info, body
        self.code = status
        self.status = STATUSES.get(status, f"{status:02x}")

    def text(self):
        return self.body.decode(errors="replace")


def decode_replies(ops):
    at = 0
    while at + 16 <= len(ops):
        opcode, status, length, op_id, info = struct.unpack_from("<BBHIQ", ops, at)
        if length < 16 or length > len(ops) - at or not opcode & 0x80:
            return
        yield Reply(opcode, status, op_id, info, ops[at + 16:at + length])
        at += length + -length % 8


def decode_write_reply(body):
    return {"attempt": body[0], "value": body[8:]}


def decode_partial(body):
    return {"total": struct.unpack_from("<I", body)[0], "bytes": body[4:]}


def decode_pull_reply(body):
    return {"fragment": struct.unpack_from("<I", body)[0], "bytes": body[8:]}


def decode_frag_state(body):
    first, limit = struct.unpack_from("<II", body)
    bits = int.from_bytes(body[8:40], "little")
    return {"first_missing": first, "send_limit": limit, "have": {first + i for i in range(256) if bits >> i & 1}}


def decode_shed(body):
    return dict(zip(("retry_us", "delay_us"), struct.unpack_from("<II", body)))


def decode_map_entry(reply):
    lo, hi, shard, epoch, count, primary = struct.unpack_from("<QQIIBB", reply.body)
    members = [struct.unpack_from("<IBBxx", reply.body, 32 + 8 * i) for i in range(count)]
    return {"lo": lo, "hi": hi, "shard": shard, "epoch": epoch, "version": reply.info, "primary": primary,
            "members": members}


def decode_node_entry(reply):
    node, base_port, cores, flags = struct.unpack_from("<IHBB", reply.body)
    addresses = [reply.body[at:at + 16] for at in range(8, len(reply.body) - 15, 16)]
    return {"node": node, "base_port": base_port, "cores": cores, "flags": flags, "addresses": addresses}


def decode_chunk(body):
    """The cover, and rows as (key, value or None, version or 0, length when by reference or None)."""
    lo, hi, number, count, encoding, flags, base = struct.unpack_from("<QQIHBBQ", body)
    chunk = {"lo": lo, "hi": hi, "number": number, "last": bool(flags & 1), "rows": [], "count": None}
    if encoding & 0x20:
        chunk["count"] = struct.unpack_from("<Q", body, 32)[0]
        return chunk
    width = 2 << (encoding & 3)
    at = 32
    keys = [base + int.from_bytes(body[at + i * width:at + (i + 1) * width], "little") for i in range(count)]
    at += count * width
    spans = [None] * count
    if not encoding & 8:
        if encoding & 4:
            same = struct.unpack_from("<I", body, at)[0]
            at += 4
            spans = [(i * same, (i + 1) * same, False) for i in range(count)]
        else:
            ends = struct.unpack_from(f"<{count}I", body, at)
            at += 4 * count
            starts = [0, *(end & 0x7fffffff for end in ends)]
            spans = [(starts[i], ends[i] & 0x7fffffff, bool(ends[i] >> 31)) for i in range(count)]
    versions = [0] * count
    if encoding & 0x10:
        versions = struct.unpack_from(f"<{count}Q", body, at)
        at += 8 * count
    for key, span, version in zip(keys, spans, versions):
        value = None if span is None else body[at + span[0]:at + span[1]]
        reference = None
        if span and span[2]:
            reference, value = struct.unpack("<I", value)[0], None
        chunk["rows"].append((key, value, version, reference))
    return chunk
