"""Drops that somebody looks for, as values for the page and its JSON: by name, source, outcome and day; those in quarantine; one
receipt; and of each what may be done next.

Commands name a drop by its number: a name is of whoever wrote the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..core.entries import DropResult
from ..core.model import DropOutcome
from ..storage.ledger import Ledger
from ..storage.look_ups import Wanted
from ..storage.raw import quarantined
from ..storage.receipts import as_dict, instant_text
from .discarded import with_first_discards
from .status import reason_of
from .waiting import reason_of as reason_waiting

_SHOWN = 50
_LONGEST = 1_000  # characters
_OF_A_ROW = (
    "drop", "name", "source", "outcome", "reason", "duplicate_of", "received_at", "bytes", "records", "late", "field_faults",
    "without_amount_and_price",
)  # fmt: skip


def drops(ledger: Ledger, output: Path, wanted: Wanted, below: int | None) -> dict[str, Any]:
    """The newest drops that are wanted, the newest first. `below`: with smaller numbers. `older_before`: what to give as `below`
    for the next ones; None where there are none."""
    results = ledger.look_ups.drops(wanted, below, _SHOWN + 1)
    files = _in_quarantine(output)
    rows = [
        row | {"in_quarantine": row["drop"] in files, "next_steps": next_steps(one, in_quarantine=row["drop"] in files)}
        for one, row in zip(results, drop_rows(results[:_SHOWN]), strict=False)
    ]
    return {"drops": rows, "older_before": rows[-1]["drop"] if len(results) > _SHOWN else None}


def drop_rows(results: Sequence[DropResult]) -> list[dict[str, Any]]:
    """What a list has of each drop: keys of its receipt."""
    receipts = map(as_dict, results)
    return [{name: one[name] for name in _OF_A_ROW} for one in receipts]


def receipt(ledger: Ledger, output: Path, number: int) -> dict[str, Any] | None:
    """The receipt of a drop, its first discards, and what may be done; None where there is no such drop. Of a drop that is
    archived and not applied yet, its number and name, and what is wrong with its raw copy."""
    drop = ledger.drop(number)
    if drop is None:
        return None
    result = ledger.result(number)
    if result is None:
        return {
            "drop": number, "name": drop.name, "source": drop.context.source, "outcome": None, "bytes": drop.size_bytes,
            "received_at": instant_text(drop.context.received_at), "reason": reason_waiting(output, drop),
            "in_quarantine": False, "next_steps": [],
        }  # fmt: skip
    in_quarantine = number in _in_quarantine(output)
    more = {"in_quarantine": in_quarantine, "next_steps": next_steps(result, in_quarantine=in_quarantine)}
    return with_first_discards(result, output, placed=True) | more


def quarantine(ledger: Ledger, output: Path, wanted: Wanted, below: int | None) -> dict[str, Any]:
    """What is in quarantine now, the newest first, each with its reason. Of `wanted`, the name (of the file) and the days count.
    `received_at` is None where the ledger does not have the drop."""
    files = _in_quarantine(output)
    arrivals = ledger.look_ups.arrivals(files)
    found = [
        (number, file)
        for number, file in sorted(files.items(), reverse=True)
        if wanted.name.lower() in file.lower()
        and wanted.has_day(arrivals.get(number))
        and (below is None or number < below)
    ]
    rows = [
        {
            "drop": number,
            **_of_reason(reason_of(output / "quarantine", file)),
            "received_at": instant_text(arrivals[number]) if number in arrivals else None,
            "file": file,
            "next_steps": _retry(number),
        }
        for number, file in found[:_SHOWN]
    ]
    older = rows[-1]["drop"] if len(found) > _SHOWN else None
    return {"in_quarantine": len(files), "drops": rows, "older_before": older}


def next_steps(result: DropResult, *, in_quarantine: bool) -> list[dict[str, str]]:
    """What may be done with a drop: a command, and what it does."""
    number = result.drop.seq
    if in_quarantine:
        return _retry(number)
    if result.outcome is DropOutcome.APPLIED:
        return [{"command": f"strandline undo {number}", "does": "takes it back, as if it had never come"}]
    if result.outcome is DropOutcome.WITHDRAWN:
        return [{"command": f"strandline undo --revert {number}", "does": "applies it again"}]
    return []


def _retry(number: int) -> list[dict[str, str]]:
    return [
        {"command": f"strandline retry {number}", "does": "reads it again, once the cause is mended"},
        {"command": f"strandline discard {number}", "does": "removes it, and keeps who did, when and why"},
    ]


def _in_quarantine(output: Path) -> dict[int, str]:
    """The files in quarantine, by the number of the drop."""
    return {int(file.partition("_")[0]): file for file in quarantined(output / "quarantine")}


def _of_reason(content: Mapping[str, Any]) -> dict[str, Any]:
    """What is shown of a reason file, which anybody may have changed."""
    return {name: str(content.get(name, ""))[:_LONGEST] for name in ("name", "source", "reason")}
