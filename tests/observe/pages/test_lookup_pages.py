"""Questions over HTTP: each has a page and JSON, errors are told with their status, and slow ones hold up nobody else."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from daemon.core.errors import EnvironmentFault
from daemon.observe.access import Access
from daemon.observe.http import ASKED, Application
from daemon.observe.metrics import Metrics
from daemon.observe.pages import lookup_pages as module
from daemon.observe.pages.ledger import LedgerPages
from daemon.observe.pages.lookup_pages import LookUp, LookUpPages, NotFound, NotYet
from daemon.observe.pages.query import Query, Refused
from daemon.observe.pages.rendering import Renderer
from daemon.observe.server import serving
from tests.observe.test_http import Server
from tests.support.daemon_process import free_port, until
from tests.support.harness import apply_batch, open_engine

FOUND = {"in_quarantine": 0, "drops": [], "older_before": None}


def pages(look: Callable[[Query], dict[str, Any]]) -> LookUpPages:
    return LookUpPages(Renderer("1"), [LookUp("/quarantine", "quarantine", ("name", "from", "to", "before"), look)])


def answered(
    look: Callable[[Query], dict[str, Any]], path: str, query: str = "", waited: float = 0.0
) -> tuple[str, str, Any]:
    found = pages(look).answers[path]({"QUERY_STRING": query, ASKED: time.monotonic() - waited})
    return found.status, found.content.decode(), found.headers


def raising(error: Exception) -> Callable[[Query], dict[str, Any]]:
    def look(_: Query) -> dict[str, Any]:
        raise error

    return look


def test_a_question_has_a_page_and_the_same_as_json() -> None:
    """The parameters are those of the address, and the page links to its JSON with the same ones."""
    asked: list[Query] = []
    look = lambda query: asked.append(query) or FOUND  # noqa: E731
    status, page, headers = answered(look, "/quarantine", "name=%3Cb%3E")
    assert status == "200 OK" and 'href="/api/quarantine?name=%3Cb%3E"' in page and 'value="&lt;b&gt;"' in page
    assert "form-action 'self'" in headers["Content-Security-Policy"]
    status, body, _ = answered(look, "/api/quarantine", "name=%3Cb%3E")
    assert status == "200 OK" and json.loads(body) == FOUND and [one.text("name") for one in asked] == ["<b>"] * 2


@pytest.mark.parametrize(
    ("error", "status", "why"),
    [
        (Refused("it is not a date"), "400 Bad Request", "it is not a date"),
        (NotFound("no drop 9"), "404 Not Found", "no drop 9"),
        (NotYet("load it again"), "503 Service Unavailable", "load it again"),
        (OSError("disk I/O error"), "503 Service Unavailable", "not available now: disk I/O error"),
        (EnvironmentFault("open the ledger", Path("x"), "gone", ""), "503 Service Unavailable", "not available now"),
        (sqlite3.OperationalError("database is locked"), "503 Service Unavailable", "database is locked"),
    ],
)  # fmt: skip
def test_an_error_is_told_with_its_status(error: Exception, status: str, why: str) -> None:
    """On the page and as JSON."""
    found, page, headers = answered(raising(error), "/quarantine")
    assert (
        found == status
        and why in page
        and 'role="alert"' in page
        and ("Retry-After" in headers) == status.startswith("503")
    )
    found, body, _ = answered(raising(error), "/api/quarantine")
    assert found == status and why in json.loads(body)["error"]


def test_a_wrong_parameter_is_shown_back_escaped() -> None:
    """Nothing is looked up."""
    status, page, _ = answered(raising(AssertionError()), "/quarantine", "x=<script>")
    assert status == "400 Bad Request" and "<script>" not in page.partition("</style>")[2]


def test_who_waited_too_long_is_refused_at_once() -> None:
    """So the queue is never longer than what is answered in that time."""
    status, page, headers = answered(raising(AssertionError()), "/quarantine", waited=module.WAIT_SECONDS + 1)
    assert status == "503 Service Unavailable" and "ask again" in page and headers["Retry-After"]


def test_a_query_that_takes_too_long_says_what_to_do() -> None:
    """SQLite was interrupted."""
    sql = sqlite3.connect(":memory:")
    sql.set_progress_handler(lambda: True, 100)

    def look(_: Query) -> dict[str, Any]:
        sql.execute("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n").fetchone()
        return FOUND

    status, body, _ = answered(look, "/api/quarantine")
    assert status == "503 Service Unavailable" and "longer than 5 s; ask for fewer" in body


class Slow:
    """An answer that does not come until it is released."""

    def __init__(self) -> None:
        self.released, self.begun = threading.Event(), 0

    def __call__(self, _: Query) -> dict[str, Any]:
        self.begun += 1
        self.released.wait(60)
        return FOUND


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[tuple[Slow, Server]]:
    look = Slow()
    paths = (
        ("/quarantine", look, "look-ups"),
        ("/drops", lambda _: FOUND, "look-ups"),
        ("/order", lambda _: FOUND, "orders"),
    )
    every = [LookUp(path, "quarantine", ("name", "from", "to"), made, thread=thread) for path, made, thread in paths]
    found = LookUpPages(Renderer("1"), every)
    answer = Application(Metrics(tmp_path, "1").registry, list, list, Access(), found.answers, found.threads)
    port = free_port()
    with serving(answer, answer.threads, "127.0.0.1", port):
        yield look, Server(port, None)  # type: ignore[arg-type]
        look.released.set()


def test_a_slow_question_holds_up_its_thread_and_nobody_else(
    slow: tuple[Slow, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Health, metrics and what other threads answer come at once; those behind it are refused when they have waited too long."""
    look, server = slow
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.2)
    statuses: list[int] = []
    clients = [threading.Thread(target=lambda: statuses.append(server.ask("/quarantine")[0])) for _ in range(5)]
    for client in clients:
        client.start()
    until(lambda: look.begun)
    for path in ("/-/healthy", "/-/ready", "/metrics", "/order", "/api/order"):
        assert server.ask(path)[0] == 200, path
    time.sleep(0.3)  # those that wait have now waited too long
    look.released.set()
    for client in clients:
        client.join()
    assert sorted(statuses) == [200, 503, 503, 503, 503] and look.begun == 1
    assert server.ask("/drops")[0] == 200


def test_the_receipt_says_where_discards_are_that_it_does_not_show(tmp_path: Path) -> None:
    """Rows of users have e-mail addresses. Discarded orders are shown."""
    with open_engine(tmp_path) as engine:
        users = b"user_id,email\nu_1,a\n,b@example.com\n"
        orders = b'{"order_id":"o","created_at":"2026-03-02","amount":1}\n{"order_id":"p","created_at":"x"}\n'
        apply_batch(engine, tmp_path, [("users.csv", users), ("a.ndjson", orders)], 1_780_000_000_000_000)
        receipts = LookUpPages(Renderer("1"), LedgerPages(lambda: nullcontext(engine.ledger), engine.output).look_ups)
        shown = [receipts.answers["/receipt"]({"QUERY_STRING": f"drop={drop}"}).content.decode() for drop in (1, 2)]
    of_users, of_orders = sorted(shown, key=lambda page: "a.ndjson" in page)
    assert "Its discards are not shown here" in of_users and "FROM discards WHERE drop = " in of_users
    assert "b@example.com" not in of_users
    assert "First discards" in of_orders and "not shown here" not in of_orders
