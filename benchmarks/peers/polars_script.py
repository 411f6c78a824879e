"""The same script with polars: read lines with a schema, keep the latest orders, write two partitioned tables.

It does less than Strandline, as described in duckdb_script.py; numbers pass through floats.

    python polars_script.py 'inbox/*.ndjson' out
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl

ITEM = pl.Struct({"sku": pl.String, "qty": pl.Float64, "price": pl.Float64})
SCHEMA = {
    "order_id": pl.String, "user_id": pl.String, "amount": pl.Float64, "currency": pl.String, "created_at": pl.String,
    "items": pl.List(ITEM), "metadata": pl.Struct({"source": pl.String, "promo": pl.String}),
}  # fmt: skip
DECIMAL = pl.Decimal(18, 4)


def run(source: str, out: Path) -> None:
    """Runs the whole job, eagerly."""
    orders = pl.read_ndjson(source, schema=SCHEMA).with_columns(
        pl.col("created_at").str.to_datetime("%Y-%m-%dT%H:%M:%SZ", time_unit="us", time_zone="UTC"),
        pl.col("metadata").struct.json_encode(),
    )
    orders = orders.with_columns(pl.col("created_at").dt.date().alias("date"))
    if orders["order_id"].n_unique() < len(orders):
        orders = orders.sort("created_at").unique("order_id", keep="last")
    lines = orders.explode("items").unnest("items")
    lines = lines.with_columns(pl.col(name).round(4).cast(DECIMAL) for name in ("amount", "qty", "price"))
    write(
        lines.select(
            "order_id", "user_id", "sku", "amount", "qty", "price", "created_at", "currency", "metadata", "date"
        ),
        out / "fact_order",
    )
    facts = ("order_id", "user_id", "sku", "amount", "qty", "price", "created_at", "currency", "metadata", "date")
    write(lines.select(facts), out / "fact_order")
    write(lines.select("order_id", "sku", "qty", "price", "date"), out / "order_items")


def write(table: pl.DataFrame, folder: Path) -> None:
    """One file a date."""
    target = pl.PartitionBy(folder, key="date", include_key=False)
    table.lazy().sink_parquet(target, compression="snappy", statistics=False, mkdir=True)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: polars_script.py INPUT_GLOB OUTPUT_FOLDER")
    run(sys.argv[1], Path(sys.argv[2]))
