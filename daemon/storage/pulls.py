"""What the ledger knows of pulls: how far each source is read, and the round whose drops are not all committed yet.

The cursor of a source advances in the transaction that commits the last drop of a round. A page is committed when a drop of the
source with its bytes was applied, or was a duplicate of one; also if it was withdrawn since, or the next round would bring it
back. A page in quarantine is not, and so the next round reads it again.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SCHEMA = """
CREATE TABLE pulls (                -- by source
    source TEXT PRIMARY KEY,
    hwm INTEGER,                    -- the greatest created_at of its orders
    cursor INTEGER,                 -- up to here, every change is committed
    rounds INTEGER NOT NULL DEFAULT 0,
    tried_at INTEGER, succeeded_at INTEGER, error TEXT NOT NULL DEFAULT '',
    put_off_until INTEGER           -- the server asked to be left alone
) WITHOUT ROWID;
CREATE TABLE rounds (               -- the newest round of a source, until its pages are committed
    source TEXT PRIMARY KEY,
    cursor INTEGER,                 -- NULL: takes the source's hwm
    latest INTEGER NOT NULL         -- when it began: the cursor goes no further
) WITHOUT ROWID;
CREATE TABLE pages (                -- of these rounds
    source TEXT NOT NULL, sha256 BLOB NOT NULL, PRIMARY KEY (source, sha256)
) WITHOUT ROWID;
"""
_STATE = "cursor, hwm, rounds, tried_at, succeeded_at, error, put_off_until"
_NOT_COMMITTED = """
SELECT 1 FROM pages WHERE source = ?1 AND NOT EXISTS (
    SELECT 1 FROM drops WHERE drops.sha256 = pages.sha256 AND drops.source = ?1
    AND outcome IN ('applied', 'duplicate', 'withdrawn'))
"""


@dataclass(frozen=True, slots=True)
class PullState:
    """How far a source is read. Instants are microseconds since 1970; None: never."""

    cursor: int | None = None
    hwm: int | None = None
    rounds: int = 0
    tried_at: int | None = None
    succeeded_at: int | None = None
    error: str = ""  # of the last round
    put_off_until: int | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """A round whose pages are in the inbox. `contents`: their SHA-256; `cursor`: the greatest change time in them, None: there is
    none; `latest`: when it began; `takes_hwm`: the cursor is the source's high-water mark."""

    contents: Sequence[bytes]
    cursor: int | None
    latest: int
    takes_hwm: bool = False


def states(sql: sqlite3.Connection) -> dict[str, PullState]:
    """All that was ever pulled, by source."""
    rows = sql.execute(f"SELECT source, {_STATE} FROM pulls WHERE tried_at IS NOT NULL")
    return {source: PullState(*rest) for source, *rest in rows}


def state(sql: sqlite3.Connection, source: str) -> PullState:
    """How far one source is read."""
    row = sql.execute(f"SELECT {_STATE} FROM pulls WHERE source = ?", (source,)).fetchone()
    return PullState(*row) if row else PullState()


def end(
    sql: sqlite3.Connection, source: str, now: int, error: str, found: Round | None, put_off_until: int | None = None
) -> None:
    """Enters a round that ended. Its cursor takes effect with the last of its pages, which may be committed already. Within a
    transaction of the caller."""
    sql.execute("INSERT OR IGNORE INTO pulls (source) VALUES (?)", (source,))
    sql.execute(
        "UPDATE pulls SET rounds = rounds + 1, tried_at = ?1, error = ?2, put_off_until = ?3, "
        "succeeded_at = CASE WHEN ?2 = '' THEN ?1 ELSE succeeded_at END WHERE source = ?4",
        (now, error, put_off_until, source),
    )
    if found is None or (found.cursor is None and not found.takes_hwm):
        return
    _forget(sql, source)  # an earlier round: this one began at the same cursor, and has read what that one has, too
    cursor = None if found.takes_hwm else found.cursor
    sql.execute("INSERT INTO rounds VALUES (?, ?, ?)", (source, cursor, found.latest))
    sql.executemany("INSERT OR IGNORE INTO pages VALUES (?, ?)", ((source, one) for one in found.contents))
    advance(sql)


def raise_marks(sql: sqlite3.Connection, newest: Mapping[int, int]) -> None:
    """Raises the high-water marks of the sources of these drops. `newest`: by drop, its latest `created_at`. Within a transaction
    of the caller."""
    sql.executemany(
        "INSERT INTO pulls (source, hwm) SELECT source, ? FROM drops WHERE seq = ? "
        "ON CONFLICT DO UPDATE SET hwm = excluded.hwm WHERE pulls.hwm IS NULL OR pulls.hwm < excluded.hwm",
        ((created_at, seq) for seq, created_at in newest.items()),
    )


def advance(sql: sqlite3.Connection) -> None:
    """Advances the cursor of each source whose round is committed as a whole. Within the transaction that commits its drops."""
    for source, cursor, latest in sql.execute("SELECT source, cursor, latest FROM rounds").fetchall():
        if sql.execute(_NOT_COMMITTED, (source,)).fetchone() is None:
            sql.execute(
                "UPDATE pulls SET cursor = max(ifnull(cursor, 0), min(ifnull(?1, hwm), ?2)) "
                "WHERE source = ?3 AND ifnull(?1, hwm) IS NOT NULL",
                (cursor, latest, source),
            )
            _forget(sql, source)


def _forget(sql: sqlite3.Connection, source: str) -> None:
    sql.execute("DELETE FROM rounds WHERE source = ?", (source,))
    sql.execute("DELETE FROM pages WHERE source = ?", (source,))
