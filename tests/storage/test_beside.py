"""Files that are synced while others are written, and removed ones whose space is freed, in a thread or without one."""

from __future__ import annotations

import errno
import os
import resource
import threading
import time
from pathlib import Path
from threading import Thread

import pytest

from daemon.storage import beside, files


@pytest.mark.parametrize("flushes", [True, False], ids=["syncfs", "fsync"])
@pytest.mark.parametrize("count", [1, 60, 450])
def test_files_are_synced_in_a_thread_while_others_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int, flushes: bool
) -> None:
    synced: list[Path] = []
    flushed: list[Path] = []

    def sync(path: Path) -> None:
        assert threading.current_thread() is not threading.main_thread()
        synced.append(path)

    def sync_all(path: Path) -> None:
        assert threading.current_thread() is not threading.main_thread()
        flushed.append(path)
        synced.extend(tmp_path.iterdir())

    monkeypatch.setattr(files, "sync", sync)
    monkeypatch.setattr(files, "_sync_all", sync_all)
    if not flushes:
        monkeypatch.setattr(files, "_syncfs", None)
    paths = [tmp_path / f"{number:03}" for number in range(count)]
    with beside.synced_meanwhile(count) as written:
        for path in paths:
            files.write_new(path, b"x")
            written([path])
    left = set(paths) - set(synced)  # for the caller
    assert len(left) <= (files.SYNC_ALL_ABOVE if count > files.SYNC_ALL_ABOVE else 0)
    assert len(flushed) == (count // (files.SYNC_ALL_ABOVE + 1) if flushes else 0)
    assert flushes or len(synced) == len(set(synced))


def test_an_error_of_a_sync_is_raised_since_no_later_one_would_report_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = iter([OSError(errno.EIO, "broken", "first")])

    def sync(path: Path) -> None:
        if error := next(failing, None):
            raise error

    monkeypatch.setattr(files, "sync", sync)
    with pytest.raises(OSError, match="broken"), beside.synced_meanwhile(2) as written:
        written([tmp_path / "first"])
        written([tmp_path / "second"])


def test_a_block_that_fails_waits_for_no_sync_that_has_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[Path] = []
    monkeypatch.setattr(files, "sync", lambda path: (begun.append(path), time.sleep(0.1)))
    with pytest.raises(KeyError), beside.synced_meanwhile(100) as written:
        for number in range(100):
            written([tmp_path / str(number)])
        raise KeyError
    assert len(begun) < 50


def test_files_are_left_to_the_caller_where_no_thread_can_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(thread: Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(Thread, "start", start)
    with beside.synced_meanwhile(2) as written:
        written([tmp_path / "first"])
        written([tmp_path / "second"])


class Closing:
    """Files that are removed and open, and the threads that are to close them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.can_start = folder / "large", True
        self.started: list[Thread] = []

        def start(thread: Thread) -> None:
            if not self.can_start:
                raise RuntimeError("can't start new thread")
            self.started.append(thread)

        monkeypatch.setattr(Thread, "start", start)

    def opened(self, size: int, *, removed: bool = True) -> int:
        with self.path.open("wb") as file:
            file.truncate(size)
        descriptor = os.open(self.path, os.O_RDONLY)
        if removed:
            self.path.unlink()
        return descriptor

    def run(self) -> None:
        for thread in self.started:
            thread.run()
        self.started.clear()


@pytest.fixture
def closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Closing:
    return Closing(tmp_path, monkeypatch)


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError as error:
        assert error.errno == errno.EBADF
        return False
    return True


@pytest.mark.parametrize(
    ("size", "removed", "beside_it"),
    [((4 << 20) + 1, True, True), (4 << 20, True, False), ((4 << 20) + 1, False, False)],
)
def test_a_large_removed_file_is_closed_by_a_thread(
    closing: Closing, size: int, removed: bool, beside_it: bool
) -> None:
    descriptor = closing.opened(size, removed=removed)
    beside.close(descriptor)
    assert is_open(descriptor) == beside_it and len(closing.started) == beside_it
    closing.run()
    assert not is_open(descriptor)


def test_one_thread_closes_all_files(closing: Closing) -> None:
    """The drops of a batch would start hundreds of threads, or keep as many files open."""
    many = [closing.opened(5 << 20) for _ in range(101)]
    for descriptor in many:
        beside.close(descriptor)
    assert len(closing.started) == 1
    assert [is_open(descriptor) for descriptor in many] == [True] * 100 + [False]
    closing.run()
    assert not any(map(is_open, many))
    later = closing.opened(5 << 20)
    beside.close(later)
    assert is_open(later) and len(closing.started) == 1
    closing.run()
    assert not is_open(later)


@pytest.mark.parametrize(("limit", "most"), [(64, 8), (12, 1), (4, 0), (4_096, 100), (resource.RLIM_INFINITY, 100)])
def test_few_files_wait_where_few_may_be_open(
    closing: Closing, monkeypatch: pytest.MonkeyPatch, limit: int, most: int
) -> None:
    many = [closing.opened(5 << 20) for _ in range(most + 1)]
    with monkeypatch.context() as patch:
        patch.setattr(resource, "getrlimit", lambda kind: (limit, limit))
        for descriptor in many:
            beside.close(descriptor)
    assert [is_open(descriptor) for descriptor in many] == [True] * most + [False]
    closing.run()
    assert not any(map(is_open, many))


def test_a_file_that_comes_while_the_thread_ends_is_closed(closing: Closing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever brings it starts no other thread, since the lock is still held."""
    first, second = closing.opened(5 << 20), closing.opened(5 << 20)
    lock = beside._closing

    class Ending:
        acquire = lock.acquire

        def release(self) -> None:
            if is_open(second):
                beside.close(second)
                assert is_open(second)
            lock.release()

    monkeypatch.setattr(beside, "_closing", Ending())
    beside.close(first)
    closing.run()
    assert not is_open(first) and not is_open(second)


def test_it_is_closed_where_no_thread_can_be_had(closing: Closing) -> None:
    for closing.can_start in (False, True):  # and the next one is closed by a thread again
        descriptor = closing.opened(5 << 20)
        beside.close(descriptor)
        assert is_open(descriptor) == closing.can_start
    closing.run()


def test_it_is_closed_where_nothing_can_be_known_of_it(closing: Closing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network file system may answer so where another machine removed the file."""
    descriptor = closing.opened(5 << 20)

    def fstat(asked: int) -> os.stat_result:
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fstat", fstat)
        beside.close(descriptor)
    assert not is_open(descriptor) and not closing.started
