"""Which object without records is an empty page of an API, and which may be an error or an order that nobody would see."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.core.model import ParseContext
from daemon.core.parse.parse import Piece, parse
from tests.strategies import RECEIVED_AT_US

CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)
DATE = "2026-11-20"


def is_page(document: Any) -> bool:
    """Whether a drop is read as no record; otherwise it is refused."""
    parsed = parse([Piece(1, json.dumps(document).encode(), CONTEXT)])
    assert parsed.unreadable.keys() ^ parsed.tallies.keys() == {1}
    assert 1 in parsed.unreadable or parsed.tallies[1].extracted == 0
    return not parsed.unreadable


def within(levels: int, inner: Any) -> Any:
    """A value inside so many objects."""
    return inner if levels == 0 else {"block": within(levels - 1, inner)}


@pytest.mark.parametrize("key", ["orders", "data", "results", "records"])
def test_an_empty_array_is_a_page(key: str) -> None:
    assert is_page({key: []})
    assert is_page({key: [], "has_more": False, "nextPage": None, "total-count": 0})
    assert is_page({key: [], "vendor": "a shop"})


@pytest.mark.parametrize("nothing", [None, {}])
def test_nothing_in_place_of_the_array_is_a_page_beside_keys_of_paging(nothing: Any) -> None:
    assert is_page({"orders": nothing}) and is_page({"orders": nothing, "total": 0, "page": 3, "links": {"next": None}})
    assert not is_page({"orders": nothing, "vendor": "a shop"})
    assert is_page({"orders": nothing, "data": [], "vendor": "a shop"})


@pytest.mark.parametrize("other", [0, False, "", "none", {"a": 1}])
def test_another_value_in_place_of_the_array_is_no_page(other: Any) -> None:
    assert not is_page({"orders": other})
    assert not is_page({"orders": other, "data": []})


@pytest.mark.parametrize("key", ["error", "errors", "fault", "exception", "Errors"])
@pytest.mark.parametrize(("value", "reports"), [
    (None, False), ("", False), ([], False), ({}, False), (0, False), (False, False),
    ("x", True), (["x"], True), ({"code": 1}, True), (1, True), (True, True),
])  # fmt: skip
def test_an_error_is_no_page_unless_it_is_empty(key: str, value: Any, reports: bool) -> None:
    assert is_page({"orders": [], key: value}) is not reports


@pytest.mark.parametrize("key", ["success", "ok", "status", "status_code", "code"])
@pytest.mark.parametrize(("value", "is_well"), [
    ("ok", True), ("Success", True), ("200 OK", True), (200, True), (204, True), (0, True), (1, True), ("true", True),
    (True, True),
    (False, False), (404, False), (500, False), ("503 unavailable", False), (-1, False), ("failed", False), ("Rate limit", False),
    ("pending", False), (302, False), ("ok?", False),
])  # fmt: skip
def test_a_status_that_is_bad_or_unknown_is_no_page(key: str, value: Any, is_well: bool) -> None:
    assert is_page({"orders": [], key: value}) is is_well


def test_a_message_that_all_is_well_explains_an_unknown_status_and_no_bad_one() -> None:
    assert is_page({"orders": [], "status": "pending", "message": "OK"})
    assert not is_page({"orders": [], "status": "pending", "message": "wait"})
    assert not is_page({"orders": [], "status": 500, "message": "OK"})


def test_a_message_that_speaks_of_an_error_is_no_page() -> None:
    """Where there is no array, any message is one, unless it says that all is well."""
    assert is_page({"orders": [], "message": "nothing was ordered"})
    assert not is_page({"orders": [], "message": "access denied"})
    assert not is_page({"orders": None, "message": "nothing was ordered"})
    assert is_page({"orders": None, "message": "done"}) and is_page({"orders": None, "message": ""})


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_objects_in_another_array_may_be_orders(levels: int) -> None:
    for objects in ([{"a": 1}], [{}], [1, {"a": 1}], ["x", {}]):
        assert not is_page({"orders": [], **within(levels, {"rows": objects})})
    for values in ([], [1, 2], ["x"], [[1]]):
        assert is_page({"orders": [], **within(levels, {"rows": values})})


def test_links_are_objects_and_no_orders() -> None:
    assert is_page({"orders": [], "links": [{"rel": "next", "href": "/2"}]})
    assert is_page({"orders": [], "meta": {"links": [{"rel": "next", "href": "/2"}]}})


@pytest.mark.parametrize("levels", [0, 1, 2])
def test_an_id_with_a_date_may_be_an_order(levels: int) -> None:
    """Neither is one alone, nor an empty id; a date is known by its key or by how it is written."""
    for members, is_order in [
        ({"id": 5, "date": "x"}, True),
        ({"_id": 5, "placed": DATE}, True),
        ({"uuid": "a", "placed": "20.11.2026 at 5"}, True),
        ({"number": 5, "placed": "5/1/2026"}, True),
        ({"order_number": "a", "created_at": 1}, True),
        ({"orderId": ""}, True),
        ({"id": 5}, False),
        ({"placed": DATE}, False),
        ({"id": 0, "placed": DATE}, False),
        ({"id": "", "placed": DATE}, False),
        ({"id": 5, "date": None}, False),
        ({"id": 5, "placed": "tomorrow"}, False),
        ({"shop_id": 5, "placed": DATE}, False),
        ({"id": 5, "timestamp": DATE}, False),
        ({"page": 5, "date": DATE}, False),
    ]:
        assert is_page({"orders": [], **within(levels, members)}) is not is_order, members


def test_an_order_anywhere_beside_is_not_lost() -> None:
    """However deep, and under a key of paging."""
    order = {"order_id": "o_1", "created_at": DATE}
    for inner in (order, [order], [[order]], [1, order]):
        assert not is_page({"orders": [], "page": within(7, inner)})
    assert is_page({"orders": [], "page": within(7, {"created_at": DATE})})


def test_what_only_may_be_an_order_is_looked_for_three_levels_deep() -> None:
    """A page is not refused for what it has deeper inside."""
    assert is_page({"orders": [], **within(3, {"rows": [{"a": 1}]})})
    assert is_page({"orders": [], **within(3, {"id": 5, "date": DATE})})
