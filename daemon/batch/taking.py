"""How a drop leaves the inbox: copied, hidden, known to the ledger, and only then removed. Nothing that somebody still writes
to, or has written to since it was copied, is removed.

    copy      under a temporary name in staging, hashed; the file must be the same before and after
    hide      the inbox file gets a hidden name, so that no writer finds it by the old one. It must still be what was copied,
              and no process may have it open for writing: otherwise it gets its name back, and waits
    let_go    once the ledger knows the copy: the hidden file goes, if it still is what was copied and no process has it open
              for writing; what was written to is a new drop, under its name again. Where nobody can tell whether it is open
              (another user's file), it is kept for `foreign_settle_seconds` and looked at once more

A crash in between leaves hidden files, and the next start goes on with each: `finish`.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace

from ..core.entries import Drop
from ..sources.inbox import Arrival
from ..sources.inbox_folder import HiddenFile, Identity, InboxFolder, Writer, first_hole, kept_from_writers, writer_of
from ..storage import files
from ..storage.raw import RawLayer, Stored, printable

log = logging.getLogger("strandline")
_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_AGAIN_SECONDS = 1.0  # after a hidden file could not be removed or shown


class NotTaken(OSError):
    """A file cannot be opened, read or renamed, is no regular file any more, is being written, or changed while it was copied.
    It stays in the inbox, and is looked at again later. `strerror` has the cause, in words."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy on its way into the raw layer: what it will be, and what it was taken from."""

    stored: Stored
    folder: InboxFolder
    name: str
    source: Identity
    hidden: HiddenFile | None = None  # None: its inbox file has its name still
    ctime_ns: int = 0  # of the inbox file, once it is hidden: it changes with each write, and nobody can set it


@dataclass(slots=True, eq=False)
class _Left:
    """A hidden file that is not finished with."""

    folder: InboxFolder
    hidden: HiddenFile
    content: tuple[int, bytes] | None  # size in bytes and SHA-256 of the drop that has it; None: no drop has it
    due: float  # on the monotonic clock: when a file that may have a writer is removed, and when to try again
    seen: tuple[Identity, int] | None = None  # what it was when it was known to have that content, with its ctime
    cause: str = ""  # what was reported of it


class Taking:
    """Takes drops out of the inbox. `known`: the drop that has a number, as the ledger knows it."""

    def __init__(
        self,
        raw: RawLayer,
        known: Callable[[int], Drop | None],
        foreign_settle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._raw, self._known, self._clock = raw, known, clock
        self._foreign_settle_seconds = foreign_settle_seconds
        self._left: list[_Left] = []

    # ---------------------------------------------------------------------------------------------------- one batch

    def copy(
        self, arrival: Arrival, seq: int, received_at: int, grown: Callable[[int], None] = lambda size: None
    ) -> Copy:
        """Copies an inbox file to its temporary place. NotTaken where that cannot be done now. `grown` hears how much is
        copied."""
        temporary = self._raw.temporary(seq)
        try:
            with _opened(arrival) as descriptor:
                source = Identity.of(os.fstat(descriptor))
                if source != arrival.identity:
                    raise _changed(arrival.name)
                if (hole := first_hole(descriptor)) is not None:
                    raise NotTaken(errno.EAGAIN, _holes(descriptor, hole), arrival.name)
                sha256, size = files.copy_unsynced(descriptor, temporary, grown, source.size_bytes)
                if size != source.size_bytes or Identity.of(os.fstat(descriptor)) != source:
                    raise _changed(arrival.name)
        except NotTaken:
            files.unlink(temporary)
            raise
        stored = self._raw.stored_as(seq, arrival.name, received_at, sha256, size)
        return Copy(stored, arrival.folder, arrival.name, source)

    def hide(self, copy: Copy) -> Copy:
        """Takes the inbox file of a copy out of sight. NotTaken where it is not what was copied any more, a process has it
        open for writing, or it cannot be renamed (a read-only inbox, another user's file in a sticky folder)."""
        try:
            hidden = copy.folder.hide(copy.name, copy.stored.seq)
        except OSError as error:
            cause = f"it cannot be taken out of the inbox: {error.strerror}"
            raise NotTaken(error.errno, cause, copy.name) from error
        try:
            return replace(copy, hidden=hidden, ctime_ns=_checked(copy, hidden))
        except NotTaken:
            self._show(copy.folder, hidden)
            raise

    def _show(self, folder: InboxFolder, hidden: HiddenFile) -> None:
        """Gives a file that no drop has its name back, now or, where that fails, later: it must not hold up other files."""
        one = _Left(folder, hidden, None, self._clock())
        if not self._finished(one, self._clock()):
            self._left.append(one)

    def sync_names(self, copies: Sequence[Copy]) -> None:
        """Makes it durable that inbox files are hidden: otherwise a power loss after the ledger knows their drops brings
        them back under their own names, and they are taken again."""
        for folder in {copy.folder for copy in copies}:
            folder.sync()

    def give_back(self, copies: Sequence[Copy]) -> None:
        """Undoes `copy` and `hide`: for a batch that is given up before anything of it is archived."""
        for copy in copies:
            if copy.hidden is not None:
                self._show(copy.folder, copy.hidden)
            files.unlink(self._raw.temporary(copy.stored.seq))

    def let_go(self, copies: Sequence[Copy]) -> None:
        """Removes hidden inbox files, now that the ledger knows their drops, as far as it is clear that nobody writes to them;
        the others are kept, and `look_again` goes on with them."""
        now = self._clock()
        for copy in copies:
            if copy.hidden is not None:
                content, seen = (copy.stored.size_bytes, copy.stored.sha256), (copy.source, copy.ctime_ns)
                one = _Left(copy.folder, copy.hidden, content, now + self._foreign_settle_seconds, seen)
                if not self._finished(one, now):
                    self._left.append(one)

    def give_back_kept(self) -> None:
        """Gives hidden files that are still kept their names back: the output that has their drops was replaced, and whoever
        works over this inbox now does not look for hidden files before its next start."""
        for one in self._left:
            with suppress(OSError):  # it stays hidden, and the next start finds it
                one.folder.show(one.hidden.hidden_name, one.hidden.name)
        self._left = []

    # --------------------------------------------------------------------------------------------- what was not finished

    def finish(self, folder: InboxFolder) -> None:
        """Goes on with every hidden file that an earlier run, or a batch that failed, left in this folder."""
        folder.remove_abandoned_copies(time.time())
        here = [one for one in self._left if one.folder.identity == folder.identity]
        listed = {one.hidden.hidden_name: one for one in here}
        self._left = [one for one in self._left if one not in here]
        for hidden in folder.hidden():
            before = listed.get(hidden.hidden_name)
            due = before.due if before else self._clock() + self._remaining_seconds(folder, hidden)
            drop = self._known(hidden.seq)
            content = (drop.size_bytes, drop.sha256) if drop is not None else None
            self._left.append(_Left(folder, hidden, content, due, cause=before.cause if before else ""))
        now = self._clock()
        self._left = [one for one in self._left if not self._finished(one, now)]

    def _remaining_seconds(self, folder: InboxFolder, hidden: HiddenFile) -> float:
        """How long a file that may have a writer is still kept: its last change, renaming included, is in the file."""
        found = folder.lstat(hidden.hidden_name)
        if found is None:
            return 0.0
        unchanged = time.time() - max(found.st_mtime, found.st_ctime)
        return min(max(self._foreign_settle_seconds - unchanged, 0.0), self._foreign_settle_seconds)

    @property
    def left(self) -> list[str]:
        """The names of taken drops whose files are kept hidden, because somebody may still write to them."""
        return [printable(one.hidden.name) for one in self._left]

    @property
    def is_unsure(self) -> bool:
        """Whether some are kept because nobody can tell whether a program has them open."""
        return any(not one.cause for one in self._left)

    @property
    def due_seconds(self) -> float | None:
        """How long until `look_again` has something to do; None where nothing is left."""
        return max(0.0, min(one.due for one in self._left) - self._clock()) if self._left else None

    def look_again(self) -> None:
        """Goes on with the hidden files that are due."""
        now = self._clock()
        self._left = [one for one in self._left if one.due > now or not self._finished(one, now)]

    def _finished(self, one: _Left, now: float) -> bool:
        """Whether a hidden file is gone, or has its name back. What goes wrong concerns this file only, and is reported."""
        try:
            if self._may_be_as_copied(one):
                with one.folder.opened(one.hidden.hidden_name) as descriptor, kept_from_writers(descriptor) as writer:
                    if writer is not Writer.SOME and self._is_as_copied(one, descriptor):
                        if writer is Writer.UNKNOWN and now < one.due:
                            return False
                        one.folder.remove(one.hidden.hidden_name, Identity.of(os.fstat(descriptor)))
                        return True
            one.folder.show(one.hidden.hidden_name, one.hidden.name)
            return True
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in _OF_THE_MACHINE:
                raise
            cause = error.strerror or str(error)
            if one.cause != cause:
                one.cause = cause
                log.warning(
                    "hidden inbox file could not be removed or given its name back, tried again later",
                    extra={"file": printable(one.hidden.hidden_name), "cause": cause},
                )
            one.due = now + _AGAIN_SECONDS
            return False

    def _may_be_as_copied(self, one: _Left) -> bool:
        """Whether it is worth opening: a file of another size is another, and needs neither rights to read nor a hash."""
        found = one.folder.lstat(one.hidden.hidden_name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), one.hidden.hidden_name)
        return one.content is not None and one.content[0] == found.st_size

    def _is_as_copied(self, one: _Left, descriptor: int) -> bool:
        """Whether a hidden file holds what its drop does, and no more. Where its ctime has changed, its hash decides."""
        seen = _seen(descriptor)
        if seen != one.seen and one.content is not None and files.sha256_of_open(descriptor) == one.content[1]:
            one.seen = seen
        return one.seen == seen == _seen(descriptor)


def _seen(descriptor: int) -> tuple[Identity, int]:
    found = os.fstat(descriptor)
    return Identity.of(found), found.st_ctime_ns


def _checked(copy: Copy, hidden: HiddenFile) -> int:
    """The ctime of the file that was hidden. NotTaken where it is not what was copied, or a process has it open for writing."""
    try:
        with copy.folder.opened(hidden.hidden_name) as descriptor:
            if writer_of(descriptor) is Writer.SOME:  # it opened the file between the look and the rename
                raise NotTaken(errno.EAGAIN, "a program has it open for writing", copy.name)
            identity, ctime_ns = _seen(descriptor)
    except NotTaken:
        raise
    except OSError as error:  # another file was put in its place meanwhile
        raise _changed(copy.name) from error
    if identity != copy.source:
        raise _changed(copy.name)
    return ctime_ns


@contextmanager
def _opened(arrival: Arrival) -> Iterator[int]:
    """What goes wrong with opening and reading a file is that file's own matter, not the machine's: one bad block must not
    hold up the other drops. Unless this process or the machine has no more descriptors or memory."""
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(arrival.folder.opened(arrival.name))
        except OSError as error:
            raise _of_its_own(error, arrival.name) from error
        try:
            yield descriptor
        except files.SourceFault as error:
            raise _of_its_own(error, arrival.name) from error


def _of_its_own(error: OSError, name: str) -> OSError:
    if error.errno in _OF_THE_MACHINE:
        return error
    return NotTaken(error.errno or errno.EINVAL, error.strerror or str(error), name)


def _changed(name: str) -> NotTaken:
    return NotTaken(errno.EAGAIN, "it changed while it was being copied", name)


def _holes(descriptor: int, hole: int) -> str:
    found = os.fstat(descriptor)
    return (
        f"it has holes, the first at byte {hole:,}: {found.st_blocks * 512:,} of its {found.st_size:,} bytes were ever written. "
        "Its writer has not finished, or failed; write it again, or take it away"
    )
