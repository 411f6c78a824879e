"""Runs commands as other users with chosen capabilities. For tests that need real uids; they need root, or are skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import lru_cache
from pathlib import Path

import pytest

SERVICE, WRITER = 40_100, 40_200  # uids without an account


def as_user(uid: int, *capabilities: str) -> tuple[str, ...]:
    """The prefix for a command. `capabilities` are kept as ambient ones (`lease`); all others are dropped."""
    kept = sorted({*capabilities, *(() if _is_readable_for_others() else ("dac_read_search",))})
    return _prefix(uid, kept)


def _prefix(uid: int, capabilities: list[str]) -> tuple[str, ...]:
    chosen = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    return (
        "setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", f"--inh-caps={chosen}", f"--ambient-caps={chosen}",
        f"--bounding-set={chosen}", "--no-new-privs",
    )  # fmt: skip


def owner_without_capabilities(home: Path) -> tuple[str, ...]:
    """The prefix for a command of a user to whom everything below `home` is given, and who may do what modes allow and nothing
    else. Where other users cannot start this interpreter, that is root without any capability."""
    if not _is_readable_for_others():
        return _prefix(0, [])
    for path in [home, *home.rglob("*")]:
        os.chown(path, SERVICE, SERVICE, follow_symlinks=False)
    return _prefix(SERVICE, [])


@lru_cache
def _is_readable_for_others() -> bool:
    """Whether another user can start this interpreter. If not (it may be in a home folder), they get `dac_read_search`."""
    command = [*_prefix(WRITER, []), sys.executable, "-c", "import pyarrow, daemon"]
    return subprocess.run(command, check=False, capture_output=True, cwd="/").returncode == 0


def require_users() -> None:
    """Skips the test if processes of other users cannot be started."""
    if os.geteuid() != 0:
        missing = "needs root, to start processes of other users"
    elif subprocess.run([*_prefix(WRITER, []), "true"], check=False, capture_output=True).returncode:
        missing = "needs setpriv with ambient capabilities"
    else:
        return
    assert not os.environ.get("REQUIRE_TEST_TOOLS"), missing
    pytest.skip(missing)
