"""Reads archived drops: finds the bytes of each drop, divides them into pieces, runs the read tasks, and joins the answers.

A drop that cannot be read is returned with its reason, not raised. Positions count from 1 through the whole drop, however it
was divided.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby
from operator import attrgetter
from pathlib import Path

import pyarrow as pa

from ..core.entries import Drop
from ..core.errors import Stopped, Unreadable
from ..core.model import DIMENSIONS, DISCARDS, ORDERS, DimensionRows, ParseContext, Parsed, Tally, concat_orders
from ..core.parse.blocking import Block, without_blocked
from ..core.parse.discards import concat_discards, each
from ..core.parse.documents import Form
from ..core.parse.explain import ReadRecord
from ..core.parse.refusals import refused
from ..core.progress import Progress, silent
from ..execution import tasks
from ..execution.early import EarlyReads
from ..execution.workers import Inline, warm
from ..sources.zip_archive import Bounds, unpack
from ..storage import files, raw
from ..storage.file_text import refuse_cut


@dataclass(frozen=True)
class Limits:
    """How large a drop may be."""

    max_drop_bytes: int
    max_expansion: int
    ignored: tuple[str, ...] = ()  # patterns of names in zip archives that are no drops

    @property
    def archive(self) -> Bounds:
        """What a zip archive may hold."""
        return Bounds(self.max_drop_bytes, self.max_expansion, self.ignored)


NO_LIMITS = Limits(1 << 62, 1 << 62)  # for applied drops: limits that were lowered since do not refuse them


@dataclass(frozen=True)
class Reader:
    """Reads raw copies under `output` in parallel with `executor`; unpacks compressed ones into `staging` meanwhile."""

    output: Path
    staging: Path
    limits: Limits
    executor: Executor
    blocks: Sequence[Block] = ()  # whose records are refused
    refusing: bool = True  # drops without an order are unreadable
    _early: EarlyReads = field(default_factory=EarlyReads, init=False, repr=False, compare=False)

    def without_limits(self) -> Reader:
        """The same reader without limits, for drops that were applied before. None is refused for what it does not hold: its
        orders may have been erased since."""
        return replace(self, limits=NO_LIMITS, refusing=False)

    def read(self, drops: Sequence[Drop], stopped: Callable[[], bool] = tasks.never) -> Parsed:
        """The parsed records of these archived drops."""
        with self.begin(drops, {drop.seq: self.output / (drop.raw or "") for drop in drops}) as reading:
            return reading.result(stopped=stopped)

    @contextmanager
    def begin(self, drops: Sequence[Drop], places: Mapping[int, Path]) -> Iterator[Reading]:
        """Starts reading drops from the files in `places` (by drop number). The files must exist until the result is there."""
        unreadable: dict[int, str] = {}
        with ExitStack() as stack:
            spans: list[tasks.Span] = []
            for drop in drops:
                try:
                    _refuse_by_name_or_size(drop, self.limits)
                    if raw.is_archive(drop.name):
                        _refuse_archive(places[drop.seq], self.limits)
                    path = stack.enter_context(self._plain(drop, places[drop.seq]))
                    spans += tasks.spans_of(drop.seq, path, drop.context, _dimension(drop), refusing=self.refusing)
                except Unreadable as error:
                    unreadable[drop.seq] = str(error)
                refuse_cut(places[drop.seq], drop.size_bytes)  # otherwise what was found may be that of a part
            groups = tasks.parcels(spans)
            is_small = len(groups) <= 1 and sum(span.stop - span.start for span in spans) <= tasks.PIECE_BYTES
            executor = Inline() if is_small else self.executor
            answers = self._early.submit(executor, groups, self.staging)
            yield Reading(executor, self.staging, groups, answers, unreadable, self.blocks, self.refusing)

    def expect(self, size_bytes: int) -> None:
        """Called with how much will be read soon, so that worker processes start in the meantime."""
        warm(self.executor, size_bytes)

    def begin_copying(self) -> None:
        """Called before the drops of a batch are copied. `copying` and `copied` follow for each of them."""
        self._early.begin()

    def copying(self, drop: int, name: str, path: Path, context: ParseContext) -> Callable[[int], None]:
        """Returns what to call with the number of bytes of a drop that are copied to `path` so far."""
        if raw.kind_of(name) != raw.ORDERS:
            return lambda size_bytes: None
        return self._early.follow(self.executor, drop, path, context, self.staging)

    def copied(self, drop: raw.Stored, path: Path, context: ParseContext, is_known: Callable[[], bool]) -> None:
        """Called with each drop that is copied. `is_known`: whether a drop with its bytes was applied."""
        if raw.kind_of(drop.name) == raw.ORDERS:
            self._early.copied(self.executor, drop.seq, path, drop.size_bytes, context, self.staging, is_known)
        else:
            self._early.end()

    def _plain(self, drop: Drop, path: Path) -> AbstractContextManager[Path]:
        spool = self.staging / f"drop-{drop.seq}.plain"
        return raw.plain(path, spool, self.limits.max_drop_bytes, self.limits.max_expansion)


@dataclass(frozen=True)
class Reading:
    """Running read tasks."""

    executor: Executor
    staging: Path
    groups: Sequence[Sequence[tasks.Span]]
    futures: Sequence[Future[tasks.Answer | None]]
    unreadable: dict[int, str]
    blocks: Sequence[Block]
    refusing: bool

    def result(self, progress: Progress = silent, stopped: Callable[[], bool] = tasks.never) -> Parsed:
        """Waits for the answers and joins them. A drop that was divided at a wrong place is read again as a whole."""
        answers: list[list[Parsed] | None] = []  # in the order of the groups
        try:
            sizes = [sum(span.stop - span.start for span in group) for group in self.groups]
            for answer, done in zip(tasks.results(self.futures, stopped), accumulate(sizes), strict=True):
                answers.append(None if answer is None else answer.collected())
                progress("reading", done, sum(sizes))
        except BrokenExecutor:
            answers += [self._alone(group, stopped) for group in self.groups[len(answers) :]]
        miscut = {group[0].drop: group[0] for group, answer in zip(self.groups, answers, strict=True) if answer is None}
        good = [
            part for group, answer in zip(self.groups, answers, strict=True)
            if group[0].drop not in miscut for part in answer or []
        ]  # fmt: skip
        for span in miscut.values():
            whole = replace(span, start=0, stop=span.path.stat().st_size, form=Form.WHOLE, is_first=True)
            good += self._alone([whole], stopped) or []
        joined = _joined(good, dict(self.unreadable), self.refusing)
        if not self.blocks:
            return joined
        mappings = {span.drop: span.context.mapping for group in self.groups for span in group}
        return without_blocked(joined, self.blocks, mappings)

    def explained(self, most: int, stopped: Callable[[], bool] = tasks.never) -> dict[int, list[ReadRecord]]:
        """How the first records of each drop are read, by drop."""
        first_of_each: dict[int, tasks.Span] = {}
        for span in (span for group in self.groups for span in group):
            first_of_each.setdefault(span.drop, span)
        futures = [self.executor.submit(tasks.explain, span, most) for span in first_of_each.values()]
        try:
            return dict(zip(first_of_each, tasks.results(futures, stopped), strict=True))
        except BrokenExecutor:  # a record that takes more memory than there is
            return {}

    def lines_of(self, discards: pa.Table) -> dict[tuple[int, int], int]:
        """The lines of malformed records and of discarded rows in their files, by drop and position."""
        first_spans = {span.drop: span for group in self.groups for span in group if span.is_first}
        found: dict[tuple[int, int], int] = {}
        for drop, some in groupby(each(discards), attrgetter("drop")):
            if drop in first_spans:
                lines = tasks.places_of(first_spans[drop], list(some))
                found |= {(drop, position): line for position, line in lines.items()}
        return found

    def _alone(self, spans: Sequence[tasks.Span], stopped: Callable[[], bool]) -> list[Parsed] | None:
        """The answer for some spans while no other task runs. Used after a worker was killed, perhaps because of one of them.
        Only a drop that kills its worker when it is read alone becomes unreadable."""
        if stopped():
            raise Stopped("stopped while drops were being read")
        try:
            answer = next(tasks.results([self.executor.submit(tasks.read, spans, self.staging)], stopped))
            return None if answer is None else answer.collected()
        except BrokenExecutor:
            if stopped():  # a signal for all processes of the group
                raise Stopped("stopped while drops were being read") from None
            if len(spans) > 1:
                return [part for span in spans for part in self._alone([span], stopped) or []]
            return [Parsed(ORDERS.empty_table(), DISCARDS.empty_table(), {}, {spans[0].drop: _DEADLY})]


_DEADLY = (
    "the system killed a process that read only this file, most likely because it ran out of memory; "
    "give it more memory, or split the file, then run `strandline retry`"
)


# What a shop's button "Export" gives is often a table.
_ORDERS_ARE_JSON = (
    ". Orders in a table are not read: export them as JSON, or let strandline read the API of the shop "
    "([sources.NAME.pull], `strandline docs PULL`)"
)


def _dimension(drop: Drop) -> str | None:
    kind = raw.kind_of(drop.name)
    return kind if kind in DIMENSIONS else None


def _refuse_archive(path: Path, limits: Limits) -> None:
    """Why a zip archive was not unpacked when it was taken."""
    with files.opened_for_reading(path) as file:
        for _, blocks in unpack(file, limits.archive):
            deque(blocks, maxlen=0)
    raise Unreadable(
        "the zip archive could not be unpacked before, and can be now; put it back with `strandline retry`"
    )


def _refuse_by_name_or_size(drop: Drop, limits: Limits) -> None:
    if raw.kind_of(drop.name) is None and not raw.is_archive(drop.name):
        orders = _ORDERS_ARE_JSON if drop.name.lower().endswith((".csv", ".tsv", ".xls", ".xlsx", ".ods")) else ""
        raise Unreadable(f"a file with this name is not read. {raw.NAMES_READ}{orders}")
    if why := too_large(drop.size_bytes, limits):  # possible if the limits were lowered after it was archived
        raise Unreadable(why)


def too_large(size_bytes: int, limits: Limits) -> str | None:
    """The reason not to copy a file of this size; None if it may be copied."""
    if size_bytes <= limits.max_drop_bytes:
        return None
    return f"the file has {size_bytes:,} bytes; [input] max_drop_bytes allows {limits.max_drop_bytes:,}"


def _joined(parts: Sequence[Parsed], unreadable: dict[int, str], refusing: bool = True) -> Parsed:
    """Joins answers into one. Positions in the later pieces of a drop continue those of the earlier pieces."""
    tables: list[pa.Table] = []
    discards: list[pa.Table] = []
    tallies: dict[int, Tally] = {}
    rows: dict[int, DimensionRows] = {}
    for part in parts:
        orders, found = part.orders, part.discards
        for drop, tally in part.tallies.items():
            if drop not in tallies:
                tallies[drop] = tally
                continue
            # Only a divided drop has several parts, and each of its pieces is a part of its own.
            base = tallies[drop].extracted
            orders, found = _shifted(orders, base), _shifted(found, base)
            tallies[drop].add(tally)
        tables.append(orders)
        discards.append(found)
        unreadable |= part.unreadable
        rows |= part.rows
    if torn := unreadable.keys() & tallies.keys():  # one piece of a divided drop is unreadable, so the whole drop is
        return _joined([part for part in parts if not part.tallies.keys() & torn], unreadable, refusing)
    read = Parsed(concat_orders(tables), concat_discards(discards), tallies, unreadable, rows)
    # Only now are divided drops known as a whole.
    return refused(read, tallies.keys() - rows.keys()) if refusing else read


def _shifted(table: pa.Table, base: int) -> pa.Table:
    index = table.schema.get_field_index("position")
    field = table.schema.field(index)
    return table.set_column(index, field, pa.array(table["position"].to_numpy() + base, field.type))
