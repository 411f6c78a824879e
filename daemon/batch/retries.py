"""Retries work that fails because of the environment: which errors are transient, and how long to wait. Errors in the data are
never retried.

With `--once`, a run gives up after [retry] attempts. A watching daemon never gives up: after as many attempts it is paused, which
`/-/ready` and the alerts show, and it resumes automatically when the cause is gone. A stop request ends every wait.
"""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, stop_never, wait_exponential
from tenacity.stop import stop_any, stop_when_event_set

from ..core.errors import Corruption, Stopped, Unavailable, cause_of, is_out_of_memory
from ..core.retry import Backoff
from ..storage.database import is_damage
from .phases import operation_of

_T = TypeVar("_T")
# Transient: a full or read-only disk, missing permissions, a mount that is temporarily gone, too many open files, no memory.
_TRANSIENT_ERRNOS = {
    getattr(errno, name)
    for name in (
        "ENOSPC", "EDQUOT", "EIO", "EROFS", "EACCES", "EPERM", "EAGAIN", "EBUSY", "EINTR", "ENFILE", "EMFILE", "ENOMEM",
        "ENOENT", "ENOTDIR", "ENOTCONN", "ENXIO", "ENODEV", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "ENOLCK", "EREMOTEIO",
        "ETXTBSY",
    )
    if hasattr(errno, name)
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Retry:
    """One failed attempt, and what follows."""

    operation: str  # one of phases.OPERATIONS
    attempt: int
    delay_seconds: float
    cause: str
    exhausted: bool  # this was the last of the attempts that [retry] allows
    given_up: bool = False  # there is no further attempt


def is_transient(error: BaseException) -> bool:
    """Whether a retry can help: the error comes from the machine, not from the data or from a bug."""
    if isinstance(error, OSError):
        return error.errno in _TRANSIENT_ERRNOS
    if isinstance(error, sqlite3.OperationalError):
        return not is_damage(error)
    if is_out_of_memory(error):
        return True
    return isinstance(error, BrokenExecutor | EOFError | Corruption | Unavailable)


def retry(
    work: Callable[[], _T], backoff: Backoff, stop: Event, *, give_up: bool, failed: Callable[[Retry], None]
) -> _T:
    """Calls `work` until it succeeds, and returns its result. Retries transient errors. `give_up`: raises the error after
    `backoff.attempts` attempts. Raises Stopped if a stop request ended a wait."""

    def report(state: RetryCallState) -> None:
        assert state.outcome and state.next_action
        error = state.outcome.exception()
        assert error is not None
        exhausted = state.attempt_number == backoff.attempts
        failed(Retry(operation_of(error), state.attempt_number, state.next_action.sleep, cause_of(error), exhausted))

    def give_up_on(error: Exception, attempt: int) -> None:
        failed(Retry(operation_of(error), attempt, 0.0, cause_of(error), exhausted=True, given_up=True))

    attempts = stop_after_attempt(backoff.attempts) if give_up else stop_never

    def sleep(seconds: float) -> None:
        stop.wait(seconds)

    retrying = Retrying(
        retry=retry_if_exception(lambda error: is_transient(error) and not (give_up and isinstance(error, Corruption))),
        stop=stop_any(attempts, stop_when_event_set(stop)),
        wait=wait_exponential(multiplier=backoff.initial_delay_seconds, max=backoff.max_delay_seconds),
        sleep=sleep,
        before_sleep=report,
        reraise=True,
    )
    try:
        return retrying(work)
    except Exception as error:
        if stop.is_set() and is_transient(error):
            raise Stopped("stopped while the environment failed") from error
        if is_transient(error):
            give_up_on(error, retrying.statistics["attempt_number"])
        raise
