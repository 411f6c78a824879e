"""Computes what a batch changes, before anything is committed. Pure: values in, one Commit out.

A Commit has the outcome and counts of each drop, the new entries of partitions, and the list of effects in the order in which
they become visible. Partitions that gain orders come before those that lose some, so that an order that moves is never missing.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from ..core.drift import KnownKey, SeenKeys, changes, drifts
from ..core.entries import Commit, Counts, DimensionFile, Drop, DropResult, Effect, Partition, Run, Undo
from ..core.mapping import FieldMapping
from ..core.model import DIMENSIONS, Dimension, DropOutcome, Parsed
from ..core.parse.advice import for_source
from ..core.parse.csv import Upserted
from ..core.parse.damage import named_list
from ..execution.tasks import Rewritten
from ..storage import raw
from ..storage.store import FACT_FILE, ITEMS_FILE, folder_name, iso_date, staged_dimension, staged_path
from .decide import Decided, tallied
from .duplicates import first_of_each_content
from .publish import reason_json

RESTATEMENTS = "restatements.jsonl"
WITHDRAWALS = f"drops.{DropOutcome.WITHDRAWN}"  # among the sums over all drops


@dataclass(frozen=True)
class DimensionChange:
    """What the rows of a batch change in one dimension."""

    dimension: Dimension
    drop_of_row: Sequence[int]
    upserted: Upserted
    file: DimensionFile  # the new entry for the ledger
    staged: bool  # whether a new file was written


@dataclass(frozen=True, slots=True)
class Before:
    """The state of the ledger before the batch."""

    batch: int  # the number of this batch
    hwm: int | None
    restatements_bytes: int
    partitions: Mapping[int, Partition]  # the affected ones
    # Affected dates that lost their partition: restatements so far.
    gone: Mapping[int, int] = field(default_factory=dict)
    overtaken: bool = False  # an orders drop with a higher number is applied: the link must not move back
    linkable: Container[int] = frozenset()  # the drops that the link may point to
    keys: Sequence[KnownKey] = ()  # of the sources of the drops
    quarantined: Mapping[int, Drop] = field(default_factory=dict)  # see duplicates.quarantined_before


def commit_of(
    now: int,
    before: Before,
    drops: Sequence[Drop],
    parsed: Parsed,
    decided: Decided,
    rewritten: Sequence[Rewritten],
    dimensions: Sequence[DimensionChange],
    discards: Sequence[Effect],
    run: Run | None,
    read_before: Mapping[int, DropResult] | None = None,
) -> Commit:
    """Everything that the ledger records of a batch, and the effects that publish it. `read_before`: the earlier results of
    drops that are read again, by drop number."""
    counts = _counts(parsed, decided, rewritten)
    _count_rows(counts, dimensions)
    results = _results(drops, parsed, counts, read_before or {}, before.quarantined)
    known = {(one.source, one.is_read, one.key): one for one in before.keys}
    after = dict(known)
    drift = drifts(after, seen_keys(drops, parsed, read_before or {}))
    keys, forgotten = changes(known, after)
    of_drops = [
        *discards,
        *(effect for result in results for effect in _raw_effects(result, before.quarantined)),
        *([] if before.overtaken else _link_effect(results, before.linkable)),
    ]
    return replace(
        rewriting_of(now, before, decided, rewritten, dimensions, of_drops, run),
        results=results,
        totals=totals_of(results),
        hwm=_raised(before.hwm, decided.newest.values()),
        newest=decided.newest,
        drift=drift,
        keys=keys,
        forgotten=forgotten,
    )


def rewriting_of(
    now: int,
    before: Before,
    decided: Decided,
    rewritten: Sequence[Rewritten],
    dimensions: Sequence[DimensionChange],
    of_drops: Sequence[Effect],
    run: Run | None,
    undo: Undo | None = None,
) -> Commit:
    """The part of a Commit that is about published files and the index, without results of drops. `of_drops`: effects on the
    files of drops, which come after those on published files. `undo`: what the change comes from, if not from drops."""
    assert not any(one.damaged for one in rewritten), "damaged files are repaired before anything is committed"
    kept = [one for one in rewritten if one.staged]
    removed = [one.day for one in rewritten if not one.staged]
    losing = set(decided.leaving.date.tolist())
    restated = (one for one in rewritten if is_restated(one, before.gone))
    log = "".join(_restatement(one, _cause(one.day, before.batch, decided, undo)) for one in restated)
    effects = [
        *(effect for one in dimensions for effect in _dimension_effect(before.batch, one)),
        *(e for one in sorted(kept, key=lambda one: one.day in losing) for e in _place_effects(before.batch, one)),
        *(
            Effect("remove", f"curated/{folder_name(day)}/{file}")
            for day in removed
            for file in (FACT_FILE, ITEMS_FILE)
        ),
        *of_drops,
        *([Effect("append", RESTATEMENTS, position=before.restatements_bytes, text=log)] if log else []),
    ]
    return Commit(
        committed_at=now,
        results=[],
        run=run,
        partitions=[_partition(one, before) for one in kept],
        removed=removed,
        dimensions=[one.file for one in dimensions],
        totals={},
        hwm=before.hwm,
        effects=effects,
        restatements_bytes=before.restatements_bytes + len(log.encode()),
        undo=undo,
    )


def seen_keys(
    drops: Sequence[Drop], parsed: Parsed, read_before: Container[int]
) -> Iterator[tuple[int, str, FieldMapping, SeenKeys]]:
    """The keys of the first records of each drop of orders, as `drifts` takes them. A drop that is read again brings nothing."""
    for drop in sorted(drops, key=lambda one: one.seq):
        tally = parsed.tallies.get(drop.seq)
        if tally is not None and tally.keys is not None and drop.seq not in read_before:
            yield drop.seq, drop.context.source, drop.context.mapping.of_orders, tally.keys


def unreadable(drops: Sequence[Drop], parsed: Parsed) -> dict[int, str]:
    """By number: why a drop cannot be read."""
    firsts = first_of_each_content(drops)
    reasons = ((drop, parsed.unreadable.get(firsts.get(drop.seq, drop).seq)) for drop in drops)
    return {drop.seq: for_source(reason, drop.context) for drop, reason in reasons if reason is not None}


def _results(
    drops: Sequence[Drop],
    parsed: Parsed,
    counts: Mapping[int, Counts],
    read_before: Mapping[int, DropResult],
    quarantined: Mapping[int, Drop],
) -> list[DropResult]:
    firsts, reasons = first_of_each_content(drops), unreadable(drops, parsed)
    results = []
    for drop in drops:
        first = firsts.get(drop.seq, drop)
        if drop.seq in read_before:
            before = read_before[drop.seq].counts
            results.append(DropResult(drop, DropOutcome.APPLIED, before.plus(counts[drop.seq]), before=before))
        elif drop.duplicate_of is not None:
            results.append(DropResult(drop, DropOutcome.DUPLICATE, Counts(), None, drop.duplicate_of, keeps_raw=False))
        elif drop.seq in reasons:  # an unreadable drop has no duplicates: each copy can be retried
            why, known = reasons[drop.seq], quarantined.get(drop.seq)
            before_it = known.seq if known else None
            results.append(DropResult(drop, DropOutcome.QUARANTINED, Counts(), why, before_it, keeps_raw=False))
        elif drop is not first:
            results.append(DropResult(drop, DropOutcome.DUPLICATE, Counts(), None, first.seq, keeps_raw=False))
        else:
            results.append(DropResult(drop, DropOutcome.APPLIED, counts[drop.seq]))
    return results


def _counts(parsed: Parsed, decided: Decided, rewritten: Sequence[Rewritten]) -> dict[int, Counts]:
    """By drop: what became of its records. The counts add up to `extracted`."""
    counts = {
        drop: Counts(
            tally.extracted, tally.discarded, tally.before_since, faults=tally.faults, bare=tally.bare,
            bare_keys=named_list(tally.bare_keys) if tally.bare else [],
        )
        for drop, tally in parsed.tallies.items()
    }  # fmt: skip
    winners = decided.drop
    rewritten_winners = winners[np.isin(decided.new_date, [one.day for one in rewritten])]
    for name, found in (("new", winners[~decided.known]), ("corrected", winners[decided.known])):
        for drop, number in tallied(found):
            setattr(counts[drop], name, number)
    for drop, number in decided.unchanged:
        counts[drop].unchanged = number
    for drop, number in decided.deleted:
        counts[drop].deleted = number
    for drop, number in decided.late:
        counts[drop].late = number
    for drop, number in decided.accepted:
        known = counts[drop]
        known.superseded = number - known.new - known.unchanged - known.corrected - known.deleted
    for name in DIMENSIONS:
        if any(name not in one.unknown for one in rewritten):  # the dimension is set aside
            continue
        unknown = np.concatenate([np.zeros(0, np.bool_), *(one.unknown[name] for one in rewritten)])
        for drop, number in tallied(rewritten_winners[unknown]):
            counts[drop].unknown[name] = number
    return counts


def _count_rows(counts: Mapping[int, Counts], dimensions: Sequence[DimensionChange]) -> None:
    """By drop: what became of its rows."""
    for one in dimensions:
        drops = np.array(one.drop_of_row, np.int64)
        for name in ("superseded", "new", "corrected", "unchanged"):
            for drop, number in tallied(drops[getattr(one.upserted, name)]):
                setattr(counts[drop], name, number)


def totals_of(results: Sequence[DropResult]) -> Counter[tuple[str, str]]:
    """What these drops add to the sums over all drops. Sums never fall: a drop that is withdrawn counts as applied, too, and once
    as withdrawn each time that it was."""
    totals: Counter[tuple[str, str]] = Counter()
    for result in results:
        source = result.drop.context.source
        if result.before is None:
            is_withdrawn = result.outcome is DropOutcome.WITHDRAWN
            totals[source, f"drops.{DropOutcome.APPLIED if is_withdrawn else result.outcome}"] += 1
        totals[source, WITHDRAWALS] += sum(not one.is_revert for one in result.undos)
        kind = raw.kind_of(result.drop.name)
        for name, value in result.gained.as_dict().items():
            if name == "bare_keys":  # names from files: an unbounded set
                continue
            for key, number in value.items() if isinstance(value, dict) else [("", value)]:
                totals[source, f"{kind}.{name}.{key}".rstrip(".")] += number
    return Counter({name: number for name, number in totals.items() if number})


def _raised(hwm: int | None, newest: Iterable[int]) -> int | None:
    """The high-water mark only rises."""
    return max([*newest, *([] if hwm is None else [hwm])], default=None)


def _dimension_effect(batch: int, one: DimensionChange) -> list[Effect]:
    if not one.staged:
        return []
    source = staged_dimension(batch, one.dimension)
    return [Effect("place", f"curated/{one.dimension.file}", source, one.file.sha256)]


def _place_effects(batch: int, one: Rewritten) -> list[Effect]:
    assert one.staged
    hashes = {FACT_FILE: one.staged.fact_sha256, ITEMS_FILE: one.staged.items_sha256}
    return [
        Effect("place", f"curated/{folder_name(one.day)}/{file}", staged_path(batch, one.staged.name, file), sha256)
        for file, sha256 in hashes.items()
    ]


def _raw_effects(result: DropResult, quarantined: Mapping[int, Drop]) -> list[Effect]:
    """Moves the raw copy of a quarantined drop, to the entry of an earlier one where it keeps that; removes the copy of a drop
    that turned out to be a duplicate."""
    drop = result.drop
    if drop.raw is None:
        return []
    if result.outcome is DropOutcome.QUARANTINED:
        entry = quarantined.get(drop.seq, drop)
        text = reason_json(entry, result.reason or "")
        return [Effect("quarantine", raw.quarantine_path(entry), drop.raw, text=text)]
    return [] if result.keeps_raw else [Effect("remove", drop.raw)]


def _link_effect(results: Sequence[DropResult], linkable: Container[int]) -> list[Effect]:
    applied = [
        r.drop for r in results if r.outcome is DropOutcome.APPLIED and r.before is None and r.drop.seq in linkable
    ]
    if not applied:
        return []
    return [Effect("link", raw.LINK, text=raw.link_text(applied[-1].raw or ""))]


def is_restated(one: Rewritten, gone: Container[int]) -> bool:
    """Whether a changed date was published before, including a date that lost its last order since."""
    return one.before.orders > 0 or one.day in gone


def _cause(day: int, batch: int, decided: Decided, undo: Undo | None) -> dict[str, object]:
    """What restates a date: drops, or the undo of one."""
    if undo is None:
        return {"batch": batch, "drops": decided.drops_changing(day)}
    what = "applied_again" if undo.is_revert else "withdrawn"
    return {"batch": batch, "drops": [undo.drop], what: {"by": undo.who, "reason": undo.reason}}


def _restatement(one: Rewritten, cause: Mapping[str, object]) -> str:
    content = {
        "date": iso_date(one.day),
        "cause": cause,
        "orders_before": one.before.orders,
        "orders_after": one.after.orders,
        "amount_before": one.before.amount_text,
        "amount_after": one.after.amount_text,
    }
    return json.dumps(content) + "\n"


def _partition(one: Rewritten, before: Before) -> Partition:
    assert one.staged
    after, staged, published = one.after, one.staged, before.partitions.get(one.day)
    known = published.restatements if published else before.gone.get(one.day)
    restatements = 0 if known is None else known + 1
    return Partition(
        one.day, after.orders, after.lines, after.amount,
        staged.fact_sha256, staged.items_sha256, staged.bytes, staged.writer, restatements,
        staged.columns,
    )  # fmt: skip
