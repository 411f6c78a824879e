"""One run of SQL over files that it is given: what it may reach, even if its inspection were passed by, and what it returns."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daemon.core.model import FACT
from daemon.core.parquet import encode
from daemon.downstream.contract import WHOLE, DownstreamFailed
from daemon.downstream.runs import Made, Run, run_sql
from daemon.downstream.sandbox import View
from tests.support.following import LIMITS, epoch_days

FIRST, SECOND = (epoch_days(day) for day in ("2026-03-02", "2026-03-03"))


def run(folder: Path, text: str, **more: object) -> dict[int, Made]:
    """A SELECT over an order on 2 March and two on 3 March."""
    scratch = folder / "scratch"
    (scratch / "out").mkdir(parents=True)
    (scratch / "link.parquet").symlink_to(folder / "outside.parquet")
    paths = []
    for number, days in enumerate(([2], [3, 3])):
        orders = [
            dict.fromkeys(FACT.names)
            | {"order_id": f"o_{day}_{place}", "amount": Decimal(place), "created_at": datetime(2026, 3, day, tzinfo=UTC),
               "date": date(2026, 3, day), "line_number": 1}
            for place, day in enumerate(days)
        ]  # fmt: skip
        paths.append(str(scratch / f"{number}.parquet"))
        Path(paths[-1]).write_bytes(encode(pa.Table.from_pylist(orders, FACT)))
    settled = Run("m.sql", text, {"fact_order": View(FACT, paths)}, scratch / "out", **more)  # type: ignore[arg-type]
    return run_sql(settled, LIMITS, scratch)


def refused(folder: Path, text: str, **more: object) -> str:
    with pytest.raises(DownstreamFailed) as caught:
        run(folder, text, **more)
    told = str(caught.value)
    assert told.startswith("m.sql") and "\n" not in told
    return told


@pytest.mark.parametrize(
    "text",
    [
        "SELECT DATE '2026-03-02' AS date, * FROM read_text('/etc/passwd')",
        "SELECT DATE '2026-03-02' AS date, * FROM read_csv('/etc/passwd')",
        "SELECT DATE '2026-03-02' AS date, * FROM read_blob('{outside}')",
        "SELECT * FROM read_parquet('{outside}')",
        "SELECT * FROM '{outside}'",
        "SELECT * FROM read_parquet('{scratch}/../outside.parquet')",
        "SELECT * FROM read_parquet('{scratch}/link.parquet')",
        "SELECT DATE '2026-03-02' AS date, * FROM glob('/*')",
        "SELECT DATE '2026-03-02' AS date, getenv('HOME') AS x",
        "SELECT DATE '2026-03-02' AS date, * FROM sniff_csv('/etc/passwd')",
        "SELECT DATE '2026-03-02' AS date, * FROM parquet_metadata('{outside}')",
        "SELECT DATE '2026-03-02' AS date, * FROM sqlite_scan('{outside}', 'x')",
        "FROM fact_order; COPY fact_order TO '{stolen}'",
        "FROM fact_order; ATTACH '{stolen}' AS a",
        "FROM fact_order; INSTALL httpfs",
        "FROM fact_order; LOAD httpfs",
        "FROM fact_order; SET memory_limit = '100GB'",
        "FROM fact_order; SET enable_external_access = true",
        "FROM fact_order; RESET lock_configuration",
        "FROM fact_order; EXPORT DATABASE '{stolen}'",
    ],
)
def test_a_run_reaches_nothing_but_its_views(tmp_path: Path, text: str) -> None:
    """No other file, also through `..` and links, no environment, no extension, no setting; nothing is written."""
    outside, scratch, stolen = tmp_path / "outside.parquet", tmp_path / "scratch", tmp_path / "stolen"
    outside.write_bytes(encode(FACT.empty_table()))
    refused(tmp_path, text.format(outside=outside, scratch=scratch, stolen=stolen))
    assert not stolen.exists()


def test_rows_are_divided_by_date_and_sorted_where_no_order_is_given(tmp_path: Path) -> None:
    """So equal results are equal files, however DuckDB found them."""
    found = run(tmp_path, "SELECT order_id, date FROM fact_order ORDER BY order_id DESC")
    assert {day: pq.read_table(one.path, partitioning=None)["order_id"].to_pylist() for day, one in found.items()} == {
        FIRST: ["o_2_0"], SECOND: ["o_3_0", "o_3_1"],
    }  # fmt: skip


def test_an_order_of_the_select_is_kept(tmp_path: Path) -> None:
    """Within each date."""
    found = run(tmp_path, "SELECT order_id, date FROM fact_order ORDER BY order_id DESC", is_ordered=True)
    assert pq.read_table(found[SECOND].path, partitioning=None)["order_id"].to_pylist() == ["o_3_1", "o_3_0"]


def test_only_dates_that_were_asked_for_are_kept(tmp_path: Path) -> None:
    """One or more of them; a date that nothing could have is refused."""
    assert run(tmp_path / "a", "FROM fact_order", asked=[SECOND], possible=[FIRST, SECOND]).keys() == {SECOND}
    assert run(tmp_path / "b", "FROM fact_order WHERE false", asked=[SECOND], possible=[SECOND]) == {}
    told = refused(tmp_path / "c", "SELECT date + 1 AS date FROM fact_order", asked=[FIRST], possible=[FIRST, SECOND])
    assert "2026-03-04" in told and "whole" in told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELECT NULL::DATE AS date FROM fact_order", "no date (NULL)"),
        ("SELECT order_id FROM fact_order", "no column `date`"),
        ("SELECT date::VARCHAR AS date FROM fact_order", "must be a DATE"),
        ("SELECT created_at AS date FROM fact_order", "must be a DATE"),
        ("SELECT DATE '12000-01-01' AS date", "years 1 to 9999"),
        ("SELECT DATE '4000-01-01 (BC)' AS date", "years 1 to 9999"),
        ("SELECT 'infinity'::DATE AS date", "m.sql"),
        ("SELECT date,\n CAST(order_id AS INTEGER) AS x FROM fact_order", "line 2"),
        ("SELECT date, error('on purpose') AS x FROM fact_order", "on purpose"),
    ],
)
def test_a_result_that_cannot_be_kept_is_refused(tmp_path: Path, text: str, told: str) -> None:
    """With the line where DuckDB names it; also where columns were not known before the run."""
    assert told in refused(tmp_path, text)


def test_a_check_is_one_file_with_or_without_rows(tmp_path: Path) -> None:
    """Which has its columns in any case."""
    for number, (where, rows) in enumerate((("amount = 1", 1), ("false", 0))):
        found = run(tmp_path / str(number), f"SELECT order_id FROM fact_order WHERE {where}", is_dated=False)
        assert found.keys() == {WHOLE} and found[WHOLE].rows == rows
        assert pq.read_table(found[WHOLE].path).column_names == ["order_id"]
