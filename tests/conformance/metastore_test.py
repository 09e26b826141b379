#!/usr/bin/python3
"""Torc tests: the metastore's contract, the same cases for `file` and for a real etcd on loopback, with
faults: slow, down, restarted, lost answers, many processes, full, torn, compacted.

    tests/conformance/metastore_test.py [WORD…]   all cases, or those whose name holds a word
Last line: `N passed, N failed`. Without etcd (etcd-server) only `file` is tested, and that is a failure.
"""
import base64
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "e2e"))
from node import BUILD, Checks  # noqa: E402



class Contract(Checks):
    """Says of which kind a check is."""
    kind = ""

    def that(self, sentence, good, detail=""):
        return super().that(f"{self.kind}: {sentence}", good, detail)


checks = Contract()
PROGRAM = BUILD / "tests/torc-metastore"


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class Etcd:
    """A server with a folder of its own."""
    kind = "etcd"

    def __init__(self, *options):
        self.name = "main"
        self.folder = tempfile.mkdtemp(prefix="torc-etcd-")
        self.ports = free_port(), free_port()
        self.options = options
        self.process = None
        self.start()

    def start(self):
        client, peer = (f"http://127.0.0.1:{port}" for port in self.ports)
        self.process = subprocess.Popen(
            ["etcd", "--data-dir", f"{self.folder}/data", "--name", "t", "--unsafe-no-fsync", "--log-level", "error", "--bcrypt-cost", "4", "--heartbeat-interval", "20",
             "--election-timeout", "100",
             "--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
             "--initial-advertise-peer-urls", peer, "--initial-cluster", f"t={peer}", *self.options],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                self.post("/v3/kv/range", key="AA==")
                return
            except OSError:
                time.sleep(0.02)
        raise RuntimeError("etcd does not start")

    def kill(self, number=signal.SIGKILL):
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(number)
        self.process.wait()

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)
        os.waitpid(self.process.pid, os.WUNTRACED)  # until all its threads have stopped

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def post(self, path, token=None, **body):
        request = urllib.request.Request(f"http://127.0.0.1:{self.ports[0]}{path}", json.dumps(body).encode(),
                                         {"Authorization": token} if token else {})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return json.load(answer)

    @property
    def address(self):
        return f"etcd:127.0.0.1:{self.ports[0]}{'' if self.name == 'main' else '/' + self.name}"

    def close(self):
        self.kill()
        shutil.rmtree(self.folder)


class File:
    """A folder; what holds its lock is a process of ours."""
    kind = "file"

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="torc-meta-")
        self.address = f"file:{self.folder}/meta"
        self.holder = None

    def pause(self):
        with open(f"{self.folder}/meta/lock", "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.holder = subprocess.Popen(["sleep", "600"], pass_fds=[lock.fileno()])
        self.holder.send_signal(signal.SIGSTOP)  # a stopped holder keeps it

    def resume(self):
        self.holder.kill()  # a dead one does not
        self.holder.wait()

    def close(self):
        if self.holder is not None and self.holder.poll() is None:
            self.resume()
        shutil.rmtree(self.folder)


class Proxy:
    """Between a client and etcd: answers can be lost after the request was carried out."""

    def __init__(self, port):
        self.to = port
        self.lose = 0  # so many answers of transactions
        self.delay = 0.0  # of answers, in seconds
        self.bodies = bytearray()
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.lock = threading.Lock()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self.carry, args=[client], daemon=True).start()

    def carry(self, client):
        with client, socket.create_connection(("127.0.0.1", self.to)) as server:
            stop = threading.Event()
            state = {"txn": False}

            def up():
                while not stop.is_set():
                    data = client.recv(1 << 16)
                    if not data:
                        break
                    with self.lock:
                        self.bodies += data
                    state["txn"] = state["txn"] or b"/v3/kv/txn" in data
                    server.sendall(data)
                stop.set()
                server.close()

            thread = threading.Thread(target=up, daemon=True)
            thread.start()
            while not stop.is_set():
                try:
                    data = server.recv(1 << 16)
                except OSError:
                    break
                if not data:
                    break
                with self.lock:
                    lost = state["txn"] and self.lose > 0
                    self.lose -= 1 if lost else 0
                if lost:
                    break
                state["txn"] = False
                time.sleep(self.delay)
                client.sendall(data)
            stop.set()
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:  # it has left
                pass

    def count(self, words):
        with self.lock:
            return self.bodies.count(words)

    def close(self):
        self.server.close()


class NameServer:
    """On an address of loopback; silent, or it knows every name as 127.0.0.1."""

    def __init__(self, address, answers):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 53))
        if answers:
            threading.Thread(target=self.answer, daemon=True).start()

    def answer(self):
        while True:
            try:
                data, client = self.socket.recvfrom(512)
            except OSError:
                return
            if len(data) < 17:  # it is closed
                return
            question = data[12:data.index(0, 12) + 5]
            known = question[-4:-2] == b"\0\1"  # an A
            record = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + bytes([127, 0, 0, 1]) if known else b""
            self.socket.sendto(data[:2] + struct.pack(">5H", 0x8180, 1, known, 0, 0) + question + record, client)

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)  # else its thread goes on
        except OSError:
            pass
        self.socket.close()


def asking(store, *lines):
    """The words before a program's own with which it asks these name servers."""
    conf = pathlib.Path(store.folder) / "resolv.conf"
    conf.write_text("\n".join(lines) + "\n")
    return "unshare", "-m", "sh", "-c", f'mount --bind {conf} /etc/resolv.conf && exec "$0" "$@"'


class Meta:
    """A client of the metastore, in a process."""

    def __init__(self, address, *words, within=()):
        self.process = subprocess.Popen([*within, PROGRAM, address, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.ticket = 0
        self.kept = []
        self.opened = self.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        status = self.process.wait(30)
        self.process.stdout.close()
        if status != (self.opened["opened"] != "OK"):
            checks.that("the client ends well", False, f"status {status}")

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("torc-metastore ended")
        return json.loads(line)

    def send(self, *words):
        self.process.stdin.write((" ".join(map(str, words)) + "\n").encode())
        self.process.stdin.flush()

    def begin(self, verb, *words, ms=5000):
        self.ticket += 1
        self.send(verb, self.ticket, ms, *words)
        return self.ticket

    def wait(self, ticket):
        for answer in self.kept:
            if answer["ticket"] == ticket:
                self.kept.remove(answer)
                return answer
        while True:
            answer = self.read()
            if answer["ticket"] == ticket:
                return answer
            self.kept.append(answer)

    def ask(self, verb, *words, ms=5000):
        return self.wait(self.begin(verb, *words, ms=ms))

    def get(self, key, **options):
        return self.ask("get", key, **options)

    def txn(self, *words, **options):
        return self.ask("txn", *words, **options)

    def put(self, key, value, expected="any", **options):
        return self.txn("put", key, value, expected, **options)

    def value(self, key):
        answer = self.get(key)
        return answer["records"][0][2] if answer["err"] == "OK" else answer["err"]


def both_table(store):
    """records, conditions, versions"""
    with Meta(store.address) as a, Meta(store.address) as b:
        checks.equal("it opens", a.opened["opened"], "OK")
        checks.equal("nothing there", a.get("node/1")["err"], "NOT_FOUND")
        made = a.put("node/1", "one", 0)
        checks.equal("put where nothing is", made["err"], "OK")
        seen = b.get("node/1")
        checks.equal("another process sees it, with its version", seen["records"], [["node/1", made["revision"], "one"]])
        checks.equal("its revision is not older", seen["revision"] >= made["revision"], True)
        refused = b.put("node/1", "two", 0)
        checks.equal("put where something is", refused["err"], "CONDITION_FAILED")
        checks.equal("it says what is there", refused["records"], [["node/1", made["revision"], "one"]])
        second = b.put("node/1", "two", made["revision"])
        checks.equal("put over the version read", second["err"], "OK")
        checks.equal("revisions rise", second["revision"] > made["revision"], True)
        checks.equal("the old version is refused", a.put("node/1", "three", made["revision"])["err"], "CONDITION_FAILED")
        checks.equal("only a condition", a.txn("chk", "node/1", second["revision"])["err"], "OK")
        checks.equal("a delete on condition", a.txn("del", "node/1", made["revision"])["err"], "CONDITION_FAILED")
        checks.equal("a delete", a.txn("del", "node/1", second["revision"])["err"], "OK")
        checks.equal("it is gone", b.get("node/1")["err"], "NOT_FOUND")
        checks.equal("an empty value", (a.put("e", "-")["err"], b.value("e")), ("OK", ""))
        a.put("e", "x")
        checks.equal("whatever is there", (a.put("e", "y", "any")["err"], b.value("e")), ("OK", "y"))


def both_transactions(store):
    """all or nothing, 64 records, limits"""
    with Meta(store.address) as a:
        first = [word for i in range(64) for word in ("put", f"shard/{i}", f"v{i}", 0)]
        made = a.txn(*first)
        checks.equal("64 records at once", made["err"], "OK")
        second = [word for i in range(64) for word in ("put", f"shard/{i}", "w", made["revision"] + (i == 63))]
        refused = a.txn(*second)
        checks.equal("one that is not as expected refuses all", refused["err"], "CONDITION_FAILED")
        checks.equal("they are all told", len(refused["records"]), 64)
        checks.equal("nothing was changed", a.value("shard/0"), "v0")
        mixed = a.txn("chk", "shard/1", made["revision"], "del", "shard/2", made["revision"],
                      "put", "shard/3", "new", made["revision"], "put", "shard/99", "born", 0)
        checks.equal("checks, deletes and puts", mixed["err"], "OK")
        checks.equal("a put of it", a.value("shard/3"), "new")
        checks.equal("a delete of it", a.get("shard/2")["err"], "NOT_FOUND")
        many = [word for i in range(129) for word in ("put", f"x/{i}", "v", "any")]
        checks.equal("129 records", a.txn(*many)["err"], "TOO_LARGE")
        checks.equal("128 records", a.txn(*many[:512])["err"], "OK")
        checks.equal("one twice", a.txn("put", "a", "b", "any", "put", "a", "c", "any")["err"], "INVALID_ARGUMENT")
        checks.equal("a long name", a.get("n" * 97)["err"], "INVALID_ARGUMENT")
        checks.equal("a long value", a.put("v", "x" * 4097)["err"], "TOO_LARGE")
        checks.equal("one that fits", (a.put("v", "x" * 4096)["err"], len(a.value("v"))), ("OK", 4096))


def both_lists(store):
    """a family, in order, bounded"""
    with Meta(store.address) as a:
        for key in ("shard/2", "node/1", "shard/10", "shardx", "shard/1", "shard0"):
            a.put(key, "v" + key)
        listed = a.ask("list", "shard/", 10)
        checks.equal("in the order of names", [row[0] for row in listed["records"]], ["shard/1", "shard/10", "shard/2"])
        checks.equal("with values", listed["records"][1][2], "vshard/10")
        checks.equal("as many as allowed", a.ask("list", "shard/", 3)["err"], "OK")
        checks.equal("more than allowed", a.ask("list", "shard/", 2)["err"], "LIMIT")
        checks.equal("an empty family", (lambda r: (r["err"], r["records"]))(a.ask("list", "want/", 2)), ("OK", []))
        checks.equal("everything", len(a.ask("list", "-", 10)["records"]), 6)


def both_watches(store):
    """whoever watches is woken"""
    with Meta(store.address) as a, Meta(store.address) as b:
        start = a.put("shard/1", "v")["revision"]
        b.send("watch", 1000, "shard/", start + 1)
        a.put("node/1", "not of the family")
        changed = a.put("shard/2", "v")["revision"]
        woken = b.wait(1000)
        checks.equal("by what another process did", woken["records"], [["shard/2", changed]])
        checks.equal("up to where", woken["revision"], changed)
        gone = a.txn("del", "shard/1", start)["revision"]
        woken = b.wait(1000)
        checks.equal("by a delete", woken["records"], [["shard/1", gone]])
        b.send("watch", 1001, "shard/", start)
        names = {}
        while len(names) < 2:
            woken = b.wait(1001)
            names.update({row[0]: row[1] for row in woken["records"]})
        checks.equal("from the past on", names.get("shard/2"), changed)
        b.send("unwatch", 1000)
        mine = b.put("shard/3", "v")
        woken = b.wait(1001)
        checks.equal("by what it did itself", [mine["revision"]] == [row[1] for row in woken["records"]], True)
        checks.equal("an unwatched one is not", [answer for answer in b.kept if answer["ticket"] == 1000], [])


def both_counters(store):
    """many processes add to a counter, each number is drawn once"""
    times, count = 20, 4
    drawers = [Meta(store.address) for _ in range(count)]
    for drawer in drawers:
        drawer.send("draw", "counter/x", times)
    drawn = sorted(drawer.read()["drawn"] for drawer in drawers for _ in range(times))
    for drawer in drawers:
        drawer.__exit__()
    checks.equal("all of them, none twice", drawn, list(range(1, count * times + 1)))


def both_away(store):
    """away, stopped and back: answered by the deadline"""
    with Meta(store.address) as a:
        a.put("node/1", "v")
        a.send("watch", 1000, "node/", a.get("node/1")["revision"] + 1)
        store.pause()
        begun = time.monotonic()
        tickets = [a.begin("get", "node/1", ms=300), a.begin("txn", "put", "node/1", "w", "any", ms=300),
                   a.begin("list", "node/", 5, ms=300)]
        answers = [a.wait(ticket) for ticket in tickets]
        checks.equal("a read", answers[0]["err"], "UNAVAILABLE")
        checks.equal("a transaction did not happen, or nobody knows", answers[1]["err"] in ("UNAVAILABLE", "IN_DOUBT"),
                     True)
        checks.equal("a list", answers[2]["err"], "UNAVAILABLE")
        checks.equal("the texts say who is away", "" in [answer["why"] for answer in answers], False)
        checks.equal("none waited much longer than it may", time.monotonic() - begun < 20, True)
        store.resume()
        checks.equal("it goes on", a.get("node/1", ms=10000)["err"], "OK")
        if answers[1]["err"] == "UNAVAILABLE":
            checks.equal("what did not happen does not later", a.value("node/1"), "v")
        again = a.put("node/1", "z")
        woken = a.wait(1000)
        while woken["revision"] < again["revision"]:
            woken = a.wait(1000)
        checks.equal("watches go on", woken["revision"], again["revision"])


def both_stuck(store):
    """many transactions that are stuck, and as many questions after them"""
    many = 50  # two together are more than may be under way at once
    with Meta(store.address) as a:
        a.put("node/1", "v")
        store.pause()
        # A file's lock is waited for a second by all that are tried together: all, or all but the first before them.
        for patience in (600, 1500):
            tickets = [a.begin("txn", "put", f"shard/{i}", "w", "any", ms=patience) for i in range(many)]
            answers = [a.wait(ticket) for ticket in tickets]
            checks.equal("none is said to have happened",
                         sorted({answer["err"] for answer in answers} - {"UNAVAILABLE", "IN_DOUBT"}), [])
            tickets = [a.begin("get", f"shard/{i}", ms=300) for i in range(many)]
            answers = [a.wait(ticket) for ticket in tickets]
            checks.equal("nor is one read", {answer["err"] for answer in answers}, {"UNAVAILABLE"})
        store.resume()
        checks.equal("it goes on", a.get("node/1", ms=10000)["err"], "OK")


def both_back(store):
    """a revision that goes back is an alarm"""
    with Meta(store.address) as a:
        a.put("node/1", "v")
        a.send("adopt", 10 ** 9)
        answer = a.get("node/1")
        checks.equal("a read", (answer["err"], answer["went_back"], answer["records"]), ("CORRUPT", True, []))
        checks.equal("it has a name", "METASTORE_WENT_BACK" in answer["why"], True)
        checks.equal("and all that follows", a.put("node/1", "w")["went_back"], True)


def etcd_restart(store):
    """down, restarted, one of two addresses dead"""
    with Meta(store.address) as a, Meta(f"etcd:127.0.0.1:{free_port()},{store.address[5:]}") as b:
        made = a.put("node/1", "v")
        checks.equal("a dead member first", b.value("node/1"), "v")
        a.send("watch", 1000, "node/", made["revision"] + 1)
        store.kill()
        answer = a.put("node/1", "w", ms=300)
        checks.equal("down: a transaction was not sent", answer["err"] in ("UNAVAILABLE", "IN_DOUBT"), True)
        checks.equal("down: a read", a.get("node/1", ms=200)["err"], "UNAVAILABLE")
        store.start()
        checks.equal("restarted: what was there is there", a.value("node/1"), "v")
        changed = a.put("node/1", "x")
        checks.equal("restarted: a transaction", changed["err"], "OK")
        checks.equal("restarted: a watch goes on", a.wait(1000)["revision"], changed["revision"])


def etcd_lost(store):
    """answers are lost of transactions that did apply"""
    proxy = Proxy(store.ports[0])
    try:
        with Meta(f"etcd:127.0.0.1:{proxy.port}/{store.name}") as a, Meta(store.address) as b:
            made = a.put("node/1", "v", 0)  # the connection is kept, libcurl would repeat what it loses
            proxy.lose = 1
            lost = a.put("node/1", "w", made["revision"])
            checks.equal("a lost answer is no refusal", lost["err"], "IN_DOUBT")
            seen = b.get("node/1")["records"][0]
            checks.equal("it did apply", seen[2], "w")
            checks.equal("once", seen[1], made["revision"] + 1)
            proxy.lose = 7
            a.send("draw", "counter/x", 12)
            b.send("draw", "counter/x", 12)
            drawn = [a.read() for _ in range(12)] + [b.read() for _ in range(12)]
            checks.equal("draws that lose answers draw nothing twice", len({row["drawn"] for row in drawn}), 24)
            checks.equal("answers were lost", proxy.lose, 0)
            checks.equal("no read may be stale", b"serializable" in proxy.bodies, False)
            checks.equal("reads were seen", b"/v3/kv/range" in proxy.bodies, True)
    finally:
        proxy.close()


def etcd_slow(store):
    """an etcd whose answers take long"""
    proxy = Proxy(store.ports[0])
    try:
        with Meta(f"etcd:127.0.0.1:{proxy.port}/{store.name}") as a:
            a.put("node/1", "v")
            proxy.delay = 0.7
            checks.equal("a list", a.ask("list", "node/", 5)["err"], "OK")
            checks.equal("a read", a.get("node/1")["err"], "OK")
            checks.equal("a change", a.put("node/1", "w")["err"], "OK")
    finally:
        proxy.close()


def etcd_compacted(store):
    """a watch from a revision that was compacted"""
    with Meta(store.address) as a:
        first = a.put("node/1", "v")["revision"]
        for i in range(5):
            last = a.put("node/1", f"v{i}")["revision"]
        store.post("/v3/kv/compaction", revision=str(last), physical=True)
        a.send("watch", 1000, "node/", first)
        woken = a.wait(1000)
        checks.equal("is told that something is missing", woken["gap"], True)
        changed = a.put("node/1", "new")["revision"]
        while woken["revision"] < changed:
            woken = a.wait(1000)
        checks.equal("and goes on", woken["records"], [["node/1", changed]])


def etcd_others(store):
    """another cluster, another service, names, addresses"""
    other = Etcd()
    silly = socket.create_server(("127.0.0.1", 0))
    try:
        with Meta(f"{store.address},127.0.0.1:{other.ports[0]}") as a, Meta(store.address) as b:
            checks.equal("a member", a.put("node/1", "v")["err"], "OK")
            used = store if b.get("node/1")["err"] == "OK" else other  # the first is drawn
            used.kill()
            answer = a.get("node/1")
            checks.equal("a member of another cluster", (answer["err"], "one cluster" in answer["why"]), ("CORRUPT", True))
            used.start()
        with Meta(store.address) as b:
            b.put("node/1", "v")
        with Meta(f"{store.address}/other") as a, Meta(f"{store.address}/main") as b:
            checks.equal("another name", a.get("node/1")["err"], "NOT_FOUND")
            checks.equal("the name that is the default", b.value("node/1"), "v")
        with Meta(f"etcd:127.0.0.1:{silly.getsockname()[1]}") as a:
            checks.equal("nobody answers", a.get("node/1", ms=300)["err"], "UNAVAILABLE")
    finally:
        other.close()
        silly.close()
    for address in ("etcd:", "etcd:host", "etcd:a:1,", "etcd:a:99999", "etcd:a:1/b/c", "etcd:a:1/", "zk:a:1", "file:rel"):
        with Meta(address) as a:
            checks.equal(f"address {address}", a.opened["opened"], "INVALID_ARGUMENT")


def ask_for_logins(store):
    store.post("/v3/auth/user/add", name="root", password="secret")
    store.post("/v3/auth/role/add", name="root")
    store.post("/v3/auth/user/grant", user="root", role="root")
    store.post("/v3/auth/enable")


def secret_file(path, data):
    path.touch(0o600)
    path.write_bytes(data)
    return path


def etcd_login(store):
    """with a user and a password"""
    ask_for_logins(store)
    folder = pathlib.Path(store.folder)
    right = secret_file(folder / "right", b"secret\n")
    wrong = secret_file(folder / "wrong", b"guess\n")
    bytes_ = secret_file(folder / "bytes", b"p\xe4ss\n")
    with Meta(store.address) as a:
        checks.equal("nobody", a.get("node/1")["err"], "FORBIDDEN")
    with Meta(store.address, "root", str(wrong)) as a:
        checks.equal("a wrong password", a.get("node/1")["err"], "FORBIDDEN")
    with Meta(store.address, "root", str(right)) as a:
        made = a.put("node/1", "v")
        checks.equal("the right one", made["err"], "OK")
        a.send("watch", 1000, "node/", made["revision"])
        checks.equal("a watch too", a.wait(1000)["records"], [["node/1", made["revision"]]])
    with Meta(store.address, "root", "/nowhere") as a:
        checks.equal("a password that is not there", a.opened["opened"], "FORBIDDEN")
    with Meta(store.address, "root", str(bytes_)) as a:
        checks.equal("one that is no text", a.opened["opened"], "INVALID_ARGUMENT")
    for mode in (0o644, 0o660, 0o602):
        right.chmod(mode)
        with Meta(store.address, "root", str(right)) as a:
            checks.equal(f"one that others can read or change, {mode:o}",
                         (a.opened["opened"], f"mode {mode:04o}" in a.opened["why"], "chmod 600" in a.opened["why"]),
                         ("FORBIDDEN", True, True))
    right.chmod(0o640)
    done = subprocess.run([PROGRAM, store.address, "root", right], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    checks.program("one that its group can read is taken", done, 0)
    checks.that("and warned of", b"password_shared" in done.stderr and b"chmod 600" in done.stderr, str(done.stderr))


def etcd_login_changed(store):
    """the password is changed under a client that runs"""
    ask_for_logins(store)
    password = secret_file(pathlib.Path(store.folder) / "password", b"secret\n")
    proxy = Proxy(store.ports[0])
    try:
        with Meta(f"etcd:127.0.0.1:{proxy.port}/{store.name}", "root", str(password)) as a:
            checks.equal("the first password", a.put("node/1", "v")["err"], "OK")
            token = store.post("/v3/auth/authenticate", name="root", password="secret")["token"]
            store.post("/v3/auth/user/changepw", token, name="root", password="other")
            checks.equal("it is refused", a.get("node/1")["err"], "FORBIDDEN")
            before = proxy.count(b"/v3/auth/authenticate")
            a.send("watch", 1000, "node/", 1)
            time.sleep(2)  # tries within a time are what is counted
            tries = proxy.count(b"/v3/auth/authenticate") - before
            checks.that("the pause between logins grows", 0 < tries < 12, str(tries))
            password.write_text("other\n")
            checks.equal("the new one is read", a.get("node/1", ms=10000)["err"], "OK")
            checks.that("the watch goes on", a.wait(1000)["revision"] > 0)
            token = store.post("/v3/auth/authenticate", name="root", password="other")["token"]
            password.write_text("third\n")
            store.post("/v3/auth/user/changepw", token, name="root", password="third")
            checks.equal("one that is in the file by then costs no refusal", a.get("node/1")["err"], "OK")
            token = store.post("/v3/auth/authenticate", name="root", password="third")["token"]
            password.write_text("fourth\n")
            password.chmod(0o644)
            store.post("/v3/auth/user/changepw", token, name="root", password="fourth")
            refused = a.get("node/1")
            checks.equal("a file that others may read by now", (refused["err"], "mode 0644" in refused["why"]), ("FORBIDDEN", True))
            password.chmod(0o600)
            checks.equal("it is read once they may not", a.get("node/1", ms=10000)["err"], "OK")
    finally:
        proxy.close()


def etcd_login_late(store):
    """a token is refused late: the one that took its place stays"""
    ask_for_logins(store)
    password = secret_file(pathlib.Path(store.folder) / "password", b"secret\n")
    proxy = Proxy(store.ports[0])
    try:
        with Meta(f"etcd:127.0.0.1:{proxy.port}/{store.name}", "root", str(password)) as a:
            checks.equal("a change", a.put("node/1", "v")["err"], "OK")
            token = store.post("/v3/auth/authenticate", name="root", password="secret")["token"]
            store.post("/v3/auth/user/changepw", token, name="root", password="secret")  # ends the user's tokens
            before = proxy.count(b"/v3/auth/authenticate")
            proxy.delay = 0.4
            late = a.begin("get", "node/1")
            time.sleep(0.1)  # the refusal is on its way, and stays there for a while
            proxy.delay = 0
            checks.equal("a read is refused and logs in", a.get("node/1")["err"], "OK")
            checks.equal("one that was refused later goes on", a.wait(late)["err"], "OK")
            checks.equal("with one login for both", proxy.count(b"/v3/auth/authenticate") - before, 1)
    finally:
        proxy.close()


def etcd_login_kept(store):
    """members that are away cost no login"""
    ask_for_logins(store)
    password = secret_file(pathlib.Path(store.folder) / "password", b"secret\n")
    proxy = Proxy(store.ports[0])
    away = ",".join(f"127.0.0.1:{free_port()}" for _ in range(7))
    try:
        with Meta(f"etcd:{away},127.0.0.1:{proxy.port}/{store.name}", "root", str(password)) as a:
            a.send("watch", 1000, "node/", 1)  # from a member of its own on, as the next
            a.send("watch", 1001, "node/", 1)
            made = a.put("node/1", "v")
            checks.equal("one of eight is there", made["err"], "OK")
            checks.equal("a watch finds it", a.wait(1000)["records"], [["node/1", made["revision"]]])
            checks.equal("another too", a.wait(1001)["records"], [["node/1", made["revision"]]])
            checks.equal("with one login", proxy.count(b"/v3/auth/authenticate"), 1)
    finally:
        proxy.close()


def etcd_names(store):
    """a name server that does not answer holds up nobody"""
    silent = NameServer("127.79.0.53", False)
    try:
        with Meta(f"etcd:etcd.torc.example:{store.ports[0]}",
                  within=asking(store, "nameserver 127.79.0.53", "options timeout:10 attempts:2")) as a:
            begun, most = time.monotonic(), 0
            read = a.get("node/1", ms=300)
            checks.equal("a read", (read["err"], "address is not known" in read["why"]), ("UNAVAILABLE", True))
            checks.equal("a change", a.put("node/1", "v", ms=300)["err"], "UNAVAILABLE")
            checks.that("they were answered before the name server's time was over", time.monotonic() - begun < 9)
            silent.socket.settimeout(5)
            checks.that("it was asked", b"torc" in silent.socket.recv(512))
            a.send("watch", 1000, "node/", 1)
            while time.monotonic() - begun < 11:
                for ticket in [a.begin("get", "node/1", ms=200) for _ in range(40)]:
                    a.wait(ticket)
                most = max(most, len(os.listdir(f"/proc/{a.process.pid}/task")))
            checks.that("no thread is left behind by each try", most <= 3, str(most))
    finally:
        silent.close()


def etcd_names_second(store):
    """the first of two name servers is dead: a node starts, and logs in"""
    ask_for_logins(store)
    folder = pathlib.Path(store.folder)
    password = secret_file(folder / "password", b"secret\n")
    silent, answers = NameServer("127.79.0.53", False), NameServer("127.79.0.54", True)
    within = asking(store, "nameserver 127.79.0.53", "nameserver 127.79.0.54")
    address = f"etcd:etcd.torc.example:{store.ports[0]}"
    try:
        init = subprocess.Popen([*within, BUILD / "control/torc-control", "init", "--data", folder / "node1", "--metastore", address,
                                 "--metastore-user", "root", "--metastore-password-file", password],
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        with Meta(f"{address}/other", "root", str(password), within=within) as a:
            a.send("watch", 1000, "node/", 1)
            made = a.put("node/1", "v", ms=12000)
            checks.equal("a change", made["err"], "OK")
            checks.equal("a watch", a.wait(1000)["records"], [["node/1", made["revision"]]])
            begun = time.monotonic()
            checks.equal("a read", a.get("node/1")["err"], "OK")
            checks.that("what was found is kept", time.monotonic() - begun < 2)
        said = init.communicate(timeout=60)[1]
        checks.equal("a node is made", (init.returncode, said if init.returncode else b""), (0, b""))
    finally:
        silent.close()
        answers.close()


def etcd_tokens(store):
    """tokens of several hundred bytes"""
    key, public, password = (pathlib.Path(store.folder) / name for name in ("key.pem", "public.pem", "password"))
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
    secret_file(password, b"secret\n")
    signed = Etcd("--auth-token", f"jwt,pub-key={public},priv-key={key},sign-method=RS256,ttl=10m")
    try:
        ask_for_logins(signed)
        with Meta(signed.address, "root", str(password)) as a:
            checks.equal("they are sent whole", a.put("node/1", "v")["err"], "OK")
    finally:
        signed.close()


def etcd_full(store):
    """etcd's quota is used up"""
    small = Etcd("--quota-backend-bytes", "100000")
    try:
        with Meta(small.address) as a:
            answers = []
            while len(answers) < 1000 and "NO_SPACE" not in answers:
                answers.append(a.put(f"node/{len(answers)}", "x" * 4000)["err"])
            checks.equal("it says so", set(answers), {"OK", "NO_SPACE"})
            checks.equal("reads go on", a.get("node/0")["err"], "OK")
    finally:
        small.close()


def file_torn(store):
    """a torn tail is ignored; damage is not"""
    with Meta(store.address) as a:
        a.put("node/1", "v")
        journal = pathlib.Path(store.folder) / "meta/journal"
        with journal.open("ab") as tail:
            tail.write(struct.pack("<II", 0, 200) + b"half of an entry")
        checks.equal("what is whole is there", a.value("node/1"), "v")
        checks.equal("it goes on from there", a.put("node/1", "w")["err"], "OK")
    with Meta(store.address) as a:
        checks.equal("and stays", a.value("node/1"), "w")
        a.put("node/1", "x")
        data = bytearray(journal.read_bytes())
        data[70] ^= 1
    journal.write_bytes(data)
    with Meta(store.address) as a:
        checks.equal("damage is refused", a.opened["opened"], "CORRUPT")


def file_put_back(store):
    """an old one is put back under clients that run"""
    journal = pathlib.Path(store.folder) / "meta/journal"
    with Meta(store.address) as a:
        a.put("node/1", "v")
        old = journal.read_bytes()
        a.put("node/1", "w")
        journal.write_bytes(old)  # the same file, shorter
        checks.equal("a change is refused", a.put("node/1", "x")["err"], "CORRUPT")
        checks.equal("nothing is read", a.get("node/1")["err"] != "OK", True)
        checks.equal("it is left alone", journal.read_bytes(), old)
    with Meta(store.address) as a:
        checks.equal("it can be opened", a.value("node/1"), "v")


def file_put_back_long(store):
    """one of before a compaction, longer than the one in use; one that is as long"""
    journal = pathlib.Path(store.folder) / "meta/journal"
    with Meta(store.address) as a, Meta(store.address) as b:
        old, ticket = journal.stat().st_ino, 0
        while journal.stat().st_ino == old:
            copy = journal.read_bytes()
            for _ in range(256):
                ticket += 1
                a.put(f"node/{ticket % 8}", "x" * 3000)
        b.value("node/1")
        checks.equal("it is longer than the one in use", len(copy) > journal.stat().st_size, True)
        with open(journal, "r+b") as file:
            file.write(copy)  # as cp does
        checks.equal("a change is refused", a.put("node/1", "x")["err"], "CORRUPT")
        checks.equal("a read is refused", b.get("node/1")["err"], "CORRUPT")
        checks.that("it is left alone", journal.read_bytes() == copy)
    with Meta(store.address) as a:
        checks.equal("it can be opened", a.value("node/1"), "x" * 3000)
        a.put("node/1", "v")
        copy = journal.read_bytes()
        a.put("node/1", "w")
    now = journal.read_bytes()
    journal.write_bytes(copy)
    with Meta(store.address) as a:
        a.put("node/1", "y")
        checks.equal("two of one length", len(journal.read_bytes()), len(now))
        with open(journal, "r+b") as file:
            file.write(now)
        checks.equal("another of the same length is refused", a.get("node/1")["err"], "CORRUPT")


def file_full(store):
    """a full disk, and space again"""
    folder = pathlib.Path(store.folder) / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    try:
        with Meta(f"file:{folder}/meta") as a:
            a.put("node/1", "v")
            (folder / "ballast").write_bytes(b"x" * 40960)
            answers = [a.put("node/2", "y" * 4000)["err"] for _ in range(8)]
            checks.equal("it says so", set(answers), {"OK", "NO_SPACE"})
            checks.equal("what was there is there", a.value("node/1"), "v")
            (folder / "ballast").unlink()
            checks.equal("with space it goes on", a.put("node/1", "w")["err"], "OK")
        with Meta(f"file:{folder}/meta") as a:
            checks.equal("and stays", a.value("node/1"), "w")
    finally:
        subprocess.run(["umount", folder], check=True)


def file_killed(store):
    """a writer is killed at any moment; nothing torn is ever seen, nothing acknowledged is lost"""
    for round_number in range(6):
        with Meta(store.address) as a:
            before = a.value("counter/x")
            writer = Meta(store.address)
            writer.send("draw", "counter/x", 1000)
            drawn = [writer.read()["drawn"] for _ in range(3 + round_number)]
            writer.process.kill()
            writer.process.wait()
            last = int(a.value("counter/x").split("value=")[1].split("\n")[0])
            checks.equal("acknowledged numbers are taken", last >= drawn[-1], True)
            checks.equal("numbers only rise", before == "NOT_FOUND" or drawn[0] > 0, True)


def etcd_init(store):
    """torc init and torc serve with etcd"""
    program, folder = BUILD / "control/torc-control", pathlib.Path(store.folder)

    def control(*words):
        return subprocess.run([program, *words], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60)

    def init(node, *words):
        return control("init", "--data", folder / f"node{node}", "--node", str(node), "--metastore", store.address,
                       "--shards", "70", *words)

    checks.program("init makes a cluster", init(1), 0, "made node 1")
    checks.program("another node does not without the cluster's keys", init(2), 2, "torc.keys is missing")
    shutil.copy2(folder / "node1/torc.keys", folder / "node2/torc.keys")
    checks.program("another node joins it", init(2), 0, "made node 2")
    with Meta(store.address) as a:
        checks.equal("its shards", len(a.ask("list", "shard/", 100)["records"]), 70)
        copies = {a.value(f"node/{node}").split("copy=")[1].split("\n")[0] for node in (1, 2)}
        checks.equal("each node has a copy of its own", copies, {"1", "2"})
        checks.equal("numbers of shards are taken", "value=70\n" in a.value("counter/shards"), True)
    shutil.rmtree(folder / "node1/run")
    serve = subprocess.Popen([program, "serve", "--data", folder / "node1", "--metastore", store.address,
                              "--admin-http", "off"], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while b"started" not in (line := serve.stderr.readline()) and line:
        pass
    serve.terminate()
    serve.stderr.read()
    serve.stderr.close()
    checks.equal("serve reads it", (b"started" in line, serve.wait(30)), (True, 0))
    checks.program("another name holds no cluster",
                   control("serve", "--data", folder / "node1", "--metastore", store.address + "-other"), 6,
                   "holds no cluster")
    other = control("init", "--data", folder / "other", "--metastore", store.address + "-third")
    checks.program("a second cluster in the same etcd", other, 0)
    checks.program("wrong cluster", control("serve", "--data", folder / "node1", "--metastore",
                                            store.address + "-third"), 6, "is of cluster")
    checks.program("a typing error", control("init", "--data", folder / "x", "--metastore", "etcd:nowhere"), 2,
                   "etcd:HOST:PORT")


def cases():
    for name, case in list(globals().items()):
        which, _, what = name.partition("_")
        if which in ("both", "file", "etcd") and callable(case):
            yield from ((kind, what, case) for kind in ("file", "etcd") if which in ("both", kind))


def run(kind, what, case, shared):
    own = kind == "file" or what in ("others", "login", "login_changed", "login_kept", "login_late", "names_second")
    store = (File if kind == "file" else Etcd)() if own else shared
    store.name = "main" if own else what
    begun = time.monotonic()
    try:
        checks.case(case, store)
    finally:
        if own:
            store.close()
    if os.environ.get("TORC_VERBOSE"):
        print(f"{kind} {what}: {time.monotonic() - begun:.2f} s")


def main():
    signal.alarm(300)  # a client that never answers: better a dead test than none
    words, shared = sys.argv[1:], None
    installed = shutil.which("etcd") is not None
    checks.that("etcd is installed (scripts/install-deps --test)", installed)
    try:
        shared = Etcd() if installed else None
        for kind, what, case in cases():
            checks.kind = kind
            if (installed or kind == "file") and (not words or any(word in f"{kind} {what}" for word in words)):
                run(kind, what, case, shared)
    finally:
        if shared is not None:
            shared.close()
    checks.end()


if __name__ == "__main__":
    main()
