"""The reference model of users and products, with strategies for their drops: a simple model of cells and rows."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests import model
from tests.strategies import RECEIVED_AT_US

LATEST_US = RECEIVED_AT_US + 86_400_000_000


COLUMNS = {"user": ["user_id", "email", "created_at", "country"], "product": ["sku", "name", "category", "price"]}


Rows = dict[str, tuple[object, ...]]


TEXTS = [
    "",
    " ",
    "a",
    "b",
    " a ",
    "NA",
    "null",
    "é",
    "x\ny",
    'say "hi"',
    "1",
    "01",
    "-0",
    "1.50",
    "k" * 256,
    "k" * 257,
    "a,b",
    '="00123"',
    '="say ""hi"""',
    "1.23457E+12",
    "1E+05",
    "1,5E+10",
    "1.5E+123",
]


INSTANTS = ["", "2026-01-01", "2026-01-01T10:00:00+01:00", " 2026-01-01 10:00 ", "1700000000", "1700000000123", "2999-01-01",
            "20250820", "45889.64", "0",
            "2026-02-30", "x", "1e9", "-5", "2026-01-01T10:00:00.1234567Z"]  # fmt: skip


NUMBERS = [
    "",
    "1",
    "1.005",
    "1.00005",
    "-2.5",
    "1e3",
    "1_000",
    "0x1",
    "1,5",
    "NaN",
    "99999999999999.9999",
    "1e14",
    " 3 ",
    ".5",
    "12,50",
    "1.234",
    "0.125",
    "1.234,50",
    "-1.234.567",
    "1.234.567,8",
    "1.23,4",
    "1234.567",
    "1,234.5",
    "1,5E+3",
]


CELLS = {"created_at": INSTANTS, "price": NUMBERS}


@st.composite
def csv_drops(draw: st.DrawFn, name: str) -> bytes:
    """A CSV drop of a dimension: columns in any order, extra ones, some missing; rows of any length."""
    key, *others = COLUMNS[name]
    header = draw(st.permutations([key, *draw(st.lists(st.sampled_from(others), unique=True)), *draw(
        st.lists(st.sampled_from(["extra", "note"]), unique=True))]))  # fmt: skip
    keys = ["a", "b", "c", *TEXTS] if draw(st.booleans()) else ["a", "b", "c"]
    cells = [st.sampled_from(keys if column == key else CELLS.get(column, TEXTS)) for column in header]
    rows = draw(st.lists(st.tuples(*cells).map(list), max_size=6))
    ends = [draw(st.sampled_from(["", "", "", "longer", "shorter", "empty cells"])) for _ in rows]
    rows = [
        row[: len(row) - (end == "shorter")] + ["more"] * (end == "longer") + ["", " "] * (end == "empty cells")
        for row, end in zip(rows, ends, strict=True)
    ]
    text = io.StringIO()
    end = draw(st.sampled_from(["\n", "\r\n"]))
    # Else the header does not tell it
    separator = draw(st.sampled_from([",", ",", ";", "\t"])) if len(header) > 1 else ","
    text.write(draw(st.sampled_from(["", "", "", f"sep={separator}{end}", f'{end}"SEP={separator}"{end}'])))
    writer = csv.writer(text, lineterminator=end, delimiter=separator)
    writer.writerow([draw(st.sampled_from([column, column.upper(), f" {column} "])) for column in header])
    for row in rows:
        joined = ["\ufeff", separator.join(header).upper() + end, separator.join(reversed(header)) + end]
        text.write(draw(st.sampled_from([*[""] * 12, *joined])))
        if draw(st.sampled_from([False, False, True])):  # quoted, with blanks before the quotes
            blanks = draw(st.sampled_from([" ", "  "]))
            text.write(separator.join(blanks + '"' + cell.replace('"', '""') + '"' for cell in row) + end)
            continue
        writer.writerow(row)
        text.write(draw(st.sampled_from(["", "", end])))
    encoding = draw(st.sampled_from(["utf-8", "utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"]))
    return (
        codecs.BOM_UTF16_LE * (encoding == "utf-16-le")
        + codecs.BOM_UTF16_BE * (encoding == "utf-16-be")
        + (text.getvalue().encode(encoding))
    )


def expected_rows(name: str, data: bytes) -> tuple[list[tuple[str, tuple[object, ...]] | str], Counter[str]]:
    """Each row of a drop by a literal reading of the input contract: (key, row), or the reason of a discard. Unreadable where
    all are discards, or one is another header, goes over several lines, or has another separator."""
    separator, lines = lines_of(name, data)
    header, found, faults = [cell.strip().lower() for cell in lines[0]], [], Counter[str]()
    for line in lines[1:]:
        if [cell.strip().lower() for cell in line] == header:
            continue
        stripped = [cell.strip(model.TEXT_SPACE) for cell in line]
        filled = [cell.lower() for cell in stripped if cell]
        typed = [COLUMNS[name][0], "created_at", "price"]
        if (
            (len(filled) > 1 and all(cell in header for cell in filled))
            or any("\n" in cell for column, cell in zip(header, stripped, strict=False) if column in typed)
            or (len(line) == 1 < len(header) and set(stripped[0]) & set(",;\t") - {separator})
        ):
            raise model.Unreadable("rows are shifted")
        cells = dict(zip(header, line + [""] * (len(header) - len(line)), strict=False))
        key = cells[COLUMNS[name][0]].strip(model.TEXT_SPACE)
        if any(cell.strip(model.TEXT_SPACE) for cell in line[len(header) :]):
            found.append("malformed_record")
        elif not key:
            found.append("missing_key")
        elif len(key.encode()) > 256:
            found.append("invalid_key")
        elif re.fullmatch(r"-?[0-9]([.,][0-9]+)?[eE]\+[0-9][0-9]", key):
            found.append("shortened_key")
        else:
            values = [key]
            for column in COLUMNS[name][1:]:
                value = expected_value(column, cells.get(column, "").strip(model.TEXT_SPACE), separator)
                faults[column] += value is model._Fault
                values.append(None if value is model._Fault else value)
            found.append((key, tuple(values)))
    if found and not any(isinstance(one, tuple) for one in found):
        raise model.Unreadable("no row can be kept")
    return found, +faults


def lines_of(name: str, data: bytes) -> tuple[str, list[list[str]]]:
    """The separator, and the lines that are not blank. Told by the line `sep=`, else by the header: the first separator that
    gives it the key column."""
    utf_16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    text = data.decode("utf-16" if utf_16 else "utf-8-sig").replace("\n\ufeff", "\n")
    separators = [",", ";", "\t"]
    if told := re.match(r'\s*"?sep=(.)"?\r?\n', text, re.IGNORECASE):
        separators, text = [told[1]], text[told.end() :]
    found = {}
    for separator in separators:
        rows = cells_of(text, separator)
        found[separator] = [row for row in rows if any(cell.strip(model.TEXT_SPACE) for cell in row)]
        if COLUMNS[name][0] in [cell.strip().lower() for cell in found[separator][0]]:
            break
    else:
        separator = ","
    return separator, found[separator]


def cells_of(text: str, separator: str) -> list[list[str]]:
    """A CSV text, character by character: white space before a quote and an Excel formula around a text say nothing."""
    rows: list[list[str]] = [[]]
    blank = "[ \\x0b\\x0c]*" if separator == "\t" else "[ \\t\\x0b\\x0c]*"
    for row in re.finditer(r'((?:[^"\n]|"(?:[^"]|"")*")*)(?:\n|\Z)', text):
        cell = rf'(?:^|{separator})((?:{blank}"(?:[^"]|"")*"[^{separator}]*)|[^{separator}]*)'
        cells = re.findall(cell, row[1].removesuffix("\r"))
        rows.append([cell_of(cell) for cell in cells] if row[1] else [])
    return rows


def cell_of(cell: str) -> str:
    if formula := re.fullmatch(r'=\s*"((?:[^"]|"")*)"', cell.strip(model.TEXT_SPACE)):
        return formula[1].replace('""', '"')
    if quoted := re.fullmatch(r'[ \t\x0b\x0c]*"((?:[^"]|"")*)"[ \t\x0b\x0c]*', cell):
        inner = quoted[1].replace('""', '"')
        formula = re.fullmatch(r'=\s*"((?:[^"]|"")*)"', inner.strip(model.TEXT_SPACE))
        return formula[1].replace('""', '"') if formula else inner
    return cell


def price_of(text: str, separator: str) -> Any:
    """A number. Between semicolons the comma is its decimal sign, and dots may divide thousands."""
    if separator != ";":
        return model._decimal(json.dumps(text))
    whole, comma, fraction = text.partition(",")
    first, *groups = whole.removeprefix("-").split(".")
    divided = re.fullmatch("[1-9][0-9]{0,2}", first) and all(re.fullmatch("[0-9]{3}", group) for group in groups)
    if groups and divided and not comma and len(groups) == 1:
        raise model._Fault  # 1.234 may be either
    if divided and (re.fullmatch("[0-9]+", fraction) if comma else groups):
        whole = whole.replace(".", "")
    if comma and ("." in whole or "." in fraction):
        raise model._Fault
    return model._decimal(json.dumps(f"{whole}.{fraction}" if comma else whole))


def expected_value(column: str, text: str, separator: str) -> Any:
    try:
        if not text:
            return None
        if column == "created_at":
            number = model._NUMBER.fullmatch(text)
            return model._instant_until(text if number else json.dumps(text), LATEST_US)
        if column == "price":
            return price_of(text, separator)
        return model._text(json.dumps(text, ensure_ascii=False))
    except model._Fault:
        return model._Fault


class DimensionModel:
    """The published rows by key, and the outcome of each row that arrived."""

    def __init__(self, name: str) -> None:
        self.name, self.published, self.last, self.seq = name, Rows(), b"", 0

    def apply(self, batch: Sequence[bytes]) -> list[Counter[str] | None]:
        """None: a duplicate."""
        results: list[Counter[str] | None] = []
        came: list[tuple[str, tuple[object, ...], Counter[str]]] = []
        before = self.last  # in a batch, a drop is compared with the one before it, whatever becomes of that
        for data in batch:
            is_again, before = data == before, data
            if is_again:
                results.append(None)
                continue
            counts: Counter[str] = Counter()
            try:
                rows = expected_rows(self.name, data)[0]
            except model.Unreadable:
                results.append(Counter(quarantined=1))
                before = b"refused"
                continue
            self.last = data
            for one in rows:
                if isinstance(one, str):
                    counts[one] += 1
                else:
                    came.append((*one, counts))
            results.append(counts)
        latest = {key: place for place, (key, _, _) in enumerate(came)}
        for place, (key, row, counts) in enumerate(came):
            if latest[key] != place:
                counts["superseded"] += 1
                continue
            known = self.published.get(key)
            counts["new" if known is None else "unchanged" if known == row else "corrected"] += 1
            self.published[key] = row
        return results
