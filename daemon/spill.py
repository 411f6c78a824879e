"""Orders on disk on their way from one process to another: the bytes of a table, instead of more memory.

A file is written whole or not at all, mapped where it is read, and its name is gone from then on. What is looked at comes
from the system's cache, and goes back to it with `let_go`. Nothing here is durable: what a crash leaves lies in the staging
folder, and is cleaned away with it.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from weakref import WeakSet

import pyarrow as pa
from pyarrow import ipc

LEAST_BYTES = 1 << 20  # what is smaller travels as it is
_mapped: WeakSet[mmap.mmap] = WeakSet()


def write(path: Path, orders: pa.Table) -> None:
    """Writes a table. Another process that does the same at the same time does no harm."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with pa.OSFile(str(temporary), "wb") as file, ipc.new_file(file, orders.schema) as writer:
            writer.write_table(orders)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def take(path: Path) -> pa.Table:
    """The table of a file, which is removed."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    path.unlink(missing_ok=True)
    _mapped.add(mapped)
    return ipc.open_file(pa.py_buffer(mapped)).read_all()


def let_go() -> None:
    """Gives memory back that only holds what files have, too (where the system can)."""
    if hasattr(mmap, "MADV_DONTNEED"):
        for mapped in list(_mapped):
            mapped.madvise(mmap.MADV_DONTNEED)
