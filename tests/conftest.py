"""Hypothesis draws new examples at each local run. In CI it draws the same examples each time, so that a failure comes from the
change. A failure found locally becomes an example test. There are no deadlines: timing decides no test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.examples import LONG

pytest.register_assert_rewrite("tests.support", "tests.faults")  # what tests share asserts, too

# Temporary folders lie in memory where there is room: waiting for a disk was half of what tests of commits took. That what is
# written is synced, and in which order, tests/faults shows, which loses what was not.
MEMORY = Path("/dev/shm")
if "TMPDIR" not in os.environ and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:
    tempfile.tempdir = str(MEMORY)

# A property that fails is made smaller, which takes minutes, and must be reported then.
PROPERTY_SECONDS = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Properties get more time, and none is traced: what they reach, examples reach too, and tracing would double their time."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.timeout(0 if LONG else PROPERTY_SECONDS))
            item.add_marker(pytest.mark.no_cover)
    items.sort(key=lambda item: "test_container" not in item.nodeid)  # its image takes minutes: not at the end, alone


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A command that runs in this process sets the umask of this process."""
    before = os.umask(0o022)
    os.umask(before)
    yield
    os.umask(before)


settings.register_profile("local", deadline=None)
settings.register_profile("ci", derandomize=True, database=None, deadline=None)
if os.environ.get("CI") or os.environ.get("REQUIRE_TEST_TOOLS"):
    settings.load_profile("ci")
else:
    settings.load_profile("local")
