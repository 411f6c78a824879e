"""Amounts allocated to lines."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.merge.facts import allocate
from tests import model
from tests.support.examples import examples

LIMIT = 10**18 - 1
SIZES = st.sampled_from([10, 10**4, 10**7, 10**9, 10**13, LIMIT])


@st.composite
def orders(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """An amount, and (qty, price) of one or more lines, in units of 1/10,000; of every size up to the largest."""
    amount = draw(SIZES.flatmap(lambda size: st.integers(-size, size)))
    value = SIZES.flatmap(lambda size: st.integers(0, size))
    return amount, draw(st.lists(st.tuples(value, value), min_size=1, max_size=6))


@examples(500)
@given(st.lists(orders(), min_size=1, max_size=5))
def test_lines_get_what_exact_fractions_give(many: list[tuple[int, list[tuple[int, int]]]]) -> None:
    """Each line's share is the model's, computed with fractions, and the lines of an order add up to its amount."""
    stops = np.cumsum([len(lines) for _, lines in many])
    amount = np.array([amount for amount, _ in many], np.int64)
    qty = np.array([q for _, lines in many for q, _ in lines], np.int64)
    price = np.array([p for _, lines in many for _, p in lines], np.int64)
    shares = allocate(amount, qty, price, stops).tolist()
    for (total, lines), stop in zip(many, stops.tolist(), strict=True):
        mine = shares[stop - len(lines) : stop]
        items = [model.Item(None, Decimal(q).scaleb(-4), Decimal(p).scaleb(-4)) for q, p in lines]
        expected = model.allocate(Decimal(total).scaleb(-4), items)
        assert mine == [int(value.scaleb(4)) for value in expected if value is not None]
        assert sum(mine) == total
