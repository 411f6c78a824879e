"""`make demo-pull`: a small shop API on this machine, read by the real command into a fresh folder. Then an order changes, and
the next round corrects its date."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

import duckdb

HERE = Path(__file__).resolve().parent
FOLDER = HERE.parent / "build" / "demo-pull"
TOKEN = "demo-token"  # that of api/server.py
ENVIRONMENT = os.environ | {
    "STRANDLINE_LOG__FORMAT": "console", "PYTHONPATH": str(HERE.parent), "SHOP_TOKEN": TOKEN,
}  # fmt: skip
CONFIG = """\
[sources.shop.pull]
url = "{url}/orders"
headers = {{Authorization = "Bearer ${{SHOP_TOKEN}}"}}
params = {{updated_since = "{{since}}"}}
next = {{path = "next_cursor", param = "cursor"}}
cursor = "orders.updated_at"
"""
QUERY = """
SELECT date, count(DISTINCT order_id) AS orders, sum(amount) AS amount
FROM read_parquet('{curated}/date=*/fact_order.parquet', hive_partitioning = false, union_by_name = true)
GROUP BY ALL ORDER BY ALL
"""


def main(folder: Path = FOLDER) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with api() as url:
        config = CONFIG.format(url=url)
        (folder / "config.toml").write_text(config, encoding="utf-8")
        for name in ("inbox", "output"):
            (folder / name).mkdir()
        print(f"\n$ cat config.toml          # the API asks for a token; the configuration names where it is\n{config}")
        pull(folder)
        print(
            f'\n$ curl -H "Authorization: Bearer $SHOP_TOKEN" -d \'{{"amount": 99}}\' {url}/orders/o_3   # an order of 2026-03-03'
        )
        change(f"{url}/orders/o_3", {"amount": 99})
        pull(folder)
    *_, last = (folder / "output" / "restatements.jsonl").read_text(encoding="utf-8").splitlines()
    print(f"The last line of output/restatements.jsonl has the correction:\n{last}")
    print("Each page is in output/raw/ as it was received.")


@contextmanager
def api() -> Iterator[str]:
    """The URL of the API, which ends with the block."""
    command = [sys.executable, str(HERE / "api" / "server.py"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def pull(folder: Path) -> None:
    print("\n$ strandline pull shop", flush=True)
    subprocess.run([sys.executable, "-m", "daemon", "pull", "shop"], cwd=folder, env=ENVIRONMENT, check=True)
    print("\nDuckDB over the result: orders by date")
    print(duckdb.sql(QUERY.format(curated=folder / "output" / "curated")), flush=True)


def change(url: str, changes: dict[str, object]) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with urlopen(Request(url, json.dumps(changes).encode(), headers), timeout=10) as answer:
        answer.read()


if __name__ == "__main__":
    main(*(Path(word).resolve() for word in sys.argv[1:2]))
