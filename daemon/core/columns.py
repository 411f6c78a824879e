"""Extra columns of fact_order: those of [columns], behind the fixed ones, by name. Pure.

ORDERS has them under names that no other column has, with the types of the file. A table may lack some of them: its orders have
NULL there, as those without a value do. So tables of several configurations can be joined, and the content of an order does not
depend on the columns that it lacks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pyarrow as pa

from .mapping import Columns
from .model import FACT

_FIXED = frozenset(FACT.names)
EXTRA = "extra."  # begins their names in ORDERS
TYPES: Mapping[str, pa.DataType] = {
    "text": pa.large_string(),
    "decimal": FACT.field("amount").type,
    "instant": FACT.field("created_at").type,
    "boolean": pa.bool_(),
}


def fact_schema(columns: Columns) -> pa.Schema:
    """The schema of fact_order with these extra columns."""
    return pa.schema([*FACT, *(pa.field(name, TYPES[kind]) for name, kind in columns)])


def columns_of(schema: pa.Schema) -> Columns:
    """The extra columns that a file or a table of fact_order has."""
    return tuple(sorted((name, _kind_of(schema.field(name).type)) for name in set(schema.names) - _FIXED))


def extra_of(names: Iterable[str]) -> list[str]:
    """The names of the extra columns among those of ORDERS, by name."""
    return sorted(name for name in names if name.startswith(EXTRA))


def together(many: Iterable[Columns]) -> Columns:
    """All of these columns. No two of one name have different types: a start with such a configuration is refused."""
    return tuple(sorted({name: kind for columns in many for name, kind in columns}.items()))


def widened(fact: pa.Table, columns: Columns) -> pa.Table:
    """A fact_order table with the columns that it lacks, which are NULL."""
    schema = fact_schema(columns)
    if fact.schema.names == schema.names:
        return fact
    arrays = [fact[one.name] if one.name in fact.schema.names else pa.nulls(len(fact), one.type) for one in schema]
    return pa.table(arrays, schema=schema)


def _kind_of(kind: pa.DataType) -> str:
    """The type of an extra column, as a file or a table has it."""
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_timestamp(kind):
        return "instant"
    return "decimal" if pa.types.is_decimal(kind) else "text"
