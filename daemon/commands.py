"""What each command does: from the configuration and its options to an exit code. Heavy imports wait until a command needs
them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
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
    from .observe.observer import Observer
    from .operate.difference import Difference
    from .service import Summary

DONE, ATTENTION, USAGE, ENVIRONMENT = 0, 1, 2, 3  # exit codes: see cli


def status(config: Config, options: argparse.Namespace) -> int:
    from .operate.status import table

    found = gathered(config)
    print(json.dumps(found, indent=2) if options.json else table(found))
    return DONE


def plan(config: Config, options: argparse.Namespace) -> int:
    from .core.mapping import DEFAULT_SOURCE
    from .sources.source_folder import source_of
    from .wiring import contexts, places, refuse_retyped

    stop = stop_on_signals(ATTENTION)
    with scratch_folder("plan") as scratch, engine_of(config, stop, dry=scratch) as engine:
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
    stop = stop_on_signals(ATTENTION)
    from .operate.arguments import day

    days = [day(text) for text in options.dates]
    with engine_of(config, stop, anew=not days) as engine:
        from .batch.recovery import is_lost, refuse_lost_ledger
        from .batch.repair import partitions_from_raw, refuse_unknown
        from .observe.log import log
        from .operate.rebuild import prepare_rebuild, take_over
        from .storage import receipts
        from .storage.adoption import unknown
        from .wiring import contexts, recovered, service

        if days:
            refuse_lost_ledger(engine)
            recovered(config, engine)
            refuse_unknown(engine.ledger, days)
            partitions_from_raw(engine.ledger, engine.reader, engine.store, days)
            log.info("partitions rebuilt from raw", extra={"dates": sorted(set(options.dates))})
            return ATTENTION if _made_again(config, engine, stop, days) else DONE
        if is_lost(engine):
            engine.store.clean_staging()  # of a rebuild that failed
        else:
            recovered(config, engine)
        take_over(engine, prepare_rebuild(engine, time.time_ns() // 1000, contexts(config)))
    with engine_of(config, stop) as engine:
        summary = service(config, engine, []).resume(stop.asked)
        receipts.restore(engine.output, engine.ledger.all_results())
        log.info("ledger and all partitions rebuilt from raw", extra={"partitions": len(engine.ledger.partitions())})
        left = unknown(engine.ledger, engine.raw, everywhere=True)
        if left:
            log.error("raw copies were not taken in; see above", extra={"copies": len(left), "first": left[0].path})
        summary.behind = _made_again(config, engine, stop, None)
        return max(ended(summary, once=True), ATTENTION if left else DONE)


def _made_again(config: Config, engine: Engine, stop: Stop, dates: Sequence[int] | None) -> list[str]:
    """Makes the results of models and checks again, and sends destinations what differs; returns the names of what failed."""
    from .wiring import checked_following

    with checked_following(config, engine, stop) as follows:
        if follows is None:
            return []
        follows.refresh(dates=dates)
        return followed(config, follows, stop)


def verify(config: Config, options: argparse.Namespace) -> int:
    stop = stop_on_signals(ATTENTION)
    with scratch_folder("verify") as scratch, engine_of(config, stop, dry=scratch) as engine:
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
        of_models, behind = _verify_downstreams(config, engine, scratch, stop, destinations=options.destinations)
        found += of_models
        if not options.json:
            print(*of_models, sep="\n", end="\n" if of_models else "", flush=True)
        if options.json:
            differences = [{"check": one.check, "what": one.what, "found": one.found} for one in found]
            numbers = {"drops": drops, "partitions": partitions, "stale_dates": behind}
            print(json.dumps(numbers | {"differences": differences}, indent=2))
        else:
            if behind:
                print(f"{behind:,} dates of what follows are not up to date, and were not compared")
            verdict = f"{len(found):,} differences" if found else "all of it is there and right"
            print(f"{drops:,} drops and {partitions:,} partitions verified: {verdict}")
        return ATTENTION if found else DONE


def _verify_downstreams(
    config: Config, engine: Engine, scratch: Path, stop: Stop, *, destinations: bool
) -> tuple[list[Difference], int]:
    """The differences of models and checks from a fresh run, and of destinations, if asked for, from what is published; and how
    many dates are not up to date."""
    from .downstream.follow import RECORDS, Following
    from .downstream.records import copy
    from .operate.verify_destinations import check_destinations
    from .operate.verify_models import check_models
    from .wiring import following_settings

    if (engine.output / RECORDS).exists():
        copy(engine.output / RECORDS, scratch / RECORDS)
    elif not destinations:
        return [], 0
    else:  # a destination says itself what it has
        (scratch / RECORDS).parent.mkdir(parents=True, exist_ok=True)
    with closing(Following(engine.output, following_settings(config), dry=scratch)) as following:
        found, behind = check_models(following, engine.output, scratch, stop.asked.is_set)
        if not destinations:
            return found, behind
        sent, behind_sent = check_destinations(following, scratch, stop.asked.is_set)
        return [*found, *sent], behind + behind_sent


def pull(config: Config, options: argparse.Namespace) -> int:
    """One round of a source, whose pages are applied as --once does; with --dry-run, its first page as `plan` shows it."""
    from .operate.arguments import instant

    stop = stop_on_signals(ATTENTION)
    since = instant(options.pull_since, None)
    if options.dry_run:
        return _pull_dry(config, options.name, since, stop)
    with engine_of(config, stop) as engine:
        from .batch.recovery import refuse_lost_ledger
        from .core.errors import Stopped
        from .operate.presence import refuse_paused
        from .operate.pull import showing_pages, shown
        from .sources.pull.round import pull_round
        from .wiring import Counting, checked_following, pulled_source, refuse_retyped, service

        refuse_lost_ledger(engine)
        refuse_paused(engine.output)
        refuse_retyped(config, engine.ledger)
        source = pulled_source(config, options.name, os.environ)
        counting = Counting()
        with checked_following(config, engine, stop) as follows, suppress(Stopped):
            with showing_pages() as tell:
                done = pull_round(
                    source, engine.ledger.path, stop.asked, check=engine.guard.check, since=since, tell=tell
                )
            summary = service(config, engine, [counting]).once(stop.asked)
            if follows is not None and not summary.stopped:
                summary.behind = followed(config, follows, stop)
            print(shown(done, counting.totals, engine.ledger.pull_states().get(source.name)))
            return max(ended(summary, once=True), ATTENTION if done.error else DONE)
        return ATTENTION


def _pull_dry(config: Config, name: str, since: int | None, stop: Stop) -> int:
    from .core.errors import Stopped

    with scratch_folder("pull") as scratch, engine_of(config, stop, dry=scratch) as engine, suppress(Stopped):
        from .operate import plan
        from .sources.pull.outcome import PullFailed
        from .sources.pull.round import first_page
        from .storage.ledger import Ledger
        from .wiring import contexts, pulled_source

        source = pulled_source(config, name, os.environ)
        path = engine.ledger.path  # before the first run, an empty ledger in the scratch folder
        try:
            answer, following = first_page(source, Ledger.pull_state_of(path, name), since, stop.asked)
        except PullFailed as error:
            print(f"{name}: {error}", file=sys.stderr)
            return ATTENTION
        file = scratch / f"{name}-first-page.json"
        file.write_bytes(answer.body)
        context = contexts(config, time.time_ns() // 1000)[name]
        found = plan.plan(engine, lambda: Ledger(path, read_only=True), file, context)
        print(plan.table(found), following, sep="\n\n")
        return ATTENTION if any(one.outcome == "quarantined" for one in found.results) else DONE
    return ATTENTION


def trace(config: Config, options: argparse.Namespace) -> int:
    stop = stop_on_signals(ATTENTION)
    with scratch_folder("trace") as scratch, engine_of(config, stop, dry=scratch) as engine:
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
    names = [
        str(one) for name in options.names
        for one in (called(output / "quarantine", name) and [name]) or reread.members(output, name) or [name]
    ]  # fmt: skip
    again = reread.applied(output, [name for name in names if not called(output / "quarantine", name)])
    if not names or len(again) < len(names):
        others = [name for name in names if name not in again]
        for file, folder in retry(output / "quarantine", folders, others).items():
            print(f"{file} is back in {folder}")
    back = reread.request(output, folders, list(again.values()))
    for drop in again.values():
        print(f"drop {drop.seq} ({drop.name}) was applied; it is back in {back[drop.seq]} to be read again")
    return DONE


def downstream(config: Config, options: argparse.Namespace) -> int:
    from .operate.downstreams import gather, table
    from .storage.ledger import Ledger

    output = config.paths.output.resolve()
    path = output / "state" / "ledger.sqlite"
    with ExitStack() as stack:
        ledger = stack.enter_context(closing(Ledger(path, read_only=True))) if path.exists() else None
        found = gather(ledger, output, config.paths.models, config.paths.checks, config.destinations)
    print(json.dumps(found, indent=2) if options.json else table(found))
    return DONE


def refresh(config: Config, options: argparse.Namespace) -> int:
    from .operate.arguments import day
    from .operate.downstreams import refresh
    from .storage.lock import holder_of

    output = config.paths.output.resolve()
    kind = refresh(output, options.name, [day(text) for text in options.dates] or None)
    running = holder_of(output / "state" / "lock") is not None
    when = (
        f"within {config.watch.rescan_seconds:g} s by the daemon"
        if running
        else "by the next run, such as strandline --once"
    )
    print(f"{kind} {options.name} is {'made' if kind in ('model', 'check') else 'sent'} again {when}")
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
    from .core.ddl import ddl

    print(ddl(options.dialect, config.columns), end="")
    return DONE


def manifest(config: Config, options: argparse.Namespace) -> int:
    from .operate.warehouse import manifest

    print(manifest(config.paths.output, options.table, options.dates or None, options.prefix), end="")
    return DONE


# --------------------------------------------------------------------------------------------------------- shared steps


def version() -> str:
    from importlib import metadata

    try:
        return metadata.version("strandline")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def stop_on_signals(exit_code: int, *, reloads: bool = False) -> Stop:
    stop = Stop()
    stop.on_signals(exit_code, reloads=reloads)
    return stop


def engine_of(
    config: Config, stop: Stop, dry: Path | None = None, *, anew: bool = False, make: bool = False
) -> AbstractContextManager[Engine]:
    from .execution.process import prepare

    prepare()  # before anything heavy is imported
    from .wiring import engine

    return engine(config, stop, dry, anew=anew, make=make)


@contextmanager
def scratch_folder(command: str) -> Iterator[Path]:
    """A temporary folder for one command."""
    from tempfile import TemporaryDirectory

    with TemporaryDirectory(prefix=f"strandline-{command}-") as folder:
        yield Path(folder)


def gathered(config: Config) -> dict[str, Any]:
    """The status, for the command and for the page."""
    from .operate import downstreams
    from .operate.status import gather
    from .sources.source_folder import places_of
    from .storage.ledger import Ledger

    output, places = config.paths.output.resolve(), places_of(config.paths.inbox, config.folders)
    path = output / "state" / "ledger.sqlite"
    with ExitStack() as stack:
        ledger = stack.enter_context(closing(Ledger(path, read_only=True))) if path.exists() else None
        follows = downstreams.gather(ledger, output, config.paths.models, config.paths.checks, config.destinations)
        every = {name: one.pull.every for name, one in config.sources.items() if one.pull is not None}
        return gather(ledger, places, output, time.time_ns() // 1000, config.watch.ignore, follows, every)


def followed(config: Config, follows: Following, stop: Stop, observers: Sequence[Observer] = ()) -> list[str]:
    """Brings models, checks and destinations up to date; returns the names of those that are not."""
    from .core.errors import Stopped
    from .downstream.follower import bring_up_to_date
    from .wiring import telling

    with suppress(Stopped):
        return bring_up_to_date(follows, config.retry.backoff, stop.asked, telling(observers))
    return []


def ended(summary: Summary, *, once: bool) -> int:
    from .observe.log import log

    log.info("run ended", extra={"applied": summary.applied, "duplicates": summary.duplicates,
                                 "quarantined": summary.quarantined, "left": summary.left, "behind": summary.behind,
                                 "stopped": summary.stopped, "paused": summary.paused})  # fmt: skip
    attention = summary.quarantined or summary.left or summary.behind or summary.stopped or summary.paused
    return ATTENTION if once and attention else DONE
