"""The dimensions: the bytes of a CSV drop in, typed rows out; rows and a published table in, the next table out. Pure.

A header names the columns, in any order; others are ignored. A row is taken as a whole: of one key the later row wins, and
the later drop. There is no "missing" but the empty cell: `NA` is Namibia. Cells follow the rules of the orders' fields,
read by the same two lanes: many at a time, and one by one what the many do not vouch for.
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

csv.field_size_limit((1 << 31) - 1)  # a drop's size is limited before; a long cell is at fault, its file is not

# What Python says of a text that is no CSV, and what a person can do with.
_WHY = {
    "expected after": "there is text after a closing quote; a quote inside a quoted field is written twice",
    "unexpected end": "a quote is never closed",
    "new-line character": "it ends in a carriage return alone, or holds one outside of quotes; save the file with line feeds",
}


_FORMULA = re.compile(r'=\s*"((?:[^"]|"")*)"')  # ="00123": how a text is kept from being a number in Excel
_QUOTED_LATE = re.compile(
    r'[\t\v\f][ \t\v\f]*"([^"]*)"[ \t\v\f]*'
)  # white space before a quote hides it from the csv module


@dataclass(frozen=True, slots=True)
class Read:
    """What one drop said."""

    rows: pa.Table  # dimension.schema, in the order of the file
    discards: pa.Table  # DISCARDS
    tally: Tally


def read(dimension: Dimension, drop: int, data: bytes, context: ParseContext) -> Read:
    """Reads one CSV drop. `position` counts rows from 1, the header and empty rows not included. Raises Unreadable where
    there is no key column, a quote is left open, or the text is not UTF-8."""
    refuse_foreign(data)
    lines = _lines(data)
    names = _next_row(lines) or []
    if names[:1] == ["sep="] and not any(names[1:]):  # `sep=,`: what Excel is told, and true
        names = _next_row(lines) or []
    header = [_plain(name).strip(WHITE_SPACE).lower() for name in names]
    _check(header, dimension)
    rows = _rows(lines)
    key = header.index(dimension.key)
    verdicts = [_judge_row(row, key, len(header)) for row in rows]
    kept = [place for place, verdict in enumerate(verdicts) if verdict is None]
    discards = Discards()
    for place, verdict in enumerate(verdicts):
        if verdict is not None:
            discards.add(drop, place + 1, verdict, json.dumps(rows[place], ensure_ascii=False, separators=(",", ":")))
    faults: Counter[str] = Counter()
    columns = [
        _column(_cells([rows[place] for place in kept], header, field.name), field.name, field.type, context, faults)
        for field in dimension.schema
    ]
    return Read(
        pa.table(columns, schema=dimension.schema),
        discards.table(),
        Tally(len(rows), 0, Counter(verdict for verdict in verdicts if verdict is not None), faults),
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
        raise Unreadable(f"line {lines.line_num:,} is no CSV: {why}") from None  # type: ignore[attr-defined]


def _plain(cell: str) -> str:
    """What a cell says that is written as a formula, or whose quotes come after a tab."""
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
            f"its first line ({header[0]}) is an instruction to Excel, not the names of columns; take it away, and divide the "
            "columns by commas"
        )
    if dimension.key not in header and len(header) == 1 and dimension.key in re.split("[;\t|]", header[0]):
        raise Unreadable("its columns are not divided by commas, which a CSV needs here; save it with commas")
    if dimension.key not in header:
        raise Unreadable(
            f"no column of its first line is called {dimension.key}; a file of {dimension.drops} must name its columns, "
            f"{', '.join(dimension.schema.names)}, divided by commas"
        )
    twice = next((name for name in dimension.schema.names if header.count(name) > 1), None)
    if twice:
        raise Unreadable(f"its first line names the column {twice} twice, so nobody can tell which one is meant")


def _judge_row(row: Sequence[str], key: int, width: int) -> Reason | None:
    """Why a row cannot be kept. One that has more cells than the header has shifted ones, and nobody can tell which, unless
    those too many are empty."""
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
    place = header.index(name)
    return [(row[place] or None) if place < len(row) else None for row in rows]


def _column(
    cells: list[str | None], name: str, kind: pa.DataType, context: ParseContext, faults: Counter[str]
) -> pa.Array:
    """Cells as a column of this type; those that cannot be read are NULL, and counted."""
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
    """A cell has no type: digits alone are an epoch number, as they would be in JSON without quotes."""
    text = (cell or "").strip(WHITE_SPACE)
    value = read_instant(Number(text) if is_number(text) else text)
    return FAULT if isinstance(value, int) and value > context.latest_instant else value


# ----------------------------------------------------------------------------------------------------------- upsert


@dataclass(frozen=True, slots=True)
class Upserted:
    """The next state of a dimension. `table` is None where no row changes. The masks say what became of each row in."""

    table: pa.Table | None
    superseded: Bools
    new: Bools
    corrected: Bools
    unchanged: Bools


def upsert(dimension: Dimension, published: pa.Table | None, rows: pa.Table) -> Upserted:
    """`published` is sorted by key; `rows` are in order of arrival: of one key the last counts."""
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
    """Where each key stands last, ascending."""
    codes = keys.combine_chunks().dictionary_encode().indices.to_numpy()
    last = np.full(codes.max(initial=-1) + 1, -1, np.int64)
    last[codes] = np.arange(len(codes))  # of one code the last assignment stays
    return np.sort(last)


def _equal(left: pa.Table, right: pa.Table) -> Bools:
    """Where all columns are equal; NULL is the same as NULL. Both have a row for each other's."""
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
