"""`--since` moved back: reads applied drops again, for the orders between the new limit and the earlier one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from ..core.entries import Drop, DropResult
from ..core.model import Parsed, Reason
from ..storage.ages import RAW
from ..storage.ledger import Ledger
from .reading import Reader
from .repair import read_all


def readable(ledger: Ledger, since: int) -> tuple[list[DropResult], str]:
    """The results of applied drops to read again for an earlier limit; and what to tell of those that cannot be, "" where there
    are none."""
    found, gone = ledger.read_since(since), ledger.horizon(RAW)
    kept = [result for result in found if result.drop.seq > gone]
    lost = len(found) - len(kept)
    note = (
        f"--since: {lost:,} drops may have orders since then that were not applied, and their raw copies have gone by age, so "
        "these orders stay out"
    )
    return kept, note if lost else ""


def read_again(reader: Reader, results: Sequence[DropResult], since: int | None) -> tuple[list[Drop], Parsed]:
    """The drops of these results under the new limit, and their records between the new limit and the earlier one."""
    contexts = [replace(one.drop.context, since=since, until=one.drop.context.since) for one in results]
    drops = [replace(one.drop, context=context) for one, context in zip(results, contexts, strict=True)]
    parsed = read_all(reader, drops)
    refused = [drop for drop in drops if parsed.tallies[drop.seq].discarded[Reason.BLOCKED]]
    whole = read_all(reader, [replace(drop, context=replace(drop.context, until=None)) for drop in refused])
    return drops, _only_new(parsed, whole, {result.drop.seq: result for result in results})


def _only_new(parsed: Parsed, whole: Parsed, read_before: Mapping[int, DropResult]) -> Parsed:
    """Removes what was counted and kept when these drops were first read. Blocked orders that were before the limit then
    are discards now: the file of discards of such a drop is written again, with those that it had. `whole`: drops with records
    that are blocked, read without the earlier limit."""
    blocked = {
        seq: tally.discarded[Reason.BLOCKED] - read_before[seq].counts.discarded[Reason.BLOCKED]
        for seq, tally in whole.tallies.items()
    }
    tallies = {
        seq: replace(
            tally,
            extracted=0,
            before_since=tally.before_since - read_before[seq].counts.before_since,
            discarded=+Counter({str(Reason.BLOCKED): blocked.get(seq, 0)}),
        )
        for seq, tally in parsed.tallies.items()
    }
    changed = pa.array([seq for seq, number in blocked.items() if number], whole.discards["drop"].type)
    discards = whole.discards.filter(pc.is_in(whole.discards["drop"], value_set=changed))
    return Parsed(parsed.orders, discards, tallies, parsed.unreadable)
