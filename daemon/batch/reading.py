"""Archived drops in, what their records say out: finds each drop's bytes, divides them, and runs the read tasks.

A drop that cannot be read is named with its reason, never raised. Positions count from 1 through a whole drop, however
it was divided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from ..core.entries import Drop
from ..core.errors import Stopped, Unreadable
from ..core.model import DIMENSIONS, DISCARDS, ORDERS, DimensionRows, ParseContext, Parsed, Tally, concat_orders
from ..core.parse.discards import concat_discards
from ..core.parse.documents import Form
from ..core.parse.refusals import refused
from ..core.progress import Progress, silent
from ..execution import tasks
from ..execution.early import EarlyReads
from ..execution.workers import Inline, warm
from ..storage import raw


@dataclass(frozen=True)
class Limits:
    """What a drop may be."""

    max_drop_bytes: int
    max_expansion: int


NO_LIMITS = Limits(1 << 62, 1 << 62)  # for applied drops: limits that were lowered since do not refuse them


@dataclass(frozen=True)
class Reader:
    """Where raw copies lie, where compressed ones are unpacked for a moment, and what reads them in parallel."""

    output: Path
    staging: Path
    limits: Limits
    executor: Executor
    _early: EarlyReads = field(default_factory=EarlyReads, init=False, repr=False, compare=False)

    def without_limits(self) -> Reader:
        """The same, for drops that were accepted before."""
        return replace(self, limits=NO_LIMITS)

    def read(self, drops: Sequence[Drop], stopped: Callable[[], bool] = tasks.never) -> Parsed:
        """What the records of these archived drops say."""
        with self.begin(drops, {drop.seq: self.output / (drop.raw or "") for drop in drops}) as reading:
            return reading.result(stopped=stopped)

    @contextmanager
    def begin(self, drops: Sequence[Drop], places: Mapping[int, Path]) -> Iterator[Reading]:
        """Starts reading drops whose bytes lie at `places` (by sequence number); they must stay until the result."""
        unreadable: dict[int, str] = {}
        with ExitStack() as stack:
            spans: list[tasks.Span] = []
            for drop in drops:
                try:
                    _refuse_by_name_or_size(drop, self.limits)
                    path = stack.enter_context(self._plain(drop, places[drop.seq]))
                    spans += tasks.spans_of(drop.seq, path, drop.context, _dimension(drop))
                except Unreadable as error:
                    unreadable[drop.seq] = str(error)
            groups = tasks.parcels(spans)
            little = len(groups) <= 1 and sum(span.stop - span.start for span in spans) <= tasks.PIECE_BYTES
            executor = Inline() if little else self.executor
            yield Reading(
                executor, self.staging, groups, self._early.submit(executor, groups, self.staging), unreadable
            )

    def expect(self, size_bytes: int) -> None:
        """Called with how much will be read soon, so that worker processes start in the meantime."""
        warm(self.executor, size_bytes)

    def copying(self, drop: int, name: str, path: Path, context: ParseContext) -> Callable[[int], None]:
        """Returns what to call with the number of bytes of a drop that are copied to `path` so far."""
        if raw.kind_of(name) != raw.ORDERS or raw.is_compressed(name):
            return lambda size_bytes: None
        return self._early.follow(self.executor, drop, path, context, self.staging)

    def _plain(self, drop: Drop, path: Path) -> AbstractContextManager[Path]:
        spool = self.staging / f"drop-{drop.seq}.plain"
        return raw.plain(path, drop.name, spool, self.limits.max_drop_bytes, self.limits.max_expansion)


@dataclass(frozen=True)
class Reading:
    """Read tasks under way."""

    executor: Executor
    staging: Path
    groups: Sequence[Sequence[tasks.Span]]
    futures: Sequence[Future[tasks.Answer | None]]
    unreadable: dict[int, str]

    def result(self, progress: Progress = silent, stopped: Callable[[], bool] = tasks.never) -> Parsed:
        """Waits, and puts the answers together. A drop with a wrong cut is read again as a whole."""
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
            whole = replace(span, start=0, stop=span.path.stat().st_size, form=Form.WHOLE)
            good += self._alone([whole], stopped) or []
        return _joined(good, dict(self.unreadable))

    def _alone(self, spans: Sequence[tasks.Span], stopped: Callable[[], bool]) -> list[Parsed] | None:
        """The answer for some spans, with nothing else under way; where a worker was killed before, by one of them perhaps.
        The drop that kills a worker when it is alone becomes unreadable, and no other."""
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
    "a process that read nothing else was ended by the system while it read this, most likely for want of memory; "
    "give it more memory, or divide the file, and put it back with `strandline retry`"
)


def _dimension(drop: Drop) -> str | None:
    kind = raw.kind_of(drop.name)
    return kind if kind in DIMENSIONS else None


def _refuse_by_name_or_size(drop: Drop, limits: Limits) -> None:
    if raw.kind_of(drop.name) is None:
        raise Unreadable(f"a file of this name is not read here. {raw.NAMES_READ}")
    if why := too_large(drop.size_bytes, limits):  # they were higher when it was archived
        raise Unreadable(why)


def too_large(size_bytes: int, limits: Limits) -> str | None:
    """Why a file of this size is not even copied; None where it is."""
    if size_bytes <= limits.max_drop_bytes:
        return None
    return f"the file has {size_bytes:,} bytes; [input] max_drop_bytes allows {limits.max_drop_bytes:,}"


def _joined(parts: Sequence[Parsed], unreadable: dict[int, str]) -> Parsed:
    """One answer out of many; positions in the later pieces of a drop go on from the earlier ones."""
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
            base = tallies[drop].extracted  # only a divided drop comes twice, and each of its pieces comes alone
            orders, found = _moved_on(orders, base), _moved_on(found, base)
            tallies[drop].add(tally)
        tables.append(orders)
        discards.append(found)
        unreadable |= part.unreadable
        rows |= part.rows
    if torn := unreadable.keys() & tallies.keys():  # one piece of a divided drop could not be read, so none of it is
        return _joined([part for part in parts if not part.tallies.keys() & torn], unreadable)  # a piece comes alone
    read = Parsed(concat_orders(tables), concat_discards(discards), tallies, unreadable, rows)
    return refused(read, tallies.keys() - rows.keys())  # those that were divided are known as a whole only now


def _moved_on(table: pa.Table, base: int) -> pa.Table:
    index = table.schema.get_field_index("position")
    field = table.schema.field(index)
    return table.set_column(index, field, pa.array(table["position"].to_numpy() + base, field.type))
