"""The incremental script that an expert would write in DuckDB: it replaces the orders of a drop in the dates that they have.

    python incremental_script.py DROP OUT       # OUT is what duckdb_script.py wrote

It reads the dates of the drop from both tables, without the orders that the drop has, adds these, and moves the new folders into
place. Not done: an order that moves to another date stays on the old one as well, a late drop with older versions wins over newer
ones, nothing is synced, a crash between two renames leaves half of the dates new, and one bad record ends it.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import duckdb
from duckdb_script import DEDUPE, READ, REPEATED

FACT_ORDER = """
SELECT order_id, user_id, item.sku, amount, item.qty, item.price, created_at, date, currency, metadata
FROM (SELECT *, unnest(items) AS item FROM orders)
"""
ORDER_ITEMS = """
SELECT order_id, item.sku, item.qty, item.price, date FROM (SELECT order_id, date, unnest(items) AS item FROM orders)
"""
MERGE = """
COPY (
  SELECT * FROM read_parquet([{files}], hive_partitioning = true, hive_types = {{date: DATE}})
  WHERE order_id NOT IN (SELECT order_id FROM orders)
  UNION ALL BY NAME {rows}
) TO '{new}' (FORMAT parquet, PARTITION_BY (date))
"""


def run(drop: str, out: Path) -> None:
    with duckdb.connect() as database:
        database.execute("SET timezone = 'UTC'")
        database.execute(READ.format(source=drop))
        if database.execute(REPEATED).fetchall()[0][0]:
            database.execute(DEDUPE)
        days = [str(day) for (day,) in database.execute("SELECT DISTINCT date FROM orders").fetchall()]
        for table, rows in (("fact_order", FACT_ORDER), ("order_items", ORDER_ITEMS)):
            old, new = out / table, out / f"{table}.new"
            files = ", ".join(f"'{path}'" for day in days for path in (old / f"date={day}").glob("*.parquet"))
            database.execute(MERGE.format(files=files, rows=rows, new=new))
            for day in days:
                shutil.rmtree(old / f"date={day}", ignore_errors=True)
                (new / f"date={day}").rename(old / f"date={day}")
            shutil.rmtree(new)


if __name__ == "__main__":
    run(sys.argv[1], Path(sys.argv[2]))
