"""The ledger as a file: what a change of it takes from the machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from daemon.core.entries import Drop
from daemon.core.model import ParseContext
from daemon.storage.ledger import Ledger


class Watched(list[Drop]):
    """Drops that note, at the end of each pass through them, which files this process has open."""

    opened: set[str]

    def __iter__(self) -> Iterator[Drop]:
        yield from super().__iter__()
        for entry in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):
                self.opened.add(str(entry.readlink()))


def drops(first: int, stop: int) -> Watched:
    context = ParseContext(7, 8)
    made = Watched(Drop(n, f"{n}.json", f"raw/{n}", os.urandom(32), 5, context) for n in range(first, stop))
    made.opened = set()
    return made


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc, which says which files are open")
def test_a_batch_of_many_drops_needs_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with closing(Ledger(path)) as ledger:
        ledger.enter(some := drops(1, 2_001))
        ledger.vacuum()
        ledger.enter(more := drops(2_001, 4_001))
    for opened in (some.opened, more.opened):
        assert str(path) in opened, "the ledger was not seen"
        assert not [name for name in opened if "etilqs" in name], "SQLite calls its temporary files so"
