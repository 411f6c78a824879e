"""What each command does: from the configuration and its options to an exit code. Heavy imports wait until a command needs
them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.errors import UsageError
from .stopping import Stop

if TYPE_CHECKING:
    from .batch.engine import Engine
    from .config import Config
    from .downstream.follow import Following
    from .observe.health import Health
    from .observe.http import Answer
    from .observe.metrics import Metrics
    from .observe.observer import Observer
    from .service import Summary

DONE, ATTENTION, USAGE, ENVIRONMENT = 0, 1, 2, 3  # exit codes: see cli


def serve(config: Config, options: argparse.Namespace) -> int:
    """Watches the inbox; with --once, applies what is there and returns."""
    stop = _stop_on_signals(ATTENTION if options.once else DONE)
    from .arguments import instant

    instant(options.since, None)  # refuse a wrong --since before anything is touched
    with _engine(config, stop) as engine:
        from .batch.recovery import refuse_lost_ledger
        from .observe.log import log
        from .wiring import checked_following

        refuse_lost_ledger(engine)
        with checked_following(config, engine, stop) as follows:
            log.info("run started", extra={"inbox": str(config.paths.inbox), "output": str(engine.output),
                                           "once": options.once})  # fmt: skip
            since = instant(options.since, engine.ledger.hwm)
            run = _run_once if options.once else _watch
            return run(config, engine, stop, since, follows)


def _run_once(config: Config, engine: Engine, stop: Stop, since: int | None, follows: Following | None) -> int:
    textfile = config.metrics.textfile
    if not textfile:
        return _applied_once(config, engine, stop, since, follows, [])
    _refuse_missing_folder(Path(textfile))
    from .observe.log import log
    from .observe.metrics import write_textfile

    metrics = _metrics(config, engine, follows)
    try:
        return _applied_once(config, engine, stop, since, follows, [metrics])
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
    observers: Sequence[Observer],
) -> int:
    from .wiring import service

    summary = service(config, engine, observers, since).once(stop.asked)
    if follows is not None and not summary.stopped:
        summary.behind = _followed(config, follows, stop, observers)
        summary.stopped = stop.asked.is_set()
    return _ended(summary, once=True)


def _followed(config: Config, follows: Following, stop: Stop, observers: Sequence[Observer] = ()) -> list[str]:
    """Brings models and checks up to date; returns the names of those that are not."""
    from .core.errors import Stopped
    from .downstream.follower import bring_up_to_date
    from .wiring import telling

    with suppress(Stopped):
        return bring_up_to_date(follows, config.retry.backoff, stop.asked, telling(observers))
    return []


def _refuse_missing_folder(textfile: Path) -> None:
    """The textfile is written when everything is applied. An error about its folder must come before that."""
    if not textfile.parent.is_dir():
        raise UsageError(f"[metrics] textfile {textfile}: the folder {textfile.parent} does not exist; create it first")


def _watch(config: Config, engine: Engine, stop: Stop, since: int | None, follows: Following | None) -> int:
    from prometheus_client import ProcessCollector

    from .observe.health import Health
    from .observe.log import log
    from .observe.systemd import notify
    from .wiring import Waking, follower_of, service, watchers

    watched = watchers(config, stop.wake.set)

    def watching() -> bool:
        return watched.up

    rest_seconds = max(config.watch.rescan_seconds, config.retry.max_delay_seconds)
    health = Health(engine.store.staging, rest_seconds, watching, lambda: notify("READY=1"))
    metrics = _metrics(config, engine, follows, watching)
    ProcessCollector(registry=metrics.registry)

    def stopped() -> bool:
        health.turn()
        return stop.asked.is_set()

    observers = [metrics, health]
    follower = follower_of(config, engine, follows, observers)
    loop = service(config, replace(engine, stopped=stopped), [*observers, Waking(follower)], since)
    with ExitStack() as stack:
        stack.enter_context(follower)
        if config.http.enabled:
            from .observe.http import serving

            answer = _http_application(config, metrics, health)
            address = stack.enter_context(serving(answer, config.http.host, config.http.port))
            log.info("listening", extra={"address": address})
        summary = loop.watch(watched, stop.wake, stop.asked)
        notify("STOPPING=1")
    return _ended(summary, once=False)


def _metrics(
    config: Config, engine: Engine, follows: Following | None, watching: Callable[[], bool] | None = None
) -> Metrics:
    """Metrics of all sources that drops may be of, with the values that are kept between runs."""
    from .observe.metrics import Metrics

    ledger = engine.ledger
    sources = [*config.sources, *sorted(ledger.sources() - config.sources.keys())]
    metrics = Metrics(engine.output, version(), watching, sources, follows.states() if follows else ())
    metrics.restore(ledger.hwm, ledger.last_commit(with_new_data=True), ledger.last_commit())
    return metrics


def _http_application(config: Config, metrics: Metrics, health: Health) -> Answer:
    from .observe.http import application, document
    from .observe.page import Page

    page = Page(lambda: _gathered(config), health.why_not_ready, version())
    documents = {
        "/": document("text/html", page.html, {"Content-Security-Policy": page.policy}),
        "/api/status": document("application/json", page.json),
    }
    return application(metrics.registry, health.why_unhealthy, health.why_not_ready, documents)


def status(config: Config, options: argparse.Namespace) -> int:
    from .operate.status import table

    found = _gathered(config)
    print(json.dumps(found, indent=2) if options.json else table(found))
    return DONE


def plan(config: Config, options: argparse.Namespace) -> int:
    from .core.mapping import DEFAULT_SOURCE
    from .sources.source_folder import source_of
    from .wiring import contexts, places, refuse_retyped

    stop = _stop_on_signals(ATTENTION)
    with _scratch("plan") as scratch, _engine(config, stop, dry=scratch) as engine:
        from .operate import plan
        from .storage.ledger import Ledger

        source = options.source or source_of(options.file, places(config)) or DEFAULT_SOURCE
        if source not in config.sources:
            raise UsageError(f"there is no source {source}; configured are {', '.join(config.sources)}")
        refuse_retyped(config, engine.ledger)
        context = contexts(config, time.time_ns() // 1000)[source]
        path = engine.ledger.path  # before the first run, an empty ledger in the scratch folder
        found = plan.plan(engine, lambda: Ledger(path, read_only=True), options.file, context)
        print(json.dumps(plan.as_dict(found), indent=2) if options.json else plan.table(found))
        return ATTENTION if any(one.outcome == "quarantined" for one in found.results) else DONE


def rebuild(config: Config, options: argparse.Namespace) -> int:
    stop = _stop_on_signals(ATTENTION)
    from .arguments import day

    days = [day(text) for text in options.dates]
    with _engine(config, stop, anew=not days) as engine:
        from .batch.recovery import is_lost, refuse_lost_ledger
        from .batch.repair import partitions_from_raw, refuse_unknown
        from .observe.log import log
        from .operate.rebuild import prepare_rebuild, take_over
        from .storage import receipts
        from .wiring import contexts, recovered, service

        if days:
            refuse_lost_ledger(engine)
            recovered(config, engine)
            refuse_unknown(engine.ledger, days)
            partitions_from_raw(engine.ledger, engine.reader, engine.store, days)
            log.info("partitions rebuilt from raw", extra={"dates": sorted(set(options.dates))})
            return DONE
        if not is_lost(engine):
            recovered(config, engine)
        take_over(engine, prepare_rebuild(engine, time.time_ns() // 1000, contexts(config)))
    with _engine(config, stop) as engine:
        summary = service(config, engine, []).resume(stop.asked)
        receipts.restore(engine.output, engine.ledger.all_results())
        log.info("ledger and all partitions rebuilt from raw", extra={"partitions": len(engine.ledger.partitions())})
        return _ended(summary, once=True)


def verify(config: Config, options: argparse.Namespace) -> int:
    stop = _stop_on_signals(ATTENTION)
    with _scratch("verify") as scratch, _engine(config, stop, dry=scratch) as engine:
        from .batch.recovery import refuse_lost_ledger
        from .operate.verify import copy_ledger, verify
        from .storage.ledger import Ledger

        refuse_lost_ledger(engine)
        path = engine.ledger.path  # before the first run, an empty ledger in the scratch folder
        copy_ledger(engine.ledger, scratch / "copy.sqlite")
        found = []
        with closing(Ledger(scratch / "copy.sqlite")) as copy:
            of_copy, now = replace(engine, ledger=copy), time.time_ns() // 1000
            for one in verify(of_copy, lambda: Ledger(path, read_only=True), scratch / "rebuilt", now):
                found.append(one)
                if not options.json:
                    print(one, flush=True)
            drops, partitions = copy.drop_count(), len(copy.partitions())
        if options.json:
            differences = [{"check": one.check, "what": one.what, "found": one.found} for one in found]
            print(json.dumps({"drops": drops, "partitions": partitions, "differences": differences}, indent=2))
        else:
            verdict = f"{len(found):,} differences" if found else "all of it is there and right"
            print(f"{drops:,} drops and {partitions:,} partitions verified: {verdict}")
        return ATTENTION if found else DONE


def trace(config: Config, options: argparse.Namespace) -> int:
    stop = _stop_on_signals(ATTENTION)
    with _scratch("trace") as scratch, _engine(config, stop, dry=scratch) as engine:
        from .batch.recovery import refuse_lost_ledger
        from .operate import trace

        refuse_lost_ledger(engine)
        found = trace.trace(engine, options.order.strip())
        print(json.dumps(trace.as_dict(found), indent=2) if options.json else trace.table(found))
        return DONE if found.versions and found.agrees else ATTENTION


def retry(config: Config, options: argparse.Namespace) -> int:
    from .batch import reread
    from .operate.quarantine import called, retry
    from .sources.source_folder import places_of

    output, folders = config.paths.output.resolve(), places_of(config.paths.inbox, config.folders)
    again = reread.applied(output, [name for name in options.names if not called(output / "quarantine", name)])
    if not options.names or len(again) < len(options.names):
        others = [name for name in options.names if name not in again]
        for file, folder in retry(output / "quarantine", folders, others).items():
            print(f"{file} is back in {folder}")
    back = reread.request(output, folders, list(again.values()))
    for drop in again.values():
        print(f"drop {drop.seq} ({drop.name}) was applied; it is back in {back[drop.seq]} to be read again")
    return DONE


def sql(config: Config, options: argparse.Namespace) -> int:
    from .execution.process import prepare

    prepare()  # before anything heavy is imported
    from .operate.sql.command import Wanted, run
    from .stopping import release
    from .wiring import following_settings

    wanted = Wanted(options.query, options.form, options.output)
    return DONE if run(wanted, config.paths.output.resolve(), following_settings(config), release) else ATTENTION


def schema(config: Config, options: argparse.Namespace) -> int:
    from .operate.ddl import ddl

    print(ddl(options.dialect, config.columns), end="")
    return DONE


def manifest(config: Config, options: argparse.Namespace) -> int:
    from .operate.warehouse import manifest

    print(manifest(config.paths.output, options.table, options.dates or None, options.prefix), end="")
    return DONE


HANDLE_SIGNALS = (serve, plan, rebuild, verify, trace, sql)  # these stop at a safe point; the others end at once


# --------------------------------------------------------------------------------------------------------- shared steps


def version() -> str:
    from importlib import metadata

    try:
        return metadata.version("strandline")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _stop_on_signals(exit_code: int) -> Stop:
    stop = Stop()
    stop.on_signals(exit_code)
    return stop


def _engine(
    config: Config, stop: Stop, dry: Path | None = None, *, anew: bool = False
) -> AbstractContextManager[Engine]:
    from .execution.process import prepare

    prepare()  # before anything heavy is imported
    from .wiring import engine

    return engine(config, stop, dry, anew=anew)


@contextmanager
def _scratch(command: str) -> Iterator[Path]:
    """A temporary folder for one command."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix=f"strandline-{command}-") as folder:
        yield Path(folder)


def _gathered(config: Config) -> dict[str, Any]:
    """The status, for the command and for the page."""
    from .operate.status import gather
    from .sources.source_folder import places_of
    from .storage.ledger import Ledger

    output, places = config.paths.output.resolve(), places_of(config.paths.inbox, config.folders)
    path = output / "state" / "ledger.sqlite"
    with ExitStack() as stack:
        ledger = stack.enter_context(closing(Ledger(path, read_only=True))) if path.exists() else None
        return gather(ledger, places, output, time.time_ns() // 1000, config.watch.ignore)


def _ended(summary: Summary, *, once: bool) -> int:
    from .observe.log import log

    log.info("run ended", extra={"applied": summary.applied, "duplicates": summary.duplicates,
                                 "quarantined": summary.quarantined, "left": summary.left, "behind": summary.behind,
                                 "stopped": summary.stopped})  # fmt: skip
    attention = summary.quarantined or summary.left or summary.behind or summary.stopped
    return ATTENTION if once and attention else DONE
