"""What settles a drop where no event says that it was closed, while clocks are set: nobody really waits here."""

from __future__ import annotations

import errno
import gzip
import os
import time
from pathlib import Path

import pytest

from daemon.core.retry import Backoff
from daemon.sources.inbox import Inbox, InboxScan
from daemon.sources.inbox_folder import InboxFolder
from daemon.sources.source_folder import SourceFolder

HOUR = 3600.0
NOW = 1_780_000_000.0


class Clocks:
    """A wall clock that is set by so much after the first scan, and one that only goes on."""

    def __init__(self, path: Path, set_by: float, backoff: Backoff) -> None:
        self.passed = 5.0
        self._set_by = set_by
        self._inbox = Inbox(SourceFolder(path), 1.0, backoff, lambda: self.passed)
        self.first = self._inbox.scan(NOW)

    def after(self, seconds: float) -> InboxScan:
        """A look so long after the last one."""
        self.passed += seconds
        return self._inbox.scan(NOW + self._set_by + self.passed - 5.0)

    def put_off(self, scan: InboxScan) -> None:
        self._inbox.put_off(scan.settled[0])


def written(folder: Path, content: str, age_seconds: float = 0.0) -> None:
    path = folder / "a.json"
    path.write_text(content)
    os.utime(path, (NOW - age_seconds, NOW - age_seconds))


@pytest.mark.parametrize("set_by", [0.0, -HOUR])
def test_a_drop_settles_under_our_eyes_whatever_the_wall_clock_does(tmp_path: Path, set_by: float) -> None:
    """Set back by an hour, it holds up nothing for an hour."""
    written(tmp_path, "[]")
    clocks = Clocks(tmp_path, set_by, Backoff(1, 0.1, 0.1))
    assert clocks.first.waiting == ["a.json"]
    assert clocks.after(0.5).waiting == ["a.json"]
    assert [one.name for one in clocks.after(0.5).settled] == ["a.json"]


@pytest.mark.parametrize("set_by", [0.0, -HOUR, HOUR])
def test_a_drop_that_was_put_off_is_tried_when_its_time_has_passed(tmp_path: Path, set_by: float) -> None:
    """Neither an hour later nor at once."""
    written(tmp_path, "[]", age_seconds=2 * HOUR)
    clocks = Clocks(tmp_path, set_by, Backoff(3, 4.0, 60.0))
    clocks.put_off(clocks.first)
    assert clocks.after(3.0).waiting == ["a.json"]
    tried = clocks.after(1.0)
    assert [one.name for one in tried.settled] == ["a.json"]
    clocks.put_off(tried)
    assert clocks.after(7.0).waiting == ["a.json"]
    assert [one.name for one in clocks.after(1.0).settled] == ["a.json"]


@pytest.mark.parametrize("set_by", [0.0, -HOUR, HOUR])
def test_an_unfinished_drop_is_looked_at_as_often_and_as_long_as_ever(tmp_path: Path, set_by: float) -> None:
    """Each try waits for its delay, and the last one takes it as it is."""
    written(tmp_path, "[", age_seconds=2.0)
    clocks = Clocks(tmp_path, set_by, Backoff(2, 4.0, 60.0))
    assert [attempt for _, attempt, _, _ in clocks.first.retried] == [1]
    assert clocks.after(3.0).retried == []
    assert [attempt for _, attempt, _, _ in clocks.after(1.0).retried] == [2]
    assert clocks.after(7.0).settled == []
    assert clocks.after(1.0).given_up == ["a.json"]


def test_an_unfinished_name_is_reported_once_after_an_hour(tmp_path: Path) -> None:
    """However old its mtime is: it may have been moved in with it. And again if it changed since."""
    path = tmp_path / "orders.json.part"
    path.write_text("[")
    os.utime(path, (1e9, 1e9))
    clocks = Clocks(tmp_path, 0.0, Backoff(1, 0.1, 0.1))
    assert clocks.first.unfinished == 1 and clocks.first.overdue == []
    assert clocks.after(HOUR - 10).overdue == []
    assert clocks.after(20).overdue == ["orders.json.part"] and clocks.after(HOUR).overdue == []
    path.write_text("[1")
    assert clocks.after(1).overdue == [] and clocks.after(HOUR + 1).overdue == ["orders.json.part"]


def test_looks_hold_one_descriptor_however_many_files_wait(tmp_path: Path) -> None:
    """Each look sees a new file that is not settled; what it remembers of them must not hold a descriptor each."""
    inbox = Inbox(SourceFolder(tmp_path), HOUR, Backoff(1, 0.1, 0.1))
    inbox.scan(NOW)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(50):
        (tmp_path / f"{number}.json").write_text("[]")
        inbox.scan(NOW)
    assert len(os.listdir("/proc/self/fd")) <= before + 1


def test_a_want_of_descriptors_does_not_settle_a_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing about the file: the look fails, and is tried again."""
    written(tmp_path, "[]", age_seconds=HOUR)

    def refuse(folder: InboxFolder, name: str) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(InboxFolder, "opened", refuse)
    with pytest.raises(OSError, match="Too many"):
        Inbox(SourceFolder(tmp_path), 1.0, Backoff(1, 0.1, 0.1)).scan(NOW)


def test_compressed_files_do_not_stop_the_look(tmp_path: Path) -> None:
    """Looking whether they are whole takes time: after half a second of it the others are taken, and the rest waits."""
    for number in range(3):
        (tmp_path / f"{number}.json.gz").write_bytes(gzip.compress(b"[]"))
    passed = [0.0]

    def slow() -> float:
        passed[0] += 0.2
        return passed[0]

    inbox = Inbox(SourceFolder(tmp_path), 0.0, Backoff(1, 100.0, 100.0), slow)
    looks = [len(inbox.scan(time.time()).settled) for _ in range(3)]
    assert 0 < looks[0] < 3
