"""Rebuilds single partitions and dimensions from the raw layer when a published file is damaged or missing. What raw cannot
reproduce is set aside: batches leave it as it is (see mending).

The index names for each order the drop with its latest version, so only those drops are read again, each under its original
parse context. The same rows from the same writer are the same bytes. Another writer gives other bytes: then the ledger first
records the new hashes together with the effects that place the files, so that start-up can finish after a crash.

A date with orders whose raw copies have gone by age is made again from its own fact file, if that is sound, and not at all if it
is not: without these orders, it would be another date.
"""

from __future__ import annotations

import errno
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
from ..core.model import DIMENSIONS, Bools, Dimension, Parsed, concat_orders, dates_of
from ..core.parquet import WRITER, encode
from ..core.parse.csv import upsert
from ..core.versions import drop_positions, equal
from ..storage import files, raw
from ..storage.ages import RAW
from ..storage.ledger import Ledger
from ..storage.set_aside import SetAside
from ..storage.store import FACT_FILE, ITEMS_FILE, Store, folder_name, iso_date
from .publish import publish
from .reading import Reader

_GROUP_LINES = 2_000_000  # lines of partitions that are rebuilt together, about
_READ_BYTES = 256 << 20  # bytes of drops that are read together, about


class Damaged(Corruption):
    """Published files are missing, or their SHA-256 is not that of the ledger, so nothing can be merged with them. `days` since
    1970, names of `dimensions`; `names` has both in readable form."""

    def __init__(self, days: Sequence[int] = (), dimensions: Sequence[str] = ()) -> None:
        self.days, self.dimensions = days, dimensions
        self.names = [*(DIMENSIONS[name].file for name in dimensions), *map(iso_date, sorted(days))]
        super().__init__(
            f"could not merge with the published files of {', '.join(self.names)}: they are missing or damaged (their SHA-256 "
            "is not that of the ledger). The next batch that needs them rebuilds them from raw; so does `strandline rebuild`"
        )


class Lost(Corruption):
    """Raw cannot reproduce published files that are damaged. They are not touched."""


class NoFolder(Lost):
    """The folder of a date cannot be read or changed."""


def repair(ledger: Ledger, reader: Reader, store: Store, damaged: Damaged, now: int) -> list[str]:
    """Rebuilds damaged files from raw, and sets aside what raw cannot reproduce. Returns the names of what is rebuilt."""
    rebuilt = []
    for name in damaged.dimensions:
        try:
            dimension_from_raw(ledger, reader, store, DIMENSIONS[name])
            rebuilt.append(DIMENSIONS[name].file)
        except Lost as lost:
            file = DIMENSIONS[name].file
            ledger.set_one_aside(SetAside(file, now, reason_of(store, file, lost)))
    faulty = set_faulty_aside(ledger, store, damaged.days, now)
    return rebuilt + [iso_date(day) for day in _rebuilt(ledger, reader, store, sorted(set(damaged.days) - faulty), now)]


def set_faulty_aside(ledger: Ledger, store: Store, days: Iterable[int], now: int) -> set[int]:
    """Sets aside those of these dates whose folders cannot be read and changed; returns them. Of what is committed, nothing is
    published there any more."""
    found = set()
    for day in days:
        try:
            refuse_folder(store, day)
        except NoFolder as lost:
            ledger.set_one_aside(SetAside(iso_date(day), now, str(lost)))
            found.add(day)
    return found


def reason_of(store: Store, name: str, lost: Lost) -> str:
    """Why a date or the file of a dimension is set aside. Where its published file cannot be read, other rights are enough."""
    path = store.curated / (name if name.endswith(".parquet") else f"date={name}/{FACT_FILE}")
    if isinstance(lost, NoFolder) or not path.is_file() or files.sha256_if_readable(path) != b"":
        return str(lost)
    return f"{lost}. {path} is there and cannot be read: it is enough to let this user read it, if it is sound"


def _rebuilt(ledger: Ledger, reader: Reader, store: Store, days: Sequence[int], now: int) -> list[int]:
    """Rebuilds dates, together if it can be: many need the same drops. Sets aside those that raw cannot reproduce."""
    try:
        partitions_from_raw(ledger, reader, store, days)
        return list(days)
    except Lost as lost:
        if len(days) == 1:
            date = iso_date(days[0])
            ledger.set_one_aside(SetAside(date, now, reason_of(store, date, lost)))
            return []
    half = len(days) // 2
    return [day for part in (days[:half], days[half:]) for day in _rebuilt(ledger, reader, store, part, now)]


def partitions_from_raw(ledger: Ledger, reader: Reader, store: Store, days: Sequence[int]) -> None:
    """Restores the files of published dates to what the ledger says. Raises Lost if raw cannot reproduce a date; the files
    of that date are not touched. Where that is because raw copies have gone by age, the other dates are restored first."""
    expected = ledger.partitions(days)
    aged = aged_orders(ledger, list(expected))
    lost = {}
    for day, orders in aged.items():
        fact = store.read_fact(day, expected[day].fact_sha256)
        if fact is None:
            lost[day] = orders
        else:
            restore(ledger, store, expected[day], fact)
    for group in groups_of([one for day, one in expected.items() if day not in aged]):
        for day, fact in facts_from_raw(ledger, reader, group).items():
            restore(ledger, store, expected[day], fact)
    if lost:
        raise lost_with_age(lost)


def aged_orders(ledger: Ledger, days: Sequence[int]) -> dict[int, int]:
    """Of these dates, those with orders whose raw copies have gone by age, and how many. They cannot be made anew."""
    if not (through := ledger.horizon(RAW)):
        return {}
    entries = ledger.index.of_dates(days)
    found, orders = np.unique(entries["date"][came_from_aged(entries, through)], return_counts=True)
    return dict(zip(found.tolist(), orders.tolist(), strict=True))


def came_from_aged(entries: np.ndarray, through: int) -> Bools:
    """Which index entries name a drop whose raw copy has gone by age. `through`: the horizon of raw copies."""
    return np.asarray((entries["drop"] > 0) & (entries["drop"] <= through), np.bool_)


def lost_with_age(lost: Mapping[int, int]) -> Lost:
    """The error for dates whose fact files are damaged and cannot be made anew; with the number of such orders."""
    dates = ", ".join(f"{iso_date(day)} ({orders:,} orders)" for day, orders in sorted(lost.items()))
    return Lost(
        f"could not rebuild {dates}: {FACT_FILE} is missing or damaged, and raw copies of these orders have gone by age ([raw] "
        f"keep), so nothing here can make them anew. Restore curated/date=DATE/{FACT_FILE} from a backup; it was not touched"
    )


def refuse_unknown(ledger: Ledger, days: Sequence[int]) -> None:
    """Raises UsageError if a date is not published."""
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
    """Groups of days to rebuild together, since many need the same drops. A group is as large as memory may hold."""
    groups: list[list[int]] = []
    room = 0
    for one in partitions:
        if one.lines > room:
            groups.append([])
            room = _GROUP_LINES
        groups[-1].append(one.date)
        room -= one.lines
    return groups


def refuse_folder(store: Store, day: int) -> None:
    """Raises NoFolder if the files in the folder of this date cannot be read and replaced, and those of other dates can. Raises
    OSError if that is so of all: the disk or the mount fails, or the process has a wrong user."""
    folder = store.curated / folder_name(day)
    if not (fault := files.fault_of_folder(folder)):
        return
    if of_all := files.fault_of_folder(store.curated):
        raise PermissionError(errno.EACCES, of_all, str(store.curated))
    raise _no_folder(folder, fault)


def _no_folder(folder: Path, fault: str | None) -> NoFolder:
    return NoFolder(
        f"could not read and write {folder}: {fault}. Let this user do that (owner, mode, disk), or move away what is in its "
        "place; nothing was touched"
    )


def refuse_folders(store: Store, names: Iterable[str]) -> None:
    """Raises Lost if a folder that is not empty is in the place of one of these published files: no file can take its place."""
    for path in (store.curated / name for name in names):
        if path.is_dir() and not path.is_symlink() and any(path.iterdir()):
            raise Lost(
                f"could not make {path} anew: a folder with files is in its place. Move it away; nothing was touched"
            )


def restore(ledger: Ledger, store: Store, expected: Partition, fact: pa.Table) -> None:
    folder = folder_name(expected.date)
    refuse_folders(store, (f"{folder}/{FACT_FILE}", f"{folder}/{ITEMS_FILE}"))
    contents = dict(zip((f"{folder}/{FACT_FILE}", f"{folder}/{ITEMS_FILE}"), files_of(fact), strict=True))
    fact_sha256, items_sha256 = map(_sha256, contents.values())
    made = replace(
        expected,
        fact_sha256=fact_sha256,
        items_sha256=items_sha256,
        bytes=sum(map(len, contents.values())),
        writer=WRITER,
    )
    if made == expected:
        try:
            files.make_folder(store.curated / folder)
            for name, content in contents.items():
                files.write(store.curated / name, content)
        except OSError as error:
            if error.errno not in files.OF_PLACE:
                raise
            raise _no_folder(store.curated / folder, error.strerror) from error
        return
    files.make_folder(store.curated / folder)
    if expected.writer == WRITER or _counts(totals(fact)) != (expected.orders, expected.lines, expected.amount):
        raise _not_reproduced(store.curated / folder)
    _replace(store, contents, lambda effects: ledger.replace_files([made], [], effects), ledger)


def _counts(totals: Totals) -> tuple[int, int, int]:
    return totals.orders, totals.lines, totals.amount


def _replace(
    store: Store, contents: Mapping[str, pa.Buffer], remember: Callable[[Sequence[Effect]], None], ledger: Ledger
) -> None:
    """Places files whose hashes are not in the ledger yet. `remember` records the hashes and the effects."""
    folder = store.staging / f"repaired-{uuid4().hex}"
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


def _not_reproduced(path: Path) -> Lost:
    return Lost(
        f"could not repair {path}: the content rebuilt from raw is not what the ledger says; nothing was touched. "
        "Rebuild everything with `strandline rebuild`"
    )


def _sha256(content: bytes | pa.Buffer) -> bytes:
    return hashlib.sha256(content).digest()


def facts_from_raw(ledger: Ledger, reader: Reader, days: Sequence[int]) -> dict[int, pa.Table]:
    """The FACT tables of some dates, rebuilt from the index and the raw copies. Raises Lost if a record does not have the hash
    that the index has."""
    orders = orders_from_raw(ledger, reader, ledger.index.of_dates(days))
    rows = sort_order(orders, np.arange(orders.num_rows))
    dates = dates_of(orders["created_at"].to_numpy()[rows])
    spans = {day: rows[slice(*np.searchsorted(dates, [day, day + 1]))] for day in days}
    published = ledger.partitions(days)
    return {day: lines_of(*gathered(orders, span)).table(published[day].columns) for day, span in spans.items()}


def orders_from_raw(ledger: Ledger, reader: Reader, wanted: np.ndarray) -> pa.Table:
    """ORDERS with the records that these index entries name. Drops are read in groups, and only winners stay in memory. Raises
    Lost if a record does not have the hash that the index has."""
    drops = [drop for seq in np.unique(wanted["drop"]).tolist() if (drop := ledger.drop(seq)) is not None]
    orders = concat_orders(_winners(reader, group, wanted) for group in read_groups(drops))
    found, _ = latest(orders)
    if len(found) != len(wanted) or not equal(found, wanted).all():
        days = np.unique(wanted["date"]).tolist()
        raise Lost(
            f"could not rebuild {iso_date(days[0])} to {iso_date(days[-1])}: raw does not hold the orders that the index names; "
            "nothing was touched. Rebuild everything with `strandline rebuild`"
        )
    return orders


def read_groups(drops: Iterable[Drop], most: int | None = None) -> Iterator[list[Drop]]:
    """Drops in groups to read together, each with as many bytes as memory may hold, and `most` drops."""
    group: list[Drop] = []
    room = _READ_BYTES
    for drop in drops:
        room -= drop.size_bytes
        if group and (room < 0 or len(group) == most):
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
    """The parsed records of applied drops. Raises Lost if a raw copy is not what was archived."""
    refuse_damaged(reader.output, drops)
    parsed = reader.without_limits().read(drops)
    if parsed.unreadable:
        seq, reason = next(iter(parsed.unreadable.items()))
        raise Lost(f"drop {seq} was applied, but can no longer be read from raw: {reason}")
    return parsed


def refuse_damaged(output: Path, drops: Sequence[Drop]) -> None:
    """Raises Lost if a raw copy is not what was archived: its records cannot be trusted."""
    for drop in drops:
        if damage := damage_of(output, drop):
            raise Lost(damage)


def damage_of(output: Path, drop: Drop) -> str:
    """What is wrong with the raw copy of a drop, and what to do; empty if it is what was archived."""
    path = output / (drop.raw or "")
    found = files.sha256_if_readable(path)
    if found == drop.sha256:
        return ""
    if found == b"":
        return (
            f"{path} cannot be read, and others can; let this user read it and its folder, or restore it from a backup"
        )
    return f"{path} is missing or is not what was archived as drop {drop.seq}; restore it from a backup"


def dimension_from_raw(ledger: Ledger, reader: Reader, store: Store, dimension: Dimension) -> None:
    """Restores the file of a dimension to what the ledger says, by applying all its drops in order. Raises Lost if a raw copy
    of them has gone by age, or is damaged."""
    refuse_folders(store, [dimension.file])
    drops = [drop for drop in ledger.applied_drops() if raw.kind_of(drop.name) == dimension.name]
    if drops and drops[0].seq <= ledger.horizon(RAW):
        raise Lost(
            f"could not rebuild {store.curated / dimension.file}: it is missing or damaged, and raw copies of drops that it is "
            "made of have gone by age ([raw] keep). Restore it from a backup; it was not touched"
        )
    parsed = read_all(reader, drops)
    rows = pa.concat_tables([dimension.schema.empty_table(), *(parsed.rows[drop.seq].table for drop in drops)])
    table = upsert(dimension, None, rows).table
    table = dimension.schema.empty_table() if table is None else table
    content, expected = encode(table), ledger.dimensions()[dimension.name]
    made = replace(expected, rows=table.num_rows, sha256=_sha256(content), bytes=len(content), writer=WRITER)
    if made == expected:
        files.write(store.curated / dimension.file, content)
    elif expected.writer == WRITER or made.rows != expected.rows:
        raise _not_reproduced(store.curated / dimension.file)
    else:
        _replace(store, {dimension.file: content}, lambda effects: ledger.replace_files([], [made], effects), ledger)
