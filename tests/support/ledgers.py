"""A ledger that a test changes by hand."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from daemon.storage import checksums


def changing(path: Path) -> sqlite3.Connection:
    """A connection to a ledger whose checksums follow what is changed."""
    sql = sqlite3.connect(path)
    checksums.prepare(sql)
    return sql
