"""One writer for each output folder; whoever only looks is in nobody's way."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from daemon import lock
from daemon.core.errors import EnvironmentFault
from daemon.lock import Lock, holder_of


def test_who_looks_keeps_nobody_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` asks in the very moment of a start, and holds the lock for as long as that takes."""
    path = tmp_path / "lock"
    Lock(path).close()
    looking = os.open(path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(lock.time, "sleep", lambda _: os.close(looking))
    held = Lock(path)
    assert (holder_of(path) or {})["pid"] == os.getpid()
    held.close()
    assert holder_of(path) is None


def test_who_holds_it_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused within a second, and told who the first is."""
    waited: list[float] = []
    monkeypatch.setattr(lock.time, "sleep", waited.append)
    held = Lock(tmp_path / "lock")
    with pytest.raises(EnvironmentFault, match=f"pid {os.getpid()}"):
        Lock(tmp_path / "lock")
    assert 0 < sum(waited) < 1
    held.close()
