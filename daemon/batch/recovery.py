"""Start-up: what an earlier run left half done is finished, in this order.

committed but not visible  -> carried out        staging                   -> emptied
raw copies newer than any  -> adopted            hidden files in the inbox -> removed if known, else given back
archived, not committed    -> left to the caller, who applies them as the next batch
"""

from __future__ import annotations

from pathlib import Path

from ..core.entries import Drop
from ..core.errors import EnvironmentFault
from ..sources.inbox_folder import InboxFolder, refuse_nested
from ..storage.adoption import adopt
from .pipeline import House, publish_committed


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
    adopt(house.ledger, house.raw, house.output, tolerance, records_path)
    folder = InboxFolder(inbox)
    refuse_nested(folder, house.output)
    house.taking.finish(folder)
    return house.ledger.uncommitted()
