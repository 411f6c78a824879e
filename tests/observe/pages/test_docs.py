"""The documentation as pages: every link and every anchor leads somewhere, and nothing but it can be had."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from daemon.observe.access import Access
from daemon.observe.http import HEADERS, Application
from daemon.observe.metrics import Metrics
from daemon.observe.pages.docs import DocsPages
from daemon.observe.pages.markdown import render, summary
from daemon.observe.pages.rendering import Renderer
from daemon.observe.pages.status import runbook
from daemon.operate import docs
from tests.support import REPO

# Linked from every page
OTHERS = {
    "/",
    "/days",
    "/drops",
    "/quarantine",
    "/disk",
    "/metrics",
    "/-/ready",
    "/-/healthy",
}


class Parsed(HTMLParser):
    """The ids of a page, its links with their texts, the texts of class `path`, and the addresses of what it loads."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.paths: list[str] = []
        self.feed(content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        self.loaded += [given[name] for name in ("src", "href") if name in given and tag != "a"]
        if tag == "span" and given.get("class") == "path":
            self.paths.append("")

    def handle_data(self, data: str) -> None:
        if self.paths and not self.paths[-1]:
            self.paths[-1] = data


@pytest.fixture(scope="module")
def pages() -> DocsPages:
    return DocsPages(Renderer("1"))


@pytest.fixture(scope="module")
def parsed(pages: DocsPages) -> dict[str, Parsed]:
    """Every page by its path."""
    return {path: Parsed(answer({}).content) for path, answer in pages.answers.items() if path != "/docs"}


def test_every_link_leads_to_a_page_and_a_heading(parsed: dict[str, Parsed]) -> None:
    """Also from page to page, whatever folder they are in. A file that is not served is a text that names it."""
    internal = 0
    for path, page in parsed.items():
        assert len(page.ids) == len(set(page.ids)), path
        for link in page.links:
            target, _, anchor = link.partition("#")
            if target in OTHERS or link.startswith("https://"):
                continue
            internal += 1
            assert (target or path) in parsed, f"{path} links to {link}"
            assert not anchor or anchor in parsed[target or path].ids, f"{path} links to {link}"
        for text in page.paths:
            assert (REPO / text).is_file(), f"{path} names {text}"
        assert all(one.startswith("data:") for one in page.loaded), path
    assert internal > 500 and parsed["/docs/RUNBOOK"].paths == ["deploy/prometheus/alerts.yml"]


def test_no_page_has_html() -> None:
    """It would be shown as text, also by `strandline docs`."""
    markdown = MarkdownIt("commonmark")
    for name, path in docs.pages().items():
        tokens = markdown.parse(docs.text_of(path))
        every = [*tokens, *(child for token in tokens for child in token.children or ())]
        assert [token.content for token in every if token.type.startswith("html")] == [], name


def test_what_others_link_to_is_there(parsed: dict[str, Parsed]) -> None:
    """Alerts, the pages of the daemon, and its reasons for not being ready."""
    rules = (REPO / "deploy" / "prometheus" / "alerts.yml").read_text(encoding="utf-8")
    links = re.findall(r"runbook_url: .*(/docs/\w+)#(\w+)", rules)
    assert len(links) == rules.count("- alert: ") > 15
    assert all(anchor in parsed[page].ids for page, anchor in links)
    templates = (REPO / "daemon" / "observe" / "pages" / "templates").glob("*.html")
    named = {one for path in templates for one in re.findall(r'"([A-Z]+(?:#\w+)?)" \| docs', path.read_text())}
    reasons = ("the loop has not run", "the inbox cannot be watched; x", "paused: x", "cannot write to x", "the log could not",
               "paused by jo: no drop is taken until `strandline resume`")  # fmt: skip
    named |= {runbook(one) for one in reasons}
    assert len(named) > 8 and "" not in named and runbook("starting: x") == ""
    filled = Renderer("1").environment.from_string("{{ section | docs }}")
    for section in named:
        (link,) = Parsed(filled.render(section=section).encode()).links
        page, _, anchor = link.partition("#")
        assert page in parsed and (not anchor or anchor in parsed[page].ids), section


def test_the_index_has_every_page(parsed: dict[str, Parsed]) -> None:
    """And each page leads back to it."""
    assert {f"/docs/{name}" for name in docs.pages()} <= set(parsed["/docs/"].links)
    assert all("/docs/" in page.links for page in parsed.values())


def asked(application: Application, path: str, **headers: str) -> tuple[str, dict[str, str], bytes]:
    found: list[Any] = []
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "HTTP_HOST": "localhost", **headers}
    content = b"".join(application(environ, lambda status, sent: found.extend((status, dict(sent)))))
    return found[0], found[1], content


@pytest.fixture
def application(pages: DocsPages, tmp_path: Path) -> Application:
    metrics = Metrics(tmp_path, "1").registry
    return Application(metrics, list, list, Access(bearer_token="secret"), pages.answers, pages.threads)


LOGIN = {"HTTP_AUTHORIZATION": "Bearer secret"}


def test_pages_have_the_headers_and_the_login_of_all_others(application: Application) -> None:
    for path in ("/docs/", "/docs/RUNBOOK", "/docs/sources/shopify"):
        assert asked(application, path)[0] == "401 Unauthorized"
        status, headers, content = asked(application, path, **LOGIN)
        assert status == "200 OK" and headers["Content-Type"] == "text/html; charset=utf-8" and b"<h1" in content
        assert headers.keys() >= HEADERS.keys() and "default-src 'none'" in headers["Content-Security-Policy"]
    status, headers, _ = asked(application, "/docs", **LOGIN)
    assert (status, headers["Location"]) == ("308 Permanent Redirect", "/docs/")


@pytest.mark.parametrize(
    "path",
    ["/docs/..", "/docs/../config.toml", "/docs/../daemon/cli.py", "/docs//etc/passwd", "/docs/RUNBOOK.md", "/docs/build.py",
     "/docs/sources/../RUNBOOK", "/docs/RUNBOOK/", "/docs/RUNBOOK\0", "/docs/README", "/docs/..\\config.toml", "/docs/%2e%2e/x"],
)  # fmt: skip
def test_nothing_else_can_be_had(application: Application, path: str) -> None:
    """The answer names the index, and perhaps the page that is meant; it is no page."""
    status, _, content = asked(application, path, **LOGIN)
    assert status == "404 Not Found" and content.startswith(b"there is no path") and b" /docs/, " in content


def test_a_page_is_made_once_until_its_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is gone says so, and takes no other with it."""
    (tmp_path / "docs").mkdir()
    for name in ("A", "B"):
        (tmp_path / "docs" / f"{name}.md").write_text(f"# {name}\n")
    monkeypatch.setattr(docs, "root", lambda: tmp_path)
    pages = DocsPages(Renderer("1"))
    answer = pages.answers["/docs/A"]
    first, index = answer({}), pages.answers["/docs/"]
    assert index({}) is index({}) and b'<a href="/docs/A">A</a>' in index({}).content
    assert answer({}) is first and b'<h1 id="a">A</h1>' in first.content
    (tmp_path / "docs" / "A.md").write_text("# Other\n")
    os.utime(tmp_path / "docs" / "A.md", (1, 1))
    assert b'<h1 id="other">Other</h1>' in answer({}).content
    assert b'<a href="/docs/A">Other</a>' in index({}).content
    (tmp_path / "docs" / "A.md").unlink()
    application = Application(Metrics(tmp_path, "1").registry, list, list, Access(), pages.answers, pages.threads)
    assert asked(application, "/docs/A")[0] == "503 Service Unavailable"
    assert asked(application, "/docs/B")[0] == "200 OK"


def test_without_its_files_the_daemon_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever packs it may leave them out."""
    monkeypatch.setattr(docs, "root", lambda: tmp_path)
    assert b"Documentation" in DocsPages(Renderer("1")).answers["/docs/"]({}).content
    assert docs.table().startswith("\n`strandline docs NAME`")


def html(text: str, **addresses: str) -> str:
    return str(render(text, Path("/d/X.md"), {Path(f"/d/{name}.md"): to for name, to in addresses.items()})[0])


def test_html_is_text_and_an_address_that_runs_is_no_link() -> None:
    made = html("<script>x</script> <b>y</b>\n\n[a](javascript:alert(1)) [b](data:text/html,x)\n\n```sh\n<i>\n```\n")
    assert not re.search(r"<(script|b|i|a)\b", made) and "&lt;script&gt;" in made and "&lt;i&gt;" in made


def test_code_and_tables_can_be_scrolled_by_keyboard() -> None:
    """A head without a text is no head; regions have names that differ."""
    made = html("```sh\nls\n```\n\n| | a |\n|---|---|\n| `x\\|y` | 1 |\n\n| b |\n|---|\n| 2 |\n")
    assert '<pre tabindex="0"><code>ls\n</code></pre>' in made
    assert made.count('role="region" aria-label="Table 1" tabindex="0"') == made.count('aria-label="Table 2"') == 1
    assert "<td></td>" in made and '<th scope="col">a</th>' in made and "<code>x|y</code>" in made


def test_links_are_relative_to_the_page() -> None:
    """Equal headings get numbers, as on GitHub."""
    made = html("[y](Y.md#z) [up](../d/Y.md) [here](#a) [file](../x.toml)\n\n## A\n\n## A\n", Y="/docs/Y")
    assert '<a href="/docs/Y#z">y</a> <a href="/docs/Y">up</a> <a href="#a">here</a>' in made
    assert '<span class="path">file</span>' in made and '<h2 id="a">A</h2>\n<h2 id="a-1">A</h2>' in made
    assert 'href="https://example.com" rel="noreferrer"' in html("[x](https://example.com)")


@pytest.mark.parametrize(
    ("text", "first"),
    [("# X\n\nOne `a` [b](c). Two.\n", "One a b."),
     ("# X\n\n```sh\nls\n```\n\n**Export.** Of a\nshop. More.", "Export. Of a shop."),
     ("# X\n\nTo do so, write:\n", "To do so, write …"), ("# X\n\n## Y\n\nText.", ""), ("# X\n\n- item.\n", "")],
)  # fmt: skip
def test_the_first_sentence_says_what_a_page_is_about(text: str, first: str) -> None:
    assert summary(text) == first
