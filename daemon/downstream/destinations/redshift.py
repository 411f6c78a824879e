"""How a load reaches Redshift: COPY from the objects of a mirror, by a manifest for each table of a delivery. It has never run
against a Redshift: docs/WAREHOUSE.md says what is known.

COPY takes the columns of a Parquet file by their position and each value as it is in the file, and reads what the object has at
that moment. So all of this is checked before: the columns of each file, that no text has U+0000, and that the mirror says that it
has this very file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from ...core.ddl import TABLES
from ...core.errors import Unavailable
from ...storage.store import folder_name
from ..contract import WHOLE, DownstreamFailed
from . import postgres_sql as sql
from .postgres_rows import Rows
from .settings import MIRROR, REDSHIFT
from .store import Change, Target

Files = Sequence[tuple[Change, Path]]


def object_name(table: str, date: int) -> str:
    """Where a mirror has the file of a table and a date, under its URL."""
    folder = "curated" if table in TABLES else f"models/{table}"
    return f"{folder}/{table}.parquet" if date == WHOLE else f"{folder}/{folder_name(date)}/{table}.parquet"


def manifest(url: str, files: Files) -> bytes:
    """The manifest of these files of one table. Redshift needs the lengths of Parquet files beforehand."""
    entries = [
        {"url": f"{url}/{object_name(one.table, one.date)}", "mandatory": True, "meta": {"content_length": one.bytes}}
        for one, _ in files
    ]
    return json.dumps({"entries": entries}, indent=1).encode() + b"\n"


class FromMirror:
    """The mirror of a load."""

    def __init__(self, target: Target) -> None:
        try:
            from . import object_store, objects
        except ModuleNotFoundError as error:
            raise DownstreamFailed(
                f"{target.where}: for Redshift it needs the Python package {error.name}, which is not installed; run "
                "pip install 'strandline[postgres,s3]'"
            ) from None
        values = target.values
        mirror = Target(MIRROR, values["mirror"], {"url": values["mirror_url"], "options": values["mirror_options"]})
        self._target, self._mirror = target, mirror.where
        self._url = values["mirror_url"].rstrip("/").replace("s3a://", "s3://")
        if not self._url.startswith("s3://"):
            raise DownstreamFailed(
                f"{target.where}: Redshift copies from S3 only, and the url of {mirror.where} is not s3://…"
            )
        self._store, self._files = objects.Objects(mirror), object_store.opened(mirror)

    def copy(self, table: str, files: Files, columns: Sequence[tuple[str, str]]) -> str:
        """Writes the manifest; returns the COPY. `columns`: names and types of the table's, in their order. Raises
        DownstreamFailed, Unavailable, Unfit."""
        has = self._store.contents()
        for one, path in files:
            if has.get(one.key) != one.sha256:
                raise Unavailable(
                    f"{self._target.where}: {self._mirror} does not have {object_name(table, one.date)} as it is published now; "
                    "it is loaded when the mirror is up to date, which needs the same tables"
                )
            self._refuse_unfit(table, path, columns)
        name = f"manifests/{self._target.name}/{table}.json"
        self._files.write({name: manifest(self._url, files)})
        values = self._target.values
        return sql.copy_manifest(values["schema"], table, f"{self._url}/{name}", values["iam_role"])

    def _refuse_unfit(self, table: str, path: Path, columns: Sequence[tuple[str, str]]) -> None:
        schema = pq.read_schema(path)
        found = sql.columns_of(table, schema, REDSHIFT)
        if [(one.name, one.type) for one in found] != list(columns) or len(found) != len(schema):
            has = ", ".join(" ".join(one) for one in columns)
            raise DownstreamFailed(
                f"{self._target.where}: the table {table}: a file has the columns {', '.join(schema.names)}, and the table has "
                f"{has}. Redshift's COPY takes them by position and type. Run `strandline rebuild`, or "
                "`strandline refresh` for a model, so that all files have the same columns; if the table has others, or another "
                "order, drop it, and it is made anew"
            )
        rows = Rows(found)
        for _ in rows.of(path):
            if rows.altered:
                raise DownstreamFailed(
                    f"{self._target.where}: the table {table}: a text has the character U+0000. It is not known what Redshift's "
                    "COPY makes of it, and COPY cannot leave it out; correct the record where it comes from"
                )
