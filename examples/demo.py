"""`make demo`: the sample drops, applied by the real command in a fresh folder, and what came of them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # runs from a checkout, installed or not

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "build" / "demo"
ARRIVALS = [
    ["api_orders.json"],
    ["corrections.jsonl", "dirty.ndjson", "truncated.json", "rate_limit.json"],
]
QUERY = """
SELECT date, coalesce(sku, '(no items)') AS sku, count(DISTINCT order_id) AS orders, sum(qty) AS qty, sum(amount) AS amount
FROM read_parquet('{curated}/date=*/fact_order.parquet', hive_partitioning = false)
GROUP BY ALL ORDER BY ALL
"""


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "inbox").mkdir(parents=True)
    for names in ARRIVALS:
        deliver(names)
        print(f"\n$ strandline --once          # with {', '.join(names)} in the inbox", flush=True)
        ended = subprocess.run(
            [sys.executable, "-m", "daemon", "--once"],
            cwd=FOLDER,
            env=os.environ | {"STRANDLINE_LOG__FORMAT": "console", "PYTHONPATH": str(HERE.parent)},
            check=False,
        )
        print(f"exit code {ended.returncode}" + (" (something was quarantined)" if ended.returncode == 1 else ""))
        if ended.returncode not in (0, 1):
            sys.exit(ended.returncode)
    show(FOLDER / "output")


def deliver(names: list[str]) -> None:
    """Copies drops into the inbox, as old as if their writers had finished a while ago."""
    for number, name in enumerate(names):
        target = FOLDER / "inbox" / name
        shutil.copyfile(HERE / name, target)
        minutes_ago = time.time() - 600 + number
        os.utime(target, (minutes_ago, minutes_ago))


def show(output: Path) -> None:
    receipts = [json.loads(path.read_text()) for path in sorted(output.glob("receipts/*/*.json"))]
    print("\nReceipts")
    for r in receipts:
        n = r["records"]
        kept = ", ".join(f"{n[k]} {k}" for k in ("new", "corrected", "unchanged", "superseded") if n[k])
        discarded = sum(n["discarded"].values())
        detail = r["reason"] or kept + (f", {discarded} discarded" if discarded else "")
        print(f"  {r['name']:20} {r['outcome']:12} {detail}")

    print("\nDiscards by reason")
    reasons: dict[str, int] = {}
    for r in receipts:
        for reason, count in r["records"]["discarded"].items():
            reasons[reason] = reasons.get(reason, 0) + count
    for reason, count in sorted(reasons.items()):
        print(f"  {reason:20} {count}")

    print("\nPartitions")
    for path in sorted(output.glob("curated/date=*/fact_order.parquet")):
        rows = duckdb.execute("SELECT count(*), count(DISTINCT order_id) FROM read_parquet(?)", [str(path)]).fetchall()[
            0
        ]
        print(f"  {path.parent.name}   {rows[1]} orders, {rows[0]} rows")
    print(f"\nHigh-water mark   {high_water_mark(output)}")
    print("\nDuckDB over the result: sales by day and product")
    print(duckdb.sql(QUERY.format(curated=output / "curated")))
    print(f"Look around in {output.relative_to(HERE.parent)}: raw/, curated/, discarded/, quarantine/, receipts/")


def high_water_mark(output: Path) -> str:
    """As the ledger has it: the latest created_at of any accepted order."""
    from daemon.ledger import Ledger
    from daemon.receipts import instant_text

    ledger = Ledger(output / "state" / "ledger.sqlite")
    try:
        return instant_text(ledger.hwm) if ledger.hwm is not None else "(none yet)"
    finally:
        ledger.close()


if __name__ == "__main__":
    main()
