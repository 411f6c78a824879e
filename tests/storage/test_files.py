"""Folders that are made on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.storage import files


def test_a_folder_that_was_moved_away_does_not_come_back_with_a_part_of_its_content(tmp_path: Path) -> None:
    """A daemon that has not noticed yet must not begin a new output: the next one would find receipts without a ledger."""
    output = tmp_path / "output"
    with pytest.raises(FileNotFoundError, match="output"):
        files.make_folder(output / "receipts" / "received=2026-01-01", within=output)
    assert list(tmp_path.iterdir()) == []
    output.mkdir()
    files.make_folder(output / "receipts" / "received=2026-01-01", within=output)
    files.make_folder(output / "receipts" / "received=2026-01-01", within=output)
    assert (output / "receipts" / "received=2026-01-01").is_dir()
