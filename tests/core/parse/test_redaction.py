"""Records are removed from drops of every form, and nothing else changes; names are found by the rules for ids."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import Unreadable
from daemon.core.mapping import DIRECT, FieldMapping
from daemon.core.model import DIMENSIONS, ParseContext
from daemon.core.parse import csv, redaction
from daemon.core.parse.naming import Ids
from daemon.core.parse.parse import Piece, first_records, parse
from daemon.core.parse.redaction import NotExact, without_records, without_rows_of
from daemon.operate.erasure.copies import unpacked
from daemon.storage.raw import compression_of
from tests import mapped_drops
from tests.csv_model import csv_drops
from tests.model import DAY_US
from tests.strategies import RECEIVED_AT_US, drops
from tests.support import REPO
from tests.support.examples import examples

CONTEXT = ParseContext(RECEIVED_AT_US, DAY_US)
SOME = st.integers(1, 63)  # which of the first six records go, as bits


def rows_of(data: bytes, context: ParseContext) -> tuple[list[dict], list[dict]]:
    """The orders and the discards of a drop that was applied, in the order of the file, with their positions."""
    parsed = parse([Piece(0, data, context)], refusing=False)
    assert not parsed.unreadable, parsed.unreadable
    orders, discards = (table.sort_by("position").to_pylist() for table in (parsed.orders, parsed.discards))
    return orders, discards


def assert_redacted(data: bytes, context: ParseContext, some: int) -> None:
    """Removes some records of a drop that can be applied."""
    if parse([Piece(0, data, context)]).unreadable:
        return
    records = first_records(Piece(0, data, replace(context, mapping=context.mapping.of_orders)), len(data))
    chosen = {record for number, record in enumerate(records) if some >> number & 1}
    gone = {position for position, record in enumerate(records, 1) if record in chosen}
    found = without_records(data, context, chosen.__contains__)
    if not gone:
        assert found is None
        return
    assert found is not None and found.positions == gone
    for before, after in zip(rows_of(data, context), rows_of(found.data, context), strict=True):
        stay = [{k: v for k, v in row.items() if v is not None} for row in before if row["position"] not in gone]
        here = [{k: v for k, v in row.items() if v is not None} for row in after]
        assert [row | {"position": 0} for row in here] == [row | {"position": 0} for row in stay]
    left = [record for record in records if record not in chosen]
    assert all(record in found.data for record in left), "bytes of the others stay as they are"


@examples(60)
@given(drops(), SOME)
def test_other_records_are_not_changed(data: bytes, some: int) -> None:
    """Arrays, lines, envelopes, pages, glued and damaged ones: the same orders and discards, but for those removed."""
    assert_redacted(data, CONTEXT, some)


@examples(40)
@given(mapped_drops.drops(deleting=True), SOME)
def test_other_records_of_a_mapped_source_are_not_changed(drop: tuple[FieldMapping, bytes], some: int) -> None:
    """Deletions, extra columns and orders below the first level, too."""
    assert_redacted(drop[1], replace(CONTEXT, mapping=drop[0]), some)


@examples(40)
@given(st.sampled_from(sorted(DIMENSIONS)), st.data(), SOME)
def test_other_rows_are_not_changed(name: str, data: st.DataObject, some: int) -> None:
    """Separators, encodings, quotes over several lines, repeated headers."""
    dimension = DIMENSIONS[name]
    content = data.draw(csv_drops(name))
    try:
        before = csv.read(dimension, 0, content, CONTEXT)
    except Unreadable:
        return
    rows = [tuple(row) for row in csv.layout_of(dimension, content, CONTEXT).sheet.rows]
    chosen = {row for number, row in enumerate(rows) if some >> number & 1}
    gone = {position for position, row in enumerate(rows, 1) if row in chosen}
    found = without_rows_of(dimension, content, CONTEXT, lambda layout, row: tuple(row) in chosen)
    assert (found.positions if found else set()) == gone
    after = csv.read(dimension, 0, found.data if found else content, CONTEXT, refusing=False)
    kept = [number for number in range(1, len(rows) + 1) if number not in before.discards["position"].to_pylist()]
    assert after.rows.to_pylist() == [
        row for number, row in zip(kept, before.rows.to_pylist(), strict=True) if number not in gone
    ]
    assert [row["record"] for row in after.discards.to_pylist()] == [
        row["record"] for row in before.discards.to_pylist() if row["position"] not in gone
    ]


@pytest.mark.parametrize(
    "path", sorted((REPO / "tests" / "data" / "field").rglob("*.json*")), ids=lambda path: path.name
)
def test_each_record_of_files_as_tools_write_them_can_be_removed(path: Path) -> None:
    """One at a time."""
    data = unpacked(path.read_bytes(), compression_of(path.read_bytes()[:4]))
    if not parse([Piece(0, data, CONTEXT)]).unreadable:
        for number in range(6):
            assert_redacted(data, CONTEXT, 1 << number)


ORDER = b'{"order_id":"a","created_at":"2026-11-18"}'
OTHER = b'{"order_id":"b","created_at":"2026-11-18","amount":1.50}'


@pytest.mark.parametrize(("data", "expected"), [
    (b"[" + ORDER + b", " + OTHER + b"]", b"[ " + OTHER + b"]"),
    (b"[" + OTHER + b", " + ORDER + b"]\n", b"[" + OTHER + b"]\n"),
    (ORDER + b"\n" + OTHER + b"\n", OTHER + b"\n"),
    (OTHER + b"\r\n" + ORDER + b"\r\n", OTHER + b"\r\n"),
    (OTHER + b",\n" + ORDER + b"\n", OTHER + b"\n"),
    (b"\xef\xbb\xbf" + ORDER + OTHER, b"\xef\xbb\xbf" + OTHER),
    (b'{"next": null, "orders": [' + ORDER + b"," + OTHER + b"]}", b'{"next": null, "orders": [' + OTHER + b"]}"),
    (b'{"of": "a", "orders": [' + ORDER + b"," + OTHER + b"]}", b"[" + OTHER + b"]\n"),  # the envelope names it
    (b'{"orders": [' + ORDER + b'], "customer": {"name": "A"}}', b"[]\n"),  # the envelope may be about the same person
    (b'{"of":"A","data":[' + ORDER + b']}\n{"of":"B","data":[' + OTHER + b"]}\n", b"[" + OTHER + b"]\n"),  # of two customers
    (ORDER, b"[]\n"),
    (ORDER + b"\nnot json\n", b'{"orders":[]}\nnot json\n'),
    (b'{"order":' + ORDER + b'}\n{"order":' + OTHER + b"}\n", b"[" + OTHER + b"]\n"),
])  # fmt: skip
def test_what_a_drop_becomes(data: bytes, expected: bytes) -> None:
    """A record is cut out with its comma or its line, where the rest is still read in the same way."""
    ids = Ids(orders=frozenset({"a"}))
    found = without_records(
        data, CONTEXT, lambda record: ids.are_named(record, CONTEXT), lambda rest: not ids.are_words_of(rest)
    )
    assert found is not None and found.data == expected


def test_a_drop_that_cannot_be_rewritten_exactly_is_not_rewritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """A result that is read in another way is never taken."""
    monkeypatch.setattr(redaction, "_forms", lambda *_: iter([b"[]", b"{", OTHER + OTHER]))
    with pytest.raises(NotExact):
        without_records(b"[" + ORDER + b"," + OTHER + b"]", CONTEXT, lambda record: record == ORDER)


@pytest.mark.parametrize(("record", "is_named"), [
    (b'{"order_id":"1","created_at":"2026-11-18","user_id":"u_1"}', True),
    (b'{"order_id":"1","created_at":"2026-11-18","user_id":"u_2","note":"u_1"}', False),  # an order of somebody else
    (b'{"order_id":" o_1 ","created_at":"2026-11-18"}', True),
    (b'{"order_id":"\\u006f_1","created_at":"2026-11-18"}', True),
    (b'{"order_id":"o_1"}', True),
    (b'{"refund":{"of":["x","o_1"]}}', True),
    (b'{"u_1":{}}', True),
    (b'{"refund":{"of":["x","o_12"]}}', False),
    (b'{"refund":1234567}', True),
    (b'{"qty":77}', False),  # a short number is more often a quantity
    (b'{"order_id":77}', True),
    (b"name=x; user=u_1;", True),
    (b'{"user":"\\u0075_1",', True),
    (b'{"user":"u_1\\/x",', True),
    (b"name=x; user=u_12;", False),
])  # fmt: skip
def test_whom_a_record_names(record: bytes, is_named: bool) -> None:
    """An accepted record names its order and its user; one that was rejected, whatever is in it."""
    ids = Ids(frozenset({"u_1"}), frozenset({"o_1", "1234567", "77"}))
    assert ids.are_named(record, CONTEXT) is is_named


def test_ids_are_those_that_are_published() -> None:
    """With the prefix of a source and at the paths of its mapping. A deletion may name a user whom no column has."""
    mapping = FieldMapping(
        fields=(("order_id", ("id",)), ("user_id", ("customer.id",))), id_prefix="b-", deleted_path="state",
        deleted_values=('"gone"',),
    )  # fmt: skip
    context = replace(CONTEXT, mapping=mapping)
    record = b'{"id":7,"created_at":"2026-11-18","amount":1,"state":"gone","customer":{"id":5}}'
    assert Ids(users=frozenset({"b-5"})).are_named(record, context)
    assert not Ids(users=frozenset({"5"})).are_named(record, context)
    assert Ids(orders=frozenset({"b-7"})).are_named(record, context)
    assert Ids(orders=frozenset({"b-7"})).of(mapping) == {"b-7", "7"} and Ids(orders=frozenset({"7"})).of(DIRECT) == {
        "7"
    }
