"""Reasons name the settings of the source that a drop came from."""

from __future__ import annotations

import json

import pytest

from daemon.core.model import ParseContext
from daemon.core.parse.advice import for_source
from daemon.core.parse.damage import NEAR
from daemon.core.parse.parse import Piece, parse
from daemon.sources.mapping_settings import mapping_of, presets
from tests.strategies import RECEIVED_AT_US
from tests.support import REPO

SHOPIFY = json.dumps(
    [{"id": 1, "created_at": "2026-03-02", "total_price": "1.00", "line_items": [], "currency": "EUR"}]
).encode()


def context(source: str = "berlin", preset: str = "", records: str = "") -> ParseContext:
    mapping = mapping_of({"preset": preset} if preset else {}, "here")[1]
    return ParseContext(RECEIVED_AT_US, 86_400_000_000, records, source=source, mapping=mapping)


def reason(data: bytes, under: ParseContext) -> str:
    """What the quarantine says of a drop."""
    return for_source(parse([Piece(1, data, under)]).unreadable[1], under)


def test_the_preset_that_fits_is_set_in_the_section_of_the_source() -> None:
    assert reason(SHOPIFY, context("default")) == (
        "its one record is not an order: an order is an object with an `order_id` (a text or a whole number) and a "
        "`created_at`. Keys of its records: id, created_at, total_price, line_items, currency. This is the form of Shopify: "
        'set preset = "shopify" in [sources.default]'
    )
    assert reason(SHOPIFY, context()).endswith('set preset = "shopify" in [sources.berlin]')


@pytest.mark.parametrize("preset", sorted({*presets()} - {"shopify"}))
@pytest.mark.parametrize("source", ["default", "berlin"])
def test_records_of_a_shop_in_the_source_of_another_belong_into_a_source_of_their_own(source: str, preset: str) -> None:
    """To set the preset there would break the source for the drops that it is for."""
    written = parse([Piece(1, SHOPIFY, context())]).unreadable[1]
    found = for_source(written, context(source, preset))
    assert found.endswith('This is the form of Shopify: put it into a source with preset = "shopify"'), found


@pytest.mark.parametrize("shop", presets())
def test_a_source_is_not_told_to_use_the_preset_that_it_has(shop: str) -> None:
    """Something else is wrong with its drop: perhaps the ids are missing."""
    data = (REPO / "examples" / "shops" / f"{shop}.json").read_bytes()
    named = parse([Piece(1, data, context())]).unreadable[1]
    assert f'preset = "{shop}"' in named
    assert "This is the form" not in for_source(named, context("berlin", shop))


@pytest.mark.parametrize(
    ("data", "setting"),
    [
        (b'{"payload": {"list": [{"id": 1}]}}', 'set records = "payload.list" in [sources.berlin]'),
        (b'{"orders": [{"a": 1}], "data": [{"b": 2}]}', 'set records = "orders" in [sources.berlin], or the other'),
        (b'{"orders": [], "rows": [{"a": 1}]}', "set records in [sources.berlin] to that"),
        (b'[{"node": {"order_id": "a", "created_at": "2026-03-02"}}]', 'set record = "node" in [sources.berlin]'),
    ],
)
def test_the_settings_for_records_are_those_of_the_source(data: bytes, setting: str) -> None:
    """`[input] records_path` is for the source `default` only."""
    found = reason(data, context())
    assert setting in found and "[input]" not in found and "default" not in found, found
    as_default = reason(data, context("default"))
    assert "[input] records_path" in as_default or "[sources.default]" in as_default


def test_where_records_were_looked_for_is_named_as_the_source_has_it() -> None:
    assert "there is no array at records = 'data.list'" in reason(b'{"a": 1}', context(records="data.list"))


def test_the_text_around_a_damage_is_left_alone() -> None:
    """It is what the file says."""
    written = f"damaged{NEAR}set [input] records_path in [sources.default]"
    assert for_source(written, context()) == written


def test_orders_of_a_shop_below_another_key_are_told_with_their_place() -> None:
    """Also in a source that has the preset already: it is the path that is missing."""
    records_path, mapping = mapping_of({"preset": "shopify"}, "here")
    context = ParseContext(RECEIVED_AT_US, 86_400_000_000, records_path, source="berlin", mapping=mapping)
    data = b'{"data":{"orders":[{"id":1,"created_at":"2026-11-18","total_price":"5","line_items":[]}]}}'
    reason = for_source(parse([Piece(1, data, context)]).unreadable[1], context)
    assert 'set records = "data.orders" in [sources.berlin]' in reason and "preset" not in reason
