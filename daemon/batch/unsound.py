"""Drops that are archived and not committed, and whose raw copies are missing, damaged or cannot be read: they wait, and others
do not. Each minute they are looked at again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ..core.entries import Drop
from .engine import Engine
from .repair import damage_of

_RETRY_SECONDS = 60.0


class Unsound:
    """Those of one output. `note` is told of each and of what to do, whenever that changes."""

    def __init__(self, engine: Engine, note: Callable[[str], None]) -> None:
        self._engine, self._note = engine, note
        self._why: dict[int, str] = {}
        self._due = 0.0
        self.names: set[str] = set()

    def sound(self, drops: Sequence[Drop]) -> list[Drop]:
        """Those of the drops, which are all that are not committed, that can be read."""
        copied = [drop for drop in drops if drop.raw is not None]  # of a duplicate, nothing is read
        found = {drop.seq: damage for drop in copied if (damage := damage_of(self._engine.output, drop))}
        for drop in drops:
            if drop.seq in found and self._why.get(drop.seq) != found[drop.seq]:
                self._note(f"drop {drop.seq} ({drop.name}) waits: {found[drop.seq]}. It is tried again each minute")
        self._why, self._due = found, time.monotonic() + _RETRY_SECONDS
        self.names = {drop.name for drop in drops if drop.seq in found}
        return [drop for drop in drops if drop.seq not in found]

    def is_due(self) -> bool:
        """Whether some wait and are to be looked at again."""
        return bool(self._why) and time.monotonic() >= self._due
