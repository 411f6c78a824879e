"""What a SELECT may have in it: it reads the tables that it names, and does nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.downstream.inputs import schemas
from daemon.downstream.inspection import Inspected, Statement, inspect
from daemon.downstream.sandbox import Limits


def inspected(text: str, folder: Path) -> Inspected:
    return inspect([Statement("m", "m.sql", text, True)], schemas(()), [], Limits(1 << 28, 1, 60), folder)["m"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("WITH a AS (COPY (SELECT 1) TO 'x') SELECT date FROM fact_order", "COPY"),
        (
            "SELECT date FROM fact_order WHERE EXISTS (WITH a AS (INSERT INTO t VALUES (1) RETURNING *) FROM a)",
            "INSERT",
        ),
        ("SELECT date FROM query('FROM fact_order')", "the function query"),
        ("SELECT date FROM query_table('fact_order')", "the function query_table"),
    ],
)
def test_a_select_that_does_more_than_read_is_refused(text: str, named: str, tmp_path: Path) -> None:
    """DuckDB says of each of these that it is a SELECT; the first can write into the published files, through the links."""
    assert inspected(text, tmp_path).error == f"m.sql, line 1: a model only reads, and this has {named} in it"


def test_a_recursive_select_does_not_read_itself(tmp_path: Path) -> None:
    """The name that WITH RECURSIVE defines is no table that it reads."""
    text = """
WITH RECURSIVE days AS (SELECT min(date) AS day FROM fact_order UNION ALL SELECT day + 1 FROM days WHERE day < DATE '2026-02-01')
SELECT day AS date FROM days"""
    found = inspected(text, tmp_path)
    assert (found.error, found.reads) == ("", ("fact_order",))
