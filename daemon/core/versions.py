"""Which version of an order is the latest, and what that changes. Pure.

A version is (`updated_at` or else `created_at`; the number of the drop; the position in the drop). The larger wins, with its
items. Everything here works on arrays with one element per winner; an order is its 128-bit key.

    keys.latest    all records of a batch  -> one winner per order; the others are superseded
    decide         winners + their entries in the index -> an Outcome each
    reinstate      entries whose drop is withdrawn + the latest versions that are left -> the new entries, and an Outcome each

The winner becomes the entry in the index, unless it is superseded. So the index names the latest version of each order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .merge.keys import matches, put_entries, take_entries
from .model import DELETED_DATE, INDEX_ENTRY, Bools, Ints
from .parse.values import order_key


def keys_of(order_ids: pa.ChunkedArray) -> list[bytes]:
    """The 128-bit keys of order ids (large_string, none of them NULL)."""
    keys: list[bytes] = []
    for chunk in filter(len, order_ids.chunks):
        _, offsets_buffer, data = chunk.buffers()
        text = data.to_pybytes() if data is not None else b""
        offsets = np.frombuffer(offsets_buffer, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1].tolist()
        keys += [order_key(text[a:b]) for a, b in pairwise(offsets)]
    return keys


class Outcome(IntEnum):
    """What a winner is, compared with the published version of its order."""

    NEW = 0
    SUPERSEDED = 1
    UNCHANGED = 2
    CORRECTED = 3
    MOVED = 4  # corrected, and on another date
    DELETED = 5


@dataclass(frozen=True, slots=True)
class Decision:
    """Arrays by winner."""

    outcome: NDArray[np.int8]  # Outcome
    old_date: NDArray[np.int32]  # where the order is published; DELETED_DATE: nowhere


def decide(winners: np.ndarray, published: Iterable[tuple[Ints, Ints, np.ndarray]]) -> Decision:
    """What the winners are. `published`: what the index has of them (sorted entries), in parts: entries[found] are those of
    winners[of_winner]. See the table in `compared`."""
    outcome = np.where(_is_deletion(winners), np.int8(Outcome.DELETED), np.int8(Outcome.NEW))
    old_date = np.full(len(winners), DELETED_DATE, np.int32)
    for of_winner, found, entries in published:
        theirs = take_entries(entries, found)
        outcome[of_winner] = compared(take_entries(winners, of_winner), theirs)
        old_date[of_winner] = theirs["date"]
    return Decision(outcome, old_date)


def compared(winner: np.ndarray, published: np.ndarray) -> NDArray[np.int8]:
    """What each winner is, compared with the index's entry of the same order. The first case that holds counts.

    the index has no entry             NEW, or DELETED (it may know the order later)
    an entry that is later             SUPERSEDED
    a deletion         a deletion      UNCHANGED
    an order           a deletion      DELETED
    a deletion         an order        NEW
    another date       an order        MOVED
    other content      an order        CORRECTED
    the same content   an order        UNCHANGED
    """
    return np.where(is_later(winner, published), _replacing(winner, published), np.int8(Outcome.SUPERSEDED))


@dataclass(frozen=True, slots=True)
class Reinstated:
    """What follows entries of the index whose drop is withdrawn."""

    entries: np.ndarray  # in place of the withdrawn ones; an order without another version is absent
    source: Ints  # by entry, which of the versions that are left it is; -1: none
    decision: Decision


def reinstate(withdrawn: np.ndarray, left: np.ndarray) -> Reinstated:
    """What becomes of orders whose version is withdrawn. `withdrawn`: their entries in the index; `left`: the latest of all other
    versions, of the orders that have one. Both are sorted. An order without one is treated as if it were deleted: it goes, or
    where its deletion is withdrawn, nothing changes."""
    entries, source = absent(withdrawn), np.full(len(withdrawn), -1, np.int64)
    where, found = matches(withdrawn, left, np.zeros(len(withdrawn), np.bool_))
    put_entries(left, found, where, entries)
    source[where] = found
    return Reinstated(entries, source, Decision(_replacing(entries, withdrawn), withdrawn["date"]))


def absent(entries: np.ndarray) -> np.ndarray:
    """Entries that say of the same orders that they are not known: no drop has the number 0. Runs of the index are only added to,
    so an order leaves it by such an entry, which no look-up shows."""
    out = np.zeros(len(entries), INDEX_ENTRY)
    out["hi"], out["lo"], out["date"] = entries["hi"], entries["lo"], DELETED_DATE
    return out


def _replacing(winner: np.ndarray, published: np.ndarray) -> NDArray[np.int8]:
    """The same for winners that replace the entries, whichever is later."""
    deletes, is_deleted = _is_deletion(winner), _is_deletion(published)
    cases = [
        (deletes & is_deleted, Outcome.UNCHANGED),
        (deletes, Outcome.DELETED),
        (is_deleted, Outcome.NEW),
        (winner["date"] != published["date"], Outcome.MOVED),
        (winner["content"] != published["content"], Outcome.CORRECTED),
    ]
    masks, outcomes = zip(*cases, strict=True)
    return np.select(masks, [np.int8(one) for one in outcomes], np.int8(Outcome.UNCHANGED))


def _is_deletion(entries: np.ndarray) -> Bools:
    return np.asarray(entries["date"] == DELETED_DATE, np.bool_)


def is_later(one: np.ndarray, other: np.ndarray) -> Bools:
    """Whether each version of `one` is later than that of `other`."""
    arrival, other_arrival = (drop_positions(entries["drop"], entries["position"]) for entries in (one, other))
    same_instant = one["instant"] == other["instant"]
    return np.asarray((one["instant"] > other["instant"]) | (same_instant & (arrival > other_arrival)), np.bool_)


def drop_positions(drop: np.ndarray, position: np.ndarray) -> NDArray[np.uint64]:
    """Drop and position (32 bits each) as one comparable number."""
    return drop.astype(np.uint64) << np.uint64(32) | position.astype(np.uint64)


def equal(ours: np.ndarray, theirs: np.ndarray) -> Bools:
    """Which entries of two arrays are equal, index by index."""
    return np.logical_and.reduce([ours[name] == theirs[name] for name in INDEX_ENTRY.names or ()])
