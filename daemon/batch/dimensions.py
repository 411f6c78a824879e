"""The dimensions in a batch: upserts its rows into the published tables, stages the result, and gives the keys that orders may
refer to.

    curated/dim_user.parquet      curated/dim_product.parquet

Each file is a function of all applied drops of its kind, in order of arrival: the later row wins. Raises Damaged if the SHA-256
of a published file that is needed is not that of the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import pyarrow as pa

from ..core.entries import DimensionFile
from ..core.model import DIMENSIONS, Dimension, DimensionRows
from ..core.parquet import WRITER
from ..core.parse.csv import upsert
from ..execution.tasks import Known
from ..storage.ledger import Ledger
from ..storage.store import Store
from .commit import DimensionChange
from .repair import Damaged

_T = TypeVar("_T")


def stage(ledger: Ledger, store: Store, batch: int, rows: Mapping[int, DimensionRows]) -> list[DimensionChange]:
    """Stages what the rows of a batch (by drop) change."""
    published = ledger.dimensions()
    found = {name: {seq: one for seq, one in sorted(rows.items()) if one.dimension == name} for name in DIMENSIONS}
    return [_stage(store, batch, DIMENSIONS[name], published.get(name), of) for name, of in found.items() if of]


def _stage(
    store: Store, batch: int, dimension: Dimension, before: DimensionFile | None, rows: Mapping[int, DimensionRows]
) -> DimensionChange:
    table = _sound(dimension, store.read_dimension(dimension, before.sha256)) if before else None
    upserted = upsert(dimension, table, pa.concat_tables(one.table for one in rows.values()))
    drop_of_row = [seq for seq, one in rows.items() for _ in range(one.table.num_rows)]
    if before is not None and upserted.table is None:
        return DimensionChange(dimension, drop_of_row, upserted, replace(before, last_drop=max(rows)), staged=False)
    # The first file is written even without rows, so that queries can join it.
    after = dimension.schema.empty_table() if upserted.table is None else upserted.table
    sha256, size = store.stage_dimension(batch, dimension, after)
    file = DimensionFile(dimension.name, after.num_rows, sha256, size, WRITER, max(rows))
    return DimensionChange(dimension, drop_of_row, upserted, file, staged=True)


def stage_anew(
    store: Store, batch: int, dimension: Dimension, rows: Mapping[int, DimensionRows]
) -> DimensionChange | None:
    """Stages a dimension as these rows (by drop, all that there are) make it; None where no drop is left."""
    return _stage(store, batch, dimension, None, dict(sorted(rows.items()))) if rows else None


def known_keys(ledger: Ledger, store: Store, changes: Sequence[DimensionChange]) -> Known:
    """The keys that orders may refer to once the batch is applied, by dimension. Empty for a dimension without any drop."""
    published = ledger.dimensions()
    changed = {change.dimension.name: change.upserted.table for change in changes}
    keys = {}
    for name, dimension in DIMENSIONS.items():
        table = changed.get(name)
        if table is not None:
            keys[name] = table[dimension.key].combine_chunks()
        elif name in published:
            keys[name] = _sound(dimension, store.dimension_keys(dimension, published[name].sha256))
        else:
            keys[name] = pa.array([], pa.large_string())
    return keys


def _sound(dimension: Dimension, found: _T | None) -> _T:
    """`found`, the content of a published file. Raises Damaged if it is None."""
    if found is None:
        raise Damaged(dimensions=[dimension.name])
    return found
