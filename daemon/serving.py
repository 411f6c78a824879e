"""The main command: watches the inbox, or with `--once` applies what is there; and what is served meanwhile.

A configuration that is read again takes effect by building the loop, and all that runs beside it, anew. The lock, the ledger, the
worker processes, the metrics and the HTTP server stay.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from .commands.shared import (
    ATTENTION,
    DONE,
    ended,
    engine_of,
    followed,
    gathered,
    looked_at,
    stop_on_signals,
    used,
    version,
)
from .core.errors import UsageError
from .stopping import Stop

if TYPE_CHECKING:
    from .batch.engine import Engine
    from .config import Config
    from .downstream.follow import Following
    from .observe.health import Health
    from .observe.http import Application
    from .observe.metrics import Metrics
    from .observe.observer import Observer
    from .observe.pages.tracing import Tracing
    from .reloading import Reloading
    from .service import Summary
    from .sources.pull.round import PulledSource
    from .sources.watchers import Watchers
    from .storage.ledger import Ledger
    from .storage.pulls import PullState

# For the page of an order: how long raw copies are read, and how long the process may take in all, on a machine that is busy.
_READ_SECONDS, _TRACE_SECONDS = 8.0, 60.0


def serve(config: Config, options: argparse.Namespace) -> int:
    """Watches the inbox; with --once, applies what is there and returns."""
    stop = stop_on_signals(ATTENTION) if options.once else stop_on_signals(DONE, reloads=True)
    from .operate.arguments import instant

    instant(options.since, None)  # refuse a wrong --since before anything is touched
    with engine_of(config, stop, make=True) as engine:
        from .batch.recovery import refuse_lost_ledger
        from .observe.log import log
        from .wiring import checked_following, pulled_sources, refuse_retyped

        refuse_lost_ledger(engine)
        refuse_retyped(config, engine.ledger)
        pulls = pulled_sources(config, os.environ)
        with checked_following(config, engine, stop, beside=not options.once) as follows:
            log.info("run started", extra={"inbox": str(config.paths.inbox), "output": str(engine.output),
                                           "once": options.once})  # fmt: skip
            since = instant(options.since, engine.ledger.hwm)
            if options.once:
                return _run_once(config, engine, stop, since, follows, pulls)
            return _serve(config, engine, stop, since, follows, pulls, options.config)


def _run_once(
    config: Config,
    engine: Engine,
    stop: Stop,
    since: int | None,
    follows: Following | None,
    pulls: Sequence[PulledSource],
) -> int:
    textfile = config.metrics.textfile
    if not textfile:
        return _applied_once(config, engine, stop, since, follows, pulls, [])
    _refuse_missing_folder(Path(textfile))
    from .observe.log import log
    from .observe.metrics import write_textfile

    metrics = _metrics(config, engine, follows)
    try:
        return _applied_once(config, engine, stop, since, follows, pulls, [metrics])
    finally:
        if trouble := write_textfile(metrics.registry, Path(textfile)):
            log.warning("the textfile could not be read; its counters start again from zero",
                        extra={"file": textfile, "cause": trouble})  # fmt: skip


def _applied_once(
    config: Config,
    engine: Engine,
    stop: Stop,
    since: int | None,
    follows: Following | None,
    pulls: Sequence[PulledSource],
    observers: Sequence[Observer],
) -> int:
    from .core.errors import Stopped
    from .storage.pause import paused
    from .wiring import pull_all, service

    behind: list[str] = []
    if paused(engine.output) is None:
        with suppress(Stopped):
            behind = pull_all(pulls, engine, stop, observers)
    summary = service(config, engine, observers, since).once(stop.asked)
    summary.behind = behind
    if follows is not None and not summary.stopped:
        summary.behind += followed(config, follows, stop, observers)
        summary.stopped = stop.asked.is_set()
    return ended(summary, once=True)


def _refuse_missing_folder(textfile: Path) -> None:
    """The textfile is written when everything is applied. An error about its folder must come before that."""
    if not textfile.parent.is_dir():
        raise UsageError(f"[metrics] textfile {textfile}: the folder {textfile.parent} does not exist; create it first")


def _serve(
    config: Config,
    engine: Engine,
    stop: Stop,
    since: int | None,
    follows: Following | None,
    pulls: Sequence[PulledSource],
    path: Path | None,
) -> int:
    """Watches until it is asked to stop. `path`: of the configuration."""
    from prometheus_client import ProcessCollector

    from .observe.health import Health
    from .observe.log import log
    from .observe.systemd import notify
    from .reloading import Reloading
    from .service import Summary
    from .storage.pause import paused
    from .wiring import pulled_sources, reconfigured, watchers

    watched = watchers(config, stop.wake.set)

    def watching() -> bool:
        return watched.up

    health = Health(
        engine.store.staging, _rest_seconds(config), watching, lambda: notify("READY=1"), lambda: paused(engine.output)
    )
    metrics = _metrics(config, engine, follows, watching)
    ProcessCollector(registry=metrics.registry)
    reloading = Reloading(path, config, engine, stop, metrics)
    summary = Summary()
    with ExitStack() as stack:
        if config.http.enabled:
            from .observe.server import serving

            answer = _http_application(reloading, metrics, health, path)
            address = stack.enter_context(serving(answer, answer.threads, config.http.host, config.http.port))
            log.info("listening", extra={"address": address})
        while True:
            _watch(engine, stop, since, follows, pulls, reloading, watched, metrics, health, summary)
            if stop.asked.is_set():
                break
            config, follows = reloading.config, None
            engine, pulls = reconfigured(config, engine), pulled_sources(config, os.environ)
            watched = watchers(config, stop.wake.set)
            health.rest_seconds = _rest_seconds(config)
            metrics.configured(*_sources(config, engine))
        notify("STOPPING=1")
    return ended(summary, once=False)


def _watch(
    engine: Engine,
    stop: Stop,
    since: int | None,
    follows: Following | None,
    pulls: Sequence[PulledSource],
    reloading: Reloading,
    watched: Watchers,
    metrics: Metrics,
    health: Health,
    summary: Summary,
) -> None:
    """Watches with the configuration in force, until it is another one or a stop is asked for. Adds up in `summary`."""
    from .sources.pull.puller import pulling
    from .wiring import Waking, follower_of, pullers_of, service

    def stopped() -> bool:
        health.turn()
        return stop.asked.is_set()

    config, observers = reloading.config, [metrics, health]
    follower = follower_of(config, engine, follows, observers)
    pullers, told = pullers_of(config, pulls, engine, observers)
    loop = service(config, replace(engine, stopped=stopped), [*observers, *told, Waking(follower)], since)
    loop.summary = summary
    with follower, pulling(pullers):
        loop.watch(watched, stop.wake, stop.asked, reloading.is_due)


def _rest_seconds(config: Config) -> float:
    """How long the loop may wait without a sign of life."""
    return max(config.watch.rescan_seconds, config.retry.max_delay_seconds)


def _sources(config: Config, engine: Engine) -> tuple[list[str], dict[str, float]]:
    """The sources that drops may be of; and of each with an API, the seconds between two rounds."""
    every = {name: one.pull.every for name, one in config.sources.items() if one.pull is not None}
    return [*config.sources, *sorted(engine.ledger.sources() - config.sources.keys())], every


def _metrics(
    config: Config, engine: Engine, follows: Following | None, watching: Callable[[], bool] | None = None
) -> Metrics:
    """Metrics of all sources that drops may be of, with the values that are kept between runs."""
    from .observe.metrics import Metrics
    from .storage.ledger import Ledger

    ledger = engine.ledger
    sources, every = _sources(config, engine)
    path = ledger.path

    def pulls() -> Mapping[str, PullState]:
        with closing(Ledger(path, read_only=True)) as now:
            return now.pull_states()

    metrics = Metrics(engine.output, version(), watching, sources, follows.states() if follows else (), every, pulls)
    metrics.restore(ledger.hwm, ledger.last_commit(with_new_data=True), ledger.last_commit())
    return metrics


def _http_application(reloading: Reloading, metrics: Metrics, health: Health, path: Path | None) -> Application:
    """What is answered. `path`: of the configuration file."""
    from .config import DEFAULT_FILE
    from .observe.access import access_of
    from .observe.http import Application
    from .observe.pages.disk import DiskPage
    from .observe.pages.docs import DocsPages
    from .observe.pages.ledger import LedgerPages
    from .observe.pages.lookup_pages import LEDGER_SECONDS, LookUpPages
    from .observe.pages.order import OrderPage
    from .observe.pages.rendering import Renderer
    from .observe.pages.status import StatusPage

    access = access_of(reloading.config.http, os.environ, (path or DEFAULT_FILE).parent.resolve())
    output = reloading.config.paths.output.resolve()

    @contextmanager
    def look() -> Iterator[Ledger]:
        with looked_at(output, LEDGER_SECONDS, running=True) as ledger:
            assert ledger is not None
            yield ledger

    renderer = Renderer(version())
    status = StatusPage(renderer, lambda: gathered(reloading.config, running=True), health.why_not_ready, version())
    look_ups = LookUpPages(
        renderer,
        [
            *LedgerPages(look, output).look_ups,
            *OrderPage(look, _tracing(reloading, output)).look_ups,
            *DiskPage(lambda: used(reloading.config, running=True)).look_ups,
        ],
    )
    docs = DocsPages(renderer)
    more = status.answers | look_ups.answers | docs.answers
    threads = look_ups.threads | docs.threads
    return Application(metrics.registry, health.why_unhealthy, health.why_not_ready, access, more, threads)


def _tracing(reloading: Reloading, output: Path) -> Tracing:
    """`strandline trace` for the page."""
    from .downstream.scratch import scratch
    from .observe.pages.tracing import Tracing

    # The settings are in the environment: the file may have changed since, or be half written.
    asked = ["--config", os.devnull, "trace", "--json", "--seconds", str(_READ_SECONDS), "--"]
    command = [sys.executable, "-P", "-m", str(__package__), *asked]
    environment = lambda: _tracing_environment(reloading.config)  # noqa: E731
    return Tracing(command, environment, _TRACE_SECONDS, partial(scratch, output))


def _tracing_environment(config: Config) -> dict[str, str]:
    """The environment without settings, and those of `config` that `trace` has a use for; with one worker of this machine."""
    from .config import PREFIX, variable_of

    root = Path(__file__).resolve().parents[1]  # a checkout that is not installed is found here
    settings = {
        ("paths", "inbox"): str(config.paths.inbox.absolute()),
        ("paths", "output"): str(config.paths.output.absolute()),
        ("paths", "mode"): config.paths.mode,
        ("watch", "ignore"): json.dumps(config.watch.ignore, ensure_ascii=False),  # which TOML reads as the same list
        ("input", "max_drop_bytes"): str(int(config.input.max_drop_bytes)),
        ("input", "max_expansion"): str(config.input.max_expansion),
        ("engine", "memory_limit"): str(int(config.engine.memory_limit)),
        ("engine", "workers"): "1",
    }
    return (
        {name: text for name, text in os.environ.items() if not name.startswith(PREFIX)}
        | {variable_of(*setting): text for setting, text in settings.items()}
        | {"PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))}
    )
