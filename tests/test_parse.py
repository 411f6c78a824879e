"""The parse room: both lanes, against the model and against each other."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.batch.reading import _joined
from daemon.core.model import ParseContext, Parsed
from daemon.core.parse import discards as kept_records
from daemon.core.parse import parse as parse_room
from daemon.core.parse.discards import each, lines, slices
from daemon.core.parse.documents import Form, WrongCut, cut, first_pieces, split
from daemon.core.parse.parse import Piece, parse
from daemon.core.parse.reference import is_json
from daemon.core.parse.values import compact_json
from tests import model
from tests.model import Record
from tests.model import split as records_of
from tests.strategies import RECEIVED_AT_US, clean_drops, drops

CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)
SLOW = settings(deadline=None, max_examples=400, suppress_health_check=list(HealthCheck))


def rows(parsed: Parsed) -> list[dict]:
    return sorted(parsed.orders.to_pylist(), key=lambda row: (row["drop"], row["position"]))


def expected_row(position: int, order: model.Order) -> dict:
    def unscaled(value: Decimal | None) -> int | None:
        return None if value is None else int(value * 10_000)

    return {
        "position": position,
        "order_id": order.order_id,
        "created_at": order.created_at,
        "updated_at": order.updated_at,
        "user_id": order.user_id,
        "amount": unscaled(order.amount),
        "currency": order.currency,
        "metadata": order.metadata,
        "items": [{"sku": i.sku, "qty": unscaled(i.qty), "price": unscaled(i.price)} for i in order.items],
    }


def assert_as_model(data: bytes, *, reference_only: bool, records_path: str = "") -> None:
    parsed = parse([Piece(1, data, replace(CONTEXT, records_path=records_path))], reference_only=reference_only)
    try:
        orders, discards, faults = model.read_drop(data, received_at_us=RECEIVED_AT_US, records_path=records_path)
    except model.Unreadable as reason:
        assert 1 in parsed.unreadable, f"the model says: {reason}"
        return
    assert not parsed.unreadable, parsed.unreadable
    found = [{k: v for k, v in row.items() if k not in ("key", "content", "drop")} for row in rows(parsed)]
    assert found == [expected_row(position, order) for position, order in orders]
    assert [(d.position, str(d.reason)) for d in each(parsed.discards)] == [(d.position, d.reason) for d in discards]
    tally = parsed.tallies[1]
    assert tally.extracted == len(orders) + len(discards)
    assert dict(tally.faults) == {k: v for k, v in faults.items() if v}


@SLOW
@given(drops())
def test_fast_lane_reads_as_the_model(data: bytes) -> None:
    """Whatever the bytes, both lanes together read them as the slow model does: rows, discards, faults, quarantine."""
    assert_as_model(data, reference_only=False)


@SLOW
@given(drops())
def test_strict_lane_reads_as_the_model(data: bytes) -> None:
    """The strict lane alone gives the same."""
    assert_as_model(data, reference_only=True)


@SLOW
@given(drops(), st.booleans(), st.sampled_from(["orders", "a.b"]))
def test_with_a_records_path_drops_are_read_as_the_model_says(data: bytes, reference_only: bool, path: str) -> None:
    """Whatever the bytes: only where envelopes have their records is another place."""
    assert_as_model(data, reference_only=reference_only, records_path=path)


ONE = b'{"order_id":"a","created_at":"2026-11-18"}'


@pytest.mark.parametrize(
    ("data", "ids"),
    [
        (ONE, ["a"]),
        (ONE + b"\n", ["a"]),
        (ONE + b"\n" + ONE.replace(b'"a"', b'"b"') + b"\n", ["a", "b"]),
        (b"[" + ONE + b"]", ["a"]),
        (b"[" + b",".join([ONE] * 3) + b"]", ["a", "a", "a"]),
        (b'{"payload":{"orders":[' + ONE + b"]}}", ["a"]),
        (b'{"order_id":"c","created_at":"2026-11-18","payload":{"orders":[' + ONE + b"]}}", ["c"]),
        (b'{"orders":[' + ONE + b"]}", None),
        (b'{"payload":{"orders":{}}}', []),
        (b'{"payload":{"orders":7}}', None),
    ],
)
@pytest.mark.parametrize("reference_only", [False, True])
def test_a_records_path_concerns_envelopes_alone(data: bytes, ids: list[str] | None, reference_only: bool) -> None:
    """A poller that writes lines loses nothing where a drop happens to have one line."""
    parsed = parse([Piece(1, data, replace(CONTEXT, records_path="payload.orders"))], reference_only=reference_only)
    assert (None if parsed.unreadable else [row["order_id"] for row in rows(parsed)]) == ids
    assert_as_model(data, reference_only=reference_only, records_path="payload.orders")


@SLOW
@given(st.lists(clean_drops() | drops(), min_size=1, max_size=6))
def test_drops_read_together_are_read_as_alone(many: list[bytes]) -> None:
    """Reading drops in one task gives each of them what it gets alone."""
    together = parse([Piece(number, data, CONTEXT) for number, data in enumerate(many, 1)])
    alone = [parse([Piece(number, data, CONTEXT)]) for number, data in enumerate(many, 1)]
    assert rows(together) == [row for one in alone for row in rows(one)]
    assert together.tallies == {drop: tally for one in alone for drop, tally in one.tallies.items()}
    assert together.unreadable.keys() == {drop for one in alone for drop in one.unreadable}


@SLOW
@given(drops(), st.integers(1, 400))
def test_a_cut_drop_is_read_as_a_whole_one(data: bytes, target_bytes: int) -> None:
    """However a drop is cut into pieces, its records and their order are the same; or the cut is found to be wrong."""
    whole = parse([Piece(1, data, CONTEXT)])
    try:
        parts = [parse([Piece(1, data[a:b], CONTEXT, form)]) for a, b, form in cut(data, target_bytes)]
    except WrongCut:
        return
    joined = _joined(parts, {})
    assert joined.unreadable.keys() == whole.unreadable.keys()
    assert rows(joined) == rows(whole)
    assert list(each(joined.discards)) == list(each(whole.discards))


def line_of(drop: int, position: int, reason: str, record: Record) -> str:
    """What is kept of a discard, said once more: the record as it was written where it is JSON, else its text."""
    value = compact_json(record.text) if is_json(record.text.encode()) else json.dumps(record.text, ensure_ascii=False)
    return f'{{"drop":{drop},"position":{position},"reason":"{reason}","record":{value}}}\n'


@pytest.mark.parametrize("reference_only", [False, True])
@SLOW
@given(data=drops())
def test_of_each_discard_a_line_of_json_is_kept(reference_only: bool, data: bytes) -> None:
    """To the byte, by either parser."""
    parsed = parse([Piece(7, data, CONTEXT)], reference_only=reference_only)
    if not parsed.unreadable:
        records = {record.position: record for record in records_of(data)}
        expected = [line_of(7, d.position, d.reason, records[d.position]) for d in each(parsed.discards)]
        assert b"".join(lines(rows) for _, rows in slices(parsed.discards)).decode() == "".join(expected)


@SLOW
@given(st.lists(clean_drops() | drops(), min_size=1, max_size=4), st.integers(1, 5))
def test_records_are_read_alike_however_many_are_looked_at_together(many: list[bytes], together: int) -> None:
    """Junk is read a bounded number of records at a time, and its discards travel and are written so."""
    pieces = [Piece(number, data, CONTEXT) for number, data in enumerate(many, 1)]
    at_once = parse(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parse_room, "_BLOCK_RECORDS", together)
        for name in ("_CHUNK_ROWS", "_SLICE_ROWS", "_SLICE_BYTES"):
            patch.setattr(kept_records, name, together)
        divided = parse(pieces)
        sliced = [(drop, bytes(lines(found))) for drop, found in slices(divided.discards)]
    assert (rows(divided), divided.tallies, divided.unreadable) == (rows(at_once), at_once.tallies, at_once.unreadable)
    assert list(each(divided.discards)) == list(each(at_once.discards))
    assert b"".join(line for _, line in sliced) == b"".join(lines(found) for _, found in slices(at_once.discards))
    assert all(json.loads(line)["drop"] == drop for drop, some in sliced for line in some.splitlines())


def test_an_array_of_values_too_small_to_be_orders_is_read_as_lines_of_them() -> None:
    """What the fast lane writes of a value takes more than such a value; so they are found first, and read a block at a time."""
    values = [b"{}", b'{"order_id":"a","created_at":"2026-11-18"}', *[b"1", b"7"] * 50_000]
    of_array, of_lines = (parse([Piece(1, d, CONTEXT)]) for d in (b"[" + b",".join(values) + b"]", b"\n".join(values)))
    assert split(b"[" + b",".join(values) + b"]", scan=True).scanned is None
    assert of_array.discards.equals(of_lines.discards) and of_array.discards.num_rows == 100_001
    assert rows(of_array) == rows(of_lines) and of_array.tallies == of_lines.tallies


@SLOW
@given(drops(), st.integers(1, 400), st.data())
def test_the_beginning_of_a_drop_is_cut_as_all_of_it(data: bytes, target_bytes: int, choice: st.DataObject) -> None:
    """What is read while a drop is still being copied are pieces of the whole one, the first of them; none is made up."""
    begun = first_pieces(data[: choice.draw(st.integers(0, len(data)))], target_bytes)
    pieces = cut(data, target_bytes)
    if pieces[0][2] is not Form.WHOLE:  # a drop may turn out at its end to be no array after all
        assert begun == pieces[: len(begun)]


@pytest.mark.parametrize(
    ("cause", "data"),
    [
        ("empty", b" \n "),
        ("truncated", b'[{"order_id": 1}, {"ord'),
        ("truncated", b'[\n{"order_id": 1},\n{"order_id": 2}\n'),
        ("HTML", b"<html><body>502</body></html>"),
        ("UTF-16", '[{"order_id": 1}]'.encode("utf-16")),
        ("damaged", b'[\n{"order_id": 1},\n{"order_id": 2}\n]\nx'),
        ("one JSON value", b"null"),
        ("error message", b'{"error": "rate limit", "code": 429}'),
        ("nested", b'[{"a": ' + b"[" * 600 + b"]" * 600 + b"}]"),
        ("nested", b"[" * 1_000_000),
        ("not JSON", b"hello\nworld"),
    ],
)
def test_a_drop_that_cannot_be_read_says_why(cause: str, data: bytes) -> None:
    """The reason in quarantine names what is wrong, for a person."""
    assert cause in parse([Piece(1, data, CONTEXT)]).unreadable[1]


def test_depth_is_a_records_own() -> None:
    """A record at the limit of depth is kept in an envelope too, whichever splitter has to open that (a lone surrogate
    makes it the strict one)."""
    deep = b'{"order_id":"a","created_at":"2026-11-18","metadata":' + b"[" * 511 + b"]" * 511 + b"}"
    other = b'{"order_id":"b","created_at":"2026-11-18","currency":"\\ud800"}'
    parsed = parse([Piece(1, b'{"orders":[' + deep + b"," + other + b"]}", CONTEXT)])
    assert not parsed.unreadable and [row["order_id"] for row in rows(parsed)] == ["a", "b"]


@pytest.mark.parametrize("reference_only", [False, True])
@pytest.mark.parametrize("begin", ['[{"a":"', '{"order_id":1}\n{"a":"', '{"\\u006{":"', '{"a":"\\ud83d'])
def test_a_text_that_ends_within_an_escape_is_cut_short_unless_it_was_wrong_before(
    begin: str, reference_only: bool
) -> None:
    """At every character. (Found by fuzzing: a wrong escape anywhere, and half of one at the end.)"""
    text = begin + '\\u0041\\ud83d\\ude00\\n"}\n{"order_id":2,"x":"\\u00'
    for end in range(len(begin), len(text) + 1):
        assert_as_model(text[:end].encode(), reference_only=reference_only)
