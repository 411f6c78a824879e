"""The records inside a line or an element that is not an order: several records on one line, an array, a page of an API. Pure.

Files are made by appending: pages of an API one a line, arrays one after the other, records without a line end between them, a
byte order mark in the middle, a comma after each record. The contents of such a record take its place. The fast path refuses all
of these, so usual drops never come here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ..mapping import DIRECT, FieldMapping
from . import reference
from .envelopes import ORDER_KEY, array_of
from .hidden import lost_beside
from .mapped import identity_of, is_order
from .texts import elements_of, members_of, pairs_of, repeated

_BETWEEN = re.compile("[ \t\n\r\x1e\ufeff]*")  # RS begins each record of a JSON text sequence
_COMMA = re.compile("[ \t\n\r\x1e\ufeff]*,")
_BLANKS_AND_MARKS = " \t\r\n\x1e\ufeff"
_LEVELS = 3  # an array of pages of arrays; no export is deeper


@dataclass(frozen=True, slots=True)
class Contents:
    """The records inside a record. `is_page`: it is an array or an envelope with an order in it; damage to one loses many."""

    texts: list[bytes]
    is_page: bool

    def spans_in(self, record: bytes) -> Iterator[tuple[int, int]]:
        """The start and end of each text in the record that holds it: the same bytes, in order where possible."""
        at = 0
        for text in self.texts:
            found = record.find(text, at)
            at = record.index(text) if found < 0 else found
            yield at, at + len(text)
            at += len(text)


def documents(text: str) -> list[str]:
    """The objects and arrays in a text: one after the other, with white space, marks or nothing between them, or a comma before
    or after each record. NotJson where there is anything else, or nothing, or one is nested too deep."""
    found, comma_at = [], None
    for start, end, comma in _values(text):
        found.append(text[start:end])
        reference.check_depth(found[-1])
        comma_at = end if comma and comma_at is None else comma_at
    if comma_at is not None and not all(map(_may_be_a_record, found)):
        raise reference.NotJson("a comma follows a complete document", comma_at)
    if not found:
        raise reference.NotJson("there is no document", 0)
    return found


def contents_of(
    record: bytes, records_path: str, mapping: FieldMapping = DIRECT, levels: int = _LEVELS
) -> Contents | None:
    """The records inside a record that is not an order; None where it holds none."""
    try:
        text = record.decode()
        reference.check_depth(text)
    except (UnicodeDecodeError, reference.NotJson):
        return None
    # An empty file with a byte order mark was appended, or a comma has its own line.
    if not text.strip(_BLANKS_AND_MARKS + ","):
        return Contents([], False)
    values = _objects_of_line(text)
    is_page = not values or values == [text]
    parts = _page(record, records_path, mapping) if is_page else [value.encode() for value in values]
    if parts is None or not levels:
        return None
    is_page = is_page and not (len(parts) == 1 and _is_wrapper(record, mapping))
    texts, holds_orders = [], False
    for part in parts:
        part_is_order = _is_order(part, mapping)
        deeper = None if part_is_order else contents_of(part, records_path, mapping, levels - 1)
        texts += deeper.texts if deeper else [part]
        holds_orders |= (is_page and part_is_order) or (deeper is not None and deeper.is_page)
    return Contents(texts, holds_orders)


def _values(text: str) -> Iterator[tuple[int, int, bool]]:
    """The objects and arrays of a text: start, end, and whether a comma follows. A comma may precede the first one: some tools
    begin lines with it."""
    comma = _COMMA.match(text)
    position = _after(_BETWEEN, text, comma.end() if comma else 0)
    while position < len(text):
        if text[position] not in "[{":
            raise reference.NotJson("there is text where a document should begin", position)
        end = reference.value_end(text, position)
        comma = _COMMA.match(text, end)
        yield position, end, comma is not None
        position = _after(_BETWEEN, text, comma.end() if comma else end)


def _after(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _may_be_a_record(text: str) -> bool:
    return text.startswith("{") and array_of(members_of(text.encode()), "", DIRECT) is None


def _objects_of_line(text: str) -> list[str]:
    """The values on a line; where not all of it can be read, the objects at its beginning, and the rest as one text."""
    found, end = [], 0
    try:
        for start, end, _ in _values(text):
            found.append(text[start:end])
    except reference.NotJson:
        if not all(value.startswith("{") for value in found):
            return []
        rest = text[_after(_COMMA, text, end) :].strip(_BLANKS_AND_MARKS)
        return [*found, rest] if found else []
    return found


def _page(record: bytes, records_path: str, mapping: FieldMapping) -> list[bytes] | None:
    """The elements of an array, or of an envelope without fields of an order; an empty one must look like a page."""
    try:
        if record.startswith(b"["):
            return elements_of(record)
        pairs = pairs_of(record) if record.startswith(b"{") else []
    except reference.NotJson:
        return None
    members = dict(pairs)
    if not members or repeated(pairs) or identity_of(record, mapping).keys() & {"order_id", "created_at"}:
        return None
    array, order = array_or_order(members, records_path, mapping)
    if order is not None:
        return [order]
    return None if array is None else elements_of(array)


def array_or_order(
    members: Mapping[str, bytes], records_path: str, mapping: FieldMapping
) -> tuple[bytes | None, bytes | None]:
    """What an object holds: the array of an envelope, or the one order under ORDER_KEY, as text. Neither where it holds none, or
    may hold more."""
    array, order = array_of(members, records_path, mapping), members.get(ORDER_KEY, b"")
    if records_path or not _is_order(order, mapping):
        return array, None
    rest = {key: text for key, text in members.items() if key != ORDER_KEY}
    is_all = (
        array_of(rest, "", mapping) in {None, b"[]"} and lost_beside(rest.items(), b"[" + order + b"]", mapping) is None
    )
    return None, order if is_all else None


def _is_wrapper(record: bytes, mapping: FieldMapping) -> bool:
    """Whether an object holds one order under ORDER_KEY, and no array."""
    return record.startswith(b"{") and _is_order(members_of(record).get(ORDER_KEY, b""), mapping)


def _is_order(text: bytes, mapping: FieldMapping) -> bool:
    try:
        return text.startswith(b"{") and is_order(text, mapping)
    except reference.NotJson:
        return False
