"""Torc: an ordered key-value store for integer keys, from Python.

    import torc

    with torc.Store("10.79.0.11") as store:      # the address that `torc serve` prints
        store.put(42, "forty-two")               # str is stored as UTF-8, bytes as they are
        store.get(42)                            # b'forty-two'; None when there is no such key
        store.range_query(0, 100)                # [(42, b'forty-two')], sorted by key
        for key, value in store.scan(0, 2**32):  # any number of pairs, page by page
            ...
        store.delete(42)                         # True: it was there

Keys are integers in [0, store.keys); ranges are half-open. Every failure is an exception named after
its status (`torc.InvalidArgument`, `torc.NoSpace`, ...), all of them `torc.Error`. `error.retryable`:
the same call may succeed later. `error.maybe_applied`: a write may have taken effect.

This is libtorc by ctypes: nothing is built. The library is looked for in $TORC_LIBRARY, then beside
this package (a build tree, an installation), then where the system has its libraries.

A Store is used by one thread at a time; open one for each thread. A child of fork() opens its own; not
over memif, if its parent did.
"""
from torc._errors import *  # noqa: F401,F403  the exceptions, made from torc/err.h's table
from torc._errors import Error
from torc._store import Delete, Get, Limits, Put, Result, Shard, Store, Trace

__version__ = "0.1.0"
__all__ = ["Delete", "Error", "Get", "Limits", "Put", "Result", "Shard", "Store", "Trace"]
