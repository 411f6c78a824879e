"""What a request asks for: the parameters of its address, each checked. An unknown one, one that comes twice, or a value that
cannot be meant is refused, so that nobody takes an answer for another one.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import parse_qsl

from ...core.errors import StrandlineError, shown
from ...core.model import MAX_ID_BYTES
from ...storage.look_ups import FIRST_DAY, LAST_DAY

_EPOCH = date(1970, 1, 1)
_MOST_FIELDS = 20
_MOST_BYTES = 4 * MAX_ID_BYTES  # of a value


class Refused(StrandlineError):
    """The request cannot be answered; the text says why."""


@dataclass(frozen=True)
class Query:
    """The parameters that were given, without empty ones: a form sends every field."""

    given: Mapping[str, str]

    def text(self, name: str) -> str:
        """Without spaces around it; "" where it is not given."""
        return self.given.get(name, "").strip()

    def day(self, name: str, default: int) -> int:
        """A date in days since 1970."""
        found = self.text(name)
        if not found:
            return default
        try:
            if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", found):
                raise ValueError
            return (date.fromisoformat(found) - _EPOCH).days
        except ValueError:
            raise Refused(f"{name}={shown(found)} is not a date; write YYYY-MM-DD, such as 2026-03-20") from None

    def days(self) -> tuple[int, int]:
        """From one day to another, both included."""
        first, last = self.day("from", FIRST_DAY), self.day("to", LAST_DAY)
        if first > last:
            raise Refused("the day in `from` is after that in `to`")
        return first, last

    def number(self, name: str) -> int | None:
        """The number of a drop."""
        found = self.text(name)
        if not found:
            return None
        if not re.fullmatch(r"[0-9]{1,18}", found, re.ASCII):
            raise Refused(f"{name}={shown(found)} is not the number of a drop")
        return int(found)

    def one_of(self, name: str, allowed: Collection[str]) -> str:
        """One of some words; "" where it is not given."""
        found = self.text(name)
        if found and found not in allowed:
            raise Refused(f"{name}={shown(found)} is not one of {', '.join(allowed)}")
        return found


def read(environ: Mapping[str, Any], names: Collection[str]) -> Query:
    """The parameters of a request, of which there may be these. `environ`: as WSGI has it."""
    try:  # WSGI has bytes as characters up to 255, whether they were percent-encoded or not
        pairs = parse_qsl(environ.get("QUERY_STRING", ""), encoding="latin-1", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise Refused(f"there are more than {_MOST_FIELDS} parameters") from None
    try:
        decoded = [tuple(one.encode("latin-1").decode() for one in pair) for pair in pairs]
    except UnicodeError:
        raise Refused("a parameter is not UTF-8") from None
    given: dict[str, str] = {}
    for name, value in decoded:
        if name not in names:
            known = f"; there are {', '.join(names)}" if names else "; this page has none"
            raise Refused(f"there is no parameter {shown(name)}{known}")
        if name in given:
            raise Refused(f"the parameter {name} is given twice")
        if len(value.encode()) > _MOST_BYTES:
            raise Refused(f"the parameter {name} has more than {_MOST_BYTES} bytes")
        if "\0" in value:
            raise Refused(f"the parameter {name} has the character U+0000, which cannot be looked for here")
        given[name] = value
    return Query(given)
