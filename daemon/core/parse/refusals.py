"""Drops that are refused as a whole because of their records, once all of them are read.

A drop without any order was not meant for this inbox, or needs a setting: discarding its records would make it look applied.
Where each line holds many orders, a damaged line would lose them all. An order that is written over several lines, among orders
of one line each, would become as many discards.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import Unreadable
from ..model import NO_ORDER, PARENT_KEY, Parsed, Reason, Tally
from .damage import named, shown
from .discards import text_of_malformed
from .envelopes import inner_order, preset_for, record_setting
from .hidden import is_cut
from .reference import NotJson
from .texts import members_of

_SHOWN_RECORDS = 20  # whose keys a reason may name
_ROWS = 1 << 14  # that are Python objects at the same time
_COLUMNS = ("position", "reason", "record")
_AROUND = " \t\r\x1e\ufeff,"
_BRACKETS = _AROUND + "[]{};"
_NOT_ORDERS = (
    "Perhaps these are not orders, but refunds, events or the like: leave them out. If they are orders, name the path of their "
    '`amount` in the fields of [sources.default]; if they have none, set amount = "" and price = "" there'
)
_WRITE_INSTANT = "Write it as 2026-11-20T10:00:00Z"
_AN_ORDER = "an order is an object with an `order_id` (a text or a whole number) and a `created_at`"


def refused(read: Parsed, whole: Collection[int]) -> Parsed:
    """The same, with the refused drops as unreadable. `whole`: the numbers of the drops of which all pieces are read; others are
    not decided yet."""
    reasons = {
        drop: why for drop, tally in read.tallies.items()
        if drop in whole and (tally.discarded or tally.pages or is_without_worth(tally)) and (why := _why(read, drop))
    }  # fmt: skip
    return _without(read, reasons)


def _why(read: Parsed, drop: int) -> str | None:
    tally = read.tallies[drop]
    if tally.parts:
        return (
            f"{tally.parts:,} of its records are not orders but parts of one (they have a `{PARENT_KEY}`), as bulk operations of "
            "Shopify write them: their items would be lost. Export the orders with the REST API"
        )
    if 0 < tally.extracted == tally.no_orders:
        return _no_order(read, drop)
    if tally.extracted == tally.no_orders + tally.discarded[Reason.INVALID_CREATED_AT] > 0:
        return _no_instant(tally)
    if is_without_worth(tally):
        return _without_worth(tally)
    if tally.pages and (tally.strays or tally.discarded[Reason.MALFORMED_RECORD]):
        _, _, keys, _, _ = _first(read, drop)
        return (
            "some of its lines are pages of many orders, and others are neither pages nor orders: perhaps a damaged page or an "
            f"error message. Keys of these: {keys}. Replace them with the right pages"
        )
    if tally.hidden_at:
        return (
            f"record {tally.hidden_at:,} is not an order, but holds orders or may have held several: perhaps a damaged page, or "
            "records without a line end between them. They would be lost; write each record on one line"
        )
    if tally.cut_at:
        return (
            f"the file is truncated: record {tally.cut_at:,}, its last line, ends in the middle. Drop the complete file; if "
            "nothing follows, remove that line"
        )
    if tally.discarded[Reason.MALFORMED_RECORD] and (position := _spread(read, drop)) is not None:
        return (
            f"at record {position:,}, a document is written over several lines among lines of one record each; write each "
            "record on one line"
        )
    return None


def _no_instant(tally: Tally) -> str:
    if not tally.no_orders:
        return (
            f"none of its {tally.extracted:,} records has a `created_at` that can be read: it is no instant in a known form. "
            f"{_WRITE_INSTANT}"
        )
    counts = ", ".join(f"{number:,} {reason}" for reason, number in sorted(tally.discarded.items()) if number)
    return (
        f"none of its {tally.extracted:,} records is an order: {counts}. {_AN_ORDER[0].upper()}{_AN_ORDER[1:]} in a known form. "
        f"{_WRITE_INSTANT}"
    )


def is_without_worth(tally: Tally) -> bool:
    """Whether no order of a drop has an amount, although the mapping of its source names fields; nor a price, or else nothing is
    where the amount should be. These are other objects with an id and a date, or a path is wrong: revenue would be NULL."""
    if not tally.orders or tally.with_amount:
        return False
    return not tally.with_price or (
        bool(tally.mapping.amount_paths) and not any(one.has_amount_key for one in tally.samples)
    )


def _without_worth(tally: Tally) -> str:
    paths = tally.mapping.amount_paths
    places = f" (there is no value at {' or '.join(map(shown, paths))})" if paths else ""
    begin = f"none of its {tally.orders:,} orders has" if tally.orders > 1 else "its one order lacks"
    begin += f" an amount{places}" + ("" if tally.with_price else " or an item with a price")
    together = {key for one in tally.samples for key in one.keys}
    keys = f"Keys of its records: {named(key for one in tally.samples for key in one.keys)}"
    if path := next((one.inside for one in tally.samples if one.inside), ""):
        return f"{begin}. {keys}. There are orders inside, at `{path}`: {record_setting(path)}"
    if shop := preset_for(together, tally.mapping):
        return f"{begin}. {keys}{shop}"
    return f"{begin}. {keys}. {_NOT_ORDERS}"


def _spread(read: Parsed, drop: int) -> int | None:
    """The position of the first line of a JSON document that is spread over consecutive lines; None where there is none: a line
    that begins an object without ending it, before another one that is no order, or a line of nothing but brackets. As discards,
    its order would be lost."""
    of_drop = read.discards.filter(pc.equal(read.discards["drop"], drop))
    opened_at, opened = -1, ""
    for batch in of_drop.filter(_is_no_order(of_drop)).to_batches(max_chunksize=_ROWS):
        for position, reason, record in zip(*(batch[name].to_pylist() for name in _COLUMNS), strict=True):
            is_damaged = reason == Reason.MALFORMED_RECORD
            text = text_of_malformed(record).strip(_AROUND) if is_damaged else record
            if is_damaged and not text.strip(_BRACKETS):
                return int(position)
            if opened and position == opened_at + 1 and is_cut(opened):
                return opened_at
            opened_at, opened = int(position), text if is_damaged and text.startswith("{") else ""
    return None


def _no_order(read: Parsed, drop: int) -> str:
    count = read.tallies[drop].extracted
    _, reason, keys, path, shop = _first(read, drop)
    begin = f"none of its {count:,} records is an order" if count > 1 else "its one record is not an order"
    if reason is Reason.INVALID_ORDER_ID:
        return (
            f"{begin}: the `order_id` is neither a text of at most 256 bytes nor a whole number, or a spreadsheet has shortened "
            f"it. Keys of its records: {keys}"
        )
    inner = f". There are orders inside, at `{path}`: {record_setting(path)}" if path else ""
    return f"{begin}: {_AN_ORDER}. Keys of its records: {keys}{inner}{shop}"


def _first(read: Parsed, drop: int) -> tuple[int, Reason, str, str | None, str]:
    """Of the first records of a drop that are not orders: position and reason of the first, the keys of all, and the path to an
    order inside one."""
    of_drop = read.discards.filter(pc.equal(read.discards["drop"], drop))
    rows = of_drop.filter(_is_no_order(of_drop)).slice(0, _SHOWN_RECORDS).to_pylist()
    objects = [_members(row["record"]) for row in rows]
    keys = named(key for members in objects for key in members)
    path = next((found for members in objects if (found := inner_order(members)) is not None), None)
    shop = preset_for({key for members in objects for key in members})
    return rows[0]["position"], Reason(rows[0]["reason"]), keys, path, shop


def _members(record: str) -> dict[str, bytes]:
    try:
        return members_of(record.encode()) if record.startswith("{") else {}
    except NotJson:  # nested very deep
        return {}


def _is_no_order(discards: pa.Table) -> pa.ChunkedArray:
    reasons = pa.array(sorted(map(str, NO_ORDER)), pa.large_string())
    return pc.is_in(discards["reason"].cast(pa.large_string()), value_set=reasons)


def _not_of(table: pa.Table, drops: Collection[int]) -> pa.ChunkedArray:
    return pc.invert(pc.is_in(table["drop"], value_set=pa.array(drops, table["drop"].type)))


def _without(read: Parsed, reasons: Mapping[int, str]) -> Parsed:
    """The same, with these drops as unreadable."""
    if not reasons:
        return read
    kept = [table.filter(_not_of(table, reasons)) for table in (read.orders, read.discards)]
    tallies = {drop: tally for drop, tally in read.tallies.items() if drop not in reasons}
    unreadable = {**read.unreadable, **{drop: str(Unreadable(why)) for drop, why in reasons.items()}}
    return replace(read, orders=kept[0], discards=kept[1], tallies=tallies, unreadable=unreadable)
