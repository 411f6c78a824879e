"""What tests of Delta tables and mirrors have in common: published files, and a plain model of what a destination must have."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from daemon.core.columns import fact_schema
from daemon.core.mapping import Columns
from daemon.core.model import DIM_USER, ITEMS
from daemon.core.parquet import encode
from daemon.downstream.contract import WHOLE
from daemon.downstream.destinations.delta import Delta
from daemon.downstream.destinations.objects import Objects
from daemon.downstream.destinations.store import Change, Delivered, Delivery, Key, Store, Target

FIRST = 20_000  # 2024-10-04
DAY = 86_400 * 1_000_000
MODEL = pa.schema(
    [("date", pa.date32()), ("orders", pa.int64()), ("amount", pa.decimal128(38, 4)), ("best", pa.string())]
)


def target(kind: str, url: object, options: Mapping[str, str] | None = None, **values: Any) -> Target:
    defaults = {"vacuum": 30 * 86_400, "checkpoint": 5} if kind == "table" else {}
    return Target(kind, "lake", {"url": str(url), "options": options or {}, "tables": (), **defaults, **values})


def value(kind: pa.DataType, row: int, seed: int) -> Any:
    """Some value of a type."""
    if pa.types.is_decimal(kind):
        return Decimal(seed * 100 + row) / 100
    if pa.types.is_integer(kind):
        return seed + row
    if pa.types.is_boolean(kind):
        return row % 2 == 0
    if pa.types.is_timestamp(kind):
        return FIRST * DAY + row * 1_001 + seed
    return f"{seed}-{row}-ä"


def table_of(schema: pa.Schema, date: int, count: int, seed: int) -> pa.Table:
    """Rows of one date. Every third row is twice there, so that a multiset is not a set."""
    found = {}
    for one in schema:
        if one.name == "date":
            column = pa.array([date] * count, pa.int32()).cast(one.type)
        elif one.name == "created_at":
            column = pa.array([date * DAY + row // 3 * 1_001_001 for row in range(count)], pa.int64()).cast(one.type)
        else:
            column = pa.array([value(one.type, row // 3, seed) for row in range(count)], one.type)
        found[one.name] = column
    return pa.table(found, schema=schema)


@dataclass
class World:
    """Published files in a folder, and what a destination must have of them."""

    folder: Path
    schemas: dict[str, pa.Schema] = field(default_factory=dict)
    wanted: dict[Key, Change] = field(default_factory=dict)
    batch: int = 0

    def publish(
        self, table: str, date: int, seed: int, count: int = 7, columns: Columns = (), schema: pa.Schema | None = None
    ) -> Change:
        """A file with rows of a date. The table has from now on its columns, too."""
        schema = schema or self.schema_of(table, columns)
        self.schemas[table] = (
            pa.unify_schemas([self.schemas.get(table, schema), schema]) if table == "fact_order" else schema
        )
        content = bytes(encode(table_of(schema, date if date != WHOLE else FIRST, count, seed)))
        digest = hashlib.sha256(content).digest()
        path = self.folder / f"{digest.hex()}.parquet"
        path.write_bytes(content)
        self.wanted[table, date] = Change(table, date, path, digest, len(content))
        return self.wanted[table, date]

    @staticmethod
    def schema_of(table: str, columns: Columns) -> pa.Schema:
        return {"fact_order": fact_schema(columns), "order_items": ITEMS, "dim_user": DIM_USER}.get(table, MODEL)

    def remove(self, table: str, date: int) -> None:
        del self.wanted[table, date]

    @property
    def digests(self) -> dict[Key, bytes]:
        return {key: one.sha256 for key, one in self.wanted.items()}

    def delivery(self, store: Store) -> Delivery:
        """What is to be delivered: as the daemon compares it."""
        before = store.contents()
        changes = [one for key, one in sorted(self.wanted.items()) if before.get(key) != one.sha256]
        changes += [Change(*key, None) for key in sorted(before) if key not in self.wanted]
        self.batch += 1
        return Delivery(before, changes, self.schemas, self.batch)

    def bring(self, store: Store) -> Delivered:
        delivered = store.deliver(self.delivery(store))
        assert store.contents() == self.digests
        return delivered

    def rows(self, table: str) -> list[tuple]:
        """All rows that a table must have, in order. A column that a file lacks is NULL."""
        names = sorted(self.schemas[table].names) if table in self.schemas else []
        found = []
        for (other, _), one in self.wanted.items():
            if other == table:
                assert one.path is not None
                found += rows_of(pq.ParquetFile(one.path).read(), names)
        return sorted(found, key=repr)

    def step(self, random: random.Random) -> None:
        """Changes some files at random; sometimes a file becomes again what it was."""
        for _ in range(random.randint(1, 5)):
            table = random.choice(["fact_order", "order_items", "daily", "dim_user"])
            date = WHOLE if table == "dim_user" else FIRST + random.randrange(6)
            if (table, date) in self.wanted and random.random() < 0.3:
                self.remove(table, date)
            else:
                columns = random.choice([(), (("note", "text"),), (("note", "text"), ("paid", "boolean"))])
                self.publish(table, date, random.randrange(4), random.randint(0, 5), columns)


def rows_of(table: pa.Table, names: list[str]) -> list[tuple]:
    """Rows with these columns, in order."""
    columns = [table[name].to_pylist() if name in table.schema.names else [None] * len(table) for name in names]
    return sorted(zip(*columns, strict=True), key=repr) if columns else []


def files_below(root: Path) -> Iterator[str]:
    """The names of all files in a folder."""
    return (str(path.relative_to(root)) for path in sorted(root.rglob("*")) if path.is_file())


def opened(where: Target) -> Store:
    """What the worker opens."""
    return {"table": Delta, "mirror": Objects}[where.kind](where)
