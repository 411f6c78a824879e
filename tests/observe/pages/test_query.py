"""Parameters of an address: what is meant is read, and what cannot be meant is refused with what may be given."""

from __future__ import annotations

from datetime import date
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.observe.pages.query import Query, Refused, read
from daemon.storage.look_ups import FIRST_DAY, LAST_DAY

NAMES = ("id", "from", "to", "drop", "outcome")


def asked(text: str) -> Query:
    return read({"QUERY_STRING": text}, NAMES)


def test_a_parameter_is_read_as_a_form_sends_it() -> None:
    """Percent-encoded, a plus for a space, empty ones left out, bytes of UTF-8 as they are."""
    assert asked("id=a%2Bb+c%20&from=&to=").given == {"id": "a+b c "}
    assert asked("id=a%2Bb+c%20").text("id") == "a+b c"
    assert asked("id=%C3%BC").text("id") == "ü" and asked("id=" + "ü".encode().decode("latin-1")).text("id") == "ü"
    assert asked("").text("id") == "" and read({}, NAMES).given == {}


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=200))
def test_any_text_comes_through(text: str) -> None:
    """As it was encoded, without the spaces around it."""
    if len(text.encode()) <= 1024:
        assert asked(urlencode({"id": text})).text("id") == text.strip()
        assert asked("id=" + quote(text, safe="")).text("id") == text.strip()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("name=x", r"there is no parameter 'name'; there are id, from, to, drop, outcome"), ("id=1&id=2", "id is given twice"),
        ("id=%ff", "not UTF-8"), ("id=%ed%a0%80", "not UTF-8"), ("id=a%00b", r"U\+0000"),
        ("id=" + "x" * 1025, "more than 1024 bytes"),
        ("&".join("id=1" for _ in range(30)), "more than 20 parameters"), ("%00=1", "there is no parameter"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(text: str, why: str) -> None:
    """Before anything is looked up."""
    with pytest.raises(Refused, match=why):
        asked(text)


def test_a_page_without_parameters_says_so() -> None:
    """Nobody shall think that it filters."""
    with pytest.raises(Refused, match="this page has none"):
        read({"QUERY_STRING": "from=2026-01-01"}, ())


@pytest.mark.parametrize(
    "text", ["2026-02-30", "20260220", "2026-2-1", "0000-01-01", "10000-01-01", "2026-W01-1", "today", "-1", "٢٠٢٦-٠١-٠١",
             "2026-01-01T00"]
)  # fmt: skip
def test_a_day_is_a_date_of_the_calendar(text: str) -> None:
    """YYYY-MM-DD, and nothing else."""
    with pytest.raises(Refused, match="is not a date; write YYYY-MM-DD"):
        Query({"from": text}).day("from", 0)


def test_days_are_both_included_and_in_order() -> None:
    """From the first day of the calendar to the last, where they are not given."""
    assert Query({}).days() == (FIRST_DAY, LAST_DAY)
    assert Query({"from": "0001-01-01", "to": "9999-12-31"}).days() == (FIRST_DAY, LAST_DAY)
    day = (date(2026, 3, 2) - date(1970, 1, 1)).days
    assert Query({"from": "2026-03-02", "to": "2026-03-02"}).days() == (day, day)
    with pytest.raises(Refused, match="after"):
        Query({"from": "2026-03-03", "to": "2026-03-02"}).days()


@pytest.mark.parametrize("text", ["-1", "1.5", "1e3", "0x1", "9" * 19, "٣", "one", "1 2"])
def test_a_number_is_that_of_a_drop(text: str) -> None:
    """Digits, as many as a number may have."""
    with pytest.raises(Refused, match="is not the number of a drop"):
        Query({"drop": text}).number("drop")
    assert Query({"drop": "0" * 17 + "7"}).number("drop") == 7 and Query({}).number("drop") is None


def test_a_word_is_one_of_those_that_there_are() -> None:
    """The others are named."""
    assert (
        Query({"outcome": "applied"}).one_of("outcome", ["applied"]) == "applied"
        and Query({}).one_of("outcome", []) == ""
    )
    with pytest.raises(Refused, match="is not one of applied, duplicate"):
        Query({"outcome": "Applied"}).one_of("outcome", ["applied", "duplicate"])
