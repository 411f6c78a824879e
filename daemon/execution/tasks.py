"""The functions that may run elsewhere: read(spans of drops), rewrite(partitions). The seam for parallel work.

They are called through `concurrent.futures.Executor`, with plain values in and out, and are idempotent: read looks at raw
copies that never change, rewrite writes only into the staging folder.
"""

from __future__ import annotations

import mmap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa

from ..core.errors import Stopped, Unreadable
from ..core.merge.facts import lines_of
from ..core.merge.partition import EMPTY, Totals, begun, merge, places_within_instants
from ..core.model import DIMENSIONS, DISCARDS, ORDERS, Bools, DimensionRows, Ints, ParseContext, Parsed
from ..core.parse import csv
from ..core.parse.damage import refuse_foreign
from ..core.parse.documents import Form, WrongCut, cut, first_pieces
from ..core.parse.parse import Piece, parse
from ..storage.store import Stage, StagedPartition, Store
from . import spill

PIECE_BYTES = 8 << 20  # what one read task takes: small enough to balance, large enough to be worth its overhead
_TASK_DROPS = 1_000
_LOOK_SECONDS = 0.1  # how soon a stop is noticed while tasks run
Known = Mapping[str, pa.Array]  # the keys of each dimension
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Span:
    """A range of bytes of one drop's uncompressed copy."""

    drop: int
    path: Path
    start: int
    stop: int
    context: ParseContext
    form: Form
    dimension: str | None = None  # None: orders


def spans_of(drop: int, path: Path, context: ParseContext, dimension: str | None = None) -> list[Span]:
    """Divides a drop where it is large and it can be told cheaply how."""
    size = path.stat().st_size
    if size <= PIECE_BYTES or dimension is not None:
        return [Span(drop, path, 0, size, context, Form.WHOLE, dimension)]
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        refuse_foreign(data[:4096])
        pieces = cut(data, PIECE_BYTES)  # type: ignore[arg-type]  # a map is as good as bytes here
    return [Span(drop, path, start, stop, context, form) for start, stop, form in pieces]


def first_spans_of(drop: int, path: Path, context: ParseContext) -> list[Span]:
    """The first of the spans that `spans_of` will give for orders of which the file holds the beginning."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        pieces = first_pieces(data, PIECE_BYTES)  # type: ignore[arg-type]
    return [Span(drop, path, start, stop, context, form) for start, stop, form in pieces]


def parcels(spans: Sequence[Span]) -> list[list[Span]]:
    """Groups spans into read tasks. A divided drop's pieces stay alone, since each counts its positions from 1."""
    tasks: list[list[Span]] = []
    room = drops = 0
    for span in spans:
        size = span.stop - span.start
        if span.form is Form.WHOLE and tasks and size <= room and drops < _TASK_DROPS:
            tasks[-1].append(span)
            room, drops = room - size, drops + 1
        else:
            tasks.append([span])
            room, drops = (PIECE_BYTES - size if span.form is Form.WHOLE else 0), 1
    return tasks


@dataclass(frozen=True, slots=True)
class Answer:
    """What reading some spans gave. `spilled`: the files that hold large tables of a part instead, by name."""

    parts: list[Parsed]
    spilled: list[dict[str, Path]]

    def collected(self) -> list[Parsed]:
        """The parts, all of them here."""
        return [
            replace(part, **{name: spill.take(path) for name, path in files.items()})
            for part, files in zip(self.parts, self.spilled, strict=True)
        ]


def read(spans: Sequence[Span], into: Path) -> Answer | None:
    """Parses some spans; None where a piece of a drop cannot be read by itself (an expected answer: the cut was wrong).
    Where there are many orders or discards, they go to a file in the folder `into`, for another process."""
    parts = _read(spans)
    if parts is None:
        return None
    left = [_spilled(part, into) for part in parts]
    if any("discards" in files for _, files in left):  # junk: what it took is not needed again soon
        del parts
        pa.default_memory_pool().release_unused()
    return Answer([part for part, _ in left], [files for _, files in left])


_LARGE = {"orders": ORDERS, "discards": DISCARDS}


def _spilled(part: Parsed, into: Path) -> tuple[Parsed, dict[str, Path]]:
    """A part without its large tables, and the files that these went to."""
    files = {}
    for name in _LARGE:
        table = getattr(part, name)
        if table.nbytes >= spill.LEAST_BYTES:
            files[name] = into / f"read-{uuid4().hex}.arrow"  # no other call's, not even of one for the same drop
            spill.write(files[name], table)
    return replace(part, **{name: _LARGE[name].empty_table() for name in files}), files


def _read(spans: Sequence[Span]) -> list[Parsed] | None:
    """What a drop brings down that no rule foresaw costs that drop alone: it becomes unreadable, and says so."""
    try:
        orders = [_piece(span) for span in spans if span.dimension is None]
        rows = [_read_dimension(span) for span in spans if span.dimension is not None]
        return [*([parse(orders)] if orders else []), *rows]
    except WrongCut:
        return None
    except OSError:
        raise  # the machine's fault, not the drop's
    except Exception as error:
        if len(spans) > 1:
            return [part for span in spans for part in _read([span]) or []]
        return None if spans[0].form is not Form.WHOLE else [_unforeseen(spans[0].drop, error)]


def _read_dimension(span: Span) -> Parsed:
    assert span.dimension is not None
    try:
        found = csv.read(DIMENSIONS[span.dimension], span.drop, _piece(span).data, span.context)
    except Unreadable as error:
        return _nothing_of(span.drop, error)
    rows = {span.drop: DimensionRows(span.dimension, found.rows)}
    return Parsed(ORDERS.empty_table(), found.discards, {span.drop: found.tally}, {}, rows)


def _unforeseen(drop: int, error: Exception) -> Parsed:
    if isinstance(error, MemoryError):
        reason = Unreadable(
            "reading it takes more memory than a worker has ([engine] memory_limit, shared by its workers), since it cannot be "
            "divided: one record or one document of this size. Divide the file, or raise the limit and put it back with "
            "`strandline retry`"
        )
        return _nothing_of(drop, reason)
    where = traceback.extract_tb(error.__traceback__)[-1]
    reason = Unreadable(
        f"reading it failed in a way that nobody foresaw ({type(error).__name__} in {where.name}, line {where.lineno}); "
        "please report it with the file"
    )
    return _nothing_of(drop, reason)


def _nothing_of(drop: int, reason: Unreadable) -> Parsed:
    return Parsed(ORDERS.empty_table(), DISCARDS.empty_table(), {}, {drop: str(reason)})


def _piece(span: Span) -> Piece:
    with open(span.path, "rb") as file:
        file.seek(span.start)
        return Piece(span.drop, file.read(span.stop - span.start), span.context, span.form)


@dataclass(frozen=True, slots=True)
class PartitionChange:
    """What happens to one date. Its new versions are the winners `first` to `stop` of the task; `replaces` says by winner whether
    the order is published there."""

    day: int
    first: int
    stop: int
    replaces: Bools
    leaving: pa.Array  # order_ids
    published_sha256: bytes | None  # None: a new date


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What `rewrite` did for one date. `staged` is None where nothing is left; `damaged`: the published file is not what the
    ledger says, and nothing was done. `unknown`: by dimension, the new versions (by order) with a key that it does not know."""

    day: int
    before: Totals
    after: Totals
    staged: StagedPartition | None
    unknown: Mapping[str, Bools] = field(default_factory=dict)
    damaged: bool = False


def rewrite(
    store: Store,
    batch: int,
    orders: pa.Table | Path,
    rows: Ints,
    changes: Sequence[PartitionChange],
    known: Mapping[str, pa.Table | Path],
    *,
    sync: bool,
) -> list[Rewritten]:
    """Merges and stages some dates. `rows` are the winners in `orders` (in one chunk), sorted by time; the lines of all dates
    are worked out together, which is much faster than one by one. `known`: the column `key` of each dimension. Tables may be
    given as the files that hold them (see rewriting.py)."""
    orders = _here(orders)
    keys = {name: _here(table)["key"].combine_chunks() for name, table in known.items()}
    places = places_within_instants(orders, rows)
    lines = lines_of(orders, rows[places])
    unknown = {name: lines.unknown(DIMENSIONS[name].key, known) for name, known in keys.items()}
    fact, stage = lines.table(), store.stage(batch, sync=sync)
    rewritten = []
    for change in changes:
        here = slice(change.first, change.stop)
        inner = places[here] - change.first
        start, stop = lines.starts[[change.first, change.stop]].tolist()
        by_line = replace(change, replaces=change.replaces[inner])
        one = _rewritten(store, stage, by_line, fact.slice(start, stop - start))
        rewritten.append(replace(one, unknown={name: _back(mask[here], inner) for name, mask in unknown.items()}))
    return rewritten


def _rewritten(store: Store, stage: Stage, change: PartitionChange, incoming: pa.Table) -> Rewritten:
    """Merges and stages one date. `incoming`: the lines of its new versions, sorted, as `change.replaces` is."""
    if change.published_sha256 is None:
        merged = begun(incoming)
    else:
        published = store.read_fact(change.day, change.published_sha256)
        if published is None:
            return Rewritten(change.day, EMPTY, EMPTY, None, damaged=True)
        merged = merge(published, incoming, change.replaces, change.leaving)
    staged = None
    if merged.after.lines:
        staged = stage.put(change.day, merged.fact, is_new=change.published_sha256 is None)
    return Rewritten(change.day, merged.before, merged.after, staged)


def _here(table: pa.Table | Path) -> pa.Table:
    return spill.read(table).combine_chunks() if isinstance(table, Path) else table


def _back(mask: Bools, places: Ints) -> Bools:
    """Undoes `mask[places]`."""
    before = np.empty_like(mask)
    before[places] = mask
    return before


def never() -> bool:
    """Nobody asked for an end."""
    return False


def results(futures: Sequence[Future[_T]], stopped: Callable[[], bool]) -> Iterator[_T]:
    """The results of tasks, in order, as they come. Stopped where somebody asks for an end: what has not begun never does."""
    try:
        for future in futures:
            while not wait([future], _LOOK_SECONDS).done:
                if stopped():
                    raise Stopped("stopped while tasks were under way")
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
