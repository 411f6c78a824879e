"""What is fuzzed: each harness reads one input in two ways, and raises AssertionError where they disagree.

documents   any bytes as a whole drop: where records begin and end, and what they are
records     lines, under the usual format or a mapping (by the first byte)
csv         users and products: any bytes, and (by the first byte) drops of which the model knows the rows
rows        ORDERS rows and entries of the index: hashes, winners, merges and allocations against the same in plain Python

`documents` and `records` compare the fast path with the reference parser. The properties of the tests compare the others: what
Hypothesis draws is taken from the input.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from daemon.core.errors import Unreadable
from daemon.core.mapping import DIRECT, ITEM_FIELDS, ORDER_FIELDS, FieldMapping
from daemon.core.model import DIMENSIONS, LAST_INSTANT, Ints
from daemon.core.native import bindings
from daemon.core.parse import csv, reference
from daemon.core.parse.documents import Form, is_utf8
from daemon.core.parse.mapped import in_major_units, read_record
from daemon.core.parse.parse import Piece, parse
from tests.core.merge import test_facts, test_keys
from tests.core.parse import test_csv
from tests.support.as_model import CONTEXT, orders_of

MAPPED = FieldMapping(
    fields=(
        ("amount", ("total", "total_money.amount")), ("created_at", ("created", "created_at")), ("items", ("line_items",)),
        ("order_id", ("id", "order_id")), ("price", ("price", "money.amount")), ("sku", ("product.id", "sku")),
        ("user_id", ("customer.id", "email", "customer.email")),
    ),
    time_zone="Europe/Berlin", minor_units=True, id_prefix="é-", skip_items_with="parent_item_id", deleted_path="status",
    deleted_values=('"gone"', "true"),
    columns=(
        ("gift", "boolean", ("gift",)), ("placed", "instant", ("meta.at", "placed")), ("state", "text", ("status", "metadata.x")),
        ("tip", "decimal", ("tip",)),
    ),
)  # fmt: skip


# Without a limit to the future, which is checked after the fast path.
ENDLESS = replace(CONTEXT, tolerance=LAST_INSTANT)
WHOLE_EVERY = 32  # inputs of a fuzzer: `parse` takes a hundred times what its parts take. A replay reads all inputs so


def documents(data: bytes, whole: bool = True) -> None:
    """A whole drop, and its outermost values."""
    text = data.strip(b" \t\n\r")
    _same_parts(text)
    _same_in_one_go(text)
    if whole:
        _read_alike(Piece(1, data, CONTEXT))


def _same_parts(text: bytes) -> None:
    """What the C finds in an array or an object, the reference parser finds; the C may refuse anything."""
    spans = bindings.parts(text)
    if spans is None or not is_utf8(text):
        return
    found = [text[start:stop].decode() for start, stop in zip(*map(Ints.tolist, spans), strict=True)]
    document = reference.whole(text.decode())
    if text.startswith(b"["):
        assert found == reference.elements(document)
    else:
        keys = map(reference.value_of, found[::2])
        assert list(zip(keys, found[1::2], strict=True)) == reference.pairs(document)


def _same_in_one_go(text: bytes) -> None:
    """An array that is divided and read in one pass is divided as without reading; its records are those of `records`."""
    for inside in (False, True) if not text.startswith(b"{") else (True,):
        spans, read = bindings.parts(text, inside=inside), bindings.scanned_array(text, inside=inside)
        assert (spans is None) == (read is None)
        if spans is None or read is None:
            continue
        starts, stops, scanned = read
        assert (starts.tolist(), stops.tolist()) == (spans[0].tolist(), spans[1].tolist())
        _as_by_reference([text[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)], scanned, DIRECT)


def records(data: bytes, whole: bool = True) -> None:
    """Lines, each a record or none."""
    mapping = MAPPED if data[:1] == b"m" else DIRECT
    text = data[1:]
    starts, stops = bindings.lines(text)
    lines = [text[a:b] for a, b in zip(starts.tolist(), stops.tolist(), strict=True)]
    assert lines == [line.strip(b" \t\r") for line in text.split(b"\n") if line.strip(b" \t\r")]
    _as_by_reference(lines, bindings.scanned(text, starts, stops, mapping), mapping)
    if whole:
        _read_alike(Piece(1, text, replace(CONTEXT, mapping=mapping), Form.LINES))


def _as_by_reference(texts: list[bytes], scanned: bindings.Scanned, mapping: FieldMapping) -> None:
    """What the fast path accepts is an order without faults, and each of its values is that of the reference parser."""
    in_time = scanned.numbers["created_at"].values <= LAST_INSTANT  # checked after the fast path
    accepted = np.flatnonzero(in_time & ~scanned.refused).tolist()
    assert len(scanned.refused) == len(texts)
    if not accepted:
        return
    read = in_major_units(scanned) if mapping.minor_units else scanned
    columns = {name: one.array() for name, one in {**read.numbers, **read.texts, **read.extra}.items()}
    names = [name for name in ORDER_FIELDS if name != "items"]
    for i in accepted:
        order, is_deletion = read_record(texts[i], replace(ENDLESS, mapping=mapping))
        assert isinstance(order, reference.Order) and not is_deletion and not +order.faults, (texts[i], order)
        assert [columns[name][i].as_py() for name in names] == [getattr(order, name) for name in names], texts[i]
        items = range(*read.items[i : i + 2].tolist())
        assert [reference.Item(*(columns[name][line].as_py() for name in ITEM_FIELDS)) for line in items] == list(
            order.items
        )
        extra = [columns[name][i].as_py() for name, _ in mapping.extra_columns]
        assert extra == [int(one) if isinstance(one, bool) else one for one in order.extra], texts[i]


def _read_alike(piece: Piece) -> None:
    fast, slow = (parse([piece], reference_only=only) for only in (False, True))
    assert fast.unreadable == slow.unreadable
    assert fast.discards == slow.discards
    assert fast.tallies == slow.tallies
    assert orders_of(fast) == orders_of(slow)


def rows_of_csv(data: bytes, whole: bool = True) -> None:
    """Users and products."""
    if data[:1] == b"m":
        _drawn_from(data[1:], test_csv.test_each_row_is_read_as_the_contract_says)
        return
    for dimension in DIMENSIONS.values():
        try:
            read = csv.read(dimension, 1, data[1:], CONTEXT)
        except Unreadable:
            continue
        assert read.rows.num_rows + read.discards.num_rows == read.tally.extracted


PROPERTIES = (
    test_keys.test_hashes_cover_extra_columns_where_they_have_a_value,
    test_keys.test_the_latest_record_of_each_order_is_an_entry,
    test_keys.test_entries_are_merged_as_dicts_are,
    test_facts.test_lines_get_what_exact_fractions_give,
)


def rows(data: bytes, whole: bool = True) -> None:
    """The first byte chooses the property."""
    if data:
        _drawn_from(data[1:], PROPERTIES[data[0] % len(PROPERTIES)])


def _drawn_from(data: bytes, test: Any) -> None:
    """A property of the tests, of an example that is drawn from these bytes."""
    test.hypothesis.fuzz_one_input(data)


HARNESSES: dict[str, Callable[..., None]] = {
    "documents": documents, "records": records, "csv": rows_of_csv, "rows": rows
}  # fmt: skip
