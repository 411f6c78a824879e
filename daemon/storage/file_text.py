"""An open file as a text of which parts are read when they are asked for. It is not mapped: where another program cuts a mapped
file, or the disk cannot give a page of it, the system ends the process (SIGBUS); a read fails.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import TracebackType

from . import files

CUT = "another program cut it"
_BLOCK_BYTES = 64 << 10


def refuse_cut(path: Path, size_bytes: int) -> None:
    """Raises OSError if a file has fewer bytes than were written."""
    if os.stat(path).st_size < size_bytes:
        raise OSError(errno.EIO, CUT, str(path))


class FileText:
    """The bytes of a file, as many as it had when it was opened. Raises OSError where some cannot be read, or are gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> FileText:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice, /) -> bytes:
        start, stop, _ = part.indices(self._size)
        content = files.read_at(self._descriptor, stop - start, start)
        if len(content) < stop - start:
            raise OSError(errno.EIO, CUT, str(self._path))
        return content

    def find(self, byte: bytes, start: int = 0, /) -> int:
        """The first place of a byte from `start` on; -1 where there is none."""
        for begin in range(start, self._size, _BLOCK_BYTES):
            if (place := self[begin : begin + _BLOCK_BYTES].find(byte)) >= 0:
                return begin + place
        return -1

    def rfind(self, byte: bytes, /) -> int:
        """The last place of a byte; -1 where there is none."""
        for end in range(self._size, 0, -_BLOCK_BYTES):
            begin = max(end - _BLOCK_BYTES, 0)
            if (place := self[begin:end].rfind(byte)) >= 0:
                return begin + place
        return -1
