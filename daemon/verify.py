"""Is all of it there, and is it right? Everything under the output folder held against the ledger, and the ledger against raw.

    conservation  every record extracted ended as exactly one thing, and the sums over all drops are the drops' sums
    raw           every copy is the bytes that arrived
    discards      every discarded record is kept
    receipts      every drop has its receipt, and it says what the ledger says
    curated       every published file is the one that was committed, and there are no others
    index         every order lives in exactly one partition, the one that the index names
    rebuild       all drops, applied anew in a scratch folder, give the same files, index and high-water mark

Changes nothing, and needs no lock. It works on a copy of the ledger as it is at the start; where a daemon publishes meanwhile,
a file that is not what the copy says is compared with what the ledger says then. Memory does not grow with the history.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import files, receipts
from .changeset import totals_of
from .core.entries import Partition
from .core.errors import Corruption
from .core.model import DIMENSIONS, DropOutcome
from .core.versions import keys_of
from .ledger import Ledger
from .pipeline import House
from .rebuild import groups_of
from .replay import replayed
from .store import FACT_FILE, ITEMS_FILE, folder_name, iso_date

_MORE_LOOKS = 20  # at files that are being published just now
_LOOK_SECONDS = 0.5

Fresh = Callable[[], Ledger]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it must be."""

    check: str
    what: str  # a path under the output folder, a date, or a drop
    found: str

    def __str__(self) -> str:
        return f"{self.check}: {self.what}: {self.found}"


def verify(house: House, fresh: Fresh, scratch: Path, now: int) -> Iterator[Difference]:
    """Every difference, as it is found. `house.ledger` is a copy of the ledger; `fresh` opens the ledger as it is by then."""
    yield from _conservation(house.ledger)
    damaged = list(_raw(house))
    yield from damaged
    yield from _records(house)
    yield from _curated(house, fresh)
    if damaged:
        yield Difference("rebuild", "all", "not tried, since raw copies are damaged or missing")
        yield from _index(house, None)
        return
    try:
        path = replayed(house, scratch, now)
    except Corruption as error:
        yield Difference("rebuild", "all", str(error))
        yield from _index(house, None)
        return
    with closing(Ledger(path)) as ledger:
        yield from _rebuilt(house.ledger, ledger)
        yield from _index(house, ledger)


# -------------------------------------------------------------------------------------------------------------- the ledger


def _conservation(ledger: Ledger) -> Iterator[Difference]:
    totals: Counter[str] = Counter()
    for result in ledger.all_results():
        one = result.counts
        ended = (
            sum(one.discarded.values()) + one.before_since + one.superseded + one.unchanged + one.new + one.corrected
        )
        if one.extracted != ended:
            yield Difference(
                "conservation", f"drop {result.drop.seq}", f"{one.extracted} records came, {ended} are counted"
            )
        totals += totals_of([result])
    for name in sorted(totals.keys() | ledger.totals().keys()):
        if totals[name] != ledger.totals()[name]:
            yield Difference(
                "conservation", f"the sum {name}", f"{ledger.totals()[name]}, and the drops give {totals[name]}"
            )


# --------------------------------------------------------------------------------------------------- files of single drops


def _raw(house: House) -> Iterator[Difference]:
    total = house.ledger.drop_count(DropOutcome.APPLIED)
    for number, drop in enumerate(house.ledger.applied_drops(), 1):
        found = files.sha256_of(house.output / (drop.raw or ""))
        if found != drop.sha256:
            why = "missing" if found is None else "not the bytes that arrived"
            yield Difference("raw", drop.raw or f"drop {drop.seq}", f"{why}; restore it from a backup")
        house.progress("checking raw", number, total)


def _records(house: House) -> Iterator[Difference]:
    """Discards and receipts, drop by drop."""
    for result in house.ledger.all_results():
        drop = result.drop
        path = receipts.discards_path(drop)
        expected = {reason: number for reason, number in result.counts.discarded.items() if number}
        found = _reasons(house.output / path)
        if found != expected:
            yield Difference("discards", path, f"holds {_shown(found)}, and {_shown(expected)} were discarded")
        receipt = receipts.receipt_path(house.output, result)
        try:
            same = receipt.read_bytes() == receipts.receipt(result)
        except FileNotFoundError:
            yield Difference(
                "receipts", str(receipt.relative_to(house.output)), "missing; `strandline rebuild` writes it anew"
            )
        else:
            if not same:
                yield Difference(
                    "receipts", str(receipt.relative_to(house.output)), "does not say what the ledger says"
                )


def _reasons(path: Path) -> dict[str, int]:
    """How many records a file of discards holds, by reason."""
    reasons: Counter[str] = Counter()
    try:
        with open(path, "rb") as lines:
            for line in lines:
                try:
                    reasons[str(json.loads(line)["reason"])] += 1
                except (ValueError, KeyError, TypeError):
                    reasons["(damaged)"] += 1
    except FileNotFoundError:
        pass
    return dict(reasons)


def _shown(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {reason}" for reason, number in sorted(counts.items())) or "nothing"


# ----------------------------------------------------------------------------------------------------------------- curated


def _expected(ledger: Ledger) -> dict[str, bytes]:
    """The SHA-256 of every curated file."""
    expected = {DIMENSIONS[name].file: file.sha256 for name, file in ledger.dimensions().items()}
    for day, one in ledger.partitions().items():
        expected[f"{folder_name(day)}/{FACT_FILE}"] = one.fact_sha256
        expected[f"{folder_name(day)}/{ITEMS_FILE}"] = one.items_sha256
    return expected


def _curated(house: House, fresh: Fresh) -> Iterator[Difference]:
    curated, expected = house.store.curated, _expected(house.ledger)
    there = {str(path.relative_to(curated)) for path in curated.rglob("*") if path.is_file()}
    names = sorted(expected.keys() | there)
    doubtful = []
    for number, name in enumerate(names, 1):
        if files.sha256_of(curated / name) != expected.get(name):
            doubtful.append(name)
        house.progress("checking curated", number, len(names))
    for look in range(_MORE_LOOKS):  # a daemon may be publishing
        if not doubtful:
            return
        with closing(fresh()) as ledger:
            expected, pending = _expected(ledger), ledger.unpublished_batch()
        doubtful = [name for name in doubtful if files.sha256_of(curated / name) != expected.get(name)]
        if pending is None and look > 0:
            break
        time.sleep(_LOOK_SECONDS)
    for name in doubtful:
        yield Difference("curated", f"curated/{name}", _what_is_wrong(curated / name, expected.get(name)))


def _what_is_wrong(path: Path, expected: bytes | None) -> str:
    if expected is None:
        return "nobody committed it"
    day = path.parent.name.removeprefix("date=")
    command = f"`strandline rebuild {day}`" if day != path.parent.name else "`strandline rebuild`"
    return f"{'not what was committed' if path.exists() else 'missing'}; {command} makes it anew"


# ------------------------------------------------------------------------------------------------------ index and rebuild


def _index(house: House, again: Ledger | None) -> Iterator[Difference]:
    """Each order of each partition is where the index says, and the index says nothing else. `again`: the ledger of the
    rebuild, whose index must be the same."""
    partitions = house.ledger.partitions()
    done = 0
    for days in groups_of(list(partitions.values())):
        entries = house.ledger.index.of_dates(days)
        if again is not None and not _same_entries(entries, again.index.of_dates(days)):
            yield Difference("rebuild", _span(days), "the index names other versions than a rebuild")
        for day in days:
            yield from _homes(house, partitions[day], entries[entries["date"] == day])
        done += len(days)
        house.progress("checking the index", done, len(partitions))
    for day in np.unique(house.ledger.index.elsewhere(list(partitions))["date"]).tolist():
        yield Difference("index", iso_date(day), "it names orders of a date that is not published")


def _homes(house: House, partition: Partition, entries: np.ndarray) -> Iterator[Difference]:
    day = iso_date(partition.date)
    fact = house.store.read_fact(partition.date, partition.fact_sha256)
    if fact is None:
        return  # it has changed since, or was found to be damaged
    first = fact.filter(pc.less_equal(fact["line_number"], 1))
    held, named = sorted(keys_of(first["order_id"].cast(pa.large_string()))), _keys(entries)
    if len(held) != partition.orders:
        yield Difference(
            "index", day, f"the ledger counts {partition.orders} orders, and the partition holds {len(held)}"
        )
    if held != named:
        yield Difference(
            "index", day, f"it names {len(named)} orders, and they are not the {len(held)} of the partition"
        )


def _keys(entries: np.ndarray) -> list[bytes]:
    """The 128-bit keys of index entries, sorted."""
    pairs = np.stack([entries["hi"], entries["lo"]], axis=1).astype("<u8").tobytes()
    return sorted(pairs[start : start + 16] for start in range(0, len(pairs), 16))


def _same_entries(one: np.ndarray, other: np.ndarray) -> bool:
    """Of entries (sorted); a content that is not known, since it was never hashed, may be any."""
    if len(one) != len(other):
        return False
    hashed = one["content"] != np.zeros(1, one["content"].dtype)
    names = [name for name in one.dtype.names or () if name != "content"]
    return all((one[name] == other[name]).all() for name in names) and bool(
        (one["content"] == other["content"])[hashed].all()
    )


def _rebuilt(ledger: Ledger, again: Ledger) -> Iterator[Difference]:
    ours, theirs = _expected(ledger), _expected(again)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            yield Difference("rebuild", f"curated/{name}", "a rebuild from raw gives another file")
    if ledger.hwm != again.hwm:
        yield Difference("rebuild", "the high-water mark", f"{ledger.hwm}, and a rebuild gives {again.hwm}")
    before, after = ledger.partitions(), again.partitions()
    for day in sorted(before.keys() & after.keys()):
        if replace(before[day], restatements=0) != replace(after[day], restatements=0):
            yield Difference("rebuild", iso_date(day), "a rebuild counts other orders, lines or amounts")


def _span(days: Sequence[int]) -> str:
    return iso_date(days[0]) + (f" to {iso_date(days[-1])}" if len(days) > 1 else "")
