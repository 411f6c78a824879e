"""What all SQLite files under the output folder have in common: how a change is made, and how any process may look at one.

Nothing here knows a table.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import REBUILD_ANEW


@contextmanager
def transaction(sql: sqlite3.Connection) -> Iterator[None]:
    """One all-or-nothing change."""
    sql.execute("BEGIN IMMEDIATE")
    try:
        yield
        sql.execute("COMMIT")
    except BaseException:
        if sql.in_transaction:  # on a full disk, SQLite has already rolled back
            sql.execute("ROLLBACK")
        raise


def view(path: Path) -> sqlite3.Connection:
    """A read-only connection with a fixed snapshot. Where the folder is not writable and no process has the ledger open, SQLite
    needs `immutable=1`; that ignores the WAL, so it is tried only where there is none."""
    for option in ("mode=ro", "immutable=1"):
        sql = sqlite3.connect(f"{path.absolute().as_uri()}?{option}", uri=True, isolation_level=None, timeout=10.0)
        try:
            sql.execute("BEGIN")
            sql.execute("PRAGMA user_version").fetchone()
            sql.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            sql.close()
            if option == "immutable=1" or path.with_name(f"{path.name}-wal").exists():
                raise
        else:
            break
    return sql


def end_after(sql: sqlite3.Connection, seconds: float) -> None:
    """Interrupts every query of a connection that runs later than in so many seconds: sqlite3.OperationalError."""
    end = time.monotonic() + seconds
    sql.set_progress_handler(lambda: time.monotonic() > end, _STEPS)


_STEPS = 20_000  # of SQLite's machine, some milliseconds, between two looks at the clock
_BUSY, _FULL = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}, {sqlite3.SQLITE_FULL}
_REFUSED = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH}
_FAILED = {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_NOLFS, sqlite3.SQLITE_INTERRUPT}


def is_damage(error: Exception) -> bool:
    """Whether an error of SQLite comes from what is in the file, not from the machine: it is no database, or holds other values
    or tables than were written. To try again does not help."""
    if isinstance(error, sqlite3.ProgrammingError):
        return False
    return _code(error) not in (*_BUSY, *_FULL, *_REFUSED, *_FAILED)


def advice(error: Exception) -> str:
    """What to do about an error of SQLite."""
    code = _code(error)
    if code in _BUSY:
        return "Another program uses the file: start again when it has ended."
    if code in _FULL:
        return "The disk is full: free some space, and start again."
    if code in _REFUSED:
        return "Let this user read and write state/ and the files in it, or mount the file system for writing, and start again."
    return f"{REBUILD_ANEW}."


def shown(error: Exception | str) -> str:
    """The text of an error of SQLite in one printable line; where the file is damaged, it may quote it."""
    return "".join(one if one.isprintable() else "?" for one in str(error)[:200])


def _code(error: Exception) -> int:
    """The primary result code. Where a text is not UTF-8, the error comes from the module, and has none."""
    is_text = isinstance(error, UnicodeDecodeError) or str(error).startswith("Could not decode")
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT if is_text else sqlite3.SQLITE_IOERR) & 0xFF
