"""Deliberately broken versions of the daemon, which the harness must detect. Each is patched in after a fork."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.batch import archive, pipeline, publish, recovery
from daemon.batch.engine import Engine
from daemon.storage import files
from daemon.storage.ledger import Ledger


def _no_file_fsync() -> None:
    """Folders are synced, files are not."""
    fsync = os.fsync
    os.fsync = lambda descriptor: fsync(descriptor) if stat.S_ISDIR(os.fstat(descriptor).st_mode) else None


def _no_folder_fsync() -> None:
    """Files are synced, folders are not."""
    fsync = os.fsync
    os.fsync = lambda descriptor: None if stat.S_ISDIR(os.fstat(descriptor).st_mode) else fsync(descriptor)


def _commit_before_stage() -> None:
    """The files of partitions are written after the commit that names them."""
    waiting: list[tuple[Path | str, bytes]] = []
    write_new, commit = files.write_new, Ledger.commit

    def later(path: Path | str, content: bytes) -> None:
        write_new(path, b"")  # there is something to be synced
        waiting.append((path, content))

    def committed(self: Ledger, *arguments: Any) -> Any:
        result = commit(self, *arguments)
        for path, content in waiting:
            Path(path).write_bytes(content)
        waiting.clear()
        return result

    files.write_new = later
    Ledger.commit = committed  # type: ignore[method-assign]


def _no_roll_forward() -> None:
    """Start-up does not publish what was committed."""
    recovery.publish_committed = lambda *_, **__: None  # type: ignore[attr-defined]


def _source_removed_first() -> None:
    """The inbox file is removed before its drop is in the ledger and its copy has its name."""

    def removed_first(engine: Engine, copies: Any, drops: Any) -> None:
        engine.taking.remove(copies)
        engine.ledger.enter(drops)
        stored = [one for copy in copies for one in copy.drops]
        engine.raw.place([one for one, drop in zip(stored, drops, strict=True) if drop.raw is not None])

    archive.archive = removed_first


def _blind_roll_forward() -> None:
    """Start-up carries out the whole list again without a check of what is done."""
    carry_out = publish.publish
    pipeline.publish = lambda output, effects, **_: carry_out(output, effects)  # type: ignore[attr-defined, assignment]


# By name. MUTANTS fail when a process is killed, POWER_MUTANTS only after a power loss.
MUTANTS: dict[str, Callable[[], None]] = {
    "commit before stage": _commit_before_stage,
    "no roll-forward at start": _no_roll_forward,
    "source removed before the ledger is durable": _source_removed_first,
    "roll-forward that does not look first": _blind_roll_forward,
}
POWER_MUTANTS: dict[str, Callable[[], None]] = {"no file fsync": _no_file_fsync, "no folder fsync": _no_folder_fsync}


def apply(name: str) -> None:
    """Breaks the daemon in this process."""
    (MUTANTS | POWER_MUTANTS)[name]()
