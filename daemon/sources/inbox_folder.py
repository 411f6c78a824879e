"""The inbox as a folder that others write to. Every operation on a name inside it is here.

A writer of the inbox may be careless or hostile. So, for each operation (docs/SECURITY.md has the list):

- a name is relative to the folder's descriptor; a path could be swapped in part between two calls;
- a file is opened for reading only, with O_NOFOLLOW and O_NONBLOCK, and fstat of the open file decides;
- a new file gets a random name, with O_EXCL; no other file is ever opened for writing;
- no file is replaced: a file gets its name by link, or by a rename that refuses a name in use.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import secrets
import stat
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..storage import beside, files
from ..storage.raw import both_ends, numbered

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_PUT = ".strandline-put-"
_PUT_ABANDONED_SECONDS = 3600
_HIDDEN = re.compile(r"\.strandline-([0-9]{1,18})-[0-9a-f]{16}-([^.].*)", re.DOTALL)
_HIDDEN_NAME_BYTES = 200  # of the original name, so that the hidden name fits into 255
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)  # some network file systems
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
_COPY_INSTEAD = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP)
_NUMBERED_NAMES = 1000
_RENAME_NOREPLACE = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """A file and its content, as far as stat can identify them."""

    device: int
    inode: int
    size_bytes: int
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> Identity:
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def is_same_file(self, found: os.stat_result) -> bool:
        return (self.device, self.inode) == (found.st_dev, found.st_ino)


@dataclass(frozen=True, slots=True)
class HiddenFile:
    """A file that was renamed to a hidden name: that name, the number of its drop, and its name before."""

    hidden_name: str
    seq: int
    name: str


@dataclass(frozen=True, slots=True)
class _Placed:
    name: str
    identity: Identity


class InboxFolder:
    """One directory, held open. Another directory that comes to its path is another InboxFolder."""

    def __init__(self, inbox: Path, below: str = "", *, make: bool = False) -> None:
        """`below`: the names of folders below the inbox, divided by `/`; none of them may be a link. `make`: creates them."""
        self.path = inbox / below
        self._below = below
        self._descriptor = _opened(inbox, below, make)
        weakref.finalize(self, os.close, self._descriptor)
        found = os.fstat(self._descriptor)
        self.identity = (found.st_dev, found.st_ino)

    def label(self, name: str) -> str:
        """A name in this folder as people see it: with the folders below the inbox."""
        return f"{self._below}/{name}" if self._below else name

    @property
    def watch_path(self) -> str:
        """A path to be watched. Where possible, it leads to this very directory, even if another one gets its name."""
        own = f"/proc/self/fd/{self._descriptor}/."  # with the dot, since a watch is not set through a link
        return own if self._below and Path(own).exists() else os.fspath(self.path)

    def parents(self) -> Iterator[tuple[int, int]]:
        """Device and inode of this directory and of each one above it, as it is mounted now."""
        descriptor = os.dup(self._descriptor)
        try:
            found = os.fstat(descriptor)
            while True:
                here = (found.st_dev, found.st_ino)
                yield here
                above = os.open("..", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = above
                found = os.fstat(descriptor)
                if (found.st_dev, found.st_ino) == here:
                    return
        finally:
            os.close(descriptor)

    def folders(self) -> set[tuple[int, int]]:
        """Device and inode of each folder directly in it."""
        seen = (found for _, found in self.entries())
        return {(s.st_dev, s.st_ino) for s in seen if isinstance(s, os.stat_result) and stat.S_ISDIR(s.st_mode)}

    # ------------------------------------------------------------------------------------------------------ reading

    def entries(self) -> Iterator[tuple[str, os.stat_result | OSError]]:
        """Every name with its lstat, or with the error of that."""
        with os.scandir(self._descriptor) as entries:
            for entry in entries:
                try:
                    yield entry.name, entry.stat(follow_symlinks=False)
                except FileNotFoundError:  # its writer took it back
                    continue
                except OSError as error:
                    yield entry.name, error

    def names(self) -> list[str]:
        """Every name."""
        return os.listdir(self._descriptor)

    def lstat(self, name: str) -> os.stat_result | None:
        """The lstat of a name; None where it does not exist."""
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return None

    @contextmanager
    def opened(self, name: str) -> Iterator[int]:
        """A regular file, open for reading. OSError where it is not a regular file, or may not be read."""
        descriptor = os.open(name, _READ, dir_fd=self._descriptor)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no longer a regular file", name)
            yield descriptor
        finally:
            beside.close(descriptor)

    def hidden(self) -> list[HiddenFile]:
        """The regular files that an earlier run hid here and left."""
        found = []
        for name, seen in self.entries():
            match = _HIDDEN.fullmatch(name)
            if match and isinstance(seen, os.stat_result) and stat.S_ISREG(seen.st_mode):
                found.append(HiddenFile(name, int(match[1]), match[2]))
        return found

    def remove_abandoned_copies(self, now: float) -> None:
        """Removes incomplete copies that `put` left in a crash; their sources were kept. `now`: seconds since 1970."""
        for name, seen in list(self.entries()):
            if not name.startswith(_PUT) or isinstance(seen, OSError) or not stat.S_ISREG(seen.st_mode):
                continue
            if seen.st_uid == os.geteuid() and now - seen.st_mtime > _PUT_ABANDONED_SECONDS:
                self.remove(name, Identity.of(seen))

    # ----------------------------------------------------------------------------------------------- changing names

    def hide(self, name: str, seq: int) -> HiddenFile:
        """Renames whatever has this name to a hidden name. The caller must check what it got."""
        hidden = f".strandline-{seq}-{secrets.token_hex(8)}-{both_ends(name, _HIDDEN_NAME_BYTES)}"
        if not self._rename_to_free_name(name, hidden):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), hidden)
        return HiddenFile(hidden, seq, name)

    def show(self, hidden_name: str, name: str) -> str:
        """Gives a hidden file its name back, durably, or a similar one where that is in use; returns the name.
        FileNotFoundError where somebody removed the file."""
        here = self._descriptor
        for candidate in _candidates(name):
            try:
                os.link(hidden_name, candidate, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=False)
            except FileExistsError:
                if not self._is_same(hidden_name, candidate):  # the same after an earlier try that stopped here
                    continue
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                if not self._rename_to_free_name(hidden_name, candidate):
                    continue
                self.sync()
                return candidate
            self.sync()  # else a power cut may keep the removal of the hidden name, and lose the new name
            if (shown := self.lstat(candidate)) is not None:
                self.remove(hidden_name, Identity.of(shown))  # not a file that somebody put there meanwhile
            return candidate
        raise FileExistsError(errno.EEXIST, "all similar names are in use", name)

    def remove(self, hidden_name: str, expected: Identity) -> None:
        """Removes a hidden file, if it is still the one that the caller expects."""
        found = self.lstat(hidden_name)
        if found is not None and expected.is_same_file(found):
            self._unlink(hidden_name)

    def sync(self) -> None:
        """Makes the names in this folder durable, if the file system can."""
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            if error.errno not in _NO_FOLDER_SYNC:
                raise

    def _is_same(self, one: str, other: str) -> bool:
        first, second = self.lstat(one), self.lstat(other)
        return first is not None and second is not None and os.path.samestat(first, second)

    def _rename_to_free_name(self, name: str, target: str) -> bool:
        """Renames without replacing a file; False where the target is in use. A system that cannot refuse that is asked
        before."""
        if _renameat2 is not None:
            here = self._descriptor
            if _renameat2(here, os.fsencode(name), here, os.fsencode(target), _RENAME_NOREPLACE) == 0:
                return True
            number = ctypes.get_errno()
            if number == errno.EEXIST:
                return False
            if number not in (errno.EINVAL, errno.ENOSYS):  # EINVAL: the file system cannot do this
                raise OSError(number, os.strerror(number), name)
        if self.lstat(target) is not None:
            return False
        os.rename(name, target, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        return True

    def _unlink(self, name: str) -> None:
        with suppress(FileNotFoundError, IsADirectoryError):  # somebody has just removed it, or put a folder there
            os.unlink(name, dir_fd=self._descriptor)

    # ----------------------------------------------------------------------------------------------------- creating

    @contextmanager
    def probe(self, name: str) -> Iterator[None]:
        """An empty file that exists until the block ends. `name`: a `probe_name`."""
        descriptor = os.open(name, _CREATE, 0o600, dir_fd=self._descriptor)
        try:
            yield
        finally:
            created = Identity.of(os.fstat(descriptor))
            os.close(descriptor)
            self.remove(name, created)

    def put(self, source: Path, name: str, *, may_link: bool) -> str:
        """Puts a file of ours here, durably, as if it arrived now; returns its name, which is similar where `name` is in use.
        `may_link`: the new name may be a link to the source, since the caller removes the source next. OSError where this
        fails, or where somebody replaced the file meanwhile; the caller keeps the source then."""
        with files.opened(source, _READ) as original:
            placed = (self._linked(source, original, name) if may_link else None) or self._copied(original, name)
            self.sync()
            found = self.lstat(placed.name)
            if found is None or not placed.identity.is_same_file(found):
                raise OSError(errno.ESTALE, "somebody replaced it in the inbox meanwhile; it was kept", placed.name)
        return placed.name

    def write(self, name: str, content: bytes) -> str:
        """Puts content of ours here as a new file, durably; returns its name, which is similar where `name` is in use."""
        hidden = f"{_PUT}{secrets.token_hex(8)}"
        descriptor = os.open(hidden, _CREATE, 0o666, dir_fd=self._descriptor)
        try:
            try:
                files.write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                written = Identity.of(os.fstat(descriptor))
                os.close(descriptor)  # before it has its name: no process has it open for writing then
            return self.show(hidden, name)
        except BaseException:
            self.remove(hidden, written)
            raise

    def _linked(self, source: Path, original: int, name: str) -> _Placed | None:
        """None where the source cannot be linked here and must be copied."""
        os.utime(original)  # it arrives now, and settles like any other file
        identity = Identity.of(os.fstat(original))
        for candidate in _candidates(name):
            try:
                os.link(source, candidate, dst_dir_fd=self._descriptor, follow_symlinks=False)
                return _Placed(candidate, identity)
            except FileExistsError:
                continue
            except OSError as error:
                if error.errno not in _COPY_INSTEAD:
                    raise
                return None
        return None

    def _copied(self, original: int, name: str) -> _Placed:
        hidden = f"{_PUT}{secrets.token_hex(8)}"
        descriptor = os.open(hidden, _CREATE, 0o666, dir_fd=self._descriptor)
        try:
            identity = Identity.of(os.fstat(descriptor))
            try:
                files.copy_into(original, descriptor)
                files.give_to_owner_of(original, descriptor)
                os.fsync(descriptor)
                return _Placed(self.show(hidden, name), identity)
            except BaseException:
                self.remove(hidden, identity)
                raise
        finally:
            os.close(descriptor)


def _opened(inbox: Path, below: str, make: bool) -> int:
    """A descriptor of a folder below the inbox, opened name by name. The inbox itself may be a link: its path is the operator's;
    the names below it are anybody's. `make`: creates what is missing."""
    descriptor = os.open(inbox, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    path = inbox
    for name in below.split("/") if below else []:
        outer, path, made = descriptor, path / name, False
        try:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, dir_fd=outer)
                    made = True
            descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=outer)
            if made:  # whoever may write to the inbox may write to the folder of a source
                with suppress(PermissionError):  # a file system without modes
                    os.fchmod(descriptor, stat.S_IMODE(os.fstat(outer).st_mode))
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                cause = "the folder of a source must be a real folder, neither a link nor a file"
                raise NotADirectoryError(errno.ENOTDIR, cause, str(path)) from error
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(outer)
    return descriptor


def _candidates(name: str) -> Iterator[str]:
    """The name, then similar names that are read in the same way: numbered, then with random numbers. The search ends, even in
    a folder full of numbered names."""
    yield name
    for number in range(1, _NUMBERED_NAMES):
        yield numbered(name, number)
    for _ in range(_NUMBERED_NAMES):
        yield numbered(name, secrets.randbelow(10**12))


def probe_name() -> str:
    """A name that nobody else can have used."""
    return f".strandline-probe-{secrets.token_hex(8)}"


def _load_renameat2() -> ctypes._CFuncPtr | None:  # type: ignore[name-defined]
    try:
        return ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # not Linux, or an old C library
        return None


_renameat2 = _load_renameat2()
