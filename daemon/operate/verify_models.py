"""Models and checks against a fresh run of each: every date that counts as up to date must have the rows that it gives now.

Dates that are not up to date are not compared: the next round makes them again. Where a daemon publishes meanwhile, the
comparison begins again with what is published then.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..core.errors import Stopped, UsageError
from ..downstream.contract import WHOLE, DownstreamFailed, InputChanged, Table, stale
from ..downstream.follow import Following
from ..downstream.results import Result, path_of
from ..downstream.runs import Made
from ..downstream.scratch import scratch
from ..storage import files
from ..storage.store import iso_date
from .difference import Difference

CHECK = "models"
_TRIES = 5
_PAUSE_SECONDS = 0.2
_CLOSE = 1e-9  # relative: floats are added in any order


def check_models(
    following: Following, output: Path, folder: Path, stopped: Callable[[], bool]
) -> tuple[list[Difference], int]:
    """Every difference, and how many dates are not up to date. `folder`: for the files of fresh runs."""
    for attempt in range(1, _TRIES + 1):
        try:
            return list(_compared(following, output, folder, stopped)), _not_up_to_date(following, stopped)
        except InputChanged as error:
            if stopped():
                raise Stopped("stopped between two tries") from None
            cause = error
            if attempt < _TRIES:
                time.sleep(_PAUSE_SECONDS)
    return [Difference(CHECK, "all", f"not compared: {cause}")], 0


def _not_up_to_date(following: Following, stopped: Callable[[], bool]) -> int:
    return sum(len(stale(one.wanted(tables), one.has())) for one, tables in following.each(stopped))


def _compared(following: Following, output: Path, folder: Path, stopped: Callable[[], bool]) -> Iterator[Difference]:
    try:
        following.catalog(stopped).refuse_errors()
    except UsageError as error:
        yield Difference(CHECK, "all", str(error))
    not_read: set[str] = set()  # models with damaged files
    for one, tables in following.each(stopped):
        wanted, has = one.wanted(tables), one.has()
        current = {date: fingerprint for date, fingerprint in wanted.items() if has.get(date) == fingerprint}
        damaged = set(_damaged(one, output, current))
        yield from (
            Difference(CHECK, path_of(one.kind, one.name, date), _remedy(one, date)) for date in sorted(damaged)
        )
        yield from _unknown(one, output)
        if damaged:
            not_read.add(one.name)
        if unread := sorted(not_read.intersection(one.reads)):
            not_read.add(one.name)
            yield Difference(CHECK, one.name, f"not compared, because of damaged files of {', '.join(unread)}")
            continue
        for piece in one.pieces(current, tables) if current else ():
            yield from _against_a_fresh_run(one, tables, list(piece), output, folder, damaged, stopped)


def _against_a_fresh_run(
    one: Result,
    tables: Mapping[str, Table],
    dates: list[int],
    output: Path,
    folder: Path,
    damaged: set[int],
    stopped: Callable[[], bool],
) -> Iterator[Difference]:
    recorded = one.files()
    with scratch(folder) as made_in:
        try:
            made = one.made(None if dates == [WHOLE] else sorted(dates), tables, made_in, stopped)
        except DownstreamFailed as error:
            yield Difference(CHECK, one.name, f"a fresh run failed: {error}")
            return
        concerned = {*made, *recorded} if dates == [WHOLE] else set(dates)
        for date in sorted(concerned - damaged):
            if not _equal(made.get(date), output / path_of(one.kind, one.name, date)):
                remedy = f"`strandline refresh {one.name}{_date_text(date)}`"
                where = path_of(one.kind, one.name, date)
                yield Difference(CHECK, where, f"a fresh run gives other rows; make it again with {remedy}")


def _damaged(one: Result, output: Path, current: Mapping[int, bytes]) -> Iterator[int]:
    """The dates whose file is not the one that was recorded."""
    for date, file in one.files().items():
        counts = file.sha256 and (date in current or WHOLE in current)
        if counts and files.sha256_of(output / path_of(one.kind, one.name, date)) != file.sha256:
            yield date


def _unknown(one: Result, output: Path) -> Iterator[Difference]:
    """Files of the name of a result that nothing recorded."""
    known = {path_of(one.kind, one.name, date) for date in one.files()}
    for path in sorted(output.glob(f"models/{one.name}/date=*/{one.name}.parquet")) if one.kind == "model" else ():
        if (name := path.relative_to(output).as_posix()) not in known:
            yield Difference(CHECK, name, "nothing recorded it; remove it")


def _remedy(one: Result, date: int) -> str:
    return f"not the file that was written; make it again with `strandline refresh {one.name}{_date_text(date)}`"


def _date_text(date: int) -> str:
    return "" if date == WHOLE else f" {iso_date(date)}"


def _equal(made: Made | None, path: Path) -> bool:
    """Whether a file has the rows of a fresh run, in any order; floats may differ in their last digits."""
    if made is None or not path.exists():
        return made is None and not path.exists()
    if files.sha256_of(path) == made.sha256:
        return True
    fresh, there = pq.read_table(made.path), pq.read_table(path, partitioning=None)
    if fresh.schema.names != there.schema.names or len(fresh) != len(there):
        return False
    return all(_alike(a, b) for a, b in zip(_sorted(fresh), _sorted(there), strict=True))


def _sorted(table: pa.Table) -> list[tuple[Any, ...]]:
    rows = zip(*(column.to_pylist() for column in table.columns), strict=True)
    return sorted(rows, key=lambda row: tuple((value is None, _key(value)) for value in row))


def _key(value: Any) -> Any:
    return f"{value:.9e}" if isinstance(value, float) else str(value)


def _alike(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    return all(
        x == y or (isinstance(x, float) and isinstance(y, float) and _close(x, y)) for x, y in zip(a, b, strict=True)
    )


def _close(x: float, y: float) -> bool:
    return math.isclose(x, y, rel_tol=_CLOSE) or (math.isnan(x) and math.isnan(y))
