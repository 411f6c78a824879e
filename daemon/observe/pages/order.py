"""The page of an order: its versions, where each came from, and why its lines have these amounts. The index says at once what is
published; the rest is what `strandline trace` says, cut to a size that a page can have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...core.errors import Unavailable, cause_of
from ...core.model import MAX_ID_BYTES
from ...operate.mistyped import question
from ...operate.trace import published
from .ledger import Look
from .lookup_pages import LookUp, NotFound
from .query import Query, Refused
from .tracing import Tracing

SHOWN_VERSIONS = 20
SHOWN_ITEMS = 100
_SHOWN_DISCARDS = 20
_SHOWN_NAMES = 20
_SHOWN_CHARACTERS = 2_000
_THREAD = "orders"


class OrderPage:
    """`look`: opens the ledger."""

    def __init__(self, look: Look, tracing: Tracing) -> None:
        self._look, self._tracing = look, tracing

    @property
    def look_ups(self) -> list[LookUp]:
        return [LookUp("/order", "order", ("id",), self._of, thread=_THREAD)]

    def _of(self, query: Query) -> dict[str, Any]:
        order_id = query.text("id")
        if not order_id:
            raise Refused("the parameter id is missing: the id of an order, as order_id has it")
        if len(order_id.encode()) > MAX_ID_BYTES:
            raise NotFound(f"no order has an id of more than {MAX_ID_BYTES} bytes")
        with self._look() as ledger:
            location = published(ledger, order_id)
        try:
            found = self._tracing.of(order_id)
        except (OSError, Unavailable) as error:
            return _from_index(order_id, location, cause_of(error))
        if not (location or found["versions"] or found["discards"] or found["read_from_drop"]):
            alike = question(found["alike"])
            drop = "no drop that can be read" if found["not_read"] else "no drop"
            raise NotFound(f"{drop} has an order {order_id}{alike and f'. {alike}'}")
        return cut(found) | {"why_incomplete": None}


def _from_index(order_id: str, location: tuple[str, int, int] | None, why: str) -> dict[str, Any]:
    """The same keys, where the drops could not be read: only what the index names is known."""
    date, drop, position = location or ("", 0, 0)
    record = {"drop": drop, "position": position}
    return {
        "order_id": order_id,
        "published": {"date": date, **record} if date else None,
        "deleted_by": record if location and not date else None,
        "agrees_with_raw": None,
        "raw_copies_gone_through_drop": 0,
        "read_from_drop": 0,
        "not_read": [],
        "not_read_left_out": 0,
        "alike": [],
        "versions": [],
        "versions_left_out": 0,
        "discards": [],
        "discards_left_out": 0,
        "next_step": "",
        "why_incomplete": why,
    }


def cut(found: Mapping[str, Any]) -> dict[str, Any]:
    """A trace with limited lists and texts: the newest versions, which win, and the newest discards."""
    versions, discards = found["versions"], found["discards"]
    return {
        **found,
        "versions": [_version(one) for one in versions[-SHOWN_VERSIONS:]],
        "versions_left_out": max(0, len(versions) - SHOWN_VERSIONS),
        "discards": [one | {"record": _text(one["record"])} for one in discards[-_SHOWN_DISCARDS:]],
        "not_read": found["not_read"][:_SHOWN_NAMES],
        "not_read_left_out": max(0, len(found["not_read"]) - _SHOWN_NAMES),
        "discards_left_out": max(0, len(discards) - _SHOWN_DISCARDS),
    }


def _version(one: Mapping[str, Any]) -> dict[str, Any]:
    content, allocation = dict(one["content"]), one["allocation"]
    items = content.get("items", [])
    content = {name: _text(value) for name, value in content.items()}
    if allocation is not None:
        content["items"] = items[:SHOWN_ITEMS]
        allocation = allocation | {"lines": allocation["lines"][:SHOWN_ITEMS]}
    return {
        **one,
        "content": content,
        "items_left_out": max(0, len(items) - SHOWN_ITEMS),
        "allocation": allocation,
        "repeated_by": _some(one["repeated_by"]),
        "undos": _some(one["undos"]),
    }


def _some(texts: Sequence[str]) -> list[str]:
    left = len(texts) - _SHOWN_NAMES
    return [*texts[:_SHOWN_NAMES], *([f"and {left:,} more"] if left > 0 else [])]


def _text(value: Any) -> Any:
    if not isinstance(value, str) or len(value) <= _SHOWN_CHARACTERS:
        return value
    return f"{value[:_SHOWN_CHARACTERS]}…"
