"""The loop: drain the inbox, wait, drain again. `--once` is the same code without the wait.

To drain is to scan, to apply what is settled in batches, and to scan again until nothing settled is left. Only a scan decides
what there is; an event or the time only decides when to scan. While somebody paused the output, it scans and takes nothing.
After a failure of the environment, the loop first finishes what the failed try left, as at start-up, and then goes on.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING

from .batch import discarding
from .batch.ageing import Ageing
from .batch.catch_up import readable
from .batch.engine import Engine
from .batch.mending import Mending
from .batch.outcome import BatchOutcome
from .batch.pipeline import catch_up, resume, take
from .batch.retries import Retry, retry
from .batch.sizes import batches, weight
from .batch.unsound import Unsound
from .core.entries import Drop
from .core.errors import OutputReplaced, Stopped
from .core.model import Contexts, DropOutcome
from .core.retry import Backoff
from .execution import tasks
from .execution.process import release_memory
from .observe.observer import Observer
from .sources.inbox import Arrival, InboxScan
from .sources.inboxes import Inboxes
from .storage.database import shown
from .storage.order_index import MANY_RUNS
from .storage.pause import Pause, paused

if TYPE_CHECKING:
    from .sources.watchers import Watchers

_AGEING_SECONDS = 1.0  # at an idle time: then the loop shows that it is alive, and goes on at the next one
_UNSURE = (
    "it is unknown whether files of other users are still written (`strandline docs WATCHING`); waiting up to {:g} s until they "
    "are unchanged"
)
_CHECK_SECONDS = 0.1  # between two scans while drops are not settled yet


@dataclass(frozen=True)
class ServiceSettings:
    """How drops are parsed, how large a batch may be, how long to wait."""

    contexts: Contexts  # what drops are parsed under; `received_at` is that of each batch, `since` that of the run
    max_drops: int
    max_bytes: int
    linger_seconds: float
    patience_seconds: float  # --once: how long to wait for drops that are not settled
    foreign_patience_seconds: float  # the same for drops of which it is unknown whether a program has them open
    backoff: Backoff  # for failures of the environment
    since: int | None = None  # apply only orders from this instant on
    keep: Mapping[str, int] = field(default_factory=dict)  # microseconds by kind of copy; forever where it is not named


@dataclass
class Summary:
    """What a run did, for the exit code and the last log line."""

    applied: int = 0
    duplicates: int = 0
    quarantined: int = 0
    left: list[str] = field(default_factory=list)
    stopped: bool = False  # before everything was applied
    paused: bool = False  # somebody paused the output, so that nothing was taken
    set_aside: list[str] = field(default_factory=list)  # dates and dimensions that are damaged and cannot be made anew
    behind: list[str] = field(default_factory=list)  # models that are not up to date, and checks that found errors

    def add(self, outcome: BatchOutcome) -> None:
        outcomes = [result.outcome for result in outcome.results if result.before is None]
        self.applied += outcomes.count(DropOutcome.APPLIED)
        self.duplicates += outcomes.count(DropOutcome.DUPLICATE)
        self.quarantined += outcomes.count(DropOutcome.QUARANTINED)


class Service:
    """One running instance over the folders of the sources and one output folder."""

    def __init__(
        self,
        engine: Engine,
        inboxes: Inboxes,
        settings: ServiceSettings,
        observers: Sequence[Observer],
        recover: Callable[[], Sequence[Drop]],
    ) -> None:
        self._engine, self._inboxes, self._settings, self._observers = engine, inboxes, settings, observers
        self._limits = settings.max_drops, settings.max_bytes  # of a batch
        self._recover = recover
        self._began, self._is_recovered = time.time(), False
        self.summary = Summary()
        self._refused: dict[str, str] = {}
        self._pending: set[str] = set()  # labels of files that may be taken later
        self._announced: set[str] = set()  # labels that an event named
        self._closed: set[str] = set()  # of these, closed or moved in since the last scan
        self._compaction_error = ""  # of the last try to compact the order index
        self._ageing = Ageing(
            engine, settings.keep, lambda aged: self._notify(lambda one: one.aged(aged)), self._notify_note
        )
        self._mending = Mending(
            engine,
            lambda published: self._notify(lambda one: one.missing(published)),
            lambda found: self._notify(lambda one: one.set_aside(found)),
        )
        self._unsound = Unsound(engine, self._notify_note)
        self._present_before_watch: set[str] = set()  # labels that no event can announce
        self._leave: Callable[[], bool] = tasks.never
        self._pause: Pause | None = None  # the one that was told of

    def once(self, stop: Event) -> Summary:
        """Finishes what an earlier run left, applies everything in the inbox, and returns."""

        def work() -> None:
            self._drained(stop, self._settings.patience_seconds, give_up=True)
            self._compact_index(stop.is_set, MANY_RUNS)
            self._ageing.run(stop.is_set)

        return self._until_stopped(stop, work)

    def watch(self, watchers: Watchers, wake: Event, stop: Event, leave: Callable[[], bool] = tasks.never) -> Summary:
        """The same, and again whenever `wake` is set or a scan is due, until `stop`. Whoever sets `stop` sets `wake` too. `leave`
        is asked between two batches; where it says yes, watching ends as at `stop`."""
        self._leave = leave
        return self._until_stopped(stop, lambda: self._watch(watchers, wake, stop))

    def resume(self, stop: Event) -> Summary:
        """Finishes what an earlier run left, and leaves the inbox alone."""
        return self._until_stopped(stop, lambda: self._begin(stop))

    def _until_stopped(self, stop: Event, work: Callable[[], None]) -> Summary:
        try:
            work()
        except Stopped:
            self.summary.stopped = True
        except (BrokenExecutor, EOFError, ConnectionError):
            if not stop.is_set():
                raise
            self.summary.stopped = True  # the signal also reached a worker that was just starting
        except OutputReplaced:
            self._engine.taking.restore_kept()
            raise
        return self.summary

    def _watch(self, watchers: Watchers, wake: Event, stop: Event) -> None:
        self._ensure_watching(watchers)  # before the first scan, so that nothing between the two is missed
        try:
            while True:
                self._drained(stop, 0.0, give_up=False, watchers=watchers)
                self._idle(watchers, wake, stop)
        finally:
            watchers.stop()

    def _drained(
        self, stop: Event, patience_seconds: float, *, give_up: bool, watchers: Watchers | None = None
    ) -> None:
        """Drains the inbox, and tries again when the environment fails."""

        def work() -> None:
            self._end_if(stop)  # a failure may have a setting as its cause
            if watchers is not None:
                self._ensure_watching(watchers)
            self._begin(stop)
            self._drain(stop, patience_seconds, watchers)

        def failed(retry: Retry) -> None:
            self._is_recovered = False
            self._notify(lambda one: one.failed(retry))

        retry(work, self._settings.backoff, stop, give_up=give_up, failed=failed)
        self._notify(lambda one: one.recovered())

    def _ensure_watching(self, watchers: Watchers) -> None:
        """Sets the watch if it is not set. Names that are there before have no event."""
        watch = watchers.watch
        for note in watchers.check():
            self._notify_note(note)
        if watchers.watch != watch:
            self._present_before_watch = self._inboxes.names()

    def _begin(self, stop: Event) -> None:
        """The start of a run, and what follows a failure. Every drain passes here, so that an idle or paused daemon also
        notices when its output was replaced."""
        self._engine.guard.check()
        if not self._is_recovered:
            self._resume(self._recover(), stop)
            self._catch_up(stop)
            self._is_recovered = True
        self._mend(stop)
        discarding.carry_out(self._engine.output, self._engine.ledger)

    def _idle(self, watchers: Watchers, wake: Event, stop: Event) -> None:
        """Compacts the order index, removes what is old, then waits for `wake` or for the next scan that is due."""
        if not wake.is_set():
            self._compact_index(wake.is_set)
        if not wake.is_set():
            end = time.monotonic() + _AGEING_SECONDS
            self._ageing.run(lambda: wake.is_set() or time.monotonic() > end)
        due = watchers.interval_seconds
        if (kept := self._engine.taking.due_seconds) is not None:
            due = min(due, kept + _CHECK_SECONDS)
        woken = wake.wait(min(due, _CHECK_SECONDS * 2) if self._pending else due)
        wake.clear()
        self._end_if(stop)
        if woken:
            linger(wake, stop, self._settings.linger_seconds)
        elif not self._pending:
            release_memory()

    def _compact_index(self, enough: Callable[[], bool], allowed_runs: int = 1) -> None:
        """Merges runs of the order index, step by step. A failure loses nothing and delays no drop: the next idle time tries
        again."""
        try:
            while self._engine.ledger.compact(allowed_runs) and not enough():
                pass
            self._compaction_error = ""
        except sqlite3.OperationalError as error:
            if self._compaction_error != (cause := shown(error)):
                self._compaction_error = cause
                self._notify_note(f"the order index could not be compacted: {cause}. It is tried again later")

    def _notify(self, what: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            what(observer)

    def _notify_note(self, note: str) -> None:
        self._notify(lambda one: one.noted(note))

    def _mend(self, stop: Event) -> None:
        """Mends what is missing or set aside, if that is due, and applies the drops that waited for it."""
        outcomes, can_resume = self._mending.run(time.time_ns() // 1000)
        self.summary.set_aside = sorted(self._engine.ledger.set_aside())
        for outcome in outcomes:
            self._report(outcome)
        if can_resume or self._unsound.is_due():
            self._resume(self._engine.ledger.uncommitted(), stop)

    def _resume(self, uncommitted: Sequence[Drop], stop: Event) -> None:
        sound = self._unsound.sound(uncommitted)
        for drops in batches(sound, *self._limits, lambda drop: weight(drop.name, drop.size_bytes)):
            self._end_if(stop)
            if (outcome := resume(self._engine, drops, time.time_ns() // 1000)) is not None:
                self._report(outcome)

    def _catch_up(self, stop: Event) -> None:
        """Reads archived drops again that hold orders since `--since` which were not applied."""
        if (since := self._settings.since) is None:
            return
        found, lost = readable(self._engine.ledger, since)
        if lost:
            self._notify_note(lost)
        for results in batches(found, *self._limits, lambda result: weight(result.drop.name, result.drop.size_bytes)):
            self._end_if(stop)
            self._report(catch_up(self._engine, results, since, time.time_ns() // 1000))

    def _drain(self, stop: Event, patience_seconds: float, watchers: Watchers | None) -> None:
        """Applies all settled drops. Waits up to `patience_seconds`, counted from the last applied drop, for the others."""
        began, has_told = time.monotonic(), False
        while True:
            self._end_if(stop)
            scan = self._scan(watchers)
            taken = 0
            for arrivals in batches(
                scan.settled, *self._limits, lambda arrival: weight(arrival.name, arrival.size_bytes)
            ):
                self._end_if(stop)
                if self._is_paused():
                    break
                taken += self._take(arrivals)
                self._compact_index(lambda: True, MANY_RUNS)  # one step: a stream of drops leaves no idle time
                self._ageing.run(lambda: True)
                self._mend(stop)
                if watchers is not None:
                    self._count_unannounced(arrivals, watchers)
            self._engine.guard.check()  # check_kept removes hidden files
            self._engine.taking.check_kept()
            is_paused = self._is_paused()
            untaken = {arrival.label for arrival in scan.settled} if is_paused and not taken else set()
            self._pending = {*scan.waiting, *self._refused, *untaken}
            kept = self._engine.taking.kept
            self.summary.left = sorted(
                {*self._pending, *kept, *self._unsound.names, *(one.name for one in scan.unusable if not one.is_folder)}
            )
            if taken:
                began = time.monotonic()
                continue
            self.summary.paused = is_paused
            if is_paused:
                self._notify_scanned(len(self._pending), scan)
                self._pending.clear()  # nobody waits for what is not to be taken
                return None
            unsure = patience_seconds > 0 and (bool(scan.foreign) or self._engine.taking.has_unknown_writers)
            patience = max(patience_seconds, self._settings.foreign_patience_seconds if unsure else 0.0)
            if not (self._pending or (kept and patience_seconds > 0)) or time.monotonic() >= began + patience:
                return self._notify_scanned(len(self._pending), scan)
            if unsure and not has_told:
                self._notify_note(_UNSURE.format(patience))
                has_told = True
            stop.wait(_CHECK_SECONDS)

    def _scan(self, watchers: Watchers | None) -> InboxScan:
        self._collect_events(watchers)
        scan = self._inboxes.scan(time.time(), self._closed)
        self._closed.clear()
        present = {*scan.waiting, *(arrival.label for arrival in scan.settled)}
        self._announced &= present
        self._refused = {name: cause for name, cause in self._refused.items() if name in present}
        self._notify_scanned(len(present), scan)
        for observer in self._observers:
            for one in scan.newly_unusable:
                observer.unusable(one.name, one.why)
            for name in scan.overdue:
                observer.overdue(name)
            for name, attempt, delay_seconds, why in scan.retried:
                observer.waiting(name, attempt, delay_seconds, why)
            for name in scan.given_up:
                observer.gave_up(name)
        return scan

    def _collect_events(self, watchers: Watchers | None) -> None:
        """Keeps the names that events named until a scan uses them: a drop whose closing is forgotten waits settle_seconds."""
        if watchers is not None:
            events = watchers.take()
            self._announced |= events.names
            self._closed |= events.closed

    def _notify_scanned(self, pending: int, scan: InboxScan) -> None:
        self._notify(lambda one: one.scanned(pending, scan.oldest if pending else None, scan.unfinished))
        files = self._inboxes.strays()
        self._notify(lambda one: one.strays(files))

    def _count_unannounced(self, arrivals: Sequence[Arrival], watchers: Watchers) -> None:
        """Counts drops that no event named: only a rescan found them."""
        self._collect_events(watchers)  # an event may arrive just after the scan that found its drop
        known = self._announced | self._present_before_watch
        unannounced = [arrival for arrival in arrivals if arrival.label not in known]
        self._present_before_watch -= {arrival.label for arrival in arrivals}
        if unannounced:
            self._notify(lambda one: one.found_by_rescan(len(unannounced)))
            for note in watchers.missed(unannounced):
                self._notify_note(note)

    def _take(self, arrivals: Sequence[Arrival]) -> int:
        """Takes one batch, and returns how many drops it took. What could not be taken stays in the inbox."""
        self._engine.reader.expect(sum(arrival.size_bytes for arrival in arrivals))
        now = time.time_ns() // 1000
        since, given = self._settings.since, self._settings.contexts.items()
        contexts = {source: replace(context, received_at=now, since=since) for source, context in given}
        outcome, refused = take(self._engine, arrivals, contexts, now)
        for arrival in arrivals:
            self._remember(arrival, next((one.cause for one in refused if one.label == arrival.label), None))
        if outcome is not None:
            published = time.time()
            taken = [arrival for arrival in arrivals if arrival.label not in self._refused]
            self._report(outcome, [max(0.0, published - max(one.settled_at, self._began)) for one in taken])
        return len(outcome.results) if outcome else 0

    def _remember(self, arrival: Arrival, cause: str | None) -> None:
        """Remembers why a drop could not be taken, and reports each cause once."""
        if cause is None:
            self._refused.pop(arrival.label, None)
            return
        self._inboxes.put_off(arrival)
        if self._refused.get(arrival.label) != cause:
            self._refused[arrival.label] = cause
            self._notify(lambda one: one.refused(arrival.label, cause))

    def _report(self, outcome: BatchOutcome, latencies: Sequence[float] = ()) -> None:
        self.summary.add(outcome)
        self._notify(lambda one: one.applied(outcome, latencies))

    def _end_if(self, stop: Event) -> None:
        if stop.is_set() or self._leave():
            raise Stopped("stopped between two batches")

    def _is_paused(self) -> bool:
        """Whether somebody paused the output. That, and the end of it, is told once."""
        now = paused(self._engine.output)
        if now != self._pause:
            self._notify_note(f"{now}: no drop is taken until strandline resume" if now else "resumed: drops are taken")
            self._pause = now
        return now is not None


def linger(wake: Event, stop: Event, linger_seconds: float) -> None:
    """Waits for drops that arrive together, so that one batch takes them: until no event comes for a tenth of
    `linger_seconds`, and no longer than `linger_seconds`."""
    end = time.monotonic() + linger_seconds
    while (rest := end - time.monotonic()) > 0 and not stop.is_set() and wake.wait(min(rest, linger_seconds / 10)):
        wake.clear()
