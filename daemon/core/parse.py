"""The parse room: the bytes of drops in, typed orders and counted discards out. Pure: the same bytes, the same answer.

Two lanes, one answer. The fast lane (`scan.c`) takes all records of a piece at once, and reads those that are spelled in
the usual ways straight into typed columns. Records it does not vouch for, for whatever reason, go one by one through the
strict lane (`strict`), which is the authority. How many take which lane changes the speed and nothing else; a property test
holds that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from . import native, strict
from .documents import Form, Records, split
from .errors import Unreadable
from .keyed import identified
from .model import ITEM_TYPE, LAST_INSTANT, ORDERS, Bools, Discard, Ints, Judge, Parsed, Reason, Tally, concat_orders
from .native import Scanned


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of one drop: all of it, or a part that can be split by itself."""

    drop: int
    data: bytes
    judge: Judge
    form: Form = Form.WHOLE


def parse(pieces: Sequence[Piece], *, strict_only: bool = False) -> Parsed:
    """Reads pieces of drops. `position` counts from 1 within each piece. Raises documents.WrongCut where a piece of an
    array did not hold whole elements. `strict_only` sends every record through the strict lane."""
    readable: list[Piece] = []
    found: list[Records] = []
    unreadable: dict[int, str] = {}
    for piece in pieces:
        try:
            found.append(split(piece.data, piece.form, piece.judge.records_path))
            readable.append(piece)
        except Unreadable as error:
            unreadable[piece.drop] = str(error)
    sizes = np.array([len(records) for records in found], np.int64)
    orders, discards, tallies = _read(readable, Records.chained(found), sizes, strict_only)
    return Parsed(orders, discards, tallies, unreadable)


def _read(
    pieces: Sequence[Piece], records: Records, sizes: Ints, strict_only: bool
) -> tuple[pa.Table, list[Discard], dict[int, Tally]]:
    piece_of = np.repeat(np.arange(len(pieces)), sizes)
    position = np.arange(len(records)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 1
    tallies = {piece.drop: Tally(extracted=int(size)) for piece, size in zip(pieces, sizes, strict=True)}

    read = _fast(records, pieces, piece_of, position) if not strict_only else _nothing(records)
    for index, count in _tallied(piece_of[read.before_since]):
        tallies[pieces[index].drop].before_since += count
    odd = np.flatnonzero(~read.vouched).tolist()
    strict_orders, discards = _strict(records, odd, pieces, piece_of, position, tallies)
    return concat_orders([read.orders, _by_time(strict_orders)]), discards, tallies


def _by_time(orders: pa.Table) -> pa.Table:
    """Sorted by time, so that the rows of one date lie close together when partitions are written."""
    return orders.take(pa.array(np.argsort(orders["created_at"].to_numpy(), kind="stable")))


def _tallied(indexes: Ints) -> list[tuple[int, int]]:
    values, counts = np.unique(indexes, return_counts=True)
    return list(zip(values.tolist(), counts.tolist(), strict=True))


# ---------------------------------------------------------------------------------------------------- the fast lane


@dataclass(frozen=True, slots=True)
class _Clean:
    """What the fast lane read: `orders` has the vouched records that are not before `since`, by time."""

    orders: pa.Table
    vouched: Bools
    before_since: Bools


def _nothing(records: Records) -> _Clean:
    none = np.zeros(len(records), np.bool_)
    return _Clean(ORDERS.empty_table(), none, none)


def _fast(records: Records, pieces: Sequence[Piece], piece_of: Ints, position: Ints) -> _Clean:
    """All records at once."""
    if not len(records):
        return _nothing(records)
    latest = np.array([piece.judge.latest_instant for piece in pieces], np.int64)[piece_of]
    since = np.array([piece.judge.since or 0 for piece in pieces], np.int64)[piece_of]
    until = np.array([_until(piece.judge) for piece in pieces], np.int64)[piece_of]
    drop = np.array([piece.drop for piece in pieces], np.int64)[piece_of]
    with native.scanned(records.blob, records.starts, records.stops) as read:
        created_at, updated_at = read.numbers["created_at"].values, read.numbers["updated_at"].values
        vouched = ~read.odd & (created_at <= latest) & (updated_at <= latest)
        before_since = vouched & (created_at < since)
        taken = np.flatnonzero(vouched & (created_at >= since) & (created_at < until))
        order = taken[np.argsort(created_at[taken], kind="stable")]
        return _Clean(_orders(read, order, drop[order], position[order]), vouched, before_since)


def _until(judge: Judge) -> int:
    return LAST_INSTANT + 1 if judge.until is None else judge.until


def _orders(read: Scanned, order: Ints, drop: Ints, position: Ints) -> pa.Table:
    """ORDERS rows out of some records, in this order."""
    columns = {name: numbers.take(order) for name, numbers in read.numbers.items() if name in ORDERS.names}
    columns |= {name: texts.take(order) for name, texts in read.texts.items() if name in ORDERS.names}
    columns["drop"], columns["position"] = pa.array(drop), pa.array(position)
    columns["items"] = _items(read, order)
    return identified(columns)


def _items(read: Scanned, order: Ints) -> pa.Array:
    """The items of some records, in this order, as a list array."""
    counts = read.items[order + 1] - read.items[order]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    chosen = np.arange(offsets[-1]) + np.repeat(read.items[order] - offsets[:-1], counts)
    sku, qty, price = read.texts["sku"], read.numbers["qty"], read.numbers["price"]
    values = [column.take(chosen) for column in (sku, qty, price)]
    return pa.LargeListArray.from_arrays(pa.array(offsets), pa.StructArray.from_arrays(values, fields=list(ITEM_TYPE)))


# -------------------------------------------------------------------------------------------------- the strict lane


def _strict(
    records: Records,
    odd: Sequence[int],
    pieces: Sequence[Piece],
    piece_of: NDArray[np.int64],
    position: Ints,
    tallies: dict[int, Tally],
) -> tuple[pa.Table, list[Discard]]:
    rows: list[tuple[int, int, strict.Order]] = []
    discards: list[Discard] = []
    for index in odd:
        piece, record = pieces[piece_of[index]], records[index]
        tally, place = tallies[piece.drop], int(position[index])
        read = strict.read_record(record, piece.judge)
        if isinstance(read, Reason):
            tally.discarded[read] += 1
            discards.append(Discard(piece.drop, place, read, record.decode(errors="replace")))
        elif piece.judge.since is not None and read.created_at < piece.judge.since:
            tally.before_since += 1
        elif read.created_at < _until(piece.judge):
            tally.faults += read.faults
            rows.append((piece.drop, place, read))
    return _table(rows), discards


def _table(rows: Sequence[tuple[int, int, strict.Order]]) -> pa.Table:
    orders = [order for _, _, order in rows]

    def column(read: Callable[[strict.Order], object]) -> list[object]:
        return [read(order) for order in orders]

    columns = {
        "drop": [drop for drop, _, _ in rows],
        "position": [place for _, place, _ in rows],
        "items": column(lambda o: [{"sku": i.sku, "qty": i.qty, "price": i.price} for i in o.items]),
    }
    for name in ("order_id", "created_at", "updated_at", "user_id", "amount", "currency", "metadata"):
        columns[name] = [getattr(order, name) for order in orders]
    return identified({name: pa.array(values, ORDERS.field(name).type) for name, values in columns.items()})
