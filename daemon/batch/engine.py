"""What a batch works with: the ledger, the folders, and what reads, rewrites and takes drops. Built by wiring, never changed."""

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
    """`background` runs one call beside the batch. `dry`: nothing is committed, so nothing is written to the ledger."""

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
        """Whether the output is still the one that was opened."""
        return Guard(self.output, self.lock, self.ledger)

    def write_index(self, entries: np.ndarray) -> Future[Run | None]:
        """Begins to write index entries (sorted by key), which count once a commit adopts them. Until the result is there,
        the ledger may be read, and must not be changed."""
        if self.dry:
            nothing: Future[Run | None] = Future()
            nothing.set_result(None)
            return nothing
        return self.background.submit(self.ledger.write_ahead, entries)
