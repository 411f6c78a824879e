"""[table.NAME]: one Delta table for each table and model, in the folder of its name, partitioned by date where it has dates.

All dates of a table that a delivery changes are one commit, so a reader sees all of them or none. Everything is uploaded before
the first commit: then the tables follow each other within moments. Uploaded files that no commit names, since the process was
killed, are removed by vacuum once they are old enough. A Delta table that is not ours is never changed.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ...storage.files import sha256_of
from ...storage.store import iso_date
from ..contract import WHOLE, DownstreamFailed
from . import delta_table, object_store
from .delta_table import Marks, Settings, Table
from .delta_types import delta_schema, evolved
from .store import Change, Contents, Delivered, Delivery, Key, Store, Target

_NAME = re.compile(r"[a-z][a-z0-9_]*")  # of tables and models
_DAY_SECONDS = 86_400


class Delta(Store):
    """A folder of Delta tables."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._files = object_store.opened(target)
        self._settings = Settings(int(target.values["checkpoint"]), int(target.values["vacuum"]))
        self._compared: dict[str, Table] = {}  # by `difference`

    def contents(self) -> Contents:
        self._compared.clear()
        found: dict[Key, bytes] = {}
        for name in self._files.folders():
            if _NAME.fullmatch(name):
                table = delta_table.opened(self._files, name, foreign_allowed=True)
                found |= {(name, date): digest for date, digest in table.digests.items()}
        return found

    def deliver(self, delivery: Delivery) -> Delivered:
        self._compared.clear()
        changes: dict[str, list[Change]] = {}
        for one in delivery.changes:
            changes.setdefault(one.table, []).append(one)
        tables = {name: self._unchanged(name, delivery) for name in changes}
        schemas = {name: self._schema(tables[name], changes[name], delivery) for name in changes}
        sources = {
            f"{one.table}/{delta_table.path_of(one.table, one.date, one.sha256.hex())}": one.path
            for one in delivery.changes
            if one.path is not None
        }
        self._files.upload(sources)
        today = int(time.time()) // _DAY_SECONDS if self._settings.vacuum_seconds else 0
        due = {name for name, table in tables.items() if table.vacuumed < today}
        rows = 0
        for name, schema in schemas.items():
            if schema is not None:
                marks = Marks(delivery.batch, today if name in due else None)
                rows += tables[name].commit(changes[name], schema, marks, self._settings)
        for name in due:
            if tables[name].exists:  # what is new has nothing old
                delta_table.vacuum(self._files, name, self._settings)
        return Delivered(rows, sum(one.bytes for one in delivery.changes if one.path is not None))

    def _unchanged(self, name: str, delivery: Delivery) -> Table:
        """A table, which is what it was when it was compared."""
        table = delta_table.opened(self._files, name, foreign_allowed=False)
        if table.digests != {date: digest for (other, date), digest in delivery.before.items() if other == name}:
            raise table.changed_meanwhile()
        return table

    def _schema(self, table: Table, changes: Sequence[Change], delivery: Delivery) -> pa.Schema | None:
        """The columns that a table has afterwards; None where it is not there, and will not be."""
        where, name = self.target.where, table.name
        if all(one.path is None for one in changes):
            return table.schema if table.exists else None
        dated = any(one.date != WHOLE for one in changes)
        wanted = delta_schema(where, name, delivery.schemas[name], dated=dated)
        if not table.exists:
            return wanted
        if table.has_dates != dated:
            divided = "is divided by dates" if table.has_dates else "is not divided by dates"
            raise DownstreamFailed(
                f"{where}: the table {name} there {divided}, and {name} is otherwise; {delta_table.AGAIN}"
            )
        stay = [iso_date(date) for date in table.dates - {one.date for one in changes}]
        return evolved(where, name, table.schema, wanted, stay=stay)

    def difference(self, table: str, date: int, path: Path, scratch: Path) -> str:
        there = self._compared.get(table)
        if there is None:  # one state of each table, which is read once
            there = self._compared[table] = delta_table.opened(self._files, table, foreign_allowed=True)
        found = there.paths(date)
        if not found:
            return "it is not there"
        if known := there.digests[date]:  # our file alone
            digest = self._files.sha256(f"{table}/{found[0]}")
            if digest is None:
                return f"{table}/{found[0]} is gone"
            if digest != known:
                return f"{table}/{found[0]} is damaged"
            if digest == sha256_of(path):
                return ""
        try:
            rows = there.rows(date)
        except DownstreamFailed:
            return "it cannot be read there: a file is missing or damaged"
        return _difference(pq.ParquetFile(path).read(), rows)

    def close(self) -> None:
        """It has no connections of its own."""


def _difference(wanted: pa.Table, there: pa.Table) -> str:
    """How rows differ, in any order. A column that the file lacks is NULL."""
    if unknown := set(wanted.schema.names) - set(there.schema.names):
        return f"the column {min(unknown)} is missing"
    try:
        columns = [
            wanted[one.name].cast(one.type) if one.name in wanted.schema.names else pa.nulls(len(wanted), one.type)
            for one in there.schema
        ]
    except pa.ArrowException:
        return "its columns have other types"
    ours, theirs = _counted(pa.table(columns, schema=there.schema)), _counted(there)
    if missing := (ours - theirs).total():
        return f"{missing} rows are missing or differ"
    extra = (theirs - ours).total()
    return f"{extra} rows are too many" if extra else ""


def _counted(table: pa.Table) -> Counter[bytes]:
    """How often there is each row."""
    found: Counter[bytes] = Counter()
    for batch in table.to_batches(max_chunksize=10_000):
        columns = [column.to_pylist() for column in batch.columns]
        found.update(blake2b(repr(row).encode(), digest_size=16).digest() for row in zip(*columns, strict=True))
    return found
