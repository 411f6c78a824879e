"""The folders of all sources as one inbox: scanned together, watched together. Names are labels here: with the folders below the
inbox (`shop/orders.json`), so that no two files have the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence, Set

from .inbox import Arrival, Inbox, InboxScan
from .source_folder import SourceFolder
from .strays import strays, with_parents
from .watcher import EventNames, Watcher

_COUNT_SECONDS = 5.0  # between two counts of strays


class Inboxes:
    """Scans the inbox of each source, and merges what is found in order of arrival."""

    def __init__(self, inboxes: Sequence[Inbox]) -> None:
        self._inboxes = {inbox.place.source: inbox for inbox in inboxes}
        self._named = {folder for inbox in inboxes for folder in with_parents(inbox.place.below)}
        self._strays: tuple[float, int] | None = None  # when they were counted, and how many

    def scan(self, now: float, closed: Set[str] = frozenset()) -> InboxScan:
        """What Inbox.scan finds in each folder, together. Folders that a source names are not reported."""
        for inbox in self._inboxes.values():
            inbox.open()  # before any of them remembers what it reports
        whole = InboxScan()
        for inbox in self._inboxes.values():
            place = inbox.place
            found = inbox.scan(now, {name[len(_prefix(place)) :] for name in closed if name.startswith(_prefix(place))})
            self._add(whole, found.labelled(_prefix(place)))
        whole.settled.sort(key=lambda arrival: (arrival.mtime_ns, os.fsencode(arrival.name), arrival.label))
        return whole

    def _add(self, whole: InboxScan, found: InboxScan) -> None:
        whole.settled += found.settled
        whole.waiting += found.waiting
        whole.foreign += found.foreign
        whole.retried += found.retried
        whole.given_up += found.given_up
        whole.unusable += [one for one in found.unusable if not (one.is_folder and one.name in self._named)]
        whole.newly_unusable += [one for one in found.newly_unusable if not (one.is_folder and one.name in self._named)]
        whole.unfinished += found.unfinished
        whole.overdue += found.overdue
        whole.oldest = min((one for one in (whole.oldest, found.oldest) if one is not None), default=None)

    def names(self) -> set[str]:
        """The labels of all drops that are there."""
        return {_prefix(inbox.place) + name for inbox in self._inboxes.values() for name in inbox.names()}

    def strays(self) -> int:
        """The number of files in folders that no source names, counted anew every few seconds."""
        now = time.monotonic()
        if self._strays is None or now - self._strays[0] >= _COUNT_SECONDS:
            inboxes = list(self._inboxes.values())
            found = strays([inbox.place for inbox in inboxes], inboxes[0].ignored)
            self._strays = now, sum(found.values())
        return self._strays[1]

    def put_off(self, arrival: Arrival) -> None:
        """Delays a settled drop that could not be taken."""
        self._inboxes[arrival.source].put_off(arrival)


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
        found = [(_prefix(one.place), one.take()) for one in self._watchers]
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


def _prefix(place: SourceFolder) -> str:
    return f"{place.below}/" if place.below else ""
