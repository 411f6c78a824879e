"""What errors say to do."""

from __future__ import annotations

import pytest

from daemon.core.errors import MAX_REASON, EnvironmentFault, Unreadable, instead_of, must_be, shown


def test_an_unknown_name_gets_the_nearest_one_and_all() -> None:
    """Case does not matter; a name that is like none gets no guess, and neither does one that is no text."""
    names = ("max_drops", "max_bytes")
    assert instead_of("max_drop", iter(names)) == "did you mean max_drops? Allowed are max_drops, max_bytes"
    assert instead_of("Max_Bytes", names) == "did you mean max_bytes? Allowed are max_drops, max_bytes"
    assert instead_of("colour", names) == "allowed are max_drops, max_bytes"
    assert instead_of(3, names) == "allowed are max_drops, max_bytes"


@pytest.mark.parametrize("characters", [0, 1, MAX_REASON - 2, MAX_REASON - 1])
def test_a_reason_is_kept_as_it_is(characters: int) -> None:
    assert str(Unreadable("x" * characters)) == "x" * characters


@pytest.mark.parametrize("why", ["x" * MAX_REASON, "x" * 10_000, "\n" * (MAX_REASON // 2), "\x00" * MAX_REASON])
def test_a_long_reason_is_cut_and_says_so(why: str) -> None:
    reason = str(Unreadable(why))
    assert len(reason) == MAX_REASON and reason.endswith("…")
    assert reason[:-1] == why.replace("\n", "\\n").replace("\x00", "\\x00")[: MAX_REASON - 1]


def test_a_reason_is_one_printable_line() -> None:
    assert str(Unreadable("line\nend, \x1b[31m, é and \u202e")) == "line\\nend, \\x1b[31m, é and \\u202e"


def test_a_value_is_shown_in_one_line_of_limited_length() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert shown("x" * 78) == repr("x" * 78)  # with its quotes, 80 characters
    assert shown("x" * 79) == "'" + "x" * 78 + "…"
    assert shown(10**10_000) == "(a value of type int)"


def test_a_fault_of_the_environment_says_what_was_attempted_why_it_failed_and_what_to_do() -> None:
    fault = EnvironmentFault("open", "/a/b", OSError(13, "Permission denied"), "Give access.")
    assert str(fault) == "could not open /a/b: [Errno 13] Permission denied. Give access."


def test_a_value_that_is_not_allowed_names_the_one_that_is_meant() -> None:
    """Where it is like one of the choices; a value of another type is like none."""
    assert must_be('one of "a", "group"', "grp", ("a", "group")) == 'did you mean group? It must be one of "a", "group"'
    for value in ("xyz", 7, None, ["group"]):
        assert must_be("a size", value, ("a", "group")) == "it must be a size"
