"""One writer for each output folder: an flock that ends with the process, however it ends. The file is never unlinked."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import files
from .core.errors import EnvironmentFault

_TRIES, _PAUSE_SECONDS = 6, 0.1


class Lock:
    """Holds state/lock while it is open. Whoever looks who holds it (`holder_of`) has it for a moment, so one refusal says
    nothing: it is tried for half a second."""

    def __init__(self, path: Path) -> None:
        files.make_folder(path.parent)
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            _take(self._descriptor)
        except BlockingIOError:
            holder = _values(os.pread(self._descriptor, 4096, 0))
            os.close(self._descriptor)
            raise EnvironmentFault(
                "lock", path, f"another strandline holds it: {_described(holder)}",
                "It is doing this work already; stop it first if you mean to replace it.",
            ) from None  # fmt: skip
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, _self_description(), 0)

    def close(self) -> None:
        os.close(self._descriptor)


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
    """Who holds the lock, as far as it has said: host, pid, since. None where nobody does."""
    try:
        with files.opened(path) as descriptor:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _values(os.pread(descriptor, 4096, 0))
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
        return f"host {holder['host']}, pid {holder['pid']}, since {holder['since']}"
    except KeyError:
        return "it has not said who it is yet"
