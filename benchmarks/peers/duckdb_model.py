"""The same model over all of history, in one call of DuckDB that writes a file per date.

python duckdb_model.py CURATED OUT < SELECT
"""

from __future__ import annotations

import sys

import duckdb


def main() -> None:
    curated, out = sys.argv[1:]
    select = sys.stdin.read()
    duckdb.execute("SET TimeZone = 'UTC'")
    duckdb.execute(
        f"CREATE VIEW fact_order AS SELECT * FROM read_parquet('{curated}/date=*/fact_order.parquet', hive_partitioning = false)"
    )
    duckdb.execute(f"COPY ({select}) TO '{out}' (FORMAT parquet, PARTITION_BY (date), WRITE_PARTITION_COLUMNS true)")


if __name__ == "__main__":
    main()
