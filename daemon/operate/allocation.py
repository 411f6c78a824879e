"""Why the lines of an order have these amounts: the steps of the allocation, as values for `trace` and the page. Pure.

docs/EXACTNESS.md has the rule. The amounts come from the function that makes the published rows; the steps beside them show how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import accumulate
from typing import Any

import numpy as np

from ..core.merge.facts import allocate
from ..core.model import SCALE, amount_text

BY_WEIGHT, EQUALLY, ONE_ITEM, ONE_LINE, NO_AMOUNT = "by_weight", "equally", "one_item", "one_line", "no_amount"
RULES = {
    BY_WEIGHT: "the amount is divided over the lines by weight: quantity × price, without its sign",
    EQUALLY: "no line has both a quantity and a price other than 0, so the lines share the amount equally",
    ONE_ITEM: "the order has one item, so its line has the whole amount",
    ONE_LINE: "the order has no items, so its one line (0) has the amount",
    NO_AMOUNT: "the order has no amount that could be read, so its lines have none",
}
_PRODUCT_DIGITS = 8  # of quantity × price
_SHOWN_DIGITS = 8  # of a share that has no end


@dataclass(frozen=True, slots=True)
class Line:
    """One order line. Numbers are decimal texts, exact but for `share_so_far`, which ends in "…" where its digits go on."""

    line_number: int  # from 1; 0: an order without items
    sku: str | None
    qty: str | None
    price: str | None
    weight: str  # |qty × price|; 0 where either is unknown
    share_so_far: str | None  # of the amount: that of this line and those before it, before it is rounded
    rounded: str | None  # the same, to four decimals
    amount: str | None  # `rounded` less that of the line before


@dataclass(frozen=True, slots=True)
class Allocation:
    """The amount of an order on its lines. `rule`: a key of RULES. `items_total`: the sum of qty × price, with their signs."""

    amount: str | None
    rule: str
    total_weight: str
    items_total: str
    lines: tuple[Line, ...]

    @property
    def why(self) -> str:
        """The rule as a sentence."""
        return RULES[self.rule]


def of_order(content: Mapping[str, Any]) -> Allocation | None:
    """The allocation of one version. `content`: as trace.Version has it; empty (a deletion, or a raw copy that has gone) gives
    None."""
    if not content:
        return None
    items = content["items"] or [{"sku": None, "qty": None, "price": None}]
    qty, price = ([_units(one[name]) for one in items] for name in ("qty", "price"))
    weights = [abs(q * p) for q, p in zip(qty, price, strict=True)]
    amount = None if content["amount"] is None else _units(content["amount"])
    steps = [(None, None, None)] * len(items) if amount is None else _steps(amount, qty, price, weights)
    lines = (
        Line(number, item["sku"], item["qty"], item["price"], _decimal(weight, _PRODUCT_DIGITS), *step)
        for number, (item, weight, step) in enumerate(
            zip(items, weights, steps, strict=True), 1 if content["items"] else 0
        )
    )
    total, items_total = sum(weights), sum(q * p for q, p in zip(qty, price, strict=True))
    return Allocation(
        content["amount"],
        _rule(amount, len(content["items"]), any(weights)),
        _decimal(total, _PRODUCT_DIGITS),
        _decimal(items_total, _PRODUCT_DIGITS),
        tuple(lines),
    )


def as_dict(found: Allocation | None) -> dict[str, Any] | None:
    """The allocation as JSON."""
    return None if found is None else asdict(found) | {"why": found.why}


def _rule(amount: int | None, items: int, has_weights: bool) -> str:
    if amount is None:
        return NO_AMOUNT
    if items <= 1:
        return ONE_ITEM if items else ONE_LINE
    return BY_WEIGHT if has_weights else EQUALLY


def _steps(amount: int, qty: list[int], price: list[int], weights: list[int]) -> list[tuple[str, str, str]]:
    """Of each line: the exact share of the first lines together, the same rounded, and the amount of the line."""
    sizes = [np.abs(np.array(one, np.int64)) for one in (qty, price)]
    amounts = allocate(np.array([amount], np.int64), sizes[0], sizes[1], np.array([len(qty)], np.int64)).tolist()
    used = weights if any(weights) else [1] * len(weights)
    total = sum(used) * SCALE
    shares = (Fraction(amount * one, total) for one in accumulate(used))
    return [
        (_share(share), amount_text(sum_), amount_text(one))
        for share, sum_, one in zip(shares, accumulate(amounts), amounts, strict=True)
    ]


def _share(value: Fraction) -> str:
    """The value; where its digits go on, the first of them and "…"."""
    units = abs(value) * 10**_SHOWN_DIGITS
    text = _decimal(int(units) * (-1 if value < 0 else 1), _SHOWN_DIGITS)
    return text if units.denominator == 1 else f"{text}…"


def _units(text: str | None) -> int:
    """Units of 1/10,000; what is unknown is 0, as in the allocation."""
    return 0 if text is None else int(Decimal(text) * SCALE)


def _decimal(units: int, digits: int) -> str:
    """Units of 10^-digits as text, with at least four decimals and no further zeros. Exact, whatever the size."""
    whole, rest = divmod(abs(units), 10**digits)
    decimals = f"{rest:0{digits}d}".rstrip("0").ljust(4, "0")
    return f"{'-' if units < 0 else ''}{whole}.{decimals}"
