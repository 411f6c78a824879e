"""The inbox: what lies in it, and which of it no writer is still changing. Never reads a record, never removes a thing.

A drop is settled when no writer holds it open (a read lease is granted, where the file system can tell) and either an event
said that its writer closed it or moved it in, or it stayed unchanged for `settle_seconds`; its mtime may prove that at first
sight. A drop that does not end as it began is looked at again with growing delays before it is taken as it is.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import time
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from .core.retry import Backoff

_UNFINISHED_SUFFIXES = ("~", ".tmp", ".part")
_COMPRESSED = (".gz", ".zst")
_CLOSERS = {b"[": b"]", b"{": b"}"}
_JSON_SPACE = b" \t\r\n"
_ENDS_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Arrival:
    """A regular file in the inbox, as it was seen: enough to tell later whether it still is the same."""

    path: Path
    size_bytes: int
    mtime_ns: int
    inode: int
    ctime_ns: int  # changed by writing and by moving it in
    settled_at: float = field(default=0.0, compare=False)  # seconds since 1970; 0: it is not

    @property
    def name(self) -> str:
        return self.path.name


@dataclass(frozen=True, slots=True)
class Look:
    """One look at the inbox: settled arrivals in the order of arrival, the names still waited for, oddities to log."""

    settled: list[Arrival]
    waiting: list[str]
    retried: list[
        tuple[str, int, float]
    ]  # a drop that ends unfinished, how often it was looked at, seconds to the next
    given_up: list[str]  # drops among the settled that still end unfinished
    strange: list[str]  # folders, links and special files, each named once
    oldest: float | None = None  # mtime of the oldest drop, in seconds


class Inbox:
    """Remembers between looks how long each file has stayed as it is. That is told by `clock`, which nobody sets, so that a wall
    clock that is set back holds up nothing; the wall clock is only held against mtimes."""

    def __init__(
        self, path: Path, settle_seconds: float, unfinished: Backoff, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.path = path
        self._clock = clock
        self._settle_seconds = settle_seconds
        self._unfinished = unfinished
        self._seen: dict[str, tuple[Arrival, float]] = {}
        self._tries: dict[str, tuple[Arrival, int, float]] = {}
        self._strange: set[str] = set()
        self._put_off: dict[str, tuple[Arrival, int, float]] = {}
        self._closed: dict[str, Arrival] = {}

    def look(self, now: float, closed: Set[str] = frozenset()) -> Look:
        """Looks at everything in the inbox. `now` is the wall clock in seconds, the clock of mtimes. `closed`: names whose
        writers closed them, or that were moved in, since the last look; such a file is still unless it changes again."""
        arrivals, strange = self._scan()
        passed = self._clock()
        self._closed = {a.name: a for a in arrivals if a.name in closed or self._closed.get(a.name) == a}
        self._seen = {a.name: self._first_seen(a, passed) for a in arrivals}
        self._tries = {name: tried for name, tried in self._tries.items() if name in self._seen}
        self._put_off = {a.name: off for a in arrivals if (off := self._put_off.get(a.name)) and off[0] == a}
        oldest = min((a.mtime_ns for a in arrivals), default=None)
        look = Look([], [], [], [], strange, None if oldest is None else oldest / 1e9)
        for arrival in arrivals:
            if self._is_put_off(arrival, passed) or not self._is_still(arrival, now, passed) or _is_held(arrival.path):
                look.waiting.append(arrival.name)
            elif (wait := self._wait_for_its_end(arrival, now, passed)) is not None:
                look.waiting.append(arrival.name)
                if wait:
                    look.retried.append((arrival.name, wait, self._unfinished.delay_seconds(wait)))
            else:
                look.settled.append(replace(arrival, settled_at=self._settled_at(arrival, now)))
                if arrival.name in self._tries and self._tries[arrival.name][0] == arrival:
                    look.given_up.append(arrival.name)
        look.settled.sort(key=lambda a: (a.mtime_ns, os.fsencode(a.name)))
        return look

    def names(self) -> set[str]:
        """The names of all drops that are there."""
        with suppress(OSError), os.scandir(self.path) as entries:
            return {entry.name for entry in entries if not is_left_alone(entry.name)}
        return set()

    def put_off(self, arrival: Arrival) -> None:
        """Lets a settled drop that could not be taken wait, longer each time, unless it changes."""
        known, tries, _ = self._put_off.get(arrival.name, (arrival, 0, 0.0))
        tries = tries + 1 if known == arrival else 1
        self._put_off[arrival.name] = (arrival, tries, self._clock() + self._unfinished.delay_seconds(tries))

    def _is_put_off(self, arrival: Arrival, passed: float) -> bool:
        return arrival.name in self._put_off and passed < self._put_off[arrival.name][2]

    def _scan(self) -> tuple[list[Arrival], list[str]]:
        arrivals, strange = [], []
        with os.scandir(self.path) as entries:
            for entry in entries:
                if is_left_alone(entry.name):
                    continue
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # its writer took it back
                    continue
                if stat.S_ISREG(found.st_mode):
                    path, times = Path(entry.path), (found.st_mtime_ns, found.st_ctime_ns)
                    arrivals.append(Arrival(path, found.st_size, times[0], found.st_ino, times[1]))
                elif entry.name not in self._strange:
                    self._strange.add(entry.name)
                    strange.append(entry.name)
        return arrivals, strange

    def _first_seen(self, arrival: Arrival, passed: float) -> tuple[Arrival, float]:
        before = self._seen.get(arrival.name)
        return before if before and before[0] == arrival else (arrival, passed)

    def _is_still(self, arrival: Arrival, now: float, passed: float) -> bool:
        """Whether its writer closed it, or it stayed the same for long enough, by its mtime or under our eyes (a clock may be
        wrong)."""
        if self._closed.get(arrival.name) == arrival:
            return True
        age = now - arrival.mtime_ns / 1e9
        return age >= self._settle_seconds or passed - self._seen[arrival.name][1] >= self._settle_seconds

    def _settled_at(self, arrival: Arrival, now: float) -> float:
        """When it was, as far as can be told: when it was closed or moved in, or as long after as it must stay the same."""
        changed = arrival.ctime_ns / 1e9
        return min(now, changed if self._closed.get(arrival.name) == arrival else changed + self._settle_seconds)

    def _wait_for_its_end(self, arrival: Arrival, now: float, passed: float) -> int | None:
        """None: as good as finished. Else the number of the try that just began, or 0 while waiting for the next."""
        if arrival.name.endswith(_COMPRESSED) or not ends_unfinished(arrival.path):
            return None
        known, tries, due = self._tries.get(arrival.name, (arrival, 0, passed))
        if known != arrival:
            tries, due = 0, passed
        if not tries and now - arrival.mtime_ns / 1e9 >= self._unfinished.total_seconds:
            return None  # it has been like this for longer than we would wait
        if passed < due:
            return 0
        if tries >= self._unfinished.attempts:
            return None
        self._tries[arrival.name] = (arrival, tries + 1, passed + self._unfinished.delay_seconds(tries + 1))
        return tries + 1


def is_left_alone(name: str) -> bool:
    """Hidden and unfinished names are their writers' business."""
    return name.startswith(".") or name.endswith(_UNFINISHED_SUFFIXES)


def ends_unfinished(path: Path) -> bool:
    """Whether a text begins as JSON and does not end as it began (`[` without `]`, a last line without `}`)."""
    try:
        with open(path, "rb", opener=lambda p, _: os.open(p, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)) as file:
            first = file.read(_ENDS_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip(_JSON_SPACE)[:1]
            file.seek(-min(_ENDS_BYTES, file.seek(0, os.SEEK_END)), os.SEEK_END)
            last = file.read().rstrip(_JSON_SPACE)[-1:]
    except OSError:
        return False  # whoever reads it next says why
    return first in _CLOSERS and last != _CLOSERS[first]


def _is_held(path: Path) -> bool:
    """Whether a writer has the file open: a read lease is refused then. Best effort; Linux only."""
    if not hasattr(fcntl, "F_SETLEASE"):
        return False
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A writer who comes while we hold the lease has the kernel signal us; by default with SIGIO, which ends a process.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        return False
    except BlockingIOError:
        return True
    except OSError:  # the file system has no leases, or the file is another user's
        return False
    finally:
        os.close(descriptor)
