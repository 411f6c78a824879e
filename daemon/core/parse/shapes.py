"""Which keys the first records of a drop have, for drift (core/drift.py). Pure.

Records of one source have few shapes: native/shape.c gives each a hash, and one record of each shape is looked into. So a page
of 250 orders costs some 0.1 ms, and a bulk no more than its first records do.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np

from ..drift import SeenKeys, of_item, paths_of, read_keys_of
from ..mapping import ITEM_FIELDS, ORDER_FIELDS, FieldMapping, Path, keys_of
from ..model import Ints
from ..native.bindings import InnerKeys, shapes
from .damage import named_list
from .mapped import translator
from .unread import unread_item_keys

SAMPLED_RECORDS = 1_000  # of each drop
_MOST_SHAPES = 64  # of a drop: one of many more has keys that are values
_MOST_BYTES = 256 << 10  # of a record that is looked into: one may be a whole drop
_PRIME = np.uint64(0x9E3779B97F4A7C15)


def keys_of_records(
    blob: bytes, starts: Ints, stops: Ints, piece_of: Ints, mapping: FieldMapping
) -> dict[int, SeenKeys]:
    """The keys of some records, by the piece that each is of. Record i is blob[starts[i]:stops[i]]."""
    if not len(starts):
        return {}
    hashes = shapes(blob, starts, stops, _inner_keys(mapping))
    _, first = np.unique(hashes ^ (piece_of.astype(np.uint64) * _PRIME), return_index=True)
    of_piece: dict[int, list[int]] = {}
    for index in np.sort(first).tolist():
        of_piece.setdefault(int(piece_of[index]), []).append(index)
    known: dict[object, SeenKeys] = {}
    found: dict[int, SeenKeys] = {}
    for piece, indexes in of_piece.items():
        # Whether a record is a deletion is no matter of its shape: then each drop is looked into.
        places = [(int(hashes[index]), piece if mapping.deleted_path else 0) for index in indexes[:_MOST_SHAPES]]
        for index, place in zip(indexes, places, strict=False):
            if place not in known:
                is_large = stops[index] - starts[index] > _MOST_BYTES  # nothing is known of it
                record = b"" if is_large else blob[starts[index] : stops[index]]
                known[place] = SeenKeys(unclear=paths_of(mapping)) if is_large else _keys_of(record, mapping)
        together = tuple(places)
        if together not in known:
            known[together] = _of_all(known[place] for place in places)
        found[piece] = known[together]
        if len(indexes) > _MOST_SHAPES:  # not all are known: nothing can be missing
            found[piece] = found[piece].plus(SeenKeys(unclear=paths_of(mapping)))
    return found


def _of_all(keys: Iterable[SeenKeys]) -> SeenKeys:
    together = SeenKeys()
    for one in keys:
        together = together.plus(one)
    return together


@lru_cache(maxsize=64)
def _inner_keys(mapping: FieldMapping) -> InnerKeys:
    compiled = mapping.compiled()
    paths = [path for field in ORDER_FIELDS for path in compiled[field]]
    paths += [keys_of(path) for _, _, its in mapping.columns for path in its]
    return InnerKeys(
        {path[0] for path in paths if len(path) > 1} | {path[0] for path in compiled["items"]} | _first(mapping.record)
    )


def _first(path: str) -> set[str]:
    return {path.partition(".")[0]} if path else set()


def _keys_of(record: bytes, mapping: FieldMapping) -> SeenKeys:
    """The keys of one record; none of what is no JSON object."""
    members = translator(mapping).members(record)
    if members is None:
        return SeenKeys()
    compiled = mapping.compiled()
    looks: list[tuple[str, str, bool | None]] = []  # field, path, whether it is there
    for field in ORDER_FIELDS:
        looks += [(field, ".".join(path), has(members, path)) for path in compiled[field]]
    looks += [(name, path, has(members, keys_of(path))) for name, _, paths in mapping.columns for path in paths]
    for field in ITEM_FIELDS:
        looks += [
            (field, of_item(compiled["items"][0], path), _items_have(members, compiled["items"], path))
            for path in compiled[field]
            if compiled["items"]
        ]
    there = {field for field, _, known in looks if known}
    unread = [key for key in members if key not in read_keys_of(mapping)] + unread_item_keys(members, mapping)
    return SeenKeys(
        frozenset(named_list(unread, len(unread))),
        frozenset(path for _, path, known in looks if known),
        frozenset(path for _, path, known in looks if known is None),
        judged={"order_id", "created_at"} <= there and not translator(mapping).deletes(members),
    )


def has(value: Any, path: Path) -> bool | None:
    """Whether there is something at a path; None where it cannot be known: what leads there is null or empty."""
    for key in path:
        if isinstance(value, dict):
            if key not in value:
                return False
            value = value[key]
        elif isinstance(value, list) and value:
            if not (key.isascii() and key.isdigit() and int(key) < len(value)):
                return False
            value = value[int(key)]
        else:
            return None
    return True


def _items_have(members: dict[str, Any], items: list[Path], path: Path) -> bool | None:
    """The same for the elements of `items`: whether any has it."""
    found: set[bool | None] = set()
    for at in items:
        value: Any = members
        for key in at:
            value = value.get(key) if isinstance(value, dict) else None
        found |= {has(one, path) for one in value if isinstance(one, dict)} if isinstance(value, list) else set()
    return True if True in found else None if None in found or not found else False
