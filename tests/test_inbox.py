"""What settles a drop where no event says that it was closed, while clocks are set: nobody really waits here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from daemon.core.retry import Backoff
from daemon.sources.inbox import Inbox, Look

HOUR = 3600.0
NOW = 1_780_000_000.0


class Clocks:
    """A wall clock that is set by so much after the first look, and one that only goes on."""

    def __init__(self, path: Path, set_by: float, backoff: Backoff) -> None:
        self.passed = 5.0
        self._set_by = set_by
        self._inbox = Inbox(path, 1.0, backoff, lambda: self.passed)
        self.first = self._inbox.look(NOW)

    def after(self, seconds: float) -> Look:
        """A look so long after the last one."""
        self.passed += seconds
        return self._inbox.look(NOW + self._set_by + self.passed - 5.0)

    def put_off(self, look: Look) -> None:
        self._inbox.put_off(look.settled[0])


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
