"""Tables on disk on their way from one process to another: the bytes of a file, instead of more memory.

A file is written whole or not at all, and mapped where it is read: what is looked at comes from the system's cache, and goes
back to it with `let_go`. Nothing here is durable: what a crash leaves lies in the staging folder, and is cleaned away with it.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path
from uuid import uuid4
from weakref import WeakSet

import pyarrow as pa
from pyarrow import ipc

LEAST_BYTES = 1 << 20  # what is smaller travels as it is
_KEPT_BYTES = 512 << 20  # of all files together; up to this much it is not worth to find pages again
_mapped: WeakSet[mmap.mmap] = WeakSet()


def write(path: Path, table: pa.Table) -> None:
    """Writes a table. Another process that does the same at the same time does no harm."""
    temporary = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        with pa.OSFile(str(temporary), "wb") as file, ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read(path: Path) -> pa.Table:
    """The table of a file."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    _mapped.add(mapped)
    return ipc.open_file(pa.py_buffer(mapped)).read_all()


def take(path: Path) -> pa.Table:
    """The table of a file whose name is gone from now on."""
    table = read(path)
    path.unlink(missing_ok=True)
    return table


def let_go() -> None:
    """Gives memory back that only holds what files have, too, where that is much (and the system can)."""
    mapped = list(_mapped)
    if hasattr(mmap, "MADV_DONTNEED") and sum(map(len, mapped)) > _KEPT_BYTES:
        for one in mapped:
            one.madvise(mmap.MADV_DONTNEED)
