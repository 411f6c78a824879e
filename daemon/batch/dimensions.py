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

from ..core.entries import DimensionFile, Drop
from ..core.model import DIMENSIONS, Dimension, DimensionRows
from ..core.parquet import WRITER
from ..core.parse.csv import Upserted, upsert
from ..execution.tasks import Known
from ..storage import raw
from ..storage.ledger import Ledger
from ..storage.set_aside import dimensions_of
from ..storage.store import Store
from .commit import DimensionChange
from .duplicates import first_waiting
from .repair import Damaged

_T = TypeVar("_T")


def applicable(ledger: Ledger, drops: Sequence[Drop]) -> Sequence[Drop]:
    """These drops without those that wait: drops of a dimension that is set aside, or that has an earlier drop which waits. They
    stay archived, and are applied later."""
    aside = dimensions_of(ledger.set_aside().values())
    waiting = first_waiting(ledger, drops)

    def waits(drop: Drop) -> bool:
        kind = raw.kind_of(drop.name)
        return kind in aside or (kind in waiting and waiting[kind] < drop.seq)

    return [drop for drop in drops if not waits(drop)] if aside or waiting else drops


def stage(ledger: Ledger, store: Store, batch: int, rows: Mapping[int, DimensionRows]) -> list[DimensionChange]:
    """Stages what the rows of a batch (by drop) change."""
    published = ledger.dimensions()
    found = {name: {seq: one for seq, one in sorted(rows.items()) if one.dimension == name} for name in DIMENSIONS}
    return [_stage(store, batch, DIMENSIONS[name], published.get(name), of) for name, of in found.items() if of]


def stage_anew(
    store: Store,
    batch: int,
    dimension: Dimension,
    seed: pa.Table | None,
    rows: Mapping[int, DimensionRows],
    newest: int,
) -> DimensionChange:
    """Stages a dimension as these rows (by drop) make it, upserted into `seed` if there is one. `newest`: its newest drop."""
    ordered = dict(sorted(rows.items()))
    return _staged(store, batch, dimension, seed, ordered, _upserted(dimension, seed, ordered), newest)


def published_table(ledger: Ledger, store: Store, dimension: Dimension) -> pa.Table | None:
    """A dimension as it is published; None where it is not. Raises Damaged if its file is not that of the ledger."""
    file = ledger.dimensions().get(dimension.name)
    return _sound(dimension, store.read_dimension(dimension, file.sha256)) if file else None


def _stage(
    store: Store, batch: int, dimension: Dimension, before: DimensionFile | None, rows: Mapping[int, DimensionRows]
) -> DimensionChange:
    table = _sound(dimension, store.read_dimension(dimension, before.sha256)) if before else None
    upserted = _upserted(dimension, table, rows)
    if before is not None and upserted.table is None:
        file = replace(before, last_drop=max(rows))
        return DimensionChange(dimension, _drop_of_row(rows), upserted, file, staged=False)
    return _staged(store, batch, dimension, table, rows, upserted, max(rows))


def _upserted(dimension: Dimension, table: pa.Table | None, rows: Mapping[int, DimensionRows]) -> Upserted:
    return upsert(
        dimension, table, pa.concat_tables([dimension.schema.empty_table(), *(one.table for one in rows.values())])
    )


def _staged(
    store: Store,
    batch: int,
    dimension: Dimension,
    before: pa.Table | None,
    rows: Mapping[int, DimensionRows],
    upserted: Upserted,
    newest: int,
) -> DimensionChange:
    """The first file is written even without rows, so that queries can join it."""
    tables = (upserted.table, before, dimension.schema.empty_table())
    after = next(table for table in tables if table is not None)
    sha256, size = store.stage_dimension(batch, dimension, after)
    file = DimensionFile(dimension.name, after.num_rows, sha256, size, WRITER, newest)
    return DimensionChange(dimension, _drop_of_row(rows), upserted, file, staged=True)


def _drop_of_row(rows: Mapping[int, DimensionRows]) -> list[int]:
    return [seq for seq, one in rows.items() for _ in range(one.table.num_rows)]


def known_keys(ledger: Ledger, store: Store, changes: Sequence[DimensionChange]) -> Known:
    """The keys that orders may refer to once the batch is applied, by dimension. Empty for a dimension without any drop; none for
    one that is set aside, which nothing is checked against."""
    published, aside = ledger.dimensions(), ledger.set_aside()
    changed = {change.dimension.name: change.upserted.table for change in changes}
    keys = {}
    for name, dimension in DIMENSIONS.items():
        if dimension.file in aside:
            continue
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
