"""The parse room: the bytes of drops in, typed orders and counted discards out. Pure: the same bytes, the same answer.

Two lanes, one answer. The fast lane takes all records of a piece at once: msgspec checks the grammar and hands out the
contract's fields, of equal keys the last; `columns` turns them into typed columns. Records it does not vouch for, for
whatever reason, go one by one through the strict lane (`strict`), which is the authority. How many take which
lane changes the speed and nothing else; a property test holds that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, pairwise
from types import NoneType
from typing import TypeAlias

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Raw, Struct
from numpy.typing import NDArray

from . import strict
from .columns import Bools, Ints, read_decimals, read_instants, read_metadata, read_texts
from .documents import Form, Records, is_utf8, split
from .errors import Unreadable
from .model import ITEM_TYPE, LAST_INSTANT, MAX_DEPTH, ORDERS, Discard, Judge, Parsed, Reason, Tally
from .scalars import order_key

_BLOCK_BYTES = 1 << 20  # what the fast lane decodes at once: its Python values should fit into a processor's cache
_FAN_OUT = 16  # a group of records that is not valid is divided so many ways, to find those that are to blame

_ABSENT = Raw(b"")
_Text: TypeAlias = str | None
_Number: TypeAlias = float | None
_Any: TypeAlias = str | int | float | bool | list | dict | None


class _CleanItem(Struct, gc=False):
    sku: _Text = None
    qty: _Number = None
    price: _Number = None


class _CleanRecord(Struct, gc=False):
    """A record in which each field has its own type: where all of a piece do, msgspec has looked at every type."""

    order_id: _Text = None
    created_at: _Text = None
    updated_at: _Text = None
    user_id: _Text = None
    amount: _Number = None
    currency: _Text = None
    metadata: Raw = _ABSENT
    items: list[_CleanItem] | None = None


class _Item(Struct, gc=False):
    sku: _Any = None
    qty: _Any = None
    price: _Any = None


class _Record(Struct, gc=False):
    """A record in which a field may be any JSON value, so that none costs its record the fast lane."""

    order_id: _Any = None
    created_at: _Any = None
    updated_at: _Any = None
    user_id: _Any = None
    amount: _Any = None
    currency: _Any = None
    metadata: Raw = _ABSENT
    items: list[_Item | str | int | float | bool | list | None] | str | int | float | bool | dict | None = None


_Decoded: TypeAlias = _CleanRecord | _Record
_clean = msgspec.json.Decoder(_CleanRecord)
_any = msgspec.json.Decoder(_Record)
_TEXTS: set[type] = {str, NoneType}
_NUMBERS: set[type] = {float, NoneType}


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

    clean = [ORDERS.empty_table()]
    odd: list[int] = []
    for here, block in records.blocks(_BLOCK_BYTES):
        decoded, at = ([], np.zeros(0, np.int64)) if strict_only else _decode(block)
        pieces_here = piece_of[here]
        read = _fast(decoded, pieces, pieces_here[at], position[here][at])
        clean.append(read.orders)
        vouched = np.zeros(len(block), np.bool_)
        vouched[at[read.vouched]] = True
        odd += (np.flatnonzero(~vouched) + here.start).tolist()
        for index, count in _tallied(pieces_here[at[read.before_since]]):
            tallies[pieces[index].drop].before_since += count

    strict_orders, discards = _strict(records, odd, pieces, piece_of, position, tallies)
    return _by_time(pa.concat_tables([*clean, strict_orders])), discards, tallies


def _by_time(orders: pa.Table) -> pa.Table:
    """Sorted by time, so that the rows of one date lie close together when partitions are written."""
    return orders.take(pa.array(np.argsort(orders["created_at"].to_numpy(), kind="stable")))


def _tallied(indexes: Ints) -> list[tuple[int, int]]:
    values, counts = np.unique(indexes, return_counts=True)
    return list(zip(values.tolist(), counts.tolist(), strict=True))


# ---------------------------------------------------------------------------------------------------- the fast lane


@dataclass(frozen=True, slots=True)
class _Clean:
    """What the fast lane read: `orders` has the vouched records that are not before `since`."""

    orders: pa.Table
    vouched: Bools
    before_since: Bools


def _decode(records: Records) -> tuple[list[_Decoded], Ints]:
    """The records that the fast lane can take, decoded, and their indexes: JSON objects, each valid by itself, not too
    deep.

    A line that begins with `{` and ends with `}` cannot share a value with its neighbours: what follows an inner `}`
    in JSON is never a `{`. So if as many values come out as lines went in, each line was exactly one value.
    """
    buffer = np.frombuffer(records.blob + b" ", np.uint8)
    regular = (buffer[records.starts] == ord("{")) & (buffer[records.stops - 1] == ord("}"))
    for index in np.flatnonzero(records.stops - records.starts > 2 * MAX_DEPTH).tolist():
        regular[index] &= records[index].count(b"{") + records[index].count(b"[") <= MAX_DEPTH
    if regular.all():
        for decoder in (_clean, _any):
            if (whole := _decode_lines(decoder, records.blob, len(records))) is not None:
                return whole, np.arange(len(records))
    chosen = np.flatnonzero(regular)
    tried = list(_decode_some([records[i] for i in chosen.tolist()]))
    good = np.fromiter((record is not None for record in tried), np.bool_, len(tried))
    return [record for record in tried if record is not None], chosen[good]


def _decode_lines(decoder: msgspec.json.Decoder, blob: bytes, count: int) -> list[_Decoded] | None:
    """A text of `count` lines, each beginning with `{` and ending with `}`, decoded; None where they are not all valid."""
    if not is_utf8(blob):
        return None
    try:
        decoded = decoder.decode_lines(blob)
    except (msgspec.DecodeError, RecursionError):
        return None
    return decoded if len(decoded) == count else None


def _decode_some(records: Sequence[bytes]) -> Iterable[_Decoded | None]:
    """Each record decoded, or None where it is not valid, found by dividing again and again."""
    if len(records) == 1:
        return [_decode_one(records[0])]
    if (decoded := _decode_lines(_any, b"\n".join(records), len(records))) is not None:
        return decoded
    step = -(-len(records) // _FAN_OUT)
    return chain.from_iterable(_decode_some(records[i : i + step]) for i in range(0, len(records), step))


def _decode_one(record: bytes) -> _Decoded | None:
    try:
        return _any.decode(record) if is_utf8(record) else None
    except (msgspec.DecodeError, RecursionError):
        return None


def _fast(decoded: Sequence[_Decoded], pieces: Sequence[Piece], piece_of: Ints, position: Ints) -> _Clean:
    """Reads decoded records all at once."""
    typed = bool(decoded) and isinstance(decoded[0], _CleanRecord)
    texts, numbers = (_TEXTS, _NUMBERS) if typed else (None, None)
    order_id = read_texts([record.order_id for record in decoded], texts)
    created_at = read_instants([record.created_at for record in decoded], texts)
    updated_at = read_instants([record.updated_at for record in decoded], texts)
    user_id = read_texts([record.user_id for record in decoded], texts)
    amount = read_decimals([record.amount for record in decoded], numbers)
    currency = read_texts([record.currency for record in decoded], texts)
    metadata = read_metadata([record.metadata for record in decoded])  # a Raw is a buffer of bytes
    items, items_odd = _items([record.items for record in decoded], texts, numbers)

    latest = np.array([piece.judge.latest_instant for piece in pieces], np.int64)[piece_of]
    since = np.array([piece.judge.since or 0 for piece in pieces], np.int64)[piece_of]
    instants = created_at.values.fill_null(0).to_numpy()
    odd = items_odd | order_id.null | created_at.null | (instants > latest)
    odd |= updated_at.values.fill_null(0).to_numpy() > latest
    for column in (order_id, created_at, updated_at, user_id, amount, currency, metadata):
        odd |= column.odd
    before_since = ~odd & (instants < since)
    passed_over = ~odd & (instants >= np.array([_until(piece.judge) for piece in pieces], np.int64)[piece_of])
    drops = np.array([piece.drop for piece in pieces], np.int64)[piece_of]
    arrays = [
        pa.array(drops), pa.array(position), order_id.values, created_at.values, updated_at.values, user_id.values,
        amount.values, currency.values, metadata.values, items,
    ]  # fmt: skip
    taken = pa.table(arrays, names=ORDERS.names[1:])
    if (left_out := odd | before_since | passed_over).any():
        taken = taken.filter(pa.array(~left_out))
    keys = pa.array(keys_of(taken["order_id"]), pa.binary(16))
    orders = pa.table([keys, *taken.columns], schema=ORDERS)
    return _Clean(orders, ~odd, before_since)


def _until(judge: Judge) -> int:
    return LAST_INSTANT + 1 if judge.until is None else judge.until


def _items(lists: Sequence[object], texts: set[type] | None, numbers: set[type] | None) -> tuple[pa.Array, Bools]:
    """The items of each order as a list array, and which orders have an odd one among them."""
    odd = np.zeros(len(lists), np.bool_)
    if not set(map(type, lists)) <= {list}:
        odd = np.fromiter((type(items) not in (list, NoneType) for items in lists), np.bool_, len(lists))
        lists = [items if type(items) is list else [] for items in lists]
    flat: list[_Item] = list(chain.from_iterable(lists))  # type: ignore[arg-type]
    counts = np.fromiter(map(len, lists), np.int64, len(lists))  # type: ignore[arg-type]
    strange = np.zeros(len(flat), np.bool_)
    if texts is None and not set(map(type, flat)) <= {_Item}:
        strange = np.fromiter((type(item) is not _Item for item in flat), np.bool_, len(flat))
        flat = [item if type(item) is _Item else _Item() for item in flat]
    sku = read_texts([item.sku for item in flat], texts)
    qty = read_decimals([item.qty for item in flat], numbers)
    price = read_decimals([item.price for item in flat], numbers)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
    running = np.concatenate([np.zeros(1, np.int64), np.cumsum(strange | sku.odd | qty.odd | price.odd)])
    values = pa.StructArray.from_arrays([sku.values, qty.values, price.values], fields=list(ITEM_TYPE))
    return (
        pa.LargeListArray.from_arrays(pa.array(offsets), values),
        odd | (running[offsets[1:]] > running[offsets[:-1]]),
    )


def keys_of(order_ids: pa.ChunkedArray) -> list[bytes]:
    """The 128-bit keys of order ids (large_string, none of them NULL)."""
    keys: list[bytes] = []
    for chunk in order_ids.chunks:
        _, offsets_buffer, data = chunk.buffers()
        if len(chunk) == 0:
            continue
        text = data.to_pybytes() if data is not None else b""
        offsets = np.frombuffer(offsets_buffer, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        keys += [blake2b(text[a:b], digest_size=16).digest() for a, b in pairwise(offsets)]  # order_key, inlined
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
        elif read.created_at < _until(piece.judge):
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
