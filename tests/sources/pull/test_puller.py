"""When the daemon may begin a round."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from daemon.sources.pull.puller import Gate

GIB = 1 << 30


def disk(monkeypatch: pytest.MonkeyPatch, whole: int, free: int) -> None:
    found = SimpleNamespace(f_frsize=4096, f_blocks=whole // 4096, f_bavail=free // 4096)
    monkeypatch.setattr(os, "statvfs", lambda path: found)


@pytest.mark.parametrize(
    ("whole", "free", "is_closed"),
    [
        (500 * GIB, 2 * GIB, False),
        (500 * GIB, GIB - 4096, True),
        (2 * GIB, GIB // 8, False),
        (2 * GIB, GIB // 11, True),
    ],
)
def test_no_round_begins_while_the_disk_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int, free: int, is_closed: bool
) -> None:
    disk(monkeypatch, whole, free)
    assert ("nearly full" in Gate(tmp_path).why_closed()) == is_closed


def test_no_round_begins_while_the_daemon_is_paused_or_the_output_is_gone(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    assert gate.why_closed() == ""
    gate.is_paused = True
    assert "paused" in gate.why_closed()
    assert "No such file" in Gate(tmp_path / "gone").why_closed()
