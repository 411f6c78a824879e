"""Where each order lives: packed sorted runs in SQLite, made visible by the ledger's own transactions.

An entry is an INDEX_ENTRY: the order's 128-bit key, its date, its version. A batch adds one run: its entries sorted by
key, in blocks of 100 packed into a row each (a page of SQLite). The newest run that has a key is right. Small runs at the
new end are merged as they come, so that run sizes fall at least by half from old to new, and their number grows with
the logarithm of the history; merges of more than `_INLINE_ENTRIES` are left to `compact`, which the daemon calls when idle.

Blocks are written ahead, in a transaction of their own, while the batch's files are still being made; a run is real only
when `order_runs` names it, and that row is part of the batch's commit. Blocks without a run are left-overs of a crash or
of a merge, and `sweep` removes them.

Looking up few keys reads one block a key and run. Looking up many reads each run once, in slices of bounded memory.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .core.entries import Run
from .core.model import INDEX_ENTRY, Ints
from .core.native import put_entries, take_rows

SCHEMA = """
CREATE TABLE order_runs (run INTEGER PRIMARY KEY, entries INTEGER NOT NULL);
CREATE TABLE order_blocks (
    run INTEGER NOT NULL, first INTEGER NOT NULL, entries BLOB NOT NULL, PRIMARY KEY (run, first)
) WITHOUT ROWID;
"""
_BLOCK = 100  # entries: 3,600 bytes, so that a row fits a page of 4 KiB
_SLICE_BLOCKS = 2_000  # blocks in memory at once when a run is read through
_INLINE_ENTRIES = 2_000_000  # the largest merge done within a batch
_MAX_RUNS = 12  # idle compaction keeps to this many
_SIGN = np.uint64(1 << 63)


class OrderIndex:
    """Look-ups and additions on an open connection. Transactions are the caller's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._sql = connection

    def __len__(self) -> int:
        """Entries over all runs; an order counts once for each run that has it."""
        return int(self._sql.execute("SELECT coalesce(sum(entries), 0) FROM order_runs").fetchone()[0])

    def find(self, wanted: np.ndarray) -> tuple[np.ndarray, NDArray[np.bool_]]:
        """The entries of the wanted keys (`hi`, `lo` of an INDEX_ENTRY array, each key once), and which were found."""
        found = np.zeros(len(wanted), np.bool_)
        entries = np.zeros(len(wanted), INDEX_ENTRY)
        runs = self._sql.execute("SELECT run, entries FROM order_runs ORDER BY run DESC").fetchall()
        order = np.argsort(wanted["hi"]) if runs else np.zeros(0, np.int64)
        for run, size in runs:
            missing = order[~found[order]]
            if not len(missing):
                break
            for block in self._relevant(run, size, wanted["hi"][missing]):
                _take(block, wanted, missing, entries, found)
        return entries, found

    def write_ahead(self, entries: np.ndarray) -> Run | None:
        """Writes the blocks of a new run with these entries (each key once). It counts for nothing until `adopt`."""
        if not len(entries):
            return None
        order, replaced = _order(entries), []
        for run, size in self._sql.execute("SELECT run, entries FROM order_runs ORDER BY run DESC").fetchall():
            if size > 2 * len(entries) or size + len(entries) > _INLINE_ENTRIES:
                break
            entries = _newest([self._whole(run), entries])
            order = np.arange(len(entries))
            replaced.append(run)
        return Run(self._write_blocks(entries, order), len(entries), tuple(replaced))

    def adopt(self, run: Run | None) -> None:
        """Makes a run that was written ahead the newest one, in place of those that it was merged with."""
        if run is not None:
            self._sql.executemany("DELETE FROM order_runs WHERE run = ?", ((old,) for old in run.replaces))
            self._sql.execute("INSERT INTO order_runs VALUES (?, ?)", (run.number, run.entries))

    def sweep(self) -> None:
        """Removes blocks that belong to no run."""
        self._sql.execute("DELETE FROM order_blocks WHERE run NOT IN (SELECT run FROM order_runs)")

    def of_dates(self, dates: Sequence[int]) -> np.ndarray:
        """The entries of all orders that live on some dates (days since 1970). Reads the whole index."""
        placed = [np.zeros(0, INDEX_ENTRY)]
        for (run,) in self._sql.execute("SELECT run FROM order_runs").fetchall():
            placed += [part[np.isin(part["date"], dates)] for part in self._slices(run)]
        candidates = _newest(placed)
        current, _ = self.find(candidates)
        return current[np.isin(current["date"], dates)]

    def elsewhere(self, dates: Sequence[int]) -> np.ndarray:
        """The entries of all orders that live on none of some dates. Reads the whole index."""
        placed = [np.zeros(0, INDEX_ENTRY)]
        for (run,) in self._sql.execute("SELECT run FROM order_runs").fetchall():
            placed += [part[~np.isin(part["date"], dates)] for part in self._slices(run)]
        current, _ = self.find(_newest(placed))
        return current[~np.isin(current["date"], dates)]

    def compact(self) -> bool:
        """Merges the two newest runs where there are many. True if there may be more to do. For idle times."""
        runs = self._sql.execute("SELECT run, entries FROM order_runs ORDER BY run DESC").fetchall()
        if len(runs) <= _MAX_RUNS:
            return False
        (newer, _), (older, _) = runs[0], runs[1]
        merged = _newest([self._whole(older), self._whole(newer)])
        self.adopt(Run(self._write_blocks(merged, np.arange(len(merged))), len(merged), (newer, older)))
        self.sweep()
        return True

    def _relevant(self, run: int, size: int, hi: np.ndarray) -> Iterator[np.ndarray]:
        """The parts of a run in which keys with these `hi` can be."""
        if len(hi) * 8 > size / _BLOCK:
            yield from self._slices(run)
            return
        for first in _signed(hi).tolist():
            row = self._sql.execute(
                "SELECT entries FROM order_blocks WHERE run = ? AND first <= ? ORDER BY first DESC LIMIT 1",
                (run, first),
            ).fetchone()
            if row:
                yield np.frombuffer(row[0], INDEX_ENTRY)

    def _slices(self, run: int) -> Iterator[np.ndarray]:
        cursor = self._sql.execute("SELECT entries FROM order_blocks WHERE run = ? ORDER BY first", (run,))
        while rows := cursor.fetchmany(_SLICE_BLOCKS):
            yield np.frombuffer(b"".join(row[0] for row in rows), INDEX_ENTRY)

    def _whole(self, run: int) -> np.ndarray:
        return np.concatenate([np.zeros(0, INDEX_ENTRY), *self._slices(run)])

    def _write_blocks(self, entries: np.ndarray, order: Ints) -> int:
        query = "SELECT max(coalesce((SELECT max(run) FROM order_runs), 0), coalesce((SELECT max(run) FROM order_blocks), 0))"
        run = int(self._sql.execute(query).fetchone()[0]) + 1
        starts = np.arange(0, len(entries), _BLOCK)
        hi = entries["hi"][order]
        # A block never begins inside a group of equal `hi`, or a look-up by `hi` alone would miss the group's start.
        while (inside := (starts > 0) & (hi[starts] == hi[starts - 1])).any():
            starts = np.unique(starts - inside)
        stops = np.append(starts[1:], len(entries))
        for part in range(0, len(starts), _SLICE_BLOCKS):  # a sorted copy of all would take as much memory again
            blocks = slice(part, part + _SLICE_BLOCKS)
            base = int(starts[part])
            ordered = take_rows(entries, order[base : stops[blocks][-1]])
            data, size = ordered.view(np.uint8).data, INDEX_ENTRY.itemsize
            places = zip(_signed(hi[starts[blocks]]), starts[blocks] - base, stops[blocks] - base, strict=True)
            self._sql.executemany(
                "INSERT INTO order_blocks VALUES (?, ?, ?)",
                ((run, int(first), data[int(a) * size : int(b) * size]) for first, a, b in places),
            )
        return run


def _signed(hi: np.ndarray) -> np.ndarray:
    """SQLite's integers are signed: flipping the top bit keeps the order."""
    return (hi ^ _SIGN).view(np.int64)


def _order(entries: np.ndarray) -> Ints:
    """The order in which entries are sorted by key."""
    order = np.argsort(entries["hi"])
    hi = entries["hi"][order]
    if (hi[1:] == hi[:-1]).any():
        order = np.lexsort([entries["lo"], entries["hi"]])
    return order


def _newest(oldest_first: list[np.ndarray]) -> np.ndarray:
    """One sorted run out of several: of a key in more than one, the last counts."""
    together = np.concatenate(oldest_first)
    ordered = take_rows(together, np.lexsort([np.arange(len(together)), together["lo"], together["hi"]]))
    last = np.ones(len(ordered), np.bool_)
    last[:-1] = (ordered["hi"][1:] != ordered["hi"][:-1]) | (ordered["lo"][1:] != ordered["lo"][:-1])
    return ordered[last]


def _take(
    block: np.ndarray, wanted: np.ndarray, missing: np.ndarray, entries: np.ndarray, found: NDArray[np.bool_]
) -> None:
    """Copies to `entries` what `block` (sorted) has of the missing keys (sorted by `hi`)."""
    if not len(block):
        return
    hi = wanted["hi"][missing]
    low, high = np.searchsorted(hi, block["hi"][[0, -1]], side="left")
    high += int(np.searchsorted(hi[high:], block["hi"][-1], side="right"))
    here = missing[low:high]
    place = np.searchsorted(block["hi"], wanted["hi"][here])
    while len(here):
        inside = place < len(block)
        here, place = here[inside], place[inside]
        same_hi = block["hi"][place] == wanted["hi"][here]
        here, place = here[same_hi], place[same_hi]
        hit = block["lo"][place] == wanted["lo"][here]
        put_entries(block, place[hit], here[hit], entries)
        found[here[hit]] = True
        here, place = here[~hit], place[~hit] + 1
