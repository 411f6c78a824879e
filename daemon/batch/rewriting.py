"""Merges winning versions into staged partitions: finds the affected dates, groups them, and runs the rewrite tasks.

The counterpart of reading.py. A thread gathers the orders of a group of dates and passes them to the executor: as tables in the
same thread, or as files to other machines. Nothing that is published changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa

from ..core.mapping import Columns
from ..core.merge.facts import gathered
from ..core.model import Ints
from ..core.progress import Progress, silent
from ..execution import spill, tasks
from ..execution.process import release_memory
from ..execution.tasks import PartitionChange, Rewritten
from ..execution.workers import Inline
from ..storage import beside
from ..storage.ledger import Ledger
from ..storage.set_aside import days_of
from ..storage.store import Store
from .decide import Decided

_GROUP_ORDERS = 30_000  # new versions that one task rewrites together, about
_GROUP_MERGED = 16  # published dates of one task: a few new versions of a date may mean much to read and to write
_DECIDED_BY = ("key", "content", "drop", "position")  # columns of ORDERS that no published row needs


def changes_of(ledger: Ledger, decided: Decided) -> list[PartitionChange]:
    """What to change in each date that gains, keeps or loses a winner, by date; except what is set aside."""
    gaining, losing = decided.new_date, decided.leaving.date
    days = np.setdiff1d(np.union1d(gaining, losing), days_of(ledger.set_aside().values()))
    published = ledger.partitions(days.tolist())
    replaces = decided.known & ~decided.moved
    leaving = _order_ids(decided.orders, decided.leaving.rows)
    changes = []
    for day, a, b, c, d in zip(days.tolist(), *_spans(gaining, days), *_spans(losing, days), strict=True):
        sha256 = published[day].fact_sha256 if day in published else None
        changes.append(PartitionChange(day, a, b, replaces[a:b], leaving.slice(c, d - c), sha256))
    return changes


@dataclass(frozen=True)
class Rewriter:
    """`threads` gather groups of dates in parallel. `executor` runs the calls: inline in those threads, or (with a `folder`) on
    other machines, which read their tables from files in that folder."""

    threads: Executor
    executor: Executor = field(default_factory=Inline)
    folder: Path | None = None

    def rewrite(
        self,
        store: Store,
        batch: int,
        decided: Decided,
        changes: Sequence[PartitionChange],
        known: tasks.Known,
        columns: Columns = (),
        progress: Progress = silent,
        stopped: Callable[[], bool] = tasks.never,
    ) -> list[Rewritten]:
        """Merges and stages these dates; returns the result of each, in the same order. `columns`: the extra ones that their
        files get."""
        if spill.release_pages():  # the decision has read all orders, and made arrays of all
            release_memory()
        with ExitStack() as stack, beside.synced_meanwhile(2 * len(changes)) as written:
            keys = {name: stack.enter_context(self._sent(pa.table({"key": keys}))) for name, keys in known.items()}

            def rewrite_group(group: Sequence[PartitionChange]) -> list[Rewritten]:
                with self._gathered(decided, group) as (orders, rows, shifted):
                    given = (store, batch, orders, rows, shifted, keys, columns)
                    return self.executor.submit(tasks.rewrite, *given).result()

            futures = [self.threads.submit(rewrite_group, group) for group in grouped(changes)]
            rewritten: list[Rewritten] = []
            for group in tasks.results(futures, stopped):
                rewritten += group
                written(path for one in group if one.staged for path in store.staged_files(batch, one.staged))
                progress("writing partitions", len(rewritten), len(changes))
        return rewritten

    @contextmanager
    def _gathered(
        self, decided: Decided, group: Sequence[PartitionChange]
    ) -> Iterator[tuple[pa.Table | Path, Ints, list[PartitionChange]]]:
        """The winners of some consecutive dates, as arguments of `tasks.rewrite`."""
        base, stop = group[0].first, group[-1].stop
        orders, rows = gathered(decided.orders.drop_columns(_DECIDED_BY), decided.rows[base:stop])
        spill.release_pages()  # `gathered` copies, and each group reads other rows
        with self._sent(orders) as sent:
            yield sent, rows, [replace(one, first=one.first - base, stop=one.stop - base) for one in group]

    @contextmanager
    def _sent(self, table: pa.Table) -> Iterator[pa.Table | Path]:
        """A table as an argument of a call: the table itself, or a file that exists while the block runs."""
        if self.folder is None:
            yield table
            return
        path = self.folder / f"sent-{uuid4().hex}.arrow"
        spill.write(path, table)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)


def _order_ids(orders: pa.Table, rows: Ints) -> pa.Array:
    """The ids of some rows, mostly few and often none. Gathers first: pyarrow's `take` joins all chunks of a text column."""
    chosen, places = gathered(orders.select(["drop", "order_id"]), rows)
    return chosen["order_id"].combine_chunks().take(pa.array(places))


def grouped(changes: Sequence[PartitionChange]) -> list[list[PartitionChange]]:
    """Consecutive dates that are rewritten together: enough for the overhead of a task, and few enough to balance the load."""
    groups: list[list[PartitionChange]] = []
    merged = 0
    for change in changes:
        if groups and change.stop - groups[-1][0].first <= _GROUP_ORDERS and merged < _GROUP_MERGED:
            groups[-1].append(change)
        else:
            groups.append([change])
            merged = 0
        merged += change.published_sha256 is not None
    return groups


def _spans(dates: Ints, days: Ints) -> tuple[list[int], list[int]]:
    """The first and last position (exclusive) of each of these days in sorted `dates`."""
    return np.searchsorted(dates, days, "left").tolist(), np.searchsorted(dates, days, "right").tolist()
