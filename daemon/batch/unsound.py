"""Drops that are archived and not committed, and whose raw copies are missing, damaged or cannot be read: they wait, and others
do not. They are looked at again each minute, and when a copy changes. A drop that brings the same bytes again gives them back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..core.entries import Drop
from ..storage import files
from ..storage.raw import Stored
from .engine import Engine
from .repair import damage_of

_RETRY_SECONDS = 60.0


def give_back(engine: Engine, copies: Sequence[Stored]) -> None:
    """Gives each waiting drop whose raw copy is lost the bytes of one of these copies, if it has the same. They are durable under
    their temporary names."""
    came = {one.sha256: one for one in copies}
    for drop in engine.ledger.uncommitted():
        if drop.raw is None or drop.sha256 not in came or (engine.output / drop.raw).is_dir():
            continue
        if damage_of(engine.output, drop):
            engine.raw.give_back(drop.raw, came[drop.sha256].seq)


class Unsound:
    """Those of one output. `note` is told of each and of what to do, whenever that changes."""

    def __init__(self, engine: Engine, note: Callable[[str], None]) -> None:
        self._engine, self._note = engine, note
        self._why: dict[int, str] = {}
        self._seen: dict[Path, tuple[int, ...]] = {}  # the copies when they were read
        self._due = 0.0
        self.names: set[str] = set()

    def sound(self, drops: Sequence[Drop]) -> list[Drop]:
        """Those of the drops, which are all that are not committed, that can be read."""
        copied = [drop for drop in drops if drop.raw is not None]  # of a duplicate, nothing is read
        before = {drop.seq: files.state_of(self._engine.output / (drop.raw or "")) for drop in copied}
        found = {drop.seq: damage for drop in copied if (damage := damage_of(self._engine.output, drop))}
        for drop in drops:
            if drop.seq in found and self._why.get(drop.seq) != found[drop.seq]:
                self._note(
                    f"drop {drop.seq} ({drop.name}) waits: {found[drop.seq]}, or drop the same file again. "
                    "It is looked at each minute"
                )
        self._why, self._due = found, time.monotonic() + _RETRY_SECONDS
        self._seen = {self._engine.output / (drop.raw or ""): before[drop.seq] for drop in copied if drop.seq in found}
        self.names = {drop.name for drop in drops if drop.seq in found}
        return [drop for drop in drops if drop.seq not in found]

    def is_due(self) -> bool:
        """Whether some wait and are to be looked at again."""
        if not self._why:
            return False
        return time.monotonic() >= self._due or any(files.state_of(path) != seen for path, seen in self._seen.items())
