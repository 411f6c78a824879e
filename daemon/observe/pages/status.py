"""The status page at `/`, and the same for programs at `/api/status`: what `status` says, and whether the instance is ready.

It is complete without JavaScript; with it, the page refreshes and keeps the focus, and unfolded sections open.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import EnvironmentFault
from ...operate.downstreams import state_text
from ...operate.status import summed
from ..http import Answer, Document, Shared, asked, text
from .rendering import Renderer, as_json

_FRESH_SECONDS = 1.0
_UNAVAILABLE = "503 Service Unavailable"
_SECTIONS = (
    ("the loop has not run", "RUNBOOK#StrandlineDown"), ("the inbox cannot be watched", "RUNBOOK#StrandlineWatcherDeaf"),
    ("paused", "RUNBOOK#StrandlinePaused"), ("cannot write", "RUNBOOK#StrandlinePaused"),
    ("the log", "RUNBOOK#StrandlineLogBlocked"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Made:
    """The status for people and for programs."""

    page: Document
    api: Document


class StatusPage:
    """`gather`: the status as JSON values. `why_not_ready`: what is wrong; empty where nothing is. Thread-safe."""

    def __init__(
        self,
        renderer: Renderer,
        gather: Callable[[], dict[str, Any]],
        why_not_ready: Callable[[], Sequence[str]],
        version: str,
    ) -> None:
        self._renderer, self._gather, self._why_not_ready, self._version = renderer, gather, why_not_ready, version
        self._made = Shared(self._make, _FRESH_SECONDS)
        renderer.environment.filters |= {"badges": badges, "runbook": runbook}

    @property
    def answers(self) -> dict[str, Answer]:
        """By path."""
        return {"/": lambda it: self._made.get(asked(it)).page, "/api/status": lambda it: self._made.get(asked(it)).api}

    def _make(self) -> _Made:
        try:
            status = self._gather() | {"version": self._version, "not_ready": list(self._why_not_ready())}
        except (OSError, EnvironmentFault, sqlite3.Error) as error:  # the ledger cannot be read now
            return _Made(self._html(None, str(error)), text(f"not available now: {error}", _UNAVAILABLE))
        return _Made(self._html(status), as_json(status))

    def _html(self, status: dict[str, Any] | None, error: str = "") -> Document:
        charts = (
            {}
            if status is None
            else {
                "discards": _ranked(status, "discarded"),
                "faults": _ranked(status, "faults"),
                "hours": _bars(status["drops_by_hour"]),
                "days": _days(status["partitions"]),
            }
        )
        values = {"here": "/", "status": status, "error": error, **charts}
        return self._renderer.page("status", values, _UNAVAILABLE if status is None else "200 OK")


def runbook(reason: str) -> str:
    """The section of the documentation about a reason why the instance is not ready, as health.py words it; "" where it is enough
    to wait."""
    if "until `strandline resume`" in reason:
        return "OPERATING#Pausing"
    return next((section for begin, section in _SECTIONS if reason.startswith(begin)), "")


def _ranked(status: dict[str, Any], group: str) -> list[tuple[str, int, float]]:
    """(reason or field, number, percent of the most frequent one), the most frequent first."""
    counts = summed(status, group)
    most = max(counts.values(), default=0)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(reason, number, 100 * number / most) for reason, number in ranked if number]


def _bars(hours: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The hours, each with the heights of its bars in percent."""
    most = max((hour["applied"] + hour["duplicate"] + hour["quarantined"] for hour in hours), default=0) or 1
    return [
        hour | {f"{kind}_height": 100 * hour[kind] / most for kind in ("applied", "duplicate", "quarantined")}
        for hour in hours
    ]


def _days(partitions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest partitions, the newest first, each with its percentage of the largest."""
    shown = list(partitions[-31:])[::-1]
    most = max((one["orders"] for one in shown), default=0) or 1
    return [one | {"width": 100 * one["orders"] / most} for one in shown]


def badges(one: dict[str, Any]) -> list[tuple[str, str]]:
    """(class, text) of each badge of a model or check: whether it is up to date, and the rows that a check found."""
    if one["error"]:
        state = "bad", "failing"
    elif one["waits_for"]:
        state = "warn", "waits"
    else:
        state = ("plain", state_text(one)) if one["stale"] else ("good", "up to date")
    found = f"{one['rows']:,} row{'' if one['rows'] == 1 else 's'} found"
    rows = [("bad" if one["severity"] == "error" else "warn", found)] if one["kind"] == "check" and one["rows"] else []
    return [*rows, state]
