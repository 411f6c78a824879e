"""The set-up of a process before heavy work: of the command line, and of the process that workers are forked from.

Memory: the arrays of a parse are large and short-lived. By default glibc returns each to the kernel when it is freed, and the
next one causes page faults again. That took a third of a parse.

Threads: numpy brings OpenBLAS, whose threads spin while they wait for matrices. This program has none.

Garbage: Python looks for cycles after every 700 new objects. Loading the modules alone made 120 searches (0.03 s).

pandas: at its first conversion pyarrow imports pandas, if it is installed, to check whether an object is a DataFrame. That takes
a third of a second per process, so pyarrow is made to find no pandas.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 64 << 20  # freed blocks up to this size stay in the process
_NEW_OBJECTS = 10_000  # between two searches for cycles


def prepare() -> None:
    """Sets up this process for work on large arrays."""
    gc.set_threshold(_NEW_OBJECTS)
    without_idle_threads()
    keep_freed_memory()
    without_pandas()


def without_idle_threads() -> None:
    """Stops numpy from creating threads, in this process and in those that it starts. Call it before numpy is imported."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def keep_freed_memory() -> None:
    """Lets glibc keep and reuse freed blocks of up to 64 MiB. Does nothing with another C library."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, 4 * _KEPT_BYTES)


def release_memory() -> None:
    """Returns freed memory to the system. For an idle daemon, and before the rewriting of a very large drop; what comes next has
    to allocate it again."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


class _NoPandas:
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "pandas":
            raise ModuleNotFoundError("pandas is not loaded in this process", name=name)


def without_pandas() -> None:
    """Makes pyarrow find no pandas in this process, unless pandas is loaded already."""
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        import pyarrow as pa

        pa.array([])  # pyarrow looks for pandas once, here
    finally:
        sys.meta_path.remove(finder)
