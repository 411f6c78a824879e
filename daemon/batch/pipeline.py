"""READ FIRST. One batch, from settled files in the inbox to published partitions, top to bottom.

    1 archive   a byte-for-byte copy in raw/, known to the ledger; the inbox file goes      (_copy, _archive)
    2 parse     records -> orders, discards, field faults                                   (reading.py)
    3 affected  which version of each order wins, what it changes, and which dates          (affected)
    4 merge     the published rows of each affected date + the new versions                 (rewriting.py, dimensions.py)
    5 stage     the new files, where nobody looks, durable                                  (the same, stage_discards)
    6 commit    one transaction: outcomes, index, high-water mark, and the list of effects  (changeset.py)
    7 publish   carry out the list by renames, write the receipts, clear the list           (publish_committed)

A crash before 6 leaves drops that are archived and not committed: they are applied again, to the same result. A crash
after 6 leaves effects: they are carried out again, each looking first at what is done. Nothing else is ever half done.

What each step returns is a value; nothing here counts or logs: `BatchOutcome` says all that happened, and how long it took.
"""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa

from ..core.entries import DimensionFile, Drop, DropResult, Effect
from ..core.errors import Stopped
from ..core.merge.keys import latest, take_entries
from ..core.model import DIMENSIONS, DISCARDS, Bools, DropOutcome, Ints, ParseContext, Parsed, Reason
from ..core.parse.discards import lines, slices
from ..core.progress import Progress, silent
from ..core.versions import Outcome, decide
from ..execution import spill, tasks
from ..sources.inbox import Arrival
from ..storage import files, raw, receipts
from ..storage.guard import Guard
from ..storage.ledger import Ledger
from ..storage.lock import Lock
from ..storage.raw import RawLayer
from ..storage.store import Store, iso_date
from . import dimensions, reread
from .commit import Before, Decided, commit_of, counted, is_restated, tallied, to_read
from .phases import Phases
from .publish import publish
from .reading import Reader, too_large
from .repair import partitions_from_raw, read_all
from .rewriting import Rewriter, changes_of
from .taking import Copy, NotTaken, Taking

_T = TypeVar("_T")


@dataclass(frozen=True)
class Engine:
    """The rooms that a batch passes through. `background` does one thing beside."""

    output: Path
    ledger: Ledger
    raw: RawLayer
    store: Store
    reader: Reader
    rewriter: Rewriter
    taking: Taking
    background: Executor
    progress: Progress = silent
    stopped: Callable[[], bool] = tasks.never
    lock: Lock | None = None

    @property
    def guard(self) -> Guard:
        """Whether the output is still the one that was opened."""
        return Guard(self.output, self.lock, self.ledger)


@dataclass(frozen=True, slots=True)
class Refused:
    """A file that could not be taken out of the inbox, and why."""

    name: str
    cause: str


@dataclass(frozen=True, slots=True)
class Written:
    """One date that a batch rewrote (or removed: no orders after)."""

    date: str
    orders_before: int
    orders: int
    lines: int
    items: int
    restated: bool  # it had been published before


@dataclass(frozen=True, slots=True)
class BatchOutcome:
    """All that one batch did, for logs, metrics and people."""

    batch: int
    results: Sequence[DropResult]
    written: Sequence[Written]
    dimensions: Sequence[DimensionFile]  # those that were written
    rebuilt: Sequence[str]  # dates and dimension files that were damaged, and were made anew from raw first
    totals: Mapping[str, int]  # what it added to the sums over all drops, as the ledger names them
    hwm: int | None
    committed_at: int  # microseconds since 1970
    seconds: Mapping[str, float]  # by phase

    @property
    def restated(self) -> list[str]:
        """Dates that had been published before and changed."""
        return [written.date for written in self.written if written.restated]

    @property
    def rows_written(self) -> dict[str, int]:
        """By table."""
        lines, items = sum(written.lines for written in self.written), sum(written.items for written in self.written)
        return {"fact_order": lines, "order_items": items} | {f"dim_{one.name}": one.rows for one in self.dimensions}


# ----------------------------------------------------------------------------------------------------------- the story


def take(
    engine: Engine, arrivals: Sequence[Arrival], context: ParseContext, now: int
) -> tuple[BatchOutcome | None, list[Refused]]:
    """One batch of settled files, steps 1 to 7. Also names the files that could not be taken, with the cause: they stay.

    Workers read the copies while these grow and become durable; nothing is decided before they are.
    """
    engine.guard.check()
    phase = Phases()
    copies: list[Copy] = []
    try:
        with phase("archive"):
            refused = _copy(engine, arrivals, context, copies)
            again = reread.asked_for(engine.output)
            drops = with_duplicates(engine.ledger, [_drop(copy.stored, context) for copy in copies], again)
            drops = [replace(drop, raw=None) if drop.duplicate_of else drop for drop in drops]  # no second copy is kept
        places = {copy.stored.seq: engine.raw.temporary(copy.stored.seq) for copy in copies}
        with engine.reader.begin(to_read(drops), places) as reading:
            with phase("archive"):
                files.sync_many(places.values())
            with phase("parse"):
                parsed = reading.result(engine.progress, engine.stopped)
    except BaseException:
        engine.taking.give_back(copies)
        raise
    if not drops:
        return None, refused
    with phase("archive"):
        _archive(engine, copies, drops)
    return _apply(engine, phase, drops, parsed, now), refused


def resume(engine: Engine, drops: Sequence[Drop], now: int) -> BatchOutcome:
    """Steps 2 to 7, for drops that an earlier run archived and did not commit."""
    phase = Phases()
    drops = with_duplicates(engine.ledger, drops, reread.asked_for(engine.output))
    with phase("parse"):
        parsed = engine.reader.read(to_read(drops), engine.stopped)
    return _apply(engine, phase, drops, parsed, now)


def catch_up(engine: Engine, results: Sequence[DropResult], since: int | None, now: int) -> BatchOutcome:
    """Steps 2 to 7, for applied drops that were read under a later `since`: what they hold from there back to this one."""
    phase = Phases()
    read_before = {result.drop.seq: result for result in results}
    drops = [
        replace(drop, context=replace(drop.context, since=since, until=drop.context.since))
        for drop in (result.drop for result in results)
    ]
    with phase("parse"):
        parsed = read_all(engine.reader, drops)
    return _apply(engine, phase, drops, _what_is_new(parsed, read_before), now, read_before)


def _what_is_new(parsed: Parsed, read_before: Mapping[int, DropResult]) -> Parsed:
    """Without what was counted and kept when these drops were read first."""
    tallies = {
        seq: replace(
            tally,
            extracted=0,
            before_since=tally.before_since - read_before[seq].counts.before_since,
            discarded=Counter(),
        )
        for seq, tally in parsed.tallies.items()
    }
    return Parsed(parsed.orders, DISCARDS.empty_table(), tallies, parsed.unreadable)


def _apply(
    engine: Engine,
    phase: Phases,
    drops: Sequence[Drop],
    parsed: Parsed,
    now: int,
    read_before: Mapping[int, DropResult] | None = None,
) -> BatchOutcome:
    """Steps 3 to 7."""
    engine.guard.check()  # before files are staged
    batch = engine.ledger.next_batch
    with phase("merge"):
        rebuilt = dimensions.mend(engine.ledger, engine.reader, engine.store, parsed.rows)
        decided, run = affected(
            engine.ledger, parsed, lambda entries: engine.background.submit(engine.ledger.write_ahead, entries)
        )
        changes = dimensions.stage(engine.ledger, engine.store, batch, parsed.rows)
        known = dimensions.known_keys(engine.ledger, engine.store, changes)
        rewritten = merge_and_stage(engine, batch, decided, known)
        if any(one.damaged for one in rewritten):
            run.result()  # nothing else may change the ledger while it is written ahead
        rewritten, damaged = _mended(engine, batch, decided, known, rewritten)
    with phase("stage"):
        discards = stage_discards(engine, batch, drops, parsed.discards)
        engine.store.sync_staged(batch)
    with phase("commit"):
        before = _before(engine.ledger, batch, drops, rewritten)
        change = commit_of(now, before, drops, parsed, decided, rewritten, changes, discards, run.result(), read_before)
        engine.guard.check()
        engine.ledger.commit(change)
    with phase("publish"):
        publish_committed(engine)
    return BatchOutcome(
        batch, change.results, written_of(rewritten, before.gone), [one.file for one in changes if one.staged], rebuilt + damaged,
        change.totals, change.hwm, now, phase.seconds,
    )  # fmt: skip


def publish_committed(engine: Engine, *, recovering: bool = False) -> None:
    """Step 7, and the first thing at start-up: what is committed becomes visible, receipts included."""
    batch = engine.ledger.unpublished_batch()
    if batch is None:
        return
    publish(engine.output, engine.ledger.effects(), recovering=recovering, check=engine.guard.check)
    engine.guard.check()
    results = engine.ledger.results(batch)
    receipts.write(engine.output, results)
    engine.ledger.published(batch)
    engine.guard.check()  # what is staged there now may be another process's
    reread.done(engine.output, [one.drop.sha256 for one in results if one.outcome is not DropOutcome.DUPLICATE])
    engine.store.clean_staging()


# ----------------------------------------------------------------------------------------------------------- 1 archive


def _copy(engine: Engine, arrivals: Sequence[Arrival], context: ParseContext, copies: list[Copy]) -> list[Refused]:
    """Adds the copies to `copies`, so that the caller can give them back whatever happens."""
    refused = []
    first = engine.ledger.last_seq + 1
    for arrival in arrivals:
        if engine.stopped():
            raise Stopped("stopped while drops were being copied")
        if why := too_large(arrival.size_bytes, engine.reader.limits):  # a copy of it could fill the disk
            refused.append(Refused(arrival.name, f"{why}. Raise that, or take the file away"))
            continue
        seq = first + len(copies)
        grown = engine.reader.copying(seq, arrival.name, engine.raw.temporary(seq), context)
        try:
            copies.append(engine.taking.copy(arrival, seq, context.received_at, grown))
            copies[-1] = engine.taking.hide(copies[-1])
        except NotTaken as error:
            engine.reader.forget(seq)
            if copies and copies[-1].stored.seq == seq:
                engine.taking.give_back([copies.pop()])
            if error.errno != errno.ENOENT:  # its writer took it back: that is no refusal
                refused.append(Refused(arrival.name, error.strerror or "unknown"))
    return refused


def _drop(stored: raw.Stored, context: ParseContext) -> Drop:
    return Drop(stored.seq, stored.name, stored.path, stored.sha256, stored.size_bytes, context)


def with_duplicates(
    ledger: Ledger, drops: Sequence[Drop], again: Callable[[bytes], bool] = lambda sha256: False
) -> list[Drop]:
    """The drops of one batch, each with the applied drop that it repeats, if any. `again`: whether bytes of this hash are to be
    read anew."""
    marked: list[Drop] = []
    spoken_of: set[str | None] = set()  # dimensions that an earlier drop of this batch changes
    for drop in drops:
        kind = raw.kind_of(drop.name)
        is_new = kind in spoken_of or again(drop.sha256)
        known = drop.duplicate_of or (None if is_new else applied_before(ledger, drop))
        if known is None and kind in DIMENSIONS:
            spoken_of.add(kind)
        marked.append(replace(drop, duplicate_of=known))
    return marked


def applied_before(ledger: Ledger, drop: Drop) -> int | None:
    """The applied drop that this one repeats: the same bytes, under a name that is read in the same way, read under the same
    settings. Of a dimension only the newest drop can be repeated: what came after it changed things."""
    kind = raw.kind_of(drop.name)
    newest = ledger.dimensions().get(kind) if kind in DIMENSIONS else None
    for result in ledger.applied(drop.sha256):
        other = result.drop
        if kind in DIMENSIONS and (newest is None or other.seq != newest.last_drop):
            continue
        had_future = result.counts.discarded[Reason.FUTURE_CREATED_AT] > 0
        if raw.read_as(other.name) == raw.read_as(drop.name) and drop.context.reads_alike(other.context, had_future):
            return other.seq
    return None


def _archive(engine: Engine, copies: Sequence[Copy], drops: Sequence[Drop]) -> None:
    """Durable copies get their names, the ledger knows them, and only then do the inbox files go, or, where the output was
    replaced meanwhile, get their names back."""
    with engine.guard.undoing(lambda: engine.taking.give_back(copies)):
        engine.taking.sync_names(copies)
        engine.guard.check()
        engine.raw.place([copy.stored for copy, drop in zip(copies, drops, strict=True) if drop.raw is not None])
        engine.ledger.enter(drops)
        engine.guard.check([drop.raw for drop in drops if drop.raw is not None])
    engine.taking.let_go(copies)


# ----------------------------------------------------------------------------------------------------------- 3 affected


def affected(ledger: Ledger, parsed: Parsed, write: Callable[[np.ndarray], _T]) -> tuple[Decided, _T]:
    """Which records win, and what they change; and what `write` gave for the entries that the index is to have (sorted by key),
    which it may write meanwhile."""
    versions = parsed.versions
    winners, rows = latest(versions)
    decision = decide(winners, ledger.index.look_up(winners))
    wins = decision.outcome != Outcome.SUPERSEDED
    written = write(winners if wins.all() else take_entries(winners, np.flatnonzero(wins)))
    created_at = versions["created_at"].to_numpy()
    accepted = counted(versions["drop"])
    late = counted(versions["drop"].filter(pa.array(created_at < (ledger.hwm or 0))))
    newest = int(created_at.max()) if len(created_at) else None
    unchanged = tallied(winners["drop"][decision.outcome == Outcome.UNCHANGED])
    chosen, rows = _by_time(wins & (decision.outcome != Outcome.UNCHANGED), rows, created_at)
    date, drop, outcome, old_date = (
        of_winner[chosen] for of_winner in (winners["date"], winners["drop"], decision.outcome, decision.old_date)
    )
    return Decided(parsed.orders, accepted, late, newest, unchanged, rows, date, drop, outcome, old_date), written


def _by_time(chosen: Bools, rows: Ints, created_at: Ints) -> tuple[np.ndarray, Ints]:
    """Some of the winners (which are these `rows`), sorted by time: which they are, and their rows. Rows that follow each other
    are sorted mostly, which a stable sort is quick to see."""
    if not chosen.any():
        return rows[:0], rows[:0]
    winner_of = np.full(len(created_at), -1, np.int32)
    winner_of[rows[chosen]] = np.flatnonzero(chosen)
    by_time: Ints = np.argsort(created_at, kind="stable")
    winners = winner_of[by_time]
    taken = winners >= 0
    return winners[taken], by_time[taken]


# -------------------------------------------------------------------------------------------------- 4 merge and 5 stage


def merge_and_stage(engine: Engine, batch: int, decided: Decided, known: tasks.Known) -> list[tasks.Rewritten]:
    """Every affected date merged and staged, by date. Changes nothing that is published, mends nothing."""
    changes = changes_of(engine.ledger, decided)
    return engine.rewriter.rewrite(engine.store, batch, decided, changes, known, engine.progress, engine.stopped)


def _mended(
    engine: Engine, batch: int, decided: Decided, known: tasks.Known, rewritten: Sequence[tasks.Rewritten]
) -> tuple[list[tasks.Rewritten], list[str]]:
    """The same, and which dates had been damaged: their published files are made anew from raw, and merged then."""
    damaged = {one.day for one in rewritten if one.damaged}
    if not damaged:
        return list(rewritten), []
    partitions_from_raw(engine.ledger, engine.reader, engine.store, sorted(damaged))
    changes = [change for change in changes_of(engine.ledger, decided) if change.day in damaged]
    again = {one.day: one for one in engine.rewriter.rewrite(engine.store, batch, decided, changes, known)}
    return [again.get(one.day, one) for one in rewritten], [iso_date(day) for day in sorted(damaged)]


def stage_discards(engine: Engine, batch: int, drops: Sequence[Drop], discards: pa.Table) -> list[Effect]:
    """One file for each drop that has discards: every discarded record, whole."""
    targets = {drop.seq: receipts.discards_path(drop) for drop in drops}
    effects: dict[int, Effect] = {}
    for seq, found in groupby(slices(discards), itemgetter(0)):
        assert seq not in effects, "the discards of a drop lie together"
        source = f".staging/{batch}/discarded/{seq:08d}.jsonl"
        path = engine.output / source
        path.parent.mkdir(parents=True, exist_ok=True)
        effects[seq] = Effect("place", targets[seq], source, files.write_parts_unsynced(path, _lines(engine, found)))
    return [effects[seq] for seq in sorted(effects)]


def _lines(engine: Engine, found: Iterator[tuple[int, pa.RecordBatch]]) -> Iterator[memoryview]:
    """A slice at a time: junk may be much, and somebody may ask for an end meanwhile."""
    for _, rows in found:
        if engine.stopped():
            raise Stopped("stopped while discards were being written")
        yield lines(rows)
        spill.release_pages()


def _before(ledger: Ledger, batch: int, drops: Sequence[Drop], rewritten: Sequence[tasks.Rewritten]) -> Before:
    days = [one.day for one in rewritten]
    later = ledger.applied_drops(after=max(drop.seq for drop in drops))  # some only where raw copies were adopted late
    overtaken = any(raw.read_as(drop.name) == raw.ORDERS for drop in later)
    return Before(
        batch, ledger.hwm, ledger.restatements_bytes, ledger.partitions(days), ledger.gone(days), overtaken
    )  # fmt: skip


def written_of(rewritten: Sequence[tasks.Rewritten], gone: Container[int] = ()) -> list[Written]:
    """The dates that change. `gone`: those that had been published before and lost their last order."""
    return [
        Written(
            iso_date(one.day), one.before.orders, one.after.orders, one.after.lines, one.after.items,
            is_restated(one, gone),
        )
        for one in rewritten
    ]  # fmt: skip
