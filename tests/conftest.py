"""Hypothesis draws new examples at each local run. In CI it draws the same examples each time, so that a failure comes from the
change. A failure found locally becomes an example test. There are no deadlines: timing decides no test."""

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
