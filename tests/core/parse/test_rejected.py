"""Why a record was discarded, in words: the value and the place that a person finds in the file."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.mapping import DIRECT, FieldMapping
from daemon.core.model import DIMENSIONS, Discard, ParseContext, Reason
from daemon.core.parse import csv
from daemon.core.parse.discards import each
from daemon.core.parse.parse import Piece, parse
from daemon.core.parse.rejected import cause, lines_of
from daemon.sources.mapping_settings import mapping_of
from tests import strategies
from tests.strategies import RECEIVED_AT_US
from tests.support.examples import examples

GOOD = b'{"order_id":"o","created_at":"2026-03-02T10:00:00Z"}'
DAY_US = 86_400_000_000


def context(mapping: FieldMapping = DIRECT) -> ParseContext:
    return ParseContext(RECEIVED_AT_US, DAY_US, mapping=mapping)


def discards_of(data: bytes, mapping: FieldMapping = DIRECT) -> list[Discard]:
    return list(each(parse([Piece(1, data, context(mapping))], refusing=False).discards))


def why(record: bytes, mapping: FieldMapping = DIRECT) -> tuple[str, str]:
    """The reason and the cause of the one record that is discarded, with others around it."""
    (one,) = (one for one in discards_of(GOOD + b"\n" + record + b"\n" + GOOD, mapping) if one.position == 2)
    return str(one.reason), cause(one, context(mapping))


@pytest.mark.parametrize(
    ("record", "reason", "said"),
    [
        (b'{"order_id":"o","items":[{"sku":"p"}', "malformed_record",
         "a comma or a closing bracket is missing (column 37 of the record)"),
        (b'{"order_id":"o" "created_at":1}', "malformed_record",
         "a comma or a closing bracket is missing (column 17 of the record)"),
        (b'{"order_id":tru}', "malformed_record", "a value is missing (column 13 of the record)"),
        (b'{"order_id":"\xff","created_at":1}', "malformed_record", "it has bytes that are not UTF-8 (column 14 of the record)"),
        (b'{"a":' + b"[" * 600 + b"]" * 600 + b"}", "malformed_record", "nested more than 512 levels deep"),
        (b'"text"', "not_an_object", "it is a text, and not an object"),
        (b"7", "not_an_object", "it is a number, and not an object"),
        (b"9" * 5_000, "not_an_object", "it is a number, and not an object"),
        (b"NaN", "not_an_object", "it is a number, and not an object"),
        (b'{"created_at":"2026-03-02"}', "missing_order_id", "there is no value at order_id"),
        (b'{"order_id":" ","created_at":"2026-03-02"}', "missing_order_id", "there is no value at order_id"),
        (b'{"order_id":1.5,"created_at":"2026-03-02"}', "invalid_order_id", "order_id is 1.5, which cannot be read as an id"),
        (
            b'{"order_id":"1.23457E+12","created_at":"2026-03-02"}', "invalid_order_id",
            'order_id is "1.23457E+12", which a spreadsheet has shortened: its other digits are lost',
        ),
        (b'{"order_id":"o"}', "missing_created_at", "there is no value at created_at"),
        (b'{"order_id":"o","created_at":null}', "missing_created_at", "there is no value at created_at"),
        (
            b'{"order_id":"o","created_at":"yesterday"}', "invalid_created_at",
            'created_at is "yesterday", which cannot be read as an instant',
        ),
        (
            b'{"order_id":"o","created_at":"2999-01-01"}', "future_created_at",
            'created_at is "2999-01-01", which is later than 2026-11-21T12:00:00Z, the latest that is accepted',
        ),
    ],
)  # fmt: skip
def test_each_reason_says_what_and_where(record: bytes, reason: str, said: str) -> None:
    assert why(record) == (reason, said)


def test_a_mapped_field_is_named_by_its_path() -> None:
    """All paths where it could be, if it is at none."""
    shop = mapping_of({"preset": "shopify"}, "here")[1]
    assert why(b'{"id":5,"created_at":"today"}', shop) == (
        "invalid_created_at", 'created_at is "today", which cannot be read as an instant',
    )  # fmt: skip
    woo = mapping_of({"preset": "woocommerce"}, "here")[1]
    reason, said = why(b'{"id":5}', woo)
    assert reason == "missing_created_at" and said.startswith("there is no value at date_created_gmt")


def test_a_long_value_is_cut() -> None:
    reason, said = why(b'{"order_id":"' + b"x" * 300 + b'","created_at":"2026-03-02"}')
    assert reason == "invalid_order_id" and len(said) < 140 and '"xxx' in said
    assert said.endswith("xxx…, which has more than 256 bytes")


def test_rows_say_what_is_wrong_with_their_key() -> None:
    data = f"user_id,email\nu0,a\nu1,a,b\n,a\n{'u' * 257},a\n1.23E+12,a\n".encode()
    found = list(each(csv.read(DIMENSIONS["user"], 1, data, context()).discards))
    assert [(one.reason, cause(one, context(), is_row=True)) for one in found] == [
        (Reason.MALFORMED_RECORD, "the row has 3 cells, more than the header, and which are too many is unknown"),
        (Reason.MISSING_KEY, "the cell of its key is empty"),
        (Reason.INVALID_KEY, "its key has more than 256 bytes"),
        (Reason.SHORTENED_KEY, "a spreadsheet has shortened its key, and the digits are lost"),
    ]
    assert cause(found[1], context(), is_row=True, line=4) == "the cell of its key is empty (line 4)"


def test_what_was_erased_says_so() -> None:
    found = cause(Discard(1, 1, Reason.BLOCKED, GOOD.decode()), context())
    assert found == "its user or its order was erased, and what was erased does not come back"


def test_a_line_is_counted_as_an_editor_does() -> None:
    """With empty lines; a line that is not the record has no number."""
    data = GOOD + b"\n\n  \r\n" + b'{"order_id":\r\n' + GOOD + b"\n" + b"oops"
    found = discards_of(data)
    assert [one.position for one in found] == [2, 4]
    assert lines_of(data.splitlines(keepends=True), found) == {2: 4, 4: 6}
    assert cause(found[1], context(), line=6) == "a value is missing (line 6, column 1)"
    assert lines_of(b"\n".join([GOOD] * 9).splitlines(), found) == {}


@examples(150)
@given(strategies.drops())
def test_every_discard_has_a_cause(data: bytes) -> None:
    """One printable line."""
    for one in discards_of(data):
        said = cause(one, context())
        assert said, one
        assert "\n" not in said and len(said) < 300


@examples(150)
@given(
    st.lists(st.one_of(st.just(GOOD), strategies.malformed_lines(), st.sampled_from([b"", b" ", b"\t"])), max_size=12)
)
def test_each_malformed_line_has_its_number(lines: list[bytes]) -> None:
    """Those that are kept as they are: a record that is JSON, and deep or not UTF-8, is kept without its white space."""
    data = b"\n".join(lines)
    if parse([Piece(1, data, context())]).unreadable:
        return
    found = [one for one in discards_of(data) if one.reason is Reason.MALFORMED_RECORD and one.record.startswith('"')]
    numbers = lines_of(data.split(b"\n"), found)
    if len(parse([Piece(1, data, context())]).orders) + len(discards_of(data)) == sum(
        bool(line.strip()) for line in lines
    ):
        assert len(numbers) == len(found)  # no line has several records
    for one in (one for one in found if one.position in numbers):
        text = data.split(b"\n")[numbers[one.position] - 1].decode(errors="replace")
        assert text.strip(" \t\n\r\x0b\x0c") == json.loads(one.record)
