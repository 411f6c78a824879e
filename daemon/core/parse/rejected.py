"""Why single records were discarded, in words: what cannot be read, its value, and where it is. For people; decides nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from ..model import MAX_ID_BYTES, Discard, ParseContext, Reason
from .discards import text_of_malformed
from .explain import ReadField, explained, text_of
from .reference import NotAnObject, NotJson, TooDeep, check_depth, members, value_of
from .values import WHITE_SPACE, Number, is_shortened

_SHOWN_CHARACTERS = 80
_NOT_UTF8 = "\ufffd"  # what stands for bytes that are not UTF-8 in the text that is kept
_KINDS = {dict: "an object", list: "an array", str: "a text", bool: "true or false", type(None): "null"}
_READ_AS = {"order_id": "an id", "created_at": "an instant"}
_OF_ROWS = {
    Reason.MISSING_KEY: "the cell of its key is empty",
    Reason.INVALID_KEY: f"its key has more than {MAX_ID_BYTES} bytes",
    Reason.SHORTENED_KEY: "a spreadsheet has shortened its key, and the digits are lost",
}


def cause(discard: Discard, context: ParseContext, *, is_row: bool = False, line: int | None = None) -> str:
    """Why a record was discarded: one line of text, with values of the record. `context`: what its drop was read under. `is_row`:
    it is a row of users or products. `line`: its line in the file, where that is known."""
    reason, record = discard.reason, discard.record
    if reason is Reason.BLOCKED:
        return "its user or its order was erased, and what was erased does not come back"
    if is_row:
        return _of_row(reason, record) + (f" (line {line:,})" if line else "")
    if reason is Reason.MALFORMED_RECORD:
        return _damage(text_of_malformed(record), line)
    if reason is Reason.NOT_AN_OBJECT:
        return f"it is {_kind(value_of(record))}, and not an object"
    found = explained(record.encode(), discard.position, context).fields
    return next((_of_field(one, reason, context) for one in found if one.is_fault), "")


def _of_row(reason: Reason, record: str) -> str:
    if reason is Reason.MALFORMED_RECORD:
        return f"the row has {len(json.loads(record)):,} cells, more than the header, and which are too many is unknown"
    return _OF_ROWS.get(reason, "")


def lines_of(content: Iterable[bytes], discards: Iterable[Discard]) -> dict[int, int]:
    """The lines of malformed records in their file, by position. `content`: all lines of the file. A record that is not found at
    the line that its position leads to has none: an earlier line has several records."""
    wanted = {one.position: one.record for one in discards if one.reason is Reason.MALFORMED_RECORD}
    found: dict[int, int] = {}
    position = 0
    for number, line in enumerate(content, 1):
        if len(found) == len(wanted) or not wanted:
            break
        text = line.strip(WHITE_SPACE.encode())
        position += bool(text)
        if text and position in wanted and text.decode(errors="replace") == text_of_malformed(wanted[position]):
            found[position] = number
    return found


def _damage(text: str, line: int | None) -> str:
    try:
        check_depth(text)
        members(text)
    except TooDeep as error:
        return str(error)
    except NotJson as error:
        return f"{error} ({_place(error.position, line)})"
    except NotAnObject:
        pass
    if _NOT_UTF8 in text:
        return f"it has bytes that are not UTF-8 ({_place(text.index(_NOT_UTF8), line)})"
    return ""


def _place(position: int, line: int | None) -> str:
    return f"line {line:,}, column {position + 1:,}" if line else f"column {position + 1:,} of the record"


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a number")


def _of_field(field: ReadField, reason: Reason, context: ParseContext) -> str:
    if field.value is None:
        return f"there is no value at {field.path}"
    value = field.value if len(field.value) <= _SHOWN_CHARACTERS else f"{field.value[: _SHOWN_CHARACTERS - 1]}…"
    if reason is Reason.FUTURE_CREATED_AT:
        latest = text_of("created_at", context.latest_instant)
        return f"{field.path} is {value}, which is later than {latest}, the latest that is accepted"
    return f"{field.path} is {value}, which {_fault(field)}"


def _fault(field: ReadField) -> str:
    """Why a value that is written cannot be read."""
    written = value_of(field.value or "null")
    if field.field == "order_id" and isinstance(written, str) and not isinstance(written, Number):
        if is_shortened(text := written.strip(WHITE_SPACE)):
            return "a spreadsheet has shortened: its other digits are lost"
        if len(text.encode(errors="replace")) > MAX_ID_BYTES:
            return f"has more than {MAX_ID_BYTES} bytes"
    return f"cannot be read as {_READ_AS[field.field]}"
