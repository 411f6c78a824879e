"""The questions that the ledger answers: days, drops, a receipt, what is in quarantine."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from ...core.model import MICROSECONDS_PER_DAY, DropOutcome
from ...operate import by_day, found
from ...storage.ledger import Ledger
from ...storage.look_ups import Wanted
from .lookup_pages import LookUp, NotFound
from .query import Query, Refused

Look = Callable[[], AbstractContextManager[Ledger]]  # the ledger as it is now, for some seconds


class LedgerPages:
    """`look`: opens the ledger. `output`: the output folder."""

    def __init__(self, look: Look, output: Path) -> None:
        self._look, self._output = look, output

    @property
    def look_ups(self) -> list[LookUp]:
        return [
            LookUp("/days", "days", ("from", "to"), self._days),
            LookUp("/day", "day", ("date",), self._day),
            LookUp("/drops", "drops", ("name", "source", "outcome", "from", "to", "before"), self._drops, _outcomes),
            LookUp("/receipt", "receipt", ("drop",), self._receipt),
            LookUp("/quarantine", "quarantine", ("name", "from", "to", "before"), self._quarantine),
        ]

    def _days(self, query: Query) -> dict[str, Any]:
        first, last = query.days()
        with self._look() as ledger:
            return by_day.overview(ledger, first, last, _today())

    def _day(self, query: Query) -> dict[str, Any]:
        date = query.day("date", _today())
        with self._look() as ledger:
            return by_day.day(ledger, self._output, date)

    def _drops(self, query: Query) -> dict[str, Any]:
        first, last = query.days()
        outcome = query.one_of("outcome", [str(one) for one in DropOutcome])
        wanted = Wanted(query.text("name"), query.text("source"), outcome, first, last)
        with self._look() as ledger:
            return found.drops(ledger, self._output, wanted, query.number("before"))

    def _receipt(self, query: Query) -> dict[str, Any]:
        number = query.number("drop")
        if number is None:
            raise Refused("the parameter drop is missing: the number of a drop")
        with self._look() as ledger:
            receipt = found.receipt(ledger, self._output, number)
        if receipt is None:
            raise NotFound(f"there is no drop {number}")
        return receipt

    def _quarantine(self, query: Query) -> dict[str, Any]:
        first, last = query.days()
        wanted = Wanted(query.text("name"), first=first, last=last)
        with self._look() as ledger:
            return found.quarantine(ledger, self._output, wanted, query.number("before"))


def _today() -> int:
    """In UTC, as partitions and days of arrival are."""
    return time.time_ns() // 1000 // MICROSECONDS_PER_DAY


def _outcomes() -> dict[str, Any]:
    return {"outcomes": [str(one) for one in DropOutcome]}
