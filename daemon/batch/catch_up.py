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
    return drops, _only_new(read_all(reader, drops), {result.drop.seq: result for result in results})


def _only_new(parsed: Parsed, read_before: Mapping[int, DropResult]) -> Parsed:
    """Removes what was counted and kept when these drops were first read. Records that are blocked, and were not looked at then,
    are discards now: the file of discards of such a drop is written again."""
    blocked = {
        seq: tally.discarded[Reason.BLOCKED] - read_before[seq].counts.discarded[Reason.BLOCKED]
        for seq, tally in parsed.tallies.items()
    }
    tallies = {
        seq: replace(
            tally,
            extracted=0,
            before_since=tally.before_since - read_before[seq].counts.before_since,
            discarded=+Counter({str(Reason.BLOCKED): blocked[seq]}),
        )
        for seq, tally in parsed.tallies.items()
    }
    changed = pa.array([seq for seq, number in blocked.items() if number], parsed.discards["drop"].type)
    discards = parsed.discards.filter(pc.is_in(parsed.discards["drop"], value_set=changed))
    return Parsed(parsed.orders, discards, tallies, parsed.unreadable)
