"""The page for people: in a real browser, over the real daemon, with hostile names and records on it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser import Tab, tab
from tests.support.command import order
from tests.support.daemon_process import Daemon, place, running, until

HOSTILE_NAMES = (
    "<img src=x onerror=document.title='owned'>.json", "<script>document.title='owned'<_script>.json",
    "'\"><svg onload=alert(1)>.json",
    "{{ 7*7 }}.json", "&lt;b&gt;.json", "a\nb.json", "\u202egnp.json", "javascript:alert(1).json",
)  # fmt: skip
HOSTILE_RECORDS = [
    {"order_id": "</pre><script>document.title='owned'</script>"},
    {"order_id": "o_299", "created_at": "2026-03-20", "amount": 5},
    {"order_id": "<img src=x onerror=document.title='owned'>", "created_at": "<b>soon</b>"},
]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    home = tmp_path_factory.mktemp("page")
    with running(home) as one:
        put(one, "orders.json", [order(number, 1 + number % 20) for number in range(200)])
        put(one, "users.csv", b"user_id,email\nu_1,secret@example.com\n,nobody@example.com\n")
        until(lambda: one.receipt("orders.json") and one.receipt("users.csv"))
        for name in HOSTILE_NAMES:
            put(one, name, HOSTILE_RECORDS)
        put(one, "a-rather-long-name-of-a-drop-that-has-two-badges.json", [
            order(300, amount="five"), {"order_id": "o_301", "created_at": "2026-03-20", "total_price": 5},
        ])  # fmt: skip
        put(one, "<b>broken.json", b'{"<script>document.title=1</script>": 1}')
        until(lambda: len(list(one.output.glob("receipts/*/*.json"))) == 4 + len(HOSTILE_NAMES))
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Tab]:
    with tab() as one:
        yield one


def put(daemon: Daemon, name: str, content: bytes | list) -> None:
    place(daemon.inbox / name, content if isinstance(content, bytes) else json.dumps(content).encode())


def address(daemon: Daemon) -> str:
    return f"http://127.0.0.1:{daemon.port}/"


def test_nothing_that_came_from_a_file_is_obeyed(daemon: Daemon, browser: Tab) -> None:
    """Names, reasons and records are text: no element comes of them, no script runs, nothing is loaded from elsewhere."""
    browser.open(address(daemon))
    text = browser.ask(
        "document.body.innerText + [...document.querySelectorAll('pre')].map(one => one.textContent).join()"
    )
    assert browser.ask("document.title") == "Strandline"
    assert browser.ask("document.querySelectorAll('script').length") == 1
    assert browser.ask("document.querySelectorAll('img, main svg, iframe, object, b.owned').length") == 0
    for name in HOSTILE_NAMES[2:6]:
        assert name.replace("\n", "%0A") in text, name
    assert "</pre><script>document.title='owned'</script>" in text and "{{ 7*7 }}" in text
    wrong = [event for event in browser.events if event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert wrong == []
    resources = browser.ask("performance.getEntriesByType('resource').map(one => one.name)")
    assert all(name.startswith(address(daemon)) for name in resources)


def test_the_policy_forbids_what_the_page_does_not_do(daemon: Daemon, browser: Tab) -> None:
    """Even a script that got in would not run."""
    browser.open(address(daemon))
    browser.ask("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    browser.ask(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'document.title=2'}))"
    )
    until(lambda: any(event.get("method") == "Log.entryAdded" for event in _pumped(browser)))
    assert browser.ask("document.title") == "Strandline"


def _pumped(browser: Tab) -> list[dict]:
    browser.ask("1")
    return browser.events


def test_a_drop_shows_up_by_itself_and_what_was_unfolded_stays(daemon: Daemon, browser: Tab) -> None:
    """Without a reload, in the order of arrival; the receipt is the receipt."""
    browser.open(address(daemon))
    browser.ask("document.querySelector('main details').open = true")
    unfolded = browser.ask("document.querySelector('main details').id")
    put(daemon, "live.json", [order(1000)])
    until(lambda: "live.json" in browser.ask("document.querySelector('main').innerText"))
    assert browser.ask(f"document.getElementById({json.dumps(unfolded)}).open") is True
    receipt = json.loads(
        browser.ask("[...document.querySelectorAll('main details')][0].querySelector('pre').textContent")
    )
    assert receipt["name"] == "live.json" and receipt["records"]["new"] == 1


def test_it_is_whole_without_javascript(daemon: Daemon, browser: Tab) -> None:
    """All is in the document itself, receipts unfold, and it renews itself."""
    _, page = daemon.get("/")
    assert '<noscript><meta http-equiv="refresh"' in page
    for text in ("Last drops", "Discards by reason", "Partitions", "missing_created_at", "2026-03-20", "In quarantine"):
        assert text in page
    assert page.count("<details") == 10 and "secret@example.com" not in page and "nobody@example.com" not in page
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(address(daemon))
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
    assert "orders" in browser.ask("document.querySelector('main').innerText")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_a_phone_and_a_desk_in_light_and_dark(
    daemon: Daemon, browser: Tab, tmp_path: Path, width: int, dark: bool
) -> None:
    """Nothing runs over the edge, and text stands out from its ground."""
    browser.open(address(daemon))
    browser.screenshot(tmp_path / "page.png", width, 900, dark=dark)
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert browser.ask("document.documentElement.scrollWidth") <= width
    ground, ink = (
        [int(part) for part in re.findall(r"\d+", browser.ask(f"getComputedStyle(document.body).{name}"))[:3]]
        for name in ("backgroundColor", "color")
    )
    assert (sum(ground) < sum(ink)) == dark and abs(sum(ground) - sum(ink)) > 400


def test_the_twin_says_the_same(daemon: Daemon) -> None:
    """`/api/status` is JSON, what `status --json` says, and whether the instance is well."""
    status, body = daemon.get("/api/status")
    found = json.loads(body)
    assert status == 200 and found["not_ready"] == [] and found["orders"]["new"] >= 200
    assert found["quarantine"]["drops"] == 1 and len(found["drops_by_hour"]) == 24
    assert sum(hour["applied"] for hour in found["drops_by_hour"]) == found["drops"]["applied"]


def test_an_instance_that_is_not_ready_says_why_on_the_page(tmp_path: Path) -> None:
    """The inbox is gone: the page says it, in words."""
    with running(tmp_path) as one:
        until(one.ready)
        one.inbox.rename(tmp_path / "elsewhere")
        (tmp_path / "inbox").write_text("a file stands in its place")
        until(lambda: "Not ready" in one.get("/")[1])
        assert json.loads(one.get("/api/status")[1])["not_ready"]
