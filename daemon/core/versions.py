"""Which record of an order is the latest, and what that changes. Pure.

Version = (`updated_at` or else `created_at`; the drop's sequence number; the position in the drop). The larger wins, items
and all. Everything here works on arrays with one element per record or per winner; an order is its 128-bit key.

    latest   all records of a batch  -> one winner per order; the others are superseded
    decide   winners + what the index knows of them -> superseded by the published version | new | known
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .model import INDEX_ENTRY, Bools, Ints, dates_of
from .native import take_rows
from .scalars import order_key


def entries_of(orders: pa.Table) -> np.ndarray:
    """An INDEX_ENTRY array: key, date and version of each row of an ORDERS table."""
    entries = np.empty(orders.num_rows, INDEX_ENTRY)  # large pages of memory, which zeros would not get
    keys = np.frombuffer(b"".join(chunk.buffers()[1][chunk.offset * 16 : (chunk.offset + len(chunk)) * 16]
                                  for chunk in orders["key"].chunks if len(chunk)), dtype="<u8").reshape(-1, 2)  # fmt: skip
    entries["hi"], entries["lo"] = keys[:, 0], keys[:, 1]
    entries["date"] = dates_of(orders["created_at"].to_numpy())
    entries["instant"] = pc.coalesce(orders["updated_at"], orders["created_at"]).to_numpy()
    entries["drop"] = orders["drop"].to_numpy()
    entries["position"] = orders["position"].to_numpy()
    return entries


def keys_of(order_ids: pa.ChunkedArray) -> list[bytes]:
    """The 128-bit keys of order ids (large_string, none of them NULL)."""
    keys: list[bytes] = []
    for chunk in filter(len, order_ids.chunks):
        _, offsets_buffer, data = chunk.buffers()
        text = data.to_pybytes() if data is not None else b""
        offsets = np.frombuffer(offsets_buffer, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        keys += [order_key(text[a:b]) for a, b in pairwise(offsets)]
    return keys


def latest(entries: np.ndarray) -> Ints:
    """The indexes of the winning records, one per order, ascending."""
    ordered = np.sort(entries["hi"])
    if not (ordered[1:] == ordered[:-1]).any():  # each order once: usual, and much quicker to see than to sort by
        return np.arange(len(entries))
    by_hi = np.argsort(entries["hi"])
    hi = entries["hi"][by_hi]
    same = np.flatnonzero(hi[1:] == hi[:-1])
    shared = np.zeros(len(entries), np.bool_)
    shared[by_hi[same]] = shared[by_hi[same + 1]] = True
    rivals = np.flatnonzero(shared)
    found = entries[rivals]
    ranked = np.lexsort([found[name] for name in ("position", "drop", "instant", "lo", "hi")])
    last = np.ones(len(ranked), np.bool_)
    ordered = found[ranked]
    last[:-1] = (ordered["hi"][1:] != ordered["hi"][:-1]) | (ordered["lo"][1:] != ordered["lo"][:-1])
    shared[rivals[ranked[last]]] = False
    return np.flatnonzero(~shared)


def only(chosen: Ints, entries: np.ndarray) -> tuple[Ints, np.ndarray]:
    """Some entries (indexes, ascending); the same array where that is all of them, since it may be large."""
    return chosen, entries if len(chosen) == len(entries) else take_rows(entries, chosen)


@dataclass(frozen=True, slots=True)
class Decision:
    """What each winner means, before its content is looked at. Arrays by winner."""

    superseded: Bools  # the published version is later
    known: Bools  # published before, and this version is later
    old_date: np.ndarray  # int32; where a known order lives now


def decide(winners: np.ndarray, published: np.ndarray, found: Bools) -> Decision:
    """`published[i]` is what the index knows of winner i where `found[i]`."""
    if not found.any():
        return Decision(found, found, published["date"])
    superseded = found & ~_later(winners, published)
    return Decision(superseded, found & ~superseded, published["date"])


def _later(one: np.ndarray, other: np.ndarray) -> Bools:
    """Where version `one` is larger than `other`, compared as tuples."""
    tie = np.ones(len(one), np.bool_)
    later = np.zeros(len(one), np.bool_)
    for name in ("instant", "drop", "position"):
        later |= tie & (one[name] > other[name])
        tie &= one[name] == other[name]
    return later
