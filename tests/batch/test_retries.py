"""What is tried again, how long, and what ends the waiting."""

from __future__ import annotations

import errno
import sqlite3
import threading
import time
from concurrent.futures import BrokenExecutor

import pytest

from daemon.batch.retries import Retry, is_transient, retry
from daemon.core.errors import Corruption, Stopped, Unreadable
from daemon.core.retry import Backoff

QUICK = Backoff(3, 0.001, 0.002)


class Failing:
    """Fails so many times, then works."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times, self.error, self.calls = times, error, 0

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return "done"


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", "/somewhere")


def test_one_that_gives_up_tries_as_often_as_it_may() -> None:
    """Every retry is told, and the last failure as given up; then the error comes out."""
    told: list[Retry] = []
    work = Failing(99, full())
    with pytest.raises(OSError, match="No space left"):
        retry(work, QUICK, threading.Event(), give_up=True, failed=told.append)
    assert work.calls == 3
    assert [(one.attempt, one.exhausted, one.given_up) for one in told] == [
        (1, False, False),
        (2, False, False),
        (3, True, True),
    ]
    assert told[0].cause == "No space left on device: /somewhere"


def test_one_that_never_gives_up_goes_on_after_the_pause() -> None:
    """It is exhausted once, and heals whenever the cause is gone."""
    told: list[Retry] = []
    assert retry(Failing(7, full()), QUICK, threading.Event(), give_up=False, failed=told.append) == "done"
    assert [one.exhausted for one in told] == [False, False, True, False, False, False, False]
    assert [one.delay_seconds for one in told] == [0.001, *[0.002] * 6]


def test_a_stop_ends_a_wait_at_once() -> None:
    """However long the delay is."""
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    begun = time.monotonic()
    with pytest.raises(Stopped):
        retry(Failing(99, full()), Backoff(5, 3600.0, 3600.0), stop, give_up=False, failed=lambda _: None)
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    "error",
    [full(), OSError(errno.EROFS, "x"), OSError(errno.EIO, "x"), OSError(errno.EACCES, "x"), sqlite3.OperationalError("locked"),
     BrokenExecutor(), MemoryError(), RuntimeError("can't start new thread")],
)  # fmt: skip
def test_what_the_environment_breaks_may_pass(error: Exception) -> None:
    """Each of these is tried again."""
    assert is_transient(error)
    assert retry(Failing(1, error), QUICK, threading.Event(), give_up=True, failed=lambda _: None) == "done"


@pytest.mark.parametrize(
    "error",
    [ValueError("a mistake of ours"), Unreadable("bad data"), Stopped("asked to"), OSError(errno.EINVAL, "x"),
     sqlite3.OperationalError("Could not decode to UTF-8 column 'raw'")],
)  # fmt: skip
def test_mistakes_data_and_damage_are_not_tried_again(error: Exception) -> None:
    """Trying again would not help, and would hide them."""
    work = Failing(1, error)
    with pytest.raises(type(error)):
        retry(work, QUICK, threading.Event(), give_up=False, failed=lambda _: None)
    assert work.calls == 1


def test_a_damaged_store_ends_a_catch_up_and_pauses_a_daemon() -> None:
    """Somebody may put the file back; a one-shot has nobody to wait for."""
    with pytest.raises(Corruption):
        retry(Failing(1, Corruption("x")), QUICK, threading.Event(), give_up=True, failed=lambda _: None)
    assert retry(Failing(1, Corruption("x")), QUICK, threading.Event(), give_up=False, failed=lambda _: None) == "done"
