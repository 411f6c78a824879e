"""Whether a record that is no order may hold orders that would be lost with it. Pure.

A discard stands for one record. A damaged page or array, or records with no line end between them, would lose all their orders as
one discard, so a drop with such a record is refused as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from ..mapping import FieldMapping, keys_of
from ..model import Reason
from . import reference
from .envelopes import ENVELOPE_KEYS, elements_of, pairs_of, place_of_order
from .mapped import is_order

_TOKEN = re.compile(
    r'"((?:[^"\\]|\\.)*)"([ \t\r\n]*:)?|[\[\]{}]', re.DOTALL
)  # a key (with its colon), a text, or a bracket
_ARRAY = re.compile(r"[ \t\r\x1e\ufeff,]*\[[ \t\r\n]*(?:[\[{]|\Z)")  # not `[INFO] export begins`
_ORDER_ID = re.compile(r"""order_id["']?[ \t\r\n]*:""")
_SEARCHED_LEVELS = 3


def may_hold_orders(record: bytes, reason: Reason, mapping: FieldMapping) -> bool:
    """Whether a record that was rejected for one of NO_ORDER may hold more than one order, or one below its first level."""
    if reason is Reason.MALFORMED_RECORD:
        return _may_hold_several(record.decode(errors="replace"), mapping)
    if not record.startswith(b"{"):
        return record.startswith(b"[") and _has_order(record, mapping, _SEARCHED_LEVELS)
    pairs = pairs_of(record)
    return place_of_order(pairs) is not None if mapping.is_direct else _has_page(pairs, mapping, _SEARCHED_LEVELS)


def is_cut(record: bytes) -> bool:
    """Whether a record is the beginning of an object, of which the rest is missing."""
    try:
        reference.whole(record.decode(errors="replace"))
    except reference.NotJson as error:
        return error.truncated and record.startswith(b"{")
    return False


def _may_hold_several(text: str, mapping: FieldMapping) -> bool:
    """Whether a damaged text begins as an array of objects, has its first id in an array, or has more than one. Brackets are
    counted as far as the damage allows."""
    if _ARRAY.match(text) or (mapping.is_direct and len(_ORDER_ID.findall(text)) > 1):
        return True
    ids, instants = _identity_keys(mapping)
    opened: list[str] = []
    found = on_top = dated = 0
    for match in _TOKEN.finditer(text):
        if match[2]:
            if match[1] in ids:
                if "[" in opened and not found:
                    return True
                found += 1
                on_top += len(opened) < 2
            dated += match[1] in instants
        elif match[0] in "[{":
            opened.append(match[0])
        elif match[0] in "]}" and opened:
            opened.pop()
    return on_top > 1 or (found > 1 and dated > 1)


@lru_cache(maxsize=64)
def _identity_keys(mapping: FieldMapping) -> tuple[frozenset[str], frozenset[str]]:
    """The keys that hold an `order_id`, and those that hold a `created_at`."""
    given = dict(mapping.fields)
    ids, instants = (
        frozenset(keys_of(path)[-1] for path in given.get(field, (field,)) if path)
        for field in ("order_id", "created_at")
    )
    return ids, instants


def _has_page(pairs: Iterable[tuple[str, bytes]], mapping: FieldMapping, levels: int) -> bool:
    """Whether one of the objects in an object has an array of orders where envelopes have it."""
    for key, text in pairs:
        if text.startswith(b"[") and key in ENVELOPE_KEYS and _has_order(text, mapping, 1):
            return True
        if levels and text.startswith(b"{") and _has_page(pairs_of(text), mapping, levels - 1):
            return True
    return False


def _has_order(array: bytes, mapping: FieldMapping, levels: int) -> bool:
    elements = elements_of(array)
    if any(one.startswith(b"{") and is_order(one, mapping) for one in elements):
        return True
    return levels > 1 and any(one.startswith(b"[") and _has_order(one, mapping, levels - 1) for one in elements)
