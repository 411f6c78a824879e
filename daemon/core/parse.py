"""The parse room: the bytes of drops in, typed orders and counted discards out. Pure: the same bytes, the same answer.

Two lanes, one answer. The fast lane takes all records of a piece at once: msgspec checks the grammar and hands out each
field's own text (so that no number passes through a float and the last of equal keys counts), `columns` turns the texts
into typed columns. Records it does not vouch for, for whatever reason, go one by one through the strict lane (`strict`),
which is the authority. How many take which lane changes the speed and nothing else; a property test holds that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Raw, Struct
from numpy.typing import NDArray

from . import strict
from .columns import Bools, Column, Ints, read_decimals, read_instants, read_metadata, read_texts
from .documents import Form, Records, is_utf8, split
from .errors import Unreadable
from .model import ITEM_TYPE, MAX_DEPTH, ORDERS, Discard, Judge, Parsed, Reason, Tally, concat_orders
from .scalars import order_key

_ABSENT = Raw(b"")
_FAN_OUT = 16  # a group of records that does not decode is divided so many ways, to find those that are to blame


class _Item(Struct, gc=False):
    sku: Raw = _ABSENT
    qty: Raw = _ABSENT
    price: Raw = _ABSENT


class _Record(Struct, gc=False):
    order_id: Raw = _ABSENT
    created_at: Raw = _ABSENT
    updated_at: Raw = _ABSENT
    user_id: Raw = _ABSENT
    amount: Raw = _ABSENT
    currency: Raw = _ABSENT
    metadata: Raw = _ABSENT
    items: list[_Item] | None = None


_decoder = msgspec.json.Decoder(_Record)


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
    records: list[bytes] = []
    sizes: list[int] = []
    unreadable: dict[int, str] = {}
    for piece in pieces:
        try:
            found = split(piece.data, piece.form, piece.judge.records_path).records
        except Unreadable as error:
            unreadable[piece.drop] = str(error)
        else:
            readable.append(piece)
            records.extend(found)
            sizes.append(len(found))
    return _read(readable, records, np.array(sizes, np.int64), unreadable, strict_only)


def _read(
    pieces: Sequence[Piece], records: list[bytes], sizes: Ints, unreadable: dict[int, str], strict_only: bool
) -> Parsed:
    piece_of = np.repeat(np.arange(len(pieces)), sizes)
    starts = np.cumsum(sizes) - sizes
    position = np.arange(len(records)) - np.repeat(starts, sizes) + 1
    tallies = {piece.drop: Tally(extracted=int(size)) for piece, size in zip(pieces, sizes, strict=True)}

    decoded, at = ([], np.zeros(0, np.int64)) if strict_only else _tokenize(records)
    clean = _fast(decoded, pieces, piece_of[at], position[at])
    vouched = np.zeros(len(records), np.bool_)
    vouched[at[clean.vouched]] = True
    for index, count in enumerate(np.bincount(piece_of[at[clean.before_since]], minlength=len(pieces)).tolist()):
        tallies[pieces[index].drop].before_since += count

    odd = np.flatnonzero(~vouched).tolist()
    strict_orders, discards = _strict(records, odd, pieces, piece_of, position, tallies)
    return Parsed(concat_orders([clean.orders, strict_orders]), discards, tallies, unreadable)


# ---------------------------------------------------------------------------------------------------- the fast lane


@dataclass(frozen=True, slots=True)
class _Clean:
    """What the fast lane read: `orders` has the vouched records that are not before `since`."""

    orders: pa.Table
    vouched: Bools
    before_since: Bools


def _tokenize(records: Sequence[bytes]) -> tuple[list[_Record], Ints]:
    """The records that decode, and their indexes.

    A line that begins with `{` and ends with `}` cannot share a value with its neighbours: what follows an inner `}`
    in JSON is never a `{`. So if as many values come out as lines went in, each line was exactly one value.
    """
    regular = [i for i, record in enumerate(records) if record[:1] == b"{" and record[-1:] == b"}" and _shallow(record)]
    if len(regular) != len(records):
        records = [records[i] for i in regular]
    indexes = np.array(regular, np.int64)
    if not is_utf8(b"\n".join(records)):
        valid = [i for i, record in enumerate(records) if is_utf8(record)]
        records, indexes = [records[i] for i in valid], indexes[valid]
    decoded = list(_decode(records))
    good = [i for i, record in enumerate(decoded) if record is not None]
    if len(good) == len(decoded):
        return decoded, indexes  # type: ignore[return-value]
    return [record for record in decoded if record is not None], indexes[good]


def _shallow(record: bytes) -> bool:
    return len(record) <= 2 * MAX_DEPTH or record.count(b"{") + record.count(b"[") <= MAX_DEPTH


def _decode(records: Sequence[bytes]) -> Iterable[_Record | None]:
    """Each record decoded, or None where it must be looked at more closely."""
    if not records:
        return []
    try:
        if len(records) == 1:
            return [_decoder.decode(records[0])]
        decoded = _decoder.decode_lines(b"\n".join(records))
        if len(decoded) == len(records):
            return decoded
    except (msgspec.DecodeError, RecursionError):
        if len(records) == 1:
            return [None]
    step = -(-len(records) // _FAN_OUT)
    return chain.from_iterable(_decode(records[i : i + step]) for i in range(0, len(records), step))


def _fast(decoded: Sequence[_Record], pieces: Sequence[Piece], piece_of: Ints, position: Ints) -> _Clean:
    order_id = read_texts([record.order_id for record in decoded])
    created_at = read_instants([record.created_at for record in decoded])
    updated_at = read_instants([record.updated_at for record in decoded])
    user_id = read_texts([record.user_id for record in decoded])
    amount = read_decimals([record.amount for record in decoded])
    currency = read_texts([record.currency for record in decoded])
    metadata = read_metadata([record.metadata for record in decoded])
    items, items_odd = _items([record.items or [] for record in decoded])

    latest = np.array([piece.judge.latest_instant for piece in pieces], np.int64)[piece_of]
    since = np.array([piece.judge.since or 0 for piece in pieces], np.int64)[piece_of]
    instants = created_at.values.fill_null(0).to_numpy()
    odd = items_odd | _null(order_id) | _null(created_at) | (instants > latest)
    odd |= updated_at.values.fill_null(0).to_numpy() > latest
    for column in (order_id, created_at, updated_at, user_id, amount, currency, metadata):
        odd |= column.odd
    before_since = ~odd & (instants < since)
    drops = np.array([piece.drop for piece in pieces], np.int64)[piece_of]
    arrays = [
        pa.array(drops), pa.array(position), order_id.values, created_at.values, updated_at.values, user_id.values,
        amount.values, currency.values, metadata.values, items,
    ]  # fmt: skip
    taken = pa.table(arrays, names=ORDERS.names[1:])
    if odd.any() or before_since.any():
        taken = taken.filter(pa.array(~odd & ~before_since))
    keys = pa.array(_keys(taken["order_id"]), pa.binary(16))
    orders = pa.table([keys, *taken.columns], schema=ORDERS)
    return _Clean(orders, ~odd, before_since)


def _null(column: Column) -> Bools:
    return column.values.is_null().to_numpy(zero_copy_only=False)


def _items(lists: Sequence[Sequence[_Item]]) -> tuple[pa.Array, Bools]:
    """The items of each order as a list array, and which orders have an odd one among them."""
    flat = list(chain.from_iterable(lists))
    columns = [
        read_texts([item.sku for item in flat]),
        read_decimals([item.qty for item in flat]),
        read_decimals([item.price for item in flat]),
    ]
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, lists), np.int64, len(lists)), out=offsets[1:])
    odd = np.zeros(len(flat) + 1, np.int64)
    np.cumsum(columns[0].odd | columns[1].odd | columns[2].odd, out=odd[1:])
    values = pa.StructArray.from_arrays([column.values for column in columns], fields=list(ITEM_TYPE))
    return pa.LargeListArray.from_arrays(pa.array(offsets), values), odd[offsets[1:]] > odd[offsets[:-1]]


def _keys(order_ids: pa.ChunkedArray) -> list[bytes]:
    keys: list[bytes] = []
    for chunk in order_ids.chunks:
        _, offsets_buffer, data = chunk.buffers()
        if len(chunk) == 0:
            continue
        text = memoryview(data) if data is not None else memoryview(b"")
        offsets = np.frombuffer(offsets_buffer, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        keys += [order_key(text[a:b]) for a, b in zip(offsets, offsets[1:], strict=False)]
    return keys


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
        else:
            tally.faults += read.faults
            rows.append((piece.drop, place, read))
    return _table(rows), discards


def _table(rows: Sequence[tuple[int, int, strict.Order]]) -> pa.Table:
    orders = [order for _, _, order in rows]

    def column(read: Callable[[strict.Order], object]) -> list[object]:
        return [read(order) for order in orders]

    columns = {
        "key": column(lambda order: order_key(order.order_id.encode())),
        "drop": [drop for drop, _, _ in rows],
        "position": [place for _, place, _ in rows],
        "items": column(lambda o: [{"sku": i.sku, "qty": i.qty, "price": i.price} for i in o.items]),
    }
    for name in ("order_id", "created_at", "updated_at", "user_id", "amount", "currency", "metadata"):
        columns[name] = [getattr(order, name) for order in orders]
    return pa.table([pa.array(columns[f.name], f.type) for f in ORDERS], schema=ORDERS)
