"""What entry points set up before heavy work: cli, and what workers are forked from (preloaded.py).

Memory: the arrays of a parse are large and short-lived. By default glibc gives each back to the kernel when it is freed,
and the next one is paid for page by page again; a third of the time of a parse went there.

Threads: numpy brings OpenBLAS, whose threads wait busily for matrices that never come.

pandas: pyarrow imports pandas, where it is installed, at its first conversion, only to ask whether an object is a DataFrame.
That costs a third of a second in each process. Here it is told that there is none to ask about.
"""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.abc import MetaPathFinder

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT_BYTES = 64 << 20  # blocks up to this size are reused within the process; larger ones go back to the kernel


def prepare() -> None:
    """Sets up this process for work on large arrays."""
    without_idle_threads()
    keep_freed_memory()
    without_pandas()


def without_idle_threads() -> None:
    """Lets numpy, when it is imported here or in a process that is started from here, make no threads of its own."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def keep_freed_memory() -> None:
    """Lets glibc reuse freed blocks of up to 64 MiB, and keep some free memory. Elsewhere than on glibc, does nothing."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, 4 * _KEPT_BYTES)


def give_back_memory() -> None:
    """Returns to the system what was kept for the next batch: for a daemon that has had nothing to do for a while."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


class _NoPandas(MetaPathFinder):
    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "pandas":
            raise ModuleNotFoundError("pandas is not loaded in this process", name=name)


def without_pandas() -> None:
    """Lets pyarrow find no pandas in this process, unless it is loaded already."""
    if "pandas" in sys.modules:
        return
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        import pyarrow as pa

        pa.array([])  # pyarrow asks once, and remembers the answer
    finally:
        sys.meta_path.remove(finder)
