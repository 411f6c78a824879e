"""How a load reaches Redshift: COPY from the objects of a mirror, by a manifest for each table of a delivery. It has never run
against a Redshift: docs/WAREHOUSE.md says what is known.

COPY takes the columns of a Parquet file by their position and each value as it is in the file, and reads what the object has at
that moment. So all of this is checked before: the columns of each file, that no text has U+0000, and that the mirror says that it
has this very file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import pyarrow.parquet as pq

from ...core.ddl import TABLES
from ...core.errors import Unavailable
from ...storage.store import folder_name
from ..contract import WHOLE, DownstreamFailed
from . import postgres_sql as sql
from .postgres_rows import Rows
from .settings import MIRROR, REDSHIFT
from .store import Change, Contents, Store, Target

_OF_CLIENT = ("allow_http", "allow_invalid_certificates", "connect_timeout", "proxy_url", "timeout")  # not of the store
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
    """The mirror of a load. `has` and `put`, for tests: what the mirror says that it has, and how an object is written there."""

    def __init__(
        self,
        target: Target,
        has: Callable[[], Contents] | None = None,
        put: Callable[[str, bytes], None] | None = None,
    ) -> None:
        values: Mapping[str, str] = target.values
        self._target, self._mirror = target, f"[{MIRROR}.{values['mirror']}]"
        self._url = values["mirror_url"].rstrip("/").replace("s3a://", "s3://")
        if not self._url.startswith("s3://"):
            raise DownstreamFailed(
                f"{target.where}: Redshift copies from S3 only, and the url of {self._mirror} is not s3://…"
            )
        self._has, self._put = has or self._asked, put or self._written

    def copy(self, table: str, files: Files, columns: Sequence[str]) -> str:
        """Writes the manifest; returns the COPY. `columns`: those of the table, in their order. Raises DownstreamFailed,
        Unavailable."""
        has = self._has()
        for one, path in files:
            if has.get(one.key) != one.sha256:
                raise Unavailable(
                    f"{self._target.where}: {self._mirror} does not have {object_name(table, one.date)} as it is published now; "
                    "it is loaded when the mirror is up to date"
                )
            self._refuse_unfit(table, path, columns)
        name = f"manifests/{self._target.name}/{table}.json"
        self._put(name, manifest(self._url, files))
        values = self._target.values
        return sql.copy_manifest(values["schema"], table, f"{self._url}/{name}", values["iam_role"])

    def _refuse_unfit(self, table: str, path: Path, columns: Sequence[str]) -> None:
        where, schema = f"{self._target.where}: the table {table}", pq.read_schema(path)
        if schema.names != list(columns):
            raise DownstreamFailed(
                f"{where}: a file has the columns {', '.join(schema.names)}, and the table {', '.join(columns)}. Redshift's COPY "
                "takes them by position. Run `strandline rebuild`, or `strandline refresh` for a model, so that all files have "
                "the same columns; if the table has others, or another order, drop it, and it is made anew"
            )
        rows = Rows(sql.columns_of(table, schema, REDSHIFT))
        for _ in rows.of(path):
            if rows.altered:
                raise DownstreamFailed(
                    f"{where}: a text has the character U+0000. It is not known what Redshift's COPY makes of it, and COPY "
                    "cannot leave it out; correct the record where it comes from"
                )

    def _asked(self) -> Contents:
        """Asks the mirror, as the daemon does."""
        cls = import_module(".objects", __package__).Objects
        values = {"url": self._target.values["mirror_url"], "options": self._target.values["mirror_options"]}
        store: Store = cls(Target(MIRROR, self._target.values["mirror"], values))
        try:
            return store.contents()
        finally:
            store.close()

    def _written(self, name: str, content: bytes) -> None:
        from obstore.exceptions import BaseError
        from obstore.store import S3Store

        options = dict(self._target.values["mirror_options"])
        client = {key: options.pop(key) for key in _OF_CLIENT if key in options}
        try:
            store = S3Store.from_url(
                self._url,
                config=cast("Any", options),
                client_options=cast("Any", client),
                retry_config={"max_retries": 3, "retry_timeout": timedelta(minutes=1)},
            )
            store.put(name, content)
        except (BaseError, ValueError, OSError) as error:  # its text may have the URL
            raise Unavailable(
                f"{self._target.where}: could not write {name} to {self._mirror} ({type(error).__name__}); see its "
                "credentials and options"
            ) from None
