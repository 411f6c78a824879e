"""The page for people: in a real browser, over the real daemon, with hostile names and records on it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.browser import Tab, tab
from tests.support.command import order
from tests.support.daemon_process import Daemon, place, running, until

HOSTILE_NAMES = (
    "<img src=x onerror=document.title='owned'>.json",
    "<script>document.title='owned'<_script>.json",
    "'\"><svg onload=alert(1)>.json",
    "{{ 7*7 }}.json",
    "&lt;b&gt;.json",
    "a\nb.json",
    "\u202egnp.json",
    "javascript:alert(1).json",
)
HOSTILE_FOLDER = "<img src=x onerror=document.title='owned'>\u202e"
HOSTILE_RECORDS = [
    {"order_id": "</pre><script>document.title='owned'</script>\u202e\u200b"},
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
        (one.inbox / HOSTILE_FOLDER).mkdir()
        (one.inbox / HOSTILE_FOLDER / "stray.json").write_text("[]")
        put(one, "<b>broken.json", b'{"<script>document.title=1</script>": 1}')
        until(lambda: len(list(one.output.glob("receipts/*/*.json"))) == 4 + len(HOSTILE_NAMES))
        yield one


HOSTILE_MODELS = {
    "column.sql": "SELECT date, \"<img src=x onerror=document.title='owned'>\" FROM fact_order",
    "table_name.sql": "FROM \"</span><script>document.title='owned'</script>\"",
    "raises.py": "def model(fact_order):\n    raise ValueError('<svg onload=alert(1)>{{ 7*7 }}')\n",
    "<b class='owned'>.sql": "SELECT 1",
    os.fsdecode(b"caf\xe9.sql"): "SELECT 1",
}
CHECKS = {
    "no_user.sql": '-- severity = "error"\nSELECT order_id FROM fact_order WHERE user_id IS NULL',
    "large.sql": "SELECT order_id FROM fact_order WHERE amount > 19",
    "negative.sql": "SELECT order_id FROM fact_order WHERE amount < 0",
}


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with models and checks, some of which fail. They come after its start: it would refuse to start with them."""
    home = tmp_path_factory.mktemp("followed")
    for folder in ("models", "checks"):
        (home / folder).mkdir()
    with running(home, WATCH__RESCAN_SECONDS="0.5") as one:
        put(one, "orders.json", [order(number, 1 + number % 4) for number in range(21)])
        until(lambda: one.receipt("orders.json"))
        models = HOSTILE_MODELS | {
            "daily.sql": "SELECT date, count(*) AS lines FROM fact_order GROUP BY date",
            "week.sql": "-- lookback = 6\nSELECT date, sum(lines) AS lines FROM daily GROUP BY date",
            "on_raises.sql": "-- whole\nSELECT date FROM raises",
        }
        for folder, texts in (("models", models), ("checks", CHECKS)):
            for name, text in texts.items():
                place(home / folder / name, text.encode())
        until(
            lambda: all(shown(one, name)["last_success"] for name in ("daily", "week", "no_user", "large", "negative"))
        )
        until(
            lambda: all(shown(one, name)["error"] for name in ("column", "table_name", "raises", "<b class='owned'>"))
        )
        yield one


def shown(daemon: Daemon, name: str) -> dict[str, Any]:
    """What /api/status has of a model or check."""
    found = {one["name"]: one for one in json.loads(daemon.get("/api/status")[1])["downstreams"]}
    return found.get(name, {"last_success": None, "error": None})


@pytest.fixture(scope="module")
def browser() -> Iterator[Tab]:
    with tab() as one:
        yield one


def put(daemon: Daemon, name: str, content: bytes | list) -> None:
    place(
        daemon.inbox / name, content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    )


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
    assert "\\u202e\\u200b" in text and "%E2%80%AEgnp" in text
    assert "in folders that no [sources] section names: <img" in text
    assert not any(one in text for one in "\u202e\u200b")  # they would turn and hide what is beside them
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


def lines_of(browser: Tab) -> dict[str, str]:
    """What the page says of each model and check, by name."""
    rows = browser.ask("[...document.querySelectorAll('#downstreams .line')].map(one => one.innerText)")
    return {row.split("\n")[1]: row for row in rows}


def test_models_and_checks_are_on_the_page(followed: Daemon, browser: Tab) -> None:
    """What each reads, whether it is up to date, the rows of a check and where they are. What fails says why, and what reads it
    waits."""
    browser.open(address(followed))
    found = lines_of(browser)
    assert found.keys() >= {"daily", "week", "on_raises", "raises", "no_user", "large", "negative"}
    assert "up to date" in found["daily"] and "reads fact_order · 4 rows · last success 20" in found["daily"]
    assert "reads daily (6 days back)" in found["week"]
    assert "failing" in found["raises"] and "raises.py, line 2: ValueError" in found["raises"]
    assert "waits for raises" in found["on_raises"] and "failing" not in found["on_raises"]
    assert f"21 rows found: see {followed.output}/checks/no_user/no_user.parquet" in found["no_user"]
    assert "1 row found" in found["large"] and "found" not in found["negative"]
    badges = dict(browser.ask(
        "[...document.querySelectorAll('#downstreams .line')].map(one => "
        "[one.querySelector('.path').textContent, one.querySelector('.badge').className])"
    ))  # fmt: skip
    expected = {
        "daily": "good",
        "raises": "bad",
        "on_raises": "warn",
        "no_user": "bad",
        "large": "warn",
        "negative": "good",
    }
    assert {name: badges[name] for name in expected} == {name: f"badge {kind}" for name, kind in expected.items()}
    tiles = " ".join(browser.ask("document.querySelector('.tiles').innerText").split())
    assert "5 of 11 up to date, 5 failing, 1 waiting; checks found rows" in tiles


def test_names_in_the_errors_of_models_are_not_obeyed(followed: Daemon, browser: Tab) -> None:
    """Names of tables, columns and files, and the message of an exception."""
    browser.open(address(followed))
    text = browser.ask("document.body.innerText")
    for hostile in (
        "<img src=x onerror=document.title='owned'>", "</span><script>document.title='owned'</script>",
        "<svg onload=alert(1)>{{ 7*7 }}", "<b class='owned'>", "caf\ufffd",
    ):  # fmt: skip
        assert hostile in text, hostile
    assert browser.ask("document.title") == "Strandline"
    assert browser.ask("document.querySelectorAll('script').length") == 1
    assert browser.ask("document.querySelectorAll('img, main svg, b.owned').length") == 0
    assert [one for one in browser.events if one.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded")] == []


def test_a_model_that_is_corrected_shows_up_without_a_reload(followed: Daemon, browser: Tab) -> None:
    """And one that is removed is gone."""
    browser.open(address(followed))
    place(followed.home / "models" / "passing.sql", b"SELECT nothing FROM fact_order")
    until(lambda: "failing" in lines_of(browser).get("passing", ""))
    place(followed.home / "models" / "passing.sql", b"SELECT DISTINCT date FROM fact_order")
    until(lambda: "up to date" in lines_of(browser).get("passing", ""))
    (followed.home / "models" / "passing.sql").unlink()
    until(lambda: "passing" not in lines_of(browser))


def test_without_models_and_checks_there_is_nothing_of_them(daemon: Daemon) -> None:
    """Neither a heading nor a tile."""
    assert "Models, checks, destinations" not in daemon.get("/")[1] and 'id="downstreams"' not in daemon.get("/")[1]


def test_models_and_checks_need_no_javascript(followed: Daemon) -> None:
    """They are in the document itself."""
    page = followed.get("/")[1]
    for text in ("Models, checks, destinations", "rows found: see", "reads daily (6 days back)", "raises.py, line 2"):
        assert text in page


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_models_and_checks_fit_a_phone_and_a_desk(
    followed: Daemon, browser: Tab, tmp_path: Path, width: int, dark: bool
) -> None:
    """No name and no error runs over the edge, and each badge can be read."""
    browser.open(address(followed))
    browser.screenshot(tmp_path / "page.png", width, 900, dark=dark)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    edges = browser.ask(
        "[...document.querySelectorAll('#downstreams, #downstreams *')].map(one => one.getBoundingClientRect().right)"
    )
    assert max(edges) <= width
    hidden = browser.ask("[...document.querySelectorAll('#downstreams .badge')].filter(one => !one.offsetWidth).length")
    assert hidden == 0


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


def test_a_file_of_settings_that_is_half_written_costs_no_page(tmp_path: Path) -> None:
    """The page of an order, too, goes by the settings that the daemon runs with."""
    file = tmp_path / "config.toml"
    file.write_text('[paths]\noutput = "elsewhere"\n[receipts]\nkeep = "30d"\n[raw]\nkeep = "20d"\n')
    with running(tmp_path) as one:
        file.write_text("[paths\noutput = ")
        put(one, "orders.json", [order(7)])
        until(lambda: json.loads(one.get("/api/status")[1])["orders"].get("new") == 1)
        status, content = one.get("/api/order?id=o_7")
        found = json.loads(content)
        assert status == 200 and found["why_incomplete"] is None and len(found["versions"]) == 1
        assert (tmp_path / "elsewhere" / "curated").is_dir()


def test_a_ledger_that_is_gone_is_no_empty_output(tmp_path: Path) -> None:
    """The page does not say that it is ready and has no orders. Between two scans, which are far apart here, the daemon does not
    notice itself that the ledger is gone."""
    with running(tmp_path, WATCH__RESCAN_SECONDS="600") as one:
        put(one, "orders.json", [order(7)])
        until(lambda: json.loads(one.get("/api/status")[1])["orders"].get("new") == 1)
        ledger = one.output / "state" / "ledger.sqlite"
        ledger.rename(tmp_path / "ledger.sqlite")
        for path, of_before in (("/", "orders.json"), ("/api/status", '"new": 1')):

            def refused(path: str = path, of_before: str = of_before) -> str | None:
                status, content = one.get(path)
                assert status == 503 or (status == 200 and of_before in content), content  # kept for a second
                return content if status == 503 else None

            assert "it is gone" in until(refused)
        assert one.process.poll() is None
        (tmp_path / "ledger.sqlite").rename(ledger)
        until(lambda: "orders.json" in one.get("/")[1])
