"""How a run is asked to end: SIGTERM or SIGINT. The work ends at the next good place; after eight seconds wherever it is.

Wherever is good enough: what was archived or committed is finished at the next start, as after a crash. A handler only sets
events, since it may run between any two instructions; and a long call in C holds it up, so a thread keeps the deadline.
"""

from __future__ import annotations

import os
import signal
import threading
import time

DEADLINE_SECONDS = 8.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def hold() -> None:
    """Keeps signals pending until somebody has said what they mean: `Stop.on_signals`, or `release` for what they always do."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def release() -> None:
    """Lets pending signals through, and those to come."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


class Stop:
    """`asked` is set by the first signal, and `bell` with it: whoever waits for either wakes. A second signal ends the process
    at once."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.wake = threading.Event()
        self._exit_code = 0

    def on_signals(self, exit_code: int) -> None:
        """From now on. `exit_code`: of a run that must be ended at the deadline."""
        self._exit_code = exit_code
        for number in _SIGNALS:
            signal.signal(number, self._handle)
        release()

    def _handle(self, number: int, _frame: object) -> None:
        if self.asked.is_set():
            os._exit(128 + number)
        if (
            os.getpid() != 1
        ):  # which signals without a handler do not reach; elsewhere they are heard during long calls, too
            for other in _SIGNALS:
                signal.signal(other, signal.SIG_DFL)
        self.asked.set()
        self.wake.set()
        threading.Thread(target=self._keep_deadline, name="deadline", daemon=True).start()

    def _keep_deadline(self) -> None:
        time.sleep(DEADLINE_SECONDS)
        os._exit(self._exit_code)
