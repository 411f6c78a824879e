"""Is all of it there, and is it right? Everything under the output folder held against the ledger, and the ledger against raw.

    conservation  every record extracted ended as exactly one thing, and the sums over all drops are the drops' sums
    raw           every copy is the bytes that arrived, the ledger knows each, and the link points to the newest drop of orders
    quarantine    every copy that is still there is the bytes that arrived
    discards      every discarded record is kept as a replay discards it, and of no other drop
    receipts      every drop has its receipt, which says what the ledger says, and nothing else has one
    restatements  their log is as long as what was committed of it
    curated       every published file is the one that was committed, and there are no others
    index         every order lives in exactly one partition, the one that the index names
    rebuild       all drops, applied anew in a scratch folder, give the same rows, high-water mark and index; and the same bytes,
                  where this program's Parquet writer is the one that wrote the published file

Changes nothing, and needs no lock. It works on a copy of the ledger as it is at the start; where a daemon is at work meanwhile,
what is not as the copy says is compared with what the ledger says then. Memory does not grow with the history. Where raw copies
are damaged there is no replay: then the last two are not looked at, and of discards only how many there are.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..batch.commit import RESTATEMENTS, totals_of
from ..batch.pipeline import Engine
from ..batch.published import is_same, written
from ..batch.repair import groups_of
from ..core.entries import REASON, Drop, Effect, Partition
from ..core.errors import Corruption
from ..core.merge.keys import latest, take_entries
from ..core.model import DropOutcome
from ..core.versions import drop_positions, equal, keys_of
from ..storage import files, raw, receipts
from ..storage.adoption import drop_without_copy, kept_as
from ..storage.ledger import Ledger
from ..storage.order_index import OrderIndex
from ..storage.raw import Stored
from ..storage.store import Store, iso_date
from .rebuild import newest_orders, replayed

_MORE_LOOKS = 20  # at files that are being published just now
_LOOK_SECONDS = 0.5

_PUBLISHING_SECONDS = 10.0

_REBUILD = "`strandline rebuild` writes it anew"
_QUARANTINED = re.compile("([0-9]{1,18})_([0-9a-f]{12})_.*", re.DOTALL)

Fresh = Callable[[], Ledger]


def copy_at_rest(ledger: Ledger, target: Path) -> None:
    """A copy of the ledger at a moment when nothing is being published, for whose files one would only have to wait. Where
    something is for long, nobody is at work, and it is missing indeed."""
    end = time.monotonic() + _PUBLISHING_SECONDS
    while True:
        target.unlink(missing_ok=True)
        ledger.copy_to(target)
        with closing(Ledger(target)) as copy:
            if copy.unpublished_batch() is None or time.monotonic() > end:
                return
        time.sleep(0.02)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it must be."""

    check: str
    what: str  # a path under the output folder, a date, or a drop
    found: str

    def __str__(self) -> str:
        return f"{self.check}: {self.what}: {self.found}"


def verify(engine: Engine, fresh: Fresh, scratch: Path, now: int) -> Iterator[Difference]:
    """Every difference, as it is found. `engine.ledger` is a copy of the ledger; `fresh` opens the ledger as it is by then."""
    yield from _conservation(engine.ledger)
    damaged = list(_raw(engine))
    yield from damaged
    yield from _quarantine(engine)
    uncounted = list(_discards(engine))
    yield from uncounted
    for look in (_wrong_receipts, _unknown_copies, _unknown_records, _log, _link):
        yield from _looked_again(engine, fresh, partial(look, engine))
    yield from _curated(engine, fresh)
    if damaged:
        yield Difference("rebuild", "all", "not tried, since raw copies are damaged or missing")
        yield from _index(engine)
        return
    altered: list[str] = []

    def look_at(discards: Sequence[Effect]) -> None:
        altered.extend(one.target for one in discards if files.sha256_of(engine.output / one.target) != one.sha256)

    named: Counter[int] = Counter()  # by date

    def look_up(versions: pa.Table) -> None:
        named.update(_named(engine.ledger.index, versions))

    try:
        path = replayed(engine, scratch, now, look_at, look_up)
    except Corruption as error:
        yield Difference("rebuild", "all", str(error))
        yield from _index(engine)
        return
    for target in sorted(set(altered) - {one.what for one in uncounted}):
        yield Difference("discards", target, f"not what was discarded; {_REBUILD}")
    with closing(Ledger(path)) as ledger:
        yield from _rebuilt(engine, ledger, Store(scratch))
        yield from _index(engine, ledger, named)


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


def _raw(engine: Engine) -> Iterator[Difference]:
    total = engine.ledger.drop_count(DropOutcome.APPLIED)
    for number, drop in enumerate(engine.ledger.applied_drops(), 1):
        found = files.sha256_of(engine.output / (drop.raw or ""))
        if found != drop.sha256:
            why = "missing" if found is None else "not the bytes that arrived"
            yield Difference("raw", drop.raw or f"drop {drop.seq}", f"{why}; restore it from a backup")
        engine.progress("checking raw", number, total)


def _quarantine(engine: Engine) -> Iterator[Difference]:
    """What was taken away or put back is not asked for. The name of a copy has the beginning of its hash; the ledger, all."""
    for copy in sorted(engine.output.glob("quarantine/[0-9]*")):
        name = _QUARANTINED.fullmatch(copy.name)
        if name is None or copy.name.endswith(REASON) or not copy.is_file():
            continue
        drop, short = engine.ledger.drop(int(name[1])), name[2]
        expected = drop.sha256.hex() if drop and drop.sha256.hex().startswith(short) else short
        found = files.sha256_of(copy)
        if found is not None and not found.hex().startswith(expected):
            yield Difference(
                "quarantine",
                f"quarantine/{copy.name}",
                "not the bytes that arrived; restore it from a backup, or move it away",
            )


def _discards(engine: Engine) -> Iterator[Difference]:
    """How many there are for each reason. What they say is compared by the replay."""
    for result in engine.ledger.all_results():
        path = receipts.discards_path(result.drop)
        expected = {reason: number for reason, number in result.counts.discarded.items() if number}
        found = _reasons(engine.output / path)
        if found != expected:
            mend = _REBUILD if expected else "remove it"
            yield Difference("discards", path, f"holds {_shown(found)}, and {_shown(expected)} were discarded; {mend}")


def _wrong_receipts(engine: Engine, ledger: Ledger) -> list[Difference]:
    found = []
    for result in ledger.all_results():
        what = receipts.receipt_name(result.drop)
        try:
            if (engine.output / what).read_bytes() != receipts.receipt(result):
                found.append(Difference("receipts", what, f"does not say what the ledger says; {_REBUILD}"))
        except FileNotFoundError:
            found.append(Difference("receipts", what, f"missing; {_REBUILD}"))
    return found


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
    return {name: one.sha256 for name, one in written(ledger).items()}


def _curated(engine: Engine, fresh: Fresh) -> Iterator[Difference]:
    curated, expected = engine.store.curated, _expected(engine.ledger)
    there = {str(path.relative_to(curated)) for path in curated.rglob("*") if path.is_file()}
    names = sorted(expected.keys() | there)
    doubtful = []
    for number, name in enumerate(names, 1):
        if files.sha256_of(curated / name) != expected.get(name):
            doubtful.append(name)
        engine.progress("checking curated", number, len(names))

    def wrong(ledger: Ledger) -> list[Difference]:
        nonlocal doubtful
        expected = _expected(ledger)
        doubtful = [name for name in doubtful if files.sha256_of(curated / name) != expected.get(name)]
        return [
            Difference("curated", f"curated/{name}", _what_is_wrong(curated / name, expected.get(name)))
            for name in doubtful
        ]

    yield from _looked_again(engine, fresh, wrong)


def _looked_again(engine: Engine, fresh: Fresh, wrong: Callable[[Ledger], list[Difference]]) -> list[Difference]:
    """What is wrong by the copy of the ledger, and still is by the ledger as it is then, beside a daemon that may be at work:
    asked again until nothing is, or nobody was at work meanwhile."""
    found = wrong(engine.ledger)
    for _ in range(_MORE_LOOKS if found else 0):
        with closing(fresh()) as ledger:
            before, still = _progress(ledger), {one.what: one for one in wrong(ledger)}
        found = [still[one.what] for one in found if one.what in still]
        with closing(fresh()) as ledger:
            if not found or (_progress(ledger) == before and _is_at_rest(engine, ledger)):
                break
        time.sleep(_LOOK_SECONDS)
    return found


def _progress(ledger: Ledger) -> tuple[int, int]:
    return ledger.next_batch, ledger.last_seq


def _is_at_rest(engine: Engine, ledger: Ledger) -> bool:
    """Whether nothing is on its way: no batch that is being published, no raw copy that is about to be entered."""
    newest = max((copy.seq for _, copies in engine.raw.stored() for copy in copies), default=0)
    return ledger.unpublished_batch() is None and newest <= ledger.last_seq


def _what_is_wrong(path: Path, expected: bytes | None) -> str:
    if expected is None:
        return "nobody committed it"
    day = path.parent.name.removeprefix("date=")
    command = f"`strandline rebuild {day}`" if day != path.parent.name else "`strandline rebuild`"
    return f"{'not what was committed' if path.exists() else 'missing'}; {command} makes it anew"


# ------------------------------------------------------------------------- what no drop accounts for, the log, the link


def _unknown_copies(engine: Engine, ledger: Ledger) -> list[Difference]:
    """Raw copies that the ledger does not know, or not under this path."""
    found = []
    for _, copies in engine.raw.stored():
        for copy in copies:
            drop = ledger.drop(copy.seq)
            if (drop is None or drop.raw != copy.path) and (engine.output / copy.path).exists():
                found.append(Difference("raw", copy.path, _what_is_unknown(engine.output, ledger, copy, drop)))
    return found


def _what_is_unknown(output: Path, ledger: Ledger, copy: Stored, drop: Drop | None) -> str:
    """What is wrong, and what mends it. Removing is advised only for bytes that are kept elsewhere."""
    sha256 = files.sha256_of(output / copy.path)
    if sha256 is None or not sha256.startswith(copy.sha256):
        return (
            "it is not what its name says, and is not taken in; put the whole file in its place, or move it out of raw/"
        )
    if kept := kept_as(ledger, output, sha256, besides=copy.path):
        return f"the same bytes are kept as {kept}; this copy may be removed"
    if owner := drop_without_copy(ledger, output, sha256):
        return f"it has the bytes of drop {owner.seq}, whose own copy is missing or damaged; move it to {owner.raw}"
    if drop is None:
        return "the ledger does not know it, and it was never applied; `strandline rebuild` takes it in"
    return f"its number is that of another drop ({drop.name}); `strandline rebuild` takes it in under a free number"


def _unknown_records(engine: Engine, ledger: Ledger) -> list[Difference]:
    """Receipts and discards of drops that the ledger does not know."""
    found = []
    for folder, suffix in (("receipts", "json"), ("discarded", "jsonl")):
        for path in engine.output.glob(f"{folder}/received=*/*.{suffix}"):
            what = str(path.relative_to(engine.output))
            number = re.match("[0-9]{1,18}", path.name)
            drop = ledger.drop(int(number[0])) if number else None
            if drop is None or what not in (receipts.discards_path(drop), receipts.receipt_name(drop)):
                mend = f"of no drop that is known; move it out of {folder}/"
                found.append(Difference(folder.replace("discarded", "discards"), what, mend))
    return found


def _log(engine: Engine, ledger: Ledger) -> list[Difference]:
    path = engine.output / RESTATEMENTS
    found, expected = path.stat().st_size if path.exists() else 0, ledger.restatements_bytes
    if found == expected:
        return []
    mend = (
        "restore it from a backup, or `strandline rebuild` goes on with what is left"
        if found < expected
        else "what is after that nobody committed, and the next restatement replaces it; cut it off"
    )
    return [Difference("restatements", RESTATEMENTS, f"{found:,} bytes, and {expected:,} were committed; {mend}")]


def _link(engine: Engine, ledger: Ledger) -> list[Difference]:
    newest = newest_orders(ledger)
    expected = None if newest is None else raw.link_text(newest.raw or "")
    try:
        found = str((engine.output / raw.LINK).readlink())
    except OSError:  # there is none, or something else
        found = None
    if found == expected:
        return []
    return [Difference("raw", raw.LINK, f"points to {found or 'nothing'}, not to {expected or 'nothing'}; {_REBUILD}")]


# ------------------------------------------------------------------------------------------------------ index and rebuild


def _index(engine: Engine, again: Ledger | None = None, named: Mapping[int, int] | None = None) -> Iterator[Difference]:
    """Each order of each partition is where the index says, and the index says nothing else. `again`: the ledger of the
    rebuild, whose index must be the same; `named`: how many entries of each date name a record of raw."""
    partitions = engine.ledger.partitions()
    done = 0
    for days in groups_of(list(partitions.values())):
        entries = engine.ledger.index.of_dates(days)
        if again is not None and not _are_equal(entries, again.index.of_dates(days)):
            yield Difference("rebuild", _span(days), "the index names other versions than a rebuild")
        for day in days:
            there = entries[entries["date"] == day]
            yield from _homes(engine, partitions[day], there)
            if named is not None and (nowhere := len(there) - named.get(day, 0)):
                yield Difference(
                    "rebuild", iso_date(day), f"of {nowhere} orders the index names what raw does not have"
                )
        done += len(days)
        engine.progress("checking the index", done, len(partitions))
    for day in np.unique(engine.ledger.index.elsewhere(list(partitions))["date"]).tolist():
        yield Difference("index", iso_date(day), "it names orders of a date that is not published")


def _homes(engine: Engine, partition: Partition, entries: np.ndarray) -> Iterator[Difference]:
    day = iso_date(partition.date)
    fact = engine.store.read_fact(partition.date, partition.fact_sha256)
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


def _named(index: OrderIndex, versions: pa.Table) -> Counter[int]:
    """How many entries of the index name one of these records and say what it says, by date. Mostly it is the latest; only
    the others are looked for, since a drop may be large."""
    winners, rows = latest(versions)
    found, named, counted = Counter[int](), [np.zeros(0, np.int64)], np.zeros(len(versions), np.bool_)
    for where, places, part in index.look_up(winners):
        entries = take_entries(part, places)
        same = equal(entries, take_entries(winners, where))
        found.update(entries["date"][same].tolist())
        counted[rows[where[same]]] = True  # once: the wrong entry of another order may name this record, too
        named.append(drop_positions(entries["drop"][~same], entries["position"][~same]))
    theirs = drop_positions(versions["drop"].to_numpy(), versions["position"].to_numpy())
    others = np.flatnonzero(np.isin(theirs, np.concatenate(named)) & ~counted)
    records, _ = latest(versions.take(pa.array(others)))
    entries, _ = index.find(records)
    found.update(records["date"][equal(entries, records)].tolist())
    return found


def _are_equal(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return len(ours) == len(theirs) and bool(equal(ours, theirs).all())


def _rebuilt(engine: Engine, again: Ledger, rebuilt: Store) -> Iterator[Difference]:
    ledger = engine.ledger
    ours, theirs = written(ledger), written(again)
    for name in sorted(ours.keys() | theirs.keys()):
        if not is_same(engine.store, ours.get(name), rebuilt, theirs.get(name)):
            yield Difference("rebuild", f"curated/{name}", "a rebuild from raw gives other rows")
    if ledger.hwm != again.hwm:
        yield Difference("rebuild", "the high-water mark", f"{ledger.hwm}, and a rebuild gives {again.hwm}")
    before, after = ledger.partitions(), again.partitions()
    for day in sorted(before.keys() & after.keys()):
        if _counts(before[day]) != _counts(after[day]):
            yield Difference("rebuild", iso_date(day), "a rebuild counts other orders, lines or amounts")


def _counts(one: Partition) -> tuple[int, int, int]:
    return one.orders, one.lines, one.amount


def _span(days: Sequence[int]) -> str:
    return iso_date(days[0]) + (f" to {iso_date(days[-1])}" if len(days) > 1 else "")
