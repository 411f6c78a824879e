"""How long is waited before each new attempt."""

from __future__ import annotations

import pytest

from daemon.core.retry import Backoff


def test_delays_double_up_to_the_longest() -> None:
    backoff = Backoff(attempts=6, initial_delay_seconds=0.5, max_delay_seconds=5.0)
    assert [backoff.delay_seconds(attempt) for attempt in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.total_seconds == 17.5


def test_an_attempt_that_no_float_counts_to_has_the_longest_delay() -> None:
    assert Backoff(10**6, 0.001, 60.0).delay_seconds(10**6) == 60.0


@pytest.mark.parametrize("attempts", [0, 1, 1022, 1023, 1024, 5000])
def test_all_delays_together_are_their_sum(attempts: int) -> None:
    backoff = Backoff(attempts, 0.25, 8.0)
    assert backoff.total_seconds == sum(backoff.delay_seconds(attempt) for attempt in range(1, attempts + 1))
