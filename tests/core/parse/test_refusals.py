"""Drops without an order: refused whole, by their keys; and what keeps a drop."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.reading import _joined
from daemon.core.model import ParseContext, Parsed
from daemon.core.parse.documents import Form, WrongCut, cut
from daemon.core.parse.parse import Piece, parse
from daemon.core.parse.refusals import refused
from daemon.sources.mapping_settings import mapping_of, presets
from tests import model
from tests.strategies import RECEIVED_AT_US, clean_records
from tests.support import REPO
from tests.support.examples import examples

ONE = b'{"order_id":"a","created_at":"2026-11-18"}'
CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)


SLOW = examples(100)


@st.composite
def drops_of_no_orders(draw: st.DrawFn) -> tuple[bytes, str]:
    """Records of another kind, in any form; and a key that all of them have."""
    key = draw(st.sampled_from(["id", "increment_id", "total_price"]))
    values = ["5", '"x"', "null", '[{"sku":"p_1"}]', '{"a":1}']
    more = draw(st.lists(st.sampled_from(["created_at", "amount", "name"]), max_size=2, unique=True))
    record = "{" + ",".join(f'"{name}":{draw(st.sampled_from(values))}' for name in [key, *more]) + "}"
    records = [record] * draw(st.integers(1, 4))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    form = draw(st.sampled_from(["array", "lines", "envelope", "pages"]))
    if form == "lines":
        return end.join([*records, record]).encode() + end.encode(), key
    if form == "array":
        return f"[{end}{f',{end}'.join(records)}{end}]".encode(), key
    page = f'{{"{draw(st.sampled_from(model.ENVELOPE_KEYS))}":[{",".join(records)}],"next":null}}'
    return (page if form == "envelope" else page + end + page).encode(), key


@SLOW
@given(drops_of_no_orders(), st.booleans(), st.integers(20, 200))
def test_a_drop_without_an_order_is_refused_by_its_keys(
    drop: tuple[bytes, str], reference_only: bool, target: int
) -> None:
    """Not one discard: the reason names the keys. Also where it is divided, and no piece can tell for the others."""
    data, key = drop
    with pytest.raises(model.Unreadable):
        model.read_drop(data, received_at_us=RECEIVED_AT_US)
    parts = []
    try:
        for start, stop, form in cut(data, target):
            parts.append(parse([Piece(1, data[start:stop], CONTEXT, form)], reference_only=reference_only))
    except WrongCut:
        parts = []
    for parsed in [
        parse([Piece(1, data, CONTEXT)], reference_only=reference_only),
        *([_joined(parts, {})] if parts else []),
    ]:
        assert key in parsed.unreadable[1] and not parsed.discards.num_rows and not parsed.tallies


def test_a_reason_is_true_of_every_record_that_it_counts() -> None:
    """A record without an id that can be read may have an instant."""
    undated = b'{"order_id":"a","created_at":"18.11.2026"}\n'
    unnamed = b'{"order_id":true,"created_at":"2026-11-18"}\n'
    alone, both = (parse([Piece(1, data, CONTEXT)]).unreadable[1] for data in (undated * 2, undated + unnamed))
    assert alone.startswith("none of its 2 records has a `created_at` that can be read")
    assert both.startswith(
        "none of its 2 records is an order: 1 invalid_created_at, 1 invalid_order_id. An order is an object"
    )


@SLOW
@given(st.lists(clean_records(), min_size=1, max_size=3), st.lists(clean_records(), max_size=3), st.booleans())
def test_one_order_among_others_keeps_the_drop(
    orders: Sequence[str], more: Sequence[str], reference_only: bool
) -> None:
    """The others are discards then, each with its reason."""
    records = [*orders, '{"id":1}', *more]
    parsed = parse([Piece(1, f"[{','.join(records)}]".encode(), CONTEXT)], reference_only=reference_only)
    assert not parsed.unreadable and parsed.discards["reason"].to_pylist() == ["missing_order_id"]


def test_what_a_piece_says_is_no_verdict_on_its_drop() -> None:
    """Lines without an order in one piece, with orders in the next: all of it is applied."""
    parts = [parse([Piece(1, data, CONTEXT, Form.LINES)]) for data in (b'{"id":1}\n', ONE)]
    joined: Parsed = _joined(parts, {})
    assert not joined.unreadable and joined.orders.num_rows == 1 and joined.discards.num_rows == 1
    assert refused(joined, {1}) is joined


@pytest.mark.parametrize("shop", presets())
@pytest.mark.parametrize("form", ["file", "one"])
def test_the_reason_names_the_preset_that_reads_a_shop(shop: str, form: str) -> None:
    """Of an export, and of one order as a webhook sends it."""
    data = (REPO / "examples" / "shops" / f"{shop}.json").read_bytes()
    document = json.loads(data)
    keys = [] if isinstance(document, list) else [key for key in ("orders", "items", "data") if key in document]
    one = (document[keys[0]] if keys else document)[0]
    written = data if form == "file" else json.dumps(one).encode()
    reason = parse([Piece(1, written, CONTEXT)]).unreadable[1]
    assert f'preset = "{shop}"' in reason and "[sources.default]" in reason, reason


BULK = b'{"id":"gid://shopify/Order/1","created_at":"2026-11-18","total_price":"5"}\n'
PART = b'{"id":"gid://shopify/LineItem/2","sku":"a","quantity":1,"__parentId":"gid://shopify/Order/1"}\n'


RENAMED = b'{"order_id":"gid://shopify/Order/1","created_at":"2026-11-18"}\n'  # by an alias in the query


@pytest.mark.parametrize("preset", ["shopify", ""])
@pytest.mark.parametrize("data", [BULK + PART, PART + PART, BULK + PART + BULK, RENAMED + PART])
def test_items_on_lines_of_their_own_are_not_lost(data: bytes, preset: str) -> None:
    """A bulk operation of Shopify: orders without their items would look applied. Also where no source is set up yet."""
    records_path, mapping = mapping_of({"preset": preset} if preset else {}, "here")
    parsed = parse([Piece(1, data, replace(CONTEXT, records_path=records_path, mapping=mapping))])
    assert "bulk operations" in parsed.unreadable[1] and not parsed.orders.num_rows


WRAPPED = REPO / "tests" / "data" / "field" / "wrapped-records"


@pytest.mark.parametrize(("name", "ids"), [
    ("airbyte.jsonl", ["o_2"]), ("debezium.jsonl", ["o_3", "o_4"]), ("elastic.jsonl", ["o_7", "o_8"]), ("g.json", ["o_1", "o_2"]),
    ("page.json", ["o_1"]), ("singer.jsonl", ["o_1"]),
])  # fmt: skip
def test_the_settings_that_a_reason_names_read_what_is_wrapped(name: str, ids: list[str]) -> None:
    data = (WRAPPED / name).read_bytes()
    reason = parse([Piece(1, data, CONTEXT)]).unreadable[1]
    record = re.search(r'set record = "([^"]+)"', reason)
    records_path = re.search(r'records_path = "([^"]+)"', reason)
    assert record is not None
    mapping = mapping_of({"record": record[1]}, "here")[1]
    context = replace(CONTEXT, records_path=records_path[1] if records_path else "", mapping=mapping)
    assert parse([Piece(1, data, context)]).orders["order_id"].to_pylist() == ids


def test_an_order_beside_an_array_that_has_it_is_called_that() -> None:
    """It is not lost: it is unknown which of the two counts. Shops are called as they spell their names."""
    for beside, said in ((ONE, "one of them also at order"), (ONE.replace(b'"a"', b'"b"'), "not among them")):
        data = b'{"orders":[' + ONE + b'],"order":' + beside + b"}"
        assert said in parse([Piece(1, data, CONTEXT)]).unreadable[1]
    data = (REPO / "examples" / "shops" / "woocommerce.json").read_bytes()
    assert "the form of WooCommerce:" in parse([Piece(1, data, CONTEXT)]).unreadable[1]
