"""Worker processes: what they have loaded, how they start beside the caller, and how they end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import suppress

import pytest

from daemon.execution.workers import Workers

PLENTY = 1 << 30
DEADLINE_SECONDS = 30


@pytest.fixture
def workers() -> Iterator[Workers]:
    made = Workers(2, PLENTY)
    yield made
    made.shutdown()


def wait_until_started(workers: Workers) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not workers.started:
        assert time.monotonic() < deadline, "no workers after all this time"
        time.sleep(0.01)


def test_workers_have_what_calls_need_and_no_pandas(workers: Workers) -> None:
    """pandas would cost each start an eighth of a second, and each process 30 MB."""
    loaded = workers.submit(eval, "sorted(__import__('sys').modules)").result(DEADLINE_SECONDS)
    assert {"daemon.execution.tasks", "pyarrow", "numpy"} <= set(loaded)
    assert not {"pandas", "duckdb"} & set(loaded)


def test_they_start_beside_the_caller(workers: Workers) -> None:
    """`started` tells when a call would find a process waiting."""
    assert not workers.started
    workers.start()
    wait_until_started(workers)
    assert workers.submit(os.getpid).result(DEADLINE_SECONDS) != os.getpid()


def test_calls_while_they_start_are_served_by_the_same(workers: Workers) -> None:
    """Nobody starts a second set of processes."""
    for _ in range(3):
        workers.start()
    pids = {future.result(DEADLINE_SECONDS) for future in [workers.submit(os.getpid) for _ in range(20)]}
    wait_until_started(workers)
    assert 1 <= len(pids | {workers.submit(os.getpid).result(DEADLINE_SECONDS)}) <= 2


def test_none_start_after_the_end() -> None:
    """A start that comes too late leaves no process behind, and a call says so."""
    workers = Workers(1, PLENTY)
    workers.shutdown()
    workers.start()
    with pytest.raises(RuntimeError, match="the workers are shut down"):
        workers.submit(os.getpid)
    assert not workers.started


def test_an_end_during_the_start_ends_them() -> None:
    """Whoever starts them does not outlive their end."""
    workers = Workers(1, PLENTY)
    workers.start()
    workers.shutdown()
    with pytest.raises(RuntimeError, match="the workers are shut down"):
        workers.submit(os.getpid)


def test_a_killed_worker_is_replaced(workers: Workers) -> None:
    """What ran there fails; the next call finds others."""
    pid = workers.submit(os.getpid).result(DEADLINE_SECONDS)
    running = workers.submit(time.sleep, DEADLINE_SECONDS)
    os.kill(pid, signal.SIGKILL)
    with suppress(ProcessLookupError):  # the sleeper may be the second worker
        for other in list(workers._pool._processes):  # type: ignore[union-attr]
            os.kill(other, signal.SIGKILL)
    with pytest.raises(BrokenExecutor):
        running.result(DEADLINE_SECONDS)
    assert workers.submit(os.getpid).result(DEADLINE_SECONDS) != pid
