"""The tables of the ledger. `PRAGMA user_version` says which schema a ledger has; there is one, and any other is refused."""

from __future__ import annotations

from . import order_index

VERSION = 6
SCHEMA = (
    """
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE drops (
    seq INTEGER PRIMARY KEY,
    name TEXT NOT NULL,             -- as it was in the inbox, unprintable bytes escaped
    raw TEXT,                       -- path under the output folder; NULL where there is no raw copy (a duplicate)
    sha256 BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    received_at INTEGER NOT NULL,   -- this and the next three judged its records
    tolerance INTEGER NOT NULL,
    records_path TEXT NOT NULL,
    since INTEGER,
    batch INTEGER,                  -- NULL: archived, not committed yet
    outcome TEXT,
    reason TEXT,
    duplicate_of INTEGER,
    counts TEXT                     -- JSON: see Counts
);
CREATE INDEX drops_by_sha256 ON drops (sha256);
CREATE INDEX drops_by_batch ON drops (batch);
CREATE TABLE batches (batch INTEGER PRIMARY KEY, committed_at INTEGER NOT NULL, published INTEGER NOT NULL);
CREATE TABLE partitions (
    date INTEGER PRIMARY KEY,       -- days since 1970
    orders INTEGER NOT NULL, lines INTEGER NOT NULL, amount TEXT NOT NULL,
    fact_sha256 BLOB NOT NULL, items_sha256 BLOB NOT NULL, bytes INTEGER NOT NULL,
    writer TEXT NOT NULL,           -- of both files: see parquet.WRITER
    batch INTEGER NOT NULL, restatements INTEGER NOT NULL
);
CREATE TABLE gone (                 -- dates that were published and lost their last order
    date INTEGER PRIMARY KEY, restatements INTEGER NOT NULL
);
CREATE TABLE dimensions (
    name TEXT PRIMARY KEY, rows INTEGER NOT NULL, sha256 BLOB NOT NULL, bytes INTEGER NOT NULL,
    writer TEXT NOT NULL,
    last_drop INTEGER NOT NULL      -- the newest drop of it that was applied
) WITHOUT ROWID;
CREATE TABLE totals (               -- sums over all drops
    name TEXT PRIMARY KEY, value INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE effects (              -- committed, and still to be made visible; in this order
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL, source TEXT, sha256 BLOB, position INTEGER, text TEXT
);
"""
    + order_index.SCHEMA
)
