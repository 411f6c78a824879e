"""Users and products: rows of CSV, against a plain model of cells, and bad files."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import Unreadable
from daemon.core.model import DIMENSIONS, ParseContext
from daemon.core.parse.csv import read, upsert
from daemon.core.parse.discards import each
from tests.csv_model import csv_drops, expected_rows
from tests.strategies import RECEIVED_AT_US
from tests.support.examples import examples

CONTEXT = ParseContext(RECEIVED_AT_US, 86_400_000_000)


SLOW = examples(100)


def table_rows(table: Any) -> list[tuple[object, ...]]:
    plain = [column.cast("int64") if "timestamp" in str(column.type) else column for column in table.columns]
    return list(zip(*(column.to_pylist() for column in plain), strict=True))


@SLOW
@given(st.sampled_from(["user", "product"]).flatmap(lambda name: st.tuples(st.just(name), csv_drops(name))))
def test_each_row_is_read_as_the_contract_says(drop: tuple[str, bytes]) -> None:
    """Cells, discards with their positions, and faults are those of the plain reading."""
    name, data = drop
    found = read(DIMENSIONS[name], 7, data, CONTEXT)
    expected, faults = expected_rows(name, data)
    assert table_rows(found.rows) == [one[1] for one in expected if not isinstance(one, str)]
    assert [(d.drop, d.position, str(d.reason)) for d in each(found.discards)] == [
        (7, place, one) for place, one in enumerate(expected, 1) if isinstance(one, str)
    ]
    assert found.tally.extracted == len(expected) and dict(found.tally.faults) == dict(faults)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"email,country\na@b,DE\n", "no column user_id"),
        (b"user_id;country\na;DE\n", "separated by commas"),
        (b"user_id,country,user_id\na,DE,b\n", "user_id twice"),
        (b'user_id,country\na,"DE\nb,FR\n', "is not CSV"),
        (b"user_id\n\xff\n", "not UTF-8"),
        ("user_id\nb\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_unreadable(content: bytes, why: str) -> None:
    """The reason names what is wrong, and nothing of the rows."""
    with pytest.raises(Unreadable, match=why) as caught:
        read(DIMENSIONS["user"], 1, content, CONTEXT)
    assert "a@b" not in str(caught.value)


def test_upsert_of_nothing_changes_nothing() -> None:
    """No rows in, no new table."""
    empty = DIMENSIONS["user"].schema.empty_table()
    assert upsert(DIMENSIONS["user"], None, empty).table is None


def test_lines_of_white_space_are_blank() -> None:
    """As in a drop of orders: they do not count, and rows keep their numbers."""
    data = b" \nuser_id,email\n   \na,x\n\t\n,y\n \r\n"
    found = read(DIMENSIONS["user"], 1, data, ParseContext(RECEIVED_AT_US, 0))
    assert (found.tally.extracted, found.rows["user_id"].to_pylist()) == (2, ["a"])
    assert found.discards["position"].to_pylist() == [2]
