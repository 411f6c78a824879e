"""A process of its own for SQL and pandas models: what it does there, it can do only to itself.

It has a limit of memory and of time, and ends with its parent. A call that takes too long, dies, or is stopped ends the process;
the next call starts a new one. A pandas model can change anything in its process, so that call ends the process, too: another
model must not see an environment or a decimal context that this one left.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from ..core.errors import Stopped, Unavailable
from .contract import DownstreamFailed
from .sandbox import Limits

_CHECK_SECONDS = 0.1
_ROOT = Path(__file__).resolve().parents[2]  # a checkout that is not installed is found here
_MAIN = f"{__package__}.worker_main"
_LAST_CALLS = {"run_pandas"}  # of a process


@dataclass(frozen=True, slots=True)
class TimeLimit:
    """How long a call may take, and the setting that says so."""

    seconds: float
    setting: str = "[models] time_limit"


class Worker:
    """One worker process at a time; started by the first call."""

    def __init__(self, limits: Limits, niceness: int = 0) -> None:
        self.limits, self._niceness = limits, niceness
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._calls = 0  # the number of the last one: an answer belongs to the call whose number it has

    def call(
        self,
        what: str,
        function: str,
        *arguments: Any,
        stopped: Callable[[], bool],
        time_limit: TimeLimit | None = None,
    ) -> Any:
        """The result of a function of worker_main. `what` begins the text of errors: the file, or the section of a destination.
        `time_limit`: in place of that of models. Raises DownstreamFailed, Unavailable, OSError as in the process, Stopped."""
        connection = self._started()
        self._calls += 1
        try:
            connection.send((self._calls, function, arguments))
            kind, value = self._answer(connection, what, stopped, time_limit or TimeLimit(self.limits.seconds))
        except (EOFError, ConnectionError):
            raise DownstreamFailed(f"{what}: {self._why_ended(self.close())}") from None
        finally:
            if function in _LAST_CALLS:
                self._kill()
        if kind == "result":
            return value
        if kind == "memory":
            raise DownstreamFailed(f"{what}: it needs more memory; {self._advice}")
        if kind == "system":
            raise OSError(*value)
        if kind == "unavailable":
            raise Unavailable(value)
        raise DownstreamFailed(value if kind == "failed" else f"{what}: {value}")

    def close(self) -> int | None:
        """Ends the process and those that it started; returns its exit code if it had ended by itself."""
        if self._process is None or self._connection is None:
            return None
        self._connection.close()
        code = self._process.poll()
        if code is None:
            with suppress(subprocess.TimeoutExpired):
                code = self._process.wait(_CHECK_SECONDS)
        self._kill()
        return code

    def _why_ended(self, code: int | None) -> str:
        """Of a process that left without an answer."""
        if code is None:
            return "it closed the connection of its process"
        if code >= 0:
            return f"it ended its process (exit code {code})"
        if code == -signal.SIGKILL:
            return f"its process was killed, most likely because memory ran out; {self._advice}"
        names = {one.value: one.name for one in signal.Signals}
        return f"its process was ended by the signal {names.get(-code, -code)}"

    @property
    def _advice(self) -> str:
        return f"it may have {self.limits.memory_bytes >> 20} MiB: see [models] memory_limit, or let it read less"

    def _answer(
        self, connection: Connection, what: str, stopped: Callable[[], bool], limit: TimeLimit
    ) -> tuple[str, Any]:
        end = time.monotonic() + limit.seconds
        while not connection.poll(_CHECK_SECONDS):
            if stopped():
                self._kill()
                raise Stopped("stopped while a model was running, or a destination was brought up to date")
            if time.monotonic() > end:
                self._kill()
                raise DownstreamFailed(
                    f"{what}: it took longer than {limit.setting}, {limit.seconds:g} s, and was ended"
                )
        try:
            number, kind, value = connection.recv()
        except (EOFError, ConnectionError):
            raise
        except Exception as error:  # several processes wrote to the connection
            self._kill()
            raise DownstreamFailed(f"{what}: the answer of its process cannot be read: {error}") from None
        if number != self._calls:
            self._kill()
            raise DownstreamFailed(f"{what}: its process gave an answer that is not the one to this call")
        return kind, value

    def _kill(self) -> None:
        """Kills the process, and those that a model started."""
        if self._process is None or self._connection is None:
            return
        self._connection.close()
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = self._connection = None

    def _started(self) -> Connection:
        if self._connection is not None and self._process is not None and self._process.poll() is None:
            return self._connection
        self.close()
        ours, theirs = Pipe()
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")])),
            "OPENBLAS_NUM_THREADS": "1",
        }
        numbers = (theirs.fileno(), self.limits.memory_bytes, os.getpid(), self._niceness)
        command = [sys.executable, "-P", "-m", _MAIN, *map(str, numbers)]  # -P: no module of the current folder
        self._process = subprocess.Popen(
            command, env=environment, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, process_group=0
        )
        theirs.close()
        self._connection = ours
        return ours
