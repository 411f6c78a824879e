"""The parse room: the bytes of drops in, typed orders and counted discards out. Pure: the same bytes, the same answer.

Two lanes, one answer. The fast lane takes all records of a piece at once: msgspec checks the grammar, `tokens` finds each
field's own text (so that no number passes through a float and the last of equal keys counts), `columns` turns the texts
into typed columns. Records it does not vouch for, for whatever reason, go one by one through the strict lane (`strict`),
which is the authority. How many take which lane changes the speed and nothing else; a property test holds that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import chain, pairwise

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Raw
from numpy.typing import NDArray

from . import strict
from .columns import Bools, Column, Ints, read_decimals, read_instants, read_metadata, read_texts
from .documents import Form, Records, is_utf8, split
from .errors import Unreadable
from .model import ITEM_TYPE, MAX_DEPTH, ORDERS, Discard, Judge, Parsed, Reason, Tally
from .scalars import order_key
from .tokens import Spans, Text, Tokenized, tokenize

_FAN_OUT = 16  # a group of records that is not valid is divided so many ways, to find those that are to blame

_json = msgspec.json.Decoder(Raw)


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

    at, blob = (np.zeros(0, np.int64), b"") if strict_only else _valid(records)
    clean = _fast(blob, pieces, piece_of[at], position[at])
    vouched = np.zeros(len(records), np.bool_)
    vouched[at[clean.vouched]] = True
    for index, count in enumerate(np.bincount(piece_of[at[clean.before_since]], minlength=len(pieces)).tolist()):
        tallies[pieces[index].drop].before_since += count

    odd = np.flatnonzero(~vouched).tolist()
    strict_orders, discards = _strict(records, odd, pieces, piece_of, position, tallies)
    return pa.concat_tables([clean.orders, strict_orders]), discards, tallies


# ---------------------------------------------------------------------------------------------------- the fast lane


@dataclass(frozen=True, slots=True)
class _Clean:
    """What the fast lane read: `orders` has the vouched records that are not before `since`."""

    orders: pa.Table
    vouched: Bools
    before_since: Bools


def _valid(records: Records) -> tuple[Ints, bytes]:
    """The records that the fast lane can take, as indexes and as one text: JSON objects, each valid by itself, not too
    deep.

    A line that begins with `{` and ends with `}` cannot share a value with its neighbours: what follows an inner `}`
    in JSON is never a `{`. So if as many values come out as lines went in, each line was exactly one value.
    """
    buffer = np.frombuffer(records.blob + b" ", np.uint8)
    regular = (buffer[records.starts] == ord("{")) & (buffer[records.stops - 1] == ord("}"))
    for index in np.flatnonzero(records.stops - records.starts > 2 * MAX_DEPTH).tolist():
        regular[index] &= records[index].count(b"{") + records[index].count(b"[") <= MAX_DEPTH
    chosen = np.flatnonzero(regular)
    blob = records.blob if regular.all() else _joined(records, chosen)
    if is_utf8(blob) and _is_valid(blob, len(chosen)):
        return chosen, blob
    chosen = chosen[np.fromiter(_valid_ones([records[i] for i in chosen.tolist()]), np.bool_, len(chosen))]
    return chosen, _joined(records, chosen)


def _joined(records: Records, chosen: Ints) -> bytes:
    return b"\n".join([records[i] for i in chosen.tolist()])


def _is_valid(blob: bytes, count: int) -> bool:
    """Whether a text of `count` lines, each beginning with `{` and ending with `}`, is as many JSON objects."""
    try:
        return len(_json.decode_lines(blob)) == count
    except (msgspec.DecodeError, RecursionError):
        return False


def _valid_ones(records: Sequence[bytes]) -> Iterable[bool]:
    """For each record whether it is valid, found by dividing again and again."""
    blob = b"\n".join(records)
    if len(records) == 1:
        return [is_utf8(blob) and _is_one_object(blob)]
    if is_utf8(blob) and _is_valid(blob, len(records)):
        return [True] * len(records)
    step = -(-len(records) // _FAN_OUT)
    return chain.from_iterable(_valid_ones(records[i : i + step]) for i in range(0, len(records), step))


def _is_one_object(record: bytes) -> bool:
    try:
        _json.decode(record)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _fast(blob: bytes, pieces: Sequence[Piece], piece_of: Ints, position: Ints) -> _Clean:
    """Reads valid records all at once."""
    found = tokenize(blob)

    def column(read: Callable[[Text, Spans], Column], name: str) -> Column:
        return read(found.text, found.fields[name])

    order_id = column(read_texts, "order_id")
    created_at = column(read_instants, "created_at")
    updated_at = column(read_instants, "updated_at")
    user_id = column(read_texts, "user_id")
    amount = column(read_decimals, "amount")
    currency = column(read_texts, "currency")
    metadata = column(read_metadata, "metadata")
    items, items_odd = _items(found)

    latest = np.array([piece.judge.latest_instant for piece in pieces], np.int64)[piece_of]
    since = np.array([piece.judge.since or 0 for piece in pieces], np.int64)[piece_of]
    instants = created_at.values.fill_null(0).to_numpy()
    odd = found.odd | items_odd | _null(order_id) | _null(created_at) | (instants > latest)
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
    # By time, so that the rows of one date lie close together when partitions are written.
    rows = np.flatnonzero(~odd & ~before_since)
    taken = taken.take(pa.array(rows[np.argsort(instants[rows], kind="stable")]))
    keys = pa.array(_keys(taken["order_id"]), pa.binary(16))
    orders = pa.table([keys, *taken.columns], schema=ORDERS)
    return _Clean(orders, ~odd, before_since)


def _null(column: Column) -> Bools:
    return column.values.is_null().to_numpy(zero_copy_only=False)


def _items(found: Tokenized) -> tuple[pa.Array, Bools]:
    """The items of each order as a list array, and which orders have an odd one among them."""
    columns = [
        read_texts(found.text, found.item_fields["sku"]),
        read_decimals(found.text, found.item_fields["qty"]),
        read_decimals(found.text, found.item_fields["price"]),
    ]
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(found.item_counts)])
    odd = np.concatenate([np.zeros(1, np.int64), np.cumsum(columns[0].odd | columns[1].odd | columns[2].odd)])
    values = pa.StructArray.from_arrays([column.values for column in columns], fields=list(ITEM_TYPE))
    return pa.LargeListArray.from_arrays(pa.array(offsets), values), odd[offsets[1:]] > odd[offsets[:-1]]


def _keys(order_ids: pa.ChunkedArray) -> list[bytes]:
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
