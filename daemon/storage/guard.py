"""Checks that the output is still the one that this process opened: the folder, its lock and its ledger, by device and inode.

If somebody removes, moves or restores the output folder of a running process, a second process can start in the new folder, over
the same inbox. The first one then has a lock that excludes nobody, a ledger that nobody else reads, and paths into the folder of
the second. So the check comes before a batch leaves the inbox, before files are staged, before the commit, and before each kind
of change to published files.
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
    """One output folder as it was opened. Without a lock (a dry run, a scratch folder) only its ledger is checked."""

    output: Path
    lock: Lock | None
    ledger: Ledger

    def check(self, copies: Iterable[str] = ()) -> None:
        """OutputReplaced where anything is not what was opened, or one of these raw copies is gone. Copies are checked first: a
        removal in progress may not have reached the lock yet."""
        for copy in copies:
            if files.identity(f"{self.output}/{copy}") is None:
                raise OutputReplaced(self.output, f"{copy} is gone")
        if self.lock is not None:
            self.lock.refuse_replaced()
        self.ledger.refuse_replaced()

    @contextmanager
    def undoing(self, undo: Callable[[], None]) -> Iterator[None]:
        """Calls `undo` if the block fails because the output was replaced: the next start works on another output, and cannot
        finish what the block began."""
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
