"""The status page at `/`, and the same for programs at `/api/status`: what `status` says, and whether the instance is ready.

The template engine escapes everything that came from a file. The page loads nothing from elsewhere, and its policy forbids it.
It is complete without JavaScript; with it, the page refreshes and keeps unfolded sections open.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..core.errors import EnvironmentFault
from ..operate.downstreams import found_text, state_text
from ..operate.status import keys_text, strays_text, summed
from ..storage.receipts import local_text

_HERE = Path(__file__).parent
_FRESH_SECONDS = 0.5  # however many clients there are, the ledger is queried twice a second at most
_UNITS = ("s", "min", "h", "d")
_BYTES = ("B", "kB", "MB", "GB", "TB")


class Page:
    """`gather`: the status as JSON values. `why_not_ready`: what is wrong; empty where nothing is. Thread-safe."""

    def __init__(
        self, gather: Callable[[], dict[str, Any]], why_not_ready: Callable[[], Sequence[str]], version: str
    ) -> None:
        self._gather, self._why_not_ready, self._version = gather, why_not_ready, version
        self._lock = threading.Lock()
        self._known: tuple[float, dict[str, Any]] | None = None
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters |= {
            "number": "{:,}".format,
            "strays": strays_text,
            "span": span,
            "size": size,
            "moment": moment,
            "pretty": pretty,
            "keys": keys_text,
            "badges": badges,
            "found": found_text,
        }
        self._template = environment.get_template("page.html")
        self._script = (_HERE / "page.js").read_text(encoding="utf-8")

    @property
    def policy(self) -> str:
        """The Content-Security-Policy: only this page's own style, its one script, and requests to this server."""
        digest = base64.b64encode(hashlib.sha256(self._script.encode()).digest()).decode()
        return (
            f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def status(self) -> dict[str, Any]:
        """The status, at most half a second old."""
        with self._lock:
            if self._known is None or time.monotonic() - self._known[0] > _FRESH_SECONDS:
                found = self._gather() | {"version": self._version, "not_ready": list(self._why_not_ready())}
                self._known = time.monotonic(), found
            return self._known[1]

    def json(self) -> str:
        """The status for programs."""
        return json.dumps(self.status(), indent=2) + "\n"

    def html(self) -> str:
        """The status for people."""
        try:
            status = self.status()
        except (OSError, EnvironmentFault) as error:  # the ledger cannot be read now
            return self._template.render(status=None, error=str(error), script=Markup(self._script))
        charts = {
            "discards": _ranked(status, "discarded"),
            "faults": _ranked(status, "faults"),
            "hours": _bars(status["drops_by_hour"]),
            "days": _days(status["partitions"]),
        }
        return self._template.render(status=status, error="", script=Markup(self._script), **charts)


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


def span(seconds: float | None) -> str:
    """A duration for people: 12 s, 3 min, 5.2 h, 12 d."""
    if seconds is None:
        return "–"
    value, unit = float(seconds), 0
    for unit, factor in enumerate((60, 60, 24)):  # noqa: B007
        if abs(value) < factor:
            break
        value /= factor
    else:
        unit = 3
    return f"{value:.0f} {_UNITS[unit]}" if abs(value) >= 10 or unit == 0 else f"{value:.1f} {_UNITS[unit]}"


def size(number: float) -> str:
    """A number of bytes for people."""
    unit = 0
    while abs(number) >= 1000 and unit < len(_BYTES) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.0f} {_BYTES[unit]}" if unit == 0 or number >= 100 else f"{number:.1f} {_BYTES[unit]}"


def moment(text: str | None) -> str:
    """An instant in the time zone of the daemon, to the second, with the offset of that."""
    return local_text(text, "–")


def pretty(value: object) -> str:
    """A value as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)
