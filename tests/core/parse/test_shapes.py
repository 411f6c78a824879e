"""The keys of the first records of a drop: those that all of them have, found in a few."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.drift import SeenKeys, paths_of
from daemon.core.mapping import DIRECT, FieldMapping
from daemon.core.model import ParseContext
from daemon.core.native import bindings
from daemon.core.parse import shapes
from daemon.core.parse.documents import Form
from daemon.core.parse.parse import Piece, parse
from daemon.core.parse.shapes import keys_of_records
from daemon.sources.mapping_settings import mapping_of
from tests import mapped_drops
from tests.strategies import RECEIVED_AT_US
from tests.support.examples import examples

SLOW = examples(150)
SHOP = mapping_of({"preset": "shopify"}, "here")[1]
ORDER = {"order_id": "a", "created_at": "2026-03-02"}


def seen(records: list[bytes], mapping: FieldMapping = DIRECT) -> SeenKeys:
    blob = b"\n".join(records)
    lengths = np.array([len(one) for one in records], np.int64)
    starts = np.cumsum(lengths + 1) - lengths - 1
    return keys_of_records(blob, starts, starts + lengths, np.zeros(len(records), np.int64), mapping)[0]


def of_drop(*records: object, mapping: FieldMapping = DIRECT, form: str = "lines") -> SeenKeys:
    texts = [json.dumps(one) for one in records]
    data = "\n".join(texts) if form == "lines" else f"[{','.join(texts)}]"
    context = ParseContext(RECEIVED_AT_US, 86_400_000_000, mapping=mapping)
    keys = parse([Piece(1, data.encode(), context)], refusing=False).tallies[1].keys
    assert keys is not None
    return keys


@st.composite
def some(draw: st.DrawFn) -> tuple[FieldMapping, list[bytes]]:
    mapping = draw(mapped_drops.mappings(deleting=True))
    return mapping, [one.encode() for one in draw(st.lists(mapped_drops.records(mapping), min_size=1, max_size=8))]


@SLOW
@given(some())
def test_one_record_of_each_shape_shows_the_keys_of_all(drop: tuple[FieldMapping, list[bytes]]) -> None:
    """Whatever else is in the values, and however they are spelled."""
    mapping, records = drop
    each = SeenKeys()
    for record in records:
        each = each.plus(shapes._keys_of(record, mapping))
    found = seen(records, mapping)
    assert (found.unread, found.found) == (each.unread, each.found)
    assert found.unclear - found.found == each.unclear - each.found


@SLOW
@given(
    st.lists(
        st.binary(max_size=40)
        | st.sampled_from([b'{"a":', b"[", b"{", b'"\\', b'{"items":[{', b"}", b"]]", b'{"a"\\"'])
    )
)
def test_any_bytes_have_a_shape(texts: list[bytes]) -> None:
    """And nothing behind a record is read: what follows it changes nothing."""
    inner = shapes._inner_keys(DIRECT)
    for text in texts:
        stop = np.array([len(text)])
        found = {
            int(bindings.shapes(text + rest, np.array([0]), stop, inner)[0])
            for rest in (b"", b'"', b"x]}", b'":{"a":1}')
        }
        assert len(found) == 1


def test_very_deep_records_have_a_shape() -> None:
    deep = b'{"items":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    bindings.shapes(deep, np.array([0]), np.array([len(deep)]), shapes._inner_keys(DIRECT))


@pytest.mark.parametrize("form", ["lines", "array"])
def test_what_nothing_reads_and_what_is_missing(form: str) -> None:
    """By names only: other keys may be personal data. Keys of items count, too; null is a value that is not there."""
    item = {"sku": "a", "quantity": 1}
    one = {"id": 1, "created_at": "2026-03-02", "total_price": None, "line_items": [item], "customer": None, "tags": ""}
    found = of_drop(one, one | {"someone@example.org": 1, "note": 5}, mapping=SHOP, form=form)
    assert found.unread == {"tags", "note"} and found.judged
    assert found.found == {"id", "created_at", "total_price", "line_items", "line_items.sku", "line_items.quantity"}
    assert found.unclear == {"customer.id"}
    assert paths_of(SHOP) - found.found - found.unclear == {"email", "currency", "updated_at", "line_items.price"}


def test_only_the_first_thousand_records_of_a_drop_count() -> None:
    records = [ORDER] * 999 + [ORDER | {"last": 1}, ORDER | {"later": 1}]
    assert of_drop(*records).unread == {"last"}


def test_of_a_divided_drop_only_the_first_piece_counts() -> None:
    context = ParseContext(RECEIVED_AT_US, 86_400_000_000)
    line = json.dumps(ORDER | {"more": 1}).encode()
    first, later = (Piece(1, line, context, Form.LINES, is_first) for is_first in (True, False))
    keys = parse([first]).tallies[1].keys
    assert keys is not None and keys.unread == {"more"} and parse([later]).tallies[1].keys is None


def test_each_drop_has_its_own_keys() -> None:
    """Those that are read together do not mix, and sources do not."""
    context = ParseContext(RECEIVED_AT_US, 86_400_000_000)
    pieces = [Piece(drop, json.dumps([ORDER | {f"k{drop % 3}": 1}]).encode(), context) for drop in range(1, 50)]
    tallies = parse(pieces).tallies
    assert [tallies[drop].keys.unread for drop in range(1, 50)] == [{f"k{drop % 3}"} for drop in range(1, 50)]  # type: ignore[union-attr]


def test_pages_count_by_their_orders() -> None:
    assert of_drop({"orders": [ORDER | {"a": 1}]}, {"orders": [ORDER | {"b": 1}]}).unread == {"a", "b"}


def test_a_drop_of_deletions_says_nothing_about_fields() -> None:
    mapping = mapping_of({"preset": "woocommerce"}, "here")[1]
    gone = {"id": 7, "status": "trash", "date_created_gmt": "2026-03-02"}
    assert not of_drop(gone, mapping=mapping).judged
    assert of_drop(gone, gone | {"status": "paid"}, mapping=mapping).found >= {"id", "date_created_gmt"}


def test_records_whose_keys_are_values_are_not_all_looked_into() -> None:
    """Then nothing counts as missing."""
    found = of_drop(*({"order_id": "a", "created_at": "2026-03-02", f"k{number}": 1} for number in range(500)))
    assert len(found.unread) == 64 and found.unclear == paths_of(DIRECT)


def test_a_very_large_record_is_not_looked_into() -> None:
    """It may be most of a drop, and would take many times its size as values. Nothing counts as missing then."""
    found = of_drop(ORDER, ORDER | {"note": "x" * 300_000})
    assert found.unread == set() and found.unclear == paths_of(DIRECT)


def test_keys_of_items_that_nothing_reads_are_named_with_their_path() -> None:
    """Of all items, also of those that are left out, at any of the paths of items. What is below a key is not compared."""
    mapping = FieldMapping(
        fields=(("items", ("lines.data", "items")), ("price", ("cost.net",)), ("qty", ("n",))), skip_items_with="parent"
    )
    order = {"order_id": 1, "created_at": "2026-11-18"}
    line = {"sku": "a", "n": 1, "cost": {"net": 5, "gross": 6}, "tax": {"rate": 7}}
    record = order | {"lines": {"data": [line, {"parent": 5, "of": "b"}, 7]}, "items": [{"qty": 1}], "x": 1}
    assert of_drop(record, mapping=mapping).unread == {"x", "lines.data.tax", "lines.data.of", "items.qty"}
    assert of_drop(order | {"items": [{"sku": "a", "qty": 1, "price": 5}]}).unread == set()
    assert of_drop(order | {"items": [{"sku": "a"}]}, order | {"items": [{"colour": "red"}]}).unread == {"items.colour"}
    assert of_drop(order | {"items": [{"a b": 1, "x@y.z": 2}]}).unread == set()
