"""What the commands that keep an output do: backup, restore, discard and history; from the configuration and options to an exit
code."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

from .commands import ATTENTION, DONE

if TYPE_CHECKING:
    from .config import Config


def backup(config: Config, options: argparse.Namespace) -> int:
    from .core import progress
    from .operate.backup import backup, copied_text
    from .storage.receipts import instant_text

    began = time.monotonic()
    now = instant_text(time.time_ns() // 1000)
    found = backup(config.paths.output.resolve(), options.folder, now, progress.to(sys.stderr))
    found["seconds"] = round(time.monotonic() - began, 3)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{options.folder} has {copied_text(found)}")
    for path in found["damaged"]:
        print(
            f"{path} is damaged or missing in the output, and so in the backup; run `strandline verify`",
            file=sys.stderr,
        )
    return ATTENTION if found["damaged"] else DONE


def restore(config: Config, options: argparse.Namespace) -> int:
    from .core import progress
    from .operate.backup import copied_text, restore

    began = time.monotonic()
    found = restore(options.folder, config.paths.output, progress.to(sys.stderr))
    found["seconds"] = round(time.monotonic() - began, 3)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{config.paths.output} has {copied_text(found)}; run `strandline verify`, then start the daemon")
    return DONE


def discard(config: Config, options: argparse.Namespace) -> int:
    """Removes drops from quarantine: at once, or where a daemon runs, by that."""
    from .batch import discarding
    from .core.errors import UsageError
    from .operate.quarantine import discard, discarded_by
    from .storage.ledger import Ledger
    from .storage.lock import Lock, holder_of

    output = config.paths.output.resolve()
    path = output / "state" / "ledger.sqlite"
    if not path.exists():
        raise UsageError(f"there is nothing to discard: {output} has no ledger; see [paths] output")
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


def history(config: Config, options: argparse.Namespace) -> int:
    from .core.errors import UsageError
    from .operate.arguments import instant
    from .operate.history import as_json, table
    from .storage.ledger import Ledger

    path = config.paths.output.resolve() / "state" / "ledger.sqlite"
    if not path.exists():
        raise UsageError(f"there is no history: {path.parent.parent} has no ledger; see [paths] output")
    with closing(Ledger(path, read_only=True)) as ledger:
        results = ledger.by_batch(instant(options.history_since, ledger.hwm) or 0)
        for line in as_json(results) if options.json else table(results):
            print(line)
    return DONE
