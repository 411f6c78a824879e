"""Runs all benchmarks in sequence: python -m benchmarks [--quick] [--peers-python PYTHON] [--work FOLDER]

Each part is also a separate command (README.md). With `--peers-python`, only dlt, PySpark and dbt run, with that interpreter.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.data import WORK, Input, make_input

RECENT = Input()
REST_SECONDS = 60  # after each part: ext4 without a journal creates files slowly after many were removed


def commands(options: argparse.Namespace) -> Iterator[list[str]]:
    """The parts, in order."""
    work, runs = ["--work", str(options.work)], ["--runs", "1" if options.quick else "3"]
    few = ["--orders", "150000"]
    if options.peers_python:
        for peer in ("dlt", "spark"):
            yield ["benchmarks.compare", "--peer", peer, "--peer-python", options.peers_python, *few, *runs, *work]
        for name in ("incremental", "models"):
            yield [f"benchmarks.{name}", "--peers-python", options.peers_python, *runs, *work]
        return
    for rows in ("recent", "wide", "array"):
        yield ["benchmarks.compare", "--rows", rows, *runs, *work]
    yield ["benchmarks.compare", "--drops", "100", *runs, *work]
    yield ["benchmarks.compare", "--peer", "polars", *runs, *work]
    yield ["benchmarks.compare", "--peer", "pandas", *few, *runs, *work]
    yield ["benchmarks.flood", *runs, "--work", str(options.work / "flood")]
    (drop,) = make_input(RECENT, options.work.resolve()).iterdir()
    yield ["benchmarks.floor", str(drop), str(options.work / "floor")]
    yield ["benchmarks.cases", *runs, *work]
    yield ["benchmarks.incremental", *runs, *work]
    yield ["benchmarks.models", *runs, *work]
    yield ["benchmarks.load", *runs, *work]
    yield ["benchmarks.lake", *runs, *work]
    yield ["benchmarks.scale", *runs, *work]


def main() -> int:
    """Exit code 1 if any part failed; the other parts still run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one run of each part instead of three")
    parser.add_argument("--peers-python", help="an interpreter with dlt, PySpark and dbt-duckdb: run only these")
    parser.add_argument("--work", type=Path, default=WORK)
    options = parser.parse_args()
    failed = 0
    for command in commands(options):
        print(f"\n== {' '.join(command)}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", *command], check=False).returncode
        shutil.rmtree(options.work / "floor", ignore_errors=True)
        if not options.quick:
            time.sleep(REST_SECONDS)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
