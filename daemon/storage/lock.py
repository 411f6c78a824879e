"""One writer per output folder. It holds flocks on the folder and on state/lock, which end with the process, however it ends.
The file is never unlinked.

A flock belongs to an inode, not to a path. If the folder of a running process is removed, moved or restored, that process keeps
its locks, and a second one can lock the new folder. So the holder checks, before each step that others rely on, that the paths
are still what it has open (`refuse_replaced`). The lock on the folder itself refuses a second process where only the content of
the folder was removed or replaced.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import EnvironmentFault, OutputReplaced
from . import files
from .receipts import local_text

_TRIES, _PAUSE_SECONDS = 6, 0.1
ALREADY_RUNNING = "It does this work already; stop it first if you want to replace it."
STOP_FIRST = "This command needs the output for itself: stop that one first, and start it again afterwards."


class Lock:
    """Holds an output folder while it is open. `holder_of` locks state/lock for a moment, so locking is tried for half a second.
    `output` may be a symbolic link; its target is checked, too. `hint`: what to do where another process holds it."""

    def __init__(self, output: Path, hint: str = STOP_FIRST) -> None:
        self._output, self._path, self._hint = output, output / "state" / "lock", hint
        files.make_folder(output.resolve() / "state")  # the target of a link may not exist yet
        self._folder = os.open(output, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._take_folder()
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except BaseException:
            os.close(self._folder)
            raise
        try:
            self._take_file()
            self._description = _self_description()
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, self._description, 0)
            self.refuse_replaced()  # it may be replaced between opening and locking
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        os.close(self._descriptor)
        os.close(self._folder)

    def refuse_replaced(self) -> None:
        """OutputReplaced where the folder or its lock file is gone, is another one, or was overwritten by a restore."""
        _refuse_other(self._folder, self._output, self._output)
        _refuse_other(self._descriptor, self._path, self._output)
        if files.read_at(self._descriptor, len(self._description) + 1, 0) != self._description:
            raise OutputReplaced(self._output, f"{self._path} was overwritten")

    def _take_folder(self) -> None:
        try:
            _take(self._folder)
        except BlockingIOError:
            holder = holder_of(self._path)
            cause = (
                f"another strandline holds it: {_described(holder)}"
                if holder
                else "it is held by a strandline that started before state/ was removed or replaced"
            )
            hint = self._hint if holder else f"Stop that one first; `fuser -v {self._output}` shows its process."
            raise EnvironmentFault("lock", self._output, cause, hint) from None
        except OSError:
            pass  # some network file systems cannot lock folders; the file is locked anyway

    def _take_file(self) -> None:
        try:
            _take(self._descriptor)
        except BlockingIOError:
            holder = _described(_values(files.read_at(self._descriptor, 4096, 0)))
            raise EnvironmentFault("lock", self._path, f"another strandline holds it: {holder}", self._hint) from None


def _refuse_other(descriptor: int, path: Path, output: Path) -> None:
    found = files.identity(path)
    if found != files.identity(descriptor):
        raise OutputReplaced(output, f"{path} is {'not what was opened at the start' if found else 'gone'}")


def _take(descriptor: int) -> None:
    for tries_left in reversed(range(_TRIES)):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if not tries_left:
                raise
        time.sleep(_PAUSE_SECONDS)


def holder_of(path: Path) -> dict[str, Any] | None:
    """The holder of the lock, as it describes itself: host, pid, since. None where nobody holds it."""
    try:
        with files.opened(path) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _values(files.read_at(descriptor, 4096, 0))
    except OSError:
        pass
    return None


def _values(holder: bytes) -> dict[str, Any]:
    try:
        values = json.loads(holder)
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def _self_description() -> bytes:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": since}).encode()


def _described(holder: dict[str, Any]) -> str:
    try:
        return f"host {holder['host']}, pid {holder['pid']}, since {local_text(holder['since'])}"
    except (KeyError, ValueError, TypeError):
        return "it has not written its description yet"
