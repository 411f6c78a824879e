"""Words that several commands share."""

from __future__ import annotations

from ..core.model import DIMENSIONS


def counted(number: int, what: str) -> str:
    """A number of things."""
    return f"{number:,} {named(number, what)}"


def named(number: int, what: str) -> str:
    """The name of one thing, or of several."""
    return what if number == 1 else f"{what}s"


def of_unknown(dimension: str, orders: int) -> str:
    """How many orders name a user or a product that no file had, when they came."""
    name = "names" if orders == 1 else "name"
    return f"{counted(orders, 'order')} {name} a {dimension} that no file of {DIMENSIONS[dimension].drops} has"
