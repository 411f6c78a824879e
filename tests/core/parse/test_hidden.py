"""No discard stands for several orders: files as they come about by appending, joining and damage are read, or refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.reading import _joined
from daemon.core.mapping import DIRECT
from daemon.core.model import ParseContext, Parsed
from daemon.core.parse.documents import WrongCut, cut
from daemon.core.parse.parse import Piece, parse
from daemon.sources.mapping_settings import mapping_of
from tests import model
from tests.strategies import RECEIVED_AT_US
from tests.support.as_model import assert_as_model
from tests.support.examples import examples

CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)
ITEMS = [{"sku": "p_1", "qty": 1}, {"sku": "p_2", "qty": 2}]


SHOPS = ["", "shopify", "woocommerce", "magento", "square", "stripe"]


def order(number: int, shop: str = "") -> str:
    """An order; of a shop, in the form of its export, with other objects in it that have an id and a date."""
    inner = {"id": f"x_{number}", "created_at": "2026-11-18T10:00:00Z"}
    when = "2026-11-18T10:00:00Z"
    if shop == "shopify":
        own = {"total_price": "5.00", "line_items": [{"id": 7, "sku": "p_1"}], "customer": inner, "fulfillments": [
            inner | {"line_items": [{"id": 7}]}]}  # fmt: skip
        return json.dumps({"id": f"o_{number}", "created_at": when} | own)
    if shop == "woocommerce":
        own = {
            "total": "5.00",
            "line_items": [{"id": 7, "sku": "p_1", "total": "5.00"}],
            "refunds": [{"id": 3, "total": "-1"}],
        }
        return json.dumps({"id": f"o_{number}", "date_created_gmt": when[:-1]} | own)
    if shop == "magento":
        own = {"grand_total": 5, "items": [{"item_id": 1, "sku": "p_1", "qty_ordered": 1}], "payment": inner}
        return json.dumps({"increment_id": f"o_{number}", "created_at": "2026-11-18 10:00:00"} | own)
    if shop == "square":
        money = {"amount": 500, "currency": "USD"}
        own = {
            "total_money": money,
            "line_items": [{"uid": "u", "quantity": "1", "total_money": money}],
            "tenders": [inner],
        }
        return json.dumps({"id": f"o_{number}", "created_at": when} | own)
    if shop == "stripe":
        own = {"amount_total": 500, "line_items": {"data": [{"id": "li", "amount_total": 500, "quantity": 1}]}}
        return json.dumps({"id": f"o_{number}", "created": 1_763_460_000} | own)
    return json.dumps(
        {
            "order_id": f"o_{number}",
            "tags": ["a", "b"],
            "created_at": "2026-11-18T10:00:00Z",
            "note": {},
            "flag": True,
            "items": ITEMS,
        }
    )


def _pretty(text: str, indent: int) -> str:
    return json.dumps(json.loads(text), indent=indent)


def _prettier(text: str) -> str:
    """As Prettier writes it: short arrays and objects stay on one line."""
    lines = []
    for key, value in json.loads(text).items():
        of_objects = isinstance(value, list) and isinstance(value[0], dict)
        items = ",\n".join(f"    {json.dumps(item)}" for item in value) if of_objects else ""
        lines.append(f"  {json.dumps(key)}: " + (f"[\n{items}\n  ]" if of_objects else json.dumps(value)))
    return "{\n" + ",\n".join(lines) + "\n}"


@st.composite
def chunks(draw: st.DrawFn, first: int, shop: str) -> tuple[str, int]:
    """One or more orders, as something that a program appends to a file; and how many they are."""
    count = draw(st.integers(1, 3))
    orders = [order(number, shop) for number in range(first, first + count)]
    joined = ",".join(orders)
    indent = draw(st.sampled_from([0, 1, 4]))
    key = draw(st.sampled_from([*model.ENVELOPE_KEYS, "order_list"]))
    forms = {
        "order": orders[0],
        "pretty": _pretty(orders[0], indent),
        "prettier": _prettier(orders[0]),
        "tight": "{" + _pretty(orders[0], indent)[1:].strip(),
        "wrapped": f'{{"order": {orders[0]}}}',
        "array": f"[{joined}]",
        "pretty array": _pretty(f"[{joined}]", indent),
        "array of lines": "[\n" + ",\n".join(orders) + "\n]",
        "leading commas": "[\n" + "\n,".join(orders) + "\n]",
        "on a line": joined,
        "glued": "".join(orders),
        "page": f'{{"{key}":[{joined}],"next":null}}',
        "pretty page": _pretty(f'{{"{key}":[{joined}],"next":null}}', indent),
        "nested page": f'{{"data":{{"{key}":[{joined}]}}}}',
        "by id": "{" + ",".join(f'"{number}":{text}' for number, text in enumerate(orders)) + "}",
        "empty and more": f'{{"data":[],"order":{orders[0]}}}',
        "two": f'{{"orders":[{orders[0]}],"order":{orders[-1]}}}',
        "twice": f'{{"orders":[{orders[0]}],"orders":[{orders[-1]}]}}',
    }
    usual = ["order"] * 8
    form = draw(st.sampled_from([*usual, *forms]))
    alone = {"order", "pretty", "prettier", "tight", "wrapped", "empty and more"}
    return forms[form], 1 if form in alone else count


@st.composite
def texts(draw: st.DrawFn, shop: str) -> str:
    """A file of such chunks, and of what is around and between them."""
    parts: list[str] = []
    first = 0
    between = draw(
        st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "", ",\n", "\n,", ",", "\n\x1e", "\n\ufeff", "\n,\n"])
    )
    for _ in range(draw(st.integers(1, 5))):
        text, count = draw(chunks(first, shop))
        first += count
        parts.append(text)
    usual = [""] * 12
    before = draw(
        st.sampled_from(
            [
                *usual,
                "[",
                "[\n",
                '"[',
                "var orders = [\n",
                '{"exported":"x"}\n',
                '{"exported":"x"}\n[\n',
                "\ufeff",
                "  ",
            ]
        )
    )
    after = draw(
        st.sampled_from([*usual, "]", "\n]", "\n];", "\n]}", '{"data":[]}', '\n{"data":[]}', "\nnull", '\n{"a":1}'])
    )
    return before + between.join(parts) + draw(st.sampled_from([between, "\n", ""])) + after


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """The text with one damage, or none."""
    at = draw(st.integers(0, max(0, len(text) - 1)))
    character = draw(st.sampled_from('",{}[]x\\: 0\n'))
    line = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    return draw(
        st.sampled_from(
            [
                text,
                text[:at] + text[at + 1 :],
                text[:at] + character + text[at:],
                text[:at] + character + text[at + 1 :],
                text[:at],
                text[:line] + (text[end + 1 :] if end >= 0 else ""),
                text[:at] + text[at + 30 :],
            ]
        )
    )


def intact(text: str, shop: str) -> set[str]:
    """The orders that are in a text, whole."""
    compact = re.sub(r"\s", "", text)
    return {f"o_{number}" for number in range(20) if re.sub(r"\s", "", order(number, shop)) in compact}


def pieces_of(data: bytes, context: ParseContext, target_bytes: int) -> Parsed | None:
    """The same, read in pieces as a large drop is; None where it cannot be divided so."""
    parts = []
    try:
        for start, stop, form in cut(data, target_bytes):
            parts.append(parse([Piece(1, data[start:stop], context, form)]))
    except WrongCut:
        return None
    return _joined(parts, {})


@examples(300)
@given(st.data(), st.sampled_from(SHOPS))
def test_every_order_is_read_or_the_drop_is_refused(data: st.DataObject, shop: str) -> None:
    """Whatever is appended to what, and wherever the damage is; read at once or in pieces, by either parser; and as the reference
    model says. An order on a damaged line may be a discard of its own."""
    text = data.draw(texts(shop).flatmap(damaged))
    drop = text.encode()
    mapping = mapping_of({"preset": shop}, "here")[1] if shop else DIRECT
    context = replace(CONTEXT, mapping=mapping)
    if shop != "woocommerce":  # the model knows no deletions
        for reference_only in (False, True):
            assert_as_model(
                drop, reference_only=reference_only, mapping=replace(mapping, deleted_path="", deleted_values=())
            )
    for read in (parse([Piece(1, drop, context)]), pieces_of(drop, context, data.draw(st.integers(20, 400)))):
        if read is not None and not read.unreadable:
            lost = intact(text, shop) - set(read.orders["order_id"].to_pylist())
            ids = [re.findall(r"\bo_\d+\b", record) for record in read.discards["record"].to_pylist()]
            assert all([one] in ids for one in lost), read.discards.to_pylist()


@pytest.mark.parametrize("shop", SHOPS)
def test_one_line_that_is_cut_is_one_discard(shop: str) -> None:
    """Wherever it is cut, and whatever is in the order: the other orders are applied."""
    context = replace(CONTEXT, mapping=mapping_of({"preset": shop}, "here")[1] if shop else DIRECT)
    line = order(1, shop)
    for end in range(3, len(line)):
        read = parse([Piece(1, f"{order(0, shop)}\n{line[:end]}\n{order(2, shop)}\n".encode(), context)])
        assert not read.unreadable and read.orders.num_rows == 2 and read.discards.num_rows == 1, line[:end]


def test_a_long_damaged_line_takes_linear_time() -> None:
    """JSON in a text, cut: no search begins anew at each of its quotes."""
    for text in ('{"order_id":"a","meta":"' + '\\"' * 500_000, '{"order_id"' * 100_000, '{"a":["' * 200_000):
        read = parse([Piece(1, f"{order(0)}\n{text}\n{order(2)}\n".encode(), CONTEXT)])
        assert read.unreadable or read.orders.num_rows == 2
