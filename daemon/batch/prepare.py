"""Steps 3 to 5: turns the parsed records of some drops into all that a batch changes, as values and staged files.

    decide    which version of each order wins, what that changes, and which dates are affected     (decide.py)
    rewrite   stages the published rows of each affected date and dimension + what is new           (rewriting.py, dimensions.py)
    stage     stages the discarded records; syncs everything that was staged

Neither the published files nor the content of the ledger changes. So a dry run and a rebuild can use the same code.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import pyarrow as pa

from ..core.columns import together
from ..core.entries import Commit, DimensionFile, Drop, DropResult, Effect, Run
from ..core.errors import Stopped
from ..core.model import Parsed
from ..core.parse.discards import lines, slices
from ..execution import spill
from ..execution.tasks import Known, Rewritten
from ..storage import files, raw, receipts
from ..storage.ledger import Ledger
from ..storage.set_aside import days_of
from ..storage.store import iso_date
from . import dimensions
from .commit import Before, commit_of, is_restated, unreadable
from .decide import Decided, decided
from .duplicates import quarantined_before
from .engine import Engine
from .outcome import Written
from .phases import Phases
from .repair import Damaged
from .rewriting import changes_of


@dataclass(frozen=True)
class Prepared:
    """A batch that is ready to commit. Its files are durable in the staging folder."""

    batch: int
    commit: Commit
    written: Sequence[Written]  # the dates that it rewrites or removes, by date
    dimensions: Sequence[DimensionFile]  # the dimension files that it writes
    waiting: Sequence[str] = ()  # the dates that it leaves as they are, since they are set aside


def prepare(
    engine: Engine,
    drops: Sequence[Drop],
    parsed: Parsed,
    now: int,
    phase: Phases,
    read_before: Mapping[int, DropResult] | None = None,
) -> Prepared:
    """What committing these drops changes. `parsed`: the records of the drops that are not known duplicates. `now`: the time of
    the commit, in microseconds. `read_before`: the earlier results of drops that are read again, by drop number. Raises Damaged
    if a published file that must be merged does not have the SHA-256 of the ledger."""
    ledger, store = engine.ledger, engine.store
    batch = ledger.next_batch
    with phase("decide"):
        decision, entries = decided(ledger, parsed, engine.background)
        index = engine.write_index(entries)
        del entries  # they are large, and only the writer still needs them
    with waited_for(index):
        with phase("rewrite"):
            changes = dimensions.stage(ledger, store, batch, parsed.rows)
            known = dimensions.known_keys(ledger, store, changes)
            rewritten = rewrite(engine, batch, decision, drops, known)
        with phase("stage"):
            discards = stage_discards(engine, batch, drops, parsed.discards)
            store.sync_staged(batch)
        with phase("commit"):
            before = _before(engine, batch, drops, parsed, [one.day for one in rewritten])
            run = index.result()
            commit = commit_of(now, before, drops, parsed, decision, rewritten, changes, discards, run, read_before)
    files_written = [one.file for one in changes if one.staged]
    return Prepared(batch, commit, written(rewritten, before.gone), files_written, waiting(ledger, decision))


def waiting(ledger: Ledger, decision: Decided) -> list[str]:
    """The dates among those that a decision changes that are set aside."""
    aside = days_of(ledger.set_aside().values())
    return [iso_date(day) for day in aside if day in decision.new_date or day in decision.leaving.date]


@contextmanager
def waited_for(index: Future[Run | None]) -> Iterator[None]:
    """A block that does not fail before the index is written: the ledger must not be changed meanwhile."""
    try:
        yield
    except BaseException:
        wait([index])
        raise


def rewrite(engine: Engine, batch: int, decision: Decided, drops: Sequence[Drop], known: Known) -> list[Rewritten]:
    """Merges and stages the dates that a decision changes. `drops`: those whose extra columns the files get, besides the columns
    that the ledger knows. Raises Damaged."""
    ledger = engine.ledger
    columns = together([ledger.columns(), *(drop.context.mapping.extra_columns for drop in drops)])
    rewritten = engine.rewriter.rewrite(
        engine.store, batch, decision, changes_of(ledger, decision), known, columns, engine.progress, engine.stopped
    )
    if damaged := [one.day for one in rewritten if one.damaged]:
        raise Damaged(damaged)
    return rewritten


def stage_discards(engine: Engine, batch: int, drops: Sequence[Drop], discards: pa.Table) -> list[Effect]:
    """Stages one file for each drop that has discards, with each discarded record in full."""
    targets = {drop.seq: receipts.discards_path(drop) for drop in drops}
    effects: dict[int, Effect] = {}
    for seq, found in groupby(slices(discards), itemgetter(0)):
        assert seq not in effects, "the discards of a drop are together"
        path = engine.store.staging / str(batch) / "discarded" / f"{seq:08d}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        sha256 = files.write_parts_unsynced(path, _lines(engine, found))
        effects[seq] = Effect("place", targets[seq], f".staging/{batch}/discarded/{path.name}", sha256)
    return [effects[seq] for seq in sorted(effects)]


def _lines(engine: Engine, found: Iterator[tuple[int, pa.RecordBatch]]) -> Iterator[memoryview]:
    """One slice at a time: there may be many discards, and a stop may be requested meanwhile."""
    for _, rows in found:
        if engine.stopped():
            raise Stopped("stopped while discards were being written")
        yield lines(rows)
        spill.release_pages()


def _before(engine: Engine, batch: int, drops: Sequence[Drop], parsed: Parsed, days: Sequence[int]) -> Before:
    ledger = engine.ledger
    later = ledger.applied_drops(after=max((drop.seq for drop in drops), default=0))
    overtaken = any(_linkable(engine.output, [drop]) for drop in later)  # possible when raw copies are adopted late
    return Before(
        batch, ledger.hwm, ledger.restatements_bytes, ledger.partitions(days), ledger.gone(days), overtaken,
        _linkable(engine.output, drops), ledger.record_keys({drop.context.source for drop in drops}),
        quarantined_before(ledger, engine.output, unreadable(drops, parsed), drops),
    )  # fmt: skip


def _linkable(output: Path, drops: Sequence[Drop]) -> frozenset[int]:
    return frozenset(drop.seq for drop in drops if drop.raw and raw.may_be_linked(output / drop.raw, drop.name))


def written(rewritten: Sequence[Rewritten], gone: Container[int]) -> list[Written]:
    """The dates that change. `gone`: those that were published before and lost their last order."""
    return [
        Written(
            iso_date(one.day), one.before.orders, one.after.orders, one.after.lines, one.after.items,
            is_restated(one, gone),
        )
        for one in rewritten
    ]  # fmt: skip
