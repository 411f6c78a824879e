"""The tables of what happened: `drops` from the ledger, `discards` from the files of rejected records, `restatements` from their
log. Each becomes one Parquet file when a query names it, a few rows at a time, so that memory does not grow with history."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ...batch.commit import RESTATEMENTS
from ...core.entries import Drop, DropResult
from ...core.errors import EnvironmentFault
from ...core.model import FACT, DropOutcome, on_the_calendar
from ...core.parse.discards import of_line
from ...downstream.contract import InputChanged
from ...downstream.inputs import link_or_copy
from ...downstream.settings import LEDGER
from ...storage.ages import DISCARDS
from ...storage.ledger import Ledger
from ...storage.receipts import discards_path

_INSTANT = FACT.field("created_at").type
_COUNTS = ("extracted", "discarded", "before_since", "superseded", "unchanged", "new", "corrected", "deleted", "late")
_ROWS = 8192
_BYTES = 8 << 20  # of the text of rows in memory

SCHEMAS = {
    "drops": pa.schema(
        [
            pa.field("number", pa.int64(), nullable=False), ("name", pa.large_string()), ("source", pa.large_string()),
            ("outcome", pa.large_string()), ("reason", pa.large_string()), ("received_at", _INSTANT),
            ("committed_at", _INSTANT), ("batch", pa.int64()), ("duplicate_of", pa.int64()), ("bytes", pa.int64()),
            ("sha256", pa.large_string()), *((name, pa.int64()) for name in _COUNTS),
            ("faults", pa.int64()), ("unknown_keys", pa.int64()), ("without_amount_and_price", pa.int64()),
        ]
    ),
    "discards": pa.schema(
        [
            pa.field("drop", pa.int64(), nullable=False), ("name", pa.large_string()), ("source", pa.large_string()),
            ("position", pa.int64()), ("reason", pa.large_string()), ("record", pa.large_string()),
        ]
    ),
    "restatements": pa.schema(
        [
            pa.field("date", pa.date32(), nullable=False), ("batch", pa.int64()), ("drops", pa.list_(pa.int64())),
            ("orders_before", pa.int64()), ("orders_after", pa.int64()),
            ("amount_before", pa.decimal128(38, 4)), ("amount_after", pa.decimal128(38, 4)),
        ]
    ),
}  # fmt: skip

Check = Callable[[], None]  # raises where the user has stopped the query


class History:
    """Writes these tables of one output. `linked`: from hard links in a folder of its own, so that it does not matter what is
    published meanwhile; else from the files themselves."""

    def __init__(self, output: Path, folder: Path, check: Check, *, linked: bool) -> None:
        self._output, self._folder, self._check, self._linked = output, folder, check, linked

    def write(self, name: str, batch: int, restatements_bytes: int) -> list[str]:
        """Writes one table as it was after this batch, with a log of so many bytes; returns its files. Raises InputChanged where
        another batch was committed since."""
        path = self._folder / f"{name}.rows.parquet"
        if not (self._output / LEDGER).exists():
            return []
        if name == "drops":
            self._written(path, name, self._drops(batch))
        elif name == "restatements":
            self._written(path, name, self._restatements(restatements_bytes))
        else:
            self._written(path, name, self._discards(batch))
        return [str(path)]

    def _written(self, path: Path, name: str, rows: Iterator[dict[str, Any]]) -> None:
        schema = SCHEMAS[name]
        with pq.ParquetWriter(path, schema, compression="snappy", store_schema=False) as file:
            for some in _pages(rows):
                self._check()
                file.write_table(pa.Table.from_pylist(some, schema=schema))

    def _drops(self, batch: int) -> Iterator[dict[str, Any]]:
        with self._ledger(batch) as ledger:
            for result, applied_in, committed_at in ledger.committed():
                yield _drop_row(result, applied_in, committed_at)

    def _restatements(self, size: int) -> Iterator[dict[str, Any]]:
        """The log as it was committed: what is behind that belongs to a batch that is not published yet."""
        if not size:
            return
        for line in _lines(self._output / RESTATEMENTS, size):
            one = json.loads(line)
            yield {
                "date": date.fromisoformat(one["date"]), "batch": one["cause"]["batch"], "drops": one["cause"]["drops"],
                "orders_before": one["orders_before"], "orders_after": one["orders_after"],
                "amount_before": Decimal(one["amount_before"]), "amount_after": Decimal(one["amount_after"]),
            }  # fmt: skip
        with closing(Ledger(self._output / LEDGER, read_only=True)) as ledger:
            if ledger.restatements_bytes < size:
                raise InputChanged("the first lines of the log have gone by age meanwhile")

    def _discards(self, batch: int) -> Iterator[dict[str, Any]]:
        with self._ledger(batch) as ledger:
            gone = ledger.horizon(DISCARDS)
            results = (result for result, _, _ in ledger.committed() if result.outcome is not DropOutcome.WITHDRAWN)
            drops = [one.drop for one in results if one.counts.discarded and one.drop.seq > gone]
        paths = [self._path_of(drop) for drop in drops]
        with self._ledger(batch) as ledger:  # files change after a commit only, until their batch is published
            if ledger.unpublished_batch() is not None:
                raise InputChanged("a batch is committed and not published yet")
        for drop, path in zip(drops, paths, strict=True):
            for line in _lines(path):
                if (found := of_line(line)) is None:
                    raise EnvironmentFault("read the discards in", path, "a line of it is damaged",
                                           "Run `strandline verify`, which names what is wrong.")  # fmt: skip
                yield {
                    "drop": drop.seq, "name": drop.name, "source": drop.context.source, "position": found.position,
                    "reason": str(found.reason), "record": found.record,
                }  # fmt: skip

    @contextmanager
    def _ledger(self, batch: int) -> Iterator[Ledger]:
        with closing(Ledger(self._output / LEDGER, read_only=True)) as ledger:
            if ledger.next_batch - 1 != batch:
                raise InputChanged("another batch was committed meanwhile")
            yield ledger

    def _path_of(self, drop: Drop) -> Path:
        source = self._output / discards_path(drop)
        if not self._linked:
            return source
        self._check()
        target = self._folder / ".discarded" / f"{drop.seq}.jsonl"
        target.parent.mkdir(exist_ok=True)
        link_or_copy(source, target)
        return target


def _drop_row(result: DropResult, batch: int, committed_at: int | None) -> dict[str, Any]:
    drop, counts = result.drop, result.counts
    known = counts.as_dict() | {"discarded": counts.discarded.total()}
    return {
        "number": drop.seq, "name": drop.name, "source": drop.context.source, "outcome": str(result.outcome),
        "reason": result.reason, "received_at": on_the_calendar(drop.context.received_at), "committed_at": committed_at,
        "batch": batch, "duplicate_of": result.duplicate_of, "bytes": drop.size_bytes, "sha256": drop.sha256.hex(),
        **{name: known[name] for name in _COUNTS},
        "faults": counts.faults.total(), "unknown_keys": counts.unknown.total(), "without_amount_and_price": counts.bare,
    }  # fmt: skip


def _lines(path: Path, size: int | None = None) -> Iterator[bytes]:
    """The lines of a file, or of its first `size` bytes."""
    left = size
    try:
        with open(path, "rb") as file:
            for line in file:
                if left is not None:
                    if left <= 0:
                        return
                    left -= len(line)
                yield line
    except FileNotFoundError:
        raise InputChanged(f"{path} is gone") from None
    if left is not None and left > 0:
        raise InputChanged(f"{path} does not have all that was committed")


def _pages(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Some rows at a time, of a limited size in memory."""
    page: list[dict[str, Any]] = []
    size = 0
    for row in rows:
        page.append(row)
        size += len(row.get("record") or "")
        if len(page) == _ROWS or size > _BYTES:
            yield page
            page, size = [], 0
    if page:
        yield page
