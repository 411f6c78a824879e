"""What a load says to its database: statements as text, and the type that each column has there. Pure. PostgreSQL and Redshift
get the same statements, except where a function asks for the dialect.

The published tables have the types of core/ddl; models have those that follow here. A column of a model that has only NULL has no
type in Parquet, and is not in the database until it has one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from ...core.ddl import TABLES, column_type
from ...storage.store import iso_date
from ..contract import WHOLE
from .settings import REDSHIFT

LOADED = "strandline_loaded"
MOST_NAME_BYTES = 63  # PostgreSQL cuts longer names off, and Redshift allows 127
_ROWS_PER_INSERT = 1_000
_types = pa.types
_JSON = "make JSON of it in the model: to_json(…)::VARCHAR in SQL, json.dumps in Python"
_CAST = "cast it in the model to a number, a text, a date or an instant"


class Unfit(ValueError):
    """A column that the database cannot have; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column in the database. `type`: as the catalog of the database spells it. `sent`: the Arrow type in which values are
    sent, which PostgreSQL's binary COPY reads as that type."""

    name: str
    type: str
    sent: pa.DataType
    is_required: bool = False


# ---------------------------------------------------------------------------------------------------------------- types


def columns_of(table: str, schema: pa.Schema, dialect: str) -> list[Column]:
    """The columns of a table. Raises Unfit."""
    columns = [_column(table, field, dialect) for field in schema if not _types.is_null(field.type)]
    if not columns:
        raise Unfit("it has no column with a value")
    return columns


def date_column(schema: pa.Schema) -> str:
    """The name of the date of a row: models may spell it in capitals."""
    return next(name for name in schema.names if name.lower() == "date")


def _column(table: str, field: pa.Field, dialect: str) -> Column:
    if len(field.name.encode()) > MOST_NAME_BYTES or not field.name or "\0" in field.name:
        raise Unfit(
            f"the name of the column {field.name!r} is not 1 to {MOST_NAME_BYTES} bytes long; rename it in the model"
        )
    if dialect == REDSHIFT and field.name != field.name.lower():
        raise Unfit(f"Redshift has small letters only; rename the column {field.name} in the model")
    kind = _plain(field.type)
    try:
        own, sent = _own_type(kind)
        if table in TABLES:
            return Column(field.name, _as_in_catalog(column_type(field, dialect)), sent, not field.nullable)
        return Column(field.name, _of_redshift(kind, own) if dialect == REDSHIFT else own, sent)
    except Unfit as why:
        raise Unfit(f"the column {field.name} is {field.type}: {why}") from None


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values."""
    if _types.is_dictionary(kind):
        return _plain(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.UuidType):
        return _plain(kind.storage_type)
    return kind


_Test = Callable[[pa.DataType], bool]
_TYPES: Sequence[tuple[_Test, str, pa.DataType]] = (  # a type that holds every value of the other
    (_types.is_boolean, "boolean", pa.bool_()),
    (lambda kind: kind in (pa.int8(), pa.uint8(), pa.int16()), "smallint", pa.int16()),
    (lambda kind: kind in (pa.uint16(), pa.int32()), "integer", pa.int32()),
    (lambda kind: kind in (pa.uint32(), pa.int64()), "bigint", pa.int64()),
    (_types.is_uint64, "numeric(20,0)", pa.decimal128(20, 0)),
    (lambda kind: kind in (pa.float16(), pa.float32()), "real", pa.float32()),
    (_types.is_float64, "double precision", pa.float64()),
    (_types.is_date, "date", pa.date32()),
    (_types.is_time, "time without time zone", pa.time64("us")),
    (lambda kind: _types.is_timestamp(kind) and kind.tz is None, "timestamp without time zone", pa.timestamp("us")),
    (_types.is_timestamp, "timestamp with time zone", pa.timestamp("us", "UTC")),
    (lambda kind: _types.is_string(kind) or _types.is_large_string(kind) or _types.is_string_view(kind), "text", pa.string()),
    (
        lambda kind: _types.is_binary(kind) or _types.is_large_binary(kind) or _types.is_fixed_size_binary(kind)
        or _types.is_binary_view(kind), "bytea", pa.binary(),
    ),
    (lambda kind: isinstance(kind, pa.UuidType), "uuid", pa.binary(16)),
)  # fmt: skip


def _own_type(kind: pa.DataType) -> tuple[str, pa.DataType]:
    """PostgreSQL's type and what is sent."""
    if _types.is_decimal(kind):
        if kind.scale < 0 or kind.scale > kind.precision:
            raise Unfit(_CAST)
        wide = pa.decimal128 if kind.precision <= 38 else pa.decimal256
        return f"numeric({kind.precision},{kind.scale})", wide(kind.precision, kind.scale)
    for is_it, name, sent in _TYPES:
        if is_it(kind):
            return name, sent
    raise Unfit(_JSON if _types.is_nested(kind) else _CAST)


# What COPY reads from Parquet as it is: see docs/WAREHOUSE.md.
_REDSHIFT_TYPES = {
    pa.bool_(): "boolean", pa.int16(): "smallint", pa.int32(): "integer", pa.int64(): "bigint", pa.float32(): "real",
    pa.float64(): "double precision", pa.date32(): "date", pa.string(): "character varying(65535)",
    pa.large_string(): "character varying(65535)", pa.timestamp("us"): "timestamp without time zone",
    pa.timestamp("us", "UTC"): "timestamp without time zone",
}  # fmt: skip


def _of_redshift(kind: pa.DataType, own: str) -> str:
    if _types.is_decimal(kind) and 10 <= kind.precision <= 18:  # an INT64 in Parquet
        return own
    if (name := _REDSHIFT_TYPES.get(kind)) is None:
        raise Unfit(
            "it is not known whether Redshift's COPY reads that from Parquet; cast it in the model to BOOLEAN, SMALLINT, "
            "INTEGER, BIGINT, REAL, DOUBLE, DECIMAL(10 to 18, …), VARCHAR, DATE or TIMESTAMP"
        )
    return name


def _as_in_catalog(name: str) -> str:
    """A type of core/ddl as format_type() gives it."""
    words = {"TIMESTAMPTZ": "timestamp with time zone", "TIMESTAMP": "timestamp without time zone"}
    return words.get(name, name.lower().replace("decimal(", "numeric(").replace("varchar(", "character varying("))


# ----------------------------------------------------------------------------------------------------------- statements


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def named(schema: str, table: str) -> str:
    return f"{quoted(schema)}.{quoted(table)}"


def lock(schema: str) -> str:
    """Excludes other loads of this schema until the transaction ends. PostgreSQL only."""
    digest = hashlib.sha256(f"strandline load {schema}".encode()).digest()
    return f"SELECT pg_advisory_xact_lock({int.from_bytes(digest[:8], 'big', signed=True)})"


def lock_loaded(schema: str) -> str:
    """The same for Redshift, which has no advisory locks. The table must exist."""
    return f"LOCK TABLE {named(schema, LOADED)}"


def settings(lock_seconds: float, statement_seconds: float) -> str:
    """Settings of the transaction. PostgreSQL only. Row-level security would hide rows from DELETE: without it, that is an error.
    The client sends UTF-8, whatever the database has. A server soon ends the session of a client whose machine is gone, and with
    it the locks."""
    values = {
        "lock_timeout": f"{round(lock_seconds * 1000)}ms", "statement_timeout": f"{round(statement_seconds * 1000)}ms",
        "client_encoding": "UTF8", "row_security": "off", "tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10",
        "tcp_keepalives_count": "3",
    }  # fmt: skip
    return "SELECT " + ", ".join(
        f"set_config({literal(name)}, {literal(value)}, true)" for name, value in values.items()
    )


def schemas(schema: str) -> str:
    return f"SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = {literal(schema)}"


def relations(schema: str) -> str:
    """The name and the kind of everything in a schema that has rows."""
    return (
        "SELECT c.relname, CAST(c.relkind AS TEXT) FROM pg_catalog.pg_class c "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE n.nspname = {literal(schema)} AND c.relkind IN ('r', 'p', 'v', 'm', 'f')"
    )


def _attributes(schema: str, table: str) -> str:
    return (
        "FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid "
        "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
        f"WHERE n.nspname = {literal(schema)} AND c.relname = {literal(table)} AND a.attnum > 0 AND NOT a.attisdropped"
    )


def existing_columns(schema: str, table: str) -> str:
    """The name and the type of the columns of a table, in their order."""
    return f"SELECT a.attname, format_type(a.atttypid, a.atttypmod) {_attributes(schema, table)} ORDER BY a.attnum"


def indexes_on(schema: str, table: str, column: str) -> str:
    """How many indexes begin with a column. PostgreSQL only."""
    index = "EXISTS (SELECT 1 FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indkey[0] = a.attnum)"
    return f"SELECT count(*) {_attributes(schema, table)} AND a.attname = {literal(column)} AND {index}"


def create_schema(schema: str) -> str:
    return f"CREATE SCHEMA {quoted(schema)}"


def create_loaded(schema: str) -> str:
    """The table of what is loaded. `date` is NULL for a table without dates."""
    return (
        f"CREATE TABLE {named(schema, LOADED)} (table_name VARCHAR(63) NOT NULL, date DATE, sha256 VARCHAR(64) NOT NULL, "
        "row_count BIGINT NOT NULL, batch BIGINT NOT NULL, loaded_at TIMESTAMPTZ NOT NULL, UNIQUE (table_name, date))"
    )


def create_table(schema: str, table: str, columns: Sequence[Column], dialect: str) -> str:
    lines = [f"{quoted(one.name)} {one.type}{' NOT NULL' if one.is_required else ''}" for one in columns]
    layout = ""
    if published := TABLES.get(table):
        lines.append(f"PRIMARY KEY ({', '.join(map(quoted, published.key))})")
        layout = f" {published.redshift}" if dialect == REDSHIFT else ""
    return f"CREATE TABLE {named(schema, table)} ({', '.join(lines)}){layout}"


def create_index(schema: str, table: str, column: str) -> str:
    """PostgreSQL only."""
    return f"CREATE INDEX ON {named(schema, table)} ({quoted(column)})"


def add_column(schema: str, table: str, column: Column) -> str:
    return f"ALTER TABLE {named(schema, table)} ADD COLUMN {quoted(column.name)} {column.type}"


def loaded(schema: str) -> str:
    return f"SELECT table_name, date, sha256 FROM {named(schema, LOADED)}"


def any_rows(schema: str, table: str, dates: Collection[int] | None, column: str) -> str:
    """How many rows of these dates there are, or of all; it counts no further than one."""
    where = "" if dates is None else f" WHERE {_of_dates(dates, column)}"
    return f"SELECT count(*) FROM (SELECT 1 FROM {named(schema, table)}{where} LIMIT 1) AS found"


def select_rows(schema: str, table: str, columns: Sequence[str], date: int, column: str) -> str:
    names = ", ".join(map(quoted, columns))
    return f"SELECT {names} FROM {named(schema, table)}" + (
        "" if date == WHOLE else f" WHERE {_of_dates([date], column)}"
    )


def delete_rows(schema: str, table: str, dates: Collection[int] | None, column: str) -> str:
    """The rows of these dates, or all."""
    return f"DELETE FROM {named(schema, table)}" + ("" if dates is None else f" WHERE {_of_dates(dates, column)}")


def forget(schema: str, table: str, dates: Collection[int] | None) -> str:
    """Removes what is recorded of these dates of a table, or of all."""
    where = f"table_name = {literal(table)}" + ("" if dates is None else f" AND {_of_dates(dates, 'date')}")
    return f"DELETE FROM {named(schema, LOADED)} WHERE {where}"


def remember(
    schema: str, files: Mapping[tuple[str, int], tuple[bytes, int]], batch: int, now: datetime
) -> Iterator[str]:
    """Records the SHA-256 and the number of rows of files, by table and date."""
    at = literal(now.isoformat())
    rows = [
        f"({literal(table)}, {'NULL' if date == WHOLE else literal(iso_date(date))}, '{sha256.hex()}', {count}, {batch}, {at})"
        for (table, date), (sha256, count) in files.items()
    ]
    for start in range(0, len(rows), _ROWS_PER_INSERT):
        values = ", ".join(rows[start : start + _ROWS_PER_INSERT])
        yield (
            f"INSERT INTO {named(schema, LOADED)} (table_name, date, sha256, row_count, batch, loaded_at) VALUES {values}"
        )


def copy_manifest(schema: str, table: str, url: str, iam_role: str) -> str:
    """Redshift only: from files whose columns are those of the table, in their order."""
    role = "default" if iam_role == "default" else literal(iam_role)
    return f"COPY {named(schema, table)} FROM {literal(url)} IAM_ROLE {role} FORMAT AS PARQUET MANIFEST"


def _of_dates(dates: Collection[int], column: str) -> str:
    return f"{quoted(column)} IN ({', '.join(literal(iso_date(date)) for date in sorted(dates))})"
