"""The ledger: drops, batches, the order index, the high-water mark, and effects that are not visible yet.

One SQLite file in WAL mode with synchronous=FULL: a commit that returned survives a power cut. All changes of a batch are one
transaction. It never touches any file but its own.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from ..core.entries import Commit, DimensionFile, Drop, DropResult, Effect, Partition, Run, Undo
from ..core.errors import Corruption, EnvironmentFault, OutputReplaced
from ..core.mapping import FieldMapping
from ..core.parse.naming import Ids
from . import ages, checksums, database, files, ledger_schema, order_index, pulls, redactions, set_aside, undos
from .ledger_queries import LedgerQueries
from .ledger_rows import DROP_COLUMNS
from .look_ups import LookUps
from .order_index import OrderIndex


class Ledger(LedgerQueries):
    """One open ledger. Not thread-safe; only the process that holds the lock of the output may change it. `read_only`: a view of
    what was committed when it was opened, for any process."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        try:
            self._sql = database.view(path) if read_only else _connect(path)
            self._opened = files.identity(path)
            self.index = OrderIndex(self._sql)
            self.look_ups = LookUps(self._sql)
            if not read_only and ledger_schema.is_new(self._sql):
                with self.transaction():
                    ledger_schema.create(self._sql)
            ledger_schema.refuse_other_versions(self._sql, path)
            checksums.refuse_damaged(self._sql)
        except Corruption as error:
            raise EnvironmentFault("open the ledger", path, error, "") from None
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # a damaged name may be in the text of an error
            raise EnvironmentFault("open the ledger", path, database.shown(error), database.advice(error)) from error

    def close(self) -> None:
        self._sql.close()

    def end_after(self, seconds: float) -> None:
        """Interrupts every query that runs later than in so many seconds: sqlite3.OperationalError."""
        database.end_after(self._sql, seconds)

    def refuse_replaced(self) -> None:
        """OutputReplaced where the path is not the open file, which SQLite would go on writing to without an error. Compared by
        path: to open and close a descriptor would release the locks that SQLite holds on the file."""
        if (found := files.identity(self.path)) != self._opened:
            what = "not what was opened at the start" if found else "gone"
            raise OutputReplaced(self.path.parent.parent, f"{self.path} is {what}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One durable, all-or-nothing change."""
        try:
            with database.transaction(self._sql):
                yield
        except BaseException:
            self.index.forget_merge()  # a step of it may be undone now
            raise

    def write_ahead(self, entries: np.ndarray) -> Run | None:
        """Writes sorted index entries, durably, for the next commit to adopt. May run in another thread than readers of the
        ledger, on a connection of its own; no other change may be made meanwhile."""
        self.refuse_replaced()
        with closing(_connect(self.path, "rw")) as sql:
            sql.execute("BEGIN IMMEDIATE")
            self.refuse_replaced()  # the new connection may have opened the ledger of another process
            index = OrderIndex(sql, self.index.merge)
            index.sweep(len(entries))
            run = index.write_ahead(entries)
            sql.execute("COMMIT")
        return run

    def enter(self, drops: Sequence[Drop]) -> None:
        """Enters archived drops. After this their inbox files may be removed."""
        mappings = {drop.context.mapping: drop.context.mapping.to_json() for drop in drops}
        with self.transaction():
            self._sql.executemany(
                "INSERT OR IGNORE INTO mappings (mapping) VALUES (?)", ((text,) for text in mappings.values())
            )
            self._sql.executemany(
                f"INSERT INTO drops ({DROP_COLUMNS}) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT number FROM mappings WHERE mapping = ?), ?, ?)",
                (
                    (d.seq, d.name, d.raw, d.sha256, d.size_bytes, d.context.received_at, d.context.tolerance,
                     d.context.records_path, d.context.source, mappings[d.context.mapping], d.context.since,
                     d.duplicate_of) for d in drops
                ),
            )  # fmt: skip

    def remap(self, changed: Callable[[str, FieldMapping], FieldMapping]) -> None:
        """Changes the mapping that each drop is read under. `changed`: of a source and a mapping, the new one; of a new one, the
        same. A drop whose raw copy has gone is never read again: it keeps the mapping that its orders were read under."""
        gone = self.horizon(ages.RAW)
        query = (
            "SELECT DISTINCT source, number, mappings.mapping FROM drops JOIN mappings ON number = drops.mapping "
            "WHERE seq > ?"
        )
        with self.transaction():
            for source, number, text in self._sql.execute(query, (gone,)).fetchall():
                new = changed(source, FieldMapping.from_json(text)).to_json()
                self._sql.execute("INSERT OR IGNORE INTO mappings (mapping) VALUES (?)", (new,))
                self._sql.execute(
                    "UPDATE drops SET mapping = (SELECT number FROM mappings WHERE mapping = ?) "
                    "WHERE source = ? AND mapping = ? AND seq > ?",
                    (new, source, number, gone),
                )
            self._sql.execute("DELETE FROM mappings WHERE number NOT IN (SELECT mapping FROM drops)")

    def commit(self, change: Commit) -> None:
        """Commits a batch in one transaction. Its effects are to be published next."""
        with self.transaction():
            checksums.refuse_damaged(self._sql)
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
            self._sql.executemany(
                "UPDATE drops SET newest = max(ifnull(newest, ?1), ?1) WHERE seq = ?2",
                ((created_at, seq) for seq, created_at in change.newest.items()),
            )
            self.index.adopt(change.run)
            self._sql.executemany(
                "INSERT INTO gone SELECT date, restatements + 1 FROM partitions WHERE date = ?",
                ((date,) for date in change.removed),
            )
            self._sql.executemany("DELETE FROM partitions WHERE date = ?", ((date,) for date in change.removed))
            self._sql.executemany("DELETE FROM gone WHERE date = ?", ((p.date,) for p in change.partitions))
            self._sql.executemany(
                "INSERT OR REPLACE INTO partitions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
                (
                    (p.date, p.orders, p.lines, str(p.amount), p.fact_sha256, p.items_sha256, p.bytes, p.writer, batch,
                     p.restatements, json.dumps(p.columns)) for p in change.partitions
                ),
            )  # fmt: skip
            self._sql.executemany(
                "INSERT OR REPLACE INTO dimensions VALUES (?, ?, ?, ?, ?, ?)",
                ((d.name, d.rows, d.sha256, d.bytes, d.writer, d.last_drop) for d in change.dimensions),
            )
            self._sql.executemany(
                "DELETE FROM dimensions WHERE name = ?", ((name,) for name in change.dimensions_removed)
            )
            self._sql.executemany(
                "INSERT INTO totals VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = value + excluded.value",
                ((source, name, value) for (source, name), value in change.totals.items()),
            )
            self._sql.executemany(
                "DELETE FROM keys WHERE source = ? AND is_read = ? AND key = ?",
                ((k.source, k.is_read, k.key) for k in change.forgotten),
            )
            self._sql.executemany(
                "INSERT OR REPLACE INTO keys VALUES (?, ?, ?, ?, ?, ?)",
                ((k.source, k.is_read, k.key, k.first_drop, k.missing_since, k.told) for k in change.keys),
            )
            self._add_effects(change.effects)
            self._set_meta("hwm", change.hwm)
            pulls.raise_marks(self._sql, change.newest)
            if change.undo is not None:
                undos.carry_out(self._sql, batch, change.undo)
            pulls.advance(self._sql)
            set_aside.remove(self._sql, change.mended)
            self._set_meta("restatements_bytes", change.restatements_bytes)

    @staticmethod
    def end_pull(
        path: Path, source: str, now: int, error: str, found: pulls.Round | None, put_off_until: int | None = None
    ) -> None:
        """Enters a round of a pull into the ledger at this path, durably. May run in any thread of the process that holds the
        lock, on a connection of its own."""
        with closing(_connect(path, "rw")) as sql, database.transaction(sql):
            pulls.end(sql, source, now, error, found, put_off_until)

    @staticmethod
    def pull_state_of(path: Path, source: str) -> pulls.PullState:
        """How far a source is read, as the ledger at this path has it now."""
        with closing(database.view(path)) as sql:
            return pulls.state(sql, source)

    def replace_files(
        self, partitions: Sequence[Partition], dimensions: Sequence[DimensionFile], effects: Sequence[Effect]
    ) -> None:
        """Enters published files with the same rows by another writer, which `effects` put in their place. They belong to the
        newest batch, which is not published until they are."""
        with self.transaction():
            self._sql.executemany(
                "UPDATE partitions SET fact_sha256 = ?, items_sha256 = ?, bytes = ?, writer = ? WHERE date = ?",
                ((p.fact_sha256, p.items_sha256, p.bytes, p.writer, p.date) for p in partitions),
            )
            self._sql.executemany(
                "UPDATE dimensions SET sha256 = ?, bytes = ?, writer = ? WHERE name = ?",
                ((d.sha256, d.bytes, d.writer, d.name) for d in dimensions),
            )
            self._publish_again(effects)

    def copy_to(self, path: Path) -> None:
        """Copies this ledger to another file."""
        with closing(sqlite3.connect(path)) as copy:
            self._sql.backup(copy)

    def copy_history(self, other: Path) -> None:
        """Copies drops and batches of another ledger; not what is published, nor the order index, nor the high-water mark. What
        only drops without a raw copy would tell is copied, too: marks, and known keys."""
        self._sql.execute("ATTACH ? AS other", (str(other),))
        checksums.refuse_unsound_drops(self._sql, "other")
        with self.transaction():
            tables = (
                "mappings", "drops", "batches", "undos", "horizons", "totals", "meta WHERE key <> 'hwm'", "rounds", "pages"
            )  # fmt: skip
            for table in tables:
                name = table.partition(" ")[0]
                self._sql.execute(f"INSERT INTO {name} SELECT * FROM other.{table}")
            for name in redactions.TABLES:
                self._sql.execute(f"INSERT INTO {name} SELECT * FROM other.{name}")
            self._sql.execute("INSERT INTO pulls SELECT * FROM other.pulls")
            gone = self.horizon(ages.RAW)
            self._sql.execute("UPDATE drops SET newest = NULL WHERE seq > ?", (gone,))
            undos.set_marks(self._sql)  # those of the drops that cannot be read again
            if gone:
                self._sql.execute("INSERT INTO keys SELECT * FROM other.keys")
        self._sql.execute("DETACH other")

    def take_from_aside(self, path: Path) -> None:
        """Takes what only a ledger knows from the one that was set aside last, if there is one beside `path`. EnvironmentFault
        where that cannot be read."""
        if (aside := ledger_schema.newest_aside(path)) is not None:
            ledger_schema.take_from_aside(self._sql, aside)

    def enter_undos(self, found: Sequence[Undo]) -> None:
        """Records undos of the history, which what is published has no part in."""
        with self.transaction():
            undos.enter(self._sql, self.next_batch - 1, found)

    def end_replay(
        self, first: int, now: int, effects: Sequence[Effect], restatements: Mapping[int, int], restatements_bytes: int
    ) -> None:
        """Replaces the batches of a replay, from `first` on, by one batch, whose `effects` are to be published."""
        with self.transaction():
            self._sql.execute("DELETE FROM batches WHERE batch >= ?", (first,))
            self._sql.execute("INSERT INTO batches VALUES (?, ?, 0)", (first, now))
            self._sql.execute("UPDATE partitions SET batch = ?, restatements = 0", (first,))
            self._sql.execute("DELETE FROM gone")  # of the replay, whose batches differ from those of history
            self._sql.executemany("INSERT INTO gone VALUES (?, ?)", restatements.items())
            self._sql.execute(
                "UPDATE partitions SET restatements = (SELECT restatements FROM gone WHERE gone.date = partitions.date) "
                "WHERE date IN (SELECT date FROM gone)"
            )
            self._sql.execute("DELETE FROM gone WHERE date IN (SELECT date FROM partitions)")
            self._set_meta("restatements_bytes", restatements_bytes)
            self._add_effects(effects)

    def retire(self) -> None:
        """Closes this ledger, so that another file can replace it by a rename. No WAL of the old file may be left: SQLite would
        apply it to the new file."""
        self.refuse_replaced()  # the files that are removed below are named after whatever ledger is there now
        busy, _, _ = self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        self.close()
        if busy:
            raise EnvironmentFault("replace the ledger", self.path, "another process keeps reading it", "Try again.")
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def give_reason(self, seq: int, reason: str) -> None:
        """Changes the reason of a quarantined drop."""
        with self.transaction():
            self._sql.execute("UPDATE drops SET reason = ? WHERE seq = ?", (reason, seq))

    def go_by_age(self, kind: str, through: int, now: int) -> None:
        """Says, durably, that all copies of this kind up to `through` have gone. Their files may be removed then."""
        with self.transaction():
            ages.advance(self._sql, kind, through, now)

    def swept(self, kind: str, through: int) -> None:
        """Says that no file of this kind up to `through` is left."""
        with self.transaction():
            ages.swept(self._sql, kind, through)

    def shorten_log(self, through: int, now: int, effect: Effect, size: int) -> None:
        """Says that the lines of the log of restatements up to batch `through` have gone. `effect` places the rest, of `size`
        bytes; it belongs to the newest batch, which is not published until that is done."""
        with self.transaction():
            ages.advance(self._sql, ages.RESTATEMENTS, through, now)
            ages.swept(self._sql, ages.RESTATEMENTS, through)
            self._set_meta("restatements_bytes", size)
            self._publish_again([effect])

    def redact(
        self, changed: Iterable[DropResult], totals: Mapping[tuple[str, str], int], reworded: Callable[[str], str]
    ) -> None:
        """Changes what is known of drops: names, raw copies, reasons and counts. `totals`: taken from each sum. `reworded`: what
        becomes of the reason of each undo, and of the last error of each pull."""
        with self.transaction():
            self._sql.executemany(
                "UPDATE drops SET name = ?, raw = ?, sha256 = ?, bytes = ?, reason = ?, counts = ? WHERE seq = ?",
                ((one.drop.name, one.drop.raw, one.drop.sha256, one.drop.size_bytes, one.reason, one.counts.to_json(),
                  one.drop.seq) for one in changed),
            )  # fmt: skip
            self._sql.executemany(
                "UPDATE totals SET value = value - ? WHERE source = ? AND name = ?",
                ((value, source, name) for (source, name), value in totals.items()),
            )
            self._sql.execute("DELETE FROM totals WHERE value = 0")
            for number, reason in self._sql.execute("SELECT number, reason FROM undos").fetchall():
                self._sql.execute("UPDATE undos SET reason = ? WHERE number = ?", (reworded(reason), number))
            for source, error in self._sql.execute("SELECT source, error FROM pulls").fetchall():
                self._sql.execute("UPDATE pulls SET error = ? WHERE source = ?", (reworded(error), source))

    def set_one_aside(self, one: set_aside.SetAside) -> None:
        """Lets batches leave a published date or dimension as it is."""
        with self.transaction():
            set_aside.enter(self._sql, one)

    def mended(self, name: str) -> None:
        """The published files of this date or dimension are again what the ledger says."""
        with self.transaction():
            set_aside.remove(self._sql, [name])

    def remember_erasure(self, redacted: Iterable[redactions.Redacted], blocked: Ids) -> None:
        """Records redactions, and blocks ids in all later drops."""
        with self.transaction():
            redactions.enter(self._sql, redacted)
            redactions.block(self._sql, blocked, self.last_seq + 1)

    def lift_blocks(self, ids: Ids) -> list[str]:
        """Lifts the blocks of ids in all later drops; returns the ids that were not blocked."""
        with self.transaction():
            return redactions.lift(self._sql, ids, self.last_seq)

    def vacuum(self) -> None:
        """Writes the file anew, so that nothing is left in it of rows that were changed or removed."""
        self._sql.execute("PRAGMA secure_delete = ON")
        self._sql.execute("PRAGMA temp_store = FILE")  # of the copy that VACUUM makes, which may be larger than memory
        self._sql.execute("VACUUM")
        self._sql.execute("PRAGMA temp_store = MEMORY")
        self._sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def skip_to(self, seq: int) -> None:
        """Gives the next drop a number above `seq`, which a file in raw/ has that is not a drop."""
        with self.transaction():
            self._set_meta("skipped_to", seq)

    def compact(self, allowed_runs: int = 1) -> bool:
        """Compacts the order index by one small step, where it has more runs than allowed; True if there may be more to do. Not
        to be called between `write_ahead` and `commit`, nor during either."""
        with self.transaction():
            return self.index.compact(allowed_runs)

    def published(self, batch: int) -> None:
        """Marks a batch as published: everything of it is visible and durable. Clears the list of effects."""
        with self.transaction():
            self._sql.execute("DELETE FROM effects")
            self._sql.execute("UPDATE batches SET published = 1 WHERE batch = ?", (batch,))

    def _publish_again(self, effects: Sequence[Effect]) -> None:
        """Adds effects to the newest batch, which is not published until they are carried out."""
        self._add_effects(effects)
        self._sql.execute("UPDATE batches SET published = 0 WHERE batch = (SELECT max(batch) FROM batches)")

    def _add_effects(self, effects: Sequence[Effect]) -> None:
        self._sql.executemany(
            "INSERT INTO effects (kind, target, source, sha256, position, text) VALUES (?, ?, ?, ?, ?, ?)",
            ((e.kind, e.target, e.source, e.sha256, e.position, e.text) for e in effects),
        )

    def _set_meta(self, key: str, value: int | None) -> None:
        if value is not None:
            self._sql.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def _connect(path: Path, mode: str = "rwc") -> sqlite3.Connection:
    """A connection without Python's implicit transactions. synchronous=FULL: with WAL, NORMAL loses commits in a power cut.
    `mode`: that of SQLite; `rw` does not create a file."""
    sql = sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, timeout=10.0)
    sql.execute(f"PRAGMA page_size = {order_index.PAGE_BYTES}")  # of a new file
    sql.execute("PRAGMA journal_mode = WAL")
    sql.execute("PRAGMA synchronous = FULL")
    sql.execute("PRAGMA cache_size = -8192")  # 8 MiB: a larger cache does not help bulk reads and writes
    # SQLite keeps the pages that a statement changes, to undo it if it fails. A temporary file of them took 130 KB a drop.
    sql.execute("PRAGMA temp_store = MEMORY")
    checksums.prepare(sql)
    return sql
