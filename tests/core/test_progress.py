"""What a terminal shows of long work, and what it does not."""

from __future__ import annotations

import io
import re

from daemon.core.progress import Bars, make_room, silent, to


class Terminal(io.StringIO):
    """A stream that says that it is one, and what is seen on it in the end."""

    def isatty(self) -> bool:
        return True

    @property
    def seen(self) -> str:
        """The last line, after each return to its beginning."""
        line = ""
        for part in self.getvalue().rpartition("\n")[2].split("\r"):
            line = part + line[len(part) :]
        return line.rstrip()


def test_a_line_says_what_is_done_of_how_many_and_how_fast() -> None:
    """And goes when the phase is done."""
    terminal = Terminal()
    bars = Bars(terminal, delay_seconds=0)
    bars("reading", 1, 1500)
    bars._bar.mininterval = 0
    bars("reading", 1200, 1500)
    assert re.match(r"reading: 1200 of 1500, [\d.]+/s \|.*\| \d\d:\d\d left", terminal.seen), terminal.seen
    bars("reading", 1500, 1500)
    bars("reading", 0, 15 * 10**8)
    bars._bar.mininterval = 0
    bars("reading", 12 * 10**8, 15 * 10**8)
    assert re.match(r"reading: 1\.20G of 1\.50G, [\d.]+\w?/s \|", terminal.seen), terminal.seen
    bars.end()
    assert terminal.seen == "" and "\n" not in terminal.getvalue()


def test_a_phase_takes_the_place_of_the_one_before() -> None:
    """Also one of the same name that begins again, and one whose end nobody knows."""
    terminal = Terminal()
    bars = Bars(terminal, delay_seconds=0)
    bars("reading", 5, 10)
    bars("reading", 1, 10)
    bars("counting files", 7, 0)
    assert terminal.seen.startswith("counting files: 7") and " of " not in terminal.seen
    make_room()
    assert terminal.seen == ""
    make_room()
    bars("counting files", 9, 0)
    assert terminal.seen.startswith("counting files: 9")
    bars.end()


def test_short_work_shows_nothing() -> None:
    terminal = Terminal()
    bars = Bars(terminal, delay_seconds=1e9)
    for done in range(1, 11):
        bars("reading", done, 10)
    assert terminal.getvalue() == ""


def test_no_terminal_shows_nothing_or_what_it_is_given() -> None:
    told: list[tuple[str, int, int]] = []
    to(io.StringIO())("reading", 1, 2)
    to(io.StringIO(), lambda *one: told.append(one))("reading", 1, 2)
    assert told == [("reading", 1, 2)] and to(io.StringIO()) is silent
    assert isinstance(to(Terminal()), Bars)
