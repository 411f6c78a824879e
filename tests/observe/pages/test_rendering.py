"""Where the documentation is: at its address, or as a file and a section; and what no value can do to a page."""

from __future__ import annotations

import re
import tomllib

import pytest

from daemon.observe.pages import rendering as module
from daemon.observe.pages.filters import amount
from daemon.observe.pages.rendering import Renderer, documentation
from daemon.observe.pages.status import runbook
from tests.support import REPO

TEMPLATES = sorted((REPO / "daemon" / "observe" / "pages" / "templates").glob("*.html"))


def docs(site: str, section: str) -> str:
    return Renderer("1", site).environment.from_string("{{ section | docs }}").render(section=section)


def test_a_section_is_linked_where_the_documentation_has_an_address() -> None:
    """Otherwise its file and heading are named."""
    assert docs("https://example.com/", "RUNBOOK#StrandlinePaused") == (
        '<a href="https://example.com/docs/RUNBOOK.html#strandlinepaused" rel="noreferrer">StrandlinePaused</a>'
    )
    assert (
        docs("https://example.com", "AGES") == '<a href="https://example.com/docs/AGES.html" rel="noreferrer">AGES</a>'
    )
    assert docs("", "RUNBOOK#StrandlinePaused") == '<span class="path">docs/RUNBOOK.md</span>, “StrandlinePaused”'
    assert docs("", "AGES") == '<span class="path">docs/AGES.md</span>'


def test_the_address_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its metadata has it where pyproject.toml does."""
    urls = tomllib.loads((REPO / "pyproject.toml").read_text())["project"].get("urls", {})
    assert documentation() == urls.get("Documentation", "")

    class Metadata:
        def get_all(self, name: str) -> list[str] | None:
            return (
                ["Source, https://example.com/code", "Documentation, https://example.com/docs,a"]
                if name == "Project-URL"
                else None
            )

    monkeypatch.setattr(module.metadata, "metadata", lambda _: Metadata())
    assert documentation() == "https://example.com/docs,a"


def test_every_section_that_a_page_names_is_there() -> None:
    """As a heading of the file."""
    named = {found for path in TEMPLATES for found in re.findall(r'"([A-Z]+(?:#\w+)?)" \| docs', path.read_text())}
    reasons = ("the loop has not run", "the inbox cannot be watched; x", "paused: x", "cannot write to x", "the log could not",
               "paused by jo: no drop is taken until `strandline resume`")  # fmt: skip
    named |= {runbook(one) for one in reasons}
    assert len(named) > 8 and "" not in named and runbook("starting: x") == ""
    for section in named:
        page, _, heading = section.partition("#")
        text = (REPO / "docs" / f"{page}.md").read_text()
        assert not heading or f"\n## {heading}\n" in text, section


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
