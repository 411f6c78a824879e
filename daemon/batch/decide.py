"""Step 3: decides which record of each order wins, what that changes, and which dates are affected. Writes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..core.merge.keys import latest, take_entries
from ..core.model import Bools, Ints, Parsed
from ..core.versions import Outcome, decide
from ..storage.ledger import Ledger

Tallies = Sequence[tuple[int, int]]  # (drop, how many), by drop


@dataclass(frozen=True)
class Decided:
    """The decision on the records of a batch. The arrays have one entry per change, that is per winner that changes something,
    sorted by time and therefore by date."""

    orders: pa.Table  # ORDERS: all accepted records
    accepted: Tallies  # records
    late: Tallies  # accepted records below the high-water mark before the batch
    newest: int | None  # the latest `created_at` of all
    unchanged: Tallies  # winners with the content that is published
    rows: Ints  # the row of each change in `orders`
    new_date: np.ndarray  # int32; the new date of its order
    drop: np.ndarray  # the drop that it came in
    outcome: np.ndarray  # NEW, CORRECTED or MOVED: see versions.Outcome
    old_date: np.ndarray  # the published date of an order that is not new

    @property
    def known(self) -> Bools:
        """The changes to orders that were published before."""
        return self.outcome != Outcome.NEW

    @property
    def moved(self) -> Bools:
        """The changes that give an order another date."""
        return self.outcome == Outcome.MOVED

    @cached_property
    def leavers(self) -> Ints:
        """The changes that move an order to another date, sorted by the date that it leaves."""
        moved = np.flatnonzero(self.moved)
        return moved[np.argsort(self.old_date[moved], kind="stable")]

    @cached_property
    def losing_date(self) -> Ints:
        """The date that each leaver leaves."""
        return self.old_date[self.leavers]

    def drops_changing(self, day: int) -> list[int]:
        """The drops that change a date: they add, correct or move away one of its orders."""
        here = slice(*np.searchsorted(self.new_date, [day, day + 1]))
        gone = self.leavers[slice(*np.searchsorted(self.losing_date, [day, day + 1]))]
        return np.union1d(self.drop[here], self.drop[gone]).tolist()


def decided(ledger: Ledger, parsed: Parsed) -> tuple[Decided, np.ndarray]:
    """Compares records with the index and the high-water mark of the ledger. Returns the decision and the new entries of the
    index (INDEX_ENTRY, sorted by key). The entries take much memory: release them soon."""
    versions = parsed.versions
    winners, rows = latest(versions)
    decision = decide(winners, ledger.index.look_up(winners))
    wins = decision.outcome != Outcome.SUPERSEDED
    entries = winners if wins.all() else take_entries(winners, np.flatnonzero(wins))
    created_at = versions["created_at"].to_numpy()
    chosen, rows_by_time = _by_time(wins & (decision.outcome != Outcome.UNCHANGED), rows, created_at)
    decided = Decided(
        parsed.orders,
        accepted=counted(versions["drop"]),
        late=counted(versions["drop"].filter(pa.array(created_at < (ledger.hwm or 0)))),
        newest=int(created_at.max()) if len(created_at) else None,
        unchanged=tallied(winners["drop"][decision.outcome == Outcome.UNCHANGED]),
        rows=rows_by_time,
        new_date=winners["date"][chosen],
        drop=winners["drop"][chosen],
        outcome=decision.outcome[chosen],
        old_date=decision.old_date[chosen],
    )
    return decided, entries


def _by_time(chosen: Bools, rows: Ints, created_at: Ints) -> tuple[np.ndarray, Ints]:
    """The `chosen` winners sorted by time: their positions among the winners, and their rows. `rows` are the rows of all winners.
    Neighbouring rows are mostly in order already, which makes a stable sort fast."""
    if not chosen.any():
        return rows[:0], rows[:0]
    winner_of = np.full(len(created_at), -1, np.int32)
    winner_of[rows[chosen]] = np.flatnonzero(chosen)
    by_time: Ints = np.argsort(created_at, kind="stable")
    winners = winner_of[by_time]
    taken = winners >= 0
    return winners[taken], by_time[taken]


def tallied(drops: Ints) -> list[tuple[int, int]]:
    """(drop, how often it occurs), by drop."""
    values, numbers = np.unique(drops, return_counts=True)
    return list(zip(values.tolist(), numbers.tolist(), strict=True))


def counted(drops: pa.ChunkedArray) -> list[tuple[int, int]]:
    """The same for a column of a table."""
    values, numbers = pc.value_counts(drops).flatten()
    return sorted(zip(values.to_pylist(), numbers.to_pylist(), strict=True))
