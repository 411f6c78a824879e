"""How often and how long to wait before something is given up. Pure arithmetic; the sleeping is done elsewhere."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `initial_delay_seconds` up to `max_delay_seconds`."""

    attempts: int
    initial_delay_seconds: float
    max_delay_seconds: float

    def delay_seconds(self, attempt: int) -> float:
        """The delay after the given attempt, counted from 1."""
        return float(min(self.initial_delay_seconds * 2 ** (attempt - 1), self.max_delay_seconds))

    @property
    def total_seconds(self) -> float:
        """All delays together."""
        return sum(self.delay_seconds(attempt) for attempt in range(1, self.attempts + 1))
