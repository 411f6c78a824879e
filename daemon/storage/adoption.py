"""Enters raw copies that the ledger does not know as drops. A copy is identified by its path and its bytes, not by its number
alone: after a restore from an older backup, numbers may have been given twice.

After a crash, unknown copies are the newest: the crash came between their renaming and their row in the ledger. Where the history
came from elsewhere (receipts, an older ledger), they may be anywhere. Only a rebuild adopts a copy with an older number, since it
parses all drops in order; and a copy whose number another drop has, which gets the next free number and a name with that.

No copy is removed. A copy is not adopted where the ledger would then take it as a duplicate of bytes that no other file has.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import date
from pathlib import Path

from ..core.entries import Drop
from ..core.model import MICROSECONDS_PER_DAY, Contexts, on_the_calendar
from . import files
from .ages import RAW
from .ledger import Ledger
from .raw import RawLayer, Stored, file_name, quarantine_path

log = logging.getLogger("strandline")


def adopt(ledger: Ledger, raw: RawLayer, output: Path, contexts: Contexts, *, everywhere: bool = False) -> None:
    """Enters unknown copies as archived and not committed, each under the context of the source that its folder names. A file
    that is not adopted stays where it is, and keeps its number."""
    drops: dict[int, Drop] = {}
    colliding: list[tuple[Stored, bytes]] = []
    refused, highest, newest = 0, ledger.last_seq, ledger.last_drop
    gone = ledger.horizon(RAW)  # a drop with a number up to this one is never read again
    for copy in unknown(ledger, raw, everywhere=everywhere):
        highest = max(highest, copy.seq)
        if copy.seq <= newest and not everywhere:
            log.error(_ONLY_BY_REBUILD, extra={"path": copy.path})
            continue
        sha256 = files.sha256_of(output / copy.path)
        if sha256 is None or not sha256.startswith(copy.sha256):
            log.error("raw copy is damaged and was not adopted", extra={"path": copy.path})
            refused = max(refused, copy.seq)
        elif copy.source not in contexts:
            log.error(_NO_SUCH_SOURCE, extra={"path": copy.path, "source": copy.source})
            refused = max(refused, copy.seq)
        elif owner := drop_without_copy(ledger, output, sha256):
            message = "raw copy has the bytes of a drop whose own copy is missing or damaged; move it there"
            log.error(message, extra={"path": copy.path, "there": owner.raw})
            refused = max(refused, copy.seq)
        elif copy.seq in drops or copy.seq <= gone or ledger.raw_of(copy.seq) is not None:
            colliding.append((copy, sha256))
        else:
            drops[copy.seq] = _drop(output, copy, sha256, contexts)
            log.warning("adopted a raw copy that the ledger did not know", extra={"drop": copy.seq, "path": copy.path})
    for copy, sha256 in colliding:
        kept = {drop.sha256: drop.raw for drop in drops.values()}.get(sha256)
        if kept := kept or kept_as(ledger, output, sha256, besides=copy.path):
            message = "raw copy has the number of another drop, and its bytes are kept elsewhere; left alone"
            log.warning(message, extra={"path": copy.path, "kept_as": kept})
            continue
        highest += 1
        renamed = _renumbered(output, copy, sha256, highest)
        drops[highest] = _drop(output, renamed, sha256, contexts)
        message = "adopted a raw copy under a free number, since another drop has its own"
        log.warning(message, extra={"drop": highest, "path": renamed.path, "before": copy.path})
    if drops:
        ledger.enter([drops[seq] for seq in sorted(drops)])
    if refused > ledger.last_seq:
        ledger.skip_to(refused)


_ONLY_BY_REBUILD = "raw copy has an older number, or that of another drop; only `strandline rebuild` adopts it"
_NO_SUCH_SOURCE = (
    "raw copy is of a source that is not configured, and was not adopted; add its [sources] section and run "
    "`strandline rebuild`"
)


def _drop(output: Path, copy: Stored, sha256: bytes, contexts: Contexts) -> Drop:
    context = replace(contexts[copy.source], received_at=_received_at(output / copy.path))
    return Drop(copy.seq, copy.name, copy.path, sha256, copy.size_bytes, context)


def _renumbered(output: Path, copy: Stored, sha256: bytes, seq: int) -> Stored:
    """Renames a copy to one with another number, durably. A crash after that leaves an unknown copy with the newest number, which
    the next start adopts."""
    path = f"{copy.path.rpartition('/')[0]}/{file_name(seq, sha256, copy.name)}"
    files.move(output / copy.path, output / path)
    files.sync((output / path).parent)
    return replace(copy, seq=seq, path=path)


def kept_as(ledger: Ledger, output: Path, sha256: bytes, besides: str) -> str | None:
    """The path of another complete file with these bytes, of a drop that the ledger knows; None where there is none."""
    for drop in ledger.of_content(sha256):
        for path in (drop.raw or "", quarantine_path(drop)):
            if path and path != besides and _holds(output / path, sha256):
                return path
    return None


def drop_without_copy(ledger: Ledger, output: Path, sha256: bytes) -> Drop | None:
    """A drop with these bytes whose raw copy is missing or damaged, and should be there: one that has gone by age should not."""
    gone = ledger.horizon(RAW)
    kept = (drop for drop in ledger.of_content(sha256) if drop.raw and drop.seq > gone)
    found = (drop for drop in kept if drop.raw and not _holds(output / drop.raw, sha256))
    return next(found, None)


def _holds(path: Path, sha256: bytes) -> bool:
    return not path.is_symlink() and files.sha256_of(path) == sha256


def _received_at(path: Path) -> int:
    """When a copy was made: its mtime, limited to the date of its folder, since a restored backup may have another mtime."""
    changed_at = path.stat().st_mtime_ns // 1000
    try:
        day = date.fromisoformat(path.parent.name.removeprefix("received=")) - date(1970, 1, 1)
    except ValueError:
        return on_the_calendar(changed_at)
    begin = day.days * MICROSECONDS_PER_DAY
    return min(max(changed_at, begin), begin + MICROSECONDS_PER_DAY - 1)


def unknown(ledger: Ledger, raw: RawLayer, *, everywhere: bool) -> list[Stored]:
    """The raw copies that the ledger does not know, or not under this path, by number. Without `everywhere`, only the newest
    folders of each source are read, so that start-up does not get slower as history grows; two, since a clock may be set back."""
    found: list[Stored] = []
    for source in raw.sources():
        for index, copies in raw.stored_of(source):
            known = {copy.path: ledger.raw_of(copy.seq) for copy in copies}
            found += [copy for copy in copies if known[copy.path] != copy.path]
            if index >= 1 and copies and None not in known.values() and not everywhere:
                break
    return sorted(found, key=lambda copy: (copy.seq, copy.path))
