"""The Parquet encoder: what it writes, other libraries read as it was; and the same rows are the same bytes."""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from daemon.core.facts import PartitionFiles, lines_of
from daemon.core.model import FACT, ITEM_TYPE, ITEMS, ORDERS
from daemon.core.parquet import Encoder, columns_of, encode

SLOW = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
NUMBERS = st.integers(-(10**18) + 1, 10**18 - 1)
VALUES = {
    pa.large_string(): st.text(st.characters(codec="utf-8"), max_size=40),
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.date32(): st.dates(date(1, 1, 1), date(9999, 12, 31)),
    pa.timestamp("us", tz="UTC"): st.datetimes(datetime(1970, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)),
    pa.decimal64(18, 4): NUMBERS.map(lambda number: Decimal(number).scaleb(-4)),
}


@st.composite
def columns(draw: st.DrawFn, rows: int) -> tuple[pa.Field, pa.Array]:
    """A column that repeats itself much, little, or not at all; with or without NULLs; perhaps a slice of a longer one."""
    kind = draw(st.sampled_from(list(VALUES)))
    nullable = draw(st.booleans())
    pool = draw(st.lists(VALUES[kind], min_size=1, max_size=draw(st.sampled_from([1, 2, 5, 40]))))
    value = st.sampled_from(pool) | VALUES[kind] if draw(st.booleans()) else st.sampled_from(pool)
    values: list[object] = []
    while len(values) < rows + 3:
        values += [draw(st.none() | value if nullable else value)] * draw(st.sampled_from([1, 1, 2, 4, 9]))
    array = pa.array(values[: rows + 3], kind)
    return pa.field("", kind, nullable=nullable), array.slice(draw(st.integers(0, 3)), rows)


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Any table of the types that are written."""
    rows = draw(st.sampled_from([0, 1, 2, 7, 8, 9, 33]))
    made = draw(st.lists(columns(rows), min_size=1, max_size=6))
    schema = pa.schema([field.with_name(f"c{i}") for i, (field, _) in enumerate(made)])
    return pa.table([array for _, array in made], schema=schema)


def read(content: bytes, schema: pa.Schema) -> pa.Table:
    """As pyarrow reads it, every byte looked at."""
    table = pq.read_table(pa.BufferReader(content))
    assert [field.nullable for field in table.schema] == [field.nullable for field in schema]
    table.validate(full=True)
    return table.cast(schema)


@SLOW
@given(tables(), st.data())
def test_other_libraries_read_what_was_written(table: pa.Table, data: st.DataObject) -> None:
    """pyarrow and polars read a table as it was, and a range of it, and some of its columns in another order."""
    content = encode(table)
    assert read(content, table.schema).equals(table)
    assert pl.read_parquet(content).to_arrow().cast(table.schema).equals(table)
    start = data.draw(st.integers(0, table.num_rows))
    stop = data.draw(st.integers(start, table.num_rows))
    names = data.draw(st.permutations(table.schema.names)) if table.num_columns > 1 else []
    whole, part = Encoder(columns_of(table), table.num_rows).files(names, start, stop)
    assert read(whole, table.schema).equals(table.slice(start, stop - start))
    if names:
        some = table.slice(start, stop - start).select(names)
        assert read(part, some.schema).equals(some)


@SLOW
@given(tables())
def test_the_same_rows_are_the_same_bytes(table: pa.Table) -> None:
    """However they lie in memory: in several chunks, or somewhere else and named by their places."""
    half = table.num_rows // 2
    pieces = pa.concat_tables([table.slice(0, half), table.slice(half)])
    assert encode(pieces) == encode(table)
    backwards = np.arange(table.num_rows)[::-1]
    turned = [column.of_rows(backwards) for column in columns_of(table.take(pa.array(backwards)))]
    assert Encoder(turned, table.num_rows).file() == encode(table)


def wide_table(rows: int) -> pa.Table:
    """Columns that differ in how they repeat, from constant to never, with texts from empty to long."""
    numbers = np.arange(rows)
    mixed = (numbers.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03)).view(np.int64)  # as good as random here
    texts = [f"t{i:x}" * (i % 40) for i in range(997)]
    some = pa.array(numbers % 3 == 0)
    return pa.table(
        {
            "unique": pa.array([f"id-{n}" for n in numbers.tolist()], pa.large_string()),
            "pairs": pa.array([texts[n] for n in (numbers // 2 % 997).tolist()], pa.large_string()),
            "random": pa.array(mixed),
            "small": pa.array(((mixed >> 40) % 50).astype(np.int32)),
            "constant": pa.array(np.full(rows, 7)),
            "runs": pa.array(numbers // 4 * 1_000_003),
            "holes": pa.array(numbers, mask=~some.to_numpy(zero_copy_only=False)),
            "nothing": pa.nulls(rows, pa.large_string()),
        }
    )


@pytest.mark.parametrize("rows", [1, 255, 513, 4_096, 70_000, 200_000])
def test_pages_and_dictionaries_of_every_size(rows: int, tmp_path: Path) -> None:
    """Columns that need many pages, dictionaries that grow, and codes of every width."""
    table, path = wide_table(rows), tmp_path / "a.parquet"
    path.write_bytes(encode(table))
    assert read(path.read_bytes(), table.schema).equals(table)
    assert pl.read_parquet(path).to_arrow().cast(table.schema).equals(table)
    found = duckdb.sql(f"SELECT * FROM '{path}'").to_arrow_table()
    assert found.cast(table.schema.remove_metadata()).equals(table)


def test_more_rows_than_a_row_group_holds(tmp_path: Path) -> None:
    """A million rows lie together, and the next ones in a group of their own."""
    table = pa.table(
        {"n": pa.array(np.arange(2_100_000) // 3), "s": pa.array(np.arange(2_100_000)).cast(pa.large_string())}
    )
    content, part = Encoder(columns_of(table), len(table)).files(["s"])
    assert pq.read_metadata(pa.BufferReader(content)).num_row_groups == 3
    assert read(content, table.schema).equals(table)
    assert read(part, table.schema.remove(0)).equals(table.select(["s"]))
    path = tmp_path / "a.parquet"
    path.write_bytes(content)
    assert duckdb.sql(f"SELECT count(*), sum(n), max(s) FROM '{path}'").fetchall() == [
        (2_100_000, int(np.sum(np.arange(2_100_000) // 3)), "999999")
    ]


def test_values_too_large_for_a_dictionary() -> None:
    """Long texts that repeat: a dictionary of more than 8 MiB is none, and a page is not much more than a value."""
    table = pa.table({"s": pa.array([str(n % 300) * 20_000 for n in range(900)], pa.large_string())})
    assert read(encode(table), table.schema).equals(table)


def test_statistics_tell_what_to_skip(tmp_path: Path) -> None:
    """Numbers have their least and largest value, NULLs are counted; a reader may trust both."""
    table = pa.table(
        {"n": pa.array([5, None, -3, 9] * 10), "s": pa.array(["a", None, "b", "c"] * 10, pa.large_string())}
    )
    group = pq.read_metadata(pa.BufferReader(encode(table))).row_group(0)
    numbers, texts = group.column(0).statistics, group.column(1).statistics
    assert (numbers.min, numbers.max, numbers.null_count, texts.null_count) == (-3, 9, 10, 10)
    path = tmp_path / "a.parquet"
    path.write_bytes(encode(table))
    assert duckdb.sql(f"SELECT count(*) FROM '{path}' WHERE n > 8").fetchall() == [(10,)]
    assert duckdb.sql(f"SELECT count(*) FROM '{path}' WHERE n < -3").fetchall() == [(0,)]


def test_hostile_values_do_not_hold_it_up() -> None:
    """Numbers that were chosen to fall on one place of the dictionary's table make it give up, not go on for ever."""
    inverse = pow(0x9E3779B97F4A7C15, -1, 1 << 64)  # times this, the hash of a number is the number
    colliding = np.array([n * inverse % (1 << 64) for n in range(300_000)], np.uint64).view(np.int64)
    table = pa.table({"n": pa.array(np.repeat(colliding, 4))})
    assert read(encode(table), table.schema).equals(table)


ORDER = st.fixed_dictionaries(
    {
        "order_id": st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
        "user_id": st.none() | st.sampled_from(["u_1", "u_2", ""]),
        "amount": st.none() | NUMBERS,
        "currency": st.none() | st.sampled_from(["USD", "EUR"]),
        "created_at": st.integers(1_767_000_000, 1_767_000_009).map(lambda s: s * 1_000_000),
        "updated_at": st.none() | st.just(1_767_000_000_000_000),
        "metadata": st.none() | st.just('{"a":1}'),
        "items": st.lists(
            st.fixed_dictionaries(
                {
                    "sku": st.none() | st.sampled_from(["p_1", "p_2"]),
                    "qty": st.none() | NUMBERS,
                    "price": st.none() | NUMBERS,
                }
            ),
            max_size=3,
        ),
    }
)


@SLOW
@given(st.lists(ORDER, max_size=12), st.data())
@example([], None)
def test_a_partition_is_the_same_bytes_from_orders_and_from_its_table(
    orders: list[dict], data: st.DataObject | None
) -> None:
    """Lines that are encoded from where they were parsed give the files that their FACT table gives."""
    given_rows = [
        order | {"key": bytes(16), "content": bytes(16), "drop": 1, "position": n} for n, order in enumerate(orders)
    ]
    table = pa.table([pa.array([row[f.name] for row in given_rows], f.type) for f in ORDERS], schema=ORDERS)
    assert table.schema.field("items").type.value_type == ITEM_TYPE
    rows = np.array(data.draw(st.permutations(range(len(orders)))) if data else [], np.int64)
    lines = lines_of(table.combine_chunks(), rows)
    fact = lines.table()
    start = data.draw(st.integers(0, len(rows))) if data else 0
    a, b = int(lines.starts[start]), len(lines.item)
    files = PartitionFiles(lines.columns(), lines.line_number).encoded(a, b)
    assert files == PartitionFiles.of(fact.slice(a)).encoded()
    assert read(files[0], FACT).equals(fact.slice(a))
    expected = fact.slice(a).filter(pa.compute.greater(fact["line_number"].slice(a), 0)).select(ITEMS.names)
    assert read(files[1], ITEMS).equals(expected)


def test_bytes_never_change_unnoticed() -> None:
    """Ledgers remember hashes of files: whoever changes the bytes on purpose raises the version in parquet.c, tells the
    changelog, and writes the new hash here."""
    assert (
        hashlib.sha256(encode(wide_table(3_000))).hexdigest()
        == "219970b225415681dc97db885250997dcfa514e31393c2b3f875aa0d1faab465"
    )
