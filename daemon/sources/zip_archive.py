"""A zip archive as drops: the files in it, each read as a stream. The only module that knows zipfile.

An archive is untrusted. Names in it are labels and never become paths; a file is read only after the whole directory is checked;
and no more is read of a file than the directory says it has. `Unreadable` says why an archive is not unpacked, and what to do.
"""

from __future__ import annotations

import errno
import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

from ..core.errors import Unreadable, cause_of
from .names import is_ignored

MOST_FILES = 10_000
_BLOCK_BYTES = 1 << 20
_DIRECTORY_BYTES = 4 << 20  # enough for MOST_FILES with names of 300 bytes
_HEADER_BYTES = 30  # of a file in the archive, without its name
_LEAST_BYTES = 4096  # a smaller file counts as one of this size, as in raw.plain
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_DAMAGE = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, OverflowError, struct.error,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an archive may hold, and which names in it are no drops (patterns)."""

    max_drop_bytes: int
    max_expansion: int
    ignored: Sequence[str] = ()


def unpack(file: IO[bytes], bounds: Bounds) -> Iterator[tuple[str, Iterator[bytes]]]:
    """The files of an archive in its order: (path in the archive, blocks of the content, to be read before the next file).
    Folders, hidden and ignored names are left out. Unreadable where the archive as a whole is refused; it may come after some
    files, which do not count then."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if file.read(4) not in _STARTS:
        raise Unreadable("the file is no zip archive, although its name ends in .zip; drop it under its right name")
    with _damage_described():
        archive = zipfile.ZipFile(_Bounded(file, size))
    with archive:
        members = archive.infolist()
        _refuse_office(archive.namelist())
        _check(members, size, bounds)
        drops = [(path, one) for one in members if (path := _label(one)) and not _is_skipped(path, bounds.ignored)]
        if not drops:
            raise Unreadable(f"none of the {len(members):,} entries of the zip archive is a file to read")
        if inner := next((path for path, _ in drops if path.lower().endswith(".zip")), None):
            raise Unreadable(f"the zip archive has another one inside ({inner}); unpack it and drop the files in it")
        for path, one in drops:
            yield path, _blocks(archive, one)


@contextmanager
def _damage_described() -> Iterator[None]:
    """Whatever zipfile says of an archive that is damaged, on purpose or not."""
    try:
        yield
    except _DAMAGE as error:
        # zipfile says "not a zip file" where the end of the file cannot be read: the fault of the disk, not of the archive.
        if isinstance(error.__context__, OSError) and error.__context__.errno != errno.EINVAL:
            raise error.__context__ from None
        raise Unreadable(f"the zip archive is damaged ({cause_of(error)}); send it again") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # the machine's; EINVAL: an offset before the beginning
            raise
        raise Unreadable(
            "the zip archive is damaged (it refers to a place before its beginning); send it again"
        ) from None


def _blocks(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of a file. zipfile stops at the size in the directory, and compares the check sum."""
    left = member.file_size
    with _damage_described(), archive.open(member) as content:
        while block := content.read(_BLOCK_BYTES):
            left -= len(block)
            yield block
    if left:
        raise Unreadable(f"the zip archive is damaged: {member.filename} is shorter than it says; send it again")


def _check(members: Sequence[zipfile.ZipInfo], size: int, bounds: Bounds) -> None:
    """Refuses an archive by its directory, before anything of it is unpacked."""
    if len(members) > MOST_FILES:
        raise Unreadable(f"the zip archive has {len(members):,} entries; at most {MOST_FILES:,} are read, so divide it")
    for one in members:
        _check_member(one, bounds)
    total, limit = sum(one.file_size for one in members), bounds.max_expansion * max(size, _LEAST_BYTES)
    if total > limit:
        raise Unreadable(
            f"unpacked, the zip archive has {total:,} bytes; [input] max_expansion allows {limit:,}. It may be a bomb"
        )
    ordered = sorted(members, key=lambda one: one.header_offset)
    ends = [one.header_offset + _HEADER_BYTES + len(one.orig_filename) + one.compress_size for one in ordered]
    if any(end > after.header_offset for end, (_, after) in zip(ends, pairwise(ordered), strict=False)) or (
        ends and (ends[-1] > size or ordered[0].header_offset < 0)
    ):
        raise Unreadable("entries of the zip archive overlap; it may be a decompression bomb, or damaged")


def _check_member(one: zipfile.ZipInfo, bounds: Bounds) -> None:
    path = one.filename.replace("\\", "/")
    if path.startswith("/") or re.match("[A-Za-z]:", path) or ".." in path.split("/"):
        raise Unreadable(f"the zip archive names a place outside itself ({path}); make it anew with plain names")
    if one.flag_bits & _ENCRYPTED:
        raise Unreadable("the zip archive is encrypted; unpack it and drop the files in it")
    if one.compress_type not in _METHODS:
        method = zipfile.compressor_names.get(one.compress_type, f"method {one.compress_type}")  # type: ignore[attr-defined]
        raise Unreadable(f"the zip archive is compressed with {method}, which is not read; make it anew with deflate")
    if one.file_size > bounds.max_drop_bytes:
        raise Unreadable(
            f"{path} in the zip archive has {one.file_size:,} bytes; [input] max_drop_bytes allows {bounds.max_drop_bytes:,}"
        )
    if one.file_size > bounds.max_expansion * max(one.compress_size, _LEAST_BYTES):
        raise Unreadable(
            f"{path} in the zip archive expands to {one.file_size:,} bytes, more than [input] max_expansion allows; it may be a "
            "decompression bomb"
        )


def _refuse_office(names: Sequence[str]) -> None:
    if "[Content_Types].xml" in names or ("mimetype" in names and "content.xml" in names):
        raise Unreadable(
            "the file is an Office document, not a zip archive of drops; save a spreadsheet as CSV in UTF-8"
        )


def _label(member: zipfile.ZipInfo) -> str:
    """The path of a file in the archive, with single slashes; empty for a folder."""
    path = member.filename.replace("\\", "/")
    return "" if path.endswith("/") else "/".join(part for part in path.split("/") if part not in ("", "."))


def _is_skipped(path: str, ignored: Sequence[str]) -> bool:
    *folders, name = path.split("/")
    return "__MACOSX" in folders or any(part.startswith(".") for part in (*folders, name)) or is_ignored(name, ignored)


class _Bounded:
    """A file that refuses to be read in one piece that is larger than a directory may be: zipfile reads it whole."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._size = file, size
        self.tell, self.seek, self.close, self.seekable = file.tell, file.seek, lambda: None, lambda: True

    def read(self, size: int = -1) -> bytes:
        wanted = self._size - self._file.tell() if size < 0 else size
        if wanted > _DIRECTORY_BYTES:
            raise Unreadable(
                f"the directory of the zip archive is larger than {_DIRECTORY_BYTES:,} bytes; divide the archive"
            )
        return self._file.read(size)
