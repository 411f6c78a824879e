"""Measures how long each phase of a batch takes, and records the phase in which it fails. The only clock that a batch reads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

PHASES = ("archive", "parse", "decide", "rewrite", "stage", "commit", "publish")  # see pipeline.py


class Phases:
    """The phases of one batch."""

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
    """The operation to retry after an error: the phase that raised it. An error outside all phases comes from the scan of the
    inbox or from publishing at start-up, and counts as `archive`."""
    return str(getattr(error, "operation", "archive"))
