"""The curated layer: reads and stages the files of partitions. It knows paths, not what rows mean.

    .staging/<batch>/YYYY-MM-DD.<call>.fact_order.parquet  ── publish ──>  curated/date=YYYY-MM-DD/fact_order.parquet

A staged file is complete and durable before anything refers to it. The staged files of a batch are in one folder, since creating
thousands of files in one is much faster than in as many folders. The folder of a new date is created beside them in advance, and
moved when the date is published.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from ..core.columns import columns_of, fact_schema
from ..core.mapping import Columns
from ..core.merge.facts import files_of
from ..core.model import ITEMS, Dimension
from ..core.parquet import WRITER, encode
from . import files

FACT_FILE = "fact_order.parquet"
ITEMS_FILE = "order_items.parquet"
_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class StagedPartition:
    """The two staged files of a partition; their names begin with `name`."""

    name: str
    fact_sha256: bytes
    items_sha256: bytes
    bytes: int
    writer: str
    columns: Columns = ()  # extra ones, of fact_order


class Stage:
    """Writes the files of one call, under names that no other call uses: a cluster may run a call twice, and neither may
    overwrite the files of the other. `Store.sync_staged` makes them durable."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._call = folder, uuid4().hex[:12]

    def put(self, day: int, rows: pa.Table, *, is_new: bool) -> StagedPartition:
        """Writes both files of a partition with these FACT rows; for a new date, also a folder to be moved."""
        fact, items = files_of(rows)
        name = f"{iso_date(day)}.{self._call}"
        if is_new:
            (self._folder / folder_name(day)).mkdir(exist_ok=True)
        for file, content in ((FACT_FILE, fact), (ITEMS_FILE, items)):
            files.write_new(f"{self._folder}/{name}.{file}", content)
        return StagedPartition(
            name, _sha256(fact), _sha256(items), len(fact) + len(items), WRITER, columns_of(rows.schema)
        )


class Store:
    """The folder curated/ of an output folder, and its staging folder; a dry run has another one."""

    def __init__(self, output: Path, staging: Path | None = None) -> None:
        self.curated = output / "curated"
        self.staging = staging or output / ".staging"
        self._keys: dict[str, tuple[bytes, pa.Array]] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles the paths, not the keys."""
        return Store, (self.curated.parent, self.staging)

    def read_fact(self, day: int, sha256: bytes) -> pa.Table | None:
        """The published FACT table of a date, with its extra columns; None where the file has another SHA-256."""
        content = sound_content(self.curated / folder_name(day) / FACT_FILE, sha256)
        return None if content is None else fact_of(_opened(content))

    def read_items(self, day: int, sha256: bytes) -> pa.Table | None:
        """The published ITEMS table of a date; None where the file has another SHA-256."""
        content = sound_content(self.curated / folder_name(day) / ITEMS_FILE, sha256)
        return None if content is None else table_of(content, ITEMS)

    def read_dimension(self, dimension: Dimension, sha256: bytes) -> pa.Table | None:
        """The published table of a dimension; None where the file has another SHA-256."""
        content = sound_content(self.curated / dimension.file, sha256)
        return None if content is None else table_of(content, dimension.schema)

    def dimension_keys(self, dimension: Dimension, sha256: bytes) -> pa.Array | None:
        """The keys of a published dimension, read once per version; None where the file has another SHA-256."""
        known = self._keys.get(dimension.name)
        if known is None or known[0] != sha256:
            table = self.read_dimension(dimension, sha256)
            if table is None:
                return None
            known = self._keys[dimension.name] = sha256, table[dimension.key].combine_chunks()
        return known[1]

    def stage_dimension(self, batch: int, dimension: Dimension, table: pa.Table) -> tuple[bytes, int]:
        """Writes the file of a dimension; returns its SHA-256 and size. `sync_staged` makes it durable."""
        content = encode(table)
        path = self.staging / str(batch) / dimension.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return _sha256(content), len(content)

    def stage(self, batch: int) -> Stage:
        """The stage for one call's part of a batch."""
        return Stage(self.staging / str(batch))

    def staged_files(self, batch: int, staged: StagedPartition) -> list[Path]:
        """The files of `Stage.put`."""
        return [self.staging / str(batch) / f"{staged.name}.{file}" for file in (FACT_FILE, ITEMS_FILE)]

    def sync_staged(self, batch: int) -> None:
        """Makes all staged files of a batch durable: files first, then the folders with their names."""
        folder = self.staging / str(batch)
        if not folder.is_dir():
            return
        below = [(path, names) for path, _, names in os.walk(folder, onerror=_raise)]
        files.sync_many(f"{path}/{name}" for path, names in below for name in names)
        files.sync_many([*(path for path, _ in below), self.staging])

    def clean_staging(self) -> None:
        """Empties the staging folder. Only to be called when no committed effect refers to it."""
        files.make_folder(self.staging)
        for path in sorted(self.staging.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                files.unlink(path)


def sound_content(path: Path, sha256: bytes) -> bytes | None:
    """The bytes of a file; None where they have another SHA-256, or this file or its date alone cannot be read."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        if not files.is_of_one_file(error, path):
            raise
        return None
    return content if _sha256(content) == sha256 else None


def fact_of(file: pq.ParquetFile) -> pa.Table:
    """The FACT table of a Parquet file, with the extra columns that it has."""
    return file.read(use_threads=False).cast(fact_schema(columns_of(file.schema_arrow)))


def table_of(content: bytes | pa.Buffer, schema: pa.Schema) -> pa.Table:
    """The table of a Parquet file with these columns."""
    return _opened(content).read(use_threads=False).cast(schema)  # many files are read in parallel already


def _opened(content: bytes | pa.Buffer) -> pq.ParquetFile:
    """A file in memory. Its texts are read as ours are kept: a cast of them took a fifth of the reading."""
    return pq.ParquetFile(pa.BufferReader(content), binary_type=pa.large_binary(), pre_buffer=False)


def staged_dimension(batch: int, dimension: Dimension) -> str:
    """The path of a file of `Store.stage_dimension`, relative to the output folder."""
    return f".staging/{batch}/{dimension.file}"


def staged_path(batch: int, name: str, file: str) -> str:
    """The path of a file of `Stage.put`, relative to the output folder."""
    return f".staging/{batch}/{name}.{file}"


def folder_name(day: int) -> str:
    """`date=YYYY-MM-DD` of a date in days since 1970."""
    return f"date={iso_date(day)}"


def iso_date(day: int) -> str:
    """YYYY-MM-DD of a date in days since 1970."""
    return (_EPOCH + timedelta(days=int(day))).isoformat()


def day_of(path: str) -> int | None:
    """The date of a file of a partition, relative to the output folder, in days since 1970; None for other files."""
    layer, _, name = path.partition("/date=")
    return (date.fromisoformat(name[:10]) - _EPOCH).days if layer == "curated" and name else None


def _raise(error: OSError) -> None:
    raise error


def _sha256(content: bytes | pa.Buffer) -> bytes:
    return hashlib.sha256(content).digest()
