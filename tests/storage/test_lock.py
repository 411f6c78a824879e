"""One writer for each output folder; whoever only looks is in nobody's way."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.core.errors import EnvironmentFault, OutputReplaced
from daemon.storage import lock
from daemon.storage.lock import Lock, holder_of


def test_who_looks_keeps_nobody_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`status` asks in the very moment of a start, and holds the lock for as long as that takes."""
    path = tmp_path / "state" / "lock"
    Lock(tmp_path).close()
    looking = os.open(path, os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr(lock.time, "sleep", lambda _: os.close(looking))
    held = Lock(tmp_path)
    assert (holder_of(path) or {})["pid"] == os.getpid()
    held.close()
    assert holder_of(path) is None


def test_who_holds_it_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second is refused within a second, and told who the first is."""
    waited: list[float] = []
    monkeypatch.setattr(lock.time, "sleep", waited.append)
    held = Lock(tmp_path)
    with pytest.raises(EnvironmentFault, match=f"pid {os.getpid()}"):
        Lock(tmp_path)
    assert 0 < sum(waited) < 1
    held.close()
    Lock(tmp_path).close()


def _remove_state(output: Path) -> None:
    shutil.rmtree(output / "state")


def _replace_file(output: Path) -> None:
    (output / "state" / "lock").rename(output / "state" / "old")
    shutil.copy2(output / "state" / "old", output / "state" / "lock")


def _write_over(output: Path) -> None:
    """As `cp -a backup/. output` does: the same inode."""
    (output / "state" / "lock").write_bytes(b'{"host": "h", "pid": 1, "since": "2026-01-01T00:00:00+00:00"}')


def _move_away(output: Path) -> None:
    output.rename(output.with_name("away"))


def _restore(output: Path) -> None:
    shutil.copytree(output, output.with_name("restored"))
    _move_away(output)
    output.with_name("restored").rename(output)


@pytest.mark.parametrize("replace", [_remove_state, _replace_file, _write_over, _move_away, _restore])
def test_the_holder_notices_that_its_folder_is_another(tmp_path: Path, replace: Callable[[Path], None]) -> None:
    """Gone, other inodes, or other content; the error names the folder and says what to do."""
    output = tmp_path / "output"
    held = Lock(output)
    held.refuse_replaced()
    replace(output)
    with pytest.raises(OutputReplaced, match=r"could not go on with .*/output: .*start again"):
        held.refuse_replaced()
    held.close()


def test_a_link_that_leads_elsewhere_now_is_noticed(tmp_path: Path) -> None:
    """Another instance would follow the link to another folder, over the same inbox."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    output = tmp_path / "output"
    output.symlink_to("one")
    held = Lock(output)
    output.unlink()
    output.symlink_to("two")
    with pytest.raises(OutputReplaced):
        held.refuse_replaced()
    held.close()


def test_a_link_to_a_folder_that_is_not_there_yet_makes_it(tmp_path: Path) -> None:
    """As for any output that is used for the first time."""
    (tmp_path / "output").symlink_to("disk/output")
    Lock(tmp_path / "output").close()
    assert (tmp_path / "disk" / "output" / "state" / "lock").is_file()


@pytest.mark.parametrize("replace", [_remove_state, _replace_file])
def test_a_folder_whose_state_was_replaced_is_still_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replace: Callable[[Path], None]
) -> None:
    """The new lock file is free, and the folder is not: the second is refused, and told how to find the first."""
    monkeypatch.setattr(lock.time, "sleep", lambda _: None)
    held = Lock(tmp_path)
    replace(tmp_path)
    with pytest.raises(EnvironmentFault, match=r"before state/ was removed or replaced.*fuser"):
        Lock(tmp_path)
    held.close()
    Lock(tmp_path).close()
