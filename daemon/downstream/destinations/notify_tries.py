"""Tries to send a message: a few times in a round, with growing, random delays that a stop ends."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from ...core.errors import Stopped, Unavailable
from ...core.retry import Backoff

_BACKOFF = Backoff(1, 0.5, 30.0)
_CHECK_SECONDS = 0.05


class NotNow(Unavailable):
    """A try that failed and may succeed later. `after`: not before so many seconds."""

    def __init__(self, text: str, after: float = 0.0) -> None:
        super().__init__(text)
        self.after = after


def tried(send: Callable[[], None], attempts: int, stopped: Callable[[], bool]) -> None:
    """Calls `send` until it does not raise NotNow, `attempts` times at most. Raises what it raised the last time; Stopped."""

    def wait(state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        delay = _BACKOFF.delay_seconds(state.attempt_number) * random.uniform(0.5, 1.0)
        return max(delay, error.after) if isinstance(error, NotNow) else delay

    def sleep(seconds: float) -> None:
        until(lambda: False, seconds, stopped)

    Retrying(
        retry=retry_if_exception_type(NotNow), stop=stop_after_attempt(attempts), wait=wait, sleep=sleep, reraise=True
    )(send)


def until(is_done: Callable[[], bool], seconds: float, stopped: Callable[[], bool]) -> bool:
    """Waits until it is done; False where that takes longer. Raises Stopped."""
    end = time.monotonic() + seconds
    while not is_done():
        if stopped():
            raise Stopped("stopped while a message was under way")
        if (left := end - time.monotonic()) <= 0:
            return False
        time.sleep(min(_CHECK_SECONDS, left))
    return True
