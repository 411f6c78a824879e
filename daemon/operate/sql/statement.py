"""One statement that a person wrote: what it is, and which tables it names. By DuckDB's own parser; what does more than read is
refused with a UsageError."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ...core.errors import UsageError, instead_of
from ...downstream.inspection import not_reading, tables_in
from ...downstream.sandbox import message_of

_ALLOWED = "sql runs one SELECT, VALUES, DESCRIBE, SHOW, SUMMARIZE, PIVOT or EXPLAIN"
_COMMENT = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_EXPLAIN = re.compile(
    rf"{_COMMENT}explain\b{_COMMENT}(?:analyze\b)?{_COMMENT}(?:\([^()]*\))?", re.IGNORECASE | re.DOTALL
)
_FIRST_WORD = re.compile(rf"(?:{_COMMENT}\()*{_COMMENT}(\w+)", re.DOTALL)
_UNKNOWN_TABLE = re.compile(r"Table with name (.*) does not exist!")
_READING_WORDS = {"select", "from", "with", "pivot", "describe", "summarize", "values", "table", "show"}
# In a statement that DuckDB divides into several (PIVOT whose columns come from the data), which has no parsed form to look into.
_DOES_MORE = re.compile(
    r"\b(copy|insert|update|delete|merge|truncate|create|query|query_table|json_execute_serialized_sql)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Query:
    """A statement that only reads. `named`: the known tables that it may read."""

    text: str
    named: frozenset[str]  # in small letters, also such that do not exist
    is_explain: bool = False
    is_about_tables: bool = False  # DESCRIBE, SHOW or SUMMARIZE: a short result


def parsed(connection: Any, text: str, known: Collection[str]) -> Query:
    """The one statement of a text. `known`: the names of all tables."""
    try:
        statements = connection.extract_statements(text)
    except Exception as error:
        raise sql_error(error) from None
    if not statements:
        raise UsageError(f"there is no statement in the query; {_ALLOWED}")
    if len(statements) > 1:
        raise UsageError(f"there are {len(statements)} statements in the query; {_ALLOWED} at a time")
    if explained := _EXPLAIN.match(text):
        return Query(text, parsed(connection, text[explained.end() :], known).named, is_explain=True)
    kind = str(statements[0].type).rpartition(".")[2]
    if kind == "MULTI":
        return Query(text, _named_in_several(text, known))
    if kind != "SELECT":
        raise UsageError(f"{kind} is refused; {_ALLOWED}, and changes nothing")
    tree = json.loads(connection.execute("SELECT json_serialize_sql(?)", [text]).fetchone()[0])
    if tree.get("error"):
        raise UsageError(f"{tree.get('error_message')}; {_ALLOWED}")
    node = tree["statements"][0]["node"]
    if found := not_reading(node):
        raise UsageError(f"{found} is refused; {_ALLOWED}, and changes nothing")
    is_about_tables = (node.get("from_table") or {}).get("type") == "SHOW_REF"
    return Query(text, frozenset(name for name, _ in tables_in(node) if name), is_about_tables=is_about_tables)


def sql_error(error: Exception, tables: Collection[str] = ()) -> UsageError:
    """What DuckDB says about a query, on one line, with the line that it names. `tables`: those that there are; DuckDB would
    propose one of its own."""
    text, line = message_of(error)
    if tables and (unknown := _UNKNOWN_TABLE.match(text)):
        text = f"there is no table {unknown[1]}; {instead_of(unknown[1], sorted(tables), 'there are')}"
    return UsageError(f"LINE {line}: {text}" if line else text)


def _named_in_several(text: str, known: Collection[str]) -> frozenset[str]:
    first = _FIRST_WORD.match(text)
    word = first[1].lower() if first else ""
    if word not in _READING_WORDS:
        raise UsageError(f"{word.upper()} is refused; {_ALLOWED}, and changes nothing")
    if found := _DOES_MORE.search(text):
        raise UsageError(
            f"{found[1].upper()} is refused in a PIVOT whose columns come from the data, wherever it is in the text; list the "
            "columns, as in PIVOT … ON currency IN ('EUR', 'USD')"
        )
    return frozenset(name for name in known if name in text.lower())
