"""What runs calls on this machine: worker processes, or the caller itself. Knows nothing of what the calls do."""

from __future__ import annotations

import os
import signal
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from threading import Lock, Thread
from typing import Any

FEW_BYTES = 8 << 20  # up to so much (one piece) the caller reads itself
_PRELOADED = f"{__package__}.preloaded"  # `daemon` in a checkout, `strandline` where it is installed
_LEAST_WORKER_BYTES = 256 << 20  # a few times what the largest task needs that was divided
_FOR_THE_PARENT = (signal.SIGINT, signal.SIGTERM)


class Inline(Executor):
    """Runs each call at once, in this thread: for work that is too small to be worth a process."""

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **options))
        except BaseException as error:
            future.set_exception(error)
        return future


class Workers(Executor):
    """Worker processes that start when first used and end with this process, however it ends. Where one was killed, all are
    replaced at the next call: what ran there raised BrokenExecutor. `memory_bytes`: what all of them together may need for
    data; then a call raises MemoryError in its worker, and nothing else suffers."""

    def __init__(self, number: int, memory_bytes: int) -> None:
        self._number, self._memory_bytes = number, memory_bytes
        self._pool: ProcessPoolExecutor | None = None
        self._one_at_a_time = Lock()
        self._ended = False
        self.started = False  # whether a call would not have to wait for processes to start

    def start(self) -> None:
        """Lets processes start while the caller goes on."""
        if not self.started:
            Thread(target=self._try_to_start, name="start-workers").start()

    def _try_to_start(self) -> None:
        with suppress(Exception):  # the first call fails in the same way, where somebody hears it
            self.submit(int)

    def submit(self, function: Any, /, *arguments: Any, **options: Any) -> Future[Any]:
        with self._one_at_a_time:
            future = self._submitted(function, arguments, options)
            self.started = True
        return future

    def _submitted(self, function: Any, arguments: Any, options: Any) -> Future[Any]:
        if self._ended:
            raise RuntimeError("there are no workers any more")
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
    """Starts the process that workers are forked from, deaf to signals from its first moment on. Workers inherit that: a
    signal to the whole group (Ctrl-C, some supervisors) is for the parent to decide about."""
    get_context("forkserver").set_forkserver_preload([_PRELOADED])
    resource_tracker.ensure_running()  # sets the mask of signals itself
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_PARENT)
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def warm(executor: Executor, bytes_expected: int) -> None:
    """Lets worker processes start and import while drops are still being copied, if there will be work for them."""
    if isinstance(executor, Workers) and bytes_expected > FEW_BYTES:
        executor.start()


def _begin_worker(memory_bytes: int) -> None:
    import gc

    _limit_memory(memory_bytes)
    gc.disable()  # the objects of a parse hold no cycles, and looking for some costs a tenth of the time
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def _limit_memory(more_bytes: int) -> None:
    """Lets this process take so much more memory for data than it has (Linux). Beyond, what asks for it gets MemoryError,
    which costs one drop; without, the system would end some process, perhaps not this one."""
    import resource

    try:
        with open("/proc/self/status", encoding="ascii") as status:
            kilobytes = next(int(line.split()[1]) for line in status if line.startswith("VmData:"))
    except (OSError, StopIteration):
        return
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = (kilobytes << 10) + more_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
