"""What is written in C (`*.c` beside this file), as functions over bytes and arrays. The one place in core that loads a library.

It is compiled when the package is installed. No call keeps Python's lock, so threads run side by side.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_int, c_int64, c_uint8, c_void_p
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .model import Bools, Ints

LIBRARY = Path(__file__).with_name("_native.so")
SPARE_BYTES = 32  # room that gather.c wants after what it copies

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
        ("columns", _Column * len(_NAMES)), ("end", c_void_p), ("failed", c_bool),
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
    library.strandline_scan.argtypes = [c_char_p, number, pointer, pointer, number, POINTER(_Scan)]
    library.strandline_scan_array.argtypes = [c_char_p, number, c_int, POINTER(_Spans), POINTER(_Scan)]
    library.strandline_release.argtypes = [POINTER(_Scan)]
    library.strandline_lines.argtypes = [c_char_p, number, POINTER(_Spans)]
    library.strandline_parts.argtypes = [c_char_p, number, c_int, POINTER(_Spans)]
    library.strandline_release_spans.argtypes = [POINTER(_Spans)]
    library.strandline_text_offsets.argtypes = [pointer, pointer, pointer, number, pointer]
    library.strandline_copy_texts.argtypes = [pointer, pointer, number, pointer, pointer, number, pointer]
    library.strandline_ascending.argtypes = [pointer, number, pointer]
    library.strandline_take_runs.argtypes = [pointer, number, number, pointer, pointer, number, pointer]
    library.strandline_take_rows.argtypes = [pointer, number, pointer, number, pointer]
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
    library.strandline_take_entries.argtypes = [pointer, pointer, number, pointer]
    library.strandline_put_entries.argtypes = [pointer, pointer, pointer, number, pointer]
    return library


library = _load()


@dataclass(frozen=True, slots=True)
class Places:
    """Which values of a column are wanted, and in which order: value order[i], or (with `bounds`) the run of values from
    bounds[order[i]] to bounds[order[i] + 1]. `count`: how many values that makes."""

    order: Ints  # int64, in one piece
    count: int
    bounds: Ints | None = None

    @property
    def address_of_bounds(self) -> int | None:
        return None if self.bounds is None else self.bounds.ctypes.data

    def taken(self, column: np.ndarray) -> np.ndarray:
        """These values of a column."""
        if self.bounds is None:
            return take_rows(column, self.order)
        width = column.dtype.itemsize
        out = np.empty(self.count + -(-SPARE_BYTES // width), column.dtype)
        places = (self.bounds.ctypes.data, self.order.ctypes.data, len(self.order))
        library.strandline_take_runs(column.ctypes.data, column.nbytes, width, *places, out.ctypes.data)
        return out[: self.count]


@dataclass(frozen=True, slots=True)
class Numbers:
    """A column of int64 values, of which some are NULL."""

    values: Ints
    valid: Bools

    def take(self, places: Places | None) -> pa.Array:
        """These of the values (int64); None: all of them, where they are."""
        if places is None:
            return pa.Array.from_buffers(pa.int64(), len(self.values), [_bits(self.valid), pa.py_buffer(self.values)])
        buffers = [_validity(self.valid, places), pa.py_buffer(places.taken(self.values))]
        return pa.Array.from_buffers(pa.int64(), places.count, buffers)


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts: text i is data[offsets[i]:offsets[i + 1]]. Some are NULL, and empty."""

    offsets: Ints
    data: NDArray[np.uint8]
    valid: Bools

    def take(self, places: Places | None) -> pa.Array:
        """These of the texts (large_string); None: all of them, where they are."""
        if places is None:
            buffers = [_bits(self.valid), pa.py_buffer(self.offsets), pa.py_buffer(self.data)]
            return pa.Array.from_buffers(pa.large_string(), len(self.valid), buffers)
        return _taken_texts(self.offsets, self.data, places, _validity(self.valid, places))


def _validity(valid: Bools, places: Places) -> pa.Buffer | None:
    return None if valid.all() else _bits(places.taken(valid))


def _bits(valid: Bools) -> pa.Buffer | None:
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _taken_texts(offsets: Ints, data: np.ndarray, places: Places, validity: pa.Buffer | None) -> pa.Array:
    out_offsets = np.empty(places.count + 1, np.int64)
    chosen = (places.address_of_bounds, places.order.ctypes.data, len(places.order))
    library.strandline_text_offsets(offsets.ctypes.data, *chosen, out_offsets.ctypes.data)
    size = int(out_offsets[-1])
    out = np.empty(size + SPARE_BYTES, np.uint8)
    library.strandline_copy_texts(offsets.ctypes.data, data.ctypes.data, data.size, *chosen, out.ctypes.data)
    buffers = [validity, pa.py_buffer(out_offsets), pa.py_buffer(out[:size])]
    return pa.Array.from_buffers(pa.large_string(), places.count, buffers)


def take_texts(texts: pa.Array, order: Ints) -> pa.Array:
    """`texts.take(order)` of a large_string array, some times faster. `order`: int64, within the array."""
    if not len(order):
        return texts.slice(0, 0)
    _, offsets, data = texts.buffers()
    wanted = Places(np.ascontiguousarray(order, np.int64), len(order))
    valid = None
    if texts.null_count:
        valid = _validity(texts.is_valid().to_numpy(zero_copy_only=False), wanted)
    places = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.zeros(1, np.uint8) if data is None or not data.size else np.frombuffer(data, np.uint8)
    return _taken_texts(places, content, wanted, valid)


def take_rows(rows: np.ndarray, order: Ints) -> np.ndarray:
    """`rows[order]` of an array of records, some times faster. `order`: int64, within the array."""
    rows, order = np.ascontiguousarray(rows), np.ascontiguousarray(order, np.int64)
    out = np.empty(len(order), rows.dtype)
    places = (rows.ctypes.data, rows.dtype.itemsize, order.ctypes.data, len(order), out.ctypes.data)
    library.strandline_take_rows(*places)
    return out


def ascending(values: Ints) -> Ints:
    """`np.argsort(values, kind="stable")`, some times faster where there are many."""
    values = np.ascontiguousarray(values, np.int64)
    order = np.empty(len(values), np.int64)
    if library.strandline_ascending(values.ctypes.data, len(values), order.ctypes.data):
        raise MemoryError
    return order


def allocate(amount: Ints, qty: Ints, price: Ints, stops: Ints) -> tuple[Ints, Ints]:
    """Each line's share of its order's amount, and the orders (their indexes) whose weights are too large for this: their
    shares are for somebody else to work out. See facts.allocate."""
    amount, qty, price, stops = (np.ascontiguousarray(array, np.int64) for array in (amount, qty, price, stops))
    shares, huge = np.zeros(len(qty), np.int64), np.empty(len(amount), np.int64)
    places = [array.ctypes.data for array in (amount, qty, price, stops)]
    left = library.strandline_allocate(*places, len(amount), shares.ctypes.data, huge.ctypes.data)
    return shares, huge[:left]


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the fast lane read, by record: NULLs, and no items, where it is odd. The items of record i are
    items[i]:items[i + 1] of the columns of items."""

    odd: Bools
    numbers: dict[str, Numbers]
    texts: dict[str, Texts]
    items: Ints


class _Memory:
    """What the fast lane has written, until no array looks at it any more."""

    def __init__(self) -> None:
        self.scan = _Scan()

    def __del__(self, release: Any = library.strandline_release) -> None:
        release(byref(self.scan))

    def read(self) -> Scanned:
        """The arrays."""
        columns = dict(zip(_NAMES, self.scan.columns, strict=True))
        count = columns["items"].count
        numbers = {name: self._numbers(columns[name]) for name in _NAMES if name not in (*_TEXTS, "items")}
        texts = {name: self._texts(columns[name]) for name in _TEXTS}
        ends = _array(columns["items"].values, count, np.int64, self)
        items = np.concatenate([np.zeros(1, np.int64), ends])
        return Scanned(~texts["order_id"].valid, numbers, texts, items)

    def _numbers(self, column: _Column) -> Numbers:
        values = _array(column.values, column.count, np.int64, self)
        return Numbers(values, _array(column.valid, column.count, np.bool_, self))

    def _texts(self, column: _Column) -> Texts:
        offsets = _array(column.values, column.count + 1, np.int64, self)
        data = _array(column.bytes, column.used, np.uint8, self)
        return Texts(offsets, data, _array(column.valid, column.count, np.bool_, self))


def scanned(blob: bytes, starts: Ints, stops: Ints) -> Scanned:
    """Record i is blob[starts[i]:stops[i]]."""
    memory = _Memory()
    starts, stops = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(stops, np.int64)
    places = (starts.ctypes.data, stops.ctypes.data, len(starts))
    if library.strandline_scan(blob, len(blob), *places, byref(memory.scan)):
        raise MemoryError
    return memory.read()


def scanned_array(text: bytes, *, inside: bool = False) -> tuple[Ints, Ints, Scanned] | None:
    """The `parts` of an array, and what is `scanned` of them, in one go. None also where its values are too small to be
    orders: what is read of each takes more memory than they do."""
    memory, spans = _Memory(), _SpanMemory()
    if _found(library.strandline_scan_array(text, len(text), inside, byref(spans.spans), byref(memory.scan))):
        return (*spans.read(), memory.read())
    return None


def lines(text: bytes) -> tuple[Ints, Ints]:
    """Where the lines of a text begin and end that are not blank, without the blanks around them."""
    spans = _SpanMemory()
    _found(library.strandline_lines(text, len(text), byref(spans.spans)))
    return spans.read()


def parts(text: bytes, *, inside: bool = False) -> tuple[Ints, Ints] | None:
    """Where the values of an array begin and end, or the keys and values of an object in turn; `text` is one of these as a
    whole, or (`inside`) what stands between the brackets of an array. None where it is none, or nested very deep."""
    spans = _SpanMemory()
    return spans.read() if _found(library.strandline_parts(text, len(text), inside, byref(spans.spans))) else None


def _found(odd: int) -> bool:
    if odd < 0:
        raise MemoryError
    return not odd


class _SpanMemory:
    """Places that C has written, until no array looks at them any more."""

    def __init__(self) -> None:
        self.spans = _Spans()

    def __del__(self, release: Any = library.strandline_release_spans) -> None:
        release(byref(self.spans))

    def read(self) -> tuple[Ints, Ints]:
        """Where each begins, and where it ends."""
        spans = self.spans
        return tuple(_array(one, spans.count, np.int64, self) for one in (spans.starts, spans.stops))  # type: ignore[return-value]


def _array(pointer: Any, length: int, kind: Any, owner: object = None) -> np.ndarray:
    """Memory of C as an array, which keeps the owner of it alive."""
    if not length:
        return np.zeros(0, kind)
    size = length * np.dtype(kind).itemsize
    memory = (c_uint8 * size).from_address(ctypes.addressof(pointer.contents))
    memory.owner = owner
    return np.frombuffer(memory, kind)
