"""What SQL files read and return, by DuckDB's own parser and binder. Runs in a worker.

Each statement is bound against tables without rows, so that a wrong column, an unknown table and a missing `date` are found
before any run. The order of models follows from what they read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..core.errors import instead_of
from .fingerprints import digest
from .runs import unfit
from .sandbox import Limits, connect, message_of, schema_of, tables_without_rows


@dataclass(frozen=True, slots=True)
class Statement:
    """A file with SQL to inspect."""

    name: str
    path: str
    text: str
    needs_date: bool


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a statement reads and returns; or why it is refused, as one line that begins with the file."""

    reads: tuple[str, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)
    is_ordered: bool = False
    schema: pa.Schema | None = None
    error: str = ""


def key_of(
    statements: Sequence[Statement], schemas: Mapping[str, pa.Schema], unknown: Sequence[str], version: str
) -> bytes:
    """A hash of all that the result of `inspect` depends on. `version`: that of DuckDB."""
    of_schemas = (part for name, schema in sorted(schemas.items()) for part in (name, schema.serialize().to_pybytes()))
    of_statements = (part for one in statements for part in (one.name, one.path, one.text, str(one.needs_date)))
    return digest(version, *of_schemas, "", *of_statements, "", *sorted(unknown))


def to_json(found: Mapping[str, Inspected]) -> str:
    """What was found, to be kept."""
    return json.dumps(
        {
            name: [list(one.reads), dict(one.lines), one.is_ordered, _schema_text(one.schema), one.error]
            for name, one in found.items()
        }
    )


def from_json(text: str) -> dict[str, Inspected]:
    """The reverse of to_json."""
    return {
        name: Inspected(tuple(reads), lines, is_ordered, _schema_from(schema), error)
        for name, (reads, lines, is_ordered, schema, error) in json.loads(text).items()
    }


def _schema_text(schema: pa.Schema | None) -> str | None:
    return None if schema is None else base64.b64encode(schema.serialize()).decode()


def _schema_from(text: str | None) -> pa.Schema | None:
    return None if text is None else pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def inspect(
    statements: Sequence[Statement],
    schemas: Mapping[str, pa.Schema],
    unknown: Sequence[str],
    limits: Limits,
    folder: Path,
) -> dict[str, Inspected]:
    """Inspects statements that may read each other. `schemas`: of tables that exist. `unknown`: tables whose columns are not
    known yet (Python models); what reads them is bound when it runs."""
    found: dict[str, Inspected] = {}
    waiting: dict[str, tuple[Statement, _Named]] = {}
    known = dict(schemas)
    parser = connect(folder, {}, limits)
    for one in statements:
        parsed = _parsed(parser, one)
        if isinstance(parsed, Inspected):
            found[one.name] = parsed
        else:
            waiting[one.name] = one, parsed
    unbound = {*unknown, *found}
    while ready := [name for name, (_, named) in waiting.items() if not named.lines.keys() & waiting.keys()]:
        for name in ready:
            one, named = waiting.pop(name)
            found[name] = _bound(one, named, known, unbound, limits, folder)
            if (schema := found[name].schema) is None:
                unbound.add(name)
            else:
                known[name] = schema
    for name in waiting:  # each of them reads another one of them: the caller finds the circle
        found[name] = waiting[name][1].inspected()
    return found


@dataclass(frozen=True, slots=True)
class _Named:
    """The tables that a statement names, with the line of each, and whether it has an order of its own."""

    lines: Mapping[str, int]
    is_ordered: bool

    def inspected(self, schema: pa.Schema | None = None) -> Inspected:
        return Inspected(tuple(sorted(self.lines)), self.lines, self.is_ordered, schema)


def _parsed(connection: Any, one: Statement) -> Inspected | _Named:
    """What a single SELECT names."""
    what = "model" if one.needs_date else "check"
    try:
        parsed = connection.extract_statements(one.text)
    except Exception as error:
        return _refused(one, *message_of(error))
    if not parsed:
        return _refused(one, f"it has no statement; a {what} is one SELECT", 1)
    if len(parsed) > 1:
        return _refused(one, f"a {what} is one statement; here a second one begins", _line_of(one, parsed[1]))
    kind = str(parsed[0].type).partition(".")[2]
    if kind == "MULTI":
        columns = "PIVOT needs the list of its columns, as in PIVOT … ON currency IN ('EUR', 'USD')"
        return _refused(one, columns, _line_of(one, parsed[0]))
    if kind != "SELECT":
        return _refused(one, f"a {what} is one SELECT, and this is {kind}", _line_of(one, parsed[0]))
    tree = json.loads(connection.execute("SELECT json_serialize_sql(?)", [one.text]).fetchone()[0])
    if tree.get("error"):
        return _refused(one, f"a {what} is one SELECT: {tree.get('error_message')}", _line_of(one, parsed[0]))
    node = tree["statements"][0]["node"]
    if (node.get("from_table") or {}).get("type") == "SHOW_REF":
        return _refused(one, f"a {what} is one SELECT, and this is {node['from_table']['show_type']}", 1)
    if found := not_reading(node):
        return _refused(one, f"a {what} only reads, and this has {found} in it", _line_of(one, parsed[0]))
    lines: dict[str, int] = {}
    for name, at in tables_in(node):
        line = one.text.encode()[:at].count(b"\n") + 1
        lines[name] = min(lines.get(name, line), line)
    return _Named(lines, any(modifier["type"] == "ORDER_MODIFIER" for modifier in node.get("modifiers", [])))


_READING = {"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"}
# Functions that run SQL in a text, or read a table that a text names: what they read is in no parsed statement.
_BY_TEXT = {"query", "query_table", "json_execute_serialized_sql"}


def not_reading(node: Any) -> str:
    """What a parsed statement does besides reading the tables that it names; empty where it does nothing else. WITH may have a
    COPY in it, which is of type SELECT and would write into the folder of the run, through its links into published files."""
    if isinstance(node, list):
        return next(filter(None, map(not_reading, node)), "")
    if not isinstance(node, dict):
        return ""
    kind = node.get("type") or ""
    if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _READING:
        return kind.partition("_")[0]
    if (name := str(node.get("function_name", "")).lower()) in _BY_TEXT:
        return f"the function {name}"
    return next(filter(None, map(not_reading, node.values())), "")


def tables_in(node: Any, defined: frozenset[str] = frozenset()) -> Iterator[tuple[str, int]]:
    """The tables that a parsed statement names, with their places in its text; not those that it defines itself (WITH), which
    may be named like one that they read."""
    if isinstance(node, list):
        for one in node:
            yield from tables_in(one, defined)
    elif isinstance(node, dict):
        inner = defined
        for entry in (node.get("cte_map") or {}).get("map", []):
            yield from tables_in(entry["value"], inner)
            inner = inner | {entry["key"].lower()}
        name, is_qualified = (node.get("table_name") or "").lower(), bool(node.get("schema_name"))
        if node.get("type") == "BASE_TABLE" and (is_qualified or name not in defined):
            yield name, node.get("query_location") or 0
        for key, value in node.items():
            if node.get("type") == "RECURSIVE_CTE_NODE" and key == "right":  # which reads what came before
                yield from tables_in(value, inner | {node["cte_name"].lower()})
            elif key != "cte_map":
                yield from tables_in(value, inner)


def _bound(
    one: Statement,
    named: _Named,
    schemas: Mapping[str, pa.Schema],
    unbound: Collection[str],
    limits: Limits,
    folder: Path,
) -> Inspected:
    """What a statement reads and returns. It is bound where there are only the tables that it is known to name, so it cannot
    read another one in a way that was not seen."""
    if any(name in unbound for name in named.lines):
        return named.inspected()
    for name, line in named.lines.items():
        if name not in schemas:
            return _refused(one, f"there is no table {name}; {instead_of(name, sorted(schemas), 'there are')}", line)
    connection = connect(folder, {}, limits)
    try:
        tables_without_rows(connection, {name: schemas[name] for name in named.lines})
        schema = schema_of(connection, one.text)
    except Exception as error:
        return _refused(one, *message_of(error))
    finally:
        connection.close()
    trouble = unfit(schema, is_dated=one.needs_date)
    return _refused(one, trouble, None) if trouble else named.inspected(schema)


def _line_of(one: Statement, statement: Any) -> int:
    """The line where a statement of a text begins."""
    return one.text[: max(one.text.rfind(statement.query.strip()), 0)].count("\n") + 1


def _refused(one: Statement, text: str, line: int | None) -> Inspected:
    return Inspected(error=f"{one.path}{f', line {line}' if line else ''}: {text}")
