"""Finds duplicates: drops with the bytes of an applied drop, or of an earlier drop of the batch, that are parsed in the same way
under the same settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from ..core.entries import Drop
from ..core.model import DIMENSIONS, Reason
from ..storage import raw
from ..storage.ledger import Ledger
from ..storage.set_aside import dimensions_of


def with_duplicates(
    ledger: Ledger, drops: Sequence[Drop], again: Callable[[bytes], bool] = lambda sha256: False
) -> list[Drop]:
    """The drops of one batch, each with the applied drop that it repeats, if any. `again`: whether bytes with this hash must be
    read again."""
    marked: list[Drop] = []
    # Dimensions that an earlier drop changes: one of this batch, or one that waits until the dimension is mended.
    changed: set[str | None] = {*dimensions_of(ledger.set_aside().values())}
    waiting = first_waiting(ledger, drops)
    for drop in drops:
        kind = raw.kind_of(drop.name)
        is_new = kind in changed or waiting.get(kind, drop.seq) < drop.seq or again(drop.sha256)
        known = drop.duplicate_of or (None if is_new else applied_before(ledger, drop))
        if known is None and kind in DIMENSIONS:
            changed.add(kind)
        marked.append(replace(drop, duplicate_of=known))
    return marked


def first_waiting(ledger: Ledger, drops: Sequence[Drop]) -> dict[str | None, int]:
    """By dimension, the first drop of it that is archived and not committed, and is none of these drops. In a dimension the later
    row wins, so drops are applied in order."""
    own = {drop.seq for drop in drops}
    if not any(raw.kind_of(drop.name) in DIMENSIONS for drop in drops):
        return {}
    others = [drop for drop in ledger.uncommitted() if drop.seq not in own and raw.kind_of(drop.name) in DIMENSIONS]
    return {raw.kind_of(drop.name): drop.seq for drop in reversed(others)}


def applied_before(ledger: Ledger, drop: Drop) -> int | None:
    """The number of the applied drop that this one repeats. For a dimension, only the newest drop counts: rows of an older one
    may have been replaced since."""
    kind = raw.kind_of(drop.name)
    newest = ledger.dimensions().get(kind) if kind in DIMENSIONS else None
    for result in ledger.applied(drop.sha256):
        other = result.drop
        if kind in DIMENSIONS and (newest is None or other.seq != newest.last_drop):
            continue
        had_future = result.counts.discarded[Reason.FUTURE_CREATED_AT] > 0
        if raw.kind_of(other.name) == kind and drop.context.reads_alike(other.context, had_future):
            return other.seq
    return None


def first_of_each_content(drops: Sequence[Drop]) -> dict[int, Drop]:
    """For each drop that is not yet a duplicate: the drop to read in its place. Of equal contents in a batch, parsed in the same
    way under the same settings, that is the first. For a dimension, where the later row wins, this holds only for consecutive
    drops."""
    firsts: dict[int, Drop] = {}
    seen: dict[tuple[object, ...], Drop] = {}
    for drop in drops:
        if drop.duplicate_of is not None:
            continue
        context, kind = drop.context, raw.kind_of(drop.name)
        settings = (context.tolerance, context.records_path, context.since, context.mapping)
        content = (kind, drop.sha256, *settings)
        if content not in seen and kind in DIMENSIONS:
            seen = {other: first for other, first in seen.items() if raw.kind_of(first.name) != kind}
        firsts[drop.seq] = seen.setdefault(content, drop)
    return firsts


def to_read(drops: Sequence[Drop]) -> list[Drop]:
    """The drops that must be read, in order."""
    firsts = first_of_each_content(drops)
    return [drop for drop in drops if firsts.get(drop.seq) is drop]


def quarantined_before(
    ledger: Ledger, output: Path, reasons: Mapping[int, str], drops: Sequence[Drop]
) -> dict[int, Drop]:
    """By number, of the drops that cannot be read, with these reasons: the earlier one whose entry in quarantine they keep. It
    has the same bytes, source and reason, and `retry` took it out."""
    found: dict[int, Drop] = {}
    for drop in drops:
        taken = {old.seq for old in found.values()}
        for old in ledger.quarantined(drop.sha256) if drop.seq in reasons else ():
            is_first = old.duplicate_of is None and old.drop.seq not in taken
            is_alike = old.reason == reasons[drop.seq] and old.drop.context.source == drop.context.source
            if is_first and is_alike and not (output / raw.quarantine_path(old.drop)).exists():
                found[drop.seq] = old.drop
                break
    return found
