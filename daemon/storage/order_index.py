"""The order index: the date and latest version of each order, as packed sorted runs in the SQLite file of the ledger.

An entry is an INDEX_ENTRY: the 128-bit key of an order, its date, its version, the hash of its content. A batch adds one run: its
entries sorted by key, in rows of some hundred entries each (blocks). Each block says which keys it covers, and the blocks of a
run cover all keys: a block that is damaged, lost or of another place is never taken for the absence of an order.

The newest run that has a key is right. A batch merges the small newest runs into its own, so that each run is at most half as
large as the one before, and their number grows with the logarithm of the history. Merges of more than `_INLINE_ENTRIES` are left
to `compact`, which the daemon calls when idle. It works in small steps, so that no drop waits for a merge of millions; an
unfinished merge has no effect.

Blocks are written ahead, in a transaction of their own, while the files of the batch are still being made. A run exists only when
`order_runs` names it, and that row is part of the commit. `sweep` removes blocks without a run, which a crash or a merge left.

A look-up of few keys reads one block per key and run. A look-up of many reads each run once, in slices of bounded memory.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from ..core.entries import Run
from ..core.errors import Corruption
from ..core.merge.keys import ascending, matches, merged, put_entries
from ..core.model import INDEX_ENTRY, Ints

SCHEMA = """
CREATE TABLE order_runs (run INTEGER PRIMARY KEY, entries INTEGER NOT NULL);
CREATE TABLE order_blocks (
    run INTEGER NOT NULL, first INTEGER NOT NULL,
    last INTEGER NOT NULL,          -- it covers all keys whose signed `hi` is from `first` to `last`
    checksum INTEGER NOT NULL,      -- CRC-32 of the run, `first`, `last` and the entries
    entries BLOB NOT NULL,
    PRIMARY KEY (run, first)
);
"""
PAGE_BYTES = 16_384  # of a new ledger: a run of millions is written in half the time of pages of 4 KiB
_BLOCK = 312  # entries: 16,224 bytes, so that a row fits a page
_SLICE_BLOCKS = 200  # blocks in memory at once when a whole run is read
_INLINE_ENTRIES = 50_000  # the largest merge within a batch
_STEP_BLOCKS = 160  # of one step of `compact`, about 20 ms
MANY_RUNS = 12  # with more runs, look-ups are so slow that merging does not wait for an idle time
_SIGN = np.uint64(1 << 63)
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1  # of a block's `first`
_NEXT_RUN = "SELECT min(run) FROM order_blocks WHERE run > ?"
_COLUMNS = "run, first, last, checksum, entries"
_HEAD = struct.Struct("<qqq")  # run, first, last
_BLOCKS_FROM = f"SELECT {_COLUMNS} FROM order_blocks WHERE run = ? AND first >= ? AND first <= ? ORDER BY first"
_BLOCK_OF = f"SELECT {_COLUMNS} FROM order_blocks WHERE run = ? AND first <= ? ORDER BY first DESC LIMIT 1"
_Block = tuple[int, int, int, int, bytes]


@dataclass
class Merge:
    """A merge in progress: its runs, oldest first, the run that it writes, and how far it is."""

    runs: Sequence[int]
    largest: int
    stride: int  # blocks of the largest run per step; a step takes about the same share of each other run
    target: int
    entries: int = 0  # written so far
    start: int = _LOWEST  # all entries below are written


class OrderIndex:
    """Look-ups and additions on an open connection. The caller opens transactions. `merge`: one that another connection of this
    process has in progress."""

    def __init__(self, connection: sqlite3.Connection, merge: Merge | None = None) -> None:
        self._sql = connection
        self.merge = merge

    def __len__(self) -> int:
        """The entries of all runs; an order counts once for each run that has it."""
        return int(self._sql.execute("SELECT coalesce(sum(entries), 0) FROM order_runs").fetchone()[0])

    def look_up(self, wanted: np.ndarray) -> Iterator[tuple[Ints, Ints, np.ndarray]]:
        """The entries of the wanted keys (those of sorted entries), in parts: entries[found] are those of wanted[of_wanted]. The
        parts are of bounded size, and no wanted key is in two. An order that is absent (see versions.absent) is not found."""
        found = np.zeros(len(wanted), np.bool_)
        for run, size in self._runs():
            missing = wanted["hi"] if not found.any() else wanted["hi"][~found]
            for entries in self._relevant(run, size, missing):
                of_wanted, places = matches(wanted, entries, found)
                known = entries["drop"][places] != 0
                yield (of_wanted, places, entries) if known.all() else (of_wanted[known], places[known], entries)

    def find(self, wanted: np.ndarray) -> tuple[np.ndarray, NDArray[np.bool_]]:
        """The entries of few wanted keys (those of sorted entries), and which were found. `look_up` takes less memory."""
        is_found, entries = np.zeros(len(wanted), np.bool_), np.zeros(len(wanted), INDEX_ENTRY)
        for of_wanted, found, part in self.look_up(wanted):
            put_entries(part, found, of_wanted, entries)
            is_found[of_wanted] = True
        return entries, is_found

    def write_ahead(self, entries: np.ndarray) -> Run | None:
        """Writes the blocks of a new run with these sorted entries. The run does not exist until `adopt`."""
        assert ascending(entries)
        if not len(entries):
            return None
        replaced = []
        taken = self.merge.runs if self.merge else ()
        for run, size in self._runs():
            if size > 2 * len(entries) or size + len(entries) > _INLINE_ENTRIES or run in taken:
                break
            entries = merged(self._whole(run), entries)
            replaced.append(run)
        run = self._next_run()
        self._write_blocks(run, entries, _LOWEST, _HIGHEST)
        return Run(run, len(entries), tuple(replaced))

    def adopt(self, run: Run | None) -> None:
        """Makes a run that was written ahead the newest one, and removes those that were merged into it."""
        if run is not None:
            self._sql.executemany("DELETE FROM order_runs WHERE run = ?", ((old,) for old in run.replaces))
            self._sql.execute("INSERT INTO order_runs VALUES (?, ?)", (run.number, run.entries))

    def sweep(self, entries: int = 0) -> bool:
        """Removes some blocks that belong to no run, about as many as `entries` need. True if there were any. Goes from one run
        number to the next, and never reads all blocks."""
        found = self._sweep_some()
        for _ in range(entries // (_BLOCK * _STEP_BLOCKS)):
            if not self._sweep_some():
                break
        return found

    def _sweep_some(self) -> bool:
        in_use = {run for run, _ in self._runs()} | ({self.merge.target} if self.merge else set())
        run = 0
        while (run := self._sql.execute(_NEXT_RUN, (run,)).fetchone()[0]) is not None:
            if run not in in_use:
                stop = self._block_after(run, _LOWEST, _STEP_BLOCKS)
                below = "AND first < ?" if stop is not None else "AND ? IS NULL"
                self._sql.execute(f"DELETE FROM order_blocks WHERE run = ? {below}", (run, stop))
                return True
        return False

    def of_dates(self, dates: Sequence[int]) -> np.ndarray:
        """The entries of all orders on these dates (days since 1970), sorted. Reads the whole index."""
        return self._where(lambda entries: np.isin(entries["date"], dates))

    def elsewhere(self, dates: Sequence[int]) -> np.ndarray:
        """The entries of all orders on other dates than these, sorted. Reads the whole index."""
        return self._where(lambda entries: ~np.isin(entries["date"], dates))

    def of_drop(self, seq: int) -> np.ndarray:
        """The entries that name this drop, sorted. Reads the whole index."""
        return self._where(lambda entries: np.asarray(entries["drop"] == seq, np.bool_))

    def _where(self, chosen: Callable[[np.ndarray], NDArray[np.bool_]]) -> np.ndarray:
        candidates = np.zeros(0, INDEX_ENTRY)
        for (run,) in self._sql.execute("SELECT run FROM order_runs ORDER BY run").fetchall():
            parts = [entries[chosen(entries)] for entries in self._slices(run)]
            candidates = merged(candidates, np.concatenate([np.zeros(0, INDEX_ENTRY), *parts]))
        current, is_known = self.find(candidates)
        return current[is_known & chosen(current)]

    def compact(self, allowed_runs: int = 1) -> bool:
        """One step: removes blocks without a run, or continues the merge in progress, or begins one if there are more runs than
        allowed. True if there may be more to do. If the transaction fails, call `forget_merge`."""
        if self.sweep():
            return True
        if self.merge is None and not (due := self._due(allowed_runs)):
            return False
        if self.merge is None:
            largest, size = max(due, key=lambda run: run[1])
            stride = max(1, _STEP_BLOCKS * size // sum(size for _, size in due))
            self.merge = Merge([run for run, _ in reversed(due)], largest, stride, self._next_run())
        self._step(self.merge)
        return True

    def forget_merge(self) -> None:
        """Gives the merge in progress up. Its blocks belong to no run."""
        self.merge = None

    def _runs(self) -> list[tuple[int, int]]:
        """(number, entries) of each run, the newest first."""
        return self._sql.execute("SELECT run, entries FROM order_runs ORDER BY run DESC").fetchall()

    def _due(self, allowed_runs: int) -> list[tuple[int, int]]:
        """The newest runs, down to the oldest one that is at most twice as large as all newer ones together."""
        runs = self._runs()
        newer = chosen = 0
        for index, (_, size) in enumerate(runs):
            if size <= 2 * newer:
                chosen = index + 1
            newer += size
        return runs[:chosen] if len(runs) > allowed_runs else []

    def _step(self, merge: Merge) -> None:
        """Continues a merge up to a later block of its largest run. Keys are hashes, so the other runs advance about as far."""
        stop = self._block_after(merge.largest, merge.start, merge.stride)
        entries = np.zeros(0, INDEX_ENTRY)
        for run in merge.runs:
            entries = merged(entries, self._between(run, merge.start, stop))
        self._write_blocks(merge.target, entries, merge.start, _HIGHEST if stop is None else stop - 1)
        merge.entries += len(entries)
        if stop is not None:
            merge.start = stop
            return
        self.adopt(Run(merge.target, merge.entries, tuple(merge.runs)))
        self.merge = None

    def _block_after(self, run: int, first: int, blocks: int) -> int | None:
        """The `first` of the block that is `blocks` blocks later; None where the run ends before."""
        query = "SELECT first FROM order_blocks WHERE run = ? AND first >= ? ORDER BY first LIMIT 1 OFFSET ?"
        row = self._sql.execute(query, (run, first, blocks)).fetchone()
        return int(row[0]) if row else None

    def _between(self, run: int, start: int, stop: int | None) -> np.ndarray:
        """The entries of a run whose signed `hi` is at least `start` and below `stop`."""
        last = _HIGHEST if stop is None else stop - 1
        rows = [block := self._block_of(run, start)]
        if block[2] < last:
            rows += self._sql.execute(_BLOCKS_FROM, (run, block[2] + 1, last)).fetchall()
        entries = _joined(run, rows, block[1], last)
        hi = _signed(entries["hi"])
        return entries[np.searchsorted(hi, start) : np.searchsorted(hi, last, side="right")]

    def _relevant(self, run: int, size: int, hi: np.ndarray) -> Iterator[np.ndarray]:
        """The parts of a run that may have keys with these `hi` (ascending)."""
        if len(hi) * 8 > size / _BLOCK:
            yield from self._slices(run)
            return
        for start in range(0, len(hi), _SLICE_BLOCKS):
            blocks: list[_Block] = []
            for wanted in _signed(hi[start : start + _SLICE_BLOCKS]).tolist():
                if not blocks or blocks[-1][2] < wanted:
                    blocks.append(self._block_of(run, wanted))
            yield _entries(blocks)

    def _block_of(self, run: int, hi: int) -> _Block:
        """The block of a run that covers a key. Raises Corruption if there is none."""
        block = self._sql.execute(_BLOCK_OF, (run, hi)).fetchone()
        _joined(run, [block] if block else [], block[1] if block else hi, hi)
        return block

    def _slices(self, run: int) -> Iterator[np.ndarray]:
        cursor = self._sql.execute(_BLOCKS_FROM, (run, _LOWEST, _HIGHEST))
        first = _LOWEST
        while rows := cursor.fetchmany(_SLICE_BLOCKS):
            yield _joined(run, rows, first, first)
            first = rows[-1][2] + 1
        _joined(run, [], first, _HIGHEST)

    def _whole(self, run: int) -> np.ndarray:
        return np.concatenate([np.zeros(0, INDEX_ENTRY), *self._slices(run)])

    def _next_run(self) -> int:
        query = "SELECT max(coalesce((SELECT max(run) FROM order_runs), 0), coalesce((SELECT max(run) FROM order_blocks), 0))"
        return int(self._sql.execute(query).fetchone()[0]) + 1

    def _write_blocks(self, run: int, entries: np.ndarray, first: int, last: int) -> None:
        """Writes sorted entries as blocks that together cover the keys whose signed `hi` is from `first` to `last`."""
        starts = np.arange(0, max(len(entries), 1), _BLOCK)
        hi = entries["hi"]
        # A block never begins inside a group of equal `hi`: a look-up by `hi` alone would miss the start of the group.
        while (inside := (starts > 0) & (hi[starts] == hi[starts - 1])).any():
            starts = np.unique(starts - inside)
        data, size = entries.view(np.uint8).data, INDEX_ENTRY.itemsize
        stops = [*(starts[1:] * size).tolist(), len(data)]
        firsts = [first, *_signed(hi[starts[1:]]).tolist()]
        lasts = [*(one - 1 for one in firsts[1:]), last]
        self._sql.executemany(
            f"INSERT INTO order_blocks ({_COLUMNS}) VALUES (?, ?, ?, ?, ?)",
            (
                (run, low, high, crc32(block := data[start:stop], crc32(_HEAD.pack(run, low, high))), block)
                for low, high, start, stop in zip(firsts, lasts, (starts * size).tolist(), stops, strict=True)
            ),
        )


def _joined(run: int, blocks: Sequence[_Block], first: int, through: int) -> np.ndarray:
    """The entries of consecutive blocks of a run. Corruption where one is not what was written, or where they do not cover all
    keys from `first` through `through`: an order whose entry is lost would be published twice."""
    for block in blocks:
        if block[:2] != (run, first) or not _is_sound(block):
            raise _damaged()
        first = block[2] + 1
    if first <= through:
        raise _damaged()
    return _entries(blocks)


def _damaged() -> Corruption:
    return Corruption(
        "could not look up orders: a block of the order index (state/ledger.sqlite) is damaged or lost. Nothing was changed. "
        "Stop strandline and run `strandline rebuild`, which makes the index anew from raw; check the disk, too"
    )


def _is_sound(block: _Block) -> bool:
    *head, checksum, entries = block
    try:
        return crc32(entries, crc32(_HEAD.pack(*head))) == checksum
    except (TypeError, struct.error):  # a value of another type
        return False


def _entries(blocks: Sequence[_Block]) -> np.ndarray:
    return np.frombuffer(b"".join(block[-1] for block in blocks), INDEX_ENTRY)


def _signed(hi: np.ndarray) -> np.ndarray:
    """As SQLite's signed integers: to flip the top bit keeps the order."""
    return (hi ^ _SIGN).view(np.int64)
