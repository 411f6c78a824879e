"""Hypothesis draws anew at each run on a developer's machine; in CI the same examples each time, so that a change is judged
by what it changes. What a developer's run finds becomes an example test. A timing never decides: no deadlines."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("tests.support", "tests.faults")  # what tests share asserts, too

settings.register_profile("local", deadline=None)
settings.register_profile("ci", derandomize=True, database=None, deadline=None)
if os.environ.get("CI") or os.environ.get("REQUIRE_TEST_TOOLS"):
    settings.load_profile("ci")
else:
    settings.load_profile("local")
