"""The page for people at `/`, and `/api/status`, its twin for programs: what `status` says, and whether the instance is well.

Everything that came from a file is escaped by the template engine; the page loads nothing from elsewhere, and its policy
forbids that it could. It is whole without JavaScript; with it, it renews itself without losing what was unfolded.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from ..core.errors import EnvironmentFault
from ..operate.status import summed

_HERE = Path(__file__).parent
_FRESH_SECONDS = 0.5  # however many look at it, the ledger is asked twice a second at most
_UNITS = ("s", "min", "h", "d")
_BYTES = ("B", "kB", "MB", "GB", "TB")


class Page:
    """`gather`: the status, as JSON has it. `why_not_ready`: what is wrong; nothing where all is well. Thread-safe."""

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
        environment.filters |= {"number": "{:,}".format, "span": span, "size": size, "moment": moment, "pretty": pretty}
        self._template = environment.get_template("page.html")
        self._script = (_HERE / "page.js").read_text(encoding="utf-8")

    @property
    def policy(self) -> str:
        """The Content-Security-Policy: nothing but this page's own style, its one script, and itself."""
        digest = base64.b64encode(hashlib.sha256(self._script.encode()).digest()).decode()
        return (
            f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; connect-src 'self'; img-src data:; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )

    def status(self) -> dict[str, Any]:
        """What is known, half a second old at most."""
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
        except (OSError, EnvironmentFault) as error:  # the ledger cannot be read just now
            return self._template.render(status=None, error=str(error), script=Markup(self._script))
        charts = {
            "discards": _ranked(status, "discarded"),
            "faults": _ranked(status, "faults"),
            "hours": _bars(status["drops_by_hour"]),
            "days": _days(status["partitions"]),
        }
        return self._template.render(status=status, error="", script=Markup(self._script), **charts)


def _ranked(status: dict[str, Any], group: str) -> list[tuple[str, int, float]]:
    """Of discards the reason, of faults the field; the number, and its share of the most frequent one in percent; the most
    frequent first."""
    counts = summed(status, group)
    most = max(counts.values(), default=0)
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [(reason, number, 100 * number / most) for reason, number in ranked if number]


def _bars(hours: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The hours with the heights of their bars in percent."""
    most = max((hour["applied"] + hour["duplicate"] + hour["quarantined"] for hour in hours), default=0) or 1
    return [
        hour | {f"{kind}_height": 100 * hour[kind] / most for kind in ("applied", "duplicate", "quarantined")}
        for hour in hours
    ]


def _days(partitions: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The newest partitions, the newest first, with the share of the largest in percent."""
    shown = list(partitions[-31:])[::-1]
    most = max((one["orders"] for one in shown), default=0) or 1
    return [one | {"width": 100 * one["orders"] / most} for one in shown]


def span(seconds: float | None) -> str:
    """A duration as people say it: 12 s, 3 min, 5.2 h, 12 d."""
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
    """A number of bytes as people say it."""
    unit = 0
    while abs(number) >= 1000 and unit < len(_BYTES) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.0f} {_BYTES[unit]}" if unit == 0 or number >= 100 else f"{number:.1f} {_BYTES[unit]}"


def moment(text: str | None) -> str:
    """An instant to the second; all are UTC."""
    if text is None:
        return "–"
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")


def pretty(value: object) -> str:
    """A value as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)
