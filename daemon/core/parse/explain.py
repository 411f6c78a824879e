"""How single records are read, field by field, with the path that each value came from. For people; decides nothing.

The values are those of the reference parser, and the paths those that the translator took (mapped.py).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ..mapping import ITEM_FIELDS, ORDER_FIELDS, FieldMapping
from ..model import Field, ParseContext, Reason
from . import reference
from .mapped import as_json, direct, read_record, translator
from .unread import unread_item_keys

_SHOWN_ITEMS = 3
_SHOWN_CHARACTERS = 200
_INSTANTS = ("created_at", "updated_at")
_DECIMALS = ("amount", "qty", "price")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AT_RECEIPT = "(time of receipt)"  # in place of a path: a deletion names no instant
_DISCARDED_BY = ("order_id", "created_at")


@dataclass(frozen=True, slots=True)
class ReadField:
    """One field. `value`: as it is read, or as it is written where it cannot be read; None without a value. `path`: where it came
    from; without a value, all paths where it could be, divided by commas."""

    field: str
    value: str | None
    path: str
    is_fault: bool = False


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """One record. `outcome`: order, deletion, user, product, or the reason of its discard."""

    position: int
    outcome: str
    fields: list[ReadField]
    items: list[list[ReadField]]
    unread: list[str]  # keys that nothing reads; those of items with the path of the items
    text: str = ""  # the beginning of one that is no JSON object


def explained(record: bytes, position: int, context: ParseContext) -> ReadRecord:
    """How a record is read. `position`: its number in its drop."""
    mapping = context.mapping
    members = translator(mapping).members(record)
    read, is_deletion = read_record(record, context)
    if members is None:
        text = record[: 4 * _SHOWN_CHARACTERS].decode(errors="replace")[:_SHOWN_CHARACTERS]
        return ReadRecord(position, str(read), [], [], [], text)
    unread = [key for key in members if key not in mapping.read_keys() | mapping.column_keys]
    if isinstance(read, Reason):
        fields = [_as_written(members, field, mapping, is_fault=_is_cause(field, read)) for field in _DISCARDED_BY]
        return ReadRecord(position, str(read), fields, [], unread)
    if is_deletion:
        return ReadRecord(position, "deletion", _deletion(members, record, read, context), [], unread)
    fields = [_field(members, name, read, mapping) for name in ORDER_FIELDS]
    fields += _columns(members, read, mapping)
    items, unread_of_items = _items(record, members, mapping)
    return ReadRecord(position, "order", fields, items, unread + unread_of_items)


def _deletion(members: dict[str, Any], record: bytes, read: reference.Order, context: ParseContext) -> list[ReadField]:
    """What a deletion says: which order is gone, by which value, and since when."""
    by, mapping = translator(context.mapping), context.mapping
    name, _ = by.version_of_deletion(members, record, context)
    path = by.found(members, name)[0] if name else AT_RECEIPT
    since = ReadField(name or "updated_at", text_of("updated_at", read.updated_at), path)
    gone = ReadField("deleted", as_json(by.deletion_value(members)), mapping.deleted_path)
    return [ReadField("order_id", read.order_id, by.found(members, "order_id")[0]), gone, since]


def shown_cell(cell: str) -> str:
    """A cell of a CSV file as it is written."""
    return cell[:_SHOWN_CHARACTERS]


def _is_cause(field: str, reason: Reason) -> bool:
    return reason.endswith(f"_{field}")


def _as_written(members: dict[str, Any], name: str, mapping: FieldMapping, *, is_fault: bool) -> ReadField:
    path, value = translator(mapping).found(members, name)
    return ReadField(name, as_json(value) if path else None, path or _tried(name, mapping), is_fault)


def _field(members: dict[str, Any], name: str, order: reference.Order, mapping: FieldMapping) -> ReadField:
    if order.faults[name]:
        return _as_written(members, name, mapping, is_fault=True)
    path, _ = translator(mapping).found(members, name)
    value = None if name == "items" and not path else getattr(order, name)
    return ReadField(name, text_of(name, value), path or _tried(name, mapping))


def _columns(members: dict[str, Any], order: reference.Order, mapping: FieldMapping) -> list[ReadField]:
    """The extra columns of an order."""
    fields = []
    for (name, kind, paths), value in zip(mapping.columns, order.extra, strict=True):
        path, written = translator(mapping).found_column(members, paths)
        is_fault = bool(order.faults[name])
        shown = as_json(written) if is_fault else _column_text(kind, value)
        fields.append(ReadField(name, shown, path or ", ".join(paths), is_fault))
    return fields


def _column_text(kind: str, value: object) -> str | None:
    if kind == "boolean" and value is not None:
        return "true" if value else "false"
    return text_of({"instant": "updated_at", "decimal": "amount"}.get(kind, ""), value)


def _items(record: bytes, members: dict[str, Any], mapping: FieldMapping) -> tuple[list[list[ReadField]], list[str]]:
    """The first items, and the keys of all that nothing reads."""
    by = translator(mapping)
    path, written = by.found(members, "items")
    texts = reference.members(direct(record, mapping).decode())
    translated = reference.value_of(texts.get("items", "null"))
    if not isinstance(written, list) or not isinstance(translated, list):
        return [], []
    kept = [(index, one) for index, one in enumerate(written) if not by.is_skipped(one)]
    shown = [
        _item(original, one, f"{path}.{index}", mapping)
        for (index, original), one in zip(kept[:_SHOWN_ITEMS], translated, strict=False)
    ]
    return shown, unread_item_keys(members, mapping)


def _item(original: Any, translated: Any, path: str, mapping: FieldMapping) -> list[ReadField]:
    faults: Counter[str] = Counter()
    (item,) = reference.read_items([translated], faults)
    if faults[Field.ITEM]:
        return [ReadField("item", as_json(original), path, is_fault=True)]
    fields = []
    for name in ITEM_FIELDS:
        found, written = translator(mapping).found(original, name)
        where = f"{path}.{found}" if found else _tried(name, mapping, f"{path}.")
        value = as_json(written) if faults[name] else text_of(name, getattr(item, name))
        fields.append(ReadField(name, value, where, bool(faults[name])))
    return fields


def _tried(name: str, mapping: FieldMapping, before: str = "") -> str:
    return ", ".join(before + ".".join(path) for path in mapping.compiled()[name])


def text_of(name: str, value: Any) -> str | None:
    """A value of a field, as people write it."""
    if value is None:
        return None
    if name in _INSTANTS:
        return (_EPOCH + timedelta(microseconds=value)).isoformat().replace("+00:00", "Z")
    if name in _DECIMALS:
        return _decimal(value, 0 if name == "qty" else 2)
    return str(len(value)) if name == "items" else str(value)


def _decimal(units: int, places: int) -> str:
    """Units of 1/10,000 with at least so many decimal places."""
    whole, rest = divmod(abs(units), 10_000)
    fraction = f"{rest:04d}".rstrip("0").ljust(places, "0")
    return f"{'-' if units < 0 else ''}{whole}{'.' if fraction else ''}{fraction}"
