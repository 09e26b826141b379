"""The store: one connection to a Torc cluster, one call at a time."""
import ctypes
import os
from typing import Iterable, Iterator, List, NamedTuple, Optional, Tuple, Union

from torc import _errors
from torc._library import (LIBRARY, CLimits, CShard, CTrace, Item, Message, Options, Page, RangeOptions,
                           ReadOptions, Value, WriteOptions, byref)

OK, NOT_FOUND, CONDITION_FAILED = 0, 1, 3
ALWAYS, IF_ABSENT, IF_PRESENT, IF_VERSION = 0, 1, 2, 4
VERSION_ONLY, TRACED = 1, 2
REVERSE, KEYS_ONLY, WITH_VERSIONS = 1, 2, 4
SHARD, SNAPSHOT, STALE = 0, 1, 2
GET, PUT, DELETE = 1, 2, 3
KEY_MAX = 2**64 - 1

Bytes = Union[bytes, bytearray, memoryview, str]


class Limits(NamedTuple):
    """What the cluster published."""
    keys: int             # keys are in [0, keys)
    value_bytes_max: int  # of one value
    page_rows_max: int    # of one page
    page_bytes_max: int
    node: int             # the node of the first session
    cores: int
    shards: int
    packet_bytes: int
    durability: str       # "durable", "replicated" or "none"
    encryption: str       # "aes-256-gcm" or "chacha20-poly1305"; "none" with security = clear


class Shard(NamedTuple):
    """A part of the key space: keys in [lo, hi)."""
    lo: int
    hi: int
    shard: int
    epoch: int
    primary: Optional[int]  # node
    core: Optional[int]
    replicas: int


class Trace(NamedTuple):
    """Where the nanoseconds of one traced call went; the parts add up to the total.

    None: not known. The server leaves its part out when its answer has no room for it, and for
    values over one packet; log and sync are of writes.
    """
    total: int            # from the call to its answer
    wire: Optional[int]   # network there and back, kernels and library at both ends
    queue: Optional[int]  # in the node: from another core's queue, behind what came with it
    tree: Optional[int]   # looked up
    log: Optional[int]    # until the record was in the log's open block
    sync: Optional[int]   # until that block was on disk
    reply: Optional[int]  # until the answer was written
    sends: int            # how often it was sent


class Get(NamedTuple):
    """For Store.batch: the value of a key."""
    key: int


class Put(NamedTuple):
    """For Store.batch: stores a value; `if_version` 0: only when there is none."""
    key: int
    value: Bytes
    if_version: Optional[int] = None


class Delete(NamedTuple):
    """For Store.batch: removes a key."""
    key: int
    if_version: Optional[int] = None


class Result(NamedTuple):
    """What became of one operation of a batch."""
    ok: bool
    value: Optional[bytes]             # of a Get that found one
    version: int                       # of the record; 0: none
    error: Optional[_errors.Error]     # None after OK, and after a Get or Delete of no key


def _key(key: int, what: str = "key") -> int:
    if isinstance(key, bool) or not isinstance(key, int):
        raise TypeError(f"{what} must be an int, not {type(key).__name__}")
    if not 0 <= key <= KEY_MAX:
        raise _errors.make(0x10, f"{what} {key} is outside [0, 2**64)")
    return key


def _bytes(value: Bytes) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise TypeError(f"value must be bytes or str, not {type(value).__name__}")


def _timeout_us(seconds: Optional[float]) -> int:
    if seconds is None:
        return 0
    if not seconds > 0:  # nor is it no number
        raise _errors.make(0x10, f"timeout {seconds} must be above 0 seconds")
    return max(1, int(min(seconds, 2**32) * 1_000_000))  # the library cuts a long one


def _age_us(seconds: Optional[float]) -> int:
    """0: no age, the newest is wanted. Cut off below whole microseconds, so never more than was said."""
    if seconds is None:
        return 0
    if not 0.001 <= seconds < 2**32:
        raise _errors.make(0x10, f"max_age {seconds} must be at least 0.001 seconds, and below 2**32")
    return int(seconds * 1_000_000)


def _consistency(snapshot: bool, max_age: Optional[float]) -> int:
    if snapshot and max_age is not None:
        raise _errors.make(0x10, f"max_age {max_age} does not go with snapshot, which is the newest moment")
    return SNAPSHOT if snapshot else SHARD if max_age is None else STALE


def _condition(if_version: Optional[int], if_absent: bool, if_present: bool) -> Tuple[int, int]:
    if (if_version is not None) + if_absent + if_present > 1:
        raise _errors.make(0x10, "at most one of if_version, if_absent and if_present")
    if if_absent or if_version == 0:
        return IF_ABSENT, 0
    if if_present:
        return IF_PRESENT, 0
    if if_version is not None:
        return IF_VERSION, _key(if_version, "if_version")
    return ALWAYS, 0


class Store:
    """A connection to a cluster.

    `address`: `host[:port],...`, `[v6]:port`, or `torc+memif:NAME`; None: $TORC_CLUSTER, else the node
    of this machine. `timeout`: seconds until a call gives up, unless it says otherwise itself.
    `key_file`: what proves who we are, made by `torc keys export`, or "none"; None: $TORC_KEY_FILE, else
    the key of the node of this machine.
    Raises NotConnected when no node answered in that time.
    """

    def __init__(self, address: Optional[str] = None, *, timeout: Optional[float] = None,
                 key_file: Union[str, "os.PathLike[str]", None] = None) -> None:
        self._store: Optional[ctypes.c_void_p] = None
        store = ctypes.c_void_p()
        message = Message()
        options = Options(timeout_us=_timeout_us(timeout),
                          key_file=None if key_file is None else os.fsencode(key_file))
        status = LIBRARY.torc_open(None if address is None else address.encode(), byref(options),
                                   byref(store), byref(message))
        if status != OK:
            raise _errors.make(status, message.text.decode(errors="replace"))
        self._store = store

    # ---- Life

    def close(self) -> None:
        """Ends the connection; a second time does nothing."""
        store, self._store = self._store, None
        if store is not None:
            LIBRARY.torc_close(store)

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_store", None) is not None:
            self.close()

    def _open(self) -> ctypes.c_void_p:
        if self._store is None:
            raise _errors.make(0x85, "this store was closed")
        return self._store

    def _check(self, status: int) -> None:
        if status != OK:
            raise _errors.make(status, LIBRARY.torc_message(self._open()).decode(errors="replace"))

    # ---- One key

    def put(self, key: int, value: Bytes, *, timeout: Optional[float] = None,
            trace: bool = False) -> int:
        """Stores the value, whatever was there; returns its version."""
        return self._write(key, _bytes(value), ALWAYS, 0, timeout, trace)

    def put_if(self, key: int, value: Bytes, *, if_version: Optional[int] = None,
               if_absent: bool = False, if_present: bool = False,
               timeout: Optional[float] = None) -> int:
        """Stores the value only if the record is as asked (`if_version=0` is `if_absent=True`).

        Returns the new version. Raises ConditionFailed, whose `version` is the present one, 0 for none.
        """
        condition, version = _condition(if_version, if_absent, if_present)
        if condition == ALWAYS:
            raise _errors.make(0x10, "put_if needs if_version, if_absent or if_present")
        return self._write(key, _bytes(value), condition, version, timeout)

    def put_if_absent(self, key: int, value: Bytes, *, timeout: Optional[float] = None) -> bool:
        """Stores the value if there is none; False: there was one, and it stays."""
        try:
            self._write(key, _bytes(value), IF_ABSENT, 0, timeout)
            return True
        except _errors.BY_STATUS[CONDITION_FAILED]:
            return False

    def _write(self, key: int, value: bytes, condition: int, version: int,
               timeout: Optional[float], trace: bool = False) -> int:
        options = WriteOptions(timeout_us=_timeout_us(timeout), version=version, condition=condition,
                               flags=TRACED if trace else 0)
        got = ctypes.c_uint64()
        status = LIBRARY.torc_put_if(self._open(), _key(key), value, len(value), byref(options),
                                     byref(got))
        self._check_condition(status, got.value)
        return got.value

    def _check_condition(self, status: int, version: int) -> None:
        if status == CONDITION_FAILED:
            error = _errors.make(status, f"the record's version is {version}" if version
                                 else "there is no such record")
            error.version = version
            raise error
        self._check(status)

    def get(self, key: int, *, timeout: Optional[float] = None, trace: bool = False,
            max_age: Optional[float] = None) -> Optional[bytes]:
        """The value, or None when there is no such key. With `trace`, last_trace says where the time went.

        With `max_age` (seconds, at least a millisecond) any copy may answer that is no older: it has
        every write that anybody was told of that long before. TooStale when none was young enough in time.
        """
        found = self._read(key, TRACED if trace else 0, timeout, max_age)
        return None if found is None else found[0]

    def get_with_version(self, key: int, *, timeout: Optional[float] = None,
                         max_age: Optional[float] = None) -> Optional[Tuple[bytes, int]]:
        """The value and its version, or None."""
        value = self._read(key, 0, timeout, max_age)
        return None if value is None else value

    def version(self, key: int, *, timeout: Optional[float] = None) -> int:
        """The version of a key without its value; 0 when there is no such key."""
        value = self._read(key, VERSION_ONLY, timeout)
        return 0 if value is None else value[1]

    def _read(self, key: int, flags: int, timeout: Optional[float],
              max_age: Optional[float] = None) -> Optional[Tuple[bytes, int]]:
        options = ReadOptions(timeout_us=_timeout_us(timeout), flags=flags, max_age_us=_age_us(max_age))
        value = Value()
        status = LIBRARY.torc_get_with(self._open(), _key(key), byref(options), byref(value))
        if status == NOT_FOUND:
            return None
        self._check(status)
        try:
            return ctypes.string_at(value.data, value.bytes), value.version
        finally:
            LIBRARY.torc_value_free(byref(value))

    def delete(self, key: int, *, if_version: Optional[int] = None,
               timeout: Optional[float] = None, trace: bool = False) -> bool:
        """Removes a key; False when there was none. With `if_version`: only that version."""
        condition, version = _condition(if_version, False, False)
        if condition == IF_ABSENT:
            raise _errors.make(0x10, "delete: if_version must be above 0")
        options = WriteOptions(timeout_us=_timeout_us(timeout), version=version, condition=condition,
                               flags=TRACED if trace else 0)
        got = ctypes.c_uint64()
        status = LIBRARY.torc_delete_if(self._open(), _key(key), byref(options), byref(got))
        if status == NOT_FOUND:
            return False
        self._check_condition(status, got.value)
        return True

    @property
    def last_trace(self) -> Optional[Trace]:
        """Where the time of the last call with `trace=True` went; None before the first."""
        got = CTrace()
        if LIBRARY.torc_last_trace(self._open(), byref(got)) != OK:
            return None
        parts = ("wire", "queue", "tree", "log", "sync", "reply")
        return Trace(got.total_ns, *(getattr(got, f"{part}_ns") if got.known >> (bit + 1) & 1 else None
                                     for bit, part in enumerate(parts)), got.sends)

    def __getitem__(self, key: int) -> bytes:
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: int, value: Bytes) -> None:
        self.put(key, value)

    def __delitem__(self, key: int) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def __contains__(self, key: int) -> bool:
        return self.version(key) != 0

    # ---- Ranges

    def range_query(self, start: int, end: int, *, limit: Optional[int] = None,
                    reverse: bool = False, snapshot: bool = False, timeout: Optional[float] = None,
                    max_age: Optional[float] = None) -> List[Tuple[int, bytes]]:
        """All pairs with start <= key < end, sorted (reverse: descending), at most `limit`.

        With `snapshot` they are all of one moment. `max_age` as in get(). Everything is in memory at once: for more than that, use scan().
        """
        return list(self.scan(start, end, limit=limit, reverse=reverse, snapshot=snapshot,
                              timeout=timeout, max_age=max_age))

    def scan(self, start: int, end: int, *, limit: Optional[int] = None, reverse: bool = False,
             snapshot: bool = False, timeout: Optional[float] = None,
             max_age: Optional[float] = None) -> Iterator[Tuple[int, bytes]]:
        """The same as an iterator, a page at a time. Each part of a page is one moment of its shard.

        With `snapshot` all pages are one moment of all shards; SnapshotTooOld when it takes
        longer than the server remembers.
        """
        for key, value, _ in self._rows(start, end, limit, REVERSE if reverse else 0,
                                        self._range_options(timeout, snapshot, max_age)):
            yield key, value

    def scan_with_versions(self, start: int, end: int, *, limit: Optional[int] = None,
                           reverse: bool = False, snapshot: bool = False,
                           timeout: Optional[float] = None,
                           max_age: Optional[float] = None) -> Iterator[Tuple[int, bytes, int]]:
        """Triples of key, value and version."""
        return self._rows(start, end, limit, WITH_VERSIONS | (REVERSE if reverse else 0),
                          self._range_options(timeout, snapshot, max_age))

    def range_keys(self, start: int, end: int, *, limit: Optional[int] = None,
                   reverse: bool = False, snapshot: bool = False, timeout: Optional[float] = None,
                   max_age: Optional[float] = None) -> Iterator[int]:
        """The keys alone."""
        flags = KEYS_ONLY | (REVERSE if reverse else 0)
        for key, _, _ in self._rows(start, end, limit, flags,
                                    self._range_options(timeout, snapshot, max_age)):
            yield key

    @staticmethod
    def _range_options(timeout: Optional[float], snapshot: bool, max_age: Optional[float]) -> RangeOptions:
        return RangeOptions(timeout_us=_timeout_us(timeout), consistency=_consistency(snapshot, max_age),
                            max_age_us=_age_us(max_age))

    def _rows(self, start: int, end: int, limit: Optional[int], flags: int,
              options: RangeOptions) -> Iterator[Tuple[int, bytes, int]]:
        left = limit
        if limit is not None and limit < 0:
            raise _errors.make(0x10, f"limit {limit} must not be negative")
        options.flags = flags
        page = Page(next_lo=_key(start, "start"), next_hi=_key(end, "end"), more=True)
        while page.more and left != 0:
            options.limit, options.timestamp = left or 0, page.timestamp
            rows = self._page(page, options)
            yield from rows
            if left is not None:
                left -= len(rows)

    def _page(self, page: Page, options: RangeOptions) -> List[Tuple[int, bytes, int]]:
        self._check(LIBRARY.torc_range(self._open(), page.next_lo, page.next_hi, byref(options),
                                       byref(page)))
        try:
            return [(row.key, ctypes.string_at(row.data, row.bytes) if row.data else b"", row.version)
                    for row in page.rows[:page.count]]
        finally:
            LIBRARY.torc_page_free(byref(page))

    def count(self, start: int = 0, end: Optional[int] = None, *, snapshot: bool = False,
              max_age: Optional[float] = None) -> int:
        """How many keys [start, end) holds; without arguments, how many there are."""
        got = ctypes.c_uint64()
        options = self._range_options(None, snapshot, max_age)
        self._check(LIBRARY.torc_count_with(self._open(), _key(start, "start"),
                                            self.keys if end is None else _key(end, "end"),
                                            byref(options), byref(got)))
        return got.value

    # ---- Many at once

    def batch(self, operations: Iterable[Union[Get, Put, Delete]], *, timeout: Optional[float] = None,
              max_age: Optional[float] = None) -> List[Result]:
        """Many operations in flight together, without an order among them; a Result for each.

        `max_age` is that of the gets.
        """
        asked = list(operations)
        items = (Item * len(asked))()
        for item, operation in zip(items, asked):
            _fill_item(item, operation)
        options = ReadOptions(timeout_us=_timeout_us(timeout), max_age_us=_age_us(max_age))
        LIBRARY.torc_multi_with(self._open(), items, len(asked), byref(options))
        try:
            return [_result(item) for item in items]
        finally:
            LIBRARY.torc_items_free(items, len(asked))

    def put_many(self, pairs: Iterable[Tuple[int, Bytes]], *,
                 timeout: Optional[float] = None) -> None:
        """Stores all pairs; raises the first failure after all have ended."""
        for result in self.batch((Put(key, value) for key, value in pairs), timeout=timeout):
            if result.error is not None:
                raise result.error

    def get_many(self, keys: Iterable[int], *, timeout: Optional[float] = None,
                 max_age: Optional[float] = None) -> List[Optional[bytes]]:
        """The values of the keys, in their order, None for each that is not there."""
        results = self.batch((Get(key) for key in keys), timeout=timeout, max_age=max_age)
        for result in results:
            if result.error is not None:
                raise result.error
        return [result.value for result in results]

    # ---- The cluster

    @property
    def limits(self) -> Limits:
        limits = CLimits()
        self._check(LIBRARY.torc_limits(self._open(), byref(limits)))
        return Limits(limits.keys, limits.value_bytes_max, limits.page_rows_max,
                      limits.page_bytes_max, limits.node, limits.cores, limits.shards,
                      limits.packet_bytes, ("durable", "replicated", "none")[limits.durability],
                      ("none", "aes-256-gcm", "chacha20-poly1305")[limits.encryption])

    @property
    def keys(self) -> int:
        """Keys are in [0, keys)."""
        return self.limits.keys

    def shards(self) -> List[Shard]:
        """The parts of the key space and where they are."""
        room = 4096
        shards = (CShard * room)()
        count = ctypes.c_size_t(room)
        self._check(LIBRARY.torc_shards(self._open(), shards, byref(count)))
        return [Shard(one.lo, one.hi, one.shard, one.epoch, one.primary or None,
                      None if one.primary_core == 255 else one.primary_core, one.replicas)
                for one in shards[:min(count.value, room)]]

    def node_status(self, node: int = 0) -> str:
        """A node's counters, lines of `name value`; 0: the node of the first session."""
        value = Value()
        self._check(LIBRARY.torc_node_status(self._open(), node, byref(value)))
        try:
            return ctypes.string_at(value.data, value.bytes).decode()
        finally:
            LIBRARY.torc_value_free(byref(value))


def _fill_item(item: Item, operation: Union[Get, Put, Delete]) -> None:
    item.key = _key(operation.key)
    if isinstance(operation, Get):
        item.action = GET
        return
    item.condition, item.if_version = _condition(operation.if_version, False, False)
    if isinstance(operation, Delete):
        item.action = DELETE
        return
    item.action = PUT
    value = _bytes(operation.value)
    item.data = value  # ctypes keeps it alive with the item
    item.bytes = len(value)


def _result(item: Item) -> Result:
    value = None
    if item.status == OK and item.action == GET:
        value = ctypes.string_at(item.value.data, item.value.bytes)
    missing = item.status == NOT_FOUND
    error = None if item.status == OK or missing else _errors.make(item.status, "")
    return Result(item.status == OK, value, item.version, error)
