"""Orders that would be lost with what is not read: with a record that is no order, or beside the records of an envelope. Pure.

A discard stands for one record. A damaged page or array, or records with no line end between them, would lose all their orders as
one discard, so a drop with such a record is refused as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from ..mapping import FieldMapping
from ..model import Reason
from . import reference
from .damage import named
from .mapped import order_id_in, translator
from .texts import elements_of, pairs_of

ENVELOPE_KEYS = ("orders", "data", "results", "records")
_ARRAY = re.compile(r"[ \t\r\x1e\ufeff,]*\[[ \t\r\n]*(?:[\[{]|\Z)")  # not `[INFO] export begins`
_ENVELOPE = re.compile(rf"""["'](?:{"|".join(ENVELOPE_KEYS)})["'][ \t\r\n]*:[ \t\r\n]*\[""")
_VALUE = r"""[ \t\r\n]*:[ \t\r\n]*(\\*"[^"]*|[^ \t\r\n,}\]]*)"""
_PACKED = (b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd")  # gzip and Zstandard, appended to lines
_AROUND = " \t\r\x1e\ufeff,"


def may_hold_orders(record: bytes, reason: Reason, mapping: FieldMapping) -> bool:
    """Whether a record that was rejected may hold more than one order, or one below its first level."""
    if reason is Reason.MALFORMED_RECORD:
        return _is_binary(record) or _may_hold_several(record.decode(errors="replace"), mapping)
    texts = [record]
    if record.startswith(b"{"):
        inner = translator(mapping).texts(record).items() if mapping.record else pairs_of(record)
        texts = [text for _, text in inner]
    if any(next(orders_in(text, mapping), None) for text in texts):
        return True
    escaped = record.decode()
    return '\\"' in escaped and _may_hold_several(escaped, mapping, escaped=True)


def is_cut(text: str) -> bool:
    """Whether a text is the beginning of an object, of which the rest is missing."""
    text = text.lstrip(_AROUND)
    try:
        reference.whole(text)
    except reference.NotJson as error:
        return error.truncated and text.startswith("{")
    return False


def orders_in(text: bytes, mapping: FieldMapping) -> Iterator[tuple[str, str]]:
    """The orders in a value, itself included, at any depth: the path and the id of each."""
    if not any(key in text for key in _keys(mapping).id_bytes) and b"\\u" not in text:  # nearly always, and cheap
        return
    try:
        found: list[tuple[str, object]] = [("", reference.value_of(text.decode()))]
    except reference.NotJson:  # nested too deep
        return
    while found:
        path, value = found.pop()
        if isinstance(value, dict):
            if (order_id := order_id_in(value, mapping)) is not None:
                yield path, order_id
                continue
            found += [(_below(path, key), one) for key, one in value.items() if isinstance(one, (dict, list))]
        elif isinstance(value, list):
            found += [(path, one) for one in value if isinstance(one, (dict, list))]


def lost_beside(beside: Iterable[tuple[str, bytes]], array: bytes, mapping: FieldMapping) -> str | None:
    """The path to an order among values beside an array of records that the array does not have; None where there is none."""
    found = {order_id: _below(key, path) for key, text in beside for path, order_id in orders_in(text, mapping)}
    if not found:
        return None
    inside = {order_id for one in elements_of(array) for _, order_id in orders_in(one, mapping)} if array else set()
    return next((path for order_id, path in found.items() if order_id not in inside), None)


def _below(path: str, key: str) -> str:
    """A path that goes on. Keys that are not names may be personal data."""
    shown = key if not key or all(named([one]) == one for one in key.split(".")) else "…"
    return f"{path}.{shown}" if path and shown else path or shown


class _Keys:
    """The last keys of the paths of a mapping, to find them in a text that cannot be parsed."""

    def __init__(self, mapping: FieldMapping) -> None:
        paths = mapping.compiled()
        last = {
            field: {path[-1] for path in paths[field] if path}
            for field in ("order_id", "created_at", "amount", "items")
        }
        self.ids, self.instants, self.amounts, self.items = (_pattern(last[field]) for field in last)
        self.id_bytes = [key.encode() for key in last["order_id"]]


@lru_cache(maxsize=64)
def _keys(mapping: FieldMapping) -> _Keys:
    return _Keys(mapping)


def _pattern(keys: Iterable[str]) -> re.Pattern[str]:
    """One of these keys with its closing quote, a colon, and the beginning of its value."""
    names = "|".join(map(re.escape, sorted(keys))) or "(?!)"
    return re.compile(rf"""(?<![A-Za-z0-9_])(?:{names})\\*["']{_VALUE}""")


def _is_binary(record: bytes) -> bool:
    """Whether a line is of another encoding, or compressed: of what may be a whole file, it is a part."""
    return any(one in record for one in _PACKED) or b"\0" in record.strip(b"\0")


def _may_hold_several(text: str, mapping: FieldMapping, *, escaped: bool = False) -> bool:
    """Whether a text that cannot be parsed begins as an array of objects, has its first id in an array, or has several. Of a
    mapping, ids may be of anything; several orders have several amounts and several `items`."""
    keys = _keys(mapping)
    if escaped:
        text = text.replace('\\"', '"')
    elif _ARRAY.match(text):
        return True
    first = keys.ids.search(text)
    before = text[: first.start()] if first else text
    if not escaped and (
        _ENVELOPE.search(before) or (first and mapping.is_direct and before.count("[") > before.count("]"))
    ):
        return True
    if mapping.is_direct:
        return len({match[1] for match in keys.ids.finditer(text)}) > 1
    amounts, items = (sum(1 for _ in pattern.finditer(text)) for pattern in (keys.amounts, keys.items))
    if amounts or items or any(field in ("amount", "items") for field, _ in mapping.fields):
        return min(amounts, items) > 1
    ids = {match[1] for match in keys.ids.finditer(text)}
    return len(ids) > 1 and sum(1 for _ in keys.instants.finditer(text)) > 1
