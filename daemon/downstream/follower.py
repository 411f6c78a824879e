"""Follows beside the batches of a daemon, in a thread of its own; or once, at the end of a `--once` run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from threading import Event

from ..batch.retries import is_transient
from ..core.errors import OutputReplaced, Stopped, StrandlineError, cause_of, raised_in
from ..core.retry import Backoff
from .attempts import Followed, Progress, untold
from .follow import Following, failing

Tell = Callable[[Sequence[Followed]], None]


def bring_up_to_date(
    following: Following, backoff: Backoff, stop: Event, tell: Tell, progress: Progress = untold
) -> list[str]:
    """Rounds until everything is up to date; returns the names of what is not. Where the environment fails, tries as often as
    `backoff` says; a model that fails is not run again with the same input. Raises Stopped."""
    attempt = 1
    while True:
        found = following.round(stop.is_set, now=True, progress=progress)
        tell(found)
        if attempt >= backoff.attempts or not any(one.is_transient for one in found):
            return failing(found)
        if stop.wait(backoff.delay_seconds(attempt)):
            raise Stopped("stopped while a model was to be tried again")
        attempt += 1


class Follower:
    """A thread with a round after each batch, and at least every `rescan_seconds`. `make` is called in it; None: nothing follows
    yet. `note`: tells of an error that is not of one downstream. `progress`: see Following.round."""

    def __init__(
        self, make: Callable[[], Following | None], rescan_seconds: float, backoff: Backoff, tell: Tell,
        note: Callable[[str], None], progress: Progress = untold,
    ) -> None:  # fmt: skip
        self._make, self._rescan_seconds, self._backoff = make, rescan_seconds, backoff
        self._tell, self._note, self._progress = tell, note, progress
        self._wake, self._stop = Event(), Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def __enter__(self) -> Follower:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def wake(self) -> None:
        """Asks for a round."""
        self._wake.set()

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                following = self._make()
                if following is None:
                    self._wait(self._rescan_seconds)
                    continue
                with closing(following):
                    while not self._stop.is_set():
                        self._tell(following.round(self._stop.is_set, progress=self._progress))
                        failures = 0
                        self._rest(following)
            except (Stopped, OutputReplaced):  # the loop of the batches notices it, too
                return
            except Exception as error:
                failures += 1
                expected = isinstance(error, StrandlineError) or is_transient(error)
                cause = cause_of(error)
                if not expected:
                    cause = f"an unexpected error in {raised_in(error)}: {cause}. Please report this"
                delay = self._backoff.delay_seconds(failures)
                self._note(f"what follows could not be brought up to date: {cause}. Trying again in {delay:g} s")
                self._stop.wait(delay)

    def _rest(self, following: Following) -> None:
        """Waits until the next round is asked for or due."""
        if not self._wake.is_set():
            following.rest()
        due = following.delay_seconds
        self._wait(self._rescan_seconds if due is None else min(due + 0.01, self._rescan_seconds))

    def _wait(self, seconds: float) -> None:
        self._wake.wait(seconds)
        self._wake.clear()
