"""Wakes the service when something happens in the inbox, and notices when events cannot come. Never scans, never opens a drop.

An event asks for a scan, and names a file that was created, closed by its writer or moved in. It never decides what there is.
Events fail in many ways: a mount sends none, the queue overflows, a thread dies, the folder is replaced. So the service calls
`check` at each rescan, which sets the watch again where needed. It also reports drops that only a rescan found (`missed`), since
a probe from this side proves nothing about the other side of a mount. Polling needs no observer: the service scans every
`interval_seconds` anyway.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from ..core.errors import cause_of
from .inbox_folder import InboxFolder, probe_name
from .source_folder import SourceFolder

if sys.platform == "linux":
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

# No modifications: each block of a slow writer would wake us, and only its close matters. No opens: those are ours.
_EVENTS: list[type[FileSystemEvent]] = [FileClosedEvent, FileCreatedEvent, FileMovedEvent]
_OVERFLOW_LOGGER = "watchdog.observers.inotify_c"
_PROBE_SECONDS = 1.0
_MOST_NAMES = 100_000
_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class EventNames:
    """The names in the events since the last call. `closed`: those that were closed by a writer, or moved in."""

    names: frozenset[str]
    closed: frozenset[str]


class _EventHandler(FileSystemEventHandler):
    """Called by watchdog in its own thread. An exception would end that thread silently."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._closed: set[str] = set()
        self.probe = ""  # a file name; its event sets `probed`
        self.probed = threading.Event()

    def dispatch(self, event: FileSystemEvent) -> None:
        try:
            moved = isinstance(event, FileMovedEvent)
            name = os.path.basename(os.fsdecode(event.dest_path if moved else event.src_path))
            if not name or name.startswith("."):
                if name == self.probe:
                    self.probed.set()
                return  # hidden names are unfinished files, the probe and our own renames: nothing to scan for
            with self._lock:
                if len(self._names) < _MOST_NAMES:
                    self._names.add(name)
                    if moved or isinstance(event, FileClosedEvent):
                        self._closed.add(name)
            self._wake()
        except Exception:
            logging.getLogger("strandline").exception("an event could not be read; the next rescan finds its file")

    def take(self) -> EventNames:
        with self._lock:
            found = EventNames(frozenset(self._names), frozenset(self._closed))
            self._names.clear()
            self._closed.clear()
        return found


class _OverflowFilter(logging.Filter):
    """Notices lost events: watchdog reports them only in its log."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = threading.Event()

    def filter(self, record: logging.LogRecord) -> bool:
        if "overflow" in record.getMessage():
            self.seen.set()
        return True


class Watcher:
    """Watches the folder of one source. `mode`: auto, native, polling. `wake` is called from any thread, and returns at once."""

    def __init__(self, folder: SourceFolder, mode: str, rescan_seconds: float, wake: Callable[[], None]) -> None:
        self.place, self._mode, self._wake = folder, mode, wake
        self._called = f"the folder of source {folder.source}" if folder.below else "the inbox"
        self._held: InboxFolder | None = None  # the directory of a source that is watched
        self._rescan_seconds = rescan_seconds
        self._handler = _EventHandler(wake)
        self._overflow = _OverflowFilter()
        self._observer: Any = None
        self._watched: tuple[int, int] | None = None
        self._distrust = ""  # why events are not enough, although they may come
        self.up = False  # whether new drops are noticed
        self.watch = 0  # counts the watches that were set: a new number is a new watch
        self._is_started = False

    @property
    def interval_seconds(self) -> float:
        """The time between two scans without an event."""
        polls = self._distrust or self._observer is None
        return min(self._rescan_seconds, _POLL_SECONDS) if polls else self._rescan_seconds

    def stop(self) -> None:
        """Stops the threads."""
        logging.getLogger(_OVERFLOW_LOGGER).removeFilter(self._overflow)
        self._stop()

    def take(self) -> EventNames:
        """The names in the events since the last call."""
        return self._handler.take()

    def missed(self, drops: int) -> list[str]:
        """Called with the number of drops that no event named. In mode auto, the inbox is polled from then on."""
        if self._mode != "auto" or self._distrust or not drops or self._overflow.seen.is_set():
            return []
        self._distrust = f"{drops} drops came without an event, as on mounts that another machine writes to"
        return [f"{self._distrust}: scanning every {self.interval_seconds:g} s from now on"]

    def check(self) -> list[str]:
        """Sets the watch where events cannot come, as at the start. Returns what to log; never raises."""
        if not self._is_started:
            self._is_started = True
            logging.getLogger(_OVERFLOW_LOGGER).addFilter(self._overflow)
            return self._start("")
        if self._overflow.seen.is_set():
            self._overflow.seen.clear()
            self._wake()
            return [
                "the queue of events overflowed; scanning the whole inbox instead",
                *self._restart_if(self._why_no_events()),
            ]
        return self._restart_if(self._why_no_events())

    def _restart_if(self, why: str) -> list[str]:
        if not why:
            return []
        notes = self._start(why)
        self._wake()
        return notes

    def _why_no_events(self) -> str:
        """Why no event can come; empty where events can come, or none are wanted."""
        try:
            found = self.place.identity()
        except OSError as error:
            return f"{self._called} {self.place.path} cannot be read: {error.strerror}"
        if self._watched is None:
            return f"{self._called} is back"
        if found != self._watched:
            return f"{self._called} was replaced by another folder"
        if self._observer is None:
            return "" if self._mode == "polling" else "the watch could not be set before"
        if not _alive(self._observer):
            return "a watching thread died"
        return ""

    def _start(self, why: str) -> list[str]:
        """Starts watching the folder that is at the path of the inbox now."""
        was_up, had_observer = self.up, self._observer is not None
        self._stop()
        try:
            self._watched = self.place.identity()
        except OSError as error:
            self._watched, self.up = None, False
            message = f"{self._called} {self.place.path} cannot be read: {error.strerror}; waiting for it"
            return [message] if was_up else []
        if self._mode == "polling":
            self.up = True
            self.watch += 1
            return [f"{why}: scanning it again"] if why else []
        failure = self._observe()
        self.up = not failure or self._mode == "auto"
        if failure:
            if why and not had_observer and was_up == self.up:
                return []  # already reported
            return [f"{self._called} cannot be watched ({failure}): scanning every {self.interval_seconds:g} s instead"]
        if self._mode == "auto" and not self._distrust and not self._probe_gives_event():
            self._distrust = "a probe file gave no event"
            return [f"{self._distrust}, as on some mounts: scanning every {self.interval_seconds:g} s as well"]
        return [f"{why}: watching it again"] if why else []

    def _observe(self) -> str:
        """Sets the watch. Returns why it could not be set, or an empty string."""
        options: dict[str, Any] = {}
        if sys.platform == "linux":
            # Full events distinguish a file that was moved in, which is complete, from one that was just created.
            options = {"generate_full_events": True}
            # watchdog holds the first half of a rename, and every later event, for half a second until the other half comes. We
            # hide each drop by a rename, which delayed the close event of the next drop. Half a rename is enough for us.
            InotifyMoveEventGrouper.delay = 0.0
        try:
            observer = Observer(**options)
            observer.schedule(self._handler, self._path(), recursive=False, event_filter=_EVENTS)
            observer.start()
        except Exception as error:  # OSError where limits are exhausted; a backend may raise others
            return getattr(error, "strerror", None) or cause_of(error)
        self._observer = observer
        self.watch += 1
        return ""

    def _path(self) -> str:
        """What to watch. Below the inbox, the directory that was checked is held open: a link may come to its name meanwhile."""
        if not self.place.below:
            return os.fspath(self.place.path)
        self._held = self.place.open()
        self._watched = self._held.identity
        return self._held.watch_path

    def _stop(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            try:
                observer.stop()
                observer.join(_PROBE_SECONDS)
            except Exception:  # it is replaced because it failed
                logging.getLogger("strandline").debug("the observer could not be stopped", exc_info=True)

    def _probe_gives_event(self) -> bool:
        """Whether a file that is created here gives an event. True where none can be created, since nothing is known then."""
        self._handler.probed.clear()
        self._handler.probe = probe_name()
        try:
            with self.place.open().probe(self._handler.probe):
                return self._handler.probed.wait(_PROBE_SECONDS)
        except OSError:
            return True


def _alive(observer: Any) -> bool:
    """Whether the observer, its emitters and, with inotify, its reading thread are alive."""
    threads = [observer, *observer.emitters]
    readers = [thread for thread in threading.enumerate() if type(thread).__name__ == "InotifyFD"]
    needs_reader = any("inotify" in type(emitter).__module__ for emitter in observer.emitters)
    return all(thread.is_alive() for thread in threads) and (bool(readers) or not needs_reader)
