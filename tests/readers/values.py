"""Values of any reader in one spelling, so that they can be compared as JSON. Uses the standard library alone: other environments
import it, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def plain(value: Any) -> Any:
    """The value as JSON has it, with its kind where JSON has none. Decimals lose their zeros at the end, and instants are
    microseconds since 1970 in UTC: types are compared apart."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return f"float {value!r}"
    if isinstance(value, Decimal):
        return f"decimal {value.normalize():f}"
    if isinstance(value, datetime):
        return ((value if value.tzinfo else value.replace(tzinfo=UTC)) - _EPOCH) // timedelta(microseconds=1)
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray):
        return f"bytes {value.hex()}"
    if hasattr(value, "item"):  # a number of numpy
        return plain(value.item())
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    return [plain(one) for one in value]


def plain_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows with their columns by name, sorted: readers of many files need not keep an order."""
    found = [{name: plain(row[name]) for name in sorted(row)} for row in rows]
    return sorted(found, key=repr)
