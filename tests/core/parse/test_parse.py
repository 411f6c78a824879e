"""Both parsers, against the model and against each other."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.core.parse import discards as kept_records
from daemon.core.parse import parse as parse_room
from daemon.core.parse.discards import each, lines, slices
from daemon.core.parse.parse import Piece, parse
from tests.strategies import clean_drops, drops
from tests.support.as_model import CONTEXT, assert_as_model, orders_of
from tests.support.examples import examples

SLOW = examples(200)


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
    assert (None if parsed.unreadable else [row["order_id"] for row in orders_of(parsed)]) == ids
    assert_as_model(data, reference_only=reference_only, records_path="payload.orders")


@SLOW
@example([b'{"order_id":"a","items":[]}\n{"order_id":"b"}', b'{"order_id":"c","items":[{}]}\n{"order_id":"\t"}\n'])
@given(st.lists(clean_drops() | drops(), min_size=1, max_size=6))
def test_drops_read_together_are_read_as_alone(many: list[bytes]) -> None:
    """Reading drops in one task gives each of them what it gets alone."""
    together = parse([Piece(number, data, CONTEXT) for number, data in enumerate(many, 1)])
    alone = [parse([Piece(number, data, CONTEXT)]) for number, data in enumerate(many, 1)]
    assert orders_of(together) == [row for one in alone for row in orders_of(one)]
    assert together.tallies == {drop: tally for one in alone for drop, tally in one.tallies.items()}
    assert together.unreadable.keys() == {drop for one in alone for drop in one.unreadable}


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
    assert (orders_of(divided), divided.tallies, divided.unreadable) == (
        orders_of(at_once),
        at_once.tallies,
        at_once.unreadable,
    )
    assert list(each(divided.discards)) == list(each(at_once.discards))
    assert b"".join(line for _, line in sliced) == b"".join(lines(found) for _, found in slices(at_once.discards))
    assert all(json.loads(line)["drop"] == drop for drop, some in sliced for line in some.splitlines())


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
