"""What one batch did, as values for logs, metrics and commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..core.drift import Drift
from ..core.entries import DimensionFile, DropResult


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that could not be taken out of the inbox, and the cause. `label`: as Arrival has it."""

    label: str
    cause: str


@dataclass(frozen=True, slots=True)
class Written:
    """One date that a batch rewrites, or removes if `orders` is 0."""

    date: str
    orders_before: int
    orders: int
    lines: int
    items: int
    restated: bool  # the date was published before


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """Everything that one batch did."""

    batch: int
    results: Sequence[DropResult]
    written: Sequence[Written]
    dimensions: Sequence[DimensionFile]  # the files that were written
    repaired: Sequence[str]  # damaged dates and dimension files that were first rebuilt from raw
    totals: Mapping[tuple[str, str], int]  # what it added to the sums over all drops; keys as in the ledger
    hwm: int | None
    committed_at: int  # microseconds since 1970
    seconds: Mapping[str, float]  # by phase
    drift: Sequence[Drift] = ()  # keys of records that came or vanished
    waiting: Sequence[str] = ()  # dates that it left as they are, since they are set aside

    @property
    def restated(self) -> list[str]:
        """Dates that were published before and changed."""
        return [written.date for written in self.written if written.restated]

    @property
    def rows_written(self) -> dict[str, int]:
        """By table."""
        lines, items = sum(written.lines for written in self.written), sum(written.items for written in self.written)
        return {"fact_order": lines, "order_items": items} | {f"dim_{one.name}": one.rows for one in self.dimensions}
