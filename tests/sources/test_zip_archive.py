"""Archives that the disk cannot read are not damaged ones. tests/batch/test_unpacking.py has what is in them."""

from __future__ import annotations

import errno
import io
import os
import zipfile

import pytest

from daemon.core.errors import Unreadable
from daemon.sources.zip_archive import Bounds, unpack
from daemon.storage import files

BOUNDS = Bounds(1 << 20, 100)


class Failing(io.BytesIO):
    """A file of which one read fails."""

    def __init__(self, content: bytes, at: int, number: int) -> None:
        super().__init__(content)
        self.reads, self._at, self._number = 0, at, number

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads == self._at:
            raise OSError(self._number, os.strerror(self._number))
        return super().read(size)


def archive() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as one:
        one.writestr("a.json", b"[]")
        one.writestr("folder/b.json", b"[]" * 1000)
    return sink.getvalue()


def unpacked(file: Failing) -> dict[str, bytes]:
    return {path: b"".join(blocks) for path, blocks in unpack(file, BOUNDS)}


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EAGAIN])
def test_a_read_that_fails_is_no_damage_of_the_archive(number: int) -> None:
    """Each read in turn: the error of the disk, which is tried again; a damaged archive is quarantined."""
    whole = Failing(archive(), 0, number)
    assert unpacked(whole).keys() == {"a.json", "folder/b.json"} and whole.reads > 5
    for at in range(1, whole.reads + 1):
        with pytest.raises(OSError) as raised:
            unpacked(Failing(archive(), at, number))
        assert raised.value.errno == number
    with pytest.raises(Unreadable, match="damaged"):
        unpacked(Failing(archive()[:-30], 0, number))


def test_a_read_that_gives_nothing_now_is_an_error() -> None:
    """Python's own reads return nothing then, or what they have so far, which is no zip archive."""
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    os.write(theirs, b"PK")
    with files.opened_for_reading(ours) as file, pytest.raises(BlockingIOError):  # type: ignore[arg-type]
        file.read(4)
    os.close(theirs)
