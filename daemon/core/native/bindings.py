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

from ..model import Bools, Ints

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
class Numbers:
    """A column of int64 values, of which some are NULL."""

    values: Ints
    valid: Bools

    def array(self) -> pa.Array:
        """The column as Arrow has it (int64), where it is."""
        return pa.Array.from_buffers(pa.int64(), len(self.values), [_bits(self.valid), pa.py_buffer(self.values)])


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts: text i is data[offsets[i]:offsets[i + 1]]. Some are NULL, and empty."""

    offsets: Ints
    data: NDArray[np.uint8]
    valid: Bools

    def array(self) -> pa.Array:
        """The column as Arrow has it (large_string), where it is."""
        buffers = [_bits(self.valid), pa.py_buffer(self.offsets), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.large_string(), len(self.valid), buffers)


def _bits(valid: Bools) -> pa.Buffer | None:
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


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
    """What the fast lane read, by record: NULLs, and no items, where it is refused. The items of record i are
    items[i]:items[i + 1] of the columns of items. `bare`: it has neither amount nor items, and other keys."""

    refused: Bools
    bare: Bools
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
        bare = ~_array(columns["items"].valid, count, np.bool_, self)
        return Scanned(~texts["order_id"].valid, bare, numbers, texts, items)

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


def _found(refused: int) -> bool:
    if refused < 0:
        raise MemoryError
    return not refused


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
