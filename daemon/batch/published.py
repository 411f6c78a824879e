"""The published files as a ledger knows them, and whether two ledgers know the same rows: by SHA-256 where one writer wrote both
files, else by reading them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from ..core.model import DIMENSIONS
from ..storage.ledger import Ledger
from ..storage.store import FACT_FILE, ITEMS_FILE, Store, folder_name


@dataclass(frozen=True, slots=True)
class Written:
    """A published file: its hash and its writer, and how a store reads its rows where it has that hash."""

    sha256: bytes
    writer: str
    read: Callable[[Store], pa.Table | None]


def written(ledger: Ledger) -> dict[str, Written]:
    """Every published file, by its path under curated/."""
    found = {}
    for name, file in ledger.dimensions().items():
        read = partial(Store.read_dimension, dimension=DIMENSIONS[name], sha256=file.sha256)
        found[DIMENSIONS[name].file] = Written(file.sha256, file.writer, read)
    for day, one in ledger.partitions().items():
        fact, items = (
            partial(Store.read_fact, day=day, sha256=one.fact_sha256),
            partial(Store.read_items, day=day, sha256=one.items_sha256),
        )
        found[f"{folder_name(day)}/{FACT_FILE}"] = Written(one.fact_sha256, one.writer, fact)
        found[f"{folder_name(day)}/{ITEMS_FILE}"] = Written(one.items_sha256, one.writer, items)
    return found


def is_same(published: Store, ours: Written | None, rebuilt: Store, theirs: Written | None) -> bool:
    """Whether a published file is the one that a rebuild gave: the same bytes, or by another writer the same rows."""
    if ours is None or theirs is None:
        return False
    if ours.writer == theirs.writer or ours.sha256 == theirs.sha256:
        return ours.sha256 == theirs.sha256
    found, expected = ours.read(published), theirs.read(rebuilt)
    return found is None or found.equals(expected)  # None: it has changed since, or was found to be damaged
