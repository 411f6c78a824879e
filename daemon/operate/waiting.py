"""Drops that are archived and not applied, and why; and which drops wait too long: for `status`, the page and its JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..batch.repair import damage_of
from ..core.entries import Drop
from ..core.mapping import DEFAULT_SOURCE
from ..storage import files
from ..storage.ledger import Ledger
from ..storage.receipts import instant_text

_SHOWN = 20
_READ_BYTES = 64 << 20  # of all copies together: the page asks often

_LONG_IN_INBOX = 900_000_000  # microseconds: as the alert of old drops
_LONG_ARCHIVED = 60_000_000  # microseconds: a batch seldom takes so long
_WAITS = "waits; where a daemon runs, its log and /-/ready say why, else `strandline --once` applies it"


def waiting(ledger: Ledger | None, output: Path) -> list[dict[str, Any]]:
    """The first ones that wait. `reason`: what is wrong with the raw copy; empty where it is sound, or too large to be read
    here."""
    found, left = [], _READ_BYTES
    for drop in (ledger.uncommitted() if ledger else [])[:_SHOWN]:
        found.append(
            {
                "drop": drop.seq, "name": drop.name, "source": drop.context.source,
                "since": instant_text(drop.context.received_at),
                "reason": reason_of(output, drop, most_bytes=left),
            }
        )  # fmt: skip
        left = max(0, left - drop.size_bytes)
    return found


def reason_of(output: Path, drop: Drop, most_bytes: int = _READ_BYTES) -> str:
    """What is wrong with the raw copy of a drop. A larger one is only looked at: its size, and whether it is there."""
    if drop.raw is None:
        return ""
    seen = files.state_of(output / drop.raw)
    if seen and seen[1] == drop.size_bytes > most_bytes:
        return ""
    try:
        damage = damage_of(output, drop)
    except OSError as error:
        return f"{output / drop.raw} cannot be read: {error.strerror}"
    return damage and f"{damage}, or drop the same file again"


def overdue(ledger: Ledger | None, in_inbox: Iterable[int], now: int) -> dict[str, int]:
    """How many drops wait so long that a daemon which works would have applied them. `in_inbox`: when they were changed, and
    `now`, in microseconds."""
    archived = ledger.uncommitted() if ledger else []
    return {
        "inbox": sum(changed_at < now - _LONG_IN_INBOX for changed_at in in_inbox),
        "archived": sum(drop.context.received_at < now - _LONG_ARCHIVED for drop in archived),
    }


def needs(status: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    """How many drops wait and need attention, and where. Without a daemon, those in the inbox wait for whoever starts one, and no
    archived drop is about to be applied."""
    damaged, late = sum(bool(one["reason"]) for one in status["waiting"]), status["overdue"]
    if not status["running"]:
        return [(status["archived_not_applied"], "drop", "archived and not applied")]
    asked = "(the log of the daemon and /-/ready say why)"
    return [
        (max(damaged, late["archived"]), "drop", f"archived and not applied {asked}"),
        (late["inbox"], "drop", f"in the inbox for long {asked}"),
    ]


def rows(status: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The drops of `waiting` for a terminal."""
    return [
        (
            str(one["drop"]),
            one["name"] if one["source"] == DEFAULT_SOURCE else f"{one['source']}: {one['name']}",
            one["reason"] or _WAITS,
        )
        for one in status["waiting"]
    ]
