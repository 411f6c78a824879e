"""What all SQLite files under the output folder have in common: how a change is made, and how any process may look at one.

Nothing here knows a table.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    needs `immutable=1`."""
    for option in ("mode=ro", "immutable=1"):
        sql = sqlite3.connect(f"{path.absolute().as_uri()}?{option}", uri=True, isolation_level=None, timeout=10.0)
        try:
            sql.execute("BEGIN")
            sql.execute("PRAGMA user_version").fetchone()
            sql.execute("SELECT 1 FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            sql.close()
            if option == "immutable=1":
                raise
        else:
            break
    return sql
