"""Scratch folders: one's own while it lasts, and nobody's once its process is gone."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.downstream.scratch import FOLDER, remove_abandoned, scratch
from tests.faults.limits import filled, small_file_system
from tests.support import REPO

_PROGRAM = """
import sys
from pathlib import Path
from daemon.downstream.scratch import scratch
with scratch(Path(sys.argv[1])) as folder:
    (folder / "file").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_scratch_folder_is_on_the_output_and_gone_afterwards(tmp_path: Path) -> None:
    """Also when what is done in it fails; each is another one."""
    with pytest.raises(RuntimeError), scratch(tmp_path) as one, scratch(tmp_path) as other:
        assert one != other and one.parent == tmp_path / FOLDER
        (one / "in").mkdir()
        (one / "in" / "file").write_text("x")
        raise RuntimeError
    assert list((tmp_path / FOLDER).iterdir()) == []


def test_only_the_folders_of_ended_processes_are_removed(tmp_path: Path) -> None:
    """Not those of this process nor of another one that runs; of one that was killed, at once."""
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)],
        cwd=REPO,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    theirs = Path(process.stdout.readline().strip())
    with scratch(tmp_path) as ours:
        remove_abandoned(tmp_path)
        assert ours.exists() and (theirs / "file").exists()
        process.send_signal(signal.SIGKILL)
        process.wait()
        remove_abandoned(tmp_path)
        assert ours.exists() and not theirs.exists()


def test_a_folder_whose_process_was_killed_at_its_beginning_or_end_is_removed(tmp_path: Path) -> None:
    """When it was not locked yet, or its lock was removed already."""
    (tmp_path / FOLDER / "begun").mkdir(parents=True)
    (tmp_path / FOLDER / "ended" / "in").mkdir(parents=True)
    (tmp_path / FOLDER / "ended" / "in" / "file").write_text("x")
    remove_abandoned(tmp_path)
    assert list((tmp_path / FOLDER).iterdir()) == []


@pytest.mark.parametrize("left_files", [0, 1])
def test_on_a_full_disk_none_is_left_behind(tmp_path: Path, left_files: int) -> None:
    """Neither where no folder can be made nor where there is room for the folder alone."""
    with small_file_system(tmp_path / "small", "size=1m,nr_inodes=20") as output:
        if output is None:
            pytest.skip("mounting a small file system is not allowed here")
        (output / FOLDER).mkdir()
        with filled(output, None, left_files):
            with pytest.raises(OSError) as raised, scratch(output):
                pass
            assert raised.value.errno == errno.ENOSPC and str(raised.value.filename).startswith(str(output / FOLDER))
            assert list((output / FOLDER).iterdir()) == []
        with scratch(output) as folder:
            assert folder.is_dir()


def test_an_output_without_scratch_folders_stays_as_it_is(tmp_path: Path) -> None:
    """Nothing is made."""
    remove_abandoned(tmp_path)
    assert list(tmp_path.iterdir()) == []
