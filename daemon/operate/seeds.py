"""What a replay begins with where raw copies have gone by age: the orders that came from them, as they are published.

The order index names for each order its latest version. If that came from a drop whose raw copy has gone, the order is a seed:
its index entry, and its rows in the partition of its date. If it came from a later drop, that drop is read again, and no earlier
version matters. So a replay that begins with the seeds and goes on with the drops that still have a raw copy ends with the same
index and the same rows as one from the first drop on: each order ends with its latest version, and the index has no other. This
holds for deletions, which are entries without rows. Of users and products, the later row wins, whole: to apply the later drops to
the published table again changes nothing.

A published file is read only if it has the SHA-256 of the ledger: for what only it has, that is the proof.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..batch.engine import Engine
from ..batch.repair import came_from_aged, groups_of, lost_with_age
from ..core.entries import Commit, DimensionFile, Partition
from ..core.errors import Corruption, UsageError
from ..core.merge.facts import files_of
from ..core.merge.partition import totals
from ..core.model import DELETED_DATE, DIMENSIONS, Contexts
from ..core.parquet import WRITER, encode
from ..core.parse.naming import Ids
from ..core.parse.values import order_key
from ..core.versions import keys_of
from ..storage import files, raw
from ..storage.ages import RAW
from ..storage.ledger import Ledger
from ..storage.store import FACT_FILE, ITEMS_FILE, Store, folder_name, sound_content
from .verify_index import keys_of_entries

_USER = "user"  # the dimension


def plant(engine: Engine, ledger: Ledger, store: Store, without: Ids) -> None:
    """Enters the seeds of `engine` into the new ledger and the empty store of a replay; those of erased orders and users are
    none. Raises Corruption if the published file of one is damaged."""
    through = ledger.horizon(RAW)
    if not through:
        return
    _enter(ledger, [], _dimensions(engine, store, through, without.users), None)
    deleted = engine.ledger.index.of_dates([DELETED_DATE])
    _enter(ledger, [], [], _kept(deleted[came_from_aged(deleted, through)], without.orders))
    lost: dict[int, int] = {}
    for partitions, entries in by_group(engine.ledger):
        seeds = _kept(entries[came_from_aged(entries, through)], without.orders)
        planted = []
        for one in partitions:
            own = seeds[seeds["date"] == one.date]
            made = _partition(engine.store, store, one, own) if len(own) else None
            if made is not None:
                planted.append(made)
            elif len(own):
                lost[one.date] = len(own)
        if not lost:
            _enter(ledger, planted, [], seeds)
    if lost:
        raise lost_with_age(lost)
    files.sync_many(path for path in store.curated.rglob("*.parquet"))  # a rebuild may place them


def count(ledger: Ledger) -> tuple[int, int]:
    """How many partitions have orders that can no longer be made anew, and how many orders that are."""
    through = ledger.horizon(RAW)
    if not through:
        return 0, 0
    partitions = orders = 0
    for _, entries in by_group(ledger):
        seeds = entries[came_from_aged(entries, through)]
        partitions, orders = partitions + len(np.unique(seeds["date"])), orders + len(seeds)
    return partitions, orders


def refuse_retyped(ledger: Ledger, contexts: Contexts) -> None:
    """Raises UsageError if an extra column has another type in files that cannot be made anew than in the configuration."""
    if not ledger.horizon(RAW):
        return
    today = {name: kind for context in contexts.values() for name, kind in context.mapping.extra_columns}
    for name, kind in ledger.columns():
        if today.get(name, kind) != kind:
            raise UsageError(
                f'cannot rebuild: [columns] {name} = "{today[name]}", but it is "{kind}" in partitions that cannot be made anew, '
                "since raw copies have gone by age. Nothing was changed. Choose another name for the column"
            )


def by_group(ledger: Ledger) -> Iterator[tuple[list[Partition], np.ndarray]]:
    """The partitions in groups that memory may hold, each with the index entries of its orders."""
    partitions = ledger.partitions()
    for days in groups_of(list(partitions.values())):
        yield [partitions[day] for day in days], ledger.index.of_dates(days)


def _kept(seeds: np.ndarray, erased: frozenset[str]) -> np.ndarray:
    """The entries without those of these orders."""
    keys = [np.frombuffer(order_key(one.encode()), "<u8") for one in sorted(erased)]
    is_erased = np.zeros(len(seeds), np.bool_)
    for high, low in keys:
        is_erased |= (seeds["hi"] == high) & (seeds["lo"] == low)
    return seeds[~is_erased]


def _enter(
    ledger: Ledger, partitions: list[Partition], dimensions: list[DimensionFile], entries: np.ndarray | None
) -> None:
    run = None if entries is None else ledger.write_ahead(entries)
    size = ledger.restatements_bytes
    ledger.commit(Commit(0, [], run, partitions, [], dimensions, {}, None, [], size))
    ledger.published(ledger.unpublished_batch() or 0)


def _partition(published: Store, store: Store, one: Partition, seeds: np.ndarray) -> Partition | None:
    """Writes the seeds of a date. The files of a date that has no other orders stay as they are, to the byte. None if its file is
    damaged."""
    folder = folder_name(one.date)
    files.make_folder(store.curated / folder)
    if len(seeds) == one.orders and _copied(published, store, folder, one):
        return one
    fact = published.read_fact(one.date, one.fact_sha256)
    if fact is None:
        return None
    rows = _rows_of(fact, seeds)
    both = files_of(rows)
    for name, content in zip((FACT_FILE, ITEMS_FILE), both, strict=True):
        files.write_new(store.curated / folder / name, content)
    sums, (fact_sha256, items_sha256) = totals(rows), (hashlib.sha256(content).digest() for content in both)
    size = sum(map(len, both))
    return Partition(
        one.date, sums.orders, sums.lines, sums.amount, fact_sha256, items_sha256, size, WRITER, 0, one.columns
    )


def _copied(published: Store, store: Store, folder: str, one: Partition) -> bool:
    """Copies both files of a partition; False where one is not what the ledger names."""
    contents = {}
    for name, sha256 in ((FACT_FILE, one.fact_sha256), (ITEMS_FILE, one.items_sha256)):
        content = sound_content(published.curated / folder / name, sha256)
        if content is None:
            return False
        contents[name] = content
    for name, content in contents.items():
        files.write_new(store.curated / folder / name, content)
    return True


def _rows_of(fact: pa.Table, seeds: np.ndarray) -> pa.Table:
    """The rows of these orders. Raises Corruption if one is not there."""
    starts = np.flatnonzero(fact["line_number"].to_numpy() <= 1)
    ids = fact["order_id"].take(pa.array(starts)).cast(pa.large_string())
    wanted = set(keys_of_entries(seeds))
    chosen = np.array([key in wanted for key in keys_of(ids)], np.bool_)
    if np.count_nonzero(chosen) != len(wanted):
        date = fact["date"][0].as_py()
        raise Corruption(
            f"the index names orders of {date} that its partition does not have, and their raw copies have gone by age; restore "
            "state/ledger.sqlite and curated/ from a backup"
        )
    lines = np.diff(starts, append=fact.num_rows)
    return fact.filter(pa.array(np.repeat(chosen, lines))).combine_chunks()


def _dimensions(engine: Engine, store: Store, through: int, erased: frozenset[str]) -> list[DimensionFile]:
    """Copies the published dimensions that are made of a drop whose raw copy has gone, without these users."""
    drops = takewhile(lambda drop: drop.seq <= through, engine.ledger.applied_drops())
    aged = {raw.kind_of(drop.name) for drop in drops}
    found = []
    for name, file in engine.ledger.dimensions().items():
        if name in aged:
            path = DIMENSIONS[name].file
            content = sound_content(engine.store.curated / path, file.sha256)
            if content is None:
                raise Corruption(
                    f"curated/{path} is missing or damaged, and raw copies of drops that it is made of have gone by age; restore "
                    "it from a backup"
                )
            rows = engine.store.read_dimension(DIMENSIONS[name], file.sha256) if name == _USER and erased else None
            made = file
            if rows is not None:
                key = rows[DIMENSIONS[name].key]
                rows = rows.filter(pc.invert(pc.is_in(key, value_set=pa.array(sorted(erased), key.type))))
                content = encode(rows)
                sha256 = hashlib.sha256(content).digest()
                made = replace(file, rows=rows.num_rows, sha256=sha256, bytes=len(content), writer=WRITER)
            files.write_new(store.curated / path, content)
            found.append(made)
    return found
