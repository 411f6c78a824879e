"""`make demo`: the sample drops, applied by the real command in a fresh folder, and what came of them."""

from __future__ import annotations

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
ENVIRONMENT = os.environ | {"STRANDLINE_LOG__FORMAT": "console", "PYTHONPATH": str(HERE.parent)}
ARRIVALS = [
    ["api_orders.json", "users.csv", "products.csv"],
    ["corrections.jsonl", "dirty.ndjson", "truncated.json", "rate_limit.json"],
]
QUERY = """
SELECT date, coalesce(country, '(unknown)') AS country, coalesce(category, sku || ' (unknown)', '(no items)') AS category,
       count(DISTINCT order_id) AS orders, sum(qty) AS qty, sum(amount) AS amount
FROM read_parquet('{curated}/date=*/fact_order.parquet', hive_partitioning = false, union_by_name = true)
LEFT JOIN '{curated}/dim_user.parquet' USING (user_id)
LEFT JOIN '{curated}/dim_product.parquet' USING (sku)
GROUP BY ALL ORDER BY ALL
"""
MODEL = "FROM read_parquet('{models}/rolling_week/date=*/*.parquet', hive_partitioning = false) ORDER BY ALL"
SHOPS = ["shopify", "woocommerce"]
ORDERS = """
SELECT order_id, created_at::DATE AS date, user_id, sku, qty, price, amount, currency
FROM read_parquet('{curated}/date=*/fact_order.parquet', hive_partitioning = false, union_by_name = true)
ORDER BY order_id, line_number
"""


def main() -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    (FOLDER / "inbox").mkdir(parents=True)
    for name in ("models", "checks"):
        shutil.copytree(HERE.parent / name, FOLDER / name)
    for names in ARRIVALS:
        deliver(names)
        print(f"\n$ strandline --once          # with {', '.join(names)} in the inbox", flush=True)
        ended = subprocess.run(
            [sys.executable, "-m", "daemon", "--once"],
            cwd=FOLDER,
            env=ENVIRONMENT,
            check=False,
        )
        print(f"exit code {ended.returncode}" + (" (something was quarantined)" if ended.returncode == 1 else ""))
        if ended.returncode not in (0, 1):
            sys.exit(ended.returncode)
    show(FOLDER / "output")
    for name in SHOPS:
        shop(name)


def shop(name: str) -> None:
    """The export of a shop, read with two lines of configuration."""
    folder = FOLDER / name
    (folder / "inbox").mkdir(parents=True)
    (folder / "config.toml").write_text(f'[sources.default]\npreset = "{name}"\n', encoding="utf-8")
    deliver([f"shops/{name}.json"], folder)
    print(f"\n$ cat config.toml\n{(folder / 'config.toml').read_text(encoding='utf-8').strip()}")
    print(f"$ strandline --once          # with {name}.json, as its API gives it, in the inbox", flush=True)
    subprocess.run([sys.executable, "-m", "daemon", "--once"], cwd=folder, env=ENVIRONMENT, check=True)
    print(duckdb.sql(ORDERS.format(curated=folder / "output" / "curated")))


def deliver(names: list[str], folder: Path = FOLDER) -> None:
    """Copies drops into the inbox, as old as if their writers had finished a while ago."""
    for number, name in enumerate(names):
        target = folder / "inbox" / Path(name).name
        shutil.copyfile(HERE / name, target)
        minutes_ago = time.time() - 600 + number
        os.utime(target, (minutes_ago, minutes_ago))


def show(output: Path) -> None:
    print("\n$ strandline status", flush=True)
    subprocess.run([sys.executable, "-m", "daemon", "status"], cwd=FOLDER, env=ENVIRONMENT, check=True)
    print("\nDuckDB over the result: sales by day, country and category")
    print(duckdb.sql(QUERY.format(curated=output / "curated")))
    print("\n$ strandline downstream        # the models and checks in models/ and checks/", flush=True)
    subprocess.run([sys.executable, "-m", "daemon", "downstream"], cwd=FOLDER, env=ENVIRONMENT, check=True)
    print(duckdb.sql(MODEL.format(models=output / "models")))
    folders = "raw/, curated/, models/, checks/, discarded/, quarantine/, receipts/"
    print(f"Look around in {output.relative_to(HERE.parent)}: {folders}")


if __name__ == "__main__":
    main()
