"""Manifests for a warehouse: the published files of a table, in the format that Amazon Redshift reads (COPY … MANIFEST, and
Spectrum's external tables). Reads only the names and sizes of files. docs/WAREHOUSE.md describes how to use them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from ..core.ddl import TABLES
from ..core.errors import UsageError, instead_of

_PREFIX = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[!-~]+)*")
_NAMED_AT_MOST = 10


def manifest(output: Path, table: str, dates: Sequence[str] | None, prefix: str) -> str:
    """The manifest of a table's files that are now under `output`, with their URLs under `prefix` (s3://bucket/path), where you
    copy them. `dates`: None for all; a dimension has no dates. Raises UsageError for wrong arguments."""
    if not _PREFIX.fullmatch(prefix.rstrip("/")):
        raise UsageError(
            f"{prefix!r} is not an S3 prefix; it must be like s3://bucket/path, and a bucket has 3 to 63 of a-z, 0-9, . and -"
        )
    entries = [_entry(output, path, prefix.rstrip("/")) for path in _files(output / "curated", table, dates)]
    return json.dumps({"entries": entries}, indent=1) + "\n"


def _entry(output: Path, path: Path, prefix: str) -> dict[str, object]:
    # Spectrum, which also reads the Parquet of COPY, needs the length beforehand; a wrong one fails the load.
    url = f"{prefix}/{path.relative_to(output).as_posix()}"
    return {"url": url, "mandatory": True, "meta": {"content_length": path.stat().st_size}}


def _files(curated: Path, table: str, dates: Sequence[str] | None) -> list[Path]:
    if table not in TABLES:
        raise UsageError(f"unknown table {table!r}; {instead_of(table, TABLES)}")
    if TABLES[table].by_date:
        return _by_date(curated, table, dates)
    if dates is not None:
        raise UsageError(f"{table} is one file and has no dates; leave them out")
    path = curated / f"{table}.parquet"
    if not path.exists():
        raise UsageError(f"there is no {path}: no drop of this dimension was applied yet")
    return [path]


def _by_date(curated: Path, table: str, dates: Sequence[str] | None) -> list[Path]:
    published = {path.parent.name.removeprefix("date="): path for path in curated.glob(f"date=*/{table}.parquet")}
    if not published:
        raise UsageError(f"there is no published date in {curated}: no drop of orders was applied yet")
    wanted = sorted(published if dates is None else set(dates))
    missing = [date for date in wanted if date not in published]
    if missing:
        raise UsageError(
            f"no {table} of {_some(missing)} in {curated}; there are {_some(sorted(published))}. "
            "A date that lost its last order has no file: delete its rows in the warehouse, and leave it out here"
        )
    return [published[date] for date in wanted]


def _some(dates: Sequence[str]) -> str:
    """A readable list of dates; a long one is shortened in the middle."""
    if len(dates) <= _NAMED_AT_MOST:
        return ", ".join(dates)
    half = _NAMED_AT_MOST // 2
    return f"{', '.join(dates[:half])}, … ({len(dates)} in all), {', '.join(dates[-half:])}"
