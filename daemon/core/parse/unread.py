"""Keys of items that nothing reads, as people write them: `line_items.tax` of the items at `line_items`. Pure."""

from __future__ import annotations

from typing import Any

from ..drift import read_item_keys_of
from ..mapping import FieldMapping
from .mapped import translator


def unread_item_keys(members: dict[str, Any], mapping: FieldMapping) -> list[str]:
    """Those of the items of an order that are not left out. `members`: of the order, as values."""
    by = translator(mapping)
    path, items = by.found(members, "items")
    if not isinstance(items, list):
        return []
    read = read_item_keys_of(mapping)
    objects = (one for one in items if isinstance(one, dict) and not by.is_skipped(one))
    return list(dict.fromkeys(f"{path}.{key}" for one in objects for key in one if key not in read))
