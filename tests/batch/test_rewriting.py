"""How the dates of a batch are divided into tasks."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from daemon.batch.rewriting import grouped
from daemon.execution.tasks import PartitionChange

NONE = pa.array([], pa.string())


def changes(dates: int, orders: int, sha256: bytes | None) -> list[PartitionChange]:
    """So many dates, with so many new versions each."""
    return [
        PartitionChange(day, day * orders, (day + 1) * orders, np.zeros(orders, np.bool_), NONE, sha256)
        for day in range(dates)
    ]


@pytest.mark.parametrize(
    ("dates", "orders", "sha256", "sizes"),
    [
        (200, 50, b"published", [16] * 12 + [8]),  # few orders, and much to merge them with: shared by all threads
        (200, 50, None, [200]),  # new dates cost what their orders cost
        (5, 20_000, None, [1] * 5),
        (6, 15_000, b"published", [2, 2, 2]),
        (3, 100_000, b"published", [1, 1, 1]),
    ],
)
def test_a_task_has_neither_too_many_orders_nor_too_many_published_dates(
    dates: int, orders: int, sha256: bytes | None, sizes: list[int]
) -> None:
    """Each date is in one group, in order."""
    given = changes(dates, orders, sha256)
    found = grouped(given)
    assert [len(group) for group in found] == sizes
    assert [one for group in found for one in group] == given
