"""The parse room: the bytes of drops in, typed orders and counted discards out. Pure: the same bytes, the same answer.

Two lanes, one answer. The fast lane (`scan.c`) takes all records of a piece at once, and reads those that are spelled in
the usual ways straight into typed columns. Records it does not vouch for, for whatever reason, go one by one through the
strict lane (`strict`), which is the authority. How many take which lane changes the speed and nothing else; a property test
holds that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..errors import Unreadable
from ..merge.keys import identified
from ..model import (  # fmt: skip
    ITEM_TYPE,
    LAST_INSTANT,
    NO_ORDER,
    ORDERS,
    Bools,
    Ints,
    ParseContext,
    Parsed,
    Reason,
    Tally,
    concat_orders,
)
from ..native import bindings
from ..native.bindings import Scanned
from . import reference
from .discards import Discards, kept
from .documents import Form, Records, split
from .nested import Inside, inside
from .refusals import refused

# So many are read together: more than a piece of orders holds, since each takes some 40 bytes. It bounds what junk needs.
_BLOCK_RECORDS = 1 << 17


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of one drop: all of it, or a part that can be split by itself."""

    drop: int
    data: bytes
    context: ParseContext
    form: Form = Form.WHOLE


def parse(pieces: Sequence[Piece], *, reference_only: bool = False, refusing: bool = True) -> Parsed:
    """Reads pieces of drops. `position` counts from 1 within each piece. Raises documents.WrongCut where a piece of an
    array did not hold whole elements. `reference_only` sends every record through the strict lane. `refusing`: whether a whole
    drop is unreadable that has records and no order."""
    readable: list[Piece] = []
    found: list[Records] = []
    unreadable: dict[int, str] = {}
    alone = len(pieces) == 1 and not reference_only  # many pieces are chained, and the fast lane takes them at once
    for piece in pieces:
        try:
            found.append(split(piece.data, piece.form, piece.context.records_path, alone))
            readable.append(piece)
        except Unreadable as error:
            unreadable[piece.drop] = str(error)
    read = _read_opened(readable, found, unreadable, reference_only)
    return refused(read, {piece.drop for piece in pieces if piece.form is Form.WHOLE}) if refusing else read


@dataclass(frozen=True, slots=True)
class _Block:
    """Some records that are read together: of which piece each is, and where it stands in that."""

    records: Records
    piece_of: Ints
    position: Ints


def _blocks(records: Records, sizes: Ints) -> Iterator[_Block]:
    """All records, a bounded number at a time; unless the fast lane has read them already."""
    ends = np.cumsum(sizes)
    together = _BLOCK_RECORDS if records.scanned is None else len(records)
    for first in range(0, len(records), together or 1):
        stop = min(first + together, len(records))
        places = np.arange(first, stop)
        piece_of = np.searchsorted(ends, places, side="right")
        position = places - (ends - sizes)[piece_of] + 1
        yield _Block(records.between(first, stop), piece_of, position)


@dataclass
class _Found:
    """What reading some pieces gives, but for the orders. `opened`: by piece, what some of its records hold instead of an
    order, by their index."""

    tallies: dict[int, Tally]
    discards: Discards = field(default_factory=Discards)
    opened: dict[int, dict[int, Inside]] | None = None


def _read_opened(
    pieces: Sequence[Piece],
    found: Sequence[Records],
    unreadable: Mapping[int, str],
    reference_only: bool = False,
) -> Parsed:
    """What the records of each piece say. Where some hold others, these are opened, and all is read once more."""
    read, opened = _read(pieces, found, unreadable, reference_only, look_inside=True)
    strays = {drop: tally.no_orders for drop, tally in read.tallies.items()}
    if opened:
        found = [one.with_opened(opened[i]) if i in opened else one for i, one in enumerate(found)]
        read, _ = _read(pieces, found, unreadable, reference_only)
    for index, held in opened.items():
        read.tallies[pieces[index].drop].pages = sum(one.is_page for one in held.values())
    for drop, count in strays.items():
        read.tallies[drop].strays = count
    return read


def _read(
    pieces: Sequence[Piece],
    found: Sequence[Records],
    unreadable: Mapping[int, str],
    reference_only: bool,
    look_inside: bool = False,
) -> tuple[Parsed, dict[int, dict[int, Inside]]]:
    sizes = np.array([len(records) for records in found], np.int64)
    tallies = {piece.drop: Tally(extracted=int(size)) for piece, size in zip(pieces, sizes, strict=True)}
    into = _Found(tallies, opened={} if look_inside else None)
    orders: list[pa.Table] = []
    for block in _blocks(Records.chained(found), sizes):
        orders += _orders_of(block, pieces, into, reference_only)
    return Parsed(concat_orders(orders), into.discards.table(), tallies, dict(unreadable)), into.opened or {}


def _orders_of(block: _Block, pieces: Sequence[Piece], into: _Found, reference_only: bool = False) -> list[pa.Table]:
    """The orders of a block, of each lane by time; adds the rest to `into`."""
    read = _fast(block, pieces) if not reference_only else _nothing(block.records)
    for index, count in _tallied(block.piece_of[read.before_since]):
        into.tallies[pieces[index].drop].before_since += count
    for index, count in _tallied(block.piece_of[read.bare]):
        into.tallies[pieces[index].drop].bare += count
    odd = np.flatnonzero(~read.vouched).tolist()
    orders = _by_time(_strict(block, odd, pieces, into))
    _name_bare_keys(block, read.bare, pieces, into)
    return [read.orders, orders]


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
    bare: Bools  # orders with neither amount nor items, and with other keys


def _nothing(records: Records) -> _Clean:
    none = np.zeros(len(records), np.bool_)
    return _Clean(ORDERS.empty_table(), none, none, none)


def _fast(block: _Block, pieces: Sequence[Piece]) -> _Clean:
    """All records of a block at once."""
    records = block.records

    def of_piece(values: list[int]) -> Ints:
        return np.array(values, np.int64)[block.piece_of]

    latest = of_piece([piece.context.latest_instant for piece in pieces])
    since = of_piece([piece.context.since or 0 for piece in pieces])
    until = of_piece([_until(piece.context) for piece in pieces])
    drop = of_piece([piece.drop for piece in pieces])
    read = records.scanned or bindings.scanned(records.blob, records.starts, records.stops)
    created_at, updated_at = read.numbers["created_at"].values, read.numbers["updated_at"].values
    vouched = ~read.odd & (created_at <= latest) & (updated_at <= latest)
    before_since = vouched & (created_at < since)
    is_taken = vouched & (created_at >= since) & (created_at < until)
    taken = np.flatnonzero(is_taken)
    order = taken[np.argsort(created_at[taken], kind="stable")]
    return _Clean(_orders(read, order, drop, block.position), vouched, before_since, is_taken & read.bare)


def _until(context: ParseContext) -> int:
    return LAST_INSTANT + 1 if context.until is None else context.until


def _orders(read: Scanned, order: Ints, drop: Ints, position: Ints) -> pa.Table:
    """ORDERS rows out of some records, in this order."""
    columns = {name: column.array() for name, column in (read.numbers | read.texts).items()}
    items = [columns.pop(name) for name in ITEM_TYPE.names]
    columns["items"] = pa.LargeListArray.from_arrays(
        pa.array(read.items), pa.StructArray.from_arrays(items, fields=list(ITEM_TYPE))
    )
    columns |= {"drop": pa.array(drop), "position": pa.array(position)}
    taken = pa.RecordBatch.from_pydict(columns).take(pa.array(order))
    return identified(dict(zip(columns, taken.columns, strict=True)))


# -------------------------------------------------------------------------------------------------- the strict lane


def _strict(block: _Block, odd: Sequence[int], pieces: Sequence[Piece], into: _Found) -> pa.Table:
    """The orders among the odd records of a block; adds the rest to `into`."""
    rows: list[tuple[int, int, reference.Order]] = []
    piece_of, position = block.piece_of[odd].tolist(), block.position[odd].tolist()
    for index, of_piece, place in zip(odd, piece_of, position, strict=True):
        piece, record = pieces[of_piece], block.records[index]
        tally = into.tallies[piece.drop]
        read = reference.read_record(record, piece.context)
        if isinstance(read, Reason):
            if into.opened is not None and read in NO_ORDER and (held := inside(record, piece.context.records_path)):
                into.opened.setdefault(of_piece, {})[place - 1] = held
                continue
            tally.discarded[read] += 1
            into.discards.add(piece.drop, place, read, kept(record, read))
        elif piece.context.since is not None and read.created_at < piece.context.since:
            tally.before_since += 1
        elif read.created_at < _until(piece.context):
            tally.faults += read.faults
            if read.other_keys:
                tally.bare += 1
                tally.note_bare(place, read.other_keys)
            rows.append((piece.drop, place, read))
    return _table(rows)


def _name_bare_keys(block: _Block, bare: Bools, pieces: Sequence[Piece], into: _Found) -> None:
    """Which keys the first such order of each piece has: to name them is enough to tell what is wrong."""
    found = np.flatnonzero(bare)
    for of_piece, first in zip(*np.unique(block.piece_of[found], return_index=True), strict=True):
        index, piece = int(found[first]), pieces[of_piece]
        order = reference.read_record(block.records[index], piece.context)
        assert isinstance(order, reference.Order), "the fast lane vouched for it"
        into.tallies[piece.drop].note_bare(int(block.position[index]), order.other_keys)


def _table(rows: Sequence[tuple[int, int, reference.Order]]) -> pa.Table:
    orders = [order for _, _, order in rows]

    def column(read: Callable[[reference.Order], object]) -> list[object]:
        return [read(order) for order in orders]

    columns = {
        "drop": [drop for drop, _, _ in rows],
        "position": [place for _, place, _ in rows],
        "items": column(lambda o: [{"sku": i.sku, "qty": i.qty, "price": i.price} for i in o.items]),
    }
    for name in ("order_id", "created_at", "updated_at", "user_id", "amount", "currency", "metadata"):
        columns[name] = [getattr(order, name) for order in orders]
    return identified({name: pa.array(values, ORDERS.field(name).type) for name, values in columns.items()})
