"""Where pages link to, and what no value can do to a page."""

from __future__ import annotations

import re

import pytest

from daemon.observe.pages.filters import amount
from daemon.observe.pages.rendering import Renderer
from tests.support import REPO

TEMPLATES = sorted((REPO / "daemon" / "observe" / "pages" / "templates").glob("*.html"))


def test_a_section_is_linked() -> None:
    """By its page and the anchor of its heading."""
    linked = Renderer("1").environment.from_string("{{ section | docs }}").render
    assert linked(section="RUNBOOK#StrandlinePaused") == '<a href="/docs/RUNBOOK#strandlinepaused">StrandlinePaused</a>'
    assert linked(section="AGES") == '<a href="/docs/AGES">AGES</a>'


def test_no_template_turns_escaping_off_or_loads_anything() -> None:
    """Nothing is marked as safe, no address leads elsewhere, and a script is only in the status page."""
    for path in TEMPLATES:
        text = path.read_text()
        assert "| safe" not in text and "autoescape" not in text and "://" not in text, path
        assert ("<script" in text) == (path.name == "status.html"), path
        assert not re.search(r'\s(on\w+|src|srcset|method)="', text), path


@pytest.mark.parametrize(
    ("text", "shown"),
    [("1234567.8900", "1,234,567.8900"), ("-0.0001", "-0.0001"), ("-99999999999999.9999", "-99,999,999,999,999.9999"),
     ("6.66666666…", "6.66666666…"), (None, "–"), ("0.0000", "0.0000")],
)  # fmt: skip
def test_an_amount_keeps_its_digits(text: str | None, shown: str) -> None:
    """Thousands are separated, and nothing is rounded."""
    assert amount(text) == shown


def test_one_of_something_is_no_plural() -> None:
    """Numbers of things are counted by one filter."""
    templates = Renderer("1").environment
    assert (
        templates.from_string("{{ 1 | counted('drop') }}, {{ 2000 | counted('drop') }}").render()
        == "1 drop, 2,000 drops"
    )
    plural = re.compile(
        r"\| (?:number|length) \}\} (?:older |published )?(?:drop|date|day|order|line|file|row|record|time)s\b"
    )
    assert [path.name for path in TEMPLATES if plural.search(path.read_text())] == []
