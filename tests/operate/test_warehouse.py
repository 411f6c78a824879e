"""Manifests, and docs/WAREHOUSE.md: parsed, executed in DuckDB and in a real PostgreSQL, sums compared."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlglot import exp

from daemon.core.ddl import ddl
from daemon.core.errors import UsageError
from daemon.core.model import DIM_PRODUCT, DIM_USER
from daemon.core.parquet import encode
from daemon.operate.warehouse import manifest
from tests.support import REPO, zygote
from tests.support.harness import dates, tree
from tests.support.postgres import server
from tests.support.sql import parsed

PAGE = (REPO / "docs" / "WAREHOUSE.md").read_text(encoding="utf-8")
SECTIONS = dict(zip(re.findall(r"^##+ (.*)$", PAGE, re.M), re.split(r"^##+ .*$", PAGE, flags=re.M)[1:], strict=True))
LOADER = "\n\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
PREFIX = "s3://bucket/strandline"

# Texts that a CSV, a COPY or a warehouse could trip over; an order without items, and one without an amount.
ODD = [
    {
        "order_id": 'a"b,\n\\N\\.\r;',
        "created_at": "2026-03-03T08:00:00.000001Z",
        "amount": "-99999999999999.9999",
        "user_id": "\u00e9\U0001f600",
        "items": [{"sku": "\\.", "qty": 0.5, "price": "123456789.1234"}, {}],
        "metadata": {"x": "'\t\u0000", "y": ["\\"]},
    },
    {"order_id": "nul\u0000", "created_at": "1970-01-01", "amount": None, "currency": "NULL", "items": []},
    {"order_id": "NULL", "created_at": "9000-01-01", "amount": 3, "currency": ""},
    {"order_id": "moves", "created_at": "2026-07-04", "amount": 12.5, "items": [{"sku": "p", "qty": 2, "price": 6}]},
]


def sql_of(section: str) -> list[str]:
    """The SQL blocks of a section, those in lists included."""
    return re.findall(r"```sql\n(.*?)```", SECTIONS[section], re.DOTALL)


def once(home: Path, **drops: object) -> None:
    """Applies what lies in the inbox, and these drops, with the real command."""
    for name, content in drops.items():
        (home / "inbox" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    environment = os.environ | {
        "PYTHONPATH": str(REPO), "STRANDLINE_WATCH__SETTLE_SECONDS": "0", "STRANDLINE_RETRY__ATTEMPTS": "1",
        "STRANDLINE_ORDERS__FUTURE_TOLERANCE": "36500d",
    }  # fmt: skip
    ended = zygote.run(["--once"], home, environment)
    assert ended.returncode in (0, 1), ended.stderr  # 1: the truncated example is quarantined


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the examples and the odd orders were applied."""
    home = tmp_path_factory.mktemp("applied")
    (home / "inbox").mkdir()
    for path in (REPO / "examples").glob("*.*json*"):
        shutil.copy(path, home / "inbox")
    once(home, odd=ODD)
    return home


@pytest.fixture
def home(applied: Path, tmp_path: Path) -> Path:
    """A copy of that folder, to go on with."""
    return shutil.copytree(applied, tmp_path / "home", symlinks=True)


@pytest.fixture(scope="module")
def conninfo() -> Iterator[str]:
    with server() as conninfo:
        yield conninfo


@pytest.fixture
def database(conninfo: str) -> Iterator[str]:
    """A fresh database with the tables."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        connection.execute("CREATE DATABASE shop")
    shop = conninfo.replace("dbname=postgres", "dbname=shop")
    with psycopg.connect(shop) as connection:
        connection.execute(ddl("postgres"))
        connection.execute(sql_of("Which dates changed")[0])
    yield shop


def load(home: Path, database: str) -> list[str]:
    """Runs the documented loader as it stands; the dates that it replaced."""
    ended = subprocess.run(
        [sys.executable, "-c", LOADER, str(home / "output" / "curated"), database],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split()


def published(home: Path, table: str) -> pa.Table:
    paths = sorted((home / "output" / "curated").glob(f"date=*/{table}.parquet"))
    return pa.concat_tables(pq.read_table(path, partitioning=None) for path in paths)


def query(database: str, text: str) -> list[tuple]:
    with psycopg.connect(database) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        return connection.execute(text).fetchall()


def over_parquet(home: Path, text: str) -> list[tuple]:
    """The same query by DuckDB over the published files."""
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        for table in ("fact_order", "order_items"):
            files = str(home / "output" / "curated" / "date=*" / f"{table}.parquet")
            connection.execute(f"CREATE VIEW {table} AS FROM read_parquet('{files}', hive_partitioning = false)")
        return connection.execute(text).fetchall()


# ----------------------------------------------------------------------------------------------------------- dimensions


def test_every_dimension_row_fits(database: str, tmp_path: Path) -> None:
    """The dimensions' Parquet files load into the tables, in DuckDB and PostgreSQL, and read back equal."""
    users = pa.table(
        [["u", "v"], ["a@b.c", None], [datetime(2026, 1, 1, 23, 59, 59, 999_999, tzinfo=UTC), None], ["NA", None]],
        schema=DIM_USER,
    )
    products = pa.table([["p", "q"], ['5" "pan"', None], ["x,y", None], [Decimal("1.0000"), None]], schema=DIM_PRODUCT)
    space: dict[str, object] = {"__name__": "loader"}
    exec(LOADER, space)
    for name, table in {"dim_user": users, "dim_product": products}.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(encode(table))
        expected = [tuple(row.values()) for row in table.to_pylist()]
        with duckdb.connect() as connection:
            connection.execute("SET TimeZone = 'UTC'")
            connection.execute(ddl("duckdb"))
            connection.execute(f"INSERT INTO {name} SELECT * FROM read_parquet('{path}')")
            assert connection.execute(f"FROM {name} ORDER BY 1").fetchall() == expected
        for _ in range(2):
            with psycopg.connect(database) as connection, connection.cursor() as cursor:
                cursor.execute(sql_of("PostgreSQL")[0])
                space["copy"](pq.read_table(path), name, cursor)
            assert query(database, f"SELECT * FROM {name} ORDER BY 1") == expected


# ----------------------------------------------------------------------------------------------------------- PostgreSQL


def test_postgres_gets_every_row_and_the_sums_of_the_files(home: Path, database: str) -> None:
    """The documented loader over a real run: each row in PostgreSQL is the row in Parquet, and the sums by date are DuckDB's."""
    assert load(home, database) == dates(home / "output")
    for table in ("fact_order", "order_items"):
        expected = published(home, table).sort_by([("order_id", "ascending"), ("line_number", "ascending")]).to_pylist()
        rows = [
            tuple(value.replace("\0", "\u2400") if isinstance(value, str) else value for value in row.values())
            for row in expected
        ]
        assert rows and query(database, f'SELECT * FROM {table} ORDER BY order_id COLLATE "C", line_number') == rows
    check = sql_of("PostgreSQL")[1]
    assert query(database, check) == over_parquet(home, check)
    assert len(query(database, check)) == len(dates(home / "output"))
    total = "SELECT count(*), sum(qty * price), sum(qty) FROM order_items"
    assert query(database, total) == over_parquet(home, total)


def test_only_what_changed_is_loaded_again(home: Path, database: str) -> None:
    """An order that moves touches the date it leaves, whose files are gone, and the one it joins, and nothing else; a load
    without changes loads nothing."""
    load(home, database)
    assert load(home, database) == []
    once(home, move=[ODD[3] | {"created_at": "2026-03-03", "updated_at": "2026-07-09"}])
    assert not (home / "output" / "curated" / "date=2026-07-04").exists()
    assert load(home, database) == ["2026-03-03", "2026-07-04"]
    assert query(database, "SELECT date FROM fact_order WHERE order_id = 'moves'") == [(date(2026, 3, 3),)]
    check = sql_of("PostgreSQL")[1]
    assert query(database, check) == over_parquet(home, check)
    log = [json.loads(line) for line in (home / "output" / "restatements.jsonl").read_text().splitlines()]
    assert [one["date"] for one in log if one["orders_after"] == 0] == ["2026-07-04"]


def test_a_column_that_is_added_is_null_where_files_lack_it(home: Path, database: str) -> None:
    """The loader names the columns of each file; after a rebuild, every date has the values of old orders."""
    load(home, database)
    with psycopg.connect(database) as connection:
        connection.execute('ALTER TABLE fact_order ADD COLUMN "currency_code" TEXT')
    columns = '[columns]\ncurrency_code = "text"\n[sources.default.columns]\ncurrency_code = "currency"\n'
    (home / "config.toml").write_text(columns)
    once(home, more=[ODD[3] | {"updated_at": "2026-07-09", "currency": "EUR"}])
    assert load(home, database) == ["2026-07-04"]
    known = "SELECT count(*) FROM fact_order WHERE currency_code IS NOT NULL"
    assert query(database, known) == [(1,)]
    ended = zygote.run(["rebuild"], home, os.environ | {"PYTHONPATH": str(REPO)})
    assert ended.returncode in (0, 1), ended.stderr
    assert load(home, database) == [date for date in dates(home / "output") if date != "2026-07-04"]
    assert (
        query(database, known)
        == query(database, "SELECT count(*) FROM fact_order WHERE currency_code = currency")
        != [(1,)]
    )


def test_a_load_that_fails_changes_nothing(home: Path, database: str) -> None:
    """One transaction: a file that cannot be read leaves the tables as they were."""
    load(home, database)
    before = query(database, "SELECT * FROM fact_order ORDER BY order_id, line_number")
    (home / "output" / "curated" / "date=2026-03-03" / "order_items.parquet").write_bytes(b"PAR1 not")
    with pytest.raises(AssertionError, match="ArrowInvalid"):
        load(home, database)
    assert query(database, "SELECT * FROM fact_order ORDER BY order_id, line_number") == before


def test_duckdb_takes_the_files_and_a_date_again_in_one_transaction(home: Path) -> None:
    """The DuckDB tables load from Parquet by place; a date is replaced in one transaction despite the primary key."""
    with duckdb.connect() as connection:
        connection.execute(ddl("duckdb"))
        files = home / "output" / "curated"
        for table in ("fact_order", "order_items"):
            read = f"SELECT * FROM read_parquet('{files}/date=*/{table}.parquet', hive_partitioning = false)"
            connection.execute(f"INSERT INTO {table} {read}")
            again = "WHERE date = DATE '2026-03-03'"
            connection.execute(f"BEGIN; DELETE FROM {table} {again}; INSERT INTO {table} {read} {again}; COMMIT")
            found = connection.execute(f"SELECT count(*), sum(line_number) FROM {table}").fetchall()
            assert found == over_parquet(home, f"SELECT count(*), sum(line_number) FROM {table}")


# ------------------------------------------------------------------------------------------------------------- manifest


def test_a_manifest_names_the_files_of_a_table_with_their_lengths(home: Path) -> None:
    """Each entry is a published file of the wanted dates, by date, mandatory, and as long as it is."""
    output = home / "output"
    for table in ("fact_order", "order_items"):
        entries = json.loads(manifest(output, table, None, PREFIX + "/").text)["entries"]
        assert [entry["url"] for entry in entries] == [
            f"{PREFIX}/curated/date={one}/{table}.parquet" for one in dates(output)
        ]
        for entry in entries:
            path = output / entry["url"].removeprefix(PREFIX + "/")
            assert entry == entry | {"mandatory": True, "meta": {"content_length": len(path.read_bytes())}}
    some = json.loads(manifest(output, "fact_order", ["2026-07-04", "2026-03-03", "2026-07-04"], PREFIX).text)[
        "entries"
    ]
    assert [entry["url"].split("/")[-2] for entry in some] == ["date=2026-03-03", "date=2026-07-04"]


@pytest.mark.parametrize("wanted", [None, ["2026-03-01", "2026-03-02"], ["2026-03-01"]])
def test_a_date_whose_folder_cannot_be_read_is_named_and_not_listed(tmp_path: Path, wanted: list[str] | None) -> None:
    for day in ("01", "03"):
        folder = tmp_path / "curated" / f"date=2026-03-{day}"
        folder.mkdir(parents=True)
        (folder / "fact_order.parquet").write_bytes(b"x")
    unreadable = tmp_path / "curated" / "date=2026-03-02"
    unreadable.symlink_to(unreadable)
    found = manifest(tmp_path, "fact_order", wanted, PREFIX)
    assert [entry["url"].split("/")[-2][-10:] for entry in json.loads(found.text)["entries"]] == (
        ["2026-03-01", "2026-03-03"] if wanted is None else ["2026-03-01"]
    )
    assert found.lacking == (["2026-03-02"] if wanted is None or len(wanted) == 2 else [])


def test_a_dimension_is_one_entry(tmp_path: Path) -> None:
    """It has no dates; asking for some is an error."""
    path = tmp_path / "curated" / "dim_user.parquet"
    path.parent.mkdir()
    path.write_bytes(b"12345")
    assert json.loads(manifest(tmp_path, "dim_user", None, "s3://bucket").text)["entries"] == [
        {"url": "s3://bucket/curated/dim_user.parquet", "mandatory": True, "meta": {"content_length": 5}}
    ]
    with pytest.raises(UsageError, match="dim_user is one file"):
        manifest(tmp_path, "dim_user", ["2026-03-03"], PREFIX)
    with pytest.raises(UsageError, match="no drop of this dimension"):
        manifest(tmp_path, "dim_product", None, PREFIX)


@pytest.mark.parametrize(
    "prefix",
    ["", "bucket/path", "s3://", "s3://B/x", "s3://b/x", "https://bucket/x", "s3://bucket/a b", "s3://bucket/ä"],
)
def test_a_prefix_that_is_no_place_on_s3_is_refused(tmp_path: Path, prefix: str) -> None:
    """The error shows what one looks like."""
    with pytest.raises(UsageError, match=r"s3://bucket/path, and a bucket has 3 to 63 of a-z, 0-9, \. and -$"):
        manifest(tmp_path, "fact_order", None, prefix)


def test_what_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    """Unknown tables and dates; of many dates, the first and the last are named."""
    with pytest.raises(UsageError, match=r"'orders'.*fact_order, order_items, dim_user, dim_product"):
        manifest(tmp_path, "orders", None, PREFIX)
    with pytest.raises(UsageError, match="no published date"):
        manifest(tmp_path, "fact_order", None, PREFIX)
    for day in range(1, 21):
        folder = tmp_path / "curated" / f"date=2026-03-{day:02d}"
        folder.mkdir(parents=True)
        (folder / "fact_order.parquet").write_bytes(b"x")
    with pytest.raises(UsageError) as error:
        manifest(tmp_path, "fact_order", ["2026-03-01", "2026-3-1", "../../etc"], PREFIX)
    assert "no fact_order of ../../etc, 2026-3-1 in" in str(error.value)
    assert "2026-03-05, … (20 in all), 2026-03-16" in str(error.value) and "2026-03-06" not in str(error.value)


# ------------------------------------------------------------------------------------------------------------- the page


@pytest.mark.parametrize(
    ("section", "dialect", "blocks"),
    [
        ("Which dates changed", "postgres", 1),
        ("Which dates changed", "redshift", 1),
        ("PostgreSQL", "postgres", 2),
        ("Redshift", "redshift", 2),
        ("Redshift Spectrum", "redshift", 2),
    ],
)
def test_the_sql_of_the_page_is_sql(section: str, dialect: str, blocks: int) -> None:
    """Each statement parses in its dialect, without falling back."""
    assert len(sql_of(section)) == blocks
    for block in sql_of(section):
        assert parsed(block, dialect)


def test_every_sql_block_of_the_page_is_tested() -> None:
    """A new section with SQL needs its line above."""
    assert sum(len(sql_of(section)) for section in SECTIONS) == PAGE.count("```sql") == 7


def test_the_external_table_has_the_columns_of_the_file() -> None:
    """The Spectrum example and the DDL say the same, but for NOT NULL, which external tables lack."""
    (external,) = parsed(sql_of("Redshift Spectrum")[0], "redshift")
    (table,) = [one for one in parsed(ddl("redshift"), "redshift") if one.find(exp.Table).name == "fact_order"]
    columns = [[(c.name, c.kind.sql()) for c in one.find_all(exp.ColumnDef)] for one in (external, table)]
    assert columns[0] == columns[1]


def test_redshift_deletes_all_dates_before_it_inserts_any() -> None:
    """The documented exchange is one transaction in that order, since an order may move between its dates."""
    kinds = [type(one) for one in parsed(sql_of("Redshift")[0], "redshift")]
    began = kinds.index(exp.Transaction)
    assert kinds[began:] == [exp.Transaction, *[exp.Delete] * 3, *[exp.Insert] * 3, exp.Commit]
    assert kinds[:began] == [exp.Create] * 2 + [exp.Copy] * 2


def test_a_manifest_leaves_the_output_as_it_was(home: Path) -> None:
    """It only looks. Beside the ledger, SQLite may leave two files of its own, as for every command that looks into it."""
    before = tree(home / "output")
    manifest(home / "output", "fact_order", None, PREFIX)
    after = tree(home / "output")
    assert {name: after[name] for name in after if not name.endswith(("-shm", "-wal"))} == before
