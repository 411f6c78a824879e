"""Partitions made anew from the raw layer. The index names for each order a drop that says what is published, the latest or one
of the last few before it, so only those drops are read again, each judged as it was judged then; the result is the same bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from . import files, raw
from .core.dimensions import upsert
from .core.entries import Drop, Partition
from .core.errors import Corruption, UsageError
from .core.facts import PartitionFiles, gathered, lines_of
from .core.merge import sorted_places
from .core.model import Dimension, Parsed, concat_orders, dates_of
from .core.parquet import encode
from .core.versions import places_of
from .ledger import Ledger
from .reading import Reader
from .store import FACT_FILE, ITEMS_FILE, Store, folder_name, iso_date

_GROUP_LINES = 2_000_000  # lines of partitions made anew together, about
_READ_BYTES = 256 << 20  # bytes of drops read together, about


def partitions_from_raw(ledger: Ledger, reader: Reader, store: Store, days: Sequence[int]) -> None:
    """Puts the files of published dates back as the ledger says they are. Corruption where raw cannot give them; that date
    is not touched then."""
    expected = ledger.partitions(days)
    for group in groups_of(list(expected.values())):
        for day, fact in facts_from_raw(ledger, reader, group).items():
            _put_back(store, expected[day], fact)


def refuse_unknown(ledger: Ledger, days: Sequence[int]) -> None:
    """UsageError where a date is not published."""
    known = ledger.partitions()
    unknown = [iso_date(day) for day in days if day not in known]
    if unknown:
        span = (
            f"there are {len(known):,}, from {iso_date(min(known))} to {iso_date(max(known))}"
            if known
            else "there is none"
        )
        raise UsageError(f"no partition is published for {', '.join(unknown)}; {span}")


def groups_of(partitions: Sequence[Partition]) -> list[list[int]]:
    """Days that are made anew together, since many need the same drops: as many as memory may hold."""
    groups: list[list[int]] = []
    room = 0
    for one in partitions:
        if one.lines > room:
            groups.append([])
            room = _GROUP_LINES
        groups[-1].append(one.date)
        room -= one.lines
    return groups


def _put_back(store: Store, expected: Partition, fact: pa.Table) -> None:
    folder = store.curated / folder_name(expected.date)
    fact_bytes, items_bytes = PartitionFiles.of(fact).encoded()
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


def facts_from_raw(ledger: Ledger, reader: Reader, days: Sequence[int]) -> dict[int, pa.Table]:
    """The FACT tables of some dates as the index and the raw copies give them. Only winners are held in memory: drops are
    read a few at a time."""
    wanted = ledger.index.of_dates(days)
    drops = [drop for seq in np.unique(wanted["drop"]).tolist() if (drop := ledger.drop(seq)) is not None]
    orders = concat_orders(_winners(reader, group, wanted) for group in few(drops))
    rows = sorted_places(orders, np.arange(orders.num_rows))
    dates = dates_of(orders["created_at"].to_numpy()[rows])
    spans = {day: rows[slice(*np.searchsorted(dates, [day, day + 1]))] for day in days}
    return {day: lines_of(*gathered(orders, span)).table() for day, span in spans.items()}


def few(drops: Iterable[Drop]) -> Iterator[list[Drop]]:
    """Drops in groups that are read together: as many bytes as memory may hold."""
    group: list[Drop] = []
    room = _READ_BYTES
    for drop in drops:
        room -= drop.size_bytes
        if group and room < 0:
            yield group
            group, room = [], _READ_BYTES - drop.size_bytes
        group.append(drop)
    if group:
        yield group


def _winners(reader: Reader, drops: Sequence[Drop], wanted: np.ndarray) -> pa.Table:
    orders = read_all(reader, drops).orders
    places = places_of(orders["drop"].to_numpy(), orders["position"].to_numpy())
    rows = np.flatnonzero(np.isin(places, places_of(wanted["drop"], wanted["position"])))
    return orders.take(pa.array(rows))


def read_all(reader: Reader, drops: Sequence[Drop]) -> Parsed:
    """What drops that were applied once say; Corruption where a raw copy is not what was archived."""
    refuse_damaged(reader.output, drops)
    parsed = reader.without_limits().read(drops)
    if parsed.unreadable:
        seq, reason = next(iter(parsed.unreadable.items()))
        raise Corruption(f"drop {seq} was applied, and cannot be read from raw any more: {reason}")
    return parsed


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
    parsed = read_all(reader, drops)
    rows = pa.concat_tables([dimension.schema.empty_table(), *(parsed.rows[drop.seq].table for drop in drops)])
    table = upsert(dimension, None, rows).table
    content = encode(dimension.schema.empty_table() if table is None else table)
    if _sha256(content) != ledger.dimensions()[dimension.name].sha256:
        raise Corruption(
            f"{store.curated / dimension.file} was made anew from raw, and is not what the ledger says; nothing was touched. "
            "Make everything anew with `strandline rebuild`"
        )
    files.write(store.curated / dimension.file, content)
