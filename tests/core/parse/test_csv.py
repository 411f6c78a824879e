"""Users and products: rows of CSV, against a plain model of cells, and bad files."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import Unreadable
from daemon.core.mapping import FieldMapping
from daemon.core.model import DIMENSIONS, ParseContext
from daemon.core.parse.advice import for_source
from daemon.core.parse.csv import lines_of_rows, read, upsert
from daemon.core.parse.csv_text import read_sheet
from daemon.core.parse.discards import each
from tests import model
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
    try:
        expected, faults = expected_rows(name, data)
    except model.Unreadable:
        with pytest.raises(Unreadable, match=r"none of its|names columns again|over several lines|another separator"):
            read(DIMENSIONS[name], 7, data, CONTEXT)
        return
    found = read(DIMENSIONS[name], 7, data, CONTEXT)
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
        (b"user_id|country\na@b|DE\n", r"separated by \|"),
        (b"sep=|\nuser_id|country\na@b|DE\n", r"separated by \|"),
        (b"user_id,country,user_id\na,DE,b\n", "user_id twice"),
        (b'user_id,country\na,"DE\nb,FR\n', "is not CSV"),
        (b"user_id\n\xff\n", 'not UTF-8 .* encoding = "cp1252"'),
        (b"\xef\xbb\xbfuser_id\n\xff\n", "not UTF-8"),
        ("user_id\nb\n".encode("utf-16-le"), "UTF-16"),
        ("user_id\nb\n".encode("utf-32"), "UTF-32"),
        ("user_id\nb\n".encode("utf-16")[:-1], "begins as UTF-16 and is damaged"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_unreadable(content: bytes, why: str) -> None:
    """The reason names what is wrong, and nothing of the rows."""
    with pytest.raises(Unreadable, match=why) as caught:
        read(DIMENSIONS["user"], 1, content, CONTEXT)
    assert "a@b" not in str(caught.value)


CP1252 = replace(CONTEXT, mapping=FieldMapping(encoding="cp1252"))


@examples(60)
@given(st.text(st.sampled_from("aé€ß„\x81\x9d,"), max_size=8))
def test_what_is_not_utf_8_is_read_as_cp1252_where_the_source_says_so(text: str) -> None:
    """As the same text in UTF-8; the five bytes that cp1252 does not use make it unreadable."""
    text = f'user_id,email\n1,"{text}"\n'
    used = "\x81" not in text and "\x9d" not in text
    data = text.encode("cp1252") if used else text.encode("latin-1", "ignore")
    try:
        data.decode()
    except UnicodeDecodeError:
        if used:
            assert (
                read(DIMENSIONS["user"], 1, data, CP1252).rows
                == read(DIMENSIONS["user"], 1, text.encode(), CP1252).rows
            )
        else:
            with pytest.raises(Unreadable, match=r"neither UTF-8 .* nor cp1252, which does not use the byte (81|9D)"):
                read(DIMENSIONS["user"], 1, data, CP1252)
        with pytest.raises(Unreadable, match="not UTF-8"):
            read(DIMENSIONS["user"], 1, data, CONTEXT)
    else:
        assert read(DIMENSIONS["user"], 1, data, CP1252).rows == read(DIMENSIONS["user"], 1, data, CONTEXT).rows


OWN = FieldMapping(
    users=(("country", ()), ("email", ("Mail", "E-Mail")), ("user_id", ("Kunden-Nr.",))),
    products=(("sku", (" Artikel ",)),),
)


@pytest.mark.parametrize(
    ("name", "content", "rows"),
    [
        ("user", b"E-Mail;kunden-nr.\nx;1\n", [("1", "x", None, None)]),
        ("user", b"E-Mail,MAIL,Kunden-Nr.,country,user_id\nx,y,1,DE,2\n", [("1", "y", None, None)]),
        ("user", b"Kunden-Nr.\tcreated_at\n1\t1970-01-02\n", [("1", None, 86_400_000_000, None)]),
        ("product", b"name;ARTIKEL\nx;1\n", [("1", "x", None, None)]),
    ],
)
def test_a_source_may_name_the_columns(name: str, content: bytes, rows: list[tuple[object, ...]]) -> None:
    """The first name that the header has counts; a field without a name of its own has its usual one, and one with none is not
    read."""
    assert table_rows(read(DIMENSIONS[name], 1, content, replace(CONTEXT, mapping=OWN)).rows) == rows


def test_a_key_column_of_the_sources_own_is_asked_for_by_its_name() -> None:
    """The usual name does not stand in for it."""
    with pytest.raises(
        Unreadable, match=r"no column kunden-nr\.; .* of users names kunden-nr\., mail, created_at, separated by"
    ):
        read(DIMENSIONS["user"], 1, b"user_id,email\n1,x\n", replace(CONTEXT, mapping=OWN))
    with pytest.raises(Unreadable, match=r"column e-mail twice"):
        read(DIMENSIONS["user"], 1, b"Kunden-Nr.,E-Mail,e-mail\n1,x,y\n", replace(CONTEXT, mapping=OWN))


def test_users_have_the_prefix_of_their_source() -> None:
    """As the orders have that refer to them; products have none there either."""
    mapped = replace(CONTEXT, mapping=FieldMapping(id_prefix="de-"))
    rows = b"user_id,sku\n17,17\n 1.23E+12,1\n" + b"k" * 254 + b",2\n,3\n"
    users = read(DIMENSIONS["user"], 1, rows, mapped)
    assert [row[0] for row in table_rows(users.rows)] == ["de-17"]
    assert dict(users.tally.discarded) == {"shortened_key": 1, "invalid_key": 1, "missing_key": 1}
    assert [row[0] for row in table_rows(read(DIMENSIONS["product"], 1, rows, mapped).rows)] == ["17", "1", "2", "3"]


def test_users_are_in_the_time_zone_of_their_source() -> None:
    """An instant that names no zone, as in orders; a number and one with a zone are what they are."""
    rows = b"user_id,created_at\n1,2026-07-01 12:00\n2,2026-07-01T12:00:00Z\n3,1700000000\n4,x\n"
    found = read(DIMENSIONS["user"], 1, rows, replace(CONTEXT, mapping=FieldMapping(time_zone="Europe/Berlin")))
    noon = 1_782_907_200_000_000
    assert [row[2] for row in table_rows(found.rows)] == [noon - 2 * 3_600_000_000, noon, 1_700_000_000_000_000, None]
    assert dict(found.tally.faults) == {"created_at": 1}


@pytest.mark.parametrize(
    ("header", "separator"),
    [
        (b"user_id,a;b", ","), (b"a,b;user_id;c", ";"), (b'"a,b";"user_id"', ";"), (b'"a;\tb","user_id"', ","),
        (b"user_id", ","), (b"user_id,x;user_id", ","), (b"a\tuser_id", "\t"), (b'user_id;"a\n;b"', ";"), (b";;\nuser_id;x", ";"),
    ],
)  # fmt: skip
def test_the_separator_is_the_one_that_gives_the_header_its_key(header: bytes, separator: str) -> None:
    """Whatever else stands in the header, in quotes or not; where several do, it is the comma."""
    assert read_sheet(header + b"\n", ["user_id"], "utf-8").separator == separator


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


@pytest.mark.parametrize(("name", "header", "columns"), [
    ("user", "Kunden-Nr.;E-Mail;Land", "kunden-nr., e-mail, land"), ("product", "Artikel,Preis (EUR)", "artikel, preis (eur)"),
    ("product", ",".join(f"c{number}" for number in range(20)), "c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, …"),
    ("user", "a@b.c,DE", "2, of which some have no plain names"), ("user", "4711,x", "2, of which some have no plain names"),
])  # fmt: skip
def test_without_its_key_column_the_reason_names_the_columns_and_the_setting(
    name: str, header: str, columns: str
) -> None:
    """That of its own source. A file without a header begins with a row, which may be personal data."""
    dimension = DIMENSIONS[name]
    with pytest.raises(Unreadable) as refused:
        read(dimension, 1, f"{header}\na,b\n".encode(), CONTEXT)
    reason = for_source(str(refused.value), replace(CONTEXT, source="berlin"))
    assert f"its columns are {columns}. " in reason
    assert f'set {dimension.key} = "that column" in [sources.berlin.{dimension.drops}]' in reason


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (b"sku,name,price\n\np_1,La\xffmp,1\n", "not UTF-8 (line 3, column 7)"),
        (b"\xff\xfes\x00k\x00u\x00\n\x00\x00\xd8a\x00", "begins as UTF-16 and is damaged (line 2, column 1)"),
        (
            b'sep=,\n\nsku,name,price\np_1,"La\nmp",1\n\np_2,x,"2\np_3,y,"\n',
            "row 2 (line 7) goes on over several lines in column price",
        ),
        (b"sku,name,price\np_1,a,1\n\np_2;b;2\n", "row 2 (line 4) has another separator"),
        (b"sku,name,price\np_1,a,1\nprice,sku,name\n", "row 2 (line 3) names columns again"),
        (b'sku,name,price\np_1,a,1\np_2,"b"c,1\n', "line 3 is not CSV"),
        (
            b'sku,name,price\np_1,a,1\np_2,"b\n',
            "line 3 is not CSV: a quote that opens there in its column `name` is never",
        ),
        (
            b'sep=,\nsku,name,price\n"p_1",a,1\n\n"p_2","b\n""c"" ","1\np_3,d,1\np_4,e,1\n',
            "line 6 is not CSV: a quote that opens there in its column `price` is never closed",
        ),
        (b'sku,name\np_1,a\np_2,b,"c\n', "line 3 is not CSV: a quote that opens there is never closed"),
        (b'sku,"name\np_1,a\n', "line 1 is not CSV: a quote that opens there is never closed"),
    ],
)
def test_a_reason_says_where(data: bytes, where: str) -> None:
    """The line as an editor counts it, with empty ones, and the column: by its name where rows are read, else by its place."""
    with pytest.raises(Unreadable, match=re.escape(where)):
        read(DIMENSIONS["product"], 1, data, CONTEXT)


def test_the_lines_of_rows_are_as_an_editor_counts() -> None:
    """Empty lines and line ends within cells count; only the rows that are asked for have one."""
    data = b'user_id,name\n\nu_1,"two\nlines"\n\n,x\n"u\n_2",y\n'
    positions = {1: 3, 2: 6, 3: 7}
    for wanted in ({1, 2, 3}, {2}, set()):
        found = lines_of_rows(DIMENSIONS["user"], data, CONTEXT, wanted)
        assert found == {position: positions[position] for position in wanted}
