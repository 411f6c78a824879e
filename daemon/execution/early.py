"""Reads drops before all of a batch are copied: the first pieces of a large one, which are known before its last byte is there,
and smaller ones that are copied, once they are enough for a task.

Only worker processes of this machine do that. Another machine may see a growing file too late. What is read for nothing, since a
drop turns out to be a duplicate, is forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path

from ..core.model import ParseContext
from ..core.parse.documents import Form
from ..storage.raw import is_compressed
from . import tasks
from .workers import Workers

# Of a drop that is read before all are copied. To look at many small ones costs more than it gives.
_LEAST_BYTES = 1 << 20
_Group = tuple[tasks.Span, ...]


class EarlyReads:
    """The read tasks of a batch: those that are submitted before all of its drops are copied, and those that follow."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Forgets an earlier batch, which may have been given up: its drops had the same numbers, and other bytes."""
        self._submitted: dict[_Group, Future[tasks.Answer | None]] = {}
        self._complete: list[_Group] = []  # tasks that wait for the workers to start
        # Drops that are not enough for a task yet; None: no more are read early.
        self._whole: list[tasks.Span] | None = []

    def follow(
        self, executor: Executor, drop: int, path: Path, context: ParseContext, into: Path
    ) -> Callable[[int], None]:
        """Returns what to call with the number of bytes that are copied to `path` so far."""
        # A copy that was given up may have had the same number, and other bytes.
        self._submitted = {group: future for group, future in self._submitted.items() if group[0].drop != drop}
        next_check = 2.0 * tasks.PIECE_BYTES
        if not isinstance(executor, Workers):
            return lambda size_bytes: None

        def grown(size_bytes: int) -> None:
            nonlocal next_check
            if size_bytes < next_check or not executor.started:
                return
            spans = [] if is_compressed(path) else tasks.first_spans_of(drop, path, context)
            # The first piece shows whether the drop can be divided. Where it cannot, more bytes change nothing.
            next_check = size_bytes + 2 * tasks.PIECE_BYTES if spans else float("inf")
            for span in spans:
                self._submit_once((span,), executor, into)

        return grown

    def copied(
        self,
        executor: Executor,
        drop: int,
        path: Path,
        size_bytes: int,
        context: ParseContext,
        into: Path,
        is_known: Callable[[], bool],
    ) -> None:
        """Called with each drop of orders that is copied, in order. `is_known`: whether one with its bytes was applied; then it
        is a duplicate, and not read."""
        if self._whole is None or not isinstance(executor, Workers):
            return
        if size_bytes < _LEAST_BYTES or is_compressed(path):
            self.end()
            return
        if is_known():
            return
        if size_bytes > tasks.PIECE_BYTES:  # it is divided; no other drop is read together with a part of it
            ended, self._whole = tasks.parcels(self._whole), []
        else:
            *ended, self._whole = tasks.parcels(
                [*self._whole, tasks.Span(drop, path, 0, size_bytes, context, Form.WHOLE)]
            )
        self._complete += map(tuple, ended)
        if executor.started:
            for group in self._complete:
                self._submit_once(group, executor, into)
            self._complete = []

    def end(self) -> None:
        """Called with a drop of which it is not known how it will be read: what comes after it is not read early."""
        self._whole = None

    def submit(
        self, executor: Executor, groups: Sequence[Sequence[tasks.Span]], into: Path
    ) -> list[Future[tasks.Answer | None]]:
        """Submits the read tasks of a batch, except those that were submitted early."""
        early = self._submitted
        self.begin()
        return [early.get(tuple(group)) or executor.submit(tasks.read, group, into) for group in groups]

    def _submit_once(self, group: _Group, executor: Executor, into: Path) -> None:
        if group not in self._submitted:
            self._submitted[group] = executor.submit(tasks.read, group, into)
