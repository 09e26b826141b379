#!/usr/bin/python3
"""Torc tests: a real node, spoken to by the client that was written from docs/PROTOCOL.md. Root only.

Puts, gets, deletes, ranges, large values and exactly-once over IPv4 and IPv6; then packets that are bad in every
way that PROTOCOL.md names, by their numbers in the suite of bad packets: each must have the reaction and the
counter that is written there, no answer to an unproved address may be longer than the question, and a good client
must still work after it. All of it under keys, then in CLEAR mode; what needs keys of several principals is in
sealed_test.py. Ends with `N passed, N failed`.
"""
import os
import pathlib
import socket
import struct
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import torc_client as t  # noqa: E402
from node import Node  # noqa: E402
from wire_rig import (FAR_AHEAD, KEYS, Setup, Stranger, checks, connect, mode, one, place, put_op,  # noqa: E402
                      replies_of, statuses)


def key8(key):
    return struct.pack("<Q", key)


# ---- What a good client may expect

def test_point(host):
    """put, get and delete"""
    with connect(host) as client:
        key = 1000 + (":" in host)
        checks.equal("a missing key has no value", client.get(key), None)
        version = client.put(key, b"forty-two")
        checks.equal("what was put is got, with its version", client.get(key), (version, b"forty-two"))
        checks.that("versions rise", client.put(key, b"") > version)
        checks.equal("an empty value is a value", client.get(key)[1], b"")
        checks.equal("version only", client.get(key, version_only=True)[1], b"")
        checks.equal("binary values come back", (client.put(key, bytes(range(256))), client.get(key)[1])[1],
                     bytes(range(256)))
        checks.that("delete says that there was one", client.delete(key))
        checks.that("delete says that there was none", not client.delete(key))
        checks.equal("deleted is missing", client.get(key), None)
        last = KEYS - 1
        client.put(last, b"the last key")
        checks.equal("the last key", client.get(last)[1], b"the last key")
        client.delete(last)


def refusal(function, *arguments, **options):
    try:
        return ("OK", function(*arguments, **options))
    except t.TorcError as error:
        return (error.status, error.info)


def test_conditions(host):
    """conditional writes"""
    with connect(host) as client:
        key = 2000
        client.delete(key)
        checks.equal("if present: absent", refusal(client.put, key, b"x", if_present=True), ("CONDITION_FAILED", 0))
        version = client.put(key, b"one", if_absent=True)
        checks.equal("if absent: present", refusal(client.put, key, b"x", if_absent=True),
                     ("CONDITION_FAILED", version))
        checks.equal("if version: another", refusal(client.put, key, b"x", if_version=version - 1),
                     ("CONDITION_FAILED", version))
        second = client.put(key, b"two", if_version=version)
        checks.that("if version: this one", second > version)
        reply = client.write(t.PUT, key, b"x", flags=0x11)
        checks.equal("the present value comes with the refusal",
                     (reply.status, reply.info, t.decode_write_reply(reply.body)["value"]),
                     ("CONDITION_FAILED", second, b"two"))
        checks.equal("delete if version: another", refusal(client.delete, key, if_version=version),
                     ("CONDITION_FAILED", second))
        checks.that("delete if version: this one", client.delete(key, if_version=second))
        checks.that("delete if present: absent", not client.delete(key, if_present=True))


def test_stale(host):
    """reads of a bounded age, where there is one copy: as all others; an age and a moment do not go together"""
    with connect(host) as client:
        key = 2100
        core = client.core_of(client.entry_of(key))
        client.put(key, b"young")
        for age_ms in (0, 1, 0xffffffff):
            checks.equal(f"a get, {age_ms} ms", client.stale_get(key, age_ms, core), ("OK", b"young"))
            reply = one(client, t.encode_range(t.RANGE_READ, client.new_op(), key, key + 1, flags=0x10,
                                               max_age_ms=age_ms), core)
            checks.equal(f"a range, {age_ms} ms", (reply.status, reply.body[-5:]), ("OK", b"young"))
            reply = one(client, t.encode_range(t.RANGE_READ, client.new_op(), key, key + 1, flags=0x14,
                                               max_age_ms=age_ms), core)
            checks.equal(f"a count, {age_ms} ms", (reply.status, reply.body[-8:]), ("OK", key8(1)))
        client.delete(key)
        checks.equal("a missing key", client.stale_get(key, 5, core)[0], "NOT_FOUND")


def test_ranges(host):
    """ranges and counts over all shards"""
    step = KEYS // 256
    with connect(host) as client:
        rows = [(key, b"value of %d" % key) for key in range(5, KEYS, step)]
        for key, value in rows:
            client.put(key, value)
        checks.equal("a range over everything", client.range(0, KEYS), rows)
        checks.equal("in reverse", client.range(0, KEYS, reverse=True), rows[::-1])
        checks.equal("a part", client.range(rows[10][0], rows[20][0]), rows[10:20])
        checks.equal("limit 1", client.range(6, KEYS, limit=1), rows[1:2])
        checks.equal("limit 1 from the end", client.range(0, KEYS, limit=1, reverse=True), rows[-1:])
        checks.equal("a limit over several shards", client.range(0, KEYS, limit=100), rows[:100])
        checks.equal("keys only", client.range(0, KEYS, keys_only=True), [key for key, _ in rows])
        checks.equal("with versions", [(row[0], client.get(row[0])[0] == row[2])
                                       for row in client.range(0, rows[3][0], versions=True)],
                     [(key, True) for key, _ in rows[:3]])
        checks.equal("a count", client.count(0, KEYS), len(rows))
        checks.equal("a count of a part", client.count(6, rows[9][0] + 1), 9)
        checks.equal("an empty range", client.range(6, rows[1][0]), [])
        checks.equal("lo = hi", client.range(77, 77), [])
        checks.equal("lo = hi = M", client.range(KEYS, KEYS), [])
        checks.equal("lo > hi", refusal(client.range, 78, 77)[0], "INVALID_ARGUMENT")
        checks.equal("hi > M", refusal(client.range, 0, KEYS + 1)[0], "INVALID_ARGUMENT")
        for key, _ in rows:
            client.delete(key)


def test_range_beside_put(host):
    """a PUT and a range of several chunks in one packet, with one packet allowed to answer"""
    keys = range(5400, 5416)
    with connect(host) as client:
        for key in keys:
            client.put(key, b"v" * 200)
        core, epoch = place(client, keys[0])
        client.wseq += 1
        packet = put_op(client, keys[0], b"beside", client.wseq)
        packet += t.encode_range(t.RANGE_READ, client.new_op(), keys[0], keys[-1] + 1, epoch=epoch)
        checks.equal("both are answered", sorted(statuses(client.exchange(packet, core, count=2))),
                     [(0x91, "OK"), (0xa0, "OK")])
        for key in keys:
            client.delete(key)


def own_reply(client, make, core, **options):
    """The answer to one operation, whatever late answers to earlier ones come before it."""
    op_id = client.new_op()
    client.send_raw(client.seal(make(op_id), core, **options), core)
    replies = client.replies_until(time.monotonic() + 5)
    return next((reply for reply in replies if reply.op_id == op_id), t.Reply(0, 0xff, 0, 0, b""))


def test_past(host):
    """ranges and gets as of a timestamp: what was there then"""
    with connect(host) as client:
        core, _ = place(client, 5200)
        client.put(5200, b"old")
        client.put(5201, b"stays")
        client.delete(5202)
        reply = own_reply(client, lambda op_id: t.encode_op(t.CLOCK, op_id, key8(5200) + key8(5210)), core)
        checks.equal("CLOCK answers", (reply.status, reply.body[:16]), ("OK", key8(5200) + key8(5210)))
        ts = reply.info
        client.put(5200, b"new")
        client.delete(5201)
        client.put(5202, b"later")
        chunk = own_reply(client, lambda op_id: t.encode_range(t.RANGE_READ, op_id, 5200, 5210, ts=ts), core,
                          reply_packets=2)
        checks.equal("a range as of it, and says so", (chunk.status, chunk.info), ("OK", ts))
        checks.equal("has what was there", [row[:2] for row in t.decode_chunk(chunk.body)["rows"]],
                     [(5200, b"old"), (5201, b"stays")])
        for key, status, value in ((5200, "OK", b"old"), (5201, "OK", b"stays"), (5202, "NOT_FOUND", b"")):
            body = key8(key) + key8(ts)
            reply = own_reply(client, lambda op_id: t.encode_op(t.GET, op_id, body, flags=4), core)
            checks.equal(f"get {key} as of it", (reply.status, reply.body), (status, value))
        for key in (5200, 5202):
            client.delete(key)


def test_cursor(host):
    """a cursor with credit"""
    with connect(host) as client:
        rows = [(key, os.urandom(700)) for key in range(10000, 10040)]
        for key, value in rows:
            client.put(key, value)
        got, chunks = client.cursor(10000, 10040, credit=2)
        checks.equal("a cursor's rows", got, rows)
        checks.that("came in several chunks", chunks > 10, chunks)
        got, _ = client.cursor(10000, 10040, credit=3, limit=7)
        checks.equal("a cursor with a limit", got, rows[:7])
        checks.equal("RANGE_READ of the same", client.range(10000, 10040), rows)
        for key, _ in rows:
            client.delete(key)


def test_large(host):
    """values over one packet"""
    with connect(host) as client:
        limit = client.accept["value_max"]
        for size in (1300, 1400, 1500, 9001, 100000, limit):
            value = os.urandom(size)
            version = client.put(7, value)
            checks.that(f"{size} bytes come back", client.get(7) == (version, value))
        rows = client.range(0, 100)
        checks.that("a range brings a large value by reference", rows == [(7, value)], len(rows))
        checks.equal("a value over the limit", refusal(client.put, 8, bytes(limit + 1)), ("TOO_LARGE", limit))
        checks.equal("and nothing was written", client.get(8), None)
        checks.equal("if absent: a large one", refusal(client.put, 7, bytes(5000), if_absent=True),
                     ("CONDITION_FAILED", version))
        reply = one(client, t.encode_pull(client.new_op(), 7, version - 1, 0, 1024, 1), place(client, 7)[0])
        checks.equal("a pull of an old version", reply.status, "VERSION_GONE")
        reply = one(client, t.encode_pull(client.new_op(), 7, version, 1 << 30, 1024, 1), place(client, 7)[0])
        checks.equal("a pull behind the end", reply.status, "INVALID_ARGUMENT")
        client.delete(7)


def test_fragments(host):
    """fragments lost, repeated, reordered (55, 56, 57)"""
    with connect(host) as client:
        size, value = 1024, os.urandom(10240)
        pieces = [value[at:at + size] for at in range(0, len(value), size)]
        core, _ = place(client, 7)
        client.wseq += 1
        wseq = client.wseq
        op_id = client.op_id + 1  # that of the PUT, which put_op takes
        first = put_op(client, 7, pieces[0], wseq, total=len(value), fragment_bytes=size)

        def piece(number, data=None):
            body = key8(7) + (pieces[number] if data is None else data)
            client.send_raw(client.seal(t.encode_op(t.FRAG, op_id, body, aux=number), core), core)

        reply = one(client, t.encode_op(t.FRAG, op_id, key8(7) + pieces[1], aux=1), core)
        checks.equal("55: a fragment without its put", (reply.opcode, reply.status), (0x89, "NO_MESSAGE"))
        reply = one(client, first, core)
        checks.equal("a fragmented put is answered by its state", (reply.opcode, reply.op_id), (0x8a, op_id))
        state = t.decode_frag_state(reply.body)
        checks.equal("fragment 0 has come", state["first_missing"], 1)
        checks.that("more may be sent", state["send_limit"] >= 2, state)
        reply = one(client, t.encode_op(t.FRAG, op_id, key8(7) + pieces[1], aux=10), core)
        checks.equal("55: a number behind the end", reply.status, "INVALID_ARGUMENT")
        reply = one(client, t.encode_op(t.FRAG, op_id, key8(7) + pieces[1][:8], aux=1), core)
        checks.equal("a fragment of a wrong length", reply.status, "INVALID_ARGUMENT")
        for number in (9, 4, 2):
            piece(number)
        piece(2, bytes(size))  # 56: other bytes; the first copy counts
        list(client.replies_until(time.monotonic() + 0.1))
        query = t.encode_op(t.FRAG_QUERY, op_id, key8(7) + bytes(32))
        state, wanted, until = None, (1, {2, 4, 9}), time.monotonic() + 5
        while state != wanted and time.monotonic() < until:  # what was said at a gap may come late
            answer = t.decode_frag_state(one(client, query, core).body)
            state = answer["first_missing"], answer["have"]
        checks.equal("the state after gaps", state, wanted)
        for number in (8, 7, 6, 5, 3):
            piece(number)
        checks.that("nothing is there before the last piece", client.get(7) is None)
        client.send_raw(client.seal(t.encode_op(t.FRAG, op_id, key8(7) + pieces[1], aux=1), core), core)
        replies = replies_of(client, opcode=0x91)
        checks.equal("the put is answered at its end", [reply.status for reply in replies], ["OK"])
        checks.that("56: with the first copies", client.get(7) == (replies[0].info if replies else 0, value))
        reply = one(client, first, core)
        checks.that("the same wseq again is answered, not run", reply.status == "OK", reply.status)
        client.delete(7)


def test_fragment_pool(host):
    """57: first fragments that are never finished"""
    with connect(host) as client:
        core, _ = place(client, 7)
        seen = []
        for _ in range(20):
            client.wseq += 1
            reply = one(client, put_op(client, 7, bytes(1024), client.wseq, total=1 << 20, fragment_bytes=1024), core)
            seen.append(reply.status)
        checks.that("57: some are taken", seen[0] == "OK", seen)
        checks.that("57: then BUSY", "BUSY" in seen, seen)
        with connect(host) as other:
            value = os.urandom(100000)
            version = other.put(7, value)
            checks.that("57: another session still puts large values", other.get(7) == (version, value))
            other.delete(7)


def test_exactly_once(host):
    """48 to 51: duplicates, in one session and over sessions"""
    client = connect(host)
    core, epoch = place(client, 3000)
    client.wseq = 10
    first = put_op(client, 3000, b"first", 10, lowest=5)
    a = one(client, first, core)
    checks.equal("a write", (a.opcode, a.status), (0x91, "OK"))
    middle = one(client, put_op(client, 3000, b"second", 11, lowest=5), core)
    again = one(client, first, core)
    checks.equal("48: the same wseq, the same answer", (again.status, again.info), ("OK", a.info))
    other = one(client, put_op(client, 3000, b"other", 10, lowest=5), core)
    checks.equal("49: another body, the first answer", (other.status, other.info), ("OK", a.info))
    checks.equal("48: it ran once", client.get(3000), (middle.info, b"second"))
    second = connect(host, client_id=client.client_id)
    moved = one(second, put_op(second, 3000, b"first", 10, lowest=5, attempt=9), core)
    checks.equal("another session of the same client: the same answer",
                 (moved.status, moved.info, moved.body[:1]), ("OK", a.info, b"\x09"))
    stranger = connect(host)
    own = one(stranger, put_op(stranger, 3000, b"own", 10, lowest=5), core)
    checks.that("another client's wseq 10 is its own", own.status == "OK" and own.info > middle.info, vars(own))
    failed = one(client, put_op(client, 3000, b"x", 12, lowest=5, flags=1), core)
    stranger.wseq = 10
    stranger.delete(3000)
    repeat = one(client, put_op(client, 3000, b"x", 12, lowest=5, flags=1), core)
    checks.equal("a failed condition is remembered", (failed.status, repeat.status, repeat.info),
                 ("CONDITION_FAILED", "CONDITION_FAILED", failed.info))
    one(client, put_op(client, 3000, b"moves lowest", 20, lowest=20), core)
    old = one(client, put_op(client, 3000, b"late", 13, lowest=13), core)
    checks.equal("50: below the lowest", old.status, "SEQ_OLD")
    ops = t.encode_write(t.PUT, client.new_op(), 3000, 5, 0, client.stamp(), epoch, 1, b"")
    checks.equal("51: aux = wseq", one(client, ops, core).status, "INVALID_ARGUMENT")
    far = put_op(client, 3000, b"", 100000, lowest=100000 - client.accept["write_window"])
    checks.equal("51: aux = the write window", one(client, far, core).status, "LIMIT")
    expired = put_op(client, 3000, b"", 100001, stamp=(time.time_ns() // 1000 - 3600 * 1000000) << 12)
    checks.equal("an old stamp", one(client, expired, core).status, "EXPIRED")
    ahead = put_op(client, 3000, b"", 100002, stamp=FAR_AHEAD)
    checks.equal("a stamp from the future", one(client, ahead, core).status, "CLOCK_AHEAD")
    wrong = put_op(client, 3000, b"", 100003, epoch=epoch + 1)
    checks.equal("another epoch", one(client, wrong, core).status, "WRONG_SHARD")
    stranger.delete(3000)
    for each in (client, second, stranger):
        each.close()


def test_session_ops(host):
    """PING, COOKIE, STATUS, MAP, CLOCK, CANCEL, TRACE, CLOSE"""
    with connect(host) as client:
        for size in (0, 1, 100, 1300):
            body = os.urandom(size)
            checks.equal(f"a ping of {size} bytes", client.ping(body, 1), body)
        status = client.status()
        checks.equal("status names the node", status.get("node"), "1")
        entries = client.refresh_map()
        covered = all(a["hi"] == b["lo"] for a, b in zip(entries, entries[1:]))
        checks.that("the map covers all keys", entries[0]["lo"] == 0 and entries[-1]["hi"] == KEYS and covered)
        checks.equal("the map's nodes", set(client.nodes), {1})
        addresses = client.nodes[1]["addresses"]
        mapped = bytes(10) + b"\xff\xff" + socket.inet_aton(client.host) if "." in client.host else \
            socket.inet_pton(socket.AF_INET6, client.host)
        checks.that("and its addresses", mapped in addresses, addresses)
        reply = one(client, t.encode_op(t.CANCEL, client.new_op(), aux=123456))
        checks.equal("cancelling nothing", (reply.opcode, reply.status), (0x82, "NOT_FOUND"))
        client.put(4000, b"x")
        reply = one(client, t.encode_op(t.CLOCK, client.new_op(), key8(0) + key8(KEYS)))
        checks.that("the clock is at the last write", reply.opcode == 0x87 and reply.info > 0, vars(reply))
        core, epoch = place(client, 4000)
        got = client.exchange(t.encode_op(t.GET, client.new_op(), key8(4000), flags=0x80, aux=epoch), core, count=2)
        checks.equal("a traced get", sorted(statuses(got)), [(0x90, "OK"), (0xf3, "OK")])
        client.delete(4000)
        core, epoch = place(client, 4001)
        packet = b"".join(t.encode_op(t.GET, 900 + i, key8(4001), aux=epoch) for i in range(50))
        replies = client.exchange(packet, core, count=50, reply_packets=4)
        checks.equal("50 gets in a packet", sorted(reply.op_id for reply in replies), list(range(900, 950)))
        ticket, cluster = client.ticket(), client.accept["cluster"]
    stranger = Stranger(host)
    answer = stranger.ask(stranger.init({"node": 1, "cookie": ticket, "versions": 2, "cluster": cluster}))
    checks.that("a ticket gives a session in one round trip", answer is not None and answer[1] == 0x12)
    closing = connect(host)
    checks.equal("close is answered", statuses(closing.exchange(t.encode_op(t.CLOSE, 5))), [(0x83, "OK")])
    answer, until = b"", time.monotonic() + 5
    while answer[1:2] != b"\x14" and time.monotonic() < until:  # another thread than the one that answered ends it
        closing.send_raw(closing.seal(t.encode_op(t.PING, 6), 0))
        time.sleep(0.05)
        answer = closing.next_raw(time.monotonic() + 0.2) or b""
    checks.equal("after it the session is unknown", answer[1:2], b"\x14")
    closing.close()


def test_lanes(host):
    """several lanes in one handshake"""
    with connect(host, lanes=4) as client:
        lanes = client.accept["lanes"]
        checks.that("lanes were given", lanes in (1, 2, 4), lanes)
        for lane in range(lanes):
            client.use_lane(lane)
            checks.equal(f"lane {lane} answers", client.ping(b"lane %d" % lane), b"lane %d" % lane)
        client.use_lane(0)
        client.seq = [100] * client.accept["cores"]


def test_handed_over(host):
    """a packet at another core's port"""
    with connect(host) as client:
        for core in range(client.accept["cores"]):
            op_id = client.new_op()
            client.send_raw(client.seal(t.encode_op(t.PING, op_id, b"over"), core), (core + 1) % client.accept["cores"])
            packet = client.next_raw(time.monotonic() + 10) or b""
            opened = t.decode_packet(packet, client.accept["to_client"])
            checks.that(f"a packet for core {core} at another port is answered by core {core}",
                        opened is not None and opened["core"] == core, packet.hex())


def test_restart(setup):
    """the dataplane dies: sessions are gone, answers are kept"""
    client = connect(setup.host4, timeout=20)
    written = {key: client.put(key, b"before %d" % key) for key in range(6000, 6020)}
    client.wseq += 1
    wseq, stamp = client.wseq, client.stamp()
    first = client.write(t.PUT, 6020, b"once", wseq=wseq, stamp=stamp, lowest=1)
    boot, index = client.accept["boot"], client.accept["session_index"]
    setup.node.kill("dataplane")
    setup.node.wait_ready()
    again = client.write(t.PUT, 6020, b"once more", wseq=wseq, stamp=stamp, lowest=1)
    checks.equal("a write repeated after the restart has its first answer", (again.status, again.info),
                 (first.status, first.info))
    checks.that("in a new session", client.accept["boot"] > boot, (boot, client.accept["boot"], index))
    checks.equal("and ran once", client.get(6020), (first.info, b"once"))
    checks.equal("all that was acknowledged is there",
                 client.range(6000, 6020, versions=True),
                 [(key, b"before %d" % key, version) for key, version in written.items()])
    checks.that("versions go on rising", client.put(6020, b"after") > first.info)
    for key in range(6000, 6021):
        client.delete(key)
    client.close()
    setup.good = connect(setup.host4)


# ---- Bad packets: what never gets a session

def test_bad_strangers(setup, host):
    """1 to 9, 14, 25: what strangers send"""
    stranger = Stranger(host)

    def drop(sentence, reason, *packets):
        setup.expect_drops(sentence, reason, lambda: [stranger.send(packet) for packet in packets], len(packets))
        checks.equal(f"{sentence}: no answer", stranger.answers(0.05), [])

    drop("1: an empty payload", "short", b"")
    drop("2: data of 1 to 63 bytes", "short", b"\x54", *[b"\x54\x19" + bytes(size) for size in range(0, 62, 6)])
    drop("4: wrong magic", "magic", b"\x55\x19" + bytes(70), b"GET / HTTP/1.1\r\n\r\n")
    drop("5: version 0", "version", b"\x54\x00" + bytes(254))
    drop("7: version 2, too short", "version", b"\x54\x20" + bytes(253), b"\x54\x29" + bytes(254))
    drop("8: unknown types", "type", *[bytes([0x54, 0x10 | kind]) + bytes(254) for kind in (6, 7, *range(10, 16))])
    drop("9: what only servers send", "type", *[bytes([0x54, 0x10 | kind]) + bytes(254) for kind in range(1, 5)])
    drop("14: an INIT of 255 and of 257 bytes", "init_len", t.encode_init(bytes(16))[:255],
         t.encode_init(bytes(16)) + b"\0")
    for version in (2, 15):
        packet = bytes([0x54, version << 4, 0, 0]) + bytes(4) + bytes(range(16)) + bytes(232)
        answer = stranger.ask(packet)
        checks.that(f"6: version {version} gets VERSION", answer is not None and
                    t.decode_version(answer) == {"versions": 2, "random": bytes(range(16)), "node": 1})
    answer = stranger.ask(t.encode_packet(t.encode_op(t.PING, 1), 5, core=0, index=0x00200001, seq=9))
    checks.that("25: an unknown index gets NOSESSION", answer is not None and len(answer) == 48 and
                (t.decode_nosession(answer)["index"], t.decode_nosession(answer)["seq"]) == (0x00200001, 9))
    checks.that("no answer is longer than the question", stranger.bytes_in <= stranger.bytes_out,
                f"{stranger.bytes_in} for {stranger.bytes_out}")


def test_cookies(setup, host):
    """15 to 18: cookies"""
    stranger, other = Stranger(host), Stranger(host)
    retry = stranger.cookie()
    checks.equal("15: an INIT without cookie gets RETRY", (retry["node"], retry["suites"], retry["versions"]),
                 (1, t.SUITES if mode.key else t.SUITE_CLEAR, 2))
    answer = other.ask(other.init(retry))
    checks.that("16: another port's cookie gets RETRY", answer is not None and answer[1] == 0x11)
    other_family = Stranger(setup.host6 if host == setup.host4 else setup.host4)
    answer = other_family.ask(other_family.init(retry))
    checks.that("16: another address's cookie gets RETRY", answer is not None and answer[1] == 0x11)
    wrong = 0
    for bit in range(24 * 8):
        cookie = bytearray(retry["cookie"])
        cookie[bit // 8] ^= 1 << bit % 8
        answer = stranger.ask(stranger.init({**retry, "cookie": bytes(cookie)}))
        wrong += answer is None or answer[1] != 0x11
    checks.equal("18: each flipped bit of a cookie gets RETRY", wrong, 0)
    checks.that("no answer is longer than the question", stranger.bytes_in <= stranger.bytes_out)


def test_refusals(host):
    """19, 24: whole INITs that are not wanted"""
    stranger = Stranger(host)
    retry = stranger.cookie()
    answer = stranger.ask(stranger.init(retry, principal=999))
    checks.that("19: an unknown principal", answer is not None and t.decode_refuse(answer)["code"] == 1)
    for suites in (0x81, 0x83) if mode.key else (0x81, 0x01):
        answer = stranger.ask(stranger.init(retry, suites=suites))
        checks.that(f"24: suites {suites:02x}", answer is not None and t.decode_refuse(answer)["code"] == 2,
                    answer and answer.hex())


def test_init_repeated(host):
    """23: one INIT, many times"""
    stranger = Stranger(host)
    packet = stranger.init(stranger.cookie())
    for _ in range(300):
        stranger.send(packet)
    answers = stranger.answers(10, count=1) + stranger.answers(0.5)
    kinds = {answer[1] for answer in answers}
    checks.equal("23: all answers are ACCEPT", kinds, {0x12})
    checks.equal("23: the same bytes each time", len(set(answers)), 1)
    checks.that("23: within the budget", len(answers) <= 110, len(answers))


def test_init_flood(setup):
    """INITs from ports that prove nothing"""
    setup.sync()
    sessions = setup.node.admin("stats")["workers"]["torc_sessions"]
    packet = t.encode_init(bytes(16))
    asked = answered = 0
    for _ in range(20):
        stranger = Stranger(setup.host4)
        for _ in range(100):
            stranger.send(packet)
        stranger.answers(0.01)
        asked += stranger.bytes_out
        answered += stranger.bytes_in
        stranger.socket.close()
    setup.sync()
    now = setup.node.admin("stats")["workers"]["torc_sessions"]
    checks.that("2000 INITs without cookie make no session", now <= sessions, f"{sessions} before, {now} after")
    checks.that("and get a quarter of their bytes at most", answered <= asked // 4, f"{answered} for {asked}")


def test_init_flips(host):
    """21: an INIT with a flipped bit"""
    stranger = Stranger(host)
    retry = stranger.cookie()
    accepted = []
    for bit in range(0, 256 * 8, 3):
        packet = bytearray(stranger.init(retry))
        packet[bit // 8] ^= 1 << bit % 8
        stranger.send(bytes(packet))
        accepted += [bit for answer in stranger.answers(0.0005) if answer[1] == 0x12]
    accepted += [answer for answer in stranger.answers(0.2) if answer[1] == 0x12]
    checks.equal("21: no flipped INIT gives a session", accepted, [])


# ---- Bad packets: in a session

def test_bad_headers(setup, host):
    """26 to 30, 32: data packets with bad headers"""
    with connect(host) as client:
        ping = t.encode_op(t.PING, 1)

        def drop(sentence, reason, make, count=1):
            setup.expect_drops(sentence, reason, lambda: [client.send_raw(make()) for _ in range(count)], count)

        client.ping()
        index = client.accept["session_index"]
        client.send_raw(client.seal(ping, 0, index=index ^ 1 << 20))
        answer = client.next_raw(time.monotonic() + 10)
        checks.that("26: an old generation gets NOSESSION", answer is not None and answer[1] == 0x14)
        drop("29: seq 0", "replay_old", lambda: client.seal(ping, 0, seq=0))
        packet = client.seal(ping, 0)
        client.send_raw(packet)
        drop("29: repeated", "replay_dup", lambda: packet, 3)
        client.seq[0] += 300
        client.ping(b"far ahead", 0)
        drop("29: 256 behind", "replay_old", lambda: client.seal(ping, 0, seq=client.seq[0] - 257))
        drop("30: a number too high", "limit", lambda: client.seal(ping, 0, seq=1 << 30))
        drop("30: a core that is not there", "core", lambda: client.seal(ping, 0, header_core=200))
        for flag in (1, 2, 4, 8, 0x80):
            drop(f"30: flag {flag:02x}", "flags", lambda flag=flag: client.seal(ping, 0, flags=flag))
        drop("a wrong token", "auth_fail", lambda: client.seal(ping, 0, token=client.accept["to_client"]))
        room = client.accept["payload_max"] + 8 - 48 - 16
        long = client.seal(t.encode_op(t.PING, 1, bytes(room)), 0)
        if host == setup.host4:
            drop("32: longer than published", "long", lambda: long)
        else:  # more than the link carries: this host cuts it
            setup.expect_drops("32: longer than the link carries", "l3_fragment", lambda: client.send_raw(long), 2)
        other = Stranger(setup.host6 if host == setup.host4 else setup.host4)
        setup.expect_drops("27: from another address", "address", lambda: other.send(client.seal(ping, 0)))


def test_flips(setup, host):
    """28: each bit of a data packet flipped"""
    with connect(host) as client:
        client.ping()
        op_id = client.new_op()
        packet = client.seal(t.encode_op(t.PING, op_id, b"unharmed"), 0)
        for bit in range(len(packet) * 8):
            damaged = bytearray(packet)
            damaged[bit // 8] ^= 1 << bit % 8
            client.send_raw(bytes(damaged))
        setup.sync()
        answers = []
        while (answer := client.next_raw(time.monotonic() + 0.1)) is not None:
            answers.append(answer[1])
        checks.equal("28: no flipped packet is answered but by NOSESSION", set(answers) - {0x14}, set())
        client.send_raw(packet)
        checks.equal("28: and the packet itself still is", statuses(replies_of(client)), [(0x81, "OK")])


def test_bad_framing(setup, host):
    """3, 33 to 37, 53: packets refused whole"""
    with connect(host) as client:
        core, epoch = place(client, 5000)
        get = t.encode_op(t.GET, 50, key8(5000), aux=epoch)

        def shed(sentence, ops, offset=None, **changes):
            client.send_raw(client.seal(ops, core, **changes), core)
            replies = replies_of(client)
            good = statuses(replies) == [(0xf0, "BAD_PACKET")] and replies[0].info == client.seq[core]
            checks.that(f"{sentence}: SHED with BAD_PACKET", good, statuses(replies))
            if good and offset is not None:
                checks.equal(f"{sentence}: at its offset", t.decode_shed(replies[0].body)["retry_us"], offset)

        def with_length(length):
            return get[:2] + struct.pack("<H", length) + get[4:]

        shed("3: not a multiple of 8", get + b"\0\0\0\0")
        for length in (0, 7, 15):
            shed(f"33: length {length}", get + with_length(length), 32 + 24)
        shed("34: length past the end", get + with_length(25), 32 + 24)
        client.wseq += 1
        shed("35: the last bad, the first a put", put_op(client, 5000, b"never", client.wseq) + with_length(7))
        checks.equal("35: the put was not applied", client.get(5000), None)
        shed("36: 65 operations", b"".join([t.encode_op(t.NOP, 0)] * 65))
        shed("37: padding that is not zero", t.encode_op(t.PING, 1, b"x")[:-1] + b"\1")
        shed("53: replies of 1199 bytes", get, 20, reply_bytes=1199)
        shed("53: no reply packet", get, 20, reply_packets=0)
        big = t.encode_op(t.PING, 1, bytes(1300))
        shed("53: less room than the request takes", big, 20, reply_bytes=1200)
        setup.sync()


def test_bad_ops(host):
    """38 to 47, 54, 58 to 60: operations that are refused alone"""
    with connect(host) as client:
        core, epoch = place(client, 5000)

        def refused(sentence, op, status, where=core):
            reply = one(client, op, where)
            checks.equal(sentence, reply.status, status)
            return reply

        get = t.encode_op(t.GET, 50, key8(5000), aux=epoch)
        for code in (0x0b, 0x13, 0x24, 0x60, 0x7f):
            replies = client.exchange(get + t.encode_op(code, 51, bytes(20)) + get.replace(b"\x32", b"\x34"), core,
                                      count=3)
            checks.equal(f"38: opcode {code:02x} between two gets",
                         sorted((reply.op_id, reply.status) for reply in replies),
                         [(50, "NOT_FOUND"), (51, "UNSUPPORTED"), (52, "NOT_FOUND")])
        for code, flag in ((t.GET, 0x08), (t.GET, 0x40), (t.PING, 1), (t.DELETE, 1), (t.RANGE_READ, 0x20)):
            refused(f"39: flag {flag:02x} of {code:02x}", t.encode_op(code, client.new_op(), bytes(40), flags=flag),
                    "UNSUPPORTED")
        for code in (0x40, 0x5f):
            refused(f"40: opcode {code:02x}", t.encode_op(code, client.new_op(), bytes(8)), "FORBIDDEN")
        refused("43: a key at M", t.encode_op(t.GET, client.new_op(), key8(KEYS)), "INVALID_ARGUMENT")
        refused("43: the largest key", t.encode_op(t.GET, client.new_op(), key8((1 << 64) - 1)), "INVALID_ARGUMENT")
        refused("43: a put at M", put_op(client, 5000, b"", 900).replace(key8(5000), key8(KEYS)), "INVALID_ARGUMENT")
        test_wrong_shard(client)
        refused("45: lo > hi", t.encode_range(t.RANGE_READ, client.new_op(), 6, 5), "INVALID_ARGUMENT")
        reply = refused("45: lo = hi", t.encode_range(t.RANGE_READ, client.new_op(), 5, 5), "OK")
        checks.equal("45: and empty", t.decode_chunk(reply.body)["rows"] if len(reply.body) >= 32 else None, [])
        refused("46: hi > M", t.encode_range(t.RANGE_READ, client.new_op(), 5, KEYS + 1), "INVALID_ARGUMENT")
        refused("46: limit 2^64 - 1", t.encode_range(t.RANGE_READ, client.new_op(), 5000, 5001, limit=(1 << 64) - 1),
                "OK")
        for flags in (3, 5, 6):
            op = put_op(client, 5000, b"", 901, flags=flags, version=1 if flags & 4 else None)
            refused(f"47: conditions {flags:02x} at once", op, "INVALID_ARGUMENT")
        for budget in (0, 1000000, (1 << 32) - 1):
            refused(f"52: a budget of {budget} us", t.encode_op(t.GET, client.new_op(), key8(5000), aux=epoch,
                                                               budget=budget), "NOT_FOUND")
        limit = client.accept["value_max"]
        reply = refused("54: a total over the limit", put_op(client, 5000, bytes(1024), 902, total=limit + 1,
                                                             fragment_bytes=1024), "TOO_LARGE")
        checks.equal("54: which it names", reply.info, limit)
        refused("58: credit for no cursor", t.encode_op(t.RANGE_CREDIT, client.new_op(), key8(5), aux=3), "NO_CURSOR")
        refused("58: closing no cursor", t.encode_op(t.RANGE_CLOSE, client.new_op()), "NO_CURSOR")
        op = t.encode_range(t.RANGE_OPEN, client.new_op(), 5000, 5001, credit=(1 << 32) - 1, epoch=epoch)
        refused("59: credit without bounds", op, "OK")
        refused("60: a snapshot of the future", t.encode_range(t.RANGE_READ, client.new_op(), 5000, 5001, ts=FAR_AHEAD),
                "CLOCK_AHEAD")
        refused("60: a snapshot of 1970", t.encode_range(t.RANGE_READ, client.new_op(), 5000, 5001, ts=1),
                "SNAPSHOT_TOO_OLD")
        client.send_raw(client.seal(get, core, hlc=FAR_AHEAD), core)
        replies = replies_of(client)
        checks.equal("60: a packet's clock from the future", statuses(replies), [(0x90, "CLOCK_AHEAD")])
        checks.that("60: and the server's clock stays", client.hlc < FAR_AHEAD)
        for code, body in ((t.GET, bytes(7)), (t.GET, bytes(9)), (t.COOKIE, bytes(23)), (t.RANGE_READ, bytes(39)),
                           (t.FRAG_QUERY, bytes(8)), (t.MAP, bytes(15)), (t.PULL, bytes(31))):
            refused(f"a body of {len(body)} bytes for {code:02x}", t.encode_op(code, client.new_op(), body),
                    "INVALID_ARGUMENT")


def test_wrong_shard(client):
    """44: a key of another core"""
    core, epoch = place(client, 5000)
    wrong = (core + 1) % client.accept["cores"]
    client.send_raw(client.seal(t.encode_op(t.GET, client.new_op(), key8(5000), aux=epoch), wrong), wrong)
    replies = replies_of(client, count=2)
    checks.equal("44: WRONG_SHARD", statuses(replies[:1]), [(0x90, "WRONG_SHARD")])
    entries = [t.decode_map_entry(reply) for reply in replies if reply.opcode == t.MAP_ENTRY]
    checks.that("44: with the entry of the key", len(entries) == 1 and entries[0]["lo"] <= 5000 < entries[0]["hi"] and
                entries[0]["members"][entries[0]["primary"]][:2] == (1, core), entries)


# ---- Bad frames

def internet_sum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class Wire:
    """Frames put on the link by hand, as if they came from this host."""

    def __init__(self, setup):
        network = setup.node.network
        self.setup = setup
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.bind((network.link, 0))
        neighbours = subprocess.run(["ip", "neigh", "show", "dev", network.link], capture_output=True, check=True,
                                    text=True).stdout
        fields = next(line.split() for line in neighbours.splitlines() if line.startswith(setup.host4 + " "))
        self.node_mac = bytes.fromhex(fields[fields.index("lladdr") + 1].replace(":", ""))
        self.mac = self.socket.getsockname()[4]
        self.source = socket.inet_aton(network.host(2))
        self.source6 = socket.inet_pton(socket.AF_INET6, network.host6(2))
        self.to = socket.inet_aton(setup.host4)
        self.to6 = socket.inet_pton(socket.AF_INET6, setup.host6)

    def udp(self, payload, length=None, port=28700, checksum=0):
        return struct.pack(">HHHH", 40000, port, length or 8 + len(payload), checksum) + payload

    def ipv4(self, rest, *, source=None, to=None, fragment=0x4000, options=b"", protocol=17, spoil=0, total=None):
        head = struct.pack(">BBHHHBBH", 0x45 + len(options) // 4, 0, total or 20 + len(options) + len(rest), 1,
                           fragment, 64, protocol, 0) + (source or self.source) + (to or self.to) + options
        head = head[:10] + struct.pack(">H", internet_sum(head) ^ spoil) + head[12:]
        return self.node_mac + self.mac + b"\x08\x00" + head + rest

    def ipv6(self, rest, *, source=None, to=None, next_header=17):
        head = struct.pack(">IHBB", 6 << 28, len(rest), next_header, 64) + (source or self.source6) + (to or self.to6)
        return self.node_mac + self.mac + b"\x86\xdd" + head + rest

    def drop(self, sentence, reason, *frames):
        self.setup.expect_drops(sentence, reason, lambda: [self.socket.send(frame) for frame in frames], len(frames),
                                exact=False)


def test_frames(setup):
    """10 to 13: bad frames"""
    # Where br_netfilter is loaded, the bridge itself would drop some of them.
    for what in ("iptables", "ip6tables"):
        setup.node.network.run("sysctl", "-q", "-w", f"net.bridge.bridge-nf-call-{what}=0", check=False)
    wire = Wire(setup)
    init = t.encode_init(bytes(16))
    udp = wire.udp(init)
    wire.drop("10: UDP length beyond the IP length", "l4_length", wire.ipv4(wire.udp(init, length=300)),
              wire.ipv4(wire.udp(init, length=100)), wire.ipv4(b"\0" * 7))
    wire.drop("11: bad IP checksum", "l3_checksum", wire.ipv4(udp, spoil=0x0100))
    wire.drop("12: fragments", "l3_fragment", wire.ipv4(udp, fragment=0x2000), wire.ipv4(udp, fragment=0x0010),
              wire.ipv6(bytes(8) + udp, next_header=44))
    wire.drop("12: options and extension headers", "l3_options", wire.ipv4(udp, options=b"\1\1\1\0"),
              wire.ipv6(b"\x11\0\1\4\0\0\0\0" + udp, next_header=0))
    strange = [socket.inet_aton(text) for text in ("224.0.0.1", "255.255.255.255", "0.0.0.0", "127.0.0.1")]
    wire.drop("13: strange sources", "l3_source", *[wire.ipv4(udp, source=source) for source in (*strange, wire.to)])
    strange6 = [socket.inet_pton(socket.AF_INET6, text) for text in ("ff02::1", "::", "::1", "::ffff:10.79.0.1")]
    wire.drop("13: strange sources over IPv6", "l3_source",
              *[wire.ipv6(udp, source=source) for source in (*strange6, wire.to6)])
    wire.drop("a length beyond the frame", "l3_header", wire.ipv4(udp, total=2000))
    wire.drop("TCP", "l3_protocol", wire.ipv4(bytes(40), protocol=6), wire.ipv6(bytes(40), next_header=6))
    wire.drop("another destination", "l3_destination", wire.ipv4(udp, to=socket.inet_aton("10.99.0.1")))
    wire.drop("ports that no core has", "l4_port", wire.ipv4(wire.udp(init, port=28699)),
              wire.ipv4(wire.udp(init, port=28702)))
    wire.drop("no UDP checksum over IPv6", "l4_checksum", wire.ipv6(udp))
    wire.drop("an unknown Ethernet type", "l2_type", wire.node_mac + wire.mac + b"\x88\xb5" + bytes(50))


def test_echo(setup):
    """echo requests are answered over both families"""
    body = bytes(range(100))
    for host, family, protocol, request, answer in (
            (setup.host4, socket.AF_INET, socket.IPPROTO_ICMP, 8, 0),
            (setup.host6, socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129)):
        with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
            message = struct.pack(">BBHHH", request, 0, 0, os.getpid() & 0xffff, 7) + body
            # Over IPv6 the kernel makes the checksum (RFC 3542, 3.1).
            raw.sendto(message[:2] + struct.pack(">H", internet_sum(message)) + message[4:], (host, 0))
            end, found = time.monotonic() + 10, None
            while found is None and (left := end - time.monotonic()) > 0:
                raw.settimeout(left)
                packet, source = raw.recvfrom(2000)
                message_in = packet[20:] if family == socket.AF_INET else packet
                if source[0] == host and message_in[0] == answer:
                    found = message_in
            checks.equal(f"the echo of {host}", found and (found[4:8], found[8:]), (message[4:8], body))


def test_jumbo(sealed):
    """packets of 9000 bytes"""
    with Node("--keys", KEYS, "--mtu", "9000", "--dpdk-memory", "512M", *mode.settings(sealed), workers=2,
              mtu=9000) as node:
        mode.begin(node, sealed)
        for host in (node.network.host(11), node.network.host6(11)):
            with connect(host, payload=8900) as client:
                checks.that("the node publishes jumbo packets", client.accept["payload_max"] >= 8900)
                value = os.urandom(8000)
                version = client.put(5, value)
                checks.equal("8000 bytes come back", client.get(5), (version, value))
                # Not a count of packets: on a busy machine the client repeats itself.
                checks.that("8000 bytes go in one packet", client.longest_sent > 8000, client.longest_sent)
                checks.that("8000 bytes come in one packet", client.longest_received > 8000, client.longest_received)
                value = os.urandom(1 << 20)
                version = client.put(5, value)
                checks.that("a large value in jumbo fragments", client.get(5) == (version, value))
                client.delete(5)


def test_node(sealed):
    """all of it, in one mode"""
    with Node("--keys", KEYS, *mode.settings(sealed), workers=2) as node:
        mode.begin(node, sealed)
        setup = Setup(node)
        for host in (setup.host4, setup.host6):
            for test in (test_point, test_conditions, test_stale, test_ranges, test_range_beside_put, test_past,
                         test_cursor, test_large, test_fragments, test_fragment_pool, test_exactly_once,
                         test_session_ops, test_lanes, test_handed_over, test_refusals, test_bad_ops):
                checks.case(test, host)
                checks.case(setup.sync)
            for test in (test_bad_strangers, test_cookies, test_bad_headers, test_flips, test_bad_framing):
                checks.case(test, setup, host)
                checks.case(setup.sync)
        for test in (test_init_repeated, test_init_flips):
            checks.case(test, setup.host4)
            checks.case(setup.sync)
        for test in (test_init_flood, test_frames, test_echo, test_restart):
            checks.case(test, setup)
            checks.case(setup.sync)
        with connect(setup.host4) as client:
            client.put(1, b"the end")
            checks.equal("a new client still works at the end", client.get(1)[1], b"the end")


def main():
    for sealed in (True, False):
        print("under keys" if sealed else "in CLEAR mode", flush=True)
        checks.case(test_node, sealed)
        checks.case(test_jumbo, sealed)
    checks.end()


if __name__ == "__main__":
    main()
