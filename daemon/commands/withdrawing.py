"""The command that takes a drop back: undo."""

from __future__ import annotations

import argparse
import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from ..stopping import Stop
from .shared import ATTENTION, DONE, engine_of, followed, looked_at, scratch_folder, show, stop_on_signals

if TYPE_CHECKING:
    from ..config import Config
    from ..core.entries import Undo
    from ..operate.undo import Undone


def undo(config: Config, options: argparse.Namespace) -> int:
    """Withdraws a drop, or applies it again; then models, checks and destinations follow."""
    stop = stop_on_signals(ATTENTION)
    if options.dry_run:
        return _dry(config, options, stop)
    _refuse_unknown(config, options.drop)
    with engine_of(config, stop) as engine:
        from ..batch.recovery import refuse_lost_ledger
        from ..core.errors import Stopped
        from ..observe.log import log
        from ..operate.undo import undo
        from ..wiring import checked_following, recovered

        refuse_lost_ledger(engine)
        recovered(config, engine)
        with checked_following(config, engine, stop) as follows, suppress(Stopped):
            found = undo(engine, options.drop, lambda seq: _wanted(seq, options))
            what = "drop applied again" if options.revert else "drop withdrawn"
            drop = found.result.drop
            log.info(what, extra={"drop": drop.seq, "file": drop.name, "by": found.undo.who, "why": found.undo.reason})
            _show(found, options)
            return ATTENTION if follows is not None and followed(config, follows, stop) else DONE
        print("stopped before anything was changed")
        return ATTENTION


def _refuse_unknown(config: Config, name: str) -> None:
    """UsageError where a daemon runs that has no such drop: nobody should stop it for that."""
    from ..execution.process import prepare
    from ..storage.lock import holder_of

    output = config.paths.output.resolve()
    if holder_of(output / "state" / "lock") is None:
        return
    prepare()  # before anything heavy is imported
    from ..operate.undo import named

    with looked_at(output) as ledger:
        if ledger is not None:
            named(ledger, name)


def _dry(config: Config, options: argparse.Namespace, stop: Stop) -> int:
    with scratch_folder("undo") as scratch, engine_of(config, stop, dry=scratch) as engine:
        from ..batch.recovery import refuse_lost_ledger
        from ..core.errors import Stopped
        from ..operate.undo import preview
        from ..storage.ledger import Ledger

        refuse_lost_ledger(engine)
        path = engine.ledger.path
        with suppress(Stopped):
            fresh = lambda: Ledger(path, read_only=True)  # noqa: E731
            _show(preview(engine, fresh, options.drop, lambda seq: _wanted(seq, options)), options)
            return DONE
        return ATTENTION


def _wanted(seq: int, options: argparse.Namespace) -> Undo:
    from ..core.entries import Undo
    from ..operate.quarantine import one_line, user

    return Undo(seq, time.time_ns() // 1000, user(), one_line(options.reason), options.revert)


def _show(found: Undone, options: argparse.Namespace) -> None:
    from ..operate.undo import as_dict, table

    dry_run = options.dry_run
    if options.json:
        print(json.dumps(as_dict(found, dry_run=dry_run), indent=2))
    else:
        show(table(found, dry_run=dry_run))
