"""One affected partition: its published rows and new versions of some of its orders in, its next rows out. Pure.

Rows are sorted by (created_at, order_id, line_number), so that the same orders always give the same table. The lines of an order
are together, and begin with line 1 (or 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import Corruption
from ..model import Bools, Ints, amount_text
from .facts import one_chunk


@dataclass(frozen=True, slots=True)
class Merged:
    """The next state of a partition: its FACT rows, sorted."""

    fact: pa.Table
    before: Totals
    after: Totals


@dataclass(frozen=True, slots=True)
class Totals:
    """How many orders, lines and items a partition has, and the sum of its amounts in units of 1/10,000."""

    orders: int
    lines: int
    items: int
    amount: int

    @property
    def amount_text(self) -> str:
        """The amount in the currency's unit, exactly."""
        return amount_text(self.amount)


EMPTY = Totals(0, 0, 0, 0)


def sort_order(orders: pa.Table, rows: Ints) -> Ints:
    """The indexes that sort these rows of an ORDERS table by (created_at, order_id), and so by date."""
    by_time = order_by_time(orders, rows)
    return by_time[order_within_instants(orders, rows[by_time])]


def order_by_time(orders: pa.Table, rows: Ints) -> Ints:
    """The indexes that sort these rows by created_at alone; rows of the same instant come in any order."""
    return np.argsort(orders["created_at"].to_numpy()[rows])


def order_within_instants(orders: pa.Table, rows: Ints) -> Ints:
    """The indexes that sort rows of the same instant by order_id, where the rows are sorted by created_at."""
    instants = orders["created_at"].to_numpy()[rows]
    order = np.arange(len(rows))
    with_next = np.append(instants[1:] == instants[:-1], False) if len(rows) else np.zeros(0, np.bool_)
    tied = np.flatnonzero(with_next | np.roll(with_next, 1))
    if len(tied):
        rivals = orders.select(["created_at", "order_id"]).take(pa.array(rows[tied]))
        ranked = pc.sort_indices(rivals, [("created_at", "ascending"), ("order_id", "ascending")]).to_numpy()
        order[tied] = tied[ranked]
    return order


def merge(published: pa.Table, incoming: pa.Table, replaces: Bools, leaving: pa.Array) -> Merged:
    """`published` and `incoming` are sorted FACT tables; `incoming` has the new versions. `replaces[i]`: incoming order i is
    published in this partition. `leaving`: order_ids that move to another date."""
    old, new = _Grouped(published), _Grouped(incoming)
    gone = pa.concat_arrays([new.ids.filter(pa.array(replaces)), leaving.cast(new.ids.type)])
    stays = np.ones(len(old.ids), np.bool_)
    stays[_indexes_of(gone, old)] = False
    rows = _interleaved(old, np.flatnonzero(stays), new)
    fact = pa.concat_tables([published, incoming]).combine_chunks().take(pa.array(rows))
    return Merged(fact, totals(published), totals(fact))


def totals(fact: pa.Table) -> Totals:
    """The counts and the exact sum of FACT rows."""
    return totals_of_spans(fact, np.zeros(1, np.int64), np.full(1, fact.num_rows))[0]


def totals_of_spans(fact: pa.Table, starts: Ints, stops: Ints) -> list[Totals]:
    """The same of the rows from starts[i] to stops[i], for each i. One call for many small spans is much faster than one each."""
    line_number = fact["line_number"].to_numpy()
    amount = one_chunk(fact["amount"]).view(pa.int64())
    amounts = (amount.fill_null(0) if amount.null_count else amount).to_numpy()

    def sums(values: np.ndarray) -> list[int]:
        running = np.concatenate([np.zeros(1, np.int64), np.cumsum(values)])
        sums_of_spans: list[int] = (running[stops] - running[starts]).tolist()
        return sums_of_spans

    # Amounts in two halves, whose sums cannot overflow.
    halves = [(high << 32) + low for high, low in zip(sums(amounts >> 32), sums(amounts & 0xFFFFFFFF), strict=True)]
    columns = (sums(line_number <= 1), (stops - starts).tolist(), sums(line_number > 0), halves)
    return [Totals(*one) for one in zip(*columns, strict=True)]


class _Grouped:
    """A FACT table as orders: order i has `lengths[i]` lines from starts[i] on."""

    def __init__(self, fact: pa.Table) -> None:
        self.fact = fact
        self.starts: Ints = np.flatnonzero(fact["line_number"].to_numpy() <= 1)
        self.lengths: Ints = np.diff(self.starts, append=fact.num_rows)
        firsts = fact.select(["created_at", "order_id"]).take(pa.array(self.starts))
        self.created_at, self.ids = one_chunk(firsts["created_at"]), one_chunk(firsts["order_id"])


def _indexes_of(order_ids: pa.Array, published: _Grouped) -> Ints:
    """The indexes of these orders in the published ones. Corruption where one is missing."""
    index = pc.index_in(order_ids, value_set=published.ids)
    if index.null_count:
        missing = order_ids.filter(index.is_null())[0].as_py()
        date = published.fact["date"][0].as_py() if published.fact.num_rows else "a date without rows"
        raise Corruption(
            f"the ledger has order {missing!r} on {date}, but the partition does not; "
            "rebuild the ledger and the partitions with `strandline rebuild`"
        )
    return index.to_numpy(zero_copy_only=False).astype(np.int64)


def _interleaved(old: _Grouped, stays: Ints, new: _Grouped) -> Ints:
    """The rows of the lines of some old and all new orders, sorted. Rows of `new` are counted after all rows of `old`."""
    both = pa.table(
        [
            pa.concat_arrays([ours.take(pa.array(stays)), theirs])
            for ours, theirs in ((old.created_at, new.created_at), (old.ids, new.ids))
        ],
        ["created_at", "order_id"],
    )
    ranked = pc.sort_indices(both, [("created_at", "ascending"), ("order_id", "ascending")]).to_numpy()
    first_lines = np.concatenate([old.starts[stays], new.starts + old.fact.num_rows])[ranked]
    lengths = np.concatenate([old.lengths[stays], new.lengths])[ranked]
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first_lines - (ends - lengths), lengths)
