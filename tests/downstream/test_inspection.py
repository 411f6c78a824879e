"""What SQL reads and returns, by DuckDB's own parser: whatever the spelling, no table is overlooked and none is invented."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from daemon.downstream.inputs import schemas
from daemon.downstream.inspection import Inspected, Statement, from_json, inspect, key_of, to_json
from tests.support.following import LIMITS

_IN = "IN ('EUR', 'USD')"


def inspected(
    folder: Path, *texts: str, unknown: Sequence[str] = (), is_model: bool = True, columns: tuple = ()
) -> list[Inspected]:
    """The statements m0, m1, … inspected together."""
    statements = [Statement(f"m{number}", f"m{number}.sql", text, is_model) for number, text in enumerate(texts)]
    found = inspect(statements, schemas(columns), unknown, LIMITS, folder)
    assert from_json(to_json(found)) == found
    return [found[one.name] for one in statements]


@pytest.mark.parametrize(
    ("text", "reads"),
    [
        ("SELECT date FROM fact_order", "fact_order"),
        ("select date from FACT_ORDER", "fact_order"),
        ('SELECT date FROM "Fact_Order" AS order_items', "fact_order"),
        ("FROM fact_order SELECT date", "fact_order"),
        ("TABLE fact_order", "fact_order"),
        ("SELECT date FROM main.fact_order;", "fact_order"),
        ("SELECT date FROM memory.main.fact_order", "fact_order"),
        ("SELECT f.date FROM fact_order f, dim_user u", "dim_user fact_order"),
        ("SELECT date FROM fact_order NATURAL JOIN order_items", "fact_order order_items"),
        ("SELECT date FROM fact_order UNION ALL SELECT date FROM order_items", "fact_order order_items"),
        ("SELECT date FROM fact_order WHERE sku IN (SELECT sku FROM dim_product)", "dim_product fact_order"),
        ("SELECT date FROM fact_order f WHERE EXISTS (FROM order_items i WHERE i.sku = f.sku)", "fact_order order_items"),
        ("SELECT date, (SELECT max(price) FROM dim_product) FROM fact_order", "dim_product fact_order"),
        ("SELECT date FROM fact_order ORDER BY (SELECT count(*) FROM dim_user)", "dim_user fact_order"),
        ("SELECT f.date FROM fact_order f, LATERAL (FROM order_items i WHERE i.sku = f.sku)", "fact_order order_items"),
        # WITH defines tables, also of the names of others
        ("WITH a AS (FROM fact_order) SELECT date FROM a", "fact_order"),
        ("WITH A AS (FROM fact_order), b AS (FROM a) SELECT date FROM B", "fact_order"),
        ("WITH fact_order AS (FROM fact_order) SELECT date FROM fact_order", "fact_order"),
        ("WITH order_items AS (FROM fact_order) SELECT date FROM order_items", "fact_order"),
        ("WITH order_items AS (FROM fact_order) SELECT date FROM main.order_items", "fact_order order_items"),
        ("WITH a AS (WITH b AS (FROM order_items) FROM b) SELECT date FROM a", "order_items"),
        ("WITH a AS (WITH dim_user AS (FROM fact_order) FROM dim_user) SELECT date FROM a, dim_user", "dim_user fact_order"),
        ("SELECT date FROM (WITH fact_order AS (FROM order_items) FROM fact_order), dim_user", "dim_user order_items"),
        ("SELECT f.date FROM (WITH fact_order AS (SELECT 1) FROM fact_order), fact_order f", "fact_order"),
        (
            "WITH RECURSIVE r AS (SELECT min(date) AS date FROM fact_order UNION ALL SELECT (date + 1)::DATE FROM r WHERE "
            "date < (SELECT max(date) FROM order_items)) SELECT date FROM r",
            "fact_order order_items",
        ),
        ("WITH RECURSIVE a AS (SELECT 1), b AS (FROM order_items) SELECT date FROM b, a", "order_items"),
        # other forms
        (f"PIVOT fact_order ON currency {_IN} USING sum(amount) GROUP BY date", "fact_order"),
        (f"FROM (PIVOT order_items ON sku {_IN} USING sum(qty) GROUP BY date)", "order_items"),
        ("FROM (UNPIVOT fact_order ON amount, qty)", "fact_order"),
        ("SELECT date FROM fact_order, generate_series(1, 3)", "fact_order"),
        # what only looks like a table
        ("SELECT date FROM fact_order -- JOIN dim_user\n/* FROM order_items */", "fact_order"),
        ("SELECT date, 'FROM order_items' AS dim_user FROM fact_order", "fact_order"),
        ('SELECT dim_user.date FROM fact_order AS dim_user', "fact_order"),
        ("SELECT DATE '2026-01-01' AS date", ""),
    ],
)  # fmt: skip
def test_the_tables_that_a_statement_reads(tmp_path: Path, text: str, reads: str) -> None:
    """Exactly these, and the statement can be bound with no other table."""
    (found,) = inspected(tmp_path, text)
    assert found.error == "" and found.reads == tuple(reads.split())
    assert found.schema is not None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT date FROM query_table('fact_order')", "line 1"),
        ("SELECT date FROM\nquery('FROM fact_order')", "line 1"),
        ("SELECT date\nFROM query_table(['fact_order', 'order_items'])", "line"),
        ("SELECT date FROM read_parquet('/etc/passwd')", "disabled by configuration"),
        ("SELECT date FROM '/etc/passwd'", "there is no table /etc/passwd"),
        ("SELECT DATE '2026-01-01' AS date FROM read_text('/etc/passwd')", "disabled by configuration"),
        ("SELECT DATE '2026-01-01' AS date FROM glob('/*')", "disabled by configuration"),
        ("SELECT DATE '2026-01-01' AS date, getenv('HOME')", "getenv"),
        ("SELECT DATE '2026-01-01' AS date, $1 AS x", "parameter"),
        ("SELECT DATE '2026-01-01' AS date FROM tables", "there is no table tables"),
    ],
)
def test_what_is_read_otherwise_than_by_name_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """A table that is named in a text would be overlooked when it changes; files and the environment are not to be read."""
    (found,) = inspected(tmp_path, text)
    assert told in found.error and found.error.startswith("m0.sql")


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", 1, "no statement"),
        ("-- only prose\n", 1, "no statement"),
        ("SELECT date\nFROM fact_order;\n\nSELECT 2", 4, "second"),
        ("INSERT INTO fact_order SELECT 1", 1, "INSERT"),
        ("\n\nCOPY fact_order TO 'x'", 3, "COPY"),
        ("PRAGMA version", 1, "PRAGMA"),
        ("ATTACH 'x.db'", 1, "ATTACH"),
        ("INSTALL httpfs", 1, "LOAD"),
        ("SET threads = 8", 1, "SET"),
        ("CREATE TABLE x AS SELECT 1", 1, "CREATE"),
        ("EXPLAIN SELECT 1", 1, "EXPLAIN"),
        ("SHOW TABLES", 1, "SHOW"),
        ("DESCRIBE fact_order", 1, "DESCRIBE"),
        ("SUMMARIZE fact_order", 1, "SUMMARY"),
        ("PIVOT fact_order ON currency USING sum(amount) GROUP BY date", 1, "list of its columns"),
        ("SELECT date FRM fact_order", 1, "syntax error"),
        ("SELECT date\nFROM fact_order\nWHERE (", 3, "syntax error"),
        ("SELECT date,\n  nope\nFROM fact_order", 2, "nope"),
        ("-- é\nSELECT date -- é\nFROM\n  nope", 4, "there is no table nope"),
        ("SELECT date\nFROM fact_order\nJOIN nope USING (date)\nJOIN nope USING (date)", 3, "nope"),
        ("SELECT 1 AS x", None, "no column `date`"),
        ("SELECT '2026-01-01' AS date", None, "must be a DATE"),
        ("SELECT created_at AS date FROM fact_order", None, "must be a DATE"),
        ("SELECT date, INTERVAL 1 DAY AS i FROM fact_order", None, "the column i"),
        ("SELECT " + "(" * 3000 + "1" + ")" * 3000, None, "depth"),
    ],
)  # fmt: skip
def test_what_is_no_model_is_refused_in_one_line(tmp_path: Path, text: str, line: int | None, told: str) -> None:
    """With the file, and the line where there is one."""
    (found,) = inspected(tmp_path, text)
    where = f"m0.sql, line {line}: " if line else "m0.sql: "
    assert found.error.startswith(where) and told in found.error and "\n" not in found.error


def test_an_error_of_duckdb_is_short(tmp_path: Path) -> None:
    """It would list dozens of functions that might have been meant."""
    (found,) = inspected(tmp_path, "SELECT date + 1::BIGINT AS date FROM fact_order")
    assert "No function matches" in found.error and len(found.error) < 450


def test_a_check_needs_no_date(tmp_path: Path) -> None:
    """It is one SELECT all the same."""
    found = inspected(tmp_path, "SELECT count(*) AS n FROM fact_order", "DELETE FROM fact_order", is_model=False)
    assert found[0].error == "" and "a check is one SELECT" in found[1].error


@pytest.mark.parametrize(
    ("text", "is_ordered"),
    [
        ("SELECT date FROM fact_order ORDER BY amount", True),
        ("SELECT date FROM fact_order UNION ALL FROM (SELECT date FROM order_items) ORDER BY date LIMIT 3", True),
        ("SELECT date FROM (FROM fact_order ORDER BY amount)", False),
        ("SELECT date, row_number() OVER (ORDER BY amount) FROM fact_order", False),
        ("SELECT date FROM fact_order LIMIT 3", False),
    ],
)
def test_only_an_order_of_the_whole_statement_counts(tmp_path: Path, text: str, is_ordered: bool) -> None:
    """One inside it says nothing of the rows that come out."""
    assert inspected(tmp_path, text)[0].is_ordered == is_ordered


def test_models_may_read_models_in_any_order_of_files(tmp_path: Path) -> None:
    """Each is bound against the columns of those before it, whatever their names."""
    found = inspected(
        tmp_path,
        "SELECT date, n + 1 AS n FROM m1",
        "SELECT date, count(*) AS n FROM M2 GROUP BY date",
        "FROM fact_order",
    )
    assert [one.reads for one in found] == [("m1",), ("m2",), ("fact_order",)]
    assert found[0].schema == pa.schema([("date", pa.date32()), ("n", pa.int64())])


def test_a_wrong_column_of_another_model_is_found_before_any_run(tmp_path: Path) -> None:
    """With the line of the one that names it."""
    found = inspected(tmp_path, "SELECT date FROM fact_order", "SELECT date,\namount FROM m0")
    assert found[0].error == "" and found[1].error.startswith("m1.sql, line 2: ")


def test_what_reads_a_model_of_unknown_columns_is_not_judged(tmp_path: Path) -> None:
    """A Python model that has not run, a broken model, and whatever reads these; it is told what they read."""
    found = inspected(
        tmp_path, "SELECT date, x FROM py", "SELECT nope FROM m0", "SELECT date FRM m0", "FROM m2", unknown=["py"]
    )
    assert [one.reads for one in found] == [("py",), ("m0",), (), ("m2",)]
    assert [bool(one.error) for one in found] == [False, False, True, False]
    assert all(one.schema is None for one in found)


def test_models_that_read_each_other_are_told_apart_by_what_they_read(tmp_path: Path) -> None:
    """Whoever asked finds the circle; one that reads itself is the smallest."""
    found = inspected(tmp_path, "SELECT date FROM m1", "SELECT date FROM m0", "SELECT date FROM m2")
    assert [one.reads for one in found] == [("m1",), ("m0",), ("m2",)] and not any(one.error for one in found)


def test_extra_columns_can_be_named(tmp_path: Path) -> None:
    """Those of [columns]."""
    (found,) = inspected(tmp_path, "SELECT date, status FROM fact_order", columns=(("status", "text"),))
    assert found.error == ""


def test_the_key_covers_all_that_the_result_depends_on() -> None:
    """Statements, columns, what is unknown, and the version of DuckDB."""
    statement = Statement("m", "m.sql", "SELECT 1", True)
    tables = schemas(())
    keys = {
        key_of([statement], tables, [], "1"),
        key_of([statement], tables, [], "2"),
        key_of([statement], tables, ["py"], "1"),
        key_of([statement], schemas((("status", "text"),)), [], "1"),
        key_of([Statement("m", "m.sql", "SELECT 2", True)], tables, [], "1"),
        key_of([Statement("m", "m.sql", "SELECT 1", False)], tables, [], "1"),
        key_of([statement, statement], tables, [], "1"),
    }
    assert len(keys) == 7 and key_of([statement], dict(reversed(tables.items())), [], "1") in keys
