"""What the ledger remembers, read back as values. Every method is a query: nothing here changes a row."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

from ..core.drift import KnownKey
from ..core.entries import DimensionFile, Drop, DropResult, Effect, Partition
from ..core.mapping import Columns
from ..core.model import DropOutcome
from ..core.parse.blocking import Block
from . import ages, checksums, pulls, redactions, set_aside
from .ledger_rows import AFTER, DROP, RESULT, drop_of, mapping_of, partitions_of, result_of

_PAGE_ROWS = 10_000


class LedgerQueries:
    """The queries of a ledger. `Ledger` adds the connection and the changes."""

    _sql: sqlite3.Connection

    def pull_states(self) -> dict[str, pulls.PullState]:
        """How far each source is read that was ever pulled."""
        return pulls.states(self._sql)

    def horizon(self, kind: str) -> int:
        """The last drop whose copy of this kind (see ages.KINDS) has gone by age, with those of all before it; 0: none."""
        return ages.only(self.horizons(), kind).through

    def horizons(self) -> dict[str, ages.Horizon]:
        """The same for each kind of which anything has gone."""
        return ages.horizons(self._sql)

    def reach(self, kind: str, before: int) -> int:
        """Where the horizon of a kind may go, if copies that were received before this instant have been kept long enough."""
        return ages.reach(self._sql, self.horizon(kind), before)

    def blocks(self) -> list[Block]:
        """Whose records are refused, or were for some time."""
        return redactions.blocks(self._sql)

    def id_prefixes(self) -> frozenset[str]:
        """The prefixes of the ids of all sources that drops were entered under."""
        mappings = (mapping_of(text) for (text,) in self._sql.execute("SELECT mapping FROM mappings"))
        return frozenset(one.id_prefix for one in mappings if one.id_prefix)

    def pull_errors(self) -> list[str]:
        """The last error of each pull."""
        return [error for (error,) in self._sql.execute("SELECT error FROM pulls")]

    def redactions(self) -> list[redactions.Redacted]:
        """The redactions of raw copies, the newest last."""
        return redactions.all_of(self._sql)

    def set_aside(self) -> dict[str, set_aside.SetAside]:
        """The published dates and dimensions that batches leave as they are, by name."""
        return set_aside.all_of(self._sql)

    def drops_since(self, since: int) -> set[int]:
        """The drops that were committed, withdrawn or applied again since this instant."""
        return set_aside.drops_since(self._sql, since)

    def withdrawn_since(self, since: int) -> bool:
        """Whether a drop was withdrawn since this instant."""
        return set_aside.withdrawn_since(self._sql, since)

    @property
    def hwm(self) -> int | None:
        """The high-water mark in microseconds; None before the first accepted order."""
        return self._meta("hwm")

    def last_commit(self, *, with_new_data: bool = False) -> int | None:
        """When the last batch was committed, in microseconds. `with_new_data`: the last one with a new or corrected order."""
        condition = (
            "WHERE EXISTS (SELECT 1 FROM drops WHERE drops.batch = batches.batch AND outcome = 'applied' "
            "AND json_extract(counts, '$.new') + json_extract(counts, '$.corrected') + json_extract(counts, '$.deleted') > 0)"
        )
        row = self._sql.execute(
            f"SELECT committed_at FROM batches {condition if with_new_data else ''} ORDER BY batch DESC LIMIT 1"
        ).fetchone()
        return int(row[0]) if row else None

    @property
    def restatements_bytes(self) -> int:
        """The length of the committed restatement log."""
        return self._meta("restatements_bytes") or 0

    @property
    def last_drop(self) -> int:
        """The largest number of a drop; 0 before the first."""
        return int(self._sql.execute("SELECT coalesce(max(seq), 0) FROM drops").fetchone()[0])

    @property
    def last_seq(self) -> int:
        """The largest number that was given or skipped; 0 before the first drop."""
        return max(self.last_drop, self._meta("skipped_to") or 0)

    @property
    def next_batch(self) -> int:
        return int(self._sql.execute("SELECT coalesce(max(batch), 0) + 1 FROM batches").fetchone()[0])

    def of_content(self, sha256: bytes) -> list[Drop]:
        """The drops with these bytes, by number."""
        query = f"SELECT {DROP} FROM drops WHERE sha256 = ? ORDER BY seq"
        return [drop_of(row) for row in self._sql.execute(query, (sha256,))]

    def applied(self, sha256: bytes) -> list[DropResult]:
        """The results of the applied drops with these bytes, by number."""
        query = f"SELECT {RESULT} FROM drops WHERE sha256 = ? AND outcome = 'applied' ORDER BY seq"
        return [result_of(row) for row in self._sql.execute(query, (sha256,))]

    def quarantined(self, sha256: bytes) -> list[DropResult]:
        """The results of the quarantined drops with these bytes, by number."""
        query = f"SELECT {RESULT} FROM drops WHERE sha256 = ? AND outcome = 'quarantined' ORDER BY seq"
        return [result_of(row) for row in self._sql.execute(query, (sha256,))]

    def applied_drops(self, after: int = 0) -> Iterator[Drop]:
        """The applied drops with numbers above `after`, by number."""
        return map(drop_of, self._paged(DROP, "outcome = 'applied'", after))

    def besides(self, seq: int, *, only_rivals: bool = False) -> Iterator[Drop]:
        """The applied drops but one, by number. `only_rivals`: those with a record that was superseded, and those that were
        withdrawn once."""
        rivals = (
            " AND (json_extract(counts, '$.superseded') > 0 OR seq IN (SELECT seq FROM undos))" if only_rivals else ""
        )
        return map(drop_of, self._paged(DROP, f"outcome = 'applied' AND seq <> {int(seq)}{rivals}"))

    def withdrawn(self) -> Iterator[DropResult]:
        """The results of the withdrawn drops, by number."""
        return map(result_of, self._paged(RESULT, "outcome = 'withdrawn'"))

    def may_know_deletions(self) -> bool:
        """Whether the index may ever have had a deletion: a drop counts one, or an undo may have brought back one that was
        superseded."""
        if self._sql.execute("SELECT 1 FROM drops WHERE json_extract(counts, '$.deleted') > 0").fetchone():
            return True
        texts = self._sql.execute("SELECT mapping FROM mappings WHERE EXISTS (SELECT 1 FROM undos)")
        return any(mapping_of(text).deleted_path for (text,) in texts)

    def newest_besides(self, seq: int) -> int | None:
        """The high-water mark without one drop."""
        row = self._sql.execute(
            "SELECT max(newest) FROM drops WHERE outcome = 'applied' AND seq <> ?", (seq,)
        ).fetchone()
        return row[0]

    def applied_newest_first(self) -> Iterator[Drop]:
        """The applied drops, the newest first."""
        query = f"SELECT {DROP} FROM drops WHERE outcome = 'applied' AND seq < ? ORDER BY seq DESC LIMIT {_PAGE_ROWS}"
        last = self.last_drop + 1
        while page := self._sql.execute(query, (last,)).fetchall():
            yield from map(drop_of, page)
            last = page[-1][0]

    def _paged(self, columns: str, condition: str, last: int = 0) -> Iterator[tuple]:
        """Rows of drops by number, a page at a time, so that memory stays small. The ledger may change between two pages."""
        query = f"SELECT {columns} FROM drops WHERE {condition} AND seq > ? ORDER BY seq LIMIT {_PAGE_ROWS}"
        while page := self._sql.execute(query, (last,)).fetchall():
            yield from page
            last = page[-1][0]

    def read_since(self, since: int) -> list[DropResult]:
        """Applied drops that were read under a later `since` and may hold records from this one on; by number. Also those whose
        raw copies have gone."""
        query = (
            f"SELECT {RESULT} FROM drops "
            "WHERE since > ? AND outcome = 'applied' AND json_extract(counts, '$.before_since') > 0 ORDER BY seq"
        )
        return [result_of(row) for row in self._sql.execute(query, (since,))]

    def batch_time(self, batch: int) -> int | None:
        """When a batch was committed, in microseconds; None where that is not known."""
        row = self._sql.execute("SELECT committed_at FROM batches WHERE batch = ?", (batch,)).fetchone()
        return int(row[0]) if row else None

    def last_quarantined_as(self, seq: int) -> int:
        """The newest drop whose copy the entry of this one in quarantine has: a retry that failed again keeps it."""
        query = "SELECT max(seq) FROM drops WHERE duplicate_of = ? AND outcome = 'quarantined'"
        return max(seq, self._sql.execute(query, (seq,)).fetchone()[0] or 0)

    def raw_of(self, seq: int) -> str | None:
        """The path of the raw copy of a drop, empty where it has none; None where there is no drop of this number."""
        drop = self.drop(seq)
        return None if drop is None else drop.raw or ""

    def uncommitted(self) -> list[Drop]:
        """Drops that are archived and not committed, by number."""
        rows = self._sql.execute(f"SELECT {DROP} FROM drops WHERE batch IS NULL ORDER BY seq")
        return [drop_of(row) for row in rows]

    def drop(self, seq: int) -> Drop | None:
        """One drop by its number."""
        row = self._sql.execute(f"SELECT {DROP} FROM drops WHERE seq = ?", (seq,)).fetchone()
        return drop_of(row) if row else None

    def result(self, seq: int) -> DropResult | None:
        """The result of one drop; None where it has none."""
        query = f"SELECT {RESULT} FROM drops WHERE seq = ? AND outcome IS NOT NULL"
        row = self._sql.execute(query, (seq,)).fetchone()
        return result_of(row) if row else None

    def results(self, batch: int) -> list[DropResult]:
        """The results of the drops of one batch, by number, and of the drop that it withdrew or applied again."""
        rows = self._sql.execute(
            f"SELECT {RESULT} FROM drops WHERE batch = ?1 OR seq IN (SELECT seq FROM undos WHERE batch = ?1) ORDER BY seq",
            (batch,),
        )
        return [result_of(row) for row in rows]

    def last_results(self, limit: int) -> list[DropResult]:
        """The results of the newest drops, the newest first."""
        rows = self._sql.execute(
            f"SELECT {RESULT} FROM drops WHERE outcome IS NOT NULL ORDER BY seq DESC LIMIT ?",
            (limit,),
        )
        return [result_of(row) for row in rows]

    def results_after(self, batch: int, last: int, limit: int) -> tuple[list[tuple[DropResult, int]], int]:
        """The results of drops of the batches after `batch`, up to `last`, each with its batch: the newest `limit` of them by
        number; and how many there are. A drop that was withdrawn or applied again is of the batch that did it."""
        condition = (
            "FROM (SELECT number, max(changed) AS changed_in FROM ("
            "SELECT seq AS number, batch AS changed FROM drops WHERE batch > ?1 AND batch <= ?2 UNION ALL "
            "SELECT seq, batch FROM undos WHERE batch > ?1 AND batch <= ?2) GROUP BY number) "
            "JOIN drops ON seq = number WHERE outcome IS NOT NULL"
        )
        rows = self._sql.execute(
            f"SELECT {RESULT}, changed_in {condition} ORDER BY seq DESC LIMIT ?3", (batch, last, limit)
        ).fetchall()
        (count,) = self._sql.execute(f"SELECT count(*) {condition}", (batch, last)).fetchone()
        return [(result_of(row), row[-1]) for row in reversed(rows)], count

    def last_bare(self, limit: int, newest: int) -> list[DropResult]:
        """The results of drops with bare orders, the newest first; among the `newest` drops."""
        rows = self._sql.execute(
            f"SELECT {RESULT} FROM drops WHERE seq > ? AND outcome = 'applied' AND json_extract(counts, '$.bare') > 0 "
            "ORDER BY seq DESC LIMIT ?",
            (self.last_drop - newest, limit),
        )
        return [result_of(row) for row in rows]

    def drops_by_hour(self, since: int) -> dict[int, dict[str, int]]:
        """The number of drops committed in each hour (its start, in microseconds) from `since` on, by outcome. Reads only the
        newest batches."""
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

    def all_results(self, after: int = 0, through: int | None = None) -> Iterator[DropResult]:
        """The results of all committed drops, by number; of those above `after` and up to `through`."""
        condition = "outcome IS NOT NULL" if through is None else f"outcome IS NOT NULL AND seq <= {int(through)}"
        return map(result_of, self._paged(RESULT, condition, after))

    def by_batch(self, received_since: int) -> Iterator[tuple[DropResult, int, int | None]]:
        """The results of drops that were received since this instant, by batch and number, each with its batch and when that was
        committed, if that is known. A page at a time, so that memory stays small."""
        columns = f"{RESULT}, batch, (SELECT committed_at FROM batches WHERE batches.batch = drops.batch)"
        query = (
            f"SELECT {columns} FROM drops WHERE outcome IS NOT NULL AND received_at >= ? AND (batch, seq) > (?, ?) "
            f"ORDER BY batch, seq LIMIT {_PAGE_ROWS}"
        )
        last = (-1, -1)
        while page := self._sql.execute(query, (received_since, *last)).fetchall():
            yield from ((result_of(row), *row[AFTER:]) for row in page)
            last = page[-1][AFTER], page[-1][0]

    def committed(self) -> Iterator[tuple[DropResult, int, int | None]]:
        """The results of all committed drops by number, each with its batch and when that was committed, if that is known."""
        columns = f"{RESULT}, batch, (SELECT committed_at FROM batches WHERE batches.batch = drops.batch)"
        for row in self._paged(columns, "outcome IS NOT NULL"):
            yield result_of(row), *row[AFTER:]

    def duplicates_of(self, *seqs: int) -> dict[int, list[Drop]]:
        """The duplicates of some drops, by number. Goes through all drops once."""
        found: dict[int, list[Drop]] = {seq: [] for seq in seqs}
        rows = self._sql.execute("SELECT seq, duplicate_of FROM drops WHERE outcome = 'duplicate' ORDER BY seq")
        wanted = [(seq, first) for seq, first in rows if first in found]
        for seq, first in wanted:
            found[first] += [drop for drop in [self.drop(seq)] if drop is not None]
        return found

    def refuse_lost_drops(self) -> None:
        """Raises Corruption if a drop is lost. For starts and `status`: it takes longer than what is compared at each commit."""
        checksums.refuse_lost_drops(self._sql)

    def drop_count(self, outcome: DropOutcome | None = None, after: int = 0) -> int:
        """The number of committed drops, or of those with this outcome, with numbers above `after`."""
        condition = "outcome IS NOT NULL" if outcome is None else f"outcome = '{outcome}'"
        return int(
            self._sql.execute(f"SELECT count(*) FROM drops WHERE {condition} AND seq > ?", (after,)).fetchone()[0]
        )

    def partitions(self, dates: Iterable[int] | None = None) -> dict[int, Partition]:
        """The published partitions among `dates`, or all of them."""
        if dates is None:
            return partitions_of(checksums.all_partitions(self._sql))
        query = "SELECT * FROM partitions WHERE date = ?"
        rows = [self._sql.execute(query, (int(date),)).fetchone() for date in dates]
        if None in rows:  # a date that is new, or a row that is lost
            checksums.all_partitions(self._sql)
        return partitions_of(row for row in rows if row)

    def columns(self) -> Columns:
        """The extra columns that any drop was entered under since the ledger was made, or that a file has."""
        mappings = (mapping_of(text).extra_columns for (text,) in self._sql.execute("SELECT mapping FROM mappings"))
        # One with each text: damaged, it is another.
        each = self._sql.execute("SELECT * FROM partitions GROUP BY columns")
        files = (one.columns for one in partitions_of(each).values())
        return tuple(sorted({column for columns in (*mappings, *files) for column in columns}))

    def gone(self, dates: Iterable[int]) -> dict[int, int]:
        """Those of `dates` that were published and are not any more, with the number of their restatements."""
        query = "SELECT restatements FROM gone WHERE date = ?"
        found = ((date, self._sql.execute(query, (int(date),)).fetchone()) for date in dates)
        return {date: row[0] for date, row in found if row}

    def restatements(self) -> dict[int, int]:
        """The number of restatements of each date that was ever published."""
        return dict(self._sql.execute("SELECT date, restatements FROM partitions UNION SELECT * FROM gone"))

    def dimensions(self) -> dict[str, DimensionFile]:
        """The published dimensions, by name."""
        rows = self._sql.execute("SELECT name, rows, sha256, bytes, writer, last_drop FROM dimensions")
        return {row[0]: DimensionFile(*row) for row in rows}

    def totals(self) -> Counter[str]:
        """The sums of the counts of all drops: `drops.<outcome>`, and `<kind>.<count>` as in Counts."""
        return Counter(dict(self._sql.execute("SELECT name, sum(value) FROM totals GROUP BY name")))

    def totals_by_source(self) -> Counter[tuple[str, str]]:
        """The same for each source: by (source, name)."""
        rows = self._sql.execute("SELECT source, name, value FROM totals")
        return Counter({(source, name): value for source, name, value in rows})

    def sources(self) -> set[str]:
        """The sources that any drop came from."""
        rows = self._sql.execute("SELECT source FROM totals UNION SELECT source FROM drops WHERE batch IS NULL")
        return {row[0] for row in rows}

    def record_keys(self, sources: Collection[str] | None = None) -> list[KnownKey]:
        """The known keys of the records of these sources, or of all."""
        columns = "source, key, is_read, first_drop, missing_since, told"
        if sources is None:
            rows: Iterable[tuple] = self._sql.execute(
                f"SELECT {columns} FROM keys ORDER BY source, is_read, first_drop, key"
            )
        else:
            query = f"SELECT {columns} FROM keys WHERE source = ?"
            rows = (row for source in sources for row in self._sql.execute(query, (source,)))
        return [
            KnownKey(source, key, bool(is_read), first_drop, missing_since, bool(told))
            for source, key, is_read, first_drop, missing_since, told in rows
        ]

    def effects(self) -> list[Effect]:
        """The committed effects that may not be visible yet, in order."""
        rows = self._sql.execute("SELECT kind, target, source, sha256, position, text FROM effects ORDER BY id")
        return [Effect(*row) for row in rows]

    def unpublished_batch(self) -> int | None:
        """The committed batch that may not be completely visible, with its receipts. Only the newest batch can be that."""
        row = self._sql.execute("SELECT batch, published FROM batches ORDER BY batch DESC LIMIT 1").fetchone()
        if (not row or row[1] == 1) and self._sql.execute("SELECT 1 FROM effects").fetchone():
            raise checksums.damaged("the last batch")
        return int(row[0]) if row and not row[1] else None

    def broken(self) -> list[str]:
        """What SQLite finds wrong with the structure of the file and its own indexes; empty: nothing. Reads the whole file."""
        found = [row[0] for row in self._sql.execute("PRAGMA integrity_check(5)")]
        return [] if found == ["ok"] else found

    def _meta(self, key: str) -> int | None:
        row = self._sql.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None
