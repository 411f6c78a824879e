"""Reads a large drop while it is still being copied: the first pieces are known before the last byte is there.

Only worker processes of this machine do that. Another machine may see a growing file too late.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path

from ..core.model import ParseContext
from ..storage.raw import is_compressed
from . import tasks
from .workers import Workers


class EarlyReads:
    """Read tasks that are submitted before their drop is complete, and those that follow."""

    def __init__(self) -> None:
        self._submitted: dict[tasks.Span, Future[tasks.Answer | None]] = {}

    def follow(
        self, executor: Executor, drop: int, path: Path, context: ParseContext, into: Path
    ) -> Callable[[int], None]:
        """Returns what to call with the number of bytes that are copied to `path` so far."""
        # A copy that was given up may have had the same number, and other bytes.
        self._submitted = {span: future for span, future in self._submitted.items() if span.drop != drop}
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
                if span not in self._submitted:
                    self._submitted[span] = executor.submit(tasks.read, [span], into)

        return grown

    def submit(
        self, executor: Executor, groups: Sequence[Sequence[tasks.Span]], into: Path
    ) -> list[Future[tasks.Answer | None]]:
        """Submits the read tasks of complete drops, except those that were submitted early."""
        early, self._submitted = self._submitted, {}
        return [early.get(group[0]) or executor.submit(tasks.read, group, into) for group in groups]
