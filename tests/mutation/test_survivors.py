"""The list of mutants that no test notices stays honest."""

from __future__ import annotations

import tomllib

import pytest

from tests.mutation.run import SURVIVORS
from tests.mutation.tested import MORE, REPO, modules, suite_of

LISTED = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivor"]


@pytest.mark.parametrize("one", LISTED, ids=lambda one: f"{one['module']}: {one.get('after', one['before'])}")
def test_a_survivor_is_of_a_line_that_is_there(one: dict[str, str]) -> None:
    """A line that was changed since is tried again; and each has a reason why nothing can notice it."""
    source = (REPO / "daemon" / one["module"]).read_text(encoding="utf-8")
    assert one["before"] in [line.strip() for line in source.splitlines()]
    assert one["before"] != one.get("after") and len(one["reason"]) > 20
    assert one.keys() | {"after"} == {"module", "before", "after", "reason"} and one["module"] in modules()


def test_no_survivor_is_listed_twice() -> None:
    keys = [(one["module"], one["before"], one.get("after")) for one in LISTED]
    assert len(keys) == len(set(keys))


def test_each_module_has_tests_that_are_there() -> None:
    assert MORE.keys() <= set(modules())
    for module in modules():
        tests = suite_of(module)
        assert tests and len(tests) == len(set(tests)), module
        for test in tests:
            file, _, name = test.partition("::")
            text = (REPO / file).read_text(encoding="utf-8")
            assert not name or f"def {name}(" in text, test
