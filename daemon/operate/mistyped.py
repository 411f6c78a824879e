"""Ids that somebody may have meant who typed one that no order has. Pure.

No id is listed anywhere, and the order index has only their hashes: so the ids that are one mistake away are looked up in it.
"""

from __future__ import annotations

import string
from collections.abc import Iterator, Sequence

_LONGEST = 64  # an id that is longer was not typed
MOST = 3  # where more of them exist, ids are numbered one after another, and none of them is likelier than another


def neighbours(name: str) -> list[str]:
    """The ids that are one mistake away: another case, a sign before it, a letter too many, too few, swapped or wrong."""
    return [one for one in dict.fromkeys(_neighbours(name)) if one != name] if len(name) <= _LONGEST else []


def _neighbours(name: str) -> Iterator[str]:
    yield from (name.upper(), name.lower(), name.lstrip("#"), "#" + name, name.lstrip("0"))
    cuts = [(name[:at], name[at:]) for at in range(len(name) + 1)]
    yield from (before + after[1] + after[0] + after[2:] for before, after in cuts if len(after) > 1)
    yield from (before + after[1:] for before, after in cuts if after)
    letters = "".join(
        one for one in (string.digits, string.ascii_lowercase, string.ascii_uppercase) if set(one) & set(name)
    )
    for letter in letters + "-_#":
        yield from (before + letter + after for before, after in cuts)
        yield from (before + letter + after[1:] for before, after in cuts if after)


def question(found: Sequence[str]) -> str:
    """Which of these is meant; empty where none is."""
    return f"Did you mean {' or '.join(found)}?" if found else ""
