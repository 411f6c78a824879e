"""Manifests for a warehouse: the published files of a table, in the format that Amazon Redshift reads (COPY … MANIFEST, and
Spectrum's external tables). Reads the names and sizes of files, and what is set aside. How to use them: docs/WAREHOUSE.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ..core.ddl import TABLES
from ..core.errors import EnvironmentFault, UsageError, instead_of
from ..storage.ledger import Ledger
from ..storage.set_aside import SetAside

_PREFIX = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[!-~]+)*")
_NAMED_AT_MOST = 10


@dataclass(frozen=True, slots=True)
class Manifest:
    """`text`: the manifest, as JSON. `lacking`: the dates among those that were wanted that are not in it, since they are set
    aside, or their folder cannot be read."""

    text: str
    files: int
    lacking: list[str]


def manifest(output: Path, table: str, dates: Sequence[str] | None, prefix: str) -> Manifest:
    """The manifest of a table's files that are now under `output`, with their URLs under `prefix` (s3://bucket/path), where you
    copy them. `dates`: None for all; a dimension has no dates. Raises UsageError for wrong arguments, and EnvironmentFault for
    a dimension that is set aside."""
    if not _PREFIX.fullmatch(prefix.rstrip("/")):
        raise UsageError(
            f"{prefix!r} is not an S3 prefix; it must be like s3://bucket/path, and a bucket has 3 to 63 of a-z, 0-9, . and -"
        )
    if table not in TABLES:
        raise UsageError(f"unknown table {table!r}; {instead_of(table, TABLES)}")
    aside, curated = _set_aside(output), output / "curated"
    if TABLES[table].by_date:
        found, lacking = _by_date(curated, table, dates, {name for name in aside if name[:1].isdigit()})
    else:
        found, lacking = [_one(curated, table, dates, aside)], []
    entries = [_entry(output, path, prefix.rstrip("/")) for path in found]
    return Manifest(json.dumps({"entries": entries}, indent=1) + "\n", len(entries), lacking)


def _set_aside(output: Path) -> dict[str, SetAside]:
    """By name. Nothing is in a copy of curated/ alone, which has no ledger."""
    path = output / "state" / "ledger.sqlite"
    if not path.exists():
        return {}
    with closing(Ledger(path, read_only=True)) as ledger:
        return ledger.set_aside()


def _entry(output: Path, path: Path, prefix: str) -> dict[str, object]:
    # Spectrum, which also reads the Parquet of COPY, needs the length beforehand; a wrong one fails the load.
    url = f"{prefix}/{path.relative_to(output).as_posix()}"
    return {"url": url, "mandatory": True, "meta": {"content_length": path.stat().st_size}}


def _one(curated: Path, table: str, dates: Sequence[str] | None, aside: Mapping[str, SetAside]) -> Path:
    if dates is not None:
        raise UsageError(f"{table} is one file and has no dates; leave them out")
    path = curated / f"{table}.parquet"
    if (one := aside.get(path.name)) is not None:
        raise EnvironmentFault("list", path, f"it is set aside: {one.reason}", "Other tables can be listed meanwhile.")
    if not path.exists():
        raise UsageError(f"there is no {path}: no drop of this dimension was applied yet")
    return path


def _by_date(
    curated: Path, table: str, dates: Sequence[str] | None, aside: Collection[str]
) -> tuple[list[Path], list[str]]:
    """The files of the wanted dates, and which of these dates have none that can be listed now."""
    found, unreadable = _found(curated, table)
    left_out = {*aside, *unreadable}
    lacking = sorted(left_out if dates is None else left_out.intersection(dates))
    published = {date: path for date, path in found.items() if date not in left_out}
    if not published and not lacking:
        raise UsageError(f"there is no published date in {curated}: no drop of orders was applied yet")
    wanted = sorted(published if dates is None else set(dates).difference(lacking))
    missing = [date for date in wanted if date not in published]
    if missing:
        raise UsageError(
            f"no {table} of {_some(missing)} in {curated}; there are {_some(sorted(published))}. "
            "A date that lost its last order has no file: delete its rows in the warehouse, and leave it out here"
        )
    return [published[date] for date in wanted], lacking


def _found(curated: Path, table: str) -> tuple[dict[str, Path], list[str]]:
    """The files of a table by date, and the dates whose folder cannot be read."""
    found, unreadable = {}, []
    for folder in curated.glob("date=*"):
        date, path = folder.name.removeprefix("date="), folder / f"{table}.parquet"
        try:
            path.stat()
            found[date] = path
        except FileNotFoundError:
            continue
        except OSError:
            unreadable.append(date)
    return found, unreadable


def _some(dates: Sequence[str]) -> str:
    """A readable list of dates; a long one is shortened in the middle."""
    if len(dates) <= _NAMED_AT_MOST:
        return ", ".join(dates)
    half = _NAMED_AT_MOST // 2
    return f"{', '.join(dates[:half])}, … ({len(dates)} in all), {', '.join(dates[-half:])}"
