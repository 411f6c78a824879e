"""Tables as Parquet files in memory, written by pyarrow with the same options for all tables. Pure.

Equal rows are equal bytes as long as WRITER is the same. A newer pyarrow may write other bytes, so the ledger records the WRITER
of each file, and files of two writers are compared by their rows.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa
import pyarrow.parquet as pq

_OPTIONS_VERSION = 1  # increase it with each change of the options below
WRITER = f"pyarrow {pa.__version__}, options {_OPTIONS_VERSION}"

# A dictionary of values that hardly repeat takes a third of the writing time, and saves nothing.
_DICTIONARIES = frozenset({"date", "line_number", "qty", "currency", "country", "category"})
# Readers skip files and row groups by these. Rows are sorted by created_at; other columns have their full range in each group.
_STATISTICS = frozenset({"date", "created_at", "updated_at"})
_ROW_GROUP_ROWS = 122_880  # DuckDB's own size of a row group
_OPTIONS = {
    "compression": "snappy",
    "row_group_size": _ROW_GROUP_ROWS,
    "store_schema": False,  # only Arrow reads it
    "store_decimal_as_integer": True,
    "write_page_checksum": True,
}


def encode(table: pa.Table, repeating: Collection[str] = ()) -> pa.Buffer:
    """A table as a Parquet file. Only the rows decide the bytes, neither chunks nor slices. `repeating`: more columns with few
    different values."""
    names = table.schema.names
    out = pa.BufferOutputStream()
    pq.write_table(
        table.combine_chunks(),
        out,
        use_dictionary=[name for name in names if name in _DICTIONARIES or name in repeating] or False,
        write_statistics=[name for name in names if name in _STATISTICS] or False,
        **_OPTIONS,
    )
    return out.getvalue()
