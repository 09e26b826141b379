#!/usr/bin/python3
"""Torc tests: torc-control as an operator meets it: data directories that cannot be used, what the node
says of itself, restarts of either process, full disks, damage, another number of workers.

    tests/e2e/control_test.py [WORD…]   all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed. Needs root (node.py).
"""
import fcntl
import grp
import json
import os
import pathlib
import pty
import pwd
import re
import resource
import shlex
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time

from node import PROGRAMS, Checks, Node, refused, run

USAGE, UNAVAILABLE, FAULT = 2, 3, 6  # exit statuses, client/cli/args.h
SLOT = 4096
checks = Checks()
expect = checks.program


def control(*words, user=None, **options):
    """torc-control to its end."""
    return subprocess.run([str(PROGRAMS["torc-control"]), *map(str, words)], stdin=subprocess.DEVNULL,
                          capture_output=True, check=False, timeout=60, user=user, **options)


class Folder:
    """A scratch folder; `.data` is where a node would be."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="torc-test-"))
        self.data = self.path / "data"
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


# -- Data directories, without a dataplane

def case_init():
    """init and what it refuses"""
    with Folder() as folder:
        expect("init makes a node", control("init", "--data", folder.data, "--keys", 1000, "--shards", 3),
               0, "keys 1000, shards 3, durability durable")
        for name in ("torc.node", "secret", "log", "checkpoint", "run", "meta/journal"):
            checks.that(f"{name} is made", (folder.data / name).exists())
        checks.equal("the secret is private", (folder.data / "secret").stat().st_mode & 0o777, 0o600)
        expect("a second init is refused", control("init", "--data", folder.data), USAGE,
               "already holds a node")
        expect("check finds nothing", control("check", "--data", folder.data), 0, "no damage found")
        expect("a key fixed at birth cannot change", control("--data", folder.data, "--keys", 2000),
               USAGE, "keys = 2000", "made with 1000")
    with Folder() as folder:
        folder.data.mkdir()
        (folder.data / "letters.txt").write_text("dear")
        expect("a folder of something else is refused", control("init", "--data", folder.data),
               USAGE, "not empty")
        checks.equal("and left alone", sorted(os.listdir(folder.data)), ["letters.txt"])
    with Folder() as folder:
        expect("more shards than workers can hold",
               control("init", "--data", folder.data, "--shards", 600, "--workers", 2), USAGE, "600 shards", "256")


def case_init_again():
    """an init that was cut short can be run again"""
    with Folder() as folder:
        control("init", "--data", folder.data, "--keys", 1000, "--shards", 3)
        cluster = (folder.data / "torc.node").read_bytes()[16:24]
        (folder.data / "torc.node").unlink()
        expect("init goes on", control("init", "--data", folder.data), 0, "keys 1000, shards 3")
        checks.equal("with the same cluster", (folder.data / "torc.node").read_bytes()[16:24], cluster)


def case_missing():
    """parts of the directory that are missing"""
    with Folder() as folder:
        control("init", "--data", folder.data)
        (folder.data / "log").rmdir()
        expect("log/ missing", control("--data", folder.data), FAULT, "log is missing", "backup")
        checks.that("log/ was not made anew", not (folder.data / "log").exists())
        (folder.data / "log").mkdir()
        shutil.rmtree(folder.data / "meta")
        expect("meta/ missing", control("--data", folder.data), FAULT, "holds no cluster")
        (folder.data / "secret").unlink()
        expect("secret missing", control("check", "--data", folder.data), FAULT, "secret")
    with Folder() as folder:
        expect("check of nothing", control("check", "--data", folder.data), USAGE, "torc init")


def case_newer():
    """a directory of a newer version"""
    with Folder() as folder:
        control("init", "--data", folder.data)
        path = folder.data / "torc.node"
        old = path.read_bytes()
        new = bytearray(old)
        struct.pack_into("<I", new, 8, 99)
        struct.pack_into("<I", new, 60, crc32c(bytes(new[:60])))
        path.write_bytes(new)
        expect("a newer format is refused", control("--data", folder.data), FAULT, "format 99",
               "newer version")
        checks.equal("and left alone", path.read_bytes(), bytes(new))
        new = bytearray(old)
        new[20] ^= 1
        path.write_bytes(new)
        expect("a torn one too", control("--data", folder.data), FAULT, "fails its check")


def case_owner():
    """a directory of another owner"""
    with Folder() as folder:
        control("init", "--data", folder.data)
        nobody = pwd.getpwnam("nobody")
        os.chown(folder.data, nobody.pw_uid, nobody.pw_gid)
        expect("root does not take it", control("--data", folder.data), USAGE, "belongs to uid",
               "chown")


def case_read_only():
    """a read-only file system"""
    with Folder() as folder:
        folder.data.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", folder.data)
        try:
            control("init", "--data", folder.data)
            run("mount", "-o", "remount,ro", folder.data)
            expect("it is refused with the reason", control("--data", folder.data), USAGE,
                   "read-write")
            run("mount", "-o", "remount,rw", folder.data)
            for name in os.listdir(folder.data):
                path = folder.data / name
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            run("mount", "-o", "remount,ro", folder.data)
            expect("init too", control("init", "--data", folder.data), USAGE, "Read-only")
        finally:
            run("umount", folder.data)


def case_in_use():
    """a directory in use"""
    with Folder() as folder:
        control("init", "--data", folder.data)
        one = subprocess.Popen([str(PROGRAMS["torc-control"]), "--data", str(folder.data),
                                "--admin-http", "off"], stderr=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 10
            while not (folder.data / "run/admin.sock").exists() and time.monotonic() < end:
                time.sleep(0.02)
            expect("a second control", control("--data", folder.data, "--lock-wait", "0"), UNAVAILABLE,
                   "in use", "stop that first")
            expect("check as well", control("check", "--data", folder.data, "--lock-wait", "0"),
                   UNAVAILABLE, "in use")
        finally:
            one.send_signal(signal.SIGTERM)
            checks.equal("SIGTERM ends it well", one.wait(10), 0)
        expect("then it is free", control("check", "--data", folder.data), 0)


def case_old_copy():
    """an old copy of the directory beside a newer metastore"""
    with Folder() as folder, Node("--keys", 1000, "--metastore", f"file:{folder.path}/store") as node:
        node.stop()
        shutil.copytree(node.data, folder.path / "copy", ignore=shutil.ignore_patterns("*.sock"))
        node.start()  # one start is enough
        node.stop()
        shutil.rmtree(node.data)
        shutil.copytree(folder.path / "copy", node.data)
        expect("it is refused", control("--data", node.data, "--metastore", f"file:{folder.path}/store"),
               FAULT, "old copy", "same backup")


def start_fails(sentence, node, *words):
    """A start that is refused, with what it says."""
    said = len(node.log())
    node.spawn()
    checks.that(f"{sentence}: torc serve ends", node.wait_end() != 0)
    node.stop()
    text = node.log()[said:]
    checks.that(f"{sentence}: and says why", all(word in text for word in words), text[-600:])


def case_starts_cut_short():
    """starts that fail behind the metastore's change, one after the other: the next one has all data"""
    with Folder() as folder, Node("--keys", 1000, "--shards", 300, "--metastore", f"file:{folder.path}/store",
                                  workers=2) as node:
        node.torc("put", 1, "first")
        node.stop()
        node.workers = 1
        for turn in range(3):
            start_fails(f"too few workers, start {turn + 1}", node, "300 shards for 1 workers")
        node.workers = 2
        blocked = pathlib.Path(node.data) / "torc.node.new"
        blocked.mkdir()  # no file can be written there
        for turn in range(3):
            start_fails(f"torc.node cannot be written, start {turn + 1}", node, "write torc.node.new")
        blocked.rmdir()
        node.start()
        checks.equal("all data is there", node.torc("get", 1, "-o", "raw").stdout, b"first")
        checks.equal("one start in all raised a boot in vain", node.admin("status")["boot"], 3)
        node.kill("dataplane")  # the node's next life, of the same control
        node.wait_ready()
        checks.equal("also in the next life", node.torc("get", 1, "-o", "raw").stdout, b"first")


def record(journal, name):
    """The last value of one, by its fields' names."""
    data = journal.read_bytes()
    said, at = {}, 64
    while at < len(data):
        size, _, count = struct.unpack_from("<IQI", data, at + 4)
        op, at = at + 24, at + size
        for _ in range(count):
            _, _, name_bytes, value_bytes, _ = struct.unpack_from("<BBHIQ", data, op)
            value = op + 16 + name_bytes
            op = value + value_bytes
            if data[value - name_bytes:value] == name.encode():
                said = dict(line.split("=", 1) for line in data[value:op].decode().splitlines())
    return said


def put_records(journal, records):
    """One transaction of a metastore in a file, while nobody has it open (docs/FORMATS.md, 2)."""
    data = journal.read_bytes()
    at, revision = 64, 0
    while at < len(data):
        size, revision = struct.unpack_from("<IQ", data, at + 4)
        at += size
    revision += 1
    body = b"".join(struct.pack("<BBHIQ", 1, 0, len(name), len(text), revision) + name.encode() + text.encode()
                    for name, text in records.items())
    entry = struct.pack("<IQII", 24 + len(body), revision, len(records), 0) + body
    with open(journal, "ab") as file:
        file.write(struct.pack("<I", crc32c(entry)) + entry)


def case_many_nodes():
    """a cluster of more nodes than one has sessions with: a node starts, and those who have no shard with it need none"""
    with Folder() as folder, Node("--keys", 1000, "--metastore", f"file:{folder.path}/store") as node:
        node.torc("put", 1, "first")
        node.stop()
        put_records(folder.path / "store/journal", {f"node/{number}": "".join(
            f"{name}={value}\n" for name, value in dict(
                format=3, boot=1, down=0, copy=100 + number, start_count=1, base_port=28700, cores=1,
                address=f"10.99.0.{number}", address6="", domain=f"node{number}", capacity=1, zone=0, slot=0, state=0,
                leaving=0, nonce=number).items()) for number in range(2, 72)})
        node.start()
        checks.that("nobody is alarmed", "more than 64 peers" not in node.log(), node.log()[-1500:])
        checks.equal("all data is there", node.torc("get", 1, "-o", "raw").stdout, b"first")


def case_init_on_full_disk():
    """no space is no fault: exit status 3, after which systemd starts torc-control again"""
    with Folder() as folder:
        folder.data.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder.data)
        try:
            take_all(folder.data / "ballast")
            done = run(PROGRAMS["torc-control"], "init", "--data", folder.data / "node", "--keys", 1000,
                       "--metastore", f"file:{folder.path}/store", check=False)
            checks.equal("no space to init: exit status", done.returncode, 3)
            checks.that("and the reason", b"No space" in done.stderr, done.stderr)
        finally:
            run("umount", "-l", folder.data)


def case_start_on_full_disk():
    """a disk without a byte: lives cannot begin, as often as they try; with room again the node is there"""
    with Folder() as folder:
        folder.data.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder.data)
        try:
            with Node("--keys", 1000, "--metastore", f"file:{folder.path}/store", "--segment-bytes", "4M",
                      data=folder.data / "node") as node:
                node.torc("put", 1, "first")
                take_all(folder.data / "ballast")
                node.kill("dataplane")  # torc serve starts both again, as often as they end
                checks.that("no life begins", await_that(
                    lambda: node.log().count("child_ended program=torc-control") >= 3), node.log()[-1500:])
                checks.that("and control says why", "write torc.node.new: No space" in node.log(), node.log()[-1500:])
                (folder.data / "ballast").unlink()
                node.wait_ready(60)
                checks.equal("all data is there", node.torc("get", 1, "-o", "raw").stdout, b"first")
        finally:
            run("umount", "-l", folder.data)


def case_config():
    """settings"""
    with Folder() as folder:
        ini = folder.path / "torc.ini"
        ini.write_text("[disk]\nsegment-bites = 64M\n")
        expect("an unknown key names the nearest", control("--check-config", "--config", ini), USAGE,
               "segment-bytes", "torc.ini")
        ini.write_text("[disk]\nsegment-bytes = 8M\n")
        expect("good settings", control("--check-config", "--config", ini), 0, "good")
        printed = control("--print-config", "--config", ini)
        ini.write_bytes(printed.stdout)
        expect("what is printed can be read", control("--check-config", "--config", ini), 0, "good")
        checks.that("and holds what differs", b"\nsegment-bytes = 8M" in printed.stdout)
        ini.write_text("[machine]\nworkers = 128\n")
        expect("more workers than DPDK has threads for", control("--check-config", "--config", ini), USAGE, "workers",
               "0 to 127 allowed")
        expect("an unknown verb", control("destroy"), USAGE, "serve, init or check")


# -- With a dataplane

def case_says():
    """status, stats, metrics, health"""
    with Node("--keys", 100000) as node:
        node.torc("put", 7, "seven")
        node.torc("get", 7)
        status = node.admin("status")
        for key, wanted in (("ok", True), ("state", "serving"), ("health", "ok"), ("advice", []),
                            ("node", 1), ("keys", 100000), ("shard_count", 4), ("shards_ready", 4),
                            ("pid", node.pid("control")), ("dataplane_pid", node.pid("dataplane")),
                            ("address", node.address)):
            checks.equal(f"status: {key}", status.get(key), wanted)
        checks.equal("the log is well", status["log"]["state"], "ok")
        checks.equal("shards tile the keys", [shard["lo"] for shard in status["shards"]],
                     [0, 25000, 50000, 75000])
        stats = node.admin("stats")
        checks.that("a get was counted", stats["requests"].get("GET", 0) >= 1)
        checks.that("a write was timed", stats["write"]["count"] >= 1 and stats["write"]["p99_us"] > 0)
        checks.equal("an unknown command", node.admin("dance")["error"], "UNSUPPORTED")
        page = node.network.run("curl", "-s", "http://127.0.0.1:28601/metrics").stdout.decode()
        for line in ('torc_requests_total{op="GET"}', "torc_control_serving 1", "torc_write_seconds_count",
                     'torc_build_info{version="', 'torc_shards{worker="0"}'):
            checks.that(f"/metrics has {line}", line in page)
        for path, word in (("health", b"ok"), ("ready", b"ready")):
            checks.equal(f"/{path}", node.network.run("curl", "-s", f"http://127.0.0.1:28601/{path}").stdout,
                         word + b"\n")
        done = node.network.run("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST",
                                "http://127.0.0.1:28601/health")
        checks.equal("POST is refused", done.stdout, b"405")
        mode = os.stat(os.path.join(node.data, "run/admin.sock")).st_mode & 0o777
        checks.equal("the admin socket's mode", mode, 0o660)
        checks.equal("the channel's", os.stat(os.path.join(node.data, "run/channel.sock")).st_mode & 0o777,
                     0o600)
        checks.equal("run/cluster", pathlib.Path(node.data, "run/cluster").read_text(encoding="ascii"),
                     node.address + "\n")
        node.stop()
        checks.that("run/cluster goes with a clean stop", not os.path.exists(node.data + "/run/cluster"))


def case_metastore_away():
    """a metastore that is away is said, and counted, also where nobody needs it; the node goes on"""
    name = "torc_control_metastore_failures_total"
    with Node("--keys", 1000) as node:
        checks.equal("all is well", (node.admin("status")["health"], node.admin("stats")["control"][name]), ("ok", 0))
        with open(f"{node.data}/meta/lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # as a stopped process would
            said = await_that(lambda: "the metastore" in node.admin("status")["health"])
            status = node.admin("status")
            checks.that("status says it, since when, and what to do", said and re.search(
                r"has not answered as it should for \d+ s \(.*away, its lock.*stop no node", status["health"]), status["advice"])
            checks.that("its asks are counted", node.admin("stats")["control"][name] >= 2, node.admin("stats")["control"])
            checks.equal("/health is of the node", node.network.run("curl", "-s", "http://127.0.0.1:28601/health").stdout, b"ok\n")
            node.torc("put", 7, "seven")
            checks.equal("state", status["state"], "serving")
        checks.that("then all is well", await_that(lambda: node.admin("status")["health"] == "ok"), node.admin("status")["advice"])


def admin_link(node):
    link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    link.connect(os.path.join(node.data, "run/admin.sock"))  # waits to be let in
    link.settimeout(20)
    return link


def lines_of(link, count):
    """As many answers, or those until the connection ends."""
    with link.makefile("rb") as file:
        return [json.loads(line) for _, line in zip(range(count), file)]


def processor_s(pid):
    """What a process has used of processors, in seconds."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        rest = file.read().rsplit(")", 1)[1].split()
    return (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")


def case_open_files():
    """serve takes as many open files as it may have; who comes when there is none left is waited for without haste"""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        node = Node("--keys", 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with node:
        for who in ("control", "dataplane"):
            checks.equal(f"{who} has the hard limit", resource.prlimit(node.pid(who), resource.RLIMIT_NOFILE), (hard, hard))
        control_pid = node.pid("control")
        checks.equal("status", node.admin("status")["ok"], True)
        taken = {int(name) for name in os.listdir(f"/proc/{control_pid}/fd")}
        least = min(set(range(len(taken) + 1)) - taken)  # a limit is on the number, and the lowest free one is given
        resource.prlimit(control_pid, resource.RLIMIT_NOFILE, (least, hard))
        before = processor_s(control_pid)
        page = subprocess.Popen(node.network.command("curl", "-s", "http://127.0.0.1:28601/ready"), stdout=subprocess.PIPE)
        with page, admin_link(node) as link:
            link.sendall(b'{"command":"status"}\n')
            time.sleep(3)
            checks.that("both wait", page.poll() is None)
            used = processor_s(control_pid) - before
            checks.that("and control sleeps meanwhile", used < 0.5, used)
            resource.prlimit(control_pid, resource.RLIMIT_NOFILE, (hard, hard))
            checks.equal("then the one has its answer", lines_of(link, 1)[0]["ok"], True)
            checks.equal("and the other", page.communicate(timeout=20)[0], b"ready\n")
        checks.that("the log says it", "no-descriptor" in node.log(), node.log()[-2000:])


def case_admin_clients():
    """forgotten connections keep nobody out, who takes no answers gets no more, and requests may come at once"""
    with Node("--keys", 1000) as node:
        idle = [admin_link(node) for _ in range(40)]
        checks.equal("40 idle connections: status is told", node.admin("status")["ok"], True)
        waits = admin_link(node)
        node.kill("dataplane", number=signal.SIGSTOP)  # its answer takes a while
        waits.sendall(b'{"command":"checkpoint"}\n' + b'{"command":"status"}\n' * 500)
        waits.shutdown(socket.SHUT_WR)
        idle += [admin_link(node) for _ in range(40)]
        checks.equal("and 40 more", node.admin("status")["ok"], True)
        node.kill("dataplane", number=signal.SIGCONT)
        answers = lines_of(waits, 501)
        checks.equal("who waits is not dropped for them, nor what it asked at once",
                     (len(answers), all(one["ok"] for one in answers)), (501, True))
        deaf = admin_link(node)
        deaf.settimeout(2)
        sent = 0
        try:
            while sent < 40000:
                deaf.sendall(b'{"command":"stats"}\n' * 10)
                sent += 10
        except socket.timeout:
            pass
        checks.that("who takes no answers is not listened to", sent < 40000, str(sent))
        checks.equal("others are", node.admin("status")["ok"], True)
        deaf.settimeout(20)
        checks.equal("its answers wait for it", len(lines_of(deaf, sent)), sent)
        for link in (*idle, waits, deaf):
            link.close()


def case_admin_group():
    """who is not root asks by a group that the process has, whatever name services say"""
    ask = ("import json, socket, sys; link = socket.socket(socket.AF_UNIX); link.connect(sys.argv[1]);"
           "link.sendall(b'{\"command\":\"status\"}\\n'); print(json.loads(link.makefile().readline()).get('ok'))")
    games = grp.getgrnam("games").gr_gid
    with Node("--keys", 1000, "--admin-group", "games") as node:
        path = os.path.join(node.data, "run/admin.sock")
        checks.equal("the socket's group", os.stat(path).st_gid, games)
        os.chmod(os.path.dirname(node.data), 0o711)

        def of_group(groups, *words):
            return subprocess.run(words, user="nobody", group="nogroup", extra_groups=groups, capture_output=True,
                                  check=False, timeout=30)

        def answer(groups):
            return of_group(groups, "/usr/bin/python3", "-c", ask, path).stdout.strip()
        checks.equal("who has the group among others", answer([*range(2000, 2100), games]), b"True")
        checks.that("who has not", answer([12345]) != b"True")
        for name in ("log", "checkpoint", "meta", "torc.keys", "local.key", "secret", "torc.node", "LOCK"):
            there = os.path.join(node.data, name)
            checks.that(f"there is {name}", os.path.exists(there))
            checks.that(f"and it is not the group's", of_group([games], "ls" if os.path.isdir(there) else "cat", there).returncode != 0)
        checks.that("the dataplane is not asked by it", of_group([games], "test", "-w", node.data + "/run/channel.sock").returncode != 0)
        node.restart()
        checks.equal("after another start", answer([games]), b"True")
        run_folder = os.path.join(node.data, "run")
        for folder in (node.data, run_folder):
            checks.equal("as it was made", stat.S_IMODE(os.stat(folder).st_mode), 0o750)
            os.chown(folder, 0, 12345)
        os.chmod(run_folder, 0o700)
        node.restart()
        checks.equal("a group of somebody's own stays", [os.stat(folder).st_gid for folder in (node.data, run_folder)], [12345] * 2)
        os.chmod(node.data, 0o711)
        os.chmod(run_folder, 0o711)
        os.chmod(path, 0o666)  # control itself judges
        checks.equal("who has the group, where all pass", answer([games]), b"True")
        checks.that("who has not, where all pass", answer([12345]) != b"True")


def case_admin_hangs():
    """a control that does not answer"""
    with Node("--keys", 1000) as node:
        pid = node.pid("control")
        os.kill(pid, signal.SIGSTOP)
        try:
            for words in (("status",), ("stats",), ("placement",), ("keys",), ("checkpoint",), ("node", "drain", 1)):
                expect(f"{words[0]} ends", node.torc(*words, "--data", node.data, "--timeout", "200ms", check=False),
                       UNAVAILABLE, "no answer from torc-control")
            links = []
            for _ in range(100):  # more than may wait to be let in
                link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                link.setblocking(False)
                link.connect_ex(os.path.join(node.data, "run/admin.sock"))
                links.append(link)
            expect("nobody is let in", node.torc("status", "--data", node.data, "--timeout", "200ms", check=False),
                   UNAVAILABLE, "no answer from torc-control")
            for link in links:
                link.close()
        finally:
            os.kill(pid, signal.SIGCONT)
        expect("it goes on", node.torc("status", "--data", node.data, check=False), 0)


def case_restarts():
    """either process dies alone, control leaves and comes back"""
    with Node("--keys", 100000) as node:
        for i in range(50):
            node.torc("put", i, f"value {i}")
        boot = node.admin("status")["boot"]
        node.kill("control")
        checks.equal("reads go on without control", node.torc("get", 9, "-o", "raw").stdout, b"value 9")
        node.wait_ready()
        checks.equal("the dataplane was not touched", node.admin("status")["boot"], boot)
        node.torc("put", 50, "after control")
        node.kill("control", number=signal.SIGUSR1)
        checks.equal("reads go on when it leaves", node.torc("get", 50, "-o", "raw").stdout, b"after control")
        node.wait_ready()
        checks.equal("nor then", node.admin("status")["boot"], boot)
        node.torc("put", 51, "after leaving")
        checks.equal("a checkpoint works then", node.admin("checkpoint")["ok"], True)
        node.kill("dataplane")
        node.wait_ready()
        checks.equal("a dead dataplane costs a boot", node.admin("status")["boot"], boot + 1)
        node.kill("dataplane", "control")
        node.wait_ready()
        checks.equal("so do both", node.admin("status")["boot"], boot + 2)
        for i in range(50):
            checks.equal(f"value {i} is there", node.torc("get", i, "-o", "raw").stdout, b"value %d" % i)
        checks.equal("and what came later", node.torc("get", 51, "-o", "raw").stdout, b"after leaving")


def case_stop_without_checkpoints():
    """a stop whose checkpoints do not come goes on without them"""
    with Node("--keys", 100000, "--checkpoint-wait", "100ms") as node:
        for i in range(50):
            node.torc("put", i, f"value {i}")
        node.kill("dataplane", number=signal.SIGSTOP)  # as if its disk took no byte
        node.kill("serve", number=signal.SIGTERM)
        checks.that("it waits for them no longer than it may", await_that(lambda: " not-waited-for " in node.log()))
        node.kill("dataplane", number=signal.SIGCONT)
        checks.equal("and is a clean stop all the same", node.process.wait(60), 0)
        checks.that("that says so", " node stopped " in node.log() and " not-sealed " not in node.log(), node.log())
        node.start()
        checks.equal("the log has what no checkpoint had",
                     [node.torc("get", i, "-o", "raw").stdout for i in range(50)], [b"value %d" % i for i in range(50)])


CTRL_C = b"\x03"


def terminal_node(*settings):
    """A node that is the foreground of a terminal, with values; and the terminal's other end."""
    far, near = pty.openpty()
    node = Node("--keys", 1000, *settings, wait=False)
    node.start(terminal=near)
    os.close(near)
    for i in range(20):
        node.torc("put", i, f"value {i}")
    return node, far


def stopped_in_order(sentence, node, status):
    checks.equal(f"{sentence}: a clean stop", status, 0)
    log = node.log()
    checks.that(f"{sentence}: with all its parts",
                " node stopped " in log and " dataplane-lost " not in log and " not-sealed " not in log, log[-1500:])
    checks.equal(f"{sentence}: one checkpoint a shard", len(os.listdir(os.path.join(node.data, "checkpoint"))), 4)
    checks.that(f"{sentence}: the directory is sealed", os.path.exists(os.path.join(node.data, "seal")))


def case_terminal():
    """what a terminal signals to its foreground stops the node in order"""
    for sentence, signal_it in (("Ctrl-C", lambda far: os.write(far, CTRL_C)), ("a closed terminal", os.close)):
        node, far = terminal_node()
        with node:
            signal_it(far)
            stopped_in_order(sentence, node, node.wait_end(60))
            if sentence == "Ctrl-C":
                os.close(far)
            node.start()
            checks.equal(f"{sentence}: all is there", node.torc("get", 7, "-o", "raw").stdout, b"value 7")


def case_terminal_twice():
    """a second Ctrl-C ends a stop that takes too long"""
    node, far = terminal_node()
    with node:
        node.kill("dataplane", number=signal.SIGSTOP)
        os.write(far, CTRL_C)
        checks.that("the first one begins a stop", await_that(lambda: " node stopping " in node.log()))
        os.write(far, CTRL_C)
        checks.equal("the second one ends it", node.wait_end(20), FAULT)
        checks.that("and both processes", node.log().count(" serve killed ") == 2, node.log()[-1500:])
        os.close(far)
        node.start()
        checks.equal("what was acknowledged is there", node.torc("get", 7, "-o", "raw").stdout, b"value 7")


def case_stop_again():
    """torc stop given again waits on for the stop under way, and kills nothing"""
    with Node("--keys", 1000) as node:
        node.torc("put", 7, "seven")
        second_line = pathlib.Path(node.data, "run/serve.pid").read_text(encoding="ascii").split("\n")[1]
        checks.equal("the file says how long a stop may take", second_line, "-1 140000")
        node.kill("dataplane", number=signal.SIGSTOP)  # the stop waits for it
        for turn in ("first", "second", "third"):
            done = run(PROGRAMS["torc"], "stop", "--data", node.data, "--timeout", "500ms", check=False)
            checks.equal(f"the {turn} one: no end in its time", done.returncode, UNAVAILABLE)
            checks.that(f"the {turn} one says what goes on", b"another torc stop waits on" in done.stderr, done.stderr)
            node.admin("stop")
        checks.that("none of them killed", " serve killed " not in node.log(), node.log()[-1500:])
        with subprocess.Popen([PROGRAMS["torc"], "stop", "--data", node.data], stderr=subprocess.PIPE) as waits:
            time.sleep(0.5)  # so that it waits; one that comes when all is over finds no node
            node.kill("dataplane", number=signal.SIGCONT)
            said = waits.communicate(timeout=60)[1]
        over = f"torc: no node runs on {node.data}\n".encode()
        checks.that("one that waits sees the end", waits.returncode == 0 and said in (b"", over), said)
        stopped_in_order("then", node, node.wait_end(20))


OLD_SERVE = """
import fcntl, os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    print(os.getpid(), file=file, flush=True)
    print("runs", flush=True)
    sys.stdin.read()
"""


def case_stop_of_old():
    """torc stop of a torc serve that would take its second signal for a person's says so"""
    with tempfile.TemporaryDirectory(prefix="torc-old-") as data:
        os.mkdir(os.path.join(data, "run"))
        with subprocess.Popen(["/usr/bin/python3", "-c", OLD_SERVE, os.path.join(data, "run/serve.pid")],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE) as serve:
            serve.stdout.readline()
            done = run(PROGRAMS["torc"], "stop", "--data", data, "--timeout", "200ms", check=False)
            checks.equal("no end in its time", done.returncode, UNAVAILABLE)
            checks.that("a second torc stop is warned of", b"another torc stop, SIGTERM or Ctrl-C kills it, so wait" in done.stderr, done.stderr)
            checks.that("and not advised", b"waits on" not in done.stderr, done.stderr)
            serve.stdin.close()


def case_terminal_jobs():
    """a shell's background job, brought to the foreground and stopped there; or the shell's terminal is closed"""
    for sentence, closes in (("fg and Ctrl-C", False), ("fg and a closed terminal", True)):
        far, near = pty.openpty()
        with Node("--keys", 1000, wait=False) as node:
            def prepare():
                fcntl.ioctl(near, termios.TIOCSCTTY, 0)  # pylint: disable=cell-var-from-loop

            serve = shlex.join(map(str, node.serve_command()))
            with subprocess.Popen(["bash", "--norc", "--noprofile", "-i"], stdin=near, stdout=near, stderr=near,
                                  start_new_session=True, preexec_fn=prepare) as shell:
                os.close(near)
                os.write(far, f"stty tostop; {serve} > {node.log_path} 2>&1 &\n".encode())
                checks.that(f"{sentence}: it serves", await_that(lambda: " is ready: " in node.log()), node.log())
                node.torc("put", 7, "seven")
                os.write(far, b"fg\n")
                checks.that(f"{sentence}: in the foreground", await_that(lambda: foreground(far) == "torc"))
                if closes:
                    os.close(far)
                else:
                    os.write(far, CTRL_C)
                    checks.that(f"{sentence}: then the shell is", await_that(lambda: foreground(far) == "bash"))
                    os.write(far, b"exit\n")
                ended = pathlib.Path(node.data, "run/serve.pid")
                checks.that(f"{sentence}: it ends", await_that(lambda: not ended.exists()))
                stopped_in_order(sentence, node, 0)
                shell.wait(20)
                if not closes:
                    os.close(far)


def foreground(terminal):
    group = os.tcgetpgrp(terminal)
    try:
        with open(f"/proc/{group}/comm", encoding="ascii") as file:
            return file.read().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def case_stop_unclean():
    """a stop that is not clean is no success, neither of torc serve nor of torc stop"""
    def stop_of(node, sentence, status, dies=None, when=" node stopping ", says=(), told=False):
        node.torc("put", 1, "one")
        before = len(node.log())
        if dies is not None:
            node.kill("dataplane", number=signal.SIGSTOP)  # the stop waits for it
        with subprocess.Popen([str(PROGRAMS["torc"]), "stop", "--data", node.data], stderr=subprocess.PIPE) as stop:
            if dies is not None:
                checks.that(f"{sentence}: during the stop", await_that(lambda: when in node.log()[before:]))
                frozen = node.pid("dataplane")
                node.kill(dies)
                if dies == "control":
                    os.kill(frozen, signal.SIGCONT)
            said = stop.communicate(timeout=100)[1].decode()
            checks.equal(f"{sentence}: torc stop says so", stop.returncode, FAULT)
            checks.that(f"{sentence}: and what", "process" in said, said)
        checks.equal(f"{sentence}: torc serve too", node.wait_end(60), status)
        for text in says:
            checks.that(f"{sentence}: says {text!r}", text in node.log()[before:], node.log()[-1500:])
        if told:
            said = record(pathlib.Path(node.data, "meta/journal"), "node/1")
            checks.equal(f"{sentence}: others are told that it is down", said.get("down"), said.get("boot"))
        if os.path.isdir(seal):
            os.rmdir(seal)
        if dies == "serve":
            checks.that(f"{sentence}: its children end with it", await_that(
                lambda: not run("ip", "netns", "pids", node.network.namespace).stdout.strip()))
        node.start()
        checks.equal(f"{sentence}: the next start has all", node.torc("get", 1, "-o", "raw").stdout, b"one")

    with Node("--keys", 1000) as node:
        seal = os.path.join(node.data, "seal")
        os.mkdir(seal)  # no file takes its place
        stop_of(node, "no seal", FAULT, says=("the stop was not clean", "seal"), told=True)
        stop_of(node, "control is killed", FAULT, "control", says=("program=torc-control end=",))
        stop_of(node, "the dataplane is killed", FAULT, "dataplane", says=("program=torc-control end=", "ended before it"))
        stop_of(node, "torc serve is killed", -signal.SIGKILL, "serve", " serve stopping ")
        checks.equal("and a clean stop is one", node.stop(), 0)


def fill(node, first, count, size=900):
    lines = "".join(f"{key},{key:x}{'x' * size}\n" for key in range(first, first + count)).encode()
    return node.torc("load", "-", "--separator", ",", "--key", 1, "--values", 2, stdin=lines, check=False)


def log_files(node):
    return sorted(name for name in os.listdir(os.path.join(node.data, "log")) if name[0].isdigit())


def case_checkpoints():
    """the log is trimmed and its segments are used again"""
    with Node("--keys", 10000000, "--segment-bytes", "4M", "--checkpoint-bytes", "16M") as node:
        for part in range(3):
            done = fill(node, part * 5000, 5000, 3000)
            checks.that(f"load {part}", done.returncode == 0, done.stderr)
        # Two rounds of four shards, at 16 and at 32 MiB; the second may have begun just now.
        checks.that("rounds began by themselves", await_that(lambda: node.admin("status")["checkpoints"] >= 8),
                    node.admin("status")["checkpoints"])
        checks.that("the log stays small", len(log_files(node)) <= 14, str(log_files(node)))
        checks.equal("checkpoint on demand", node.admin("checkpoint")["ok"], True)
        checks.that("leaves a few segments", len(log_files(node)) <= 5, str(log_files(node)))
        files = os.listdir(os.path.join(node.data, "checkpoint"))
        checks.equal("one file a shard", len(files), 4)
        node.kill("dataplane", "control")
        node.wait_ready()
        checks.equal("all is there", node.torc("count", 0, 10000000).stdout.split()[-1], b"15000")
        node.stop()
        expect("check agrees", control("check", "--data", node.data), 0, "no damage found",
               "checkpoints 4 of 4")


def case_workers():
    """another number of workers"""
    with Node("--keys", 4000, "--shards", 4, "--segment-bytes", "4M", "--checkpoint-bytes", "16M",
              "--checkpoint-on-stop", "no", workers=1) as node:
        wanted = {}
        for life, workers in enumerate((1, 2, 1, 3, 2, 1)):
            if life > 0:
                node.stop()
                node.workers = workers
                node.start()
            for key in range(life, 4000, 97):
                node.torc("put", key, f"life {life} key {key}")
                wanted[key] = f"life {life} key {key}"
            if life == 3:
                node.kill("dataplane", "control")
                node.wait_ready()
        lines = node.torc("range", 0, 4000, "-o", "csv").stdout.decode().splitlines()
        checks.equal("every life's values are there", lines, [f"{key},{wanted[key]}" for key in sorted(wanted)])
        checks.equal("a checkpoint retires the others' streams", node.admin("checkpoint")["ok"], True)
        end = time.monotonic() + 10
        while any(not name.startswith("1-") for name in log_files(node)) and time.monotonic() < end:
            time.sleep(0.1)
        checks.that("only one stream is left", all(name.startswith("1-") for name in log_files(node)),
                    str(log_files(node)))


def case_damage():
    """damage in the middle of the log, and in a checkpoint"""
    with Node("--keys", 100000, "--segment-bytes", "4M", "--checkpoint-bytes", "16M",
              "--checkpoint-on-stop", "no") as node:
        fill(node, 0, 2000)
        node.stop()
        path = pathlib.Path(node.data, "log", log_files(node)[0])
        with open(path, "r+b") as file:
            file.seek(8 * SLOT + 200)
            good = file.read(64)
            file.seek(8 * SLOT + 200)
            file.write(b"\xa5" * 64)
        expect("check names it", control("check", "--data", node.data), FAULT, "log stream 1")
        try:
            node.start()
            checks.that("a damaged log is not served", False)
        except RuntimeError as error:
            checks.that("a damaged log is not served", "stream 1" in str(error), str(error)[-400:])
        node.stop()
        with open(path, "r+b") as file:
            file.seek(8 * SLOT + 200)
            file.write(good)
        node.start()
        checks.equal("mended, it is", node.torc("count", 0, 100000).stdout.split()[-1], b"2000")
        node.admin("checkpoint")
        node.stop()
        path = max(pathlib.Path(node.data, "checkpoint").iterdir(), key=lambda file: file.stat().st_size)
        with open(path, "r+b") as file:
            file.seek(70000)
            file.write(b"\xa5" * 64)
        expect("check names the checkpoint", control("check", "--data", node.data), FAULT,
               f"checkpoint/{path.name}")
        try:
            node.start()
            checks.that("a damaged checkpoint is not served", False)
        except RuntimeError as error:
            checks.that("a damaged checkpoint is not served", "checkpoint" in str(error), str(error)[-400:])


def case_log_failure():
    """a log write that fails: nothing is acknowledged any more, and the node says why"""
    with Node("--keys", 1000000, "--segment-bytes", "4M", "--checkpoint-bytes", "16M") as node:
        wanted = {}
        for key in range(20):
            node.torc("put", key, f"value {key}")
            wanted[key] = b"value %d" % key
        # The kernel refuses writes beyond that size: as a bad disk would, from one moment on.
        run("prlimit", "--pid", node.pid("control"), f"--fsize={8 * SLOT}")
        failed = None
        for key in range(20, 60):
            done = node.torc("put", key, f"value {key}", "--timeout", "2s", check=False)
            if done.returncode != 0:
                failed = done
                break
            wanted[key] = b"value %d" % key
        checks.that("a put fails", failed is not None)
        done = refused(lambda: node.torc("put", 100, "later", "--timeout", "2s", check=False))
        checks.that("the next ones are refused with the reason",
                    done.returncode == UNAVAILABLE and b"log" in done.stderr, str(done.stderr[-300:]))
        checks.equal("reads go on", node.torc("get", 3, "-o", "raw").stdout, wanted[3])
        status = node.admin("status")
        checks.equal("status: failed", status["log"]["state"], "failed")
        checks.that("and why", "File too large" in status["log"]["text"], status["log"]["text"])
        checks.that("and what to do", "mend the disk" in status["health"], status["health"])
        done = node.network.run("curl", "-s", "-w", "%{http_code}", "http://127.0.0.1:28601/health")
        checks.that("/health is 503", done.stdout.endswith(b"503"), str(done.stdout))
        checks.equal("a checkpoint is refused", node.admin("checkpoint")["ok"], False)
        checks.equal("its stop is not a clean one", node.stop(), FAULT)
        node.start()
        for key, value in wanted.items():
            checks.equal(f"acknowledged value {key} is there after a restart",
                         node.torc("get", key, "-o", "raw").stdout, value)
        node.torc("put", 100, "later")
        checks.equal("and writes go on", node.torc("get", 100, "-o", "raw").stdout, b"later")


def await_that(what):
    end = time.monotonic() + 60
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def take_all(path):
    """All that the disk has left, added to a file."""
    with open(path, "ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass


def case_small_disk():
    """a log that would fill its disk lets go of what checkpoints hold: before it is full, and after somebody else filled it"""
    with Folder() as folder:
        folder.data.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder.data)
        try:
            with Node("--keys", 1000000, "--segment-bytes", "4M", "--checkpoint-bytes", "1G",
                      "--checkpoint-on-stop", "no", data=folder.data / "node") as node:
                rounds = [fill(node, 0, 500, 8000).returncode for _ in range(50)]  # 200 MB of the same 500 keys
                checks.equal("three disks full of log are taken", set(rounds), {0})
                made = node.admin("status")["checkpoints"]
                checks.that("by checkpoints, none for each segment", 1 < made <= 4 * 50, made)
                # What segments leave for a moment is taken too.
                checks.that("others fill the disk", await_that(lambda: (take_all(folder.data / "ballast"),
                                                                        fill(node, 0, 500, 8000).returncode)[1] != 0))
                os.truncate(folder.data / "ballast", (folder.data / "ballast").stat().st_size - (6 << 20))
                checks.that("with room for a checkpoint the log goes on: without a restart",
                            await_that(lambda: fill(node, 0, 500, 8000).returncode == 0), node.admin("status")["advice"])
                checks.equal("all keys are there", node.torc("count", 0, 1000000).stdout, b"500\n")
                node.stop()
                node.start()
                checks.equal("also after a restart", node.torc("count", 0, 1000000).stdout, b"500\n")
        finally:
            run("umount", "-l", folder.data)


def case_full_disk():
    """a full disk: NO_SPACE, reads go on, space freed, writes go on without a restart"""
    with Folder() as folder:
        folder.data.mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder.data)
        try:
            with Node("--keys", 1000000, "--segment-bytes", "4M", "--checkpoint-bytes", "1G",
                      "--checkpoint-on-stop", "no", data=folder.data / "node") as node:
                node.torc("put", 1, "first")
                ballast = folder.data / "ballast"
                with open(ballast, "wb") as file:
                    try:
                        while True:
                            file.write(bytes(1 << 20))
                    except OSError:
                        pass
                failed = None
                for part in range(40):
                    done = refused(lambda first=1000 + part * 500: fill(node, first, 500))
                    if done.returncode != 0:
                        failed = done
                        break
                checks.that("writes are refused", failed is not None)
                checks.that("with NO_SPACE", failed is not None and b"NO_SPACE" in failed.stderr
                            or b"full" in (failed.stderr if failed else b""),
                            str(failed.stderr[-300:] if failed else ""))
                done = refused(lambda: node.torc("put", 2, "second", check=False))
                checks.that("a put says so", done.returncode != 0 and b"disk" in done.stderr,
                            str(done.stderr[-200:]))
                checks.equal("reads go on", node.torc("get", 1, "-o", "raw").stdout, b"first")
                status = node.admin("status")
                checks.equal("status says it", status["log"]["state"], "full")
                checks.that("and what to do", "free" in status["health"], status["health"])
                ballast.unlink()
                end = time.monotonic() + 10
                while node.torc("put", 2, "second", check=False).returncode != 0:
                    if time.monotonic() > end:
                        break
                    time.sleep(0.1)
                checks.equal("space freed: writes go on", node.torc("get", 2, "-o", "raw").stdout, b"second")
                checks.equal("without a restart", node.admin("status")["boot"], 1)
        finally:
            run("umount", "-l", folder.data)


def main():
    cases = {name[5:]: case for name, case in globals().items() if name.startswith("case_")}
    for name, case in cases.items():
        if len(sys.argv) > 1 and not any(word in name for word in sys.argv[1:]):
            continue
        start = time.monotonic()
        try:
            case()
        except Exception as error:  # pylint: disable=broad-except  # one case must not hide the others
            checks.that(f"{case.__doc__}: runs to its end", False, f"{type(error).__name__}: {str(error)[:300]} … {str(error)[-1200:]}")
        if os.environ.get("TORC_VERBOSE"):
            print(f"      {name}: {time.monotonic() - start:.1f} s", flush=True)
    print(f"{checks.passed} passed, {checks.failed} failed")
    return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
