"""Bytes of drops in, typed orders and counted discards out. Pure: the same bytes give the same result.

The fast path (native/scan.c) reads all records of a piece at once, those with usual spellings straight into typed columns. The
reference parser reads each record that the fast path refuses. How many records take which path changes the speed and nothing
else; a property test holds that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from ..columns import EXTRA, TYPES
from ..errors import Unreadable
from ..mapping import FieldMapping
from ..merge.keys import with_hashes
from ..model import (  # fmt: skip
    ITEM_TYPE,
    LAST_INSTANT,
    NO_ORDER,
    ORDERS,
    PARENT_KEY,
    SAMPLES,
    Bools,
    Ints,
    ParseContext,
    Parsed,
    Reason,
    Tally,
    concat_orders,
)
from ..native import bindings
from ..native.bindings import Numbers, Scanned
from . import bare, reference
from .discards import Discards, kept
from .documents import Form, Records, split
from .hidden import is_cut, may_hold_orders
from .mapped import in_major_units, read_record
from .nested import Contents, contents_of
from .refusals import refused
from .shapes import SAMPLED_RECORDS, keys_of_records
from .texts import members_of

# Read together: more than a piece of orders holds, since an order takes at least 40 bytes. It bounds the memory of junk.
_BLOCK_RECORDS = 1 << 17


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of one drop: all of it, or a part that can be split into records alone."""

    drop: int
    data: bytes
    context: ParseContext
    form: Form = Form.WHOLE
    is_first: bool = True  # its first records are those of the drop


def parse(pieces: Sequence[Piece], *, reference_only: bool = False, refusing: bool = True) -> Parsed:
    """Parses pieces of drops. `position` counts from 1 within each piece. Raises documents.WrongCut where a piece of an array
    does not hold whole elements. `reference_only`: the reference parser reads every record. `refusing`: a whole drop that has
    records but no order is unreadable."""
    readable: list[Piece] = []
    found: list[Records] = []
    unreadable: dict[int, str] = {}
    alone = len(pieces) == 1 and not reference_only  # many pieces are joined first, and scanned at once
    for piece in pieces:
        try:
            context = piece.context
            scan = alone and bindings.is_mappable(context.mapping)
            found.append(split(piece.data, piece.form, context.records_path, scan, context.mapping))
            readable.append(piece)
        except Unreadable as error:
            unreadable[piece.drop] = str(error)
    read = _read_opened(readable, found, unreadable, reference_only)
    return refused(read, {piece.drop for piece in pieces if piece.form is Form.WHOLE}) if refusing else read


def first_records(piece: Piece, most: int) -> list[bytes]:
    """The first records of a piece, as `parse` finds them. Raises Unreadable where it has none, and WrongCut."""
    context = piece.context
    records = split(piece.data, piece.form, context.records_path, mapping=context.mapping)
    found: list[bytes] = []
    for index in range(len(records)):
        if len(found) >= most:
            break
        record = records[index]
        read, _ = read_record(record, context)
        may_hold = isinstance(read, Reason) and read in NO_ORDER
        held = contents_of(record, context.records_path, context.mapping) if may_hold else None
        found += held.texts if held else [record]
    return found[:most]


@dataclass(frozen=True, slots=True)
class _Block:
    """Some records under one mapping that are read together, with the piece that each is from and its position there."""

    records: Records
    mapping: FieldMapping
    piece_of: Ints
    position: Ints


def _blocks(found: Sequence[Records], pieces: Sequence[Piece]) -> Iterator[_Block]:
    """All records, a bounded number at a time, unless the fast path has read them already."""
    of_mapping: dict[FieldMapping, list[int]] = {}
    for index, piece in enumerate(pieces):
        of_mapping.setdefault(piece.context.mapping, []).append(index)
    for mapping, indexes in of_mapping.items():
        records = Records.chained([found[index] for index in indexes])
        sizes = np.array([len(found[index]) for index in indexes], np.int64)
        ends = np.cumsum(sizes)
        together = _BLOCK_RECORDS if records.scanned is None else len(records)
        for first in range(0, len(records), together or 1):
            stop = min(first + together, len(records))
            numbers = np.arange(first, stop)
            group = np.searchsorted(ends, numbers, side="right")
            position = numbers - (ends - sizes)[group] + 1
            yield _Block(records.between(first, stop), mapping, np.array(indexes, np.int64)[group], position)


@dataclass
class _Found:
    """What parsing some pieces gives, except the orders. `opened`: by piece, the contents of records that hold other records,
    by their index. None: do not look for these. `malformed`: records of the last block that are no JSON objects, by index."""

    tallies: dict[int, Tally]
    discards: Discards = field(default_factory=Discards)
    opened: dict[int, dict[int, Contents]] | None = None
    malformed: list[int] = field(default_factory=list)


def _read_opened(
    pieces: Sequence[Piece],
    found: Sequence[Records],
    unreadable: Mapping[int, str],
    reference_only: bool = False,
) -> Parsed:
    """Parses the records of each piece. Where some hold other records, these take their place, and all is parsed again."""
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
) -> tuple[Parsed, dict[int, dict[int, Contents]]]:
    tallies = {
        piece.drop: Tally(len(records), mapping=piece.context.mapping)
        for piece, records in zip(pieces, found, strict=True)
    }
    into = _Found(tallies, opened={} if look_inside else None)
    orders: list[pa.Table] = []
    for block in _blocks(found, pieces):
        into.malformed.clear()
        orders += _orders_of(block, pieces, into, reference_only)
        _note_keys(block, pieces, into)
    return Parsed(concat_orders(orders), into.discards.table(), tallies, dict(unreadable)), into.opened or {}


def _orders_of(block: _Block, pieces: Sequence[Piece], into: _Found, reference_only: bool = False) -> list[pa.Table]:
    """The orders of a block, those of each parser sorted by time; adds the rest to `into`."""
    by_reference = reference_only or not bindings.is_mappable(block.mapping)
    read = _read_nothing(block.records) if by_reference else _read_fast(block, pieces)
    worth = read.worth
    for index, count in _tallied(block.piece_of[read.before_since]):
        into.tallies[pieces[index].drop].before_since += count
    for name in ("bare", "orders", "with_amount", "with_price"):
        for index, count in _tallied(block.piece_of[getattr(worth, name)]):
            tally = into.tallies[pieces[index].drop]
            setattr(tally, name, getattr(tally, name) + count)
    refused = np.flatnonzero(read.refused).tolist()
    orders = _by_time(_read_by_reference(block, refused, pieces, into, worth))
    _note_bare(block, worth, pieces, into)
    return [read.orders, orders]


def _note_keys(block: _Block, pieces: Sequence[Piece], into: _Found) -> None:
    """Notes which keys the first records of each drop have. Malformed ones have none, even if they look like others."""
    is_first = np.array([piece.is_first for piece in pieces], np.bool_)
    is_sampled = (block.position <= SAMPLED_RECORDS) & is_first[block.piece_of]
    is_sampled[into.malformed] = False
    sampled = np.flatnonzero(is_sampled)
    records = block.records
    found = keys_of_records(
        records.blob, records.starts[sampled], records.stops[sampled], block.piece_of[sampled], block.mapping
    )
    for index, keys in found.items():
        into.tallies[pieces[index].drop].note_keys(keys)


def _by_time(orders: pa.Table) -> pa.Table:
    """Sorted by time, so that the rows of one date are close together when partitions are written."""
    return orders.take(pa.array(np.argsort(orders["created_at"].to_numpy(), kind="stable")))


def _tallied(indexes: Ints) -> list[tuple[int, int]]:
    counts = np.bincount(indexes) if len(indexes) else indexes
    return [(index, int(counts[index])) for index in np.flatnonzero(counts).tolist()]


# -------------------------------------------------------------------------------------------------------- fast path


@dataclass(frozen=True, slots=True)
class _Fast:
    """What the fast path read. `orders`: the records that are not before `since`, sorted by time. The masks are by record."""

    orders: pa.Table
    refused: Bools
    before_since: Bools
    worth: bare.Worth


def _read_nothing(records: Records) -> _Fast:
    none = np.zeros(len(records), np.bool_)
    return _Fast(ORDERS.empty_table(), ~none, none, bare.nothing_known(len(records)))


def _read_fast(block: _Block, pieces: Sequence[Piece]) -> _Fast:
    """Reads all records of a block at once."""
    records = block.records

    def of_piece(values: list[int]) -> Ints:
        return np.array(values, np.int64)[block.piece_of]

    latest = of_piece([piece.context.latest_instant for piece in pieces])
    since = of_piece([piece.context.since or 0 for piece in pieces])
    until = of_piece([_until(piece.context) for piece in pieces])
    drop = of_piece([piece.drop for piece in pieces])
    read = records.scanned or bindings.scanned(records.blob, records.starts, records.stops, block.mapping)
    if block.mapping.minor_units:
        read = in_major_units(read)
    created_at, updated_at = read.numbers["created_at"].values, read.numbers["updated_at"].values
    accepted = ~read.refused & (created_at <= latest) & (updated_at <= latest)
    kinds = dict(block.mapping.extra_columns)
    for name, column in read.extra.items():
        if kinds[name] == "instant" and isinstance(column, Numbers):
            accepted &= column.values <= LAST_INSTANT
    before_since = accepted & (created_at < since)
    is_taken = accepted & (created_at >= since) & (created_at < until)
    taken = np.flatnonzero(is_taken)
    by_time = taken[np.argsort(created_at[taken], kind="stable")]
    worth = bare.worth_of(read, block.mapping, accepted, is_taken)
    return _Fast(_orders(read, by_time, drop, block.position, kinds), ~accepted, before_since, worth)


def _until(context: ParseContext) -> int:
    return LAST_INSTANT + 1 if context.until is None else context.until


def _orders(read: Scanned, records: Ints, drop: Ints, position: Ints, kinds: Mapping[str, str]) -> pa.Table:
    """The ORDERS rows of these records, in this order. `kinds`: the types of the extra columns."""
    columns = {name: column.array() for name, column in (read.numbers | read.texts).items()}
    items = [columns.pop(name) for name in ITEM_TYPE.names]
    columns["items"] = pa.LargeListArray.from_arrays(
        pa.array(read.items), pa.StructArray.from_arrays(items, fields=list(ITEM_TYPE))
    )
    for name, column in read.extra.items():
        array, kind = column.array(), TYPES[kinds[name]]
        columns[EXTRA + name] = array.cast(kind) if kinds[name] == "boolean" else array.view(kind)
    columns |= {"drop": pa.array(drop), "position": pa.array(position)}
    if not np.array_equal(records, np.arange(len(position))):  # else they are all the records, sorted by time already
        columns = _taken(columns, records)
    return with_hashes(columns)


def _taken(columns: dict[str, pa.Array], records: Ints) -> dict[str, pa.Array]:
    taken = pa.RecordBatch.from_pydict(columns).take(pa.array(records))
    return dict(zip(columns, taken.columns, strict=True))


# ------------------------------------------------------------------------------------------------- reference parser


def _read_by_reference(
    block: _Block, refused: Sequence[int], pieces: Sequence[Piece], into: _Found, worth: bare.Worth
) -> pa.Table:
    """The orders among the records of a block that the fast path refused; adds the rest to `into`, and bare orders and those
    without an amount to the masks of `worth`."""
    rows: list[tuple[int, int, reference.Order]] = []
    piece_of, positions = block.piece_of[refused].tolist(), block.position[refused].tolist()
    for index, of_piece, position in zip(refused, piece_of, positions, strict=True):
        piece, record = pieces[of_piece], block.records[index]
        tally, context = into.tallies[piece.drop], piece.context
        read, is_deletion = read_record(record, context)
        if isinstance(read, Reason):
            may_hold = into.opened is not None and read in NO_ORDER
            if may_hold and (held := contents_of(record, context.records_path, block.mapping)):
                assert into.opened is not None
                into.opened.setdefault(of_piece, {})[position - 1] = held
                continue
            tally.discarded[read] += 1
            if read is Reason.MALFORMED_RECORD:
                into.malformed.append(index)
            tally.parts += _is_part(record)
            if not tally.hidden_at and may_hold_orders(record, read, block.mapping):
                tally.hidden_at = position
            is_last = position == tally.extracted and not piece.data.endswith(b"\n")
            if read is Reason.MALFORMED_RECORD and is_last and is_cut(record.decode(errors="replace")):
                tally.cut_at = position
            into.discards.add(piece.drop, position, read, kept(record, read))
            continue
        if is_deletion:
            if context.until is None:  # else it was applied before
                rows.append((piece.drop, position, read))
            continue
        is_bare = bare.note(tally, worth, index, read, block.mapping)
        if piece.context.since is not None and read.created_at < piece.context.since:
            tally.before_since += 1
        elif read.created_at < _until(piece.context):
            tally.faults += read.faults
            tally.bare += is_bare
            rows.append((piece.drop, position, read))
    return _table(rows, block.mapping)


def _is_part(record: bytes) -> bool:
    """Whether a record names another one that it belongs to."""
    try:
        may_be = record.startswith(b"{") and PARENT_KEY.encode() in record
        return may_be and PARENT_KEY in members_of(record)
    except (reference.NotJson, UnicodeDecodeError):
        return False


def _note_bare(block: _Block, worth: bare.Worth, pieces: Sequence[Piece], into: _Found) -> None:
    """Notes the keys of the first bare order of each piece, and samples of its orders without an amount."""
    for mask, most in ((worth.named, 1), (worth.without_amount, SAMPLES)):
        for index in _first_of_each(block, mask, most):
            tally, position = into.tallies[pieces[block.piece_of[index]].drop], int(block.position[index])
            if mask is worth.named:
                tally.note_bare(position, bare.unread_in(block.records[index], block.mapping))
            else:
                tally.note_samples([bare.sample(block.records[index], position, block.mapping)])


def _first_of_each(block: _Block, mask: Bools, most: int) -> list[int]:
    """The first so many records of each piece in a mask."""
    found = np.flatnonzero(mask)
    _, first, count = np.unique(block.piece_of[found], return_index=True, return_counts=True)
    return [
        int(found[start + number])
        for start, size in zip(first.tolist(), count.tolist(), strict=True)
        for number in range(min(size, most))
    ]


def _table(rows: Sequence[tuple[int, int, reference.Order]], mapping: FieldMapping) -> pa.Table:
    orders = [order for _, _, order in rows]

    def column(read: Callable[[reference.Order], object]) -> list[object]:
        return [read(order) for order in orders]

    columns = {
        "drop": [drop for drop, _, _ in rows],
        "position": [position for _, position, _ in rows],
        "items": column(lambda o: [{"sku": i.sku, "qty": i.qty, "price": i.price} for i in o.items]),
    }
    for name in ("order_id", "created_at", "updated_at", "user_id", "amount", "currency", "metadata"):
        columns[name] = [getattr(order, name) for order in orders]
    arrays = {name: pa.array(values, ORDERS.field(name).type) for name, values in columns.items()}
    for place, (name, kind) in enumerate(mapping.extra_columns):
        arrays[EXTRA + name] = _extra([order.extra[place] if order.extra else None for order in orders], kind)
    return with_hashes(arrays)


def _extra(values: list[object], kind: str) -> pa.Array:
    """The values of an extra column; decimals in units of 1/10,000, instants in microseconds."""
    if kind in ("text", "boolean"):
        return pa.array(values, TYPES[kind])
    return pa.array(values, pa.int64()).view(TYPES[kind])
