"""Drops of 10,000 orders into two years of 1.46M orders, against what people keep such a layer with.

    python -m benchmarks.incremental [--runs N] [--peers-python PYTHON] [--work FOLDER]

Each drop has new orders and corrections on 200 of 730 dates. Strandline runs cold (`--once`) and with the daemon running (from
the rename of the drop to its receipt). The others are whole processes: the incremental script of an expert; deltalake with MERGE
and with an overwrite of the dates; and, with `--peers-python`, dlt and dbt-duckdb. Each keeps an output of its own and takes the
same drops; the order of the contenders alternates. At the end, orders, lines and sums of all are compared exactly. What the
others do not guarantee is in benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import duckdb

from benchmarks.cases import drop_into, order_line, watching
from benchmarks.compare import CONFIG, machine
from benchmarks.data import REPO, WORK, fresh_folder
from benchmarks.lake import timed
from benchmarks.measure import Measured
from benchmarks.models import DATES, ORDERS, days

PEERS = Path(__file__).parent / "peers"
TOUCHED, A_DATE, NEW = 200, 50, 10  # dates of a drop; its orders on each; how many of these are new
QUIET = '\n[log]\nlevel = "warning"\n'
COLD, RUNNING = "strandline --once", "strandline, running"
TOTALS = """
SELECT count(*), sum(lines), sum(value), sum(amount) FROM (
  SELECT count(*) AS lines, sum(qty * price) AS value, {amount}(amount) AS amount FROM {source} GROUP BY order_id)
"""
PARQUET = "read_parquet('{state}/fact_order/*/*.parquet', hive_partitioning = true)"
CURATED = "read_parquet('{state}/output/curated/date=*/fact_order.parquet', hive_partitioning = false)"
DELTA = "delta"  # is registered under that name


def history(work: Path) -> Path:
    """The drops of two years, in two files. Made once, then reused."""
    inbox = work / "incremental-history"
    if not (inbox / "ready").exists():
        fresh_folder(inbox)
        for year in range(2):
            with (inbox / f"{year}.ndjson").open("wb") as file:
                for number, day in enumerate(days()[year * 365 : (year + 1) * 365]):
                    first = (year * 365 + number) * ORDERS
                    file.writelines(order_line(first + one, day, one % 9_000 + 100) for one in range(ORDERS))
        (inbox / "ready").touch()
    return inbox


def content_of(drop: int) -> bytes:
    """The drop of a number: on each of 200 dates, 40 orders with other amounts, and 10 new ones."""
    found = []
    for number in range(0, DATES, DATES // TOUCHED)[:TOUCHED]:
        day, first = days()[number], number * ORDERS
        known = ((drop * 131 + one * 47) % ORDERS for one in range(A_DATE - NEW))
        found += [order_line(first + one, day, drop * 1_000 + one + 7) for one in dict.fromkeys(known)]
        fresh = DATES * ORDERS * (drop + 1) + number * NEW
        found += [order_line(fresh + one, day, one + 3) for one in range(NEW)]
    return b"".join(found)


class Contender:
    """Something that keeps an output in the folder `state`. `source`: SQL that reads its facts."""

    source = CURATED
    amount = "sum"  # of an order, from its lines

    def __init__(self, name: str, state: Path) -> None:
        self.name, self.state = name, state

    def build(self, inbox: Path, script: Path) -> None:
        """Makes the output of two years, from the drops, or from what the expert's script made of them."""
        raise NotImplementedError

    def take(self, drop: Path) -> float:
        """Takes a drop; returns the seconds."""
        raise NotImplementedError

    def totals(self) -> tuple:
        """Orders, lines, and the exact sums of their values and of the amounts of the orders."""
        with duckdb.connect() as database:
            if self.source == DELTA:
                from deltalake import DeltaTable

                database.register(DELTA, DeltaTable(str(self.state / "fact_order")).to_pyarrow_dataset())
            source = self.source.format(state=self.state)
            if source.startswith("kept."):
                database.execute(f"ATTACH '{next(self.state.glob('*.duckdb'))}' AS kept (READ_ONLY)")
            found = database.execute(TOTALS.format(source=source, amount=self.amount)).fetchone()
        assert found is not None
        return found


class Script(Contender):
    """One of the scripts in peers/. `how`: what it is told to do with a drop."""

    amount = "any_value"  # it repeats the amount of an order on each line

    def __init__(
        self, name: str, state: Path, source: str, script: str, how: str, python: str = sys.executable
    ) -> None:
        super().__init__(name, state)
        self.source, self.script, self.how, self.python = source, script, how, python

    def _run(self, *words: str) -> Measured:
        return timed([self.python, str(PEERS / self.script), *words], REPO, self.state.with_suffix(".log"))

    def build(self, inbox: Path, script: Path) -> None:
        self.state.mkdir(parents=True)
        self._run(str(self.state), "build", f"{inbox}/*.ndjson" if self.script.endswith("dbt.py") else str(script))

    def take(self, drop: Path) -> float:
        return self._run(str(self.state), self.how, str(drop)).wall_seconds


class Expert(Script):
    """The expert's script. Its first output is what others begin with."""

    def build(self, inbox: Path, script: Path) -> None:
        command = [sys.executable, str(PEERS / "duckdb_script.py"), f"{inbox}/*.ndjson", str(self.state)]
        timed(command, REPO, self.state.with_suffix(".log"))

    def take(self, drop: Path) -> float:
        return self._run(str(drop), str(self.state)).wall_seconds


class Cold(Contender):
    """Strandline, started for each drop."""

    def build(self, inbox: Path, script: Path) -> None:
        (self.state / "inbox").mkdir(parents=True)
        (self.state / "config.toml").write_text(CONFIG + QUIET)
        for drop in inbox.glob("*.ndjson"):
            shutil.copy2(drop, self.state / "inbox" / drop.name)
        self._once()

    def _once(self) -> Measured:
        command = [sys.executable, "-m", "daemon", "--once", "--config", str(self.state / "config.toml")]
        return timed(command, REPO, self.state / "log.txt")

    def take(self, drop: Path) -> float:
        drop_into(self.state, drop.name, drop.read_bytes(), 60)
        return self._once().wall_seconds


class Running(Cold):
    """Strandline as a daemon. A drop is renamed into the inbox; the clock stops at its receipt."""

    def take(self, drop: Path) -> float:
        content = drop.read_bytes()
        os.sync()
        began = time.perf_counter()
        drop_into(self.state, drop.name, content)
        while not any((self.state / "output" / "receipts").glob(f"received=*/*{drop.name}*")):
            time.sleep(0.002)
            if time.perf_counter() - began > 60:
                raise SystemExit("a drop was not applied within a minute")
        return time.perf_counter() - began


def contenders(at: Path, peers_python: str | None) -> list[Contender]:
    """All of them; the expert's script comes first."""
    found: list[Contender] = [
        Expert("script", at / "script", PARQUET, "incremental_script.py", ""),
        Cold(COLD, at / "cold"),
        Running(RUNNING, at / "running"),
        Script("deltalake MERGE", at / "merge", DELTA, "incremental_delta.py", "merge"),
        Script("deltalake overwrite", at / "overwrite", DELTA, "incremental_delta.py", "overwrite"),
    ]
    if peers_python:
        found += [
            Script("dlt merge", at / "dlt", "kept.orders.fact_order", "incremental_dlt.py", "merge", peers_python),
            Script("dbt-duckdb", at / "dbt", "kept.main.fact_order", "incremental_dbt.py", "merge", peers_python),
        ]
    return found


def same_totals(all_of_them: Sequence[Contender]) -> tuple:
    """The totals that all have. Raises SystemExit where one has others."""
    first, *others = ((one.name, one.totals()) for one in all_of_them)
    for name, totals in others:
        if totals != first[1]:
            raise SystemExit(f"the results differ: {first[0]} has {first[1]}, {name} has {totals}")
    return first[1]


def compared(all_of_them: Sequence[Contender], runs: int, drops: Path) -> dict[str, list[float]]:
    """The seconds of each for each drop. The first drop warms up, and does not count."""
    taken: dict[str, list[float]] = {one.name: [] for one in all_of_them}
    for number in range(runs + 1):
        drop = drops / f"drop-{number}.ndjson"
        drop.write_bytes(content_of(number))
        for one in all_of_them[:: -1 if number % 2 else 1]:
            taken[one.name].append(one.take(drop))
        print("  " + ", ".join(f"{name} {values[-1]:.2f} s" for name, values in taken.items()), flush=True)
    orders, lines, *_ = same_totals(all_of_them)
    print(f"  totals agree: {orders:,} orders, {lines:,} lines")
    return {name: values[1:] for name, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--peers-python", help="an interpreter with dlt and dbt-duckdb")
    options = parser.parse_args()
    work = options.work.resolve()
    inbox, at = history(work), fresh_folder(work / "incremental")
    print(machine(), flush=True)
    all_of_them = contenders(at, options.peers_python)
    for one in all_of_them:
        one.build(inbox, all_of_them[0].state)
    same_totals(all_of_them)
    with watching(at / "running"):
        time.sleep(15)  # it has started, and compacted its index
        taken = compared(all_of_them, options.runs, fresh_folder(at / "drops"))
    for ours in (COLD, RUNNING):
        for name in taken.keys() - {COLD, RUNNING}:
            ratios = [mine / theirs for mine, theirs in zip(taken[ours], taken[name], strict=True)]
            print(f"{ours} / {name}: median {statistics.median(ratios):.2f} (bar 0.6)", flush=True)
    shutil.rmtree(at)


if __name__ == "__main__":
    subprocess.run(["sync"], check=False)
    main()
