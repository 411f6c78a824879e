"""Prometheus metrics of the service. Every series exists from the start; labels have known values only.

The numbers are those that the ledger adds up (`BatchOutcome.totals`), so that `status`, receipts and PromQL agree. The registry
is our own; metrics of the whole process are added where it is served.
"""

from __future__ import annotations

import contextlib
import math
import os
import platform
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from ..batch.ageing import Aged
from ..batch.outcome import BatchOutcome
from ..batch.phases import OPERATIONS, PHASES
from ..batch.retries import Retry
from ..core.errors import cause_of
from ..core.mapping import DEFAULT_SOURCE
from ..core.model import DIMENSIONS, DropOutcome, Field, Reason
from ..downstream.attempts import Followed
from ..downstream.records import State
from ..sources.pull.outcome import Pulled
from ..storage import ages, files
from ..storage.pause import paused
from ..storage.pulls import PullState
from ..storage.raw import quarantined
from ..storage.set_aside import SetAside
from .following import FollowingMetrics
from .log import blocked_seconds
from .observer import Observer
from .pulling import PullMetrics

ORDER_OUTCOMES = ("new", "corrected", "deleted", "unchanged", "superseded", "before_since")
_NEW_DATA = {f"orders.{outcome}" for outcome in ("new", "corrected", "deleted")}
ROW_OUTCOMES = ("new", "corrected", "unchanged", "superseded", "discarded")
TABLES = ("fact_order", "order_items", *(f"dim_{name}" for name in DIMENSIONS))
_LATENCY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
_PHASE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_PREFIX = "strandline_"

prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics(Observer):
    """The metrics of one instance over one output folder. `watching`: called at each scrape; whether new drops are noticed.
    `sources`: every source that a drop may be of. `downstreams`: how models and checks went before.
    `every`: of each source with an API, the seconds between two rounds; `pulls`: called at each scrape, how far each is read."""

    def __init__(
        self,
        output: Path,
        version: str,
        watching: Callable[[], bool] | None = None,
        sources: Collection[str] = (DEFAULT_SOURCE,),
        downstreams: Sequence[State] = (),
        every: Mapping[str, float] | None = None,
        pulls: Callable[[], Mapping[str, PullState]] = dict,
    ) -> None:
        self.registry = CollectorRegistry()
        self._by_source: list[tuple[Counter, list[list[str]]]] = []  # with the values of their other labels
        self._following = FollowingMetrics(self.registry, _PREFIX, downstreams)
        self._pulling = PullMetrics(self.registry, _PREFIX, every or {}, pulls)
        self._drops = self._counter("drops", "Drops by what became of them.", source=sources, outcome=list(DropOutcome))
        self._extracted = self._counter("orders_extracted", "Records found in drops of orders.")
        self._orders = self._counter(
            "orders", "Accepted orders by what became of them.", source=sources, outcome=ORDER_OUTCOMES
        )
        self._discarded = self._counter(
            "orders_discarded",
            "Records that were rejected, rows of users and products among them.",
            source=sources,
            reason=list(Reason),
        )
        self._faults = self._counter(
            "field_faults", "Fields that could not be read and became NULL.", source=sources, field=list(Field)
        )
        self._late = self._counter("late_orders", "Accepted orders created before the high-water mark.")
        self._restatements = self._counter("restatements", "Changes to dates that had been published before.")
        self._unknown = self._counter(
            "unknown_keys", "Orders with a user or a product that the dimension does not know.", dimension=DIMENSIONS
        )
        self._bare = self._counter(
            "bare_orders",
            "Accepted orders with neither an amount nor a price, whose records may have them under other keys.",
        )
        self._drift = self._counter(
            "key_drift", "Keys of records that came and that nothing reads, or that were read and vanished; each once.",
            source=sources, kind=("unread", "missing"),
        )  # fmt: skip
        self._rows_read = self._counter(
            "dimension_rows", "Rows found in drops of users and products, by what became of them.",
            dimension=DIMENSIONS, outcome=ROW_OUTCOMES,
        )  # fmt: skip
        self._partitions = self._counter("partitions_written", "Partitions written or removed.")
        self._rows = self._counter("rows_written", "Rows written, by table.", table=TABLES)
        self._retries = self._counter("retries", "Operations that were tried again.", operation=OPERATIONS)
        self._exhausted = self._counter(
            "retries_exhausted", "Operations that failed as often as [retry] attempts allows.", operation=OPERATIONS
        )
        self._aged_files = self._counter(
            "aged_files", "Files that were removed because they were old.", kind=ages.KINDS
        )
        self._aged_bytes = self._counter(
            "aged_bytes", "Bytes that were removed because they were old.", kind=ages.KINDS
        )
        self._by_rescan = self._counter("drops_found_by_rescan", "Drops that no event named.")
        self._hwm = self._gauge("high_water_mark_timestamp_seconds", "The latest created_at of any accepted order.")
        self._new_data = self._gauge("last_new_data_timestamp_seconds", "When an order last came or changed.")
        self._last_batch = self._gauge("last_batch_timestamp_seconds", "When a batch was last committed.")
        self._pending = self._gauge("inbox_pending_drops", "Drops in the inbox at the last scan.")
        self._oldest = self._gauge("inbox_oldest_drop_timestamp_seconds", "When the oldest of them was written.")
        self._unfinished = self._gauge(
            "inbox_unfinished_files", "Files in the inbox whose names say that they are still being written."
        )
        self._strays = self._gauge(
            "inbox_stray_files", "Files in folders below the inbox that no source names; they are not taken."
        )
        self._gauge("quarantined_drops", "Drops in quarantine.", lambda: _quarantined(output / "quarantine"))
        self._gauge("disk_free_bytes", "Free bytes on the file system of the output folder.", lambda: _free(output))
        self._latency = self._histogram(
            "drop_latency_seconds", "From a drop that is settled to its published partitions.", _LATENCY_SECONDS
        )
        self._duration = self._histogram(
            "batch_duration_seconds", "How long a batch spent in each phase.", _PHASE_SECONDS, phase=PHASES
        )
        self._set_aside = self._gauge(
            "set_aside", "Published dates and dimensions that are damaged and cannot be made anew."
        )
        self._gauge("log_blocked_seconds", "For how long a line of the log could not be written.", blocked_seconds)
        self._paused = self._gauge("paused", "1 while the environment fails and everything waits for it.")
        self._gauge(
            "pause_timestamp_seconds",
            "When `strandline pause` was called; 0: drops are taken.",
            lambda: _paused_at(output),
        )
        self._reloaded = self._gauge(
            "config_last_reload_successful",
            "0 while the configuration in force is not what was read last, which is wrong.",
        )
        self._reloaded_at = self._gauge(
            "config_last_reload_success_timestamp_seconds", "When the configuration in force was read."
        )
        self.reloaded(is_valid=True)
        if watching is not None:
            self._gauge("watcher_up", "1 while new drops can be noticed.", watching)
        build = Info(_PREFIX + "build", "What runs here.", registry=self.registry)
        build.info({"version": version, "python": platform.python_version()})

    def configured(self, sources: Iterable[str], every: Mapping[str, float]) -> None:
        """Creates the series of sources that a new configuration brings. Those of a source that is gone stay: its drops were
        counted, unless they are of its API."""
        self._pulling.configured(every)
        for metric, labels in self._by_source:
            _create(metric, [list(sources), *labels])

    def reloaded(self, *, is_valid: bool) -> None:
        """The configuration was read, at the start or again."""
        self._reloaded.set(is_valid)
        if is_valid:
            self._reloaded_at.set_to_current_time()

    def restore(self, hwm: int | None, last_new_data: int | None, last_batch: int | None) -> None:
        """Sets what the ledger knows of earlier runs, in microseconds since 1970."""
        for gauge, instant in ((self._hwm, hwm), (self._new_data, last_new_data), (self._last_batch, last_batch)):
            gauge.set((instant or 0) / 1e6)

    # ------------------------------------------------------------------------------------------- events of the service

    def applied(self, outcome: BatchOutcome, latencies: Sequence[float]) -> None:
        for (source, name), value in outcome.totals.items():
            self._add(source, name, value)
        for drift in outcome.drift:
            self._drift.labels(drift.source, "unread").inc(len(drift.unread))
            self._drift.labels(drift.source, "missing").inc(len(drift.missing))
        self._restatements.inc(len(outcome.restated))
        self._partitions.inc(len(outcome.written))
        for table, rows in outcome.rows_written.items():
            self._rows.labels(table).inc(rows)
        self._hwm.set((outcome.hwm or 0) / 1e6)
        self._last_batch.set(outcome.committed_at / 1e6)
        if any(name in _NEW_DATA for _, name in outcome.totals):
            self._new_data.set(outcome.committed_at / 1e6)
        for seconds in latencies:
            self._latency.observe(seconds)
        for phase, seconds in outcome.seconds.items():
            self._duration.labels(phase).observe(seconds)

    def aged(self, one: Aged) -> None:
        self._aged_files.labels(one.kind).inc(one.files)
        self._aged_bytes.labels(one.kind).inc(one.bytes)

    def following(self, one: Followed) -> None:
        self._following.following(one)

    def followed(self, results: Sequence[Followed], now: float) -> None:
        self._following.followed(results, now)

    def pulled(self, one: Pulled, now: float) -> None:
        self._pulling.pulled(one, now)

    def waiting(self, name: str, attempt: int, delay_seconds: float, why: str) -> None:
        self._retries.labels("read_drop").inc()

    def gave_up(self, name: str) -> None:
        self._exhausted.labels("read_drop").inc()

    def failed(self, retry: Retry) -> None:
        if not retry.given_up:
            self._retries.labels(retry.operation).inc()
        if retry.exhausted:
            self._exhausted.labels(retry.operation).inc()
            self._paused.set(1)

    def recovered(self) -> None:
        self._paused.set(0)

    def set_aside(self, found: Sequence[SetAside]) -> None:
        self._set_aside.set(len(found))

    def found_by_rescan(self, drops: int) -> None:
        self._by_rescan.inc(drops)

    def scanned(self, pending: int, oldest: float | None, unfinished: int) -> None:
        self._pending.set(pending)
        self._unfinished.set(unfinished)
        self._oldest.set(oldest or 0)

    def strays(self, files: int) -> None:
        self._strays.set(files)

    def _add(self, source: str, name: str, value: int) -> None:
        """One of the ledger's sums, such as `drops.applied`, `orders.discarded.missing_key`, `user.new`."""
        kind, count, *rest = name.split(".")
        if kind == "drops":
            self._drops.labels(source, count).inc(value)
        elif count == "discarded":
            self._discarded.labels(source, *rest).inc(value)
            if kind in DIMENSIONS:
                self._rows_read.labels(kind, "discarded").inc(value)
        elif count == "faults":
            self._faults.labels(source, *rest).inc(value)
        elif kind in DIMENSIONS:
            if count in ROW_OUTCOMES:
                self._rows_read.labels(kind, count).inc(value)
        elif count == "extracted":
            self._extracted.inc(value)
        elif count == "late":
            self._late.inc(value)
        elif count == "unknown":
            self._unknown.labels(*rest).inc(value)
        elif count == "bare":
            self._bare.inc(value)
        else:  # before_since falls where a drop is read again from an earlier instant; a counter cannot fall
            self._orders.labels(source, count).inc(max(0, value))

    # ----------------------------------------------------------------------------------------------------- constructors

    def _counter(self, name: str, text: str, **labels: Iterable[str]) -> Counter:
        made = Counter(_PREFIX + name, text, list(labels), registry=self.registry)
        values = [list(some) for some in labels.values()]
        _create(made, values)
        if "source" in labels:  # always the first one
            self._by_source.append((made, values[1:]))
        return made

    def _gauge(self, name: str, text: str, asked: Callable[[], float] | None = None) -> Gauge:
        made = Gauge(_PREFIX + name, text, registry=self.registry)
        if asked is not None:
            made.set_function(asked)
        return made

    def _histogram(self, name: str, text: str, buckets: Sequence[float], **labels: Iterable[str]) -> Histogram:
        made = Histogram(_PREFIX + name, text, list(labels), buckets=buckets, registry=self.registry)
        _create(made, [list(values) for values in labels.values()])
        return made


def _create(metric: Counter | Histogram, values: Sequence[Sequence[str]], chosen: tuple[str, ...] = ()) -> None:
    """Creates every series of a metric with labels."""
    if len(chosen) < len(values):
        for value in values[len(chosen)]:
            _create(metric, values, (*chosen, value))
    elif chosen:
        metric.labels(*chosen)


# These are called at each scrape. An exception would break the whole scrape.


def _quarantined(folder: Path) -> float:
    try:
        return len(quarantined(folder))
    except OSError:
        return math.nan


def _paused_at(output: Path) -> float:
    now = paused(output)
    return now.timestamp if now else 0.0


def _free(folder: Path) -> float:
    try:
        found = os.statvfs(folder)
    except OSError:
        return math.nan
    return found.f_bavail * found.f_frsize


# -------------------------------------------------------------------------------------------------------- the textfile


def write_textfile(registry: CollectorRegistry, path: Path) -> str:
    """Writes the metrics for node_exporter's textfile collector, atomically. Counters and histograms continue from the values in
    the file. Returns why they could not, or an empty string; OSError where the file cannot be written."""
    before, trouble = _counted_before(path)
    content = generate_latest(_Continued(registry, before))  # it only calls collect()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.chmod(0o644)  # node_exporter runs as another user
        files.sync(temporary)
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
    return trouble


_Key = tuple[str, tuple[tuple[str, str], ...]]


def _key(sample: Sample) -> _Key:
    return sample.name, tuple(sorted(sample.labels.items()))


def _counted_before(path: Path) -> tuple[Mapping[_Key, float], str]:
    try:
        families = list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}, ""
    except Exception as error:  # the parser raises any exception on wrong text
        return {}, cause_of(error)
    found = {_key(s): s.value for one in families if one.type in ("counter", "histogram") for s in one.samples}
    return {key: value for key, value in found.items() if math.isfinite(value) and value >= 0}, ""


class _Continued:
    """The metrics of a registry plus earlier counts."""

    def __init__(self, registry: CollectorRegistry, before: Mapping[_Key, float]) -> None:
        self._registry, self._before = registry, before

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            if metric.type in ("counter", "histogram"):
                metric.samples = [s._replace(value=s.value + self._before.get(_key(s), 0)) for s in metric.samples]
            yield metric
