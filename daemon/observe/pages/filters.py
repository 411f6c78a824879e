"""Values as texts for people: durations, sizes, instants, JSON; and characters that nobody sees."""

from __future__ import annotations

import json
import re

from markupsafe import Markup

from ...storage.receipts import local_text

# Control characters, and those that turn or hide text: a name could read as another one.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]"
)
_UNITS = ("s", "min", "h", "d")
_BYTES = ("B", "kB", "MB", "GB", "TB")


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


def amount(text: str | None) -> str:
    """An exact decimal with thousands separated. "–" where there is none."""
    if text is None:
        return "–"
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, point, rest = digits.partition(".")
    return f"{sign}{int(whole):,}{point}{rest}"
