"""Restatements: dates that are gone and come back, in the log and in the counts, and what a rebuild makes of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from daemon.batch.engine import Engine
from daemon.batch.pipeline import publish_committed
from daemon.core.model import ParseContext
from daemon.operate.rebuild import prepare_rebuild, take_over
from tests.strategies import RECEIVED_AT_US
from tests.support.command import as_drop, order
from tests.support.harness import apply_batch, open_engine


def come_and_go(engine: Engine, root: Path, names: str) -> list[list[str]]:
    """An order of 2 March that moves to the third, and another of 2 March: the dates that each drop restated."""
    moves = {"a": order(1), "b": order(1, 3, updated_at="2026-03-05T00:00:00Z"), "c": order(2)}
    return [
        apply_batch(engine, root, [(f"{name}.json", as_drop([moves[name]]))], RECEIVED_AT_US).restated for name in names
    ]


def restatements(root: Path) -> list[tuple[str, int, int]]:
    lines = map(json.loads, (root / "output" / "restatements.jsonl").read_text().splitlines())
    return [(line["date"], line["orders_before"], line["orders_after"]) for line in lines]


GONE, BACK = ("2026-03-02", 1, 0), ("2026-03-02", 0, 1)


DATES = {day: int(np.datetime64(f"2026-03-0{day}", "D").astype(int)) for day in (2, 3)}


@pytest.mark.parametrize("lost", [False, True], ids=["ledger", "receipts"])
@pytest.mark.parametrize("before", ["abc", "ab"], ids=["back", "gone"])
def test_a_rebuild_counts_restatements_as_history_did(tmp_path: Path, before: str, lost: bool) -> None:
    """Whether history comes from the ledger, or from receipts and the log; also of a date that is gone, and comes back then."""
    with open_engine(tmp_path) as engine:
        come_and_go(engine, tmp_path, before)
        counts = engine.ledger.restatements()
    if lost:
        shutil.rmtree(tmp_path / "output" / "state")
    with open_engine(tmp_path) as engine:
        take_over(engine, prepare_rebuild(engine, RECEIVED_AT_US, ParseContext(0, 0)))
    with open_engine(tmp_path) as engine:
        publish_committed(engine, recovering=True)
        assert engine.ledger.restatements() == counts
        come_and_go(engine, tmp_path, "c" if before == "ab" else "")
        assert engine.ledger.restatements() == {DATES[2]: 2, DATES[3]: 0}
    assert restatements(tmp_path) == [GONE, BACK]


def test_a_date_that_comes_back_is_restated(tmp_path: Path) -> None:
    """It had been published before: the log, the outcome and the count say so, the count going on from what it was."""
    with open_engine(tmp_path) as engine:
        assert come_and_go(engine, tmp_path, "abc") == [[], ["2026-03-02"], ["2026-03-02"]]
        assert restatements(tmp_path) == [GONE, BACK]
        assert engine.ledger.restatements() == {DATES[2]: 2, DATES[3]: 0}
