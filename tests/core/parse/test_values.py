"""Single values: each spelling that docs/INPUT.md names, and those just beside it, is read as the plain model reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest

from daemon.core.parse.values import (
    FAULT,
    Number,
    is_shortened,
    read_boolean,
    read_decimal,
    read_instant,
    read_metadata,
    read_text,
    unwrapped,
)
from tests import model, strategies


def quoted(*texts: str) -> list[str]:
    return [json.dumps(text) for text in texts]


_CLOCKS = [
    f"{hour}:{minute}:{second}{fraction}"
    for hour, minute, second, fraction in product(
        ("00", "09", "23", "24", "25"), ("00", "59", "60"), ("00", "59", "60", "61"), ("", ".0", ".000001", ",9999999")
    )
]
_ZONES = [
    "Z",
    "z",
    " UTC",
    "GMT",
    "+00",
    "-0000",
    "+23:59",
    "-23:59",
    "+24:00",
    "-01:60",
    "+1:00",
    "+01:30[Europe/Berlin]",
]
_DAYS = ["1969-12-31", "1970-01-01", "1970-01-02", "2024-02-29", "2026-02-29", "2026-12-31", "9999-12-31", "0001-01-01"]
_MAIL = [
    f"{week}{day} {month} 2026 {clock} {zone}"
    for week, day, month, clock, zone in product(
        ("", "Thu, ", "Foo, "),
        ("9", "19", "32"),
        ("Jan", "Nov", "Dec", "Foo"),
        ("08:30", "24:00", "08:60:00"),
        ("GMT", "-0500"),
    )
]
_EPOCHS = [
    str(at + step)
    for at in (0, 10**8, 10**9, 10**10, 10**11, 10**12, 10**13, model.LAST_US // 1000, model.LAST_US // 10**6)
    for step in (-1, 0, 1)
]
_DECIMALS = [
    f"{sign}{whole}{fraction}{exponent}"
    for sign, whole, fraction, exponent in product(
        ("", "-"),
        ("0", "1", "25", "99999999999999", "100000000000000"),
        ("", ".0", ".5", ".00005", ".00004999", ".99995", ".999949", ".0001"),
        ("", "e0", "E1", "e+2", "e-4", "e-5", "e40", "e-40", "e0000000014", "e-999999999999", "e999999999999"),
    )
]
# The exponent has more digits than is calculated with, and so many zeros come before it that a smaller one would bring it back.
_DECIMALS += [f"1{'0' * 100}e-1000000000", f"0.{'0' * 100}1e1000000000", f"0.{'0' * 8}1e0000000001"]
_CONSTANTS = {"NaN", "Infinity", "-Infinity"}  # the scanner has no value for these
INSTANTS = [
    *quoted(*strategies.CLEAN_INSTANTS, *strategies.EDGE_INSTANTS, *strategies.ODD_INSTANTS, *strategies.BAD_INSTANTS),
    *quoted(*strategies.FUTURE_INSTANTS, *_MAIL, *_EPOCHS, *(f"/Date({text})/" for text in _EPOCHS)),
    *quoted(*(f"{day}T{clock}" for day, clock in product(_DAYS, ["00:00:00", "12:30:00.5", "23:59:59.999999", "24:00:00"]))),
    *quoted(*(f"2026-11-19T{clock}" for clock in _CLOCKS), *(f"2026-11-19 08:30{zone}" for zone in _ZONES)),
    *quoted(*(f"{day}T00:30{zone}" for day, zone in product(("1970-01-01", "9999-12-31"), _ZONES))),
    *strategies.CLEAN_EPOCHS, *strategies.EDGE_EPOCHS, *strategies.BAD_EPOCHS, *strategies.FUTURE_EPOCHS, *strategies.BLANK,
    *_EPOCHS, *(f"{text}.9999999" for text in _EPOCHS), *(f"-{text}" for text in _EPOCHS[3:]),
]  # fmt: skip
DECIMALS = [
    *strategies.CLEAN_NUMBERS, *strategies.ODD_NUMBERS, *strategies.BAD_NUMBERS, *strategies.BLANK,
    *_DECIMALS, *quoted(*_DECIMALS),
]  # fmt: skip
TEXTS = [
    *strategies.CLEAN_IDS, *strategies.ODD_IDS, *strategies.BAD_TEXTS, *strategies.BLANK, *strategies.INTEGERS,
    *quoted(*strategies.WORDS, *strategies.AWKWARD_TEXTS), "9" * 256, "9" * 257, "-" + "9" * 255, "-" + "9" * 256,
    "9007199254740991.0", "9007199254740992.0", "-9007199254740992.00", "12.50",
    *quoted("1.2E+12", "1.2e+12", "-9,1E+00", "1E+1", "1.E+12", "1.2E-12", "12E+12", "1.2E+123", "x1.2E+12"),
]  # fmt: skip
METADATA = [
    *strategies.CLEAN_METADATA,
    *strategies.ODD_METADATA,
    *strategies.BLANK,
    "[1 ,\t2]",
    '{"a" : " b " }',
    '"NaN"',
]


def value_of(raw: str) -> object:
    """A JSON value as the reference parser has it: numbers as text."""
    return unwrapped(json.loads(raw, parse_int=Number, parse_float=Number))


def by_model(read: Callable[[str], Any], raw: str) -> Any:
    try:
        return read(model._untyped(raw))
    except model._Fault:
        return FAULT


@pytest.mark.parametrize("one", ["instant", "decimal", "text", "boolean"])
def test_each_spelling_is_read_as_the_model_reads_it(one: str) -> None:
    """Of an instant beyond the calendar, it matters only that it is beyond."""

    def instant(raw: str) -> Any:
        found = read_instant(value_of(raw))
        return min(found, model.LAST_US + 1) if isinstance(found, int) else found

    def instant_of_model(raw: str) -> Any:
        found = by_model(model._instant, raw)
        return min(found, model.LAST_US + 1) if isinstance(found, int) else found

    def decimal_of_model(raw: str) -> Any:
        found = by_model(model._decimal, raw)
        return found if found is None or found is FAULT else int(found * 10_000)

    booleans = ["true", "false", "null", '"TRUE"', '" false\\t"', '"yes"', '""', "1", "0", "[]", "{}", '"1"']
    reading: dict[str, tuple[list[str], Callable[[str], Any], Callable[[str], Any]]] = {
        "instant": (INSTANTS, instant, instant_of_model),
        "decimal": (DECIMALS, lambda raw: read_decimal(value_of(raw)), decimal_of_model),
        "text": (TEXTS, lambda raw: read_text(value_of(raw)), lambda raw: by_model(model._text, raw)),
        "boolean": (booleans, lambda raw: read_boolean(value_of(raw)), lambda raw: by_model(model._boolean, raw)),
    }
    values, ours, theirs = reading[one]
    for raw in values:
        if not any(constant in raw for constant in _CONSTANTS):
            assert ours(raw) == theirs(raw), raw


def test_a_shortened_id_is_known_by_its_form() -> None:
    for raw in TEXTS:
        text = read_text(value_of(raw)) if raw.startswith('"') else None
        if isinstance(text, str):
            assert is_shortened(text) == (by_model(model._order_id, raw) is FAULT), raw


def test_metadata_is_kept_as_written() -> None:
    """Without the white space between its tokens; its largest size is that of its bytes."""
    for raw in [*METADATA, json.dumps("é" * 32_766, ensure_ascii=False), json.dumps("é" * 32_767, ensure_ascii=False)]:
        try:
            expected: Any = model._metadata(raw)
        except model._Fault:
            expected = FAULT
        assert read_metadata(raw) == expected, raw
    assert read_metadata(None) is None
