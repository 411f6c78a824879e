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


class Stop:
    """`asked` is set by the first signal, and `bell` with it: whoever waits for either wakes. A second signal ends the process
    at once."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.bell = threading.Event()
        self._exit_code = 0

    def on_signals(self, exit_code: int) -> None:
        """From now on. `exit_code`: of a run that must be ended at the deadline."""
        self._exit_code = exit_code
        for number in _SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, number: int, _frame: object) -> None:
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_DFL)
        self.asked.set()
        self.bell.set()
        threading.Thread(target=self._keep_deadline, name="deadline", daemon=True).start()

    def _keep_deadline(self) -> None:
        time.sleep(DEADLINE_SECONDS)
        os._exit(self._exit_code)
