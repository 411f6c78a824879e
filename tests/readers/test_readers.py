"""Each reader of docs/READING.md finds what the plain model has, in the types that the page says.

There are values at the ends of every type, every character, NULL in every column, and files that lack the extra columns.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, time
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.readers import world
from tests.readers.values import plain_rows
from tests.readers.world import World
from tests.support import REPO
from tests.support.harness import DAY

READING = (REPO / "docs" / "READING.md").read_text(encoding="utf-8")
SPARK_RECIPE = READING.split("## Spark")[1].split("```python\n")[1].split("```")[0]
Types = dict[str, str]
Rows = list[dict[str, Any]]
Found = tuple[Types, Rows]
TABLES = ("fact_order", "order_items", "dim_user", "dim_product", "discards", "negative", *world.MODELS)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world.build(tmp_path_factory.mktemp("readers"))


def by_pyarrow(files: list[Path]) -> Found:
    """As a data set, with one schema for all files."""
    schema = pa.unify_schemas([pq.read_schema(file) for file in files])
    options = ds.ParquetFragmentScanOptions(page_checksum_verification=True)
    scanned = ds.ParquetFileFormat(default_fragment_scan_options=options)
    table = ds.dataset(list(map(str, files)), format=scanned, schema=schema).to_table()
    table.validate(full=True)
    rows = table.to_pylist(maps_as_pydicts="strict")
    return {field.name: str(field.type) for field in schema}, rows


def by_duckdb(files: list[Path]) -> Found:
    names = [str(file) for file in files]
    found = duckdb.sql(f"SELECT * FROM read_parquet({names!r}, hive_partitioning = false, union_by_name = true)")
    types = {name: str(kind) for name, kind in zip(found.columns, found.types, strict=True)}
    return types, [dict(zip(types, row, strict=True)) for row in found.fetchall()]


def by_polars(files: list[Path]) -> Found:
    scans = [pl.scan_parquet(file, hive_partitioning=False) for file in files]
    frame = pl.concat(scans, how="diagonal").collect()
    return {name: str(kind) for name, kind in frame.schema.items()}, [_maps(row) for row in frame.rows(named=True)]


def _maps(row: dict[str, Any]) -> dict[str, Any]:
    """polars gives a map as a list of its entries."""
    entries = row.get("map")
    return (
        row
        if entries is None or isinstance(entries, dict)
        else row | {"map": {one["key"]: one["value"] for one in entries}}
    )


def by_pandas(files: list[Path]) -> Found:
    """With the types of Arrow. Without them, whole numbers with NULL become floats; instants and decimals are the same."""
    frames = [pd.read_parquet(BytesIO(file.read_bytes()), dtype_backend="pyarrow") for file in files]
    frame = pd.concat(frames, ignore_index=True)
    rows = pa.Table.from_pandas(frame, preserve_index=False).to_pylist(maps_as_pydicts="strict")
    return {name: str(kind) for name, kind in frame.dtypes.items()}, rows


HERE: dict[str, Callable[[list[Path]], Found]] = {
    "pyarrow": by_pyarrow, "DuckDB": by_duckdb, "polars": by_polars, "pandas": by_pandas,
}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("reader", HERE)
def test_a_reader_finds_what_the_model_has(tables: World, reader: str, table: str) -> None:
    """Every value of every row, to the last digit."""
    _, rows = HERE[reader](tables.files[table])
    assert plain_rows(rows) == plain_rows(tables.rows[table])


def test_the_world_has_the_ends_of_every_type(tables: World) -> None:
    """Otherwise the tests above would show little."""
    fact = tables.rows["fact_order"]
    assert {ord(c) for row in fact for c in row["sku"] or ""} == {*range(0x110000)} - {*range(0xD800, 0xE000)}
    nullable = {name for name, row in ((name, row) for row in fact for name in row) if row[name] is None}
    assert nullable == set(fact[0]) - {"order_id", "created_at", "date", "line_number"}
    assert all(any(row[name] is not None for row in fact) for name in fact[0])
    assert "gift" not in pq.read_schema(tables.files["fact_order"][0]).names
    assert {len(tables.files[name]) for name in ("fact_order", "daily")} == {5}


# ------------------------------------------------------------ readers with an environment of their own


def elsewhere(reader: str, request: dict[str, Any], home: Path) -> dict[str, Any]:
    """The answer of tests/readers/elsewhere.py. READERS_PYTHON: an interpreter with fastparquet and PySpark; Spark needs Java."""
    python = os.environ.get("READERS_PYTHON")
    if not python:
        reason = "READERS_PYTHON is not set: an interpreter with pip install fastparquet pyspark, and Java (`make test-readers`)"
        pytest.fail(reason) if os.environ.get("REQUIRE_TEST_TOOLS") else pytest.skip(reason)
    env = os.environ | {"PYTHONPATH": str(REPO), "TZ": "UTC", "PYTHONWARNINGS": "ignore"}
    command = [python, "-m", "tests.readers.elsewhere", reader]
    ended = subprocess.run(
        command, cwd=home, env=env, input=json.dumps(request), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr[-4000:]
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def spark(tables: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    content = bytearray(tables.files["fact_order"][2].read_bytes())
    content[len(content) // 2] ^= 1  # in its largest page
    damaged = tmp_path_factory.mktemp("damaged") / "fact_order.parquet"
    damaged.write_bytes(content)
    return elsewhere("spark", request_of(tables) | {"damaged": str(damaged), "recipe": SPARK_RECIPE}, tables.home)


@pytest.fixture(scope="module")
def fastparquet(tables: World) -> dict[str, Any]:
    return elsewhere("fastparquet", request_of(tables), tables.home)


def request_of(tables: World) -> dict[str, Any]:
    return {
        "tables": {name: [str(file) for file in tables.files[name]] for name in TABLES},
        "partitioned": [str(file) for file in tables.files["order_items"]],
    }


@pytest.mark.timeout(600)
def test_spark_finds_what_the_model_has(spark: dict[str, Any], tables: World) -> None:
    """But TIME, which it refuses; it has decimals in place of unsigned 64-bit numbers."""
    assert "TIME" in spark["tables"].pop("clock")["error"]
    for name, found in spark["tables"].items():
        wanted = plain_rows(tables.rows[name])
        for row in wanted:
            if row.get("ubig") is not None:
                row["ubig"] = f"decimal {row['ubig']}"
        assert found.get("rows") == wanted, found.get("error", name)


def test_spark_finds_a_flipped_bit(spark: dict[str, Any]) -> None:
    """If it is told to compare the checksums of pages."""
    assert "FAILED_READ_FILE" in spark["damage"]


def test_the_recipe_for_spark(spark: dict[str, Any], tables: World) -> None:
    """Run as it stands, it prints the amount of each date and country."""
    countries = {row["user_id"]: row["country"] for row in tables.rows["dim_user"]}
    sums: dict[tuple[str, str], Decimal] = {}
    for row in tables.rows["fact_order"]:
        key = str(row["date"]), countries.get(row["user_id"]) or "NULL"
        sums[key] = sums.get(key, Decimal()) + (row["amount"] or 0)
    printed = re.findall(r"\|(\S+)\| *(\S+)\| *(-?[0-9.]+|NULL)\|", spark["printed"])
    found = {(day, country): Decimal(0 if amount == "NULL" else amount) for day, country, amount in printed}
    assert found == sums and len(sums) == 7


def test_fastparquet_finds_what_the_model_has(fastparquet: dict[str, Any], tables: World) -> None:
    """But decimals are floats, dates are right from 1678 to 2261 only, TIME is a number, and what is nested is lost."""
    for name, found in fastparquet["tables"].items():
        assert "error" not in found, (name, found)
        wanted = plain_rows([_of_fastparquet(row) for row in tables.rows[name] if _has_its_dates(row)])
        days = {row["date"] for row in wanted if "date" in row}
        rows = [row for row in found["rows"] if "date" not in row or row["date"] in days]
        columns = set(wanted[0])
        assert _rounded([{name: row[name] for name in columns} for row in rows]) == _rounded(wanted), name


def _has_its_dates(row: dict[str, Any]) -> bool:
    return "date" not in row or 1678 <= row["date"].year <= 2261


def _of_fastparquet(row: dict[str, Any]) -> dict[str, Any]:
    """A date is the instant of its midnight there, and a time its microseconds."""
    found = {name: value for name, value in row.items() if name not in ("list", "empty", "struct", "map", "day")}
    if "date" in found:
        found["date"] = datetime.combine(found["date"], time())
    if "clock" in found:
        found["clock"] = DAY - 1
    return found


def _rounded(rows: Rows) -> Rows:
    """Decimals and floats alike, with twelve digits."""

    def short(value: Any) -> Any:
        number = re.fullmatch(r"(?:decimal|float) (.+)", value) if isinstance(value, str) else None
        return f"{float(number[1]):.12g}" if number else value

    return plain_rows([{name: short(value) for name, value in row.items()} for row in rows])


# ------------------------------------------------------------------------------------------------------------ page checksums


def _verified(content: bytes) -> pa.Table:
    table = pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True).read()
    table.validate(full=True)
    return table


@pytest.mark.parametrize("table", TABLES)
def test_a_flipped_bit_changes_no_value_unnoticed(tables: World, table: str) -> None:
    """In each byte of the pages of a file: it is an error of a reader that compares checksums, or nothing that it reads changes.
    Without that, some flipped bit is another value."""
    files = [file for file in tables.files[table] if pq.read_metadata(file).num_rows]
    content = min(files, key=lambda file: file.stat().st_size).read_bytes()
    expected, end = _verified(content), len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    unnoticed = errors = 0
    for place in range(4, end):
        damaged = content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        try:
            assert _verified(damaged).equals(expected), place
        except (OSError, pa.ArrowException):
            errors += 1
            with suppress(OSError, pa.ArrowException):
                unnoticed += not pq.ParquetFile(pa.BufferReader(damaged)).read().equals(expected)
    assert errors > (end - 4) / 3 and unnoticed


# ------------------------------------------------------------ what docs/READING.md says

COLUMNS = {
    "text": "order_id", "decimal": "amount", "instant": "created_at", "date": "date", "whole number": "line_number",
    "boolean": "gift",
}  # fmt: skip


def documented() -> dict[str, list[str]]:
    """The types that the page says of each reader, in the order of COLUMNS."""
    section = READING.split("## Readers")[1].split("What to mind")[0]
    head, _, *lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    assert [cell.strip() for cell in head][1 : 1 + len(COLUMNS)] == [*COLUMNS]
    return {line[0].strip(): [cell.strip(" `") for cell in line[1 : 1 + len(COLUMNS)]] for line in lines}


def test_the_types_in_python_are_those_of_the_page(tables: World) -> None:
    said = documented()
    for reader, read in HERE.items():
        types, _ = read(tables.files["fact_order"])
        assert [types[name] for name in COLUMNS.values()] == said[reader], reader
    assert set(said) == {*HERE, "fastparquet", "Spark"}


def test_the_types_elsewhere_are_those_of_the_page(fastparquet: dict[str, Any], spark: dict[str, Any]) -> None:
    said = documented()
    for reader, answer in (("fastparquet", fastparquet), ("Spark", spark)):
        types = answer["tables"]["fact_order"]["types"]
        assert [types[name] for name in COLUMNS.values()] == said[reader], reader


def test_the_date_of_the_path_is_a_date(tables: World) -> None:
    """Where a reader makes a column of the folders' names, it has the dates of the model."""
    files = [str(file) for file in tables.files["order_items"]]
    wanted = sorted({str(row["date"]) for row in tables.rows["order_items"]})
    hive = duckdb.sql(f"SELECT DISTINCT date FROM read_parquet({files!r}, hive_partitioning = true) ORDER BY date")
    assert [str(hive.types[0]), [str(day) for (day,) in hive.fetchall()]] == ["DATE", wanted]
    dates = pl.scan_parquet(files, hive_partitioning=True).collect()["date"]
    assert [dates.dtype, sorted(map(str, dates.unique()))] == [pl.Date, wanted]
    parts = ds.partitioning(pa.schema([("date", pa.date32())]), flavor="hive")
    found = ds.dataset(files, partitioning=parts).to_table()["date"]
    assert [found.type, sorted(map(str, found.unique().to_pylist()))] == [pa.date32(), wanted]
    with pytest.raises(pa.ArrowTypeError, match="date"):  # without a schema, the column of the path is text
        ds.dataset(files, partitioning="hive").to_table()


def test_the_date_of_the_path_is_a_date_elsewhere(
    tables: World, fastparquet: dict[str, Any], spark: dict[str, Any]
) -> None:
    wanted = sorted({str(row["date"]) for row in tables.rows["order_items"]})
    assert spark["dates"] == ["date", wanted]
    assert fastparquet["dates"] == ["category", wanted]
