"""Records under a mapping are read as the same records in the format of docs/INPUT.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.mapping import FieldMapping
from daemon.core.model import DELETED_AT, Parsed
from daemon.core.parse.discards import each
from daemon.core.parse.documents import Form
from daemon.core.parse.parse import Piece, parse
from daemon.sources.mapping_settings import mapping_of, presets
from tests.mapped_drops import drops
from tests.support import REPO
from tests.support.as_model import CONTEXT, assert_as_model, orders_of
from tests.support.examples import examples

SLOW = examples(100)
ORDER = ("order_id", "created_at", "updated_at", "user_id", "amount", "currency", "metadata")
ITEM = ("sku", "qty", "price")

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 10**12), st.sampled_from([1.5, 17.0, -0.25, 1e30]),
    st.sampled_from(["", " ", "a", " a ", "é\u2028", "12.50", "2026-11-18T10:00:00Z", "2026-11-19 08:30", "x" * 257]),
)  # fmt: skip
VALUES = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from(["k", "id"]), SCALARS, max_size=2)
GOOD = {
    "order_id": st.integers(1, 9) | st.sampled_from(["a", " b ", "12345678901234567890"]),
    "created_at": st.sampled_from(["2026-11-18T10:00:00Z", "2026-11-19T23:30:00-05:00", 1795000000, "2026-11-20"]),
}


@st.composite
def orders(draw: st.DrawFn) -> dict[str, Any]:
    """An order in the format of docs/INPUT.md, of which any field may be missing or of any kind."""
    found = {name: draw(GOOD.get(name, VALUES) if draw(st.integers(0, 9)) else VALUES) for name in ORDER}
    for name in draw(st.sets(st.sampled_from(ORDER), max_size=3)):
        if name not in GOOD:
            del found[name]
    items = [{name: draw(VALUES) for name in ITEM} for _ in range(draw(st.integers(0, 3)))]
    return found | draw(st.sampled_from([{"items": items}, {"items": items}, {"items": None}, {}]))


@st.composite
def spellings(draw: st.DrawFn) -> dict[str, list[str]]:
    """For each field, its paths: no two fields have one, and none is the beginning of another."""
    names = [*ORDER, "items", *ITEM]
    paths: dict[str, list[str]] = {}
    for number, name in enumerate(names):
        forms = [f"f{number}", f"o{number}.in", f"o{number}.a.b", f"l{number}.1", name]
        paths[name] = draw(st.lists(st.sampled_from(forms), min_size=1, max_size=2, unique_by=lambda path: path[:1]))
    return paths


def put(record: dict[str, Any], path: str, value: object) -> None:
    first, *rest = path.split(".")
    for key in reversed(rest):
        value = [{"noise": 1}, value] if key == "1" else {"noise": [1, {"x": "}"}], key: value}
    record[first] = value


def spelled(order: dict[str, Any], paths: dict[str, list[str]], chosen: Sequence[int]) -> dict[str, Any]:
    """The order as a source with these paths writes it: a value is at one of its paths, and nothing is at those before it."""
    record: dict[str, Any] = {"noise": {"order_id": "no", "id": [1]}}
    for name, value in order.items():
        written = value
        if name == "items" and isinstance(value, list):
            written = [spelled(item, paths, chosen) for item in value]
        elif value is None or (isinstance(value, str) and not value.strip()):  # a path without a value does not count
            written = [None, "", " "][chosen[0] % 3]
        path = paths[name][min(chosen[len(name) % len(chosen)], len(paths[name]) - 1)]
        for other in paths[name]:
            if other == path:
                put(record, other, written)
                break
            put(record, other, [None, " "][chosen[0] % 2])
    return record


def read(records: Sequence[object], mapping: FieldMapping, reference_only: bool = False) -> Parsed:
    data = "\n".join(json.dumps(one) for one in records).encode()
    piece = Piece(1, data, replace(CONTEXT, mapping=mapping), Form.LINES)
    return parse([piece], reference_only=reference_only, refusing=False)


def rows(parsed: Parsed) -> list[dict[str, Any]]:
    found = sorted(parsed.orders.to_pylist(), key=lambda row: row["position"])
    return [{key: value for key, value in row.items() if key != "content"} for row in found]


@SLOW
@given(
    st.lists(orders(), min_size=1, max_size=4),
    spellings(),
    st.lists(st.integers(0, 5), min_size=3, max_size=3),
    st.booleans(),
)
def test_a_mapped_record_is_read_as_the_same_in_the_usual_format(
    many: list[dict[str, Any]], paths: dict[str, list[str]], chosen: list[int], reference_only: bool
) -> None:
    """Whatever the paths: the same orders, faults and reasons. A user of 0 is none under a mapping."""
    for order in many:
        order.pop("user_id", None) if order.get("user_id") in (0, "0") and order.get("user_id") is not False else None
    mapping = mapping_of({"fields": paths}, "here")[1]
    ours = read([spelled(order, paths, chosen) for order in many], mapping, reference_only)
    usual = read(many, FieldMapping())
    assert rows(ours) == rows(usual)
    assert [(one.position, one.reason) for one in each(ours.discards)] == [
        (one.position, one.reason) for one in each(usual.discards)
    ]
    assert ours.tallies[1].faults == usual.tallies[1].faults


@SLOW
@given(st.sampled_from(["USD", "JPY", "kwd", None, "??"]), st.decimals(-(10**9), 10**9, places=2), st.booleans())
def test_minor_units_are_divided_exactly(currency: str | None, value: Decimal, quoted: bool) -> None:
    """By 10 to the power of the currency's digits; two where the currency is unknown."""
    whole = value == value.to_integral()
    number = str(int(value)) if whole else str(value)
    text = json.dumps(number) if quoted else number
    record = f'{{"order_id":1,"created_at":"2026-11-18","amount":{text},"currency":{json.dumps(currency)}}}'
    mapping = FieldMapping(minor_units=True)
    digits = {"JPY": 0, "kwd": 3}.get(currency or "", 2)
    for reference_only in (False, True):
        parsed = parse([Piece(1, record.encode(), replace(CONTEXT, mapping=mapping))], reference_only=reference_only)
        units = (Decimal(number).scaleb(4 - digits)).quantize(Decimal(1), ROUND_HALF_UP)
        assert parsed.orders["amount"].to_pylist() == [int(units)]


@examples(300)
@given(drops(), st.booleans())
def test_a_mapped_drop_is_read_as_the_model_says(drop: tuple[FieldMapping, bytes], reference_only: bool) -> None:
    """Whatever the mapping and the bytes: by both parsers together, and by the reference parser alone."""
    mapping, data = drop
    assert_as_model(data, reference_only=reference_only, mapping=mapping)


@examples(300)
@given(drops(deleting=True))
def test_both_parsers_read_a_mapped_drop_alike(drop: tuple[FieldMapping, bytes]) -> None:
    """Every row with its content, every discard and every count, and also what a mapping says of deletions."""
    mapping, data = drop
    fast, slow = (
        parse([Piece(1, data, replace(CONTEXT, mapping=mapping))], reference_only=only) for only in (False, True)
    )
    assert orders_of(fast) == orders_of(slow)
    assert (list(each(fast.discards)), fast.tallies, fast.unreadable) == (
        list(each(slow.discards)), slow.tallies, slow.unreadable,
    )  # fmt: skip


@examples(60)
@given(st.lists(drops(), min_size=1, max_size=5))
def test_drops_of_several_mappings_are_read_together_as_alone(many: list[tuple[FieldMapping, bytes]]) -> None:
    mappings = [replace(mapping, columns=()) for mapping, _ in many]  # extra columns are those of all sources
    pieces = [
        Piece(number, data, replace(CONTEXT, mapping=mapping))
        for number, (mapping, (_, data)) in enumerate(zip(mappings, many, strict=True), 1)
    ]
    together, alone = parse([*pieces]), [parse([piece]) for piece in pieces]
    assert orders_of(together) == [row for one in alone for row in orders_of(one)]
    assert together.tallies == {drop: tally for one in alone for drop, tally in one.tallies.items()}


ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Africa/Monrovia"]


def instant_of(local: datetime, zone: ZoneInfo) -> datetime:
    """Every instant within a day whose local time is this one; else, of a skipped time, by the offset before the gap."""
    near = [local.replace(tzinfo=UTC) + timedelta(minutes=minutes) for minutes in range(-1500, 1500, 15)]
    offsets = {one.astimezone(zone).utcoffset() for one in near}
    same = [
        one for offset in offsets if offset is not None and
        (one := local.replace(tzinfo=UTC) - offset).astimezone(zone).replace(tzinfo=None) == local
    ]  # fmt: skip
    return min(same) if same else max(local.replace(tzinfo=UTC) - offset for offset in offsets if offset is not None)


@SLOW
@given(st.sampled_from(ZONES), st.datetimes(datetime(2020, 1, 1), datetime(2026, 11, 1)), st.booleans())
def test_a_local_time_is_an_instant_of_its_zone(name: str, local: datetime, skipped: bool) -> None:
    """The first of two, and the later where there is none."""
    if skipped:  # an hour that is skipped or repeated in one of the zones
        local = local.replace(month=3 if local.month < 7 else 10, day=min(25 + local.day % 7, 31), hour=2)
    local = local.replace(microsecond=0)
    record = {"order_id": 1, "created_at": local.isoformat(sep=" ")}
    parsed = read([record], FieldMapping(time_zone=name))
    expected = instant_of(local, ZoneInfo(name))
    assert parsed.orders["created_at"].to_pylist() == [int(expected.timestamp()) * 1_000_000]
    with_offset = [{"order_id": 1, "created_at": "2026-03-29T02:30:00+05:00"}]
    assert rows(read(with_offset, FieldMapping(time_zone=name))) == rows(read(with_offset, FieldMapping()))


def test_a_prefix_keeps_ids_of_sources_apart() -> None:
    """Of orders and users; what gets too long is as wrong as any such id."""
    mapping = FieldMapping(id_prefix="é-")
    parsed = read([{"order_id": 7, "user_id": " u ", "created_at": "2026-11-18"}], mapping)
    assert (parsed.orders["order_id"][0].as_py(), parsed.orders["user_id"][0].as_py()) == ("é-7", "é-u")
    long = read([{"order_id": "x" * 255, "created_at": "2026-11-18"}], mapping)
    assert [one.reason for one in each(long.discards)] == ["invalid_order_id"]


def test_the_order_is_inside_a_wrapper() -> None:
    """At the path `record`; a record without it is read as it is."""
    inner = {"order_id": 1, "created_at": "2026-11-18"}
    parsed = read(
        [{"data": {"object": inner}, "type": "x"}, inner | {"order_id": 2}], FieldMapping(record="data.object")
    )
    assert sorted(parsed.orders["order_id"].to_pylist()) == ["1", "2"]


SHOPS: dict[str, list[tuple[object, ...]]] = {
    "shopify": [
        ("450789469", "207119551", 5989400, "USD", [("IPOD2008GREEN", 10000, 1990000), ("IPOD2008RED", 20000, 1999700)]),
        ("450789470", "guest@example.org", 100000, "EUR", [(None, 10000, 100000)]),
    ],
    "woocommerce": [
        ("727", "26", 293500, "USD", [("SINGLE-1", 20000, 30000), ("SHIP-XL", 10000, 120000)]),
        ("728", "guest@example.org", 30000, "USD", [("SINGLE-1", 10000, 30000)]),
        ("729", None, None, None, []),
    ],
    "magento": [("000000005", "1", 396400, "USD", [("MH01-S-Black", 10000, 296400), ("24-WG085", 20000, 50000)])],
    "square": [
        ("CAISEM82RcpmcFBM0TfOyiHV3es", None, 5000000, "JPY", [("Tea", 10000, 5000000)]),
        (
            "CAISENgvlJ6jLWAzERDzjyHVybY", "38SX2AVC6T1S", 124800, "USD",
            [("BEMYCSMIJL46", 20000, 59900), ("Tip jar", 10000, 5000)],
        ),
    ],
    "stripe": [
        ("cs_test_a1", "jenny@example.com", 219800, "USD", [("prod_1", 20000, 109900)]),
        ("cs_test_b2", "cus_9", 123450, "KWD", []),
    ],
}  # fmt: skip


@pytest.mark.parametrize("shop", sorted(SHOPS))
@pytest.mark.parametrize("form", ["file", "lines", "one"])
def test_each_preset_reads_what_its_shop_writes(shop: str, form: str) -> None:
    """As the API gives it, one order a line, and a single order as a webhook sends it."""
    records_path, mapping = mapping_of({"preset": shop}, "here")
    data = (REPO / "examples" / "shops" / f"{shop}.json").read_bytes()
    document = json.loads(data)
    many = (
        document
        if isinstance(document, list)
        else next(document[key] for key in ("orders", "items", "data") if key in document)
    )
    written = {
        "file": [data],
        "lines": ["\n".join(map(json.dumps, many)).encode()],
        "one": [json.dumps(one, indent=2).encode() for one in many],
    }[form]
    pieces = [
        Piece(number, one, replace(CONTEXT, records_path=records_path, mapping=mapping))
        for number, one in enumerate(written, 1)
    ]
    parsed = [parse([piece]) for piece in pieces]
    assert not any(one.unreadable or one.discards.num_rows for one in parsed), [one.unreadable for one in parsed]
    assert not sum(one.tallies[number].faults.total() for number, one in enumerate(parsed, 1))
    found = [
        (
            row["order_id"], row["user_id"], row["amount"], row["currency"],
            [(item["sku"], item["qty"], item["price"]) for item in row["items"]],
        )
        for one in parsed for row in one.orders.to_pylist()
    ]  # fmt: skip
    assert sorted(found) == SHOPS[shop]


def test_every_preset_has_a_sample() -> None:
    assert presets() == sorted(SHOPS)


@pytest.mark.parametrize("reference_only", [False, True])
@pytest.mark.parametrize(("parent", "counts"), [
    ("0", True), ('"0"', True), ("null", True), ('""', True), ("7", False), ('"7"', False), ("0.5", False), ("false", False),
])  # fmt: skip
def test_an_item_whose_parent_is_0_has_none(parent: str, counts: bool, reference_only: bool) -> None:
    """Magento writes either for an item that is no variant of another."""
    item = f'{{"sku":"a","qty_ordered":1,"price":5,"parent_item_id":{parent}}}'
    data = f'[{{"increment_id":"1","created_at":"2026-11-18 10:00:00","grand_total":5,"items":[{item}]}}]'.encode()
    context = replace(CONTEXT, mapping=mapping_of({"preset": "magento"}, "here")[1])
    (row,) = parse([Piece(1, data, context)], reference_only=reference_only).orders.to_pylist()
    assert len(row["items"]) == counts


@pytest.mark.parametrize("reference_only", [False, True])
def test_expanded_objects_of_stripe_are_read_by_their_ids(reference_only: bool) -> None:
    """A session with or without expand[]=data.customer and expand[]=data.line_items.data.price.product."""
    mapping = mapping_of({"preset": "stripe"}, "here")[1]
    sessions = [
        {
            "id": f"cs_{number}", "created": 1_760_000_000, "amount_total": 500, "currency": "eur", "customer": customer,
            "customer_details": {"email": "a@b.c"},
            "line_items": {"data": [{"quantity": 1, "price": {"id": "price_1", "unit_amount": 500, "product": product}}]},
        }
        for number, (customer, product) in enumerate(
            [("cus_1", "prod_1"), ({"id": "cus_2", "name": "x"}, {"id": "prod_2", "name": "y"}), (None, None)]
        )
    ]  # fmt: skip
    parsed = read(sessions, mapping, reference_only)
    found = sorted((row["user_id"], row["items"][0]["sku"]) for row in parsed.orders.to_pylist())
    assert found == [("a@b.c", "price_1"), ("cus_1", "prod_1"), ("cus_2", "prod_2")] and not parsed.tallies[1].faults


@pytest.mark.parametrize("reference_only", [False, True])
@pytest.mark.parametrize(
    ("order_id", "reason"), [(None, "missing_order_id"), ([1], "invalid_order_id"), ("x" * 257, "invalid_order_id")]
)
def test_a_deletion_without_an_id_that_can_be_read_says_so(order_id: object, reason: str, reference_only: bool) -> None:
    mapping = mapping_of({"preset": "woocommerce"}, "here")[1]
    gone = {"status": "trash", "date_created_gmt": "2026-11-18"} | ({} if order_id is None else {"id": order_id})
    parsed = read([gone, {"id": 1, "date_created_gmt": "2026-11-18", "total": "5"}], mapping, reference_only)
    assert parsed.discards["reason"].to_pylist() == [reason] and parsed.orders.num_rows == 1


@pytest.mark.parametrize("reference_only", [False, True])
@pytest.mark.parametrize("escaped", [False, True])
@pytest.mark.parametrize("key", ["id", "nº", 'a "b"'])
@pytest.mark.parametrize("word", ["gone", "gelöscht", "削除", "\N{WASTEBASKET}", 'a "b"', "a\\b"])
def test_keys_and_values_of_deletions_are_in_any_language(
    word: str, key: str, escaped: bool, reference_only: bool
) -> None:
    """Spelled with escapes or without."""
    settings = {"fields": {"order_id": key}, "deleted": {"path": f"is {key}", "values": [word]}}
    records = [
        {key: number, "created_at": "2026-11-18", f"is {key}": state} for number, state in [(1, word), (2, "no")]
    ]
    data = json.dumps(records, ensure_ascii=escaped).encode()
    piece = Piece(1, data, replace(CONTEXT, mapping=mapping_of(settings, "here")[1]))
    orders = parse([piece], reference_only=reference_only, refusing=False).orders
    deleted = [instant == DELETED_AT for instant in orders["created_at"].cast("int64").to_pylist()]
    assert dict(zip(orders["order_id"].to_pylist(), deleted, strict=True)) == {"1": True, "2": False}
