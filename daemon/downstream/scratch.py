"""Scratch folders below the output, on its file system: links to the files that a run reads, and the files that it makes.

Each is locked by its process. One whose process ended without removing it is removed by the next daemon.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp

from ..storage import files

FOLDER = ".downstream"
VARIABLE = (
    "_STRANDLINE_SCRATCH"  # where a command that the daemon runs makes its temporary folder, so that a start removes it
)
_LOCK = "lock"


@contextmanager
def scratch(output: Path) -> Iterator[Path]:
    """A new scratch folder."""
    parent = output / FOLDER
    _make(parent)
    with _locked(parent, fcntl.LOCK_SH):
        folder = Path(mkdtemp(dir=parent))
        try:
            descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:  # a full disk: whoever tries again and again would leave many
            folder.rmdir()
            raise
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _make(parent: Path) -> None:
    """Creates the folder of all scratch folders. It belongs to whom the output belongs to: where root reads first, the daemon
    must be able to write to it afterwards."""
    try:
        parent.mkdir()
    except FileExistsError:
        return
    owner, made = parent.parent.stat(), parent.stat()
    if owner.st_uid != made.st_uid:
        os.chown(parent, owner.st_uid, owner.st_gid)


def remove_abandoned(output: Path) -> None:
    """Removes the scratch folders whose process has ended."""
    parent = output / FOLDER
    if not parent.is_dir():
        return
    with _locked(parent, fcntl.LOCK_EX):  # no folder is being made meanwhile, so one without a lock belongs to nobody
        for folder in parent.iterdir():
            if not _is_locked(folder):
                shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(parent: Path, how: int) -> Iterator[None]:
    """The folder of scratch folders, locked."""
    with files.opened(parent) as descriptor:
        fcntl.flock(descriptor, how)
        yield


def _is_locked(folder: Path) -> bool:
    try:
        with files.opened(folder / _LOCK, os.O_RDWR) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
