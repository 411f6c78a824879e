"""The file that pauses: what counts as a pause, and what is shown of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.sources.pull.puller import Gate
from daemon.storage.pause import Pause, pause, paused, resume
from daemon.storage.receipts import local_text


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path


def test_a_pause_is_there_until_it_is_ended(output: Path) -> None:
    """It has when, who and why; a second one changes nothing, a second end is none."""
    assert paused(output) is None and resume(output) is None
    made = pause(output, 1_700_000_000.0, "new\nwarehouse")
    assert (made.since, made.reason, made.timestamp) == ("2023-11-14T22:13:20+00:00", "new warehouse", 1_700_000_000.0)
    assert made.by
    assert pause(output, 1_800_000_000.0, "another") == made == paused(output)
    assert resume(output) == made
    assert paused(output) is None and list((output / "state").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"since": 5}'])
def test_a_file_that_cannot_be_read_pauses_too(output: Path, content: bytes) -> None:
    """Whoever wrote it wanted that; and metrics do not show 0, which is no pause."""
    (output / "state" / "paused").write_bytes(content)
    found = paused(output)
    assert found is not None and found.timestamp == 1.0 and str(found).startswith("paused")
    assert resume(output) == found and paused(output) is None


def test_an_output_that_is_gone_is_not_paused(tmp_path: Path) -> None:
    """That it is gone is told elsewhere."""
    assert paused(tmp_path / "gone") is None
    (tmp_path / "file").touch()
    assert paused(tmp_path / "file") is None


def test_no_api_is_read_meanwhile(output: Path) -> None:
    """The gate of the pulls says why."""
    gate = Gate(output)
    assert gate.why_closed() == ""
    pause(output, 1_700_000_000.0, "moving")
    assert "paused since 2023" in gate.why_closed() and "(moving)" in gate.why_closed()
    resume(output)
    assert gate.why_closed() == ""


def test_a_pause_says_what_is_known_of_it() -> None:
    """Nothing more, where nothing is."""
    assert str(Pause()) == "paused"
    assert str(Pause("2026-01-01T00:00:00+00:00", "ann", "stock-taking")) == (
        f"paused since {local_text('2026-01-01T00:00:00+00:00')} by ann (stock-taking)"
    )
