"""Removes copies that have been kept as long as the configuration asks: raw copies, receipts, discards, entries in quarantine,
and lines of the log of restatements.

Of each kind, what goes are the copies of all drops up to a number, so one drop that was received later (or by a clock that was
wrong) keeps all that came after it. A drop that is not committed and published keeps its copies. The ledger says first what has
gone; then the files go, a few at a time, so that no batch waits. What cannot be removed is tried again by the next pass, and
holds nothing up. What a crash leaves is removed by the next pass, too, also where the copies are kept forever by now.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..core.entries import REASON, DropResult, Effect
from ..core.errors import cause_of
from ..core.model import MICROSECONDS_PER_DAY, DropOutcome
from ..storage import ages, files, raw, receipts
from ..storage.ledger import Ledger
from ..storage.pause import paused
from .commit import RESTATEMENTS
from .engine import Engine
from .publish import publish

_BETWEEN_PASSES = MICROSECONDS_PER_DAY // 24
_STEP_DROPS = 200  # about 10 ms
_STEP_LINES = 2_000
_BLOCK_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Aged:
    """What a pass removed of one kind (see ages.KINDS). `through`: up to this drop, or of restatements this batch. `left`: files
    that could not be removed, the first because of `cause`."""

    kind: str
    through: int
    files: int
    bytes: int
    left: int = 0
    cause: str = ""


Tell = Callable[[Aged], None]


class Ageing:
    """Passes over one output, an hour apart. `keep`: how long the copies of a kind are kept, in microseconds; forever where a
    kind is not named. `note`: tells of a pass that failed."""

    def __init__(self, engine: Engine, keep: Mapping[str, int], tell: Tell, note: Callable[[str], None]) -> None:
        self._engine, self._keep, self._tell, self._note = engine, keep, tell, note
        self._error = ""  # of the last pass
        self._steps: Iterator[None] | None = None  # of the pass that is under way
        self._due = 0

    def run(self, enough: Callable[[], bool], now: int | None = None) -> None:
        """Goes on with a pass, or begins one if it is due: one step at least, and more until `enough`. A failure loses nothing
        and delays no drop: the next pass tries again. While the output is paused, nothing goes: somebody may be copying it.
        `now`: in microseconds."""
        if paused(self._engine.output) is not None:
            return
        try:
            self._run(enough, time.time_ns() // 1000 if now is None else now)
            self._error = ""
        except (OSError, sqlite3.OperationalError) as error:
            if self._error != (cause := cause_of(error)):
                self._error = cause
                self._note(f"copies that are old could not be removed: {cause}. It is tried again later")

    def _run(self, enough: Callable[[], bool], now: int) -> None:
        if self._steps is None and now < self._due <= now + _BETWEEN_PASSES:
            return
        self._due = now + _BETWEEN_PASSES
        self._steps = self._steps or one_pass(self._engine, self._keep, now, self._tell)
        try:
            for _ in self._steps:
                if enough():
                    return
        except BaseException:
            self._steps = None
            raise
        self._steps = None


def one_pass(engine: Engine, keep: Mapping[str, int], now: int, tell: Tell) -> Iterator[None]:
    """Removes what is old by now, in small steps. Between two of them, batches may be applied."""
    for kind in ages.OF_DROPS:
        if kind in keep and not (kind == ages.RAW and engine.ledger.set_aside()):  # they may be needed to mend it
            _decide(engine.ledger, kind, now - keep[kind], now)
        yield from _sweep(engine, kind, tell)
    if ages.RESTATEMENTS in keep:
        yield from _shorten_log(engine, now - keep[ages.RESTATEMENTS], now, tell)


def _decide(ledger: Ledger, kind: str, before: int, now: int) -> None:
    """Lets the ledger say what has gone of a kind: what was received before this instant."""
    through = ledger.reach(kind, before)
    if kind == ages.RECEIPTS:  # while a raw copy is there, a rebuild without a ledger needs its receipt
        through = min(through, ledger.horizon(ages.RAW))
    if through > ledger.horizon(kind):
        ledger.go_by_age(kind, through, now)


# ------------------------------------------------------------------------------------------------------ copies of drops


def _sweep(engine: Engine, kind: str, tell: Tell) -> Iterator[None]:
    """Removes the files of what has gone."""
    ledger, horizon = engine.ledger, ages.only(engine.ledger.horizons(), kind)
    if horizon.swept >= horizon.through:
        return
    if kind == ages.RAW:
        engine.guard.check()
        files.make_folder(engine.output / "raw", within=engine.output)
        ages.mark(engine.output, horizon)
        _remove_link(engine.output, horizon.through)
    count = size = left = 0
    cause = ""
    results = ledger.all_results(horizon.swept, horizon.through)
    while some := list(islice(results, _STEP_DROPS)):
        engine.guard.check()
        paths = [engine.output / name for result in some for name in _names(ledger, kind, result, horizon.through)]
        for path in paths:
            try:
                size += _remove(path)
                count += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                left, cause = left + 1, cause or f"{error.strerror}: {path}"
        _tidy({path.parent for path in paths})
        if not left:
            ledger.swept(kind, some[-1].drop.seq)
        yield
    if not left:
        ledger.swept(kind, horizon.through)
    tell(Aged(kind, horizon.through, count, size, left, cause))


def _names(ledger: Ledger, kind: str, result: DropResult, through: int) -> list[str]:
    """The files of a kind that a drop has, relative to the output folder."""
    drop = result.drop
    if kind == ages.RAW:
        return [drop.raw] if drop.raw else []
    if kind == ages.RECEIPTS:
        return [receipts.receipt_name(drop)]
    if kind == ages.DISCARDS:
        return [receipts.discards_path(drop)] if result.counts.discarded.total() else []
    if result.outcome is not DropOutcome.QUARANTINED:
        return []
    entry = ledger.drop(result.duplicate_of) if result.duplicate_of else drop  # a retry that failed has the first one's
    if entry is None or ledger.last_quarantined_as(entry.seq) > through:
        return []
    return [raw.quarantine_path(entry), raw.quarantine_path(entry) + REASON]


def _remove(path: Path) -> int:
    """Removes a file; returns its size."""
    size = os.lstat(path).st_size
    files.unlink(path)
    return size


def _tidy(folders: set[Path]) -> None:
    """Makes what was removed from these folders durable; removes those of a day that are empty."""
    there = [folder for folder in folders if folder.is_dir()]
    files.sync_many(there)
    for folder in there:
        if folder.name.startswith("received="):
            files.remove_folder_if_empty(folder)


def _remove_link(output: Path, through: int) -> None:
    """Removes the link to the newest orders drop if that has gone. No newer one can take its place."""
    link = output / raw.LINK
    try:
        number = os.path.basename(link.readlink()).partition("_")[0]
    except OSError:  # there is none
        return
    if number.isdecimal() and int(number) <= through:
        files.unlink(link)
        files.sync(link.parent)


# ------------------------------------------------------------------------------------------------- the log of restatements


def _shorten_log(engine: Engine, before: int, now: int, tell: Tell) -> Iterator[None]:
    """Removes the first lines of the log, of batches that were committed before this instant; at most once a day, since the rest
    is written anew."""
    ledger, path = engine.ledger, engine.output / RESTATEMENTS
    if now - ages.only(ledger.horizons(), ages.RESTATEMENTS).at < MICROSECONDS_PER_DAY or not path.exists():
        return
    cut, through = 0, 0
    for number, (stop, batch) in enumerate(old_lines(ledger, path, before), 1):
        cut, through = stop, batch
        if number % _STEP_LINES == 0:
            yield
    size, batch = ledger.restatements_bytes, ledger.next_batch - 1
    if not cut or ledger.unpublished_batch() is not None or path.stat().st_size < size:
        return
    engine.guard.check()
    folder = engine.store.staging / "aged"
    files.make_folder(folder)
    rest = folder / RESTATEMENTS
    sha256 = files.write_parts_unsynced(rest, _part(path, cut, size))
    files.sync_many([rest, folder])
    effect = Effect("place", RESTATEMENTS, str(rest.relative_to(engine.output)), sha256)
    ledger.shorten_log(through, now, effect, size - cut)
    publish(engine.output, [effect])
    ledger.published(batch)
    folder.rmdir()
    tell(Aged(ages.RESTATEMENTS, through, 0, cut))


def old_lines(ledger: Ledger, path: Path, before: int) -> Iterator[tuple[int, int]]:
    """Where each of the first lines of the log ends whose batch was committed before this instant, and that batch. Stops at the
    first other line."""
    end, size = 0, ledger.restatements_bytes
    with open(path, "rb") as log:
        for line in log:
            end += len(line)
            try:
                batch = int(json.loads(line)["cause"]["batch"])
            except (ValueError, KeyError, TypeError):
                return
            committed_at = ledger.batch_time(batch)
            if end > size or committed_at is None or committed_at >= before:
                return
            yield end, batch


def _part(path: Path, start: int, stop: int) -> Iterator[memoryview]:
    """The bytes of a file from `start` to `stop`."""
    with open(path, "rb") as file:
        file.seek(start)
        while start < stop and (block := file.read(min(_BLOCK_BYTES, stop - start))):
            start += len(block)
            yield memoryview(block)
