"""How long each phase of a batch took, and in which one it failed. The only clock that a batch reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("archive", "parse", "decide", "rewrite", "stage", "commit", "publish")  # see pipeline.py


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


OPERATIONS = ("read_drop", *PHASES)  # the labels of retries


def operation_of(error: BaseException) -> str:
    """Which operation is tried again after an error: the phase in which it arose. What arose in no phase was a look at the inbox,
    or at start-up the publishing of what is committed."""
    return str(getattr(error, "operation", "archive"))
