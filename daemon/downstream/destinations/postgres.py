"""A load: PostgreSQL, or Redshift, made equal to files. Read `deliver`; the statements are in postgres_sql.

Everything that a delivery changes is one transaction, in which it first excludes other loads of the schema and looks whether the
database still has what it had. So a reader sees all of it or nothing, and a kill, a failover or a restored backup is noticed.
A row is deleted only where the database itself says that strandline loaded it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...core.errors import StrandlineError, Unavailable
from ..contract import WHOLE, DownstreamFailed
from . import postgres_sql as sql
from .postgres_connection import Connection
from .postgres_rows import Rows, Unfit, difference
from .redshift import FromMirror
from .settings import REDSHIFT
from .store import Change, Contents, Delivered, Delivery, Store, Target

_TABLES = {"r", "p"}  # kinds of relations that rows can be loaded into: tables, and partitioned ones


@dataclass(frozen=True, slots=True)
class _Work:
    """What a delivery does to one table. `known`: dates whose rows are ours; `schema`: None where it only loses rows."""

    table: str
    changes: Sequence[Change]
    known: frozenset[int]
    schema: pa.Schema | None

    @property
    def files(self) -> list[tuple[Change, Path]]:
        return [(one, one.path) for one in self.changes if one.path is not None]

    @property
    def asked(self) -> frozenset[int]:
        return frozenset(one.date for one in self.changes)

    @property
    def is_whole(self) -> bool:
        return WHOLE in self.asked or WHOLE in self.known


class Postgres(Store):
    """One database schema."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        values = target.values
        self._schema: str = values["schema"]
        self._dialect: str = values["dialect"]
        self._mirror = FromMirror(target) if self._dialect == REDSHIFT else None
        self._connection: Connection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def contents(self) -> Contents:
        with self._transaction(reads_only=True) as connection:
            return self._loaded(connection, self._relations(connection))

    def deliver(self, delivery: Delivery) -> Delivered:
        works = self._works(delivery)
        rows = {work.table: self._rows(work) for work in works if work.schema is not None}
        with self._transaction() as connection:
            relations = self._locked(connection)
            if self._loaded(connection, relations) != dict(delivery.before):
                raise Unavailable(
                    f"{self._where}: its table {sql.LOADED} is not what it was a moment ago: another strandline loads into "
                    f"the schema {self._schema}, or the database was restored or failed over; it is read again"
                )
            files: dict[tuple[str, int], tuple[bytes, int]] = {}
            for work in works:
                if work.table in rows:
                    self._fit(connection, work.table, rows[work.table][1], relations)
                if work.table in relations:
                    self._delete(connection, work)
                if work.files:
                    self._copy(connection, work, rows[work.table][0])
                connection.run(f"record what {work.table} lost", sql.forget(self._schema, work.table, _dates(work)))
                files |= {one.key: (one.sha256, pq.read_metadata(path).num_rows) for one, path in work.files}
            now = datetime.now(UTC)
            connection.run("record what was loaded", *sql.remember(self._schema, files, delivery.batch, now))
        return Delivered(
            rows=sum(count for _, count in files.values()),
            bytes=sum(one.bytes for one in delivery.changes if one.path is not None),
            altered=sum(one.altered for one, _ in rows.values()),
        )

    def difference(self, table: str, date: int, path: Path, scratch: Path) -> str:
        schema = pq.read_schema(path)
        with self._transaction(reads_only=True) as connection:
            if self._relations(connection).get(table) not in _TABLES:
                return f"there is no table {table}"
            rows, columns = self._rows(_Work(table, (), frozenset({date}), schema))
            there = dict(connection.rows(f"read the columns of {table}", sql.existing_columns(self._schema, table)))
            for one in columns:
                if there.get(one.name) != one.type:
                    return f"the column {one.name} is {there.get(one.name, 'missing')}, and not {one.type}"
            names = [one.name for one in columns]
            query = sql.select_rows(self._schema, table, names, date, "" if date == WHOLE else sql.date_column(schema))
            found = connection.table(f"read {table}", query)
        with self._fitting(table):
            wanted = pa.Table.from_batches(rows.of(path), rows.schema)
        try:
            return difference(_as_sent(found, rows.schema), wanted)
        except pa.ArrowException as error:
            return f"it has values that files cannot have ({error})"

    @property
    def _where(self) -> str:
        return self.target.where

    # ------------------------------------------------------------------------------------------------------- connecting

    @contextmanager
    def _transaction(self, *, reads_only: bool = False) -> Iterator[Connection]:
        connection = self._begun(reads_only=reads_only)
        try:
            yield connection
            connection.run("commit", "COMMIT")
        except BaseException:
            with suppress(StrandlineError):
                connection.run("roll back", "ROLLBACK")
            raise

    def _begun(self, *, reads_only: bool) -> Connection:
        """A connection with an open transaction. One that was idle may have died meanwhile, which is no error."""
        values = self.target.values
        statements = ["BEGIN READ ONLY" if reads_only else "BEGIN"]
        if self._dialect != REDSHIFT:
            statements[0] += ", ISOLATION LEVEL READ COMMITTED" if reads_only else " ISOLATION LEVEL READ COMMITTED"
            statements.append(sql.settings(values["lock_timeout"], values["statement_timeout"]))
        if self._connection is not None:
            try:
                self._connection.run("begin a transaction", *statements)
                return self._connection
            except StrandlineError:
                self.close()
        self._connection = Connection(self._where, values["dsn"])
        self._connection.run("begin a transaction", *statements)
        return self._connection

    # ---------------------------------------------------------------------------------------------------------- looking

    def _relations(self, connection: Connection) -> dict[str, str]:
        """The kinds of what is in the schema, by name; empty where there is no schema."""
        return dict(connection.rows(f"list the tables of the schema {self._schema}", sql.relations(self._schema)))

    def _loaded(self, connection: Connection, relations: dict[str, str]) -> dict[tuple[str, int], bytes]:
        """What is recorded, of tables that exist: one that somebody dropped has no rows any more."""
        if sql.LOADED not in relations:
            return {}
        table = connection.table(f"read {sql.LOADED}", sql.loaded(self._schema))
        names, dates, texts = table.columns
        return {
            (name, WHOLE if date is None else date): bytes.fromhex(text)
            for name, date, text in zip(
                names.to_pylist(), dates.cast(pa.int32()).to_pylist(), texts.to_pylist(), strict=True
            )
            if name in relations
        }

    def _locked(self, connection: Connection) -> dict[str, str]:
        """Excludes other loads; makes the schema and the table of what is loaded. Returns the relations."""
        schema = self._schema
        if self._mirror is None:
            connection.run("wait for another load to end", sql.lock(schema))
        if not connection.rows("look for the schema", sql.schemas(schema)):
            connection.run(f"create the schema {schema}", sql.create_schema(schema))
        relations = self._relations(connection)
        if sql.LOADED not in relations:
            connection.run(f"create the table {sql.LOADED}", sql.create_loaded(schema))
            relations[sql.LOADED] = "r"
        if self._mirror is not None:
            connection.run("wait for another load to end", sql.lock_loaded(schema))
        return relations

    # --------------------------------------------------------------------------------------------------------- changing

    def _works(self, delivery: Delivery) -> list[_Work]:
        by_table: dict[str, list[Change]] = {}
        for change in delivery.changes:
            by_table.setdefault(change.table, []).append(change)
        known: dict[str, set[int]] = {}
        for table, date in delivery.before:
            known.setdefault(table, set()).add(date)
        found = []
        for table, changes in sorted(by_table.items()):  # the same order for everybody who locks them
            if table == sql.LOADED or len(table.encode()) > sql.MOST_NAME_BYTES:
                raise DownstreamFailed(f"{self._where}: a table cannot be called {table}; rename the model")
            schema = delivery.schemas[table] if any(one.path is not None for one in changes) else None
            found.append(_Work(table, changes, frozenset(known.get(table, ())), schema))
        return found

    def _rows(self, work: _Work) -> tuple[Rows, list[sql.Column]]:
        assert work.schema is not None
        with self._fitting(work.table):
            columns = sql.columns_of(work.table, work.schema, self._dialect)
        return Rows(columns), columns

    @contextmanager
    def _fitting(self, table: str) -> Iterator[None]:
        try:
            yield
        except (sql.Unfit, Unfit) as why:
            raise DownstreamFailed(f"{self._where}: the table {table}: {why}") from None

    def _fit(
        self, connection: Connection, table: str, columns: Sequence[sql.Column], relations: dict[str, str]
    ) -> None:
        """Makes the table, or the columns and the index that it lacks. DownstreamFailed where it is another one."""
        schema, date = self._schema, next((one.name for one in columns if one.name.lower() == "date"), None)
        attempted = f"make the table {table}"
        if table not in relations:
            connection.run(attempted, sql.create_table(schema, table, columns, self._dialect))
            connection.run(attempted, sql.forget(schema, table, None))  # it was dropped
            relations[table] = "r"
            there: dict[str, str] = {one.name: one.type for one in columns}
        elif relations[table] not in _TABLES:
            raise self._refused(table, "it is a view, and no table; rename it, or choose another schema")
        else:
            there = dict(connection.rows(attempted, sql.existing_columns(schema, table)))
        for one in columns:
            if one.name not in there:
                if one.is_required:
                    raise self._refused(table, f"it has no column {one.name}; rename it, or choose another schema")
                connection.run(f"add the column {one.name} to {table}", sql.add_column(schema, table, one))
                there[one.name] = one.type
            elif there[one.name] != one.type:
                raise self._refused(
                    table,
                    f"its column {one.name} is {there[one.name]}, and not {one.type}; change its type, or drop the table, which "
                    "is then made anew",
                )
        if self._mirror is None and date and connection.rows(attempted, sql.indexes_on(schema, table, date)) == [(0,)]:
            connection.run(f"make the index of {table}", sql.create_index(schema, table, date))

    def _delete(self, connection: Connection, work: _Work) -> None:
        """The rows of the changed dates. DownstreamFailed where some are not ours."""
        table, dates = work.table, None if work.is_whole else work.asked & work.known
        foreign = None if work.is_whole or not work.known else work.asked - work.known
        column = "" if work.is_whole else self._date_column(connection, work)
        looks = not work.known if foreign is None else bool(foreign)
        if looks and connection.rows(f"read {table}", sql.any_rows(self._schema, table, foreign, column)) != [(0,)]:
            raise self._refused(
                table,
                f"it has rows that strandline did not load, by its table {sql.LOADED}, and never deletes. If they are of an "
                "earlier load, drop the table, which is then made anew; if they are yours, rename it, or choose another schema",
            )
        if dates is None or dates:
            connection.run(f"delete from {table}", sql.delete_rows(self._schema, table, dates, column))

    def _date_column(self, connection: Connection, work: _Work) -> str:
        if work.schema is not None:
            return sql.date_column(work.schema)
        there = connection.rows(f"read the columns of {work.table}", sql.existing_columns(self._schema, work.table))
        name = next((name for name, _ in there if name.lower() == "date"), None)
        if name is None:
            raise self._refused(work.table, "it has no column date any more; drop the table, which is then made anew")
        return name

    def _copy(self, connection: Connection, work: _Work, rows: Rows) -> None:
        attempted = f"load {work.table}"
        with self._fitting(work.table):
            if self._mirror is not None:
                there = connection.rows(attempted, sql.existing_columns(self._schema, work.table))
                connection.run(attempted, self._mirror.copy(work.table, work.files, there))
                return
            batches = (batch for _, path in work.files for batch in rows.of(path))
            connection.copy(attempted, self._schema, work.table, batches, rows.schema)

    def _refused(self, table: str, why: str) -> DownstreamFailed:
        return DownstreamFailed(f"{self._where}: the table {self._schema}.{table} cannot be loaded: {why}")


def _dates(work: _Work) -> frozenset[int] | None:
    return None if work.is_whole else work.asked


def _as_sent(found: pa.Table, schema: pa.Schema) -> pa.Table:
    """Rows that were read, in the types in which they were sent: numbers come as text, for example."""
    arrays = []
    for field, column in zip(schema, found.columns, strict=True):
        kind = column.type
        plain = column.cast(kind.storage_type) if isinstance(kind, pa.BaseExtensionType) else column
        arrays.append(plain.cast(field.type))
    return pa.table(arrays, schema=schema)
