"""libtorc by ctypes: where it is, and the structs and functions of torc/torc.h that Store uses."""
import ctypes
import os
import pathlib
from ctypes import (POINTER, Structure, byref, c_bool, c_char, c_char_p, c_int, c_size_t, c_uint32,
                    c_uint64, c_void_p)

MESSAGE_BYTES = 256


class Message(Structure):
    _fields_ = [("err", c_int), ("text", c_char * MESSAGE_BYTES)]


class Options(Structure):
    _fields_ = [("timeout_us", c_uint64), ("memory_bytes", c_uint64), ("operations", c_uint32),
                ("transport_spin", c_uint32), ("seed", c_uint64), ("key_file", c_char_p),
                ("reserved", c_uint64 * 3)]


class WriteOptions(Structure):
    _fields_ = [("timeout_us", c_uint64), ("version", c_uint64), ("condition", c_uint32),
                ("flags", c_uint32), ("reserved", c_uint64 * 2)]


class ReadOptions(Structure):
    _fields_ = [("timeout_us", c_uint64), ("flags", c_uint32), ("reserved32", c_uint32),
                ("max_age_us", c_uint64), ("reserved", c_uint64 * 1)]


class RangeOptions(Structure):
    _fields_ = [("timeout_us", c_uint64), ("limit", c_uint64), ("bytes", c_uint64),
                ("max_age_us", c_uint64), ("flags", c_uint32), ("consistency", c_uint32),
                ("timestamp", c_uint64), ("reserved", c_uint64 * 1)]


class Row(Structure):
    _fields_ = [("key", c_uint64), ("version", c_uint64), ("data", c_void_p), ("bytes", c_uint64)]


class Page(Structure):
    _fields_ = [("rows", POINTER(Row)), ("count", c_size_t), ("next_lo", c_uint64),
                ("next_hi", c_uint64), ("more", c_bool), ("truncated", c_bool),
                ("timestamp", c_uint64), ("memory", c_void_p)]


class Value(Structure):
    _fields_ = [("data", c_void_p), ("bytes", c_size_t), ("version", c_uint64)]


class Item(Structure):
    _fields_ = [("key", c_uint64), ("action", c_uint32), ("condition", c_uint32),
                ("if_version", c_uint64), ("data", c_char_p), ("bytes", c_size_t),
                ("status", c_int), ("version", c_uint64), ("value", Value)]


class CLimits(Structure):
    _fields_ = [("keys", c_uint64), ("cluster", c_uint64), ("map_version", c_uint64),
                ("deadline_us_max", c_uint64), ("value_bytes_max", c_uint32),
                ("page_rows_max", c_uint32), ("page_bytes_max", c_uint32), ("batch_max", c_uint32),
                ("packet_ops_max", c_uint32), ("packet_bytes", c_uint32), ("node", c_uint32),
                ("cores", c_uint32), ("durability", c_uint32), ("shards", c_uint32),
                ("encryption", c_uint32), ("reserved32", c_uint32), ("reserved", c_uint64 * 3)]


class CShard(Structure):
    _fields_ = [("lo", c_uint64), ("hi", c_uint64), ("shard", c_uint32), ("epoch", c_uint32),
                ("primary", c_uint32), ("primary_core", c_uint32), ("replicas", c_uint32),
                ("reserved32", c_uint32)]


class CTrace(Structure):
    _fields_ = [("user_data", c_uint64), ("total_ns", c_uint64), ("wire_ns", c_uint64),
                ("queue_ns", c_uint64), ("tree_ns", c_uint64), ("log_ns", c_uint64),
                ("sync_ns", c_uint64), ("reply_ns", c_uint64), ("known", c_uint32),
                ("sends", c_uint32), ("reserved", c_uint64 * 4)]


# name: (what it returns, its arguments); as in torc/torc.h
FUNCTIONS = {
    "torc_version": (c_char_p, []),
    "torc_error_name": (c_char_p, [c_int]),
    "torc_error_sentence": (c_char_p, [c_int]),
    "torc_retryable": (c_bool, [c_int]),
    "torc_maybe_applied": (c_bool, [c_int]),
    "torc_open": (c_int, [c_char_p, POINTER(Options), POINTER(c_void_p), POINTER(Message)]),
    "torc_close": (None, [c_void_p]),
    "torc_message": (c_char_p, [c_void_p]),
    "torc_put_if": (c_int, [c_void_p, c_uint64, c_char_p, c_size_t, POINTER(WriteOptions),
                            POINTER(c_uint64)]),
    "torc_delete_if": (c_int, [c_void_p, c_uint64, POINTER(WriteOptions), POINTER(c_uint64)]),
    "torc_get_with": (c_int, [c_void_p, c_uint64, POINTER(ReadOptions), POINTER(Value)]),
    "torc_value_free": (None, [POINTER(Value)]),
    "torc_range": (c_int, [c_void_p, c_uint64, c_uint64, POINTER(RangeOptions), POINTER(Page)]),
    "torc_page_free": (None, [POINTER(Page)]),
    "torc_count_with": (c_int, [c_void_p, c_uint64, c_uint64, POINTER(RangeOptions),
                                POINTER(c_uint64)]),
    "torc_multi_with": (c_int, [c_void_p, POINTER(Item), c_size_t, POINTER(ReadOptions)]),
    "torc_items_free": (None, [POINTER(Item), c_size_t]),
    "torc_last_trace": (c_int, [c_void_p, POINTER(CTrace)]),
    "torc_limits": (c_int, [c_void_p, POINTER(CLimits)]),
    "torc_node_status": (c_int, [c_void_p, c_uint32, POINTER(Value)]),
    "torc_shards": (c_int, [c_void_p, POINTER(CShard), POINTER(c_size_t)]),
}


def candidates():
    """Where libtorc may be, best first."""
    named = os.environ.get("TORC_LIBRARY")
    if named:
        yield named
        return
    here = pathlib.Path(__file__).resolve().parent
    if len(here.parents) > 2 and (here.parents[2] / "meson.build").exists():
        root = here.parents[2]  # a source tree: its builds, $TORC_BUILD or `build` first
        named = os.environ.get("TORC_BUILD")
        if named:
            yield str(pathlib.Path(named) / "client" / "libtorc.so.0")
        yield str(root / "build" / "client" / "libtorc.so.0")
        yield from sorted(str(path) for path in root.glob("build*/client/libtorc.so.0"))
    for parent in list(here.parents)[:5]:  # PREFIX/lib/python3/dist-packages/torc
        yield from sorted(str(path) for path in parent.glob("libtorc.so.0"))
        yield from sorted(str(path) for path in parent.glob("*-linux-gnu/libtorc.so.0"))
    yield "libtorc.so.0"


def load():
    """The library with its functions declared. OSError names every place that was looked at."""
    tried = []
    for path in candidates():
        if "/" in path and not os.path.exists(path):
            tried.append(path)
            continue
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            tried.append(f"{path} ({error})")
            continue
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(library, name)
            function.restype = result
            function.argtypes = arguments
        return library
    raise OSError("libtorc.so.0 was not found; build Torc, install it, or name it in $TORC_LIBRARY; "
                  f"looked at: {', '.join(tried)}")


LIBRARY = load()

__all__ = ["CLimits", "CShard", "CTrace", "Item", "LIBRARY", "Message", "Options", "Page", "RangeOptions",
           "ReadOptions", "Row", "Value", "WriteOptions", "byref"]
