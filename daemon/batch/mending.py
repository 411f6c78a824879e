"""Mends what is missing or set aside, without a drop that needs it.

Where `curated/` was removed, everything published is made anew from raw. A date or a dimension whose files are damaged and cannot
be made anew, or a date whose folder cannot be read or written, is set aside (see repair), so that everything else goes on:

    a date          keeps its files as they are. Batches go on to enter its orders in the index, which says of each order which
                    version is the latest and which raw copy has it.
    a dimension     keeps its file as it is. No order is checked against it, and its drops stay archived.

Each start and each minute, what is set aside is tried again; less often where that takes long. Once a raw copy, the
published file or its folder is back, a date is made of the orders that the index names: from raw, and from the published file
where a raw copy is gone. Raw copies do not go by age meanwhile, so what came since is always there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..core.columns import columns_of, together, widened
from ..core.entries import DimensionFile, Drop, Effect, Partition
from ..core.errors import Stopped
from ..core.merge.facts import gathered, lines_of
from ..core.merge.partition import EMPTY, Totals, merge, sort_order, totals
from ..core.model import DIMENSIONS, DISCARDS, ORDERS, Bools, Parsed
from ..core.parquet import WRITER
from ..core.versions import keys_of
from ..execution.tasks import Rewritten
from ..storage import files
from ..storage.ages import RAW
from ..storage.generation import changing, generation
from ..storage.pause import paused
from ..storage.set_aside import SetAside
from ..storage.store import FACT_FILE, ITEMS_FILE, folder_name, iso_date
from .commit import Before, rewriting_of
from .decide import decided
from .engine import Engine
from .outcome import BatchOutcome
from .phases import Phases
from .pipeline import carried_out
from .prepare import Prepared, written
from .publish import publish
from .repair import (
    Damaged,
    Lost,
    NoFolder,
    dimension_from_raw,
    groups_of,
    orders_from_raw,
    reason_of,
    refuse_folder,
    refuse_folders,
    repair,
    restore,
)

_RETRY_SECONDS = 60.0
_TRY_SECONDS = 5.0  # without a success: each try reads the whole index and raw copies, and no drop is applied meanwhile
_TRY_SHARE = 20  # tries take at most one twentieth of the loop's time


class Mending:
    """Mends one output. `missing` is told how many published dates and dimensions are missing, 0 once they are not. `told` is
    told of everything that is set aside, whenever that changes."""

    def __init__(
        self, engine: Engine, missing: Callable[[int], None], told: Callable[[Sequence[SetAside]], None]
    ) -> None:
        self._engine, self._missing, self._tell = engine, missing, told
        self._curated: object = None  # the identity of the folder when nothing was missing in it
        self._sample: Path | None = None  # something that was in it then: the folder may be emptied and stay
        self._is_missing = False
        self._due = 0.0
        self._tried: dict[str, float] = {}  # by name: when it was tried last, on the monotonic clock
        self._told: set[str] = set()

    def run(self, now: int) -> tuple[list[BatchOutcome], bool]:
        """Mends what can be mended now. Returns the batches that this took, and whether drops that waited can be applied. While
        the output is paused, nothing changes: somebody may be copying it. `now`: in microseconds."""
        if paused(self._engine.output) is not None:
            return [], False
        self._engine.guard.check()  # nothing is made anew in an output that is being removed
        self._restore_missing(now)
        before = self._told_now()
        outcomes = self._try_again(before, now) if before and time.monotonic() >= self._due else []
        after = self._told_now()
        return outcomes, any(one.day is None for name, one in before.items() if name not in after)

    def _told_now(self) -> dict[str, SetAside]:
        """What is set aside now, which is told if it changed."""
        found = self._engine.ledger.set_aside()
        if self._told != found.keys():
            self._told = set(found)
            self._tell(list(found.values()))
        return found

    def _try_again(self, found: Mapping[str, SetAside], now: int) -> list[BatchOutcome]:
        """Mends what can be mended; what was not tried for the longest time comes first."""
        outcomes: list[BatchOutcome] = []
        began = in_vain = time.monotonic()
        self._due = began + _RETRY_SECONDS
        for one in sorted(found.values(), key=lambda one: self._tried.get(one.name, 0.0)):
            if self._engine.stopped():
                break
            self._tried[one.name] = time.monotonic()
            try:
                outcomes += mend(self._engine, one, now)
            except Lost as lost:
                if (reason := reason_of(self._engine.store, one.name, lost)) != one.reason:
                    self._engine.ledger.set_one_aside(replace(one, reason=reason))
                if time.monotonic() >= in_vain + _TRY_SECONDS:
                    break
            else:
                in_vain = time.monotonic()
        ended = time.monotonic()
        self._due = ended + max(_RETRY_SECONDS, _TRY_SHARE * (ended - began))
        return outcomes

    def _restore_missing(self, now: int) -> None:
        """Makes published dates and dimensions anew that have no folder or file. Looks for them at the start, and where curated/
        is another folder than before, or empty. After a crash while they were made anew, and in a folder that took the place of
        another, which may be older, the content of each file counts, too."""
        store, ledger = self._engine.store, self._engine.ledger
        identity = files.identity(store.curated)
        if identity is not None and identity == self._curated and (self._sample is None or self._sample.exists()):
            return
        crashed = generation(self._engine.output) % 2 == 1
        doubtful = crashed or self._curated not in (None, identity)
        files.make_folder(store.curated, within=self._engine.output)
        there, aside = {entry.name for entry in store.curated.iterdir()}, ledger.set_aside()
        dimensions = [one for one in ledger.dimensions().values() if DIMENSIONS[one.name].file not in aside]
        partitions = [one for day, one in ledger.partitions().items() if iso_date(day) not in aside]
        names = [one.name for one in dimensions if not self._is_there(one, there, doubtful=doubtful)]
        days = [one for one in partitions if not self._is_there(one, there, doubtful=doubtful)]
        if days or names or crashed:
            self._tell_missing(len(days) + len(names))
            with changing(self._engine.output):
                self._rebuild(names, days, now)
        self._tell_missing(0)
        self._curated = files.identity(store.curated)
        named = [*map(_name, dimensions), *map(_name, partitions[-1:])]
        self._sample = store.curated / named[-1] if named else None

    def _is_there(self, one: Partition | DimensionFile, there: Collection[str], *, doubtful: bool) -> bool:
        """Whether the folder of a date, or the file of a dimension, is among these names; if `doubtful`, with what was
        committed."""
        if _name(one) not in there or not doubtful:
            return _name(one) in there
        return all(files.has_sha256(self._engine.store.curated / name, sha256) for name, sha256 in _paths(one).items())

    def _tell_missing(self, published: int) -> None:
        if published or self._is_missing:
            self._missing(published)
        self._is_missing = published > 0

    def _rebuild(self, names: Sequence[str], partitions: Sequence[Partition], now: int) -> None:
        engine, done = self._engine, 0
        for group in [[], *groups_of(partitions)]:
            if engine.stopped():
                raise Stopped("stopped while published files were made anew")
            engine.guard.check()
            repair(engine.ledger, engine.reader, engine.store, Damaged(group, () if group else names), now)
            done += len(group)
            engine.progress("making published dates anew", done, len(partitions))


def _name(one: Partition | DimensionFile) -> str:
    """The folder of a date, or the file of a dimension, under curated/."""
    return folder_name(one.date) if isinstance(one, Partition) else DIMENSIONS[one.name].file


def _paths(one: Partition | DimensionFile) -> dict[str, bytes]:
    """The files of a date or a dimension under curated/, each with its SHA-256."""
    if isinstance(one, DimensionFile):
        return {_name(one): one.sha256}
    return {f"{_name(one)}/{FACT_FILE}": one.fact_sha256, f"{_name(one)}/{ITEMS_FILE}": one.items_sha256}


def mend(engine: Engine, one: SetAside, now: int) -> list[BatchOutcome]:
    """Publishes a date or dimension again that is set aside; returns the batch that this took, if it changed since. Raises Lost,
    with the cause, if it still cannot be made anew; then it stays as it is."""
    if one.day is None:
        dimension = next(dimension for dimension in DIMENSIONS.values() if dimension.file == one.name)
        file = engine.ledger.dimensions().get(dimension.name)  # None: its only drop was withdrawn meanwhile
        if file is not None and engine.store.read_dimension(dimension, file.sha256) is None:
            dimension_from_raw(engine.ledger, engine.reader, engine.store, dimension)
        engine.ledger.mended(one.name)
        return []
    refuse_folder(engine.store, one.day)
    refuse_folders(engine.store, (f"{folder_name(one.day)}/{FACT_FILE}", f"{folder_name(one.day)}/{ITEMS_FILE}"))
    partition, changed_by = engine.ledger.partitions([one.day]).get(one.day), _changed_by(engine, one)
    fact = _current(engine, one, partition)
    if partition is None and fact is None:  # its last order left it
        folder = f"curated/{folder_name(one.day)}"
        publish(engine.output, [Effect("remove", f"{folder}/{file}") for file in (FACT_FILE, ITEMS_FILE)])
        engine.ledger.mended(one.name)
        return []
    if partition and (partition.writer == WRITER or not changed_by) and _has_counts(fact, partition):
        try:
            restore(engine.ledger, engine.store, partition, fact)
            engine.ledger.mended(one.name)
            return []
        except NoFolder:
            raise
        except Lost:
            pass  # other rows with the same sums
    phase = Phases()
    return [carried_out(engine, phase, now, lambda: _prepared(engine, one, fact, changed_by, now, phase))]


def _has_counts(fact: pa.Table | None, partition: Partition) -> bool:
    found = EMPTY if fact is None else totals(fact)
    return (found.orders, found.lines, found.amount) == (partition.orders, partition.lines, partition.amount)


def _changed_by(engine: Engine, one: SetAside) -> list[int]:
    """The drops since then that brought orders of this date."""
    since = engine.ledger.drops_since(one.since)
    return [seq for seq in np.unique(engine.ledger.index.of_dates([one.day or 0])["drop"]).tolist() if seq in since]


def _current(engine: Engine, one: SetAside, partition: Partition | None) -> pa.Table | None:
    """The FACT rows of the orders that the index names on a date: from raw, and from the published file where a raw copy is gone.
    None where it names none. Raises Lost."""
    ledger = engine.ledger
    wanted = ledger.index.of_dates([one.day or 0])
    drops = [drop for seq in np.unique(wanted["drop"]).tolist() if (drop := ledger.drop(seq)) is not None]
    gone = [drop for drop in drops if _is_gone(engine, drop)]
    kept = wanted[np.isin(wanted["drop"], [drop.seq for drop in gone])]
    columns = together([ledger.columns(), partition.columns if partition else ()])
    published = _published(engine, one, partition, kept, gone) if len(kept) else None
    orders = orders_from_raw(ledger, engine.reader, wanted[~np.isin(wanted["drop"], [drop.seq for drop in gone])])
    rows = sort_order(orders, np.arange(orders.num_rows))
    incoming = lines_of(*gathered(orders, rows)).table(columns)
    if published is None:
        return incoming if incoming.num_rows else None
    columns = together(columns_of(one.schema) for one in (published, incoming))
    replaces = np.zeros(orders.num_rows, np.bool_)
    return merge(widened(published, columns), widened(incoming, columns), replaces, pa.array([], pa.string())).fact


def _is_gone(engine: Engine, drop: Drop) -> bool:
    return drop.seq <= engine.ledger.horizon(RAW) or not files.has_sha256(engine.output / (drop.raw or ""), drop.sha256)


def _published(
    engine: Engine, one: SetAside, partition: Partition | None, kept: np.ndarray, gone: Sequence[Drop]
) -> pa.Table:
    """The published rows of these orders. Raises Lost where the file is damaged, too, or may have other versions of them."""
    day = one.name
    fact = None if partition is None else engine.store.read_fact(partition.date, partition.fact_sha256)
    copies = ", ".join(drop.raw or "" for drop in gone[:3]) + (f" and {len(gone) - 3:,} more" if len(gone) > 3 else "")
    if fact is None:
        raise Lost(
            f"could not make {day} anew: its published file and raw copies of its orders ({copies}) are missing or damaged. "
            f"Restore one or the other from a backup; nothing was touched"
        )
    firsts = fact.filter(pc.less_equal(fact["line_number"], 1))["order_id"].cast(pa.large_string())
    wanted = set(zip(kept["hi"].tolist(), kept["lo"].tolist(), strict=True))
    ids = [id for key, id in zip(keys_of(firsts), firsts.to_pylist(), strict=True) if _halves(key) in wanted]
    if len(ids) < len(kept) or _may_be_later(engine, one, kept).any():
        raise Lost(
            f"could not make {day} anew: raw copies of its orders ({copies}) are missing or damaged, and its published file does "
            "not have all of these, or not their latest versions. Restore them from a backup; nothing was touched"
        )
    return fact.filter(pc.is_in(fact["order_id"].cast(pa.large_string()), value_set=pa.array(ids, pa.large_string())))


def _may_be_later(engine: Engine, one: SetAside, kept: np.ndarray) -> Bools:
    """Which entries may be of later versions than the published file has: those of drops since it was set aside; and where a drop
    was withdrawn since, those that may have taken the place of its versions, which were in raw then."""
    ledger = engine.ledger
    later = np.isin(kept["drop"], sorted(ledger.drops_since(one.since)))
    return later | (kept["drop"] > ledger.horizon(RAW)) if ledger.withdrawn_since(one.since) else later


def _halves(key: bytes) -> tuple[int, int]:
    return int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")


def _prepared(
    engine: Engine, one: SetAside, fact: pa.Table | None, changed_by: Sequence[int], now: int, phase: Phases
) -> Prepared:
    """The batch that publishes a date again, with what changed since it was set aside."""
    ledger, store, day = engine.ledger, engine.store, one.day or 0
    batch, partitions = ledger.next_batch, ledger.partitions([day])
    was = partitions.get(day)  # None: the date is new
    with phase("rewrite"):
        staged = None if fact is None else store.stage(batch).put(day, fact, is_new=False)
        after = EMPTY if fact is None else totals(fact)
        before = EMPTY if was is None else Totals(was.orders, was.lines, was.lines, was.amount)
    with phase("stage"):
        store.sync_staged(batch)
    with phase("commit"):
        nothing, _ = decided(ledger, Parsed(ORDERS.empty_table(), DISCARDS.empty_table(), {}, {}), engine.background)
        cause = replace(nothing, drop=np.array(changed_by, np.int64), new_date=np.full(len(changed_by), day, np.int32))
        known = Before(batch, ledger.hwm, ledger.restatements_bytes, partitions, ledger.gone([day]))
        rewritten = [Rewritten(day, before, after, staged)]
        commit = replace(rewriting_of(now, known, cause, rewritten, [], [], None), mended=[one.name])
    return Prepared(batch, commit, written(rewritten, known.gone), [])
