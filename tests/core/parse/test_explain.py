"""How `plan` explains records: as they are parsed, each value with the path where it is."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given

from daemon.core.errors import Unreadable
from daemon.core.mapping import DIRECT, ORDER_FIELDS, FieldMapping
from daemon.core.model import DIMENSIONS, FIELDS, ParseContext
from daemon.core.parse.explain import ReadField, ReadRecord, explained, text_of
from daemon.core.parse.explain_csv import explained_rows
from daemon.core.parse.parse import Piece, first_records, parse
from daemon.sources.mapping_settings import mapping_of
from tests import mapped_drops, strategies
from tests.strategies import RECEIVED_AT_US
from tests.support.examples import examples

SLOW = examples(150)


def context(mapping: FieldMapping = DIRECT) -> ParseContext:
    return ParseContext(RECEIVED_AT_US, 86_400_000_000, mapping=mapping)


def read(record: object, mapping: FieldMapping = DIRECT) -> ReadRecord:
    return explained(json.dumps(record, ensure_ascii=False).encode(), 1, context(mapping))


def shown(fields: list[ReadField]) -> dict[str, tuple[str | None, str, bool]]:
    return {one.field: (one.value, one.path, one.is_fault) for one in fields}


def same_as_parsed(data: bytes, mapping: FieldMapping) -> None:
    """Each record has the outcome and the values that parsing the drop gives it, fault by fault."""
    parsed = parse([Piece(1, data, context(mapping))], refusing=False)
    try:
        found = first_records(Piece(1, data, context(mapping)), 10_000)
    except Unreadable:
        assert parsed.unreadable
        return
    orders = {row["position"]: row for row in parsed.orders.to_pylist()}
    discards = {row["position"]: row["reason"] for row in parsed.discards.to_pylist()}
    faults = 0
    for position, record in enumerate(found, 1):
        one = explained(record, position, context(mapping))
        if position in discards:
            assert one.outcome == discards[position]
            continue
        row, fields = orders.pop(position), {field.field: field for field in one.fields}
        if one.outcome == "deletion":
            assert fields["order_id"].value == row["order_id"]
            continue
        is_read = [field for field in one.fields[: len(ORDER_FIELDS)] if not field.is_fault and field.field != "items"]
        for field in is_read:
            assert field.value == text(field.field, row[field.field]), field
        faults += len([field for field in one.fields if field.is_fault])
        for item, fields_of_item in zip(row["items"], one.items, strict=False):
            for field in fields_of_item:
                assert field.is_fault or field.value == text(field.field, item[field.field])
    assert not orders
    columns = [name for name, _, _ in mapping.columns]
    assert faults == sum(parsed.tallies[1].faults[name] for name in {*FIELDS, *columns} - {"order_id", "created_at"})


def text(name: str, value: Any) -> str | None:
    if value is None:
        return None
    if name in ("created_at", "updated_at"):
        whole = pa.scalar(value, pa.timestamp("us", "UTC")).as_py().isoformat()
        return str(whole).replace("+00:00", "Z")
    if name in ("amount", "price", "qty"):
        found = f"{Decimal(value) / 10_000:.4f}".rstrip("0")
        whole, _, fraction = found.partition(".")
        fraction = fraction if name == "qty" else fraction.ljust(2, "0")
        return f"{whole}.{fraction}" if fraction else whole
    return str(value)


@SLOW
@given(strategies.drops())
def test_records_in_the_usual_format_are_explained_as_they_are_parsed(data: bytes) -> None:
    same_as_parsed(data, DIRECT)


@SLOW
@given(mapped_drops.drops(deleting=True))
def test_mapped_records_are_explained_as_they_are_parsed(drop: tuple[FieldMapping, bytes]) -> None:
    mapping, data = drop
    same_as_parsed(data, mapping)


SHOP = mapping_of({"preset": "shopify"}, "here")[1]


def test_each_value_has_the_path_that_it_came_from() -> None:
    """Of several paths, the one that counts. Keys that nothing reads are named, and so are those of items."""
    record = {
        "id": 5, "created_at": "2026-03-02T10:00:00+01:00", "email": "a@example.org", "customer": None, "total_price": "199.9",
        "currency": "eur", "tags": "", "line_items": [{"sku": " A ", "quantity": 2, "price": "5", "grams": 7}],
    }  # fmt: skip
    found = read(record, SHOP)
    assert (found.outcome, found.unread) == ("order", ["tags", "line_items.grams"])
    assert shown(found.fields) == {
        "order_id": ("5", "id", False),
        "created_at": ("2026-03-02T09:00:00Z", "created_at", False),
        "updated_at": (None, "updated_at", False),
        "user_id": ("a@example.org", "email", False),
        "amount": ("199.90", "total_price", False),
        "currency": ("EUR", "currency", False),
        "metadata": (None, "", False),
        "items": ("1", "line_items", False),
    }
    assert [shown(item) for item in found.items] == [
        {
            "sku": ("A", "line_items.0.sku", False),
            "qty": ("2", "line_items.0.quantity", False),
            "price": ("5.00", "line_items.0.price", False),
        }
    ]


def test_a_fault_is_marked_and_shown_as_it_is_written() -> None:
    """Without a mapping, too. A value that is absent is no fault: the paths are those where it could be."""
    items = [{"sku": 1.5, "price": "x"}, 7]
    found = read({"order_id": "a", "created_at": "2026-03-02", "amount": "12,50", "items": items, "metadata": {"k": 1}})
    fields = shown(found.fields)
    assert fields["amount"] == ('"12,50"', "amount", True)
    assert fields["currency"] == (None, "currency", False)
    assert fields["metadata"] == ('{"k":1}', "metadata", False)
    assert [shown(item) for item in found.items] == [
        {
            "sku": ("1.5", "items.0.sku", True),
            "qty": (None, "items.0.qty", False),
            "price": ('"x"', "items.0.price", True),
        },
        {"item": ("7", "items.1", True)},
    ]


@pytest.mark.parametrize(
    ("record", "outcome", "fields"),
    [
        ({"id": 1, "created_at": "soon"}, "missing_order_id",
         {"order_id": (None, "order_id", True), "created_at": ('"soon"', "created_at", False)}),
        ({"order_id": 1, "created_at": "soon"}, "invalid_created_at",
         {"order_id": ("1", "order_id", False), "created_at": ('"soon"', "created_at", True)}),
        ([1], "not_an_object", {}),
    ],
)  # fmt: skip
def test_a_discard_shows_what_is_wrong(record: object, outcome: str, fields: dict) -> None:
    found = read(record)
    assert (found.outcome, shown(found.fields)) == (outcome, fields)
    assert found.text == ("[1]" if outcome == "not_an_object" else "")


def test_a_deletion_is_called_one() -> None:
    mapping = mapping_of({"preset": "woocommerce"}, "here")[1]
    found = read({"id": 7, "status": "trash", "date_modified_gmt": "2026-03-02T10:00:00"}, mapping)
    assert found.outcome == "deletion"
    assert shown(found.fields) == {
        "order_id": ("7", "id", False), "deleted": ('"trash"', "status", False),
        "updated_at": ("2026-03-02T10:00:00Z", "date_modified_gmt", False),
    }  # fmt: skip


def test_a_deletion_shows_where_its_instant_came_from() -> None:
    """The first of its instants that can be read, or the time of receipt."""
    mapping = mapping_of({"preset": "woocommerce"}, "here")[1]
    gone = {"id": 7, "status": "trash", "date_modified_gmt": "soon", "date_created_gmt": "2026-03-01T10:00:00"}
    fields = shown(read(gone, mapping).fields)
    assert fields["created_at"] == ("2026-03-01T10:00:00Z", "date_created_gmt", False) and "updated_at" not in fields
    received = text_of("updated_at", RECEIVED_AT_US)
    assert shown(read({"id": 7, "status": "trash"}, mapping).fields)["updated_at"] == (
        received,
        "(time of receipt)",
        False,
    )


@pytest.mark.parametrize(("name", "rows", "expected"), [
    ("user", 'user_id;E-Mail;created_at;Note\nu_1;;2026-03-02;x\n;a@b.c;;\nu_2;"x";soon;\nu_3;;;\n', [
        ("user", {
            "user_id": ("b-u_1", "user_id", False), "email": (None, "e-mail", False), "country": (None, "country", False),
            "created_at": ("2026-03-02T00:00:00Z", "created_at", False),
        }),
        ("missing_key", {"user_id": (None, "user_id", True)}),
        ("user", {
            "user_id": ("b-u_2", "user_id", False), "email": ("x", "e-mail", False), "country": (None, "country", False),
            "created_at": ("soon", "created_at", True),
        }),
    ]),
    ("product", "sku;price\np_1;12,5\n", [
        ("product", {
            "sku": ("p_1", "sku", False), "name": (None, "name", False), "category": (None, "category", False),
            "price": ("12.50", "price", False),
        }),
    ]),
])  # fmt: skip
def test_rows_are_shown_with_their_columns(name: str, rows: str, expected: list) -> None:
    """Of users and products; the first ones, and the columns that nothing reads."""
    mapping = FieldMapping(users=(("email", ("E-Mail",)),), id_prefix="b-")
    found = explained_rows(DIMENSIONS[name], rows.encode(), context(mapping), 3)
    assert [(one.outcome, shown(one.fields)) for one in found] == expected
    assert [one.position for one in found] == list(range(1, len(found) + 1))
    assert all(one.unread == (["note"] if name == "user" else []) for one in found)


def test_the_key_of_a_row_with_too_many_cells_can_be_read() -> None:
    """What is wrong is the row. An empty key is a fault."""
    found = explained_rows(DIMENSIONS["user"], b"user_id,email\nu_1,a,b\n,a\n", context(), 3)
    assert [(one.outcome, shown(one.fields)) for one in found] == [
        ("malformed_record", {"user_id": ("u_1", "user_id", False)}),
        ("missing_key", {"user_id": (None, "user_id", True)}),
    ]


def test_records_inside_others_are_the_records() -> None:
    """Of an envelope, of pages one a line, and at a path inside each record."""
    one = b'{"order_id":"a","created_at":"2026-03-02"}'
    pages = b'{"orders":[' + one + b"," + one + b']}\n{"orders":[' + one + b"]}"
    assert first_records(Piece(1, pages, context()), 10) == [one] * 3
    assert first_records(Piece(1, pages, context()), 2) == [one] * 2
    node = mapping_of({"record": "node"}, "here")[1]
    found = explained(b'{"node":' + one + b',"cursor":1}', 1, context(node))
    assert shown(found.fields)["order_id"] == ("a", "order_id", False) and found.unread == []


def test_extra_columns_are_shown_with_their_paths() -> None:
    """As they are read, by type; a fault as it is written; and one without a value, with where it could be."""
    columns = (
        ("ended_at", "instant", ("closed.at", "cancelled_at")), ("gift", "boolean", ("gift",)), ("note", "text", ("note",)),
        ("tip", "decimal", ("tip",)),
    )  # fmt: skip
    order = {"order_id": "a", "created_at": "2026-11-18", "amount": 5, "closed": {"at": "2026-11-19"}, "gift": "maybe"}
    fields = shown(read(order | {"tip": "1.5", "more": 1}, FieldMapping(columns=columns)).fields)
    assert fields["ended_at"] == ("2026-11-19T00:00:00Z", "closed.at", False)
    assert fields["gift"] == ('"maybe"', "gift", True)
    assert fields["note"] == (None, "note", False) and fields["tip"] == ("1.50", "tip", False)
    assert read(order | {"tip": 1, "more": 1}, FieldMapping(columns=columns)).unread == ["more"]
