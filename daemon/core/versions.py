"""Which record of an order is the latest, and what that changes. Pure.

Version = (`updated_at` or else `created_at`; the drop's sequence number; the position in the drop). The larger wins, items
and all. Everything here works on arrays with one element per winner; an order is its 128-bit key.

    keyed.latest   all records of a batch  -> one winner per order; the others are superseded
    decide         winners + what the index knows of them -> superseded by the published version | new | known | the same

A winner that says what is published already is the later version, and yet the index need not hear of it: the entry that it has
*stands*, and wins over the same records, unless one comes that lies between the two. Records come by rising numbers of their
drops, with one exception: what a drop brings later that was read under a `since`. So the entry stands where no such drop has
its number or a larger one. (And not for ever, see Ledger.stands_after: a date is made anew from the drops that entries name.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from .keyed import compare
from .model import INDEX_ENTRY, Bools, Ints
from .scalars import order_key


def keys_of(order_ids: pa.ChunkedArray) -> list[bytes]:
    """The 128-bit keys of order ids (large_string, none of them NULL)."""
    keys: list[bytes] = []
    for chunk in filter(len, order_ids.chunks):
        _, offsets_buffer, data = chunk.buffers()
        text = data.to_pybytes() if data is not None else b""
        offsets = np.frombuffer(offsets_buffer, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        keys += [order_key(text[a:b]) for a, b in pairwise(offsets)]
    return keys


@dataclass(frozen=True, slots=True)
class Decision:
    """What each winner means, as far as the index can tell. Arrays by winner."""

    superseded: Bools  # the published version is later
    known: Bools  # published before, and this version is later
    same: Bools  # known, and its content is what is published, to the last bit
    old_date: np.ndarray  # int32; where a known order lives now
    old_drop: np.ndarray  # uint32; which drop it came with


def decide(winners: np.ndarray, published: Iterable[tuple[Ints, Ints, np.ndarray]]) -> Decision:
    """`published`: what the index knows of the winners (sorted entries), in parts: entries[places] are those of winners[where].
    Winners without an entry are new."""
    superseded, same, found = (np.zeros(len(winners), np.bool_) for _ in range(3))
    old_date, old_drop = np.zeros(len(winners), np.int32), np.zeros(len(winners), np.uint32)
    for where, places, entries in published:
        compare(winners, where, entries, places, superseded, same, old_date, old_drop)
        found[where] = True
    return Decision(superseded, found & ~superseded, same, old_date, old_drop)


# ------------------------------------------------------------------------------------------------------- the index, looked at


def places_of(drop: np.ndarray, position: np.ndarray) -> Ints:
    """Drop and position (32 bits each, in the index) as one comparable value."""
    return drop.astype(np.int64) << 32 | position.astype(np.int64)


def equal(ours: np.ndarray, theirs: np.ndarray) -> Bools:
    """Which entries equal those beside them. A content that is not known of ours, since it was never hashed, may be any."""
    same = [ours[name] == theirs[name] for name in INDEX_ENTRY.names or () if name != "content"]
    return np.logical_and.reduce([*same, ~_hashed(ours) | (ours["content"] == theirs["content"])])


def as_good(ours: np.ndarray, latest: np.ndarray, under_since: Ints) -> bool:
    """Whether an index may have these entries (sorted), where `latest` are of the latest version of each order: the same, or an
    earlier one that says the same and stands, since none of the drops between is read `under_since` (ascending)."""
    if len(ours) != len(latest):
        return False
    # As many drops under a since lie before the one as up to the other: none between. What was read under one once and is not
    # any more brings nothing, either.
    closed = np.searchsorted(under_since, ours["drop"], "left") == np.searchsorted(under_since, latest["drop"], "right")
    earlier = places_of(ours["drop"], ours["position"]) < places_of(latest["drop"], latest["position"])
    stands = _hashed(ours) & earlier & closed
    expected = latest.copy()
    for name in ("drop", "position"):
        expected[name][stands] = ours[name][stands]
    return bool(equal(ours, expected).all())


def _hashed(entries: np.ndarray) -> Bools:
    return np.asarray(entries["content"] != np.zeros(1, entries["content"].dtype), np.bool_)
