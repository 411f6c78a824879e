"""The commands that copy an output: backup and restore."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import TYPE_CHECKING

from .shared import ATTENTION, DONE

if TYPE_CHECKING:
    from ..config import Config


def backup(config: Config, options: argparse.Namespace) -> int:
    from ..core import progress
    from ..operate.backup import backup, copied_text
    from ..storage.receipts import instant_text

    began = time.monotonic()
    now = instant_text(time.time_ns() // 1000)
    found = backup(config.paths.output.resolve(), options.folder, now, progress.to(sys.stderr))
    found["seconds"] = round(time.monotonic() - began, 3)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{options.folder} has {copied_text(found)}; `strandline restore {options.folder}` puts it back")
    for path in found["damaged"]:
        print(
            f"{path} is damaged or missing in the output, and so in the backup; run `strandline verify`",
            file=sys.stderr,
        )
    return ATTENTION if found["damaged"] else DONE


def restore(config: Config, options: argparse.Namespace) -> int:
    from ..core import progress
    from ..operate.backup import copied_text, restore

    began = time.monotonic()
    found = restore(options.folder, config.paths.output, progress.to(sys.stderr))
    found["seconds"] = round(time.monotonic() - began, 3)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"{config.paths.output} has {copied_text(found)}; run `strandline verify`, then start the daemon")
    return DONE
