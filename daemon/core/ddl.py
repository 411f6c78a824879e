"""The model as SQL tables for a warehouse. Derived from the schemas in core/model, so that the two cannot differ. The columns
are in the order of the Parquet files, as Redshift's COPY requires. Pure: generates text and connects to nothing.

The tables have primary keys, which hold by construction, and no foreign keys: an order whose user or product is missing from
the dimensions is kept and counted. PostgreSQL enforces a foreign key and would refuse to load such an order. Redshift does
not enforce it but trusts it, so its planner could drop the order from a join.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pyarrow as pa

from .columns import fact_schema
from .errors import UsageError
from .mapping import Columns
from .model import DIM_PRODUCT, DIM_USER, FACT, ITEMS, MAX_ID_BYTES, MAX_METADATA_BYTES

_NOTE_INDENT = 30  # beyond the longest name: room for a type and NOT NULL


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its columns, its key, its layout in Redshift, and comments on the table and its columns."""

    name: str
    schema: pa.Schema
    key: tuple[str, ...]
    redshift: str
    about: str
    notes: dict[str, str]

    @property
    def by_date(self) -> bool:
        """Whether its files are in date=YYYY-MM-DD folders."""
        return "date" in self.schema.names


_SKU = "the product; may be missing from dim_product"
_QTY = "number of units; the API may give fractions"
_PRICE = "per unit, in the order's currency"
_DATE = "UTC calendar date of the order's created_at; the partition"

TABLES = {
    table.name: table
    for table in (
        Table(
            "fact_order",
            FACT,
            ("order_id", "line_number"),
            "DISTSTYLE KEY DISTKEY (order_id) COMPOUND SORTKEY (date, created_at)",
            "One row per order line.",
            {
                "user_id": "may be missing from dim_user",
                "sku": _SKU,
                "amount": "the order's amount, allocated to its lines: SUM(amount) is right by order, sku, user and date",
                "qty": _QTY,
                "price": _PRICE,
                "created_at": "UTC, microseconds",
                "date": _DATE,
                "line_number": "position in the order's items, from 1; 0 is the one row of an order without items",
                "currency": "as the API gave it; a code of three letters in capitals, where the source has a mapping",
                "updated_at": "UTC, microseconds; NULL where the API gave none",
                "metadata": "JSON text",
            },
        ),
        Table(
            "order_items",
            ITEMS,
            ("order_id", "line_number"),
            "DISTSTYLE KEY DISTKEY (order_id) COMPOUND SORTKEY (date, order_id)",
            "The items as the API gave them. An order without items has no row here.",
            {
                "line_number": "position in the order's items, from 1",
                "sku": _SKU,
                "qty": _QTY,
                "price": _PRICE,
                "date": _DATE,
            },
        ),
        Table(
            "dim_user",
            DIM_USER,
            ("user_id",),
            "DISTSTYLE ALL SORTKEY (user_id)",
            "The latest row of each user.",
            {"email": "personal data", "created_at": "UTC, microseconds", "country": "NA is Namibia"},
        ),
        Table(
            "dim_product",
            DIM_PRODUCT,
            ("sku",),
            "DISTSTYLE ALL SORTKEY (sku)",
            "The latest row of each product.",
            {"price": "list price per unit, in the catalogue's currency"},
        ),
    )
}


@dataclass(frozen=True, slots=True)
class _Dialect:
    """What differs between SQL dialects: the type for a text of at most so many bytes, the type for an instant, and the clauses
    after the columns."""

    text: Callable[[int], str]
    instant: str
    layout: Callable[[Table], str]
    indexes: Callable[[Table], str]


def _nothing(_table: Table) -> str:
    return ""


def _date_index(table: Table) -> str:
    return f"CREATE INDEX {table.name}_date ON {table.name} (date);\n" if table.by_date else ""


_DIALECTS = {
    # In Redshift, lengths are bytes and a longer value fails the load. These are the limits of the input contract.
    "redshift": _Dialect("VARCHAR({})".format, "TIMESTAMP", lambda table: f"\n{table.redshift}", _nothing),
    "postgres": _Dialect(lambda _bytes: "TEXT", "TIMESTAMPTZ", _nothing, _date_index),
    "duckdb": _Dialect(lambda _bytes: "VARCHAR", "TIMESTAMPTZ", _nothing, _nothing),
}
DIALECTS = tuple(_DIALECTS)


def ddl(dialect: str, columns: Columns = ()) -> str:
    """The statements that create the tables, with a comment for each column that needs one. `columns`: the extra ones of
    fact_order."""
    if dialect not in _DIALECTS:
        raise UsageError(f"unknown dialect {dialect!r}; allowed are {', '.join(DIALECTS)}")
    head = (
        f"-- Strandline's model, for {dialect}. Instants are UTC, amounts and prices exact.\n"
        "-- No foreign keys: orders whose user or product is unknown are kept.\n"
    )
    fact = replace(TABLES["fact_order"], schema=fact_schema(columns))
    tables = (TABLES | {fact.name: fact}).values()
    return "\n".join([head, *(_create(table, _DIALECTS[dialect]) for table in tables)])


def column_type(field: pa.Field, dialect: str) -> str:
    """The type of a column of these tables, extra ones of fact_order included."""
    return _type(field, _DIALECTS[dialect])


def _create(table: Table, dialect: _Dialect) -> str:
    width = max(len(_name(field)) for field in table.schema)
    columns = [_column(field, width, table.notes.get(field.name), dialect) for field in table.schema]
    key = f"    PRIMARY KEY ({', '.join(table.key)})"
    body = "\n".join([*columns, key])
    return f"-- {table.about}\nCREATE TABLE {table.name} (\n{body}\n){dialect.layout(table)};\n{dialect.indexes(table)}"


def _column(field: pa.Field, width: int, note: str | None, dialect: _Dialect) -> str:
    null = "" if field.nullable else " NOT NULL"
    line = f"    {_name(field):{width}} {_type(field, dialect)}{null},"
    return f"{line:{width + _NOTE_INDENT}} -- {note}" if note else line


def _name(field: pa.Field) -> str:
    """In quotes if it is a name of the user: it may be a reserved word."""
    ours = any(field.name in table.schema.names for table in TABLES.values())
    return field.name if ours else f'"{field.name}"'


def _type(field: pa.Field, dialect: _Dialect) -> str:
    kind = field.type
    if pa.types.is_large_string(kind) or pa.types.is_string(kind):  # as it is read back
        return dialect.text(MAX_METADATA_BYTES if field.name == "metadata" else MAX_ID_BYTES)
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return dialect.instant
    return {pa.date32(): "DATE", pa.int32(): "INTEGER", pa.bool_(): "BOOLEAN"}[kind]
