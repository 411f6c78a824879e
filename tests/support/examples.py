"""How many examples a property is given: two thirds of what it says, ten times as many in `make test-long`, and the share of that
in $TEST_EXAMPLES."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

LONG = bool(os.environ.get("TEST_LONG"))
SHARE = float(os.environ.get("TEST_EXAMPLES", "1"))


def examples(count: int) -> settings:
    """Without deadlines and health checks: a timing never decides."""
    many = max(4, int((count * 10 if LONG else count * 2 // 3) * SHARE))
    return settings(deadline=None, max_examples=many, suppress_health_check=list(HealthCheck))
