"""Torc tests: a node as users run it, in a network namespace of its own. Root only.

    from node import Node, Network

    with Node("--keys", "4294967296") as node:          # torc serve, ready when this returns
        node.torc("put", 42, "forty-two")               # the program torc, from outside the namespace
        answer = node.torc("get", 42, check=False)      # .returncode, .stdout, .stderr (bytes)
        node.kill("dataplane"); node.wait_ready()       # SIGKILL; torc serve starts it again
        node.restart()                                  # a clean stop and a new start, same data
    node.address   "10.79.3.11:28700"    node.address6  "[fd79:0:0:3::b]:28700"
    node.data, node.log(), node.pid("control"), node.admin("status")
    Node(security="clear")                              # else as torc serve has it: with keys
    node.key_file                                       # of its principal `local`; it is in $TORC_KEY_FILE

The network is that of DESIGN.md, section 12: a bridge `torcbr` in the namespace with 10.79.k.1 and
fd79:0:0:k::1, one veth pair into the caller's namespace, whose end `torct<k>` has .2 and ::2, with the
first k >= 1 that the caller has no route to. Checksum offload is off on every link that a kernel
sender's packet enters by. `Network` alone is the same without a node: for tests that start the
dataplane themselves.

All that was made is removed at the end of the `with`, at the end of the program, and at SIGTERM and
SIGINT; what a killed test left behind is swept by the next one. Programs come from $TORC_BUILD (else
build/ beside the sources).
"""
import atexit
import ctypes
import fcntl
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("TORC_BUILD", ROOT / "build")).resolve()
PROGRAMS = {name: BUILD / folder / name for name, folder in (
    ("torc", "client"), ("torc-dataplane", "dataplane"), ("torc-control", "control"))}
NAMESPACE = re.compile(r"torc-t(\d+)-(\d+)")  # k, process id of the test
PR_SET_PDEATHSIG = 1

_open_things = []  # to be closed at the end of the program, last first
_sweep_lock = None


def run(*words, check=True, **options):
    """A command whose failure says what it said."""
    options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run([str(word) for word in words], capture_output=True, check=False, **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))}: status {done.returncode}: "
                           f"{(done.stderr or done.stdout).decode(errors='replace').strip()}")
    return done


def die_with_parent(number=signal.SIGTERM):
    """For preexec_fn: no node outlives its test."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def _close_all(*_):
    while _open_things:
        thing = _open_things[-1]
        try:
            thing.close()
        except Exception as error:  # pylint: disable=broad-except  # the others must be closed too
            print(f"node.py: {thing}: {error}", file=sys.stderr)
        if _open_things and _open_things[-1] is thing:
            _open_things.pop()


def _on_signal(number, _frame):
    _close_all()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _prepare():
    """Once a program: clean-up at every end, and a sweep of what killed tests left."""
    global _sweep_lock
    if _sweep_lock is not None:
        return
    if os.geteuid() != 0:
        sys.exit("this test makes a network namespace: run it as root")
    atexit.register(_close_all)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, _on_signal)
    _sweep_lock = open("/run/lock/torc-test-sweep", "w", encoding="ascii")
    fcntl.flock(_sweep_lock, fcntl.LOCK_EX)
    for line in run("ip", "netns", "list").stdout.decode().splitlines():
        found = NAMESPACE.fullmatch(line.split()[0]) if line.split() else None
        if found and not pathlib.Path(f"/proc/{found[2]}").exists():
            run("ip", "netns", "del", found[0], check=False)  # its pair of links goes with it
    fcntl.flock(_sweep_lock, fcntl.LOCK_UN)


def close_at_the_end(thing):
    """Whatever ends the program, thing.close() is called; it may be called before."""
    _prepare()
    _open_things.append(thing)


def is_closed(thing):
    if thing in _open_things:
        _open_things.remove(thing)


def reserve_k():
    """The first k whose networks nobody has a route to, with its link made: the link, not yet a route, is the
    reservation. scripts/cluster has links of another name, and the same lock."""
    with open("/run/lock/torc-networks", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for k in range(1, 255):
            routes = run("ip", "-4", "route", "show", "root", f"10.79.{k}.0/24").stdout
            routes += run("ip", "-6", "route", "show", "root", f"fd79:0:0:{k:x}::/64").stdout
            if not routes.strip() and not os.path.exists(f"/sys/class/net/torcl{k}") and \
                    run("ip", "link", "add", f"torct{k}", "type", "veth", "peer", "name", f"torcu{k}",
                        check=False).returncode == 0:
                return k
    raise RuntimeError("all networks 10.79.1.0/24 … 10.79.254.0/24 are in use")


class Network:
    """A namespace with a bridge that this process reaches by 10.79.k.0/24 and fd79:0:0:k::/64."""

    def __init__(self, mtu=1500):
        _prepare()
        self.k = reserve_k()
        self.link = f"torct{self.k}"  # this side's end
        self.namespace = f"torc-t{self.k}-{os.getpid()}"
        self.mtu = mtu
        _open_things.append(self)
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self):
        far = f"torcu{self.k}"
        run("ip", "netns", "add", self.namespace)
        run("ip", "link", "set", far, "mtu", self.mtu, "netns", self.namespace)
        run("ip", "link", "set", self.link, "mtu", self.mtu)
        run("ethtool", "-K", self.link, "tx", "off")
        run("ip", "addr", "add", self.host(2) + "/24", "dev", self.link)
        run("ip", "-6", "addr", "add", self.host6(2) + "/64", "dev", self.link, "nodad")
        run("ip", "link", "set", self.link, "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "link", "add", "torcbr", "mtu", self.mtu, "type", "bridge", "mcast_snooping", "0")
        self.run("ethtool", "-K", "torcbr", "tx", "off")
        self.run("ethtool", "-K", far, "tx", "off")
        self.run("ip", "addr", "add", self.host(1) + "/24", "dev", "torcbr")
        self.run("ip", "-6", "addr", "add", self.host6(1) + "/64", "dev", "torcbr", "nodad")
        self.run("ip", "link", "set", far, "master", "torcbr", "up")
        self.run("ip", "link", "set", "torcbr", "up")

    def host(self, number):
        return f"10.79.{self.k}.{number}"

    def host6(self, number):
        return f"fd79:0:0:{self.k:x}::{number:x}"

    def command(self, *words):
        """The words that run a command inside; its process id is the command's own."""
        return ["ip", "netns", "exec", self.namespace, *map(str, words)]

    def run(self, *words, **options):
        return run(*self.command(*words), **options)

    def add_pair(self, near, queues=1):
        """A link as `torc serve` makes it: near without address, near+h in the bridge."""
        self.run("ip", "link", "add", near, "mtu", self.mtu, "numrxqueues", queues, "numtxqueues", queues,
                 "type", "veth", "peer", "name", near + "h", "mtu", self.mtu, "numrxqueues", queues,
                 "numtxqueues", queues)
        self.run("sysctl", "-q", f"net.ipv6.conf.{near}.disable_ipv6=1", check=False)
        self.run("ethtool", "-K", near + "h", "tx", "off")
        self.run("ip", "link", "set", near, "up")
        self.run("ip", "link", "set", near + "h", "master", "torcbr", "up")

    def close(self):
        is_closed(self)
        # What was started detached in it, and forgotten by a test that failed.
        for pid in run("ip", "netns", "pids", self.namespace, check=False).stdout.split():
            try:
                os.kill(int(pid), signal.SIGKILL)
            except ProcessLookupError:
                pass
        run("ip", "link", "del", self.link, check=False)
        run("ip", "netns", "del", self.namespace, check=False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def await_stopped(pid):
    """SIGSTOP goes to one thread, and that one stops the others when it next runs: until then they go on."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            tasks = [path.read_text(encoding="utf-8", errors="replace")
                     for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")]
        except OSError:
            continue  # one has ended
        if all(text.rsplit(")", 1)[1].split()[0] in "TtZX" for text in tasks):
            return
        time.sleep(0.001)


class Node:
    """`torc serve` in a network of its own, with a data directory of its own unless one is given."""

    def __init__(self, *settings, network=None, data=None, number=1, workers=1, wait=True, mtu=1500,
                 security=None):
        for program in PROGRAMS.values():
            if not program.exists():
                sys.exit(f"{program} is missing: build it, or say TORC_BUILD=DIRECTORY")
        self.settings = [str(word) for word in settings]
        if security is not None:  # "keys" or "clear"; else as torc serve has it
            self.settings += ["--security", security]
        self.number = number
        self.workers = workers
        self._owns_network = network is None
        self.network = network or Network(mtu)
        self.folder = tempfile.mkdtemp(prefix="torc-test-", dir=os.environ.get("TORC_TEST_DATA"))
        self.data = str(data) if data is not None else os.path.join(self.folder, "data")
        self.log_path = os.path.join(self.folder, "serve.log")
        self.process = None
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(os.path.join(self.folder, "notify"))
        _open_things.append(self)
        try:
            if wait:
                self.start()
        except BaseException:
            self.close()
            raise

    # -- what it is

    @property
    def address(self):
        return f"{self.network.host(10 + self.number)}:28700"

    @property
    def address6(self):
        return f"[{self.network.host6(10 + self.number)}]:28700"

    @property
    def key_file(self):
        """The key of its principal `local`; "none" of a node in the clear."""
        path = os.path.join(self.data, "local.key")
        return path if os.path.exists(path) else "none"

    @property
    def environment(self):
        """For clients: the node's address, its key, and where libtorc and the Python module are."""
        return dict(os.environ, TORC_CLUSTER=self.address, TORC_KEY_FILE=self.key_file,
                    LD_LIBRARY_PATH=str(BUILD / "client"),
                    TORC_LIBRARY=str(BUILD / "client" / "libtorc.so"),
                    PYTHONPATH=str(ROOT / "client" / "python"))

    def serve_command(self, *more):
        return self.network.command(
            PROGRAMS["torc"], "serve", "--data", self.data, "--node", self.number,
            "--address", f"{self.network.host(10 + self.number)}/24",
            "--address6", f"{self.network.host6(10 + self.number)}/64",
            "--workers", self.workers, *self.settings, *more)

    def log(self):
        """All that torc serve and its children wrote, of all starts."""
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    # -- its life

    def spawn(self, *more, terminal=None):
        """Starts torc serve, does not wait. `terminal`: the descriptor of one to be its foreground process of; what
        goes to standard error is in the log as ever."""
        def prepare():
            die_with_parent()
            if terminal is not None:
                fcntl.ioctl(terminal, termios.TIOCSCTTY, 0)

        self._drain()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.serve_command(*more), stdin=subprocess.DEVNULL if terminal is None else terminal,
                stdout=log if terminal is None else terminal, stderr=log,
                env=dict(os.environ, NOTIFY_SOCKET=os.path.join(self.folder, "notify")),
                start_new_session=True, preexec_fn=prepare)
        return self.process

    def start(self, *more, timeout=30, terminal=None):
        self.spawn(*more, terminal=terminal)
        self.wait_ready(timeout)
        os.environ["TORC_KEY_FILE"] = self.key_file  # for clients in this process

    def wait_ready(self, timeout=30):
        """Until the node says (again) that it is ready; an error with its log when it ends instead."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            self._notify.settimeout(0.2)
            try:
                if b"READY=1" in self._notify.recv(65536).split(b"\n"):
                    return
            except socket.timeout:
                pass
            if self.process is None or self.process.poll() is not None:
                status = None if self.process is None else self.process.returncode
                raise RuntimeError(f"torc serve ended with status {status}:\n{self.log()[-3000:]}")
        raise RuntimeError(f"torc serve is not ready after {timeout} s:\n{self.log()[-3000:]}")

    def _drain(self):
        self._notify.setblocking(False)
        try:
            while self._notify.recv(65536):
                pass
        except BlockingIOError:
            pass

    def wait_end(self, timeout=30):
        """The exit status of torc serve."""
        return self.process.wait(timeout)

    def stop(self, timeout=60):
        """A clean stop: SIGTERM to torc serve. Returns its exit status."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        finally:
            self._kill_all()
            self.process = None

    def restart(self, timeout=60):
        status = self.stop(timeout)
        if status != 0:
            raise RuntimeError(f"torc serve stopped with status {status}:\n{self.log()[-3000:]}")
        self.start(timeout=timeout)

    def pid(self, who):
        """Of "serve", "dataplane" or "control"; None while there is none."""
        if self.process is None or self.process.poll() is not None:
            return None
        if who == "serve":
            return self.process.pid
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children", encoding="ascii") as file:
                children = file.read().split()
        except OSError:
            return None
        for child in children:
            try:
                with open(f"/proc/{child}/stat", encoding="ascii", errors="replace") as file:
                    name, rest = file.read().split("(", 1)[1].rsplit(")", 1)
            except OSError:
                continue
            if name == "torc-" + who and rest.split()[0] != "Z":
                return int(child)
        return None

    def kill(self, *who, number=signal.SIGKILL):
        """A signal to "dataplane", "control", both, or "serve"; a wait_ready() after it waits for the next READY."""
        self._drain()
        pids = [self.pid(one) for one in who]
        for pid in pids:
            if pid is not None:
                os.kill(pid, number)
                if number == signal.SIGSTOP:
                    await_stopped(pid)
        return pids

    def _kill_all(self):
        pids = [self.pid(who) for who in ("control", "dataplane", "serve")]
        for pid in reversed(pids):
            if pid is not None:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        if self.process is not None:
            self.process.wait(10)

    def close(self):
        is_closed(self)
        try:
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(signal.SIGTERM)
                try:
                    self.process.wait(20)
                except subprocess.TimeoutExpired:
                    print(f"torc serve does not stop:\n{self.log()[-3000:]}", file=sys.stderr)
            self._kill_all()
            self.process = None
        finally:
            if os.environ.get("TORC_KEY_FILE", "").startswith(self.data + "/"):
                del os.environ["TORC_KEY_FILE"]
            self._notify.close()
            if self._owns_network:
                self.network.close()
            if os.environ.get("TORC_KEEP"):
                print(f"kept {self.folder}", file=sys.stderr)
            else:
                shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- asking it

    def torc(self, *words, check=True, timeout=60, stdin=b"", **options):
        """The program torc against this node, from the caller's network. Bytes in, bytes out."""
        done = subprocess.run([str(PROGRAMS["torc"]), *map(str, words)], input=stdin, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=timeout,
                              env=self.environment, **options)
        if check and done.returncode != 0:
            raise RuntimeError(f"torc {' '.join(map(str, words))}: status {done.returncode}: "
                               f"{done.stderr.decode(errors='replace').strip()}\n{self.log()[-2000:]}")
        return done

    def admin(self, command, **arguments):
        """One request to run/admin.sock."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as link:
            # One with Python's own time-out does not wait to be let in behind others that connect.
            link.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 60, 0))
            # The name of a socket is short; the folder is reached by its descriptor.
            folder = os.open(os.path.join(self.data, "run"), os.O_PATH | os.O_DIRECTORY)
            try:
                link.connect(f"/proc/self/fd/{folder}/admin.sock")
            finally:
                os.close(folder)
            link.settimeout(60)
            link.sendall(json.dumps({"command": command, **arguments}).encode() + b"\n")
            answer = b""
            while not answer.endswith(b"\n"):
                piece = link.recv(65536)
                if not piece:
                    raise RuntimeError(f"{command}: torc-control closed the connection")
                answer += piece
        return json.loads(answer)


IN_DOUBT = 5  # exit status, client/cli/args.h


def refused(ask, in_doubt=lambda done: done.returncode == IN_DOUBT):
    """The answer to a write that is to be refused: `ask` does it. One whose last answer comes too late ends in doubt,
    as include/torc/torc.h has it, and is done again: three times at most. Any other answer is returned as it is."""
    for _ in range(4):
        done = ask()
        if not in_doubt(done):
            break
    return done


def short(value):
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:300]}… ({len(text)} characters)"


class Checks:
    """What a test program counts: each check by its sentence, and the last line of all."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def that(self, sentence, good, detail=""):
        self.passed += bool(good)
        self.failed += not good
        if not good:
            print(f"FAIL  {sentence}{': ' if detail != '' else ''}{detail}", flush=True)
        elif os.environ.get("TORC_VERBOSE"):
            print(f"ok    {sentence}", flush=True)
        return good

    def equal(self, sentence, seen, wanted):
        return self.that(sentence, seen == wanted, f"{short(seen)} instead of {short(wanted)}")

    def program(self, sentence, done, status, *texts):
        """A program that ended (subprocess.run's answer) with this status, and said these texts."""
        said = (done.stderr + done.stdout).decode(errors="replace")
        self.that(sentence, done.returncode == status,
                  f"status {done.returncode} instead of {status}: {said.strip()[-300:]}")
        for text in texts:
            self.that(f"{sentence}: says {text!r}", text in said, said.strip()[-300:])

    def case(self, function, *arguments):
        """Runs one test; an exception is a failure of it, the others go on."""
        try:
            function(*arguments)
        except Exception as error:  # pylint: disable=broad-except
            self.that((function.__doc__ or function.__name__).splitlines()[0], False,
                      f"{type(error).__name__}: {error}")

    def cases(self, functions, *arguments):
        """Of a module's globals(): the functions case_*, or those whose name holds a word of the command line, each
        with these arguments; then the last line, and the end."""
        words = sys.argv[1:]
        for name, function in list(functions.items()):
            if name.startswith("case_") and (not words or any(word in name[5:] for word in words)):
                self.case(function, *arguments)
        self.end()

    def end(self):
        print(f"{self.passed} passed, {self.failed} failed")
        sys.exit(1 if self.failed else 0)
