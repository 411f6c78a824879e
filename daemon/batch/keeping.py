"""How long copies are kept: the sections [raw], [receipts], [discards], [restatements] and [quarantine] of the configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..core.errors import UsageError
from ..core.model import MICROSECONDS_PER_DAY
from ..storage import ages

FOREVER = "forever"


def _read(value: Any) -> str | None:
    return value if isinstance(value, str) and re.fullmatch(f"{FOREVER}|[1-9][0-9]{{0,4}}d", value) else None


@dataclass(frozen=True)
class Keep:
    """How long copies of one kind are kept; the section has the name of the kind."""

    keep: str = field(default=FOREVER, metadata={"read": _read, "allowed": '"forever", or whole days such as "400d"'})

    @property
    def microseconds(self) -> int | None:
        """None: forever."""
        return None if self.keep == FOREVER else int(self.keep.removesuffix("d")) * MICROSECONDS_PER_DAY


def limits(config: Any) -> dict[str, int]:
    """How long copies are kept, in microseconds, by kind; without those that are kept forever. `config`: has a Keep of each
    kind."""
    found: Mapping[str, int | None] = {kind: getattr(config, kind).microseconds for kind in ages.KINDS}
    return {kind: limit for kind, limit in found.items() if limit is not None}


def refuse_short_receipts(raw: Keep, receipts: Keep) -> None:
    """Raises UsageError where receipts would go before raw copies: a rebuild after the loss of the ledger reads the history from
    them, and a raw copy without one would be a new drop."""
    longest, kept = raw.microseconds, receipts.microseconds
    if kept is not None and (longest is None or kept < longest):
        raise UsageError(
            f'[receipts] keep = "{receipts.keep}" is not allowed with [raw] keep = "{raw.keep}"; it must be as long at least: a '
            "rebuild without the ledger takes from the receipt of each raw copy how to read it, and what became of it"
        )
