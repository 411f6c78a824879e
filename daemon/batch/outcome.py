"""What one batch did, as values, for logs, metrics and people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.entries import DimensionFile, DropResult


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that could not be taken out of the inbox, and why."""

    name: str
    cause: str


@dataclass(frozen=True, slots=True)
class Written:
    """One date that a batch rewrites (or removes: no orders after)."""

    date: str
    orders_before: int
    orders: int
    lines: int
    items: int
    restated: bool  # it was published before


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """All that one batch did."""

    batch: int
    results: Sequence[DropResult]
    written: Sequence[Written]
    dimensions: Sequence[DimensionFile]  # those that were written
    repaired: Sequence[str]  # dates and dimension files that were damaged, and were made anew from raw first
    totals: Mapping[str, int]  # what it added to the sums over all drops, as the ledger names them
    hwm: int | None
    committed_at: int  # microseconds since 1970
    seconds: Mapping[str, float]  # by phase

    @property
    def restated(self) -> list[str]:
        """Dates that were published before and changed."""
        return [written.date for written in self.written if written.restated]

    @property
    def rows_written(self) -> dict[str, int]:
        """By table."""
        lines, items = sum(written.lines for written in self.written), sum(written.items for written in self.written)
        return {"fact_order": lines, "order_items": items} | {f"dim_{one.name}": one.rows for one in self.dimensions}
