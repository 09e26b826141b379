#!/usr/bin/python3
"""Torc tests: a client of Torc's protocol in plain Python, written from docs/PROTOCOL.md alone.

    with Client("10.79.0.11") as client:
        version = client.put(42, b"forty-two")
        version, value = client.get(42)
        rows = client.range(0, 100)

Nothing of Torc's C code is used, so that the document is proved to say enough. One packet is in flight at a
time, except the fragments of large values. The encoders and decoders at the top stand alone: vectors_test.py
runs them over the document's test vectors.
"""
import os
import socket
import struct
import time

MAGIC = 0x54
INIT, RETRY, ACCEPT, REFUSE, NOSESSION, VERSION, CLEAR = 0, 1, 2, 3, 4, 5, 9
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

INIT_HEAD = struct.Struct("<BBBBHH16sIIBBBBHH24s32s")
INIT_PAYLOAD = struct.Struct("<QIHHQQ16s32s64s")
ACCEPT_PAYLOAD = struct.Struct("<IBBHHHIQQQQQIIHHHHHHHBBHBBI24sIIQ32s")
ACCEPT_FIELDS = (
    "session_index lanes suite cores base_port payload_max roles cluster keys boot map_version features node "
    "value_max packet_ops core_ops packets cursors message_window idle_s age_s durability zero_143 versions suites "
    "zero_147 deadline_ms ticket message_bytes write_window hlc zero_192").split()


def encode_init(random, *, core=0, node=0xffffffff, lanes=1, seen=0, cookie=None, client_id=0, client_index=0,
                payload_max=1472, agent=b"", suites=0x80, versions=2, principal=0):
    head = INIT_HEAD.pack(MAGIC, 1 << 4 | INIT, core, 1 if cookie else 0, 256, versions, random, node, principal, 0,
                          suites, lanes, 1, seen, 0, cookie or bytes(24), bytes(32))
    if not cookie:
        return head + bytes(256 - len(head))
    packet = head + INIT_PAYLOAD.pack(client_id, client_index, payload_max, 0, 0, 0, bytes(16), agent, bytes(64))
    return packet + struct.pack("<I", crc32c(packet)) + bytes(12)


def decode_init(packet):
    fields = dict(zip("magic type core flags length versions random node principal key suites lanes pattern seen zero "
                      "cookie ephemeral".split(), INIT_HEAD.unpack(packet[:96])))
    assert len(packet) == 256 and fields["magic"] == MAGIC and fields["type"] == 0x10 and fields["length"] == 256
    if fields["flags"] & 1:
        assert struct.unpack("<I", packet[240:244])[0] == crc32c(packet[:240]) and not any(packet[244:])
        payload = INIT_PAYLOAD.unpack(packet[96:240])
        fields.update(client_id=payload[0], client_index=payload[1], payload_max=payload[2],
                      agent=payload[7].rstrip(b"\0"))
    else:
        assert not any(packet[40:])
    return fields


def decode_retry(packet):
    magic, kind, core, _, length, versions, random, node, suites, _, cluster, cookie = struct.unpack(
        "<BBBBHH16sIB3sQ24s", packet)
    assert magic == MAGIC and kind == 0x11 and length == 64
    return {"core": core, "versions": versions, "random": random, "node": node, "suites": suites,
            "cluster": cluster, "cookie": cookie}


def decode_accept(packet):
    assert len(packet) == 240 and packet[0] == MAGIC and packet[1] == 0x12
    assert struct.unpack("<I", packet[224:228])[0] == crc32c(packet[:224]) and not any(packet[228:])
    core, length, random, node, to_server, to_client = struct.unpack("<2xBxH2x16sI4xQQ", packet[:48])
    assert length == 240
    accept = dict(zip(ACCEPT_FIELDS, ACCEPT_PAYLOAD.unpack(packet[64:224])))
    assert accept["node"] == node and accept["suite"] == 0x80
    accept.update(core=core, random=random, to_server=to_server, to_client=to_client)
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


def unless_damaged(decode, packet):
    """The packet, or None: from the network anything may come."""
    try:
        return decode(packet)
    except (AssertionError, struct.error):
        return None


# ---- Bytes: data packets

def encode_packet(ops, token, *, core, index, seq, clock=0, reply_bytes=1472, reply_packets=1, hlc=0, flags=0,
                  kind=0x10 | CLEAR):
    packet = struct.pack("<BBBBIQIHHQ", MAGIC, kind, core, flags, index, seq, clock & 0xffffffff, reply_bytes,
                         reply_packets, hlc) + ops
    return packet + struct.pack("<IIQ", crc32c(packet), 0, token)


def decode_packet(packet, token):
    """A reply's header and its operations; None when it is not whole or not of this session."""
    if len(packet) < 64 or packet[0] != MAGIC or packet[1] != 0x19:
        return None
    core, flags, index, seq, clock, hold, hlc = struct.unpack("<2xBBIQIIQ", packet[:32])
    crc, zero, its_token = struct.unpack("<IIQ", packet[-16:])
    if crc != crc32c(packet[:-16]) or zero != 0 or its_token != token:
        return None
    return {"core": core, "flags": flags, "index": index, "seq": seq, "clock": clock, "hold": hold, "hlc": hlc,
            "ops": packet[32:-16]}


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


# ---- The client

class Client:
    def __init__(self, host, base_port=28700, *, timeout=5.0, payload=1400, lanes=1, node=0xffffffff, client_id=None,
                 source=None):
        self.host, self.base_port, self.timeout, self.payload = host, base_port, timeout, payload
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(self.family, socket.SOCK_DGRAM)
        self.socket.bind((source or ("::" if self.family == socket.AF_INET6 else "0.0.0.0"), 0))
        self.client_id = client_id or int.from_bytes(os.urandom(7), "little") << 8
        self.client_index = int.from_bytes(os.urandom(4), "little") >> 1
        self.lanes, self.node_wanted = lanes, node
        self.op_id = 1
        self.repeated = set()  # operations that were sent more than once
        self.wseq = 0
        self.hlc = 0
        self.entries = []
        self.nodes = {}
        self.longest_sent = self.longest_received = 0
        self.packets_ignored = 0
        self.last_packet = b""
        self.handshake()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # ---- Packets

    def send_raw(self, packet, core=0):
        self.longest_sent = max(self.longest_sent, len(packet))
        self.socket.sendto(packet, (self.host, self.base_port + core))

    def receive_raw(self, until):
        left = until - time.monotonic()
        if left <= 0:
            return None
        self.socket.settimeout(left)
        try:
            packet = self.socket.recv(65535)
        except socket.timeout:
            return None
        self.longest_received = max(self.longest_received, len(packet))
        return packet

    def handshake(self, cookie=None):
        """A new session; the sequence numbers of packets begin anew, those of writes go on."""
        until = time.monotonic() + self.timeout
        pause, tries, last_hint = 0.02, 0, ""
        packet, random, node = self.new_init(cookie)
        while time.monotonic() < until:
            self.send_raw(packet)
            wait = min(until, time.monotonic() + pause)
            while (answer := self.receive_raw(wait)) is not None:
                if len(answer) == 64 and answer[1] == 0x11:
                    retry = unless_damaged(decode_retry, answer)
                    if retry and retry["random"] == random and self.node_wanted in (0xffffffff, retry["node"]):
                        packet, random, node = self.new_init(retry["cookie"], retry["node"], retry["versions"])
                        self.send_raw(packet)
                        tries = 0
                elif len(answer) == 240 and answer[1] == 0x12:
                    accept = unless_damaged(decode_accept, answer)
                    if accept and accept["random"] == random and accept["node"] == node:
                        self.begin_session(accept)
                        return
                elif len(answer) == 40 and answer[1] == 0x13:
                    last_hint = str(unless_damaged(decode_refuse, answer))
            pause, tries = min(1.0, pause * 2), tries + 1
            if tries == 3:  # perhaps a hint was false: from the start
                packet, random, node = self.new_init(None)
                tries = 0
        raise NoAnswer(f"no session with {self.host}:{self.base_port} {last_hint}")

    def new_init(self, cookie, node=None, seen=0):
        """The packet, its random, and the node that it wants."""
        random = os.urandom(16)
        node = node if node is not None else self.accept["node"] if cookie else self.node_wanted
        return encode_init(random, node=node, cookie=cookie, seen=seen, lanes=self.lanes, client_id=self.client_id,
                           client_index=self.client_index, payload_max=9000, agent=b"python conformance"), random, node

    def begin_session(self, accept):
        self.accept = accept
        self.seq = [0] * accept["cores"]
        self.seen = [set() for _ in range(accept["cores"])]
        self.hlc = max(self.hlc, accept["hlc"])

    def seal(self, ops, core, *, reply_packets=1, reply_bytes=None, **changes):
        self.seq[core] += 1
        fields = {"core": core, "index": self.accept["session_index"], "seq": self.seq[core],
                  "clock": time.monotonic_ns() // 1000, "reply_bytes": reply_bytes or max(1200, self.payload),
                  "reply_packets": reply_packets, "hlc": self.hlc}
        token = changes.pop("token", self.accept["to_server"])
        fields["core"] = changes.pop("header_core", core)
        fields.update(changes)
        self.last_packet = encode_packet(ops, token, **fields)
        return self.last_packet

    def open(self, packet):
        """The replies of a packet, [] when it is not for us; makes a new session after NOSESSION."""
        if len(packet) == 48 and packet[1] == 0x14:
            hint = unless_damaged(decode_nosession, packet)
            if hint and hint["index"] == self.accept["session_index"] and hint["seq"] <= max(self.seq):
                self.handshake(hint["cookie"])
            return []
        opened = decode_packet(packet, self.accept["to_client"])
        if (opened is None or opened["index"] != self.client_index or not opened["flags"] & 1
                or opened["core"] >= self.accept["cores"] or opened["seq"] in self.seen[opened["core"]]):
            self.packets_ignored += 1
            return []
        self.seen[opened["core"]].add(opened["seq"])
        self.hlc = max(self.hlc, opened["hlc"])
        return list(decode_replies(opened["ops"]))

    def replies_until(self, until):
        while (packet := self.receive_raw(until)) is not None:
            yield from self.open(packet)

    def new_op(self):
        self.op_id += 1
        return self.op_id

    def exchange(self, ops, core=0, *, count=1, reply_packets=1, timeout=1.0):
        """Sends one packet once and returns the replies that come, at most `count`: for tests.

        Late ones to a repetition by `call` are none of them.
        """
        self.send_raw(self.seal(ops, core, reply_packets=reply_packets), core)
        replies = []
        for reply in self.replies_until(time.monotonic() + timeout):
            if reply.op_id in self.repeated:
                continue
            replies.append(reply)
            if len(replies) >= count:
                break
        return replies

    # ---- One operation, repeated until it is answered

    def call(self, make, key=0, *, wanted=(), core=None, reply_packets=1):
        """make(op_id, attempt, entry) -> bytes. The final reply and the others that came with its id."""
        op_id = self.new_op()
        until = time.monotonic() + self.timeout
        attempt, pause, last = 0, 0.02, None
        while time.monotonic() < until:
            entry = self.entry_of(key) if core is None else None
            attempt += 1
            if attempt == 2:
                self.repeated.add(op_id)
            where = core if core is not None else self.core_of(entry)
            self.send_raw(self.seal(make(op_id, attempt, entry), where, reply_packets=reply_packets), where)
            reply, others = self.wait_reply(op_id, min(until, time.monotonic() + pause))
            pause = min(1.0, pause * 2)
            if reply is None:
                continue
            last = reply
            if reply.code & 0x20 and reply.status not in wanted:
                self.pause_for(reply)
                continue
            return reply, others
        raise NoAnswer(f"no answer in {self.timeout} s, last {last and last.status}")

    def wait_reply(self, op_id, until):
        others = []
        for reply in self.replies_until(until):
            if reply.opcode in (MAP_ENTRY, NODE_ENTRY):
                self.learn(reply)
                others.append(reply)
            elif reply.opcode == SHED:
                shed = decode_shed(reply.body)
                if reply.status == "BAD_PACKET":
                    raise TorcError("BAD_PACKET", reply.info, f"at offset {shed['retry_us']}")
                time.sleep(shed["retry_us"] / 1e6)
                return None, others
            elif reply.op_id == op_id and reply.opcode != TRACE:
                # The right entry comes behind WRONG_SHARD, perhaps in the same packet: already learnt next time.
                if reply.status == "WRONG_SHARD":
                    self.drain()
                return reply, others
        return None, others

    def drain(self):
        for reply in self.replies_until(time.monotonic() + 0.001):
            if reply.opcode in (MAP_ENTRY, NODE_ENTRY):
                self.learn(reply)

    def pause_for(self, reply):
        if reply.status == "WRONG_SHARD":
            self.refresh_map()
        elif reply.status in ("BUSY", "PENDING", "TAKING_OVER"):
            time.sleep(min(0.2, max(0.001, reply.info / 1e6)))
        elif reply.status in ("UNAVAILABLE", "NO_SPACE"):
            time.sleep(min(0.2, max(0.001, (reply.info >> 8) / 1e6)))
        else:
            time.sleep(0.001)

    # ---- Map

    def learn(self, reply):
        if reply.opcode == NODE_ENTRY:
            node = decode_node_entry(reply)
            self.nodes[node["node"]] = node
            return
        new = decode_map_entry(reply)
        rank = (new["version"], new["epoch"])
        kept = []
        for old in self.entries:
            if old["hi"] <= new["lo"] or old["lo"] >= new["hi"] or (old["version"], old["epoch"]) > rank:
                kept.append(old)
                continue
            if old["lo"] < new["lo"]:
                kept.append({**old, "hi": new["lo"]})
            if old["hi"] > new["hi"]:
                kept.append({**old, "lo": new["hi"]})
        self.entries = sorted([*kept, new], key=lambda entry: entry["lo"])

    def refresh_map(self):
        at, keys = 0, self.accept["keys"]
        while at < keys:
            reply, _ = self.call(lambda op_id, *_, at=at: encode_op(MAP, op_id, struct.pack("<QQ", at, keys)), core=0)
            if reply.status != "OK":
                raise TorcError(reply.status, reply.info, reply.text())
            following = struct.unpack_from("<Q", reply.body)[0]
            if following <= at:
                raise TorcError("INTERNAL", following, "the map's next key does not move")
            at = following
        return self.entries

    def entry_of(self, key):
        for _ in range(2):
            for entry in self.entries:
                if entry["lo"] <= key < entry["hi"]:
                    return entry
            if key >= self.accept["keys"]:
                return None
            self.refresh_map()
        return None

    def core_of(self, entry):
        if entry is None or entry["primary"] == 255:
            return 0
        core = entry["members"][entry["primary"]][1]
        return core if core < self.accept["cores"] else 0

    # ---- Operations

    @staticmethod
    def check(reply, *good):
        if reply.status not in ("OK", *good):
            raise TorcError(reply.status, reply.info, reply.text() if reply.code in (0x10, 0x41) else "")
        return reply

    @staticmethod
    def epoch(entry):
        return entry["epoch"] if entry else 0

    def get(self, key, *, version_only=False):
        """(version, value) or None."""
        for _ in range(10):
            reply, _ = self.call(lambda op_id, _, entry: encode_op(
                GET, op_id, struct.pack("<Q", key), flags=1 if version_only else 0, aux=self.epoch(entry)), key)
            self.check(reply, "NOT_FOUND", "PARTIAL")
            if reply.status == "NOT_FOUND":
                return None
            if reply.status == "OK":
                return reply.info, reply.body
            value = self.pull(key, reply.info, decode_partial(reply.body))
            if value is not None:
                return reply.info, value
        raise NoAnswer("the value changed too often")

    def pull(self, key, version, partial):
        """The value of that version in fragments, 16 a request; None when it is gone."""
        size = (self.payload - 72) // 8 * 8
        total = partial["total"]
        missing = set(range(-(-total // size)))
        value = bytearray(total)
        until = time.monotonic() + self.timeout
        entry = self.entry_of(key)
        while missing and time.monotonic() < until:
            first = min(missing)
            bitmap = sum(1 << i for i in range(16) if first + i in missing)
            op_id = self.new_op()
            core = self.core_of(entry)
            self.send_raw(self.seal(encode_pull(op_id, key, version, first, size, bitmap), core, reply_packets=16),
                          core)
            wanted = {first + i for i in range(16) if bitmap >> i & 1}
            for reply in self.replies_until(time.monotonic() + 0.1):
                if reply.op_id != op_id or reply.opcode != PULL | 0x80:
                    continue
                if reply.status in ("VERSION_GONE", "NOT_FOUND"):
                    return None
                self.check(reply)
                piece = decode_pull_reply(reply.body)
                at = piece["fragment"] * size
                value[at:at + len(piece["bytes"])] = piece["bytes"]
                missing.discard(piece["fragment"])
                wanted.discard(piece["fragment"])
                if not wanted:
                    break
        if missing:
            raise NoAnswer(f"{len(missing)} fragments did not come")
        assert len(value) == total
        return bytes(value)

    def stamp(self):
        return max(self.hlc, time.time_ns() // 1000 << 12)

    def write(self, opcode, key, value=b"", *, flags=0, version=None, wseq=None, lowest=None, stamp=None):
        """The reply of a write that was answered for good. One write at a time: lowest is its own wseq."""
        if wseq is None:
            self.wseq += 1
            wseq = self.wseq
        lowest, stamp = lowest or wseq, stamp or self.stamp()
        if opcode == PUT and len(value) > self.payload - 48 - 64:
            return self.write_large(key, value, flags, version, wseq, lowest, stamp)
        reply, _ = self.call(lambda op_id, attempt, entry: encode_write(
            opcode, op_id, key, wseq, lowest, stamp, self.epoch(entry), attempt, value, flags=flags,
            version=version), key)
        return reply

    def write_large(self, key, value, flags, version, wseq, lowest, stamp):
        size = (self.payload - 48 - 64) // 8 * 8
        pieces = [value[at:at + size] for at in range(0, len(value), size)]
        until = time.monotonic() + self.timeout
        attempt = 0
        while time.monotonic() < until:
            attempt += 1
            entry = self.entry_of(key)
            core, op_id = self.core_of(entry), self.new_op()
            first = encode_write(PUT, op_id, key, wseq, lowest, stamp, self.epoch(entry), attempt, pieces[0],
                                 flags=flags, version=version, total=len(value), fragment_bytes=size)
            reply = self.send_pieces(op_id, key, core, first, pieces, until)
            if reply is None:
                continue  # begin again with the same wseq
            if reply.code & 0x20:
                self.pause_for(reply)
                continue
            return reply
        raise NoAnswer("a large put was not answered")

    def send_pieces(self, op_id, key, core, first, pieces, until):
        """The PUT's answer, or None when the server has lost the pieces."""
        have, limit, sent = {0}, 1 + self.accept["message_window"], 1
        missing_from, quiet = 0, 0
        self.send_raw(self.seal(first, core), core)
        while time.monotonic() < until:
            while sent < min(limit, len(pieces)):
                self.send_piece(op_id, key, core, sent, pieces[sent])
                sent += 1
            progress = False
            for reply in self.replies_until(time.monotonic() + 0.03):
                if reply.op_id != op_id:
                    continue
                if reply.opcode == PUT | 0x80:
                    return reply
                if reply.opcode == FRAG | 0x80:
                    if reply.status == "NO_MESSAGE":
                        return None
                    raise TorcError(reply.status, reply.info)
                if reply.opcode == FRAG_QUERY | 0x80:
                    if reply.status == "NO_MESSAGE":
                        return None
                    state = decode_frag_state(reply.body)
                    progress = state["first_missing"] > missing_from or state["send_limit"] > limit
                    missing_from = max(missing_from, state["first_missing"])
                    limit = max(limit, state["send_limit"])
                    have |= state["have"] | set(range(state["first_missing"]))
                    if progress:
                        break
            if progress:
                quiet = 0
                continue
            quiet += 1
            if quiet == 1 and 0 not in have:
                self.send_raw(self.seal(first, core), core)
            for number in range(1, min(sent, len(pieces))):
                if number not in have:
                    self.send_piece(op_id, key, core, number, pieces[number])
            self.send_raw(self.seal(encode_op(FRAG_QUERY, op_id, struct.pack("<Q", key) + bytes(32)), core), core)
        return None

    def send_piece(self, op_id, key, core, number, piece):
        self.send_raw(self.seal(encode_op(FRAG, op_id, struct.pack("<Q", key) + piece, aux=number), core), core)

    def put(self, key, value, *, if_absent=False, if_present=False, if_version=None):
        flags = (1 if if_absent else 0) | (2 if if_present else 0)
        return self.check(self.write(PUT, key, value, flags=flags, version=if_version)).info

    def delete(self, key, *, if_present=False, if_version=None):
        """True when there was something to delete."""
        reply = self.write(DELETE, key, flags=2 if if_present else 0, version=if_version)
        return self.check(reply, "NOT_FOUND").status == "OK"

    def chunks_of(self, lo, hi, *, flags=0, limit=0, reply_packets=4):
        """The chunks that answer one RANGE_READ, in whatever order they came, until LAST or silence."""
        first_key = max(lo, hi - 1) if flags & 1 else lo
        op_id = self.new_op()
        entry = self.entry_of(min(first_key, self.accept["keys"] - 1))
        core = self.core_of(entry)
        ops = encode_range(RANGE_READ, op_id, lo, hi, flags=flags, limit=limit, epoch=self.epoch(entry))
        self.send_raw(self.seal(ops, core, reply_packets=reply_packets), core)
        chunks, last = [], None
        for reply in self.replies_until(time.monotonic() + 0.1):
            if reply.opcode in (MAP_ENTRY, NODE_ENTRY):
                self.learn(reply)
            if reply.op_id != op_id or reply.opcode != RANGE_READ | 0x80:
                continue
            if reply.status == "WRONG_SHARD" or reply.code & 0x20:
                self.pause_for(reply)
                return chunks
            self.check(reply)
            chunk = decode_chunk(reply.body)
            chunks.append(chunk)
            last = chunk["number"] if chunk["last"] else last
            if last is not None and len(chunks) > last or len(chunks) == reply_packets:
                break
            if entry and (chunk["lo"] <= entry["lo"] if flags & 1 else chunk["hi"] >= entry["hi"]):
                break  # the shard's border
        return chunks

    def scan(self, lo, hi, *, limit=0, flags=0):
        """Chunks that tile the range from its start (reverse: its end), until all is covered or the limit met."""
        until = time.monotonic() + self.timeout
        found = 0
        if lo >= hi:
            return
        while lo < hi:
            if time.monotonic() > until:
                raise NoAnswer(f"the range stopped at [{lo}, {hi})")
            left = limit - found if limit else 0
            chunks = self.chunks_of(lo, hi, flags=flags, limit=left)
            chunks.sort(key=lambda chunk: chunk["number"])
            for chunk in chunks:
                if flags & 1 and chunk["hi"] == hi:
                    hi = chunk["lo"]
                elif not flags & 1 and chunk["lo"] == lo:
                    lo = chunk["hi"]
                else:
                    break  # a hole: asked for again
                found += len(chunk["rows"])
                until = time.monotonic() + self.timeout
                yield chunk
                if limit and found >= limit:
                    return

    def range(self, lo, hi, *, limit=0, reverse=False, keys_only=False, versions=False):
        """Rows in order: keys, or (key, value), or (key, value, version)."""
        flags = (1 if reverse else 0) | (2 if keys_only else 0) | (8 if versions else 0)
        self.check_range(lo, hi, flags)
        rows = []
        for chunk in self.scan(lo, hi, limit=limit, flags=flags):
            for key, value, version, reference in chunk["rows"]:
                if reference is not None:
                    got = self.get(key)
                    if got is None:
                        continue
                    version, value = got
                row = (key,) if keys_only else (key, value)
                rows.append((*row, version) if versions else row)
        return [row[0] for row in rows] if keys_only and not versions else rows

    def check_range(self, lo, hi, flags=0):
        """Arguments out of range are the server's to refuse: asks it when it must."""
        if lo > hi or hi > self.accept["keys"] or lo == hi:
            ops = encode_range(RANGE_READ, self.new_op(), lo, hi, flags=flags)
            for reply in self.exchange(ops, timeout=2.0):
                self.check(reply)

    def count(self, lo, hi):
        self.check_range(lo, hi, 4)
        return sum(chunk["count"] for chunk in self.scan(lo, hi, flags=4))

    def cursor(self, lo, hi, *, limit=0, flags=0, credit=2):
        """Rows by RANGE_OPEN and RANGE_CREDIT, of one shard: (key, value) in order of chunks."""
        op_id, chunks, expected = self.new_op(), {}, None
        entry = self.entry_of(lo)
        core = self.core_of(entry)
        ops = encode_range(RANGE_OPEN, op_id, lo, hi, flags=flags, limit=limit, epoch=self.epoch(entry), credit=credit)
        until = time.monotonic() + self.timeout
        while time.monotonic() < until and (expected is None or len(chunks) < expected):
            self.send_raw(self.seal(ops, core, reply_packets=credit), core)
            for reply in self.replies_until(time.monotonic() + 0.1):
                if reply.op_id != op_id or reply.opcode not in (RANGE_OPEN | 0x80, RANGE_CREDIT | 0x80):
                    continue
                chunk = decode_chunk(self.check(reply).body)
                chunks[chunk["number"]] = chunk
                expected = chunk["number"] + 1 if chunk["last"] else expected
                if len(chunks) >= credit or expected is not None and len(chunks) >= expected:
                    break
            got = 0
            while got in chunks:
                got += 1
            credit = max(credit, got + 2)
            following = chunks[got - 1]["hi"] if got else lo
            ops = encode_op(RANGE_CREDIT, op_id, struct.pack("<Q", following), aux=credit)
        if expected is None:
            raise NoAnswer("the cursor's last chunk did not come")
        rows = [row for number in sorted(chunks) for row in chunks[number]["rows"]]
        return [(key, value if size is None else self.get(key)[1]) for key, value, _, size in rows], len(chunks)

    def ping(self, body=b"", core=0):
        reply, _ = self.call(lambda op_id, *_: encode_op(PING, op_id, body), core=core)
        return self.check(reply).body

    def ticket(self):
        reply, _ = self.call(lambda op_id, *_: encode_op(COOKIE, op_id, bytes(24)), core=0)
        return self.check(reply).body

    def status(self, core=0):
        text, total = b"", 1
        while len(text) < total:
            reply, _ = self.call(lambda op_id, *_: encode_op(STATUS, op_id, aux=len(text)), core=core)
            self.check(reply, "PARTIAL")
            total = reply.info
            if not reply.body:
                break
            text += reply.body
        return dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if " " in line)

    def close(self):
        try:
            if getattr(self, "accept", None):
                self.send_raw(self.seal(encode_op(CLOSE, self.new_op()), 0))
        finally:
            self.socket.close()
