"""Whether the content of a file shows that its writer has not finished. Reads an open file; ignores its name and its records.

JSON text ends with the bracket that closes its first one; a gzip or Zstandard stream is complete; a zip ends with its directory.
A file fails this while its writer closes it and appends later, or while an interrupted copy waits to be resumed.
"""

from __future__ import annotations

import gzip
import os
import zlib

from ..storage.files import read_at
from ..storage.raw import compression_of, zstd_module

_CLOSERS = {b"[": b"]", b"{": b"}"}
_JSON_SPACE = b" \t\r\n"
_ENDS_BYTES = 4096
_ZIP = b"PK\x03\x04"
_ZIP_DIRECTORY, _ZIP_TAIL_BYTES = b"PK\x05\x06", 22 + 65_535  # the end record, with the longest comment
_BLOCK_BYTES = 1 << 20
_MOST_BYTES = 256 << 20  # decompressed; a larger file counts as finished, since the check delays other drops


def why_unfinished(descriptor: int) -> str | None:
    """Why this open file is not complete; None where it may be. A file that cannot be read counts as complete: reading the drop
    reports the cause."""
    try:
        size = os.fstat(descriptor).st_size
        if not size:
            return "it is empty"
        head = read_at(descriptor, _ENDS_BYTES, 0)
        if compression := compression_of(head):
            return "its compressed content is cut short" if _is_cut(descriptor, compression) else None
        tail = read_at(descriptor, _ZIP_TAIL_BYTES if head.startswith(_ZIP) else _ENDS_BYTES, _from_end(size, head))
    except OSError:
        return None
    if head.startswith(_ZIP):
        return None if _ZIP_DIRECTORY in tail else "it is a zip file without a directory at its end"
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip(_JSON_SPACE)[:1]
    if first in _CLOSERS and tail.rstrip(_JSON_SPACE)[-1:] != _CLOSERS[first]:
        return f"it begins with {first.decode()} and does not end with {_CLOSERS[first].decode()}"
    return None


def _from_end(size: int, head: bytes) -> int:
    return max(size - (_ZIP_TAIL_BYTES if head.startswith(_ZIP) else _ENDS_BYTES), 0)


def _is_cut(descriptor: int, compression: str) -> bool:
    """Whether a compressed file ends in the middle of a stream. Damage does not count: reading the drop reports it."""
    zstd = zstd_module()
    with open(descriptor, "rb", closefd=False) as compressed:
        compressed.seek(0)
        plain = gzip.GzipFile(fileobj=compressed) if compression == "gzip" else zstd.ZstdFile(compressed)
        left = _MOST_BYTES
        try:
            while left > 0 and (block := plain.read(_BLOCK_BYTES)):
                left -= len(block)
        except EOFError:
            return True
        except (gzip.BadGzipFile, zlib.error, zstd.ZstdError):
            return False
    return False
