"""The status page at `/`, and the same for programs at `/api/status`: what `status` says, and whether the instance is ready.

The template engine escapes everything that came from a file. The page loads nothing from elsewhere, and its policy forbids it.
It is complete without JavaScript; with it, the page refreshes and keeps unfolded sections open.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from ..core.errors import EnvironmentFault
from ..operate.downstreams import found_text, state_text
from ..operate.status import keys_text, strays_text, summed
from ..storage.receipts import local_text
from .http import Answer, Document, Shared, asked, text

_HERE = Path(__file__).parent
_FRESH_SECONDS = 1.0
# Control characters, and those that turn or hide text: a name could read as another one.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]"
)
_UNITS = ("s", "min", "h", "d")
_BYTES = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class _Made:
    """The status for people and for programs."""

    page: Document
    api: Document


class Page:
    """`gather`: the status as JSON values. `why_not_ready`: what is wrong; empty where nothing is. Thread-safe."""

    def __init__(
        self, gather: Callable[[], dict[str, Any]], why_not_ready: Callable[[], Sequence[str]], version: str
    ) -> None:
        self._gather, self._why_not_ready, self._version = gather, why_not_ready, version
        self._made = Shared(self._make, _FRESH_SECONDS)
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_HERE),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            finalize=visible,
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
        self._script, self._style = (Markup((_HERE / name).read_text("utf-8")) for name in ("page.js", "page.css"))
        self._headers = {"Content-Security-Policy": _policy(self._script, self._style)}

    @property
    def answers(self) -> dict[str, Answer]:
        """By path."""
        return {"/": lambda it: self._made.get(asked(it)).page, "/api/status": lambda it: self._made.get(asked(it)).api}

    def _make(self) -> _Made:
        try:
            status = self._gather() | {"version": self._version, "not_ready": list(self._why_not_ready())}
        except (OSError, EnvironmentFault, sqlite3.Error) as error:  # the ledger cannot be read now
            return _Made(self._html(None, str(error)), text(f"not available now: {error}", "503 Service Unavailable"))
        # The encoder in C makes no indentation, and that in Python takes twenty times as long.
        api = msgspec.json.format(json.dumps(status).encode(), indent=2) + b"\n"
        return _Made(self._html(status), Document(api, "application/json; charset=utf-8"))

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
        page = self._template.render(status=status, error=error, script=self._script, style=self._style, **charts)
        return Document(page.encode(errors="replace"), "text/html; charset=utf-8", headers=self._headers)


def _policy(script: str, style: str) -> str:
    """The Content-Security-Policy: only the page's own style and script, the widths of bars, and requests to this server."""
    script_hash, style_hash = (
        f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in (script, style)
    )
    return (
        f"default-src 'none'; script-src {script_hash}; style-src {style_hash}; style-src-attr 'unsafe-inline'; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


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


def visible(value: object) -> object:
    """A value for the page: characters of a text that nobody sees are spelled as in JSON."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", value)


def pretty(value: object) -> str:
    """A value as indented JSON."""
    return json.dumps(value, indent=2, ensure_ascii=False)
