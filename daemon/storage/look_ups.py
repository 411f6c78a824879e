"""What a person looks up in the ledger: drops by name, source, outcome and day, the newest first; sums by day; published dates.

A query may have to go through all drops, so the caller sets a limit of time: see `Ledger.end_after`.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..core.entries import DropResult, Partition
from ..core.model import MICROSECONDS_PER_DAY
from .ledger_rows import RESULT, partitions_of, result_of
from .raw import kind_of

FIRST_DAY, LAST_DAY = -719_162, 2_932_896  # 0001-01-01 and 9999-12-31, in days since 1970
_ESCAPED = str.maketrans({"\\": "\\\\", "%": "\\%", "_": "\\_"})
_ARRIVED = "FROM drops WHERE outcome IS NOT NULL AND received_at >= ? AND received_at < ?"
_SUMS = f"""
WITH arrived AS MATERIALIZED (
    SELECT received_at / {MICROSECONDS_PER_DAY} AS day, kind_of(name) AS kind, outcome, counts {_ARRIVED}
)
SELECT day, 'drops', outcome, count(*) FROM arrived GROUP BY day, outcome
UNION ALL
SELECT day, 'discarded', key, sum(value) FROM arrived, json_each(counts, '$.discarded') GROUP BY day, key
UNION ALL
SELECT day, coalesce(kind, ''), key, sum(value) FROM arrived, json_each(counts) WHERE type = 'integer' GROUP BY day, kind, key
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which drops: empty means any. `name`: a part of it, in upper or lower case. `first`, `last`: days of arrival (UTC) since
    1970, both included."""

    name: str = ""
    source: str = ""
    outcome: str = ""
    first: int = FIRST_DAY
    last: int = LAST_DAY

    def has_day(self, received_at: int | None) -> bool:
        """Whether an instant, in microseconds, is on one of the days. An unknown one is where no day is asked for."""
        if received_at is None:
            return (self.first, self.last) == (FIRST_DAY, LAST_DAY)
        return self.first <= received_at // MICROSECONDS_PER_DAY <= self.last


class LookUps:
    """Queries on the connection of a ledger."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection

    def drops(self, wanted: Wanted, below: int | None, limit: int) -> list[DropResult]:
        """The results of the newest `limit` drops that are wanted, the newest first. `below`: only those with smaller numbers."""
        conditions: dict[str, object] = {}
        if wanted.name:
            conditions["name LIKE ? ESCAPE '\\'"] = f"%{wanted.name.translate(_ESCAPED)}%"
        if wanted.source:
            conditions["source = ?"] = wanted.source
        if wanted.outcome:
            conditions["outcome = ?"] = wanted.outcome
        if below is not None:
            conditions["seq < ?"] = below
        more = "".join(f" AND {one}" for one in conditions)
        values = (*_instants(wanted.first, wanted.last), *conditions.values(), limit)
        rows = self._sql.execute(f"SELECT {RESULT} {_ARRIVED}{more} ORDER BY seq DESC LIMIT ?", values)
        return [result_of(row) for row in rows]

    def arrivals(self, numbers: Iterable[int]) -> dict[int, int]:
        """When drops arrived, by their numbers. Those that the ledger does not have are left out."""
        query = "SELECT seq, received_at FROM drops WHERE seq IN (SELECT value FROM json_each(?))"
        return dict(self._sql.execute(query, (json.dumps(list(numbers)),)))

    def days_of_arrival(self, first: int, last: int) -> set[int]:
        """The days on which any drop arrived."""
        query = f"SELECT DISTINCT received_at / {MICROSECONDS_PER_DAY} {_ARRIVED}"
        return {day for (day,) in self._sql.execute(query, _instants(first, last))}

    def sums(self, first: int, last: int) -> Mapping[int, Mapping[str, Counter[str]]]:
        """By day of arrival, the sums of the counts of drops: `drops` by outcome, `discarded` by reason, and by what the drops
        hold (`orders`, the name of a dimension) the other counts (see Counts)."""
        self._sql.create_function("kind_of", 1, kind_of, deterministic=True)
        found: dict[int, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        for day, group, name, value in self._sql.execute(_SUMS, _instants(first, last)):
            found[day][group][name] += value
        return found

    def partitions(self, first: int, last: int) -> dict[int, Partition]:
        """The published partitions from one date to another, by date."""
        return partitions_of(self._sql.execute("SELECT * FROM partitions WHERE date BETWEEN ? AND ?", (first, last)))

    def gone(self, first: int, last: int) -> dict[int, int]:
        """The dates that were published and are not any more, with the number of their restatements."""
        return dict(self._sql.execute("SELECT date, restatements FROM gone WHERE date BETWEEN ? AND ?", (first, last)))


def _instants(first: int, last: int) -> tuple[int, int]:
    return first * MICROSECONDS_PER_DAY, (last + 1) * MICROSECONDS_PER_DAY
