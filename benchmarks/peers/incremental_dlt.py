"""The same with dlt: two resources whose write disposition is `merge`, into its DuckDB destination.

    python incremental_dlt.py OUT build SCRIPT_OUT
    python incremental_dlt.py OUT merge DROP

The rows are Arrow tables, which dlt loads fastest; DuckDB unnests the items. An order is replaced by its key wherever it was.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import dlt
import duckdb
from duckdb_script import READ

LINES = (
    "SELECT order_id, user_id, item.sku, amount, item.qty, item.price, created_at, date, currency, "
    "CAST(metadata AS VARCHAR) AS metadata"
)
TABLES = {
    "fact_order": f"{LINES} FROM (SELECT *, unnest(items) AS item FROM orders)",
    "order_items": "SELECT order_id, item.sku, item.qty, item.price, date FROM (SELECT *, unnest(items) AS item FROM orders)",
}


def main() -> None:
    out, what, source = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    pipeline = dlt.pipeline(
        "orders", pipelines_dir=str(out / "state"), dataset_name="orders",
        destination=dlt.destinations.duckdb(str(out / "kept.duckdb")),
    )  # fmt: skip
    resources = []
    with duckdb.connect() as database:
        database.execute("SET timezone = 'UTC'")
        if what == "merge":
            database.execute(READ.format(source=source))
        for table, query in TABLES.items():
            built = f"SELECT * FROM read_parquet('{source}/{table}/*/*.parquet', hive_partitioning = true)"
            rows = database.execute(built if what == "build" else query).to_arrow_table()
            disposition = "replace" if what == "build" else {"disposition": "merge", "strategy": "delete-insert"}
            resources.append(dlt.resource([rows], name=table, write_disposition=disposition, merge_key="order_id"))
    pipeline.run(resources)


if __name__ == "__main__":
    main()
