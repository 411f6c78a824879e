"""One run of a model or a check, inside a worker: reads the files that it is given, and writes the result as files by date.

Nothing here knows what is published or recorded: the caller places the files. Rows of a date are in the order of the SELECT if
it has one, else sorted by all columns, so that equal results are equal files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..core.parquet import encode
from ..storage.store import iso_date
from .contract import WHOLE, DownstreamFailed
from .sandbox import RESULT, Limits, View, connect, failed, materialized, quoted_name

_NAMED_DATES = 3
_FIRST, _LAST = (int(np.datetime64(day).astype("datetime64[D]").astype(int)) for day in ("0001-01-01", "9999-12-31"))
_BATCH_ROWS = 122_880


@dataclass(frozen=True, slots=True)
class Run:
    """What to run, over what, and where the result goes. `asked`: the dates to keep; None: all. `possible`: the dates that rows
    may have; None: any. A result without dates (a check) is one file."""

    path: str
    text: str
    views: Mapping[str, View]
    folder: Path  # of the files of the result
    asked: Sequence[int] | None = None
    possible: Sequence[int] | None = None
    is_ordered: bool = False
    is_dated: bool = True


@dataclass(frozen=True, slots=True)
class Made:
    """One file of a result."""

    path: Path
    sha256: bytes
    rows: int
    bytes: int


def run_sql(run: Run, limits: Limits, scratch: Path) -> dict[int, Made]:
    """Runs a SELECT; returns its files by date. Raises DownstreamFailed with its line."""
    import duckdb

    connection = connect(scratch, run.views, limits)
    try:
        result = materialized(connection, run.text)
        if trouble := unfit(result.limit(0).to_arrow_table().schema, is_dated=run.is_dated):
            raise DownstreamFailed(f"{run.path}: {trouble}")
        if not run.is_dated:
            return _one_file(run, result.to_arrow_reader(_BATCH_ROWS))
        date = next(name for name in result.columns if name.lower() == "date")
        columns = [quoted_name(name) for name in result.columns]
        found = connection.sql(f"SELECT DISTINCT {quoted_name(date)} - DATE '1970-01-01' FROM \"{RESULT}\"").fetchall()
        refuse_dates(run, (row[0] for row in found))
        order = [quoted_name(date), *(["rowid"] if run.is_ordered else columns)]
        kept = "" if run.asked is None else f"WHERE {quoted_name(date)} - DATE '1970-01-01' IN {tuple(run.asked)!r}"
        query = f'SELECT {", ".join(columns)} FROM "{RESULT}" {kept} ORDER BY {", ".join(order)}'
        return by_date(run, connection.sql(query).to_arrow_reader(_BATCH_ROWS), date)
    except duckdb.Error as error:
        raise failed(run.path, error) from None
    finally:
        connection.close()


def by_date(run: Run, sorted_rows: Iterable[pa.RecordBatch], date: str) -> dict[int, Made]:
    """Writes rows that are sorted by date, a file per date: each while the rows of the next one are fetched."""
    made: dict[int, Made] = {}
    with ThreadPoolExecutor(1) as beside:
        writing: tuple[int, Future[Made]] | None = None
        for day, parts in groupby(_parts(sorted_rows, date), key=lambda part: part[0]):
            table = pa.Table.from_batches([rows for _, rows in parts])
            if writing is not None:  # one file at a time, for the sake of memory
                made[writing[0]] = writing[1].result()
            writing = day, beside.submit(_written, table, run.folder / f"{iso_date(day)}.parquet")
        if writing is not None:
            made[writing[0]] = writing[1].result()
    return made


def _written(table: pa.Table, path: Path) -> Made:
    texts = [one.name for one in table.schema if pa.types.is_string(one.type) or pa.types.is_large_string(one.type)]
    content = encode(table, texts)
    path.write_bytes(content)
    return Made(path, hashlib.sha256(content).digest(), len(table), len(content))


def _parts(sorted_rows: Iterable[pa.RecordBatch], date: str) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of each batch, divided where the date changes."""
    for rows in sorted_rows:
        days = rows.column(date).cast(pa.int32()).to_numpy()
        starts = np.flatnonzero(np.diff(days, prepend=days[:1] - 1))
        for start, end in zip(starts, [*starts[1:], len(days)], strict=True):
            yield int(days[start]), rows.slice(start, end - start)


def _one_file(run: Run, rows: pa.RecordBatchReader) -> dict[int, Made]:
    """Writes all rows into one file, a row group at a time."""
    path, count = run.folder / "rows.parquet", 0
    with pq.ParquetWriter(
        path, rows.schema, compression="snappy", store_schema=False, write_page_checksum=True
    ) as file:
        for batch in rows:
            file.write_batch(batch)
            count += len(batch)
    with open(path, "rb") as written:
        return {WHOLE: Made(path, hashlib.file_digest(written, "sha256").digest(), count, path.stat().st_size)}


def unfit(schema: pa.Schema, *, is_dated: bool) -> str:
    """Why a result cannot be kept; empty where it can."""
    names = [name.lower() for name in schema.names]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        return f"the column {twice[0]} is there twice; name each column once"
    if is_dated:
        found = next((schema.field(number).type for number, name in enumerate(names) if name == "date"), None)
        if found is None:
            return "the result has no column `date`; a model has a row's date in it, such as fact_order.date"
        if found != pa.date32():
            return f"the column date is {found} and must be a DATE; write CAST(… AS DATE) AS date"
    for column in schema:
        try:
            encode(pa.schema([column]).empty_table())
        except pa.ArrowException:
            return f"the column {column.name} is {column.type}, which Parquet does not have; cast it to another type"
    return ""


def refuse_dates(run: Run, days: Iterable[int | None]) -> None:
    """DownstreamFailed where a row has no date, or one that does not follow from the dates that were read."""
    possible = None if run.possible is None else set(run.possible)
    found: set[int] = set()
    for day in days:
        if day is None:
            raise DownstreamFailed(f"{run.path}: a row of the result has no date (NULL)")
        if not _FIRST <= day <= _LAST:
            raise DownstreamFailed(f"{run.path}: a row of the result has a date outside the years 1 to 9999")
        found.add(day)
    if possible is None or not (others := sorted(found - possible)):
        return
    named = ", ".join(iso_date(day) for day in others[:_NAMED_DATES]) + (", …" if len(others) > _NAMED_DATES else "")
    raise DownstreamFailed(
        f"{run.path}: the result has rows of {named}, and no table that it reads has rows of that date or of the days of "
        "`lookback` before it. Add the comment `whole` at the head of the file, which computes all dates at once"
    )
