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
from pathlib import Path

import numpy as np

from ..core.entries import Commit, Counts, DimensionFile, Drop, DropResult, Effect, Partition, Run
from ..core.errors import MOVE_AWAY, EnvironmentFault, OutputReplaced
from ..core.model import DropOutcome, ParseContext
from . import files, ledger_schema, order_index
from .order_index import OrderIndex

_DROP_COLUMNS = "seq, name, raw, sha256, bytes, received_at, tolerance, records_path, since, duplicate_of"
_PAGE_ROWS = 10_000


class Ledger:
    """One open ledger. Not thread-safe; the process that holds the output's lock owns it. `read_only`: a view of what was
    committed when it was opened, for anybody, beside the owner."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        try:
            self._sql = _view(path) if read_only else _connect(path)
            self._opened = files.identity(path)
            self.index = OrderIndex(self._sql)
            if not read_only and ledger_schema.is_new(self._sql):
                with self.transaction():
                    ledger_schema.create(self._sql)
            ledger_schema.refuse_other_versions(self._sql, path)
        except sqlite3.DatabaseError as error:
            raise EnvironmentFault("open the ledger", path, error, f"If the file is damaged, {MOVE_AWAY}.") from error

    def close(self) -> None:
        self._sql.close()

    def refuse_replaced(self) -> None:
        """OutputReplaced where the path does not lead to the open file: SQLite goes on writing to that without an error. (Looked
        at by path, since closing a descriptor of ours would end the locks that SQLite has on the file.)"""
        if (found := files.identity(self.path)) != self._opened:
            what = "not what was opened at the start" if found else "gone"
            raise OutputReplaced(self.path.parent.parent, f"{self.path} is {what}")

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
            self.index.forget_merge()  # of which a step may be undone now
            raise

    # ------------------------------------------------------------------------------------------------- questions

    @property
    def hwm(self) -> int | None:
        """The high-water mark in microseconds; None before the first accepted order."""
        return self._meta("hwm")

    def last_commit(self, *, with_new_data: bool = False) -> int | None:
        """When a batch was last committed, in microseconds; `with_new_data`: one in which an order came or changed."""
        condition = (
            "WHERE EXISTS (SELECT 1 FROM drops WHERE drops.batch = batches.batch AND outcome = 'applied' "
            "AND json_extract(counts, '$.new') + json_extract(counts, '$.corrected') > 0)"
        )
        row = self._sql.execute(
            f"SELECT committed_at FROM batches {condition if with_new_data else ''} ORDER BY batch DESC LIMIT 1"
        ).fetchone()
        return int(row[0]) if row else None

    @property
    def restatements_bytes(self) -> int:
        """How long the committed restatement log is."""
        return self._meta("restatements_bytes") or 0

    @property
    def last_drop(self) -> int:
        """The largest sequence number of a drop; 0 before the first."""
        return int(self._sql.execute("SELECT coalesce(max(seq), 0) FROM drops").fetchone()[0])

    @property
    def last_seq(self) -> int:
        """The largest sequence number that was given or skipped so far; 0 before the first drop."""
        return max(self.last_drop, self._meta("skipped_to") or 0)

    @property
    def next_batch(self) -> int:
        return int(self._sql.execute("SELECT coalesce(max(batch), 0) + 1 FROM batches").fetchone()[0])

    def of_content(self, sha256: bytes) -> list[Drop]:
        """The drops of this content, by number."""
        query = f"SELECT {_DROP_COLUMNS} FROM drops WHERE sha256 = ? ORDER BY seq"
        return [_drop(row) for row in self._sql.execute(query, (sha256,))]

    def applied(self, sha256: bytes) -> list[DropResult]:
        """What became of the drops of this content that were applied before."""
        query = (
            f"SELECT {_DROP_COLUMNS}, outcome, reason, counts FROM drops "
            "WHERE sha256 = ? AND outcome = 'applied' ORDER BY seq"
        )
        return [_result(row) for row in self._sql.execute(query, (sha256,))]

    def applied_drops(self, after: int = 0) -> Iterator[Drop]:
        """All drops that were applied, with a number above `after`, by number."""
        return map(_drop, self._paged(_DROP_COLUMNS, "outcome = 'applied'", after))

    def _paged(self, columns: str, condition: str, last: int = 0) -> Iterator[tuple]:
        """Rows of drops by number, a page at a time: the ledger may change between two pages, and memory does not grow."""
        query = f"SELECT {columns} FROM drops WHERE {condition} AND seq > ? ORDER BY seq LIMIT {_PAGE_ROWS}"
        while page := self._sql.execute(query, (last,)).fetchall():
            yield from page
            last = page[-1][0]

    def read_since(self, since: int) -> list[DropResult]:
        """Applied drops that hold records at or after `since` perhaps, and were read under a later one; by number."""
        query = (
            f"SELECT {_DROP_COLUMNS}, outcome, reason, counts FROM drops "
            "WHERE since > ? AND outcome = 'applied' AND json_extract(counts, '$.before_since') > 0 ORDER BY seq"
        )
        return [_result(row) for row in self._sql.execute(query, (since,))]

    def raw_of(self, seq: int) -> str | None:
        """The path of a drop's raw copy, empty where it has none; None where there is no drop of this number."""
        row = self._sql.execute("SELECT coalesce(raw, '') FROM drops WHERE seq = ?", (seq,)).fetchone()
        return row[0] if row else None

    def uncommitted(self) -> list[Drop]:
        """Drops that were archived but never committed, in sequence order."""
        rows = self._sql.execute(f"SELECT {_DROP_COLUMNS} FROM drops WHERE batch IS NULL ORDER BY seq")
        return [_drop(row) for row in rows]

    def drop(self, seq: int) -> Drop | None:
        """One drop by its number."""
        row = self._sql.execute(f"SELECT {_DROP_COLUMNS} FROM drops WHERE seq = ?", (seq,)).fetchone()
        return _drop(row) if row else None

    def results(self, batch: int) -> list[DropResult]:
        """What became of the drops of one batch."""
        rows = self._sql.execute(
            f"SELECT {_DROP_COLUMNS}, outcome, reason, counts FROM drops WHERE batch = ? ORDER BY seq",
            (batch,),
        )
        return [_result(row) for row in rows]

    def last_results(self, limit: int) -> list[DropResult]:
        """What became of the newest drops, the newest first."""
        rows = self._sql.execute(
            f"SELECT {_DROP_COLUMNS}, outcome, reason, counts FROM drops WHERE outcome IS NOT NULL "
            "ORDER BY seq DESC LIMIT ?",
            (limit,),
        )
        return [_result(row) for row in rows]

    def drops_by_hour(self, since: int) -> dict[int, dict[str, int]]:
        """How many drops were committed in each hour (its beginning, in microseconds) from `since` on, by outcome; looks at
        the newest batches only."""
        rows = self._sql.execute(
            "SELECT committed_at / 3600000000 * 3600000000 AS hour, outcome, count(*) FROM "
            f"(SELECT batch, committed_at FROM batches ORDER BY batch DESC LIMIT {_PAGE_ROWS}) JOIN drops USING (batch) "
            "WHERE committed_at >= ? GROUP BY hour, outcome",
            (since,),
        )
        found: dict[int, dict[str, int]] = {}
        for hour, outcome, count in rows:
            found.setdefault(hour, {})[outcome] = count
        return found

    def all_results(self) -> Iterator[DropResult]:
        """What became of every drop that was committed, by number."""
        return map(_result, self._paged(f"{_DROP_COLUMNS}, outcome, reason, counts", "outcome IS NOT NULL"))

    def duplicates_of(self, seq: int) -> list[Drop]:
        """The drops that were duplicates of this one, by number."""
        query = f"SELECT {_DROP_COLUMNS} FROM drops WHERE duplicate_of = ? AND outcome = 'duplicate' ORDER BY seq"
        return [_drop(row) for row in self._sql.execute(query, (seq,))]

    def drop_count(self, outcome: DropOutcome | None = None) -> int:
        """How many drops ended like that, or ended at all."""
        condition = "outcome IS NOT NULL" if outcome is None else f"outcome = '{outcome}'"
        return int(self._sql.execute(f"SELECT count(*) FROM drops WHERE {condition}").fetchone()[0])

    def partitions(self, dates: Iterable[int] | None = None) -> dict[int, Partition]:
        """The published partitions among `dates`, or all of them."""
        columns = "date, orders, lines, amount, fact_sha256, items_sha256, bytes, writer, restatements"
        if dates is None:
            rows: Iterable[tuple] = self._sql.execute(f"SELECT {columns} FROM partitions ORDER BY date")
        else:
            query = f"SELECT {columns} FROM partitions WHERE date = ?"
            rows = (row for date in dates if (row := self._sql.execute(query, (int(date),)).fetchone()))
        return {date: Partition(date, orders, lines, int(amount), *rest) for date, orders, lines, amount, *rest in rows}

    def gone(self, dates: Iterable[int]) -> dict[int, int]:
        """Those among `dates` that were published before and are not now, with how often each was restated."""
        query = "SELECT restatements FROM gone WHERE date = ?"
        found = ((date, self._sql.execute(query, (int(date),)).fetchone()) for date in dates)
        return {date: row[0] for date, row in found if row}

    def restatements(self) -> dict[int, int]:
        """How often each date was restated that was ever published."""
        return dict(self._sql.execute("SELECT date, restatements FROM partitions UNION SELECT * FROM gone"))

    def dimensions(self) -> dict[str, DimensionFile]:
        """The published dimensions, by name."""
        rows = self._sql.execute("SELECT name, rows, sha256, bytes, writer, last_drop FROM dimensions")
        return {row[0]: DimensionFile(*row) for row in rows}

    def totals(self) -> Counter[str]:
        """Sums of all counts of all drops: `drops.<outcome>`, and `<kind>.<count>` as in Counts."""
        return Counter(dict(self._sql.execute("SELECT name, value FROM totals")))

    def effects(self) -> list[Effect]:
        """What is committed and may not be visible yet, in order."""
        rows = self._sql.execute("SELECT kind, target, source, sha256, position, text FROM effects ORDER BY id")
        return [Effect(*row) for row in rows]

    def unpublished_batch(self) -> int | None:
        """The batch that is committed and not known to be wholly visible, with its receipts; only the newest can be that."""
        row = self._sql.execute("SELECT batch, published FROM batches ORDER BY batch DESC LIMIT 1").fetchone()
        return int(row[0]) if row and not row[1] else None

    # --------------------------------------------------------------------------------------------------- changes

    def write_ahead(self, entries: np.ndarray) -> Run | None:
        """Writes index entries (sorted) that the next commit is to adopt, durable. May run in a thread beside readers of the
        ledger, and has a connection of its own for that; no other change may be made meanwhile."""
        self.refuse_replaced()
        with closing(_connect(self.path, "rw")) as sql:
            sql.execute("BEGIN IMMEDIATE")
            self.refuse_replaced()  # else this may be the ledger of another process
            index = OrderIndex(sql, self.index.merge)
            index.sweep(len(entries))
            run = index.write_ahead(entries)
            sql.execute("COMMIT")
        return run

    def enter(self, drops: Sequence[Drop]) -> None:
        """Remembers archived drops. From here on their inbox files may go."""
        with self.transaction():
            self._sql.executemany(
                f"INSERT INTO drops ({_DROP_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (d.seq, d.name, d.raw, d.sha256, d.size_bytes, d.context.received_at, d.context.tolerance,
                     d.context.records_path, d.context.since, d.duplicate_of) for d in drops
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
                    (batch, r.outcome, r.reason, r.duplicate_of, r.counts.to_json(), r.drop.context.since, r.keeps_raw,
                     r.drop.seq) for r in change.results
                ),
            )  # fmt: skip
            self.index.adopt(change.run)
            self._sql.executemany(
                "INSERT INTO gone SELECT date, restatements + 1 FROM partitions WHERE date = ?",
                ((date,) for date in change.removed),
            )
            self._sql.executemany("DELETE FROM partitions WHERE date = ?", ((date,) for date in change.removed))
            self._sql.executemany("DELETE FROM gone WHERE date = ?", ((p.date,) for p in change.partitions))
            self._sql.executemany(
                "INSERT OR REPLACE INTO partitions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (p.date, p.orders, p.lines, str(p.amount), p.fact_sha256, p.items_sha256, p.bytes, p.writer, batch,
                     p.restatements) for p in change.partitions
                ),
            )  # fmt: skip
            self._sql.executemany(
                "INSERT OR REPLACE INTO dimensions VALUES (?, ?, ?, ?, ?, ?)",
                ((d.name, d.rows, d.sha256, d.bytes, d.writer, d.last_drop) for d in change.dimensions),
            )
            self._sql.executemany(
                "INSERT INTO totals VALUES (?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                change.totals.items(),
            )
            self._add_effects(change.effects)
            self._set_meta("hwm", change.hwm)
            self._set_meta("restatements_bytes", change.restatements_bytes)

    def replace_files(
        self, partitions: Sequence[Partition], dimensions: Sequence[DimensionFile], effects: Sequence[Effect]
    ) -> None:
        """Knows published files by other hashes from now on: files with the same rows, by another writer, which `effects` put in
        their place. They belong to the newest batch, which is not wholly published until they are."""
        with self.transaction():
            self._sql.executemany(
                "UPDATE partitions SET fact_sha256 = ?, items_sha256 = ?, bytes = ?, writer = ? WHERE date = ?",
                ((p.fact_sha256, p.items_sha256, p.bytes, p.writer, p.date) for p in partitions),
            )
            self._sql.executemany(
                "UPDATE dimensions SET sha256 = ?, bytes = ?, writer = ? WHERE name = ?",
                ((d.sha256, d.bytes, d.writer, d.name) for d in dimensions),
            )
            self._add_effects(effects)
            self._sql.execute("UPDATE batches SET published = 0 WHERE batch = (SELECT max(batch) FROM batches)")

    def copy_to(self, path: Path) -> None:
        """Writes what this ledger holds now to another file."""
        with closing(sqlite3.connect(path)) as copy:
            self._sql.backup(copy)

    def copy_history(self, other: Path) -> None:
        """Takes over what another ledger remembers of drops and batches; not what is published, nor where orders live, nor the
        high-water mark."""
        self._sql.execute("ATTACH ? AS other", (str(other),))
        with self.transaction():
            for table in ("drops", "batches", "totals", "meta WHERE key <> 'hwm'"):
                name = table.partition(" ")[0]
                self._sql.execute(f"INSERT INTO {name} SELECT * FROM other.{table}")
        self._sql.execute("DETACH other")

    def end_replay(
        self, first: int, now: int, effects: Sequence[Effect], restatements: Mapping[int, int], restatements_bytes: int
    ) -> None:
        """Makes the batches from `first` on, which stood for history, one that is still to be made visible by `effects`."""
        with self.transaction():
            self._sql.execute("DELETE FROM batches WHERE batch >= ?", (first,))
            self._sql.execute("INSERT INTO batches VALUES (?, ?, 0)", (first, now))
            self._sql.execute("UPDATE partitions SET batch = ?, restatements = 0", (first,))
            self._sql.execute("DELETE FROM gone")  # as the replay went, in other batches than history
            self._sql.executemany("INSERT INTO gone VALUES (?, ?)", restatements.items())
            self._sql.execute(
                "UPDATE partitions SET restatements = (SELECT restatements FROM gone WHERE gone.date = partitions.date) "
                "WHERE date IN (SELECT date FROM gone)"
            )
            self._sql.execute("DELETE FROM gone WHERE date IN (SELECT date FROM partitions)")
            self._set_meta("restatements_bytes", restatements_bytes)
            self._add_effects(effects)

    def retire(self) -> None:
        """Closes this ledger so that another file may take its place by a rename. Nothing may be left of the log beside the
        old file: SQLite would take it for the new one's."""
        self.refuse_replaced()  # what is removed below has the names of whatever ledger is there now
        busy, _, _ = self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self.close()
        if busy:
            raise EnvironmentFault("replace the ledger", self.path, "somebody reads it all the time", "Try again.")
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def skip_to(self, seq: int) -> None:
        """Lets the next drop have a number above `seq`, which something in raw/ bears that is no drop of ours."""
        with self.transaction():
            self._set_meta("skipped_to", seq)

    def compact(self, allowed_runs: int = 1) -> bool:
        """One small step of tidying the order index, where it has more runs than so many; True if there may be more to do. Not
        between `write_ahead` and `commit`, and not beside either."""
        with self.transaction():
            return self.index.compact(allowed_runs)

    def published(self, batch: int) -> None:
        """Everything of this batch is visible and durable: its list of effects is done with."""
        with self.transaction():
            self._sql.execute("DELETE FROM effects")
            self._sql.execute("UPDATE batches SET published = 1 WHERE batch = ?", (batch,))

    def _add_effects(self, effects: Sequence[Effect]) -> None:
        self._sql.executemany(
            "INSERT INTO effects (kind, target, source, sha256, position, text) VALUES (?, ?, ?, ?, ?, ?)",
            ((e.kind, e.target, e.source, e.sha256, e.position, e.text) for e in effects),
        )

    def _meta(self, key: str) -> int | None:
        row = self._sql.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _set_meta(self, key: str, value: int | None) -> None:
        if value is not None:
            self._sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _connect(path: Path, mode: str = "rwc") -> sqlite3.Connection:
    """A connection without Python's implicit transactions. FULL: with WAL, a lesser level loses commits in a power cut. `mode`:
    SQLite's; `rw` does not make a file that is not there."""
    sql = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=10.0)
    sql.execute(f"PRAGMA page_size = {order_index.PAGE_BYTES}")  # where the file is new
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute("PRAGMA synchronous = FULL")
    sql.execute("PRAGMA cache_size = -8192")  # KiB: what is read or written in bulk only goes through
    return sql


def _view(path: Path) -> sqlite3.Connection:
    """A connection that changes nothing and goes on seeing what is there now. Where the folder cannot be written to and
    nobody has the ledger open, SQLite must be told that it will stay as it is."""
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


def _drop(row: tuple) -> Drop:
    seq, name, raw, sha256, size, received_at, tolerance, records_path, since, duplicate_of = row[:10]
    return Drop(seq, name, raw, sha256, size, ParseContext(received_at, tolerance, records_path, since), duplicate_of)


def _result(row: tuple) -> DropResult:
    """Of a row of the drop columns, outcome, reason, counts."""
    drop, outcome, reason, counts = _drop(row), *row[10:13]
    return DropResult(drop, DropOutcome(outcome), Counts.from_dict(json.loads(counts)), reason, drop.duplicate_of)
