"""Fault injection from outside: the real command runs under a preloaded library (faults.c) that counts every durable operation
under one folder. At a chosen operation it kills the process, makes the operation fail, or cuts a write short. It can also record
the operations; or it counts the operations that read, and makes these fail or cuts them short.

Each run is forked from a process that has already imported everything (server.py), so that many thousand runs are possible.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

HERE = Path(__file__).resolve().parent
MANY = 1 << 62
COMMAND = "daemon.cli:main"
KILLED = -9


class Action(IntEnum):
    """What happens at the chosen operations. The values are those of faults.c."""

    NOTHING = 0
    KILL_BEFORE = 1
    KILL_AFTER = 2
    KILL_WITHIN = 3  # after half of a write; like KILL_BEFORE for other operations
    FAIL = 4
    SHORT = 5  # a write or a read takes half of its bytes
    STOP = 6  # the process stops before it (SIGSTOP) until the test continues it


KILLS = (Action.KILL_BEFORE, Action.KILL_AFTER, Action.KILL_WITHIN)


class _Layout(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_int64), ("first", ctypes.c_int64), ("last", ctypes.c_int64), ("acted", ctypes.c_int64),
        ("action", ctypes.c_int32), ("error", ctypes.c_int32), ("clock_offset", ctypes.c_int64),
        ("root", ctypes.c_char * 1024), ("record", ctypes.c_char * 1024), ("what", ctypes.c_char * 2048),
        ("stopped", ctypes.c_int64), ("reads", ctypes.c_int32),
    )  # fmt: skip


class Control:
    """The memory page that the library and the harness share, mapped from a file. Changes take effect at once. `reads`: the
    operations are those that read, not the durable ones."""

    def __init__(self, path: Path, root: Path, record: Path | None = None, *, reads: bool = False) -> None:
        self.path = path
        path.write_bytes(b"\0" * ctypes.sizeof(_Layout))
        with open(path, "r+b") as file:
            self._page = _Layout.from_buffer(mmap.mmap(file.fileno(), 0))
        self._page.record = os.fsencode(record or "")
        self._page.root = os.fsencode(root)
        self._page.reads = reads

    def act(self, action: Action, first: int, last: int | None = None, error: int = 0) -> None:
        """Sets the action for the operations from `first` to `last` (default: only `first`), counted from 1."""
        self._page.first, self._page.last, self._page.error = first, first if last is None else last, error
        self._page.action = action

    def set_clock(self, wrong_by_seconds: float) -> None:
        """Shifts the wall clock of the processes."""
        self._page.clock_offset = int(wrong_by_seconds * 1e9)

    def heal(self) -> None:
        """Ends the faults."""
        self._page.action = Action.NOTHING

    @property
    def count(self) -> int:
        """The number of operations so far."""
        return int(self._page.count)

    @property
    def acted(self) -> int:
        """The number of operations with a fault."""
        return int(self._page.acted)

    @property
    def stopped(self) -> int:
        """The pid of the stopped process; 0 if there is none."""
        return int(self._page.stopped)

    @property
    def what(self) -> str:
        """The first operation with a fault, with its path relative to the root."""
        return os.fsdecode(self._page.what)


def library() -> Path | None:
    """The compiled library; None without a C compiler or outside Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    source = HERE / "faults.c"
    built = Path(tempfile.gettempdir()) / f"strandline-faults-{os.getuid()}-{source.stat().st_mtime_ns}.so"
    if not built.exists():
        fresh = built.with_suffix(f".{os.getpid()}-{threading.get_ident()}")  # two processes may compile at once
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", fresh, source, "-ldl", "-lpthread"], check=True)
        fresh.rename(built)
    return built


def preloading(control: Control | None = None) -> dict[str, str]:
    """The environment that loads the library into a process."""
    built = library()
    assert built is not None
    return os.environ | {"LD_PRELOAD": str(built), "FAULTS_CONTROL": str(control.path) if control else ""}


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code or the negative signal number, and its stderr."""

    status: int
    stderr: str


class Server:
    """A process that has imported everything, and forks a run of the real command, or of another function that takes its
    arguments and returns its exit code, at each request. Not thread-safe."""

    def __init__(self, main: str = COMMAND) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server", main], cwd=HERE.parents[1], env=preloading(),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(
        self,
        home: Path,
        control: Control | None,
        arguments: Sequence[str] = ("--once",),
        mutant: str = "",
        timeout: float = 60,
    ) -> Ended:
        """Runs `strandline ARGUMENTS` in `home` and waits until it ends. Raises TimeoutError if it does not."""
        request = {
            "home": str(home), "control": str(control.path) if control else "", "arguments": list(arguments),
            "mutant": mutant, "timeout": timeout,
        }  # fmt: skip
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer["status"] is None:
            raise TimeoutError(f"a run in {home} took more than {timeout} s:\n{answer['stderr']}")
        return Ended(answer["status"], answer["stderr"])

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
