#!/usr/bin/python3
"""Torc tests: the Python package, as its users meet it: against a node that `torc serve` runs.

    tests/e2e/python_test.py
Last line: `N passed, N failed`. Needs root (node.py).
"""
import os
import sys
import threading

from middle import Middle
from node import BUILD, ROOT, Checks, Node

os.environ.setdefault("TORC_BUILD", str(BUILD))
sys.path.insert(0, str(ROOT / "client" / "python"))
import torc  # noqa: E402  after the path

KEYS = 1_000_000
checks = Checks()


def raises(sentence, kind, call, word=""):
    """An exception of this kind, with a word in its text; the exception."""
    try:
        call()
    except kind as error:
        checks.that(f"{sentence}: says {word!r}", word in str(error), str(error))
        return error
    except Exception as error:  # pylint: disable=broad-except
        checks.that(sentence, False, f"{type(error).__name__}: {error}")
        return None
    checks.that(sentence, False, "nothing was raised")
    return None


def case_points(store):
    """put, get and delete"""
    version = store.put(42, "forty-two")
    checks.that("put returns a version", version > 0)
    checks.equal("get returns bytes", store.get(42), b"forty-two")
    checks.equal("get of a missing key is None", store.get(43), None)
    checks.equal("a read may say how old it may be", store.get(42, max_age=0.5), b"forty-two")
    raises("but not nothing at all", torc.InvalidArgument, lambda: store.get(42, max_age=0.0001), "0.0001")
    raises("nor with a snapshot", torc.InvalidArgument, lambda: store.range_query(0, 9, snapshot=True, max_age=1), "snapshot")
    checks.equal("ranges, counts and batches too",
                 (store.range_query(42, 43, max_age=0.5), store.count(42, 43, max_age=0.5), store.get_many([42], max_age=1)),
                 ([(42, b"forty-two")], 1, [b"forty-two"]))
    checks.equal("the version comes along", store.get_with_version(42), (b"forty-two", version))
    checks.equal("or alone", store.version(42), version)
    store.put(44, "größe")
    checks.equal("str is UTF-8", store.get(44), "größe".encode())
    store.put(45, b"")
    checks.equal("empty is a value", store.get(45), b"")
    store.put(46, bytes(range(256)))
    checks.equal("bytes come back as they are", store.get(46), bytes(range(256)))
    checks.equal("delete says that it was there", store.delete(42), True)
    checks.equal("or not", store.delete(42), False)
    store[7] = b"seven"
    checks.that("a store is like a dict", store[7] == b"seven" and 7 in store and 8 not in store)
    del store[7]
    raises("a missing key is a KeyError of []", KeyError, lambda: store[7])
    large = os.urandom(300_000)
    store.put(47, large)
    checks.equal("large values come back whole", store.get(47), large)
    for key in (44, 45, 46, 47):
        store.delete(key)


def case_conditions(store):
    """conditional writes"""
    checks.equal("put_if_absent stores", store.put_if_absent(1, "a"), True)
    checks.equal("and then does not", store.put_if_absent(1, "b"), False)
    version = store.version(1)
    error = raises("another version is refused", torc.ConditionFailed,
                   lambda: store.put_if(1, "c", if_version=version + 1), str(version))
    checks.equal("the exception has the present one", error.version, version)
    checks.that("the right one is not", store.put_if(1, "c", if_version=version) > version)
    raises("if_present of a missing key", torc.ConditionFailed,
           lambda: store.put_if(2, "x", if_present=True), "no such record")
    raises("two conditions", torc.InvalidArgument,
           lambda: store.put_if(1, "x", if_absent=True, if_present=True), "at most one")
    raises("delete of another version", torc.ConditionFailed,
           lambda: store.delete(1, if_version=version))
    checks.equal("delete of this one", store.delete(1, if_version=store.version(1)), True)


def case_ranges(store):
    """ranges"""
    pairs = [(key, str(key).encode()) for key in range(1000, 900_000, 1777)]
    store.put_many(pairs)
    checks.equal("range_query returns all, in order", store.range_query(0, KEYS), pairs)
    checks.equal("half-open", store.range_query(1000, 2777), pairs[:1])
    checks.equal("with a limit", store.range_query(0, KEYS, limit=3), pairs[:3])
    checks.equal("from the end", store.range_query(0, KEYS, limit=2, reverse=True), pairs[:-3:-1])
    checks.equal("limit 0 is nothing", store.range_query(0, KEYS, limit=0), [])
    checks.equal("an empty range is an empty list", store.range_query(5, 5), [])
    checks.equal("scan is the same as an iterator", list(store.scan(0, KEYS)), pairs)
    checks.equal("keys alone", list(store.range_keys(0, KEYS)), [key for key, _ in pairs])
    checks.equal("versions too", next(store.scan_with_versions(0, KEYS)),
                 (1000, b"1000", store.version(1000)))
    checks.equal("count", store.count(), len(pairs))
    checks.equal("count of a part", store.count(1000, 2778), 2)
    checks.equal("get_many keeps the order", store.get_many([2777, 5, 1000]), [b"2777", None, b"1000"])
    big = [(key, bytes([key % 256]) * 3000) for key in range(10, 910)]
    store.put_many(big)
    checks.equal("pages follow one another", store.range_query(10, 910), big)
    checks.equal("and are of one moment", store.range_query(0, KEYS, snapshot=True), sorted(big + pairs))
    checks.equal("counted as well", store.count(snapshot=True), len(big + pairs))
    rest = store.scan(10, 910, snapshot=True)
    first = next(rest)
    store.delete(909)
    checks.equal("whatever is deleted meanwhile", [first, *rest], big)
    store.put(*big[-1])
    results = store.batch([torc.Delete(key) for key, _ in pairs + big])
    checks.that("batch deletes", all(result.ok for result in results))
    checks.equal("all is gone", store.count(), 0)


def case_batch(store):
    """batches"""
    results = store.batch([torc.Put(1, "x"), torc.Put(2, "y", if_version=9), torc.Get(3),
                           torc.Put(KEYS, "beyond")])
    checks.equal("what is fine is done", (results[0].ok, results[0].error), (True, None))
    checks.that("a failed condition is in its result",
                isinstance(results[1].error, torc.ConditionFailed))
    checks.equal("a missing key is no error", (results[2].value, results[2].error), (None, None))
    checks.that("a wrong key is", isinstance(results[3].error, torc.InvalidArgument))
    store.delete(1)


def case_arguments(store):
    """what is wrong is said"""
    raises("a key beyond the store", torc.InvalidArgument, lambda: store.put(KEYS, b""), str(KEYS))
    raises("a timeout that is no number", torc.InvalidArgument, lambda: store.get(1, timeout=float("nan")), "nan")
    for seconds in (2**65 / 1e6, 1e300, float("inf")):
        checks.equal(f"a timeout of {seconds} s is long", store.get(KEYS - 1, timeout=seconds), None)
    raises("a negative key", torc.InvalidArgument, lambda: store.get(-1), "-1")
    raises("a key over 64 bits", torc.InvalidArgument, lambda: store.get(2**64))
    raises("start above end", torc.InvalidArgument, lambda: store.range_query(9, 3), "[9, 3)")
    raises("end beyond the store", torc.InvalidArgument, lambda: store.range_query(0, KEYS + 1))
    raises("InvalidArgument is a ValueError", ValueError, lambda: store.get(KEYS))
    raises("a key that is no int", TypeError, lambda: store.get("5"), "int")
    raises("a value that is none", TypeError, lambda: store.put(5, 5), "bytes or str")
    error = raises("a value over the limit", torc.TooLarge,
                   lambda: store.put(5, bytes(store.limits.value_bytes_max + 1)), "at most")
    checks.equal("an error has its name", error.name, "TOO_LARGE")
    checks.equal("and predicates", (error.retryable, error.maybe_applied), (False, False))


def case_life(node):
    """opening and closing"""
    store = torc.Store(node.address)
    checks.equal("limits are known", (store.keys, store.limits.durability), (KEYS, "durable"))
    sealed = node.admin("status")["security"] == "keys"
    checks.that("and how packets are sealed", store.limits.encryption in (
        ("aes-256-gcm", "chacha20-poly1305") if sealed else ("none",)), store.limits.encryption)
    shards = store.shards()
    checks.that("shards cover all keys", shards[0].lo == 0 and shards[-1].hi == KEYS)
    checks.that("status is text", store.node_status().startswith("node 1"))
    store.close()
    store.close()
    raises("a closed store says so", torc.Closed, lambda: store.get(1))
    raises("no node there", torc.NotConnected, lambda: torc.Store("127.0.0.1:9", timeout=0.3))
    raises("no address", torc.InvalidArgument, lambda: torc.Store("host:port"), "port")


def case_threads(node):
    """a store for each thread"""
    def work(number):
        with torc.Store(node.address) as store:
            for key in range(number * 1000, number * 1000 + 50):
                store.put(key, str(key))
    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with torc.Store(node.address) as store:
        checks.equal("all their writes are there", store.count(), 150)


def case_fork(node):
    """a child of fork"""
    store = torc.Store(node.address)
    store.put(5, "parent")
    child = os.fork()
    if child == 0:
        try:
            store.get(5)
        except torc.Closed:
            os._exit(7)
        os._exit(1)
    checks.equal("the child is told", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 7)
    checks.equal("the parent goes on", store.get(5), b"parent")
    store.close()


def case_ipv6(node):
    """over IPv6"""
    with torc.Store(node.address6) as store:
        store.put(6, "six")
        checks.equal("what was put is got", store.get(6), b"six")


def case_shed(node):
    """packets that a worker under load refuses"""
    with Middle(node) as middle, torc.Store(middle.address) as store, torc.Store(node.address) as other:
        store.put(70, "seventy")
        middle.left = 3
        checks.equal("a get that was shed three times is answered", store.get(70), b"seventy")
        checks.equal("and was shed so often", (middle.shed, middle.left), (3, 0))
        middle.left = 2
        version = store.put(71, "once")
        checks.equal("so is a put", (middle.shed, middle.left), (5, 0))
        checks.equal("which was done once", other.get_with_version(71), (b"once", version))
        middle.left = 1_000_000
        raises("a get that is shed until its time is up", torc.Busy, lambda: store.get(70, timeout=0.3))
        checks.that("was tried again and again", middle.shed > 7)
        middle.left = 0
        checks.equal("after that all is well", store.get(70), b"seventy")
        checks.that("batches go through", all(result.ok for result in store.batch([torc.Delete(70), torc.Delete(71)])))


def main():
    with Node("--keys", KEYS) as node:
        with torc.Store(node.address) as store:
            for case in (case_points, case_conditions, case_ranges, case_batch, case_arguments):
                checks.case(case, store)
        for case in (case_life, case_threads, case_fork, case_ipv6):
            checks.case(case, node)
    with Node("--keys", KEYS, security="clear") as node:  # so that somebody in the middle can refuse
        checks.case(case_shed, node)
    checks.end()


if __name__ == "__main__":
    main()
