"""Keys of items that nothing reads, as people write them: `line_items.tax` of the items at `line_items`. Pure."""

from __future__ import annotations

from typing import Any

from ..drift import of_item, read_item_keys_of
from ..mapping import FieldMapping


def unread_item_keys(members: dict[str, Any], mapping: FieldMapping) -> list[str]:
    """Those of all items of an order, also of those that are left out. `members`: of the order, as values."""
    read = read_item_keys_of(mapping)
    found: dict[str, None] = {}
    for path in mapping.compiled()["items"]:
        value: Any = members
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        for item in value if isinstance(value, list) else ():
            if isinstance(item, dict):
                found |= dict.fromkeys(of_item(path, (key,)) for key in item if key not in read)
    return list(found)
