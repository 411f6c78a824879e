"""Runs the daemon's engine in this process, in its own folder, and reads what it published. For tests."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq

from daemon.batch.engine import Engine
from daemon.batch.outcome import BatchOutcome
from daemon.batch.pipeline import take
from daemon.batch.reading import Limits, Reader
from daemon.batch.rewriting import Rewriter
from daemon.batch.taking import Taking
from daemon.core.mapping import DIRECT, FieldMapping
from daemon.core.model import ParseContext
from daemon.core.retry import Backoff
from daemon.execution.workers import Inline
from daemon.sources.inbox import Inbox
from daemon.sources.source_folder import SourceFolder
from daemon.storage import files
from daemon.storage.ledger import Ledger
from daemon.storage.raw import RawLayer
from daemon.storage.store import Store

DAY = 86_400_000_000


@contextmanager
def open_engine(root: Path, executor: Executor | None = None) -> Iterator[Engine]:
    """An Engine over root/output. Everything runs in this thread unless an executor is given."""
    output = root / "output"
    store = Store(output)
    for folder in (store.staging, store.curated, output / "state", root / "inbox"):
        files.make_folder(folder)
    ledger = Ledger(output / "state" / "ledger.sqlite")
    inline = Inline()
    limits = Limits(8 << 30, 200)
    try:
        raw = RawLayer(output, store.staging)
        yield Engine(
            output, ledger, raw, store, Reader(output, store.staging, limits, executor or inline, ledger.blocks()),
            Rewriter(inline), Taking(raw, ledger.drop, 0.0), inline,
        )  # fmt: skip
    finally:
        ledger.close()


def apply_batch(
    engine: Engine,
    root: Path,
    drops: Sequence[tuple[str, bytes]],
    received_at: int,
    tolerance: int = DAY,
    since: int | None = None,
    records_path: str = "",
    mapping: FieldMapping = DIRECT,
) -> BatchOutcome:
    """Writes drops (name, content) into the inbox, in this order of arrival, and applies them as one batch."""
    for number, (name, data) in enumerate(drops):
        path = root / "inbox" / name
        path.write_bytes(data)
        os.utime(path, ns=(number * 10**9, number * 10**9))
    look = Inbox(SourceFolder(root / "inbox"), 0.0, Backoff(1, 0.1, 0.1)).scan(now=10**10)
    assert [a.name for a in look.settled] == [name for name, _ in drops]
    context = ParseContext(received_at, tolerance, records_path, since, mapping=mapping)
    outcome, refused = take(engine, look.settled, {"default": context}, received_at)
    assert outcome is not None and not refused
    return outcome


def rows(output: Path, date: str, table: str = "fact_order") -> list[dict[str, object]]:
    """The rows of a partition as plain values, instants in microseconds."""
    # Opened once: read_table opens a path twice, and a daemon may replace the file in between.
    found = pq.ParquetFile(output / "curated" / f"date={date}" / f"{table}.parquet").read()
    columns = {
        name: column.cast("int64").to_pylist() if str(column.type).startswith("timestamp") else column.to_pylist()
        for name, column in zip(found.column_names, found.columns, strict=True)
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def dates(output: Path) -> list[str]:
    """The published dates, from the folders."""
    return sorted(path.name.removeprefix("date=") for path in (output / "curated").glob("date=*"))


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder with the SHA-256 of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def lose(output: Path, name: str, date: str) -> tuple[Path, bytes]:
    """Removes the raw copy of a drop and damages a published date, so that it cannot be made anew; returns the copy."""
    (copy,) = (output / "raw").glob(f"*/*{name}")
    content = copy.read_bytes()
    copy.unlink()
    (output / "curated" / f"date={date}" / "fact_order.parquet").write_bytes(b"damaged")
    return copy, content
