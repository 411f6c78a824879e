"""The metrics of pulls, by source. The sources with an API are configured, so every series exists from then on."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from ..core.errors import StrandlineError
from ..sources.pull.outcome import OUTCOMES, REASONS, SUCCEEDED, Pulled
from ..storage.pulls import PullState
from .observer import Observer


class PullMetrics(Observer):
    """Metrics in a registry that is given. `every`: by source, the seconds between two rounds; `states`: how far each source is
    read, called at each scrape."""

    def __init__(
        self,
        registry: CollectorRegistry,
        prefix: str,
        every: Mapping[str, float],
        states: Callable[[], Mapping[str, PullState]],
    ) -> None:
        self._states = states

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(prefix + name, text, ("source", *labels), registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(prefix + name, text, ("source",), registry=registry)

        self._rounds = counter("pull_rounds", "Rounds of a source's API, by outcome.", "outcome")
        self._pages = counter("pull_pages", "Pages that were put into the inbox.")
        self._bytes = counter("pull_bytes", "Bytes of these pages.")
        self._retries = counter("pull_retries", "Requests that were tried again, by reason.", "reason")
        self._seconds = counter("pull_seconds", "Time that rounds took.")
        self._success = gauge(
            "pull_last_success_timestamp_seconds", "When a round of a source last ended with success."
        )
        self._cursors = gauge(
            "pull_cursor_timestamp_seconds", "Up to here, every change of a source is committed; 0: nothing yet."
        )
        self._failing = gauge("pull_failing", "1 while the last round of a source failed or was put off.")
        self._interval = gauge(
            "pull_interval_seconds", "The time between two rounds of a source: [sources.NAME.pull] every."
        )
        self._known: set[str] = set()
        self.configured(every)

    def configured(self, every: Mapping[str, float]) -> None:
        """Creates the series of sources that are new, and removes those of sources that have no API any more. What was counted of
        the others stays."""
        known = self._states()
        for source in self._known - every.keys():
            for metric in (self._rounds, self._retries, *self._by_source):
                metric.remove_by_labels({"source": source})
        for source, seconds in every.items():
            self._interval.labels(source).set(seconds)
            if source in self._known:
                continue
            for outcome in OUTCOMES:
                self._rounds.labels(source, outcome)
            for reason in REASONS:
                self._retries.labels(source, reason)
            for metric in self._by_source:
                metric.labels(source)
            self._failing.labels(source).set(bool(known.get(source, PullState()).error))
            self._success.labels(source).set_function(partial(self._succeeded_at, source))
            self._cursors.labels(source).set_function(partial(self._cursor, source))
        self._known = set(every)

    @property
    def _by_source(self) -> list[Counter | Gauge]:
        """Those with one series for each source."""
        counters = [self._pages, self._bytes, self._seconds]
        return [*counters, self._success, self._cursors, self._failing, self._interval]

    def pulled(self, one: Pulled, now: float) -> None:
        self._rounds.labels(one.source, one.outcome).inc()
        self._pages.labels(one.source).inc(one.pages)
        self._bytes.labels(one.source).inc(one.bytes)
        self._seconds.labels(one.source).inc(one.seconds)
        self._failing.labels(one.source).set(one.outcome != SUCCEEDED)
        for reason, number in one.retries.items():
            self._retries.labels(one.source, reason).inc(number)

    # These are called at each scrape. An exception would break the whole scrape.

    def _succeeded_at(self, source: str) -> float:
        return self._seconds_of(source, "succeeded_at")

    def _cursor(self, source: str) -> float:
        return self._seconds_of(source, "cursor")

    def _seconds_of(self, source: str, name: str) -> float:
        try:
            state = self._states().get(source, PullState())
        except (OSError, sqlite3.Error, StrandlineError):
            return math.nan
        return (getattr(state, name) or 0) / 1e6
