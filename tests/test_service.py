"""The loop with a real watcher: what is heard is used, whenever it is heard; and what comes together is taken together."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from sqlite3 import OperationalError
from threading import Event
from typing import Any
from unittest.mock import Mock

import pytest

from daemon import service as loop
from daemon.batch.outcome import BatchOutcome
from daemon.batch.recovery import recover
from daemon.core.model import ParseContext
from daemon.core.retry import Backoff
from daemon.observe.observer import Observer
from daemon.service import Service, Summary, linger
from daemon.sources.inbox import Inbox
from daemon.sources.inboxes import Inboxes
from daemon.sources.source_folder import SourceFolder
from daemon.sources.watcher import Watcher
from daemon.sources.watchers import Watchers
from tests.support.command import order
from tests.support.crash import TERMS, drop
from tests.support.harness import DAY, open_engine

NEVER_SECONDS = 3600.0  # what has to wait so long would hang the test: it has a limit
LIMIT_SECONDS = 60.0


class StopAfter(Observer):
    """Ends the loop when so many drops are applied, or the limit is over."""

    def __init__(self, drops: int, bell: Event, stop: Event) -> None:
        self._drops, self._bell, self._stop = drops, bell, stop
        self._end = time.monotonic() + LIMIT_SECONDS

    def applied(self, outcome: BatchOutcome, latencies: Sequence[float]) -> None:
        self._drops -= len(outcome.results)
        if self._drops <= 0:
            self._ring()

    def scanned(self, pending: int, oldest: float | None, unfinished: int) -> None:
        if time.monotonic() > self._end:
            self._ring()

    def _ring(self) -> None:
        self._stop.set()
        self._bell.set()


def watched(root: Path, drops: int, first: Callable[[Watcher], None]) -> Summary:
    """Watches root/inbox, where nothing ever settles by time, until so many drops are applied. `first` is called in the loop,
    once, when the watch is set."""
    bell, stop = Event(), Event()
    with open_engine(root) as engine:
        watcher = Watcher(SourceFolder(root / "inbox"), "native", NEVER_SECONDS, bell.set)

        def begin() -> list[Any]:
            first(watcher)
            return list(recover(engine, [SourceFolder(root / "inbox")], {"default": ParseContext(0, DAY)}))

        inbox = Inbox(SourceFolder(root / "inbox"), NEVER_SECONDS, TERMS.backoff)
        return Service(engine, Inboxes([inbox]), TERMS, [StopAfter(drops, bell, stop)], begin).watch(
            Watchers([watcher]), bell, stop
        )


def written_and_heard(watcher: Watcher, path: Path) -> None:
    """Writes a drop, and waits until its closing was heard."""
    path.write_bytes(json.dumps([order(len(path.name))]).encode())
    end = time.monotonic() + LIMIT_SECONDS
    while path.name not in watcher._handler._closed:
        assert time.monotonic() < end, "its closing was never heard"
        time.sleep(0.001)


def test_a_closing_that_is_heard_while_a_batch_runs_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is heard before anybody asks for it but the count of unheard drops; the next look takes its drop all the same."""
    watchers: list[Watcher] = []
    take = loop.take

    def take_while_another_comes(*arguments: Any) -> Any:
        taken = take(*arguments)
        if watchers:
            written_and_heard(watchers.pop(), tmp_path / "inbox" / "later.json")
        return taken

    def first(watcher: Watcher) -> None:
        watchers.append(watcher)
        written_and_heard(watcher, tmp_path / "inbox" / "a.json")

    monkeypatch.setattr(loop, "take", take_while_another_comes)
    assert watched(tmp_path, 2, first).applied == 2


def test_a_closing_that_was_heard_before_a_look_that_failed_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder cannot be read for a moment: the look that follows knows what was heard for the first one."""
    scan, failures = Inbox._list, [OSError(errno.EIO, "Input/output error")]

    def scan_that_fails_once(inbox: Inbox, *arguments: Any) -> Any:
        if failures:
            raise failures.pop()
        return scan(inbox, *arguments)

    monkeypatch.setattr(Inbox, "_list", scan_that_fails_once)
    assert watched(tmp_path, 1, lambda w: _once(w, tmp_path / "inbox" / "a.json")).applied == 1


def _once(watcher: Watcher, path: Path) -> None:
    """`first` is called again after a failure."""
    if not path.exists():
        written_and_heard(watcher, path)


def test_a_closing_that_comes_after_the_look_that_saw_the_whole_file_counts_at_the_next(tmp_path: Path) -> None:
    """The creation woke the loop, and the file was whole by then: it waits for its closing, and for nothing else."""
    inbox = Inbox(SourceFolder(tmp_path), NEVER_SECONDS, Backoff(1, 0.1, 0.1))
    (tmp_path / "a.json").write_text("[]")
    now = time.time()
    assert inbox.scan(now).waiting == ["a.json"]
    assert [arrival.name for arrival in inbox.scan(now, {"a.json"}).settled] == ["a.json"]


def test_a_closing_is_remembered_while_another_writer_holds_the_file(tmp_path: Path) -> None:
    """One closed it and another has it open: it is taken when that one is done, whether or not it wrote anything."""
    inbox = Inbox(SourceFolder(tmp_path), NEVER_SECONDS, Backoff(1, 0.1, 0.1))
    path, now = tmp_path / "a.json", time.time()
    path.write_text("[]")
    with open(path, "r+b"):
        if not inbox.scan(now, {"a.json"}).waiting:
            pytest.skip("no leases here")
    assert [arrival.name for arrival in inbox.scan(now).settled] == ["a.json"]


# -------------------------------------------------------------------------------------------------------------- the linger


class Rings(Event):
    """A bell that rings so often, and is silent then. Time passes only as it is waited for: nobody really waits."""

    def __init__(self, times: int, clock: list[float]) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._times, self._clock = times, clock

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        rings = len(self.waits) <= self._times
        self._clock[0] += self.waits[-1] / 2 if rings else self.waits[-1]
        return rings


@pytest.mark.parametrize(("rings", "waited"), [(0, 0.1), (3, 0.25), (1000, 1.0)])
def test_drops_gather_while_more_keep_coming(monkeypatch: pytest.MonkeyPatch, rings: int, waited: float) -> None:
    """One that comes alone waits for a tenth of linger_seconds; a stream is lingered until it pauses, or for all of it."""
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    linger(Rings(rings, clock), Event(), 1.0)
    assert clock[0] == pytest.approx(waited, abs=0.001)


def test_without_a_linger_nothing_waits_and_a_stop_ends_it() -> None:
    """0 is no wait at all; after a stop, the bell that it rang keeps nobody."""
    bell, stop = Rings(1000, [0.0]), Event()
    linger(bell, stop, 0.0)
    stop.set()
    linger(bell, stop, NEVER_SECONDS)
    assert bell.waits == []


# --------------------------------------------------------------------------------------------------------- the order index


class Notes(Observer):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def noted(self, note: str) -> None:
        self.notes.append(note)


def test_a_merge_of_the_index_that_fails_is_said_once_and_holds_up_no_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs room on the disk, and can wait."""
    notes = Notes()
    with open_engine(tmp_path) as engine:
        monkeypatch.setattr(engine.ledger, "compact", Mock(side_effect=OperationalError("database or disk is full")))
        inbox = Inbox(SourceFolder(tmp_path / "inbox"), 0.0, TERMS.backoff)
        for number in range(3):
            drop(tmp_path, f"{number}.json", json.dumps([order(number)]).encode())
        service = Service(engine, Inboxes([inbox]), replace(TERMS, max_drops=1), [notes], lambda: [])
        assert service.once(Event()).applied == 3
    assert len(notes.notes) == 1 and "disk is full" in notes.notes[0]
