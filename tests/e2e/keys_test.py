#!/usr/bin/python3
"""Torc tests: who may talk to a node: torc.keys as an operator meets it, `torc keys`, and what sessions
lose when their principal or key goes.

    tests/e2e/keys_test.py [WORD…]   all cases, or those whose name holds a word
Last line: `N passed, N failed`. TORC_VERBOSE=1 shows what passed. Needs root (node.py).
"""
import json
import os
import pathlib
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time

from node import BUILD, PROGRAMS, ROOT, Checks, Node

os.environ.setdefault("TORC_BUILD", str(BUILD))
sys.path.insert(0, str(ROOT / "client" / "python"))
import torc  # noqa: E402  after the path

NOT_FOUND, USAGE, UNAVAILABLE = 1, 2, 3  # exit statuses, client/cli/args.h
HEX = re.compile(rb"[0-9a-f]{64}")
checks = Checks()
expect = checks.program


def program(name, *words, **options):
    return subprocess.run([str(PROGRAMS[name]), *map(str, words)], stdin=subprocess.DEVNULL,
                          capture_output=True, check=False, timeout=60, **options)


class Folder:
    """A data directory of a cluster with keys, not served."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="torc-test-"))
        self.data = self.path / "data"
        self.file = self.data / "torc.keys"
        expect("init", program("torc-control", "init", "--data", self.data, "--security", "keys"), 0)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def keys(self, *words):
        return program("torc", "keys", *words, "--data", self.data)

    def serve(self):
        """torc-control without a dataplane: how a bad file ends it."""
        return program("torc-control", "--data", self.data)


# -- The file

def case_made_at_birth():
    """init makes torc.keys with a principal for this machine, and what that shows"""
    with Folder() as folder:
        for name in ("torc.keys", "local.key"):
            checks.equal(f"{name} is private", (folder.data / name).stat().st_mode & 0o7777, 0o600)
        made = folder.file.read_bytes()
        checks.that("one principal, local", re.search(rb"^local 1 read,write,admin 1:[0-9a-f]{64}$", made, re.M))
        shown = (folder.data / "local.key").read_bytes()
        checks.that("and the secret of nodes", re.search(rb"^nodes 2147483647 node 1:[0-9a-f]{64}$", made, re.M))
        checks.equal("both have the same key", HEX.findall(made)[:1], HEX.findall(shown))
        cluster = (folder.data / "torc.node").read_bytes()[16:24][::-1].hex().encode()
        checks.that("the client's file names the cluster", b"cluster " + cluster in shown, shown[:60])
        (folder.data / "torc.node").unlink()
        program("torc-control", "init", "--data", folder.data, "--security", "keys")
        checks.equal("an init that goes on leaves keys alone", folder.file.read_bytes(), made)


def case_laid_before_birth():
    """keys that lie there before the node is made are its keys"""
    with Folder() as folder:
        made = folder.file.read_bytes()
        other = folder.path / "other"
        other.mkdir()
        shutil.copy(folder.file, other / "torc.keys")
        expect("init beside keys", program("torc-control", "init", "--data", other, "--security", "keys"), 0)
        checks.equal("they stay", (other / "torc.keys").read_bytes(), made)
        checks.equal("and local.key follows", HEX.findall((other / "local.key").read_bytes()),
                     HEX.findall(made)[:1])


def case_clear_has_none():
    """a cluster in the clear has no keys, and says so"""
    with Folder() as folder:
        clear = folder.path / "clear"
        program("torc-control", "init", "--data", clear, "--security", "clear")
        checks.equal("no file", [name for name in os.listdir(clear) if "key" in name], [])


def case_bad_files():
    """a file that others could read, or with a fault, stops the start and is named"""
    with Folder() as folder:
        good = folder.file.read_bytes()
        folder.file.chmod(0o644)
        expect("mode 0644", folder.serve(), USAGE, "torc.keys", "mode 0644", "chmod 600")
        expect("mode 0644, torc keys", folder.keys("rotate", "local"), USAGE, "mode 0644")
        folder.file.chmod(0o600)
        os.chown(folder.file, 65534, 65534)
        expect("another owner", folder.serve(), USAGE, "belongs to uid 65534", "chown")
        os.chown(folder.file, 0, 0)
        secret = HEX.search(good)[0]
        folder.file.write_bytes(good + b"\nweb 2 read 1:" + secret + b"0\n")
        line = good.count(b"\n") + 2
        done = folder.serve()
        expect("a key too long", done, USAGE, f"line {line}: key 1: 64 hexadecimal digits")
        checks.that("no secret is shown", secret not in done.stderr + done.stdout)
        expect("a key too long, torc keys", folder.keys("add", "x", "--roles", "read"), USAGE, f"line {line}")
        folder.file.write_bytes(good.replace(b"read,write", b"reed,write"))
        expect("a role that is none", folder.serve(), USAGE, "roles are read, write and admin")
        folder.file.write_bytes(good + b"web 2 read 1:" + secret + b":node=7\n")
        expect("a key of another node", folder.serve(), USAGE, "web: key 1 is bound to node 7")
        folder.file.unlink()
        expect("no file", folder.serve(), USAGE, "torc.keys", "No such file")
        folder.file.symlink_to("/dev/null")
        expect("no file but a device", folder.serve(), USAGE, "torc.keys")


# -- torc keys, on a node that does not run

def case_changes():
    """add, change, rotate, remove-key, revoke; what is refused changes nothing"""
    with Folder() as folder:
        expect("add", folder.keys("add", "web", "--roles", "read,write", "--ranges", "500-600,0-100",
                                  "--max-sessions", 7), 0, "web is principal 2", "next start")
        checks.that("the line", re.search(rb"^web 2 read,write 0-100,500-600 max_sessions=7 1:[0-9a-f]{64}$",
                                          folder.file.read_bytes(), re.M), folder.file.read_bytes()[-200:])
        checks.equal("still private", folder.file.stat().st_mode & 0o7777, 0o600)
        before = folder.file.read_bytes()
        for sentence, words, text in (
                ("the name is taken", ("add", "web", "--roles", "read"), "web is there already"),
                ("no roles", ("add", "x"), "what may it do"),
                ("no such role", ("add", "x", "--roles", "reader"), "--roles reader: roles are"),
                ("a bad range", ("add", "x", "--roles", "read", "--ranges", "9-1"), "--ranges 9-1"),
                ("a bad name", ("add", "x y", "--roles", "read"), "letters, digits"),
                ("bad sessions", ("add", "x", "--roles", "read", "--max-sessions", "0"), "--max-sessions 0"),
                ("the only key", ("remove-key", "web", 1), "the only one"),
                ("no such key", ("remove-key", "web", 9), "no key 9"),
                ("no id", ("remove-key", "web"), "usage: torc keys remove-key NAME ID"),
                ("no such action", ("sing",), "list, add, change")):
            expect(sentence, folder.keys(*words), USAGE, text)
        expect("nobody of that name", folder.keys("revoke", "nobody"), NOT_FOUND, "no such principal")
        checks.equal("nothing was changed", folder.file.read_bytes(), before)
        expect("rotate", folder.keys("rotate", "web"), 0, "keys 1 and 2", "remove-key web 1")
        expect("a third key", folder.keys("rotate", "web"), USAGE, "has two keys, 1 and 2")
        expect("remove-key", folder.keys("remove-key", "web", 1), 0, "key 2 alone")
        expect("change", folder.keys("change", "web", "--roles", "read", "--ranges", "all"), 0)
        checks.that("changed", re.search(rb"^web 2 read max_sessions=7 2:[0-9a-f]{64}$",
                                         folder.file.read_bytes(), re.M), folder.file.read_bytes()[-200:])
        expect("revoke", folder.keys("revoke", "web"), 0)
        checks.that("gone", b"web" not in folder.file.read_bytes())
        checks.that("comments are left", b"# Who may talk" in folder.file.read_bytes())
        done = folder.keys("rotate", "nodes")
        expect("rotate nodes", done, 0, "copy torc.keys to all other nodes", "remove-key nodes 1")
        checks.that("not by export, which is refused", b"export" not in done.stdout, done.stdout)
        expect("rotate local", folder.keys("rotate", "local"), 0)
        checks.equal("local.key has the newest", HEX.findall((folder.data / "local.key").read_bytes()),
                     HEX.findall(folder.file.read_bytes())[1:2])


def case_list_and_export():
    """list shows no secret; export makes what a client or a node has"""
    with Folder() as folder:
        folder.keys("add", "web", "--roles", "read", "--ranges", "0-100")
        done = folder.keys("list", "-o", "json")
        expect("list", done, 0)
        checks.that("no secret", not HEX.search(done.stdout))
        lines = json.loads(done.stdout)["principals"]
        checks.equal("web's line", lines[2], {"name": "web", "number": 2, "roles": "read", "ranges": "0-100",
                                              "keys": "1", "max_sessions": 4096, "sessions": 0})
        expect("list for people", folder.keys(), 0, "name", "web", "0-100", "all")
        out = folder.path / "web.key"
        expect("export", folder.keys("export", "web", "--out", out), 0)
        checks.equal("private", out.stat().st_mode & 0o7777, 0o600)
        checks.equal("the same on standard output", folder.keys("export", "web").stdout, out.read_bytes())
        secrets = HEX.findall(re.sub(rb"^nodes .*$", b"", folder.file.read_bytes(), flags=re.M))
        checks.that("web's key", secrets[1] in out.read_bytes())
        before = out.read_bytes()
        link, device = folder.path / "link.key", folder.path / "null"
        link.symlink_to(out)
        os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        expect("a device keeps its place", folder.keys("export", "web", "--out", device), USAGE, "is no file")
        checks.that("as it was", stat.S_ISCHR(os.lstat(device).st_mode))
        expect("a link is not replaced", folder.keys("export", "local", "--out", link), USAGE, "is a link")
        checks.that("as it was, too", link.is_symlink() and out.read_bytes() == before)
        expect("nor is a directory", folder.keys("export", "web", "--out", folder.path), USAGE, "is no file")
        expect("a file is", folder.keys("export", "local", "--out", out), 0)
        checks.that("whole", out.read_bytes() == folder.keys("export", "local").stdout != before)
        bound = folder.keys("export", "web", "--node", 3).stdout
        checks.that("bound to a node", b":node=3" in bound and secrets[1] not in bound, bound)
        node = folder.keys("export", "--node", 3).stdout
        checks.that("a node's file", node.startswith(b"torc-keys 1\n") and node.count(b":node=3") == 2 and
                    HEX.search(bound)[0] in node and not any(one in node for one in secrets), node[:200])


# -- A node that runs

def case_reload():
    """a node that runs reads its file on command, whole or not at all"""
    with Node("--security", "keys") as node:
        path = pathlib.Path(node.data) / "torc.keys"
        checks.equal("status says keys", node.admin("status")["security"], "keys")
        expect("add", node.torc("keys", "add", "web", "--roles", "read", "--data", node.data), 0, "in force")
        listed = node.admin("keys")
        checks.that("in force", listed["in_force"], listed)
        checks.equal("both are there", [one["name"] for one in listed["principals"]], ["local", "web", "nodes"])
        good = path.read_bytes()
        path.write_bytes(good + b"broken\n")
        answer = node.admin("keys-reload")
        checks.that("a bad file is refused by its line", not answer["ok"] and
                    f"line {good.count(bytes([10])) + 1}: broken" in answer["text"], answer)
        checks.equal("and nothing has changed", node.admin("keys"), listed)
        path.write_bytes(good)
        path.chmod(0o640)
        answer = node.admin("keys-reload")
        checks.that("nor by others' eyes", not answer["ok"] and "mode 0640" in answer["text"], answer)
        path.chmod(0o600)
        expect("reload", node.torc("keys", "reload", "--data", node.data), 0, "3 principals, in force")
        expect("revoke", node.torc("keys", "revoke", "web", "--data", node.data), 0, "in force")
        checks.equal("two are left", [one["name"] for one in node.admin("keys")["principals"]], ["local", "nodes"])
        own = pathlib.Path(node.data) / "local.key"
        old = own.read_bytes()
        os.kill(node.pid("control"), signal.SIGSTOP)
        expect("no answer", node.torc("keys", "rotate", "local", "--data", node.data, "--timeout", "200ms", check=False),
               UNAVAILABLE, "no answer")
        os.kill(node.pid("control"), signal.SIGCONT)
        checks.that("the file has the new key of local, local.key the old one",
                    old == own.read_bytes() != node.torc("keys", "export", "local", "--data", node.data).stdout)
        expect("a reload", node.torc("keys", "reload", "--data", node.data), 0, "in force")
        checks.equal("brings local.key after it", own.read_bytes(),
                     node.torc("keys", "export", "local", "--data", node.data).stdout)
        node.kill("control")
        node.wait_ready()
        end = time.monotonic() + 10
        while not node.admin("keys")["in_force"] and time.monotonic() < end:
            time.sleep(0.01)
        checks.that("a new control hands them over again", node.admin("keys")["in_force"])
        log = node.log()
        checks.that("no secret in the log", not any(one.decode() in log for one in HEX.findall(path.read_bytes())))


def case_clear_says_so():
    """a node in the clear says so in its log, its status and its metrics"""
    with Node("--security", "clear") as node:
        checks.that("log", "neither authenticated nor encrypted" in node.log(), node.log()[-500:])
        checks.that("status", node.admin("status")["security"].startswith("clear: whoever"))
        checks.equal("metric", node.admin("stats")["control"]["torc_control_clear"], 1)
        expect("no keys to list", node.torc("keys", "--data", node.data, check=False), USAGE, "security = clear")


# -- Clients

def keys(node, *words):
    """`torc keys` on a node, which must succeed."""
    return node.torc("keys", *words, "--data", node.data)


def export(node, name):
    path = os.path.join(node.folder, f"{name}.key")
    keys(node, "export", name, "--out", path)
    return path


def raises(sentence, kind, call, *texts):
    try:
        call()
    except kind as error:
        for text in texts:
            checks.that(f"{sentence}: says {text!r}", text in str(error), str(error))
        checks.that(sentence, True)
    except Exception as error:  # pylint: disable=broad-except
        checks.that(sentence, False, f"{type(error).__name__}: {error}")
    else:
        checks.that(sentence, False, "nothing was raised")


def sessions(node, name):
    return next(one["sessions"] for one in node.admin("keys")["principals"] if one["name"] == name)


def case_which_key():
    """a client shows the key it is told to; without a good one it says which file and what to do"""
    with Node(security="keys") as node:
        expect("the node's own key", node.torc("put", 1, "one"), 0)
        expect("--data finds it", program("torc", "get", 1, "--data", node.data), 0, "one")
        none = node.torc("get", 1, "--key-file", "none", "--timeout", "1s", check=False)
        expect("no key", none, 3, "wants a key", "TORC_KEY_FILE")
        missing = node.torc("get", 1, "--key-file", "/nowhere/x.key", check=False)
        expect("a file that is not there", missing, NOT_FOUND, "/nowhere/x.key: No such file")
        keys(node, "add", "web", "--roles", "read")
        path = export(node, "web")
        expect("an exported one", node.torc("get", 1, "--key-file", path), 0, "one")
        os.chmod(path, 0o644)
        expect("others could read it", node.torc("get", 1, "--key-file", path, check=False), USAGE, "mode 0644",
               path)
        os.chmod(path, 0o600)
        with open(path, "r+", encoding="ascii") as file:
            text = file.read()
            file.seek(0)
            file.write(text.replace("key 1:", "key 2:"))
        wrong = node.torc("get", 1, "--key-file", path, "--timeout", "1s", check=False)
        expect("a key the node does not have", wrong, 3, "refuses principal 2, key 2", path)
        for name, options in (("environment", {}), ("argument", {"key_file": node.key_file})):
            os.environ["TORC_KEY_FILE"] = node.key_file if not options else "none"
            with torc.Store(node.address, **options) as store:
                checks.equal(f"Python by {name}", store.get(1), b"one")
        del os.environ["TORC_KEY_FILE"]


def case_two_principals():
    """two principals with disjoint ranges, one of them read-only"""
    with Node("--keys", "10000", security="keys", workers=2) as node:
        keys(node, "add", "web", "--roles", "read,write", "--ranges", "0-1000,4000-6000")
        keys(node, "add", "audit", "--roles", "read", "--ranges", "1000-4000")
        with torc.Store(node.address, key_file=node.key_file) as all_of_it, \
                torc.Store(node.address, key_file=export(node, "web")) as web, \
                torc.Store(node.address, key_file=export(node, "audit")) as audit:
            for key in (0, 999, 1000, 3999, 4000, 5999, 6000):
                all_of_it.put(key, str(key))
            for key in (0, 999, 4000, 5999):
                web.put(key, "web's")
                checks.equal(f"web reads {key}", web.get(key), b"web's")
                raises(f"audit does not read {key}", torc.Forbidden, lambda key=key: audit.get(key))
            for key in (1000, 3999):
                checks.equal(f"audit reads {key}", audit.get(key), str(key).encode())
                raises(f"audit does not write {key}", torc.Forbidden, lambda key=key: audit.put(key, "x"))
                raises(f"audit does not delete {key}", torc.Forbidden, lambda key=key: audit.delete(key))
                raises(f"web does not read {key}", torc.Forbidden, lambda key=key: web.get(key))
                raises(f"web does not write {key}", torc.Forbidden, lambda key=key: web.put(key, "x"))
            checks.equal("web's range over two shards", len(web.range_query(4000, 6000)), 2)
            checks.equal("a snapshot of it", len(list(web.scan(4000, 6000, snapshot=True))), 2)
            checks.equal("audit's range", len(audit.range_query(1000, 4000)), 2)
            raises("a range that sticks out", torc.Forbidden, lambda: web.range_query(4000, 6001))
            raises("a range over a gap", torc.Forbidden, lambda: web.range_query(0, 6000))
            raises("a count of others' keys", torc.Forbidden, lambda: audit.count(0, 10000))
            large = os.urandom(200_000)
            web.put(5, large)
            checks.equal("a large value in pieces", web.get(5), large)
            raises("not on others' keys", torc.Forbidden, lambda: web.put(2000, large))
            checks.equal("nothing was written there", all_of_it.get(2000), None)
        counted = node.admin("stats")["dataplane"] if "dataplane" in node.admin("stats") else node.admin("stats")
        numbers = json.dumps(counted)
        checks.that("counted by role", re.search(r'"torc_forbidden_role_total": [1-9]', numbers), numbers[:300])
        checks.that("counted by range", re.search(r'"torc_forbidden_range_total": [1-9]', numbers), numbers[:300])


def case_rotation_without_a_failed_request():
    """old and new keys work side by side; nobody's request fails"""
    with Node(security="keys") as node:
        keys(node, "add", "web", "--roles", "read,write")
        stop = threading.Event()
        failed, done = [], []

        def work(path):
            try:
                with torc.Store(node.address, key_file=path, timeout=5) as store:
                    while not stop.is_set():
                        store.put(7, "seven")
                        if store.get(7) != b"seven":
                            failed.append("another value")
                        done.append(path)
            except Exception as error:  # pylint: disable=broad-except
                failed.append(f"{type(error).__name__}: {error}")

        old = export(node, "web")
        threads = [threading.Thread(target=work, args=(old,)) for _ in range(2)]
        threads[0].start()
        keys(node, "rotate", "web")
        threads[1].start()  # the old key still opens sessions
        new = os.path.join(node.folder, "web-2.key")
        keys(node, "export", "web", "--out", new)
        checks.that("another key", open(old, "rb").read() != open(new, "rb").read())
        threads.append(threading.Thread(target=work, args=(new,)))
        threads[2].start()
        wait_for(lambda: {old, new} <= set(done) and len(done) > 50)
        keys(node, "remove-key", "web", 1)
        before = len(done)
        wait_for(lambda: len(done) > before + 50)  # sessions of key 1 have a minute
        stop.set()
        for thread in threads:
            thread.join()
        checks.equal("no request failed", failed, [])
        checks.that("all three worked", done.count(new) > 0 and done.count(old) > 0)
        raises("the old key opens no session any more", torc.NotConnected,
               lambda: torc.Store(node.address, key_file=old, timeout=1), "refuses principal 2, key 1")


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    checks.that(f"in time: line {sys._getframe(1).f_lineno}", condition())  # pylint: disable=protected-access


def case_revoke_ends_live_sessions():
    """a revoked principal's sessions end at once, others go on; other rights hold at once too"""
    with Node(security="keys") as node:
        keys(node, "add", "web", "--roles", "read,write")
        keys(node, "add", "audit", "--roles", "read,write")
        with torc.Store(node.address, key_file=export(node, "web"), timeout=2) as web, \
                torc.Store(node.address, key_file=export(node, "audit"), timeout=5) as audit:
            web.put(1, "one")
            audit.put(2, "two")
            checks.equal("one session each", (sessions(node, "web"), sessions(node, "audit")), (1, 1))
            keys(node, "revoke", "web")
            raises("web's next request", torc.Error, lambda: web.get(1), "refuses principal 2, key 1")
            checks.equal("audit's", audit.get(2), b"two")
            keys(node, "change", "audit", "--roles", "read")
            checks.equal("read", audit.get(2), b"two")
            raises("no role to write any more", torc.Forbidden, lambda: audit.put(2, "x"))
            keys(node, "change", "audit", "--ranges", "0-2")
            raises("nor that key", torc.Forbidden, lambda: audit.get(2))
            checks.equal("but another", audit.get(1), b"one")
            keys(node, "add", "web", "--roles", "read")
            raises("a new principal of that name is another one", torc.Error, lambda: web.get(1))


def case_list_of_many_ranges():
    """the list of a node that runs shows all ranges of the file's"""
    with Node(security="keys") as node:
        first = 10 ** 18
        ranges = ",".join(f"{first + 10 * i}-{first + 10 * i + 5}" for i in range(64))
        keys(node, "add", "web", "--roles", "read", "--ranges", ranges)

        def shown():
            done = node.torc("keys", "list", "-o", "json", "--data", node.data)
            return [line["ranges"] for line in json.loads(done.stdout)["principals"] if line["name"] == "web"]
        checks.equal("of the node", shown(), [ranges])


def case_bounded_sessions():
    """a principal has no more sessions than it may"""
    with Node(security="keys") as node:
        keys(node, "add", "web", "--roles", "read", "--max-sessions", 2)
        path = export(node, "web")
        first = torc.Store(node.address, key_file=path)
        second = torc.Store(node.address, key_file=path)
        checks.equal("two", sessions(node, "web"), 2)
        raises("a third", torc.NotConnected, lambda: torc.Store(node.address, key_file=path, timeout=1))
        first.close()
        torc.Store(node.address, key_file=path, timeout=10).close()  # its place is free again
        second.close()
        checks.that("others have theirs", torc.Store(node.address, key_file=node.key_file).get(1) is None)


checks.cases(globals())
