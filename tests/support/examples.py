"""How many examples a property is given: two thirds of what it says, and ten times as many in `make test-long`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

LONG = bool(os.environ.get("TEST_LONG"))


def examples(count: int) -> settings:
    """Without deadlines and health checks: a timing never decides."""
    many = count * 10 if LONG else max(4, count * 2 // 3)
    return settings(deadline=None, max_examples=many, suppress_health_check=list(HealthCheck))
