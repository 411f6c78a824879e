"""The documentation that comes with the program, as `strandline docs` prints it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from daemon.core.errors import UsageError
from daemon.operate import docs
from tests.support import REPO

# What names a page as `strandline docs NAME`: messages and help, the configuration that `init` writes, and the pages themselves.
NAMING = [
    *(REPO / "daemon").rglob("*.py"), *(REPO / "docs").rglob("*.md"), *(REPO / "deploy").rglob("*.*"), REPO / "config.toml",
    REPO / "docker-compose.yml", REPO / "README.md",
]  # fmt: skip


def test_every_page_has_a_name_and_a_title() -> None:
    """Those of the folder docs/, and the changelog; a README has the name of its folder."""
    pages = docs.pages()
    assert set(pages.values()) == {*(REPO / "docs").rglob("*.md"), REPO / "CHANGELOG.md"}
    assert pages["sources"] == REPO / "docs" / "sources" / "README.md" and "reference/commands" in pages
    titles = {name: docs.title_of(docs.text_of(path)) for name, path in pages.items()}
    assert titles["RUNBOOK"] == "Act on an alert" and all(titles.values())
    lines = docs.table().splitlines()
    assert [line.split()[0] for line in lines[: len(pages)]] == list(pages)


@pytest.mark.parametrize(
    ("name", "page"),
    [("RUNBOOK", "RUNBOOK"), ("runbook", "RUNBOOK"), ("docs/RUNBOOK.md", "RUNBOOK"), ("shopify", "sources/shopify"),
     ("sources/shopify", "sources/shopify"), ("sources", "sources"), ("Changelog", "CHANGELOG"),
     ("sources/README.md", "sources"), ("../INPUT.md", "INPUT"), ("/docs/RUNBOOK", "RUNBOOK"),
     ("http://127.0.0.1:10464/docs/RUNBOOK", "RUNBOOK"), ("https://host/docs/sources/README.html", "sources")],
)  # fmt: skip
def test_a_page_is_found_as_people_write_its_name(name: str, page: str) -> None:
    assert docs.asked(name) == docs.text_of(docs.pages()[page])


def test_a_page_has_one_title() -> None:
    """What follows is below it, for who goes through the headings, and in a table of contents."""
    for name, path in docs.pages().items():
        levels = [level for level, _, _ in docs._headings(docs.text_of(path))]
        assert levels[0] == 1 and levels.count(1) == 1, name


def test_comments_for_those_who_write_a_page_are_left_out() -> None:
    path = docs.pages()["reference/commands"]
    assert path.read_text(encoding="utf-8").count("<!--") == 1 and "<!--" not in docs.text_of(path)


def test_a_section_goes_to_the_next_that_is_not_below_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A line in a block of code is no heading."""
    (tmp_path / "X.md").write_text(
        "# X\n\nFirst.\n\n## One `a`\n\n```sh\n# no heading\n```\n\n### Below\n\nText.\n\n## Two\n\nLast.\n"
    )
    monkeypatch.setattr(docs, "pages", lambda: {"X": tmp_path / "X.md"})
    one = "## One `a`\n\n```sh\n# no heading\n```\n\n### Below\n\nText.\n"
    assert docs.asked("X#one-a") == docs.asked("X#One a") == one
    assert docs.asked("X#below") == "### Below\n\nText.\n" and docs.asked("X#two") == "## Two\n\nLast.\n"
    assert docs.asked("X#x") == docs.asked("X")
    with pytest.raises(UsageError, match="X has no section 'tow'; did you mean two\\? There are one-a, below, two"):
        docs.asked("X#tow")


@pytest.mark.parametrize(
    ("name", "question"),
    [("RUNBOK", "did you mean RUNBOOK? "), ("shopfy", "did you mean shopify? "), ("§", ""), ("", "")],
)
def test_an_unknown_page_is_answered_with_the_one_that_is_meant(name: str, question: str) -> None:
    with pytest.raises(UsageError) as raised:
        docs.asked(name)
    assert str(raised.value) == f"the documentation has no page {name!r}; {question}`strandline docs` lists all"


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [("StrandlineDown", "strandlinedown"), ("[sources.NAME]", "sourcesname"), ("`--since`", "--since"),
     ("A first try, step by step", "a-first-try-step-by-step"), ("snake_case & more", "snake_case--more"), ("Größe", "größe")],
)  # fmt: skip
def test_anchors_are_those_of_github(heading: str, anchor: str) -> None:
    assert docs.slug(heading) == anchor


def test_every_page_and_section_that_is_named_is_there() -> None:
    """In messages, help, comments of the configuration, and the pages themselves."""
    texts = "".join(path.read_text(encoding="utf-8") for path in NAMING)
    named = set(re.findall(r"`strandline docs ([\w/#-]+)`", texts)) - {"NAME", "NAME#SECTION"}
    assert {"MIRROR", "sources", "SECURITY#http"} <= named
    assert all(docs.asked(name) for name in named)


def test_no_message_names_a_file_of_the_documentation() -> None:
    """A wheel has it elsewhere. Docstrings, for those who read the code, may."""
    for path in (REPO / "daemon").rglob("*.py"):
        tree = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = [one.value for one in tree if isinstance(one, ast.Expr)]
        for one in tree:
            if isinstance(one, ast.Constant) and isinstance(one.value, str) and one not in docstrings:
                assert not re.search(r"docs/[\w/-]+\.md", one.value), one.value
