"""Removes records from a drop, and nothing else. Pure: bytes in, bytes out.

The records that stay keep their bytes. They also keep their place in the file where that is possible: a record is cut out with
its comma or its line. Otherwise, and where records are in several pages, the others are written as one array, or as lines.
Whichever it is, the result is parsed, and must give the same orders and discards as before, but for those that were removed and
for the positions of the others.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from ..columns import extra_of
from ..errors import StrandlineError, Unreadable
from ..model import Dimension, ParseContext, Parsed, Tally
from . import csv
from .csv_text import without_rows
from .parse import Piece, first_records, parse

_COMMA = re.compile(rb"(?:[ \t\r\n\x1e]|\xef\xbb\xbf)*,")
_LINE_END = re.compile(rb"[ \t\r]*\n")
_WORDS = re.compile(rb"[^][,{} \t\r\n\x1e\xef\xbb\xbf]")
_BLANKS = b" \t\r\x1e"
_EMPTY = b"[]\n"  # a drop without records
_DROP = 0

Gone = Callable[[bytes], bool]
GoneRow = Callable[[csv.Layout, Sequence[str]], bool]


class NotExact(StrandlineError):
    """Records cannot be removed from this drop without a change to others."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """A drop without some of its records. `positions`: where these were."""

    data: bytes
    positions: frozenset[int]


def without_records(
    data: bytes, context: ParseContext, is_gone: Gone, may_stay: Callable[[bytes], bool] = lambda rest: True
) -> Redaction | None:
    """A drop of orders without the records that `is_gone` says; None where it has none of these. `may_stay`: whether the text
    around the records, such as an envelope, may stay. Raises NotExact."""
    context = replace(context, mapping=context.mapping.of_orders)
    records = first_records(Piece(_DROP, data, context), len(data))
    gone = [is_gone(record) for record in records]
    if not any(gone):
        return None
    positions = frozenset(position for position, one in enumerate(gone, 1) if one)
    before = _read(data, context)
    if before is not None and before.tallies[_DROP].extracted == len(records):
        for text in _forms(data, records, gone, context.records_path, may_stay):
            after = _read(text, context)
            if after is not None and _is_rest(after, before, positions):
                return Redaction(text, positions)
    raise NotExact("its records cannot be removed without a change to others")


def without_rows_of(dimension: Dimension, data: bytes, context: ParseContext, is_gone: GoneRow) -> Redaction | None:
    """The same for a drop of users or products."""
    layout = csv.layout_of(dimension, data, context)
    gone = [is_gone(layout, row) for row in layout.sheet.rows]
    if not any(gone):
        return None
    positions = frozenset(position for position, one in enumerate(gone, 1) if one)
    keys = layout.names[dimension.key]
    try:
        text = without_rows(data, keys, context.mapping.encoding, lambda row: is_gone(layout, row))
        before, after = (csv.read(dimension, _DROP, one, context, refusing=False) for one in (data, text))
    except Unreadable as error:
        raise NotExact(str(error)) from None
    discarded = set(before.discards["position"].to_pylist())
    kept = [number for number in range(1, len(gone) + 1) if number not in discarded]
    stays = pa.array([number not in positions for number in kept], pa.bool_())
    if not after.rows.equals(before.rows.filter(stays)) or not _are_rest(after.discards, before.discards, positions):
        raise NotExact("its rows cannot be removed without a change to others")
    return Redaction(text, positions)


def lost(before: Tally, after: Tally) -> tuple[Counter[str], int]:
    """What a redaction takes from the counts of a drop: discards by reason, and records before its `since`."""
    return before.discarded - after.discarded, before.before_since - after.before_since


# ------------------------------------------------------------------------------------------------------------- forms


def _forms(
    data: bytes, records: Sequence[bytes], gone: Sequence[bool], records_path: str, may_stay: Callable[[bytes], bool]
) -> Iterator[bytes]:
    """The texts that may be the redacted drop, the preferred one first."""
    kept = [record for record, is_gone in zip(records, gone, strict=True) if not is_gone]
    if not kept:
        yield _EMPTY  # also what was around the records may be about the same person
        return
    cut = _cut(data, records, gone)
    if cut is not None and may_stay(_around(cut, kept)):
        yield cut
    yield b"[" + b",\n".join(kept) + b"]\n"
    if not any(b"\n" in record for record in kept):
        yield b"\n".join(kept) + b"\n"
        yield _empty_page(records_path) + b"\n" + b"\n".join(kept) + b"\n"  # so that the rest is read as lines


def _empty_page(records_path: str) -> bytes:
    page = b"[]"
    for key in reversed((records_path or "orders").split(".")):
        page = b'{"' + key.encode() + b'":' + page + b"}"
    return page


def _cut(data: bytes, records: Sequence[bytes], gone: Sequence[bool]) -> bytes | None:
    """The text with some records cut out; None where they cannot be found, or there is anything between two of them: then they
    are in several pages, and a page that loses all its records may be about the same person."""
    out, at, end = bytearray(), 0, 0
    for number, (record, is_gone) in enumerate(zip(records, gone, strict=True)):
        start = data.find(record, end)
        if start < 0 or (number and _WORDS.search(data, end, start)):
            return None
        end = start + len(record)
        if is_gone:
            out += data[at:start]
            at = _joined(out, data, end)
    return bytes(out + data[at:])


def _joined(out: bytearray, data: bytes, end: int) -> int:
    """Where a text goes on after a record that ended at `end` and was cut out; `out` is what precedes it. One comma goes with the
    record: the following one, otherwise the preceding one. Without a comma, its line does."""
    if comma := _COMMA.match(data, end):
        return comma.end()
    last = len(out)
    while last and out[last - 1] in _BLANKS + b"\n":
        last -= 1
    if last and out[last - 1] == ord(b","):
        del out[last - 1 :]
        return end
    begin = len(out)
    while begin and out[begin - 1] in _BLANKS:
        begin -= 1
    if not begin or out[begin - 1] == ord(b"\n"):
        line_end = _LINE_END.match(data, end)
        if line_end or end == len(data):
            del out[begin:]
            return line_end.end() if line_end else end
    return end


def _around(text: bytes, kept: Sequence[bytes]) -> bytes:
    """What is in a text but these records."""
    rest, at = [], 0
    for record in kept:
        start = text.find(record, at)
        rest.append(text[at:start])
        at = start + len(record)
    return b" ".join([*rest, text[at:]])


# -------------------------------------------------------------------------------------------------------------- proof


def _read(data: bytes, context: ParseContext) -> Parsed | None:
    """All records of a drop, from any time; None where it cannot be read."""
    parsed = parse([Piece(_DROP, data, replace(context, since=None, until=None))], refusing=False)
    return None if parsed.unreadable else parsed


def _is_rest(after: Parsed, before: Parsed, gone: Container[int]) -> bool:
    """Whether a drop has what it had before, without the records at some positions."""
    return _are_rest(after.orders, before.orders, gone) and _are_rest(after.discards, before.discards, gone)


def _are_rest(after: pa.Table, before: pa.Table, gone: Container[int]) -> bool:
    stays = [place not in gone for place in before["position"].to_pylist()]
    expected, found = _comparable(before.filter(pa.array(stays, pa.bool_()))), _comparable(after)
    return found.column_names == expected.column_names and bool(found.equals(expected))


def _comparable(table: pa.Table) -> pa.Table:
    """The rows in the order of the file, without their numbers, and without extra columns that have no value: the parser may
    leave these out."""
    rows = table.take(pa.array(np.argsort(table["position"].to_numpy(), kind="stable")))
    empty = [name for name in extra_of(rows.column_names) if rows[name].null_count == rows.num_rows]
    return rows.drop_columns(["position", *empty]).combine_chunks()
