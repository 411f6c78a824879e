"""A mapping as the fast path needs it: tables of keys. Compiled once. None where the fast path cannot do what a mapping says:
then the reference parser reads every record.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Collection, Sequence
from ctypes import POINTER, Structure, c_bool, c_char_p, c_int, c_int64, c_uint64, c_void_p
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from ..mapping import COLUMN_TYPES, ITEM_FIELDS, ORDER_FIELDS, FieldMapping, Path, keys_of

_COLUMNS = (*ORDER_FIELDS, *ITEM_FIELDS)  # in the order of scan.c
# In most records
_USUAL = (
    "order_id",
    "user_id",
    "amount",
    "currency",
    "created_at",
    "updated_at",
    "items",
    "metadata",
)
MOST_EXTRA = 32  # extra columns
_SKIPPED, _DELETED, _NO_COLUMN = range(len(_COLUMNS) + MOST_EXTRA, len(_COLUMNS) + MOST_EXTRA + 3)
_MOST_KEYS, _MOST_LEVELS = 64, 16
_EPOCH = datetime(1970, 1, 1)
_ZONE_DAYS = range(-1, 365 * 90)  # of the transitions of a zone; the reference parser reads later times
_DAY = 86_400


class KeyTable(Structure):
    """Table of scan.c."""


class _Key(Structure):
    _fields_ = [
        ("name", c_char_p), ("text", ctypes.c_char * 16), ("masks", c_uint64 * 2), ("length", c_int), ("column", c_int),
        ("rank", c_int), ("kind", c_int), ("deletes", c_bool), ("mapped", c_bool), ("inside", POINTER(KeyTable)),
        ("read", c_void_p),
    ]  # fmt: skip


KeyTable._fields_ = [
    ("keys", POINTER(_Key)), ("lengths", c_uint64), ("guesses", c_int), ("is_order", c_bool), ("has_index", c_bool),
]  # fmt: skip


class Tables(Structure):
    """Mapping of scan.c. `kept`: what it points to. `guesses`: the number of guesses that a scan needs."""

    _fields_ = [
        ("order", KeyTable), ("item", KeyTable), ("prefix", c_char_p), ("zone_from", POINTER(c_int64)),
        ("offsets", POINTER(c_int64)), ("deleted", POINTER(c_char_p)), ("deleted_lengths", POINTER(c_int64)),
        ("prefix_length", c_int64), ("zones", c_int64), ("deletions", c_int64), ("minor_units", c_bool),
        ("extra", c_int), ("kinds", c_int * MOST_EXTRA),
    ]  # fmt: skip
    kept: list[Any]
    guesses: int


@dataclass
class _Node:
    """What a key leads to: a column (of several values the one with the lowest rank counts), other keys, or nothing."""

    column: int = _NO_COLUMN
    rank: int = 0
    kind: int = 0  # of an extra column
    deletes: bool = False  # of an extra column: it also says whether the order is gone
    inside: dict[str, _Node] = field(default_factory=dict)
    is_order: bool = False


class _Unfit(Exception):
    """The fast path cannot do this."""


def tables_of(mapping: FieldMapping, prepare: Any) -> Tables | None:
    """The tables of a mapping; None where the fast path cannot do it. `prepare`: strandline_prepare_keys."""
    if len(mapping.columns) > MOST_EXTRA:
        return None
    try:
        order, item = _trees(mapping)
        deleted = [_raw(value) for value in mapping.deleted_values] if mapping.deleted_path else []
        tables = Tables()
        tables.kept, tables.guesses = [], 0
        plain = _plain_columns(mapping)
        tables.order, tables.item = (_table(tables, one, plain, prepare) for one in (order, item))
    except (_Unfit, UnicodeEncodeError):
        return None
    prefix = mapping.id_prefix.encode()
    zone_from, offsets = _offsets(mapping.time_zone)
    tables.prefix, tables.prefix_length, tables.minor_units = prefix, len(prefix), mapping.minor_units
    tables.extra = len(mapping.columns)
    tables.kinds = (c_int * MOST_EXTRA)(*(COLUMN_TYPES.index(kind) for _, kind, _ in mapping.columns))
    tables.zones, tables.deletions = len(zone_from), len(deleted)
    tables.zone_from, tables.offsets = _array(tables, c_int64, zone_from), _array(tables, c_int64, offsets)
    tables.deleted = _array(tables, c_char_p, deleted)
    tables.deleted_lengths = _array(tables, c_int64, [len(one) for one in deleted])
    return tables


def _trees(mapping: FieldMapping) -> tuple[_Node, _Node]:
    """The keys of a record, and those of an item."""
    paths, record = mapping.compiled(), keys_of(mapping.record)
    root, item = _Node(), _Node()
    order = _at(root, record)
    order.is_order = True
    for name in _USUAL:
        for rank, path in enumerate(paths[name]):
            _lead(order, path, _COLUMNS.index(name), rank)
    if mapping.deleted_path:
        _lead(order, keys_of(mapping.deleted_path), _DELETED, 0)
    for number, (_, kind, ways) in enumerate(mapping.columns):
        for rank, way in enumerate(ways):
            _lead_extra(order, keys_of(way), len(_COLUMNS) + number, rank, COLUMN_TYPES.index(kind))
    if mapping.is_direct and any(
        name in order.inside and order.inside[name].inside for name in ("user_id", "currency")
    ):
        raise _Unfit  # keys with others inside are read as under a mapping, which changes these values
    for name in ORDER_FIELDS:
        _at(order, (name,))  # one that is not read says nothing about a record with neither amount nor items
    for name in ITEM_FIELDS:
        for rank, path in enumerate(paths[name]):
            _lead(item, path, _COLUMNS.index(name), rank)
    if mapping.skip_items_with:
        _lead(item, keys_of(mapping.skip_items_with), _SKIPPED, 0)
    return root, item


def _at(node: _Node, path: Path) -> _Node:
    if len(path) > _MOST_LEVELS:
        raise _Unfit
    for key in path:
        node = node.inside.setdefault(key, _Node())
    return node


def _lead(node: _Node, path: Path, column: int, rank: int) -> None:
    node = _at(node, path)
    if node.column != _NO_COLUMN:  # two fields have one path
        raise _Unfit
    node.column, node.rank = column, rank


def _lead_extra(node: _Node, path: Path, column: int, rank: int, kind: int) -> None:
    node = _at(node, path)
    node.deletes = node.column == _DELETED
    if node.deletes:
        node.column = _NO_COLUMN
    _lead(node, (), column, rank)
    node.kind = kind


def _plain_columns(mapping: FieldMapping) -> set[int]:
    """The columns whose values a mapping leaves as they are: one path, where null and nothing are the same, no conversion."""
    extra = {len(_COLUMNS) + number for number, (_, _, paths) in enumerate(mapping.columns) if len(paths) == 1}
    return extra | _plain_fields(mapping)


def _plain_fields(mapping: FieldMapping) -> set[int]:
    if mapping.is_direct:
        return set(range(len(_COLUMNS)))
    names = {"created_at", "updated_at", "sku", "qty"}
    names |= set() if mapping.id_prefix else {"order_id"}
    names |= set() if mapping.minor_units else {"price"}
    return {_COLUMNS.index(name) for name, paths in mapping.compiled().items() if name in names and len(paths) == 1}


def _table(tables: Tables, node: _Node, plain: Collection[int], prepare: Any) -> KeyTable:
    if len(node.inside) > _MOST_KEYS:
        raise _Unfit
    keys = (_Key * (len(node.inside) + 1))()
    for key, (name, one) in zip(keys, node.inside.items(), strict=False):
        key.name = _raw(json.dumps(name)) + b":"
        key.length, key.column, key.rank = len(key.name), one.column, one.rank
        key.kind, key.deletes = one.kind, one.deletes
        key.mapped = bool(one.inside) or one.deletes or one.column not in plain
        if one.inside:
            inner = _table(tables, one, plain, prepare)
            tables.kept.append(inner)
            key.inside = ctypes.pointer(inner)
    prepare(keys, len(node.inside))
    tables.kept.append(keys)
    has_index = any(name.isascii() and name.isdigit() for name in node.inside)
    lengths = sum({1 << (key.length - 1) % 64 for key in keys[:-1]})
    guesses, tables.guesses = tables.guesses, tables.guesses + len(keys)
    return KeyTable(ctypes.cast(keys, POINTER(_Key)), lengths, guesses, node.is_order, has_index)


def _raw(value: str) -> bytes:
    """A scalar's JSON, spelled without escapes."""
    if not value.startswith('"'):
        return value.encode()
    text = json.loads(value)
    if json.dumps(text, ensure_ascii=False) != f'"{text}"':
        raise _Unfit
    return f'"{text}"'.encode()


def _array(tables: Tables, kind: Any, values: Sequence[Any]) -> Any:
    array = (kind * (len(values) or 1))(*values)
    tables.kept.append(array)
    return ctypes.cast(array, POINTER(kind))


def _offsets(name: str) -> tuple[list[int], list[int]]:
    """Local times (in seconds, as if they were UTC), and the offset in seconds from each of them on. The last one ends what is
    known. A zone changes at most once a day."""
    if name == "UTC":
        return [], []
    zone = ZoneInfo(name)

    def offset_at(local: int) -> int:
        found = zone.utcoffset((_EPOCH + timedelta(seconds=local)).replace(tzinfo=zone))
        assert found is not None
        return found // timedelta(seconds=1)

    starts, offsets = [_ZONE_DAYS[0] * _DAY], [offset_at(_ZONE_DAYS[0] * _DAY)]
    for day in _ZONE_DAYS[1:]:
        if offset_at(day * _DAY) == offsets[-1]:
            continue
        # The first local time with another offset is after one, at most the other.
        before, after = (day - 1) * _DAY, day * _DAY
        while after - before > 1:
            middle = (before + after) // 2
            before, after = (middle, after) if offset_at(middle) == offsets[-1] else (before, middle)
        starts.append(after)
        offsets.append(offset_at(after))
    return [*starts, _ZONE_DAYS[-1] * _DAY], [*offsets, 0]
