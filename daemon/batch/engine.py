"""What a batch works with: the ledger, the folders, and the objects that take, read and rewrite. Built by wiring, immutable."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core.entries import Run
from ..core.progress import Progress, silent
from ..execution import tasks
from ..storage.guard import Guard
from ..storage.ledger import Ledger
from ..storage.lock import Lock
from ..storage.raw import RawLayer
from ..storage.store import Store
from .reading import Reader
from .rewriting import Rewriter
from .taking import Taking


@dataclass(frozen=True)
class Engine:
    """`background` runs one call at a time in parallel to the batch. `dry`: nothing is committed or written to the ledger."""

    output: Path
    ledger: Ledger
    raw: RawLayer
    store: Store
    reader: Reader
    rewriter: Rewriter
    taking: Taking
    background: Executor
    progress: Progress = silent
    stopped: Callable[[], bool] = tasks.never
    lock: Lock | None = None
    dry: bool = False

    @property
    def guard(self) -> Guard:
        """Checks that the output folder is still the one that was opened."""
        return Guard(self.output, self.lock, self.ledger)

    def write_index(self, entries: np.ndarray) -> Future[Run | None]:
        """Starts writing index entries (sorted by key). They take effect when a commit adopts them. Until the future is done, the
        ledger may be read but must not be changed."""
        if self.dry:
            nothing: Future[Run | None] = Future()
            nothing.set_result(None)
            return nothing
        return self.background.submit(self.ledger.write_ahead, entries)
