"""The Parquet files: what is written, other libraries read as it was; and the same rows are the same bytes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from daemon.core.merge.facts import files_of, lines_of
from daemon.core.model import DIM_PRODUCT, DIM_USER, FACT, ITEM_TYPE, ITEMS, ORDERS
from daemon.core.parquet import WRITER, encode
from tests.support.examples import examples
from tests.support.tables import ORDER

SLOW = examples(150)
NUMBERS = st.integers(-(10**18) + 1, 10**18 - 1)
VALUES = {
    pa.large_string(): st.text(st.characters(codec="utf-8"), max_size=40),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.date32(): st.dates(date(1, 1, 1), date(9999, 12, 31)),
    pa.timestamp("us", tz="UTC"): st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),
    pa.decimal64(18, 4): NUMBERS.map(lambda number: Decimal(number).scaleb(-4)),
}
SCHEMAS = [FACT, ITEMS, DIM_USER, DIM_PRODUCT]


@st.composite
def columns(draw: st.DrawFn, field: pa.Field, rows: int) -> pa.Array:
    """A column that repeats itself much, little, or not at all; with or without NULLs; perhaps a slice of a longer one."""
    pool = draw(st.lists(VALUES[field.type], min_size=1, max_size=draw(st.sampled_from([1, 2, 5, 40]))))
    value = st.sampled_from(pool) | VALUES[field.type] if draw(st.booleans()) else st.sampled_from(pool)
    values: list[object] = []
    while len(values) < rows + 3:
        values += [draw(st.none() | value if field.nullable else value)] * draw(st.sampled_from([1, 1, 2, 4, 9]))
    return pa.array(values[: rows + 3], field.type).slice(draw(st.integers(0, 3)), rows)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Any rows of the tables that are written."""
    rows, schema = draw(st.sampled_from([0, 1, 2, 9, 33])), draw(st.sampled_from(SCHEMAS))
    return pa.table([draw(columns(field, rows)) for field in schema], schema=schema)


def read(content: pa.Buffer, schema: pa.Schema) -> pa.Table:
    """As pyarrow reads it, every byte looked at and every page checksum compared."""
    table = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()
    assert [field.nullable for field in table.schema] == [field.nullable for field in schema]
    table.validate(full=True)
    return table.cast(schema)


@SLOW
@given(tables())
def test_other_libraries_read_what_was_written(table: pa.Table) -> None:
    """pyarrow and polars read a table as it was."""
    content = encode(table)
    assert read(content, table.schema).equals(table)
    assert pl.read_parquet(content.to_pybytes()).to_arrow().cast(table.schema).equals(table)


@SLOW
@given(tables())
def test_the_same_rows_are_the_same_bytes(table: pa.Table) -> None:
    """However they are in memory: in several chunks, or a slice of other rows."""
    half = table.num_rows // 2
    assert encode(pa.concat_tables([table.slice(0, half), table.slice(half)])) == encode(table)
    more = pa.concat_tables([table, table, table]).combine_chunks()
    assert encode(more.slice(table.num_rows, table.num_rows)) == encode(table)


def day_of(rows: int) -> pa.Table:
    """FACT rows of one day, sorted by time."""
    numbers = np.arange(rows)
    instants = 1_767_225_600_000_000 + numbers // 4 * 1_000
    values = {
        "order_id": pa.array([f"o_{n // 4}" for n in numbers.tolist()], pa.large_string()),
        "user_id": pa.array([f"u_{n % 997}" for n in numbers.tolist()], pa.large_string()),
        "sku": pa.array([f"p_{n * 7919 % 4_001}" for n in numbers.tolist()], pa.large_string()),
        "amount": pa.array(numbers * 31 % 10**9).view(pa.decimal64(18, 4)),
        "qty": pa.array(numbers % 7 * 10_000).view(pa.decimal64(18, 4)),
        "price": pa.array(numbers * 17 % 10**6, mask=numbers % 11 == 0).view(pa.decimal64(18, 4)),
        "created_at": pa.array(instants, pa.timestamp("us", tz="UTC")),
        "date": pa.array(np.full(rows, 20_454, np.int32)).view(pa.date32()),
        "line_number": pa.array((numbers % 4 + 1).astype(np.int32)),
        "currency": pa.array(["USD", "EUR", None], pa.large_string()).take(pa.array(numbers % 3)),
        "updated_at": pa.nulls(rows, pa.timestamp("us", tz="UTC")),
        "metadata": pa.array(["x" * (n % 50) for n in numbers.tolist()], pa.large_string()),
    }
    return pa.table([values[name] for name in FACT.names], schema=FACT)


@pytest.mark.parametrize("rows", [1, 513, 70_000, 300_000])
def test_files_of_every_size(rows: int, tmp_path: Path) -> None:
    """Many pages, and more than one row group; the bytes do not depend on how rows are in memory here, either."""
    table, path = day_of(rows), tmp_path / "a.parquet"
    content = encode(table)
    path.write_bytes(content)
    assert read(content, FACT).equals(table)
    assert pl.read_parquet(path).to_arrow().cast(FACT).equals(table)
    found = duckdb.sql(f"SELECT * FROM '{path}'").to_arrow_table()
    assert found.cast(FACT.remove_metadata()).equals(table)
    parts = [table.slice(start, 4_099) for start in range(0, rows, 4_099)]
    assert encode(pa.concat_tables(parts)) == content


def test_what_a_file_is() -> None:
    """Snappy, no Arrow schema, integers for decimals, dictionaries for what repeats, and statistics by which readers skip."""
    file = pq.ParquetFile(pa.BufferReader(encode(day_of(300_000))))
    assert file.metadata.metadata is None
    assert file.metadata.num_row_groups == 3
    assert file.metadata.row_group(0).num_rows == 122_880
    by_name = {file.metadata.row_group(0).column(place).path_in_schema: place for place in range(len(FACT))}
    group = {name: file.metadata.row_group(0).column(place) for name, place in by_name.items()}
    assert {one.compression for one in group.values()} == {"SNAPPY"}
    assert {name for name, one in group.items() if one.has_dictionary_page} == {
        "date",
        "line_number",
        "qty",
        "currency",
    }
    assert {name for name, one in group.items() if one.statistics} == {"date", "created_at", "updated_at"}
    assert {group[name].physical_type for name in ("amount", "qty", "price")} == {"INT64"}
    assert [str(file.schema_arrow.field(name).type) for name in ("order_id", "amount", "created_at", "date")] == [
        "string", "decimal128(18, 4)", "timestamp[us, tz=UTC]", "date32[day]",
    ]  # fmt: skip


def test_readers_skip_row_groups_by_time(tmp_path: Path) -> None:
    """Rows are sorted by created_at, so a row group is a span of time."""
    path = tmp_path / "a.parquet"
    path.write_bytes(encode(day_of(300_000)))
    metadata = pq.read_metadata(path)
    spans = [metadata.row_group(n).column(FACT.names.index("created_at")).statistics for n in range(3)]
    assert all(one.max <= following.min for one, following in pairwise(spans))
    query = f"SELECT count(*) FROM '{path}' WHERE created_at >= TIMESTAMPTZ '2026-01-01 00:01:10+00'"
    assert duckdb.sql(query).fetchall() == [(300_000 - 4 * 70_000,)]


def test_a_flipped_bit_in_a_page_is_found() -> None:
    """By a reader that compares page checksums."""
    content = bytearray(encode(day_of(1_000)).to_pybytes())
    content[len(content) // 3] ^= 1
    with pytest.raises((OSError, ValueError)):
        read(pa.py_buffer(bytes(content)), FACT)


def test_the_writer_names_what_decides_the_bytes() -> None:
    assert WRITER.startswith(f"pyarrow {pa.__version__}, ")


@SLOW
@given(st.lists(ORDER, max_size=12), st.data())
@example([], None)
def test_both_files_of_a_partition(orders: list[dict], data: st.DataObject | None) -> None:
    """The fact has all lines; the items, those that have an item."""
    given_rows = [
        order | {"key": bytes(16), "content": bytes(16), "drop": 1, "position": n} for n, order in enumerate(orders)
    ]
    table = pa.table([pa.array([row[f.name] for row in given_rows], f.type) for f in ORDERS], schema=ORDERS)
    assert table.schema.field("items").type.value_type == ITEM_TYPE
    rows = np.array(data.draw(st.permutations(range(len(orders)))) if data else [], np.int64)
    fact = lines_of(table.combine_chunks(), rows).table()
    fact_file, items_file = files_of(fact)
    assert read(fact_file, FACT).equals(fact)
    expected = fact.filter(pa.compute.greater(fact["line_number"], 0)).select(ITEMS.names)
    assert read(items_file, ITEMS).equals(expected)
