"""Ctrl-C and SIGTERM while a query runs. A Python handler does not run during a call of DuckDB, so queries run in a thread, and
the main thread waits for them, or for a signal."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...core.errors import Stopped

DEADLINE_SECONDS = 8.0  # after a signal: whatever runs then is left behind
_SLICE_SECONDS = 0.05
_KICKS, _KICK_SECONDS = 40, 0.1
_SLOW_SECONDS = 2.0  # until it is said that a query is running


class Terminated(KeyboardInterrupt):
    """SIGTERM, as an exception."""


class Stuck(Exception):
    """A query that a signal did not end in time."""


class Signals:
    """Handles both signals from now on. `release`: delivers those that came before."""

    def __init__(self, release: Callable[[], None]) -> None:
        self.terminated = False
        self._asked = False
        self._raises = False
        self._has_raised = False
        signal.signal(signal.SIGINT, self._handle)
        signal.signal(signal.SIGTERM, self._handle)
        _wake_main_thread()
        release()

    def _handle(self, number: int, _frame: object) -> None:
        self._asked = True
        self.terminated = self.terminated or number == signal.SIGTERM
        if self._raises:
            self._raise()

    def _raise(self) -> None:
        self._asked, self._has_raised = False, True
        raise Terminated if self.terminated else KeyboardInterrupt

    @contextmanager
    def raising(self) -> Iterator[None]:
        """Signals raise KeyboardInterrupt in the block, also one that came just before. For input and output, which may wait.
        DuckDB makes an error of its own of one that is raised while it reads."""
        self._raises, self._has_raised = True, False
        try:
            if self._asked:
                self._raise()
            yield
        except Exception as error:
            if not self._has_raised:
                raise
            raise (Terminated if self.terminated else KeyboardInterrupt) from error
        finally:
            self._raises = False

    def run(self, work: Callable[[], Any], stop: Callable[[], None], *, tell: bool) -> Any:
        """The result of `work`, which runs in a thread. After a signal, calls `stop` until it has ended; raises Terminated or
        KeyboardInterrupt then. `tell`: whether to say on standard error that it takes long."""
        done = threading.Event()
        found: list[Any] = []
        errors: list[BaseException] = []

        def runs() -> None:
            try:
                found.append(work())
            except BaseException as error:
                errors.append(error)
            finally:
                done.set()

        threading.Thread(target=runs, name="query", daemon=True).start()
        began, asked_at = time.monotonic(), None
        with _telling(tell, began) as told:
            while not done.wait(_SLICE_SECONDS):
                told()
                if self._asked:
                    asked_at = asked_at or time.monotonic()
                    if time.monotonic() - asked_at > DEADLINE_SECONDS:
                        raise Stuck
                    stop()
        if errors and isinstance(errors[0], Stopped):
            self._raise()
        if errors:
            raise errors[0]
        return found[0]


def _wake_main_thread() -> None:
    """Interrupts the main thread's system call after each signal, until it must have noticed. A signal that comes between
    Python's last look at signals and a call that waits (for a key, or for the reader of a pipe) is noticed when that returns."""
    noticed, told = os.pipe()
    os.set_blocking(told, False)
    signal.signal(signal.SIGUSR1, lambda *_: None)  # only to interrupt
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    main = threading.main_thread().ident or 0

    def wake() -> None:
        while numbers := os.read(noticed, 512):
            if {signal.SIGINT, signal.SIGTERM} & set(numbers):
                for _ in range(_KICKS):
                    time.sleep(_KICK_SECONDS)
                    signal.pthread_kill(main, signal.SIGUSR1)

    threading.Thread(target=wake, name="signals", daemon=True).start()


@contextmanager
def _telling(tell: bool, began: float) -> Iterator[Callable[[], None]]:
    """A line that counts the seconds, and is removed at the end."""
    said = 0

    def told() -> None:
        nonlocal said
        seconds = int(time.monotonic() - began)
        if tell and seconds >= _SLOW_SECONDS and seconds != said:
            said = seconds
            print(f"\rrunning for {seconds} s; Ctrl-C ends the query", end="", file=sys.stderr, flush=True)

    try:
        yield told
    finally:
        if said:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def leave(code: int) -> None:
    """Ends the process beside a thread that does not end."""
    sys.stderr.flush()
    os._exit(code)
