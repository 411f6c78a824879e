"""The folders of all sources as one inbox, scanned together. Names are labels here: with the folders below the
inbox (`shop/orders.json`), so that no two files have the same.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence, Set

from .inbox import Arrival, Inbox, InboxScan
from .source_folder import SourceFolder
from .strays import strays, with_parents

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
            found = inbox.scan(
                now, {name[len(prefix_of(place)) :] for name in closed if name.startswith(prefix_of(place))}
            )
            self._add(whole, found.labelled(prefix_of(place)))
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
        return {prefix_of(inbox.place) + name for inbox in self._inboxes.values() for name in inbox.names()}

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


def prefix_of(place: SourceFolder) -> str:
    """What the labels of the files in this folder begin with."""
    return f"{place.below}/" if place.below else ""
