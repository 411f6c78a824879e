"""Whether there is an output to look at. A command that only looks, or mends, must not take a mistyped path for an empty one."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import UsageError
from ..storage.pause import paused

RESTORING = "state/restoring"  # there while a backup is being restored
# What a run leaves: any of it is something to look at, or to rebuild from.
_CONTENT = ("state/ledger.sqlite", "raw", "receipts", "curated", "quarantine")


def refuse_missing(setting: str, folder: Path) -> None:
    """UsageError where the folder of a setting of [paths] is not there: only `init` and the daemon make folders."""
    if not folder.is_dir():
        raise UsageError(
            f"[paths] {setting} = {folder.absolute()} does not exist; correct the setting. `strandline init` makes the "
            "folder, and so does the first run (`strandline`, or `strandline --once`)"
        )


def refuse_empty(output: Path) -> None:
    """UsageError where the output folder is not there, or has nothing of a run."""
    refuse_missing("output", output)
    refuse_half_restored(output)
    if not any((output / name).exists() for name in _CONTENT):
        raise UsageError(
            f"nothing was applied yet in [paths] output = {output.absolute()}: put a file into the inbox, and run "
            "`strandline --once` or `strandline`; if there should be something, correct the setting"
        )


def refuse_half_restored(output: Path) -> None:
    """UsageError where a restore was interrupted."""
    if (output / RESTORING).exists():
        raise UsageError(
            f"[paths] output = {output.absolute()} is half of a restore that was interrupted; remove it, and run "
            "`strandline restore` again"
        )


def refuse_paused(output: Path) -> None:
    """UsageError where somebody paused the output: what a command would put into the inbox would stay there."""
    if (pause := paused(output)) is not None:
        raise UsageError(f"strandline is {pause}; run `strandline resume` first")
