"""What the disk does in a thread beside the work: syncs files while others are made, and frees the space of removed ones.

Without the thread, because none can be had, the result is the same, and comes later.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread

from .files import SYNC_ALL_ABOVE, sync_many

_FREED_AT_ONCE = 4 << 20  # bytes
_freeing = Lock()  # held by the thread that closes a large removed file


@contextmanager
def synced_meanwhile(expected: int) -> Iterator[Callable[[Iterable[Path]], None]]:
    """A block that writes about `expected` files, and passes the paths of those that are written: a thread syncs them while the
    next ones are made, so that less is left for the caller, who syncs all of them again. Raises the first error of the thread,
    since a later sync may not report it. Where the block fails, that error is lost: its files must not be used."""
    waiting: list[Path] = []
    begun: list[Future[None]] = []
    with ThreadPoolExecutor(1) as beside:

        def written(paths: Iterable[Path]) -> None:
            waiting.extend(paths)
            if expected <= SYNC_ALL_ABOVE or len(waiting) > SYNC_ALL_ABOVE:
                with suppress(RuntimeError):  # no thread can be had
                    begun.append(beside.submit(sync_many, tuple(waiting)))
                waiting.clear()

        try:
            yield written
        except BaseException:
            beside.shutdown(wait=False, cancel_futures=True)
            raise
        for one in begun:
            one.result()


def close(descriptor: int) -> None:
    """Closes a file. Where it is large and removed, a thread does it, one file at a time, since whoever closes it last waits
    until its space is free, 0.15 s of 500 MB."""
    if _is_large_and_removed(descriptor) and _freeing.acquire(blocking=False):
        try:
            Thread(target=_free, args=(descriptor,)).start()
            return
        except (RuntimeError, MemoryError):  # no thread can be had
            _freeing.release()
    os.close(descriptor)


def _is_large_and_removed(descriptor: int) -> bool:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return found.st_nlink == 0 and found.st_size > _FREED_AT_ONCE


def _free(descriptor: int) -> None:
    try:
        with suppress(OSError):
            os.close(descriptor)
    finally:
        _freeing.release()
