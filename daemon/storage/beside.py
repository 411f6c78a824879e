"""Waits for the disk in a thread beside the work: syncs files while others are made, and frees the space of removed ones.

Where no thread can be had, the result is the same, but comes later.
"""

from __future__ import annotations

import os
import resource
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock, Thread

from .files import SYNC_ALL_ABOVE, sync_many

_FREED_AT_ONCE = 4 << 20  # bytes
_MOST_TO_CLOSE = 100  # open files
_to_close: deque[int] = deque()  # large removed files
_closing = Lock()  # held by the thread that closes them


@contextmanager
def synced_meanwhile(expected: int) -> Iterator[Callable[[Iterable[Path]], None]]:
    """A block that writes about `expected` files. It passes the paths of those that are written, and a thread syncs them while
    the next ones are made. The caller still has to sync all of them, which takes less time then. Raises the first error of the
    thread, since a later sync may not report it again. If the block itself fails, that error is lost: do not use its files."""
    waiting: list[Path] = []
    begun: list[Future[None]] = []
    with ThreadPoolExecutor(1) as thread:

        def written(paths: Iterable[Path]) -> None:
            waiting.extend(paths)
            if expected <= SYNC_ALL_ABOVE or len(waiting) > SYNC_ALL_ABOVE:
                with suppress(RuntimeError):  # no thread can be had
                    begun.append(thread.submit(sync_many, tuple(waiting)))
                waiting.clear()

        try:
            yield written
        except BaseException:
            thread.shutdown(wait=False, cancel_futures=True)
            raise
        for one in begun:
            one.result()


def close(descriptor: int) -> None:
    """Closes a file. A thread does it if the file is large and removed, since the last close waits until the space is free
    (0.15 s for 500 MB, whether one file or a hundred)."""
    if not _is_large_and_removed(descriptor) or len(_to_close) >= _most_to_close():
        os.close(descriptor)
        return
    _to_close.append(descriptor)
    if _closing.acquire(blocking=False):
        try:
            Thread(target=_close_all).start()
        except (RuntimeError, MemoryError):  # no thread can be had
            _close_all()


def _most_to_close() -> int:
    """An eighth of the files that this process may have open."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_TO_CLOSE if limit == resource.RLIM_INFINITY else min(limit // 8, _MOST_TO_CLOSE)


def _is_large_and_removed(descriptor: int) -> bool:
    try:
        found = os.fstat(descriptor)
    except OSError:
        return False
    return found.st_nlink == 0 and found.st_size > _FREED_AT_ONCE


def _close_all() -> None:
    """Closes what waits, and what comes meanwhile. Called with the lock, and releases it."""
    is_mine = True
    while is_mine:
        while _to_close:
            with suppress(OSError):
                os.close(_to_close.popleft())
        _closing.release()
        is_mine = bool(_to_close) and _closing.acquire(blocking=False)  # one that came just before the release
