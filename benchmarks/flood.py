"""Many tiny drops: the cost of one in a batch with others and the cost of one alone, with the same durability.

    python -m benchmarks.flood [--drops 10000] [--alone 300] [--runs 3]

Measures whole processes with `--once`, alternating: all drops with the default batch size, then some of them with
`[batch] max_drops = 1`. The start-up time, measured on an empty inbox, is subtracted from both. Each run must leave as many
receipts as drops.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]


def lay_out(folder: Path, drops: int) -> None:
    """Writes drops of one order each, over 62 dates, one hour old."""
    inbox = folder / "inbox"
    inbox.mkdir(parents=True)
    then = time.time() - 3600
    for number in range(drops):
        day = f"2026-{1 + number % 62 // 31:02d}-{1 + number % 28:02d}"
        order = {
            "order_id": f"o_{number}", "user_id": f"u_{number % 500}", "amount": number, "currency": "EUR",
            "created_at": f"{day}T10:00:00Z", "items": [{"sku": f"p_{number % 50}", "qty": 1, "price": number}],
        }  # fmt: skip
        path = inbox / f"{number:06d}.json"
        path.write_text(json.dumps(order))
        os.utime(path, (then + number / 1000, then + number / 1000))
    os.sync()


def seconds(folder: Path, drops: int, **settings: str) -> float:
    """The seconds that `--once` takes for so many drops."""
    lay_out(folder, drops)
    environment = (
        os.environ | {"PYTHONPATH": str(REPO)} | {f"STRANDLINE_{key}": value for key, value in settings.items()}
    )
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "daemon", "--once"], cwd=folder, env=environment, check=True, stderr=subprocess.DEVNULL
    )
    taken = time.perf_counter() - started
    receipts = sum(1 for _ in (folder / "output" / "receipts").glob("*/*.json")) if drops else 0
    if receipts != drops:
        raise SystemExit(f"{drops} drops, but {receipts} receipts")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drops", type=int, default=10_000)
    parser.add_argument("--alone", type=int, default=300, help="number of drops to apply one by one")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, default=REPO / "build" / "bench" / "flood")
    options = parser.parse_args()
    shutil.rmtree(options.work, ignore_errors=True)
    ratios = []
    for run in range(1, options.runs + 1):
        # Each in its own folder: ext4 creates files slowly after many were removed.
        empty = seconds(options.work / f"{run}-empty", 0)
        together = (seconds(options.work / f"{run}-together", options.drops) - empty) / options.drops
        alone = (seconds(options.work / f"{run}-alone", options.alone, BATCH__MAX_DROPS="1") - empty) / options.alone
        ratios.append(alone / together)
        print(
            f"run {run}: in batches {together * 1e3:.2f} ms per drop, one by one {alone * 1e3:.2f} ms, ratio {ratios[-1]:.1f}"
        )
    print(f"median ratio {statistics.median(ratios):.1f}")
    shutil.rmtree(options.work, ignore_errors=True)


if __name__ == "__main__":
    main()
