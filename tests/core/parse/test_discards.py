"""What is kept of a discard: a line of JSON, in bounded portions."""

from __future__ import annotations

import json

import pytest
from hypothesis import given

from daemon.core.parse.discards import each, lines, of_line, slices
from daemon.core.parse.parse import Piece, parse
from daemon.core.parse.reference import is_json
from daemon.core.parse.values import compact_json
from tests.model import Record
from tests.model import split as records_of
from tests.strategies import drops
from tests.support.as_model import CONTEXT
from tests.support.examples import examples

SLOW = examples(400)


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
        kept = b"".join(lines(rows) for _, rows in slices(parsed.discards))
        assert kept.decode() == "".join(expected)
        assert [of_line(line) for line in kept.splitlines(keepends=True)] == list(each(parsed.discards))


def test_a_damaged_line_is_no_discard() -> None:
    line = b'{"drop":1,"position":2,"reason":"malformed_record","record":"x"}\n'
    assert of_line(line) is not None
    assert [of_line(one) for one in (line[1:], line[:-1], line.replace(b"malformed", b"unheard_of"), b"")] == [None] * 4
