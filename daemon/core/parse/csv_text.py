"""The text of a CSV file: its encoding, its separator, its header and its rows of cells. Pure; knows no column's type.

The encoding is UTF-8, UTF-16 if a byte order mark says so, or cp1252 if the source says so and the text is not UTF-8. The
separator is the one of comma, semicolon and tab that gives the header its key column; if several do, or none, it is the comma. A
first line `sep=;` decides.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from ..errors import Unreadable
from .damage import place, refuse_foreign, refuse_markup, shown
from .values import WHITE_SPACE

csv.field_size_limit((1 << 31) - 1)  # a long cell is a fault of its field, not of the file

COMMA, SEMICOLON, TAB = ",", ";", "\t"
SEPARATORS = (COMMA, SEMICOLON, TAB)  # the preferred one first
READABLE_SEPARATORS = "commas, semicolons or tabs"
_UTF_16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
_UTF_8_MARK = b"\xef\xbb\xbf"
_UTF_32 = b"\xff\xfe\x00\x00"
# The messages of Python's csv module, and what they mean for a person.
_WHY = {
    "expected after": "there is text after a closing quote; a quote inside a quoted field is written twice",
    "new-line character": "it ends in a carriage return alone, or holds one outside of quotes; save the file with line feeds",
}
_UNCLOSED = "unexpected end"  # as that module says it
_FORMULA = re.compile(r'=\s*"((?:[^"]|"")*)"')  # ="00123" keeps a text from becoming a number in Excel
# The csv module does not see a quote after such white space.
_QUOTED_LATE = re.compile(r'[\t\v\f][ \t\v\f]*"([^"]*)"[ \t\v\f]*')
_INSTRUCTION = re.compile(r'[ \t]*"?sep=(.)"?[,;\s]*', re.IGNORECASE)  # to Excel: the separator of the file


@dataclass(frozen=True, slots=True)
class Sheet:
    """A CSV file. `header`: the names of its columns, in lower case. `rows`: its other rows that are not empty, without repeated
    headers, which files have that were joined."""

    separator: str
    header: Sequence[str]
    rows: Iterator[list[str]]
    first: int = 0  # the number of lines before the header: an instruction to Excel, and empty ones before that
    line: Callable[[], int] = int  # how many lines were read so far


def read_sheet(data: bytes, keys: Sequence[str], encoding: str) -> Sheet:
    """`keys`: the possible names of the key column. Unreadable where the text or the header is not CSV; `rows` raises it, too."""
    lines = _text(data, encoding).split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip(WHITE_SPACE)), 0)
    if told := _INSTRUCTION.fullmatch(lines[first]):
        if told[1] not in SEPARATORS:
            raise Unreadable(
                f"its first line says that its columns are separated by {told[1]}; save it with {READABLE_SEPARATORS}"
            )
        return _sheet(lines, told[1], first + 1)
    sheets = (sheet for separator in SEPARATORS if (sheet := _sheet_if_csv(lines, separator)) is not None)
    found = next((sheet for sheet in sheets if any(key in sheet.header for key in keys)), None)
    return found or _sheet(lines, COMMA)


def _text(data: bytes, encoding: str) -> str:
    text, _, _ = _decoded(data, encoding)
    refuse_markup(text[:64].encode("utf-8", "replace"))
    if text.endswith("\0"):
        raise Unreadable("the file ends in NUL characters, so it was not written completely; drop the complete file")
    return text.replace("\n\ufeff", "\n")  # files were joined, each with its byte order mark


def _decoded(data: bytes, encoding: str) -> tuple[str, str, bytes]:
    """The text, the encoding that it has, and the byte order mark before it."""
    utf_16 = None if data.startswith(_UTF_32) else _UTF_16.get(data[:2])
    if utf_16 is None:
        refuse_foreign(data)
    codec, mark = (utf_16, data[:2]) if utf_16 else ("utf-8", _UTF_8_MARK if data.startswith(_UTF_8_MARK) else b"")
    try:
        return data[len(mark) :].decode(codec), codec, mark
    except UnicodeDecodeError as error:
        if utf_16:
            where = _place_in(data[len(mark) : len(mark) + error.start].decode(codec))
            raise Unreadable(f"the file begins as UTF-16 and is damaged ({where}); save it as CSV in UTF-8") from None
        return _in_cp1252(data, encoding, len(mark) + error.start), "cp1252", b""


def _in_cp1252(data: bytes, encoding: str, not_utf_8: int) -> str:
    """A text that is not UTF-8 from the byte `not_utf_8` on."""
    if encoding != "cp1252" or data.startswith(_UTF_8_MARK):
        raise Unreadable(
            f'the file is not UTF-8 ({_place(data, not_utf_8)}); save it as CSV in UTF-8, or set encoding = "cp1252" for its '
            "source if it comes from Excel on Windows"
        )
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError as error:
        raise Unreadable(
            f"the file is neither UTF-8 ({_place(data, not_utf_8)}) nor cp1252, which does not use the byte "
            f"{data[error.start]:02X} ({_place(data, error.start)}); save it as CSV in UTF-8"
        ) from None


def _place(data: bytes, at: int) -> str:
    """Where a byte is. A byte that is not UTF-8 before it counts as a character, as in cp1252."""
    return _place_in(data[:at].removeprefix(_UTF_8_MARK).decode("utf-8", "replace"))


def _place_in(before: str) -> str:
    return place(before, len(before))


def line_of(data: bytes, keys: Sequence[str], encoding: str, number: int) -> int:
    """The line on which a row begins, from 1. `number`: of the row, as `read_sheet` gives them, from 1."""
    sheet = read_sheet(data, keys, encoding)
    row = next(islice(sheet.rows, number - 1, None))
    return sheet.line() - sum(cell.count("\n") for cell in row)


def _sheet(lines: Sequence[str], separator: str, first: int = 0) -> Sheet:
    cells = csv.reader((line + "\n" for line in lines[first:]), delimiter=separator, strict=True, skipinitialspace=True)
    header: list[str] = []

    def next_row() -> list[str] | None:
        begin = 0
        try:
            while True:
                begin = first + cells.line_num
                row = next(cells, None)
                if row is None or any(cell.strip(WHITE_SPACE) for cell in row):
                    return row
        except csv.Error as error:
            if _UNCLOSED in str(error):
                raise Unreadable(_unclosed(lines[begin:], separator, header, begin)) from None
            why = next((why for words, why in _WHY.items() if words in str(error)), str(error))
            raise Unreadable(f"line {first + cells.line_num:,} is not CSV: {why}") from None

    header += _as_header(next_row() or [])
    rows = ([_plain(cell) for cell in row] for row in iter(next_row, None))
    kept = (row for row in rows if _as_header(row) != header)
    return Sheet(separator, header, kept, first, lambda: first + cells.line_num)


def without_rows(data: bytes, keys: Sequence[str], encoding: str, is_gone: Callable[[Sequence[str]], bool]) -> bytes:
    """The same file without some of its rows. The lines of the others stay as they are."""
    sheet = read_sheet(data, keys, encoding)
    text, codec, mark = _decoded(data, encoding)
    lines = text.split("\n")
    unmarked = [line.removeprefix("\ufeff") if number else line for number, line in enumerate(lines)]  # as _text does
    cells = csv.reader(
        (line + "\n" for line in unmarked[sheet.first :]), delimiter=sheet.separator, strict=True, skipinitialspace=True
    )
    kept, start = lines[: sheet.first], sheet.first
    for row in cells:
        stop = sheet.first + cells.line_num
        is_row = any(cell.strip(WHITE_SPACE) for cell in row) and _as_header(row) != sheet.header
        if not is_row or not is_gone([_plain(cell) for cell in row]):
            kept += lines[start:stop]
        start = stop
    return mark + "\n".join(kept).encode(codec)


def _as_header(row: Sequence[str]) -> list[str]:
    return [_plain(name).strip(WHITE_SPACE).lower() for name in row]


def _sheet_if_csv(lines: Sequence[str], separator: str) -> Sheet | None:
    """None where the header is not CSV with this separator."""
    try:
        return _sheet(lines, separator)
    except Unreadable:
        return None


def _unclosed(lines: Sequence[str], separator: str, header: Sequence[str], before: int) -> str:
    """Where the quote that is never closed opens: in the last cell. `lines`: from its row on; `before`: how many come before."""
    cells = next(csv.reader((line + "\n" for line in lines), delimiter=separator, skipinitialspace=True))
    line = before + 1 + sum(cell.count("\n") for cell in cells[:-1])
    column = f" in its column {shown(header[len(cells) - 1])}" if len(cells) <= len(header) else ""
    return f"line {line:,} is not CSV: a quote that opens there{column} is never closed"


def _plain(cell: str) -> str:
    """The text of a cell, also where it is written as a formula or quoted after a tab."""
    if cell[:1] not in ("=", "\t", "\v", "\f"):
        return cell
    if formula := _FORMULA.fullmatch(cell.strip(WHITE_SPACE)):
        return formula[1].replace('""', '"')
    quoted = _QUOTED_LATE.fullmatch(cell)
    return quoted[1] if quoted else cell
