"""Drift: keys of a source's records that come or vanish. Pure.

Of the first records of each drop, the parser tells which keys nothing reads, and which mapped paths are there (SeenKeys). The
ledger keeps what it saw of each source (KnownKey). A key that nothing reads is new once, and a mapped path that is missing is
reported once, each with the drop that brought it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from .mapping import ITEM_FIELDS, ORDER_FIELDS, FieldMapping, Path, keys_of

_MOST_KEYS = 200  # of a source that nothing reads: the keys of some records are not names, but values


@dataclass(frozen=True, slots=True)
class SeenKeys:
    """What the first records of a drop have. `unread`: keys that nothing reads. `found`: mapped paths. `unclear`: those
    where null or an empty array is on the way. `judged`: a record is an order, so that a path can be missing."""

    unread: frozenset[str] = frozenset()
    found: frozenset[str] = frozenset()
    unclear: frozenset[str] = frozenset()
    judged: bool = False

    def plus(self, more: SeenKeys) -> SeenKeys:
        """Of all the records of both."""
        return SeenKeys(
            self.unread | more.unread,
            self.found | more.found,
            self.unclear | more.unclear,
            self.judged or more.judged,
        )


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key of a source that nothing reads, or (`is_read`) a mapped path. `first_drop` had it first. `missing_since`: the drop
    that lacked it, if it did not come back. `told`: that was reported once."""

    source: str
    key: str
    is_read: bool
    first_drop: int
    missing_since: int | None = None
    told: bool = False


@dataclass(frozen=True, slots=True)
class Drift:
    """What a drop brought. `unread`: keys that nothing reads and no earlier drop had. `missing`: mapped paths that earlier drops
    had. `is_first`: the source had no drop before."""

    drop: int
    source: str
    unread: tuple[str, ...]
    missing: tuple[str, ...]
    is_first: bool


Known = dict[tuple[str, bool, str], KnownKey]  # by (source, is_read, key)


@lru_cache(maxsize=64)
def read_keys_of(mapping: FieldMapping) -> frozenset[str]:
    """The keys of an order that are read, or lead to what is."""
    return frozenset(mapping.read_keys() | mapping.column_keys)


@lru_cache(maxsize=64)
def read_item_keys_of(mapping: FieldMapping) -> frozenset[str]:
    """The same of an item."""
    compiled = mapping.compiled()
    paths = [path for field in ITEM_FIELDS for path in compiled[field]]
    return frozenset(path[0] for path in [*paths, keys_of(mapping.skip_items_with)] if path)


@lru_cache(maxsize=64)
def _read_in_items(mapping: FieldMapping) -> frozenset[str]:
    """The keys of items that are read, with the path of the items."""
    return frozenset(
        of_item(items, (key,)) for items in mapping.compiled()["items"] for key in read_item_keys_of(mapping)
    )


@lru_cache(maxsize=64)
def paths_of(mapping: FieldMapping) -> frozenset[str]:
    """The mapped paths, as people write them."""
    compiled = mapping.compiled()
    of_order = {".".join(path) for field in ORDER_FIELDS for path in compiled[field]}
    of_order |= {path for _, _, paths in mapping.columns for path in paths}
    items = compiled["items"][:1]
    return frozenset(of_order | {of_item(items[0], path) for field in ITEM_FIELDS for path in compiled[field] if items})


def of_item(items: Path, path: Path) -> str:
    """A path in the elements of `items`, as people write it."""
    return ".".join((*items, *path))


def drifts(known: Known, drops: Iterable[tuple[int, str, FieldMapping, SeenKeys]]) -> list[Drift]:
    """What some drops (number, source, mapping, keys) bring, in their order. Updates `known`."""
    found = (_drift(known, *drop) for drop in drops)
    return [one for one in found if one.unread or one.missing]


def changes(before: Mapping[tuple[str, bool, str], KnownKey], after: Known) -> tuple[list[KnownKey], list[KnownKey]]:
    """What is new or different, and what is gone."""
    kept = [one for place, one in after.items() if before.get(place) != one]
    return kept, [one for place, one in before.items() if place not in after]


def _drift(known: Known, drop: int, source: str, mapping: FieldMapping, seen: SeenKeys) -> Drift:
    own = {place: one for place, one in known.items() if place[0] == source}
    paths = paths_of(mapping)
    _forget(known, own, read_keys_of(mapping) | _read_in_items(mapping), paths)
    room = _MOST_KEYS - sum(not is_read for _, is_read, _ in own)
    unread = [key for key in sorted(seen.unread) if (source, False, key) not in own][: max(room, 0)]
    for key in unread:
        known[source, False, key] = KnownKey(source, key, False, drop)
    missing = []
    for key in sorted(paths):
        place = source, True, key
        one = own.get(place)
        if one is None and key in seen.found:
            known[place] = KnownKey(source, key, True, drop)
        elif one is not None and one.missing_since is None and seen.judged and key not in seen.found | seen.unclear:
            known[place] = replace(one, missing_since=drop, told=True)
            missing += [] if one.told else [key]
        elif one is not None and one.missing_since is not None and key in seen.found:
            known[place] = replace(one, missing_since=None)
    return Drift(drop, source, tuple(unread), tuple(missing), is_first=not own)


def _forget(known: Known, own: Known, read: frozenset[str], paths: frozenset[str]) -> None:
    """Removes what another mapping of the source left: keys that are read by now, and paths that are not read any more."""
    for place in list(own):
        _, is_read, key = place
        if key not in paths if is_read else key in read:
            del known[place], own[place]
