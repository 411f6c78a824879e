"""Sizes and time spans as settings have them: a number, or a text with a unit. Exact; nothing is rounded."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

DAY_SECONDS = 86_400
LARGEST_SIZE = (1 << 63) - 1  # the limit of SQLite and of system calls
_QUANTITY = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([A-Za-z]+)")
_SIZE_UNITS: dict[str, int | str] = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}  # fmt: skip
_DURATION_UNITS: dict[str, int | str] = {
    "ms": "0.001",
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": DAY_SECONDS,
    "w": 7 * DAY_SECONDS,
}
A_SIZE = f'whole bytes from 1 on, as a number or as text such as "256MiB" ({", ".join(_SIZE_UNITS)})'


class Bytes(int):
    """A size in bytes; written as a number, or as text with a unit ("256MiB")."""


class Duration(float):
    """A time span in seconds; written as a number, or as text with a unit ("1d")."""


def read_size(value: Any) -> Bytes | None:
    """A size; None where the value is none."""
    size = _quantity(value, _SIZE_UNITS)
    return Bytes(size) if size is not None and 1 <= size <= LARGEST_SIZE and size == int(size) else None


def read_duration(value: Any, most_days: int) -> Duration | None:
    """A time span of at most this many days; None where the value is none."""
    span = _quantity(value, _DURATION_UNITS)
    return Duration(span) if span is not None and 0 <= span <= most_days * DAY_SECONDS else None


def a_duration(most_days: int) -> str:
    """What is allowed as a time span, for errors."""
    units = ", ".join(_DURATION_UNITS)
    return f'from 0 to {most_days} days, as a number of seconds or as text such as "1d" ({units})'


def is_number(value: Any) -> bool:
    """Whether a TOML value is a number. True and False are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _quantity(value: Any, units: Mapping[str, int | str]) -> Decimal | int | None:
    """The exact value of a number, or of a text with a unit; None where it is neither, or not finite."""
    if isinstance(value, str):
        match = _QUANTITY.fullmatch(value.strip())
        return Decimal(match[1]) * Decimal(units[match[2]]) if match and match[2] in units else None
    if isinstance(value, float):
        return Decimal(repr(value)) if math.isfinite(value) else None
    return value if is_number(value) else None
