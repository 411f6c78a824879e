"""What a drop is, and where its records begin and end. The content decides, never the name.

    one JSON document:  an array of records | one order | an envelope (records under a key, or at records_path)
    otherwise lines:    one record a line, if the first line that begins with a bracket is a complete object
    otherwise:          several documents one after the other, if nothing else is between them
    otherwise:          Unreadable, with a reason for people

A damaged or truncated document is never read as lines, even where some of its lines are objects. A line or an element that is
not an order but holds some (a page, several records) is for `nested.py`.

`split` finds the records of a whole drop. `cut` divides a large drop into pieces that can be split alone, in parallel.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from ..errors import Unreadable
from ..mapping import DIRECT, FieldMapping
from ..model import MAX_DEPTH, Ints
from ..native import bindings
from . import nested, reference
from .damage import described, likeness, refuse_foreign, shown
from .envelopes import without_array
from .mapped import identity_of, is_order
from .nested import array_or_order
from .texts import pairs_of, repeated

BOM = b"\xef\xbb\xbf"
_SEAM_BYTES = 64 << 10  # of a first look for one
_JSON_SPACE = b" \t\n\r"
_JSON_TEXT = re.compile(rb"[^ \t\n\r]")
_BLANK = b" \t\r"
_ARRAY_SEAM = re.compile(rb'\}[ \t\n\r]*,(?=[ \t\n\r]*\{[ \t\n\r]*"((?:[^"\\])*)"[ \t\n\r]*:)')
_FIRST_BRACKET = re.compile(rb"(?:^|\n)(?:[ \t\r\x1e]|\xef\xbb\xbf)*([\[{][^\n]*)")
_OPENING_KEY = re.compile(rb'\[[ \t\n\r]*\{[ \t\n\r]*"((?:[^"\\])*)"[ \t\n\r]*:')


@dataclass(frozen=True, slots=True)
class Records:
    """The records of a text, in order: record i is blob[starts[i]:stops[i]]. `scanned`: what the fast path read, if it did."""

    blob: bytes
    starts: Ints
    stops: Ints
    scanned: bindings.Scanned | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> bytes:
        return self.blob[self.starts[index] : self.stops[index]]

    def between(self, first: int, stop: int) -> Records:
        """Some of them."""
        if stop - first == len(self):
            return self
        return Records(self.blob, self.starts[first:stop], self.stops[first:stop])

    def with_opened(self, opened: Mapping[int, nested.Contents]) -> Records:
        """The records, with some of them replaced by their contents."""
        starts, stops = [], []
        for index, (start, stop) in enumerate(zip(self.starts.tolist(), self.stops.tolist(), strict=True)):
            if index not in opened:
                starts.append(start)
                stops.append(stop)
                continue
            for first, end in opened[index].spans_in(self[index]):
                starts.append(start + first)
                stops.append(start + end)
        return Records(self.blob, np.array(starts, np.int64), np.array(stops, np.int64))

    @classmethod
    def of(cls, texts: Sequence[bytes]) -> Records:
        """Records out of separate texts."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        starts = np.cumsum(lengths + 1) - lengths - 1
        return cls(b"\n".join(texts), starts, starts + lengths)

    @classmethod
    def chained(cls, parts: Sequence[Records]) -> Records:
        """The records of several texts, one after the other."""
        if len(parts) == 1:
            return parts[0]
        base, starts, stops = 0, [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for part in parts:
            starts.append(part.starts + base)
            stops.append(part.stops + base)
            base += len(part.blob) + 1
        return cls(b"\n".join([part.blob for part in parts]), np.concatenate(starts), np.concatenate(stops))


class Form(Enum):
    """How a piece of a drop is split."""

    WHOLE = "whole"  # a complete drop of unknown form
    LINES = "lines"  # whole lines of a drop of lines
    ELEMENTS = "elements"  # some elements of an array, without its brackets; after a wrong cut they do not parse


class WrongCut(Exception):
    """A piece of an array does not hold whole elements. The drop must be split as a whole."""


def split(
    data: bytes, form: Form = Form.WHOLE, records_path: str = "", scan: bool = False, mapping: FieldMapping = DIRECT
) -> Records:
    """The records of a drop or of a piece of one, in order. A record of a drop of lines may not be JSON; any other is one
    complete JSON value. Unreadable or WrongCut where records cannot be found. `scan`: let the fast path also read the elements
    of an array, since it finds their ends anyway."""
    if form is Form.LINES:
        return _lines(data)
    if form is Form.ELEMENTS:
        return _elements(data, scan, mapping)
    refuse_foreign(data)
    marked = data.removeprefix(BOM)
    text = marked.lstrip(_JSON_SPACE)
    if begins_with_line_of_object(text) and _JSON_TEXT.search(text, text.find(b"\n")):
        return _lines(text)
    text = text.rstrip(_JSON_SPACE)  # copies a text that ends with a new line, as most lines do
    if not text:
        raise Unreadable("the file is empty")
    try:
        if not is_utf8(text):
            _decoded(text)
        return _document(text, records_path, scan, mapping)
    except reference.NotJson as error:
        return _lines_or_unreadable(text, error, marked[: marked.find(text)])


def begins_with_line_of_object(text: bytes) -> bool:
    """Whether the first line is a complete object and more follows. Such a text is lines: no JSON document continues after its
    end."""
    end = text.find(b"\n")
    return (
        end > 0
        and text.startswith(b"{")
        and text[:end].rstrip(_BLANK).endswith(b"}")
        and reference.is_object(text[:end])
    )


def _is_lines_after_all(head: bytes) -> bool:
    """Whether the beginning of a text shows lines, although its first line is not an object: no JSON document begins like this,
    and the first line with a bracket is an object. (`_lines_or_unreadable` decides the same for a whole text.)"""
    head = head[: head.rfind(b"\n") + 1]
    if head.startswith(b"["):
        return False
    try:
        reference.whole(head.decode())
    except reference.NotJson as error:
        return not error.truncated and _first_bracket_line_is_object(head)
    except UnicodeDecodeError:
        pass
    return False


def _first_bracket_line_is_object(text: bytes) -> bool:
    """Whether the first line that begins with a bracket, except for marks, is a complete object."""
    first = _FIRST_BRACKET.search(text)
    return first is not None and first[1].startswith(b"{") and reference.is_object(first[1].rstrip(_BLANK))


class Text(Protocol):
    """Bytes that need not be in memory as a whole: what `cut` uses of them."""

    def __len__(self) -> int: ...
    def __getitem__(self, part: slice, /) -> bytes: ...
    def find(self, byte: bytes, start: int = 0, /) -> int: ...
    def rfind(self, byte: bytes, /) -> int: ...


def cut(data: Text, target_bytes: int) -> list[tuple[int, int, Form]]:
    """(start, stop, form) of pieces of about `target_bytes` that cover a drop. One WHOLE piece where its divisions are not cheap
    to find."""
    start = len(BOM) if data[: len(BOM)] == BOM else 0
    head = data[start : start + target_bytes].lstrip(_JSON_SPACE)
    if len(data) > target_bytes and (begins_with_line_of_object(head) or _is_lines_after_all(head)):
        return _cut_lines(data, start, target_bytes)
    if len(data) > target_bytes and head.startswith(b"["):
        return _cut_array(data, head, target_bytes)
    return [(0, len(data), Form.WHOLE)]


def refuse_damaged_beginning(beginning: bytes) -> None:
    """Unreadable where the first lines of a text that is not lines cannot begin one or more documents: then `split` refuses it,
    too. (No value has a line end inside.) For a large drop that `cut` does not divide: to read it may take more memory than
    there is."""
    marked = beginning.removeprefix(BOM)
    head = marked.lstrip(_JSON_SPACE)
    lines = head[: head.rfind(b"\n") + 1]
    if not _FIRST_BRACKET.search(lines) or not is_utf8(lines):
        return
    errors = [error for read in (reference.whole, nested.documents) if (error := _error_of(read, lines.decode()))]
    if len(errors) == 2 and not any(error.truncated for error in errors):
        furthest = max(reversed(errors), key=lambda error: error.position)
        raise _damaged(lines, furthest, marked[: len(marked) - len(head)])


def _error_of(read: Callable[[str], object], text: str) -> reference.NotJson | None:
    try:
        read(text)
    except reference.NotJson as error:
        return error
    return None


def first_pieces(data: Text, target_bytes: int) -> list[tuple[int, int, Form]]:
    """The first pieces that `cut` will return for a drop, of which `data` is the beginning."""
    start = len(BOM) if data[: len(BOM)] == BOM else 0
    head = data[start : start + target_bytes].lstrip(_JSON_SPACE)
    if len(data) <= start + target_bytes:
        return []
    if begins_with_line_of_object(head) or _is_lines_after_all(head):
        return _cut_lines(data, start, target_bytes)[:-1]
    opening = _OPENING_KEY.search(head) if head.startswith(b"[") else None
    return [] if opening is None else _array_pieces(data, target_bytes, len(data), opening.group(1))[:-1]


def _cut_lines(data: Text, start: int, target_bytes: int) -> list[tuple[int, int, Form]]:
    pieces = []
    while start < len(data):
        newline = data.find(b"\n", min(start + target_bytes, len(data)))
        stop = len(data) if newline < 0 else newline + 1
        pieces.append((start, stop, Form.LINES))
        start = stop
    return pieces


def _cut_array(data: Text, head: bytes, target_bytes: int) -> list[tuple[int, int, Form]]:
    """Cuts at a comma between two objects, of which the second has the first key of the array's first object. Such a comma may be
    inside a record with a list of similar objects; the brackets of the piece do not balance then, and `split` raises WrongCut."""
    opening = _OPENING_KEY.search(head)
    last = data.rfind(b"]")
    if opening is None or last < 0 or data[last + 1 :].strip(_JSON_SPACE):
        return [(0, len(data), Form.WHOLE)]
    return _array_pieces(data, target_bytes, last, opening.group(1))


def _array_pieces(data: Text, target_bytes: int, last: int, opening_key: bytes) -> list[tuple[int, int, Form]]:
    pieces, start = [], data.find(b"[") + 1
    while start < last:
        stop, following = _seam(data, min(start + target_bytes, last), last, opening_key)
        pieces.append((start, stop, Form.ELEMENTS))
        start = following
    return pieces


def _seam(data: Text, near: int, last: int, opening_key: bytes) -> tuple[int, int]:
    """The end of one piece and the start of the next: around a comma at or after `near`. Looks at more and more of the text: a
    seam is found in a part as in the whole, unless the part ends within it."""
    size = _SEAM_BYTES
    while True:
        stop = min(near + size, last)
        for match in _ARRAY_SEAM.finditer(data[near:stop]):
            if match.group(1) == opening_key:
                return near + match.end() - 1, near + match.end()
        if stop == last:
            return last, last
        size *= 2


def _lines(text: bytes) -> Records:
    return Records(text, *bindings.lines(text))


def is_utf8(data: bytes) -> bool:
    """Whether bytes are UTF-8."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _elements(data: bytes, scan: bool, mapping: FieldMapping) -> Records:
    records = _quickly(data, scan, mapping, inside=True) if is_utf8(data) else None
    if records is None:  # or nested too deep: a drop is read or refused as a whole, never a piece of it
        raise WrongCut
    return records


def _quickly(text: bytes, scan: bool, mapping: FieldMapping, *, inside: bool = False) -> Records | None:
    """The values of an array, or of the text between its brackets; None where it is not an array, or nested too deep."""
    scanned = bindings.scanned_array(text, inside=inside, mapping=mapping) if scan else None
    found = scanned or bindings.parts(text, inside=inside)
    return None if found is None else Records(text, *found)


def _document(text: bytes, records_path: str, scan: bool, mapping: FieldMapping) -> Records:
    """The records of one JSON document; reference.NotJson where the text is not one."""
    if not text.startswith((b"[", b"{")):
        reference.whole(_decoded(text))
        raise Unreadable(
            f"the file is one JSON value of {len(text):,} bytes, neither an array nor an object, and holds no orders"
        )
    if text.startswith(b"["):
        return _array_records(text, scan, mapping)
    return _object_records(text, records_path, scan, mapping)


def _array_records(text: bytes, scan: bool, mapping: FieldMapping) -> Records:
    records = _quickly(text, scan, mapping)
    if records is None:
        records = Records.of([one.encode() for one in _reference_elements(text)])
        _refuse_deep(records)
    return records


def _reference_elements(text: bytes) -> list[str]:
    """The elements of an array that the fast path refused, which may be JSON nevertheless (a deep one)."""
    document = _decoded(text)
    reference.whole(document)
    return reference.elements(document)


def _object_records(text: bytes, records_path: str, scan: bool, mapping: FieldMapping) -> Records:
    if is_order(text, mapping):
        return _one(text)
    pairs = pairs_of(text)
    members = dict(pairs)
    if key := repeated(pairs):
        raise Unreadable(
            f"the file is one object that has {shown(key)} more than once, each with other data; rename one of them"
        )
    array, order = array_or_order(members, records_path, mapping)
    if array is not None:
        return _array_records(array, scan, mapping)
    if "order_id" in identity_of(text, mapping):
        return _one(text)
    if order is not None:
        return _one(order)
    raise Unreadable(without_array(members, records_path, mapping))


def _one(text: bytes) -> Records:
    records = Records.of([text])
    _refuse_deep(records)
    return records


def _refuse_deep(records: Records) -> None:
    """Unreadable where a record is nested too deep. Each level takes two brackets, so short records need no check."""
    for index in np.flatnonzero(records.stops - records.starts > 2 * MAX_DEPTH).tolist():
        try:
            reference.check_depth(records[index].decode())
        except reference.TooDeep as error:
            raise Unreadable(f"record {index + 1:,} is {error}") from None


def _lines_or_unreadable(text: bytes, error: reference.NotJson, blank: bytes) -> Records:
    """A text that is not one JSON document: lines, several documents, or Unreadable. `blank`: what precedes it."""
    if _first_bracket_line_is_object(text):
        return _lines(text)
    document = text.decode(errors="replace")
    if is_utf8(text):
        try:
            return Records.of([one.encode() for one in nested.documents(document)])
        except reference.NotJson as found:
            error = found if found.position >= error.position else error
    if error.truncated:
        cut_short = reference.NotJson("the file is truncated: it ends in the middle of a JSON document", len(document))
        raise Unreadable(described(cut_short, document, blank))
    if not _FIRST_BRACKET.search(text):
        raise Unreadable(
            f"the file is not JSON, neither as one document nor line by line. It seems to be {likeness(document)}; "
            f"export orders as JSON: {described(error, document, blank)}"
        )
    raise _damaged(text, error, blank)


def _damaged(text: bytes, error: reference.NotJson, blank: bytes) -> Unreadable:
    kind = "array" if text.startswith(b"[") else "document"
    where = described(error, text.decode(errors="replace"), blank)
    return Unreadable(f"the file is a damaged JSON {kind}, not lines of records: {where}")


def _decoded(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        before = text[: error.start].decode()
        if error.reason == "unexpected end of data":  # cut inside a character: maybe a truncated document
            reference.whole(before)
        raise reference.NotJson(f"not UTF-8 (a byte {text[error.start]:#04x})", len(before)) from None
