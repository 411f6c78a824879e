"""One affected partition: its published rows and the new versions of some of its orders in, its next rows out. Pure.

Keyed, idempotent and deterministic: rows are sorted by (created_at, order_id, line_number), so that the same orders are
always the same table, however they came. Lines of one order always lie together and begin with line 1 (or 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import Corruption
from ..model import SCALE, Bools, Ints
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


def amount_text(units: int) -> str:
    """Units of 1/10,000 as decimal text."""
    sign, digits = "-" if units < 0 else "", abs(units)
    return f"{sign}{digits // SCALE}.{digits % SCALE:04d}"


EMPTY = Totals(0, 0, 0, 0)


def sort_order(orders: pa.Table, rows: Ints) -> Ints:
    """The order in which these rows of an ORDERS table are sorted by (created_at, order_id), which is by date as well."""
    places = order_by_time(orders, rows)
    return places[order_within_instants(orders, rows[places])]


def order_by_time(orders: pa.Table, rows: Ints) -> Ints:
    """The order in which these rows are sorted by created_at alone; those of one instant come in any order."""
    return np.argsort(orders["created_at"].to_numpy()[rows])


def order_within_instants(orders: pa.Table, rows: Ints) -> Ints:
    """The order in which rows that are sorted by created_at are sorted by order_id, too. It never crosses an instant."""
    instants = orders["created_at"].to_numpy()[rows]
    places = np.arange(len(rows))
    with_next = np.append(instants[1:] == instants[:-1], False) if len(rows) else np.zeros(0, np.bool_)
    tied = np.flatnonzero(with_next | np.roll(with_next, 1))
    if len(tied):
        rivals = orders.select(["created_at", "order_id"]).take(pa.array(rows[tied]))
        ranked = pc.sort_indices(rivals, [("created_at", "ascending"), ("order_id", "ascending")]).to_numpy()
        places[tied] = tied[ranked]
    return places


def merge(published: pa.Table, incoming: pa.Table, replaces: Bools, leaving: pa.Array) -> Merged:
    """`published` and `incoming` are FACT tables, sorted; `incoming` holds the new versions. `replaces[i]`: the i-th incoming
    order is published in this partition. `leaving`: order_ids that go to another date."""
    old, new = _Grouped(published), _Grouped(incoming)
    gone = pa.concat_arrays([new.ids.filter(pa.array(replaces)), leaving.cast(new.ids.type)])
    stays = np.ones(len(old.ids), np.bool_)
    stays[_places_of(gone, old)] = False
    rows = _interleaved(old, np.flatnonzero(stays), new)
    fact = pa.concat_tables([published, incoming]).combine_chunks().take(pa.array(rows))
    return Merged(fact, totals(published), totals(fact))


def new_partition(incoming: pa.Table) -> Merged:
    """A new partition."""
    return Merged(incoming, EMPTY, totals(incoming))


def totals(fact: pa.Table) -> Totals:
    """Counts, and the exact sum, of FACT rows."""
    line_number = fact["line_number"].to_numpy()
    amounts = one_chunk(fact["amount"]).view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    orders, items = int(np.count_nonzero(line_number <= 1)), int(np.count_nonzero(line_number))
    high, low = (amounts >> 32).sum(), (amounts & 0xFFFFFFFF).sum()  # in two halves: their sums have room
    return Totals(orders, len(line_number), items, (int(high) << 32) + int(low))


class _Grouped:
    """A FACT table, seen as orders: order i has `lengths[i]` lines from starts[i] on."""

    def __init__(self, fact: pa.Table) -> None:
        self.fact = fact
        self.starts: Ints = np.flatnonzero(fact["line_number"].to_numpy() <= 1)
        self.lengths: Ints = np.diff(self.starts, append=fact.num_rows)
        firsts = fact.select(["created_at", "order_id"]).take(pa.array(self.starts))
        self.created_at, self.ids = one_chunk(firsts["created_at"]), one_chunk(firsts["order_id"])


def _places_of(order_ids: pa.Array, published: _Grouped) -> Ints:
    """Which of the published orders these are. Each must be there."""
    place = pc.index_in(order_ids, value_set=published.ids)
    if place.null_count:
        missing = order_ids.filter(place.is_null())[0].as_py()
        date = published.fact["date"][0].as_py() if published.fact.num_rows else "a date without rows"
        raise Corruption(
            f"the ledger places order {missing!r} on {date}, but that partition does not hold it; "
            "make the ledger and the partitions anew with `strandline rebuild`"
        )
    return place.to_numpy(zero_copy_only=False).astype(np.int64)


def _interleaved(old: _Grouped, stays: Ints, new: _Grouped) -> Ints:
    """Where the lines of some old and all new orders are, sorted; those of `new` follow all of `old`."""
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
