"""Orders that have neither an amount nor a price: kept and reported, or the whole drop is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.reading import _joined
from daemon.core.mapping import FieldMapping
from daemon.core.model import ParseContext, Parsed
from daemon.core.parse.advice import for_source
from daemon.core.parse.documents import WrongCut, cut
from daemon.core.parse.parse import Piece, parse
from daemon.sources.mapping_settings import mapping_of, presets
from tests import model
from tests.strategies import RECEIVED_AT_US
from tests.support import REPO
from tests.support.as_model import as_model_mapping
from tests.support.examples import examples

AT = "2026-11-18T10:00:00Z"
CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)
both_parsers = pytest.mark.parametrize("reference_only", [False, True])


def context_of(settings: dict[str, Any]) -> ParseContext:
    records_path, mapping = mapping_of(settings, "here")
    return replace(CONTEXT, records_path=records_path, mapping=mapping)


def read(records: object, settings: dict[str, Any], reference_only: bool = False) -> Parsed:
    return parse([Piece(1, json.dumps(records).encode(), context_of(settings))], reference_only=reference_only)


def export(shop: str) -> list[dict[str, Any]]:
    document = json.loads((REPO / "examples" / "shops" / f"{shop}.json").read_bytes())
    return document if isinstance(document, list) else next(one for one in document.values() if isinstance(one, list))


SESSION = export("stripe")[0]
OTHERS = [  # objects with an id and a date that are no orders, by the preset of the source that they come into
    ("stripe", {"id": "evt_1", "object": "event", "created": 1_795_000_000, "data": {"object": {"id": "ch_1"}}}),
    ("stripe", {"id": "ch_1", "object": "charge", "created": 1_795_000_000, "amount": 500, "currency": "eur"}),
    ("stripe", {"id": "re_1", "object": "refund", "created": 1_795_000_000, "amount": 500}),
    ("woocommerce", {"id": 1, "date_created_gmt": AT, "note": "paid", "customer_note": False}),
    ("woocommerce", {"id": 2, "date_created_gmt": AT, "amount": "10.00", "reason": "", "line_items": []}),
    ("woocommerce", {"id": 3, "date_created_gmt": AT, "amount": "9", "line_items": [{"sku": "a", "quantity": -1, "price": 9}]}),
    ("shopify", {"id": 4, "created_at": AT, "order_id": 5, "refund_line_items": [], "transactions": []}),
    ("shopify", {"id": 6, "created_at": AT, "order_id": 5, "kind": "sale", "amount": "12.00"}),
    ("square", {"id": "7", "created_at": AT, "amount_money": {"amount": 5, "currency": "USD"}}),
    ("magento", {"increment_id": "8", "created_at": AT, "items": [{"sku": "a", "qty": 1, "row_total": 5}]}),
]  # fmt: skip


@both_parsers
@pytest.mark.parametrize(("preset", "record"), OTHERS)
@pytest.mark.parametrize("count", [1, 3])
def test_other_objects_with_an_id_and_a_date_are_refused(
    preset: str, record: dict[str, Any], count: int, reference_only: bool
) -> None:
    """As orders, they would have no amount. The reason names their keys, and what to do."""
    reason = read([record] * count, {"preset": preset}, reference_only).unreadable[1]
    assert "an amount" in reason and "not orders" in reason, reason
    assert all(key in reason for key in list(record)[:3])


@pytest.mark.parametrize("record", ["", "data.object"])
def test_the_reason_names_the_path_of_orders_inside(record: str) -> None:
    """Under that setting, they are read. Also where not the first event has one, and below another wrapper."""
    event = {"id": "evt_1", "created": 1_795_000_000, "data": {"object": SESSION}}
    other = {"id": "evt_2", "created": 1_795_000_000, "data": {"object": {"id": "cus_1"}}}
    events = [other, event] if not record else [{"id": "x", "data": {"object": one}} for one in (other, event)]
    reason = read(events, {"preset": "stripe", "record": record}).unreadable[1]
    found = re.search(r'set record = "([^"]+)" in \[sources.default\]', reason)
    assert found, reason
    orders = read(events[1:], {"preset": "stripe", "record": found[1]}).orders
    assert orders["order_id"].to_pylist() == [SESSION["id"]]


@both_parsers
@pytest.mark.parametrize("other", presets())
@pytest.mark.parametrize("own", presets())
def test_the_export_of_another_shop_is_refused_and_its_preset_named(own: str, other: str, reference_only: bool) -> None:
    """None of them gives orders without amounts under a wrong preset."""
    records, context = export(other), context_of({"preset": own})
    read_under = read(records, {"preset": own}, reference_only)
    if own == other:
        assert not read_under.unreadable and read_under.tallies[1].bare == 0
    else:
        assert f'source with preset = "{other}"' in for_source(read_under.unreadable[1], context)


@both_parsers
def test_some_bare_orders_are_counted_and_their_keys_named(reference_only: bool) -> None:
    """Without items, or with items that have no price; also the keys of the items. A fault is no bare order."""
    fine = {"id": 1, "created_at": AT, "total_price": "5.00"}
    priced = {"id": 2, "created_at": AT, "line_items": [{"sku": "a", "quantity": 1, "price": "5"}]}
    unpriced = {"id": 3, "created_at": AT, "paid": 5, "line_items": [{"sku": "a", "quantity": 1, "cost": 5}]}
    empty = {"id": 4, "created_at": AT, "total_price": None, "line_items": []}
    fault = {"id": 5, "created_at": AT, "total_price": "five", "paid": 5}
    for records, count, keys in (
        ([fine, priced, unpriced, empty], 2, ("line_items.cost", "paid")),
        ([fine, empty, fault], 1, ()),
        ([fault, empty], 1, ()),
        ([fine, priced], 0, ()),
    ):
        read_as = read(records, {"preset": "shopify"}, reference_only)
        tally = read_as.tallies[1]
        assert (read_as.orders.num_rows, tally.bare, tally.bare_keys) == (len(records), count, keys)


@both_parsers
def test_a_deletion_is_no_order_without_an_amount(reference_only: bool) -> None:
    """Alone in a drop it is applied, and beside other objects it saves none of them."""
    gone, note = {"id": 1, "status": "trash"}, {"id": 2, "date_created_gmt": AT, "note": "paid"}
    settings = {"preset": "woocommerce"}
    assert read([gone], settings, reference_only).orders.num_rows == 1
    assert read([gone, note], settings, reference_only).unreadable
    assert read([gone, note, {"id": 3, "date_created_gmt": AT, "total": "5"}], settings).tallies[1].bare == 1


@both_parsers
def test_the_date_of_orders_says_nothing_of_what_they_are(reference_only: bool) -> None:
    """A drop is refused, or not, whatever `--since` says; so that one that was applied can be read again."""
    old, new = {"id": 1, "created": "2020-01-01", "total": 5}, {"id": 2, "created": AT}
    _, mapping = mapping_of({"fields": {"order_id": "id", "created_at": "created", "amount": "total"}}, "here")
    middle = 1_700_000_000_000_000
    for since, until in ((None, None), (middle, None), (0, middle)):
        context = replace(CONTEXT, mapping=mapping, since=since, until=until)
        for records, is_refused in (
            ([old, new], False),
            ([new, new], True),
            ([{"id": 3, "created": "2020-01-01"}], True),
        ):
            piece = Piece(1, json.dumps(records).encode(), context)
            assert bool(parse([piece], reference_only=reference_only).unreadable) is is_refused


@both_parsers
@pytest.mark.parametrize("settings", [
    {}, {"id_prefix": "x-"}, {"time_zone": "Europe/Berlin"}, {"fields": {"amount": "", "price": ""}},
    {"fields": {"amount": "", "items": ""}},
])  # fmt: skip
def test_orders_without_amounts_are_fine_where_nothing_reads_any(
    settings: dict[str, Any], reference_only: bool
) -> None:
    """In the usual format they are optional, and a source may say that it has none."""
    records = [{"order_id": 1, "created_at": AT, "total": 5}, {"order_id": 2, "created_at": AT}]
    read_as = read(records, settings, reference_only)
    assert read_as.orders.num_rows == 2 and read_as.tallies[1].bare == (0 if "fields" in settings else 1)


@both_parsers
def test_an_amount_that_is_nowhere_is_a_wrong_path(reference_only: bool) -> None:
    """Although the items have prices. One that is null in some of the first orders is none."""
    priced = {"order_id": 1, "created_at": AT, "items": [{"price": 5}]}
    settings = {"fields": {"amount": ["total.gross", "sum"]}}
    assert "at `total.gross` or `sum`" in read([priced] * 2, settings, reference_only).unreadable[1]
    for place in ({"sum": None}, {"total": None}, {"total": {"gross": ""}}):
        assert not read([priced, priced | place], settings, reference_only).unreadable
    assert read([*[priced] * 20, priced | {"sum": None}], settings, reference_only).unreadable
    assert not read([priced] * 2, {"fields": {"user_id": "customer"}}, reference_only).unreadable


MAPPINGS = st.sampled_from([
    FieldMapping(fields=(("amount", ("total", "sums.all")), ("order_id", ("id",)))),
    FieldMapping(fields=(("order_id", ("id",)),)),
    FieldMapping(fields=(("items", ("lines.data",)), ("order_id", ("id",))), record="node", skip_items_with="parent"),
    FieldMapping(fields=(("amount", ()), ("order_id", ("id",)))),
])  # fmt: skip
NOTHING = st.sampled_from(["null", '""', '" "'])
WORTH = st.sampled_from(["5", '"7.50"', '"five"', "[]", "{}"])

SUMS = ("null", "{}", "[]", "5", '{"all":null}')


@st.composite
def orders(draw: st.DrawFn) -> str:
    """An order, mostly without an amount or a price."""
    members = ['"id":7', f'"created_at":"{AT}"']
    for key in draw(st.sets(st.sampled_from(["total", "amount", "note"]))):
        members.append(f'"{key}":{draw(NOTHING if draw(st.integers(0, 5)) else WORTH)}')
    if draw(st.booleans()):
        members.append(f'"sums":{draw(st.sampled_from(SUMS))}')
    if draw(st.booleans()):
        price = draw(NOTHING if draw(st.integers(0, 3)) else WORTH)
        parent = draw(st.sampled_from(["", ',"parent":5']))
        items = draw(st.sampled_from(["[]", "null", f'[{{"sku":"a","price":{price}{parent}}}]', "[{}]", '"x"', "[7]"]))
        members.append(f'"items":{items},"lines":{{"data":{items}}}')
    text = "{" + ",".join(members) + "}"
    return f'{{"node":{text}}}' if draw(st.integers(0, 3)) == 0 else text


@examples(150)
@given(st.lists(orders(), min_size=1, max_size=24), MAPPINGS, st.booleans(), st.integers(40, 400))
def test_both_parsers_refuse_what_the_model_refuses_however_it_is_divided(
    records: Sequence[str], mapping: FieldMapping, reference_only: bool, target: int
) -> None:
    """With the same counts, and the same reason."""
    data = "\n".join(records).encode()
    context = replace(CONTEXT, mapping=mapping)
    try:
        model.read_drop(data, received_at_us=RECEIVED_AT_US, mapping=as_model_mapping(mapping))
        is_refused = False
    except model.Unreadable:
        is_refused = True
    whole = parse([Piece(1, data, context)], reference_only=reference_only)
    assert bool(whole.unreadable) is is_refused, whole.unreadable
    parts = []
    try:
        for number, (start, stop, form) in enumerate(cut(data, target)):
            piece = Piece(1, data[start:stop], context, form, is_first=not number)
            parts.append(parse([piece], reference_only=not reference_only))
    except WrongCut:
        return
    divided = _joined(parts, {})
    assert divided.unreadable == whole.unreadable
    if not is_refused:
        one, other = whole.tallies[1], divided.tallies[1]
        assert (one.bare, one.bare_keys, one.samples) == (other.bare, other.bare_keys, other.samples)
