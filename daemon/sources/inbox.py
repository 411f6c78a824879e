"""What is in the inbox, and which drops are settled. Never reads a record, never changes a name.

A drop is settled when no process has it open for writing (a read lease is granted), and either an event said that its writer
closed it or moved it in, or it stayed unchanged for `settle_seconds`. Where leases tell nothing (another user's file without
CAP_LEASE, a file system without leases), it must have been closed or moved in, or have stayed unchanged for
`foreign_settle_seconds`. A drop with unfinished content is checked again with growing delays, then taken as it is.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace

from ..core.mapping import DEFAULT_SOURCE
from ..core.retry import Backoff
from .inbox_folder import Identity, InboxFolder
from .names import is_ignored, is_no_drop, is_unfinished
from .source_folder import SourceFolder
from .unfinished import why_unfinished
from .writers import Writer, writer_of

_LONG_SCAN_SECONDS = 0.5
OVERDUE_SECONDS = 3600.0  # a file that stays unfinished for this long is reported once
_KINDS = {
    stat.S_ISDIR: "a folder that no [sources] section names; its files are not taken",
    stat.S_ISLNK: "a symbolic link, which is never followed; copy the file itself into the inbox",
    stat.S_ISFIFO: "a FIFO, which is never opened",
    stat.S_ISSOCK: "a socket, which is never opened",
    stat.S_ISCHR: "a device, which is never opened",
    stat.S_ISBLK: "a device, which is never opened",
}


@dataclass(frozen=True, slots=True)
class Arrival:
    """A regular file in the inbox as a scan found it: enough to tell later whether it is still the same."""

    folder: InboxFolder = field(repr=False, compare=False)
    name: str
    identity: Identity
    ctime_ns: int  # changed by writing and by moving it in
    source: str = DEFAULT_SOURCE
    settled_at: float = field(default=0.0, compare=False)  # seconds since 1970; 0: not settled

    @property
    def label(self) -> str:
        """Its name with the folders below the inbox: no two files in the inbox have the same."""
        return self.folder.label(self.name)

    @property
    def size_bytes(self) -> int:
        return self.identity.size_bytes

    @property
    def mtime_ns(self) -> int:
        return self.identity.mtime_ns


@dataclass(frozen=True, slots=True)
class Unusable:
    """An entry of the inbox that is not a regular file, or that stat fails on. A folder was not meant as a drop; others were."""

    name: str
    why: str
    is_folder: bool


@dataclass(slots=True)
class InboxScan:
    """The result of one scan: settled arrivals in order of arrival, names that are waited for, and entries to report."""

    settled: list[Arrival] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)  # waiting, and unknown whether a program has them open
    retried: list[tuple[str, int, float, str]] = field(default_factory=list)  # name, attempt, seconds to the next, why
    given_up: list[str] = field(default_factory=list)  # settled, although their content is still unfinished
    unusable: list[Unusable] = field(default_factory=list)
    newly_unusable: list[Unusable] = field(default_factory=list)  # those to report: each once
    unfinished: int = 0  # files whose names say so
    overdue: list[str] = field(default_factory=list)  # of these, those to report: unchanged for an hour, each once
    oldest: float | None = None  # mtime of the oldest drop, in seconds

    def labelled(self, prefix: str) -> InboxScan:
        """The same with `prefix` before each name."""
        return replace(
            self,
            waiting=[prefix + name for name in self.waiting],
            foreign=[prefix + name for name in self.foreign],
            retried=[(prefix + name, *more) for name, *more in self.retried],  # type: ignore[misc]
            given_up=[prefix + name for name in self.given_up],
            unusable=[replace(one, name=prefix + one.name) for one in self.unusable],
            newly_unusable=[replace(one, name=prefix + one.name) for one in self.newly_unusable],
            overdue=[prefix + name for name in self.overdue],
        )


class Inbox:
    """The folder of one source. Remembers between scans how long each file has been unchanged. `clock` is monotonic, so that
    setting the wall clock back delays nothing; the wall clock is only compared with the times of files."""

    def __init__(
        self,
        folder: SourceFolder,
        settle_seconds: float,
        unfinished: Backoff,
        clock: Callable[[], float] = time.monotonic,
        *,
        foreign_settle_seconds: float = 60.0,
        ignored: Sequence[str] = (),
        accept: Callable[[InboxFolder], None] = lambda folder: None,
    ) -> None:
        """`accept` is called with each new directory at the folder's path, and raises where it must not be an inbox."""
        self.place = folder
        self._clock = clock
        self._settle_seconds, self._foreign_settle_seconds = settle_seconds, foreign_settle_seconds
        self._backoff = unfinished
        self.ignored, self._accept = ignored, accept
        self._folder: InboxFolder | None = None
        self._seen: dict[str, tuple[Arrival, float]] = {}
        self._tries: dict[str, tuple[Arrival, int, float]] = {}
        self._unusable: set[str] = set()
        self._put_off: dict[str, tuple[Arrival, int, float]] = {}
        self._closed: dict[str, Arrival] = {}
        self._finished: dict[str, tuple[Arrival, str | None]] = {}  # why the content is unfinished; None: it is not
        self._unfinished: dict[str, tuple[os.stat_result, float]] = {}
        self._reported: set[str] = set()

    def open(self) -> InboxFolder:
        """The directory that is at the path now. Each scan opens it, since it may be another or no longer readable. The same
        directory keeps its object, so that the arrivals of many scans share one descriptor."""
        folder = self.place.open()
        if self._folder is None or folder.identity != self._folder.identity:
            self._accept(folder)
            self._folder = folder
        return self._folder

    def scan(self, now: float, closed: Set[str] = frozenset()) -> InboxScan:
        """Lists and checks everything in the inbox. `now`: the wall clock in seconds, which mtimes are compared with. `closed`:
        names that were closed by a writer or moved in since the last scan; such a file is settled unless it changes again."""
        scan, passed = InboxScan(), self._clock()
        arrivals = self._list(scan, passed)
        self._closed = {a.name: a for a in arrivals if a.name in closed or self._closed.get(a.name) == a}
        self._seen = {a.name: self._first_seen(a, passed) for a in arrivals}
        self._tries = {name: tried for name, tried in self._tries.items() if name in self._seen}
        self._finished = {name: found for name, found in self._finished.items() if name in self._seen}
        self._put_off = {a.name: off for a in arrivals if (off := self._put_off.get(a.name)) and off[0] == a}
        scan.oldest = min((a.mtime_ns for a in arrivals), default=0) / 1e9 if arrivals else None
        for arrival in arrivals:
            if self._must_wait(arrival, scan, now, passed):
                scan.waiting.append(arrival.name)
                continue
            scan.settled.append(replace(arrival, settled_at=self._settled_at(arrival, now)))
            if arrival.name in self._tries and self._tries[arrival.name][0] == arrival:
                scan.given_up.append(arrival.name)
        scan.settled.sort(key=lambda a: (a.mtime_ns, os.fsencode(a.name)))
        return scan

    def names(self) -> set[str]:
        """The names of all drops that are there."""
        try:
            return {name for name in self.open().names() if not is_no_drop(name, self.ignored)}
        except OSError:
            return set()

    def put_off(self, arrival: Arrival) -> None:
        """Delays a settled drop that could not be taken, longer each time, unless it changes."""
        known, tries, _ = self._put_off.get(arrival.name, (arrival, 0, 0.0))
        tries = tries + 1 if known == arrival else 1
        self._put_off[arrival.name] = (arrival, tries, self._clock() + self._backoff.delay_seconds(tries))

    # ------------------------------------------------------------------------------------------------------ what is there

    def _list(self, scan: InboxScan, passed: float) -> list[Arrival]:
        folder, arrivals, unfinished = self.open(), [], {}
        for name, found in folder.entries():
            if is_ignored(name, self.ignored):
                continue
            if isinstance(found, OSError):
                if not is_no_drop(name):
                    scan.unusable.append(Unusable(name, found.strerror or str(found), is_folder=False))
            elif is_unfinished(name):
                if stat.S_ISREG(found.st_mode):
                    unfinished[name] = self._unchanged_since(name, found, passed)
            elif name.startswith("."):
                continue
            elif stat.S_ISREG(found.st_mode):
                arrivals.append(Arrival(folder, name, Identity.of(found), found.st_ctime_ns, self.place.source))
            else:
                why = next((text for is_kind, text in _KINDS.items() if is_kind(found.st_mode)), "not a regular file")
                scan.unusable.append(Unusable(name, why, stat.S_ISDIR(found.st_mode)))
        scan.newly_unusable = [one for one in scan.unusable if one.name not in self._unusable]
        self._unusable = {one.name for one in scan.unusable}
        self._unfinished, scan.unfinished = unfinished, len(unfinished)
        overdue = {name for name, (_, since) in unfinished.items() if passed - since >= OVERDUE_SECONDS}
        scan.overdue = sorted(overdue - self._reported)
        self._reported = overdue
        return arrivals

    def _unchanged_since(self, name: str, found: os.stat_result, passed: float) -> tuple[os.stat_result, float]:
        """When an unfinished file was first found as it is now. The time before this process counts, too."""
        before = self._unfinished.get(name)
        if before and Identity.of(before[0]) == Identity.of(found):
            return before
        return found, passed - max(0.0, time.time() - max(found.st_mtime, found.st_ctime))

    def _first_seen(self, arrival: Arrival, passed: float) -> tuple[Arrival, float]:
        before = self._seen.get(arrival.name)
        return before if before and before[0] == arrival else (arrival, passed)

    # ---------------------------------------------------------------------------------------------------- what is settled

    def _must_wait(self, arrival: Arrival, scan: InboxScan, now: float, passed: float) -> bool:
        """Whether an arrival may still be written to, or is delayed."""
        if self._is_put_off(arrival, passed) or not self._is_still(arrival, now, passed):
            return True
        try:
            with arrival.folder.opened(arrival.name) as descriptor:
                writer = writer_of(descriptor)
                if writer is Writer.UNKNOWN and not self._is_quiet(arrival, now, passed):
                    scan.foreign.append(arrival.name)
                    return True
                return writer is Writer.SOME or self._is_unfinished(arrival, descriptor, scan, now, passed)
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                raise
            return False  # taking the drop reports why it cannot be opened

    def _is_put_off(self, arrival: Arrival, passed: float) -> bool:
        return arrival.name in self._put_off and passed < self._put_off[arrival.name][2]

    def _is_still(self, arrival: Arrival, now: float, passed: float) -> bool:
        """Whether its writer closed it, or it was unchanged for long enough: by its mtime or, as clocks differ, as observed."""
        if self._closed.get(arrival.name) == arrival:
            return True
        age = now - arrival.mtime_ns / 1e9
        return age >= self._settle_seconds or passed - self._seen[arrival.name][1] >= self._settle_seconds

    def _is_quiet(self, arrival: Arrival, now: float, passed: float) -> bool:
        """The same for a file of which it is unknown whether a program has it open. Its mtime alone proves nothing, since a
        writer can set it; ctime also changes when a file is moved in or its mtime is set."""
        unchanged = now - max(arrival.mtime_ns, arrival.ctime_ns) / 1e9 >= self._foreign_settle_seconds
        if unchanged or self._closed.get(arrival.name) == arrival:
            return True
        return passed - self._seen[arrival.name][1] >= self._foreign_settle_seconds

    def _settled_at(self, arrival: Arrival, now: float) -> float:
        """When it became settled, as far as is known: when it was closed or moved in, or `settle_seconds` after its change."""
        changed = arrival.ctime_ns / 1e9
        return min(now, changed if self._closed.get(arrival.name) == arrival else changed + self._settle_seconds)

    def _is_unfinished(self, arrival: Arrival, descriptor: int, scan: InboxScan, now: float, passed: float) -> bool:
        """Whether its content is unfinished, and attempts are left."""
        known, tries, due = self._tries.get(arrival.name, (arrival, 0, passed))
        if known != arrival:
            tries, due = 0, passed
        if not tries and now - arrival.mtime_ns / 1e9 >= self._backoff.total_seconds:
            return False  # it has been unchanged for longer than all delays together
        if self._clock() - passed > _LONG_SCAN_SECONDS:
            return True  # compressed files take time to check; the rest waits for the next scan
        why = self._why_unfinished(arrival, descriptor)
        if why is None or (passed >= due and tries >= self._backoff.attempts):
            return False
        if passed >= due:
            delay_seconds = self._backoff.delay_seconds(tries + 1)
            self._tries[arrival.name] = (arrival, tries + 1, passed + delay_seconds)
            scan.retried.append((arrival.name, tries + 1, delay_seconds, why))
        return True

    def _why_unfinished(self, arrival: Arrival, descriptor: int) -> str | None:
        """Why its content is unfinished. Read once as long as the file is unchanged."""
        before = self._finished.get(arrival.name)
        if before is None or before[0] != arrival:
            before = self._finished[arrival.name] = (arrival, why_unfinished(descriptor))
        return before[1]
