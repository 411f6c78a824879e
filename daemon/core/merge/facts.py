"""Orders to order lines: the fact table, with the amount of each order allocated exactly. Pure.

The amount of an order is allocated to its lines by weight |qty × price|, so that SUM(amount) is right by order, sku, user and
date. With W_k the sum of the first k weights, line k gets R(A·W_k/W) − R(A·W_(k−1)/W), where R rounds half away from zero to
four decimals: the differences add up to A exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ..columns import EXTRA, TYPES, columns_of, fact_schema
from ..mapping import Columns
from ..model import FACT, ITEMS, Ints, dates_of
from ..native import bindings
from ..parquet import encode


def gathered(orders: pa.Table, rows: Ints) -> tuple[pa.Table, Ints]:
    """A table in one chunk that has these rows, and their indexes in it.

    Each chunk was sorted by time when it was parsed, so the rows of some dates are in a short range of it. Only these ranges are
    copied, which is much less than all chunks.
    """
    if not len(rows):
        return orders.slice(0, 0).combine_chunks(), rows
    batches = orders.to_batches()
    bounds = np.cumsum([0, *map(len, batches)])
    ordered = np.sort(rows)
    edges = np.searchsorted(ordered, bounds)
    chunks = np.flatnonzero(edges[1:] > edges[:-1])
    first = ordered[edges[chunks]]
    length = ordered[edges[chunks + 1] - 1] + 1 - first
    places = zip(chunks.tolist(), (first - bounds[chunks]).tolist(), length.tolist(), strict=True)
    ranges = [batches[chunk].slice(start, count) for chunk, start, count in places]
    moved = np.zeros(len(bounds), np.int64)
    moved[chunks] = np.cumsum(length) - length - first
    return pa.Table.from_batches(ranges).combine_chunks(), rows + moved[np.searchsorted(bounds, rows, "right") - 1]


@dataclass(frozen=True)
class Lines:
    """The order lines of some orders, in order: one for each item, or one for an order without items."""

    orders: pa.Table  # ORDERS, each column in one chunk
    of_order: Ints  # for each line, the row of its order in `orders`
    item: Ints  # for each line, the index of its item among all items of `orders`; -1: none
    line_number: NDArray[np.int32]  # from 1; 0: an order without items
    amount: pa.Array  # int64, 1/10,000: the share of the amount of the order
    starts: Ints  # the first line of each order, then the number of lines

    @cached_property
    def _order_indexes(self) -> pa.Array:
        return pa.array(self.of_order)

    @cached_property
    def _item_indexes(self) -> pa.Array:
        return pa.array(self.item, mask=self.item < 0)

    def _column(self, name: str) -> tuple[pa.Array, pa.Array | None]:
        """The values of a column of FACT, and for each line the index of its value (NULL: none; None: line i has value i)."""
        match name:
            case "sku" | "qty" | "price":
                return _items(self.orders).field(name), self._item_indexes
            case "amount":
                return self.amount, None
            case "line_number":
                return pa.array(self.line_number), None
            case "date":
                return pa.array(dates_of(self.orders["created_at"].to_numpy())), self._order_indexes
            case _:
                return one_chunk(self.orders[name]), self._order_indexes

    def table(self, columns: Columns = ()) -> pa.Table:
        """The lines as a FACT table, with these extra columns."""
        schema = fact_schema(columns)
        there = [(field, EXTRA + field.name) for field in schema if EXTRA + field.name in self.orders.schema.names]
        extra = {field.name: _taken(field, one_chunk(self.orders[name]), self._order_indexes) for field, name in there}
        nulls = {name: pa.nulls(len(self.of_order), TYPES[kind]) for name, kind in columns if name not in extra}
        fixed = {field.name: _taken(field, *self._column(field.name)) for field in FACT}
        return pa.table([{**fixed, **extra, **nulls}[name] for name in schema.names], schema=schema)

    def unknown(self, key: str, known: pa.Array) -> NDArray[np.bool_]:
        """By order: whether any of its lines has a key (`user_id`, `sku`) that is not known. NULL is not a key."""
        array, _ = self._column(key)
        unknown = pc.is_valid(array)
        if len(known):
            unknown = pc.and_not(unknown, pc.is_in(array, value_set=known))
        flags = np.append(unknown.to_numpy(zero_copy_only=False), False)  # index -1: no item, no key
        lines = flags[self.item if key == "sku" else self.of_order]
        return np.logical_or.reduceat(lines, self.starts[:-1]) if len(lines) else lines


def lines_of(orders: pa.Table, rows: Ints) -> Lines:
    """The lines of some rows of an ORDERS table in one chunk (see `gathered`)."""
    offsets = one_chunk(orders["items"]).offsets.to_numpy()
    first_item, counts = offsets[rows], offsets[rows + 1] - offsets[rows]
    lines = np.maximum(counts, 1)
    starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(lines)])
    number = np.arange(starts[-1]) - np.repeat(starts[:-1], lines)
    item, line_number = np.repeat(first_item, lines) + number, number + 1
    without = starts[:-1][counts == 0]
    item[without], line_number[without] = -1, 0
    amount = _amounts(orders["amount"].take(pa.array(rows)), _items(orders), item, starts[1:])
    return Lines(orders, np.repeat(rows, lines), item, line_number.astype(np.int32), amount, starts)


def files_of(fact: pa.Table) -> tuple[pa.Buffer, pa.Buffer]:
    """The two files of a partition with these FACT rows: the order lines, and the items as the source has them."""
    items = fact.select(ITEMS.names)
    has_item = fact["line_number"].to_numpy() > 0
    texts = [name for name, kind in columns_of(fact.schema) if kind == "text"]
    return encode(fact, texts), encode(items if has_item.all() else items.filter(pa.array(has_item)))


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array. Copied only if it has several chunks."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], column.type), *column.chunks])


def _items(orders: pa.Table) -> pa.StructArray:
    return one_chunk(orders["items"]).values


def _taken(field: pa.Field, array: pa.Array, indexes: pa.Array | None) -> pa.Array:
    if indexes is not None:
        array = pc.take(array, indexes, boundscheck=False)
    return array if array.type == field.type else array.view(field.type)


def _amounts(amount: pa.ChunkedArray, items: pa.StructArray, item: Ints, stops: Ints) -> pa.Array:
    """The share of each line (int64, 1/10,000) in the amount of its order. `stops[i]`: the end of the lines of order i."""
    values = amount.fill_null(0).to_numpy()
    null = amount.is_null().to_numpy()
    shares = allocate(values, _weights(items.field("qty"), item), _weights(items.field("price"), item), stops)
    if not null.any():
        return pa.array(shares)
    lines = np.diff(stops, prepend=0)
    return pa.array(shares, mask=np.repeat(null, lines))


def _weights(numbers: pa.Array, item: Ints) -> Ints:
    """The absolute number of each line; 0 where it is unknown."""
    sizes = np.append(np.abs(numbers.fill_null(0).to_numpy(zero_copy_only=False)), 0)  # index -1: no item
    return sizes[item]


def allocate(amount: Ints, qty: Ints, price: Ints, stops: Ints) -> Ints:
    """Allocates `amount[i]` to the lines up to `stops[i]` by weight `qty × price` (neither is negative; int64, 1/10,000)."""
    shares, huge = bindings.allocate(amount, qty, price, stops)
    starts = stops - np.diff(stops, prepend=0)
    for order in huge.tolist():
        span = slice(int(starts[order]), int(stops[order]))
        shares[span] = _allocate_exactly(int(amount[order]), qty[span].tolist(), price[span].tolist())
    return shares


def _allocate_exactly(amount: int, qty: list[int], price: list[int]) -> list[int]:
    weights = [q * p for q, p in zip(qty, price, strict=True)]
    total, running, given, shares = sum(weights), 0, 0, []
    for weight in weights:
        running += weight
        upto = (2 * abs(amount) * running + total) // (2 * total)
        shares.append((upto - given) * (-1 if amount < 0 else 1))
        given = upto
    return shares
