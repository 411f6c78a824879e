"""Whether the output is still the one that this process opened: the folder, its lock, its ledger, by device and inode.

Whoever removes, moves or restores an output folder beside a running process lets a second one start in the new folder, over
the same inbox. The first then has a lock that excludes nobody, a ledger that nobody else sees, and paths that lead into the
folder of the second. It is asked before a batch leaves the inbox, before files are staged, before the commit, and before each
kind of change to published files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import OutputReplaced
from . import files
from .ledger import Ledger
from .lock import Lock


@dataclass(frozen=True, slots=True)
class Guard:
    """One output folder as it was opened. Without a lock (a dry run, a scratch folder) only its ledger is compared."""

    output: Path
    lock: Lock | None
    ledger: Ledger

    def check(self, copies: Iterable[str] = ()) -> None:
        """OutputReplaced where anything is not what was opened, or one of these raw copies is gone. Copies are looked at first:
        a removal that has begun may not have come to the lock yet."""
        for copy in copies:
            if files.identity(self.output / copy) is None:
                raise OutputReplaced(self.output, f"{copy} is gone")
        if self.lock is not None:
            self.lock.refuse_replaced()
        self.ledger.refuse_replaced()

    @contextmanager
    def undoing(self, undo: Callable[[], None]) -> Iterator[None]:
        """Calls `undo` where the block fails and the output was replaced: what it began cannot be finished by the next start,
        which is that of another output."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, OutputReplaced) or self._is_replaced():
                undo()
            raise

    def _is_replaced(self) -> bool:
        try:
            self.check()
        except OutputReplaced:
            return True
        return False
