"""A Delta table kept by hand: MERGE of the rows of some days into a table of two years, as deltalake's documentation shows it.

    python delta_merge.py TABLE build FOLDER        # a table of all files in a folder of partitions
    python delta_merge.py TABLE merge FILE…         # the rows of these files, whose days have no others

The predicate names the days, so that the others are not read. A clause of its own removes orders that left a day.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake


def rows(paths: list[str]) -> pa.Table:
    return pa.concat_tables([pq.ParquetFile(path).read() for path in paths])


def main() -> None:
    url, what, *rest = sys.argv[1:]
    if what == "build":
        files = sorted(map(str, Path(rest[0]).glob("date=*/fact_order.parquet")))
        schema = pq.read_schema(files[0])
        table = ds.dataset(files, schema=schema, partitioning=None).to_table()
        write_deltalake(url, table, partition_by=["date"])
        return
    source = rows(rest)
    days = ", ".join(f"'{day}'" for day in sorted(set(source["date"].to_pylist())))
    here = f"t.date IN ({days})"
    keys = "t.date = s.date AND t.order_id = s.order_id AND t.line_number = s.line_number"
    merging = DeltaTable(url).merge(source, f"{here} AND {keys}", source_alias="s", target_alias="t")
    merging = merging.when_matched_update_all().when_not_matched_insert_all()
    merging.when_not_matched_by_source_delete(predicate=here).execute()


if __name__ == "__main__":
    main()
