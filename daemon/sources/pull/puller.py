"""Pulls beside the batches of a daemon: a thread for each source, so a slow one delays no other, and no source has two rounds."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import Protocol

from ...core.errors import OutputReplaced, Stopped
from ...storage.ledger import Ledger
from .outcome import FAILED, Pulled
from .round import PulledSource, pull_round

_JITTER = 0.1  # of `every`
_CHECK_SECONDS = 0.5
_LEAST_FREE_BYTES, _LEAST_FREE_SHARE = 1 << 30, 20  # of the output's file system: whichever is less
_JOIN_SECONDS = 2.0  # a request may be waiting for its answer; nothing is lost if the process ends in the middle


class Hears(Protocol):
    """Is told of rounds, in the thread that ran them."""

    def pulled(self, one: Pulled, now: float) -> None:
        """A round ended at `now`, in seconds since 1970."""


class Gate:
    """Whether a round may begin: not while the loop waits for its environment, nor when the disk is nearly full."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self.is_paused = False

    def why_closed(self) -> str:
        """Why no round may begin; empty where it may."""
        if self.is_paused:
            return "strandline is paused: see its log"
        try:
            found = os.statvfs(self._output)
        except OSError as error:
            return f"the output folder cannot be read: {error.strerror}"
        free, whole = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
        if free < min(_LEAST_FREE_BYTES, whole // _LEAST_FREE_SHARE):
            return f"the disk of the output folder is nearly full: {free >> 20:,} MiB are free"
        return ""


class Puller:
    """The thread of one source. `check`: raises if the output folder is no longer the one that was opened."""

    def __init__(
        self,
        source: PulledSource,
        ledger: Path,
        gate: Gate,
        check: Callable[[], None],
        hears: Hears,
        note: Callable[[str], None],
    ) -> None:
        self._source, self._ledger, self._gate, self._check, self._hears = source, ledger, gate, check, hears
        self._note, self._noted = note, ""
        self._stop = Event()
        self._thread = threading.Thread(target=self._run, name=f"pull-{source.name}", daemon=True)

    def __enter__(self) -> Puller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        wait = self._first_wait()
        while not self._stop.wait(wait):
            if why := self._why_not():
                self._note_once(f"{self._source.name} is not pulled: {why}")
                wait = _CHECK_SECONDS
                continue
            self._noted = ""
            try:
                done = pull_round(self._source, self._ledger, self._stop, check=self._check)
            except (Stopped, OutputReplaced):  # the loop of the batches notices it, too
                return
            except Exception as error:
                done = Pulled(self._source.name, FAILED, error=f"{type(error).__name__}: {error}")
            self._hears.pulled(done, time.time())
            wait = 0.0 if done.has_more else max(self._every(), done.wait_seconds)

    def _first_wait(self) -> float:
        """Until the first round: at once, if the last one of an earlier run is longer ago than `every`."""
        tried_at = Ledger.pull_state_of(self._ledger, self._source.name).tried_at
        if tried_at is None:
            return 0.0
        return min(max(0.0, tried_at / 1e6 + self._source.pull.every - time.time()), self._source.pull.every)

    def _why_not(self) -> str:
        return self._gate.why_closed() or self._why_waiting()

    def _why_waiting(self) -> str:
        """A round begins when the pages of the one before are taken: its cursor may be theirs."""
        try:
            names = self._source.place.open().names()
        except OSError as error:
            return f"its folder cannot be read: {error.strerror}"
        waiting = [name for name in names if self._source.is_page(name)]
        return "pages of the last round are not taken yet" if waiting else ""

    def _note_once(self, text: str) -> None:
        if "not taken yet" not in text and text != self._noted:  # they are usual for a moment
            self._noted = text
            self._note(text)

    def _every(self) -> float:
        return self._source.pull.every * random.uniform(1 - _JITTER, 1 + _JITTER)  # no secret


def pulling(pullers: Sequence[Puller]) -> ExitStack:
    """All of them, until the block ends."""
    stack = ExitStack()
    for one in pullers:
        stack.enter_context(one)
    return stack
