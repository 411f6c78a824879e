"""Recovery at start-up: finishes what an earlier run did not, in this order.

1. A ledger that has lost drops: refused. One that is older than what has gone by age: it learns that, or is refused. Then effects
   that are committed and not published: carried out.
2. The staging folder: emptied.
3. Raw copies with a higher number than any in the ledger: adopted.
4. Hidden files in the folder of each source: removed if they are still what the ledger has as their drop, otherwise given their
   names back.
5. Drops that are archived and not committed: returned; the caller applies them as the next batch.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..core.entries import Drop
from ..core.errors import EnvironmentFault
from ..core.model import Contexts
from ..sources.source_folder import SourceFolder, refuse_nested
from ..storage import ages
from ..storage.adoption import adopt
from . import unpacking
from .engine import Engine
from .pipeline import publish_committed

log = logging.getLogger("strandline")


def is_lost(engine: Engine) -> bool:
    """Whether the ledger is new, and the output is not."""
    patterns = ("receipts/received=*/*.json", "curated/date=*", "quarantine/*")
    return engine.ledger.last_seq == 0 and any(any(engine.output.glob(pattern)) for pattern in patterns)


def refuse_lost_ledger(engine: Engine) -> None:
    """Raises EnvironmentFault if the ledger is lost. With a new ledger, published partitions would count as absent and be
    overwritten."""
    if is_lost(engine):
        ages.refuse_without_ledger(engine.output, engine.ledger.path)
        raise EnvironmentFault(
            "find the ledger of", engine.output, f"{engine.ledger.path} is new, but there are receipts or partitions",
            "Restore the ledger, or rebuild it from the raw layer with `strandline rebuild`; nothing was changed.",
        )  # fmt: skip


def recover(engine: Engine, places: Sequence[SourceFolder], contexts: Contexts) -> list[Drop]:
    """Finishes what an earlier run left; returns the drops that are archived and not committed."""
    engine.ledger.refuse_lost_drops()
    _accept_marker(engine)
    publish_committed(engine, recovering=True)
    engine.store.clean_staging()
    adopt(engine.ledger, engine.raw, engine.output, contexts)
    for place in places:
        folder = place.open()
        refuse_nested(folder, engine.output)
        engine.taking.recover(folder, unpacking.recover(engine, folder, contexts[place.source]))
    return engine.ledger.uncommitted()


def _accept_marker(engine: Engine) -> None:
    """A ledger from a backup may not know of raw copies that have gone since. Where it has their drops as applied, all that it
    lacks is to say so. Raises EnvironmentFault where it does not: it would publish less than was published."""
    ledger, marked = engine.ledger, ages.marked(engine.output)
    if marked.through <= ledger.horizon(ages.RAW):
        return
    if marked.through > ledger.last_drop or any(drop.seq <= marked.through for drop in ledger.uncommitted()):
        raise EnvironmentFault(
            "go on with", ledger.path,
            f"it is older than what has gone: raw copies have gone by age up to drop {marked.through}, and it does not have all "
            "of these drops as applied",
            "Restore a newer state/ledger.sqlite, or a whole backup into an empty output; nothing was changed.",
        )  # fmt: skip
    ledger.go_by_age(ages.RAW, marked.through, marked.at)
    log.warning("the ledger is older than raw/aged.json; it says by now which raw copies have gone",
                extra={"through": marked.through})  # fmt: skip
