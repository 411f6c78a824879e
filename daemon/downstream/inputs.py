"""The files that a run reads, as they were when its fingerprints were computed: hard links, checked by SHA-256.

A batch that is published meanwhile renames new files over the paths, and the links keep the old ones. So a run sees one state,
however long it takes, and a damaged file is never read.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pyarrow as pa

from ..core.columns import columns_of, fact_schema, together
from ..core.mapping import Columns
from ..core.model import DIM_PRODUCT, DIM_USER, ITEMS
from ..storage import files
from ..storage.ledger import Ledger
from ..storage.store import FACT_FILE, ITEMS_FILE, folder_name
from .contract import WHOLE, File, InputChanged, Sums, Table, Tables
from .sandbox import View

CANNOT_LINK = {errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS, errno.EACCES}
_LINKS = "in"  # in the scratch folder
_Identity = tuple[int, int, int, int]


def published(ledger: Ledger) -> dict[str, Table]:
    """The tables that are published, as the ledger has them. Of a batch that is not published yet, paths may still have the
    files before."""
    partitions = ledger.partitions()
    fact: dict[int, File] = {}
    items: dict[int, File] = {}
    for date, one in partitions.items():
        folder = f"curated/{folder_name(date)}"
        sums = Sums(one.orders, one.lines, one.amount)
        fact[date] = File(f"{folder}/{FACT_FILE}", one.fact_sha256, one.bytes, one.columns, sums)
        items[date] = File(f"{folder}/{ITEMS_FILE}", one.items_sha256, one.bytes)
    found: dict[str, Table] = {"fact_order": fact, "order_items": items, "dim_user": {}, "dim_product": {}}
    for name, file in ledger.dimensions().items():
        found[f"dim_{name}"] = {WHOLE: File(f"curated/dim_{name}.parquet", file.sha256, file.bytes)}
    return found


def schemas(columns: Columns) -> dict[str, pa.Schema]:
    """The columns of the published tables, with these extra ones."""
    return {
        "fact_order": fact_schema(columns), "order_items": ITEMS, "dim_user": DIM_USER, "dim_product": DIM_PRODUCT,
    }  # fmt: skip


def only(table: Table, dates: Collection[int] | None) -> Table:
    """The files of a table of these dates; the one file of a table without dates."""
    return table if dates is None else {date: file for date, file in table.items() if date == WHOLE or date in dates}


class Inputs:
    """Links files of one output folder. Remembers which files it has checked, so that a file is read once for that. `check` is
    called before each file, and may raise."""

    def __init__(self, output: Path, check: Callable[[], None] = lambda: None) -> None:
        self._output, self._check = output, check
        self._checked: dict[str, tuple[_Identity, bytes]] = {}
        self._schemas: dict[bytes, pa.Schema] = {}  # of files of Python models, by SHA-256

    def views(self, tables: Tables, schemas: Mapping[str, pa.Schema], folder: Path) -> dict[str, View]:
        """Links the files of these tables into the folder. Raises InputChanged where a file is not the one that is named."""
        return {
            name: View(schemas[name], self._linked(name, table, folder), self._differ(name, table, schemas[name]))
            for name, table in tables.items()
        }

    def unlinked(self, tables: Tables, schemas: Mapping[str, pa.Schema]) -> dict[str, View]:
        """Views over the published paths themselves, for whoever cannot write to the output. What is published meanwhile changes
        them."""
        return {
            name: View(
                schemas[name],
                [str(self._output / file.path) for _, file in sorted(table.items())],
                self._differ(name, table, schemas[name]),
            )
            for name, table in tables.items()
        }

    def schema_of(self, table: Table) -> pa.Schema | None:
        """The columns of all files of a table together; None where it has none, or a column has types that do not go together."""
        found: list[pa.Schema] = []
        for file in table.values():
            try:
                found.append(self._schema_of(file))
            except (OSError, pa.ArrowException):
                continue
        try:
            return pa.unify_schemas(found, promote_options="permissive") if found else None
        except pa.ArrowException:
            return None

    def _schema_of(self, file: File) -> pa.Schema:
        import pyarrow.parquet as pq

        if file.sha256 not in self._schemas:
            self._schemas[file.sha256] = pq.read_schema(self._output / file.path).remove_metadata()
        return self._schemas[file.sha256]

    def _differ(self, name: str, table: Table, schema: pa.Schema) -> bool:
        """Whether some files of a table may have other columns than the table."""
        if name == "fact_order":
            return any(file.columns != columns_of(schema) for file in table.values())
        return any(self._schemas.get(file.sha256, schema) != schema for file in table.values())

    def _linked(self, name: str, table: Table, folder: Path) -> list[str]:
        below = folder / _LINKS / name
        below.mkdir(parents=True)
        return [
            str(self.link(file, below / f"{number}.parquet")) for number, (_, file) in enumerate(sorted(table.items()))
        ]

    def link(self, file: File, target: Path) -> Path:
        """Links a published file. Raises InputChanged where it is not the one that is named."""
        self._check()
        link_or_copy(self._output / file.path, target)
        found = target.stat()
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        if self._checked.get(file.path) != (identity, file.sha256):
            if (content := files.sha256_if_readable(target)) != file.sha256:
                what = "cannot be read" if content == b"" else "is not the file that was committed"
                raise InputChanged(f"{file.path} {what}")
            self._checked[file.path] = identity, file.sha256
        return target


def link_or_copy(source: Path, target: Path) -> None:
    """Makes a hard link, or a copy where the file system refuses one. Raises InputChanged where there is no such file, or this
    one alone cannot be read."""
    try:
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in CANNOT_LINK:
                raise
            shutil.copyfile(source, target)
    except FileNotFoundError:
        raise InputChanged(f"{source} is gone") from None
    except OSError as error:
        if not files.is_of_one_file(error, source):
            raise
        raise InputChanged(f"{source} cannot be read ({error.strerror})") from None


def all_columns(tables: Tables, configured: Columns) -> Columns:
    """The extra columns of fact_order: those of its files and those of the configuration."""
    return together([configured, *(file.columns for file in tables["fact_order"].values())])
