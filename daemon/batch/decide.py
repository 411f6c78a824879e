"""Step 3: decides which record of each order wins, what that changes, and which dates are affected. Writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..core.merge.keys import latest, take_entries
from ..core.model import DELETED_AT, DELETED_DATE, INDEX_ENTRY, Bools, Ints, Parsed, dates_of
from ..core.versions import Decision, Outcome, decide
from ..execution import spill
from ..storage.ledger import Ledger

Tallies = Sequence[tuple[int, int]]  # (drop, how many), by drop
_IS_CHANGE = np.isin(list(Outcome), [Outcome.NEW, Outcome.CORRECTED, Outcome.MOVED])  # by Outcome


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


def decided(ledger: Ledger, parsed: Parsed, background: Executor) -> tuple[Decided, np.ndarray]:
    """Compares records with the index and the high-water mark of the ledger. Returns the decision and the new entries of the
    index (INDEX_ENTRY, sorted by key). The entries take much memory: release them soon. `background`: a free thread."""
    accepted = background.submit(accepted_of, parsed.orders)  # a third of the time, and independent of the rest
    winners, rows = latest(parsed.versions)
    spill.release_pages()
    decision = decide(winners, ledger.index.look_up(winners))
    wins = decision.outcome != Outcome.SUPERSEDED
    entries = winners if wins.all() else take_entries(winners, np.flatnonzero(wins))
    return by_date(accepted.result(), winners, rows, decision, ledger.hwm), entries


@dataclass(frozen=True)
class Accepted:
    """All accepted records of a batch, and what they say without the index."""

    orders: pa.Table  # ORDERS
    drop: np.ndarray
    created_at: Ints
    is_order: Bools  # the others are deletions
    rows_by_time: Ints  # sorted by `created_at`
    tallies: Tallies
    newest: Mapping[int, int]  # by drop, the latest `created_at`


def accepted_of(orders: pa.Table) -> Accepted:
    """Accepted records. Neighbouring ones are mostly in order of time already, which makes a stable sort fast."""
    created_at, drop = _joined(orders["created_at"], np.int64), _joined(orders["drop"], INDEX_ENTRY["drop"])
    is_order = created_at != DELETED_AT
    by_time: Ints = np.argsort(created_at, kind="stable")
    newest = _newest(drop, created_at, is_order)
    return Accepted(orders, drop, created_at, is_order, by_time, tallied(drop), newest)


def _joined(column: pa.ChunkedArray, kind: np.typing.DTypeLike) -> np.ndarray:
    """A column as one array of a type in which its values are known to fit. Makes no other copy."""
    parts = [chunk.to_numpy() for chunk in column.chunks]
    return np.concatenate([np.zeros(0, kind), *parts], dtype=kind, casting="unsafe")


def by_date(accepted: Accepted, winners: np.ndarray, rows: Ints, decision: Decision, hwm: int | None) -> Decided:
    """A decision on winners, which are these rows of the accepted records, as what it changes on each date. `hwm`: the
    high-water mark before it."""
    deletes = decision.outcome == Outcome.DELETED
    late = accepted.is_order & (accepted.created_at < (hwm or 0))
    chosen, chosen_rows = _by_time(_IS_CHANGE[decision.outcome], rows, accepted.rows_by_time)
    return Decided(
        accepted.orders,
        accepted=accepted.tallies,
        late=tallied(accepted.drop[late]),
        newest=accepted.newest,
        unchanged=tallied(winners["drop"][decision.outcome == Outcome.UNCHANGED]),
        rows=chosen_rows,
        new_date=dates_of(accepted.created_at[chosen_rows]),  # neighbouring rows are near in memory, unlike winners
        drop=accepted.drop[chosen_rows],
        outcome=decision.outcome[chosen],
        leaving=_leaving(winners["drop"], rows, decision),
        deleted=tallied(winners["drop"][deletes]),
    )


def _newest(drop: np.ndarray, created_at: Ints, is_order: Bools) -> dict[int, int]:
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


def _by_time(chosen: Bools, rows: Ints, rows_by_time: Ints) -> tuple[np.ndarray, Ints]:
    """The `chosen` winners sorted by time: their positions among the winners, and their rows. `rows` are the rows of all
    winners."""
    if not chosen.any():
        return rows[:0], rows[:0]
    winner_of = np.full(len(rows_by_time), -1, np.int32)
    winner_of[rows[chosen]] = np.flatnonzero(chosen)
    winners = winner_of[rows_by_time]
    taken = winners >= 0
    return winners[taken], rows_by_time[taken]


def tallied(drops: np.ndarray) -> list[tuple[int, int]]:
    """(drop, how often it occurs), by drop. Sorts only what it finds: a batch has many records, and few drops."""
    values, numbers = pc.value_counts(pa.array(drops)).flatten()
    return sorted(zip(values.to_pylist(), numbers.to_pylist(), strict=True))
