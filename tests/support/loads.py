"""Deliveries to a database for tests, and what should be there after them: a plain model in Python."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from daemon.core.columns import fact_schema
from daemon.core.mapping import Columns
from daemon.core.model import DIM_PRODUCT, DIM_USER, FACT, ITEMS
from daemon.core.parquet import encode
from daemon.downstream.destinations.store import Change, Contents, Delivered, Delivery, Store, Target

SCHEMAS = {"fact_order": FACT, "order_items": ITEMS, "dim_user": DIM_USER, "dim_product": DIM_PRODUCT}
EPOCH = date(1970, 1, 1)
DAY = (date(2026, 3, 1) - EPOCH).days


def target(dsn: str, **values: Any) -> Target:
    settings = {
        "dsn": dsn, "schema": "strandline", "tables": (), "dialect": "postgres", "mirror": "", "iam_role": "default",
        "lock_timeout": 30.0, "statement_timeout": 60.0, "time_limit": 600.0,
    }  # fmt: skip
    return Target("load", "shop", settings | values)


def change(folder: Path, table: str, day: int, rows: pa.Table | None) -> Change:
    """A file with these rows; None: the date loses its rows."""
    if rows is None:
        return Change(table, day, None)
    content = bytes(encode(rows))
    sha256 = hashlib.sha256(content).digest()
    path = folder / f"{table}-{day}-{sha256.hex()[:12]}.parquet"
    path.write_bytes(content)
    return Change(table, day, path, sha256, len(content))


def after(before: Contents, changes: Sequence[Change]) -> dict[tuple[str, int], bytes]:
    """What a destination has after a delivery."""
    gone = {one.key for one in changes}
    kept = {key: sha256 for key, sha256 in before.items() if key not in gone}
    return kept | {one.key: one.sha256 for one in changes if one.path is not None}


def deliver(
    store: Store, changes: Sequence[Change], schemas: Mapping[str, pa.Schema] | None = None, batch: int = 1
) -> Delivered:
    """One delivery, with what the store says that it has."""
    names = {one.table for one in changes if one.path is not None}
    known = dict(SCHEMAS) | dict(schemas or {})
    return store.deliver(Delivery(store.contents(), changes, {name: known[name] for name in names}, batch))


def fact(
    day: int, orders: Mapping[str, int], columns: Columns = (), extra: Mapping[str, Any] | None = None
) -> pa.Table:
    """Orders with this many lines each."""
    rows = []
    for order, lines in sorted(orders.items()):
        for line in range(1, lines + 1):
            at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day, microseconds=line)
            rows.append(
                {
                    "order_id": order, "user_id": None, "sku": f"sku {line}", "amount": Decimal(line) / 4, "qty": Decimal(1),
                    "price": None, "created_at": at, "date": EPOCH + timedelta(days=day), "line_number": line, "currency": "EUR",
                    "updated_at": None, "metadata": None, **(extra or {}),
                }
            )  # fmt: skip
    return pa.Table.from_pylist(rows, schema=fact_schema(columns))


def items(day: int, orders: Mapping[str, int]) -> pa.Table:
    return fact(day, orders).select(ITEMS.names)


def users(names: Sequence[str]) -> pa.Table:
    return pa.Table.from_pylist([{"user_id": name, "country": "NA"} for name in names], schema=DIM_USER)


def query(dsn: str, text: Any, *parameters: Any) -> list[tuple]:
    with psycopg.connect(dsn) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        cursor = connection.execute(text, parameters or None)
        return cursor.fetchall() if cursor.description else []


def rows(dsn: str, table: str, columns: Sequence[str]) -> list[tuple]:
    """All rows of a table of the schema strandline, sorted."""
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    found = query(dsn, sql.SQL("SELECT {} FROM strandline.{}").format(names, sql.Identifier(table)))
    return sorted(found, key=repr)


def expected(tables: Mapping[tuple[str, int], pa.Table], table: str, columns: Sequence[str]) -> list[tuple]:
    """The rows that these files have."""
    found = []
    for (name, _), content in tables.items():
        if name == table:
            found += [tuple(row.get(column) for column in columns) for row in content.to_pylist()]
    return sorted(found, key=repr)
