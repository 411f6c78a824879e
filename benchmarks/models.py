"""A model over 200 stale dates of 730, against the same SQL over everything in one DuckDB call, and dbt-duckdb incremental.

    python -m benchmarks.models [--runs N] [--work FOLDER] [--peers-python PYTHON]

All are whole processes over the same partitions, and their rows are compared. Strandline makes 200 files, records and syncs them;
DuckDB writes 730 and dbt inserts into one table, both without syncing. dbt needs an interpreter that has dbt-duckdb.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import duckdb

from benchmarks.cases import order_line
from benchmarks.compare import CONFIG
from benchmarks.data import REPO, WORK, fresh_folder
from benchmarks.measure import Measured, adopt_orphans, measure

DATES, STALE, ORDERS = 730, 200, 2_000  # orders a day, four lines each
FIRST = date(2024, 11, 1)
NAME = "daily_products"
SELECT = """\
SELECT date, sku, currency, count(DISTINCT order_id) AS orders, count(DISTINCT user_id) AS buyers, sum(qty) AS qty,
       sum(amount) AS amount, min(created_at) AS first_at, max(created_at) AS last_at
FROM fact_order
GROUP BY date, sku, currency
"""
PEERS = Path(__file__).parent / "peers"


def days() -> list[str]:
    return [(FIRST + timedelta(days=number)).isoformat() for number in range(DATES)]


def history(work: Path) -> Path:
    """An output with two years of orders and the model over all of them. Made once, then reused."""
    home = work / "models-history"
    if (home / "ready").exists():
        return home
    fresh_folder(home)
    (home / "inbox").mkdir()
    (home / "config.toml").write_text(CONFIG)
    for year in range(2):
        with (home / "inbox" / f"{year}.ndjson").open("wb") as file:
            for number, day in enumerate(days()[year * 365 : (year + 1) * 365]):
                first = (year * 365 + number) * ORDERS
                file.writelines(order_line(first + one, day, one % 9_000 + 100) for one in range(ORDERS))
    strandline(home)
    (home / "models").mkdir()
    (home / "models" / f"{NAME}.sql").write_text(SELECT)
    strandline(home)
    (home / "ready").touch()
    return home


def strandline(home: Path, *words: str) -> Measured:
    command = [sys.executable, "-m", "daemon", *(words or ("--once",)), "--config", str(home / "config.toml")]
    return measure(command, REPO, home / "log.txt")


def piped(python: str, script: str, *words: str, log: Path) -> Measured:
    """Runs a peer that reads the SELECT."""
    select = log.with_suffix(".sql")
    select.write_text(SELECT)
    quoted = " ".join(f"'{word}'" for word in (python, str(PEERS / script), *words))
    return measure(["sh", "-c", f"exec {quoted} < '{select}'"], REPO, log)


def rows(source: str) -> list[tuple]:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    found = connection.execute(
        f"SELECT CAST(date AS DATE), sku, orders, buyers, qty, amount, epoch_us(last_at) FROM {source} ORDER BY ALL"
    )
    return found.fetchall()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--peers-python", help="an interpreter with dbt-duckdb")
    options = parser.parse_args()
    adopt_orphans()
    work = options.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    home = history(work)
    curated = home / "output" / "curated"
    stale = days()[:: DATES // STALE][:STALE]
    (work / "stale.txt").write_text("\n".join(stale))
    dbt = work / "models-dbt"
    if options.peers_python:
        fresh_folder(dbt)
        piped(options.peers_python, "dbt_models.py", str(curated), str(dbt), "build", log=work / "dbt.log")
    of_script, of_dbt, peaks = [], [], []
    for number in range(options.runs):
        whole = work / "models-duckdb"
        taken: dict[str, Measured] = {}

        def ours(taken: dict[str, Measured] = taken) -> None:
            strandline(home, "refresh", NAME, *stale)
            taken["ours"] = strandline(home)

        def script(taken: dict[str, Measured] = taken, whole: Path = whole) -> None:
            shutil.rmtree(whole, ignore_errors=True)
            log = work / "script.log"
            taken["script"] = piped(sys.executable, "duckdb_model.py", str(curated), str(whole), log=log)

        for step in (ours, script)[:: -1 if number % 2 else 1]:
            step()
        if options.peers_python:
            words = (str(curated), str(dbt), str(work / "stale.txt"))
            taken["dbt"] = piped(options.peers_python, "dbt_models.py", *words, log=work / "dbt.log")
            of_dbt.append(taken["ours"].wall_seconds / taken["dbt"].wall_seconds)
        of_script.append(taken["ours"].wall_seconds / taken["script"].wall_seconds)
        peaks.append(taken["ours"].peak_megabytes)
        print("  " + ", ".join(f"{name} {one.wall_seconds:.2f} s" for name, one in taken.items()), flush=True)
    ours_rows = rows(f"read_parquet('{home}/output/models/{NAME}/date=*/*.parquet', hive_partitioning = false)")
    if ours_rows != rows(f"read_parquet('{work}/models-duckdb/*/*.parquet', hive_partitioning = false)"):
        raise SystemExit("the results differ")
    print(f"models: {STALE} of {DATES} dates, {len(ours_rows):,} rows: median {statistics.median(of_script):.2f} × the same SQL "
          f"over everything (bar 0.6), peak {max(peaks):,.0f} MB")  # fmt: skip
    if of_dbt:
        print(f"models: median {statistics.median(of_dbt):.2f} × dbt-duckdb, incremental over the same dates")


if __name__ == "__main__":
    subprocess.run(["sync"], check=False)
    main()
