"""The commands that do something again: rebuild, retry, discard, refresh, pull."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from ..core.errors import UsageError
from ..stopping import Stop
from . import completion
from .shared import ATTENTION, DONE, ended, engine_of, followed, refuse_other_ledger, scratch_folder, stop_on_signals

if TYPE_CHECKING:
    from ..batch.engine import Engine
    from ..config import Config


def rebuild(config: Config, options: argparse.Namespace) -> int:
    stop = stop_on_signals(ATTENTION)
    from ..operate.arguments import day

    days = [day(text) for text in options.dates]
    with engine_of(config, stop, anew=not days) as engine:
        from ..batch.mending import mend
        from ..batch.recovery import is_lost, refuse_lost_ledger
        from ..batch.repair import Damaged, Lost, refuse_unknown, repair
        from ..observe.log import log
        from ..operate.rebuild import prepare_rebuild, take_over
        from ..operate.wording import counted
        from ..storage import receipts
        from ..storage.adoption import unknown
        from ..storage.ages import RECEIPTS
        from ..storage.set_aside import days_of
        from ..wiring import contexts, recovered, service

        if days:
            refuse_lost_ledger(engine)
            recovered(config, engine)
            refuse_unknown(engine.ledger, days)
            aside, lost = engine.ledger.set_aside().values(), []
            for one in aside:
                try:
                    if one.day in days:
                        mend(engine, one, time.time_ns() // 1000)
                except Lost as error:
                    lost.append(str(error))
            others = sorted(set(days) - set(days_of(aside)))
            repair(engine.ledger, engine.reader, engine.store, Damaged(others), time.time_ns() // 1000)
            lost += [one.reason for one in engine.ledger.set_aside().values() if one.day in others]
            if lost:
                raise Lost("\n".join(lost))
            log.info("partitions rebuilt from raw", extra={"dates": sorted(set(options.dates))})
            print(f"{counted(len(set(days)), 'date')} rebuilt from raw; `strandline verify` compares everything")
            return ATTENTION if made_again(config, engine, stop, days) else DONE
        if is_lost(engine):
            engine.store.clean_staging()  # of a rebuild that failed
        else:
            recovered(config, engine)
        take_over(engine, prepare_rebuild(engine, time.time_ns() // 1000, contexts(config)))
    with engine_of(config, stop) as engine:
        summary = service(config, engine, []).resume(stop.asked)
        receipts.restore(engine.output, engine.ledger.all_results(engine.ledger.horizon(RECEIPTS)))
        log.info("ledger and all partitions rebuilt from raw", extra={"partitions": len(engine.ledger.partitions())})
        left = unknown(engine.ledger, engine.raw, everywhere=True)
        if left:
            log.error("raw copies were not taken in; see above", extra={"copies": len(left), "first": left[0].path})
        summary.behind = made_again(config, engine, stop, None)
        step = (
            "`strandline verify` compares everything" if not left else "the log names raw copies that were not taken in"
        )
        print(f"The ledger and {counted(len(engine.ledger.partitions()), 'date')} rebuilt from raw; {step}")
        return max(ended(summary, once=True), ATTENTION if left else DONE)


def made_again(config: Config, engine: Engine, stop: Stop, dates: Sequence[int] | None) -> list[str]:
    """Makes the results of models and checks again, and sends destinations what differs; returns the names of what failed."""
    from ..wiring import checked_following

    with checked_following(config, engine, stop) as follows:
        if follows is None:
            return []
        follows.refresh(dates=dates)
        return followed(config, follows, stop)


def retry(config: Config, options: argparse.Namespace) -> int:
    from ..operate.presence import refuse_missing

    refuse_missing("inbox", config.paths.inbox)
    from ..batch import reread
    from ..operate.quarantine import called, refuse_withdrawn, retry
    from ..operate.wording import counted
    from ..sources.source_folder import places_of
    from ..storage.lock import holder_of

    output, folders = config.paths.output.resolve(), places_of(config.paths.inbox, config.folders)
    refuse_other_ledger(output)
    names = [
        str(one) for name in options.names
        for one in (called(output / "quarantine", name) and [name]) or reread.members(output, name) or [name]
    ]  # fmt: skip
    again = reread.applied(output, [name for name in names if not called(output / "quarantine", name)])
    count = 0
    if not names or len(again) < len(names):
        others = [name for name in names if name not in again]
        refuse_withdrawn(output, others)
        for file, folder in retry(output / "quarantine", folders, others).items():
            print(f"{file} is back in {folder}")
            count += 1
    back = reread.request(output, folders, list(again.values()))
    for drop in again.values():
        print(f"drop {drop.seq} ({drop.name}) was applied; it is back in {back[drop.seq]} to be read again")
    count += len(again)
    those = "it" if count == 1 else "them"
    when = f"the daemon takes {those} within {config.watch.rescan_seconds:g} s"
    if holder_of(output / "state" / "lock") is None:
        when = f"`strandline --once` takes {those}"
    print(
        f"{counted(count, 'drop')} put back; {when}" if count else "Nothing is in quarantine; there is nothing to retry"
    )
    return DONE


def discard(config: Config, options: argparse.Namespace) -> int:
    """Removes drops from quarantine: at once, or where a daemon runs, by that."""
    from ..batch import discarding
    from ..operate.quarantine import discard, discarded_by
    from ..storage.ledger import Ledger
    from ..storage.lock import Lock, holder_of

    output = config.paths.output.resolve()
    path = output / "state" / "ledger.sqlite"
    if not path.exists():
        raise UsageError(f"there is nothing to discard: {output} has no ledger; see [paths] output")
    refuse_other_ledger(output)
    wanted = discard(output, options.names, discarded_by(time.time_ns() // 1000, options.reason))
    running = holder_of(output / "state" / "lock") is not None
    if not running and output.stat().st_uid == os.geteuid():
        with closing(Lock(config.paths.output)), closing(Ledger(path)) as ledger:
            discarding.carry_out(output, ledger)
        when = "is discarded"
    else:
        by = f"within {config.watch.rescan_seconds:g} s by the daemon" if running else "by the owner's next run"
        when = f"is discarded {by}"
    print(*(f"{file} {when}; its receipt and `strandline history` say so" for file in wanted), sep="\n")
    return DONE


def refresh(config: Config, options: argparse.Namespace) -> int:
    from ..operate.arguments import day
    from ..operate.downstreams import refresh
    from ..storage.lock import holder_of

    output = config.paths.output.resolve()
    refuse_other_ledger(output)
    dates = [day(text) for text in options.dates] or None
    kind = refresh(output, options.name, dates, set(completion.followed(config)))
    running = holder_of(output / "state" / "lock") is not None
    when = (
        f"within {config.watch.rescan_seconds:g} s by the daemon"
        if running
        else "by the next run, such as strandline --once"
    )
    print(f"{kind} {options.name} is {'made' if kind in ('model', 'check') else 'sent'} again {when}")
    return DONE


def pull(config: Config, options: argparse.Namespace) -> int:
    """One round of a source, whose pages are applied as --once does; with --dry-run, its first page as `plan` shows it."""
    from ..operate.arguments import instant
    from ..sources.source_settings import refuse_without_api

    stop = stop_on_signals(ATTENTION)
    since = instant(options.pull_since, None)
    refuse_without_api(config.sources, options.name)
    if options.dry_run:
        return _pull_dry(config, options.name, since, stop)
    with engine_of(config, stop) as engine:
        from ..batch.recovery import refuse_lost_ledger
        from ..core.errors import Stopped
        from ..operate.presence import refuse_paused
        from ..operate.pull import showing_pages, shown
        from ..sources.pull.round import pull_round
        from ..wiring import Counting, checked_following, pulled_source, refuse_retyped, service

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
    from ..core.errors import Stopped

    with scratch_folder("pull") as scratch, engine_of(config, stop, dry=scratch) as engine, suppress(Stopped):
        from ..operate import plan
        from ..sources.pull.outcome import PullFailed
        from ..sources.pull.round import first_page
        from ..storage.ledger import Ledger
        from ..wiring import contexts, pulled_source

        source = pulled_source(config, name, os.environ)
        path = engine.ledger.path  # before the first run, an empty ledger in the scratch folder
        try:
            answer, following = first_page(source, Ledger.pull_state_of(path, name), since, stop.asked)
        except PullFailed as error:
            print(f"strandline: {name}: {error}. Nothing was kept", file=sys.stderr)
            return ATTENTION
        file = scratch / f"{name}-first-page.json"
        file.write_bytes(answer.body)
        context = contexts(config, time.time_ns() // 1000)[name]
        found = plan.plan(engine, lambda: Ledger(path, read_only=True), file, context)
        print(plan.table(found), following, f"Nothing was kept; `strandline pull {name}` reads all", sep="\n\n")
        return ATTENTION if any(one.outcome == "quarantined" for one in found.results) else DONE
    return ATTENTION
