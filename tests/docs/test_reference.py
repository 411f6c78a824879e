"""The generated pages are what the code says, and so are the tables of settings."""

from __future__ import annotations

import pytest

from docs.reference import generate
from tests.support import REPO


def test_the_generated_pages_are_current() -> None:
    """`make reference` writes them."""
    for path, text in generate.pages().items():
        found = path.read_text(encoding="utf-8")
        assert found == text, f"{path.relative_to(REPO)} is not what the code says; run `make reference`"


def test_a_setting_without_a_row_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a row of a setting that is gone goes; sentences of the others stay."""
    page = (REPO / "docs" / "CONFIGURATION.md").read_text(encoding="utf-8")
    lines = page.splitlines(keepends=True)
    (row,) = [line for line in lines if line.startswith("| `max_drops` |")]
    without = page.replace(row, "| `invented` | `1` | x | y | z |\n")
    made = generate.configuration(without)
    assert row.rpartition("| The most")[0] in made and "invented" not in made
    assert generate.configuration(page) == page


def test_a_metric_without_a_row_gets_one() -> None:
    """With its type, its labels and its help text; a row of one that is gone goes."""
    page = (REPO / "docs" / "METRICS.md").read_text(encoding="utf-8")
    (row,) = [line for line in page.splitlines(keepends=True) if line.startswith("| `strandline_unknown_keys_total` |")]
    made = generate.metrics(page.replace(row, "| `strandline_invented` | gauge | | x |\n"))
    help_text = "Orders with a user or a product that the dimension does not know."
    assert f"| `strandline_unknown_keys_total` | counter | `dimension`: `user`, `product` | {help_text} |\n" in made
    assert "invented" not in made


def test_every_command_and_every_exit_code_has_an_entry() -> None:
    """Also those that have no page of their own."""
    commands, codes = generate.commands(), generate.exit_codes()
    names = generate.subcommands(generate.make_parser())
    assert all(f"\n## strandline {name}\n" in commands for name in names)
    assert all(f"\n| {code} | " in codes for code in range(4))
