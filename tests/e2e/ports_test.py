#!/usr/bin/python3
"""Torc tests: the ports of a node, with real packets. Root only; makes namespaces and removes them.

    tests/e2e/ports_test.py            all; the last line is `N passed, N failed`
    tests/e2e/ports_test.py echo       the port layer and the loop alone, under a worker that echoes
    tests/e2e/ports_test.py node       torc-dataplane and torc-control on each kind of port

Bounds that are promised (docs/OPERATIONS.md): an idle node takes less than 1 % of a core, and its first
answer after idling comes within one wake-up of the machine; here the median must lie under 5 ms, which is
fifty times what it takes. A machine that is busy with other things is given several tries of either, and for
answers a bound by its own wake-ups.
"""
import json
import os
import pathlib
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import memif  # noqa: E402
from node import BUILD, PROGRAMS, ROOT, Checks, Network, Node, die_with_parent, run  # noqa: E402

ECHO = BUILD / "tests" / "torc-echo"
MEMIF = BUILD / "tests" / "torc-memif"
IDLE_SECONDS = 4
IDLE_PERCENT = 1.0
IDLE_TRIES = 3  # a wake-up beside others' work costs several times as much; a port that spins does in each
WAKE_MEDIAN_S = 0.005
WAKE_TRIES = 4
DEATHS = 4 if os.environ.get("TORC_TEST_QUICK") else 20  # of clients in each step
OPENINGS = 5 if os.environ.get("TORC_TEST_QUICK") else 25
WAKE_FACTOR = 10  # a question wakes the kernel's threads too
ROLLOVER_S = 3  # late reads so near to a session's end may be its doing
checks = Checks()


class Mirror:
    """A process that gives back a byte: how long this machine takes to wake somebody, with what else it does."""

    def __enter__(self):
        self.socket, far = socket.socketpair()
        self.process = os.fork()
        if self.process == 0:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            self.socket.close()
            while data := far.recv(1):
                far.send(data)
            os._exit(0)
        far.close()
        return self

    def ask(self):
        start = time.perf_counter()
        self.socket.send(b"x")
        self.socket.recv(1)
        return time.perf_counter() - start

    def __exit__(self, *_):
        self.socket.close()
        os.waitpid(self.process, 0)


def wakes_in_time(name, ask_once, pause_s, count):
    """Checks the median of answers after idling; its words for the summary. A busy machine gets several tries."""
    with Mirror() as mirror:
        for _ in range(WAKE_TRIES):
            times, machine = [], []
            for _ in range(count):
                time.sleep(pause_s)
                times.append(ask_once())
                time.sleep(pause_s)
                machine.append(mirror.ask())
            bound = max(WAKE_MEDIAN_S, WAKE_FACTOR * statistics.median(machine))
            good = None not in times and statistics.median(times) < bound
            if good:
                break
    checks.that(f"{name}: the first answer after idling", good, f"{times}, the machine alone {machine}")
    seen = [value for value in times if value is not None] or [float("nan")]
    return f"{statistics.median(seen) * 1e6:.0f} us median, {max(seen) * 1e6:.0f} us most"


def idle_percent(pids):
    """Processor time of some processes together, of one core, while nothing is asked of them: the first of several
    looks that is within the bound, else the least."""
    def used_ns():
        # The kernel's name for another process's clock, clock_getcpuclockid(3): a tick would be 0.25 % of a look.
        return sum(time.clock_gettime_ns(~pid << 3 | 2) for pid in pids)

    seen = []
    time.sleep(1)  # what was asked before is over
    while len(seen) < IDLE_TRIES and min(seen, default=IDLE_PERCENT) >= IDLE_PERCENT:
        begun_ns, before_ns = time.monotonic_ns(), used_ns()
        time.sleep(IDLE_SECONDS)
        seen.append(100 * (used_ns() - before_ns) / (time.monotonic_ns() - begun_ns))
    return min(seen)


def checksum(data):
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xffff) + (total >> 16)
    return ~(total + (total >> 16)) & 0xffff


def ping(address, size=56, timeout=1.0):
    """One echo request; the time its answer took, or None."""
    v6 = ":" in address
    body = bytes(range(256)) * 8
    head = struct.pack("!BBHHH", 128 if v6 else 8, 0, 0, os.getpid() & 0xffff, 7)
    packet = head + body[:size]
    if not v6:
        packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
    with socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_RAW,
                       socket.IPPROTO_ICMPV6 if v6 else socket.IPPROTO_ICMP) as link:
        link.settimeout(timeout)
        link.connect((address, 0))
        start = time.perf_counter()
        link.send(packet)
        while time.perf_counter() < start + timeout:
            try:
                got = link.recv(4096)
            except socket.timeout:
                return None
            got = got if v6 else got[(got[0] & 15) * 4:]
            if got[0] == (129 if v6 else 0) and got[4:] == packet[4:]:
                return time.perf_counter() - start
    return None


# -- Ports alone ----------------------------------------------------------------------------------


class Echo:
    """torc-echo in a namespace, ready when made."""

    def __init__(self, network, port, workers=1, memif="-"):
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            network.command(ECHO, port, "torc1", network.host(11), workers, "auto", memif),
            stdin=subprocess.DEVNULL, stderr=self.log, preexec_fn=die_with_parent)
        self.wait_for("echo started")

    def text(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")

    def wait_for(self, words, seconds=10):
        end = time.monotonic() + seconds
        while words not in self.text():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"torc-echo: {self.text()}")
            time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait(10)
        self.log.close()


def udp(address, port=28700):
    link = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    link.settimeout(1)
    link.connect((address, port))
    return link


def ask(link, data):
    start = time.perf_counter()
    link.send(data)
    while link.recv(9000) != data:
        pass
    return time.perf_counter() - start


def echo_port(port, queues):
    """A port gives back each packet, sleeps when idle, and wakes for the next."""
    with Network() as network:
        if port != "tap":
            network.add_pair("torc1", queues)
        with Echo(network, port, queues) as echo:
            if port == "tap":  # a link of the dataplane's own making: into the bridge with it
                network.run("ip", "link", "set", "torc1", "master", "torcbr", "up")
            checks.that(f"{port}: the driver asked for opens", f"driver={port} " in echo.text())
            checks.that(f"{port}: there is something to block on", "wait=fd" in echo.text())
            links = [udp(network.host(11)) for _ in range(4 * queues)]  # flows for all queues
            for number in range(400):
                ask(links[number % len(links)], struct.pack("!I", number) * (1 + number % 350))
            checks.that(f"{port}, {queues} queues: 400 packets of all sizes came back", True)
            percent = idle_percent([echo.process.pid])
            checks.that(f"{port}: idle below {IDLE_PERCENT} % of a core", percent < IDLE_PERCENT,
                        f"{percent:.2f} %")
            waking = wakes_in_time(port, lambda: ask(links[0], b"wake"), 0.1, 15)
            print(f"{port}: {queues} queues, idle {percent:.2f} %, first answer after idling {waking}")


def echo_memif():
    """A memif slot serves one client after the other, and sleeps between them."""
    with Network() as network, tempfile.TemporaryDirectory(prefix="torc-test-") as folder:
        name = os.path.join(folder, "slot")
        with Echo(network, "memif", memif=name) as echo:
            percent = idle_percent([echo.process.pid])
            checks.that(f"memif: idle below {IDLE_PERCENT} % without a client", percent < IDLE_PERCENT,
                        f"{percent:.2f} %")
            for _ in range(3):  # in another namespace: a socket's file reaches through
                done = run(MEMIF, name + "-0", network.host(11), 2000, 32)
                seen = json.loads(done.stdout)
                checks.that("memif: a client gets its packets back", seen["packets_per_second"] > 1000, seen)
            print(f"memif: idle {percent:.2f} %, round trip {seen['p50_ns'] / 1000:.1f} us median, "
                  f"{seen['packets_per_second'] / 1e6:.2f} M packets/s with {seen['window']} in flight")


def echo_memif_in_use():
    """A slot's socket is taken from a dead process, not from a living one; nor is another file removed."""
    with Network() as network, tempfile.TemporaryDirectory() as folder:
        name = f"{folder}/memif"
        words = (ECHO, "memif", "torc1", network.host(11), 1, "auto", name)
        with Echo(network, "memif", memif=name) as echo:
            before = os.stat(name + "-0").st_ino
            done = network.run(*words, check=False, timeout=20)
            checks.that("memif: a second one says what to do", done.returncode != 0 and b"memif-socket" in done.stderr and
                        f"{name}-0".encode() in done.stderr, done.stderr[-500:])
            checks.equal("memif: the socket is the first one's", os.stat(name + "-0").st_ino, before)
            seen = json.loads(run(MEMIF, name + "-0", network.host(11), 2000, 32).stdout)
            checks.that("memif: which still answers", seen["packets_per_second"] > 1000, seen)
            echo.process.kill()
            echo.process.wait(10)
            checks.that("memif: killed, it leaves its socket", os.path.exists(name + "-0"))
            with Echo(network, "memif", memif=name):
                seen = json.loads(run(MEMIF, name + "-0", network.host(11), 2000, 32).stdout)
                checks.that("memif: which the next one takes over", seen["packets_per_second"] > 1000, seen)
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
            with socket.socket(socket.AF_UNIX, kind) as other:
                other.bind(f"{folder}/other{kind.name}-0")
                done = network.run(*words[:-1], f"{folder}/other{kind.name}", check=False, timeout=20)
                checks.that(f"memif: the socket of another program, {kind.name}", done.returncode != 0 and
                            b"another process" in done.stderr and os.path.exists(f"{folder}/other{kind.name}-0"), done.stderr[-500:])
        pathlib.Path(folder, "letter-0").write_text("dear")
        done = network.run(*words[:-1], f"{folder}/letter", check=False, timeout=20)
        checks.that("memif: a file is named and left alone", done.returncode != 0 and b"no socket" in done.stderr and
                    pathlib.Path(folder, "letter-0").read_text() == "dear", done.stderr[-500:])


def echo_falls_back():
    """port=auto takes af_packet where a link has more queues than there are workers."""
    with Network() as network:
        network.add_pair("torc1", 2)
        with Echo(network, "auto") as echo:
            checks.that("auto says why af_xdp was refused", "2 queues for 1 workers" in echo.text(), echo.text())
            checks.that("and opens af_packet", "opened driver=af_packet" in echo.text())
            checks.that("which takes packets of all queues",
                        all(ask(udp(network.host(11)), b"all") for _ in range(8)))


def echo_refuses():
    """A link that is missing or down is named with the command that mends it."""
    with Network() as network:
        done = network.run(ECHO, "af_packet", "torc1", "10.79.0.11", 1, "auto", "-", check=False)
        checks.that("a missing link is named", done.returncode == 1 and b"ip link add torc1" in done.stderr,
                    done.stderr)
        network.add_pair("torc1")
        network.run("ip", "link", "set", "torc1", "down")
        done = network.run(ECHO, "af_xdp", "torc1", "10.79.0.11", 1, "auto", "-", check=False)
        checks.that("a link that is down is named", b"ip link set torc1 up" in done.stderr, done.stderr)


# -- A node on each kind of port ------------------------------------------------------------------


def addresses(node, port):
    """How clients reach it: both IP versions, or its memif slot."""
    if port == "memif":
        return [f"torc+memif:{node.data}/run/memif,address={node.network.host(10 + node.number)}"]
    return [node.address, node.address6]


def slot(node, number):
    return addresses(node, "memif")[0] + f",slot={number}"


def node_answers(node, port):
    for number, cluster in enumerate(addresses(node, port)):
        def torc(*words, cluster=cluster, **options):
            return node.torc("--cluster", cluster, *words, **options)

        key = 1000 * number + 42
        torc("put", key, "forty-two")
        checks.equal(f"{cluster}: what was put is there", torc("get", key).stdout.strip(), b"forty-two")
        torc("put", key + 1, "forty-three")
        rows = torc("range", key, key + 2).stdout
        checks.that(f"{cluster}: a range", b"forty-two" in rows and b"forty-three" in rows, rows)
        torc("delete", key)
        checks.equal(f"{cluster}: what was deleted is gone", torc("get", key, check=False).returncode, 1)
        large = os.urandom(50000)  # fragments both ways
        torc("put", key, "-", stdin=large)
        checks.that(f"{cluster}: a value of 50000 bytes comes back", torc("get", "-o", "raw", key).stdout == large)


def node_neighbours(node):
    """ARP and neighbour discovery are answered anew, and echo requests of all sizes."""
    link, ip4, ip6 = node.network.link, node.network.host(10 + node.number), node.network.host6(10 + node.number)
    for address in (ip4, ip6):
        run("ip", "neigh", "flush", "dev", link)
        answered = [ping(address, size) for size in (0, 56, 1400)]
        checks.that(f"{address}: echo", None not in answered, answered)
        seen = run("ip", "neigh", "show", address, "dev", link).stdout
        checks.that(f"{address}: it said its MAC address", b"lladdr" in seen, seen)


def node_idles(node, port):
    percent = idle_percent([node.pid(who) for who in ("serve", "control", "dataplane")])
    checks.that(f"{port}: an idle node's three processes below {IDLE_PERCENT} % of a core", percent < IDLE_PERCENT,
                f"{percent:.2f} %")
    if port == "memif":
        print(f"{port}: idle {percent:.2f} % of a core")
        return
    waking = wakes_in_time(port, lambda: ping(node.network.host(10 + node.number)), 0.2, 11)
    print(f"{port}: idle {percent:.2f} % of a core, first answer after idling {waking}")


def node_port(port):
    """A node serves on a port, on both IP versions, and is quiet when nobody asks."""
    more = ["--memif-slots", "2"] if port == "memif" else []
    with Node("--port", port, "--keys", "1000000", "--shards", "2", "--memory", "256M", *more) as node:
        checks.that(f"{port}: the driver asked for", f"opened driver={port} " in node.log(), node.log())
        if port == "tap":  # a link of the dataplane's own making: into the bridge with it
            node.network.run("ip", "link", "set", "torc1", "master", "torcbr", "up")
        node_answers(node, port)
        if port != "memif":
            node_neighbours(node)
        node_idles(node, port)


def python_client():
    """The module torc of this tree."""
    os.environ["TORC_LIBRARY"] = str(BUILD / "client" / "libtorc.so")
    sys.path.insert(0, str(ROOT / "client" / "python"))
    import torc  # pylint: disable=import-outside-toplevel,import-error
    return torc


def node_bursts(port):
    """Answers of thousands of packets at once go out, and the port is well afterwards."""
    torc = python_client()
    with Node("--port", port, "--keys", "1000000", "--memory", "256M") as node, torc.Store(node.address) as store:
        value = os.urandom(100000)  # 70 packets
        store.put_many([(key, value) for key in range(20)])
        for _ in range(3):
            answers = store.batch([torc.Get(key) for key in range(20)], timeout=5)
            checks.equal(f"{port}: 20 values of 100000 bytes at once", sum(answer.ok for answer in answers), 20)
        checks.equal(f"{port}: another client after it", node.torc("get", 500000, check=False).returncode, 1)
        seen = None not in [ping(node.network.host(10 + node.number)) for _ in range(20)]
        checks.that(f"{port}: and echo", seen)


def node_memif_clients_come_and_go():
    """Clients that end do not hurt the node, though the driver unmaps what it may be reading."""
    with Node("--port", "memif", "--memif-slots", "1", "--keys", "1000000", "--memory", "256M") as node:
        cluster = addresses(node, "memif")[0]
        pid = node.pid("dataplane")
        node.torc("--cluster", cluster, "put", 7, "seven")
        seen = {node.torc("--cluster", cluster, "get", 7).stdout.strip() for _ in range(20)}
        checks.equal("20 clients of one slot, one after the other", seen, {b"seven"})
        checks.equal("the dataplane lives", node.pid("dataplane"), pid)
        for _ in range(8):
            client = subprocess.Popen([PROGRAMS["torc"], "--cluster", cluster, "bench", "--reads", "100"],
                                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                      env=node.environment)
            time.sleep(0.5)
            client.kill()
            client.wait()
        checks.equal("nor do clients that are killed", node.torc("--cluster", cluster, "get", 7).stdout, b"seven\n")
        checks.equal("the dataplane lives on", node.pid("dataplane"), pid)


def sessions(node):
    """The numbers of the sessions that it has."""
    return {session["index"] for session in node.admin("sessions")["sessions"]}


def reads_at_rollover(torc):
    """Whether a client's session was ended for a new one, and the reads that came late then."""
    with Node("--port", "memif", "--memif-slots", "1", "--keys", "1000000", "--memory", "256M", "--session-age", "1m",
              "--deadline-max", "2s") as node, torc.Store(addresses(node, "memif")[0], timeout=0.9) as store:
        store.put(7, "seven")
        first, late = sessions(node), []

        def read_until_told():
            while not told.is_set():
                try:
                    store.get(7)
                except torc.Error as error:
                    late.append((time.monotonic(), error))

        told = threading.Event()
        reader = threading.Thread(target=read_until_told)
        reader.start()
        end = time.monotonic() + 90  # the new session is made after 42 to 54 s
        while sessions(node) & first and time.monotonic() < end:
            time.sleep(0.1)
        ended = time.monotonic()
        time.sleep(0.5)
        told.set()
        reader.join()
        return not sessions(node) & first, [error for when, error in late if abs(when - ended) < ROLLOVER_S]


def node_memif_session_rolls_over():
    """A client that ends the session before goes on in its new one: no read waits for that."""
    torc = python_client()
    ended, late = reads_at_rollover(torc)
    if ended and late:  # a port that rests does so each time, a machine that stands still does not
        ended, late = reads_at_rollover(torc)
    checks.that("memif: the session before was ended", ended)
    checks.equal("memif: reads while it was", late, [])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def memif_client(node, step):
    """A client of slot 0 that the node has answered up to the step."""
    end = time.monotonic() + 10
    while True:
        try:
            return memif.Client(f"{node.data}/run/memif-0", step)
        except ConnectionError:  # the slot is the last client's yet
            if time.monotonic() > end:
                raise
            time.sleep(0.005)


def memif_client_dies_unheard(node, step):
    """It comes to the step and is killed while the node stands still."""
    pid = node.pid("dataplane")
    os.kill(pid, signal.SIGSTOP)
    try:
        memif.Client(f"{node.data}/run/memif-0", step, deaf=True).kill()
    finally:
        os.kill(pid, signal.SIGCONT)
    memif_client(node, "hello").kill()  # the one before has been taken up


def node_memif_clients_die_in_each_step():
    """A client that is killed between connect and accept, or at any later message, takes nobody with it."""
    with Node("--port", "memif", "--memif-slots", "1", "--keys", "1000000", "--memory", "256M") as node:
        cluster = addresses(node, "memif")[0]
        pid = node.pid("dataplane")
        node.torc("--cluster", cluster, "put", 7, "seven")
        before = descriptors(pid)
        for step in memif.STEPS:
            for heard in (False, True):
                for _ in range(DEATHS):
                    if heard:
                        memif_client(node, step).kill()
                    else:
                        memif_client_dies_unheard(node, step)
            answer = node.torc("--cluster", cluster, "get", 7).stdout
            checks.equal(f"clients that die after {step}", answer, b"seven\n")
            checks.equal("the dataplane lives", node.pid("dataplane"), pid)
        end = time.monotonic() + 10
        while descriptors(pid) > before and time.monotonic() < end:
            time.sleep(0.01)
        checks.equal("and keeps no descriptor of theirs", descriptors(pid), before)


def node_memif_client_floods():
    """A client that asks without end and hears nothing keeps no other from its slot."""
    with Node("--port", "memif", "--memif-slots", "2", "--keys", "1000000", "--memory", "256M") as node:
        pid = node.pid("dataplane")
        node.torc("--cluster", slot(node, 1), "put", 7, "seven")
        with memif.flood(f"{node.data}/run/memif-0"):
            answer = node.torc("--cluster", slot(node, 1), "get", 7, check=False).stdout
            checks.equal("memif: another slot's client, meanwhile", answer, b"seven\n")
        answer = node.torc("--cluster", slot(node, 0), "get", 7, check=False).stdout
        checks.equal("memif: the slot's next client", answer, b"seven\n")
        checks.equal("memif: the dataplane lives", node.pid("dataplane"), pid)


def node_memif_stands_still():
    """Clients of a node that stands still are told so; those that come when it goes on are served."""
    with Node("--port", "memif", "--memif-slots", "1", "--keys", "1000000", "--memory", "256M") as node:
        words = [PROGRAMS["torc"], "--cluster", slot(node, 0), "get", "7"]
        pid = node.pid("dataplane")
        node.torc("--cluster", slot(node, 0), "put", 7, "seven")
        os.kill(pid, signal.SIGSTOP)
        try:
            clients = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=node.environment)
                       for _ in range(4)]
            for client in clients:
                try:
                    text, _ = client.communicate(timeout=60)
                except subprocess.TimeoutExpired:
                    client.kill()
                    text = b"it hangs"
                    client.wait()
                checks.that("memif: a client of a node that stands still", b"no free slot answers" in text, text)
        finally:
            os.kill(pid, signal.SIGCONT)
        answer = node.torc("--cluster", slot(node, 0), "get", 7, check=False).stdout
        checks.equal("memif: it goes on", answer, b"seven\n")
        checks.equal("memif: the dataplane that stood still", node.pid("dataplane"), pid)


def node_memif_many_in_one_process():
    """A process may have as many queues over memif as the node has slots for it."""
    with Node("--port", "memif", "--memif-slots", "6", "--keys", "1000000", "--memory", "256M") as node:
        done = run(BUILD / "perf" / "torc-perf", "--cluster", addresses(node, "memif")[0], "--clients", 6, "--workload",
                   "get", "--records", 1000, "--warmup", 0, "--seconds", 1, "--block", "--json", check=False,
                   env=node.environment)
        checks.that("6 queues of one process are served", done.returncode == 0 and json.loads(done.stdout)["ops"] > 0,
                    done.stderr or done.stdout)


def fork_and_open(torc, address):
    """What a child of this process hears when it opens a store: the name of the error."""
    near, far = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            torc.Store(address).close()
            far.send(b"opened")
        except torc.Error as error:
            far.send(type(error).__name__.encode())
        finally:
            os._exit(0)
    far.close()
    os.waitpid(pid, 0)
    with near:
        return near.recv(100).decode()


def in_a_process(what, work):
    """Work that starts DPDK, in a process of its own: checks that it comes to its end, and its checks."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        checks.failed = 0
        try:
            work()
            sys.stdout.flush()
            os._exit(1 if checks.failed else 0)
        finally:
            os._exit(2)
    checks.equal(what, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), 0)


def node_memif_and_fork():
    """A child of a process that has a queue over memif opens none, and hurts nobody."""
    torc = python_client()

    def forks():
        with torc.Store(slot(node, 0)) as store:
            store.put(7, "seven")
            checks.equal("memif: a child opens none", fork_and_open(torc, slot(node, 1)), "Unsupported")
            with torc.Store(slot(node, 1)) as second:
                checks.equal("memif: the parent opens another", second.get(7), b"seven")
            checks.equal("memif: and goes on", store.get(7), b"seven")

    with Node("--port", "memif", "--memif-slots", "2", "--keys", "1000000", "--memory", "256M") as node:
        in_a_process("memif: a process that forks", forks)


def node_memif_threads_open_and_close():
    """Threads of one process open and close their queues at the same time."""
    torc = python_client()

    def opens(number):
        for _ in range(OPENINGS):
            with torc.Store(slot(node, number), timeout=30) as store:
                store.get(7)

    def threads():
        all_threads = [threading.Thread(target=opens, args=(number,)) for number in range(6)]
        threading.excepthook = lambda met: checks.that("memif: a thread's queues", False, met.exc_value)
        for thread in all_threads:
            thread.start()
        for thread in all_threads:
            thread.join()

    with Node("--port", "memif", "--memif-slots", "6", "--keys", "1000000", "--memory", "256M") as node:
        in_a_process("memif: threads that open and close", threads)


def node_two_workers():
    """Two workers on a link of two queues: what arrives at the wrong core is handed over."""
    with Node("--port", "af_xdp", "--keys", "1000000", "--shards", "4", "--memory", "256M", workers=2) as node:
        checks.that("two queues, two workers", "queues=2" in node.log(), node.log())
        node_answers(node, "af_xdp")
        for key in range(0, 1000000, 50000):
            node.torc("put", key, f"value {key}")
        rows = node.torc("range", 0, 1000000).stdout.splitlines()
        checks.that("a range over the shards of both cores", len(rows) >= 20, rows)


def node_shared_queue():
    """Two workers and one memif queue: the other core's answers go by relay. As many slots as there may be."""
    with Node("--port", "af_packet", "--memif-slots", "31", "--keys", "1000000", "--shards", "4",
              "--memory", "256M", workers=2) as node:
        node_answers(node, "memif")
        node_answers(node, "af_packet")


def main():
    parts = sys.argv[1:] or ["echo", "node"]
    if "echo" in parts:
        for port, queues in (("af_xdp", 1), ("af_xdp", 2), ("af_packet", 1), ("tap", 1)):
            checks.case(echo_port, port, queues)
        checks.case(echo_memif)
        checks.case(echo_memif_in_use)
        checks.case(echo_falls_back)
        checks.case(echo_refuses)
    if "node" in parts:
        checks.case(node_memif_and_fork)  # in processes forked from this one: before it starts DPDK itself
        checks.case(node_memif_threads_open_and_close)
        for port in ("af_xdp", "af_packet", "tap", "memif"):
            checks.case(node_port, port)
        for port in ("af_xdp", "af_packet"):
            checks.case(node_bursts, port)
        checks.case(node_memif_clients_come_and_go)
        checks.case(node_memif_session_rolls_over)
        checks.case(node_memif_clients_die_in_each_step)
        checks.case(node_memif_many_in_one_process)
        checks.case(node_memif_client_floods)
        checks.case(node_memif_stands_still)
        checks.case(node_two_workers)
        checks.case(node_shared_queue)
    checks.end()


if __name__ == "__main__":
    main()
