"""The functions that may run in another process or on another machine: read(spans of drops) and rewrite(partitions).

They are called through `concurrent.futures.Executor`, with plain values in and out. They are idempotent: read only reads raw
copies, which never change, and rewrite only writes into the staging folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np
import pyarrow as pa

from ..core.columns import columns_of, together, widened
from ..core.errors import Stopped, Unreadable, raised_in
from ..core.mapping import Columns
from ..core.merge.facts import lines_of
from ..core.merge.partition import EMPTY, Merged, Totals, merge, order_within_instants, totals_of_spans
from ..core.model import (
    DIMENSIONS,
    DISCARDS,
    ORDERS,
    Bools,
    Dimension,
    DimensionRows,
    Discard,
    Ints,
    ParseContext,
    Parsed,
)
from ..core.parse import csv, rejected
from ..core.parse.damage import refuse_foreign
from ..core.parse.documents import Form, WrongCut, cut, first_pieces, refuse_damaged_beginning
from ..core.parse.explain import ReadRecord, explained
from ..core.parse.explain_csv import explained_rows
from ..core.parse.parse import Piece, first_records, parse
from ..storage.file_text import FileText, refuse_cut
from ..storage.store import Stage, StagedPartition, Store
from . import spill

PIECE_BYTES = 8 << 20  # of one read task: small enough to balance the load, large enough for its overhead
_BEGINNING_BYTES = 64 << 10  # of a large drop that cannot be divided; damage is looked for there first
_INNOCENT_BYTES = 1 << 20  # a piece up to this size is not why memory runs out
_TASK_DROPS = 1_000
_POLL_SECONDS = 0.1  # how soon a stop is noticed while tasks run
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
    is_first: bool = True  # of its drop
    refusing: bool = True  # the drop is unreadable if it has records, and none that is kept


def spans_of(
    drop: int, path: Path, context: ParseContext, dimension: str | None = None, *, refusing: bool = True
) -> list[Span]:
    """Divides a large drop into pieces, where its divisions are cheap to find."""
    size = path.stat().st_size
    if size <= PIECE_BYTES or dimension is not None:
        return [Span(drop, path, 0, size, context, Form.WHOLE, dimension, refusing=refusing)]
    with FileText(path) as data:
        refuse_foreign(data[:4096])
        pieces = cut(data, PIECE_BYTES)
        if pieces[0][2] is Form.WHOLE:
            refuse_damaged_beginning(data[:_BEGINNING_BYTES])
    return _spans(drop, path, context, pieces)


def first_spans_of(drop: int, path: Path, context: ParseContext) -> list[Span]:
    """The first spans that `spans_of` will return for a drop of orders, of which the file has the beginning."""
    with FileText(path) as data:
        pieces = first_pieces(data, PIECE_BYTES)
    return _spans(drop, path, context, pieces)


def _spans(drop: int, path: Path, context: ParseContext, pieces: Sequence[tuple[int, int, Form]]) -> list[Span]:
    return [
        Span(drop, path, start, stop, context, form, is_first=number == 0)
        for number, (start, stop, form) in enumerate(pieces)
    ]


def parcels(spans: Sequence[Span]) -> list[list[Span]]:
    """Groups spans into read tasks. Each piece of a divided drop is a task, since it counts its positions from 1."""
    tasks: list[list[Span]] = []
    left = drops = 0
    for span in spans:
        size = span.stop - span.start
        if span.form is Form.WHOLE and tasks and size <= left and drops < _TASK_DROPS:
            tasks[-1].append(span)
            left, drops = left - size, drops + 1
        else:
            tasks.append([span])
            left, drops = (PIECE_BYTES - size if span.form is Form.WHOLE else 0), 1
    return tasks


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a read task. `spilled`: for each part, the files that hold its large tables, by name."""

    parts: list[Parsed]
    spilled: list[dict[str, Path]]

    def collected(self) -> list[Parsed]:
        """The parts, with the tables of their files."""
        return [
            replace(part, **{name: spill.take(path) for name, path in files.items()})
            for part, files in zip(self.parts, self.spilled, strict=True)
        ]


def read(spans: Sequence[Span], into: Path) -> Answer | None:
    """Parses some spans. None where a piece of a drop cannot be read alone, since the cut was wrong. Large tables go to files in
    the folder `into`."""
    parts = _read(spans)
    if parts is None:
        return None
    left = [_spilled(part, into) for part in parts]
    if any("discards" in files for _, files in left):  # a drop of junk takes much memory, and is rare
        del parts
        pa.default_memory_pool().release_unused()
    return Answer([part for part, _ in left], [files for _, files in left])


_LARGE = {"orders": ORDERS, "discards": DISCARDS}


def _spilled(part: Parsed, into: Path) -> tuple[Parsed, dict[str, Path]]:
    """A part without its large tables, and the files that they were written to."""
    files = {}
    for name in _LARGE:
        table = getattr(part, name)
        if table.nbytes >= spill.LEAST_BYTES:
            files[name] = into / f"read-{uuid4().hex}.arrow"  # unique: a cluster may run a call twice
            spill.write(files[name], table)
    return replace(part, **{name: _LARGE[name].empty_table() for name in files}), files


def _read(spans: Sequence[Span]) -> list[Parsed] | None:
    """Parses some spans. An unexpected exception makes the drop that causes it unreadable, and no other. A fault of the machine
    is raised."""
    try:
        orders = [_of_orders(_piece(span)) for span in spans if span.dimension is None]
        rows = [_read_dimension(span) for span in spans if span.dimension is not None]
        refusing = any(span.refusing for span in spans)
        return [*([parse(orders, refusing=refusing)] if orders else []), *rows]
    except WrongCut:
        return None
    except OSError:
        raise  # a fault of the machine, not of the drop
    except Exception as error:
        if len(spans) > 1:
            return [part for span in spans for part in _read([span]) or []]
        if isinstance(error, MemoryError) and spans[0].stop - spans[0].start <= _INNOCENT_BYTES:
            raise
        return None if spans[0].form is not Form.WHOLE else [_unexpected(spans[0].drop, error)]


def _of_orders(piece: Piece) -> Piece:
    given = piece.context.mapping
    used = given.of_orders
    return piece if used is given else replace(piece, context=replace(piece.context, mapping=used))


def _read_dimension(span: Span) -> Parsed:
    assert span.dimension is not None
    try:
        found = csv.read(DIMENSIONS[span.dimension], span.drop, _piece(span).data, span.context, refusing=span.refusing)
    except Unreadable as error:
        return _nothing_of(span.drop, error)
    rows = {span.drop: DimensionRows(span.dimension, found.rows)}
    return Parsed(ORDERS.empty_table(), found.discards, {span.drop: found.tally}, {}, rows)


def _unexpected(drop: int, error: Exception) -> Parsed:
    if isinstance(error, MemoryError):
        reason = Unreadable(
            "reading it takes more memory than a worker has ([engine] memory_limit, shared by its workers), since it cannot be "
            "divided: it is one record or one document. Divide the file, or raise the limit and put it back with "
            "`strandline retry`"
        )
        return _nothing_of(drop, reason)
    reason = Unreadable(
        f"reading it failed with an unexpected error in {raised_in(error)}; please report this with the file"
    )
    return _nothing_of(drop, reason)


def _nothing_of(drop: int, reason: Unreadable) -> Parsed:
    return Parsed(ORDERS.empty_table(), DISCARDS.empty_table(), {}, {drop: str(reason)})


def _piece(span: Span) -> Piece:
    refuse_cut(span.path, span.stop)
    with FileText(span.path) as data:
        return Piece(span.drop, data[span.start : span.stop], span.context, span.form, span.is_first)


def explain(span: Span, most: int) -> list[ReadRecord]:
    """How the first records of a drop are read; none where they cannot be found. `span`: the first one of the drop."""
    if span.dimension is not None:
        return _explained_rows(DIMENSIONS[span.dimension], span, most)
    piece = _of_orders(_piece(span))
    try:
        try:
            found = first_records(piece, most)
        except WrongCut:
            whole = replace(span, start=0, stop=span.path.stat().st_size, form=Form.WHOLE)
            found = first_records(_of_orders(_piece(whole)), most)
    except (Unreadable, MemoryError):
        return []
    return [explained(one, position, piece.context) for position, one in enumerate(found, 1)]


def places_of(span: Span, discards: Sequence[Discard]) -> dict[int, int]:
    """The lines of malformed records of a drop, or of its discarded rows, by position. `span`: the first one of the drop."""
    if span.dimension is None:
        with open(span.path, "rb") as lines:
            return rejected.lines_of(lines, discards)
    positions = {one.position for one in discards}
    return csv.lines_of_rows(DIMENSIONS[span.dimension], _piece(span).data, span.context, positions)


def _explained_rows(dimension: Dimension, span: Span, most: int) -> list[ReadRecord]:
    try:
        return explained_rows(dimension, _piece(span).data, span.context, most)
    except (Unreadable, MemoryError):
        return []


@dataclass(frozen=True, slots=True)
class PartitionChange:
    """What happens to one date. Its new versions are the winners `first` to `stop` of the task. `replaces`: by winner, whether
    the order is published on this date."""

    day: int
    first: int
    stop: int
    replaces: Bools
    leaving: pa.Array  # order_ids
    published_sha256: bytes | None  # None: a new date


@dataclass(frozen=True, slots=True)
class Rewritten:
    """What `rewrite` did for one date. `staged` is None where no order is left. `damaged`: the published file is not the one that
    the ledger names, and nothing was done. `unknown`: by dimension, which new versions have a key that it does not know."""

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
    columns: Columns = (),
) -> list[Rewritten]:
    """Merges and stages some dates. `rows` are the winners in `orders` (in one chunk), sorted by time. The lines of all dates are
    computed together, which is much faster than one date at a time. `known`: the column `key` of each dimension. `columns`: the
    extra columns that every file gets. A table may be given as the path of its file (see spill)."""
    orders = _loaded(orders)
    keys = {name: _loaded(table)["key"].combine_chunks() for name, table in known.items()}
    by_id = order_within_instants(orders, rows)
    lines = lines_of(orders, rows[by_id])
    unknown = {name: lines.unknown(DIMENSIONS[name].key, known) for name, known in keys.items()}
    fact, stage = lines.table(columns), store.stage(batch)
    starts, stops = lines.starts[[one.first for one in changes]], lines.starts[[one.stop for one in changes]]
    totals = totals_of_spans(fact, starts, stops)
    rewritten = []
    for change, start, its_totals in zip(changes, starts.tolist(), totals, strict=True):
        here = slice(change.first, change.stop)
        inner = by_id[here] - change.first
        incoming = Merged(fact.slice(start, its_totals.lines), EMPTY, its_totals)
        unknown_here = {name: _unsorted(mask[here], inner) for name, mask in unknown.items()}
        rewritten.append(_rewritten(store, stage, change, incoming, change.replaces[inner], unknown_here))
    return rewritten


def _rewritten(
    store: Store,
    stage: Stage,
    change: PartitionChange,
    new: Merged,
    replaces: Bools,
    unknown: Mapping[str, Bools],
) -> Rewritten:
    """Merges and stages one date. `new`: the lines of its new versions as a partition of their own, sorted, as `replaces` is."""
    merged, incoming = new, new.fact
    if change.published_sha256 is not None:
        published = store.read_fact(change.day, change.published_sha256)
        if published is None:
            return Rewritten(change.day, EMPTY, EMPTY, None, unknown, damaged=True)
        if published.schema.names != incoming.schema.names:
            columns = together(columns_of(one.schema) for one in (published, incoming))
            published, incoming = widened(published, columns), widened(incoming, columns)
        merged = merge(published, incoming, replaces, change.leaving)
    staged = None
    if merged.after.lines:
        staged = stage.put(change.day, merged.fact, is_new=change.published_sha256 is None)
    return Rewritten(change.day, merged.before, merged.after, staged, unknown)


def _loaded(table: pa.Table | Path) -> pa.Table:
    return spill.read(table).combine_chunks() if isinstance(table, Path) else table


def _unsorted(mask: Bools, order: Ints) -> Bools:
    """The reverse of `mask[order]`."""
    before = np.empty_like(mask)
    before[order] = mask
    return before


def never() -> bool:
    """Nobody asks to stop."""
    return False


def results(futures: Sequence[Future[_T]], stopped: Callable[[], bool]) -> Iterator[_T]:
    """The results of tasks, in order. Raises Stopped when `stopped` says so; tasks that have not begun are cancelled."""
    try:
        for future in futures:
            while not wait([future], _POLL_SECONDS).done:
                if stopped():
                    raise Stopped("stopped while tasks were under way")
            yield future.result()
    finally:
        for future in futures:
            future.cancel()
