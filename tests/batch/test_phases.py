"""Phases: which operation an error is counted for."""

from __future__ import annotations

import errno

import pytest

from daemon.batch.phases import OPERATIONS, PHASES, Phases, operation_of


def full() -> OSError:
    return OSError(errno.ENOSPC, "No space left on device", "/somewhere")


def test_an_error_is_counted_for_the_operation_in_which_it_arose() -> None:
    """The innermost phase; what arose in none counts as archiving."""
    for name in PHASES:
        phase = Phases()
        with pytest.raises(OSError) as raised, phase("commit" if name == "stage" else name), phase(name):
            raise full()
        assert operation_of(raised.value) == name
        assert operation_of(raised.value) in OPERATIONS
    assert operation_of(full()) == "archive"
