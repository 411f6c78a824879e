"""The settings of a source: what is allowed, and what an error says."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.core.errors import UsageError
from daemon.core.mapping import FieldMapping
from daemon.sources.mapping_settings import columns_of, mapping_of, presets


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"preset": "etsy"}, ["preset", "etsy", "shopify", "woocommerce"]),
        ({"preset": ["shopify"]}, ["preset", "shopify"]),
        ({"field": {}}, ["unknown setting 'field'", "did you mean fields?", "time_zone"]),
        ({"records": "a..b"}, ["records", "a..b", "dots"]),
        ({"record": 7}, ["record = 7", "dots"]),
        ({"fields": {"id": "x"}}, ["unknown field 'id'", "order_id", "qty"]),
        ({"fields": {"order_id": ["id", "a..b"]}}, ["fields.order_id", "a..b", "dots"]),
        ({"fields": "id"}, ["fields", "table"]),
        ({"time_zone": "Europe/Atlantis"}, ["time_zone", "Europe/Atlantis", "Europe/Berlin"]),
        ({"minor_units": "yes"}, ["minor_units", "true or false"]),
        ({"id_prefix": "x" * 65}, ["id_prefix", "64 bytes"]),
        ({"id_prefix": "\n"}, ["id_prefix", "printable"]),
        ({"id_prefix": " x"}, ["id_prefix", "blank"]),
        ({"fields": {"order_id": ""}}, ["fields.order_id", "no record is an order"]),
        ({"fields": {"created_at": []}}, ["fields.created_at", "no record is an order"]),
        ({"deleted": {"path": "status", "values": []}}, ["deleted", "values"]),
        ({"deleted": {"path": "status"}}, ["deleted", "values"]),
        ({"deleted": {"path": "", "values": ["x"]}}, ["deleted", "path"]),
        ({"deleted": {"path": "status", "values": [{}]}}, ["deleted", "values"]),
        ({"users": {"id": "x"}}, ["unknown field 'id'", "users", "user_id, email"]),
        ({"users": ["x"]}, ["users", "table"]),
        ({"products": {"sku": []}}, ["products.sku", "key"]),
        ({"products": {"name": [7]}}, ["products.name", "name of a column"]),
        ({"encoding": "latin-1"}, ["encoding", "utf-8", "cp1252"]),
        ({"columns": {"colour": "x"}}, ["columns", "unknown column 'colour'", "[columns]: status, tip"]),
        ({"columns": {"status": "a..b"}}, ["columns.status", "a..b", "dots"]),
        ({"columns": {"status": ["a", 7]}}, ["columns.status = 7", "dots"]),
        ({"columns": "status"}, ["columns", "table"]),
    ],
)
def test_what_is_not_allowed_is_named_with_what_is(settings: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        mapping_of(settings, "[sources.shop] in config.toml:", (("status", "text"), ("tip", "decimal")))
    for word in ["[sources.shop]", *words]:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"status": "string"}, ["[columns] status = 'string'", '"text", "decimal", "instant", "boolean"']),
        ({"status": ["text"]}, ["[columns] status = ['text']", '"text", "decimal", "instant", "boolean"']),
        ({"Status": "text"}, ["[columns] 'Status'", "letters (a-z)"]),
        ({"7th": "text"}, ["[columns] '7th'", "begins with a letter"]),
        ({"customer.tier": "text"}, ["[columns] 'customer.tier'", "letters (a-z)"]),
        ({"amount": "text"}, ["[columns] amount", "another name", "currency"]),
        ({"date": "text"}, ["[columns] date", "another name"]),
        ({"items": "text"}, ["[columns] items", "another name"]),
        (["status"], ["columns = ['status']", "[columns] is a section"]),
    ],
)
def test_a_wrong_column_is_named_with_what_is_allowed(content: Any, words: list[str]) -> None:
    with pytest.raises(UsageError) as raised:
        columns_of(content, "config.toml")
    for word in ["config.toml", *words]:
        assert word in str(raised.value)


def test_a_source_has_all_columns() -> None:
    """Where it says, or at their own names; with an empty path it has none."""
    columns = columns_of({"tip": "decimal", "status": "text", "gift": "boolean"}, "config.toml")
    settings = {"columns": {"status": ["state.now", "state"], "gift": ""}}
    _, mapping = mapping_of(settings, "here", columns)
    found = (("gift", "boolean", ()), ("status", "text", ("state.now", "state")), ("tip", "decimal", ("tip",)))
    assert mapping.columns == found and mapping.is_direct
    assert mapping.column_keys == {"state", "tip"}
    with pytest.raises(UsageError, match=r"\[columns\] defines none"):
        mapping_of({"columns": {"status": "x"}}, "here")


def test_settings_override_those_of_the_preset() -> None:
    """Field by field; a field with an empty path is not read."""
    records, mapping = mapping_of(
        {"preset": "shopify", "records": "data.orders", "fields": {"user_id": "email", "sku": ["sku", "variant_id"]}},
        "here",
    )
    fields = dict(mapping.fields)
    assert records == "data.orders" and fields["order_id"] == ("id",)
    assert fields["user_id"] == ("email",) and fields["sku"] == ("sku", "variant_id") and fields["metadata"] == ()


@pytest.mark.parametrize("name", presets())
def test_a_mapping_survives_the_ledger(name: str) -> None:
    """As text, and as a receipt has it."""
    csv = {"users": {"email": ["Mail", "E-Mail"], "country": ""}, "products": {"sku": "Nr."}, "encoding": "cp1252"}
    settings = {"preset": name, "id_prefix": "é", "time_zone": "Asia/Tokyo", "columns": {"tip": ["a.b", "c"]}, **csv}
    mapping = mapping_of(settings, "here", (("status", "text"), ("tip", "decimal")))[1]
    assert mapping.users == (("country", ()), ("email", ("Mail", "E-Mail"))) and mapping.products == (
        ("sku", ("Nr.",)),
    )
    assert FieldMapping.from_json(mapping.to_json()) == mapping != FieldMapping()
    assert FieldMapping.from_json(FieldMapping().to_json()) == FieldMapping()
