"""Tries to send a message: a few times in a round, with growing, random delays that a stop ends. What is shown of an answer."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from ...core.errors import Stopped, Unavailable
from ...core.retry import Backoff
from ...sources.pull.template import HIDDEN, Secrets

_BACKOFF = Backoff(1, 0.5, 30.0)
_CHECK_SECONDS = 0.05
LOOKED_AT_BYTES = 1 << 16  # for secrets; half of it may be shown, so that none is cut at its end


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


def without_secrets(content: bytes, secrets: Secrets) -> str:
    """What a receiver answered or printed, as printable text without secrets. To be called before any of it is cut off, blanks
    included."""
    text = content.decode("utf-8", "replace")
    if not secrets.reveals(text) and secrets.reveals(content.decode("latin-1")):
        return f"(a text with a secret: {HIDDEN})"
    lines = secrets.hidden_in(text).splitlines()
    return "\n".join("".join(one if one.isprintable() else "?" for one in line) for line in lines)
