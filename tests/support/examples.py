"""How many examples a property is given: what it says, and ten times as many in `make test-long`."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

LONG = bool(os.environ.get("TEST_LONG"))


def examples(count: int) -> settings:
    """Without deadlines and health checks: a timing never decides."""
    return settings(deadline=None, max_examples=count * 10 if LONG else count, suppress_health_check=list(HealthCheck))
