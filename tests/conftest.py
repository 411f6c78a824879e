"""Hypothesis draws anew at each run on a developer's machine; in CI the same examples each time, so that a change is judged
by what it changes. What a developer's run finds becomes an example test."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True, database=None)
if os.environ.get("CI") or os.environ.get("REQUIRE_TEST_TOOLS"):
    settings.load_profile("ci")
