"""What is set aside, in the ledger: published dates and dimensions whose files are damaged and cannot be made anew, or whose
folder cannot be read or written. Batches leave them as they are, and everything else goes on; see batch/mending.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..core.model import DIMENSIONS

SCHEMA = """
CREATE TABLE set_aside (            -- published dates and dimension files that batches leave as they are
    name TEXT PRIMARY KEY,          -- YYYY-MM-DD, or the name of a file under curated/
    since INTEGER NOT NULL,
    reason TEXT NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class SetAside:
    """A date (YYYY-MM-DD) or the file of a dimension. `since`: in microseconds since 1970. `reason`: the damage, and what to
    do."""

    name: str
    since: int
    reason: str

    @property
    def day(self) -> int | None:
        """The date in days since 1970; None for a dimension."""
        return None if self.name.endswith(".parquet") else int(np.datetime64(self.name, "D").astype(int))


def days_of(found: Iterable[SetAside]) -> list[int]:
    """The dates among what is set aside, in days since 1970."""
    return [one.day for one in found if one.day is not None]


def dimensions_of(found: Iterable[SetAside]) -> set[str]:
    """The names of the dimensions among what is set aside."""
    names = {one.name for one in found}
    return {name for name, dimension in DIMENSIONS.items() if dimension.file in names}


def all_of(sql: sqlite3.Connection) -> dict[str, SetAside]:
    """Everything that is set aside, by name."""
    return {row[0]: SetAside(*row) for row in sql.execute("SELECT name, since, reason FROM set_aside ORDER BY name")}


def enter(sql: sqlite3.Connection, one: SetAside) -> None:
    """Sets something aside; what is already keeps its time. Of a date, what is committed and not published yet will not be: it is
    made anew when it is mended. Within a transaction of the caller."""
    sql.execute(
        "INSERT INTO set_aside VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET reason = excluded.reason",
        (one.name, one.since, one.reason),
    )
    sql.execute("DELETE FROM effects WHERE target LIKE 'curated/date=' || ? || '/%'", (one.name,))


def remove(sql: sqlite3.Connection, names: Iterable[str]) -> None:
    """These are published again. Within a transaction of the caller."""
    sql.executemany("DELETE FROM set_aside WHERE name = ?", ((name,) for name in names))


_BATCHES_SINCE = "batch >= (SELECT min(batch) FROM batches WHERE committed_at >= ?1)"


def drops_since(sql: sqlite3.Connection, since: int) -> set[int]:
    """The drops that were committed, withdrawn or applied again since this instant."""
    query = f"SELECT seq FROM drops WHERE {_BATCHES_SINCE} UNION SELECT seq FROM undos WHERE {_BATCHES_SINCE}"
    return {seq for (seq,) in sql.execute(query, (since,))}


def withdrawn_since(sql: sqlite3.Connection, since: int) -> bool:
    """Whether a drop was withdrawn since this instant. Its orders may have older versions since."""
    query = f"SELECT 1 FROM undos WHERE NOT is_revert AND {_BATCHES_SINCE}"
    return sql.execute(query, (since,)).fetchone() is not None
