"""The events of the service, as methods that the log, the metrics and the health check override.

An observer is called in the thread of the service, between two steps. It must neither block nor raise.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..batch.ageing import Aged
from ..batch.outcome import BatchOutcome
from ..batch.retries import Retry
from ..downstream.attempts import Followed
from ..sources.pull.outcome import Pulled
from ..storage.set_aside import SetAside


class Observer:
    """Does nothing at any event."""

    def applied(self, outcome: BatchOutcome, latencies: Sequence[float]) -> None:
        """A batch is published. `latencies`: seconds from settled to published, by drop that came through the inbox."""

    def waiting(self, name: str, attempt: int, delay_seconds: float, why: str) -> None:
        """A drop is unfinished: this was check number `attempt`, and the next one comes after the delay."""

    def gave_up(self, name: str) -> None:
        """A drop is still unfinished, and is taken as it is."""

    def refused(self, name: str, cause: str) -> None:
        """A drop could not be taken out of the inbox. Called once for each cause."""

    def unusable(self, name: str, why: str) -> None:
        """An entry of the inbox cannot be a drop. Called once for each name."""

    def overdue(self, name: str) -> None:
        """A file with the name of an unfinished one has been unchanged for an hour. Called once for each name."""

    def failed(self, retry: Retry) -> None:
        """An operation failed because of the environment. It is tried again unless it is given up."""

    def recovered(self) -> None:
        """Everything there was to do is done without a failure."""

    def found_by_rescan(self, drops: int) -> None:
        """A rescan found drops that no event named."""

    def noted(self, note: str) -> None:
        """A message for the operator."""

    def aged(self, one: Aged) -> None:
        """Copies of one kind that were old enough have gone. Called once a pass and kind, also where files could not be
        removed."""

    def missing(self, published: int) -> None:
        """So many published dates and dimensions are missing, and are made anew; 0: not any more."""

    def set_aside(self, found: Sequence[SetAside]) -> None:
        """All dates and dimensions that are damaged and cannot be made anew. Called whenever that changes, and at the start."""

    def following(self, one: Followed) -> None:
        """What is known of a model or check while a round runs: called when it is begun, after each piece of it and when it is
        done. `followed` tells of it again. Called in the same thread as that."""

    def followed(self, results: Sequence[Followed], now: float) -> None:
        """A round of models and checks ended, at `now` (seconds since 1970). Called in a thread of its own, beside the
        service."""

    def pulled(self, one: Pulled, now: float) -> None:
        """A round of a source's API ended, at `now` (seconds since 1970). Called in a thread of its own, beside the service."""

    def scanned(self, pending: int, oldest: float | None, unfinished: int) -> None:
        """The inbox was scanned: the number of drops, the modification time (seconds since 1970) of the oldest, and the number
        of files with the names of unfinished ones."""

    def strays(self, files: int) -> None:
        """The number of files in folders below the inbox that no source names."""
