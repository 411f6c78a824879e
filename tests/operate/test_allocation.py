"""Why lines have the amounts that they have: the steps are those of docs/EXACTNESS.md, the amounts those published."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_UP, Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.operate import trace
from daemon.operate.allocation import RULES, as_dict, of_order
from tests.support.harness import apply_batch, open_engine, rows

TEN = [("p_1", "2.0000", "4.0000"), ("p_2", "1.0000", "3.0000"), ("p_3", "1.0000", "1.0000")]


def content(amount: str | None, items: list[tuple[str | None, str | None, str | None]]) -> dict[str, Any]:
    return {"amount": amount, "items": [dict(zip(("sku", "qty", "price"), one, strict=True)) for one in items]}


def test_the_example_of_the_documentation() -> None:
    """Each cell of the table in docs/EXACTNESS.md."""
    found = of_order(content("10.0000", TEN))
    assert found is not None and (found.rule, found.total_weight, found.items_total) == (
        "by_weight",
        "12.0000",
        "12.0000",
    )
    assert [
        (one.line_number, one.sku, one.weight, one.share_so_far, one.rounded, one.amount) for one in found.lines
    ] == [
        (1, "p_1", "8.0000", "6.66666666…", "6.6667", "6.6667"),
        (2, "p_2", "3.0000", "9.16666666…", "9.1667", "2.5000"),
        (3, "p_3", "1.0000", "10.0000", "10.0000", "0.8333"),
    ]


@pytest.mark.parametrize(
    ("amount", "items", "rule", "amounts"),
    [
        ("1.0000", [("a", "0.0000", "3.0000"), ("b", None, "3.0000"), ("c", "1.0000", None)], "equally", "0.3333 0.3334 0.3333"),
        ("-7.5000", [], "one_line", "-7.5000"),
        ("0.0000", [("a", "1.0000", "1.0000")], "one_item", "0.0000"),
        ("7.0000", [("a", None, "1.0000")], "one_item", "7.0000"),
        ("0.0000", [("a", "1.0000", "1.0000"), ("b", "1.0000", "1.0000")], "by_weight", "0.0000 0.0000"),
        ("-1.0000", [("a", "-1.0000", "1.0000"), ("b", "2.0000", "1.0000")], "by_weight", "-0.3333 -0.6667"),
        (None, [("a", "1.0000", "1.0000")], "no_amount", "None"),
        (None, [], "no_amount", "None"),
    ],
)  # fmt: skip
def test_each_rule_is_named(amount: str | None, items: list, rule: str, amounts: str) -> None:
    """Equal shares, no items, no amount, negative ones; the sentence says which it was."""
    found = of_order(content(amount, items))
    assert found is not None and found.rule == rule and found.why == RULES[rule]
    assert " ".join(str(one.amount) for one in found.lines) == amounts
    assert [one.line_number for one in found.lines] == ([*range(1, len(items) + 1)] if items else [0])


def test_a_version_without_content_has_no_allocation() -> None:
    """A deletion, and a version whose raw copy has gone."""
    assert of_order({}) is None and as_dict(None) is None


numbers = st.decimals("-99999999999999.9999", "99999999999999.9999", places=4).map(str)


@given(numbers, st.lists(st.tuples(st.none(), st.none() | numbers, st.none() | numbers), max_size=6))
def test_the_steps_lead_to_the_amounts(amount: str, items: list) -> None:
    """Of any size, by plain decimal arithmetic: each sum is the exact share, rounded, and each amount the difference of two."""
    found = of_order(content(amount, items))
    assert found is not None
    with localcontext(prec=200):
        weights = [abs(Decimal(qty or 0) * Decimal(price or 0)) for _, qty, price in items] or [Decimal(1)]
        used = weights if any(weights) else [Decimal(1)] * len(weights)
        before = Decimal(0)
        for number, line in enumerate(found.lines, 1):
            # Exact: compared as a product, since the quotient may have no end.
            numerator = Decimal(amount) * sum(used[:number])
            rounded = (numerator / sum(used)).quantize(Decimal("0.0001"), ROUND_HALF_UP)
            assert Decimal(str(line.rounded)) == rounded
            assert Decimal(str(line.amount)) == rounded - before
            assert str(line.share_so_far).rstrip("…") == f"{Decimal(str(line.share_so_far).rstrip('…')):f}"
            shown = Decimal(str(line.share_so_far).rstrip("…"))
            exact = str(line.share_so_far)[-1] != "…"
            assert (shown * sum(used) == numerator) == exact and abs(shown - numerator / sum(used)) < Decimal(
                "0.00000001"
            )
            before = rounded
        assert before == Decimal(amount) and Decimal(found.total_weight) == (sum(weights) if items else 0)


def test_what_is_explained_is_what_is_published(tmp_path: Path) -> None:
    """Of orders with discounts, halves and equal shares: the lines of the trace are the rows of the partition."""
    orders = [
        {"order_id": f"o_{number}", "created_at": "2026-03-02T10:00:00Z", "amount": amount,
         "items": [{"sku": sku, "qty": qty, "price": price} for sku, qty, price in items]}
        for number, (amount, items) in enumerate(
            [("10.00", TEN), ("0.0001", TEN), ("-3.3335", TEN), ("5", []), (None, TEN), ("1", [("a", 0, 0)] * 3)]
        )
    ]  # fmt: skip
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", json.dumps(orders).encode())], 1_780_000_000_000_000)
        for order in orders:
            found = trace.as_dict(trace.trace(engine, order["order_id"]))["versions"][-1]["allocation"]
            published = [
                (row["line_number"], row["sku"], None if row["amount"] is None else f"{row['amount']:.4f}")
                for row in rows(tmp_path / "output", "2026-03-02")
                if row["order_id"] == order["order_id"]
            ]
            assert [(one["line_number"], one["sku"], one["amount"]) for one in found["lines"]] == sorted(published)
