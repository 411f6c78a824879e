"""Large tables as files, on their way from one process to another. The reader maps the file, so it needs no memory of its own.

A file is written completely or not at all. It is not durable: what a crash leaves is in the staging folder, which start-up
empties.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4
from weakref import WeakSet

import pyarrow as pa
from pyarrow import ipc

from ..storage.file_text import CUT

LEAST_BYTES = 1 << 20  # smaller tables are pickled
_BATCH_ROWS = 2_048  # small record batches: some rows are on few pages
# Fewer writes, but not larger: the kernel maps about as much around a page as was written at once.
_BUFFER_BYTES = 64 << 10
_RESIDENT_BYTES = 512 << 20  # of all mapped files together; below this, pages are not released
_mapped: WeakSet[mmap.mmap] = WeakSet()


def write(path: Path, table: pa.Table) -> None:
    """Writes a table. Another process may write the same file at the same time."""
    temporary = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        with (
            pa.OSFile(str(temporary), "wb") as file,
            pa.BufferedOutputStream(file, _BUFFER_BYTES) as buffered,
            ipc.new_file(buffered, table.schema) as writer,
        ):
            writer.write_table(table, max_chunksize=_BATCH_ROWS)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def read(path: Path) -> pa.Table:
    """Maps the table of a file. Where the disk cannot give a page of it later, the system ends this process (SIGBUS)."""
    with open(path, "rb") as file:
        return _table_of(file, path)


def take(path: Path) -> pa.Table:
    """The same, and removes the name of the file: before it is mapped, since nobody can cut it then. The system frees the file
    with the last mapping."""
    with open(path, "rb") as file:
        path.unlink(missing_ok=True)
        return _table_of(file, path)


def _table_of(file: BinaryIO, path: Path) -> pa.Table:
    try:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        table = ipc.open_file(pa.py_buffer(mapped)).read_all()
    except (ValueError, pa.ArrowInvalid):  # an empty file cannot be mapped
        raise OSError(errno.EIO, CUT, str(path)) from None
    _mapped.add(mapped)
    return table


def release_pages() -> bool:
    """Releases the resident pages of mapped files, if these are large; says whether they are. The next access reads them from the
    page cache again. Without this, a drop of 2 GB would take 2 GB of memory."""
    mapped = list(_mapped)
    if not hasattr(mmap, "MADV_DONTNEED") or sum(map(len, mapped)) <= _RESIDENT_BYTES:
        return False
    for one in mapped:
        one.madvise(mmap.MADV_DONTNEED)
    return True
