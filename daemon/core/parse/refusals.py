"""Drops that are refused for what their records turned out to be. Decided by what was counted, once all of a drop is read.

A drop none of whose records is an order was never meant for here, or needs a setting: as discards it would look applied. Where
lines hold many orders each, a damaged line would cost them all. An order that is written over several lines, among lines of one
each, would be as many discards.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from ..errors import Unreadable
from ..model import NO_ORDER, Parsed, Reason
from .damage import named
from .envelopes import inner_order, members_of
from .reference import NotJson, value_end

_LOOKED_AT = 20  # records, to name their keys
_MALFORMED_LOOKED_AT = 10_000  # lines that are no JSON, to find a document that is spread over some of them
_OPENINGS_LOOKED_AT, _LINES_TOGETHER = 100, 200
_SPACE = " \t\r"
_AROUND = _SPACE + ","
_AN_ORDER = "an order is an object with an `order_id` (a text or a whole number) and a `created_at`"


def refused(read: Parsed, whole: Collection[int]) -> Parsed:
    """The same, without the drops among `whole` (by number) that are refused; a drop of which only a piece was read cannot be
    judged yet."""
    reasons = {
        drop: why for drop, tally in read.tallies.items()
        if drop in whole and (tally.no_orders or tally.pages) and (why := _why(read, drop))
    }  # fmt: skip
    return _without(read, reasons)


def _why(read: Parsed, drop: int) -> str | None:
    tally = read.tallies[drop]
    if 0 < tally.extracted == tally.no_orders:
        return _no_order(read, drop)
    if tally.pages and (tally.strays or tally.discarded[Reason.MALFORMED_RECORD]):
        _, _, keys, _ = _first(read, drop)
        return (
            "lines of it are pages of many orders each, and others are neither pages nor orders: a damaged page or an error "
            f"message perhaps. Keys of what is no order: {keys}. Put the right pages in their places"
        )
    if tally.discarded[Reason.MALFORMED_RECORD] > 1 and (position := _spread(read, drop)) is not None:
        return (
            f"from record {position:,} on, a document is written over several lines among lines of one record each; write each "
            "record on one line"
        )
    return None


def _spread(read: Parsed, drop: int) -> int | None:
    """Where lines that are no JSON follow each other and make up one JSON document together: the position of its first line.
    As so many discards, the order in it would be lost."""
    of_drop = read.discards.filter(pc.equal(read.discards["drop"], drop))
    reason = of_drop["reason"].cast(pa.large_string())
    rows = of_drop.filter(pc.equal(reason, str(Reason.MALFORMED_RECORD))).slice(0, _MALFORMED_LOOKED_AT)
    position, text = rows["position"].to_pylist(), [_bare(_text(one)) for one in rows["record"].to_pylist()]
    openings = [index for index, one in enumerate(text) if one.startswith(("{", "["))]
    for first in openings[:_OPENINGS_LOOKED_AT]:
        stop = first + 1
        while stop < min(len(text), first + _LINES_TOGETHER) and position[stop] == position[stop - 1] + 1:
            stop += 1
        joined = "\n".join(text[first:stop])
        try:
            end = value_end(joined, 0)
        except NotJson:
            continue
        if "\n" in joined[:end] and not joined[end:].partition("\n")[0].strip(_AROUND):
            return int(position[first])
    return None


def _text(record: str) -> str:
    """The line of a malformed record. One that is JSON but for its encoding is kept as JSON, any other as a JSON string."""
    return str(json.loads(record)) if record.startswith('"') else record


def _bare(line: str) -> str:
    return line.strip(_SPACE + "\x1e\ufeff")


def _no_order(read: Parsed, drop: int) -> str:
    count = read.tallies[drop].extracted
    _, reason, keys, path = _first(read, drop)
    begin = f"none of its {count:,} records is an order" if count > 1 else "its one record is no order"
    if reason is Reason.INVALID_ORDER_ID:
        return (
            f"{begin}: the `order_id` is neither a text of at most 256 bytes nor a whole number, or a spreadsheet has shortened "
            f"it. Keys of its records: {keys}"
        )
    inner = f". There are orders inside, at `{path}`: write these without what is around them" if path else ""
    return f"{begin}: {_AN_ORDER}. Keys of its records: {keys}{inner}"


def _first(read: Parsed, drop: int) -> tuple[int, Reason, str, str | None]:
    """Of the first records of a drop that are no orders: the position and the reason of the first, the keys of all, and where
    one holds an order."""
    of_drop = read.discards.filter(pc.equal(read.discards["drop"], drop))
    no_order = pc.is_in(
        of_drop["reason"].cast(pa.large_string()), value_set=pa.array(sorted(map(str, NO_ORDER)), pa.large_string())
    )
    rows = of_drop.filter(no_order).slice(0, _LOOKED_AT).to_pylist()
    objects = [_members(row["record"]) for row in rows]
    keys = named(key for members in objects for key in members)
    path = next((found for members in objects if (found := inner_order(members)) is not None), None)
    return rows[0]["position"], Reason(rows[0]["reason"]), keys, path


def _members(record: str) -> dict[str, bytes]:
    try:
        return members_of(record.encode()) if record.startswith("{") else {}
    except NotJson:  # nested very deep
        return {}


def _not_of(table: pa.Table, drops: Collection[int]) -> pa.ChunkedArray:
    return pc.invert(pc.is_in(table["drop"], value_set=pa.array(drops, table["drop"].type)))


def _without(read: Parsed, reasons: Mapping[int, str]) -> Parsed:
    """The same, where these drops are unreadable."""
    if not reasons:
        return read
    kept = [table.filter(_not_of(table, reasons)) for table in (read.orders, read.discards)]
    tallies = {drop: tally for drop, tally in read.tallies.items() if drop not in reasons}
    unreadable = {**read.unreadable, **{drop: str(Unreadable(why)) for drop, why in reasons.items()}}
    return replace(read, orders=kept[0], discards=kept[1], tallies=tallies, unreadable=unreadable)
