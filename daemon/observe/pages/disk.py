"""The disk by part. To list every file may take minutes, so that is done in a thread of its own, at intervals, and only when
somebody asks; a request is answered with what was found last.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...core.errors import StrandlineError
from ...storage.receipts import instant_text
from .lookup_pages import LookUp, NotYet
from .query import Query

_FRESH_SECONDS = 60.0
_REST = 9  # a tenth of the time is spent on it at most
_PATIENCE_SECONDS = 0.5  # a small output is measured within the request
_NICENESS = 19


class DiskPage:
    """`measure`: the usage as JSON values, see operate.usage."""

    def __init__(self, measure: Callable[[], dict[str, Any]], fresh_seconds: float = _FRESH_SECONDS) -> None:
        self._measure, self._fresh = measure, fresh_seconds
        self._lock = threading.Lock()
        self._known: dict[str, Any] | None = None
        self._error = ""
        self._until = float("-inf")  # by time.monotonic()
        self._running: threading.Thread | None = None

    @property
    def look_ups(self) -> list[LookUp]:
        return [LookUp("/disk", "disk", (), self._look)]

    def _look(self, _: Query) -> dict[str, Any]:
        with self._lock:
            if self._running is None and time.monotonic() > self._until:
                self._running = threading.Thread(target=self._run, name="disk", daemon=True)
                self._running.start()
            running = self._running
        if running is not None and self._known is None:
            running.join(_PATIENCE_SECONDS)
        if self._error:
            raise NotYet(f"the files could not be listed: {self._error}")
        if self._known is None:
            raise NotYet("the files are being listed, which takes a while; load the page again")
        return self._known

    def _run(self) -> None:
        with suppress(OSError):  # of this thread alone, on Linux
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        began = time.monotonic()
        try:
            self._known = {"measured_at": instant_text(time.time_ns() // 1000)} | self._measure()
            self._error = ""
        except (OSError, StrandlineError, sqlite3.Error) as error:
            self._error = str(error)
        finally:
            with self._lock:
                self._until = time.monotonic() + max(self._fresh, _REST * (time.monotonic() - began))
                self._running = None
