"""The loop: drain the inbox, wait, drain again. `--once` is the same code: drain, and do not wait.

Draining means: look, take what is settled in batches, apply, look again, until nothing settled is left. Scanning decides
what there is; anything else (an event, the time) only decides when to look. Where the environment fails, what an earlier try
left is finished first, as at start-up, and then draining goes on.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import TypeVar

from .batch.engine import Engine
from .batch.outcome import BatchOutcome
from .batch.pipeline import catch_up, resume, take
from .batch.retries import Retry, persist
from .core.entries import Drop
from .core.errors import OutputReplaced, Stopped
from .core.model import DropOutcome, ParseContext
from .core.retry import Backoff
from .execution.process import give_back_memory
from .execution.workers import warm
from .observe.observer import Observer
from .sources.inbox import Arrival, Inbox, Look
from .sources.watcher import Watcher
from .storage.order_index import MANY_RUNS

_T = TypeVar("_T")
_LOOK_SECONDS = 0.1  # how often a drop that is not settled yet is looked at


@dataclass(frozen=True)
class Terms:
    """What the service is told: how drops are judged, how large a batch may be, how long to wait."""

    tolerance: int  # microseconds
    records_path: str
    max_drops: int
    max_bytes: int
    linger_seconds: float
    patience_seconds: float  # --once: how long to wait for drops that are not settled
    foreign_patience_seconds: float  # the same, where nobody can tell whether a program has them open
    backoff: Backoff  # for what the environment breaks
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

    def __init__(
        self,
        engine: Engine,
        inbox: Inbox,
        terms: Terms,
        observers: Sequence[Observer],
        recover: Callable[[], Sequence[Drop]],
    ) -> None:
        self._engine, self._inbox, self._terms, self._observers = engine, inbox, terms, observers
        self._recover = recover
        self._began = time.time()
        self._is_recovered = False
        self.summary = Summary()
        self._refused: dict[str, str] = {}
        self._pending: set[str] = set()  # what waits in the inbox, and may be taken later
        self._heard: set[str] = set()
        self._closed: set[str] = set()  # heard of as closed or moved in, and not looked at since
        self._untidy = ""  # why the order index could not be tidied when it was last tried
        self._never_awaited: set[str] = set()  # was there before the watch was set

    def once(self, stop: Event) -> Summary:
        """Finishes what an earlier run left, applies all that is in the inbox, and returns."""

        def work() -> None:
            self._drained(stop, self._terms.patience_seconds, give_up=True)
            self._tidy(stop.is_set, MANY_RUNS)

        return self._until_stopped(stop, work)

    def watch(self, watcher: Watcher, wake: Event, stop: Event) -> Summary:
        """The same, and again whenever `wake` rings or time has come, until `stop`, which must ring the wake too."""
        return self._until_stopped(stop, lambda: self._go_on(watcher, wake, stop))

    def resume(self, stop: Event) -> Summary:
        """Finishes what an earlier run left, and no more."""
        return self._until_stopped(stop, lambda: self._begin(stop))

    def _until_stopped(self, stop: Event, work: Callable[[], None]) -> Summary:
        try:
            work()
        except Stopped:
            self.summary.stopped = True
        except (BrokenExecutor, EOFError, ConnectionError):
            if not stop.is_set():
                raise
            self.summary.stopped = True  # the signal reached a worker that was just starting, too
        except OutputReplaced:
            self._engine.taking.give_back_kept()
            raise
        return self.summary

    def _go_on(self, watcher: Watcher, wake: Event, stop: Event) -> None:
        self._listen(watcher)  # before the first look: what comes between them rings the wake
        try:
            while True:
                self._drained(stop, 0.0, give_up=False, watcher=watcher)
                self._idle(watcher, wake, stop)
        finally:
            watcher.stop()

    def _drained(self, stop: Event, patience_seconds: float, *, give_up: bool, watcher: Watcher | None = None) -> None:
        """Drains the inbox, however often the environment fails meanwhile."""

        def work() -> None:
            if watcher is not None:
                self._listen(watcher)
            self._begin(stop)
            self._drain(stop, patience_seconds, watcher)

        def failed(retry: Retry) -> None:
            self._is_recovered = False
            self._tell(lambda one: one.failed(retry))

        persist(work, self._terms.backoff, stop, give_up=give_up, failed=failed)
        self._tell(lambda one: one.recovered())

    def _listen(self, watcher: Watcher) -> None:
        """Makes sure that events can come. What is there when the watch is set was never to be announced by one."""
        watch = watcher.watch
        for note in watcher.check():
            self._note(note)
        if watcher.watch != watch:
            self._never_awaited = self._inbox.names()

    def _begin(self, stop: Event) -> None:
        """What a run begins with, and what follows after anything failed in the middle. Each look at the inbox comes through
        here, so that an idle or paused daemon notices, too, when its output was replaced."""
        self._engine.guard.check()
        if not self._is_recovered:
            self._resume(self._recover(), stop)
            self._catch_up(stop)
            self._is_recovered = True

    def _idle(self, watcher: Watcher, wake: Event, stop: Event) -> None:
        """Tidies the order index, then waits for the wake or for the next look that is due, and gathers what comes with it."""
        if not wake.is_set():
            self._tidy(wake.is_set)
        due = watcher.interval_seconds
        if (kept := self._engine.taking.due_seconds) is not None:
            due = min(due, kept + _LOOK_SECONDS)
        rang = wake.wait(min(due, _LOOK_SECONDS * 2) if self._pending else due)
        wake.clear()
        _end_if(stop)
        if rang:
            gather(wake, stop, self._terms.linger_seconds)
        elif not self._pending:
            give_back_memory()

    def _tidy(self, enough: Callable[[], bool], allowed_runs: int = 1) -> None:
        """Merges runs of the order index, step by step. Where that fails, nothing is lost, and no drop has to wait for it: it is
        tried again when there is time again."""
        try:
            while self._engine.ledger.compact(allowed_runs) and not enough():
                pass
            self._untidy = ""
        except sqlite3.OperationalError as error:
            if self._untidy != str(error):
                self._untidy = str(error)
                self._note(f"the order index could not be tidied ({error}); tried again later")

    def _tell(self, what: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            what(observer)

    def _note(self, note: str) -> None:
        self._tell(lambda one: one.noted(note))

    def _resume(self, uncommitted: Sequence[Drop], stop: Event) -> None:
        for drops in batches(uncommitted, self._terms, lambda drop: drop.size_bytes):
            _end_if(stop)
            self._report(resume(self._engine, drops, time.time_ns() // 1000))

    def _catch_up(self, stop: Event) -> None:
        """Reads archived drops once more that hold more since `--since` than was applied of them."""
        if (since := self._terms.since) is None:
            return
        found = self._engine.ledger.read_since(since)
        for results in batches(found, self._terms, lambda result: result.drop.size_bytes):
            _end_if(stop)
            self._report(catch_up(self._engine, results, since, time.time_ns() // 1000))

    def _drain(self, stop: Event, patience_seconds: float, watcher: Watcher | None) -> None:
        """Applies all that is settled. Waits for what is not, as long as patience goes, counted from the last that was."""
        began = time.monotonic()
        while True:
            _end_if(stop)
            look = self._look(watcher)
            taken = 0
            for arrivals in batches(look.settled, self._terms, lambda arrival: arrival.size_bytes):
                _end_if(stop)
                taken += self._take(arrivals)
                self._tidy(lambda: True, MANY_RUNS)  # one step: under a stream of drops there is no other time for it
                if watcher is not None:
                    self._count_unheard(arrivals, watcher)
            self._engine.guard.check()  # files go that were kept since an earlier batch
            self._engine.taking.look_again()
            self._pending = {*look.waiting, *self._refused}
            kept = self._engine.taking.left
            self.summary.left = sorted(
                {*self._pending, *kept, *(one.name for one in look.strange if not one.is_folder)}
            )
            if taken:
                began = time.monotonic()
                continue
            unsure = patience_seconds > 0 and (bool(look.foreign) or self._engine.taking.is_unsure)
            patience = max(patience_seconds, self._terms.foreign_patience_seconds if unsure else 0.0)
            if not (self._pending or (kept and patience_seconds > 0)) or time.monotonic() >= began + patience:
                return self._tell_looked(len(self._pending), look)
            stop.wait(_LOOK_SECONDS)

    def _look(self, watcher: Watcher | None) -> Look:
        self._hear(watcher)
        look = self._inbox.look(time.time(), self._closed)
        self._closed.clear()
        present = {*look.waiting, *(arrival.name for arrival in look.settled)}
        self._heard &= present
        self._refused = {name: cause for name, cause in self._refused.items() if name in present}
        self._tell_looked(len(present), look)
        for observer in self._observers:
            for one in look.first_seen:
                observer.strange(one.name, one.why)
            for name in look.overdue:
                observer.overdue(name)
            for name, attempt, delay_seconds, why in look.retried:
                observer.waiting(name, attempt, delay_seconds, why)
            for name in look.given_up:
                observer.gave_up(name)
        return look

    def _hear(self, watcher: Watcher | None) -> None:
        """Keeps what was heard until a look has used it, whoever asked first: a closing that is heard and forgotten costs its
        drop settle_seconds."""
        if watcher is not None:
            heard = watcher.take()
            self._heard |= heard.names
            self._closed |= heard.closed

    def _tell_looked(self, pending: int, look: Look) -> None:
        self._tell(lambda one: one.looked(pending, look.oldest if pending else None, look.unfinished))

    def _count_unheard(self, arrivals: Sequence[Arrival], watcher: Watcher) -> None:
        """Counts drops that no event had named: only a rescan found them."""
        self._hear(watcher)  # an event may come a moment after the look that it was not needed for
        unheard = [a.name for a in arrivals if a.name not in self._heard and a.name not in self._never_awaited]
        self._never_awaited -= {arrival.name for arrival in arrivals}
        if unheard:
            self._tell(lambda one: one.found_by_rescan(len(unheard)))
            for note in watcher.missed(len(unheard)):
                self._note(note)

    def _take(self, arrivals: Sequence[Arrival]) -> int:
        """One batch. Returns how many drops it took; what could not be taken stays for a while."""
        warm(self._engine.reader.executor, sum(arrival.size_bytes for arrival in arrivals))
        now = time.time_ns() // 1000
        context = ParseContext(now, self._terms.tolerance, self._terms.records_path, self._terms.since)
        outcome, refused = take(self._engine, arrivals, context, now)
        for arrival in arrivals:
            self._remember(arrival, next((one.cause for one in refused if one.name == arrival.name), None))
        if outcome is not None:
            published = time.time()
            taken = [arrival for arrival in arrivals if arrival.name not in self._refused]
            self._report(outcome, [max(0.0, published - max(one.settled_at, self._began)) for one in taken])
        return len(outcome.results) if outcome else 0

    def _remember(self, arrival: Arrival, cause: str | None) -> None:
        """Remembers why a drop could not be taken; each cause is reported once."""
        if cause is None:
            self._refused.pop(arrival.name, None)
            return
        self._inbox.put_off(arrival)
        if self._refused.get(arrival.name) != cause:
            self._refused[arrival.name] = cause
            self._tell(lambda one: one.refused(arrival.name, cause))

    def _report(self, outcome: BatchOutcome, latencies: Sequence[float] = ()) -> None:
        self.summary.add(outcome)
        self._tell(lambda one: one.applied(outcome, latencies))


def _end_if(stop: Event) -> None:
    if stop.is_set():
        raise Stopped("stopped between two batches")


def gather(wake: Event, stop: Event, linger_seconds: float) -> None:
    """Waits while the wake keeps ringing, so that drops that come together are taken together; `linger_seconds` at most, and
    a drop that comes alone is hardly kept waiting: a tenth of that without a ring is the end."""
    end = time.monotonic() + linger_seconds
    while (rest := end - time.monotonic()) > 0 and not stop.is_set() and wake.wait(min(rest, linger_seconds / 10)):
        wake.clear()


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
