"""Checksums of what the ledger has, so that damage is found before anything follows from it. SQLite itself finds damage to the
structure of its file, and not to values. The triggers of the schema keep them:

    drops, partitions    one in each row, compared wherever a row becomes a value (`refuse_unsound`)
    partitions, others   in `sums`, the number of rows of the table and the sum of their checksums, compared when a ledger is
                         opened and before a commit; of partitions, before a date counts as new
    the schema           in `sums`, too, since a trigger may be what is damaged

The records of what follows (downstream/records.py) are kept in the same way. The order index has its own (order_index.py).
`batches` has none: what is to be published is in `effects`. Rows of `drops` are counted at each start: the table, its indexes and
the sums over all drops must agree.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from zlib import crc32

from ..core.errors import REBUILD_ANEW, Corruption

SCHEMA = "CREATE TABLE sums (name TEXT PRIMARY KEY, rows INTEGER NOT NULL, value INTEGER NOT NULL) WITHOUT ROWID;\n"
DROPS, PARTITIONS = "drops", "partitions"
_KEYS = {DROPS: "seq", PARTITIONS: "date"}  # of tables with a checksum in each row
_NOT_SUMMED = {"sums", "batches", DROPS, "order_blocks"}
_SCHEMA = "(schema)"


def checksum(*values: object) -> int:
    """The checksum of a row: CRC-32 of its values. `ascii`, since `repr` follows the Unicode tables of the interpreter."""
    return crc32(ascii(values).encode())


def prepare(sql: sqlite3.Connection) -> None:
    """Lets a connection change tables that have checksums."""
    sql.create_function("row_checksum", -1, checksum, deterministic=True)
    sql.execute("PRAGMA trusted_schema = ON")  # triggers call the function
    sql.execute("PRAGMA recursive_triggers = ON")  # INSERT OR REPLACE removes a row, which counts


def create(sql: sqlite3.Connection) -> None:
    """Creates the triggers, when all tables have been. Within a transaction of the caller."""
    tables = [name for (name,) in sql.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    for table in tables:
        columns = [row[1] for row in sql.execute(f"PRAGMA table_info({table})") if row[1] != "checksum"]
        if table in _KEYS:
            _of_rows(sql, table, columns)
        if table not in _NOT_SUMMED:
            _of_table(sql, table, columns)
    sql.execute("INSERT INTO sums VALUES (?, ?, ?)", (_SCHEMA, *_sum(_schema(sql))))


def _of_rows(sql: sqlite3.Connection, table: str, columns: Sequence[str]) -> None:
    names, key = ", ".join(columns), _KEYS[table]
    change = f"UPDATE {table} SET checksum = {_call('NEW', columns)} WHERE {key} = NEW.{key};"
    sql.execute(f"CREATE TRIGGER {table}_checksum_new AFTER INSERT ON {table} BEGIN {change} END")
    sql.execute(f"CREATE TRIGGER {table}_checksum AFTER UPDATE OF {names} ON {table} BEGIN {change} END")


def _of_table(sql: sqlite3.Connection, table: str, columns: Sequence[str]) -> None:
    new, old = _call("NEW", columns), _call("OLD", columns)
    for event, rows, value in (
        ("INSERT", "+ 1", f"+ {new}"),
        ("DELETE", "- 1", f"- {old}"),
        (f"UPDATE OF {', '.join(columns)}", "", f"+ {new} - {old}"),
    ):
        name = f"{table}_sum_{event.partition(' ')[0].lower()}"
        change = f"UPDATE sums SET rows = rows {rows}, value = value {value} WHERE name = '{table}';"
        sql.execute(f"CREATE TRIGGER {name} AFTER {event} ON {table} BEGIN {change} END")
    sql.execute("INSERT INTO sums VALUES (?, 0, 0)", (table,))


def _call(row: str, columns: Sequence[str]) -> str:
    return f"row_checksum({', '.join(f'{row}.{column}' for column in columns)})"


def _schema(sql: sqlite3.Connection) -> list[tuple]:
    return sql.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY name").fetchall()


def _sum(rows: Iterable[tuple]) -> tuple[int, int]:
    found = [checksum(*row) for row in rows]
    return len(found), sum(found)


def refuse_damaged(sql: sqlite3.Connection) -> None:
    """Raises Corruption if a table other than partitions is not what was written."""
    if what := damage_in(sql):
        raise damaged(what)


def damage_in(sql: sqlite3.Connection) -> str:
    """What is not what was written: the schema, or a table other than partitions; empty where there is nothing."""
    expected = {name: (rows, value) for name, rows, value in sql.execute("SELECT * FROM sums")}
    schema = _schema(sql)
    if expected.get(_SCHEMA) != _sum(schema):
        return "its schema"
    for table in {name for kind, name, *_ in schema if kind == "table"} - _NOT_SUMMED - {PARTITIONS}:
        if _sum(sql.execute(f"SELECT * FROM {table}")) != expected.get(table):
            return f"the table {table}"
    return ""


def all_partitions(sql: sqlite3.Connection) -> list[tuple]:
    """The rows of all partitions, by date. Raises Corruption if any is lost, or is not what was written."""
    rows = sql.execute("SELECT * FROM partitions ORDER BY date").fetchall()
    expected = sql.execute("SELECT rows, value FROM sums WHERE name = ?", (PARTITIONS,)).fetchone()
    if expected != _sum(row[:-1] for row in rows):
        raise damaged("the table partitions")
    return rows


def refuse_unsound(values: Sequence[object], expected: int, what: str) -> None:
    """Raises Corruption if a row is not what was written. `values`: all of its columns but the checksum, in order."""
    if checksum(*values) != expected:
        raise damaged(what)


_DROPS_COUNTED = """
SELECT (SELECT count(*) FROM drops NOT INDEXED),
       (SELECT count(sha256) FROM drops INDEXED BY drops_by_sha256),
       (SELECT count(*) FROM drops),  -- SQLite counts by the smallest index, drops_by_batch
       (SELECT count(*) FROM drops WHERE batch IS NULL)
           + (SELECT coalesce(sum(value), 0) FROM totals WHERE name IN ('drops.applied', 'drops.duplicate', 'drops.quarantined'))
"""


def refuse_lost_drops(sql: sqlite3.Connection) -> None:
    """Raises Corruption if a row of `drops` is lost. Reads the whole table: 0.15 s of a million drops."""
    if len(set(sql.execute(_DROPS_COUNTED).fetchone())) > 1:
        raise damaged("the number of rows of the table drops")


def refuse_unsound_drops(sql: sqlite3.Connection, schema: str) -> None:
    """The same for all drops of an attached ledger."""
    for row in sql.execute(f"SELECT * FROM {schema}.drops"):
        refuse_unsound(row[:-1], row[-1], f"drop {row[0]}")


def damaged(what: str) -> Corruption:
    """The error for a part of the ledger that is not what was written."""
    return Corruption(
        f"state/ledger.sqlite is damaged: {what} is not what was written (a checksum is wrong). Nothing was changed. "
        f"{REBUILD_ANEW}"
    )
