"""Tables as Parquet files, in memory. Pure: the same rows are always the same bytes, whatever versions are installed, so that
a partition that was made anew from raw can be compared by its hash.

`parquet.c` does it: version 1 pages, dictionaries where values repeat, Snappy, statistics of numbers. Any reader reads it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import POINTER, Structure, byref, c_char_p, c_int32, c_int64, c_uint8, c_void_p
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from .model import Ints
from .native import library

_TEXT, _NUMBER_64, _NUMBER_32 = range(3)  # in the order of parquet.c
_ITSELF, _DECIMAL_18_4, _INSTANT, _DATE = range(4)
_TYPES = {
    pa.large_string(): (_TEXT, _ITSELF),
    pa.int64(): (_NUMBER_64, _ITSELF),
    pa.decimal64(18, 4): (_NUMBER_64, _DECIMAL_18_4),
    pa.timestamp("us", tz="UTC"): (_NUMBER_64, _INSTANT),
    pa.int32(): (_NUMBER_32, _ITSELF),
    pa.date32(): (_NUMBER_32, _DATE),
}


class _Column(Structure):
    _fields_ = [
        ("name", c_char_p), ("values", c_void_p), ("bytes", c_void_p), ("validity", c_void_p), ("places", c_void_p),
        ("validity_offset", c_int64), ("bytes_size", c_int64),
        ("kind", c_int32), ("meaning", c_int32), ("nullable", c_int32),
    ]  # fmt: skip


class _Bytes(Structure):
    _fields_ = [("bytes", POINTER(c_uint8)), ("size", c_int64)]


_parquet, _release = library.strandline_parquet, library.strandline_release_bytes
_parquet.argtypes = [
    POINTER(_Column), c_int64, c_int64, c_int64, POINTER(c_int32), c_int64, POINTER(_Bytes), POINTER(_Bytes),
]  # fmt: skip
_release.argtypes = [POINTER(_Bytes)]


@dataclass(frozen=True)
class Column:
    """A column that is written: row i has the value array[places[i]], or NULL where that place is negative; array[i], where
    there are no places. So rows can be written in another order, and more than once, without being gathered first."""

    field: pa.Field
    array: pa.Array  # a type of the same layout as the field's will do: int64 for an instant
    places: Ints | None = None

    def of_rows(self, rows: Ints) -> Column:
        """Only some rows."""
        return replace(self, places=rows if self.places is None else self.places[rows])


class Encoder:
    """Encodes ranges of the rows of a table, from any thread. Its columns: texts (large_string), int64, int32, date32,
    timestamp[us, UTC], decimal64(18, 4)."""

    def __init__(self, columns: Sequence[Column], rows: int) -> None:
        self._rows = rows
        self._places = {column.field.name: place for place, column in enumerate(columns)}
        # What C reads lies in these; they must live as long as this.
        self._kept = [(c.field.name.encode(), c.array, _contiguous(c.places)) for c in columns]
        described = [_described(column.field, *kept) for column, kept in zip(columns, self._kept, strict=True)]
        self._columns = (_Column * len(columns))(*described)

    def file(self, start: int = 0, stop: int | None = None) -> bytes:
        """Rows `start` to `stop` as a Parquet file."""
        return self.files([], start, stop)[0]

    def files(self, names: Sequence[str], start: int = 0, stop: int | None = None) -> tuple[bytes, bytes]:
        """The same, and a second file with the columns of these names, which costs nothing more."""
        chosen = (c_int32 * len(names))(*(self._places[name] for name in names))
        whole, part = _Bytes(), _Bytes()
        rows = (start, self._rows if stop is None else stop)
        if _parquet(self._columns, len(self._columns), *rows, chosen, len(names), byref(whole), byref(part)):
            raise MemoryError
        return _taken(whole), _taken(part)


def encode(table: pa.Table) -> bytes:
    """A table as a Parquet file."""
    return Encoder(columns_of(table), table.num_rows).file()


def columns_of(table: pa.Table) -> list[Column]:
    """The columns of a table as it is."""
    return [Column(field, one_chunk(column)) for field, column in zip(table.schema, table.columns, strict=True)]


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; copied only where it lies in several."""
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays([pa.array([], column.type), *column.chunks])


def _contiguous(places: Ints | None) -> Ints | None:
    return None if places is None else np.ascontiguousarray(places, np.int64)


def _described(field: pa.Field, name: bytes, array: pa.Array, places: Ints | None) -> _Column:
    kind, meaning = _TYPES[field.type]
    validity, values, *content = array.buffers()
    width = 4 if kind == _NUMBER_32 else 8  # offsets of texts: 8
    address = values.address + width * array.offset if values is not None else None
    text = content[0] if content and content[0] is not None and content[0].size else None
    return _Column(
        name,
        address,
        text.address if text else address,  # somewhere: no text has a byte
        validity.address if validity is not None and array.null_count else None,
        places.ctypes.data if places is not None else None,
        array.offset,
        text.size if text else 0,
        kind,
        meaning,
        field.nullable,
    )


def _taken(content: _Bytes) -> bytes:
    try:
        return ctypes.string_at(content.bytes, content.size) if content.size else b""
    finally:
        _release(byref(content))
