"""The statistics of each row group, by which readers skip rows, are right; and what a reader skips, it need not read."""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from daemon.core import parquet
from daemon.core.model import LAST_INSTANT
from tests.model import Drop, Model
from tests.strategies import RECEIVED_AT_US
from tests.support.harness import apply_batch, open_engine

GROUP_ROWS = 3
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COLUMNS = ("date", "created_at", "updated_at")
DAYS = ("1970-01-01", "2026-03-02", "9999-12-31")
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {"<": operator.lt, ">=": operator.ge, "=": operator.eq}


@dataclass(frozen=True)
class Published:
    """Files of fact_order with many small row groups, and their rows as the model has them, by date."""

    files: list[str]
    rows: dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    home, model = tmp_path_factory.mktemp("pages"), Model(tolerance_us=LAST_INSTANT)
    data = "\n".join(json.dumps(one) for one in _orders()).encode()
    with pytest.MonkeyPatch.context() as patch, open_engine(home) as engine:
        patch.setitem(parquet._OPTIONS, "row_group_size", GROUP_ROWS)
        apply_batch(engine, home, [("a.jsonl", data)], RECEIVED_AT_US, LAST_INSTANT)
    model.apply([Drop("a.jsonl", data, RECEIVED_AT_US)])
    files = sorted((home / "output" / "curated").glob("date=*/fact_order.parquet"))
    yield Published(
        [str(file) for file in files], {day: [_typed(row) for row in model.fact_rows(day)] for day in model.dates()}
    )


def _orders() -> Iterator[dict[str, Any]]:
    """Ten orders a day, some of two lines and some at the same instant, from the first microsecond to the last one. On the first
    day `updated_at` is NULL in whole row groups, on the others here and there."""
    for day in DAYS:
        for number in range(10):
            clock = "23:59:59.999999" if number == 9 else f"{number // 2:02}:00:00.{number // 2 * 7:06}"
            changed = f"{DAYS[number % 3]}T{number:02}:30:00.000001Z"
            yield {
                "order_id": f"{day} {number}",
                "created_at": f"{day}T{clock}Z",
                "updated_at": changed if number % 2 and (day != DAYS[0] or number > 6) else None,
                "items": [{"sku": "p"}] * (number % 3),
            }


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the model with dates and instants in place of texts and numbers."""
    instants = {
        name: None if row[name] is None else EPOCH + timedelta(microseconds=row[name])
        for name in ("created_at", "updated_at")
    }
    return row | instants | {"date": date.fromisoformat(row["date"])}


def test_statistics_are_those_of_the_rows(published: Published) -> None:
    """Of each row group: the smallest and the largest value, and the number of NULLs; and no statistics of other columns."""
    seen = set()
    for file, rows in zip(published.files, published.rows.values(), strict=True):
        metadata = pq.read_metadata(file)
        assert metadata.num_row_groups == -(-len(rows) // GROUP_ROWS) > 3
        for number in range(metadata.num_row_groups):
            group, some = metadata.row_group(number), rows[number * GROUP_ROWS :][:GROUP_ROWS]
            chunks = {group.column(place).path_in_schema: group.column(place) for place in range(group.num_columns)}
            assert {name for name, chunk in chunks.items() if chunk.is_stats_set} == {*COLUMNS}
            for name in COLUMNS:
                values = [row[name] for row in some if row[name] is not None]
                found = chunks[name].statistics
                assert (found.null_count, found.num_values) == (len(some) - len(values), len(values))
                assert (found.min, found.max) == (min(values, default=None), max(values, default=None))
                seen.add((name, bool(values), len(values) == len(some)))
    assert seen == {(name, True, True) for name in COLUMNS} | {
        ("updated_at", True, False),
        ("updated_at", False, False),
    }


def _bounds(published: Published, column: str) -> list[Any]:
    """Every value of a column, with the next smaller and the next larger one."""
    step = timedelta(days=1) if column == "date" else timedelta(microseconds=1)
    values = {row[column] for rows in published.rows.values() for row in rows if row[column] is not None}
    first, last = min(values), max(values)
    below = {value - step for value in values}
    above = {value + step for value in values if value != last}
    return sorted(values | above | (below if first.year > 1 else set()))


def _by_duckdb(published: Published, column: str, comparison: str, bound: Any) -> list[str]:
    kind = "DATE" if column == "date" else "TIMESTAMPTZ"
    files = f"read_parquet({published.files!r}, hive_partitioning = false)"
    query = f"SELECT order_id FROM {files} WHERE {column} {comparison} {kind} '{bound}'"
    return [one for (one,) in duckdb.sql(query).fetchall()]


def _by_pyarrow(published: Published, column: str, comparison: str, bound: Any) -> list[str]:
    found = COMPARISONS[comparison](ds.field(column), pa.scalar(bound, _arrow_type(column)))
    return (
        ds.dataset(published.files, format="parquet")
        .to_table(columns=["order_id"], filter=found)["order_id"]
        .to_pylist()
    )


def _by_polars(published: Published, column: str, comparison: str, bound: Any) -> list[str]:
    kind = pl.Date if column == "date" else pl.Datetime("us", "UTC")
    found = COMPARISONS[comparison](pl.col(column), pl.lit(bound, kind))
    return pl.scan_parquet(published.files, hive_partitioning=False).filter(found).collect()["order_id"].to_list()


def _arrow_type(column: str) -> pa.DataType:
    return pa.date32() if column == "date" else pa.timestamp("us", "UTC")


READERS = {"DuckDB": _by_duckdb, "pyarrow": _by_pyarrow, "polars": _by_polars}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("reader", READERS)
def test_a_filter_finds_what_the_model_has(published: Published, reader: str, column: str) -> None:
    """At every value, and a microsecond or a day beside it: no row is skipped that the filter wants, and none is there twice."""
    every = [row for rows in published.rows.values() for row in rows]
    bounds = _bounds(published, column)
    for bound in bounds[:: max(1, len(bounds) // 16)]:
        for name, compare in COMPARISONS.items():
            wanted = [row["order_id"] for row in every if row[column] is not None and compare(row[column], bound)]
            assert sorted(READERS[reader](published, column, name, bound)) == sorted(wanted), (name, bound)


def test_a_filter_skips_row_groups(published: Published) -> None:
    """Those, and only those, whose statistics rule out every row."""
    for file, rows in zip(published.files, published.rows.values(), strict=True):
        (fragment,) = ds.dataset(file, format="parquet").get_fragments()
        for column in COLUMNS:
            for bound in _bounds(published, column):
                kept = fragment.subset(ds.field(column) >= pa.scalar(bound, _arrow_type(column))).row_groups
                wanted = {
                    place // GROUP_ROWS
                    for place, row in enumerate(rows)
                    if row[column] is not None and row[column] >= bound
                }
                assert {group.id for group in kept} == wanted, (column, bound)


def test_what_a_filter_skips_is_not_read(published: Published, tmp_path: Path) -> None:
    """Damage in the row groups before the last one does no harm to a reader of the last instant. One of all rows finds it."""
    content = bytearray(Path(published.files[1]).read_bytes())
    last = pq.read_metadata(published.files[1]).row_group(3).column(0).data_page_offset
    content[4:last] = bytes(last - 4)
    (damaged := tmp_path / "a.parquet").write_bytes(content)
    rows = published.rows[DAYS[1]]
    copy = Published([str(damaged)], {DAYS[1]: rows})
    wanted = [row["order_id"] for row in rows if row["created_at"] == rows[-1]["created_at"]]
    for reader, read in READERS.items():
        assert read(copy, "created_at", ">=", rows[-1]["created_at"]) == wanted, reader
        with pytest.raises((OSError, duckdb.Error, pl.exceptions.PolarsError)):
            read(copy, "created_at", ">=", rows[0]["created_at"])
