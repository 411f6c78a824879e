"""The rows of files as PostgreSQL takes them, and the comparison of rows with those that are there.

A value arrives exactly as it is, or is an error that names its column. The only exception is U+0000 in a text, which PostgreSQL
cannot hold: it is left out, and such texts are counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .postgres_sql import Column

_BATCH_ROWS = 16_384
_TEXT = pa.string()
# What PostgreSQL can hold, since 1970: from 4714-11-24 BC on; dates until the year 5874897. All later instants fit.
_FIRST_DATE = -2_440_588
_FIRST = {pa.date32(): _FIRST_DATE} | {pa.timestamp("us", zone): _FIRST_DATE * 86_400_000_000 for zone in (None, "UTC")}
_LAST_DATE = 2_145_042_905
_types = pa.types


class Unfit(ValueError):
    """A value that the column cannot hold exactly."""


class Rows:
    """The rows of one table: of files, in batches of the columns that the database has. `altered`: how many texts lost U+0000."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.schema = pa.schema([pa.field(one.name, one.sent) for one in columns])
        self.altered = 0

    def of(self, path: Path) -> Iterator[pa.RecordBatch]:
        """A file, a batch at a time; columns that it lacks are NULL. Raises Unfit."""
        with pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False) as file:
            unknown = [
                one.name
                for one in file.schema_arrow
                if one.name not in self.schema.names and not _types.is_null(one.type)
            ]
            if unknown:
                raise Unfit(f"the column {unknown[0]} is in a file, and not among those of the table")
            for batch in file.iter_batches(_BATCH_ROWS, use_threads=True):
                yield self.batch(batch)

    def batch(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of a file as they are sent. Raises Unfit."""
        arrays = [
            self._column(field, rows.column(field.name))
            if field.name in rows.schema.names
            else pa.nulls(len(rows), field.type)
            for field in self.schema
        ]
        return pa.record_batch(arrays, schema=self.schema)

    def _column(self, field: pa.Field, values: pa.Array) -> pa.Array:
        try:
            sent = _cast(values, field.type)
        except (pa.ArrowException, ValueError) as error:
            raise Unfit(
                f"the column {field.name} has a value of type {values.type} that the database cannot hold exactly ({error}); "
                "cast it in the model"
            ) from None
        if field.type in _FIRST:
            _refuse_out_of_range(field, sent)
        return self._without_nul(sent) if field.type == _TEXT else sent

    def _without_nul(self, texts: pa.Array) -> pa.Array:
        data = texts.buffers()[2]
        if data is None or np.frombuffer(data, np.uint8).all():  # there is none at all: nearly always
            return texts
        self.altered += pc.sum(pc.match_substring(texts, "\0")).as_py() or 0
        return pc.replace_substring(texts, "\0", "")


def difference(there: pa.Table, wanted: pa.Table) -> str:
    """How rows that are there differ from those that should be, as multisets of exact values (of floats: bits); "" where they do
    not. Both have the same columns."""
    names = [f"c{number}" for number in range(there.num_columns)]
    counted = [
        table.rename_columns(names).append_column("n", pa.array(np.full(len(table), sign, np.int64)))
        for sign, table in ((1, there), (-1, wanted))
    ]
    sums = pa.concat_tables(counted).group_by(names, use_threads=False).aggregate([("n", "sum")])["n_sum"]
    missing = -(pc.sum(pc.min_element_wise(sums, 0)).as_py() or 0)
    extra = pc.sum(pc.max_element_wise(sums, 0)).as_py() or 0
    found = [_counted(missing, "missing")] if missing else []
    return ", ".join([*found, *([_counted(extra, "not in the file", with_noun=not found)] if extra else [])])


def _counted(count: int, what: str, *, with_noun: bool = True) -> str:
    noun = (" row" if count == 1 else " rows") if with_noun else ""
    return f"{count:,}{noun} {'is' if count == 1 else 'are'} {what}"


def _cast(values: pa.Array, sent: pa.DataType) -> pa.Array:
    """Exactly, or not at all: a float never becomes a narrower one, and a text nothing else."""
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if _types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    kind = values.type
    if kind == sent:
        return values
    if _types.is_null(kind):
        return pa.nulls(len(values), sent)
    if _types.is_float16(kind):
        values, kind = values.cast(pa.float32()), pa.float32()
    groups = (_is_number, _is_text, _types.is_boolean, _types.is_date, _types.is_time, _types.is_timestamp, _is_binary)
    if not any(is_it(kind) and is_it(sent) for is_it in groups):
        raise ValueError(f"the table has {sent}")
    if _types.is_floating(kind) and (not _types.is_floating(sent) or kind.bit_width > sent.bit_width):
        raise ValueError(f"the table has {sent}")
    if _types.is_timestamp(kind) and (kind.tz is None) != (sent.tz is None):
        raise ValueError("the table has instants " + ("without" if sent.tz is None else "with") + " a time zone")
    return values.cast(sent)


def _refuse_out_of_range(field: pa.Field, values: pa.Array) -> None:
    ends = pc.min_max(values.cast(pa.int32() if field.type == pa.date32() else pa.int64()))
    first, last = ends["min"].as_py(), ends["max"].as_py()
    if first is not None and (first < _FIRST[field.type] or (field.type == pa.date32() and last > _LAST_DATE)):
        raise Unfit(
            f"the column {field.name} has a value ({field.type}) outside of what PostgreSQL can hold, which begins with the year "
            "4713 before Christ and ends with 5874897; leave it out or make it NULL in the model"
        )


def _is_number(kind: pa.DataType) -> bool:
    return _types.is_integer(kind) or _types.is_floating(kind) or _types.is_decimal(kind)


def _is_text(kind: pa.DataType) -> bool:
    return _types.is_string(kind) or _types.is_large_string(kind) or _types.is_string_view(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return (
        _types.is_binary(kind)
        or _types.is_large_binary(kind)
        or _types.is_fixed_size_binary(kind)
        or _types.is_binary_view(kind)
    )
