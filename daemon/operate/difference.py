"""What `verify` finds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it must be."""

    check: str
    what: str  # a path under the output folder, a date, or a drop
    found: str

    def __str__(self) -> str:
        return f"{self.check}: {self.what}: {self.found}"
