"""What has gone by age, as the ledger says it. Of each kind of copy, what goes is a prefix: all of the drops up to a number.

    raw, receipts, discards, quarantine    the copies of all drops with a number up to `through`
    restatements                           the lines of the log that batches up to `through` wrote

The ledger says so first, in a transaction of its own; then the files go. `swept`: up to here, they have gone. A crash in between
leaves files that the next sweep removes. `raw/aged.json` says the same of raw copies beside them, so that a rebuild without the
ledger can refuse: only the ledger knows which orders came from what has gone.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import EnvironmentFault
from . import files

RAW, RECEIPTS, DISCARDS, RESTATEMENTS, QUARANTINE = "raw", "receipts", "discards", "restatements", "quarantine"
KINDS = (RAW, RECEIPTS, DISCARDS, RESTATEMENTS, QUARANTINE)
OF_DROPS = (RAW, RECEIPTS, DISCARDS, QUARANTINE)  # kinds whose `through` is the number of a drop
MARKER = "raw/aged.json"

SCHEMA = """
CREATE TABLE horizons (             -- what has gone by age: see ages.py
    kind TEXT PRIMARY KEY,
    through INTEGER NOT NULL,       -- all up to this drop (of restatements: this batch) have gone
    at INTEGER NOT NULL,            -- when that was decided
    swept INTEGER NOT NULL          -- up to here, no file is left
) WITHOUT ROWID;
"""
_NEXT_KEPT = """
SELECT seq FROM drops WHERE seq > ?1 AND
    (batch IS NULL OR received_at >= ?2 OR batch IN (SELECT batch FROM batches WHERE NOT published))
ORDER BY seq LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Horizon:
    """How far one kind of copy has gone by age. 0: nothing of it has."""

    through: int = 0
    at: int = 0  # in microseconds since 1970
    swept: int = 0


NOTHING = Horizon()


def horizons(sql: sqlite3.Connection) -> dict[str, Horizon]:
    """The horizon of each kind of which anything has gone."""
    return {kind: Horizon(*rest) for kind, *rest in sql.execute("SELECT kind, through, at, swept FROM horizons")}


def advance(sql: sqlite3.Connection, kind: str, through: int, at: int) -> None:
    """Says that all copies up to `through` have gone. A horizon never goes back. Within a transaction of the caller."""
    sql.execute(
        "INSERT INTO horizons VALUES (?1, ?2, ?3, 0) "
        "ON CONFLICT DO UPDATE SET through = ?2, at = ?3 WHERE excluded.through > through",
        (kind, through, at),
    )


def swept(sql: sqlite3.Connection, kind: str, through: int) -> None:
    """Says that no file up to `through` is left. Within a transaction of the caller."""
    sql.execute("UPDATE horizons SET swept = max(swept, ?2) WHERE kind = ?1", (kind, through))


def reach(sql: sqlite3.Connection, after: int, before: int) -> int:
    """The last drop of the prefix from `after` on whose drops were all received before this instant, and are committed and
    published; `after` where there is none."""
    row = sql.execute(_NEXT_KEPT, (after, before)).fetchone()
    row = row or sql.execute("SELECT coalesce(max(seq), 0) + 1 FROM drops").fetchone()
    return max(after, int(row[0]) - 1)


# ------------------------------------------------------------------------------------------------- beside the raw copies


def mark(output: Path, horizon: Horizon) -> None:
    """Says beside the raw copies which have gone, durably."""
    content = json.dumps({"raw_copies_gone_through_drop": horizon.through, "at_microseconds": horizon.at})
    files.write(output / MARKER, content.encode() + b"\n")


def marked(output: Path) -> Horizon:
    """What `mark` said. A marker that nobody can read means that some raw copies have gone."""
    try:
        content = json.loads((output / MARKER).read_bytes())
        return Horizon(int(content["raw_copies_gone_through_drop"]), int(content["at_microseconds"]))
    except FileNotFoundError:
        return NOTHING
    except (ValueError, KeyError, TypeError):
        return Horizon(1)


def refuse_without_ledger(output: Path, ledger: Path) -> None:
    """Raises EnvironmentFault where raw copies have gone by age: no new ledger can have what the old one knows of them."""
    if through := marked(output).through:
        cause = (
            f"raw copies have gone by age, up to drop {through} ({MARKER} says so), and only the ledger knows which of the "
            "published orders came from them"
        )
        hint = (
            "Restore state/ledger.sqlite from a backup, or run the strandline that wrote it if its version is another; "
            "nothing was changed."
        )
        raise EnvironmentFault("make a new ledger in place of", ledger, cause, hint)


def only(horizons: Mapping[str, Horizon], kind: str) -> Horizon:
    """The horizon of a kind."""
    return horizons.get(kind, NOTHING)
