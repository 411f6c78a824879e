"""Hypothesis draws anew at each run on a developer's machine; in CI the same examples each time, so that a change is judged
by what it changes. What a developer's run finds becomes an example test. A timing never decides: no deadlines."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("local", deadline=None)
settings.register_profile("ci", derandomize=True, database=None, deadline=None)
if os.environ.get("CI") or os.environ.get("REQUIRE_TEST_TOOLS"):
    settings.load_profile("ci")
else:
    settings.load_profile("local")
