"""The metrics of what follows: models, checks and destinations. Their series come and go with their files and sections.

Their names are labels: few values, which an operator chose.
"""

from __future__ import annotations

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge

from ..downstream.attempts import Followed
from ..downstream.destinations.settings import KINDS
from ..downstream.options import SEVERITIES
from ..downstream.records import State
from .observer import Observer

_LABELS = ("kind", "name")
OUTCOMES = ("succeeded", "failed")


class FollowingMetrics(Observer):
    """Metrics in a registry that is given. `states`: how the runs went before this process."""

    def __init__(self, registry: CollectorRegistry, prefix: str, states: Sequence[State] = ()) -> None:
        self._stale = Gauge(
            prefix + "downstream_stale_dates",
            "Dates of a model, check or destination that are not up to date.",
            _LABELS,
            registry=registry,
        )
        self._runs = Counter(
            prefix + "downstream_runs",
            "Runs of a model or check, and deliveries to a destination, by outcome.",
            (*_LABELS, "outcome"),
            registry=registry,
        )
        self._seconds = Counter(prefix + "downstream_run_seconds", "Time that runs took.", _LABELS, registry=registry)
        self._success = Gauge(
            prefix + "downstream_last_success_timestamp_seconds", 
            "When a model or check last succeeded, or a destination was brought up to date.", _LABELS,
            registry=registry,
        )  # fmt: skip
        self._failing = Gauge(
            prefix + "downstream_failing", 
            "1 while a model, check or destination is not up to date because of an error.", _LABELS,
            registry=registry,
        )  # fmt: skip
        self._rows = Gauge(
            prefix + "check_rows", "Rows that the last run of a check found.", ("name", "severity"), registry=registry
        )
        self._bytes = Counter(
            prefix + "downstream_sent_bytes",
            "Bytes of files that were sent to a destination.",
            _LABELS,
            registry=registry,
        )
        self._altered = Counter(
            prefix + "downstream_altered_texts", "Texts sent without U+0000, which the destination cannot hold.", _LABELS,
            registry=registry,
        )  # fmt: skip
        self._known: set[tuple[str, str]] = set()
        for state in states:
            self._add(state.kind, state.name)
            self._success.labels(state.kind, state.name).set((state.succeeded_at or 0) / 1e6)

    def following(self, one: Followed) -> None:
        """Sets the gauges. What is counted is counted once, at the end of the round."""
        labels = one.kind, one.name
        self._add(*labels)
        self._failing.labels(*labels).set(bool(one.error))
        self._stale.labels(*labels).set(one.stale)
        if one.found is not None:
            self._rows.labels(one.name, one.severity).set(one.found)
            for severity in SEVERITIES:
                if severity != one.severity:  # it had this one before; its rows would count forever
                    self._rows.remove_by_labels({"name": one.name, "severity": severity})

    def followed(self, results: Sequence[Followed], now: float) -> None:
        present = set()
        for one in results:
            if one.is_removed:
                continue
            labels = one.kind, one.name
            present.add(labels)
            self.following(one)
            if one.dates and not one.error:
                self._runs.labels(*labels, "succeeded").inc()
                self._success.labels(*labels).set(now)
            if one.failures:
                self._runs.labels(*labels, "failed").inc()
            self._seconds.labels(*labels).inc(one.seconds)
            if one.kind in KINDS:
                self._bytes.labels(*labels).inc(one.bytes)
                self._altered.labels(*labels).inc(one.altered)
        for labels in self._known - present:
            self._remove(*labels)

    def _add(self, kind: str, name: str) -> None:
        """Creates the series of one that is new."""
        if (kind, name) not in self._known:
            self._known.add((kind, name))
            for outcome in OUTCOMES:
                self._runs.labels(kind, name, outcome)
            for metric in self._metrics(kind):
                metric.labels(kind, name)

    def _remove(self, kind: str, name: str) -> None:
        """Removes the series of one that is gone."""
        self._known.discard((kind, name))
        for metric in self._metrics(kind):
            metric.remove(kind, name)
        for outcome in OUTCOMES:
            self._runs.remove(kind, name, outcome)
        if kind == "check":
            self._rows.remove_by_labels({"name": name})

    def _metrics(self, kind: str) -> list[Gauge | Counter]:
        """Those with a series for each of a kind."""
        sent = [self._bytes, self._altered] if kind in KINDS else []
        return [self._stale, self._success, self._failing, self._seconds, *sent]
