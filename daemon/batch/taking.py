"""How a drop leaves the inbox: it is copied, hidden, entered in the ledger, and only then removed. A file is never removed while
a program has it open for writing, or if it was written to after it was copied.

    copy      copies the file to a temporary name in staging and hashes it; the file must be unchanged afterwards
    hide      renames the inbox file to a hidden name, so that writers no longer find it. The file must still be what was copied,
              and no process may have it open for writing; otherwise it gets its name back and stays
    remove    after the ledger has the drop: removes the hidden file if it is still what was copied and no process has it open for
              writing. A file that was written to gets its name back, as a new drop. If it cannot be determined whether a process
              has it open (another user's file), it is kept for `foreign_settle_seconds` and then checked again

A crash in between leaves hidden files; `recover` handles them at the next start.
"""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from types import MappingProxyType

from ..core.entries import Drop
from ..core.model import ParseContext
from ..sources.inbox import Arrival
from ..sources.inbox_folder import HiddenFile, Identity, InboxFolder
from ..sources.writers import Writer, first_hole, kept_from_writers, writer_of
from ..storage import files
from ..storage.raw import RawLayer, Stored, printable

Content = tuple[int, bytes]  # the size in bytes and the SHA-256 of a file
log = logging.getLogger("strandline")
_MACHINE_ERRNOS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # not the fault of the file at hand
_RETRY_SECONDS = 1.0  # after a hidden file could not be removed or renamed


class NotTaken(OSError):
    """A file cannot be opened, read or renamed, is no longer a regular file, is being written, or changed while it was copied.
    It stays in the inbox and is checked again later. `strerror` has the cause as text."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy that will enter the raw layer, and the file that it was taken from."""

    stored: Stored
    context: ParseContext
    folder: InboxFolder
    name: str
    source: Identity
    hidden: HiddenFile | None = None  # None: its inbox file still has its name
    ctime_ns: int = 0  # of the hidden inbox file. It changes with each write, and no program can set it
    members: tuple[Stored, ...] = ()  # of a zip archive that was unpacked: its files, which become drops in its place

    @property
    def drops(self) -> tuple[Stored, ...]:
        """The copies that become drops, in order."""
        return self.members or (self.stored,)


@dataclass(slots=True, eq=False)
class _KeptFile:
    """A hidden file that is neither removed nor renamed back yet."""

    folder: InboxFolder
    hidden: HiddenFile
    content: Content | None  # of its drop, or of the zip archive of its drops; None: the ledger has no such drop
    due: float  # on the monotonic clock: when to check again. From then on it is removed even if a writer cannot be ruled out
    seen: tuple[Identity, int] | None = None  # its identity and ctime when it was known to have that content
    cause: str = ""  # the last cause that was logged


class Taking:
    """Takes drops out of the inbox. `known`: looks up a drop in the ledger by its number."""

    def __init__(
        self,
        raw: RawLayer,
        known: Callable[[int], Drop | None],
        foreign_settle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._raw, self._known, self._clock = raw, known, clock
        self._foreign_settle_seconds = foreign_settle_seconds
        self._kept: list[_KeptFile] = []

    # ---------------------------------------------------------------------------------------------------- one batch

    def copy(
        self, arrival: Arrival, seq: int, context: ParseContext, grown: Callable[[int], None] = lambda size: None
    ) -> Copy:
        """Copies an inbox file to a temporary name. Raises NotTaken if that is impossible now. `grown` is called with the number
        of bytes copied so far."""
        temporary = self._raw.temporary(seq)
        try:
            with opened(arrival.folder, arrival.name) as descriptor:
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
        stored = self._raw.stored_as(seq, arrival.name, context, sha256, size)
        return Copy(stored, context, arrival.folder, arrival.name, source)

    def hide(self, copy: Copy) -> Copy:
        """Renames the inbox file of a copy to a hidden name. Raises NotTaken if it is no longer what was copied, if a process has
        it open for writing, or if it cannot be renamed (a read-only inbox, another user's file in a sticky folder)."""
        try:
            hidden = copy.folder.hide(copy.name, copy.stored.seq)
        except OSError as error:
            cause = f"it cannot be taken out of the inbox: {error.strerror}"
            raise NotTaken(error.errno, cause, copy.name) from error
        try:
            return replace(copy, hidden=hidden, ctime_ns=_check_hidden(copy, hidden))
        except NotTaken:
            self._restore_name(copy.folder, hidden)
            raise

    def _restore_name(self, folder: InboxFolder, hidden: HiddenFile) -> None:
        """Gives a file without a drop its name back. If that fails, it is retried later and does not block other files."""
        one = _KeptFile(folder, hidden, None, self._clock())
        if not self._finished(one, self._clock()):
            self._kept.append(one)

    def sync_names(self, copies: Sequence[Copy]) -> None:
        """Makes the hidden names durable. Otherwise, after a power loss, files whose drops are in the ledger could have their old
        names and be taken again."""
        for folder in {copy.folder for copy in copies}:
            folder.sync()

    def undo(self, copies: Sequence[Copy]) -> None:
        """Undoes `copy` and `hide`, for copies that are not archived after all."""
        for copy in copies:
            if copy.hidden is not None:
                self._restore_name(copy.folder, copy.hidden)
            for stored in copy.drops:
                files.unlink(self._raw.temporary(stored.seq))

    def remove(self, copies: Sequence[Copy]) -> None:
        """Removes the hidden inbox files of copies that the ledger has as drops, if it is certain that no program writes to them.
        The others are kept for `check_kept`."""
        now = self._clock()
        for copy in copies:
            if copy.hidden is not None:
                content, seen = (copy.stored.size_bytes, copy.stored.sha256), (copy.source, copy.ctime_ns)
                one = _KeptFile(copy.folder, copy.hidden, content, now + self._foreign_settle_seconds, seen)
                if not self._finished(one, now):
                    self._kept.append(one)

    def restore_kept(self) -> None:
        """Gives all kept files their names back, after the output with their drops was replaced. Another daemon that works on
        this inbox would not search for hidden files before its next start."""
        for one in self._kept:
            with suppress(OSError):  # it stays hidden until the next start
                one.folder.show(one.hidden.hidden_name, one.hidden.name)
        self._kept = []

    # -------------------------------------------------------------------------------------------------------- kept files

    def recover(self, folder: InboxFolder, archives: Mapping[str, Content] = MappingProxyType({})) -> None:
        """Handles every hidden file that an earlier run or a failed batch left in this folder. `archives`: by hidden name, the
        content of each zip archive whose files are in the ledger."""
        folder.remove_abandoned_copies(time.time())
        here = [one for one in self._kept if one.folder.identity == folder.identity]
        listed = {one.hidden.hidden_name: one for one in here}
        self._kept = [one for one in self._kept if one not in here]
        for hidden in folder.hidden():
            before = listed.get(hidden.hidden_name)
            due = before.due if before else self._clock() + self._remaining_seconds(folder, hidden)
            drop = self._known(hidden.seq)
            content = archives.get(hidden.hidden_name) or ((drop.size_bytes, drop.sha256) if drop is not None else None)
            self._kept.append(_KeptFile(folder, hidden, content, due, cause=before.cause if before else ""))
        now = self._clock()
        self._kept = [one for one in self._kept if not self._finished(one, now)]

    def _remaining_seconds(self, folder: InboxFolder, hidden: HiddenFile) -> float:
        """How long to keep a file that may have a writer: `foreign_settle_seconds` from its last change or renaming."""
        found = folder.lstat(hidden.hidden_name)
        if found is None:
            return 0.0
        unchanged = time.time() - max(found.st_mtime, found.st_ctime)
        return min(max(self._foreign_settle_seconds - unchanged, 0.0), self._foreign_settle_seconds)

    @property
    def kept(self) -> list[str]:
        """The inbox names of the files that are kept hidden."""
        return [printable(one.folder.label(one.hidden.name)) for one in self._kept]

    @property
    def has_unknown_writers(self) -> bool:
        """Whether some files are kept because it is unknown whether a program has them open."""
        return any(not one.cause for one in self._kept)

    @property
    def due_seconds(self) -> float | None:
        """The time until `check_kept` has something to do; None if no file is kept."""
        return max(0.0, min(one.due for one in self._kept) - self._clock()) if self._kept else None

    def check_kept(self) -> None:
        """Checks the kept files that are due."""
        now = self._clock()
        self._kept = [one for one in self._kept if one.due > now or not self._finished(one, now)]

    def _finished(self, one: _KeptFile, now: float) -> bool:
        """Removes a hidden file or gives it its name back. False if it must be kept. An error affects only this file; it is
        logged and retried."""
        try:
            if self._has_size_of_drop(one):
                with one.folder.opened(one.hidden.hidden_name) as descriptor, kept_from_writers(descriptor) as writer:
                    if writer is not Writer.SOME and self._has_content_of_drop(one, descriptor):
                        if writer is Writer.UNKNOWN and now < one.due:
                            return False
                        one.folder.remove(one.hidden.hidden_name, Identity.of(os.fstat(descriptor)))
                        return True
            one.folder.show(one.hidden.hidden_name, one.hidden.name)
            return True
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in _MACHINE_ERRNOS:
                raise
            cause = error.strerror or str(error)
            if one.cause != cause:
                one.cause = cause
                log.warning(
                    "hidden inbox file could not be removed or given its name back, tried again later",
                    extra={"file": printable(one.folder.label(one.hidden.hidden_name)), "cause": cause},
                )
            one.due = now + _RETRY_SECONDS
            return False

    def _has_size_of_drop(self, one: _KeptFile) -> bool:
        """Whether the file has the size of its drop. If not, its content differs, and it need not be opened or hashed."""
        found = one.folder.lstat(one.hidden.hidden_name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), one.hidden.hidden_name)
        return one.content is not None and one.content[0] == found.st_size

    def _has_content_of_drop(self, one: _KeptFile, descriptor: int) -> bool:
        """Whether a hidden file has exactly the content of its drop. If its ctime has changed, its hash is compared."""
        seen = _seen(descriptor)
        if seen != one.seen and one.content is not None and files.sha256_of_open(descriptor) == one.content[1]:
            one.seen = seen
        return one.seen == seen == _seen(descriptor)


def _seen(descriptor: int) -> tuple[Identity, int]:
    found = os.fstat(descriptor)
    return Identity.of(found), found.st_ctime_ns


def _check_hidden(copy: Copy, hidden: HiddenFile) -> int:
    """The ctime of the hidden file. Raises NotTaken if it is not what was copied, or if a process has it open for writing."""
    try:
        with copy.folder.opened(hidden.hidden_name) as descriptor:
            if writer_of(descriptor) is Writer.SOME:  # opened between the scan and the rename
                raise NotTaken(errno.EAGAIN, "a program has it open for writing", copy.name)
            identity, ctime_ns = _seen(descriptor)
    except NotTaken:
        raise
    except OSError as error:  # another file took its place meanwhile
        raise _changed(copy.name) from error
    if identity != copy.source:
        raise _changed(copy.name)
    return ctime_ns


@contextmanager
def opened(folder: InboxFolder, name: str) -> Iterator[int]:
    """Opens an inbox file. Errors of opening and reading become NotTaken, so that one bad block does not block the other drops;
    except where the process or the machine has run out of descriptors or memory."""
    with ExitStack() as stack:
        try:
            descriptor = stack.enter_context(folder.opened(name))
        except OSError as error:
            raise _as_not_taken(error, name) from error
        try:
            yield descriptor
        except files.SourceFault as error:
            raise _as_not_taken(error, name) from error


def _as_not_taken(error: OSError, name: str) -> OSError:
    if error.errno in _MACHINE_ERRNOS:
        return error
    return NotTaken(error.errno or errno.EINVAL, error.strerror or str(error), name)


def _changed(name: str) -> NotTaken:
    return NotTaken(errno.EAGAIN, "it changed while it was being copied", name)


def _holes(descriptor: int, hole: int) -> str:
    found = os.fstat(descriptor)
    return (
        f"it has holes, the first at byte {hole:,}: {found.st_blocks * 512:,} of its {found.st_size:,} bytes were ever written. "
        "Its writer has not finished, or failed; write the file again, or remove it"
    )
