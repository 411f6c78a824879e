"""Start-up: what an earlier run left half done is finished, in the order of DESIGN section 6.

committed but not visible  -> carried out        staging                   -> emptied
raw copies without a row   -> adopted            hidden files in the inbox -> removed if known, else given back
archived, not committed    -> left to the caller, who applies them as the next batch
"""

from __future__ import annotations

import logging
from pathlib import Path

from . import files
from .core.entries import Drop
from .core.errors import EnvironmentFault
from .core.model import Judge, on_the_calendar
from .pipeline import House, publish_committed
from .raw import Stored, put_back

log = logging.getLogger("strandline")


def is_lost(house: House) -> bool:
    """Whether the ledger is new, and the output is not."""
    patterns = ("receipts/received=*/*.json", "curated/date=*", "quarantine/*")
    return house.ledger.last_seq == 0 and any(any(house.output.glob(pattern)) for pattern in patterns)


def refuse_lost_ledger(house: House) -> None:
    """EnvironmentFault where the ledger is lost: what is published would be taken for nothing, and written over."""
    if is_lost(house):
        raise EnvironmentFault(
            "find the ledger of", house.output, f"{house.ledger.path} is new, but there are receipts or partitions",
            "Put the ledger back, or make it anew from the raw layer with `strandline rebuild`; nothing was changed.",
        )  # fmt: skip


def recover(house: House, inbox: Path, tolerance: int, records_path: str) -> list[Drop]:
    """Finishes what can be finished; returns the drops that are archived and not committed."""
    publish_committed(house, recovering=True)
    house.store.clean_staging()
    _adopt(house, tolerance, records_path)
    for hidden, seq, name in house.raw.left_hidden(inbox):
        drop = house.ledger.drop(seq)
        if drop is not None and files.sha256_of(hidden) == drop.sha256:
            files.unlink(hidden)
        else:
            put_back(hidden, name)
    return house.ledger.uncommitted()


def _adopt(house: House, tolerance: int, records_path: str) -> None:
    """Enters raw copies that the ledger does not know: a crash came between their renaming and the ledger's row."""
    unknown: list[Stored] = []
    damaged = 0
    for index, copies in house.raw.stored():
        new = [copy for copy in copies if not house.ledger.knows(copy.seq)]
        unknown += new
        if index >= 1 and not new:
            break  # copies are unknown only at the newest end, give or take a clock that was set back
    drops = []
    for copy in sorted(unknown, key=lambda copy: copy.seq):
        path = house.output / copy.path
        sha256 = files.sha256_of(path)
        if sha256 is None or not sha256.startswith(copy.sha256):
            log.error("raw copy is damaged and was not adopted", extra={"path": copy.path})
            damaged = max(damaged, copy.seq)
            continue
        judge = Judge(on_the_calendar(path.stat().st_mtime_ns // 1000), tolerance, records_path)
        drops.append(Drop(copy.seq, copy.name, copy.path, sha256, copy.size_bytes, judge))
        log.warning("adopted a raw copy that the ledger did not know", extra={"drop": copy.seq, "path": copy.path})
    if drops:
        house.ledger.enter(drops)
    if damaged > house.ledger.last_seq:
        house.ledger.skip_to(damaged)
