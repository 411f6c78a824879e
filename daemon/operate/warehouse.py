"""What a warehouse is to load: a manifest that names the published files of a table, in the form that Amazon Redshift reads
(COPY … MANIFEST, and Spectrum's external tables). It looks at names and sizes only; docs/WAREHOUSE.md says how to use it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from ..core.errors import UsageError
from .ddl import TABLES

_PREFIX = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[!-~]+)*")
_NAMED_AT_MOST = 10


def manifest(output: Path, table: str, dates: Sequence[str] | None, prefix: str) -> str:
    """The manifest of a table's files as they lie below `output` now, and below `prefix` (s3://bucket/path) once they are
    copied there: those of these dates, or None for all. The dimensions have no dates. UsageError says what is wrong."""
    if not _PREFIX.fullmatch(prefix.rstrip("/")):
        raise UsageError(f"{prefix!r} is no place to load from; it must be like s3://bucket/path")
    entries = [_entry(output, path, prefix.rstrip("/")) for path in _files(output / "curated", table, dates)]
    return json.dumps({"entries": entries}, indent=1) + "\n"


def _entry(output: Path, path: Path, prefix: str) -> dict[str, object]:
    # Spectrum, which reads Parquet for COPY too, is told the length beforehand; another one fails the load.
    url = f"{prefix}/{path.relative_to(output).as_posix()}"
    return {"url": url, "mandatory": True, "meta": {"content_length": path.stat().st_size}}


def _files(curated: Path, table: str, dates: Sequence[str] | None) -> list[Path]:
    if table not in TABLES:
        raise UsageError(f"unknown table {table!r}; there are {', '.join(TABLES)}")
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
            "A date whose last order left has no file: delete its rows, and leave it out here"
        )
    return [published[date] for date in wanted]


def _some(dates: Sequence[str]) -> str:
    """A list of dates for a person, its middle left out where it is long."""
    if len(dates) <= _NAMED_AT_MOST:
        return ", ".join(dates)
    half = _NAMED_AT_MOST // 2
    return f"{', '.join(dates[:half])}, … ({len(dates)} in all), {', '.join(dates[-half:])}"
