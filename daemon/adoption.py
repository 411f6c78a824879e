"""Raw copies that the ledger does not know become drops of it, under the numbers that they bear.

After a crash they are the newest: it came between their renaming and the ledger's row. Where history was taken from elsewhere
(receipts, an older ledger), they may be anywhere. What bears an older number is adopted by a rebuild only: just after one the
index names the latest version of each order, so that a record which came between two others wins over the first alone.
"""

from __future__ import annotations

import logging
from datetime import date
from pathlib import Path

from . import files
from .core.entries import Drop
from .core.model import MICROSECONDS_PER_DAY, Judge, on_the_calendar
from .ledger import Ledger
from .raw import RawLayer, Stored

log = logging.getLogger("strandline")


def adopt(
    ledger: Ledger, raw: RawLayer, output: Path, tolerance: int, records_path: str, *, everywhere: bool = False
) -> None:
    """Enters them as archived and not committed. What is no drop of ours stays where it is, and its number is not given."""
    drops: dict[int, Drop] = {}
    damaged = 0
    newest = ledger.last_drop
    for copy in unknown(ledger, raw, everywhere=everywhere):
        if copy.seq <= newest and not everywhere:
            told = "raw copy is older than what was applied, and only `strandline rebuild` takes it in"
            log.error(told, extra={"path": copy.path})
            continue
        path = output / copy.path
        sha256 = files.sha256_of(path)
        if sha256 is None or not sha256.startswith(copy.sha256) or copy.seq in drops:
            log.error("raw copy is damaged and was not adopted", extra={"path": copy.path})
            damaged = max(damaged, copy.seq)
            continue
        judge = Judge(_received_at(path), tolerance, records_path)
        drops[copy.seq] = Drop(copy.seq, copy.name, copy.path, sha256, copy.size_bytes, judge)
        log.warning("adopted a raw copy that the ledger did not know", extra={"drop": copy.seq, "path": copy.path})
    if drops:
        ledger.enter(list(drops.values()))
    if damaged > ledger.last_seq:
        ledger.skip_to(damaged)


def _received_at(path: Path) -> int:
    """When a copy was made: its own time, held to the day that its folder names, since a restored backup may have another."""
    changed_at = path.stat().st_mtime_ns // 1000
    try:
        day = date.fromisoformat(path.parent.name.removeprefix("received=")) - date(1970, 1, 1)
    except ValueError:
        return on_the_calendar(changed_at)
    begin = day.days * MICROSECONDS_PER_DAY
    return min(max(changed_at, begin), begin + MICROSECONDS_PER_DAY - 1)


def unknown(ledger: Ledger, raw: RawLayer, *, everywhere: bool) -> list[Stored]:
    """The raw copies of numbers that the ledger does not know, by number. Without `everywhere` only at the newest end, give or
    take a clock that was set back: start-up does not get slower as history grows."""
    found: list[Stored] = []
    for index, copies in raw.stored():
        new = [copy for copy in copies if not ledger.knows(copy.seq)]
        found += new
        if index >= 1 and copies and not new and not everywhere:
            break
    return sorted(found, key=lambda copy: copy.seq)
