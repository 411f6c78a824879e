"""The ledger: the only memory. Drops seen, where each order lives, the high-water mark, effects still to be made visible.

One SQLite file in WAL mode with synchronous=FULL: a commit that returned survives a power cut. Every change of one batch
is one transaction. It never touches any file but its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from ..core.entries import Commit, DimensionFile, Drop, Effect, Partition, Run
from ..core.errors import MOVE_AWAY, EnvironmentFault, OutputReplaced
from . import files, ledger_schema, order_index
from .ledger_queries import DROP_COLUMNS, LedgerQueries
from .order_index import OrderIndex


class Ledger(LedgerQueries):
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
                f"INSERT INTO drops ({DROP_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
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
