"""Step 1: moves settled files out of the inbox. Each becomes a byte-for-byte copy in raw/ with an entry in the ledger."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from ..core.entries import Drop
from ..core.errors import Stopped
from ..core.model import Contexts
from ..sources.inbox import Arrival
from ..storage.ledger import Ledger
from ..storage.raw import Stored, is_archive
from . import reread
from .duplicates import with_duplicates
from .engine import Engine
from .outcome import Refused
from .reading import too_large
from .taking import Copy, NotTaken
from .unpacking import unpacked
from .unsound import give_back


def copy(engine: Engine, arrivals: Sequence[Arrival], contexts: Contexts, copies: list[Copy]) -> list[Refused]:
    """Copies files under temporary names and hides the originals in the inbox. The copies are not durable yet. Appends to
    `copies`, so that the caller can undo them even after an exception. Returns the files that cannot be taken."""
    refused = []
    engine.reader.begin_copying()
    seq = engine.ledger.last_seq + 1
    for arrival in arrivals:
        if engine.stopped():
            raise Stopped("stopped while drops were being copied")
        if why := too_large(arrival.size_bytes, engine.reader.limits):  # a copy could fill the disk
            refused.append(Refused(arrival.label, f"{why}. Raise the limit, or remove the file"))
            continue
        context, path = contexts[arrival.source], engine.raw.temporary(seq)
        grown = engine.reader.copying(seq, arrival.name, path, context)
        try:
            copies.append(engine.taking.copy(arrival, seq, context, grown))
            copies[-1] = engine.taking.hide(copies[-1])
            stored = copies[-1].stored
            engine.reader.copied(stored, path, context, partial(_is_applied, engine.ledger, stored))
            if is_archive(arrival.name):
                copies[-1] = unpacked(engine, copies[-1])
            seq += len(copies[-1].drops)
        except NotTaken as error:
            if copies and copies[-1].stored.seq == seq:
                engine.taking.undo([copies.pop()])
            if error.errno != errno.ENOENT:  # the writer removed or renamed the file: not a refusal
                refused.append(Refused(arrival.label, error.strerror or "unknown"))
    return refused


def _is_applied(ledger: Ledger, copy: Stored) -> bool:
    return bool(ledger.applied(copy.sha256))


def drops_of(engine: Engine, copies: Sequence[Copy]) -> list[Drop]:
    """The drops of these copies, one for each file of a zip archive. A duplicate keeps no raw copy, because one exists."""
    found = [(one, copy.context) for copy in copies for one in copy.drops]
    drops = [Drop(one.seq, one.name, one.path, one.sha256, one.size_bytes, context) for one, context in found]
    marked = with_duplicates(engine.ledger, drops, reread.requested(engine.output))
    return [replace(drop, raw=None) if drop.duplicate_of else drop for drop in marked]


def archive(engine: Engine, copies: Sequence[Copy], drops: Sequence[Drop]) -> None:
    """Moves durable copies into raw/, enters them in the ledger, and only then removes the inbox files. If the output folder
    was replaced meanwhile, the inbox files get their names back instead. Waiting drops with the same bytes that lost their own
    copies get them back."""
    with engine.guard.undoing(lambda: engine.taking.undo(copies)):
        engine.taking.sync_names(copies)
        engine.guard.check()
        stored = [one for copy in copies for one in copy.drops]
        give_back(engine, stored)
        engine.raw.place([one for one, drop in zip(stored, drops, strict=True) if drop.raw is not None])
        engine.ledger.enter(drops)
        engine.guard.check([drop.raw for drop in drops if drop.raw is not None])
    engine.taking.remove(copies)
