"""What the environment breaks is tried again: which errors those are, and how long to wait. Data faults never come here.

An instance that runs `--once` gives up after some attempts. One that watches never does: after as many it is paused, which
`/-/ready` and the alerts say, and goes on by itself once the cause is gone. A stop ends every wait at once.
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

from ..core.errors import Corruption, Stopped
from ..core.retry import Backoff
from .phases import operation_of

_T = TypeVar("_T")
# What may pass: a full or read-only disk, rights, a mount that is gone for a while, too many files, memory.
_PASSING = {
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
    """One attempt that failed, and what follows."""

    operation: str  # archive, parse, merge, stage, commit, publish
    attempt: int
    delay_seconds: float
    cause: str
    exhausted: bool  # all attempts that [retry] allows have just failed
    given_up: bool = False  # it is not tried again


def may_pass(error: BaseException) -> bool:
    """Whether trying again can help: the machine's faults, not the data's and not ours."""
    if isinstance(error, OSError):
        return error.errno in _PASSING
    return isinstance(error, sqlite3.OperationalError | MemoryError | BrokenExecutor | EOFError | Corruption)


def persist(
    work: Callable[[], _T], backoff: Backoff, stop: Event, *, give_up: bool, failed: Callable[[Retry], None]
) -> _T:
    """The result of `work`, tried again while the environment fails. `give_up`: raises the error after as many attempts as the
    backoff has. Raises Stopped where a stop ended a wait."""

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
        retry=retry_if_exception(lambda error: may_pass(error) and not (give_up and isinstance(error, Corruption))),
        stop=stop_any(attempts, stop_when_event_set(stop)),
        wait=wait_exponential(multiplier=backoff.initial_delay_seconds, max=backoff.max_delay_seconds),
        sleep=sleep,
        before_sleep=report,
        reraise=True,
    )
    try:
        return retrying(work)
    except Exception as error:
        if stop.is_set() and may_pass(error):
            raise Stopped("stopped while the environment failed") from error
        if may_pass(error):
            give_up_on(error, retrying.statistics["attempt_number"])
        raise


def cause_of(error: BaseException) -> str:
    """What failed, in one line for people."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error) or type(error).__name__
