"""One partition merged, held against a dict of orders."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.errors import Corruption
from daemon.core.merge.facts import files_of, lines_of
from daemon.core.merge.partition import Totals, merge, sort_order, totals, totals_of_spans
from daemon.core.model import FACT, ORDERS
from daemon.storage.store import table_of
from tests.support.examples import examples
from tests.support.tables import ORDER

SLOW = examples(150)

IDS = st.sampled_from([f"o_{n}" for n in range(12)])
CONTENTS = ORDER.map(lambda order: {name: value for name, value in order.items() if name != "order_id"})
DAYS = st.dictionaries(IDS, CONTENTS, max_size=10)


def table_of_orders(orders: dict[str, dict[str, Any]]) -> pa.Table:
    """The FACT table of some orders, as a batch makes it."""
    rows = [
        order | {"order_id": name, "key": bytes(16), "content": bytes(16), "drop": 1, "position": 1}
        for name, order in orders.items()
    ]
    table = pa.table([pa.array([row[f.name] for row in rows], f.type) for f in ORDERS], schema=ORDERS).combine_chunks()
    return lines_of(table, sort_order(table, np.arange(len(rows)))).table()


def ids_of(fact: pa.Table) -> list[str]:
    """The order of each first line."""
    return [row["order_id"] for row in fact.select(["order_id", "line_number"]).to_pylist() if row["line_number"] <= 1]


@SLOW
@given(DAYS, DAYS, st.sets(IDS))
def test_the_next_state_is_what_a_dict_gives(
    published: dict[str, Any], incoming: dict[str, Any], leaving: set[str]
) -> None:
    """New versions replace old ones, leavers are gone, the rest stays; counts and sums before and after are those of the rows."""
    leaving = leaving & published.keys() - incoming.keys()
    before, new = table_of_orders(published), table_of_orders(incoming)
    replaces = np.array([name in published for name in ids_of(new)], np.bool_)
    stored = table_of(files_of(before)[0], FACT)
    merged = merge(stored, new, replaces, pa.array(sorted(leaving), pa.large_string()))

    expected = {name: order for name, order in (published | incoming).items() if name not in leaving}
    for sums, orders in ((merged.before, published), (merged.after, expected)):
        assert sums.orders == len(orders)
        assert sums.items == sum(len(order["items"]) for order in orders.values())
        assert sums.lines == sum(max(len(order["items"]), 1) for order in orders.values())
        assert sums.amount == sum(order["amount"] or 0 for order in orders.values())
    assert merged.fact.equals(table_of_orders(expected))
    assert files_of(merged.fact) == files_of(table_of_orders(expected))


@SLOW
@given(DAYS, st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=4))
def test_spans_of_rows_are_counted_alone(orders: dict[str, Any], spans: list[tuple[int, int]]) -> None:
    """Also empty ones, and those that overlap."""
    fact = table_of_orders(orders)
    rows = fact.num_rows
    starts, stops = (np.array([min(pick(one), rows) for one in spans], np.int64) for pick in (min, max))
    assert totals_of_spans(fact, starts, stops) == [
        totals(fact.slice(start, stop - start)) for start, stop in zip(starts.tolist(), stops.tolist(), strict=True)
    ]
    lines = fact.to_pylist()
    assert totals(fact) == Totals(
        len(orders),
        len(lines),
        sum(line["line_number"] > 0 for line in lines),
        sum(int((line["amount"] or 0) * 10_000) for line in lines),
    )


def test_an_index_that_names_a_partition_without_the_order_is_corrupt() -> None:
    """It is said which order, where, and what to do."""
    one = {"o_1": {"user_id": None, "amount": 1, "currency": None, "created_at": 0, "updated_at": None, "metadata": None,
                   "items": []}}  # fmt: skip
    with pytest.raises(Corruption, match="'o_2' on 1970-01-01, but the partition does not"):
        merge(
            table_of_orders(one),
            table_of_orders({"o_2": one["o_1"]}),
            np.array([True]),
            pa.array([], pa.large_string()),
        )
