"""Gives a message to a command on its standard input, without a shell. It is ended with its children: when it took too long, when
the daemon is to stop or was killed, and those that it leaves behind when it ends.

It inherits the environment of the daemon, and has the id of the message in NOTIFY_ID.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from ...sources.pull.template import Secrets
from ..contract import DownstreamFailed
from .notify_command_main import NOT_EXECUTABLE, NOT_FOUND
from .notify_tries import LOOKED_AT_BYTES, NotNow, tried, until, without_secrets
from .settings import Notify

_MAIN = Path(__file__).with_name("notify_command_main.py")
_GRACE_SECONDS = 2.0  # between SIGTERM and SIGKILL
_CHECK_SECONDS = 0.02
_OUTPUT_SECONDS = 1.0  # for what is left in the pipe when all that wrote to it have ended
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
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_MAIN), str(os.getpid()), *command], stdin=message, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, process_group=0, env=os.environ | {"NOTIFY_ID": number},
        )  # fmt: skip
    assert process.stdout is not None
    output = _Output(process.stdout)
    try:
        is_done = until(lambda: process.poll() is not None, settings.timeout, stopped)
    finally:
        _end(process)
        output.close()
    if not is_done:
        raise NotNow(
            f"{settings.where}: {name} took longer than timeout, {settings.timeout:g} s, for the message {number}, and was "
            "ended; it is told again"
        )
    said = output.end(secrets)
    if process.returncode in (NOT_FOUND, NOT_EXECUTABLE):
        raise DownstreamFailed(f"{settings.where}: cannot run {name}: {said}; correct command")
    if process.returncode:
        raise NotNow(
            f"{settings.where}: {name} ended with exit code {process.returncode} for the message {number}"
            f"{': ' + said if said else ''}; it is told again"
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a command and its children: politely while the command runs, then by force. What is left of one that has ended is
    ended at once."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        end = time.monotonic() + _GRACE_SECONDS
        while time.monotonic() < end and _signal(process, 0):
            time.sleep(_CHECK_SECONDS)
            process.poll()  # otherwise it would be there for ever
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[bytes], number: int) -> bool:
    """Sends a signal to the command and its children; False where there is none of them."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
        return True
    return False


class _Output:
    """The end of what a command prints. A process of another group that keeps the pipe open is not waited for."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._kept = b""
        self._reader = threading.Thread(target=self._read, args=(pipe,), name="command output", daemon=True)
        self._reader.start()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while block := os.read(pipe.fileno(), LOOKED_AT_BYTES):
                self._kept = (self._kept + block)[-LOOKED_AT_BYTES:]

    def close(self) -> None:
        """Waits for what is in the pipe."""
        self._reader.join(_OUTPUT_SECONDS)

    def end(self, secrets: Secrets) -> str:
        """The last line or two, without secrets."""
        text = without_secrets(self._kept, secrets)[-LOOKED_AT_BYTES // 2 :]
        lines = [line.strip() for line in text.splitlines() if line.strip()][-2:]
        return " / ".join(lines)[-_SHOWN_CHARACTERS:]
