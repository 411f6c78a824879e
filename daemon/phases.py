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


def operation_of(error: BaseException) -> str:
    """The phase in which an error arose: the label of its retries."""
    return str(getattr(error, "operation", "publish"))
