"""Compares Strandline with an expert's script: whole processes, the same input, alternating runs, and the same totals at the end.

Only ratios of neighbouring runs are meaningful, since the speed of a machine drifts by more than the differences measured here.
So the runs alternate, each has a new folder with its own copy of the input, and neither pays for writeback or caching of the
other. A ratio between different results would be worthless, so after every pair the totals by date are compared exactly.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

if __package__ in (None, ""):  # run as a file: the folder above is not importable yet
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.data import REPO, Input, add_size_options, fresh_folder, make_input
from benchmarks.measure import Measured, adopt_orphans, measure

PEERS = {
    "duckdb": ("DuckDB script", "duckdb_script.py"),
    "polars": ("polars script", "polars_script.py"),
    "pandas": ("pandas loop", "pandas_loop.py"),
    "dlt": ("dlt", "dlt_pipeline.py"),
    "spark": ("PySpark", "spark_stream.py"),
}
ROWS = {"recent": ("recent", "ndjson"), "wide": ("wide", "ndjson"), "array": ("wide", "array")}
CONFIG = '[paths]\ninbox = "inbox"\noutput = "output"\n\n[http]\nenabled = false\n'


class DifferentResults(Exception):
    """The two results do not have the same orders, so their times cannot be compared."""


# --- the two contenders ----------------------------------------------------------------------------------------------


def lay_out(drops: Path, folder: Path) -> Path:
    """A new folder with its own copy of the input in its inbox, because the daemon consumes its drops.

    Modification times are kept, so that the daemon does not wait for drops to settle.
    """
    inbox = fresh_folder(folder) / "inbox"
    shutil.copytree(drops, inbox)
    return inbox


def run_peer(peer: str, python: str, drops: Path, folder: Path, suffix: str) -> Measured:
    """Runs the peer in a new folder."""
    inbox = lay_out(drops, folder)
    script = REPO / "benchmarks" / "peers" / PEERS[peer][1]
    return measure([python, str(script), f"{inbox}/*{suffix}", f"{folder}/output"], REPO, folder / "log.txt")


def run_strandline(drops: Path, folder: Path, more_settings: str = "") -> Measured:
    """Runs Strandline with its default settings in a new folder. Only HTTP is off, so that it needs no port."""
    inbox = lay_out(drops, folder)
    config = folder / "config.toml"
    config.write_text(CONFIG + more_settings)
    command = [sys.executable, "-m", "daemon", "--once", "--config", str(config)]
    measured = measure(command, REPO, folder / "log.txt")
    left = [drop.name for drop in inbox.iterdir()]
    if left:
        raise DifferentResults(f"strandline left {len(left)} drops in the inbox, such as {left[0]}")
    return measured


# --- do they agree? --------------------------------------------------------------------------------------------------

# The script repeats an order's amount on each of its lines, as the API gave it; Strandline allocates it.
SCRIPT_TOTALS = """
SELECT date, sum(lines), count(*), sum(amount), sum(value) FROM (
  SELECT date, order_id, count(*) AS lines, any_value(amount) AS amount, sum(qty * price) AS value
  FROM read_parquet('{out}/fact_order/*/*.parquet', hive_partitioning = true) GROUP BY ALL
) GROUP BY date ORDER BY date
"""
DLT_TOTALS = """
SELECT (SELECT count(*) FROM read_parquet('{out}/data/orders/fact_order__items/*.parquet')), count(*)
FROM read_parquet('{out}/data/orders/fact_order/*.parquet')
"""
STRANDLINE_COUNTS = """
SELECT count(*), count(DISTINCT order_id)
FROM read_parquet('{out}/curated/date=*/fact_order.parquet', hive_partitioning = false)
"""
SCRIPT_ITEMS = """
SELECT date, count(*), sum(qty * price)
FROM read_parquet('{out}/order_items/*/*.parquet', hive_partitioning = true) GROUP BY date ORDER BY date
"""
STRANDLINE_TOTALS = """
SELECT date, count(*), count(DISTINCT order_id), sum(amount), sum(qty * price)
FROM read_parquet('{out}/curated/date=*/fact_order.parquet', hive_partitioning = false) GROUP BY date ORDER BY date
"""
STRANDLINE_ITEMS = """
SELECT date, count(*), sum(qty * price)
FROM read_parquet('{out}/curated/date=*/order_items.parquet', hive_partitioning = false) GROUP BY date ORDER BY date
"""


def check_agreement(peer: str, script: Path, strandline: Path) -> str:
    """Checks that the totals by date of both results are exactly equal; returns a summary. For dlt, which has its own table
    layout, only the numbers of orders and lines are compared."""
    if peer == "dlt":
        ((lines, orders),) = same_rows("orders", rows(DLT_TOTALS, script), rows(STRANDLINE_COUNTS, strandline))
        return f"{orders:,} orders, {lines:,} lines"
    facts = same_rows("fact_order", rows(SCRIPT_TOTALS, script), rows(STRANDLINE_TOTALS, strandline))
    same_rows("order_items", rows(SCRIPT_ITEMS, script), rows(STRANDLINE_ITEMS, strandline))
    lines, orders = sum(row[1] for row in facts), sum(row[2] for row in facts)
    return f"{len(facts):,} dates, {orders:,} orders, {lines:,} lines"


def rows(query: str, folder: Path) -> list[tuple]:
    """One total per date. Decimals stay decimals, so the comparison is exact."""
    import duckdb  # imported here to keep the memory of the measuring process small

    with duckdb.connect() as database:
        return database.execute(query.format(out=folder / "output")).fetchall()


def same_rows(table: str, expected: list[tuple], found: list[tuple]) -> list[tuple]:
    """The rows if both lists are equal. Otherwise raises DifferentResults with the first difference."""
    if not expected:
        raise DifferentResults(f"{table}: the script wrote nothing")
    for ours, theirs in zip(found, expected, strict=False):
        if ours != theirs:
            raise DifferentResults(f"{table}: strandline {shown(ours)}, script {shown(theirs)}")
    if len(found) != len(expected):
        raise DifferentResults(f"{table}: strandline has {len(found)} dates, the script {len(expected)}")
    return expected


def shown(row: tuple) -> str:
    """A row as text."""
    return ", ".join(str(value) for value in row)


# --- the report ------------------------------------------------------------------------------------------------------


def machine() -> str:
    """The hardware and the versions that the numbers depend on, without host or folder names."""
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("duckdb", "pyarrow")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    parts = [f"{usable_cores()} cores", processor(), f"{memory:.0f} GiB memory", platform.system()]
    return ", ".join([*parts, f"Python {platform.python_version()}", *versions])


def usable_cores() -> int:
    """The cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """The processor's model name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def print_run(name: str, measured: Measured) -> None:
    """Prints one line for a run, as soon as it ends."""
    print(
        f"  {name:<14} {measured.wall_seconds:7.2f} s wall {measured.cpu_seconds:7.2f} s CPU "
        f"{measured.peak_megabytes:7,.0f} MB peak",
        flush=True,
    )


def print_medians(peer: str, pairs: list[tuple[Measured, Measured]]) -> float:
    """Prints the medians and the ratio of each pair. Returns the median ratio, which is the number that counts."""
    print("\n| median of runs | wall s | CPU s | peak MB |\n|---|---|---|---|")
    for name, runs in zip((PEERS[peer][0], "strandline"), zip(*pairs, strict=True), strict=True):
        wall = statistics.median(run.wall_seconds for run in runs)
        cpu = statistics.median(run.cpu_seconds for run in runs)
        peak = statistics.median(run.peak_megabytes for run in runs)
        print(f"| {name} | {wall:.2f} | {cpu:.2f} | {peak:,.0f} |")
    ratios = [strandline.wall_seconds / script.wall_seconds for script, strandline in pairs]
    print(
        f"\nstrandline / {PEERS[peer][0]} by pair: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; "
        f"median {statistics.median(ratios):.2f}"
    )
    return statistics.median(ratios)


# --- all together ----------------------------------------------------------------------------------------------------


def compare(
    wanted: Input, runs: int, work: Path, peer: str = "duckdb", python: str = sys.executable
) -> list[tuple[Measured, Measured]]:
    """Measures and checks pairs of runs, in the order peer, Strandline, Strandline, peer, peer …"""
    drops = make_input(wanted, work)
    pairs = []
    for number in range(1, runs + 1):
        print(f"pair {number} of {runs}", flush=True)
        script, strandline = work / f"run-{number}-script", work / f"run-{number}-strandline"
        measured: dict[str, Measured] = {}
        for who in ("peer", "strandline") if number % 2 else ("strandline", "peer"):  # neither always runs second
            if who == "peer":
                measured[who] = run_peer(peer, python, drops, script, wanted.suffix)
            else:
                measured[who] = run_strandline(drops, strandline)
            print_run(PEERS[peer][0] if who == "peer" else who, measured[who])
        first, second = measured["peer"], measured["strandline"]
        print(f"  totals agree:  {check_agreement(peer, script, strandline)}", flush=True)
        pairs.append((first, second))
    for folder in work.glob("run-*"):  # only now: some file systems create files slowly after many were removed
        shutil.rmtree(folder)
    return pairs


def refuse_the_future(wanted: Input) -> None:
    """Raises SystemExit for orders in the future: Strandline discards them, so the totals would differ."""
    today = datetime.now(UTC).date()
    if wanted.latest > today:
        raise SystemExit(
            f"the input has orders up to {wanted.latest}, which is in the future; for recent dates give --last-date {today}"
        )


def read_options(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Compares Strandline with an expert's script.")
    parser.add_argument(
        "--rows",
        choices=sorted(ROWS),
        default="recent",
        help="62 dates, all 2,406, or those as one array (default recent)",
    )
    parser.add_argument("--peer", choices=sorted(PEERS), default="duckdb", help="what to compare with (default duckdb)")
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter with the peer's packages")
    parser.add_argument("--runs", type=int, default=3, help="number of pairs (default 3)")
    add_size_options(parser)
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Compares and reports. Exit code 1 if the results differ."""
    asked = read_options(arguments)
    dates, form = ROWS[asked.rows]
    wanted = Input(dates, form, asked.scale, asked.drops, asked.orders, asked.last_date)
    refuse_the_future(wanted)
    adopt_orphans()
    print(f"{machine()}\ninput: {wanted.name}", flush=True)
    try:
        pairs = compare(wanted, asked.runs, asked.work.resolve(), asked.peer, asked.peer_python)
    except DifferentResults as difference:
        print(f"the results differ: {difference}", file=sys.stderr)
        return 1
    print_medians(asked.peer, pairs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
