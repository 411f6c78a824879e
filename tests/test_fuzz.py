"""The committed inputs of the fuzzer (tests/data/fuzz), each read in two ways that must agree."""

from __future__ import annotations

import pytest

from daemon.core.mapping import DIRECT
from daemon.core.native import bindings
from tests.fuzz import corpus
from tests.fuzz.harnesses import HARNESSES, MAPPED

MOST_BYTES = 1 << 20  # of all inputs together, packed


@pytest.mark.parametrize("harness", HARNESSES)
def test_the_committed_inputs_are_read_alike(harness: str) -> None:
    """Every one of them, also as a whole drop."""
    found = corpus.inputs(harness)
    assert len(found) > 20
    for data in found.values():
        HARNESSES[harness](data)


def test_the_fast_path_takes_its_part_of_the_inputs() -> None:
    """Under the usual format and under the mapping: else nothing would be compared."""
    taken = {DIRECT: 0, MAPPED: 0}
    for data in corpus.inputs("records").values():
        mapping = MAPPED if data[:1] == b"m" else DIRECT
        starts, stops = bindings.lines(data[1:])
        taken[mapping] += int((~bindings.scanned(data[1:], starts, stops, mapping).refused).sum())
    assert min(taken.values()) > 20, taken


def test_the_inputs_are_small() -> None:
    """They are in the repository for good."""
    assert sum(path.stat().st_size for path in corpus.FOLDER.iterdir()) < MOST_BYTES
