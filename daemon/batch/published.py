"""The published files that a ledger names, and whether two ledgers name the same rows: compared by SHA-256 if the same writer
wrote both files, otherwise by reading them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from ..core.columns import together, widened
from ..core.mapping import Columns
from ..core.model import DIMENSIONS
from ..storage.ledger import Ledger
from ..storage.store import FACT_FILE, ITEMS_FILE, Store, folder_name


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A published file: its hash, its writer, and a function that reads its rows from a store (None if the hash differs).
    `columns`: the extra ones of a file of fact_order."""

    sha256: bytes
    writer: str
    read: Callable[[Store], pa.Table | None]
    columns: Columns = ()


def published_files(ledger: Ledger) -> dict[str, PublishedFile]:
    """Every published file, by its path under curated/."""
    found = {}
    for name, file in ledger.dimensions().items():
        read = partial(Store.read_dimension, dimension=DIMENSIONS[name], sha256=file.sha256)
        found[DIMENSIONS[name].file] = PublishedFile(file.sha256, file.writer, read)
    for day, one in ledger.partitions().items():
        fact, items = (
            partial(Store.read_fact, day=day, sha256=one.fact_sha256),
            partial(Store.read_items, day=day, sha256=one.items_sha256),
        )
        found[f"{folder_name(day)}/{FACT_FILE}"] = PublishedFile(one.fact_sha256, one.writer, fact, one.columns)
        found[f"{folder_name(day)}/{ITEMS_FILE}"] = PublishedFile(one.items_sha256, one.writer, items)
    return found


def is_same(published: Store, ours: PublishedFile | None, rebuilt: Store, theirs: PublishedFile | None) -> bool:
    """Whether a published file equals the one from a rebuild: the same bytes, or the same rows if another writer wrote it, or if
    it has other extra columns; one that a file lacks is NULL in all of its rows."""
    if ours is None or theirs is None:
        return False
    if (ours.writer, ours.columns) == (theirs.writer, theirs.columns) or ours.sha256 == theirs.sha256:
        return ours.sha256 == theirs.sha256
    found, expected = ours.read(published), theirs.read(rebuilt)
    if found is None or expected is None or ours.columns == theirs.columns:
        return found is None or found.equals(expected)  # None: it changed meanwhile, or is reported as damaged
    columns = together([ours.columns, theirs.columns])
    return widened(found, columns).equals(widened(expected, columns))
