"""The dimensions: the bytes of a CSV drop in, typed rows out; rows and a published table in, the next table out. Pure.

A header names the columns, in any order; other columns are ignored. A row is taken as a whole: of equal keys the later row wins,
and the later drop. Only an empty cell is missing: `NA` is Namibia. Cells follow the rules for the fields of orders.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import Unreadable
from ..model import Bools, Dimension, Ints, ParseContext, Reason, Tally
from .damage import refuse_foreign, refuse_markup
from .discards import Discards
from .values import FAULT, WHITE_SPACE, Fault, Number, is_number, is_shortened, read_decimal, read_instant, read_text

csv.field_size_limit((1 << 31) - 1)  # a long cell is a fault of its field, not of the file

# The messages of Python's csv module, and what they mean for a person.
_WHY = {
    "expected after": "there is text after a closing quote; a quote inside a quoted field is written twice",
    "unexpected end": "a quote is never closed",
    "new-line character": "it ends in a carriage return alone, or holds one outside of quotes; save the file with line feeds",
}


_FORMULA = re.compile(r'=\s*"((?:[^"]|"")*)"')  # ="00123" keeps a text from becoming a number in Excel
# The csv module does not see a quote after such white space.
_QUOTED_LATE = re.compile(r'[\t\v\f][ \t\v\f]*"([^"]*)"[ \t\v\f]*')


@dataclass(frozen=True, slots=True)
class Read:
    """The content of one drop."""

    rows: pa.Table  # dimension.schema, in the order of the file
    discards: pa.Table  # DISCARDS
    tally: Tally


def read(dimension: Dimension, drop: int, data: bytes, context: ParseContext) -> Read:
    """Reads one CSV drop. `position` counts rows from 1, without the header and empty rows. Unreadable where there is no key
    column, a quote is not closed, or the text is not UTF-8."""
    refuse_foreign(data)
    lines = _lines(data)
    names = _next_row(lines) or []
    if names[:1] == ["sep="] and not any(names[1:]):  # the line `sep=,`, an instruction to Excel
        names = _next_row(lines) or []
    header = [_plain(name).strip(WHITE_SPACE).lower() for name in names]
    _check(header, dimension)
    rows = _rows(lines)
    key = header.index(dimension.key)
    reasons = [_why_discarded(row, key, len(header)) for row in rows]
    kept = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    discards = Discards()
    for position, (row, reason) in enumerate(zip(rows, reasons, strict=True), 1):
        if reason is not None:
            discards.add(drop, position, reason, json.dumps(row, ensure_ascii=False, separators=(",", ":")))
    faults: Counter[str] = Counter()
    columns = [
        _column(_cells(kept, header, field.name), field.name, field.type, context, faults) for field in dimension.schema
    ]
    return Read(
        pa.table(columns, schema=dimension.schema),
        discards.table(),
        Tally(len(rows), 0, Counter(reason for reason in reasons if reason is not None), faults),
    )


def _lines(data: bytes) -> Iterator[list[str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"the file is not UTF-8 (byte {error.start + 1:,}); save it as CSV in UTF-8") from None
    refuse_markup(data)
    return csv.reader((line + "\n" for line in text.split("\n")), strict=True, skipinitialspace=True)


def _next_row(lines: Iterator[list[str]]) -> list[str] | None:
    """The next row that is not empty; None at the end."""
    try:
        return next((row for row in lines if any(cell.strip(WHITE_SPACE) for cell in row)), None)
    except csv.Error as error:
        why = next((why for words, why in _WHY.items() if words in str(error)), str(error))
        raise Unreadable(f"line {lines.line_num:,} is not CSV: {why}") from None  # type: ignore[attr-defined]


def _plain(cell: str) -> str:
    """The text of a cell, also where it is written as a formula or quoted after a tab."""
    if cell[:1] not in ("=", "\t", "\v", "\f"):
        return cell
    if formula := _FORMULA.fullmatch(cell.strip(WHITE_SPACE)):
        return formula[1].replace('""', '"')
    quoted = _QUOTED_LATE.fullmatch(cell)
    return quoted[1] if quoted else cell


def _rows(lines: Iterator[list[str]]) -> list[list[str]]:
    return [[_plain(cell) for cell in row] for row in iter(lambda: _next_row(lines), None)]


def _check(header: Sequence[str], dimension: Dimension) -> None:
    if not header:
        raise Unreadable("the file is empty; its first line must name the columns")
    if header[0].startswith("sep="):
        raise Unreadable(
            f"its first line ({header[0]}) is an instruction to Excel, not the names of columns; remove it, and separate the "
            "columns by commas"
        )
    if dimension.key not in header and len(header) == 1 and dimension.key in re.split("[;\t|]", header[0]):
        raise Unreadable("its columns are not separated by commas; save it with commas")
    if dimension.key not in header:
        raise Unreadable(
            f"its first line has no column {dimension.key}; the first line of a file of {dimension.drops} must name its columns, "
            f"{', '.join(dimension.schema.names)}, separated by commas"
        )
    twice = next((name for name in dimension.schema.names if header.count(name) > 1), None)
    if twice:
        raise Unreadable(f"its first line names the column {twice} twice, so it is unknown which one is meant")


def _why_discarded(row: Sequence[str], key: int, width: int) -> Reason | None:
    """Why a row is discarded; None where it is kept. With more cells than the header, some cells are shifted, and it is unknown
    which, unless the additional ones are empty."""
    if any(cell.strip(WHITE_SPACE) for cell in row[width:]):
        return Reason.MALFORMED_RECORD
    value = read_text(row[key]) if key < len(row) else None
    if value is None:
        return Reason.MISSING_KEY
    if not isinstance(value, str):
        return Reason.INVALID_KEY
    return Reason.SHORTENED_KEY if is_shortened(value) else None


def _cells(rows: Sequence[Sequence[str]], header: Sequence[str], name: str) -> list[str | None]:
    """The cells of the column of this name; None where they are empty, or a row or the header ends before."""
    if name not in header:
        return [None] * len(rows)
    column = header.index(name)
    return [(row[column] or None) if column < len(row) else None for row in rows]


def _column(
    cells: list[str | None], name: str, kind: pa.DataType, context: ParseContext, faults: Counter[str]
) -> pa.Array:
    """Cells as a column of this type; cells that cannot be read are NULL, and counted."""
    if pa.types.is_timestamp(kind):
        return _settled(cells, name, lambda cell: _instant(cell, context), pa.int64(), faults).view(kind)
    if pa.types.is_decimal(kind):
        return _settled(cells, name, read_decimal, pa.int64(), faults).view(kind)
    return _settled(cells, name, read_text, kind, faults)


def _settled(
    cells: Sequence[str | None],
    name: str,
    read: Callable[[str | None], object],
    kind: pa.DataType,
    faults: Counter[str],
) -> pa.Array:
    values = list(map(read, cells))
    if faulty := values.count(FAULT):
        faults[name] += faulty
        values = [None if value is FAULT else value for value in values]
    return pa.array(values, kind)


def _instant(cell: str | None, context: ParseContext) -> int | Fault | None:
    """A cell has no type: digits alone are an epoch number, as in JSON without quotes."""
    text = (cell or "").strip(WHITE_SPACE)
    value = read_instant(Number(text) if is_number(text) else text)
    return FAULT if isinstance(value, int) and value > context.latest_instant else value


# ----------------------------------------------------------------------------------------------------------- upsert


@dataclass(frozen=True, slots=True)
class Upserted:
    """The next state of a dimension. `table` is None where no row changes. The masks say what became of each incoming row."""

    table: pa.Table | None
    superseded: Bools
    new: Bools
    corrected: Bools
    unchanged: Bools


def upsert(dimension: Dimension, published: pa.Table | None, rows: pa.Table) -> Upserted:
    """`published` is sorted by key; `rows` are in order of arrival: of equal keys the last counts."""
    published = dimension.schema.empty_table() if published is None else published
    winners = _last_of_each(rows[dimension.key])
    incoming = rows.take(pa.array(winners))
    partner = pc.index_in(incoming[dimension.key], value_set=published[dimension.key].combine_chunks())
    known = partner.is_valid().to_numpy()
    same = known & _equal(incoming, published.take(partner.combine_chunks()))
    changed = incoming.filter(pa.array(~same))
    marks = [np.zeros(rows.num_rows, np.bool_) for _ in range(4)]
    superseded, new, corrected, unchanged = marks
    superseded[:] = True
    superseded[winners] = False
    new[winners], corrected[winners], unchanged[winners] = ~known, known & ~same, same
    return Upserted(_replaced(dimension, published, changed) if changed.num_rows else None, *marks)


def _last_of_each(keys: pa.ChunkedArray) -> Ints:
    """The index of the last row of each key, ascending."""
    codes = keys.combine_chunks().dictionary_encode().indices.to_numpy()
    last = np.full(codes.max(initial=-1) + 1, -1, np.int64)
    last[codes] = np.arange(len(codes))  # the last assignment to a code stays
    return np.sort(last)


def _equal(left: pa.Table, right: pa.Table) -> Bools:
    """Which rows of two tables of equal length are equal; NULL equals NULL."""
    equal = np.ones(left.num_rows, np.bool_)
    for name in left.column_names:
        one, other = left[name], right[name]
        differs = pc.or_(pc.fill_null(pc.not_equal(one, other), False), pc.xor(one.is_null(), other.is_null()))
        equal &= ~differs.to_numpy()
    return equal


def _replaced(dimension: Dimension, published: pa.Table, changed: pa.Table) -> pa.Table:
    gone = pc.is_in(published[dimension.key], value_set=changed[dimension.key].combine_chunks())
    together = pa.concat_tables([published.filter(pc.invert(gone)), changed])
    return together.take(pc.sort_indices(together, [(dimension.key, "ascending")])).combine_chunks()
