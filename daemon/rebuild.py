"""Partitions made anew from the raw layer. The index says which drop holds the winning version of each order, so only
those drops are read again, each judged as it was judged then; the result is the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from . import files, raw
from .core.dimensions import upsert
from .core.errors import Corruption
from .core.facts import flatten, items_of
from .core.merge import sorted_places
from .core.model import Dimension
from .core.versions import entries_of
from .ledger import Drop, Ledger
from .reading import Reader
from .store import FACT_FILE, ITEMS_FILE, Store, encode, folder_name, iso_date


def partition_from_raw(ledger: Ledger, reader: Reader, store: Store, day: int) -> None:
    """Puts the files of one published date back as the ledger says they are. Corruption where raw cannot give them; then
    nothing is touched."""
    fact = fact_from_raw(ledger, reader, day)
    folder = store.curated / folder_name(day)
    fact_bytes, items_bytes = encode(fact).to_pybytes(), encode(items_of(fact)).to_pybytes()
    expected = ledger.partitions([day])[day]
    if (_sha256(fact_bytes), _sha256(items_bytes)) != (expected.fact_sha256, expected.items_sha256):
        raise Corruption(
            f"{folder} was made anew from raw, and is not what the ledger says; nothing was touched. "
            "Make everything anew with `strandline rebuild`"
        )
    files.make_folder(folder)
    files.write(folder / FACT_FILE, fact_bytes)
    files.write(folder / ITEMS_FILE, items_bytes)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def fact_from_raw(ledger: Ledger, reader: Reader, day: int) -> pa.Table:
    """The FACT table of a date as the index and the raw copies give it."""
    wanted = ledger.index.of_date(day)
    drops = [drop for seq in np.unique(wanted["drop"]).tolist() if (drop := ledger.drop(seq)) is not None]
    refuse_damaged(reader.output, drops)
    parsed = reader.without_limits().read(drops)
    if parsed.unreadable:
        seq, reason = next(iter(parsed.unreadable.items()))
        raise Corruption(f"drop {seq}, which {iso_date(day)} needs, cannot be read from raw any more: {reason}")
    entries = entries_of(parsed.orders)
    names = ["drop", "position"]
    rows = np.flatnonzero(np.isin(_pairs(entries, names), _pairs(wanted, names)))
    return flatten(parsed.orders, rows[sorted_places(parsed.orders, rows)])


def refuse_damaged(output: Path, drops: Sequence[Drop]) -> None:
    """Corruption where a raw copy is not what was archived: what it says now proves nothing."""
    for drop in drops:
        path = output / (drop.raw or "")
        if files.sha256_of(path) != drop.sha256:
            raise Corruption(
                f"{path} is missing or is not what was archived as drop {drop.seq}; restore it from a backup"
            )


def dimension_from_raw(ledger: Ledger, reader: Reader, store: Store, dimension: Dimension) -> None:
    """Puts the file of a dimension back as the ledger says it is: all its drops, one after the other."""
    drops = [drop for drop in ledger.applied_drops() if raw.kind_of(drop.name) == dimension.name]
    refuse_damaged(reader.output, drops)
    parsed = reader.without_limits().read(drops)
    rows = pa.concat_tables([dimension.schema.empty_table(), *(parsed.rows[drop.seq].table for drop in drops)])
    table = upsert(dimension, None, rows).table
    content = encode(dimension.schema.empty_table() if table is None else table).to_pybytes()
    if _sha256(content) != ledger.dimensions()[dimension.name].sha256:
        raise Corruption(
            f"{store.curated / dimension.file} was made anew from raw, and is not what the ledger says; nothing was touched. "
            "Make everything anew with `strandline rebuild`"
        )
    files.write(store.curated / dimension.file, content)


def _pairs(entries: np.ndarray, names: list[str]) -> np.ndarray:
    """Drop and position as one comparable value."""
    pairs = np.zeros(len(entries), [(name, "<i8") for name in names])
    for name in names:
        pairs[name] = entries[name]
    return pairs.view(np.dtype((np.void, pairs.dtype.itemsize)))
