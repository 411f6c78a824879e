"""Limits of the machine on the real command: few open files, little memory, no inodes. Each run heals, or stops and says what to
do; the next one without the limit gives what the model says."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.faults import Ended
from tests.faults.world import World
from tests.support import REPO
from tests.support.daemon_process import until


def wide_world(drops: int = 100, dates: int = 300) -> World:
    """Drops with orders on many dates, half of them applied before."""
    content = []
    for number in range(drops):
        orders = (
            {
                "order_id": f"o_{number % 50}_{one}",
                "created_at": f"{2024 + day // 365}-{1 + day % 365 // 31:02}-{1 + day % 28:02}T0{number % 9}:00:00Z",
                "updated_at": f"2026-06-01T00:{number % 60:02}:00Z",
                "amount": number + one,
                "items": [{"sku": "p_1", "qty": 1, "price": 2}],
            }
            for one, day in enumerate(range(number % 7, dates, 7))
        )
        content.append((f"{number:03}.ndjson", "".join(json.dumps(one) + "\n" for one in orders).encode()))
    return World(0, content[: drops // 2], content[drops // 2 :])


def limited(home: Path, limits: dict[int, int], arguments: Sequence[str] = ("--once",)) -> Ended:
    """Runs the command with limits (by resource.RLIMIT_…)."""

    def limit() -> None:
        for what, value in limits.items():
            resource.setrlimit(what, (value, value))

    ended = subprocess.run(
        [sys.executable, "-m", "daemon", *arguments], cwd=home, env=os.environ | {"PYTHONPATH": str(REPO)},
        capture_output=True, text=True, preexec_fn=limit, timeout=300, check=False,
    )  # fmt: skip
    return Ended(ended.returncode, ended.stderr)


@contextmanager
def small_file_system(place: Path, options: str) -> Iterator[Path | None]:
    """A small file system in memory, mounted at `place`; None where that is not allowed."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False).returncode:
        yield None
        return
    try:
        yield place
    finally:
        # Processes that a run started end a moment after it.
        until(lambda: subprocess.run(["umount", place], check=False).returncode == 0, "it is unmounted")


@contextmanager
def filled(place: Path, left_bytes: int | None, left_files: int | None) -> Iterator[None]:
    """A file system with so much space, or so many inodes, left."""
    filler = place / "filler"
    filler.mkdir()
    try:
        if left_files is not None:
            for number in range(os.statvfs(place).f_favail - left_files):
                (filler / str(number)).touch()
        if left_bytes is not None:
            free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
            with open(filler / "bytes", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(free - left_bytes, 1))
        yield
    finally:
        shutil.rmtree(filler)
