"""Recovery at start-up: finishes what an earlier run did not, in this order.

1. Effects that are committed and not published: carried out.
2. The staging folder: emptied.
3. Raw copies with a higher number than any in the ledger: adopted.
4. Hidden files in the folder of each source: removed if they are still what the ledger has as their drop, otherwise given their
   names back.
5. Drops that are archived and not committed: returned; the caller applies them as the next batch.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.entries import Drop
from ..core.errors import EnvironmentFault
from ..core.model import Contexts
from ..sources.source_folder import SourceFolder, refuse_nested
from ..storage.adoption import adopt
from . import unpacking
from .engine import Engine
from .pipeline import publish_committed


def is_lost(engine: Engine) -> bool:
    """Whether the ledger is new, and the output is not."""
    patterns = ("receipts/received=*/*.json", "curated/date=*", "quarantine/*")
    return engine.ledger.last_seq == 0 and any(any(engine.output.glob(pattern)) for pattern in patterns)


def refuse_lost_ledger(engine: Engine) -> None:
    """Raises EnvironmentFault if the ledger is lost. With a new ledger, published partitions would count as absent and be
    overwritten."""
    if is_lost(engine):
        raise EnvironmentFault(
            "find the ledger of", engine.output, f"{engine.ledger.path} is new, but there are receipts or partitions",
            "Restore the ledger, or rebuild it from the raw layer with `strandline rebuild`; nothing was changed.",
        )  # fmt: skip


def recover(engine: Engine, places: Sequence[SourceFolder], contexts: Contexts) -> list[Drop]:
    """Finishes what an earlier run left; returns the drops that are archived and not committed."""
    publish_committed(engine, recovering=True)
    engine.store.clean_staging()
    adopt(engine.ledger, engine.raw, engine.output, contexts)
    for place in places:
        folder = place.open()
        refuse_nested(folder, engine.output)
        engine.taking.recover(folder, unpacking.recover(engine, folder, contexts[place.source]))
    return engine.ledger.uncommitted()
