"""Refuses the records of users and orders that are blocked: they were erased, and must not come back. Pure.

A block has no id, only a salted hash of one. So the ids of all records are hashed, but only where anything is blocked. A record
that is refused is counted as a discard, and nothing is kept of it. A block holds for the drops with numbers from `first` to
`last`, so that a rebuild refuses what was refused, also after the block was lifted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import groupby

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ..mapping import FieldMapping
from ..model import DIMENSIONS, DISCARDS, Bools, DimensionRows, Parsed, Reason
from . import reference
from .discards import Discards, concat_discards, each
from .naming import ids_in, texts_in
from .values import WHITE_SPACE

USER, ORDER = "user", "order"
SALT_BYTES = 16
# An id is looked up by its hash, so words are taken as they stand
_BETWEEN_WORDS = re.compile(r"""[\s"',:;=|<>()\[\]{}\\]+""")
_NOTHING = "null"  # what is kept of a refused record


@dataclass(frozen=True, slots=True)
class Block:
    """One blocked id. `kind`: USER or ORDER; `last`: None while it is not lifted."""

    kind: str
    salt: bytes
    hash: bytes
    first: int
    last: int | None = None

    def holds_for(self, drop: int) -> bool:
        """Whether it holds for the drop with this number."""
        return self.first <= drop and (self.last is None or drop <= self.last)

    def is_of(self, kind: str, one: str) -> bool:
        """Whether it blocks this id."""
        return kind == self.kind and hash_of(self.salt, one) == self.hash


def hash_of(salt: bytes, one: str) -> bytes:
    """The hash of an id."""
    return blake2b(one.encode(errors="replace"), key=salt, digest_size=32).digest()


def without_blocked(read: Parsed, blocks: Sequence[Block], mappings: Mapping[int, FieldMapping]) -> Parsed:
    """The same without the records that are blocked, which are discards now. `mappings`: by drop."""
    blocks = [one for one in blocks if any(map(one.holds_for, read.tallies))]
    if not blocks:
        return read
    finder = _Finder(blocks)
    orders, refused = _of_orders(read.orders, finder)
    rows = {}
    for drop, one in read.rows.items():
        rows[drop], places = _of_rows(drop, one, finder)
        if places:
            refused[drop] = _positions_of_rows(read, drop, places)
    kept, replaced = _of_discards(read.discards, finder, mappings)
    for drop, positions in refused.items():
        read.tallies[drop].discarded[Reason.BLOCKED] += len(positions)
    for drop, reasons in replaced.items():
        tally = read.tallies[drop]
        tally.discarded = tally.discarded - reasons + Counter({Reason.BLOCKED: reasons.total()})
    return replace(read, orders=orders, rows=rows, discards=_with(kept, refused))


class _Finder:
    """Finds which ids are blocked. Each is hashed once for each salt; all blocks of a ledger have the same salt."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self._blocks: dict[tuple[str, bytes], list[Block]] = {}
        for one in blocks:
            self._blocks.setdefault((one.kind, one.hash), []).append(one)
        self._salts = sorted({one.salt for one in blocks})

    def of(self, kind: str, one: str | None) -> list[Block]:
        """The blocks of an id."""
        if one is None:
            return []
        hashes = [(salt, hash_of(salt, one)) for salt in self._salts]
        return [
            found for salt, hashed in hashes for found in self._blocks.get((kind, hashed), ()) if found.salt == salt
        ]

    def is_blocked(self, drop: int, kind: str, one: str | None) -> bool:
        return any(found.holds_for(drop) for found in self.of(kind, one))

    def mask(self, ids: pa.ChunkedArray, kind: str, drops: np.ndarray) -> Bools:
        """Which of these ids are blocked, each in the drop that it is of."""
        mask = np.zeros(len(ids), np.bool_)
        for one in pc.unique(ids).to_pylist():
            for found in self.of(kind, one):
                last = drops.max(initial=0) if found.last is None else found.last
                is_here = pc.fill_null(pc.equal(ids, one), False).to_numpy()
                mask |= is_here & (drops >= found.first) & (drops <= last)
        return mask


def _of_orders(orders: pa.Table, finder: _Finder) -> tuple[pa.Table, dict[int, list[int]]]:
    drops = orders["drop"].to_numpy()
    blocked = finder.mask(orders["order_id"], ORDER, drops) | finder.mask(orders["user_id"], USER, drops)
    refused: dict[int, list[int]] = {}
    for drop, position in zip(drops[blocked].tolist(), orders["position"].to_numpy()[blocked].tolist(), strict=True):
        refused.setdefault(drop, []).append(position)
    return orders.filter(pa.array(~blocked)) if refused else orders, refused


def _of_rows(drop: int, rows: DimensionRows, finder: _Finder) -> tuple[DimensionRows, list[int]]:
    """The rows that stay, and the places of the others."""
    if rows.dimension != USER:
        return rows, []
    keys = rows.table[DIMENSIONS[USER].key]
    blocked = finder.mask(keys, USER, np.full(len(keys), drop))
    return replace(rows, table=rows.table.filter(pa.array(~blocked))), np.flatnonzero(blocked).tolist()


def _positions_of_rows(read: Parsed, drop: int, places: Iterable[int]) -> list[int]:
    """The positions in a drop of the rows that are at these places among the rows that it keeps."""
    discarded = read.discards.filter(pc.equal(read.discards["drop"], drop))["position"].to_numpy()
    kept = np.setdiff1d(np.arange(1, read.tallies[drop].extracted + 1), discarded)
    return [int(kept[place]) for place in places]


def _of_discards(
    discards: pa.Table, finder: _Finder, mappings: Mapping[int, FieldMapping]
) -> tuple[pa.Table, dict[int, Counter[str]]]:
    """The discards, with nothing kept of those that name somebody who is blocked; and how many these are, by drop and reason."""
    replaced: dict[int, Counter[str]] = {}
    made = Discards()
    for one in each(discards):
        if _names(one.record.encode(), one.drop, finder, mappings[one.drop]):
            replaced.setdefault(one.drop, Counter())[one.reason] += 1
            made.add(one.drop, one.position, Reason.BLOCKED, _NOTHING)
        else:
            made.add(one.drop, one.position, one.reason, one.record)
    return made.table() if replaced else discards, replaced


def _names(record: bytes, drop: int, finder: _Finder, mapping: FieldMapping) -> bool:
    order_id, user_id = ids_in(record, mapping)
    if finder.is_blocked(drop, ORDER, order_id) or finder.is_blocked(drop, USER, user_id):
        return True
    try:
        texts = {text.strip(WHITE_SPACE) for text in texts_in(reference.value_of(record.decode()))}
    except reference.NotJson:  # nested too deep
        return False
    words = {word for text in texts for word in _BETWEEN_WORDS.split(text)}  # of a text that could not be parsed
    prefix = mapping.id_prefix
    ids = texts | words | ({prefix + one for one in texts | words} if prefix else set())
    return any(finder.is_blocked(drop, kind, one) for kind in (USER, ORDER) for one in ids)


def _with(discards: pa.Table, refused: Mapping[int, Sequence[int]]) -> pa.Table:
    """The discards with those that were refused. The rows of a drop are together, by position."""
    if not refused:
        return discards
    made = Discards()
    for drop, positions in refused.items():
        for position in positions:
            made.add(drop, position, Reason.BLOCKED, _NOTHING)
    return _sorted(concat_discards([discards, made.table()]))


def _sorted(discards: pa.Table) -> pa.Table:
    first_of = [drop for drop, _ in groupby(discards["drop"].to_pylist())]
    rank = {drop: number for number, drop in enumerate(dict.fromkeys(first_of))}
    places = np.array([rank[drop] for drop in discards["drop"].to_pylist()], np.int64)
    order = np.lexsort((discards["position"].to_numpy(), places))
    return discards.take(pa.array(order)).cast(DISCARDS)
