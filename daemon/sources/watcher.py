"""Wakes the service when something happens in the inbox, and says whether it can still hear. It never scans or opens a drop.

An event says two things: "look", and that these names have spoken, some of them by being closed by a writer or moved in. It
never decides what there is. Events can fail to come in many ways: mounts that send none, a full queue, a dead thread, a folder
that was replaced under the watch. So `check`, called at each rescan, looks at all of these and arms anew; and what only a
rescan finds is counted by the service and told here (`missed`), since a probe from inside proves nothing about the other
side of a mount. Polling is no observer of its own: the service scans anyway, and `interval_seconds` says how often.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

from .inbox_folder import InboxFolder, probe_name

if sys.platform == "linux":
    from watchdog.observers.inotify_move_event_grouper import InotifyMoveEventGrouper

# Not modifications: each block of a slow writer would wake us, and it is its close that matters. Not opens: they are ours.
_EVENTS: list[type[FileSystemEvent]] = [FileClosedEvent, FileCreatedEvent, FileMovedEvent]
_OVERFLOW_LOGGER = "watchdog.observers.inotify_c"
_PROBE_SECONDS = 1.0
_MOST_NAMES = 100_000
_POLL_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Heard:
    """Names that events named since the last time. `closed`: those whose writer closed them or moved them in."""

    names: frozenset[str]
    closed: frozenset[str]


class _Ear(FileSystemEventHandler):
    """What watchdog calls, in its thread. An exception here would silently end that thread."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._closed: set[str] = set()
        self.probe = ""  # the name of the file that `probed` waits for
        self.probed = threading.Event()

    def dispatch(self, event: FileSystemEvent) -> None:
        try:
            moved = isinstance(event, FileMovedEvent)
            name = os.path.basename(os.fsdecode(event.dest_path if moved else event.src_path))
            if not name or name.startswith("."):
                if name == self.probe:
                    self.probed.set()
                return  # hidden names are those of unfinished files, the probe, and our own renames: nothing to look at
            with self._lock:
                if len(self._names) < _MOST_NAMES:
                    self._names.add(name)
                    if moved or isinstance(event, FileClosedEvent):
                        self._closed.add(name)
            self._wake()
        except Exception:
            logging.getLogger("strandline").exception("an event could not be read; the next rescan sees what it meant")

    def take(self) -> Heard:
        with self._lock:
            heard = Heard(frozenset(self._names), frozenset(self._closed))
            self._names.clear()
            self._closed.clear()
        return heard


class _OverflowFilter(logging.Filter):
    """watchdog says that events were lost only in its log."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = threading.Event()

    def filter(self, record: logging.LogRecord) -> bool:
        if "overflow" in record.getMessage():
            self.seen.set()
        return True


class Watcher:
    """Over one inbox. `mode`: auto, native, polling. `wake` may be called from any thread and must return at once."""

    def __init__(self, inbox: Path, mode: str, rescan_seconds: float, wake: Callable[[], None]) -> None:
        self._inbox, self._mode, self._wake = inbox, mode, wake
        self._rescan_seconds = rescan_seconds
        self._ear = _Ear(wake)
        self._overflow = _OverflowFilter()
        self._observer: Any = None
        self._armed_at: tuple[int, int] | None = None
        self._deaf = ""  # why events are not relied on, though they may come
        self.up = False
        self.watch = 0  # how many watches have been set so far: a change says that the present one is new
        self._begun = False

    @property
    def interval_seconds(self) -> float:
        """How often to look without an event."""
        polls = self._deaf or self._observer is None
        return min(self._rescan_seconds, _POLL_SECONDS) if polls else self._rescan_seconds

    def stop(self) -> None:
        """Ends the threads."""
        logging.getLogger(_OVERFLOW_LOGGER).removeFilter(self._overflow)
        self._disarm()

    def take(self) -> Heard:
        """What was heard since the last time."""
        return self._ear.take()

    def missed(self, drops: int) -> list[str]:
        """Told of drops that no event had named. In mode auto, events are not relied on from then on."""
        if self._mode != "auto" or self._deaf or not drops or self._overflow.seen.is_set():
            return []
        self._deaf = f"{drops} drops came without an event, as on mounts that are written to from elsewhere"
        return [f"{self._deaf}: looking every {self.interval_seconds:g} s from now on"]

    def check(self) -> list[str]:
        """Looks whether events can come, and arms where not, as at first. Returns what is to be logged; never raises."""
        if not self._begun:
            self._begun = True
            logging.getLogger(_OVERFLOW_LOGGER).addFilter(self._overflow)
            return self._arm("")
        if self._overflow.seen.is_set():
            self._overflow.seen.clear()
            self._wake()
            return [
                "the queue of events overflowed; looking at the whole inbox instead",
                *self._rearm_if(self._why_deaf()),
            ]
        return self._rearm_if(self._why_deaf())

    def _rearm_if(self, why: str) -> list[str]:
        if not why:
            return []
        notes = self._arm(why)
        self._wake()
        return notes

    def _why_deaf(self) -> str:
        """Why no event can come any more; empty where they can, or none are wanted."""
        try:
            found = _identity(self._inbox)
        except OSError as error:
            return f"the inbox {self._inbox} cannot be looked at: {error.strerror}"
        if self._armed_at is None:
            return "the inbox is back"
        if found != self._armed_at:
            return "the inbox was replaced by another folder"
        if self._observer is None:
            return "" if self._mode == "polling" else "no watch could be set before"
        if not _alive(self._observer):
            return "a watching thread died"
        return ""

    def _arm(self, why: str) -> list[str]:
        """Starts watching what is at the inbox's path now."""
        was_up, had_observer = self.up, self._observer is not None
        self._disarm()
        try:
            self._armed_at = _identity(self._inbox)
        except OSError as error:
            self._armed_at, self.up = None, False
            return [f"the inbox {self._inbox} cannot be looked at: {error.strerror}; waiting for it"] if was_up else []
        if self._mode == "polling":
            self.up = True
            self.watch += 1
            return [f"{why}: looking again"] if why else []
        failure = self._observe()
        self.up = not failure or self._mode == "auto"
        if failure:
            if why and not had_observer and was_up == self.up:
                return []  # said before
            return [
                f"no events can be had for the inbox ({failure}): looking every {self.interval_seconds:g} s instead"
            ]
        if self._mode == "auto" and not self._deaf and not self._hears():
            self._deaf = "a file that was made as a probe gave no event"
            return [f"{self._deaf}, as on some mounts: looking every {self.interval_seconds:g} s as well"]
        return [f"{why}: watching it anew"] if why else []

    def _observe(self) -> str:
        """Sets the watch; why not, where the system refuses."""
        options: dict[str, Any] = {}
        if sys.platform == "linux":
            # Full events tell a file that was moved in, which is whole, from one that was just created.
            options = {"generate_full_events": True}
            # watchdog keeps the first half of a rename, and all that comes after it, for half a second, in case the other half
            # follows. We hide each drop by a rename, and the next drop's closing waited behind that. Halves will do for us.
            InotifyMoveEventGrouper.delay = 0.0
        try:
            observer = Observer(**options)
            observer.schedule(self._ear, os.fspath(self._inbox), recursive=False, event_filter=_EVENTS)
            observer.start()
        except Exception as error:  # OSError where limits are exhausted; a backend may have others
            return getattr(error, "strerror", None) or str(error) or type(error).__name__
        self._observer = observer
        self.watch += 1
        return ""

    def _disarm(self) -> None:
        observer, self._observer = self._observer, None
        if observer is not None:
            try:
                observer.stop()
                observer.join(_PROBE_SECONDS)
            except Exception:  # it is being given up for having failed
                logging.getLogger("strandline").debug("the observer could not be stopped", exc_info=True)

    def _hears(self) -> bool:
        """Whether a file made here gives an event. True where none can be made: then nothing is known."""
        self._ear.probed.clear()
        self._ear.probe = probe_name()
        try:
            with InboxFolder(self._inbox).probe(self._ear.probe):
                return self._ear.probed.wait(_PROBE_SECONDS)
        except OSError:
            return True


def _identity(folder: Path) -> tuple[int, int]:
    found = os.stat(folder)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
    return found.st_dev, found.st_ino


def _alive(observer: Any) -> bool:
    """Whether the observer, its emitters and, where there is one, the thread that reads inotify all live."""
    threads = [observer, *observer.emitters]
    readers = [thread for thread in threading.enumerate() if type(thread).__name__ == "InotifyFD"]
    needs_reader = any("inotify" in type(emitter).__module__ for emitter in observer.emitters)
    return all(thread.is_alive() for thread in threads) and (bool(readers) or not needs_reader)
