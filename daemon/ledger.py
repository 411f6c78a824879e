"""The ledger: the only memory. Drops seen, where each order lives, the high-water mark, effects still to be made visible.

One SQLite file in WAL mode with synchronous=FULL: a commit that returned survives a power cut. Every change of one batch
is one transaction. It never touches any file but its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import order_index
from .core.errors import EnvironmentFault
from .core.model import DropOutcome, Judge
from .order_index import OrderIndex, Run

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
_UPGRADES = (_VERSION_1, _VERSION_2)  # the n-th makes version n out of the one before
SCHEMA_VERSION = len(_UPGRADES)


_DROP_COLUMNS = "seq, name, raw, sha256, bytes, received_at, tolerance, records_path, since, duplicate_of"


@dataclass(frozen=True, slots=True)
class Drop:
    """A drop that is archived: its number, its raw copy, and what judges it."""

    seq: int
    name: str
    raw: str | None
    sha256: bytes
    size_bytes: int
    judge: Judge
    duplicate_of: int | None = None


@dataclass(slots=True)
class Counts:
    """What became of a drop's records. extracted = discarded + before_since + superseded + unchanged + new + corrected."""

    extracted: int = 0
    discarded: Counter[str] = field(default_factory=Counter)
    before_since: int = 0
    superseded: int = 0
    unchanged: int = 0
    new: int = 0
    corrected: int = 0
    late: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)  # orders of which a dimension does not know the key

    def plus(self, more: Counts) -> Counts:
        """With what reading more of the same drop gave."""
        return Counts(**{name: getattr(self, name) + getattr(more, name) for name in self.__slots__})

    def less(self, before: Counts) -> Counts:
        """What came on top of `before`."""
        return Counts(**{name: getattr(self, name) - getattr(before, name) for name in self.__slots__})

    def to_json(self) -> str:
        return json.dumps(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return {name: dict(sorted(v.items())) if isinstance(v, Counter) else v for name, v in values.items()}


@dataclass(frozen=True, slots=True)
class DropResult:
    """The outcome of one drop, as it is committed. `before`: what its counts were, where it is read once more."""

    drop: Drop
    outcome: DropOutcome
    counts: Counts
    reason: str | None = None
    duplicate_of: int | None = None
    keeps_raw: bool = True
    before: Counts | None = None

    @property
    def gained(self) -> Counts:
        """What this batch added to the drop's counts. `before_since` falls where a drop is read once more."""
        return self.counts if self.before is None else self.counts.less(self.before)


@dataclass(frozen=True, slots=True)
class Partition:
    """What the ledger knows of a published date (days since 1970)."""

    date: int
    orders: int
    lines: int
    amount: int
    fact_sha256: bytes
    items_sha256: bytes
    bytes: int
    restatements: int = 0


@dataclass(frozen=True, slots=True)
class DimensionFile:
    """What the ledger knows of a published dimension."""

    name: str
    rows: int
    sha256: bytes
    bytes: int
    last_drop: int  # the newest drop of it that was applied


@dataclass(frozen=True, slots=True)
class Effect:
    """One committed step that makes a batch visible. Paths are relative to the output folder.

    place: rename `source` (of this sha256) to `target`.    remove: unlink `target`.
    quarantine: move the raw copy `source` to `target`, and write its reason (`text`) beside it.
    append: let the file `target` continue with `text` from byte `position` on.    link: let `target` point to `text`.
    """

    kind: str
    target: str
    source: str | None = None
    sha256: bytes | None = None
    position: int | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """All that one batch changes."""

    committed_at: int
    results: Sequence[DropResult]
    run: Run | None  # of the order index, written ahead
    partitions: Sequence[Partition]
    removed: Sequence[int]
    dimensions: Sequence[DimensionFile]
    totals: Mapping[str, int]  # what to add to each sum
    hwm: int | None
    effects: Sequence[Effect]
    restatements_bytes: int


class Ledger:
    """One open ledger. Not thread-safe; the process that holds the output's lock owns it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._sql = _connect(path)
            self._upgrade(path)
        except sqlite3.DatabaseError as error:
            raise EnvironmentFault(
                "open the ledger", path, error, "If the file is damaged, move it away and run `strandline rebuild`."
            ) from error
        self.index = OrderIndex(self._sql)

    def close(self) -> None:
        self._sql.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One durable, all-or-nothing change."""
        self._sql.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._sql.execute("COMMIT")
        except BaseException:
            if self._sql.in_transaction:  # SQLite has rolled back by itself where its disk was full
                self._sql.execute("ROLLBACK")
            raise

    def _upgrade(self, path: Path) -> None:
        version = self._sql.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise EnvironmentFault(
                "open the ledger", path, f"its schema version is {version}, this program knows {SCHEMA_VERSION}",
                "Run the newer strandline that wrote it.",
            )  # fmt: skip
        for number, upgrade in enumerate(_UPGRADES[version:], version + 1):
            with self.transaction():
                for statement in upgrade.split(";\n"):
                    if statement.strip():
                        self._sql.execute(statement)
                self._sql.execute(f"PRAGMA user_version = {number}")

    # ------------------------------------------------------------------------------------------------- questions

    @property
    def hwm(self) -> int | None:
        """The high-water mark in microseconds; None before the first accepted order."""
        return self._meta("hwm")

    @property
    def restatements_bytes(self) -> int:
        """How long the committed restatement log is."""
        return self._meta("restatements_bytes") or 0

    @property
    def last_seq(self) -> int:
        """The largest sequence number that was given or skipped so far; 0 before the first drop."""
        given = int(self._sql.execute("SELECT coalesce(max(seq), 0) FROM drops").fetchone()[0])
        return max(given, self._meta("skipped_to") or 0)

    @property
    def next_batch(self) -> int:
        return int(self._sql.execute("SELECT coalesce(max(batch), 0) + 1 FROM batches").fetchone()[0])

    def applied(self, sha256: bytes) -> list[Drop]:
        """The drops of this content that were applied before."""
        query = f"SELECT {_DROP_COLUMNS} FROM drops WHERE sha256 = ? AND outcome = 'applied' ORDER BY seq"
        return [_drop(row) for row in self._sql.execute(query, (sha256,))]

    def applied_drops(self) -> Iterator[Drop]:
        """All drops that were applied, by number."""
        rows = self._sql.execute(f"SELECT {_DROP_COLUMNS} FROM drops WHERE outcome = 'applied' ORDER BY seq")
        return map(_drop, rows)

    def read_since(self, since: int) -> list[DropResult]:
        """Applied drops that hold records at or after `since` perhaps, and were read under a later one; by number."""
        query = (
            f"SELECT {_DROP_COLUMNS}, outcome, reason, counts FROM drops "
            "WHERE since > ? AND outcome = 'applied' AND json_extract(counts, '$.before_since') > 0 ORDER BY seq"
        )
        return [_result(row) for row in self._sql.execute(query, (since,))]

    def knows(self, seq: int) -> bool:
        return self._sql.execute("SELECT 1 FROM drops WHERE seq = ?", (seq,)).fetchone() is not None

    def uncommitted(self) -> list[Drop]:
        """Drops that were archived but never committed, in sequence order."""
        rows = self._sql.execute(f"SELECT {_DROP_COLUMNS} FROM drops WHERE batch IS NULL ORDER BY seq")
        return [_drop(row) for row in rows]

    def drop(self, seq: int) -> Drop | None:
        """One drop by its number."""
        row = self._sql.execute(
            f"SELECT {_DROP_COLUMNS} FROM drops WHERE seq = ?",
            (seq,),
        ).fetchone()
        return _drop(row) if row else None

    def results(self, batch: int) -> list[DropResult]:
        """What became of the drops of one batch."""
        rows = self._sql.execute(
            f"SELECT {_DROP_COLUMNS}, outcome, reason, counts FROM drops WHERE batch = ? ORDER BY seq",
            (batch,),
        )
        return [_result(row) for row in rows]

    def partitions(self, dates: Iterable[int] | None = None) -> dict[int, Partition]:
        """The published partitions among `dates`, or all of them."""
        columns = "date, orders, lines, amount, fact_sha256, items_sha256, bytes, restatements"
        if dates is None:
            rows: Iterable[tuple] = self._sql.execute(f"SELECT {columns} FROM partitions ORDER BY date")
        else:
            query = f"SELECT {columns} FROM partitions WHERE date = ?"
            rows = (row for date in dates if (row := self._sql.execute(query, (int(date),)).fetchone()))
        return {row[0]: Partition(row[0], row[1], row[2], int(row[3]), row[4], row[5], row[6], row[7]) for row in rows}

    def dimensions(self) -> dict[str, DimensionFile]:
        """The published dimensions, by name."""
        rows = self._sql.execute("SELECT name, rows, sha256, bytes, last_drop FROM dimensions")
        return {row[0]: DimensionFile(*row) for row in rows}

    def totals(self) -> Counter[str]:
        """Sums of all counts of all drops: `drops.<outcome>`, and `<kind>.<count>` as in Counts."""
        return Counter(dict(self._sql.execute("SELECT name, value FROM totals")))

    def effects(self) -> list[Effect]:
        """What is committed and may not be visible yet, in order."""
        rows = self._sql.execute("SELECT kind, target, source, sha256, position, text FROM effects ORDER BY id")
        return [Effect(*row) for row in rows]

    def unpublished_batch(self) -> int | None:
        """The batch that is committed and not known to be wholly visible, with its receipts; there is one at most."""
        row = self._sql.execute("SELECT batch FROM batches WHERE published = 0").fetchone()
        return int(row[0]) if row else None

    # --------------------------------------------------------------------------------------------------- changes

    def write_ahead(self, entries: np.ndarray) -> Run | None:
        """Writes index entries that the next commit is to adopt, durable. May run in a thread beside readers of the
        ledger, and has a connection of its own for that; no other change may be made meanwhile."""
        with closing(_connect(self._path)) as sql:
            sql.execute("BEGIN IMMEDIATE")
            index = OrderIndex(sql)
            index.sweep()
            run = index.write_ahead(entries)
            sql.execute("COMMIT")
        return run

    def enter(self, drops: Sequence[Drop]) -> None:
        """Remembers archived drops. From here on their inbox files may go."""
        with self.transaction():
            self._sql.executemany(
                f"INSERT INTO drops ({_DROP_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (d.seq, d.name, d.raw, d.sha256, d.size_bytes, d.judge.received_at, d.judge.tolerance,
                     d.judge.records_path, d.judge.since, d.duplicate_of) for d in drops
                ),
            )  # fmt: skip

    def commit(self, change: Commit) -> None:
        """Makes a batch true, in one transaction. What is left is to make it visible."""
        with self.transaction():
            batch = self.next_batch
            self._sql.execute("INSERT INTO batches VALUES (?, ?, 0)", (batch, change.committed_at))
            self._sql.executemany(
                "UPDATE drops SET batch = ?, outcome = ?, reason = ?, duplicate_of = ?, counts = ?, since = ?, "
                "raw = CASE WHEN ? THEN raw END WHERE seq = ?",
                (
                    (batch, r.outcome, r.reason, r.duplicate_of, r.counts.to_json(), r.drop.judge.since, r.keeps_raw,
                     r.drop.seq) for r in change.results
                ),
            )  # fmt: skip
            self.index.adopt(change.run)
            self._sql.executemany("DELETE FROM partitions WHERE date = ?", ((date,) for date in change.removed))
            self._sql.executemany(
                "INSERT OR REPLACE INTO partitions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (p.date, p.orders, p.lines, str(p.amount), p.fact_sha256, p.items_sha256, p.bytes, batch,
                     p.restatements) for p in change.partitions
                ),
            )  # fmt: skip
            self._sql.executemany(
                "INSERT OR REPLACE INTO dimensions VALUES (?, ?, ?, ?, ?)",
                ((d.name, d.rows, d.sha256, d.bytes, d.last_drop) for d in change.dimensions),
            )
            self._sql.executemany(
                "INSERT INTO totals VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                change.totals.items(),
            )
            self._sql.executemany(
                "INSERT INTO effects (kind, target, source, sha256, position, text) VALUES (?, ?, ?, ?, ?, ?)",
                ((e.kind, e.target, e.source, e.sha256, e.position, e.text) for e in change.effects),
            )
            self._set_meta("hwm", change.hwm)
            self._set_meta("restatements_bytes", change.restatements_bytes)

    def skip_to(self, seq: int) -> None:
        """Lets the next drop have a number above `seq`, which something in raw/ bears that is no drop of ours."""
        with self.transaction():
            self._set_meta("skipped_to", seq)

    def compact(self) -> bool:
        """Merges runs of the order index where there are many; True if there may be more to do. For idle times."""
        with self.transaction():
            return self.index.compact()

    def published(self, batch: int) -> None:
        """Everything of this batch is visible and durable: its list of effects is done with."""
        with self.transaction():
            self._sql.execute("DELETE FROM effects")
            self._sql.execute("UPDATE batches SET published = 1 WHERE batch = ?", (batch,))

    def _meta(self, key: str) -> int | None:
        row = self._sql.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _set_meta(self, key: str, value: int | None) -> None:
        if value is not None:
            self._sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _connect(path: Path) -> sqlite3.Connection:
    """A connection without Python's implicit transactions. FULL: with WAL, a lesser level loses commits in a power cut."""
    sql = sqlite3.connect(path, isolation_level=None, timeout=10.0)
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute("PRAGMA synchronous = FULL")
    sql.execute("PRAGMA cache_size = -65536")
    return sql


def _drop(row: tuple) -> Drop:
    seq, name, raw, sha256, size, received_at, tolerance, records_path, since, duplicate_of = row[:10]
    return Drop(seq, name, raw, sha256, size, Judge(received_at, tolerance, records_path, since), duplicate_of)


def _result(row: tuple) -> DropResult:
    """Of a row of the drop columns, outcome, reason, counts."""
    drop, outcome, reason, counts = _drop(row), *row[10:13]
    return DropResult(drop, DropOutcome(outcome), _counts(counts), reason, drop.duplicate_of)


def _counts(text: str) -> Counts:
    values: dict[str, Any] = {
        name: Counter(value) if isinstance(value, dict) else value for name, value in json.loads(text).items()
    }
    return Counts(**values)
