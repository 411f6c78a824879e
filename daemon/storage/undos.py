"""What the ledger knows of undos: which drops were withdrawn or applied again after that, when, by whom and why.

A drop that is withdrawn keeps its number, counts, batch and raw copy. Its outcome is no longer `applied`, so nothing that looks
at applied drops sees it.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from ..core.entries import Undo
from ..core.model import DropOutcome
from .receipts import instant_text

SCHEMA = """
CREATE TABLE undos (                -- the newest last
    number INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    seq INTEGER NOT NULL,           -- the drop
    at INTEGER NOT NULL, who TEXT NOT NULL, reason TEXT NOT NULL,
    is_revert INTEGER NOT NULL      -- 0: the drop was withdrawn; 1: it was applied again
);
CREATE INDEX undos_by_drop ON undos (seq);
"""
# The undos of a row of `drops`, as `parse` takes them.
OF_DROP = (
    "(SELECT json_group_array(json_array(at, who, undos.reason, is_revert)) FROM "
    "(SELECT * FROM undos WHERE undos.seq = drops.seq ORDER BY number) AS undos)"
)
_MARK = "(SELECT max(newest) FROM drops WHERE outcome = 'applied'{})"


def parse(seq: int, text: str) -> tuple[Undo, ...]:
    """The undos of a drop."""
    return tuple(Undo(seq, at, who, reason, bool(is_revert)) for at, who, reason, is_revert in json.loads(text))


def enter(sql: sqlite3.Connection, batch: int, undos: Iterable[Undo]) -> None:
    """Records undos. Within a transaction of the caller."""
    sql.executemany(
        "INSERT INTO undos (batch, seq, at, who, reason, is_revert) VALUES (?, ?, ?, ?, ?, ?)",
        ((batch, one.drop, one.at, one.who, one.reason, one.is_revert) for one in undos),
    )


def carry_out(sql: sqlite3.Connection, batch: int, undo: Undo) -> None:
    """Withdraws a drop or applies it again, and records that. High-water marks become those of all applied drops. Within a
    transaction of the caller."""
    enter(sql, batch, [undo])
    outcome, reason = (DropOutcome.APPLIED, None) if undo.is_revert else (DropOutcome.WITHDRAWN, told(undo))
    sql.execute("UPDATE drops SET outcome = ?, reason = ? WHERE seq = ?", (outcome, reason, undo.drop))
    set_marks(sql)


def set_marks(sql: sqlite3.Connection) -> None:
    """Sets the high-water marks, also those of sources, to what the applied drops have. Within a transaction of the caller."""
    sql.execute("DELETE FROM meta WHERE key = 'hwm'")
    sql.execute(f"INSERT INTO meta SELECT 'hwm', hwm FROM (SELECT {_MARK.format('')} AS hwm) WHERE hwm IS NOT NULL")
    sql.execute(f"UPDATE pulls SET hwm = {_MARK.format(' AND drops.source = pulls.source')}")


def told(undo: Undo) -> str:
    """Who withdrew a drop, or applied it again, when and why, in one line."""
    what = "applied again" if undo.is_revert else "withdrawn"
    return f"{what} by {undo.who} at {instant_text(undo.at)}" + (f" ({undo.reason})" if undo.reason else "")
