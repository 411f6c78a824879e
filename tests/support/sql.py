"""Parses SQL strictly."""

from __future__ import annotations

import sqlglot
from sqlglot import exp


def parsed(text: str, dialect: str) -> list[exp.Expression]:
    """The parsed statements. Fails if sqlglot falls back to an opaque Command for one of them."""
    statements = [statement for statement in sqlglot.parse(text, read=dialect) if statement is not None]
    for statement in statements:
        assert not list(statement.find_all(exp.Command)), statement.sql()
    return statements
