"""Each page in a real browser, over the real daemon: by keyboard, by a screen reader's rules (axe), narrow, wide and dark, with
hostile values in all that comes from files, and without JavaScript. Pictures are in build/pages."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Any
from urllib.parse import quote, urlencode

import duckdb
import pytest

from tests.support import REPO
from tests.support.browser import Tab, tab
from tests.support.command import drop, once, order, strandline
from tests.support.daemon_process import Daemon, place, running, until
from tests.support.ledgers import changing

HOSTILE = "<img src=x onerror=document.title='owned'>\u202e</script><script>document.title='owned'</script>"
HOSTILE_NAME = "<img src=x onerror=document.title='owned'>\u202e{{ 7*7 }}.json"
ITEMS = [("p_1", "2", "4.00"), ("p_2", "1", "3.00"), (HOSTILE[:60], "1", "1.00")]
PAGES = {
    "status": "/", "days": "/days", "day": "/day?date=2026-03-02", "days-filter": "/days?from=2026-03-03&to=2026-03-05",
    "drops": "/drops", "drops-filter": "/drops?name=%3Cimg&outcome=quarantined", "receipt": "/receipt?drop=2",
    "receipt-quarantined": "/receipt?drop=3", "quarantine": "/quarantine", "disk": "/disk", "order": "/order?id=o_7",
    "order-hostile": "/order?" + urlencode({"id": HOSTILE}), "order-unknown": "/order?id=nobody", "refused": "/drops?before=x",
    "docs": "/docs/CONCEPTS",
}  # fmt: skip
PICTURES = REPO / "build" / "pages"
MOST_TABS = 200


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """Orders of twenty days, a correction, an order whose every text is hostile, a quarantined drop, one that was withdrawn."""
    home = tmp_path_factory.mktemp("pages")
    items = [dict(zip(("sku", "qty", "price"), item, strict=True)) for item in ITEMS]
    corrected = order(7, 2, amount="10.00", updated_at="2026-03-09T00:00:00Z", items=items, metadata={"note": HOSTILE})
    hostile = {"order_id": HOSTILE, "created_at": "2026-03-02T00:00:00Z", "amount": "10.00", "user_id": HOSTILE,
               "currency": HOSTILE, "metadata": {HOSTILE: HOSTILE}, "items": items}  # fmt: skip
    for name, content in {
        "orders.json": [order(number, 1 + number % 20) for number in range(60)],
        HOSTILE_NAME: [corrected, hostile, {"order_id": "o_7", "created_at": HOSTILE}, HOSTILE],
        f"{HOSTILE_NAME}.broken.json": {HOSTILE: 1},
        "withdrawn.json": [order(8, 8, amount=9, updated_at="2026-04-09T00:00:00Z")],
    }.items():
        drop(home, name, json.dumps(content).encode())
        once(home)
    undone = strandline(home, "undo", "4", "--reason", HOSTILE)
    assert undone.returncode == 0, undone.stderr
    with running(home) as one:
        until(lambda: one.get("/api/disk")[0] == 200, "the files are listed")
        yield one


@pytest.fixture(scope="module")
def browser() -> Iterator[Tab]:
    with tab() as one:
        yield one


def opened(daemon: Daemon, browser: Tab, page: str) -> None:
    browser.open(f"http://127.0.0.1:{daemon.port}{PAGES.get(page, page)}")


def found(daemon: Daemon, path: str) -> dict[str, Any]:
    status, body = daemon.get(path)
    assert status == 200, body
    return json.loads(body)


@pytest.mark.parametrize("page", PAGES)
def test_axe_finds_nothing(daemon: Daemon, browser: Tab, page: str) -> None:
    """By all of its rules, contrast among them, narrow and wide, light and dark; nothing runs over the edge of a phone of 320
    pixels."""
    opened(daemon, browser, page)
    PICTURES.mkdir(parents=True, exist_ok=True)
    for dark in (False, True):
        for width in (320, 1200):
            browser.show(width, 900, dark=dark)
            assert browser.violations() == [], (width, dark)
            assert browser.ask("document.documentElement.scrollWidth") <= width
            browser.screenshot(PICTURES / f"{page}-{width}-{'dark' if dark else 'light'}.png", width, 900, dark=dark)


_CELLS = "[...document.querySelector('TABLE tbody').rows].map((row) => [...row.cells].map((cell) => cell.innerText))"
# The element that has the focus: what it is, and whether it can be seen and shows that it has the focus.
_FOCUS = """(() => {
  const one = document.activeElement, box = one.getBoundingClientRect(), style = getComputedStyle(one);
  return one === document.body ? null : {
    at: [...document.querySelectorAll("*")].indexOf(one), text: (one.id || one.textContent || "").trim().slice(0, 40),
    seen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
    // The button in a date, which the browser draws itself, has the focus while the date has it not.
    shown: !one.matches(":focus") ? one.type === "date" : style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
  };
})()"""
_REACHABLE = """[...document.querySelectorAll("a[href], input, select, button, summary, [tabindex='0']")]
  .filter((one) => one.checkVisibility()).map((one) => [...document.querySelectorAll("*")].indexOf(one))"""


@pytest.mark.parametrize(
    "page", ["status", "days", "day", "drops", "receipt-quarantined", "quarantine", "disk", "order", "docs"]
)
def test_the_keyboard_reaches_everything(daemon: Daemon, browser: Tab, page: str) -> None:
    """In the order of the document; whatever has the focus is in the window, and can be told from the rest."""
    browser.show(1200, 900, dark=False)
    browser.call("Emulation.setScriptExecutionDisabled", value=True)  # of the page, which would renew itself
    try:
        opened(daemon, browser, page)
        reachable = browser.ask(_REACHABLE)
        visited: list[int] = []
        for _ in range(MOST_TABS):
            browser.press("Tab")
            focus = browser.ask(_FOCUS)
            if focus is None or focus["at"] in visited[:1]:
                break
            assert focus["seen"] and focus["shown"], focus
            visited += [focus["at"]] if focus["at"] not in visited[-1:] else []  # a date has three fields
        assert visited == sorted(visited) and set(visited) == set(reachable) and len(reachable) > 10
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)


def test_the_first_key_skips_to_the_content(daemon: Daemon, browser: Tab) -> None:
    """The link appears when it has the focus, and the next link is the first of the content."""
    opened(daemon, browser, "days")
    browser.press("Tab")
    assert browser.ask("document.activeElement.textContent") == "Skip to the content" and browser.ask(_FOCUS)["seen"]
    browser.press("Enter")
    browser.press("Tab")
    assert browser.ask("document.activeElement.closest('main') !== null && document.activeElement.id") == "from"


def test_an_order_is_looked_up_by_keyboard(daemon: Daemon, browser: Tab) -> None:
    """The policy lets the form be sent."""
    opened(daemon, browser, "drops")
    browser.ask("document.getElementById('order-id').focus()")
    for key in "o_7":
        browser.press(key)
    browser.press("Enter")
    until(lambda: browser.ask("document.querySelector('h1')?.textContent") == "Order o_7")
    assert browser.ask("location.pathname + location.search") == "/order?id=o_7"


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ("status", "order-unknown", "docs")])
def test_nothing_that_came_from_a_file_is_obeyed(daemon: Daemon, browser: Tab, page: str) -> None:
    """No element comes of it, no script runs, nothing is loaded, and characters that turn text are spelled out."""
    opened(daemon, browser, page)
    text = browser.ask("document.documentElement.textContent + document.title")
    assert (
        browser.ask("document.title").endswith("· Strandline")
        and "owned" not in browser.ask("document.title").partition("onerror")[0]
    )
    assert browser.ask("document.querySelectorAll('script, img, iframe, object, main svg').length") == 0
    assert "\u202e" not in text and "49.json" not in text
    if page not in ("days", "days-filter", "disk", "refused", "day"):
        assert "<img src=x onerror=document.title='owned'>" in text, page
    resources = browser.ask("performance.getEntriesByType('resource').map(one => one.name)")
    assert resources == [], page
    wrong = [one for one in browser.events if one.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert [one for one in wrong if "the server responded with" not in json.dumps(one)] == []


def test_each_page_is_whole_without_javascript_and_has_its_json_beside(daemon: Daemon) -> None:
    """No script is needed to see a value; the link leads to the same."""
    for name, path in PAGES.items():
        if name == "docs":
            continue
        page = daemon.get(path)[1]
        link = re.search(r'<a href="(/api/[^"]+)">as JSON', page)
        if name in ("order-unknown", "refused"):
            assert link is None and 'role="alert"' in page
            continue
        assert link is not None and "<main" in page and ("<script" in page) == (name == "status"), name
        beside = link[1].replace("&amp;", "&").replace("&#39;", "%27")
        assert beside == ("/api/status" if name == "status" else f"/api{path}") or name == "order-hostile"
        if "order" not in name:  # that is asked for below
            assert "error" not in found(daemon, beside)


def plain_shares(amount: str, items: list[tuple[str, str, str]]) -> list[Decimal]:
    """The amounts of lines, by the rule as docs/EXACTNESS.md has it."""
    weights = [Decimal(qty) * Decimal(price) for _, qty, price in items]
    upto = [
        (Decimal(amount) * sum(weights[:number]) / sum(weights)).quantize(Decimal("0.0001"), ROUND_HALF_UP)
        for number in range(len(weights) + 1)
    ]
    return [after - before for before, after in pairwise(upto)]


def test_an_order_shows_what_was_dropped_and_why(daemon: Daemon, browser: Tab) -> None:
    """Its two versions with their drops, and each line as plain decimals give it, on the page and as JSON."""
    one = found(daemon, "/api/order?id=o_7")
    assert one["published"] == {"date": "2026-03-02", "drop": 2, "position": 1} and one["agrees_with_raw"] is True
    assert [(v["drop"], v["name"], v["content"]["amount"]) for v in one["versions"]] == [
        (1, "orders.json", "7.0000"), (2, one["versions"][1]["name"], "10.0000"),
    ]  # fmt: skip
    assert [(d["drop"], d["position"], d["reason"]) for d in one["discards"]] == [(2, 3, "invalid_created_at")]
    lines = one["versions"][1]["allocation"]["lines"]
    assert [Decimal(line["amount"]) for line in lines] == plain_shares("10.00", ITEMS)
    opened(daemon, browser, "order")
    rows = browser.ask(_CELLS.replace("TABLE", "section table"))
    assert [Decimal(row[-1]) for row in rows] == plain_shares("10.00", ITEMS)
    assert [row[4] for row in rows] == ["8.0000", "3.0000", "1.0000"] and rows[0][1] == "p_1"
    published = duckdb.sql(
        f"SELECT amount FROM '{daemon.output}/curated/date=2026-03-02/fact_order.parquet' "
        "WHERE order_id = 'o_7' ORDER BY line_number"
    ).fetchall()
    assert [amount for (amount,) in published] == plain_shares("10.00", ITEMS)


def test_days_show_what_is_published(daemon: Daemon, browser: Tab) -> None:
    """Orders and exact amounts of each date, as DuckDB counts them in the files."""
    expected = {
        day: (orders, amount)
        for day, orders, amount in duckdb.sql(
            "SELECT date::VARCHAR, count(DISTINCT order_id), sum(amount) "
            f"FROM '{daemon.output}/curated/*/fact_order.parquet' GROUP BY 1"
        ).fetchall()
    }
    opened(daemon, browser, "days")
    rows = browser.ask(_CELLS.replace("TABLE", "main table"))
    assert {
        day: (int(orders), Decimal(amount.replace(",", ""))) for day, orders, amount, *_ in rows if orders
    } == expected
    assert len(expected) == 20


def test_a_restatement_names_who_withdrew_and_why(daemon: Daemon) -> None:
    """The drop that was taken back is shown as such everywhere."""
    day = found(daemon, "/api/day?date=2026-03-08")
    assert day["restatements"] == len(day["restated"]) and day["restated"][0]["undo"]["what"] == "withdrawn"
    assert day["restated"][0]["undo"]["reason"].startswith("<img src=x") and day["restated"][0]["drops"] == [4]
    versions = found(daemon, "/api/order?id=o_8")["versions"]
    assert [one["is_withdrawn"] for one in versions] == [False, True]
    assert found(daemon, "/api/receipt?drop=4")["next_steps"][0]["command"] == "strandline undo --revert 4"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/order?id=" + "x" * 900, 404), ("/order?id=%00", 400), ("/order?id=%ff", 400), ("/order", 400),
        ("/order?id=--help", 404),
        ("/order?id=" + quote("$(touch x);'\""), 404), ("/receipt?drop=999999999999999999", 404), ("/receipt?drop=-1", 400),
        ("/receipt?drop=" + "9" * 400, 400), ("/day?date=0001-01-01", 200), ("/day?date=9999-12-31", 200),
        ("/day?date=0000-00-00", 400),
        ("/days?from=2026-03-02&to=2026-03-01", 400), ("/drops?name=" + quote("' OR 1=1 --"), 200),
        ("/drops?name=%25&name=x", 400),
        ("/drops?source=" + quote("x' UNION SELECT 1"), 200), ("/drops?before=0", 200), ("/drops?outcome=gone", 400),
        ("/quarantine?name=" + quote("../../etc"), 200), ("/quarantine?from=2026-03-02&to=2026-03-01", 400),
        ("/disk?x=1", 400), ("/days/", 404), ("/order?id=" + "%41" * 300, 404),
    ],
)  # fmt: skip
def test_whatever_is_asked_gets_an_answer_that_says_what_it_is(daemon: Daemon, path: str, status: int) -> None:
    """The page and its JSON agree, nothing is made or changed, and the daemon goes on."""
    assert daemon.get(path)[0] == status
    assert "id=" in path or daemon.get(f"/api{path}")[0] == status
    assert not (daemon.home / "x").exists() and daemon.get("/-/healthy")[0] == 200


# Below these, keys come from data or a receipt
_CHOSEN = {
    "discarded",
    "field_faults",
    "content",
    "records_path",
    "parsed_with",
}


def keys_of(value: Any) -> set[str]:
    """Every key of JSON, at any depth."""
    if isinstance(value, list):
        return {key for one in value for key in keys_of(one)}
    if not isinstance(value, dict):
        return set()
    return set(value) | {key for name, one in value.items() if name not in _CHOSEN for key in keys_of(one)}


@pytest.mark.parametrize(
    "path", ["days", "day?date=2026-03-08", "drops", "quarantine", "order?id=o_7", "disk", "days?from=x"]
)  # fmt: skip
def test_every_key_of_the_json_is_documented_and_the_reverse(daemon: Daemon, path: str) -> None:
    """docs/PAGE.md names each, and each that its tables name is there."""
    text = (REPO / "docs" / "PAGE.md").read_text(encoding="utf-8").partition("## JSON")[2]
    status, body = daemon.get(f"/api/{path}")
    keys = keys_of(json.loads(body))
    if status == 400:
        assert keys == {"error"} and '`{"error": "…"}`' in text
        return
    usage = keys_of(json.loads(strandline(daemon.home, "usage", "--json").stdout)["parts"])
    assert keys - set(re.findall(r"`(\w+)`", text)) - usage == set()
    section = text.partition(f"### /api/{path.partition('?')[0]}\n")[2].partition("\n### ")[0]
    named = {key for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}
    assert named <= keys and (named or path == "disk")


def test_a_renewal_keeps_the_focus(daemon: Daemon, browser: Tab) -> None:
    """The status page replaces what changed, and a person with a keyboard stays where they were."""
    opened(daemon, browser, "status")
    browser.ask("document.querySelector('main details summary').focus()")
    kept = browser.ask("document.activeElement.parentElement.id")
    browser.ask("window.before = document.activeElement")
    place(daemon.inbox / "renewed.json", json.dumps([order(700)]).encode())
    until(lambda: "renewed.json" in browser.ask("document.querySelector('main').innerText"))
    assert browser.ask("document.activeElement.parentElement.id") == kept
    # It is another element, that took the focus
    assert browser.ask("window.before === document.activeElement") is False


def test_a_ledger_that_is_being_written_answers(daemon: Daemon) -> None:
    """A transaction is open that has changed everything and is not committed: what was committed is shown, at once."""
    before = found(daemon, "/api/day?date=2026-03-02")
    with closing(changing(daemon.output / "state" / "ledger.sqlite")) as writer:
        writer.execute("DELETE FROM partitions")
        writer.execute("DELETE FROM drops")
        for path in ("/api/days", "/api/drops", "/api/receipt?drop=2", "/api/quarantine", "/api/order?id=o_7"):
            assert "error" not in found(daemon, path)
        assert found(daemon, "/api/day?date=2026-03-02") == before
        writer.rollback()
