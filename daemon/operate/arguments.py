"""Command-line arguments as values: `--since` as an instant, a DATE as days since 1970."""

from __future__ import annotations

from datetime import date

from ..core.errors import UsageError
from ..core.model import LAST_INSTANT
from ..core.parse.values import Number, is_number, read_instant


def instant(text: str | None, hwm: int | None) -> int | None:
    """`--since` as an instant in microseconds."""
    if text is None or text.strip().lower() == "hwm":
        return None if text is None else hwm
    found = read_instant(Number(text.strip()) if is_number(text.strip()) else text)
    if not isinstance(found, int):
        raise UsageError(
            f"--since {text!r} is not an instant; write 2026-03-02, 2026-03-02T18:04:11Z, epoch seconds, or hwm for the "
            "high-water mark"
        )
    if found > LAST_INSTANT:
        raise UsageError(
            f"--since {text!r} is after the year 9999; epoch numbers are seconds, or milliseconds from 1e11 on"
        )
    return found


def day(text: str) -> int:
    """A date in days since 1970."""
    try:
        return (date.fromisoformat(text) - date(1970, 1, 1)).days
    except ValueError:
        raise UsageError(f"{text!r} is not a date; write YYYY-MM-DD") from None
