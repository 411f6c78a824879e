"""What the service says while it works, for whoever wants to know: the log, the metrics, the health of it.

An observer overrides what interests it. It is called in the service's thread, between two steps, and must neither block nor
raise.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..batch.outcome import BatchOutcome
from ..batch.retries import Retry


class Observer:
    """Hears everything and does nothing."""

    def applied(self, outcome: BatchOutcome, latencies: Sequence[float]) -> None:
        """A batch is published. `latencies`: seconds from settled to published, by drop that came through the inbox."""

    def waiting(self, name: str, attempt: int, delay_seconds: float, why: str) -> None:
        """A drop is unfinished: it was looked at for the `attempt`-th time, and is again after the delay."""

    def gave_up(self, name: str) -> None:
        """A drop that is still unfinished is taken as it is."""

    def refused(self, name: str, cause: str) -> None:
        """A drop could not be taken out of the inbox. Said once for each cause."""

    def strange(self, name: str, why: str) -> None:
        """Something in the inbox is no regular file. Said once for each name."""

    def overdue(self, name: str) -> None:
        """A file has had the name of an unfinished one, unchanged, for an hour. Said once for each name."""

    def failed(self, retry: Retry) -> None:
        """The environment broke something; it is tried again unless it is given up."""

    def recovered(self) -> None:
        """All is done that there was to do, and nothing fails any more."""

    def found_by_rescan(self, drops: int) -> None:
        """Drops that no event had named were found by looking."""

    def noted(self, note: str) -> None:
        """Something that an operator should read."""

    def looked(self, pending: int, oldest: float | None, unfinished: int) -> None:
        """What is in the inbox: how many drops, the modification time (seconds since 1970) of the oldest, and how many files
        with names of unfinished ones."""
