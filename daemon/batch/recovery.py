"""Start-up: what an earlier run left half done is finished, in this order.

committed but not visible  -> carried out        staging                   -> emptied
raw copies newer than any  -> adopted            hidden files in the inbox -> removed if known, else given back
archived, not committed    -> left to the caller, who applies them as the next batch
"""

from __future__ import annotations

from pathlib import Path

from ..core.entries import Drop
from ..core.errors import EnvironmentFault
from ..core.model import ParseContext
from ..sources.inbox_folder import InboxFolder, refuse_nested
from ..storage.adoption import adopt
from .engine import Engine
from .pipeline import publish_committed


def is_lost(engine: Engine) -> bool:
    """Whether the ledger is new, and the output is not."""
    patterns = ("receipts/received=*/*.json", "curated/date=*", "quarantine/*")
    return engine.ledger.last_seq == 0 and any(any(engine.output.glob(pattern)) for pattern in patterns)


def refuse_lost_ledger(engine: Engine) -> None:
    """EnvironmentFault where the ledger is lost: what is published would be taken for nothing, and written over."""
    if is_lost(engine):
        raise EnvironmentFault(
            "find the ledger of", engine.output, f"{engine.ledger.path} is new, but there are receipts or partitions",
            "Put the ledger back, or make it anew from the raw layer with `strandline rebuild`; nothing was changed.",
        )  # fmt: skip


def recover(engine: Engine, inbox: Path, settings: ParseContext) -> list[Drop]:
    """Finishes what can be finished; returns the drops that are archived and not committed."""
    publish_committed(engine, recovering=True)
    engine.store.clean_staging()
    adopt(engine.ledger, engine.raw, engine.output, settings)
    folder = InboxFolder(inbox)
    refuse_nested(folder, engine.output)
    engine.taking.finish(folder)
    return engine.ledger.uncommitted()
