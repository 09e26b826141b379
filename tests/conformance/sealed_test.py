#!/usr/bin/python3
"""Torc tests: a real node under keys: who gets a session, and what each principal may do. Root only.

By their numbers in the suite of bad packets: strangers and wrong keys (19 to 22, 24), sealed packets that were
changed, moved or sealed by somebody else (28), principals that share a client id (31), read only (41) or have ranges
(42), operations between nodes (40); and how many sessions a principal may have. After each a good client still works.
Ends with `N passed, N failed`.
"""
import os
import pathlib
import struct
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

import torc_client as t  # noqa: E402
from node import Node  # noqa: E402
from wire_rig import KEYS, Setup, Stranger, checks, connect, key8, mode, one, place, put_op, statuses  # noqa: E402

LOW_ORDER = (bytes(32), b"\1" + bytes(31),
             bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
             bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"))
PRINCIPALS = {
    "reader": ("--roles", "read"),
    "writer": ("--roles", "write"),
    "narrow": ("--roles", "read,write", "--ranges", "1000-2000,5000-6000"),
    "few": ("--roles", "read,write", "--max-sessions", "2"),
    "other": ("--roles", "read,write"),
    "loser": ("--roles", "read,write"),
}
keys = {}  # by name


def make_principals(node):
    for name, words in PRINCIPALS.items():
        node.torc("keys", "add", name, *words, "--data", node.data)
        keys[name] = t.read_key(node.torc("keys", "export", name, "--data", node.data).stdout.decode())


def sessions(setup):
    """How many were given since the node started."""
    return setup.node.admin("stats")["workers"]["torc_sessions_opened_total"]


def code_of(answer):
    refuse = t.unless_damaged(t.decode_refuse, answer or b"")
    return refuse and refuse["code"]


# ---- Who gets a session

def test_strangers(setup, host):
    """19, 20, 24: those who have no key, or not this one"""
    stranger = Stranger(host)
    retry = stranger.cookie()
    checks.equal("RETRY names the suites", retry["suites"], t.SUITES)
    before = sessions(setup)
    wrong = mode.key._replace(psk=os.urandom(32))
    for sentence, init in (
            ("19: an unknown principal", stranger.init(retry, principal=12345)),
            ("19: an unknown key of a known one", stranger.init(retry, mode.key._replace(number=77))),
            ("20: a wrong key", stranger.init(retry, wrong)),
            ("20: the key of another principal", stranger.init(retry, keys["reader"], principal=mode.key.principal)),
            ("20: the key as it is for another node", stranger.init(retry, psk=mode.key.of_node(retry["cluster"], 2))),
            ("20: the key as it is for another cluster",
             stranger.init(retry, psk=mode.key.of_node(retry["cluster"] ^ 1, 1))),
            ("20: the key as it was exported", stranger.init(retry, psk=mode.key.psk))):
        checks.equal(f"{sentence}: REFUSE AUTH", code_of(stranger.ask(init)), 1)
    checks.equal("24: CLEAR beside AES: SUITE", code_of(stranger.ask(stranger.init(retry, suites=0x81))), 2)
    checks.equal("24: a suite that nobody has: SUITE", code_of(stranger.ask(stranger.init(retry, suites=0x40))), 2)
    clear = t.encode_init(os.urandom(16), node=1, cookie=retry["cookie"], seen=2, client_id=256, suites=0x80)
    checks.equal("24: CLEAR: CLEAR_OFF", code_of(stranger.ask(clear)), 5)
    checks.equal("a sealed INIT of nobody: KEY_REQUIRED",
                 code_of(stranger.ask(stranger.init(retry, mode.key._replace(principal=0)))), 4)
    checks.that("no answer is longer than the question", stranger.bytes_in <= stranger.bytes_out)
    checks.equal("none of them has a session", sessions(setup), before)


def test_forged_inits(setup):
    """20: many INITs under wrong keys"""
    before = sessions(setup)
    refused = lambda: setup.node.admin("stats")["workers"]["torc_handshakes_refused_total"]  # noqa: E731
    start, strangers, kinds = refused(), [Stranger(setup.host4) for _ in range(10)], []
    for stranger in strangers:
        retry = stranger.cookie()
        for _ in range(20):
            stranger.send(stranger.init(retry, mode.key._replace(psk=os.urandom(32))))
        kinds += [answer[1] for answer in stranger.answers(0.2)]
    until = time.monotonic() + 5
    while len(kinds) != refused() - start and time.monotonic() < until:  # the last may be counted and not yet heard
        kinds += [answer[1] for stranger in strangers for answer in stranger.answers(0.02)]
    checks.equal("20: they are refused or over the budget", set(kinds) - {0x13}, set())
    for stranger in strangers:
        stranger.socket.close()
    checks.that("20: some were refused", 0 < len(kinds) == refused() - start,
                f"{len(kinds)}, {refused() - start} counted")
    checks.equal("20: none has a session", sessions(setup), before)
    time.sleep(1.1)  # the address has its budget back


def low_order_init(stranger, retry, point):
    """What seal_init makes, for a public key that has no secret."""
    head = t.encode_init_head(os.urandom(16), node=retry["node"], cookie=retry["cookie"], seen=2, suites=t.SUITES,
                              principal=mode.key.principal, key=mode.key.number)
    shake = t.Initiator(mode.key.of_node(retry["cluster"], retry["node"]), head, bytes(32))
    shake.state.mix_hash(point)
    shake.state.mix_key(point)
    return head + point + shake.state.seal(t.encode_init_payload(client_id=256, client_index=5))


def test_low_order(setup, host):
    """22: a public key of low order under the right key"""
    stranger = Stranger(host)
    retry = stranger.cookie()
    before = sessions(setup)
    setup.expect_drops("22: a point of low order", "dh",
                       lambda: [stranger.send(low_order_init(stranger, retry, point)) for point in LOW_ORDER],
                       len(LOW_ORDER))
    checks.equal("22: no answer", stranger.answers(0.1), [])
    checks.equal("22: and no session", sessions(setup), before)


def test_init_bits(setup):
    """21: a sealed INIT with a flipped bit"""
    before, taken = sessions(setup), []
    for part in range(6):  # an address may try 50 a second
        stranger = Stranger(setup.host4)
        retry = stranger.cookie()
        for bit in range(part * 43, 2048, 258):
            packet = bytearray(stranger.init(retry))
            packet[bit // 8] ^= 1 << bit % 8
            stranger.send(bytes(packet))
            taken += [bit for answer in stranger.answers(0.02) if answer[1] == 0x12]
        taken += [answer for answer in stranger.answers(0.2) if answer[1] == 0x12]
        time.sleep(0.2)
    checks.equal("21: none gives a session", (taken, sessions(setup)), ([], before))


def test_bound(setup, host):
    """a key that was exported for one node"""
    words = ("keys", "export", "other", "--data", setup.node.data, "--node")
    mine = t.read_key(setup.node.torc(*words, 1).stdout.decode())
    theirs = t.read_key(setup.node.torc(*words, 2).stdout.decode())
    checks.equal("says which node", (mine.bound, theirs.bound), (1, 2))
    with connect(host, key=mine) as client:
        checks.equal("is good at it", client.ping(b"here"), b"here")
    stranger = Stranger(host)
    retry = stranger.cookie()
    checks.equal("another node's is not: REFUSE AUTH", code_of(stranger.ask(stranger.init(retry, theirs))), 1)


def test_sessions_of_one(setup, host):
    """a principal has as many sessions as it may"""
    stranger = Stranger(host)
    clients = [connect(host, key=keys["few"]) for _ in range(2)]
    answer = stranger.ask(stranger.init(stranger.cookie(), keys["few"]))
    checks.equal("the third: REFUSE FULL", code_of(answer), 3)
    checks.that("the two still work", all(client.ping(b"here") == b"here" for client in clients))
    with connect(host) as client:
        checks.equal("so does another principal's", client.ping(b"here"), b"here")
    clients[0].close()
    time.sleep(1.2)  # the place rests for a second
    with connect(host, key=keys["few"]) as client:
        checks.equal("a place that was left is given again", client.ping(b"here"), b"here")
    clients[1].close()


# ---- Sealed packets

def test_packets(setup, host):
    """28: changed, moved, or sealed by somebody else"""
    with connect(host) as client, connect(host) as other:
        ping = t.encode_op(t.PING, 1)
        client.ping()
        for core in range(client.accept["cores"]):
            client.seq[core] = max(client.seq) + 10  # a number that no core has seen
            packet = client.seal(ping, core)
            moved = packet[:2] + bytes([1 - core]) + packet[3:]
            setup.expect_drops(f"28: a packet for core {core} as one for core {1 - core}", "auth_fail",
                               lambda moved=moved, core=core: client.send_raw(moved, 1 - core))
            renumbered = packet[:8] + struct.pack("<Q", client.seq[core] + 5) + packet[16:]
            setup.expect_drops("28: under another number", "auth_fail",
                               lambda renumbered=renumbered, core=core: client.send_raw(renumbered, core))
            client.send_raw(packet, core)
            checks.equal("28: as it was sent it is answered", statuses(client.open(
                client.next_raw(time.monotonic() + 10) or b"")), [(0x81, "OK")])
        for sentence, token in (("another session's key", other.accept["to_server"]),
                                ("the other direction's key", client.accept["to_client"]),
                                ("the next lane's key", client.accept["pair"].lane(1, client.accept["suite"])[0])):
            setup.expect_drops(f"28: {sentence}", "auth_fail",
                               lambda token=token: client.send_raw(client.seal(ping, 0, token=token)))
        clear = client.seal(ping, 0, token=5)
        setup.expect_drops("a packet in CLEAR", "auth_fail", lambda: client.send_raw(clear))
        checks.equal("and the session lives", client.ping(b"still"), b"still")


def test_secrecy(host):
    """nothing of a value, and no key, is to be seen on the way"""
    value = b"a value that nobody may see on the way " * 4
    seen = []
    with connect(host) as client:
        send, receive = client.send_raw, client.receive_raw

        def send_raw(packet, core=0):
            seen.append(packet)
            send(packet, core)

        def receive_raw(until):
            packet = receive(until)
            seen.append(packet or b"")
            return packet

        client.send_raw, client.receive_raw = send_raw, receive_raw
        client.handshake()
        client.put(77, value)
        checks.equal("the value comes back", client.get(77)[1], value)
        client.delete(77)
        secret = [value[:16], mode.key.psk, client.accept["pair"].to_server, client.accept["pair"].to_client]
    checks.that("packets were seen", len(seen) > 6, len(seen))
    checks.equal("neither value nor keys are among their bytes",
                 [part for part in secret for packet in seen if part in packet], [])
    ephemeral = [packet[64:96] for packet in seen if len(packet) == 256 and packet[3] == 1]
    checks.that("each INIT has its own public key", len(set(ephemeral)) == len({packet for packet in seen if len(
        packet) == 256 and packet[3] == 1}) and ephemeral)


# ---- What a principal may do

def test_roles(host):
    """40, 41: roles"""
    with connect(host) as client:
        client.put(1500, b"there")
        client.put(500, b"there too")
    with connect(host, key=keys["reader"]) as client:
        core, epoch = place(client, 1500)
        checks.equal("its roles are those of its line", client.accept["roles"], 1)
        checks.equal("41: a reader reads", client.get(1500)[1], b"there")
        checks.equal("41: and ranges", client.range(1500, 1501), [(1500, b"there")])
        for name, op in (("put", put_op(client, 1500, b"never", 1)),
                         ("delete", t.encode_write(t.DELETE, client.new_op(), 1500, 2, 2, client.stamp(), epoch, 1))):
            checks.equal(f"41: it does not {name}", one(client, op, core).status, "FORBIDDEN")
        reply = one(client, put_op(client, 1500, bytes(1024), 3, total=4096, fragment_bytes=1024), core)
        checks.equal("41: nor begin a large put", reply.status, "FORBIDDEN")
        for code in (0x40, 0x4f, 0x5f):
            checks.equal(f"40: opcode {code:02x}", one(client, t.encode_op(code, client.new_op(), bytes(8))).status,
                         "FORBIDDEN")
        get = t.encode_op(t.GET, 60, key8(1500), aux=epoch)
        packet = get + put_op(client, 1500, b"never", 4) + get.replace(b"\x3c", b"\x3e")
        replies = client.exchange(packet, core, count=3)
        checks.equal("41: a get before and behind it is answered",
                     sorted((reply.opcode, reply.status) for reply in replies),
                     [(0x90, "OK"), (0x90, "OK"), (0x91, "FORBIDDEN")])
    with connect(host, key=keys["writer"]) as client:
        core, epoch = place(client, 1500)
        checks.equal("41: a writer writes", one(client, put_op(client, 1500, b"written", 1), core).status, "OK")
        checks.equal("41: and does not read",
                     one(client, t.encode_op(t.GET, client.new_op(), key8(1500), aux=epoch), core).status, "FORBIDDEN")
        checks.equal("41: nor ask for status", one(client, t.encode_op(t.STATUS, client.new_op())).status, "FORBIDDEN")
    with connect(host) as client:
        checks.equal("41: what was forbidden was not done", client.get(1500)[1], b"written")


def test_rights_lost(setup, host):
    """41: a write is asked for its rights last"""
    first = connect(host, key=keys["loser"])
    core, epoch = place(first, 1600)
    op = lambda client, wseq, at: t.encode_write(t.PUT, client.new_op(), 1600, wseq, wseq, stamp, at, 1, b"once")  # noqa: E731
    stamp = first.stamp()
    done = one(first, op(first, 7, epoch), core)
    checks.equal("41: it writes", done.status, "OK")
    setup.node.torc("keys", "change", "loser", "--roles", "read", "--data", setup.node.data)
    with connect(host, client_id=first.client_id, key=keys["loser"]) as second:
        again = one(second, op(second, 7, epoch), core)
        checks.equal("41: what was done is told to who may no longer do it", (again.status, again.info),
                     ("OK", done.info))
        checks.equal("41: another epoch is WRONG_SHARD", one(second, op(second, 8, epoch + 1), core).status,
                     "WRONG_SHARD")
        checks.equal("41: what was not done is FORBIDDEN", one(second, op(second, 8, epoch), core).status, "FORBIDDEN")
        checks.equal("41: and is not done", second.get(1600)[1], b"once")
    setup.node.torc("keys", "change", "loser", "--roles", "read,write", "--data", setup.node.data)
    first.close()


def test_ranges(host):
    """42: key ranges"""
    with connect(host, key=keys["narrow"]) as client:
        core, epoch = place(client, 1500)
        for key, status in ((999, "FORBIDDEN"), (1000, "OK"), (1999, "OK"), (2000, "FORBIDDEN"), (4999, "FORBIDDEN"),
                            (5000, "OK"), (5999, "OK"), (6000, "FORBIDDEN"), (KEYS - 1, "FORBIDDEN")):
            client.wseq += 1
            where, of = place(client, key)
            put = put_op(client, key, b"x", client.wseq)
            checks.equal(f"42: a put of {key}", one(client, put, where).status, status)
            get = t.encode_op(t.GET, client.new_op(), key8(key), aux=of)
            checks.equal(f"42: a get of {key}", one(client, get, where).status, status)
        for lo, hi, status in ((1000, 2000, "OK"), (1100, 1200, "OK"), (999, 2000, "FORBIDDEN"),
                               (1000, 2001, "FORBIDDEN"), (1500, 5500, "FORBIDDEN"), (0, KEYS, "FORBIDDEN")):
            for flags in (0, 1, 4):
                op = t.encode_range(t.RANGE_READ, client.new_op(), lo, hi, flags=flags, epoch=epoch)
                checks.equal(f"42: a range of {lo} to {hi}, flags {flags}", one(client, op, core).status, status)
        op = t.encode_range(t.RANGE_OPEN, client.new_op(), 0, 3000, epoch=epoch, credit=1)
        checks.equal("42: a cursor", one(client, op, core).status, "FORBIDDEN")
        op = t.encode_pull(client.new_op(), 500, 1, 0, 1024, 1)
        checks.equal("42: a pull", one(client, op, core).status, "FORBIDDEN")
    with connect(host) as client:
        for key in (500, 1000, 1500, 1999, 5000, 5999):
            client.delete(key)


def test_same_client(host):
    """31: two principals with one client id"""
    first = connect(host)
    second = connect(host, client_id=first.client_id, key=keys["other"])
    core, _ = place(first, 1600)
    a = one(first, put_op(first, 1600, b"first", 10), core)
    b = one(second, put_op(second, 1600, b"second", 10), core)
    checks.equal("31: both writes took effect", (a.status, b.status), ("OK", "OK"))
    checks.that("31: each as its own", b.info > a.info, (a.info, b.info))
    checks.equal("31: the later is there", first.get(1600), (b.info, b"second"))
    again = [one(client, put_op(client, 1600, b"again", 10), core) for client in (first, second)]
    checks.equal("31: each is told its own first answer", [reply.info for reply in again], [a.info, b.info])
    first.wseq = 10
    first.delete(1600)
    first.close()
    second.close()


def main():
    with Node("--keys", KEYS, *mode.settings(True), workers=2) as node:
        mode.begin(node, True)
        make_principals(node)
        setup = Setup(node)
        for host in (setup.host4, setup.host6):
            for test in (test_strangers, test_low_order, test_bound, test_sessions_of_one, test_packets):
                checks.case(test, setup, host)
                checks.case(setup.sync)
            checks.case(test_rights_lost, setup, host)
            checks.case(setup.sync)
            for test in (test_secrecy, test_roles, test_ranges, test_same_client):
                checks.case(test, host)
                checks.case(setup.sync)
        for test in (test_forged_inits, test_init_bits):
            checks.case(test, setup)
            checks.case(setup.sync)
    checks.end()


if __name__ == "__main__":
    main()
