"""Faults of the world, caused from outside: the real command runs under a preloaded library (faults.c), which counts every
durable operation below one folder and, at a chosen one, kills, fails, or cuts a write in two. It can also write them down.

Many thousand runs are possible since each is forked from a process that has imported everything already (server.py).
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
KILLED = -9


class Action(IntEnum):
    """What happens at the chosen operations; as in faults.c."""

    NOTHING = 0
    KILL_BEFORE = 1
    KILL_AFTER = 2
    KILL_WITHIN = 3  # half of a write is done; elsewhere as KILL_BEFORE
    FAIL = 4
    SHORT = 5  # a write takes half of what it was given
    STOP = 6  # the process stops before it (SIGSTOP), until somebody lets it go on


KILLS = (Action.KILL_BEFORE, Action.KILL_AFTER, Action.KILL_WITHIN)


class _Layout(ctypes.Structure):
    _fields_ = (
        ("count", ctypes.c_int64), ("first", ctypes.c_int64), ("last", ctypes.c_int64), ("acted", ctypes.c_int64),
        ("action", ctypes.c_int32), ("error", ctypes.c_int32), ("clock_offset", ctypes.c_int64),
        ("root", ctypes.c_char * 1024), ("record", ctypes.c_char * 1024), ("what", ctypes.c_char * 2048),
        ("stopped", ctypes.c_int64),
    )  # fmt: skip


class Control:
    """The page that the library and the harness share, in a file of its own. What is set counts at once."""

    def __init__(self, path: Path, root: Path, record: Path | None = None) -> None:
        self.path = path
        path.write_bytes(b"\0" * ctypes.sizeof(_Layout))
        with open(path, "r+b") as file:
            self._page = _Layout.from_buffer(mmap.mmap(file.fileno(), 0))
        self._page.record = os.fsencode(record or "")
        self._page.root = os.fsencode(root)

    def act(self, action: Action, first: int, last: int | None = None, error: int = 0) -> None:
        """At the operations from `first` on to `last` (only that one, if none is given), counted from 1."""
        self._page.first, self._page.last, self._page.error = first, first if last is None else last, error
        self._page.action = action

    def set_clock(self, wrong_by_seconds: float) -> None:
        """Puts the wall clock of the run's processes wrong."""
        self._page.clock_offset = int(wrong_by_seconds * 1e9)

    def heal(self) -> None:
        """Nothing happens any more."""
        self._page.action = Action.NOTHING

    @property
    def count(self) -> int:
        """Operations so far."""
        return int(self._page.count)

    @property
    def acted(self) -> int:
        """How often something happened."""
        return int(self._page.acted)

    @property
    def stopped(self) -> int:
        """The process that was stopped; 0 before."""
        return int(self._page.stopped)

    @property
    def what(self) -> str:
        """The first operation to which something happened, with its path below the root."""
        return os.fsdecode(self._page.what)


def library() -> Path | None:
    """The compiled library; None where there is no C compiler, or not Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None
    source = HERE / "faults.c"
    built = Path(tempfile.gettempdir()) / f"strandline-faults-{os.getuid()}-{source.stat().st_mtime_ns}.so"
    if not built.exists():
        fresh = built.with_suffix(f".{os.getpid()}-{threading.get_ident()}")  # two seeds may begin at once
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", fresh, source, "-ldl", "-lpthread"], check=True)
        fresh.rename(built)
    return built


def preloading(control: Control | None = None) -> dict[str, str]:
    """The environment in which a process starts with the library."""
    built = library()
    assert built is not None
    return os.environ | {"LD_PRELOAD": str(built), "FAULTS_CONTROL": str(control.path) if control else ""}


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, or minus the signal; and what it wrote to stderr."""

    status: int
    stderr: str


class Server:
    """A process that has imported everything, and forks a run of the real command at each request. Not thread-safe."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.server"], cwd=HERE.parents[1], env=preloading(),
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
        """Runs `strandline ARGUMENTS` in `home`, and waits for its end. TimeoutError where it does not come."""
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
