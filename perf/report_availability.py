"""Torc perf: the table `availability` of perf/report: pauses when primaries die, and what copies cost a put."""
import contextlib
import functools
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time

import bench
import failover
import report_page
from bench import Row, guarded, say

RECORDS = 10_000
VALUE_BYTES = 100
NODES = 3
READY_S = 20
SPREAD = {"clients": 8, "window": 16}  # many outstanding


class Talk:
    """One request after the other on one connection; `ends` says whether an answer is whole."""

    def __init__(self, port, ends):
        self.ends = ends
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request):
        self.socket.sendall(request)
        answer = self.socket.recv(65536)
        while not self.ends(answer):
            more = self.socket.recv(65536)
            if not more:
                raise RuntimeError(f"the peer hung up after {answer[:200]!r}")
            answer += more
        return answer

    def measure(self, request_of, good, seconds):
        """{"ops": requests a second, "p50": µs}, one in flight."""
        times, end = [], time.monotonic() + seconds
        while (begun := time.perf_counter_ns()) and time.monotonic() < end:
            answer = self.ask(request_of(len(times)))
            times.append(time.perf_counter_ns() - begun)
            if not good(answer):
                raise RuntimeError(f"the peer answers {answer[:200]!r}")
        return {"ops": len(times) / seconds, "p50": sorted(times)[len(times) // 2] / 1000}


class Peers:
    """Programs of a peer on loopback ports, in a folder that goes with them."""

    def __init__(self, name):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"torc-{name}-", dir=os.environ.get("TORC_TEST_DATA")))
        self.processes = []

    def start(self, *words):
        self.processes.append(subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL,
                                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                               cwd=self.folder, preexec_fn=bench.die_with_parent))

    def await_(self, ready, what):
        end = time.monotonic() + READY_S
        while True:
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                if ready():
                    return
            if time.monotonic() > end:
                raise RuntimeError(f"{what} is not ready after {READY_S} s")
            time.sleep(0.1)

    def pids(self):
        return [process.pid for process in self.processes]

    def close(self):
        for process in self.processes:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def resp(*words):
    parts = [f"${len(word)}\r\n{word}\r\n" for word in map(str, words)]
    return f"*{len(words)}\r\n{''.join(parts)}".encode()


class RedisOfThree(Peers):
    """A primary and two replicas in memory; a put is SET and WAIT 2 in one packet."""

    def __init__(self):
        super().__init__("redis")
        try:
            ports = [bench.free_port() for _ in range(NODES)]
            for port in ports:
                more = [] if port == ports[0] else ["--replicaof", "127.0.0.1", ports[0]]
                os.mkdir(self.folder / str(port))
                self.start("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                           "--dir", self.folder / str(port), "--repl-diskless-sync-delay", 0, *more)
            self.await_(lambda: self.talk(ports[0]).ask(self.put(0)) == b"+OK\r\n:2\r\n", "redis with two replicas")
            self.talked = self.talk(ports[0])
        except BaseException:
            self.close()
            raise

    @staticmethod
    def talk(port):
        return Talk(port, lambda answer: answer.count(b"\r\n") >= 2)

    @staticmethod
    def put(number):
        return resp("SET", f"key:{number % RECORDS:012d}", "x" * VALUE_BYTES) + resp("WAIT", 2, 5000)

    def measure(self, seconds):
        return self.talked.measure(self.put, lambda answer: answer == b"+OK\r\n:2\r\n", seconds)


class EtcdOfThree(Peers):
    """Three members; a put by the JSON gateway of the leader, over a connection that stays."""

    def __init__(self):
        super().__init__("etcd")
        try:
            ports = [(bench.free_port(), bench.free_port()) for _ in range(NODES)]
            members = ",".join(f"n{at}=http://127.0.0.1:{peer}" for at, (_, peer) in enumerate(ports))
            for at, (client, peer) in enumerate(ports):
                self.start("etcd", "--name", f"n{at}", "--data-dir", self.folder / f"n{at}", "--log-level", "error",
                           "--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls",
                           f"http://127.0.0.1:{client}", "--listen-peer-urls", f"http://127.0.0.1:{peer}",
                           "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}", "--initial-cluster", members)
            self.talked = None
            self.await_(lambda: self.find_leader([client for client, _ in ports]), "etcd of three")
        except BaseException:
            self.close()
            raise

    @staticmethod
    def whole(answer):
        head, found, body = answer.partition(b"\r\n\r\n")
        size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), -1)
        return found and len(body) >= size >= 0

    @staticmethod
    def post(path, what):
        body = json.dumps(what).encode()
        return (f"POST {path} HTTP/1.1\r\nHost: etcd\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
                "\r\n\r\n").encode() + body

    def find_leader(self, ports):
        for port in ports:
            talk = Talk(port, self.whole)
            said = json.loads(talk.ask(self.post("/v3/maintenance/status", {})).partition(b"\r\n\r\n")[2])
            if said.get("leader") and said["leader"] == said["header"]["member_id"]:
                self.talked = talk
        return self.talked is not None

    @functools.lru_cache(maxsize=None)
    def put(self, number):
        import base64  # pylint: disable=import-outside-toplevel

        def coded(text):
            return base64.b64encode(text.encode()).decode()
        return self.post("/v3/kv/put", {"key": coded(f"key:{number:012d}"), "value": coded("x" * VALUE_BYTES)})

    def measure(self, seconds):
        for number in range(RECORDS):  # made before they are timed
            self.put(number)
        return self.talked.measure(lambda number: self.put(number % RECORDS),
                                   lambda answer: answer.startswith(b"HTTP/1.1 200"), seconds)


# -- What copies cost ----------------------------------------------------------------------------


def pids_of(cluster):
    return [pid for node in cluster.nodes for pid in cluster.pids(node).values()]


def torc_put(settings, cluster, window, clients, seconds):
    def measure():
        result = bench.torc_perf(settings.folder, settings.client, cluster.address, cluster.client(), "--workload", "put",
                                 "--records", RECORDS, "--value-bytes", VALUE_BYTES, "--window", window, "--clients",
                                 clients, "--block", "--no-load", "--seconds", seconds, "--warmup", 0)
        return {"ops": result["ops_per_s"], "p50": result["update"]["p50_us"]}
    return (functools.partial(pids_of, cluster), measure)


def fill(settings, cluster):
    bench.torc_perf(settings.folder, settings.client, cluster.address, cluster.client(), "--workload", "put", "--records",
                    RECORDS, "--value-bytes", VALUE_BYTES, "--window", 64, "--block", "--seconds", 1, "--warmup", 0)


def cluster_of(replicas, durability):
    from replicated import Replicated  # pylint: disable=import-outside-toplevel  # wants TORC_BUILD
    return Replicated(NODES, replicas, 2**32, sealed=True, settings=("--durability", durability))


def puts(settings, alone, copies, peer):
    """{name: [figures of all runs]}, all measured in turn."""
    seconds = 1 if settings.quick else 2
    todo = {"alone 1": torc_put(settings, alone, 1, 1, seconds), "copies 1": torc_put(settings, copies, 1, 1, seconds),
            "peer 1": (peer.pids, functools.partial(peer.measure, seconds)),
            "alone many": torc_put(settings, alone, SPREAD["window"], SPREAD["clients"], seconds),
            "copies many": torc_put(settings, copies, SPREAD["window"], SPREAD["clients"], seconds)}
    found = {}
    for number in range(settings.runs):
        for name, (pids, measure) in todo.items():
            say(f"run {number + 1} of {settings.runs}: {name}")
            for key, value in guarded(measure, pids, not settings.quick).items():
                found.setdefault(f"{name} {key}", []).append(value)
    return found


def replication_rows(settings, what, alone_is, copies_are, make_peer, peer_is):
    with cluster_of(1, alone_is) as alone, cluster_of(3, copies_are) as copies, make_peer() as peer:
        for cluster in (alone, copies):
            cluster.await_whole(READY_S)
            failover.prefer(cluster)
            fill(settings, cluster)
        found = puts(settings, alone, copies, peer)
    yield Row("availability", f"PUT {what}, 3 copies, window 1, p50 beside one copy's", found["copies 1 p50"],
              found["alone 1 p50"], 1 / 3, better="less", unit="us",
              note="kernel port, three nodes up in both, authenticated and encrypted")
    yield Row("availability", f"PUT {what}, 3 copies, window 1, p50 beside {peer_is}", found["copies 1 p50"],
              found["peer 1 p50"], 1, better="less", unit="us", note="the peer's client is Python on a bare socket, in the clear")
    yield Row("availability", f"PUT {what}, 3 copies, {SPREAD['clients']} clients with {SPREAD['window']} in flight, "
              "beside one copy", found["copies many ops"], found["alone many ops"], 0, unit="op/s",
              note="three nodes and the client share the cores")


# -- The table -----------------------------------------------------------------------------------


def failover_rows(settings):
    kills = failover.kills_of(settings.quick)
    series, failed, complaints = failover.judged(kills, 1)
    if settings.histograms:
        failover.plot(report_page.HERE / report_page.PAUSES, series)
    yield from failover.rows(series, failed, len(complaints), kills)
    yield failover.rolling_row(1)


def table_availability(settings):
    yield from failover_rows(settings)
    yield from replication_rows(settings, "in memory", "none", "replicated", RedisOfThree, "Redis SET and WAIT 2")
    yield from replication_rows(settings, "durable", "durable", "durable", EtcdOfThree, "etcd's of three members")
