"""What a batch changes, date by date."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.batch.decide import decided
from daemon.core.model import ParseContext
from daemon.core.parse.parse import Piece, parse
from tests.strategies import RECEIVED_AT_US
from tests.support.command import as_drop, order
from tests.support.harness import DAY, apply_batch, open_engine


@pytest.mark.parametrize(
    ("orders", "changes", "unchanged", "late"),
    [([order(1)], 0, 1, 0), ([order(1, amount=5)], 1, 0, 0), ([order(1), order(2, 1)], 1, 1, 1), ([], 0, 0, 0)],
)
def test_there_is_one_entry_per_change(
    tmp_path: Path, orders: list[dict], changes: int, unchanged: int, late: int
) -> None:
    """In each array, also where nothing changes. An order at the high-water mark is not late."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", as_drop([order(1)]))], RECEIVED_AT_US)
        found, _ = decided(
            engine.ledger, parse([Piece(2, as_drop(orders), ParseContext(RECEIVED_AT_US, DAY))]), engine.background
        )
    assert {len(one) for one in (found.rows, found.new_date, found.drop, found.outcome, found.known, found.moved)} == {
        changes
    }
    assert (list(found.unchanged), list(found.late)) == ([(2, unchanged)] * bool(unchanged), [(2, late)] * bool(late))


def test_the_first_order_of_all_is_not_late(tmp_path: Path) -> None:
    """Not even at the beginning of 1970: there is no high-water mark yet."""
    first = order(1) | {"created_at": "1970-01-01T00:00:00Z"}
    with open_engine(tmp_path) as engine:
        found, _ = decided(
            engine.ledger, parse([Piece(1, as_drop([first]), ParseContext(RECEIVED_AT_US, DAY))]), engine.background
        )
    assert (list(found.late), dict(found.newest)) == ([], {1: 0})
