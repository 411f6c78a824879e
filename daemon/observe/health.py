"""Whether this instance is well: does its loop turn (healthy), and can drops become partitions now (ready). Says why not.

Healthy is a question for whoever restarts a process that hangs. Ready is one for an operator or an orchestrator: it is red
while an earlier run's work is being finished, while events cannot be heard, and while the environment fails; restarting would
not help.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..batch.retries import Retry
from .observer import Observer

_PROBE = ".ready"
_GRACE_SECONDS = 120.0  # one step without a look around: a large file's copy, a large commit


class Health(Observer):
    """`rest_seconds`: how long the loop may wait for an event or after a failure. `watching`: whether new drops can be
    noticed. `began`: called once, when the instance first is ready for drops."""

    def __init__(
        self, staging: Path, rest_seconds: float, watching: Callable[[], bool], began: Callable[[], None]
    ) -> None:
        self._staging, self._watching, self._began = staging, watching, began
        self._patience_seconds = rest_seconds + _GRACE_SECONDS
        self._turned = time.monotonic()
        self._recovered = False
        self._failing: Retry | None = None

    def turn(self) -> None:
        """The loop is alive. Called wherever it looks whether it is to stop."""
        self._turned = time.monotonic()

    def looked(self, pending: int, oldest: float | None, unfinished: int) -> None:
        self.turn()
        if not self._recovered:
            self._recovered = True
            self._began()

    def failed(self, retry: Retry) -> None:
        self.turn()
        if retry.exhausted or self._failing:
            self._failing = retry

    def recovered(self) -> None:
        self._failing = None

    def why_unhealthy(self) -> list[str]:
        """Empty where all is well. May be called from any thread."""
        still = time.monotonic() - self._turned
        if still <= self._patience_seconds:
            return []
        return [
            f"the loop has not turned for {still:.0f} s; it hangs, or one step takes very long. A restart loses nothing"
        ]

    def why_not_ready(self) -> list[str]:
        """The same, of being able to apply drops now."""
        failing = self._failing
        found = self.why_unhealthy()
        if not self._recovered:
            found.append("starting: what an earlier run left is being finished first")
        elif not self._watching():
            found.append("the inbox cannot be watched; the log says why. It is tried again at each rescan")
        if failing is not None:
            found.append(f"paused: {failing.operation} failed ({failing.cause}). It goes on once the cause is gone")
        if trouble := self._why_not_writable():
            found.append(f"nothing can be written to {self._staging} ({trouble})")
        return found

    def _why_not_writable(self) -> str:
        """Tried with a small file: rights and free bytes say less. Several may ask at once, and the end of a batch cleans
        staging: neither must take the file from under another's feet."""
        probe = self._staging / f"{_PROBE}-{os.getpid()}-{threading.get_ident()}"
        try:
            probe.write_bytes(b"." * 4096)
            probe.unlink(missing_ok=True)
        except OSError as error:
            return error.strerror or str(error)
        return ""
