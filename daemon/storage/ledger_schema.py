"""The tables of the ledger. `PRAGMA user_version` is the version of the schema; a ledger with another version is refused."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ..core.errors import EnvironmentFault
from . import ages, checksums, order_index, pulls, redactions, set_aside, undos
from .database import transaction

VERSION = 13
SCHEMA = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE drops (
    seq INTEGER PRIMARY KEY,
    name TEXT NOT NULL,             -- as in the inbox, unprintable bytes escaped
    raw TEXT,                       -- path under the output folder; NULL where there is no raw copy (a duplicate)
    sha256 BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    received_at INTEGER NOT NULL,   -- this and the next five: ParseContext
    tolerance INTEGER NOT NULL,
    records_path TEXT NOT NULL,
    source TEXT NOT NULL,
    mapping INTEGER NOT NULL,       -- its number in `mappings`
    since INTEGER,
    batch INTEGER,                  -- NULL: archived, not committed
    outcome TEXT,
    reason TEXT,
    duplicate_of INTEGER,
    counts TEXT,                    -- JSON: see Counts
    newest INTEGER,                 -- the latest created_at of its accepted records
    checksum INTEGER NOT NULL DEFAULT 0     -- of the row: see checksums.py
);
CREATE INDEX drops_by_sha256 ON drops (sha256);
CREATE INDEX drops_by_batch ON drops (batch);
CREATE TABLE mappings (             -- many drops have the same one
    number INTEGER PRIMARY KEY,
    mapping TEXT NOT NULL UNIQUE    -- JSON of the FieldMapping; '': the default
);
CREATE TABLE batches (batch INTEGER PRIMARY KEY, committed_at INTEGER NOT NULL, published INTEGER NOT NULL);
CREATE TABLE partitions (
    date INTEGER PRIMARY KEY,       -- days since 1970
    orders INTEGER NOT NULL, lines INTEGER NOT NULL, amount TEXT NOT NULL,
    fact_sha256 BLOB NOT NULL, items_sha256 BLOB NOT NULL, bytes INTEGER NOT NULL,
    writer TEXT NOT NULL,           -- of both files: see parquet.WRITER
    batch INTEGER NOT NULL, restatements INTEGER NOT NULL,
    columns TEXT NOT NULL,          -- extra ones of fact_order: JSON of names and types
    checksum INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE gone (                 -- dates that were published and lost their last order
    date INTEGER PRIMARY KEY, restatements INTEGER NOT NULL
);
CREATE TABLE dimensions (
    name TEXT PRIMARY KEY, rows INTEGER NOT NULL, sha256 BLOB NOT NULL, bytes INTEGER NOT NULL,
    writer TEXT NOT NULL,
    last_drop INTEGER NOT NULL      -- the newest drop of it that was applied
) WITHOUT ROWID;
CREATE TABLE totals (               -- sums over all drops of a source
    source TEXT NOT NULL, name TEXT NOT NULL, value INTEGER NOT NULL, PRIMARY KEY (source, name)
) WITHOUT ROWID;
CREATE TABLE keys (                 -- of the records of a source: see KnownKey
    source TEXT NOT NULL, is_read INTEGER NOT NULL, key TEXT NOT NULL, first_drop INTEGER NOT NULL, missing_since INTEGER,
    told INTEGER NOT NULL, PRIMARY KEY (source, is_read, key)
) WITHOUT ROWID;
CREATE TABLE effects (              -- committed, not visible yet; in this order
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL, source TEXT, sha256 BLOB, position INTEGER, text TEXT
);
"""
    + pulls.SCHEMA
    + undos.SCHEMA
    + ages.SCHEMA
    + order_index.SCHEMA
    + redactions.SCHEMA
    + set_aside.SCHEMA
    + checksums.SCHEMA
)


def is_new(sql: sqlite3.Connection) -> bool:
    """Whether a file has no tables."""
    return sql.execute("SELECT 1 FROM sqlite_master").fetchone() is None


def create(sql: sqlite3.Connection) -> None:
    """Creates the tables. The caller has a transaction open."""
    for statement in SCHEMA.split(";\n"):
        if statement.strip():
            sql.execute(statement)
    checksums.create(sql)
    sql.execute(f"PRAGMA user_version = {VERSION}")


def refuse_other_versions(sql: sqlite3.Connection, path: Path) -> None:
    """EnvironmentFault where the ledger has another schema."""
    version = _version(sql)
    if version == VERSION:
        return
    first = "Run the newer strandline that wrote it, or rebuild" if version > VERSION else "Rebuild"
    hint = f"{first} the ledger from the raw layer with `strandline rebuild`; nothing was changed."
    if ages.marked(path.parent.parent).through:
        hint = "Run the strandline that wrote it: raw copies have gone by age, so it cannot be rebuilt; nothing was changed."
    cause = f"its schema version is {version}, and this program reads {VERSION}"
    raise EnvironmentFault("open the ledger", path, cause, hint)


def set_aside_other_version(path: Path) -> Path | None:
    """Renames a ledger with another version, so that a new one can be created; returns its new path. The caller holds the
    lock. Raises EnvironmentFault where a new one could not have what the old one knows."""
    if not path.exists():
        return None
    with closing(sqlite3.connect(path, isolation_level=None, timeout=10.0)) as sql:
        version = _version(sql)
        if version == VERSION or is_new(sql):
            return None
        ages.refuse_without_ledger(path.parent.parent, path)
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    names = (path.with_name(f"{path.stem}.version-{version}.{number}{path.suffix}") for number in range(1, 1000))
    aside = next(name for name in names if not name.exists())
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return aside


def newest_aside(path: Path) -> Path | None:
    """The ledger that was set aside last; None: none was."""
    asides = path.parent.glob(f"{path.stem}.version-*{path.suffix}")
    return max(asides, key=lambda aside: aside.stat().st_mtime_ns, default=None)


def take_from_aside(sql: sqlite3.Connection, aside: Path) -> None:
    """Takes from a ledger of another version what receipts and raw copies do not have: blocks, redactions, and how far each API
    was read. The caller has no transaction open. EnvironmentFault where that cannot be read: who is blocked would come back."""
    sql.execute("ATTACH ? AS aside", (f"{aside.absolute().as_uri()}?mode=ro",))
    try:
        with transaction(sql):
            for table in (*redactions.TABLES, "pulls"):
                ours, theirs = (
                    [row[1] for row in sql.execute(f"PRAGMA {place}.table_info({table})")]
                    for place in ("main", "aside")
                )
                if theirs == ours:
                    sql.execute(f"INSERT OR IGNORE INTO main.{table} SELECT * FROM aside.{table}")
                elif theirs and table in redactions.TABLES:
                    hint = "Run the strandline that wrote it; what is published was not changed."
                    raise EnvironmentFault(
                        "take who is blocked from", aside, f"its table {table} has other columns", hint
                    )
    finally:
        sql.execute("DETACH aside")


def _version(sql: sqlite3.Connection) -> int:
    return int(sql.execute("PRAGMA user_version").fetchone()[0])
