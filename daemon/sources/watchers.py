"""The folders of all sources watched together. Labels are those of inboxes.py."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from .inbox import Arrival
from .inboxes import prefix_of
from .watcher import EventNames, Watcher


class Watchers:
    """Watches the folder of each source."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = watchers

    @property
    def interval_seconds(self) -> float:
        """The time between two scans without an event."""
        return min(one.interval_seconds for one in self._watchers)

    @property
    def up(self) -> bool:
        """Whether new drops are noticed, in every folder."""
        return all(one.up for one in self._watchers)

    @property
    def watch(self) -> int:
        """Counts the watches that were set: a new number is a new watch."""
        return sum(one.watch for one in self._watchers)

    def check(self) -> list[str]:
        """Sets the watches where events cannot come, as at the start. Returns what to log; never raises."""
        return [note for one in self._watchers for note in one.check()]

    def take(self) -> EventNames:
        """The labels in the events since the last call."""
        found = [(prefix_of(one.place), one.take()) for one in self._watchers]
        names = frozenset(prefix + name for prefix, events in found for name in events.names)
        return EventNames(names, frozenset(prefix + name for prefix, events in found for name in events.closed))

    def missed(self, drops: Collection[Arrival]) -> list[str]:
        """Called with the drops that no event named. In mode auto, their folders are polled from then on."""
        return [
            note for one in self._watchers
            for note in one.missed(sum(drop.source == one.place.source for drop in drops))
        ]  # fmt: skip

    def stop(self) -> None:
        """Stops the threads."""
        for one in self._watchers:
            one.stop()
