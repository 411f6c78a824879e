"""The loop: drain the inbox, wait, drain again. `--once` is the same code: drain, and do not wait.

Draining means: look, take what is settled in batches, apply, look again, until nothing settled is left. Scanning decides
what there is; anything else (an event, the time) only decides when to look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol, TypeVar

from . import tasks
from .core.entries import Drop
from .core.errors import Stopped
from .core.model import DropOutcome, Judge
from .inbox import Arrival, Inbox
from .pipeline import BatchOutcome, House, catch_up, resume, take

_T = TypeVar("_T")
_LOOK_SECONDS = 0.1  # how often a drop that is not settled yet is looked at


class Observer(Protocol):
    """What wants to know of the service's work: the log, and whatever counts."""

    def applied(self, outcome: BatchOutcome, seconds: float) -> None: ...
    def waiting(self, name: str, attempt: int) -> None: ...
    def refused(self, name: str, cause: str) -> None: ...
    def strange(self, name: str) -> None: ...


@dataclass(frozen=True)
class Terms:
    """What the service is told: how drops are judged, how large a batch may be, how long to wait."""

    tolerance: int  # microseconds
    records_path: str
    max_drops: int
    max_bytes: int
    rescan_seconds: float
    patience_seconds: float  # --once: how long to wait for drops that are not settled
    since: int | None = None  # only orders from here on are applied


@dataclass
class Summary:
    """What a run did, for the exit code and the last line."""

    applied: int = 0
    duplicates: int = 0
    quarantined: int = 0
    left: list[str] = field(default_factory=list)
    stopped: bool = False  # before everything was applied

    def add(self, outcome: BatchOutcome) -> None:
        outcomes = [result.outcome for result in outcome.results if result.before is None]
        self.applied += outcomes.count(DropOutcome.APPLIED)
        self.duplicates += outcomes.count(DropOutcome.DUPLICATE)
        self.quarantined += outcomes.count(DropOutcome.QUARANTINED)


class Service:
    """One running instance over one inbox and one output folder."""

    def __init__(self, house: House, inbox: Inbox, terms: Terms, observer: Observer) -> None:
        self._house, self._inbox, self._terms, self._observer = house, inbox, terms, observer
        self.summary = Summary()
        self._refused: dict[str, str] = {}

    def run(self, uncommitted: Sequence[Drop], *, once: bool, stop: Event) -> Summary:
        """Applies what an earlier run had archived, then drains the inbox: once, or again and again until `stop`."""
        return self._until_stopped(stop, lambda: self._work(uncommitted, once, stop))

    def resume(self, uncommitted: Sequence[Drop], stop: Event) -> Summary:
        """Applies what an earlier run had archived, and no more."""
        return self._until_stopped(stop, lambda: self._resume(uncommitted, stop))

    def _work(self, uncommitted: Sequence[Drop], once: bool, stop: Event) -> None:
        self._resume(uncommitted, stop)
        self._catch_up(stop)
        self._drain(stop, patience_seconds=self._terms.patience_seconds if once else 0.0)
        while not once:
            self._idle(stop)
            self._drain(stop, patience_seconds=0.0)

    def _until_stopped(self, stop: Event, work: Callable[[], None]) -> Summary:
        try:
            work()
        except Stopped:
            self.summary.stopped = True
        except (BrokenExecutor, EOFError, ConnectionError):
            if not stop.is_set():
                raise
            self.summary.stopped = (
                True  # the signal went to the whole group, and reached a worker that was just starting
            )
        return self.summary

    def _resume(self, uncommitted: Sequence[Drop], stop: Event) -> None:
        for drops in batches(uncommitted, self._terms, lambda drop: drop.size_bytes):
            _end_if(stop)
            started = time.monotonic()
            self._report(resume(self._house, drops, time.time_ns() // 1000), started)

    def _catch_up(self, stop: Event) -> None:
        """Reads archived drops once more that hold more since `--since` than was applied of them."""
        if (since := self._terms.since) is None:
            return
        found = self._house.ledger.read_since(since)
        for results in batches(found, self._terms, lambda result: result.drop.size_bytes):
            _end_if(stop)
            started = time.monotonic()
            self._report(catch_up(self._house, results, since, time.time_ns() // 1000), started)

    def _idle(self, stop: Event) -> None:
        """Tidies the order index, then waits."""
        while not stop.is_set() and self._house.ledger.compact():
            pass
        stop.wait(self._terms.rescan_seconds)

    def _drain(self, stop: Event, patience_seconds: float) -> None:
        """Applies all that is settled. Waits for what is not, as long as patience goes, counted from the last that was."""
        deadline = time.monotonic() + patience_seconds
        while True:
            _end_if(stop)
            look = self._inbox.look(time.time())
            present = {*look.waiting, *(arrival.name for arrival in look.settled)}
            self._refused = {name: cause for name, cause in self._refused.items() if name in present}
            for name in look.strange:
                self._observer.strange(name)
            for name, attempt in look.retried:
                self._observer.waiting(name, attempt)
            taken = 0
            for arrivals in batches(look.settled, self._terms, lambda arrival: arrival.size_bytes):
                _end_if(stop)
                taken += self._take(arrivals)
            self.summary.left = sorted({*look.waiting, *self._refused})
            if taken:
                deadline = time.monotonic() + patience_seconds
            elif not self.summary.left or time.monotonic() >= deadline:
                return
            else:
                stop.wait(_LOOK_SECONDS)

    def _take(self, arrivals: Sequence[Arrival]) -> int:
        """One batch. Returns how many drops it took; what could not be taken stays for a while."""
        tasks.warm(self._house.reader.executor, sum(arrival.size_bytes for arrival in arrivals))
        started, now = time.monotonic(), time.time_ns() // 1000
        judge = Judge(now, self._terms.tolerance, self._terms.records_path, self._terms.since)
        outcome, refused = take(self._house, arrivals, judge, now)
        for arrival in arrivals:
            self._note(arrival, next((one.cause for one in refused if one.name == arrival.name), None))
        if outcome is not None:
            self._report(outcome, started)
        return len(outcome.results) if outcome else 0

    def _note(self, arrival: Arrival, cause: str | None) -> None:
        """Remembers why a drop could not be taken; each cause is reported once."""
        if cause is None:
            self._refused.pop(arrival.name, None)
            return
        self._inbox.put_off(arrival, time.time())
        if self._refused.get(arrival.name) != cause:
            self._refused[arrival.name] = cause
            self._observer.refused(arrival.name, cause)

    def _report(self, outcome: BatchOutcome, started: float) -> None:
        self.summary.add(outcome)
        self._observer.applied(outcome, time.monotonic() - started)


def _end_if(stop: Event) -> None:
    if stop.is_set():
        raise Stopped("stopped between two batches")


def batches(things: Sequence[_T], terms: Terms, size_bytes: Callable[[_T], int]) -> Iterator[Sequence[_T]]:
    """Divides what is to be applied, in order, into batches of at most so many drops and bytes."""
    batch: list[_T] = []
    room = terms.max_bytes
    for thing in things:
        if batch and (len(batch) >= terms.max_drops or size_bytes(thing) > room):
            yield batch
            batch, room = [], terms.max_bytes
        batch.append(thing)
        room -= size_bytes(thing)
    if batch:
        yield batch
