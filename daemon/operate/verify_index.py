"""The part of `verify` that compares the order index and the published rows with each other, and with a rebuild from raw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..batch.engine import Engine
from ..batch.published import is_same, published_files
from ..batch.repair import came_from_aged, groups_of
from ..core.entries import Partition
from ..core.merge.keys import latest, take_entries
from ..core.model import DELETED_DATE
from ..core.versions import drop_positions, equal, keys_of
from ..storage.ages import RAW
from ..storage.ledger import Ledger
from ..storage.order_index import OrderIndex
from ..storage.store import Store, iso_date
from .difference import Difference


def check_index(
    engine: Engine, again: Ledger | None = None, named: Mapping[int, int] | None = None
) -> Iterator[Difference]:
    """Checks that the index names exactly the orders of each partition. `again`: the ledger of the replay, whose index must
    be the same. `named`: the number of entries of each date that name a record in raw. Entries that name a drop whose raw copy
    has gone by age name none there."""
    aged = engine.ledger.horizon(RAW)
    partitions = engine.ledger.partitions()
    if again is not None and not _are_equal(*(one.index.of_dates([DELETED_DATE]) for one in (engine.ledger, again))):
        yield Difference("rebuild", "deleted orders", "the index names other deletions than a rebuild")
    done = 0
    for days in groups_of(list(partitions.values())):
        entries = engine.ledger.index.of_dates(days)
        if again is not None and not _are_equal(entries, again.index.of_dates(days)):
            yield Difference("rebuild", _span(days), "the index names other versions than a rebuild")
        for day in days:
            there = entries[entries["date"] == day]
            yield from _homes(engine, partitions[day], there)
            if named is not None and (nowhere := np.count_nonzero(~came_from_aged(there, aged)) - named.get(day, 0)):
                yield Difference(
                    "rebuild", iso_date(day), f"for {nowhere} orders, the index names records that raw does not have"
                )
        done += len(days)
        engine.progress("checking the index", done, len(partitions))
    for day in np.unique(engine.ledger.index.elsewhere([*partitions, DELETED_DATE])["date"]).tolist():
        yield Difference("index", iso_date(day), "it names orders of a date that is not published")


def _homes(engine: Engine, partition: Partition, entries: np.ndarray) -> Iterator[Difference]:
    day = iso_date(partition.date)
    fact = engine.store.read_fact(partition.date, partition.fact_sha256)
    if fact is None:
        return  # it changed meanwhile, or is reported as damaged
    first = fact.filter(pc.less_equal(fact["line_number"], 1))
    held, named = sorted(keys_of(first["order_id"].cast(pa.large_string()))), keys_of_entries(entries)
    if len(held) != partition.orders:
        yield Difference(
            "index", day, f"the ledger counts {partition.orders} orders, but the partition holds {len(held)}"
        )
    if held != named:
        yield Difference("index", day, f"its {len(named)} orders are not the {len(held)} orders of the partition")


def keys_of_entries(entries: np.ndarray) -> list[bytes]:
    """The 128-bit keys of index entries, sorted."""
    pairs = np.stack([entries["hi"], entries["lo"]], axis=1).astype("<u8").tobytes()
    return sorted(pairs[start : start + 16] for start in range(0, len(pairs), 16))


def named_by(index: OrderIndex, versions: pa.Table) -> Counter[int]:
    """The number of index entries, by date, that name one of these records and have its content. An entry mostly names the latest
    version in the drop; the other records are searched only for the rest, since a drop may be large."""
    winners, rows = latest(versions)
    found, named, counted = Counter[int](), [np.zeros(0, np.uint64)], np.zeros(len(versions), np.bool_)
    for where, places, part in index.look_up(winners):
        entries = take_entries(part, places)
        same = equal(entries, take_entries(winners, where))
        found.update(entries["date"][same].tolist())
        counted[rows[where[same]]] = True  # only once: a wrong entry of another order may name this record, too
        named.append(drop_positions(entries["drop"][~same], entries["position"][~same]))
    theirs = drop_positions(versions["drop"].to_numpy(), versions["position"].to_numpy())
    others = np.flatnonzero(np.isin(theirs, np.concatenate(named)) & ~counted)
    records, _ = latest(versions.take(pa.array(others)))
    entries, _ = index.find(records)
    found.update(records["date"][equal(entries, records)].tolist())
    return found


def _are_equal(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return len(ours) == len(theirs) and bool(equal(ours, theirs).all())


def check_rebuild(engine: Engine, again: Ledger, rebuilt: Store) -> Iterator[Difference]:
    ledger = engine.ledger
    ours, theirs = published_files(ledger), published_files(again)
    for name in sorted(ours.keys() | theirs.keys()):
        if not is_same(engine.store, ours.get(name), rebuilt, theirs.get(name)):
            yield Difference("rebuild", f"curated/{name}", "a rebuild from raw gives other rows")
    if ledger.hwm != again.hwm:
        yield Difference("rebuild", "the high-water mark", f"{ledger.hwm}, but a rebuild gives {again.hwm}")
    before, after = ledger.partitions(), again.partitions()
    for day in sorted(before.keys() & after.keys()):
        if _counts(before[day]) != _counts(after[day]):
            yield Difference("rebuild", iso_date(day), "a rebuild counts other orders, lines or amounts")


def _counts(one: Partition) -> tuple[int, int, int]:
    return one.orders, one.lines, one.amount


def _span(days: Sequence[int]) -> str:
    return iso_date(days[0]) + (f" to {iso_date(days[-1])}" if len(days) > 1 else "")
