"""Executors on this machine: worker processes, or the calling thread. They know nothing of what the calls do."""

from __future__ import annotations

import os
import signal
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from threading import Lock, Thread
from typing import Any

FEW_BYTES = 8 << 20  # one piece: the caller reads this much itself
_PRELOADED = f"{__package__}.preloaded"  # the package is `daemon` in a checkout, `strandline` when installed
_LEAST_WORKER_BYTES = 256 << 20  # a few times the need of the largest task on a divided drop
_PARENT_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Inline(Executor):
    """Runs each call at once in this thread, for work that is not worth a process."""

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **options))
        except BaseException as error:
            future.set_exception(error)
        return future


class Workers(Executor):
    """Worker processes that start at the first call and end with this process, however it ends. Where one is killed, running
    calls raise BrokenExecutor, and the next call starts new processes. `memory_bytes`: the data limit of all workers together;
    a call beyond it raises MemoryError in its worker, and affects nothing else."""

    def __init__(self, number: int, memory_bytes: int) -> None:
        self._number, self._memory_bytes = number, memory_bytes
        self._pool: ProcessPoolExecutor | None = None
        self._one_at_a_time = Lock()
        self._ended = False
        self.started = False  # whether calls need not wait for processes to start

    def start(self) -> None:
        """Starts the processes in the background."""
        if not self.started:
            Thread(target=self._try_to_start, name="start-workers").start()

    def _try_to_start(self) -> None:
        with suppress(Exception):  # the first call fails in the same way, and reports it
            self.submit(int)

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        with self._one_at_a_time:
            future = self._submitted(function, arguments, options)
            self.started = True
        return future

    def _submitted(self, function: Any, arguments: Any, options: Any) -> Future[Any]:
        if self._ended:
            raise RuntimeError("the workers are shut down")
        if self._pool is not None:
            with suppress(BrokenExecutor):
                return self._pool.submit(function, *arguments, **options)
        self._pool = self._new_pool()
        return self._pool.submit(function, *arguments, **options)

    def _new_pool(self) -> ProcessPoolExecutor:
        context = get_context("forkserver")
        _start_forkserver()
        arguments = (max(self._memory_bytes // self._number, _LEAST_WORKER_BYTES),)
        return ProcessPoolExecutor(self._number, mp_context=context, initializer=_begin_worker, initargs=arguments)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._one_at_a_time:
            self._ended = True
        if self._pool is not None:
            self._pool.shutdown(wait, cancel_futures=cancel_futures)


def _start_forkserver() -> None:
    """Starts the process that workers are forked from, with signals blocked from its first moment. Workers inherit that: the
    parent alone handles a signal to the whole group (Ctrl-C, some supervisors)."""
    get_context("forkserver").set_forkserver_preload([_PRELOADED])
    resource_tracker.ensure_running()  # before, since it sets the signal mask itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _PARENT_SIGNALS)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def warm(executor: Executor, bytes_expected: int) -> None:
    """Starts worker processes while drops are still being copied, if there is enough to read."""
    if isinstance(executor, Workers) and bytes_expected > FEW_BYTES:
        executor.start()


def _begin_worker(memory_bytes: int) -> None:
    import gc

    _limit_memory(memory_bytes)
    gc.disable()  # a parse makes no cycles, and looking for them takes a tenth of its time
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def _limit_memory(more_bytes: int) -> None:
    """Limits how much more memory for data this process may take (Linux). Beyond it, an allocation raises MemoryError, which
    costs one drop. Without a limit, the system would kill some process, perhaps another one."""
    import resource

    try:
        with open("/proc/self/status", encoding="ascii") as status:
            kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = (kilobytes << 10) + more_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
