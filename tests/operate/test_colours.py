"""What is painted, and for whom."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.operate.colours import of_level, painted, wanted

RED, GREEN, YELLOW, BOLD, PLAIN = "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[1m", "\x1b[0m"


def test_headings_and_states_are_painted() -> None:
    """In the tables of commands; a word within a sentence or a name is none."""
    text = "ok       paths  x\nerror    paths  an error of x\n\n"
    text += "Last drops\n  7  a.json  quarantined  it failed\n  8  applied.json  applied  1 new"
    assert painted(text) == (
        f"{GREEN}ok{PLAIN}       paths  x\n{RED}error{PLAIN}    paths  an error of x\n\n{BOLD}Last drops{PLAIN}\n"
        f"  7  a.json  {RED}quarantined{PLAIN}  it failed\n  8  applied.json  {GREEN}applied{PLAIN}  1 new"
    )
    assert painted("x.json would be quarantined: why") == f"x.json would be {RED}quarantined{PLAIN}: why"
    assert painted("daily  3 stale  9") == f"daily  3 {YELLOW}stale{PLAIN}  9"
    assert painted("Drops  17 applied, 0 quarantined") == "Drops  17 applied, 0 quarantined"


@given(
    st.text(alphabet=" \nab:7", max_size=30),
    st.sampled_from(["ok", "error", "applied", "stale", "would be quarantined"]),
)
def test_nothing_else_changes(around: str, word: str) -> None:
    """Without its codes, a painted text is the text."""
    text = f"{around}{word}{around}"
    assert re.sub(r"\x1b\[\d+m", "", painted(text)) == text


def test_levels_of_the_log() -> None:
    assert (of_level("warning"), of_level("info   ")) == (f"{YELLOW}warning{PLAIN}", "info   ")
    assert of_level("error", "strandline") == f"{RED}strandline{PLAIN}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environment", "expected"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": ""}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False),
     ({"TERM": "dumb"}, False), ({}, False)],
)  # fmt: skip
def test_who_wants_colours(environment: dict[str, str], expected: bool) -> None:
    """A terminal, unless NO_COLOR is set to something; an empty one is as none."""
    assert wanted(Terminal(), environment) is expected and not wanted(io.StringIO(), environment)
