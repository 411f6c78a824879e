"""How a run is asked to stop: by SIGTERM or SIGINT. Work stops at the next safe point, and after eight seconds anywhere.

Stopping anywhere is safe: the next start finishes what was archived or committed, as after a crash. A signal handler only sets
events, since it may run between any two instructions. A thread keeps the deadline, since a long call in C delays handlers.

SIGHUP asks a daemon to read its configuration again. From a terminal that was closed, it asks to stop.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time

DEADLINE_SECONDS = 8.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HELD = (*_SIGNALS, signal.SIGHUP)


def hold() -> None:
    """Keeps signals pending until `Stop.on_signals` handles them, or `release` restores what they do by default."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)


def release() -> None:
    """Delivers pending and later signals."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _HELD)


class Stop:
    """The first signal sets `asked` and `wake`, so that whoever waits for either goes on. A second signal ends the process."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.wake = threading.Event()
        self.reload_asked = False  # by SIGHUP; whoever reads the configuration again sets it back first
        self._exit_code = 0
        self._terminals: list[int] = []

    def on_signals(self, exit_code: int, *, reloads: bool = False) -> None:
        """Handles signals from now on. `exit_code`: what the process exits with at the deadline. `reloads`: SIGHUP sets
        `reload_asked` and `wake`; otherwise it ends the process, as it does by default."""
        self._exit_code = exit_code
        for number in _SIGNALS:
            signal.signal(number, self._handle)
        if reloads:
            self._terminals = [descriptor for descriptor in range(3) if os.isatty(descriptor)]
            signal.signal(signal.SIGHUP, self._hang_up)
        release()

    def _hang_up(self, number: int, frame: object) -> None:
        if not all(map(os.isatty, self._terminals)):  # the terminal that it ran in was closed
            self._handle(number, frame)
        else:
            self.reload_asked = True
            # The code that is interrupted may hold the lock of the event. Another thread can wait for that, a handler cannot.
            _thread.start_new_thread(self.wake.set, ())

    def _handle(self, number: int, _frame: object) -> None:
        if self.asked.is_set():
            os._exit(128 + number)
        if os.getpid() != 1:  # a second signal then acts during a long C call too; PID 1 gets none without a handler
            for other in _SIGNALS:
                signal.signal(other, signal.SIG_DFL)
        self.asked.set()
        self.wake.set()
        threading.Thread(target=self._keep_deadline, name="deadline", daemon=True).start()

    def _keep_deadline(self) -> None:
        time.sleep(DEADLINE_SECONDS)
        os._exit(self._exit_code)
