"""How often to try again, and how long to wait in between. Pure arithmetic: it never sleeps."""

from __future__ import annotations

from dataclasses import dataclass

_MOST_DOUBLINGS = 1023  # a float holds no larger power of two; every delay reaches its limit long before


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays that double from `initial_delay_seconds` up to `max_delay_seconds`."""

    attempts: int
    initial_delay_seconds: float
    max_delay_seconds: float

    def delay_seconds(self, attempt: int) -> float:
        """The delay after the given attempt, counted from 1."""
        factor = 2.0 ** min(attempt - 1, _MOST_DOUBLINGS)
        return float(min(self.initial_delay_seconds * factor, self.max_delay_seconds))

    @property
    def total_seconds(self) -> float:
        """All delays together."""
        growing = min(self.attempts, _MOST_DOUBLINGS)
        rest = (self.attempts - growing) * self.delay_seconds(self.attempts)
        return sum(self.delay_seconds(attempt) for attempt in range(1, growing + 1)) + rest
