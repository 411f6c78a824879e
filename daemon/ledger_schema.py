"""The tables of the ledger, version by version: each upgrade makes one version out of the one before, in a transaction of its
own. A version that was released is never changed.
"""

from __future__ import annotations

from . import order_index

_VERSION_1 = (
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
    batch INTEGER NOT NULL, restatements INTEGER NOT NULL
);
CREATE TABLE effects (              -- committed, and still to be made visible; in this order
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, target TEXT NOT NULL, source TEXT, sha256 BLOB, position INTEGER, text TEXT
);
"""
    + order_index.SCHEMA
)
_VERSION_2 = """
CREATE TABLE dimensions (
    name TEXT PRIMARY KEY, rows INTEGER NOT NULL, sha256 BLOB NOT NULL, bytes INTEGER NOT NULL,
    last_drop INTEGER NOT NULL      -- the newest drop of it that was applied
) WITHOUT ROWID;
CREATE TABLE totals (               -- sums over all drops
    name TEXT PRIMARY KEY, value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO totals SELECT 'drops.' || outcome, count(*) FROM drops WHERE outcome IS NOT NULL GROUP BY outcome;
INSERT INTO totals SELECT 'orders.' || key, sum(value) FROM drops, json_each(counts) WHERE type = 'integer' GROUP BY key;
INSERT INTO totals SELECT 'orders.' || one.key || '.' || each.key, sum(each.value)
    FROM drops, json_each(counts) AS one, json_each(one.value) AS each WHERE one.type = 'object' GROUP BY 1;
"""
_VERSION_4 = """
CREATE TABLE gone (                 -- dates that were published and lost their last order
    date INTEGER PRIMARY KEY, restatements INTEGER NOT NULL
);
"""
_VERSION_5 = """
INSERT INTO meta SELECT 'newest_under_since', seq FROM drops WHERE since IS NOT NULL ORDER BY seq DESC LIMIT 1;
"""
# The n-th makes version n out of the one before.
UPGRADES = (_VERSION_1, _VERSION_2, order_index.UPGRADE, _VERSION_4, _VERSION_5)
VERSION = len(UPGRADES)
