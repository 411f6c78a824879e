"""`forget`: erases users and orders, or shows what that would erase; blocks them, or lifts a block."""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ..core.errors import UsageError
from .mending import made_again
from .shared import ATTENTION, DONE, ended, engine_of, scratch_folder, stop_on_signals

if TYPE_CHECKING:
    from ..config import Config
    from ..core.parse.naming import Ids
    from ..operate.erasure.forget import Plan
    from ..stopping import Stop


def forget(config: Config, options: argparse.Namespace) -> int:
    stop = stop_on_signals(ATTENTION)
    if not options.users and not options.orders:
        raise UsageError("name whom to forget: --user ID or --order ID, each as often as needed")
    if any(not one.strip() for one in (*options.users, *options.orders)):
        raise UsageError("an id is empty; give it as it is in fact_order")
    if any(not _is_text(one) for one in (*options.users, *options.orders)):
        raise UsageError("an id is not UTF-8; give it as it is in fact_order")
    if options.unblock and (options.block or options.dry_run):
        raise UsageError("--unblock does not go with --block or --dry-run")
    from ..core.errors import Stopped
    from ..core.parse.naming import Ids

    asked = Ids(frozenset(map(str.strip, options.users)), frozenset(map(str.strip, options.orders)))
    with suppress(Stopped):
        if options.unblock:
            return _unblock(config, asked, stop)
        return _dry(config, asked, stop) if options.dry_run else _forget(config, asked, stop, block=options.block)
    return ATTENTION


def _is_text(given: str) -> bool:
    """Whether an argument is UTF-8; other bytes come as surrogates."""
    return not any("\ud800" <= one <= "\udfff" for one in given)


def _dry(config: Config, asked: Ids, stop: Stop) -> int:
    with scratch_folder("forget") as scratch, engine_of(config, stop, dry=scratch) as engine:
        from ..operate.erasure.forget import planned
        from ..operate.erasure.shown import table

        plan = planned(engine, asked)
        print(table(plan, dry=True))
        return ATTENTION if plan.unclear else DONE


def _forget(config: Config, asked: Ids, stop: Stop, *, block: bool) -> int:
    with engine_of(config, stop) as engine:
        from ..batch.recovery import refuse_lost_ledger
        from ..core.errors import Stopped
        from ..operate.erasure.forget import prepare_erasure
        from ..operate.erasure.shown import table
        from ..operate.rebuild import take_over
        from ..wiring import service

        refuse_lost_ledger(engine)
        summary = service(config, engine, []).resume(stop.asked)  # drops that are archived are searched, too
        if summary.stopped:
            return ATTENTION
        try:
            path, plan = prepare_erasure(engine, asked, time.time_ns() // 1000, block=block)
        except Stopped as stopped:
            print(f"{stopped}; nothing was changed", file=sys.stderr)
            return ATTENTION
        if path is not None:
            take_over(engine, path)
        else:
            engine.store.clean_staging()
    with engine_of(config, stop) as engine:
        from ..observe.log import log

        summary = service(config, engine, []).resume(stop.asked)
        records = sum(one.records for one in plan.changes)
        log.info("forgotten", extra={"records": records, "orders": len(plan.dates), "blocked": block})
        summary.behind = made_again(config, engine, stop, _affected(plan)) if path is not None else []
        print(table(plan, dry=False))
        return max(ended(summary, once=True), ATTENTION if plan.unclear else DONE)


def _affected(plan: Plan) -> list[int] | None:
    """The dates whose results are made again in any case; None: all, since the rows of users may be read for any date."""
    from ..core.model import DIMENSIONS
    from ..storage.raw import kind_of

    is_dimension = any(one.records and kind_of(one.before.drop.name) in DIMENSIONS for one in plan.changes)
    return None if is_dimension else sorted(set(plan.dates))


def _unblock(config: Config, asked: Ids, stop: Stop) -> int:
    with engine_of(config, stop) as engine:
        from ..batch.recovery import refuse_lost_ledger

        refuse_lost_ledger(engine)
        if unknown := engine.ledger.lift_blocks(asked):
            print(*(f"{one} was not blocked" for one in unknown), sep="\n")
        lifted = len(asked.users) + len(asked.orders) - len(unknown)
        print(f"{lifted:,} blocks are lifted; what comes from now on is applied")
        return ATTENTION if unknown else DONE
