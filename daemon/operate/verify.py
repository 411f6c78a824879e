"""Compares everything under the output folder with the ledger, and the ledger with raw.

    ledger        its file and the indexes in it are whole, as SQLite finds
    conservation  every extracted record has exactly one outcome, and the totals are the sums over all drops
    raw           every copy has the bytes that arrived, the ledger knows each, and the link points to the newest orders drop
    quarantine    every copy that still exists has the bytes that arrived
    discards      every file of discards has the records that a replay discards, and belongs to a known drop
    receipts      every drop has its receipt, the receipt says what the ledger says, and there are no others
    restatements  the log has the length that was committed
    curated       every published file is the one that was committed, and there are no others
    index         every order is in exactly one partition, the one that the index names
    rebuild       all drops, applied again in a scratch folder, give the same rows, high-water mark and index; and the same bytes,
                  if this program's Parquet writer wrote the published file

Changes nothing and needs no lock. It works on a copy of the ledger from the start of the run. A difference from the copy is
checked again with the current ledger, since a daemon may be running. Memory does not grow with the history. If raw copies are
damaged, there is no replay: the rebuild check is skipped, the index is compared with the published rows only, and of discards
only the numbers are checked; so it is where published files are damaged that cannot be made anew, since raw copies have gone by
age. What has gone is not missed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from ..batch.engine import Engine
from ..core.entries import Effect
from ..core.errors import REBUILD_ANEW, Corruption
from ..storage import database, files
from ..storage.ledger import Ledger
from ..storage.store import Store
from .difference import Difference
from .rebuild import replay
from .verify_files import (
    REBUILD,
    Fresh,
    check_counts,
    check_curated,
    check_discards,
    check_quarantine,
    check_raw,
    check_records,
    check_withdrawn,
)
from .verify_index import check_index, check_rebuild, named_by

_PUBLISHING_SECONDS = 10.0


def copy_ledger(ledger: Ledger, target: Path) -> None:
    """Copies the ledger at a moment when no batch is being published. If one stays unpublished for 10 s, no daemon is at work on
    it: then the copy is made anyway, and what is not published is reported as missing."""
    end = time.monotonic() + _PUBLISHING_SECONDS
    while True:
        target.unlink(missing_ok=True)
        ledger.copy_to(target)
        with closing(Ledger(target)) as copy:
            if copy.unpublished_batch() is None or time.monotonic() > end:
                return
        time.sleep(0.02)


def verify(engine: Engine, fresh: Fresh, scratch: Path, now: int) -> Iterator[Difference]:
    """Every difference, as it is found. `engine.ledger` is a copy of the ledger; `fresh` opens the ledger in its current
    state."""
    for found in engine.ledger.broken():
        yield Difference("ledger", "state/ledger.sqlite", f"{database.shown(found)}. {REBUILD_ANEW}")
    yield from check_counts(engine.ledger)
    damaged = list(check_raw(engine))
    yield from damaged
    yield from check_withdrawn(engine)
    yield from check_quarantine(engine)
    uncounted = list(check_discards(engine))
    yield from uncounted
    yield from check_records(engine, fresh)
    yield from check_curated(engine, fresh)
    if damaged:
        yield Difference("rebuild", "all", "not checked, because raw copies are damaged or missing")
        yield from _readable(check_index(engine))
        return
    altered: list[str] = []

    def compare_discards(discards: Sequence[Effect]) -> None:
        altered.extend(one.target for one in discards if files.sha256_of(engine.output / one.target) != one.sha256)

    named: Counter[int] = Counter()  # by date

    def count_named(versions: pa.Table) -> None:
        named.update(named_by(engine.ledger.index, versions))

    try:
        path = replay(engine, scratch, now, compare_discards, count_named)
    except Corruption as error:
        yield Difference("rebuild", "all", str(error))
        yield from _readable(check_index(engine))
        return
    for target in sorted(set(altered) - {one.what for one in uncounted}):
        yield Difference("discards", target, f"not the records that were discarded; {REBUILD}")
    with closing(Ledger(path)) as ledger:
        yield from check_rebuild(engine, ledger, Store(scratch))
        yield from _readable(check_index(engine, ledger, named))


def _readable(found: Iterator[Difference]) -> Iterator[Difference]:
    """The differences; a damaged block of the index is one, and ends the comparison."""
    try:
        yield from found
    except Corruption as error:
        yield Difference("index", "all", str(error))
