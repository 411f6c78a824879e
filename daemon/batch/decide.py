"""Step 3: decides which record of each order wins, what that changes, and which dates are affected. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..core.merge.keys import latest, take_entries
from ..core.model import DELETED_AT, DELETED_DATE, VERSIONS, Bools, Ints, Parsed
from ..core.versions import Decision, Outcome, decide
from ..storage.ledger import Ledger

Tallies = Sequence[tuple[int, int]]  # (drop, how many), by drop


@dataclass(frozen=True)
class Leaving:
    """The orders that leave a date because they are moved or deleted, sorted by that date. Arrays by order."""

    rows: Ints  # the row in `orders` of the version that moves or deletes the order
    drop: np.ndarray  # the drop that it came in
    date: np.ndarray  # int32; the date that the order leaves


@dataclass(frozen=True)
class Decided:
    """The decision on the records of a batch. The arrays have one entry per change, that is per winner that gives an order other
    content or another date, sorted by time and therefore by date."""

    orders: pa.Table  # ORDERS: all accepted records
    accepted: Tallies  # records
    late: Tallies  # accepted records below the high-water mark before the batch
    newest: Mapping[int, int]  # by drop, the latest `created_at`
    unchanged: Tallies  # winners with the content that is published
    rows: Ints  # the row of each change in `orders`
    new_date: np.ndarray  # int32; the new date of its order
    drop: np.ndarray  # the drop that it came in
    outcome: np.ndarray  # NEW, CORRECTED or MOVED: see versions.Outcome
    leaving: Leaving
    deleted: Tallies  # orders

    @property
    def known(self) -> Bools:
        """The changes to orders that were published before."""
        return self.outcome != Outcome.NEW

    @property
    def moved(self) -> Bools:
        """The changes that give an order another date."""
        return self.outcome == Outcome.MOVED

    def drops_changing(self, day: int) -> list[int]:
        """The drops that change a date: they add, correct, move away or delete one of its orders."""
        here = slice(*np.searchsorted(self.new_date, [day, day + 1]))
        gone = slice(*np.searchsorted(self.leaving.date, [day, day + 1]))
        return np.union1d(self.drop[here], self.leaving.drop[gone]).tolist()


def decided(ledger: Ledger, parsed: Parsed) -> tuple[Decided, np.ndarray]:
    """Compares records with the index and the high-water mark of the ledger. Returns the decision and the new entries of the
    index (INDEX_ENTRY, sorted by key). The entries take much memory: release them soon."""
    winners, rows = latest(parsed.versions)
    decision = decide(winners, ledger.index.look_up(winners))
    wins = decision.outcome != Outcome.SUPERSEDED
    entries = winners if wins.all() else take_entries(winners, np.flatnonzero(wins))
    return by_date(parsed.orders, winners, rows, decision, ledger.hwm), entries


def by_date(orders: pa.Table, winners: np.ndarray, rows: Ints, decision: Decision, hwm: int | None) -> Decided:
    """A decision on winners, which are these rows of `orders`, as what it changes on each date. `hwm`: the high-water mark before
    it."""
    versions = orders.select(VERSIONS.names)
    created_at = versions["created_at"].to_numpy()
    is_order, deletes = created_at != DELETED_AT, decision.outcome == Outcome.DELETED
    changes = np.isin(decision.outcome, [Outcome.NEW, Outcome.CORRECTED, Outcome.MOVED])
    chosen, rows_by_time = _by_time(changes, rows, created_at)
    return Decided(
        orders,
        accepted=counted(versions["drop"]),
        late=counted(versions["drop"].filter(pa.array(is_order & (created_at < (hwm or 0))))),
        newest=_newest(versions["drop"], created_at, is_order),
        unchanged=tallied(winners["drop"][decision.outcome == Outcome.UNCHANGED]),
        rows=rows_by_time,
        new_date=winners["date"][chosen],
        drop=winners["drop"][chosen],
        outcome=decision.outcome[chosen],
        leaving=_leaving(winners["drop"], rows, decision),
        deleted=tallied(winners["drop"][deletes]),
    )


def _newest(drop: pa.ChunkedArray, created_at: Ints, is_order: Bools) -> dict[int, int]:
    versions = pa.table({"drop": drop, "created_at": created_at})
    of_orders = versions if is_order.all() else versions.filter(pa.array(is_order))  # a filter copies
    # Without threads: where memory is too little to start one, pyarrow would wait for it forever.
    found = of_orders.group_by("drop", use_threads=False).aggregate([("created_at", "max")]).to_pydict()
    return dict(zip(found["drop"], found["created_at_max"], strict=True))


def _leaving(drop: np.ndarray, rows: Ints, decision: Decision) -> Leaving:
    leaves = (decision.outcome == Outcome.MOVED) | (decision.outcome == Outcome.DELETED)
    found = np.flatnonzero(leaves & (decision.old_date != DELETED_DATE))
    found = found[np.argsort(decision.old_date[found], kind="stable")]
    return Leaving(rows[found], drop[found], decision.old_date[found])


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
