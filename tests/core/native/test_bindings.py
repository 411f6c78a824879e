"""The fast lane by itself: that it is there, what it takes and what it leaves to the strict lane."""

from __future__ import annotations

import ctypes
import hashlib
import json
from dataclasses import replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.mapping import DIRECT, FieldMapping
from daemon.core.native import bindings, tables
from daemon.core.parse.documents import split
from daemon.core.parse.parse import Piece, parse
from daemon.core.parse.values import order_key
from daemon.sources.mapping_settings import mapping_of
from tests.strategies import drops
from tests.support import REPO
from tests.support.as_model import CONTEXT
from tests.support.examples import examples

SHOPS = REPO / "examples" / "shops"
SLOW = examples(400)
RECORD = {
    "order_id": "o_1", "user_id": "u_1", "amount": 118.4, "currency": "USD", "created_at": "2026-03-02T18:04:11Z",
    "items": [{"sku": "p_8", "qty": 2, "price": 54.2}], "metadata": {"source": "api", "promo": None},
}  # fmt: skip


def is_odd(record: bytes, mapping: FieldMapping = DIRECT) -> bool:
    """Whether the fast lane leaves a record to the strict one."""
    return bool(bindings.scanned(record, np.array([0]), np.array([len(record)]), mapping).refused[0])


def test_the_library_is_the_one_of_this_source() -> None:
    """The tests run what the C sources say, not what they said when the package was installed."""
    source = b"".join(path.read_bytes() for path in sorted(bindings.LIBRARY.parent.glob("*.[ch]")))
    library = ctypes.CDLL(str(bindings.LIBRARY))
    compiled = ctypes.string_at(ctypes.addressof(ctypes.c_char.in_dll(library, "strandline_source")))
    assert compiled.decode() == hashlib.sha256(source).hexdigest(), "run `python hatch_build.py`"


@pytest.mark.parametrize(
    "change",
    [
        {}, {"amount": "118.40"}, {"amount": 1234567890123.45678}, {"amount": None}, {"amount": -3}, {"order_id": 17},
        {"order_id": " o_1 "}, {"order_id": 'a"\\\u00e9\U0001f600/'}, {"created_at": 1772474651}, {"created_at": "2026-03-02"},
        {"created_at": "2026-03-02 18:04"}, {"created_at": "2026-03-02T18:04:11.1234567-05:30"}, {"user_id": None},
        {"items": None}, {"items": []}, {"items": [{}]}, {"unknown": {"deep": [1, [2, {"x": "\ud800"}]]}}, {"currency": ""},
        {"metadata": [1.10, "a b", {"c": " "}]}, {"updated_at": "2026-03-02T18:04:11+0000"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("ascii_only", [True, False])
def test_usual_spellings_take_the_fast_lane(change: dict, ascii_only: bool) -> None:
    """What APIs write is not sent to the slow lane; that both read it alike, test_parse holds."""
    text = json.dumps(RECORD | change, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    assert is_odd(text) == (b"\xed\xa0\x80" in text)


MORE = {"status": "paid", "tip": "1.5", "gift": False, "shipped": "2026-03-02T18:04:11Z"}
COLUMNS = (
    ("channel", "text", ("metadata.source",)), ("gift", "boolean", ("gift",)), ("shipped", "instant", ("state.at", "shipped")),
    ("status", "text", ("status",)), ("tip", "decimal", ("tip",)),
)  # fmt: skip


@pytest.mark.parametrize(
    "mapping", [FieldMapping(), FieldMapping(id_prefix="a-", deleted_path="status", deleted_values=('"gone"',))]
)
@pytest.mark.parametrize(
    ("change", "odd"),
    [
        ({}, False), ({"status": None, "tip": None, "gift": None, "shipped": None}, False), ({"status": 17, "tip": -3}, False),
        ({"state": {"at": 1772474651}, "metadata": None}, False), ({"status": "é", "metadata": {}}, False),
        ({"gift": "true"}, True), ({"gift": 1}, True), ({"status": True}, True), ({"tip": "1,5"}, True), ({"status": {}}, True),
        ({"shipped": "soon"}, True), ({"shipped": ""}, False),
    ],
)  # fmt: skip
def test_usual_values_of_extra_columns_take_the_fast_path(mapping: FieldMapping, change: dict, odd: bool) -> None:
    """Also inside metadata, and at the path that says whether an order is gone; both parsers read the same."""
    mapping = replace(mapping, columns=COLUMNS)
    record = json.dumps(RECORD | MORE | change, ensure_ascii=False).encode()
    assert is_odd(record, mapping) == odd
    pieces = [Piece(1, record, replace(CONTEXT, mapping=mapping))]
    fast, slow = (parse(pieces, reference_only=only) for only in (False, True))
    assert fast.orders.to_pylist() == slow.orders.to_pylist() and fast.tallies == slow.tallies
    assert is_odd(json.dumps(RECORD | {"status": "gone"}).encode(), mapping) == bool(mapping.deleted_path)


def test_what_the_fast_path_leaves_of_extra_columns() -> None:
    """More than it has room for; a path that is a field's, or another column's; one inside a field that a mapping changes."""
    many = tuple((f"c{n:02}", "text", (f"c{n:02}",)) for n in range(33))
    assert bindings.is_mappable(FieldMapping(columns=many[:32])) and not bindings.is_mappable(
        FieldMapping(columns=many)
    )
    for paths in ((("a", "amount"),), (("a", "x"), ("b", "x")), (("a", "user_id.x"),), (("a", "currency.x"),)):
        columns = tuple((name, "text", (path,)) for name, path in paths)
        assert not bindings.is_mappable(FieldMapping(columns=columns))


SECOND = FieldMapping(
    fields=(("amount", ("total", "sum")), ("user_id", ("customer.id", "email", "phone"))),
    columns=(("note", "text", ("note", "remark")),),
)
SECOND_RECORD = {
    "order_id": "o_1", "created_at": "2026-03-02T18:04:11Z", "email": "a@b", "phone": "0123",
    "customer": {"id": "u_1", "ie": "x"}, "sum": "7.50", "total": "9.25", "remark": "later", "note": "first",
    "nite": [1, {"note": "}"}], "sku": {}, "items": [{}],
}  # fmt: skip


@SLOW
@given(
    st.lists(st.permutations(sorted(SECOND_RECORD)), min_size=1, max_size=4),
    st.dictionaries(st.sampled_from(["email", "phone", "sum", "remark", "note", "total"]), st.sampled_from([None, "", " ", "0"])),
    st.sets(st.sampled_from(["email", "phone", "customer", "sum", "total", "note", "remark", "nite"])),
)  # fmt: skip
def test_keys_in_any_order_and_second_choices_are_read_as_by_the_reference_parser(
    orders: list[list[str]], blank: dict[str, object], missing: set[str]
) -> None:
    """Records of one scan whose keys come in different orders, so that what is guessed from the record before is wrong."""
    values = SECOND_RECORD | blank
    text = "\n".join(
        json.dumps({name: values[name] for name in names if name not in missing} | {"order_id": str(number)})
        for number, names in enumerate(orders)
    )
    pieces = [Piece(1, text.encode(), replace(CONTEXT, mapping=SECOND))]
    fast, slow = (parse(pieces, reference_only=only) for only in (False, True))
    rows = [sorted(one.orders.to_pylist(), key=lambda row: row["position"]) for one in (fast, slow)]
    assert rows[0] == rows[1] and fast.tallies == slow.tallies and fast.discards == slow.discards


@pytest.mark.parametrize("email", ['"a\\u00e9"', '"a@b"', '"' + "x" * 257 + '"', '" "'])
def test_a_second_choice_that_is_not_needed_is_not_read(email: str) -> None:
    """Only its JSON is checked: the reference parser does not look at it either."""
    record = '{"order_id":"1","created_at":"2026-03-02","email":%s,"customer":{"id":"u_1"},"total":1,"items":[]}'
    assert not is_odd((record % email).encode(), SECOND)
    for broken in ('"\\x"', '"a\x01"', '"\\u12"', '"open'):
        assert is_odd((record % broken).encode(), SECOND)


def test_a_table_without_keys_and_keys_at_the_very_end() -> None:
    """Nothing is read of items whose fields have no path. Near the end of the text, keys are compared byte by byte."""
    nothing = FieldMapping(fields=(("price", ()), ("qty", ()), ("sku", ())))
    for items in ('[{"sku":1,"":2,"a":"b"}]', '[{"s":[{}]},{}]', '[{"":0}]'):
        for mapping in (nothing, DIRECT):
            record = f'{{"order_id":"1","created_at":"2026-03-02","items":{items}}}'.encode()
            pieces = [Piece(1, record, replace(CONTEXT, mapping=mapping))]
            fast, slow = (parse(pieces, reference_only=only) for only in (False, True))
            assert fast.orders.to_pylist() == slow.orders.to_pylist() and fast.tallies == slow.tallies
            assert is_odd(record[:-1], mapping)


@pytest.mark.parametrize("shop", sorted(path.stem for path in SHOPS.iterdir()))
def test_what_shops_write_takes_the_fast_path(shop: str) -> None:
    """Every order of each sample, except for a deletion: alternatives, nested values, minor units and skipped items included."""
    document = json.loads((SHOPS / f"{shop}.json").read_bytes())
    many = (
        document
        if isinstance(document, list)
        else next(document[k] for k in ("orders", "items", "data") if k in document)
    )
    mapping = mapping_of({"preset": shop, "id_prefix": "é", "time_zone": "Europe/Berlin"}, "here")[1]
    for order in many:
        assert is_odd(json.dumps(order).encode(), mapping) == (order.get("status") == "trash")


@pytest.mark.parametrize(
    "name", ["Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata"]
)
def test_the_offsets_of_a_zone_are_those_of_zoneinfo(name: str) -> None:
    """Just before and at every change, and in between."""
    starts, offsets = tables._offsets(name)
    zone, epoch = ZoneInfo(name), datetime(1970, 1, 1)
    for start, stop, offset in zip(starts, starts[1:], offsets, strict=False):
        for local in (start, start + 1, (start + stop) // 2, stop - 1):
            expected = zone.utcoffset((epoch + timedelta(seconds=local)).replace(tzinfo=zone))
            assert expected == timedelta(seconds=offset), (name, local)


@pytest.mark.parametrize(
    "record",
    [
        b'{"order_id":"a","created_at":"2026-03-02","order_id":"b"}', b'{"order\\u005fid":"a","created_at":"2026-03-02"}',
        b'{"order_id":"a","created_at":"2026-03-02","amount":true}', b'{"order_id":"a","created_at":"2026-03-02","qty":01}',
        b'{"order_id":"a","created_at":"2026-03-02","items":[1]}', b'{"order_id":"a","created_at":"2026-02-29"}',
        b'{"order_id":"a","created_at":"2026-03-02","x":[1,]}', b'{"order_id":"a","created_at":"2026-03-02"}}',
        b'{"order_id":"a","created_at":"2026-03-02","x":"\xff"}', b'{"order_id":"a","created_at":"2026-03-02",}',
        b'{"order_id":"","created_at":"2026-03-02"}', b'{"order_id":"\\ud800","created_at":"2026-03-02"}', b"[1]", b"{", b"",
    ],
)  # fmt: skip
def test_what_is_odd_is_left_to_the_strict_lane(record: bytes) -> None:
    """Nothing is guessed here."""
    assert is_odd(record)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1, max_size=256))
def test_keys_are_those_of_the_index(order_id: str) -> None:
    """BLAKE2b as Python's hashlib has it, for ids of one block and of two."""
    record = json.dumps({"order_id": order_id, "created_at": 1_772_409_600}).encode()
    stripped = order_id.strip(" \t\n\r\x0b\x0c").encode()
    keys = parse([Piece(1, record, CONTEXT)]).orders["key"].to_pylist()
    assert keys == ([order_key(stripped)] if 0 < len(stripped) <= 256 else [])


@SLOW
@given(drops(), st.booleans())
def test_an_array_is_read_in_one_go_as_in_two(data: bytes, inside: bool) -> None:
    """What is found and read on the way is what `parts` finds, and `scanned` reads of it."""
    text = data.strip(b" \t\n\r")
    if text.startswith(b"{") and not inside:
        return
    spans, found = bindings.parts(text, inside=inside), bindings.scanned_array(text, inside=inside)
    assert (found is None) == (spans is None)
    if found is None or spans is None:
        return
    starts, stops, read = found
    assert (starts.tolist(), stops.tolist()) == (spans[0].tolist(), spans[1].tolist())
    again = bindings.scanned(text, starts, stops)
    assert read.refused.tolist() == again.refused.tolist()
    assert read.items.tolist() == again.items.tolist()
    for name, column in read.numbers.items():
        assert column.values.tolist() == again.numbers[name].values.tolist()
    for name, texts in read.texts.items():
        assert texts.data.tobytes() == again.texts[name].data.tobytes()
        assert texts.offsets.tolist() == again.texts[name].offsets.tolist()


@SLOW
@given(drops())
def test_records_are_found_where_they_are(data: bytes) -> None:
    """Each record that a drop is split into is text of that drop."""
    if parse([Piece(1, data, CONTEXT)]).unreadable:
        return
    records = split(data)
    assert all(records[i] in data and records[i].strip(b" \t\r\n") == records[i] for i in range(len(records)))
