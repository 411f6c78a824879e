"""One run of a pandas model, inside a worker. pandas is imported here only (and by frames, for notebooks).

A model is the operator's own code: it runs with the rights of the daemon, and only its time and its memory are limited.
"""

from __future__ import annotations

import os
import sys
import traceback
from datetime import date, datetime, time
from math import isnan
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .contract import DownstreamFailed
from .runs import Made, Run, by_date, refuse_dates
from .sandbox import View

_EPOCH = date(1970, 1, 1)
_SHOWN_CHARACTERS = 300


def run_pandas(run: Run) -> dict[int, Made]:
    """Calls `model` with a data frame of each table; returns the files of its result by date. Raises DownstreamFailed with the
    line of the model."""
    frames = {name: frame_of(view) for name, view in run.views.items()}
    own = os.getpid()
    try:
        result = _called(run, frames)
    except MemoryError:
        raise
    except BaseException as error:  # also SystemExit: the model must not end the worker without a word
        raise DownstreamFailed(f"{run.path}{_line_of(run, error)}: {_shown(error)}") from None
    finally:
        if os.getpid() != own:  # the model forked, and only one process may write the files
            os._exit(0)
    try:
        return by_date(run, _rows(run, result), "date")
    except pa.ArrowException as error:
        why = " ".join(str(error).split())
        raise DownstreamFailed(f"{run.path}: the frame that `model` returned does not fit into a file: {why}") from None


def _called(run: Run, frames: dict[str, pd.DataFrame]) -> Any:
    """What `model` returns. Meanwhile its module is one of those that Python knows, as dataclasses and pickle need it; under a
    name that no other module has, since a model may be called `json`."""
    module = ModuleType(f"model_{Path(run.path).stem}")
    module.__file__ = run.path
    sys.modules[module.__name__] = module
    try:
        exec(compile(run.text, run.path, "exec", dont_inherit=True), module.__dict__)
        return module.__dict__["model"](**frames)
    finally:
        sys.modules.pop(module.__name__, None)


def frame_of(view: View) -> pd.DataFrame:
    """A data frame of the files of a table, with the columns and types of strandline.frames, by date."""
    tables = [view.schema.empty_table()]
    for path in view.paths:
        table = pq.ParquetFile(path, page_checksum_verification=True).read()
        tables.append(table.cast(pa.schema([view.schema.field(name) for name in table.schema.names])))
    together = pa.concat_tables(tables, promote_options="default")
    for number, column in enumerate(together.schema):
        if pa.types.is_decimal(column.type):  # pandas computes with decimals of 128 bits
            wide = column.with_type(pa.decimal128(max(column.type.precision, 18), column.type.scale))
            together = together.set_column(number, wide, together[column.name].cast(wide.type))
    frame: pd.DataFrame = together.to_pandas(types_mapper=dtype)
    return frame


def dtype(kind: pa.DataType) -> Any:
    """The pandas type of an Arrow type: texts `string`, whole numbers `Int64`, true and false `boolean`, dates and amounts Arrow
    types, instants pandas' own."""
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pd.StringDtype()
    if pa.types.is_integer(kind):
        return pd.Int64Dtype()
    if pa.types.is_boolean(kind):
        return pd.BooleanDtype()
    return None if pa.types.is_timestamp(kind) else pd.ArrowDtype(kind)


def _rows(run: Run, result: Any) -> list[pa.RecordBatch]:
    """The rows to keep, sorted by date; rows of one date keep their order."""
    if not isinstance(result, pd.DataFrame):
        raise DownstreamFailed(f"{run.path}: `model` returned {type(result).__name__}; it must return a DataFrame")
    if "date" not in result.columns:
        names = ", ".join(map(str, result.columns)) or "none"
        raise DownstreamFailed(f"{run.path}: the frame that `model` returned has no column `date`; it has {names}")
    if result.columns.has_duplicates or not all(isinstance(name, str) for name in result.columns):
        raise DownstreamFailed(
            f"{run.path}: each column of the frame that `model` returned must have a name of its own"
        )
    try:
        days = [_day(value) for value in result["date"]]
    except TypeError as error:
        raise DownstreamFailed(f"{run.path}: the column date of the frame that `model` returned: {error}") from None
    refuse_dates(run, days)
    table = pa.Table.from_pandas(result.assign(date=0), preserve_index=False)
    place = table.schema.names.index("date")
    table = table.set_column(place, pa.field("date", pa.date32()), pa.array(days, pa.int32()).cast(pa.date32()))
    table = table.replace_schema_metadata(None)
    if run.asked is not None:
        table = table.filter(pc.is_in(table["date"].cast(pa.int32()), pa.array(run.asked, pa.int32())))
    order = pc.sort_indices(table, [("date", "ascending")])  # stable
    return table.take(order).combine_chunks().to_batches()


def _day(value: Any) -> int | None:
    """A date in days since 1970."""
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and isnan(value)):
        return None
    if isinstance(value, datetime):
        if value.time() != time() or getattr(value, "nanosecond", 0) != 0:
            raise TypeError(f"{value} is an instant; use dates, as in fact_order['date']")
        return (value.date() - _EPOCH).days
    if isinstance(value, date):
        return (value - _EPOCH).days
    raise TypeError(f"{value!r} is no date; use dates, as in fact_order['date']"[:_SHOWN_CHARACTERS])


def _line_of(run: Run, error: BaseException) -> str:
    """The last line of the model's own file that the error came through."""
    lines = [one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == run.path]
    return f", line {lines[-1]}" if lines else ""


def _shown(error: BaseException) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
