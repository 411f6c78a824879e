"""The raw layer: every drop, byte for byte, kept before anything of it is read. It only grows; what leaves it goes to
quarantine. This room takes drops out of the inbox, and it alone removes anything there.

    raw/received=YYYY-MM-DD/<seq>_<sha12>_<name>      raw/orders_raw.json -> the newest applied uncompressed orders drop

A copy is written under a temporary name, hashed, compared with its source, fsynced. Its inbox file then gets a hidden name
(which keeps the old one and the drop's number), the copy its final one; and once the ledger knows the copy, the hidden file
goes, if it still is what was copied. Start-up finds hidden files: those of known drops go, all others get their names back.
So however a crash falls, a drop is taken once.
"""

from __future__ import annotations

import errno
import gzip
import itertools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from . import files
from .core.entries import REASON
from .core.errors import Unreadable
from .core.model import DIMENSIONS, on_the_calendar

_SEQ_DIGITS = 8
_NAME_BYTES = 180  # leaves room for number, hash and `.reason.json` within the 255 bytes of a file name
_HIDDEN = re.compile(r"\.strandline-([0-9]{1,18})-(.+)", re.DOTALL)
_HIDDEN_NAME_BYTES = 220
_LONGEST_NAME_BYTES = 255
_STORED = re.compile(r"([0-9]{1,18})_([0-9a-f]{12})_(.*)", re.DOTALL)
_COPY_BYTES = 1 << 20
_NO_FOLDER_SYNC = (errno.EINVAL, errno.ENOTSUP)  # some network file systems
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
_OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
LINK = "raw/orders_raw.json"
ORDERS_SUFFIXES = (".json", ".jsonl", ".ndjson")
NAMES_READ = (
    "Orders come as *.json, *.jsonl or *.ndjson, users and products as users*.csv and products*.csv, "
    "each also with .gz or .zst"
)
ORDERS = "orders"


class Changed(OSError):
    """A file in the inbox cannot be opened, read or renamed, is no regular file any more, or changed while it was copied. It
    stays where it is, and is looked at again later."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A drop as it lies in the raw layer."""

    seq: int
    name: str
    path: str  # relative to the output folder
    sha256: bytes
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Source:
    """What was copied: an inbox file, and how it was recognized."""

    path: Path
    inode: int
    size_bytes: int
    mtime_ns: int

    def is_still(self, path: Path) -> bool:
        """Whether the file at `path` is the one that was copied, unchanged since."""
        try:
            found = path.lstat()
        except FileNotFoundError:
            return False
        return (found.st_ino, found.st_size, found.st_mtime_ns) == (self.inode, self.size_bytes, self.mtime_ns)


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy on its way into the raw layer: what it will be, what it was taken from, where it is now."""

    stored: Stored
    source: Source
    temporary: Path


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    """An inbox file, open. What goes wrong with opening and reading it is its own matter (Changed), not the machine's: one bad
    block must not hold up the other drops. Unless this process or the machine has no more descriptors or memory."""
    try:
        descriptor = files.open_regular(path)
    except OSError as error:
        raise _of_its_own(error, path) from error
    try:
        yield descriptor
    except files.SourceFault as error:
        raise _of_its_own(error, path) from error
    finally:
        os.close(descriptor)


def _of_its_own(error: OSError, path: Path) -> OSError:
    if error.errno in _OF_THE_MACHINE:
        return error
    return Changed(error.errno or errno.EINVAL, error.strerror or str(error), str(path))


class RawLayer:
    """The folder raw/ under an output folder; `staging` lies on the same file system."""

    def __init__(self, output: Path, staging: Path) -> None:
        self._output, self._staging = output, staging
        self.folder = output / "raw"

    def temporary(self, seq: int) -> Path:
        """Where a drop is copied to at first."""
        return self._staging / f"drop-{seq}.part"

    def copy(self, path: Path, seq: int, received_at: int, grown: Callable[[int], None] = lambda size: None) -> Copy:
        """Copies an inbox file to a temporary place. Changed where its writer was not done after all. `grown` hears how much
        is copied."""
        temporary = self.temporary(seq)
        try:
            with _opened(path) as descriptor:
                before = os.fstat(descriptor)
                source = Source(path, before.st_ino, before.st_size, before.st_mtime_ns)
                sha256, size = files.copy_unsynced(descriptor, temporary, grown)
        except Changed:
            files.unlink(temporary)
            raise
        name = printable(path.name)
        target = f"raw/received={date_of(received_at)}/{seq:0{_SEQ_DIGITS}d}_{sha256.hex()[:12]}_{shortened(name)}"
        copy = Copy(Stored(seq, name, target, sha256, size), source, temporary)
        if size != source.size_bytes or not source.is_still(path):
            files.unlink(temporary)
            raise Changed(errno.EAGAIN, "it changed while it was being copied", str(path))
        return copy

    def place(self, copies: Sequence[Copy]) -> None:
        """Gives durable copies their final names, durable."""
        folders = {(self._output / copy.stored.path).parent for copy in copies}
        for folder in folders:
            files.make_folder(folder)
        for copy in copies:
            files.move(copy.temporary, self._output / copy.stored.path)
        files.sync_many(folders)

    def hide(self, copy: Copy) -> None:
        """Takes the inbox file of a copy out of sight. Changed where it is not what was copied any more, or cannot be renamed
        (a read-only inbox, another user's file in a sticky folder); then it stays."""
        hidden = hidden_path(copy)
        try:
            os.rename(copy.source.path, hidden)
        except OSError as error:
            raise Changed(
                error.errno, f"it cannot be taken out of the inbox: {error.strerror}", str(copy.source.path)
            ) from error
        if not copy.source.is_still(hidden):
            put_back(hidden, copy.source.path.name)
            raise Changed(errno.EAGAIN, "it changed while it was being copied", str(copy.source.path))

    def keep_hidden(self, copies: Sequence[Copy]) -> None:
        """Makes it durable that inbox files are hidden: otherwise a power loss after the ledger knows their drops brings
        them back under their own names, and they are taken again."""
        for folder in {copy.source.path.parent for copy in copies}:
            _sync_names(folder)

    def give_back(self, copies: Sequence[Copy]) -> None:
        """Undoes `hide` and `copy`, as far as they got: for a batch that is given up before anything of it is archived."""
        for copy in copies:
            if hidden_path(copy).exists():
                put_back(hidden_path(copy), copy.source.path.name)
            files.unlink(copy.temporary)

    def let_go(self, copies: Sequence[Copy]) -> None:
        """Removes hidden inbox files, now that the ledger knows their drops. One that was written to after all goes back:
        its writer held it open all the time, and what it holds now is a new drop."""
        for copy in copies:
            if copy.source.is_still(hidden_path(copy)):
                unlink = files.unlink_large if copy.source.size_bytes >= files.LARGE_BYTES else files.unlink
                unlink(hidden_path(copy))
            else:
                put_back(hidden_path(copy), copy.source.path.name)

    def left_hidden(self, inbox: Path) -> list[tuple[Path, int, str]]:
        """Inbox files that an earlier run left hidden: where, the number of their drop, and their name before."""
        found = []
        with os.scandir(inbox) as entries:
            for entry in entries:
                match = _HIDDEN.fullmatch(entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    found.append((Path(entry.path), int(match[1]), match[2]))
        return found

    def stored(self) -> Iterator[tuple[int, list[Stored]]]:
        """Folder by folder, the newest first, what lies in the raw layer: (the folder's index, its copies; their `sha256`
        is the short one of the name)."""
        folders = sorted(self.folder.glob("received=*"), reverse=True)
        for index, folder in enumerate(folders):
            copies = []
            for entry in os.scandir(folder):
                match = _STORED.fullmatch(entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    path = f"raw/{folder.name}/{entry.name}"
                    try:
                        size = entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:  # beside a daemon: it went to quarantine
                        continue
                    copies.append(Stored(int(match[1]), match[3], path, bytes.fromhex(match[2]), size))
            yield index, sorted(copies, key=lambda copy: copy.seq)


def link_text(raw: str) -> str:
    """What the link to the newest orders drop holds: a path relative to the link's own folder."""
    return os.path.relpath(raw, os.path.dirname(LINK))


def hidden_path(copy: Copy) -> Path:
    """Where the inbox file of a copy lies while it is being archived."""
    path = copy.source.path
    return path.with_name(f".strandline-{copy.stored.seq}-{_both_ends(path.name, _HIDDEN_NAME_BYTES)}")


def put_back(hidden: Path, name: str) -> None:
    """Gives a hidden inbox file its name back, or one like it where a new drop has taken that."""
    for number in itertools.count():
        candidate = hidden.with_name(_numbered(name, number) if number else name)
        try:
            os.link(hidden, candidate)  # unlike rename, never replaces what is there
        except FileExistsError:
            if not _is_same(hidden, candidate):  # it is, where an earlier try came as far as this
                continue
        except FileNotFoundError:  # somebody has cleaned up
            return
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS or candidate.exists():
                raise
            os.rename(hidden, candidate)
            return
        _sync_names(hidden.parent)  # or a power loss might keep the loss of the one name, and not the gain of the other
        os.unlink(hidden)
        return


def _sync_names(inbox: Path) -> None:
    """Makes the names in an inbox durable, where its file system can."""
    try:
        files.sync(inbox)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _is_same(one: Path, other: Path) -> bool:
    try:
        return os.path.samestat(one.lstat(), other.lstat())
    except FileNotFoundError:
        return False


def _numbered(name: str, number: int) -> str:
    """A name that is read in the same way: `users.csv.gz` becomes `users-1.csv.gz`."""
    head, dot, rest = name.partition(".")
    return _both_ends(f"{head}-{number}{dot}{rest}", _LONGEST_NAME_BYTES)


def _both_ends(name: str, limit: int) -> str:
    """A name of at most `limit` bytes: what it begins and ends with says how to read it, so the middle goes."""
    encoded = os.fsencode(name)
    if len(encoded) <= limit:
        return name
    kept = (limit - 3) // 2
    first, last = encoded[:kept].decode(errors="ignore"), encoded[-kept:].decode(errors="ignore")
    return f"{first}…{last}"


def printable(name: str) -> str:
    """A file name as text: bytes that are no UTF-8, what cannot be printed, and `%` are percent-encoded, byte by byte."""
    return "".join(c if c.isprintable() and c != "%" else _percent(os.fsencode(c)) for c in name)


def _percent(content: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in content)


def original(name: str) -> str:
    """Undoes `printable`: it has encoded each `%`, so this is exact."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(name)))


def in_quarantine(path: str) -> str:
    """Where a raw copy goes, both relative to the output folder. One whose name ends as that of a reason does is called another
    way, which `original` undoes: what ends so in quarantine is a reason, and all else is a drop."""
    name = os.path.basename(path)
    return f"quarantine/{name.removesuffix(REASON)}.reason%2Ejson" if name.endswith(REASON) else f"quarantine/{name}"


def quarantined(folder: Path) -> list[str]:
    """The files of the drops in quarantine, by number. Not what somebody else has put there, and not their reasons, which may
    lie there alone: somebody has deleted the drop, or has put it back."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if _STORED.fullmatch(name) and not name.endswith(REASON))


def fitting(name: str) -> str:
    """A name that a file can have, and begins and ends as this one does."""
    return _both_ends(name, _LONGEST_NAME_BYTES)


def shortened(name: str) -> str:
    """A name of at most 180 bytes that begins and ends as the name does."""
    return _both_ends(name, _NAME_BYTES)


def date_of(instant: int) -> str:
    """The UTC calendar date of an instant in microseconds."""
    return datetime.fromtimestamp(on_the_calendar(instant) // 1_000_000, UTC).date().isoformat()


@lru_cache(maxsize=4096)
def kind_of(name: str) -> str | None:
    """What a drop of this name holds: `orders`, the name of a dimension, or nothing that is read here. What kind of
    document it is, its content says."""
    plain_name = name.lower().removesuffix(_packed(name))
    if plain_name.endswith(ORDERS_SUFFIXES):
        return ORDERS
    if not plain_name.endswith(".csv"):
        return None
    return next((one.name for one in DIMENSIONS.values() if plain_name.startswith(one.drops)), None)


def read_as(name: str) -> str:
    """How a drop of this name is read: its kind, with `.gz` or `.zst` if compressed. Equal bytes read in the same way are
    the same drop again."""
    return f"{kind_of(name) or ''}{_packed(name)}"


def _packed(name: str) -> str:
    return next((suffix for suffix in (".gz", ".zst") if name.lower().endswith(suffix)), "")


def is_compressed(name: str) -> bool:
    """Whether the suffix says that a drop is to be decompressed first."""
    return bool(_packed(name))


@contextmanager
def plain(path: Path, name: str, spool: Path, max_bytes: int, max_expansion: int) -> Iterator[Path]:
    """The path of a drop's uncompressed bytes: itself, or a temporary file. Unreadable where it is damaged or a bomb."""
    if not is_compressed(name):
        yield path
        return
    try:
        _decompress(path, name, spool, min(max_bytes, max_expansion * max(path.stat().st_size, 4096)))
        yield spool
    finally:
        files.unlink(spool)


def _decompress(path: Path, name: str, spool: Path, limit_bytes: int) -> None:
    written = 0
    try:
        with _reader(path, name) as source, open(spool, "wb") as target:
            while block := source.read(_COPY_BYTES):
                written += len(block)
                if written > limit_bytes:
                    raise Unreadable(
                        f"decompressed, the file is larger than {limit_bytes:,} bytes, which [input] max_expansion and "
                        "max_drop_bytes allow; a decompression bomb?"
                    )
                target.write(block)
    except Unreadable:
        raise
    except EOFError:
        raise Unreadable("the compressed file is truncated") from None
    except (gzip.BadGzipFile, _zlib_error(), _zstd().ZstdError) as error:
        raise Unreadable(f"the file cannot be decompressed: {error}") from None


def _reader(path: Path, name: str) -> IO[bytes]:
    return gzip.open(path, "rb") if name.lower().endswith(".gz") else _zstd().open(path, "rb")  # type: ignore[return-value]


def _zlib_error() -> type[Exception]:
    import zlib

    return zlib.error


def _zstd() -> Any:
    """Zstandard as the standard library has it from Python 3.14 on. Loaded only where a drop needs it."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
