"""Delta tables kept up to date by drops, as deltalake's documentation shows it: MERGE by key, or an overwrite of the dates.

    python incremental_delta.py OUT build SCRIPT_OUT      # tables of what duckdb_script.py wrote
    python incremental_delta.py OUT merge|overwrite DROP

Both name the dates in their predicates, so that the others are not read. Not done: an order that moves to another date stays on
the old one as well, lines that an order lost stay, older versions win if they come later, and nothing is synced.
"""

from __future__ import annotations

import sys
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake
from duckdb_script import READ

LINES = """
SELECT order_id, line, user_id, items[line].sku AS sku, amount, items[line].qty AS qty, items[line].price AS price, created_at,
       CAST(date AS VARCHAR) AS date, currency, CAST(metadata AS VARCHAR) AS metadata
FROM (SELECT *, unnest(generate_series(1, len(items))) AS line FROM orders)
"""
TABLES = {
    "fact_order": LINES,
    "order_items": f"SELECT order_id, line, sku, qty, price, date FROM ({LINES})",
}
BUILT = """
SELECT * REPLACE (CAST(date AS VARCHAR) AS date),
       CAST(row_number() OVER (PARTITION BY date, order_id ORDER BY qty) AS INTEGER) AS line
FROM read_parquet('{source}/{table}/*/*.parquet', hive_partitioning = true)
"""
KEYS = "t.order_id = s.order_id AND t.line = s.line"


def main() -> None:
    out, what, source = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    with duckdb.connect() as database:
        database.execute("SET timezone = 'UTC'")
        if what != "build":
            database.execute(READ.format(source=source))
        for table, query in TABLES.items():
            url = str(out / table)
            if what == "build":
                built = database.execute(BUILT.format(source=source, table=table)).to_arrow_table()
                write_deltalake(url, built, partition_by=["date"])
                continue
            rows = database.execute(query).to_arrow_table()
            days = ", ".join(f"'{day}'" for day in sorted(set(rows["date"].to_pylist())))
            delta = DeltaTable(url)
            if what == "merge":
                merging = delta.merge(
                    rows, f"t.date IN ({days}) AND t.date = s.date AND {KEYS}", source_alias="s", target_alias="t"
                )
                merging.when_matched_update_all().when_not_matched_insert_all().execute()
            else:
                old = delta.to_pyarrow_table(filters=[("date", "in", sorted(set(rows["date"].to_pylist())))])
                old = old.filter(pc.invert(pc.is_in(old["order_id"], value_set=rows["order_id"].combine_chunks())))
                both = pa.concat_tables([old, rows.select(old.column_names).cast(old.schema)])
                write_deltalake(url, both, mode="overwrite", predicate=f"date IN ({days})")


if __name__ == "__main__":
    main()
