"""Gives a message to a command on its standard input, without a shell. It is ended with its children at its time limit.

The command inherits the environment of the daemon. One whose daemon is killed goes on; the message is then sent again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import IO

from ...core.errors import Stopped
from ...sources.pull.template import Secrets
from ..contract import DownstreamFailed
from .notify_tries import NotNow, tried, until
from .settings import Notify

_GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL
_KEPT_BLOCKS, _BLOCK_BYTES = 4, 1024  # of the end of its output
_SHOWN_CHARACTERS = 300


def send(settings: Notify, secrets: Secrets, number: str, body: bytes, stopped: Callable[[], bool]) -> None:
    """Runs the command for one message, in a few tries. Raises DownstreamFailed, Unavailable, Stopped. `secrets` are read."""
    command = [secrets.filled(text, {}) or text for text in settings.command]
    tried(lambda: _run(settings, secrets, command, number, body, stopped), settings.attempts, stopped)


def _run(
    settings: Notify, secrets: Secrets, command: list[str], number: str, body: bytes, stopped: Callable[[], bool]
) -> None:
    """One try: success is exit code 0. The message is a file: a command that reads none of it is not ended by that."""
    name = secrets.hidden_in(settings.command[0])
    with tempfile.TemporaryFile() as message:
        message.write(body)
        message.seek(0)
        try:
            process = subprocess.Popen(
                command, stdin=message, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            raise DownstreamFailed(f"{settings.where}: cannot run {name}: {why}; correct command") from None
    assert process.stdout is not None
    output = _Output(process.stdout)
    try:
        is_done = until(lambda: process.poll() is not None, settings.timeout, stopped)
    except Stopped:
        _end(process)
        raise
    finally:
        if process.poll() is not None:
            output.close()
    if not is_done:
        _end(process)
        output.close()
        raise NotNow(
            f"{settings.where}: {name} took longer than timeout, {settings.timeout:g} s, for the message {number}, and was "
            "ended; it is told again"
        )
    if process.returncode:
        said = secrets.hidden_in(output.end())
        raise NotNow(
            f"{settings.where}: {name} ended with exit code {process.returncode} for the message {number}"
            f"{': ' + said if said else ''}; it is told again"
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and its children: politely, then by force."""
    for number, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, None)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    with suppress(ProcessLookupError):  # children that survived SIGTERM, though the command itself ended
        os.killpg(process.pid, signal.SIGKILL)


class _Output:
    """The end of what a command prints. A child that keeps the pipe open is not waited for."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._blocks: deque[bytes] = deque(maxlen=_KEPT_BLOCKS)
        self._reader = threading.Thread(target=self._read, args=(pipe,), name="command output", daemon=True)
        self._reader.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while block := os.read(pipe.fileno(), _BLOCK_BYTES):
                self._blocks.append(block)

    def close(self) -> None:
        """Waits a moment for what is in the pipe."""
        self._reader.join(0.2)

    def end(self) -> str:
        """The last line or two."""
        lines = b"".join(list(self._blocks)).decode(errors="replace").strip().splitlines()[-2:]
        text = " / ".join(line.strip() for line in lines if line.strip())[-_SHOWN_CHARACTERS:]
        return "".join(one if one.isprintable() else "?" for one in text)
