"""Colours for a terminal: headings, and the few words that say how something is. A text is made without them, and painted as a
whole when it is shown, so a colour never changes what is said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import IO

_BOLD, _RED, _GREEN, _YELLOW, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[0m"
_COLOURS = {
    _RED: ("quarantined", "error", "failed"),
    _YELLOW: ("warning", "withdrawn", "stale", "not run yet"),
    _GREEN: ("ok", "applied", "up to date"),
}
_COLOUR_OF = {word: colour for colour, words in _COLOURS.items() for word in words}
# A cell of a table: at the beginning of a line or behind two spaces, and before two or at the end.
_CELL = re.compile(rf"(^|  |\d (?=stale)|would be )({'|'.join(_COLOUR_OF)})(?=  |:|$)", re.MULTILINE)
_HEADING = re.compile(r"(?<=\n\n)(\S.*)(?=\n  )")


def wanted(stream: IO[str], environment: Mapping[str, str]) -> bool:
    """Whether a stream is a terminal that shows colours, and nobody refused them (no-color.org)."""
    return stream.isatty() and not environment.get("NO_COLOR") and environment.get("TERM", "dumb") != "dumb"


def painted(text: str) -> str:
    """A text with colours."""
    text = _CELL.sub(lambda found: f"{found[1]}{_COLOUR_OF[found[2]]}{found[2]}{_PLAIN}", text)
    return _HEADING.sub(rf"{_BOLD}\1{_PLAIN}", text)


def of_level(level: str, text: str = "") -> str:
    """A level of the log, or another text in its colour."""
    colour = _COLOUR_OF.get(level.strip(), "")
    return f"{colour}{text or level}{_PLAIN}" if colour else text or level
