"""Pulls beside the batches of a daemon: a thread for each source, so a slow one delays no other, and no source has two rounds.

A thread whose request waits for its answer is not waited for. After the configuration was read again, the next thread of the same
source waits for it instead.
"""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event
from typing import Protocol

from ...core.errors import OutputReplaced, Stopped, cause_of, raised_in
from ...storage.ledger import Ledger
from ...storage.pause import paused
from .outcome import FAILED, Pulled
from .round import PulledSource, pull_round

_JITTER = 0.1  # of `every`
_CHECK_SECONDS = 0.5
_WAITING_SECONDS = 60.0  # for the pages of a round to be taken
_LONGEST_WAIT_SECONDS = 86_400.0
_LEAST_FREE_BYTES, _LEAST_FREE_SHARE = 1 << 30, 20  # of the output's file system: whichever is less
_JOIN_SECONDS = 2.0  # a request may be waiting for its answer; nothing is lost if the process ends in the middle
_turns: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)  # by source: held by the thread whose turn it is


class Hears(Protocol):
    """Is told of rounds, in the thread that ran them."""

    def pulled(self, one: Pulled, now: float) -> None:
        """A round ended at `now`, in seconds since 1970."""


class Gate:
    """Whether a round may begin: not while the loop waits for its environment or somebody paused the output, nor when the disk is
    nearly full."""

    def __init__(self, output: Path) -> None:
        self._output = output
        self.is_paused = False

    def why_closed(self) -> str:
        """Why no round may begin; empty where it may."""
        if self.is_paused:
            return "strandline is paused: see its log"
        if (pause := paused(self._output)) is not None:
            return f"strandline is {pause}"
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
        self._note, self._told = note, ""
        self._waits_since = 0.0  # for pages to be taken
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
            try:
                with _turns[self._source.name]:
                    wait = 0.0 if self._stop.is_set() else self._turn()
            except (Stopped, OutputReplaced):  # the loop of the batches notices it, too
                return
            except Exception as error:  # of the ledger or of whoever hears: the thread goes on
                with suppress(Exception):
                    failed = Pulled(
                        self._source.name, FAILED, error=f"an error in {raised_in(error)}: {cause_of(error)}"
                    )
                    self._hears.pulled(failed, time.time())
                wait = self._every()

    def _turn(self) -> float:
        """A round, if one may begin; returns how long to wait for the next turn."""
        why = self._gate.why_closed()
        if why:
            self._waits_since = 0.0
        if not why and (waiting := self._waiting()):
            self._waits_since = self._waits_since or time.monotonic()
            if time.monotonic() - self._waits_since < _WAITING_SECONDS:  # usual for a moment
                return _CHECK_SECONDS
            why = f"pages of the last round are still in the inbox, such as {waiting[0]}"
        if why:
            self._tell_once(why)
            return _CHECK_SECONDS
        self._waits_since, self._told = 0.0, ""
        done = pull_round(self._source, self._ledger, self._stop, check=self._check)
        self._hears.pulled(done, time.time())
        return max(self._every(), min(done.wait_seconds, _LONGEST_WAIT_SECONDS))

    def _first_wait(self) -> float:
        """Until the first round: at once, if the last one of an earlier run is longer ago than `every`."""
        try:
            tried_at = Ledger.pull_state_of(self._ledger, self._source.name).tried_at
        except (OSError, sqlite3.Error):
            return 0.0
        if tried_at is None:
            return 0.0
        return min(max(0.0, tried_at / 1e6 + self._source.pull.every - time.time()), self._source.pull.every)

    def _waiting(self) -> list[str]:
        """The pages of the last round that are not taken yet. A round begins after that: its cursor may be theirs."""
        found = self._source.place.open().entries()
        return sorted(
            name for name, seen in found
            if self._source.is_page(name) and isinstance(seen, os.stat_result) and stat.S_ISREG(seen.st_mode)
        )  # fmt: skip

    def _tell_once(self, why: str) -> None:
        """Tells why no round begins: the log, and for a page that is not taken, the ledger, which `status` shows."""
        if why == self._told:
            return
        self._told = why
        self._note(f"{self._source.name} is not pulled: {why}")
        if self._waits_since:
            now = time.time()
            state = Ledger.pull_state_of(self._ledger, self._source.name)
            Ledger.end_pull(self._ledger, self._source.name, int(now * 1_000_000), why, None, state.put_off_until)
            self._hears.pulled(Pulled(self._source.name, FAILED, error=why), now)

    def _every(self) -> float:
        return self._source.pull.every * random.uniform(1 - _JITTER, 1 + _JITTER)


def pulling(pullers: Sequence[Puller]) -> ExitStack:
    """All of them, until the block ends."""
    stack = ExitStack()
    for one in pullers:
        stack.enter_context(one)
    return stack
