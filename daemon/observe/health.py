"""Health: whether the loop runs (healthy), and whether drops can become partitions now (ready). Says why not.

A supervisor restarts a process that is not healthy. An instance is not ready while it finishes the work of an earlier run, while
the inbox cannot be watched, while the environment fails, and while somebody paused it; a restart would not help then.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..batch.retries import Retry
from ..storage.pause import Pause
from .log import blocked_seconds
from .observer import Observer

_PROBE = ".ready"
_BLOCKED_SECONDS = 2.0
_GRACE_SECONDS = 120.0  # the longest single step: the copy of a large file, a large commit


class Health(Observer):
    """`rest_seconds`: how long the loop may wait for an event or after a failure. `watching`: whether new drops are noticed.
    `began`: called once, when the instance is first ready for drops. `pause`: the pause that somebody made, if any."""

    def __init__(
        self,
        staging: Path,
        rest_seconds: float,
        watching: Callable[[], bool],
        began: Callable[[], None],
        pause: Callable[[], Pause | None] = lambda: None,
    ) -> None:
        self._staging, self._watching, self._began, self._pause = staging, watching, began, pause
        self.rest_seconds = rest_seconds
        self._turned = time.monotonic()
        self._recovered = False
        self._failing: Retry | None = None
        self._missing = 0  # published dates and dimensions

    def turn(self) -> None:
        """The loop runs. Called wherever it checks whether to stop."""
        self._turned = time.monotonic()

    def scanned(self, pending: int, oldest: float | None, unfinished: int) -> None:
        self.turn()
        if not self._recovered:
            self._recovered = True
            self._began()

    def failed(self, retry: Retry) -> None:
        self.turn()
        if retry.exhausted or self._failing:
            self._failing = retry

    def missing(self, published: int) -> None:
        self.turn()
        self._missing = published

    def recovered(self) -> None:
        self._failing = None

    def why_unhealthy(self) -> list[str]:
        """Empty where the loop runs. May be called from any thread."""
        still = time.monotonic() - self._turned
        if still <= self.rest_seconds + _GRACE_SECONDS:
            return []
        return [
            f"the loop has not run for {still:.0f} s: it hangs, or one step takes very long. A restart loses nothing"
        ]

    def why_not_ready(self) -> list[str]:
        """Empty where drops can be applied now. May be called from any thread."""
        failing = self._failing
        found = self.why_unhealthy()
        if not self._recovered:
            found.append("starting: finishing what an earlier run left")
        elif not self._watching():
            found.append("the inbox cannot be watched; the log says why. Each rescan tries again")
        if (pause := self._pause()) is not None:
            found.append(f"{pause}: no drop is taken until `strandline resume`")
        if failing is not None:
            found.append(f"paused: {failing.operation} failed ({failing.cause}). Work goes on once the cause is gone")
        if (blocked := blocked_seconds()) > _BLOCKED_SECONDS:
            found.append(
                f"the log could not be written for {blocked:.0f} s, and everything waits for it: whatever reads it has stalled"
            )
        if self._missing or not self._staging.with_name("curated").is_dir():
            found.append("published files are missing; they are made anew from raw: see the log")
        if trouble := self._why_not_writable():
            found.append(f"cannot write to {self._staging} ({trouble})")
        return found

    def _why_not_writable(self) -> str:
        """Tries with a small file, since permissions and free bytes say less. Its name is unique, and may vanish: threads ask at
        the same time, and the end of a batch cleans the staging folder."""
        probe = self._staging / f"{_PROBE}-{os.getpid()}-{threading.get_ident()}"
        try:
            probe.write_bytes(b"." * 4096)
            probe.unlink(missing_ok=True)
        except OSError as error:
            return error.strerror or str(error)
        return ""
