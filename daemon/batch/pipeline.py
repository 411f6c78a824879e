"""One batch, from settled files in the inbox to published partitions. Read this module first.

    1 archive   a byte-for-byte copy in raw/ and an entry in the ledger; the inbox file is removed   (archive.py, taking.py)
    2 parse     records -> orders, discards, field faults                                            (reading.py)
    3 decide    which version of each order wins, what it changes, and which dates are affected      (decide.py)
    4 rewrite   the published rows of each affected date + the new versions, as staged files         (rewriting.py, dimensions.py)
    5 stage     all new files durable in the staging folder                                          (prepare.py)
    6 commit    one transaction: outcomes, index, high-water mark, and the list of effects           (commit.py)
    7 publish   carries out the effects, writes the receipts, clears the list                        (publish.py)

A published file that a batch needs and that is damaged is rebuilt from raw first. What raw cannot give is set aside (repair.py),
and so is a date whose folder cannot be read or written: batches leave a date as it is, and drops of a dimension stay archived,
until it is mended (mending.py). A drop whose raw copy is lost before it is applied waits, and the others do not (unsound.py).

Steps 3 to 5 are `prepare`: they change nothing that is published. A crash before step 6 leaves drops that are archived and not
committed; they are applied again, with the same result. A crash after step 6 leaves effects; they are carried out again, and
each step first checks what is already done. No other state is left incomplete.

Each step returns a value. Nothing here counts or logs: `BatchOutcome` has everything that happened, and how long it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from ..core.entries import Drop, DropResult
from ..core.model import Contexts, DropOutcome, Parsed
from ..sources.inbox import Arrival
from ..storage import files, receipts
from ..storage.ages import RECEIPTS
from ..storage.generation import changing
from ..storage.store import day_of
from . import archive, reread
from .catch_up import read_again
from .dimensions import applicable
from .duplicates import to_read, with_duplicates
from .engine import Engine
from .outcome import BatchOutcome, Refused
from .phases import Phases
from .prepare import Prepared, prepare
from .publish import publish
from .repair import Damaged, repair, set_faulty_aside
from .taking import Copy


def take(
    engine: Engine, arrivals: Sequence[Arrival], contexts: Contexts, now: int
) -> tuple[BatchOutcome | None, list[Refused]]:
    """Steps 1 to 7 for settled files. Also returns the files that could not be taken, with the cause; they stay in the inbox.

    Each file is parsed under the context of its source. The copies are parsed while they are written and synced. Nothing is
    decided before they are durable.
    """
    engine.guard.check()
    phase = Phases()
    copies: list[Copy] = []
    try:
        with phase("archive"):
            refused = archive.copy(engine, arrivals, contexts, copies)
            drops = archive.drops_of(engine, copies)
        now_applied = applicable(engine.ledger, drops)
        places = {drop.seq: engine.raw.temporary(drop.seq) for drop in drops}
        with engine.reader.begin(to_read(now_applied), places) as reading:
            with phase("archive"):
                files.sync_many(places.values())
            with phase("parse"):
                parsed = reading.result(engine.progress, engine.stopped)
    except BaseException:
        engine.taking.undo(copies)
        raise
    if not drops:
        return None, refused
    with phase("archive"):
        archive.archive(engine, copies, drops)
    return _apply(engine, phase, now_applied, parsed, now) if now_applied else None, refused


def resume(engine: Engine, drops: Sequence[Drop], now: int) -> BatchOutcome | None:
    """Steps 2 to 7, for drops that an earlier run archived and did not commit; None where they all wait for a dimension."""
    phase = Phases()
    drops = applicable(engine.ledger, drops)
    if not drops:
        return None
    drops = with_duplicates(engine.ledger, drops, reread.requested(engine.output))
    with phase("parse"):
        parsed = engine.reader.read(to_read(drops), engine.stopped)
    return _apply(engine, phase, drops, parsed, now)


def catch_up(engine: Engine, results: Sequence[DropResult], since: int | None, now: int) -> BatchOutcome:
    """Steps 2 to 7, for applied drops that were read under a later `since`: applies their orders between this one and that."""
    phase = Phases()
    with phase("parse"):
        drops, parsed = read_again(engine.reader, results, since)
    return _apply(engine, phase, drops, parsed, now, {result.drop.seq: result for result in results})


def _apply(
    engine: Engine,
    phase: Phases,
    drops: Sequence[Drop],
    parsed: Parsed,
    now: int,
    read_before: Mapping[int, DropResult] | None = None,
) -> BatchOutcome:
    """Steps 3 to 7."""

    def prepared() -> Prepared:
        left = applicable(engine.ledger, drops)  # a dimension may have been set aside since the drops were read
        return prepare(engine, left, parsed.only({drop.seq for drop in left}), now, phase, read_before)

    return carried_out(engine, phase, now, prepared)


def carried_out(engine: Engine, phase: Phases, now: int, prepare: Callable[[], Prepared]) -> BatchOutcome:
    """Steps 3 to 7 of a batch that `prepare` makes."""
    engine.guard.check()  # before files are staged
    prepared, repaired = _prepared(engine, phase, now, prepare)
    with phase("commit"):
        engine.guard.check()
        engine.ledger.commit(prepared.commit)
    with phase("publish"):
        publish_committed(engine)
    change = prepared.commit
    return BatchOutcome(
        prepared.batch, change.results, prepared.written, prepared.dimensions, repaired, change.totals, change.hwm,
        change.committed_at, phase.seconds, change.drift, prepared.waiting,
    )  # fmt: skip


def _prepared(engine: Engine, phase: Phases, now: int, prepare: Callable[[], Prepared]) -> tuple[Prepared, list[str]]:
    """The prepared batch, and the names of the damaged files that it repaired. Damaged published files are rebuilt from raw, or
    set aside if that cannot be, and then the batch is prepared again."""
    repaired: list[str] = []
    tried: set[str] = set()
    while True:
        try:
            return prepare(), repaired
        except Damaged as damaged:
            if tried.issuperset(damaged.names):  # something else writes to the output, or what is set aside is needed
                raise
            with phase("rewrite"):
                repaired += repair(engine.ledger, engine.reader, engine.store, damaged, now)
            tried.update(damaged.names)


def publish_committed(engine: Engine, *, recovering: bool = False) -> None:
    """Step 7, and the first step of recovery: publishes what is committed, and writes its receipts."""
    batch = engine.ledger.unpublished_batch()
    if batch is None:
        return
    _publish(engine, recovering=recovering)
    engine.guard.check()
    results = engine.ledger.results(batch)
    gone = engine.ledger.horizon(RECEIPTS)
    receipts.write(engine.output, [one for one in results if one.drop.seq > gone])
    engine.ledger.published(batch)
    engine.guard.check()  # if the output was replaced, the staged files there are another process's
    reread.clear(engine.output, [one.drop.sha256 for one in results if one.outcome is not DropOutcome.DUPLICATE])
    engine.store.clean_staging()


def _publish(engine: Engine, *, recovering: bool) -> None:
    """Carries out the effects. A date whose folder cannot be written is set aside, and the others are published."""
    effects, check = engine.ledger.effects(), engine.guard.check
    try:
        publish(engine.output, effects, recovering=recovering, check=check)
    except OSError:
        days = {day for one in effects if (day := day_of(one.target)) is not None}
        if not set_faulty_aside(engine.ledger, engine.store, sorted(days), time.time_ns() // 1000):
            raise
        with changing(engine.output):  # in which nothing may be left to change
            publish(engine.output, engine.ledger.effects(), recovering=True, check=check)
