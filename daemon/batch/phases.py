"""How long each phase of a batch took, and in which one it failed. The one place where a batch meets a clock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("archive", "parse", "merge", "stage", "commit", "publish")


class Phases:
    """One batch's phases."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        except Exception as error:
            if not hasattr(error, "operation"):
                error.operation = name  # type: ignore[attr-defined]
            raise
        finally:
            self.seconds[name] += time.monotonic() - started


OPERATIONS = ("read_drop", "archive", "parse", "stage", "commit", "publish")  # the labels of retries


def operation_of(error: BaseException) -> str:
    """Which operation is tried again after an error: the phase in which it arose. Merging reads what is published and stages
    what it makes of it, so its errors are those of staging. What arose in no phase was looking at the inbox, or carrying out
    at start-up what is committed."""
    phase = str(getattr(error, "operation", "archive"))
    return "stage" if phase == "merge" else phase
