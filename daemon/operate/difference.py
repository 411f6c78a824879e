"""What `verify` finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference between the output folder, the ledger and raw."""

    check: str
    what: str  # a path under the output folder, a date, or a drop
    found: str

    def __str__(self) -> str:
        return f"{self.check}: {self.what}: {self.found}"
