"""Effects that are carried out: files that are appended to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.command import order
from tests.support.harness import apply_batch, open_engine

NOW = 1_780_000_000_000_000


@pytest.mark.parametrize("damage", ["shortened", "lengthened", "gone"])
def test_the_log_of_restatements_is_continued_whatever_was_done_to_it(tmp_path: Path, damage: str) -> None:
    """The ledger knows how long it was: what follows is written there, whole; what was cut off is not made up."""
    log = tmp_path / "output" / "restatements.jsonl"
    with open_engine(tmp_path) as engine:
        for number in range(3):
            apply_batch(engine, tmp_path, [(f"{number}.json", json.dumps([order(number)]).encode())], NOW)
        before = log.read_bytes()
        if damage == "shortened":
            log.write_bytes(before[:-10])
        elif damage == "lengthened":
            log.write_bytes(before + b"what a torn write left")
        else:
            log.unlink()
        apply_batch(engine, tmp_path, [("9.json", json.dumps([order(9)]).encode())], NOW)
    assert log.read_bytes().endswith(
        b'"orders_before": 3, "orders_after": 4, "amount_before": "3.0000", "amount_after": "12.0000"}\n'
    )
    if damage == "lengthened":
        assert [json.loads(line)["orders_after"] for line in log.read_bytes().splitlines()] == [2, 3, 4]
