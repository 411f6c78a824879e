"""Simulated crashes in this process: after a number of changes to files and the ledger, no further change is possible.

The n-th durable operation raises, and so does every later one, so that no clean-up code has an effect. The disk is then as after
a killed process. Outside `World.running`, operations work again, and a new run can start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event
from typing import Any
from unittest import mock

from daemon.batch.recovery import recover
from daemon.core.model import ParseContext
from daemon.core.retry import Backoff
from daemon.observe.observer import Observer
from daemon.service import Service, ServiceSettings, Summary
from daemon.sources.inbox import Inbox
from daemon.sources.inboxes import Inboxes
from daemon.sources.source_folder import SourceFolder
from daemon.storage.ledger import Ledger
from tests.support.harness import DAY, open_engine

_OPERATIONS = ("replace", "rename", "link", "unlink", "symlink", "mkdir", "rmdir", "fsync", "ftruncate", "pwrite")
TERMS = ServiceSettings({"default": ParseContext(0, DAY)}, 1000, 256 << 20, 0.0, 0.0, 0.0, Backoff(1, 0.01, 0.01))


class Crash(BaseException):
    """The simulated crash. A BaseException, so that no handler for errors catches it."""


class World:
    """Counts operations and crashes at the `last`-th: before it, or right after it."""

    def __init__(self, last: int, *, after: bool) -> None:
        self.done = 0
        self._last, self._after = last, after

    def _step(self, work: Callable[[], Any]) -> Any:
        self.done += 1
        if self.done < self._last:
            return work()
        if self.done == self._last and self._after:
            work()
        raise Crash

    @contextmanager
    def running(self, owner: Any = Ledger) -> Iterator[None]:
        """Counts changes to files and to the ledger, or to what else has transactions, within the block."""
        with mock.patch.multiple(os, **{name: self._counted(getattr(os, name)) for name in _OPERATIONS}):
            transaction = owner.transaction

            @contextmanager
            def counted(ledger: Any) -> Iterator[None]:
                work = transaction(ledger)
                try:
                    self._step(work.__enter__)
                except Crash as crash:
                    with suppress(BaseException):
                        work.__exit__(type(crash), crash, None)
                    raise
                try:
                    yield
                except BaseException as error:
                    if not work.__exit__(type(error), error, error.__traceback__):
                        raise
                else:
                    try:
                        self._step(lambda: work.__exit__(None, None, None))
                    except Crash as crash:
                        work.__exit__(type(crash), crash, None)  # does nothing if it was already committed
                        raise

            with mock.patch.object(owner, "transaction", counted):
                yield

    def _counted(self, operation: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *arguments, **options: self._step(lambda: operation(*arguments, **options))


def run(root: Path, *observers: Observer) -> Summary:
    """`--once` over root/inbox and root/output, in this thread."""
    with open_engine(root) as engine:
        inbox = Inbox(SourceFolder(root / "inbox"), 0.0, TERMS.backoff)
        service = Service(
            engine, Inboxes([inbox]), TERMS, observers, lambda: recover(engine, [inbox.place], TERMS.contexts)
        )
        return service.once(Event())


def crash_at(root: Path, last: int, *, after: bool) -> bool:
    """One run that crashes. False: it completed before the crash."""
    world = World(last, after=after)
    try:
        with world.running():
            run(root)
    except Crash:
        return True
    return False


def drop(root: Path, name: str, content: bytes, age_seconds: float = 3600) -> None:
    """Puts a drop into root/inbox."""
    (root / "inbox").mkdir(parents=True, exist_ok=True)
    path = root / "inbox" / name
    path.write_bytes(content)
    then = time.time() - age_seconds
    os.utime(path, (then, then))
