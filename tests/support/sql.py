"""SQL that is really understood."""

from __future__ import annotations

import sqlglot
from sqlglot import exp


def parsed(text: str, dialect: str) -> list[exp.Expression]:
    """Statements, each of which sqlglot really understands."""
    statements = [statement for statement in sqlglot.parse(text, read=dialect) if statement is not None]
    for statement in statements:
        assert not list(statement.find_all(exp.Command)), statement.sql()
    return statements
