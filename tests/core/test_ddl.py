"""The tables in SQL: parsed, with the columns of the files."""

from __future__ import annotations

import pytest
import sqlglot
from sqlglot import exp

from daemon.core.columns import fact_schema
from daemon.core.ddl import DIALECTS, TABLES, ddl
from daemon.core.errors import UsageError
from daemon.core.model import DIM_PRODUCT, DIM_USER, FACT, ITEMS
from tests.support.sql import parsed


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_ddl_has_the_columns_of_the_files_in_their_order(dialect: str) -> None:
    """Parsed without falling back, it makes the four tables; COPY from Parquet goes by place, so order and nullability count."""
    creates = [one for one in parsed(ddl(dialect), dialect) if one.args.get("kind") == "TABLE"]
    schemas = {"fact_order": FACT, "order_items": ITEMS, "dim_user": DIM_USER, "dim_product": DIM_PRODUCT}
    assert [one.find(exp.Table).name for one in creates] == list(schemas) == list(TABLES)
    for create, schema in zip(creates, schemas.values(), strict=True):
        columns = list(create.find_all(exp.ColumnDef))
        assert [column.name for column in columns] == schema.names
        required = [column.find(exp.NotNullColumnConstraint) is not None for column in columns]
        assert required == [not field.nullable for field in schema]
        assert create.find(exp.PrimaryKey) is not None and create.find(exp.ForeignKey) is None
    for table in TABLES.values():
        assert table.notes.keys() | set(table.key) <= set(table.schema.names)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_extra_columns_come_last_by_name(dialect: str) -> None:
    """Nullable, in the types of the files; a reserved word is a name, too."""
    columns = (("gift", "boolean"), ("order", "text"), ("shipped", "instant"), ("tip", "decimal"))
    create = next(one for one in parsed(ddl(dialect, columns), dialect) if one.find(exp.Table).name == "fact_order")
    found = [(one.name, one.kind.sql(dialect)) for one in create.find_all(exp.ColumnDef)]
    assert [name for name, _ in found] == fact_schema(columns).names
    text = {"redshift": "VARCHAR(256)", "duckdb": "TEXT", "postgres": "TEXT"}[dialect]
    instant = "TIMESTAMP" if dialect == "redshift" else "TIMESTAMPTZ"
    assert [kind for _, kind in found[-4:]] == ["BOOLEAN", text, instant, "DECIMAL(18, 4)"]


def test_redshift_gets_lengths_in_bytes_naive_instants_keys_and_no_reserved_name() -> None:
    """What Redshift needs and others don't: limits of the contract, TIMESTAMP, and how rows are spread and sorted."""
    kinds = {}
    for create in parsed(ddl("redshift"), "redshift"):
        kinds |= {(create.find(exp.Table).name, c.name): c.kind.sql("redshift") for c in create.find_all(exp.ColumnDef)}
        diststyle = create.find(exp.DistStyleProperty).name
        assert create.find(exp.SortKeyProperty) is not None
        assert (diststyle == "ALL") == create.find(exp.Table).name.startswith("dim_")
        assert diststyle == "ALL" or create.find(exp.DistKeyProperty).name == "order_id"
    assert kinds["fact_order", "order_id"] == "VARCHAR(256)"
    assert kinds["fact_order", "metadata"] == "VARCHAR(65535)"
    assert kinds["fact_order", "created_at"] == kinds["dim_user", "created_at"] == "TIMESTAMP"
    assert kinds["fact_order", "amount"] == kinds["dim_product", "price"] == "DECIMAL(18, 4)"
    assert kinds["fact_order", "date"] == "DATE"
    reserved = sqlglot.Dialect.get_or_raise("redshift").generator_class.RESERVED_KEYWORDS
    assert "order" in reserved and not reserved & {name for pair in kinds for name in pair}


def test_an_unknown_dialect_is_named_with_those_there_are() -> None:
    """The error helps."""
    with pytest.raises(UsageError, match=r"'mysql'.*redshift, postgres, duckdb"):
        ddl("mysql")
