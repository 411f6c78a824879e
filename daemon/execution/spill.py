"""Tables on disk on their way from one process to another: the bytes of a file, instead of more memory.

A file is written whole or not at all, and mapped where it is read. Nothing here is durable: what a crash leaves is in the
staging folder, and is cleaned away with it.
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
_ROWS_TOGETHER = 2_048  # whose columns lie side by side: who wants some rows looks at few places
_WRITTEN_BYTES = (
    1 << 16
)  # at once: the system takes few writes sooner than many, but shows as much around a place as was written
_KEPT_BYTES = 512 << 20  # of all files together; up to this much it is not worth to find pages again
_mapped: WeakSet[mmap.mmap] = WeakSet()


def write(path: Path, table: pa.Table) -> None:
    """Writes a table. Another process that does the same at the same time does no harm."""
    temporary = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        with (
            pa.OSFile(str(temporary), "wb") as file,
            pa.BufferedOutputStream(file, _WRITTEN_BYTES) as buffered,
            ipc.new_file(buffered, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=_ROWS_TOGETHER)
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


def release_pages() -> None:
    """Gives the pages of mapped files back that were looked at, where these files are large. They are read again from the
    system's cache when they are needed. Without this a drop of 2 GB would need as much memory as it has bytes."""
    mapped = list(_mapped)
    if hasattr(mmap, "MADV_DONTNEED") and sum(map(len, mapped)) > _KEPT_BYTES:
        for one in mapped:
            one.madvise(mmap.MADV_DONTNEED)
