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

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from ..batch.engine import Engine
from ..core.entries import Effect
from ..core.errors import Corruption
from ..storage import files
from ..storage.ledger import Ledger
from ..storage.store import Store
from .difference import Difference
from .rebuild import replayed
from .verify_files import (
    REBUILD,
    Fresh,
    check_counts,
    check_curated,
    check_discards,
    check_quarantine,
    check_raw,
    check_records,
)
from .verify_index import check_index, check_rebuild, named_by

_PUBLISHING_SECONDS = 10.0


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


def verify(engine: Engine, fresh: Fresh, scratch: Path, now: int) -> Iterator[Difference]:
    """Every difference, as it is found. `engine.ledger` is a copy of the ledger; `fresh` opens the ledger as it is by then."""
    yield from check_counts(engine.ledger)
    damaged = list(check_raw(engine))
    yield from damaged
    yield from check_quarantine(engine)
    uncounted = list(check_discards(engine))
    yield from uncounted
    yield from check_records(engine, fresh)
    yield from check_curated(engine, fresh)
    if damaged:
        yield Difference("rebuild", "all", "not tried, since raw copies are damaged or missing")
        yield from check_index(engine)
        return
    altered: list[str] = []

    def look_at(discards: Sequence[Effect]) -> None:
        altered.extend(one.target for one in discards if files.sha256_of(engine.output / one.target) != one.sha256)

    named: Counter[int] = Counter()  # by date

    def look_up(versions: pa.Table) -> None:
        named.update(named_by(engine.ledger.index, versions))

    try:
        path = replayed(engine, scratch, now, look_at, look_up)
    except Corruption as error:
        yield Difference("rebuild", "all", str(error))
        yield from check_index(engine)
        return
    for target in sorted(set(altered) - {one.what for one in uncounted}):
        yield Difference("discards", target, f"not what was discarded; {REBUILD}")
    with closing(Ledger(path)) as ledger:
        yield from check_rebuild(engine, ledger, Store(scratch))
        yield from check_index(engine, ledger, named)
