"""Partitions and dimensions made anew from the raw layer, where a published file is damaged or missing.

The index names for each order the drop that has its latest version, so only those drops are read again, each judged as it was
judged then. The same rows by the same writer are the same bytes. By another writer they are other bytes: then the ledger takes
the new hashes first, together with the effects that put the files in place, so that a crash in between is finished at start-up.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa

from ..core.entries import Drop, Effect, Partition
from ..core.errors import Corruption, UsageError
from ..core.merge.facts import files_of, gathered, lines_of
from ..core.merge.keys import latest
from ..core.merge.partition import Totals, sort_order, totals
from ..core.model import DIMENSIONS, Dimension, Parsed, concat_orders, dates_of
from ..core.parquet import WRITER, encode
from ..core.parse.csv import upsert
from ..core.versions import drop_positions, equal
from ..storage import files, raw
from ..storage.ledger import Ledger
from ..storage.store import FACT_FILE, ITEMS_FILE, Store, folder_name, iso_date
from .publish import publish
from .reading import Reader

_GROUP_LINES = 2_000_000  # lines of partitions made anew together, about
_READ_BYTES = 256 << 20  # bytes of drops read together, about


class Damaged(Corruption):
    """Published files are not what the ledger says, so nothing can be merged with them. `days` since 1970, names of
    `dimensions`; `names` of both as people see them."""

    def __init__(self, days: Sequence[int] = (), dimensions: Sequence[str] = ()) -> None:
        self.days, self.dimensions = days, dimensions
        self.names = [*(DIMENSIONS[name].file for name in dimensions), *map(iso_date, sorted(days))]
        super().__init__(
            f"the published files of {', '.join(self.names)} are not what the ledger says, so nothing can be merged with them. "
            "The next batch that needs them makes them anew; so does `strandline rebuild`"
        )


def repair(ledger: Ledger, reader: Reader, store: Store, damaged: Damaged) -> None:
    """Makes damaged files anew from raw. Corruption where raw cannot give them."""
    for name in damaged.dimensions:
        dimension_from_raw(ledger, reader, store, DIMENSIONS[name])
    partitions_from_raw(ledger, reader, store, sorted(damaged.days))


def partitions_from_raw(ledger: Ledger, reader: Reader, store: Store, days: Sequence[int]) -> None:
    """Puts the files of published dates back as the ledger says they are. Corruption where raw cannot give them; that date
    is not touched then."""
    expected = ledger.partitions(days)
    for group in groups_of(list(expected.values())):
        for day, fact in facts_from_raw(ledger, reader, group).items():
            _put_back(ledger, store, expected[day], fact)


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


def _put_back(ledger: Ledger, store: Store, expected: Partition, fact: pa.Table) -> None:
    folder = folder_name(expected.date)
    contents = dict(zip((f"{folder}/{FACT_FILE}", f"{folder}/{ITEMS_FILE}"), files_of(fact), strict=True))
    fact_sha256, items_sha256 = map(_sha256, contents.values())
    made = replace(
        expected,
        fact_sha256=fact_sha256,
        items_sha256=items_sha256,
        bytes=sum(map(len, contents.values())),
        writer=WRITER,
    )
    files.make_folder(store.curated / folder)
    if made == expected:
        for name, content in contents.items():
            files.write(store.curated / name, content)
        return
    if expected.writer == WRITER or _counts(totals(fact)) != (expected.orders, expected.lines, expected.amount):
        raise _other_than_the_ledger(store.curated / folder)
    _replace(store, contents, lambda effects: ledger.replace_files([made], [], effects), ledger)


def _counts(totals: Totals) -> tuple[int, int, int]:
    return totals.orders, totals.lines, totals.amount


def _replace(
    store: Store, contents: Mapping[str, pa.Buffer], remember: Callable[[Sequence[Effect]], None], ledger: Ledger
) -> None:
    """Puts files in place whose hashes the ledger does not know yet. `remember` lets it know them, and the effects."""
    folder = store.staging / f"mended-{uuid4().hex}"
    effects = []
    for number, (name, content) in enumerate(contents.items()):
        source = folder / f"{number}.parquet"
        files.make_folder(folder)
        files.write(source, content)
        effects.append(
            Effect("place", f"curated/{name}", str(source.relative_to(store.curated.parent)), _sha256(content))
        )
    remember(effects)
    publish(store.curated.parent, effects)
    ledger.published(ledger.unpublished_batch() or 0)
    folder.rmdir()


def _other_than_the_ledger(path: Path) -> Corruption:
    return Corruption(
        f"{path} was made anew from raw, and is not what the ledger says; nothing was touched. "
        "Make everything anew with `strandline rebuild`"
    )


def _sha256(content: bytes | pa.Buffer) -> bytes:
    return hashlib.sha256(content).digest()


def facts_from_raw(ledger: Ledger, reader: Reader, days: Sequence[int]) -> dict[int, pa.Table]:
    """The FACT tables of some dates as the index and the raw copies give them. Only winners are held in memory: drops are
    read a few at a time. Corruption where a record is not the one that the index has the hash of."""
    wanted = ledger.index.of_dates(days)
    drops = [drop for seq in np.unique(wanted["drop"]).tolist() if (drop := ledger.drop(seq)) is not None]
    orders = concat_orders(_winners(reader, group, wanted) for group in few(drops))
    found, _ = latest(orders)
    if len(found) != len(wanted) or not equal(found, wanted).all():
        raise Corruption(
            f"raw does not hold the orders that the index names on {iso_date(days[0])} to {iso_date(days[-1])}; nothing was "
            "touched. Make everything anew with `strandline rebuild`"
        )
    rows = sort_order(orders, np.arange(orders.num_rows))
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
    places = drop_positions(orders["drop"].to_numpy(), orders["position"].to_numpy())
    rows = np.flatnonzero(np.isin(places, drop_positions(wanted["drop"], wanted["position"])))
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
    table = dimension.schema.empty_table() if table is None else table
    content, expected = encode(table), ledger.dimensions()[dimension.name]
    made = replace(expected, rows=table.num_rows, sha256=_sha256(content), bytes=len(content), writer=WRITER)
    if made == expected:
        files.write(store.curated / dimension.file, content)
    elif expected.writer == WRITER or made.rows != expected.rows:
        raise _other_than_the_ledger(store.curated / dimension.file)
    else:
        _replace(store, {dimension.file: content}, lambda effects: ledger.replace_files([], [made], effects), ledger)
