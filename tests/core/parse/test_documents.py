"""Where records begin and end: drops that are cut into pieces, whole or while they are copied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.reading import _joined
from daemon.core.errors import Unreadable
from daemon.core.parse import documents
from daemon.core.parse.discards import each
from daemon.core.parse.documents import Form, WrongCut, cut, first_pieces, refuse_damaged_beginning, split
from daemon.core.parse.parse import Piece, parse
from tests.strategies import drops
from tests.support.as_model import CONTEXT, assert_as_model, orders_of
from tests.support.examples import examples

SLOW = examples(400)


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
    assert orders_of(joined) == orders_of(whole)
    assert list(each(joined.discards)) == list(each(whole.discards))


def test_a_large_drop_with_a_damaged_beginning_is_refused_for_that() -> None:
    """Not because a worker has too little memory to read it as one document."""
    lines = b"{broken\n" + b'{"order_id":"a","created_at":"2026-11-18"}\n' * 10
    for refuse in (refuse_damaged_beginning, split):
        with pytest.raises(
            Unreadable, match=r"damaged JSON document, not lines of records: a key .* \(line 1, column 2\)"
        ):
            refuse(lines)
    refuse_damaged_beginning(b'{"orders":[\n' + b",\n".join([b'{"order_id":"a"}'] * 10))


@SLOW
@given(drops(), st.integers(1, 400))
def test_what_is_refused_for_its_beginning_is_refused_as_a_whole(data: bytes, size: int) -> None:
    """The reason may differ: the whole drop may also be refused for what follows, such as bytes that are not UTF-8."""
    if len(data) > size and cut(data, size)[0][2] is Form.WHOLE:
        try:
            refuse_damaged_beginning(data[:size])
        except Unreadable:
            assert parse([Piece(1, data, CONTEXT)]).unreadable


def test_an_array_of_values_too_small_to_be_orders_is_read_as_lines_of_them() -> None:
    """What the fast lane writes of a value takes more than such a value; so they are found first, and read a block at a time."""
    values = [b"{}", b'{"order_id":"a","created_at":"2026-11-18"}', *[b"1", b"7"] * 50_000]
    of_array, of_lines = (parse([Piece(1, d, CONTEXT)]) for d in (b"[" + b",".join(values) + b"]", b"\n".join(values)))
    assert split(b"[" + b",".join(values) + b"]", scan=True).scanned is None
    assert of_array.discards.equals(of_lines.discards) and of_array.discards.num_rows == 100_001
    assert orders_of(of_array) == orders_of(of_lines) and of_array.tallies == of_lines.tallies


@SLOW
@given(drops(), st.integers(1, 400), st.data())
def test_the_beginning_of_a_drop_is_cut_as_all_of_it(data: bytes, target_bytes: int, choice: st.DataObject) -> None:
    """What is read while a drop is still being copied are pieces of the whole one, the first of them; none is made up."""
    begun = first_pieces(data[: choice.draw(st.integers(0, len(data)))], target_bytes)
    pieces = cut(data, target_bytes)
    if pieces[0][2] is not Form.WHOLE:  # a drop may turn out at its end to be no array after all
        assert begun == pieces[: len(begun)]


@SLOW
@given(drops(), st.integers(1, 400), st.integers(1, 60))
def test_a_seam_is_found_however_much_is_looked_at_first(data: bytes, target_bytes: int, first: int) -> None:
    pieces = cut(data, target_bytes)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(documents, "_SEAM_BYTES", first)
        assert cut(data, target_bytes) == pieces


def test_depth_is_a_records_own() -> None:
    """A record at the limit of depth is kept in an envelope too, whichever splitter has to open that (a lone surrogate
    makes it the strict one)."""
    deep = b'{"order_id":"a","created_at":"2026-11-18","metadata":' + b"[" * 511 + b"]" * 511 + b"}"
    other = b'{"order_id":"b","created_at":"2026-11-18","currency":"\\ud800"}'
    parsed = parse([Piece(1, b'{"orders":[' + deep + b"," + other + b"]}", CONTEXT)])
    assert not parsed.unreadable and [row["order_id"] for row in orders_of(parsed)] == ["a", "b"]


@pytest.mark.parametrize("reference_only", [False, True])
@pytest.mark.parametrize("begin", ['[{"a":"', '{"order_id":1}\n{"a":"', '{"\\u006{":"', '{"a":"\\ud83d'])
def test_a_text_that_ends_within_an_escape_is_cut_short_unless_it_was_wrong_before(
    begin: str, reference_only: bool
) -> None:
    """At every character. (Found by fuzzing: a wrong escape anywhere, and half of one at the end.)"""
    text = begin + '\\u0041\\ud83d\\ude00\\n"}\n{"order_id":2,"x":"\\u00'
    for end in range(len(begin), len(text) + 1):
        assert_as_model(text[:end].encode(), reference_only=reference_only)
