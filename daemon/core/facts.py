"""Orders to order lines: the star-schema fact, with each order's amount allocated exactly. Pure.

The amount of an order is spread over its lines by weight |qty × price|, so that SUM(amount) is right by order, sku, user
and date alike. With W_k the sum of the first k weights, line k gets R(A·W_k/W) − R(A·W_(k−1)/W), R rounding half away from
zero to four decimals: the differences add up to A exactly.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from . import native
from .model import FACT, ITEMS, Ints, dates_of
from .native import take_texts


def gathered(orders: pa.Table, rows: Ints) -> tuple[pa.Table, Ints]:
    """A table in one chunk that has these rows, and where they are in it.

    The rows of some dates lie in a short stretch of each chunk, since each was sorted by time when it was parsed. Those
    stretches are put together, which is much less to go through than all chunks.
    """
    bounds = np.cumsum([0, *(len(chunk) for chunk in orders["drop"].chunks)])
    ordered = np.sort(rows)
    edges = np.searchsorted(ordered, bounds)
    stretches, places, base = [orders.slice(0, 0)], rows.copy(), 0
    for chunk in np.flatnonzero(edges[1:] > edges[:-1]).tolist():
        first, last = int(ordered[edges[chunk]]), int(ordered[edges[chunk + 1] - 1])
        stretches.append(orders.slice(first, last + 1 - first))
        places[(rows >= first) & (rows <= last)] += base - first
        base += last + 1 - first
    return pa.concat_tables(stretches).combine_chunks(), places


def flatten(orders: pa.Table, rows: Ints) -> pa.Table:
    """The FACT rows of some rows of an ORDERS table in one chunk (see `gathered`), in the order given: one for each item, or
    one for an order without. Each value is gathered once, straight to its place among the lines."""
    lists = orders["items"].chunk(0) if orders["items"].num_chunks else pa.array([], orders["items"].type)
    offsets = lists.offsets.to_numpy()
    first_item, counts = offsets[rows], offsets[rows + 1] - offsets[rows]
    lines = np.maximum(counts, 1)
    stops = np.cumsum(lines)
    of_order = np.repeat(rows, lines)
    line_number = np.arange(len(of_order)) - np.repeat(stops - lines, lines) + 1
    line_number[stops[counts == 0] - 1] = 0
    items = _items_by_line(lists, np.repeat(first_item, lines) + line_number - 1, line_number == 0)
    created_at = orders["created_at"].to_numpy()[of_order]

    def text(name: str) -> pa.Array:
        return take_texts(orders[name].combine_chunks(), of_order)

    columns = {
        "order_id": text("order_id"),
        "user_id": text("user_id"),
        "sku": items["sku"],
        "amount": _amounts(orders["amount"].take(pa.array(rows)), items, stops).view(FACT.field("amount").type),
        "qty": items["qty"].view(FACT.field("qty").type),
        "price": items["price"].view(FACT.field("price").type),
        "created_at": pa.array(created_at).view(FACT.field("created_at").type),
        "date": pa.array(dates_of(created_at)).view(pa.date32()),
        "line_number": pa.array(line_number.astype(np.int32)),
        "currency": text("currency"),
        "updated_at": orders["updated_at"]
        .combine_chunks()
        .take(pa.array(of_order))
        .view(FACT.field("updated_at").type),
        "metadata": text("metadata"),
    }
    return pa.table([columns[name] for name in FACT.names], schema=FACT)


def unknown_keys(fact: pa.Table, starts: Ints, column: str, known: pa.Array) -> NDArray[np.bool_]:
    """By order (`starts`: their first lines): whether any of its lines has a key that is not known. NULL is no key."""
    if not len(starts):
        return np.zeros(0, np.bool_)
    unknown = pc.is_valid(fact[column])
    if len(known):
        unknown = pc.and_not(unknown, pc.is_in(fact[column], value_set=known))
    return np.logical_or.reduceat(unknown.to_numpy(), starts)


def items_of(fact: pa.Table) -> pa.Table:
    """The ITEMS rows that a FACT table holds: the items as the API gave them."""
    has_item = pc.greater(fact["line_number"], 0)
    return (fact if pc.all(has_item).as_py() is not False else fact.filter(has_item)).select(ITEMS.names)


def _items_by_line(lists: pa.LargeListArray, item: Ints, without: NDArray[np.bool_]) -> dict[str, pa.Array]:
    """The item of each line as three flat columns; NULLs where the order has none."""
    indexes = pa.array(np.where(without, 0, item), mask=without) if without.any() else pa.array(item)
    values = lists.values
    numbers = {name: values.field(name).take(indexes) for name in ("qty", "price")}
    if without.any():
        return numbers | {"sku": values.field("sku").take(indexes)}
    return numbers | {"sku": take_texts(values.field("sku"), item)}


def _amounts(amount: pa.ChunkedArray, items: dict[str, pa.Array], stops: Ints) -> pa.Array:
    """Each line's share of its order's amount (int64, 1/10,000); `stops[i]` is where the lines of order i end."""
    values = amount.fill_null(0).to_numpy()
    null = amount.is_null().to_numpy()
    qty = np.abs(items["qty"].fill_null(0).to_numpy(zero_copy_only=False))
    price = np.abs(items["price"].fill_null(0).to_numpy(zero_copy_only=False))
    shares = allocate(values, qty, price, stops)
    if not null.any():
        return pa.array(shares)
    lines = np.diff(stops, prepend=0)
    return pa.array(shares, mask=np.repeat(null, lines))


def allocate(amount: Ints, qty: Ints, price: Ints, stops: Ints) -> Ints:
    """Spreads `amount[i]` over the lines up to `stops[i]` by weight `qty × price` (both not negative; int64, 1/10,000)."""
    shares, huge = native.allocate(amount, qty, price, stops)
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
