"""One downstream over an output whose orders are known, for the contract."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.downstream.kinds import KINDS, Kind, Order
from tests.support.following import LIMITS, Home, InlineWorker

ORDERS = [Order(1, 1, 10), Order(2, 2, 20, "u_2"), Order(3, 3, -30), Order(4, 5, 40), Order(5, 9, -50, "u_3")]
WORKER = InlineWorker(LIMITS)

every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label.replace(" ", "-"))


class World:
    """An output with the orders that are published in it, and one downstream."""

    def __init__(self, root: Path, kind: Kind, orders: dict[int, Order] | None = None) -> None:
        """`orders`: those that are published there already; None: ORDERS are published."""
        self.home, self.kind = Home(root), kind
        self.orders: dict[int, Order] = dict(orders or {})
        if orders is None:
            self.publish(*ORDERS)

    def publish(self, *orders: Order, more: Sequence[dict] = ()) -> None:
        """One batch: orders that become what they are, and other records."""
        self.orders |= {order.number: order for order in orders}
        self.home.publish(*(self.home.order(one.number, one.on, one.amount, one.user) for one in orders), *more)

    def round(self) -> None:
        """An undisturbed round."""
        found = self.home.round(WORKER)
        assert not any(one.error or one.stale for one in found.values()), found

    def is_right(self) -> bool:
        """Whether what it has is what plain Python expects."""
        found = {date: sorted(rows, key=repr) for date, rows in self.kind.rows(self.home).items()}
        return found == {
            date: sorted(rows, key=repr) for date, rows in self.kind.expected(self.orders.values()).items()
        }

    @property
    def marks(self) -> dict:
        return dict(self.kind.marks(self.home))
