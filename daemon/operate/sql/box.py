"""A result as a table for people. On a terminal it fits: the first and the last rows, the columns that there is room for, long
texts cut; elsewhere nothing is left out. Characters that a terminal obeys are escaped: the data may come from anyone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import IO
from unicodedata import combining, east_asian_width

from ...downstream.sandbox import quoted_name
from .output import text_of
from .session import Result

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_NUMERIC = (
    "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "HUGEINT", "UHUGEINT",
    "FLOAT", "DOUBLE", "DECIMAL",
)  # fmt: skip
_NARROWEST = 12  # a longer text is cut to no less
_SHOWN_ROWS = 40
_NULL = "NULL"


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    kind: str
    width: int
    is_number: bool


def write_box(result: Result, out: IO[str], width: int | None) -> None:
    """`width`: of the terminal; None where it is none."""
    if result.is_explain:
        for batch in result.rows([quoted_name(result.columns[-1][0])]):
            out.writelines(f"{text.rstrip()}\n" for text in batch.column(0).to_pylist())
        return
    is_short = width is not None and result.count > _SHOWN_ROWS
    columns = _fitting(_measured(result, short=is_short), width)
    shown = [one for one in columns if one is not None]
    line = "┼".join("─" * ((one.width if one else 1) + 2) for one in columns)
    out.write(f"┌{line.replace('┼', '┬')}┐\n")
    out.write(_line(columns, [_safe(one.name) for one in shown], heading=True))
    out.write(_line(columns, [_type(one.kind) for one in shown], heading=True))
    out.write(f"├{line}┤\n")
    half = _SHOWN_ROWS // 2
    for number, row in enumerate(_rows(result, [(one.name, one.kind) for one in shown], short=is_short)):
        if is_short and number == half:
            out.write(_line(columns, ["·"] * len(shown), heading=True))
        out.write(_line(columns, row))
    out.write(f"└{line.replace('┼', '┴')}┘\n")
    rows = f"{result.count:,} {'row' if result.count == 1 else 'rows'}"
    rows += f" (the first and the last {half} are shown)" if is_short else ""
    hidden = len(result.columns) - len(shown)
    out.write(f"{rows}\n" + (f"{len(result.columns)} columns ({len(shown)} are shown)\n" if hidden else ""))


def _rows(result: Result, columns: Sequence[tuple[str, str]], *, short: bool) -> Iterator[list[str | None]]:
    expressions = [text_of(name, kind) for name, kind in columns]
    half = _SHOWN_ROWS // 2
    conditions = [f"LIMIT {half}", f"LIMIT {half} OFFSET {result.count - half}"] if short else [""]
    for batch in chain.from_iterable(result.rows([*expressions], condition) for condition in conditions):
        yield from map(list, zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _measured(result: Result, *, short: bool) -> list[_Column]:
    """The columns, each as wide as its widest value."""
    widths = [max(_width(_safe(name)), _width(_type(kind))) for name, kind in result.columns]
    for row in _rows(result, result.columns, short=short):
        widths = [max(width, _width(_cell(text))) for width, text in zip(widths, row, strict=True)]
    return [
        _Column(name, kind, width, kind.startswith(_NUMERIC) and "[" not in kind)
        for (name, kind), width in zip(result.columns, widths, strict=True)
    ]


def _fitting(columns: list[_Column], width: int | None) -> list[_Column | None]:
    """The columns that fit: cut where they are long; then without some in the middle, for which there is a None."""
    if width is None:
        return list(columns)
    while _total(columns) > width and any(one.width > _NARROWEST and not one.is_number for one in columns):
        widest = max(one.width for one in columns if not one.is_number)
        if widest <= _NARROWEST:
            break
        over, many = _total(columns) - width, sum(one.width == widest for one in columns if not one.is_number)
        next_widest = max((one.width for one in columns if not one.is_number and one.width < widest), default=0)
        cut = max(min(-(-over // many), widest - next_widest), 1)
        now = max(widest - cut, _NARROWEST)
        columns = [
            _Column(one.name, one.kind, now, False) if one.width == widest and not one.is_number else one
            for one in columns
        ]
    found: list[_Column | None] = list(columns)
    while len(found) > 3 and _total(found) > width:  # one of them is the None
        middle = len(found) // 2
        if None in found:
            at = found.index(None)
            del found[at - 1 if at >= len(found) - at else at + 1]
        else:
            found[middle] = None
    return found


def _total(columns: Sequence[_Column | None]) -> int:
    return sum((one.width if one else 1) + 3 for one in columns) + 1


def _line(columns: Sequence[_Column | None], texts: Sequence[str | None], *, heading: bool = False) -> str:
    left = iter(texts)
    cells: Iterable[str] = ("…" if one is None else _padded(_cell(next(left)), one, heading) for one in columns)
    return "│ " + " │ ".join(cells) + " │\n"


def _padded(text: str, column: _Column, heading: bool) -> str:
    if (room := column.width - _width(text)) < 0:
        text, room = _cut(text, column.width)
    if heading:
        return " " * (room // 2) + text + " " * (room - room // 2)
    return " " * room + text if column.is_number else text + " " * room


def _cut(text: str, width: int) -> tuple[str, int]:
    kept, room = "", width - 1
    for one in text:
        if (room := room - _width(one)) < 0:
            break
        kept += one
    kept += "…"
    return kept, width - _width(kept)


def _cell(text: str | None) -> str:
    return _NULL if text is None else _safe(text)


def _type(kind: str) -> str:
    return kind.lower().replace('"null"', "null")


def _safe(text: str) -> str:
    return _UNSAFE.sub(lambda found: _NAMED.get(found[0]) or f"\\u{ord(found[0]):04x}", text)


def _width(text: str) -> int:
    """How many places a text takes."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(one) else 2 if east_asian_width(one) in "WF" else 1 for one in text)
