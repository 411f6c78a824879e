"""What the reason says of an object that is neither an order nor an envelope: where its records may be, and how to read them."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from daemon.core.model import ParseContext
from daemon.core.parse.parse import Piece, parse
from tests.strategies import RECEIVED_AT_US

CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)
ROW = {"sku": "a", "n": 1}


def order(number: int) -> dict[str, Any]:
    return {"order_id": f"o_{number}", "created_at": "2026-11-20T10:00:00Z", "amount": 1}


def reason_of(document: Any, records_path: str = "") -> str:
    context = ParseContext(RECEIVED_AT_US, 86_400_000_000, records_path)
    return parse([Piece(1, json.dumps(document).encode(), context)]).unreadable[1]


def within(path: str, inner: Any) -> Any:
    for key in reversed(path.split(".")):
        inner = {key: inner}
    return inner


@pytest.mark.parametrize(
    ("path", "is_found"), [("rows", True), ("a.rows", True), ("a.b.rows", True), ("a.b.c.rows", False)]
)
def test_arrays_are_found_three_levels_deep(path: str, is_found: bool) -> None:
    """In an object without a known array, and beside an empty one."""
    assert (f'records_path = "{path}"' in reason_of(within(path, [ROW]))) is is_found
    assert (f"{path} (1 value, with the keys sku, n)" in reason_of(within(path, [ROW]))) is is_found
    if is_found:
        assert f"records at: {path}. If these are the orders" in reason_of({"orders": [], **within(path, [ROW])})


def test_the_first_three_arrays_are_shown_with_what_they_have() -> None:
    reason = reason_of({"w": [ROW], "x": [1, 2, ROW], "y": [], "z": [ROW]})
    assert "arrays at: w (1 value, with the keys sku, n); x (3 values, with the keys sku, n); y (0 values)." in reason
    assert 'set [input] records_path = "w"' in reason and "z (" not in reason
    assert "records at: w, x, y. " in reason_of({"orders": [], **{key: [ROW] for key in "wxyz"}})


@pytest.mark.parametrize(("path", "is_found"), [("a", True), ("a.b", True), ("a.b.c", True), ("a.b.c.d", False)])
def test_an_order_inside_is_found_three_levels_deep(path: str, is_found: bool) -> None:
    """In the object, and in the records of an array."""
    sentence = f'set record = "{path}" in [sources.default]'
    assert (f"an order inside, at `{path}`: {sentence}" in reason_of(within(path, order(1)))) is is_found
    reason = reason_of({"rows": [within(path, order(1))]})
    assert 'set [input] records_path = "rows"' in reason
    assert (f"an order inside each record, at `{path}`: {sentence}, too" in reason) is is_found


def test_orders_under_keys_of_their_own_are_named() -> None:
    """Several, or one whose key is no name; keys that may be personal data are not shown."""
    assert "Each order is under its own key (a, b); write them as an array" in reason_of({"a": order(1), "b": order(2)})
    assert "Each order is under its own key (a, b)" in reason_of({"rows": {"a": order(1), "b": order(2)}})
    reason = reason_of({"max@example.com": order(1)})
    assert "Each order is under its own key (none)" in reason and "example.com" not in reason


def test_an_order_that_an_array_does_not_have_would_be_lost() -> None:
    assert "records under orders, and at kept.last an order that is not among them" in reason_of(
        {"orders": [order(1)], "kept": {"last": order(2)}}
    )
    assert "at shown; write the orders as an array" in reason_of({"orders": [], "shown": order(1)})


def test_records_under_two_keys_are_those_of_neither() -> None:
    reason = reason_of({"data": [ROW], "orders": [order(1)]})
    assert "records under orders and data" in reason and 'records_path = "orders", or the other' in reason


@pytest.mark.parametrize("key", ["error", "errorMessage", "status"])
def test_an_error_of_an_api_is_called_one(key: str) -> None:
    """With its keys, and not with what it says; unless it has records, too."""
    reason = reason_of({"request": 5, key: "failed: max@example.com"})
    assert f"an error message of an API, not orders (it has `{key}`; its keys: request, {key})" in reason
    assert "example.com" not in reason
    assert "error message" not in reason_of({key: "failed", "rows": [ROW]})
    assert "error message" not in reason_of({key: "failed", "last": order(1)})


def test_what_has_no_array_is_named_by_its_keys() -> None:
    assert reason_of({"a": 1, "b": "x"}).endswith("under orders, data, results, records. Its keys: a, b")
    assert reason_of({"a": 1, "b": {"c": 1}}).endswith("Its keys: a, b; the first object in it has the keys: c")
    assert "there is no array at records_path = 'page.rows'" in reason_of({"a": 1}, "page.rows")


@pytest.mark.parametrize(
    ("keys", "shop"),
    [
        (("line_items", "total_price"), "shopify"),
        (("line_items", "date_created_gmt"), "woocommerce"),
        (("increment_id", "grand_total"), "magento"),
        (("line_items", "total_money"), "square"),
        (("amount_total", "payment_status"), "stripe"),
    ],
)
def test_the_form_of_a_shop_is_known_by_keys_that_no_other_has(keys: tuple[str, str], shop: str) -> None:
    """In the object itself, or in the first record of an array, whose path is then named."""
    record = dict.fromkeys(keys, "1")
    assert f'set preset = "{shop}" in [sources.default]. Keys of its records: {", ".join(keys)}' in reason_of(record)
    reason = reason_of({"page": {"rows": [record]}})
    assert (
        f'set preset = "{shop}"' in reason and 'They are at page.rows: set [input] records_path = "page.rows"' in reason
    )
    assert not re.search("set preset", reason_of(dict.fromkeys(keys[:1], "1")))
