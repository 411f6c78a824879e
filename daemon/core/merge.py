"""One affected partition: its published rows and the new versions of some of its orders in, its next rows out. Pure.

Keyed, idempotent and deterministic: rows are sorted by (created_at, order_id, line_number), so that the same orders are
always the same table, however they came. Lines of one order always lie together and begin with line 1 (or 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from .errors import Corruption
from .facts import PartitionFiles
from .model import FACT, SCALE, Bools, Ints
from .parquet import Column, one_chunk


@dataclass(frozen=True, slots=True)
class Merged:
    """The next state of a partition. Where it is not `changed`, nothing must be written. `files`: its rows, where they are
    other than those that came."""

    changed: bool
    files: PartitionFiles | None
    unchanged: Bools  # by incoming order: known, and its content is what is published
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


def sorted_places(orders: pa.Table, rows: Ints) -> Ints:
    """The order in which these rows of an ORDERS table are sorted by (created_at, order_id), which is by date as well."""
    places = places_by_time(orders, rows)
    return places[places_within_instants(orders, rows[places])]


def places_by_time(orders: pa.Table, rows: Ints) -> Ints:
    """The order in which these rows are sorted by created_at alone; those of one instant come in any order."""
    return np.argsort(orders["created_at"].to_numpy()[rows])


def places_within_instants(orders: pa.Table, rows: Ints) -> Ints:
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


def merge(published: pa.Table, incoming: pa.Table, known: Bools, leaving: pa.Array) -> Merged:
    """`published` and `incoming` have the columns of FACT and are sorted; `incoming` holds the new versions. Texts that were
    published may be dictionaries. `known[i]`: the i-th incoming order is published in this partition. `leaving`: order_ids
    that go to another date."""
    old, new = _Grouped(published), _Grouped(incoming)
    unchanged = np.zeros(len(known), np.bool_)
    if known.any():
        unchanged[known] = _same(old, new, np.flatnonzero(known))
    changed = np.flatnonzero(~unchanged)
    before = totals(old.line_number, old.amounts)
    if not len(changed) and not len(leaving):
        return Merged(False, None, unchanged, before, before)
    replaced = new.ids.take(pa.array(np.flatnonzero(known & ~unchanged)))
    gone = pc.is_in(old.ids, value_set=pa.concat_arrays([replaced, leaving.cast(replaced.type)]))
    stays = np.flatnonzero(~gone.to_numpy(zero_copy_only=False))
    rows = _interleaved(old, stays, new, changed)
    line_number = np.concatenate([old.line_number, new.line_number])[rows]
    after = totals(line_number, np.concatenate([old.amounts, new.amounts])[rows])
    columns = [_joined(field, published[field.name], incoming[field.name], rows) for field in FACT]
    return Merged(True, PartitionFiles(columns, line_number), unchanged, before, after)


def _joined(field: pa.Field, old: pa.ChunkedArray, new: pa.ChunkedArray, rows: Ints) -> Column:
    """Some rows of two columns, one after the other."""
    first, second = one_chunk(old), one_chunk(new)
    if not pa.types.is_dictionary(first.type):
        return Column(field, pa.concat_arrays([first, second]), rows)
    values = first.dictionary.cast(field.type)
    places = first.indices.cast(pa.int64()).fill_null(-1).to_numpy()
    both = np.concatenate([places, np.arange(len(values), len(values) + len(second))])
    return Column(field, pa.concat_arrays([values, second]), both[rows])


def begun(line_number: NDArray[np.int32], amounts: Ints) -> Merged:
    """A new partition, of lines with these numbers and amounts (0 where unknown)."""
    after = totals(line_number, amounts)
    return Merged(after.orders > 0, None, np.zeros(after.orders, np.bool_), EMPTY, after)


def totals(line_number: NDArray[np.int32], amounts: Ints) -> Totals:
    """Counts, and the exact sum, of lines with these numbers and amounts (0 where unknown)."""
    orders, items = int(np.count_nonzero(line_number <= 1)), int(np.count_nonzero(line_number))
    high, low = (amounts >> 32).sum(), (amounts & 0xFFFFFFFF).sum()  # in two halves: their sums have room
    return Totals(orders, len(line_number), items, (int(high) << 32) + int(low))


class _Grouped:
    """A FACT table, seen as orders: order i has the lines starts[i] to stops[i]."""

    def __init__(self, fact: pa.Table) -> None:
        self.fact = fact
        self.line_number = fact["line_number"].to_numpy()
        self.amounts = one_chunk(fact["amount"]).view(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        self.starts: Ints = np.flatnonzero(self.line_number <= 1)
        self.stops: Ints = np.append(self.starts[1:], len(self.line_number))
        self.ids: pa.Array = _plain(one_chunk(fact["order_id"]).take(pa.array(self.starts)))
        self.created_at: pa.Array = one_chunk(fact["created_at"]).take(pa.array(self.starts))
        self.lengths: Ints = self.stops - self.starts

    def lines_of(self, orders: Ints) -> Ints:
        """The indexes of the lines of some orders, in the order given."""
        lengths = self.lengths[orders]
        ends = np.cumsum(lengths)
        return np.arange(ends[-1] if len(ends) else 0) + np.repeat(self.starts[orders] - (ends - lengths), lengths)


def _same(old: _Grouped, new: _Grouped, candidates: Ints) -> Bools:
    """For each candidate (an order of `new` that `old` has too): whether its lines are the same."""
    place = pc.index_in(new.ids.take(pa.array(candidates)), value_set=old.ids)
    if place.null_count:
        missing = new.ids.take(pa.array(candidates)).filter(place.is_null())[0].as_py()
        date = new.fact["date"][0].as_py()
        raise Corruption(
            f"the ledger places order {missing!r} on {date}, but that partition does not hold it; "
            "make the ledger and the partitions anew with `strandline rebuild`"
        )
    partner = place.to_numpy(zero_copy_only=False).astype(np.int64)
    same = old.lengths[partner] == new.lengths[candidates]
    mine, theirs = candidates[same], partner[same]
    lengths = new.lengths[mine]
    left, right = new.fact.take(new.lines_of(mine)), old.fact.take(old.lines_of(theirs))
    differs = np.zeros(left.num_rows, np.bool_)
    for name in FACT.names:
        differs |= _differs(left[name], _plain(one_chunk(right[name])))
    running = np.concatenate([np.zeros(1, np.int64), np.cumsum(differs)])
    stops = np.cumsum(lengths)
    same[same] = running[stops] == running[stops - lengths]
    return same


def _plain(texts: pa.Array) -> pa.Array:
    """An array that may be a dictionary, as its values."""
    return texts.dictionary_decode().cast(pa.large_string()) if pa.types.is_dictionary(texts.type) else texts


def _differs(left: pa.ChunkedArray, right: pa.Array) -> Bools:
    """Where two columns differ; NULL is the same as NULL."""
    unequal = pc.fill_null(pc.not_equal(left, right), False)
    return pc.or_(unequal, pc.xor(left.is_null(), right.is_null())).to_numpy()


def _interleaved(old: _Grouped, stays: Ints, new: _Grouped, changed: Ints) -> Ints:
    """Where the lines of some old and some new orders are, sorted; those of `new` follow all of `old`."""
    both = pa.table(
        [
            pa.concat_arrays([ours.take(pa.array(stays)), theirs.take(pa.array(changed))])
            for ours, theirs in ((old.created_at, new.created_at), (old.ids, new.ids))
        ],
        ["created_at", "order_id"],
    )
    ranked = pc.sort_indices(both, [("created_at", "ascending"), ("order_id", "ascending")]).to_numpy()
    first_lines = np.concatenate([old.starts[stays], new.starts[changed] + old.fact.num_rows])[ranked]
    lengths = np.concatenate([old.lengths[stays], new.lengths[changed]])[ranked]
    ends = np.cumsum(lengths)
    return np.arange(ends[-1] if len(ends) else 0) + np.repeat(first_lines - (ends - lengths), lengths)
