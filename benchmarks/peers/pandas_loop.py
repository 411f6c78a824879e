"""The batch job that Strandline replaces, as such jobs are written: a Python loop over records and items, then pandas.

Its bugs are fixed where they would change the totals (all items of an order, instants compared as instants), so that the results
can be compared. Its other limits stay: each day is overwritten with the rows of this run.

    python pandas_loop.py 'inbox/*.ndjson' out
"""

from __future__ import annotations

import json
import sys
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pyarrow as pa

DECIMAL = pa.decimal128(18, 4)


def run(source: str, out: Path) -> None:
    """Runs the whole job."""
    latest: dict[str, dict] = {}
    for path in sorted(Path(source).parent.glob(Path(source).name)):
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                order = json.loads(line, parse_float=Decimal)
                order["created_at"] = pd.Timestamp(order["created_at"])
                known = latest.get(order["order_id"])
                if known is None or known["created_at"] <= order["created_at"]:
                    latest[order["order_id"]] = order
    facts, items = [], []
    for order in latest.values():
        for item in order["items"]:
            line = {"order_id": order["order_id"], "sku": item["sku"], "qty": item["qty"], "price": item["price"]}
            items.append(line | {"date": order["created_at"].date()})
            facts.append(
                line | {
                    "user_id": order["user_id"], "amount": order["amount"], "created_at": order["created_at"],
                    "currency": order["currency"], "metadata": json.dumps(order["metadata"]),
                    "date": order["created_at"].date(),
                }
            )  # fmt: skip
    write(pd.DataFrame(facts), ("amount", "qty", "price"), out / "fact_order")
    write(pd.DataFrame(items), ("qty", "price"), out / "order_items")


def write(table: pd.DataFrame, decimals: tuple[str, ...], folder: Path) -> None:
    """One file a date."""
    for name in decimals:
        table[name] = pd.Series(pa.array(map(Decimal, table[name]), DECIMAL), dtype=pd.ArrowDtype(DECIMAL))
    for date, part in table.groupby("date"):
        target = folder / f"date={date}"
        target.mkdir(parents=True)
        part.drop(columns="date").to_parquet(target / "data.parquet", index=False)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: pandas_loop.py INPUT_GLOB OUTPUT_FOLDER")
    run(sys.argv[1], Path(sys.argv[2]))
