"""What is published of each date, and what arrived on each day (in UTC), as values for the page and its JSON.

These are two things: an order is of the date when it was created, and it may arrive on any day. Amounts are exact.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from heapq import nlargest
from pathlib import Path
from typing import Any

from ..batch.commit import RESTATEMENTS
from ..core.entries import Partition
from ..core.model import DropOutcome, amount_text
from ..storage.ledger import Ledger
from ..storage.look_ups import LookUps, Wanted
from ..storage.receipts import instant_text
from ..storage.store import iso_date
from .found import drop_rows

_SHOWN_DAYS = 62
_SHOWN_RESTATEMENTS = 50
_SHOWN_DROPS = 50
_SHOWN_CAUSES = 20
_SEARCHED_BYTES = 8 << 20  # of the end of the log of restatements
_RECORDS = ("extracted", "new", "corrected", "deleted", "unchanged", "superseded", "before_since", "late")


def overview(ledger: Ledger, first: int, last: int, today: int) -> dict[str, Any]:
    """The days from `first` to `last` (since 1970) with anything published or received, the newest first; and today. `total`: of
    all published dates between them, also of those that are left out."""
    look_ups = ledger.look_ups
    partitions, gone = look_ups.partitions(first, last), look_ups.gone(first, last)
    aside = _set_aside(ledger)
    days = {*partitions, *gone, *look_ups.days_of_arrival(first, last)}
    shown = nlargest(_SHOWN_DAYS, days)
    sums = look_ups.sums(shown[-1], shown[0]) if shown else {}
    return {
        "today": _one(look_ups, today, aside),
        "total": _total(partitions),
        "days": [_row(day, partitions.get(day), gone.get(day), sums.get(day), aside.get(day)) for day in shown],
        "left_out": len(days) - len(shown),
        "older_to": iso_date(shown[-1] - 1) if len(days) > len(shown) else None,
    }


def day(ledger: Ledger, output: Path, date: int) -> dict[str, Any]:
    """One date: what is published, how it was restated, and which drops arrived on it, the newest first."""
    look_ups = ledger.look_ups
    drops = look_ups.drops(Wanted(first=date, last=date), None, _SHOWN_DROPS + 1)
    return {
        **_one(look_ups, date, _set_aside(ledger)),
        **_restatements(ledger, output, date),
        "drops": drop_rows(drops[:_SHOWN_DROPS]),
        "older_before": drops[_SHOWN_DROPS - 1].drop.seq if len(drops) > _SHOWN_DROPS else None,
    }


def _set_aside(ledger: Ledger) -> dict[int, str]:
    """Why each date is set aside that is."""
    return {one.day: one.reason for one in ledger.set_aside().values() if one.day is not None}


def _one(look_ups: LookUps, date: int, aside: Mapping[int, str]) -> dict[str, Any]:
    partition, gone = look_ups.partitions(date, date).get(date), look_ups.gone(date, date).get(date)
    return _row(date, partition, gone, look_ups.sums(date, date).get(date), aside.get(date))


def _row(
    date: int,
    partition: Partition | None,
    gone: int | None,
    sums: Mapping[str, Counter[str]] | None,
    set_aside: str | None,
) -> dict[str, Any]:
    """A day. `gone`: its restatements, where it was published once and is not any more. `set_aside`: why, if it is."""
    sums = sums or {}
    orders, dropped = sums.get("orders", Counter()), sums.get("drops", Counter())
    return {
        "date": iso_date(date),
        "set_aside": set_aside,
        "published": None if partition is None else _published(partition),
        "restatements": partition.restatements if partition else gone or 0,
        "received": {
            "drops": {str(one): dropped[one] for one in DropOutcome},
            "orders": {name: orders[name] for name in _RECORDS},
            "discarded": dict(sums.get("discarded", Counter()).most_common()),
        },
    }


def _published(one: Partition) -> dict[str, Any]:
    return {"orders": one.orders, "lines": one.lines, "amount": amount_text(one.amount), "bytes": one.bytes}


def _total(partitions: Mapping[int, Partition]) -> dict[str, Any]:
    return {
        "dates": len(partitions),
        "orders": sum(one.orders for one in partitions.values()),
        "lines": sum(one.lines for one in partitions.values()),
        "amount": amount_text(sum(one.amount for one in partitions.values())),
    }


def _restatements(ledger: Ledger, output: Path, date: int) -> dict[str, Any]:
    """The newest restatements of a date, the newest first. `restatements_searched_from`: the byte of the log from which on it was
    searched; what is before may have more."""
    size = ledger.restatements_bytes
    start = max(0, size - _SEARCHED_BYTES)
    found: list[dict[str, Any]] = []
    wanted = json.dumps({"date": iso_date(date)}).encode()[:-1] + b","  # as the log begins its lines
    for line in reversed(_end_of(output / RESTATEMENTS, start, size).split(b"\n")):
        if line.startswith(wanted) and len(found) < _SHOWN_RESTATEMENTS:
            found.append(_restatement(json.loads(line), ledger))
    return {"restated": found, "restatements_searched_from": start}


def _end_of(path: Path, start: int, stop: int) -> bytes:
    if stop == start:
        return b""
    try:
        with open(path, "rb") as log:
            log.seek(start)
            return log.read(stop - start)
    except FileNotFoundError:  # it is published after the commit
        return b""


def _restatement(line: Mapping[str, Any], ledger: Ledger) -> dict[str, Any]:
    cause = line["cause"]
    at = ledger.batch_time(cause["batch"])
    undo = next((name for name in ("withdrawn", "applied_again") if name in cause), None)
    return {
        "batch": cause["batch"],
        "committed_at": None if at is None else instant_text(at),
        "drops": cause["drops"][:_SHOWN_CAUSES],
        "more_drops": max(0, len(cause["drops"]) - _SHOWN_CAUSES),
        "undo": None if undo is None else {"what": undo, **cause[undo]},
        **{name: line[name] for name in ("orders_before", "orders_after", "amount_before", "amount_after")},
    }
