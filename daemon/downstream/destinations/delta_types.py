"""The columns of tables and models as Delta Lake has them, and how the columns of a table may change. Pure.

Files are added to a table as they are. So a type is taken only where a reader of Delta gets from the file what the log promises.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from ..contract import DownstreamFailed

DATE = "date"
_NO_NAME = frozenset(" ,;{}()\n\t=")  # Spark refuses these
_AS_THEY_ARE = (
    pa.types.is_boolean, pa.types.is_int8, pa.types.is_int16, pa.types.is_int32, pa.types.is_int64, pa.types.is_float32,
    pa.types.is_float64, pa.types.is_date32, pa.types.is_string, pa.types.is_binary,
)  # fmt: skip
_CASTS = (  # what to write instead
    (pa.types.is_uint64, "DECIMAL(20, 0)"),
    (pa.types.is_unsigned_integer, "BIGINT"),
    (pa.types.is_timestamp, "TIMESTAMP"),
    (pa.types.is_date, "DATE"),
    (pa.types.is_decimal, "DECIMAL(38, 10)"),
    (pa.types.is_float16, "FLOAT"),
)


def delta_schema(where: str, table: str, schema: pa.Schema, *, dated: bool) -> pa.Schema:
    """The columns of a table in types that Delta has; each may be NULL. Raises DownstreamFailed with the table, the column and
    the cast that makes it fit."""
    found = pa.schema([pa.field(one.name, _type(where, table, one.name, one.type)) for one in schema])
    seen: dict[str, str] = {}
    for name in found.names:
        if not name or _NO_NAME.intersection(name):
            raise DownstreamFailed(
                f"{where}: the column {name!r} of {table} cannot be in a Delta table: its name is empty or has a blank or one of "
                f"{''.join(sorted(_NO_NAME)).strip()}; give it another one with AS"
            )
        if (other := seen.setdefault(name.lower(), name)) != name or found.names.count(name) > 1:
            raise DownstreamFailed(
                f"{where}: {table} has the columns {other!r} and {name!r}; Delta takes them for one; rename one with AS"
            )
    if dated and (DATE not in found.names or not pa.types.is_date32(found.field(DATE).type)):
        raise DownstreamFailed(f"{where}: {table} needs a column date of the type DATE; write CAST(… AS DATE) AS date")
    return found


def _type(where: str, table: str, column: str, kind: pa.DataType) -> pa.DataType:
    """A type as Delta has it; those below a list or a struct likewise."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_decimal(kind) and kind.precision <= 38 and 0 <= kind.scale <= kind.precision:
        return pa.decimal128(kind.precision, kind.scale)
    if pa.types.is_timestamp(kind) and kind.unit == "us":
        return pa.timestamp("us", tz="UTC" if kind.tz else None)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_type(where, table, f"{column}[]", kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(one.name, _type(where, table, f"{column}.{one.name}", one.type)) for one in kind])
    if pa.types.is_map(kind):
        inside = [_type(where, table, f"{column}[]", one) for one in (kind.key_type, kind.item_type)]
        return pa.map_(*inside)
    if any(fits(kind) for fits in _AS_THEY_ARE):
        return kind
    cast = next((cast for fits, cast in _CASTS if fits(kind)), "VARCHAR")
    raise DownstreamFailed(
        f"{where}: the column {column} of {table} has the type {kind}, which Delta has not; write CAST({column} AS {cast})"
    )


def has_local_times(schema: pa.Schema) -> bool:
    """Whether there are instants without a time zone, which need a newer kind of table."""
    return any(_has_local_times(one.type) for one in schema)


def _has_local_times(kind: pa.DataType) -> bool:
    if pa.types.is_timestamp(kind):
        return kind.tz is None
    return any(_has_local_times(kind.field(number).type) for number in range(kind.num_fields))


def evolved(where: str, table: str, now: pa.Schema, wanted: pa.Schema, *, stay: Collection[str]) -> pa.Schema:
    """The columns that a table gets: those that it has, then new ones. `stay`: the dates whose files stay; where there are none,
    it gets just what is wanted. Raises DownstreamFailed where a column has another type than the files that stay."""
    if not stay:
        return now if set(now) == set(wanted) else wanted
    for one in wanted:
        if one.name in now.names and now.field(one.name).type != one.type:
            raise DownstreamFailed(
                f"{where}: the column {one.name} of {table} is {one.type} now, and {now.field(one.name).type} in the files of "
                f"{len(stay)} dates, such as {min(stay)}; move the folder {table} away there, and it is made anew"
            )
    lower = {name.lower(): name for name in now.names}
    for name in wanted.names:
        if lower.get(name.lower(), name) != name:
            raise DownstreamFailed(
                f"{where}: the column {name} of {table} is called {lower[name.lower()]} there; Delta takes them for one; "
                f"rename it, or move the folder {table} away there, and it is made anew"
            )
    return pa.schema([*now, *(one for one in wanted if one.name not in now.names)])
