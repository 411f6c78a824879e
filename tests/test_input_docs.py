"""docs/INPUT.md is held against the code: every row of its table of bad input, by an example."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.core.model import Field, Judge, Reason
from daemon.core.parse import Piece, parse
from tests.strategies import RECEIVED_AT_US

DOCS = Path(__file__).resolve().parents[1] / "docs" / "INPUT.md"
JUDGE = Judge(RECEIVED_AT_US, 86_400_000_000)
TABLE = DOCS.read_text(encoding="utf-8").split("## What bad input gets")[1]
ROWS = {
    cells[0]: tuple(cells[1].split(": "))
    for line in TABLE.splitlines()
    if len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 2
    and not set(cells[0]) <= {"-"}
    and cells[0] != "input"
}


def with_field(field: str) -> bytes:
    return b'[{"order_id":"a","created_at":"2026-11-18",' + field.encode() + b"}]"


GOOD = b'{"order_id":"good","created_at":"2026-11-18"}\n'
EXAMPLES = {
    "empty file": b"\n",
    "truncated document": b'{"data":[{"order_id":"a"},',
    "damaged array": b'[\n{"order_id":"a"},\n{"order_id":"b"}\n]\ngarbage',
    "HTML page": b"<!DOCTYPE html><p>502",
    "UTF-16": '[{"order_id":"a"}]'.encode("utf-16"),
    "`null`, or any one value that is no object and no array": b"null",
    "API error object": b'{"error":"rate limit"}',
    "no line is an object": b"1\n2\n",
    "nested more than 512 levels": b'[{"order_id":"a","x":' + b"[" * 512 + b"]" * 512 + b"}]",
    "line that is no JSON": GOOD + b'{"order_id":"a",}\n',
    "line that is not UTF-8": GOOD + b'{"order_id":"\xff"}\n',
    "record that is no object": b"[[1]]",
    "no `order_id`, null or blank": b'[{"order_id":" "}]',
    "`order_id` 1.5, true, a list, or too long": b'[{"order_id":1.5}]',
    "no `created_at`, null or blank": b'[{"order_id":"a"}]',
    "`created_at` 2026-02-30, or before 1970": b'[{"order_id":"a","created_at":"2026-02-30"}]',
    "`created_at` far in the future": b'[{"order_id":"a","created_at":"2999-01-01"}]',
    "`user_id` a list": with_field('"user_id":[1]'),
    "`amount` NaN text, hex, with underscores, or out of range": with_field('"amount":"1_000"'),
    "`currency` true": with_field('"currency":true'),
    "`updated_at` far in the future": with_field('"updated_at":"2999-01-01"'),
    "`items` a text": with_field('"items":"none"'),
    "item that is no object": with_field('"items":[7]'),
    "`sku` 1.5": with_field('"items":[{"sku":1.5}]'),
    "`qty` true": with_field('"items":[{"qty":true}]'),
    "`price` a text with a comma": with_field('"items":[{"price":"1,50"}]'),
    "`metadata` over 65,535 bytes": with_field('"metadata":"' + "x" * 65_534 + '"'),
    "lone surrogate in `currency`": with_field('"currency":"\\ud800"'),
}


def test_every_row_has_an_example() -> None:
    """Neither a row without an example nor an example without a row."""
    assert EXAMPLES.keys() == ROWS.keys()


@pytest.mark.parametrize("strict_only", [False, True])
@pytest.mark.parametrize("row", EXAMPLES)
def test_bad_input_gets_what_the_table_says(row: str, strict_only: bool) -> None:
    """Each example gets the documented outcome, in either lane, and costs nothing else."""
    kind, what = ROWS[row]
    parsed = parse([Piece(1, EXAMPLES[row], JUDGE)], strict_only=strict_only)
    if kind == "quarantine":
        assert what in parsed.unreadable[1]
    elif kind == "discard":
        assert [str(discard.reason) for discard in parsed.discards] == [what]
    else:
        assert kind == "fault" and dict(parsed.tallies[1].faults) == {what: 1}
        assert parsed.orders.num_rows == 1


def test_every_reason_and_fault_is_in_the_table() -> None:
    """What the code can say, the page says; and the reverse."""
    assert {what for kind, what in ROWS.values() if kind == "discard"} == {str(reason) for reason in Reason}
    assert {what for kind, what in ROWS.values() if kind == "fault"} == {str(field) for field in Field}
