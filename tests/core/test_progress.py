"""What a terminal shows of work that takes longer than a second."""

from __future__ import annotations

import io
import itertools

import pytest

from daemon.core import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """One on which two seconds pass between any two looks at the clock."""
    clock = itertools.count(1_000_000, 2)
    monkeypatch.setattr("tqdm.std.time", lambda: float(next(clock)))
    return Terminal()


def shown(terminal: Terminal) -> list[str]:
    """What was written, without blanks."""
    return [text.strip() for text in terminal.getvalue().split("\r") if text.strip()]


def test_nothing_is_shown_where_there_is_no_terminal() -> None:
    stream = io.StringIO()
    for done in (0, 1, 2):
        progress.to(stream)("copying", done, 2)
    assert not stream.getvalue()


def test_each_phase_has_a_bar_that_disappears(terminal: Terminal) -> None:
    """A new phase begins at its own start, whether the one before has come to its end or not."""
    bars = progress.to(terminal)
    for phase, done, total in [
        ("copying", 0, 4),
        ("copying", 1, 4),
        ("copying", 3, 4),
        ("hashing", 1, 2),
        ("hashing", 2, 2),
    ]:
        bars(phase, done, total)
    lines = shown(terminal)
    assert [line.split("%")[0] for line in lines] == ["copying:  25", "copying:  75", "hashing:  50", "hashing: 100"]
    assert terminal.getvalue().endswith("\r") and not terminal.getvalue().split("\r")[-2].strip()


def test_the_same_phase_can_be_shown_again(terminal: Terminal) -> None:
    bars = progress.to(terminal)
    for _ in range(2):
        bars("copying", 1, 2)
        bars("copying", 2, 2)
    assert [line.split("%")[0] for line in shown(terminal)] == ["copying:  50", "copying: 100"] * 2


def test_work_of_less_than_a_second_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tqdm.std.time", lambda: 1_000_000.0)
    terminal = Terminal()
    bars = progress.to(terminal)
    for done in range(5):
        bars("copying", done, 4)
    assert not shown(terminal)
