"""Folders that are made on the way."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from threading import Thread

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


@pytest.mark.parametrize("flushes", [True, False], ids=["syncfs", "fsync"])
@pytest.mark.parametrize("count", [1, 60, 450])
def test_files_are_synced_while_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, flushes: bool
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(files, "sync", synced.append)
    monkeypatch.setattr(files, "_sync_all", lambda path: synced.extend(tmp_path.iterdir()))
    if not flushes:
        monkeypatch.setattr(files, "_syncfs", None)
    paths = [tmp_path / f"{number:03}" for number in range(count)]
    with files.synced_meanwhile(count) as written:
        for path in paths:
            files.write_new(path, b"x")
            written([path])
    left = set(paths) - set(synced)  # to be synced by the caller
    assert len(left) <= (files.SYNC_ALL_ABOVE if count > files.SYNC_ALL_ABOVE else 0)


def test_an_error_of_a_sync_beside_is_raised_since_no_later_one_would_report_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = iter([OSError(errno.EIO, "broken", "first")])

    def sync(path: Path) -> None:
        if error := next(failing, None):
            raise error

    monkeypatch.setattr(files, "sync", sync)
    with pytest.raises(OSError, match="broken"), files.synced_meanwhile(2) as written:
        written([tmp_path / "first"])
        written([tmp_path / "second"])


@pytest.mark.parametrize("can_start", [True, False])
@pytest.mark.parametrize("removed", [True, False])
def test_a_large_removed_file_is_closed_by_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_start: bool, removed: bool
) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(17 << 20)

    def start(thread: Thread) -> None:
        if not can_start:
            raise RuntimeError("can't start new thread")
        started.append(thread)

    started: list[Thread] = []
    monkeypatch.setattr(Thread, "start", start)
    descriptor = os.open(path, os.O_RDONLY)
    if removed:
        path.unlink()
    files.close(descriptor)
    assert len(started) == (removed and can_start)
    for thread in started:
        thread.run()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
