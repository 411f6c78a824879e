"""The page of an order: what the index says is there whatever happens to the rest, and a long history is cut to a page."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from daemon.observe.pages.lookup_pages import LookUpPages, NotFound
from daemon.observe.pages.order import SHOWN_ITEMS, SHOWN_VERSIONS, OrderPage, cut
from daemon.observe.pages.query import Query, Refused
from daemon.observe.pages.rendering import Renderer
from daemon.observe.pages.tracing import Tracing
from daemon.operate import trace
from daemon.storage.ledger import Ledger
from tests.support.command import order
from tests.support.harness import apply_batch, open_engine

NOW = 1_780_000_000_000_000


def asked(ledger: Ledger, program: str, order_id: str, seconds: float = 60.0) -> dict[str, Any]:
    tracing = Tracing([sys.executable, "-c", program], lambda: os.environ, seconds, lambda: nullcontext(Path()))
    page = OrderPage(lambda: nullcontext(ledger), tracing)
    return page.look_ups[0].look(Query({"id": order_id}))


@pytest.fixture
def ledger(tmp_path: Path) -> Any:
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", json.dumps([order(7), order(8)]).encode())], NOW)
        yield engine.ledger


def test_where_the_history_cannot_be_read_the_index_answers(ledger: Ledger) -> None:
    """It took too long, or failed: the keys are the same, and it says why."""
    for program, seconds, why in (
        ("import time; time.sleep(600)", 0.5, "longer than 0.5 s"),
        ("import sys; sys.exit('no')", 60, "no"),
    ):
        found = asked(ledger, program, "o_7", seconds)
        assert found["published"] == {"date": "2026-03-02", "drop": 1, "position": 1} and found["versions"] == []
        assert why in found["why_incomplete"] and found["agrees_with_raw"] is None
        page = Renderer("1").page(
            "order", {"here": "/order", "query": {"id": "o_7"}, "given": {"id": "o_7"}, "error": "", "found": found}
        )
        assert b"Its versions are not shown" in page.content
        assert (b"has no limit" in page.content) == (seconds == 0.5)
    assert asked(ledger, "import sys; sys.exit('no')", "o_9")["published"] is None


@pytest.mark.parametrize("path", ["/order", "/api/order"])
def test_without_room_for_temporary_files_it_says_so(ledger: Ledger, tmp_path: Path, path: str) -> None:
    """Neither a page without versions, as if there were none, nor the words of Python."""

    def full(folder: Path) -> AbstractContextManager[Path]:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))

    page = OrderPage(lambda: nullcontext(ledger), Tracing([], lambda: os.environ, 60.0, lambda: full(tmp_path / "x")))
    found = LookUpPages(Renderer("1"), page.look_ups).answers[path]({"QUERY_STRING": "id=o_7"})
    said = f"could not make the temporary folder {tmp_path}/x: No space left on device. To read the drops of an order, room"
    assert found.status == "503 Service Unavailable" and said in found.content.decode()


def test_an_order_that_never_came_is_not_found(ledger: Ledger) -> None:
    """Also one whose id no order can have. Without an id, it says what is missing."""
    nothing = trace.as_dict(trace.Trace("o_9", [], [], {}, {}, None))
    with pytest.raises(NotFound, match=r"no drop has an order o_9\Z"):
        asked(ledger, f"print({json.dumps(nothing)!r})", "o_9")
    alike = trace.as_dict(trace.Trace("o-7", [], [], {}, {}, None, ["o_7", "O-7"]))
    with pytest.raises(NotFound, match=r"no drop has an order o-7\. Did you mean o_7 or O-7\?\Z"):
        asked(ledger, f"print({json.dumps(alike)!r})", "o-7")
    with pytest.raises(NotFound, match="more than 256 bytes"):
        asked(ledger, "", "ü" * 129)
    with pytest.raises(Refused, match="the parameter id is missing"):
        asked(ledger, "", "  ")


def test_drops_that_were_not_read_are_named(ledger: Ledger) -> None:
    """With the reason; an order that no other drop has is still not found, and why is said."""
    lost = [trace.NotRead(number, "a.json", "it is <missing>") for number in range(1, 23)]
    traced = trace.as_dict(trace.Trace("o_7", [], [], {}, {}, ("2026-03-02", 1, 1), not_read=lost))
    found = asked(ledger, f"print({json.dumps(traced)!r})", "o_7")
    assert len(found["not_read"]) == 20 and found["not_read_left_out"] == 2
    query = {"id": "o_7"}
    page = Renderer("1").page("order", {"here": "/order", "query": query, "given": query, "error": "", "found": found})
    assert (
        b"was not read:</strong> it is &lt;missing&gt;" in page.content
        and b"2 more drops were not read" in page.content
    )
    with pytest.raises(NotFound, match="no drop that can be read has an order o_9"):
        asked(ledger, f"print({json.dumps(traced | {'order_id': 'o_9'})!r})", "o_9")


def test_a_long_history_is_cut_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    """The newest versions, the first items of each, and long texts; the amounts that are shown are the right ones."""
    items = [{"sku": f"p_{number}", "qty": 1, "price": number} for number in range(SHOWN_ITEMS + 7)]
    with open_engine(tmp_path) as engine:
        for number in range(SHOWN_VERSIONS + 3):
            one = order(7, amount=number, items=items, metadata={"note": "x" * 10_000},
                        updated_at=f"2026-03-03T00:00:{number:02d}Z")  # fmt: skip
            apply_batch(engine, tmp_path, [(f"{number}.json", json.dumps([one]).encode())], NOW)
        whole = trace.as_dict(trace.trace(engine, "o_7"))
    found = cut(whole)
    assert found["versions_left_out"] == 3 and len(found["versions"]) == SHOWN_VERSIONS
    assert [one["drop"] for one in found["versions"]] == [one["drop"] for one in whole["versions"][3:]]
    for shown, one in zip(found["versions"], whole["versions"][3:], strict=True):
        assert shown["items_left_out"] == 7 and shown["content"]["items"] == one["content"]["items"][:SHOWN_ITEMS]
        assert list(shown["allocation"]["lines"]) == list(one["allocation"]["lines"])[:SHOWN_ITEMS]
        assert len(shown["content"]["metadata"]) == 2_001
    content = Renderer("1").page(
        "order",
        {
            "here": "/order",
            "query": {"id": "o_7"},
            "given": {"id": "o_7"},
            "error": "",
            "found": found | {"why_incomplete": None},
        },
    )
    assert b"7 more lines" in content.content and len(content.content) < 2 << 20
    assert len(json.dumps(found)) < 1 << 20


def test_the_weights_of_returns_are_explained(tmp_path: Path) -> None:
    """Without a sign, and with the sum by which the page says that they are divided."""
    items = [{"sku": "a", "qty": 20, "price": 5}, {"sku": "b", "qty": -1, "price": 5}]
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", json.dumps([order(7, amount=1, items=items)]).encode())], NOW)
        found = cut(trace.as_dict(trace.trace(engine, "o_7"))) | {"why_incomplete": None}
    given = {"here": "/order", "query": {"id": "o_7"}, "given": {"id": "o_7"}, "error": "", "found": found}
    page = Renderer("1").page("order", given).content.decode()
    assert 'class="n">Weight</th>' in page and "by weight: quantity × price, without its sign" in page
    text = re.sub("<[^>]*>", "", page)
    assert "its items come to 95.0000" in text and "÷ 105.0000, the sum of all weights" in text, text
