"""What is written in C (`*.c` beside this file), as functions over bytes and arrays. The one place in core that loads a library.

It is compiled when the package is installed. No call keeps Python's lock, so threads run side by side.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_int, c_int64, c_uint8, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .model import Bools, Ints

LIBRARY = Path(__file__).with_name("_native.so")

_RECORD_COLUMNS = ("order_id", "created_at", "updated_at", "user_id", "amount", "currency", "metadata", "items")
_ITEM_COLUMNS = ("sku", "qty", "price")
_TEXTS = ("order_id", "user_id", "currency", "metadata", "sku")
_NAMES = _RECORD_COLUMNS + _ITEM_COLUMNS  # in the order of scan.c


class _Column(Structure):
    _fields_ = [
        ("values", POINTER(c_int64)), ("valid", POINTER(c_uint8)), ("bytes", POINTER(c_uint8)),
        ("count", c_int64), ("room", c_int64), ("used", c_int64), ("bytes_room", c_int64),
    ]  # fmt: skip


class _Scan(Structure):
    _fields_ = [
        ("columns", _Column * len(_NAMES)), ("odd", POINTER(c_uint8)), ("high", c_bool), ("failed", c_bool),
    ]  # fmt: skip


class _Spans(Structure):
    _fields_ = [("starts", POINTER(c_int64)), ("stops", POINTER(c_int64)), ("count", c_int64), ("room", c_int64)]


def _load() -> Any:
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise ImportError(
            f"{LIBRARY.name} is not there or does not fit this machine ({error}). It is made when Strandline is installed: "
            "`pip install .`, or `python hatch_build.py` in a checkout"
        ) from None
    pointer, number = c_void_p, c_int64
    library.strandline_scan.argtypes = [c_char_p, pointer, pointer, number, POINTER(_Scan)]
    library.strandline_release.argtypes = [POINTER(_Scan)]
    library.strandline_lines.argtypes = [c_char_p, number, POINTER(_Spans)]
    library.strandline_parts.argtypes = [c_char_p, number, c_int, POINTER(_Spans)]
    library.strandline_release_spans.argtypes = [POINTER(_Spans)]
    library.strandline_text_offsets.argtypes = [pointer, pointer, number, pointer]
    library.strandline_copy_texts.argtypes = [pointer, pointer, pointer, number, pointer]
    library.strandline_allocate.argtypes = [pointer, pointer, pointer, pointer, number, pointer, pointer]
    library.strandline_allocate.restype = number
    library.strandline_hashes.argtypes = [pointer, number, pointer, pointer]
    library.strandline_count_keys.argtypes = [pointer, number, c_int, pointer]
    library.strandline_place_entries.argtypes = [pointer, number, number, c_int, pointer, pointer, pointer]
    library.strandline_sort_entries.argtypes = [pointer, pointer, pointer, number]
    library.strandline_sort_entries.restype = number
    library.strandline_ascend.argtypes = [pointer, number]
    library.strandline_match.argtypes = [pointer, number, pointer, number, pointer, pointer, pointer]
    library.strandline_match.restype = number
    library.strandline_merge.argtypes = [pointer, number, pointer, number, pointer]
    library.strandline_merge.restype = number
    library.strandline_compare.argtypes = [pointer, pointer, pointer, pointer, number, pointer, pointer, pointer]
    library.strandline_take_entries.argtypes = [pointer, pointer, number, pointer]
    library.strandline_put_entries.argtypes = [pointer, pointer, pointer, number, pointer]
    return library


_library = library = _load()  # `keyed` has the functions over keys and entries


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column of int64 values, of which some are NULL."""

    values: Ints
    valid: Bools

    def take(self, order: Ints) -> pa.Array:
        """These values in this order (int64)."""
        return pa.Array.from_buffers(
            pa.int64(), len(order), [_validity(self.valid, order), pa.py_buffer(self.values[order])]
        )


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts: text i is data[offsets[i]:offsets[i + 1]]. Some are NULL, and empty."""

    offsets: Ints
    data: NDArray[np.uint8]
    valid: Bools

    def take(self, order: Ints) -> pa.Array:
        """These texts in this order (large_string)."""
        return _taken_texts(self.offsets, self.data, order, _validity(self.valid, order))


def _validity(valid: Bools, order: Ints) -> pa.Buffer | None:
    chosen = valid[order]
    return None if chosen.all() else pa.py_buffer(np.packbits(chosen, bitorder="little"))


def _taken_texts(offsets: Ints, data: np.ndarray, order: Ints, validity: pa.Buffer | None) -> pa.Array:
    out_offsets = np.empty(len(order) + 1, np.int64)
    places = (offsets.ctypes.data, order.ctypes.data, len(order), out_offsets.ctypes.data)
    _library.strandline_text_offsets(*places)
    out = np.empty(int(out_offsets[-1]), np.uint8)
    _library.strandline_copy_texts(
        offsets.ctypes.data, data.ctypes.data, order.ctypes.data, len(order), out.ctypes.data
    )
    buffers = [validity, pa.py_buffer(out_offsets), pa.py_buffer(out)]
    return pa.Array.from_buffers(pa.large_string(), len(order), buffers)


def take_texts(texts: pa.Array, order: Ints) -> pa.Array:
    """`texts.take(order)` of a large_string array, some times faster. `order`: int64, within the array."""
    if not len(order):
        return texts.slice(0, 0)
    _, offsets, data = texts.buffers()
    valid = None
    if texts.null_count:
        valid = _validity(texts.is_valid().to_numpy(zero_copy_only=False), order)
    places = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.zeros(1, np.uint8) if data is None or not data.size else np.frombuffer(data, np.uint8)
    return _taken_texts(places, content, np.ascontiguousarray(order, np.int64), valid)


def allocate(amount: Ints, qty: Ints, price: Ints, stops: Ints) -> tuple[Ints, Ints]:
    """Each line's share of its order's amount, and the orders (their indexes) whose weights are too large for this: their
    shares are for somebody else to work out. See facts.allocate."""
    amount, qty, price, stops = (np.ascontiguousarray(array, np.int64) for array in (amount, qty, price, stops))
    shares, huge = np.zeros(len(qty), np.int64), np.empty(len(amount), np.int64)
    places = [array.ctypes.data for array in (amount, qty, price, stops)]
    left = _library.strandline_allocate(*places, len(amount), shares.ctypes.data, huge.ctypes.data)
    return shares, huge[:left]


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the fast lane read, by record: NULLs, and no items, where it is odd. The items of record i are
    items[i]:items[i + 1] of the columns of items."""

    odd: Bools
    numbers: dict[str, Numbers]
    texts: dict[str, Texts]
    items: Ints


@contextmanager
def scanned(blob: bytes, starts: Ints, stops: Ints) -> Iterator[Scanned]:
    """Record i is blob[starts[i]:stops[i]]. The arrays are only good within the context."""
    scan = _Scan()
    starts, stops = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(stops, np.int64)
    try:
        if _library.strandline_scan(blob, starts.ctypes.data, stops.ctypes.data, len(starts), byref(scan)):
            raise MemoryError
        columns = dict(zip(_NAMES, scan.columns, strict=True))
        ends = _array(columns["items"].values, len(starts), np.int64)
        yield Scanned(
            _array(scan.odd, len(starts), np.bool_),
            {name: _numbers(columns[name]) for name in _NAMES if name not in (*_TEXTS, "items")},
            {name: _texts(columns[name]) for name in _TEXTS},
            np.concatenate([np.zeros(1, np.int64), ends]),
        )
    finally:
        _library.strandline_release(byref(scan))


def lines(text: bytes) -> tuple[Ints, Ints]:
    """Where the lines of a text begin and end that are not blank, without the blanks around them."""
    with _spans() as spans:
        if _library.strandline_lines(text, len(text), byref(spans)):
            raise MemoryError
        return _copies(spans)


def parts(text: bytes, *, inside: bool = False) -> tuple[Ints, Ints] | None:
    """Where the values of an array begin and end, or the keys and values of an object in turn; `text` is one of these as a
    whole, or (`inside`) what stands between the brackets of an array. None where it is none, or nested very deep."""
    with _spans() as spans:
        odd = _library.strandline_parts(text, len(text), inside, byref(spans))
        if odd < 0:
            raise MemoryError
        return None if odd else _copies(spans)


@contextmanager
def _spans() -> Iterator[_Spans]:
    spans = _Spans()
    try:
        yield spans
    finally:
        _library.strandline_release_spans(byref(spans))


def _copies(spans: _Spans) -> tuple[Ints, Ints]:
    return _array(spans.starts, spans.count, np.int64).copy(), _array(spans.stops, spans.count, np.int64).copy()


def _numbers(column: _Column) -> Numbers:
    return Numbers(_array(column.values, column.count, np.int64), _array(column.valid, column.count, np.bool_))


def _texts(column: _Column) -> Texts:
    offsets = _array(column.values, column.count + 1, np.int64)
    return Texts(offsets, _array(column.bytes, column.used, np.uint8), _array(column.valid, column.count, np.bool_))


def _array(pointer: Any, length: int, kind: Any) -> np.ndarray:
    if not length:
        return np.zeros(0, kind)
    size = length * np.dtype(kind).itemsize
    return np.frombuffer((c_uint8 * size).from_address(ctypes.addressof(pointer.contents)), kind)
