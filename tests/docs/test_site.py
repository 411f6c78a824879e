"""The documentation is a site without broken links, and loads nothing from elsewhere."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from docs import build
from tests.support import REPO

LOADS = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src", "object": "data"}


@pytest.fixture(scope="module")
def site() -> Path:
    """It is built, in strict mode."""
    assert build.main() == 0
    return build.SITE


class _Loaded(HTMLParser):
    """What a browser loads of a page without being asked."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if value and name == LOADS.get(tag)]


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """No style, script, font, picture or frame of a page or a style sheet has an address of another host; each is there."""
    htmls = list(site.rglob("*.html"))
    assert len(htmls) > 40
    for page in htmls:
        loaded = _Loaded()
        loaded.feed(page.read_text(encoding="utf-8"))
        for target in loaded.found:
            assert not re.match(r"(?:https?:)?//", target), f"{page.relative_to(site)} loads {target}"
            path = target.partition("?")[0]
            if page.name != "404.html" and not path.startswith(("data:", "/")):
                assert (page.parent / path).exists(), f"{page.relative_to(site)} loads {target}, which is not there"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//", sheet.read_text(encoding="utf-8")), sheet


def test_alerts_can_link_to_the_site(site: Path, tmp_path: Path) -> None:
    """After the change that the first lines of the file of alerts say, each leads to its section."""
    rules = tmp_path / "alerts.yml"
    shutil.copy(REPO / "deploy" / "prometheus" / "alerts.yml", rules)
    (command,) = re.findall(r"^# (sed .* alerts\.yml)$", rules.read_text(encoding="utf-8"), re.MULTILINE)
    subprocess.run(shlex.split(command), cwd=tmp_path, check=True)
    text = rules.read_text(encoding="utf-8")
    targets = re.findall(r"^ +runbook_url: https://HOST/docs/RUNBOOK\.html#(\w+)$", text, re.MULTILINE)
    assert len(targets) == text.count("- alert: ") > 15
    page = (site / "docs" / "RUNBOOK.html").read_text(encoding="utf-8")
    assert all(f'id="{target}"' in page for target in targets)


def test_every_page_is_in_the_list_and_every_link_leads_to_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A link to nothing, and a page that nobody can reach, are named."""
    assert build.problems() == []
    page = tmp_path / "LOST.md"
    page.write_text("[nothing](nothing.md) `[code](x.md)`\n", encoding="utf-8")
    monkeypatch.setattr(build, "REPO", tmp_path)
    (tmp_path / "zensical.toml").write_text((REPO / "zensical.toml").read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(build, "pages", lambda: [page])
    lost, unlisted = build.problems()
    assert "LOST.md links to" in lost and "LOST.md is not in the list" in unlisted
