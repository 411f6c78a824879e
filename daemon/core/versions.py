"""Which record of an order is the latest, and what that changes. Pure.

Version = (`updated_at` or else `created_at`; the drop's sequence number; the position in the drop). The larger wins, items
and all. Everything here works on arrays with one element per winner; an order is its 128-bit key.

    keyed.latest   all records of a batch  -> one winner per order; the others are superseded
    decide         winners + what the index knows of them -> superseded by the published version | new | known | the same
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa

from .keyed import compare
from .model import Bools, Ints
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


def decide(winners: np.ndarray, published: Iterable[tuple[Ints, Ints, np.ndarray]]) -> Decision:
    """`published`: what the index knows of the winners (sorted entries), in parts: entries[places] are those of winners[where].
    Winners without an entry are new."""
    superseded, same, found = (np.zeros(len(winners), np.bool_) for _ in range(3))
    old_date = np.zeros(len(winners), np.int32)
    for where, places, entries in published:
        compare(winners, where, entries, places, superseded, same, old_date)
        found[where] = True
    return Decision(superseded, found & ~superseded, same, old_date)
