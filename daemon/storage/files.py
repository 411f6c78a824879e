"""Durable file operations, each done completely or not at all. The only module that writes, renames or unlinks files.

The rules: write beside the target, fsync, rename, fsync the folder. A file with its final name is complete. Above some 200 files,
one `syncfs` is faster than an fsync each. Nothing here knows what the files mean.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

SYNC_ALL_ABOVE = 200  # files; for fewer, an fsync each is faster than flushing the whole file system
# Where these are of one file or folder alone, that is at fault, and not the machine.
OF_PLACE = (errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP)
_BLOCK_BYTES = 4 << 20
# Larger writes make larger pages in the page cache. Where a virtual machine returns free memory to its host, large pages are the
# ones that it returned, and a copy into them takes ten times as long.
_WRITE_BYTES = 256 << 10


def _load_syncfs() -> Callable[[int], int] | None:
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        return libc.syncfs
    except (OSError, AttributeError):  # not Linux
        return None


_syncfs = _load_syncfs()


@contextmanager
def opened(path: Path | str, flags: int = os.O_RDONLY) -> Iterator[int]:
    """A file descriptor that is closed at the end of the block."""
    descriptor = os.open(path, flags | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def identity(file: Path | str | int) -> tuple[int, int] | None:
    """Device and inode of a path or of an open file; None where the path does not exist."""
    try:
        found = os.stat(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def state_of(path: Path) -> tuple[int, ...]:
    """What changes when a file is written, replaced, or gets other rights; empty where there is none, or none can be seen."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def sync(path: Path | str) -> None:
    """Makes the content of a file, or the names in a folder, durable."""
    with opened(path) as descriptor:
        try:
            os.fsync(descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None


def sync_many(paths: Iterable[Path | str]) -> None:
    """Makes many files or folders on one file system durable."""
    paths = list(paths)
    if len(paths) <= SYNC_ALL_ABOVE or _syncfs is None:
        for path in paths:
            sync(path)
        return
    _sync_all(paths[0])


def _sync_all(path: Path | str) -> None:
    """Flushes the file system of a path, where the system can do that."""
    assert _syncfs is not None
    with opened(path) as descriptor:
        if _syncfs(descriptor) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), str(path))


def sync_file_system(path: Path) -> None:
    """Makes everything below a folder durable, however much it is: the whole file system where the system can flush that."""
    if _syncfs is None:
        below = list(path.rglob("*"))
        sync_many(one for one in below if one.is_file() and not one.is_symlink())
        sync_many([*(one for one in below if one.is_dir()), path, path.parent])
        return
    for folder in (path, path.parent):
        _sync_all(folder)


def make_folder(path: Path, within: Path | None = None) -> None:
    """Creates a folder and its parents; each new name is durable. `within` is never created: FileNotFoundError where it is gone,
    so that a folder that somebody moved away does not come back with a part of its content."""
    if path.is_dir():
        return
    if path == within:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    make_folder(path.parent, within)
    path.mkdir(exist_ok=True)
    sync(path.parent)


def give_to_owner_of(like: Path | int, made: Path | int) -> None:
    """Where root makes a file beside a daemon of another user, that must be able to read it: it belongs to whom `like` belongs
    to."""
    if os.geteuid() == 0:
        owner = os.stat(like)
        with suppress(OSError):  # a file system without owners
            os.chown(made, owner.st_uid, owner.st_gid)


def write(path: Path, content: bytes) -> None:
    """Writes a file under a temporary name, durably, then renames it."""
    temporary = path.with_name(f".{path.name[:200]}.tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    _rename(temporary, path)
    sync(path.parent)


def write_unsynced(path: Path, content: bytes | memoryview) -> None:
    """Writes a file atomically, also where another process writes the same. The caller makes it durable with `sync_many`."""
    temporary = f"{path.parent}/.{path.name[:200]}.{uuid4().hex[:8]}.tmp"
    with opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
        write_all(descriptor, content)
    os.replace(temporary, path)


def write_parts_unsynced(path: Path, parts: Iterable[memoryview]) -> bytes:
    """Writes a file in parts, neither atomically nor durably; returns its SHA-256."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for part in parts:
            digest.update(part)
            file.write(part)
    return digest.digest()


def write_new(path: Path | str, content: bytes) -> None:
    """Writes a file whose name does not exist yet. The caller makes it durable with `sync_many`."""
    with opened(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
        write_all(descriptor, content)


def continue_at(path: Path, offset: int, content: bytes) -> None:
    """Makes a file end with `content` from `offset` on, and replaces what an earlier try left there. Appends at the end where
    somebody shortened the file. Idempotent and durable."""
    with opened(path, os.O_RDWR | os.O_CREAT) as descriptor:
        size = os.fstat(descriptor).st_size
        if size < offset:
            offset = size
            if read_at(descriptor, len(content), max(size - len(content), 0)) == content:
                offset = size - len(content)
        os.ftruncate(descriptor, offset)
        os.lseek(descriptor, offset, os.SEEK_SET)
        write_all(descriptor, content)
        os.fsync(descriptor)
    sync(path.parent)


def move(source: Path | str, target: Path | str) -> None:
    """Renames within one file system; the caller syncs the folders."""
    _rename(source, target)


def _rename(source: Path | str, target: Path | str) -> None:
    """An empty folder in the place of a file gives way."""
    try:
        os.replace(source, target)
    except IsADirectoryError:
        Path(target).rmdir()
        os.replace(source, target)


def unlink(path: Path) -> None:
    """Removes a file if it exists; the caller syncs the folder."""
    path.unlink(missing_ok=True)


def remove_folder_if_empty(path: Path) -> None:
    """Removes a folder if it is empty, durably."""
    try:
        path.rmdir()
    except OSError:
        return
    sync(path.parent)


def link_to(path: Path, target: str) -> None:
    """Makes `path` a symbolic link to `target`, atomically and durably."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    os.symlink(target, temporary)
    os.replace(temporary, path)
    sync(path.parent)


def sha256_of(path: Path) -> bytes | None:
    """The SHA-256 of a file's content; None if there is no such file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return None


def is_of_one_file(error: OSError, path: Path) -> bool:
    """Whether this file, or the folder of its date, cannot be read (its mode, its blocks of the disk; something else or a circle
    of links is in its place), and what it is in can: others may be read then. Where that cannot, the disk or the mount fails, or
    the process has a wrong user."""
    if error.errno not in (*OF_PLACE, errno.EISDIR):
        return False
    alone = path.parent if "=" in path.parent.name else path
    try:
        return alone.name in os.listdir(alone.parent)
    except OSError:
        return False


def fault_of_folder(folder: Path) -> str:
    """Why the files of a folder cannot be read and replaced, by trying; empty where they can, or where there is nothing of this
    name."""
    probe = folder / ".probe.tmp"
    try:
        with os.scandir(folder) as entries:
            next(entries, None)
        with open(probe, "wb"):
            pass
        probe.unlink()
        sync(folder)
    except FileNotFoundError as error:
        return f"{error.strerror} at the end of the link" if folder.is_symlink() else ""
    except OSError as error:
        if error.errno not in OF_PLACE:
            raise
        return error.strerror or str(error)
    return ""


def sha256_if_readable(path: Path) -> bytes | None:
    """The SHA-256 of a file's content; None if there is no such file, and empty where this file or its date alone cannot be
    read."""
    try:
        return sha256_of(path)
    except OSError as error:
        if not is_of_one_file(error, path):
            raise
        return b""


def has_sha256(path: Path, sha256: bytes) -> bool:
    """Whether a file exists, can be read, and has these bytes."""
    return sha256_if_readable(path) == sha256


def sha256_of_open(descriptor: int) -> bytes:
    """The SHA-256 of an open file's content."""
    with open(descriptor, "rb", closefd=False) as file:
        file.seek(0)
        return hashlib.file_digest(file, "sha256").digest()


class _Failing(io.FileIO):
    """A file whose reads fail where the system says "not now" (EAGAIN). Python's own return nothing then, as at the end."""

    def readinto(self, buffer: Any, /) -> int:
        size = super().readinto(buffer)
        if size is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), self.name)
        return size

    def read(self, size: int | None = -1, /) -> bytes:
        return io.RawIOBase.read(self, -1 if size is None else size) or b""

    def readall(self) -> bytes:
        return io.RawIOBase.readall(self) or b""


def opened_for_reading(path: Path) -> io.BufferedReader:
    """An open file. What a read returns is never short because of an error, so that a damaged file can be told from one."""
    return io.BufferedReader(_Failing(path))


class SourceFault(OSError):
    """The source of a copy cannot be read. Its target is not at fault."""


def copy_unsynced(
    source: int, target: Path, grown: Callable[[int], None] = lambda size: None, most_bytes: int = 1 << 62
) -> tuple[bytes, int]:
    """Copies an open file into a new file; returns the SHA-256 and the size of the copy. The caller makes it durable with
    `sync_many`. Each block is hashed while the next one is copied. `grown` is called with the size so far. Stops once the copy
    has more than `most_bytes`, since the file grew."""
    digest, size = hashlib.sha256(), 0
    with opened(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as copy, ExitStack() as stack:
        beside: ThreadPoolExecutor | None = None
        hashed: Future[None] | None = None
        while size <= most_bytes and (block := _read_block(source)):
            if hashed is not None:
                hashed.result()
            if len(block) == _BLOCK_BYTES:
                beside = beside or stack.enter_context(ThreadPoolExecutor(1))
                hashed = beside.submit(digest.update, block)
            else:  # the last block, often the only one: not worth a thread
                hashed = None
                digest.update(block)
            write_all(copy, block)
            size += len(block)
            grown(size)
        if hashed is not None:
            hashed.result()
    return digest.digest(), size


def copy_into(source: int, target: int) -> None:
    """Copies an open file into another that was just created."""
    while block := os.read(source, _BLOCK_BYTES):
        write_all(target, block)


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """The bytes of an open file from `offset` on: `size` of them, or as many as there are."""
    parts = []
    while size > 0 and (part := os.pread(descriptor, size, offset)):  # pread() may read less than it is asked for
        parts.append(part)
        size, offset = size - len(part), offset + len(part)
    return b"".join(parts)


def _read_block(source: int) -> bytes:
    try:
        return os.read(source, _BLOCK_BYTES)
    except OSError as error:
        raise SourceFault(error.errno, error.strerror) from error


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    rest = memoryview(content)
    while rest:  # write() may write less than it is given
        rest = rest[os.write(descriptor, rest[:_WRITE_BYTES]) :]
