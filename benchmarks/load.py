"""A drop that touches 200 of 730 dates, brought to PostgreSQL: our delivery against the same by hand, as an expert writes it with
Arrow and ADBC, and with psycopg and CSV.

    python -m benchmarks.load [--runs N] [--orders N] [--work FOLDER]

By hand is DELETE and COPY of the same files in one transaction, without what a delivery does besides: it excludes other writers,
checks what is there, removes U+0000, refuses values that do not fit, and records what is loaded. Each has its own schema, with
the same tables, in one server. A run changes the amounts of all rows of the 200 dates. It needs an installed PostgreSQL.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import adbc_driver_postgresql.dbapi as adbc
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from benchmarks.data import WORK, fresh_folder
from daemon.core.model import FACT, ITEMS
from daemon.core.parquet import encode
from daemon.downstream.destinations.postgres import Postgres
from daemon.downstream.destinations.store import Change, Delivery, Target
from tests.support.postgres import cluster

DATES, STALE, LINES = 730, 200, 4
FIRST = (date(2024, 11, 1) - date(1970, 1, 1)).days
STALE_DAYS = range(FIRST, FIRST + DATES, DATES // STALE)[:STALE]
TABLES = {"fact_order": FACT, "order_items": ITEMS}
BAR = 1.3
Files = dict[str, list[Path]]  # by table, one a date


def rows_of(day: int, orders: int, version: int) -> pa.Table:
    """One date; another version has other amounts."""
    count = orders * LINES
    order, line = np.repeat(np.arange(orders), LINES), np.tile(np.arange(1, LINES + 1, dtype=np.int32), orders)
    midnight = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day)
    instants = int(midnight.timestamp()) * 1_000_000 + order * (86_400_000_000 // orders)
    money = (
        pa.array((order * 7919 + line * 131 + version) % 100_000, pa.int64())
        .cast(pa.decimal128(19, 0))
        .cast(pa.decimal128(23, 4))
    )
    values = {
        "order_id": [f"{day}-{one:08d}" for one in order], "user_id": [f"user-{one % 9_000}" for one in order],
        "sku": [f"sku-{one % 700}" for one in order * 3 + line], "amount": money, "price": money,
        "qty": pa.array([1] * count, pa.decimal128(23, 4)),
        "created_at": pa.array(instants, pa.int64()).cast(pa.timestamp("us", "UTC")),
        "date": pa.array(np.full(count, day, np.int32)).cast(pa.date32()), "line_number": line, "currency": ["EUR"] * count,
        "updated_at": pa.nulls(count, pa.timestamp("us", "UTC")), "metadata": pa.nulls(count, pa.large_string()),
    }  # fmt: skip
    return (
        pa.table({name: pa.chunked_array([pa.array(one)]) for name, one in values.items()})
        .select(FACT.names)
        .cast(FACT)
    )


def made(folder: Path, days: range, orders: int, version: int) -> list[Change]:
    changes = []
    for day in days:
        fact = rows_of(day, orders, version)
        for table, schema in TABLES.items():
            content = bytes(encode(fact.select(schema.names)))
            path = folder / f"{table}-{day}-{version}.parquet"
            path.write_bytes(content)
            changes.append(Change(table, day, path, hashlib.sha256(content).digest(), len(content)))
    return changes


def ours(dsn: str, changes: list[Change]) -> None:
    values = {"dsn": dsn, "schema": "ours", "dialect": "postgres", "lock_timeout": 30.0, "statement_timeout": 3600.0}
    store = Postgres(Target("load", "bench", values))
    store.deliver(Delivery(store.contents(), changes, TABLES, 1))
    store.close()


def in_clause(changes: list[Change]) -> str:
    days = sorted({one.date for one in changes})
    return ", ".join(f"'{date(1970, 1, 1) + timedelta(days=day)}'" for day in days)


def with_adbc(dsn: str, changes: list[Change]) -> None:
    """By hand, with Arrow."""
    with adbc.connect(dsn) as connection:
        for table, schema in TABLES.items():
            narrow = pa.schema(
                [one.with_type(pa.decimal128(18, 4)) if pa.types.is_decimal(one.type) else one for one in schema]
            )

            def batches(table: str = table, schema: pa.Schema = narrow) -> Iterator[pa.RecordBatch]:
                for one in changes:
                    if one.table == table:
                        yield from pq.read_table(one.path, partitioning=None).cast(schema).to_batches()

            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM adbc.{table} WHERE date IN ({in_clause(changes)})")
            with connection.cursor() as cursor:
                reader = pa.RecordBatchReader.from_batches(narrow, batches())
                cursor.adbc_ingest(table, reader, mode="append", db_schema_name="adbc")
        connection.commit()


def with_psycopg(dsn: str, changes: list[Change]) -> None:
    """By hand, with CSV."""
    with psycopg.connect(dsn) as connection, connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"DELETE FROM psycopg.{table} WHERE date IN ({in_clause(changes)})")
            with cursor.copy(f"COPY psycopg.{table} FROM STDIN WITH (FORMAT csv)") as stream:
                for one in changes:
                    if one.table == table:
                        text = io.BytesIO()
                        rows = pq.read_table(one.path, partitioning=None)
                        csv.write_csv(rows, text, csv.WriteOptions(include_header=False))
                        stream.write(text.getbuffer())


WAYS: dict[str, Callable[[str, list[Change]], None]] = {"ours": ours, "adbc": with_adbc, "psycopg": with_psycopg}


def prepare(dsn: str, changes: list[Change]) -> None:
    """The same tables and rows in three schemas."""
    ours(dsn, changes)
    with psycopg.connect(dsn, autocommit=True) as connection:
        for schema in ("adbc", "psycopg"):
            connection.execute(f"CREATE SCHEMA {schema}")
            for table in TABLES:
                connection.execute(f"CREATE TABLE {schema}.{table} (LIKE ours.{table} INCLUDING ALL)")
                connection.execute(f"INSERT INTO {schema}.{table} SELECT * FROM ours.{table}")


def settle(dsn: str) -> None:
    """Dead rows and dirty pages of a run are not paid for by the next one."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("VACUUM (ANALYZE)")
        connection.execute("CHECKPOINT")


def sums(dsn: str, schema: str) -> list[tuple]:
    text = "order_id || line_number || created_at::text || sku"
    query = f"SELECT count(*), sum(amount), sum(hashtext({text})::bigint) FROM {schema}.fact_order"
    with psycopg.connect(dsn) as connection:
        return connection.execute(query).fetchall()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--orders", type=int, default=500, help="of a date, four lines each")
    parser.add_argument("--work", type=Path, default=WORK)
    options = parser.parse_args()
    folder = fresh_folder(options.work.resolve() / "load")
    with cluster(
        ["-c", "fsync=on", "-c", "autovacuum=off", "-c", "shared_buffers=256MB", "-c", "max_wal_size=4GB"]
    ) as server:
        dsn = server.conninfo
        prepare(dsn, made(folder, range(FIRST, FIRST + DATES), options.orders, 0))
        versions = [made(folder, STALE_DAYS, options.orders, version) for version in (1, 2)]
        ratios: dict[str, list[float]] = {"adbc": [], "psycopg": []}
        for number in range(options.runs):
            seconds = {}
            for way in list(WAYS)[:: -1 if number % 2 else 1]:
                settle(dsn)
                gc.collect()
                began = time.perf_counter()
                WAYS[way](dsn, versions[number % 2])
                seconds[way] = time.perf_counter() - began
            print("  " + ", ".join(f"{way} {seconds[way]:.2f} s" for way in WAYS), flush=True)
            for way, found in ratios.items():
                found.append(seconds["ours"] / seconds[way])
        if sums(dsn, "ours") != sums(dsn, "adbc") or sums(dsn, "ours") != sums(dsn, "psycopg"):
            raise SystemExit("the rows differ")
    lines = 2 * STALE * options.orders * LINES
    against = ", ".join(f"median {statistics.median(found):.2f} × {way}" for way, found in ratios.items())
    print(f"load: {STALE} of {DATES} dates, {lines:,} rows: {against}, both by hand (bar {BAR})")


if __name__ == "__main__":
    main()
