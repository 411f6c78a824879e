"""The raw layer: every drop, byte for byte, kept before it is read. A copy leaves it for quarantine, or by age (ages.py), and
changes only where `strandline forget` removes records from it.

    raw/received=YYYY-MM-DD/<seq>_<sha12>_<name>                of the source `default`
    raw/source=NAME/received=YYYY-MM-DD/<seq>_<sha12>_<name>    of any other source
    raw/orders_raw.json                                         -> the newest applied uncompressed orders drop

`batch/taking.py` copies drops from the inbox into it. This module has the paths of copies, and the meaning of names.
"""

from __future__ import annotations

import gzip
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote_to_bytes
from uuid import uuid4

from ..core.entries import REASON, Drop
from ..core.errors import Unreadable
from ..core.mapping import DEFAULT_SOURCE
from ..core.model import DIMENSIONS, ParseContext, on_the_calendar
from . import files

_SEQ_DIGITS = 8
_NAME_BYTES = 180  # leaves room for number, hash and `.reason.json` within the 255 bytes of a file name
_LONGEST_NAME_BYTES = 255
_SLASH = "%2F"  # in file names: `printable` encodes every other % as %25
_STORED = re.compile(r"([0-9]{1,18})_([0-9a-f]{12})_(.*)", re.DOTALL)
_COPY_BYTES = 1 << 20
LINK = "raw/orders_raw.json"
_SOURCE = "source="
ORDERS_SUFFIXES = (".json", ".jsonl", ".ndjson")
NAMES_READ = (
    "Orders come as *.json, *.jsonl or *.ndjson, users and products as users*.csv and products*.csv, "
    "each also with .gz or .zst, or several of them in a .zip"
)
ORDERS = "orders"
_GZIP, _ZSTD, _ZSTD_SKIPPABLE = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x2a\x4d\x18"  # the last after a byte 50 to 5F
_MAGIC_BYTES = 4


@dataclass(frozen=True, slots=True)
class Stored:
    """A copy in the raw layer."""

    seq: int
    name: str
    path: str  # relative to the output folder
    sha256: bytes
    size_bytes: int
    source: str = DEFAULT_SOURCE


class RawLayer:
    """The folder raw/ of an output folder; `staging` is on the same file system."""

    def __init__(self, output: Path, staging: Path) -> None:
        self._output, self._staging = output, staging
        self.folder = output / "raw"
        self._run = uuid4().int % 10**12

    def temporary(self, seq: int) -> Path:
        """The first path of a copy. Its name is unique to this process: after a replacement of the output, another process must
        not write into our copy before it notices."""
        return self._staging / f"drop-{seq}-{self._run}.part"

    def stored_as(self, seq: int, name: str, context: ParseContext, sha256: bytes, size_bytes: int) -> Stored:
        """The copy of a drop as it will be in the raw layer. `name`: as in the inbox."""
        shown = printable(name)
        path = raw_path(seq, shown, context, sha256)
        return Stored(seq, shown, path, sha256, size_bytes, context.source)

    def place(self, copies: Sequence[Stored]) -> None:
        """Gives durable temporary copies their final names, durably."""
        targets = [self._output / copy.path for copy in copies]
        folders = {target.parent for target in targets}
        for folder in folders:
            files.make_folder(folder, within=self._output)
        for copy, target in zip(copies, targets, strict=True):
            files.move(self.temporary(copy.seq), target)
        files.sync_many(folders)

    def give_back(self, path: str, seq: int) -> None:
        """Copies the durable temporary copy of this drop to the path of another one, relative to the output folder, that has lost
        its own copy of the same bytes. Durable."""
        target, temporary = self._output / path, self.temporary(seq)
        again = temporary.with_name(f"again-{temporary.name}")
        with files.opened(temporary) as source:
            files.copy_unsynced(source, again)
        files.sync(again)
        files.make_folder(target.parent, within=self._output)
        files.move(again, target)
        files.sync(target.parent)

    def stored(self) -> Iterator[Stored]:
        """Every copy in the raw layer."""
        for source in self.sources():
            for _, copies in self.stored_of(source):
                yield from copies

    def sources(self) -> list[str]:
        """The sources that the folders name: `default` first."""
        found = sorted(path.name.removeprefix(_SOURCE) for path in self.folder.glob(f"{_SOURCE}*"))
        return [DEFAULT_SOURCE, *(source for source in found if source != DEFAULT_SOURCE)]

    def stored_of(self, source: str) -> Iterator[tuple[int, list[Stored]]]:
        """The copies of one source by folder, the newest first: (index of the folder, its copies). Their `sha256` is the short
        one of the name."""
        parent = _folder_of(source)
        folders = sorted((self._output / parent).glob("received=*"), reverse=True)
        for index, folder in enumerate(folders):
            copies = []
            for entry in os.scandir(folder):
                match = _STORED.fullmatch(entry.name)
                if match and entry.is_file(follow_symlinks=False):
                    path = f"{parent}/{folder.name}/{entry.name}"
                    try:
                        size = entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:  # a running daemon has just moved it to quarantine
                        continue
                    name = match[3].replace(_SLASH, "/")
                    copies.append(Stored(int(match[1]), name, path, bytes.fromhex(match[2]), size, source))
            yield index, sorted(copies, key=lambda copy: copy.seq)


def raw_path(seq: int, name: str, context: ParseContext, sha256: bytes) -> str:
    """The path of a raw copy, relative to the output folder. `name`: as in Stored and Drop."""
    return f"{_folder_of(context.source)}/received={date_of(context.received_at)}/{file_name(seq, sha256, name)}"


def _folder_of(source: str) -> str:
    """The folder of a source's raw copies, relative to the output folder."""
    return "raw" if source == DEFAULT_SOURCE else f"raw/{_SOURCE}{source}"


def file_name(seq: int, sha256: bytes, name: str) -> str:
    """The file name of a raw copy. `name`: as in Stored and Drop."""
    return f"{seq:0{_SEQ_DIGITS}d}_{sha256.hex()[:12]}_{shortened(name)}"


def link_text(raw: str) -> str:
    """The target of the link to the newest orders drop: a path relative to the folder of the link."""
    return os.path.relpath(raw, os.path.dirname(LINK))


def numbered(name: str, number: int) -> str:
    """A numbered name that is read in the same way: `users.csv.gz` becomes `users-1.csv.gz`."""
    suffix = f"-{number}"
    head, dot, rest = both_ends(name, _LONGEST_NAME_BYTES - len(suffix)).partition(".")
    return f"{head}{suffix}{dot}{rest}"


def both_ends(name: str, limit: int) -> str:
    """A name of at most `limit` bytes. Both ends stay, since they say how to read the drop."""
    encoded = os.fsencode(name)
    if len(encoded) <= limit:
        return name
    kept = (limit - 3) // 2
    first, last = encoded[:kept].decode(errors="ignore"), encoded[-kept:].decode(errors="ignore")
    return f"{first}…{last}"


def printable(name: str) -> str:
    """A file name as text: bytes that are not UTF-8, unprintable characters, and `%` are percent-encoded, byte by byte."""
    return "".join(c if c.isprintable() and c != "%" else _percent(os.fsencode(c)) for c in name)


def _percent(content: bytes) -> str:
    return "".join(f"%{byte:02X}" for byte in content)


def original(name: str) -> str:
    """The reverse of `printable`. It is exact, since each `%` is encoded."""
    return os.fsdecode(unquote_to_bytes(os.fsencode(name)))


def in_quarantine(path: str) -> str:
    """Where a raw copy goes, both relative to the output folder. One whose name ends as that of a reason does is called another
    way, which `original` undoes: what ends so in quarantine is a reason, and all else is a drop."""
    name = os.path.basename(path)
    return f"quarantine/{name.removesuffix(REASON)}.reason%2Ejson" if name.endswith(REASON) else f"quarantine/{name}"


def quarantine_path(drop: Drop) -> str:
    """Where a drop is in quarantine, relative to the output folder."""
    return in_quarantine(file_name(drop.seq, drop.sha256, drop.name))


def quarantined(folder: Path) -> list[str]:
    """The files of the drops in quarantine, by number. Without other files there, and without reasons, whose drop somebody may
    have deleted or put back."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    return sorted(name for name in names if _STORED.fullmatch(name) and not name.endswith(REASON))


def fitting(name: str) -> str:
    """A name of at most 255 bytes with the same beginning and end."""
    return both_ends(name, _LONGEST_NAME_BYTES)


def shortened(name: str) -> str:
    """A name of at most 180 bytes with the same beginning and end, and without a slash. Of a file of a zip archive, the name in
    it is shortened on its own, so that it still says how to read it."""
    archive, slash, own = name.rpartition("/")
    if not slash:
        return both_ends(name, _NAME_BYTES)
    own = both_ends(own, _NAME_BYTES // 2)
    left = _NAME_BYTES - len(os.fsencode(_SLASH + own))
    return f"{both_ends(archive.replace('/', _SLASH), left)}{_SLASH}{own}"


def is_archive(name: str) -> bool:
    """Whether a drop of this name is a zip archive, whose files are drops of their own."""
    return "/" not in name and name.lower().endswith(".zip")


def name_in_archive(archive: str, path: str) -> str:
    """The name of a drop that is a file of a zip archive: `orders.zip/2026/a.json`. No other drop has a slash in its name."""
    folders, slash, own = path.rpartition("/")
    return f"{archive}/{fitting(folders)}{slash}{fitting(own)}"


def own_name(name: str) -> str:
    """The name of a drop without its zip archive, if it came in one."""
    return name.rpartition("/")[2]


def archive_of(name: str) -> str:
    """The name of the zip archive that a drop came in; "" if it came in none."""
    return name.partition("/")[0] if "/" in name else ""


def date_of(instant: int) -> str:
    """The UTC date of an instant in microseconds."""
    return datetime.fromtimestamp(on_the_calendar(instant) // 1_000_000, UTC).date().isoformat()


@lru_cache(maxsize=4096)
def kind_of(name: str) -> str | None:
    """What a drop of this name holds: `orders`, the name of a dimension, or None for a name that is not read. The content says
    which form it has."""
    plain_name = own_name(name).lower().removesuffix(_packed(name))
    if plain_name.endswith(ORDERS_SUFFIXES):
        return ORDERS
    if not plain_name.endswith(".csv"):
        return None
    return next((one.name for one in DIMENSIONS.values() if plain_name.startswith(one.drops)), None)


def _packed(name: str) -> str:
    return next((suffix for suffix in (".gz", ".zst") if name.lower().endswith(suffix)), "")


def compression_of(head: bytes) -> str | None:
    """How a file with these first bytes is compressed, whatever its name: `gzip`, `zstd`, or None."""
    if head.startswith(_GZIP):
        return "gzip"
    is_zstd = head.startswith(_ZSTD) or (head[1:4] == _ZSTD_SKIPPABLE and head[0] >> 4 == 5)
    return "zstd" if is_zstd else None


def is_compressed(path: Path) -> bool:
    """Whether the first bytes of a file are those of a compressed one."""
    with open(path, "rb") as file:
        return compression_of(file.read(_MAGIC_BYTES)) is not None


def may_be_linked(path: Path, name: str) -> bool:
    """Whether orders_raw.json may point to this copy of a drop: it holds orders, and is not compressed."""
    if kind_of(name) != ORDERS:
        return False
    try:
        return not is_compressed(path)
    except FileNotFoundError:  # it is lost; the name is what is known of it
        return not _packed(name)


@contextmanager
def plain(path: Path, spool: Path, max_bytes: int, max_expansion: int) -> Iterator[Path]:
    """The path of the uncompressed bytes of a drop: its own, or a temporary file. The content says whether it is compressed.
    Unreadable where it is damaged or a decompression bomb."""
    with open(path, "rb") as file:
        compression = compression_of(file.read(_MAGIC_BYTES))
    if compression is None:
        yield path
        return
    try:
        _decompress(path, compression, spool, min(max_bytes, max_expansion * max(path.stat().st_size, 4096)))
        yield spool
    finally:
        files.unlink(spool)


def opened(path: Path) -> IO[bytes]:
    """The uncompressed bytes of a copy, to be read from the beginning. Reading a damaged copy raises OSError, EOFError, or an
    error of its compression."""
    with open(path, "rb") as file:
        compression = compression_of(file.read(_MAGIC_BYTES))
    return open(path, "rb") if compression is None else _reader(path, compression)


def _decompress(path: Path, compression: str, spool: Path, limit_bytes: int) -> None:
    written = 0
    try:
        with _reader(path, compression) as source, open(spool, "wb") as target:
            while block := source.read(_COPY_BYTES):
                written += len(block)
                if written > limit_bytes:
                    raise Unreadable(
                        f"decompressed, the file is larger than {limit_bytes:,} bytes, the limit by [input] max_expansion and "
                        "max_drop_bytes; it may be a decompression bomb"
                    )
                target.write(block)
    except Unreadable:
        raise
    except EOFError:
        raise Unreadable("the compressed file is truncated") from None
    except (gzip.BadGzipFile, _zlib_error(), zstd_module().ZstdError) as error:
        what = "its check sum is wrong" if "check" in str(error).lower() else "its compressed data is damaged"
        raise Unreadable(f"the file cannot be decompressed: {what}; compress it, or copy it, again") from None


def _reader(path: Path, compression: str) -> IO[bytes]:
    return gzip.open(path, "rb") if compression == "gzip" else zstd_module().open(path, "rb")  # type: ignore[return-value]


def _zlib_error() -> type[Exception]:
    import zlib

    return zlib.error


def zstd_module() -> Any:
    """The module for Zstandard: of the standard library from Python 3.14 on. Imported only when a drop needs it."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
