#!/usr/bin/python3
"""Torc tests: a client of Torc's protocol in plain Python, written from docs/PROTOCOL.md alone.

    with Client("10.79.0.11", key=Key(principal, number, psk)) as client:      # no key: CLEAR
        version = client.put(42, b"forty-two")
        version, value = client.get(42)
        rows = client.range(0, 100)

Nothing of Torc's C code is used, so that the document is proved to say enough. One packet is in flight at a
time, except the fragments of large values. The encoders and decoders are in torc_bytes.py, Noise and the ciphers
in torc_noise.py.
"""
import os
import socket
import struct
import time
import typing

from torc_bytes import *  # noqa: F401,F403 pylint: disable=wildcard-import,unused-wildcard-import
from torc_noise import Damaged, Initiator, Key, Responder, Sealer, lane_key  # noqa: F401


def read_key(text):
    """The key of a client's key file: its text."""
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    lines = [words for words in lines if words]
    assert lines[0] == ["torc-key", "1"], lines[0]
    words = {line[0]: line[1:] for line in lines[1:]}
    number, secret, *bound = words["key"][0].split(":")
    bound = int(bound[0].removeprefix("node=")) if bound else None
    return Key(int(words["principal"][0]), int(number), bytes.fromhex(secret), bound)


# ---- The client

class Init(typing.NamedTuple):
    """One that was sent: sent again it is the same bytes."""
    packet: bytes
    random: bytes
    node: int
    shake: Initiator | None


class Client:
    def __init__(self, host, base_port=28700, *, timeout=5.0, payload=1400, lanes=1, node=0xffffffff, client_id=None,
                 source=None, key=None, suites=None):
        self.host, self.base_port, self.timeout, self.payload = host, base_port, timeout, payload
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(self.family, socket.SOCK_DGRAM)
        self.socket.bind((source or ("::" if self.family == socket.AF_INET6 else "0.0.0.0"), 0))
        self.client_id = client_id or int.from_bytes(os.urandom(7), "little") << 8
        self.client_index = int.from_bytes(os.urandom(4), "little") >> 1
        self.lane = 0
        self.lanes, self.node_wanted = lanes, node
        self.key, self.suites = key, suites or (SUITES if key else SUITE_CLEAR)
        self.op_id = 1
        self.repeated = set()  # operations, and random numbers of INITs, whose answers may still come late
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

    def next_raw(self, until):
        """As receive_raw, without the late answers to handshakes and operations that were sent again."""
        while (packet := self.receive_raw(until)) is not None and self.is_late(packet):
            pass
        return packet

    def is_late(self, packet):
        if packet[1:2] in (b"\x11", b"\x12", b"\x13"):  # RETRY, ACCEPT, REFUSE
            return packet[8:24] in self.repeated
        opened = decode_packet(packet, self.accept["to_client"])
        replies = list(decode_replies(opened["ops"])) if opened else []
        return bool(replies) and all(reply.op_id in self.repeated for reply in replies)

    def handshake(self, cookie=None):
        """A new session; the sequence numbers of packets begin anew, those of writes go on."""
        until = time.monotonic() + self.timeout
        pause, tries, last_hint = 0.02, 0, ""
        init = self.new_init(cookie)
        while time.monotonic() < until:
            self.send_raw(init.packet)
            wait = min(until, time.monotonic() + pause)
            while (answer := self.receive_raw(wait)) is not None:
                if len(answer) == 64 and answer[1] == 0x11:
                    retry = unless_damaged(decode_retry, answer)
                    if retry and retry["random"] == init.random and self.node_wanted in (0xffffffff, retry["node"]):
                        if not retry["suites"] & self.suites:
                            last_hint = f"node {retry['node']} takes suites {retry['suites']:02x}"
                            continue
                        init = self.new_init(retry["cookie"], retry["node"], retry["cluster"], retry["versions"])
                        self.send_raw(init.packet)
                        tries = 0
                elif len(answer) == 240 and answer[1] == 0x12:
                    accept = unless_damaged(decode_accept, answer, init.shake)
                    if accept and accept["random"] == init.random and accept["node"] == init.node \
                            and self.is_best(accept):
                        self.lane = 0
                        self.begin_session(accept)
                        return
                elif len(answer) == 40 and answer[1] == 0x13:
                    last_hint = str(unless_damaged(decode_refuse, answer))
            self.repeated.add(init.random)
            pause, tries = min(1.0, pause * 2), tries + 1
            if tries == 3:  # perhaps a hint was false: from the start
                init = self.new_init(None)
                tries = 0
        raise NoAnswer(f"no session with {self.host}:{self.base_port} {last_hint}")

    def is_best(self, accept):
        """The suite is the best that both sides have: nobody made us take less."""
        common = accept["suites"] & self.suites
        return accept["suite"] == common & -common and accept["versions"] & 2

    def new_init(self, cookie, node=None, cluster=None, seen=0):
        random = os.urandom(16)
        fields = {"core": 0, "lanes": self.lanes, "seen": seen, "cookie": cookie, "suites": self.suites,
                  "node": self.node_wanted}
        if self.key:
            fields.update(principal=self.key.principal, key=self.key.number)
        if not cookie:
            return Init(encode_init(random, **fields), random, fields["node"], None)
        if node is None:
            node, cluster = self.accept["node"], self.accept["cluster"]
        fields.update(node=node, client_id=self.client_id, client_index=self.client_index, payload_max=9000,
                      agent=b"python conformance")
        if not self.key:
            return Init(encode_init(random, **fields), random, node, None)
        packet, shake = seal_init(random, self.key.of_node(cluster, node), os.urandom(32), **fields)
        return Init(packet, random, node, shake)

    def begin_session(self, accept):
        self.accept = accept
        self.seq = [0] * accept["cores"]
        self.seen = [set() for _ in range(accept["cores"])]
        self.hlc = max(self.hlc, accept["hlc"])

    def use_lane(self, lane):
        """All that follows is of this lane of the session: one that was not used yet."""
        accept = dict(self.accept)
        accept["session_index"] += lane - self.lane
        self.client_index += lane - self.lane
        self.lane = lane
        if self.key:
            accept["to_server"], accept["to_client"] = accept["pair"].lane(lane, accept["suite"])
        self.begin_session(accept)

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

    def exchange(self, ops, core=0, *, count=1, reply_packets=1, timeout=10.0):
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

    def stale_get(self, key, age_ms, core=0):
        """Status and body of the node of this session, whatever it is for the key: at most so old (section 4, STALE)."""
        for _ in range(3):
            op_id = self.new_op()
            get = encode_op(GET, op_id, struct.pack("<Q", key), flags=2, aux=age_ms)
            for reply in self.exchange(get, core, timeout=1.0):
                return reply.status, reply.body
            self.repeated.add(op_id)
        raise NoAnswer("a GET with STALE was not answered, three times")

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
            for reply in self.exchange(ops):
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

    def open_cursor(self, lo, hi):
        """The first reply to a RANGE_OPEN with a credit of one chunk: it stays open if there are more."""
        op_id, entry = self.new_op(), self.entry_of(lo)
        core, until = self.core_of(entry), time.monotonic() + self.timeout
        ops = encode_range(RANGE_OPEN, op_id, lo, hi, epoch=self.epoch(entry), credit=1)
        self.send_raw(self.seal(ops, core), core)
        return self.wait_reply(op_id, until)[0]

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
