"""DuckDB with views over files that it is given, and nothing else: no other file, no network, no extensions, no other settings.

DuckDB is imported here only, and only by whoever runs SQL: a worker process, or `strandline sql`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from .contract import DownstreamFailed

if TYPE_CHECKING:
    import duckdb

_SHOWN_CHARACTERS = 400  # of an error; DuckDB lists every function that might have been meant
RESULT = "result of the model"  # no model can have this name
_SHARE = 0.75  # of the limit: DuckDB does not count all that it takes
_EMPTY = ".empty.parquet"  # a file without rows, which gives a view its columns where there are no others
_NOT_NAMED = (
    "{0} is not named after FROM or JOIN, so its files are not there for this query; functions that read a table by themselves, "
    "such as FROM histogram(…), cannot be used: write SELECT … FROM {0}"
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What SQL and models may use."""

    memory_bytes: int
    threads: int
    seconds: float  # of one run


@dataclass(frozen=True, slots=True)
class View:
    """A table of the sandbox: files with these columns. `differing`: some files may lack some of them. `is_there`: False for one
    that can be described and not read, since its files were not asked for."""

    schema: pa.Schema
    paths: Sequence[str]
    differing: bool = False
    is_there: bool = True


def connect(folder: Path, views: Mapping[str, View], limits: Limits, more_paths: Sequence[str] = ()) -> Any:
    """A locked connection with these views. `folder` is a scratch folder of the caller: temporary files go there. The files of
    views are in it, or in `more_paths`."""
    import duckdb

    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    connection = duckdb.connect(
        ":memory:",
        config={
            "autoinstall_known_extensions": "false", "autoload_known_extensions": "false",
            "python_enable_replacements": "false", "threads": str(limits.threads),
            "memory_limit": f"{int(limits.memory_bytes * _SHARE)}B", "temp_directory": str(temporary),
            "max_temp_directory_size": f"{_half_of_free(temporary)}B",
        },
    )  # fmt: skip
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    for name, view in views.items():
        define(connection, folder, name, view)
    if more_paths:
        connection.execute(f"SET allowed_paths = [{', '.join(map(_quoted, more_paths))}]")
    connection.execute(f"SET allowed_directories = [{_quoted(str(folder) + os.sep)}]")
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def define(connection: duckdb.DuckDBPyConnection, folder: Path, name: str, view: View) -> None:
    """Creates a view."""
    empty = folder / f"{name}{_EMPTY}"
    pq.write_table(view.schema.empty_table(), empty, store_decimal_as_integer=True, store_schema=False)
    paths = ", ".join(_quoted(path) for path in (str(empty), *view.paths))
    by_name = ", union_by_name = true" if view.differing else ""
    select = f"SELECT * FROM read_parquet([{paths}], hive_partitioning = false{by_name})"
    if not view.is_there:
        select = _refusing(name, connection.sql(select))
    connection.execute(f'CREATE VIEW "{name}" AS {select}')


def _refusing(name: str, relation: duckdb.DuckDBPyRelation) -> str:
    """A SELECT with the columns of a relation that is an error as soon as a row or a column of it is asked for."""
    error = f"error({_quoted(_NOT_NAMED.format(name))})"
    columns = (
        f"{error}::{kind} AS {quoted_name(column)}"
        for column, kind in zip(relation.columns, relation.types, strict=True)
    )
    return f"SELECT {', '.join(columns)} FROM range(1) WHERE {error} IS NULL"


def materialized(connection: duckdb.DuckDBPyConnection, select: str) -> duckdb.DuckDBPyRelation:
    """Runs a SELECT into a temporary table, which goes to disk where memory is short. Rows keep their order; the lines of errors
    are those of the text."""
    connection.execute(f'CREATE OR REPLACE TEMP TABLE "{RESULT}" AS {select}')
    return connection.table(f'"{RESULT}"')


def schema_of(connection: duckdb.DuckDBPyConnection, select: str) -> pa.Schema:
    """The columns of a SELECT, which is bound and not run. The lines of errors are those of its text."""
    connection.execute(f'CREATE OR REPLACE TEMP VIEW "{RESULT}" AS {select}')
    return connection.view(f'"{RESULT}"').limit(0).to_arrow_table().schema


def tables_without_rows(connection: duckdb.DuckDBPyConnection, schemas: Mapping[str, pa.Schema]) -> None:
    """Creates tables with these columns, to bind statements against."""
    for name, schema in schemas.items():
        connection.from_arrow(schema.empty_table()).create(f'"{name}"')


def message_of(error: Exception) -> tuple[str, int | None]:
    """What DuckDB says, on one line, and the line of the statement that it names."""
    text = str(error).partition("Possible solutions:")[0]  # they name settings that are locked here
    if "Out of Memory" in text:
        text += "; see [models] memory_limit and threads"
    found = re.search(r"^LINE (\d+):", text, re.MULTILINE)
    first = text.partition("\n\nLINE ")[0]
    line = int(found[1]) if found else None
    told = " ".join(re.sub(r"^[A-Z]\w+ Error: ", "", first).split())
    return told if len(told) <= _SHOWN_CHARACTERS else told[: _SHOWN_CHARACTERS - 1] + "…", line


def failed(path: Path | str, error: Exception) -> DownstreamFailed:
    """An error of a statement in a file, with its line where DuckDB names it."""
    text, line = message_of(error)
    return DownstreamFailed(f"{path}{f', line {line}' if line else ''}: {text}")


def quoted_name(name: str) -> str:
    """A name of a column or a table as SQL."""
    return '"' + name.replace('"', '""') + '"'


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _half_of_free(folder: Path) -> int:
    found = os.statvfs(folder)
    return max(found.f_bavail * found.f_frsize // 2, 1 << 20)
