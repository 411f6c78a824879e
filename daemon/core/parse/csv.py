"""The dimensions: the bytes of a CSV drop in, typed rows out; rows and a published table in, the next table out. Pure.

A header names the columns, in any order; other columns are ignored. A row is taken as a whole: of equal keys the later row wins,
and the later drop. Only an empty cell is missing: `NA` is Namibia. Cells follow the rules for the fields of orders, except for
prices with a decimal comma in a file that is separated by semicolons.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..errors import Unreadable
from ..mapping import FieldMapping
from ..model import Bools, Dimension, Ints, ParseContext, Reason, Tally
from .csv_text import READABLE_SEPARATORS, SEMICOLON, SEPARATORS, Sheet, line_of, read_sheet
from .discards import Discards
from .mapped import translator
from .values import FAULT, WHITE_SPACE, Fault, Number, is_number, is_shortened, read_decimal, read_instant, read_text

_SHOWN_COLUMNS = 12
_COLUMN_NAME = re.compile(r"(?=.*[^\W\d_])[\w .:/()#-]{1,40}")  # no e-mail address, and no number
_THOUSANDS = re.compile(r"-?[1-9][0-9]{0,2}((?:\.[0-9]{3})+)(,[0-9]+)?")  # 1.234,50


@dataclass(frozen=True, slots=True)
class Read:
    """The content of one drop."""

    rows: pa.Table  # dimension.schema, in the order of the file
    discards: pa.Table  # DISCARDS
    tally: Tally


def read(dimension: Dimension, drop: int, data: bytes, context: ParseContext, *, refusing: bool = True) -> Read:
    """Reads one CSV drop. `position` counts rows from 1, without the header and empty rows. Unreadable where there is no key
    column, a quote is not closed, or the text has another encoding. `refusing`: also where no row can be kept."""
    layout = layout_of(dimension, data, context)
    names, column_of = layout.names, layout.column_of
    rows = list(layout.sheet.rows)
    if shifted := _shifted(rows, layout.sheet, dimension, column_of):
        number, why = shifted
        line = line_of(data, names[dimension.key], context.mapping.encoding, number)
        raise Unreadable(f"row {number:,} (line {line:,}) {why}")
    reasons = [layout.why_discarded(row) for row in rows]
    kept = [row for row, reason in zip(rows, reasons, strict=True) if reason is None]
    if refusing and rows and not kept:
        why = ", ".join(sorted({str(reason) for reason in reasons}))
        raise Unreadable(
            f"none of its {len(rows):,} rows can be kept ({why}); each needs a {' or '.join(names[dimension.key])}"
        )
    discards = Discards()
    for position, (row, reason) in enumerate(zip(rows, reasons, strict=True), 1):
        if reason is not None:
            discards.add(drop, position, reason, json.dumps(row, ensure_ascii=False, separators=(",", ":")))
    faults: Counter[str] = Counter()
    columns = [
        pa.array([layout.key_of(row) for row in kept], field.type) if field.name == dimension.key
        else _column(_cells(kept, column_of[field.name]), field.name, field.type, layout.reader(field.type), faults)
        for field in dimension.schema
    ]  # fmt: skip
    return Read(
        pa.table(columns, schema=dimension.schema),
        discards.table(),
        Tally(len(rows), 0, Counter(reason for reason in reasons if reason is not None), faults),
    )


@dataclass(frozen=True, slots=True)
class Layout:
    """A CSV file whose header is read. `names`: by field, the columns where it may be; `column_of`: the place of its column."""

    sheet: Sheet
    context: ParseContext
    names: Mapping[str, Sequence[str]]
    column_of: Mapping[str, int | None]
    key: int
    prefix: str  # of each key

    def key_of(self, row: Sequence[str]) -> object:
        """The key of a row; FAULT where it cannot be read."""
        text = read_text(row[self.key]) if self.key < len(row) else None
        return read_text(self.prefix + text) if self.prefix and isinstance(text, str) else text

    def why_discarded(self, row: Sequence[str]) -> Reason | None:
        """Why a row is discarded; None where it is kept. With more cells than the header, some cells are shifted, and it is
        unknown which, unless the additional ones are empty."""
        if any(cell.strip(WHITE_SPACE) for cell in row[len(self.sheet.header) :]):
            return Reason.MALFORMED_RECORD
        value = self.key_of(row)
        if value is None:
            return Reason.MISSING_KEY
        if not isinstance(value, str):
            return Reason.INVALID_KEY
        return Reason.SHORTENED_KEY if is_shortened(row[self.key].strip(WHITE_SPACE)) else None

    def reader(self, kind: pa.DataType) -> Callable[[str | None], object]:
        """What reads the cells of a column of this type. A cell that is empty is None."""
        if pa.types.is_timestamp(kind):
            return lambda cell: _instant(cell, self.context)
        if pa.types.is_decimal(kind):
            return _read_comma_decimal if self.sheet.separator == SEMICOLON else read_decimal
        return read_text

    def unread(self) -> list[str]:
        """The columns that nothing reads."""
        used = set(self.column_of.values())
        return [name for place, name in enumerate(self.sheet.header) if name and place not in used]


def layout_of(dimension: Dimension, data: bytes, context: ParseContext) -> Layout:
    """Reads the header of a CSV file. Unreadable where it has no key column, or the text has another encoding."""
    names = _names(dimension, context.mapping)
    sheet = read_sheet(data, names[dimension.key], context.mapping.encoding)
    _check(sheet, dimension, names)
    column_of = {field: _column_of(sheet.header, names[field]) for field in dimension.schema.names}
    key = column_of[dimension.key]
    assert key is not None, "_check refuses a file without its key column"
    prefix = context.mapping.id_prefix if dimension.key == "user_id" else ""  # as orders have it
    return Layout(sheet, context, names, column_of, key, prefix)


def lines_of_rows(
    dimension: Dimension, data: bytes, context: ParseContext, positions: Collection[int]
) -> dict[int, int]:
    """The lines on which these rows begin, by position. Unreadable where the file is not read to the last of them."""
    sheet = layout_of(dimension, data, context).sheet
    return {
        position: sheet.line() - sum(cell.count("\n") for cell in row)
        for position, row in enumerate(islice(sheet.rows, max(positions, default=0)), 1)
        if position in positions
    }


def _names(dimension: Dimension, mapping: FieldMapping) -> dict[str, Sequence[str]]:
    """By field, the names that its column may have, the preferred one first, in lower case."""
    given = dict({"user": mapping.users, "product": mapping.products}[dimension.name])
    return {
        field: [name.strip(WHITE_SPACE).lower() for name in given.get(field, (field,))]
        for field in dimension.schema.names
    }


def _column_of(header: Sequence[str], names: Sequence[str]) -> int | None:
    """The place of the first of these names that a header has."""
    return next((header.index(name) for name in names if name in header), None)


def _check(sheet: Sheet, dimension: Dimension, names: Mapping[str, Sequence[str]]) -> None:
    header, keys = sheet.header, names[dimension.key]
    if not header:
        raise Unreadable("the file is empty; its first line must name the columns")
    if not any(key in header for key in keys):
        if any(key in header[0].split("|") for key in keys):
            raise Unreadable(f"its columns are separated by |; save it with {READABLE_SEPARATORS}")
        wanted = " or ".join(keys) or dimension.key
        usual = ", ".join(field[0] for field in names.values() if field)
        raise Unreadable(
            f"its first line has no column {wanted}; its columns are {_shown(header)}. If one of them is the {dimension.key}, "
            f'set {dimension.key} = "that column" in [sources.default.{dimension.drops}]. Usually, the first line of a file of '
            f"{dimension.drops} names {usual}, separated by {READABLE_SEPARATORS}"
        )
    used = (header[place] for field in names.values() if (place := _column_of(header, field)) is not None)
    twice = next((name for name in used if header.count(name) > 1), None)
    if twice:
        raise Unreadable(f"its first line names the column {twice} twice, so it is unknown which one is meant")


def _shown(header: Sequence[str]) -> str:
    """The names of the first columns. A header that is none may be a row, with personal data: then only their number."""
    cells = re.split("[;\t]", header[0]) if len(header) == 1 else header  # without its key, the separator is not known
    names = [name for name in (cell.strip('"' + WHITE_SPACE) for cell in cells) if name]
    if not names or not all(_COLUMN_NAME.fullmatch(name) for name in names):
        return f"{len(cells):,}, of which some have no plain names"
    return ", ".join(names[:_SHOWN_COLUMNS]) + (", …" if len(names) > _SHOWN_COLUMNS else "")


def _shifted(
    rows: Sequence[Sequence[str]], sheet: Sheet, dimension: Dimension, column_of: Mapping[str, int | None]
) -> tuple[int, str] | None:
    """The first row that shows that others are read wrongly, and how: a second header with other columns, a row that the quotes
    of another have swallowed, or rows with another separator than the header."""
    is_free = {
        field.name: pa.types.is_large_string(field.type) and field.name != dimension.key for field in dimension.schema
    }
    typed = [place for field, place in column_of.items() if place is not None and not is_free[field]]
    columns = set(sheet.header)
    others = [separator for separator in SEPARATORS if separator != sheet.separator]
    for number, row in enumerate(rows, 1):
        cells = [cell.strip(WHITE_SPACE) for cell in row]
        if sum(map(bool, cells)) > 1 and columns.issuperset(cell.lower() for cell in cells if cell):
            return number, "names columns again, in another order; drop files with other columns one by one"
        swallowing = next((place for place in typed if place < len(cells) and "\n" in cells[place]), None)
        if swallowing is not None:
            column = _shown([sheet.header[swallowing]])
            return number, f"goes on over several lines in column {column}: a quote is probably missing or too many"
        if len(cells) == 1 < len(sheet.header) and any(separator in cells[0] for separator in others):
            return number, "has another separator than the header; save the file with one separator"
    return None


def _cells(rows: Sequence[Sequence[str]], column: int | None) -> list[str | None]:
    """The cells of a column; None where they are empty, or a row ends before, or there is no such column."""
    if column is None:
        return [None] * len(rows)
    return [(row[column] or None) if column < len(row) else None for row in rows]


def _column(
    cells: list[str | None],
    name: str,
    kind: pa.DataType,
    read: Callable[[str | None], object],
    faults: Counter[str],
) -> pa.Array:
    """Cells as a column of this type; cells that cannot be read are NULL, and counted."""
    if pa.types.is_timestamp(kind) or pa.types.is_decimal(kind):
        return _settled(cells, name, read, pa.int64(), faults).view(kind)
    return _settled(cells, name, read, kind, faults)


def _read_comma_decimal(cell: str | None) -> object:
    """A number in a file that is separated by semicolons, where the comma is the decimal sign. Dots before the comma, or
    several of them, divide thousands. A single dot is a decimal point, except in `1.234`, which may mean either: a fault."""
    text = (cell or "").strip(WHITE_SPACE)
    if thousands := _THOUSANDS.fullmatch(text):
        if len(thousands[1]) == len(".234") and not thousands[2]:
            return FAULT
        text = text.replace(".", "")
    return FAULT if "," in text and "." in text else read_decimal(text.replace(",", ".") or None)


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
    text: object = (cell or "").strip(WHITE_SPACE)
    if is_number(str(text)):
        text = Number(text)
    elif context.mapping.time_zone != "UTC":
        text = translator(context.mapping).zoned(text)
    value = read_instant(text)
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
