"""The examples of docs/READING.md, run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest

from daemon.core.mapping import FieldMapping
from daemon.frames import orders_df
from tests.strategies import RECEIVED_AT_US
from tests.support import REPO
from tests.support.harness import apply_batch, open_engine

# By date, with d on the 17th since the second batch, and in all.
BY_DATE = [Decimal("12.34") + 5 + 7, Decimal("100.01")]
TOTAL = sum(BY_DATE)
READING = (REPO / "docs" / "READING.md").read_text(encoding="utf-8")
SECTION = READING.split("\n## In a program\n")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```(python|sql)\n(.*?)```", SECTION, re.DOTALL)


COLUMN = FieldMapping(columns=(("status", "text", ("status",)),))


@pytest.fixture(params=["", "first", "last"])
def home(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A folder that two batches filled: orders with lines and without, one corrected, one moved to another date. Then an extra
    column was added, and the file of the first or the last date written again: the others lack it."""

    def order(name: str, day: int, amount: float, items: int) -> dict:
        line = [{"sku": f"p_{n}", "qty": n + 1, "price": 3.7} for n in range(items)]
        return {"order_id": name, "amount": amount, "created_at": f"2026-11-{day}T08:00:00Z", "items": line}

    batches = [
        [order("a", 17, 11.10, 3), order("b", 17, 5, 0), order("c", 18, 100.01, 1), order("d", 18, 7, 2)],
        [order("a", 17, 12.34, 3) | {"updated_at": "2026-11-19"}, order("d", 17, 7, 2) | {"updated_at": "2026-11-19"}],
    ]
    with open_engine(tmp_path) as engine:
        for number, orders in enumerate(batches):
            apply_batch(engine, tmp_path, [(f"{number}.json", json.dumps(orders).encode())], RECEIVED_AT_US)
        if request.param:
            again = {"first": batches[1][0] | {"metadata": 1}, "last": order("c", 18, 100.01, 1)}[request.param]
            data = json.dumps([again | {"updated_at": "2026-11-19T01:00:00Z", "status": "open"}]).encode()
            apply_batch(engine, tmp_path, [("2.json", data)], RECEIVED_AT_US, mapping=COLUMN)
    if request.param:
        files = sorted((tmp_path / "output" / "curated").glob("date=*/fact_order.parquet"))
        assert ["status" in pq.read_schema(path).names for path in files] == [
            request.param == "first",
            request.param == "last",
        ]
    return tmp_path


def test_there_is_a_recipe_for_each_reader() -> None:
    """DuckDB, pandas, polars and pyarrow have one each."""
    text = "".join(code for _, code in BLOCKS)
    assert len(BLOCKS) == 4 and all(name in text for name in ("read_parquet", "pandas", "polars", "pyarrow"))


@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "python"])
def test_the_python_recipes_give_the_sales_of_each_day(home: Path, code: str) -> None:
    """Run as they stand, they print the total amount of each date, exactly, and no other amount."""
    name = re.search(r"import (\w+)", code)
    if not os.environ.get("REQUIRE_TEST_TOOLS"):
        pytest.importorskip(name[1] if name else "")
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=home, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert sorted(map(Decimal, re.findall(r"\d+\.\d+", ended.stdout))) == BY_DATE


def test_the_sql_recipe_gives_the_sales_of_each_day_and_product(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as it stands, it sums to what was ordered, exactly."""
    (code,) = [code for language, code in BLOCKS if language == "sql"]
    monkeypatch.chdir(home)
    found = duckdb.execute(code).fetchall()
    assert sum(amount for *_, amount in found) == TOTAL
    assert len(found) == 5  # on the 17th three products and the line without one; on the 18th one product


# ------------------------------------------------------------------------------------------------- docs/READING.md

REST = READING.replace(SECTION, "").split("## Spark")[0]
READING_BLOCKS = re.findall(r"```(python|sql)\n(.*?)```", REST, re.DOTALL)
READING_SQL = [code for language, code in READING_BLOCKS if language == "sql"]
READING_PYTHON = [code for language, code in READING_BLOCKS if language == "python"]
ONE_STATE, BY_HAND, STATUS_PYTHON, *NOTEBOOK = READING_PYTHON
STATUS_SQL = READING_SQL.pop(0)


def run_python(code: str, home: Path) -> str:
    env = os.environ | {"PYTHONPATH": str(REPO)}
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=home, env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_joins_with_the_dimensions(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums are complete whether or not a key is known, and the unknown users are those that no file names."""
    orders = [{"order_id": f"x{n}", "user_id": f"u{n}", "amount": n, "created_at": "2026-11-18"} for n in (1, 2, 3)]
    drops = [
        ("x.json", json.dumps(orders).encode()),
        ("users.csv", b"user_id,country\nu1,NA\nu3,\n"),
        ("products.csv", b"sku\n"),
    ]
    with open_engine(home) as engine:
        apply_batch(engine, home, drops, RECEIVED_AT_US)
    monkeypatch.chdir(home)
    joined, unknown = READING_SQL
    found = duckdb.execute(joined).fetchall()
    assert sum(amount for *_, amount in found) == TOTAL + 6
    assert ("NA", None, 1) in found
    assert duckdb.execute(unknown).fetchall() == [("u2",)]


def test_the_recipes_for_extra_columns(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over files of which some lack a column, each reader has NULL there; so has a frame."""
    more = {"order_id": "x", "amount": 3.25, "created_at": "2026-11-19", "status": "paid"}
    with open_engine(home) as engine:
        apply_batch(engine, home, [("x.json", json.dumps(more).encode())], RECEIVED_AT_US, mapping=COLUMN)
    monkeypatch.chdir(home)
    found = dict(duckdb.execute(STATUS_SQL).fetchall())
    rest = found[None]
    assert found["paid"] == Decimal("3.25") and sum(found.values()) == TOTAL + Decimal("3.25")
    printed = run_python(STATUS_PYTHON, home)
    assert printed.count("paid") == 2 and printed.count(str(rest)) == 2 and printed.count("3.25") == 2
    frame = orders_df(home / "output")
    sums = frame.groupby("status", dropna=False)["amount"].sum().to_dict()
    assert sums == {pd.NA if status is None else status: amount for status, amount in found.items()}


def test_the_recipes_for_one_state(home: Path) -> None:
    """With strandline and without, they give the sales of each day."""
    recipe = ONE_STATE.partition("\nprint")[0].removeprefix("import duckdb\nfrom strandline.frames import read\n")
    for code in (ONE_STATE, f"import duckdb\n{BY_HAND}\n{recipe}\nprint(one_state(lambda: sales('output/curated')))"):
        assert sorted(map(Decimal, re.findall(r"\d+\.\d+", run_python(code, home)))) == BY_DATE


def test_the_notebook_recipes(home: Path) -> None:
    """Over the curated layer they print what the other recipes do; over a page, its latest versions and the discard."""
    curated, page = NOTEBOOK
    printed = run_python(curated, home)
    assert [Decimal(n) for n in re.findall(r"\d+\.\d+", printed)][:2] == BY_DATE
    printed = run_python(page, home)
    assert "missing_order_id" in printed and "12.34" in printed and "10.10" not in printed


def test_every_recipe_is_run() -> None:
    """Spark's by tests/readers, which has an environment for it."""
    assert (len(READING_SQL), len(READING_PYTHON)) == (2, 5)
    assert READING.split("## Spark")[1].count("```python") == 1
