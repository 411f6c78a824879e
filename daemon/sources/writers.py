"""Whether some process still writes to an open file: asked with leases of the kernel."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum


class Writer(Enum):
    """Whether some process has a file open for writing."""

    NONE = "none"
    SOME = "some"
    UNKNOWN = "unknown"  # the file is another user's, or its file system has no leases


def writer_of(descriptor: int) -> Writer:
    """Whether some process has this file open for writing: a read lease is refused then. Linux only."""
    found = _lease(descriptor)
    if found is Writer.NONE:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return found


@contextmanager
def kept_from_writers(descriptor: int) -> Iterator[Writer]:
    """The same. Where no process has the file open for writing, none can open it for writing until the block ends."""
    found = _lease(descriptor)
    try:
        yield found
    finally:
        if found is Writer.NONE:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _lease(descriptor: int) -> Writer:
    if not hasattr(fcntl, "F_SETLEASE"):
        return Writer.UNKNOWN
    try:
        # A writer that comes while we hold the lease makes the kernel signal us: by default with SIGIO, which ends a process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return Writer.SOME
    except OSError:  # EACCES: another user's file, and we lack CAP_LEASE. EINVAL: a file system without leases
        return Writer.UNKNOWN
    return Writer.NONE


def first_hole(descriptor: int) -> int | None:
    """The offset of the first hole of an open file: bytes that were never written. None where there is none, or it is unknown."""
    found = os.fstat(descriptor)
    if found.st_blocks * 512 >= found.st_size or not hasattr(os, "SEEK_HOLE"):
        return None
    try:
        hole = os.lseek(descriptor, 0, os.SEEK_HOLE)
    except OSError:
        return None
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)
    return hole if hole < found.st_size else None
