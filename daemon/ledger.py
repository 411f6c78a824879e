"""The ledger: the only memory. Drops seen, where each order lives, the high-water mark, effects still to be made visible.

One SQLite file in WAL mode with synchronous=FULL: a commit that returned survives a power cut. Every change of one batch
is one transaction. It never touches any file but its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import order_index
from .core.errors import EnvironmentFault
from .core.model import DropOutcome, Judge
from .order_index import OrderIndex, Run

SCHEMA_VERSION = 1
_SCHEMA = (
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

    def to_json(self) -> str:
        return json.dumps(self.as_dict())

    def as_dict(self) -> dict[str, object]:
        values: dict[str, object] = {name: getattr(self, name) for name in self.__slots__}
        return values | {"discarded": dict(sorted(self.discarded.items())), "faults": dict(sorted(self.faults.items()))}


@dataclass(frozen=True, slots=True)
class DropResult:
    """The outcome of one drop, as it is committed."""

    drop: Drop
    outcome: DropOutcome
    counts: Counts
    reason: str | None = None
    duplicate_of: int | None = None
    keeps_raw: bool = True


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
        if version == 0:
            with self.transaction():
                for statement in _SCHEMA.split(";\n"):
                    if statement.strip():
                        self._sql.execute(statement)
                self._sql.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

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

    def applied(self, sha256: bytes) -> list[tuple[int, str]]:
        """Number and name of the drops of this content that were applied before."""
        query = "SELECT seq, name FROM drops WHERE sha256 = ? AND outcome = 'applied' ORDER BY seq"
        return self._sql.execute(query, (sha256,)).fetchall()

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
        return [
            DropResult(drop := _drop(row), DropOutcome(row[10]), _counts(row[12]), row[11], drop.duplicate_of)
            for row in rows
        ]

    def partitions(self, dates: Iterable[int] | None = None) -> dict[int, Partition]:
        """The published partitions among `dates`, or all of them."""
        columns = "date, orders, lines, amount, fact_sha256, items_sha256, bytes, restatements"
        if dates is None:
            rows: Iterable[tuple] = self._sql.execute(f"SELECT {columns} FROM partitions ORDER BY date")
        else:
            query = f"SELECT {columns} FROM partitions WHERE date = ?"
            rows = (row for date in dates if (row := self._sql.execute(query, (int(date),)).fetchone()))
        return {row[0]: Partition(row[0], row[1], row[2], int(row[3]), row[4], row[5], row[6], row[7]) for row in rows}

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
                "UPDATE drops SET batch = ?, outcome = ?, reason = ?, duplicate_of = ?, counts = ?, "
                "raw = CASE WHEN ? THEN raw END WHERE seq = ?",
                (
                    (batch, r.outcome, r.reason, r.duplicate_of, r.counts.to_json(), r.keeps_raw, r.drop.seq)
                    for r in change.results
                ),
            )
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


def _counts(text: str) -> Counts:
    values = json.loads(text)
    counts = Counts(**{name: values[name] for name in Counts.__slots__})
    counts.discarded, counts.faults = Counter(counts.discarded), Counter(counts.faults)
    return counts
