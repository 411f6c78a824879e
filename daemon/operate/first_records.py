"""How the first records of a drop are read, as `plan` shows it: each field with its value and the path that it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from ..core.model import Reason
from ..core.parse.explain import ReadField, ReadRecord

_VALUE_WIDTH = 40
_LINE_WIDTH = 110
_SHOWN_KEYS = 40
_INDENT = 7


def as_dicts(records: Sequence[ReadRecord]) -> list[dict[str, Any]]:
    """For programs."""
    return [
        {
            "position": one.position,
            "outcome": one.outcome,
            "fields": [asdict(field) for field in one.fields],
            "items": [[asdict(field) for field in item] for item in one.items],
            "not_read": one.unread,
        }
        for one in records
    ]


def lines(records: Sequence[ReadRecord]) -> list[str]:
    """For a terminal."""
    shown = [line for one in records for line in _record(one)]
    return ["", "First records (field, value, path)", *shown] if shown else []


def _record(record: ReadRecord) -> list[str]:
    is_kept = record.outcome not in list(Reason)
    begin = f"  {record.position:>3}  {record.outcome if is_kept else f'discarded: {record.outcome}'}"
    if record.text:
        return [f"{begin}  {_visible(record.text, _LINE_WIDTH)}"]
    fields = [*record.fields, *(field for item in record.items for field in item)]
    width = max((min(len(_value(field)), _VALUE_WIDTH) for field in fields), default=0)
    return [begin, *(_field(field, width) for field in fields), *_unread(record.unread)]


def _field(field: ReadField, width: int) -> str:
    name = f"  {field.field}" if field.field in ("sku", "qty", "price", "item") else field.field
    return f"{'':{_INDENT}}{name:12}{_value(field):{width}}  {_path(field)}"


def _value(field: ReadField) -> str:
    return "NULL" if field.value is None else _visible(field.value, _VALUE_WIDTH)


def _path(field: ReadField) -> str:
    path = _visible(field.path, _LINE_WIDTH)
    if field.is_fault:
        return f"{path}  FAULT: {'this is missing' if field.value is None else 'this cannot be read'}"
    if field.value is None:
        return f"(nothing at {path})" if path else "(not read)"
    return path


def _unread(keys: Sequence[str]) -> list[str]:
    if not keys:
        return []
    names = [_visible(key, _VALUE_WIDTH) for key in keys[:_SHOWN_KEYS]]
    rest = len(keys) - len(names)
    text = "not read: " + ", ".join(names) + (f" and {rest:,} more (--json has all)" if rest else "")
    return wrap(text, _LINE_WIDTH, initial_indent=" " * _INDENT, subsequent_indent=" " * (_INDENT + 2))


def _visible(text: str, most: int) -> str:
    """The beginning of a text, without characters that a terminal would interpret."""
    shown = "".join(c if c.isprintable() else " " for c in text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"
