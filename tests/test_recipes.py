"""The examples of README.md's section on reading the result, run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from tests.harness import apply_batch, house
from tests.strategies import RECEIVED_AT_US

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("## Reading the result")[1].split("\n## ")[0]
BLOCKS = re.findall(r"```(python|sql)\n(.*?)```", SECTION, re.DOTALL)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with three orders of 11.10 each on two dates, one of them without items."""

    def order(name: str, day: int, items: int) -> dict:
        line = [{"sku": f"p_{n}", "qty": 1, "price": 3.7} for n in range(items)]
        return {"order_id": name, "amount": 11.10, "created_at": f"2026-11-{day}T08:00:00Z", "items": line}

    data = json.dumps([order("a", 17, 3), order("b", 17, 0), order("c", 18, 1)]).encode()
    with house(tmp_path) as rooms:
        apply_batch(rooms, tmp_path, [("a.json", data)], RECEIVED_AT_US)
    return tmp_path


def test_there_is_a_recipe_for_each_reader() -> None:
    """DuckDB, pandas, polars and pyarrow have one each."""
    text = "".join(code for _, code in BLOCKS)
    assert len(BLOCKS) == 4 and all(name in text for name in ("read_parquet", "pandas", "polars", "pyarrow"))


@pytest.mark.parametrize("code", [code for language, code in BLOCKS if language == "python"])
def test_the_python_recipes_give_the_sales_of_each_day(home: Path, code: str) -> None:
    """Run as they stand, they print the totals by date."""
    name = re.search(r"import (\w+)", code)
    if not os.environ.get("REQUIRE_TEST_TOOLS"):
        pytest.importorskip(name[1] if name else "")
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=home, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    assert "22.2" in ended.stdout and "11.1" in ended.stdout


def test_the_sql_recipe_gives_the_sales_of_each_day_and_product(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as it stands, it sums to what was ordered, exactly."""
    (code,) = [code for language, code in BLOCKS if language == "sql"]
    monkeypatch.chdir(home)
    found = duckdb.execute(code).fetchall()
    assert sum(amount for *_, amount in found) == Decimal("33.3")
    assert len(found) == 5
