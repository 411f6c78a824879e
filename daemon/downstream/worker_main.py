"""The main program of a worker: answers calls of its parent until the parent closes the connection or ends.

python -m strandline.downstream.worker_main DESCRIPTOR MEMORY_BYTES PARENT NICENESS
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any

# The limit is of address space, which DuckDB and allocators take more of than they use. DuckDB keeps to its own limit, and writes
# to disk what does not fit; so for SQL this one is only the last resort.
_BESIDES_BYTES = 512 << 20
_SQL_FACTOR = 3
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# What can be called, and where it is
_MODULES = {
    "inspect": "inspection",
    "run_sql": "runs",
    "run_pandas": "pandas_runs",
    "destination_contents": "destinations.work",
    "destination_deliver": "destinations.work",
    "destination_differences": "destinations.work",
}


def main() -> None:
    descriptor, memory_bytes, parent, niceness = map(int, sys.argv[1:])
    _die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a model prints
    os.nice(niceness)
    connection, own = Connection(descriptor), os.getpid()
    while True:
        try:
            number, name, arguments = connection.recv()
        except EOFError:
            return
        _limit_memory(memory_bytes if name == "run_pandas" else _SQL_FACTOR * memory_bytes)
        try:
            answer: tuple[str, Any] = ("result", call(name, arguments))
        except MemoryError:
            answer = ("memory", None)
        except BaseException as error:
            answer = _described(error)
        if os.getpid() != own:  # a model forked: this process has the same connection, and must not answer on it
            os._exit(0)
        with suppress(Exception):  # the next call may come with SIGKILL
            sys.stdout.flush()
        connection.send((number, *answer))


def call(name: str, arguments: Sequence[Any]) -> Any:
    """The result of a function. Its module is imported now: pandas and DuckDB are not needed by every worker."""
    return getattr(import_module(f".{_MODULES[name]}", __package__), name)(*arguments)


def _described(error: BaseException) -> tuple[str, Any]:
    """An error as the parent raises it again."""
    from ..core.errors import Unavailable, cause_of, raised_in
    from .contract import DownstreamFailed

    if isinstance(error, DownstreamFailed):
        return "failed", str(error)
    if isinstance(error, Unavailable):
        return "unavailable", str(error)
    if isinstance(error, OSError) and error.errno is not None:
        return "system", (error.errno, error.strerror, error.filename)
    return "unexpected", f"an unexpected error in {raised_in(error)}: {cause_of(error)}. Please report this"


def _limit_memory(memory_bytes: int) -> None:
    """Beyond this much data, an allocation fails in this process alone."""
    wanted = memory_bytes + _BESIDES_BYTES
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _die_with_parent(parent: int) -> None:
    """Ends this process, and those that a model started, in the middle of a call when the parent is gone. Where the kernel can
    do it, even while a model holds Python's lock."""
    with suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    pause = threading.Event()
    while os.getppid() == parent:
        pause.wait(0.5)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
