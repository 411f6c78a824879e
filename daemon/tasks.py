"""The functions that may run elsewhere: read(spans of drops), and read_again, rewrite(partitions). The seam for parallel work.

They are called through `concurrent.futures.Executor`, with plain values in and out, and are idempotent: read looks at raw
copies that never change, rewrite writes only into the staging folder.
"""

from __future__ import annotations

import mmap
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa

from . import spill
from .core import dimensions
from .core.damage import refuse_foreign
from .core.documents import Form, WrongCut, cut, cut_begun
from .core.errors import Stopped, Unreadable
from .core.facts import Lines, PartitionFiles, lines_of
from .core.merge import Merged, begun, merge, places_within_instants
from .core.model import DIMENSIONS, DISCARDS, GLANCED, ORDERS, Bools, DimensionRows, Ints, Judge, Parsed
from .core.parse import Piece, glance, parse, parse_again
from .store import Stage, StagedPartition, Store

PIECE_BYTES = 8 << 20  # what one read task takes: small enough to balance, large enough to be worth its overhead
_BEGINNING_BYTES = (
    16 << 10
)  # what is looked at to guess how much of a piece is known: some dozens of orders, a millisecond
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
    judge: Judge
    form: Form
    dimension: str | None = None  # None: orders


def spans_of(drop: int, path: Path, judge: Judge, dimension: str | None = None) -> list[Span]:
    """Divides a drop where it is large and it can be told cheaply how."""
    size = path.stat().st_size
    if size <= PIECE_BYTES or dimension is not None:
        return [Span(drop, path, 0, size, judge, Form.WHOLE, dimension)]
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        refuse_foreign(data[:4096])
        pieces = cut(data, PIECE_BYTES)  # type: ignore[arg-type]  # a map is as good as bytes here
    return [Span(drop, path, start, stop, judge, form) for start, stop, form in pieces]


def spans_begun(drop: int, path: Path, judge: Judge) -> list[Span]:
    """The first of the spans that `spans_of` will give for orders of which the file holds the beginning."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        pieces = cut_begun(data, PIECE_BYTES)  # type: ignore[arg-type]
    return [Span(drop, path, start, stop, judge, form) for start, stop, form in pieces]


def beginning(piece: Span) -> Parsed | None:
    """What the first dozens of records say of a piece of a drop; None where they cannot be read by themselves."""
    before = b"[" if piece.form is Form.ELEMENTS else b""
    with open(piece.path, "rb") as file:
        file.seek(piece.start)
        pieces = cut_begun(before + file.read(16 * _BEGINNING_BYTES), _BEGINNING_BYTES)
    if not pieces:
        return None
    start, stop = (piece.start + place - len(before) for place in pieces[0][:2])
    answer = _read([replace(piece, start=start, stop=stop)])
    return answer[0] if answer else None


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


def read(spans: Sequence[Span], into: Path, glanced: bool = False) -> Answer | None:
    """Parses some spans; None where a piece of a drop cannot be read by itself (an expected answer: the cut was wrong).
    Where there are many orders or discards, they go to a file in the folder `into`, for another process. `glanced`: of what
    is a piece of a drop no more is wanted than GLANCED has."""
    parts = _read(spans, glanced)
    if parts is None:
        return None
    left = [_spilled(part, into) for part in parts]
    if any("discards" in files for _, files in left):  # junk: what it took is not needed again soon
        del parts
        pa.default_memory_pool().release_unused()
    return Answer([part for part, _ in left], [files for _, files in left])


def read_again(span: Span, position: Ints, starts: Ints, stops: Ints, into: Path) -> Answer:
    """The orders of some records of a span that were glanced at, whole; their places as in GLANCED."""
    orders = parse_again(_piece(span), position, starts, stops)
    part, files = _spilled(Parsed(orders, DISCARDS.empty_table(), {}, {}), into)
    return Answer([part], [files])


_LARGE = {"orders": ORDERS, "discards": DISCARDS, "glanced": GLANCED}


def _spilled(part: Parsed, into: Path) -> tuple[Parsed, dict[str, Path]]:
    """A part without its large tables, and the files that these went to."""
    files = {}
    for name in _LARGE:
        table = getattr(part, name)
        if table.nbytes >= spill.LEAST_BYTES:
            files[name] = into / f"read-{uuid4().hex}.arrow"  # no other call's, not even of one for the same drop
            spill.write(files[name], table)
    return replace(part, **{name: _LARGE[name].empty_table() for name in files}), files


def _read(spans: Sequence[Span], glanced: bool = False) -> list[Parsed] | None:
    """What a drop brings down that no rule foresaw costs that drop alone: it becomes unreadable, and says so."""
    try:
        if glanced and spans[0].form is not Form.WHOLE:
            return [glance(_piece(spans[0]))]  # it comes alone
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
        found = dimensions.read(DIMENSIONS[span.dimension], span.drop, _piece(span).data, span.judge)
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
        return Piece(span.drop, file.read(span.stop - span.start), span.judge, span.form, span.start)


@dataclass(frozen=True, slots=True)
class PartitionChange:
    """What happens to one date. Its new versions are the winners `first` to `stop` of the task."""

    day: int
    first: int
    stop: int
    known: Bools
    leaving: pa.Array  # order_ids
    published_sha256: bytes | None  # None: a new date


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What `rewrite` did for one date. `staged` is None where nothing changed or nothing is left; `damaged`: the
    published file is not what the ledger says, and nothing was done. `unknown`: by dimension, the new versions (by order)
    with a key that it does not know."""

    day: int
    merged: Merged | None
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
    given as the files that they lie in (see rewriting.py)."""
    orders = _here(orders)
    keys = {name: _here(table)["key"].combine_chunks() for name, table in known.items()}
    places = places_within_instants(orders, rows)
    lines = lines_of(orders, rows[places])
    unknown = {name: lines.unknown(DIMENSIONS[name].key, known) for name, known in keys.items()}
    desk = _Desk(store, store.stage(batch, sync=sync), lines)
    rewritten = []
    for change in changes:
        here = slice(change.first, change.stop)
        inner = places[here] - change.first
        one = desk.rewrite(replace(change, known=change.known[inner]))
        merged = one.merged and replace(one.merged, unchanged=_back(one.merged.unchanged, inner))
        rewritten.append(replace(one, merged=merged, unknown={n: _back(u[here], inner) for n, u in unknown.items()}))
    return rewritten


def _here(table: pa.Table | Path) -> pa.Table:
    return spill.read(table).combine_chunks() if isinstance(table, Path) else table


def _back(mask: Bools, places: Ints) -> Bools:
    """Undoes `mask[places]`."""
    before = np.empty_like(mask)
    before[places] = mask
    return before


class _Desk:
    """Where the dates of one call are rewritten, one after the other, out of the lines of all of them."""

    def __init__(self, store: Store, stage: Stage, lines: Lines) -> None:
        self._store, self._stage, self._lines = store, stage, lines
        self._amounts = lines.amounts()

    @cached_property
    def _files(self) -> PartitionFiles:
        return PartitionFiles(self._lines.columns(), self._lines.line_number)

    @cached_property
    def _table(self) -> pa.Table:
        return self._lines.table()

    def rewrite(self, change: PartitionChange) -> Rewritten:
        """Merges and stages one date. `change.known` is in the order of its lines."""
        start, stop = self._lines.starts[[change.first, change.stop]].tolist()
        if change.published_sha256 is None:
            merged = begun(self._lines.line_number[start:stop], self._amounts[start:stop])
            return self._staged(change, merged, self._files, start, stop)
        published = self._store.read_fact(change.day, change.published_sha256, dictionaries=True)
        if published is None:
            return Rewritten(change.day, None, None, damaged=True)
        merged = merge(published, self._table.slice(start, stop - start), change.known, change.leaving)
        return self._staged(change, merged, merged.files)

    def _staged(
        self,
        change: PartitionChange,
        merged: Merged,
        files: PartitionFiles | None,
        start: int = 0,
        stop: int | None = None,
    ) -> Rewritten:
        staged = None
        if merged.changed and merged.after.lines and files:
            staged = self._stage.put(change.day, *files.encoded(start, stop), is_new=change.published_sha256 is None)
        return Rewritten(change.day, replace(merged, files=None), staged)  # finished partitions do not stay in memory


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
