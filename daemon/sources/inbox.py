"""What is in the inbox, and which of it no writer is still changing. Never reads a record, never changes a name.

A drop is settled when no process has it open for writing (a read lease is granted) and either an event said that its writer
closed it or moved it in, or it stayed unchanged for `settle_seconds`. Where no lease can tell (another user's file without
CAP_LEASE, a file system without leases), it must have been closed or moved in, or have stayed unchanged for
`foreign_settle_seconds`. A drop whose content is unfinished is looked at again with growing delays before it is taken as it is.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..core.retry import Backoff
from .inbox_folder import Identity, InboxFolder, Writer, writer_of
from .names import is_ignored, is_no_drop, is_unfinished
from .unfinished import why_unfinished

_LONG_LOOK_SECONDS = 0.5
OVERDUE_SECONDS = 3600.0  # a file that is unfinished for so long is reported once
_KINDS = {
    stat.S_ISDIR: "a folder; only files directly in the inbox are taken",
    stat.S_ISLNK: "a symbolic link, which is never followed; copy the file itself into the inbox",
    stat.S_ISFIFO: "a FIFO, which is never opened",
    stat.S_ISSOCK: "a socket, which is never opened",
    stat.S_ISCHR: "a device, which is never opened",
    stat.S_ISBLK: "a device, which is never opened",
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A regular file in the inbox, as it was seen: enough to tell later whether it still is the same."""

    folder: InboxFolder = field(repr=False, compare=False)
    name: str
    identity: Identity
    ctime_ns: int  # changed by writing and by moving it in
    settled_at: float = field(default=0.0, compare=False)  # seconds since 1970; 0: it is not

    @property
    def size_bytes(self) -> int:
        return self.identity.size_bytes

    @property
    def mtime_ns(self) -> int:
        return self.identity.mtime_ns


@dataclass(frozen=True, slots=True)
class Strange:
    """Something in the inbox that is no file, or cannot be looked at. Folders are nobody's drop; the rest was meant to be one."""

    name: str
    why: str
    is_folder: bool


@dataclass(slots=True)
class Look:
    """One look at the inbox: settled arrivals in the order of arrival, the names still waited for, oddities to log."""

    settled: list[Arrival] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)  # the waiting of which nobody can tell whether they are open
    retried: list[tuple[str, int, float, str]] = field(default_factory=list)  # name, try, seconds to the next, why
    given_up: list[str] = field(default_factory=list)  # drops among the settled that are unfinished still
    strange: list[Strange] = field(default_factory=list)  # all that is there
    first_seen: list[Strange] = field(default_factory=list)  # of these, those to report: each once
    unfinished: int = 0  # names that say so, left alone
    overdue: list[str] = field(default_factory=list)  # of these, those to report: unchanged for an hour, each once
    oldest: float | None = None  # mtime of the oldest drop, in seconds


class Inbox:
    """Remembers between looks how long each file has stayed as it is. That is told by `clock`, which nobody sets, so that a wall
    clock that is set back holds up nothing; the wall clock is only compared with times of files."""

    def __init__(
        self,
        path: Path,
        settle_seconds: float,
        unfinished: Backoff,
        clock: Callable[[], float] = time.monotonic,
        *,
        foreign_settle_seconds: float = 60.0,
        ignored: Sequence[str] = (),
        accept: Callable[[InboxFolder], None] = lambda folder: None,
    ) -> None:
        """`accept` is told of each folder that comes to be at the path, and raises where it must not be the inbox."""
        self.path = path
        self._clock = clock
        self._settle_seconds, self._foreign_settle_seconds = settle_seconds, foreign_settle_seconds
        self._backoff = unfinished
        self._ignored, self._accept = ignored, accept
        self._folder: InboxFolder | None = None
        self._seen: dict[str, tuple[Arrival, float]] = {}
        self._tries: dict[str, tuple[Arrival, int, float]] = {}
        self._strange: set[str] = set()
        self._put_off: dict[str, tuple[Arrival, int, float]] = {}
        self._closed: dict[str, Arrival] = {}
        self._finished: dict[str, tuple[Arrival, str | None]] = {}  # what the content said when it was looked at
        self._unfinished: dict[str, tuple[os.stat_result, float]] = {}
        self._reported: set[str] = set()

    def _open(self) -> InboxFolder:
        """The directory that is at the path now. It is opened anew at each look, since it may be another, or not be ours to read
        any more; one that is the same is used on, so that arrivals of many looks hold one descriptor."""
        folder = InboxFolder(self.path)
        if self._folder is None or folder.identity != self._folder.identity:
            self._accept(folder)
            self._folder = folder
        return self._folder

    def look(self, now: float, closed: Set[str] = frozenset()) -> Look:
        """Looks at everything in the inbox. `now` is the wall clock in seconds, the clock of mtimes. `closed`: names whose
        writers closed them, or that were moved in, since the last look; such a file is still unless it changes again."""
        look, passed = Look(), self._clock()
        arrivals = self._scan(look, passed)
        self._closed = {a.name: a for a in arrivals if a.name in closed or self._closed.get(a.name) == a}
        self._seen = {a.name: self._first_seen(a, passed) for a in arrivals}
        self._tries = {name: tried for name, tried in self._tries.items() if name in self._seen}
        self._finished = {name: found for name, found in self._finished.items() if name in self._seen}
        self._put_off = {a.name: off for a in arrivals if (off := self._put_off.get(a.name)) and off[0] == a}
        look.oldest = min((a.mtime_ns for a in arrivals), default=0) / 1e9 if arrivals else None
        for arrival in arrivals:
            if self._must_wait(arrival, look, now, passed):
                look.waiting.append(arrival.name)
                continue
            look.settled.append(replace(arrival, settled_at=self._settled_at(arrival, now)))
            if arrival.name in self._tries and self._tries[arrival.name][0] == arrival:
                look.given_up.append(arrival.name)
        look.settled.sort(key=lambda a: (a.mtime_ns, os.fsencode(a.name)))
        return look

    def names(self) -> set[str]:
        """The names of all drops that are there."""
        try:
            return {name for name in self._open().names() if not is_no_drop(name, self._ignored)}
        except OSError:
            return set()

    def put_off(self, arrival: Arrival) -> None:
        """Lets a settled drop that could not be taken wait, longer each time, unless it changes."""
        known, tries, _ = self._put_off.get(arrival.name, (arrival, 0, 0.0))
        tries = tries + 1 if known == arrival else 1
        self._put_off[arrival.name] = (arrival, tries, self._clock() + self._backoff.delay_seconds(tries))

    # ------------------------------------------------------------------------------------------------------ what is there

    def _scan(self, look: Look, passed: float) -> list[Arrival]:
        folder, arrivals, unfinished = self._open(), [], {}
        for name, found in folder.entries():
            if is_ignored(name, self._ignored):
                continue
            if isinstance(found, OSError):
                if not is_no_drop(name):
                    look.strange.append(Strange(name, found.strerror or str(found), is_folder=False))
            elif is_unfinished(name):
                if stat.S_ISREG(found.st_mode):
                    unfinished[name] = self._unchanged_since(name, found, passed)
            elif name.startswith("."):
                continue
            elif stat.S_ISREG(found.st_mode):
                arrivals.append(Arrival(folder, name, Identity.of(found), found.st_ctime_ns))
            else:
                why = next((text for is_kind, text in _KINDS.items() if is_kind(found.st_mode)), "no regular file")
                look.strange.append(Strange(name, why, stat.S_ISDIR(found.st_mode)))
        look.first_seen = [one for one in look.strange if one.name not in self._strange]
        self._strange = {one.name for one in look.strange}
        self._unfinished, look.unfinished = unfinished, len(unfinished)
        overdue = {name for name, (_, since) in unfinished.items() if passed - since >= OVERDUE_SECONDS}
        look.overdue = sorted(overdue - self._reported)
        self._reported = overdue
        return arrivals

    def _unchanged_since(self, name: str, found: os.stat_result, passed: float) -> tuple[os.stat_result, float]:
        """When an unfinished file was first seen as it is now; a file that is older than this process, as long ago."""
        before = self._unfinished.get(name)
        if before and Identity.of(before[0]) == Identity.of(found):
            return before
        return found, passed - max(0.0, time.time() - max(found.st_mtime, found.st_ctime))

    def _first_seen(self, arrival: Arrival, passed: float) -> tuple[Arrival, float]:
        before = self._seen.get(arrival.name)
        return before if before and before[0] == arrival else (arrival, passed)

    # ---------------------------------------------------------------------------------------------------- what is settled

    def _must_wait(self, arrival: Arrival, look: Look, now: float, passed: float) -> bool:
        """Whether an arrival may still be written, or is put off."""
        if self._is_put_off(arrival, passed) or not self._is_still(arrival, now, passed):
            return True
        try:
            with arrival.folder.opened(arrival.name) as descriptor:
                writer = writer_of(descriptor)
                if writer is Writer.UNKNOWN and not self._is_quiet(arrival, now, passed):
                    look.foreign.append(arrival.name)
                    return True
                return writer is Writer.SOME or self._is_unfinished(arrival, descriptor, look, now, passed)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
            return False  # taking it says why it cannot be opened

    def _is_put_off(self, arrival: Arrival, passed: float) -> bool:
        return arrival.name in self._put_off and passed < self._put_off[arrival.name][2]

    def _is_still(self, arrival: Arrival, now: float, passed: float) -> bool:
        """Whether its writer closed it, or it stayed the same for long enough, by its mtime or under our eyes (a clock may be
        wrong)."""
        if self._closed.get(arrival.name) == arrival:
            return True
        age = now - arrival.mtime_ns / 1e9
        return age >= self._settle_seconds or passed - self._seen[arrival.name][1] >= self._settle_seconds

    def _is_quiet(self, arrival: Arrival, now: float, passed: float) -> bool:
        """The same for a file of which nobody can tell whether it is open. Its mtime alone proves nothing, since a writer can
        set it; moving a file in, or setting its mtime, is a change, too."""
        unchanged = now - max(arrival.mtime_ns, arrival.ctime_ns) / 1e9 >= self._foreign_settle_seconds
        if unchanged or self._closed.get(arrival.name) == arrival:
            return True
        return passed - self._seen[arrival.name][1] >= self._foreign_settle_seconds

    def _settled_at(self, arrival: Arrival, now: float) -> float:
        """When it was, as far as can be told: when it was closed or moved in, or as long after as it must stay the same."""
        changed = arrival.ctime_ns / 1e9
        return min(now, changed if self._closed.get(arrival.name) == arrival else changed + self._settle_seconds)

    def _is_unfinished(self, arrival: Arrival, descriptor: int, look: Look, now: float, passed: float) -> bool:
        """Whether its content is unfinished, and it has not been looked at as often as allowed."""
        known, tries, due = self._tries.get(arrival.name, (arrival, 0, passed))
        if known != arrival:
            tries, due = 0, passed
        if not tries and now - arrival.mtime_ns / 1e9 >= self._backoff.total_seconds:
            return False  # it has been like this for longer than we would wait
        if self._clock() - passed > _LONG_LOOK_SECONDS:
            return True  # compressed files take time to look at; the rest waits for the next look
        why = self._why_unfinished(arrival, descriptor)
        if why is None or (passed >= due and tries >= self._backoff.attempts):
            return False
        if passed >= due:
            delay_seconds = self._backoff.delay_seconds(tries + 1)
            self._tries[arrival.name] = (arrival, tries + 1, passed + delay_seconds)
            look.retried.append((arrival.name, tries + 1, delay_seconds, why))
        return True

    def _why_unfinished(self, arrival: Arrival, descriptor: int) -> str | None:
        """What its content says, looked at once as long as the file stays the same."""
        before = self._finished.get(arrival.name)
        if before is None or before[0] != arrival:
            before = self._finished[arrival.name] = (arrival, why_unfinished(descriptor))
        return before[1]
