"""The functions in C (`*.c` beside this file), over bytes and arrays. The only module of core that loads a library.

The library is compiled when the package is installed. Calls release Python's lock, so threads run in parallel.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Collection, Sequence
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_int, c_int64, c_uint8, c_void_p
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ..mapping import DIRECT, ITEM_FIELDS, ORDER_FIELDS, Columns, FieldMapping
from ..model import Bools, Ints
from .tables import MOST_EXTRA, Tables, tables_of

LIBRARY = Path(__file__).with_name("_native.so")

_TEXTS = ("order_id", "user_id", "currency", "metadata", "sku")
_NAMES = ORDER_FIELDS + ITEM_FIELDS  # in the order of scan.c; the extra columns come after these
_MOST = len(_NAMES) + MOST_EXTRA


class _Column(Structure):
    _fields_ = [
        ("values", POINTER(c_int64)), ("valid", POINTER(c_uint8)), ("bytes", POINTER(c_uint8)),
        ("count", c_int64), ("capacity", c_int64), ("used", c_int64), ("bytes_capacity", c_int64),
    ]  # fmt: skip


class _Scan(Structure):
    _fields_ = [
        ("columns", _Column * _MOST), ("mapping", POINTER(Tables)), ("end", c_void_p), ("stop", c_void_p),
        ("guesses", POINTER(c_uint8)), ("second", c_void_p * 3), ("rank", c_int * _MOST), ("depth", c_int), ("others", c_bool),
        ("skipped", c_bool), ("failed", c_bool),
    ]  # fmt: skip


class _Extra(Structure):
    """Extra of keyed.c."""

    _fields_ = [("name", c_char_p), ("length", c_int64), ("kind", c_int), ("arrow", c_int64 * 4)]


class _Inner(Structure):
    _fields_ = [("names", POINTER(c_char_p)), ("lengths", POINTER(c_int64)), ("count", c_int64)]


class _Spans(Structure):
    _fields_ = [("starts", POINTER(c_int64)), ("stops", POINTER(c_int64)), ("count", c_int64), ("capacity", c_int64)]


def _load() -> Any:
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError as error:
        raise ImportError(
            f"cannot load {LIBRARY}: it is missing or does not fit this machine ({error}). Build it with `pip install .`, or "
            "with `python hatch_build.py` in a checkout"
        ) from None
    pointer, number = c_void_p, c_int64
    library.strandline_scan.argtypes = [c_char_p, number, pointer, pointer, number, POINTER(_Scan)]
    library.strandline_scan_array.argtypes = [c_char_p, number, c_int, POINTER(_Spans), POINTER(_Scan)]
    library.strandline_prepare_keys.argtypes = [pointer, number]
    library.strandline_release.argtypes = [POINTER(_Scan)]
    library.strandline_lines.argtypes = [c_char_p, number, POINTER(_Spans)]
    library.strandline_parts.argtypes = [c_char_p, number, c_int, POINTER(_Spans)]
    library.strandline_shapes.argtypes = [c_char_p, pointer, pointer, number, POINTER(_Inner), pointer]
    library.strandline_release_spans.argtypes = [POINTER(_Spans)]
    library.strandline_allocate.argtypes = [pointer, pointer, pointer, pointer, number, pointer, pointer]
    library.strandline_allocate.restype = number
    library.strandline_hashes.argtypes = [pointer, number, pointer, number, pointer, pointer]
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
    """A column of int64 values; some are NULL."""

    values: Ints
    valid: Bools

    def array(self) -> pa.Array:
        """The column as an Arrow array (int64), without copying."""
        return pa.Array.from_buffers(pa.int64(), len(self.values), [_bits(self.valid), pa.py_buffer(self.values)])


@dataclass(frozen=True, slots=True)
class Texts:
    """A column of texts: text i is data[offsets[i]:offsets[i + 1]]. Some are NULL; these are empty."""

    offsets: Ints
    data: NDArray[np.uint8]
    valid: Bools

    def array(self) -> pa.Array:
        """The column as an Arrow array (large_string), without copying."""
        buffers = [_bits(self.valid), pa.py_buffer(self.offsets), pa.py_buffer(self.data)]
        return pa.Array.from_buffers(pa.large_string(), len(self.valid), buffers)


def _bits(valid: Bools) -> pa.Buffer | None:
    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def allocate(amount: Ints, qty: Ints, price: Ints, stops: Ints) -> tuple[Ints, Ints]:
    """The share of each line in the amount of its order, and the indexes of the orders whose weights are too large for this. See
    facts.allocate."""
    amount, qty, price, stops = (np.ascontiguousarray(array, np.int64) for array in (amount, qty, price, stops))
    shares, huge = np.zeros(len(qty), np.int64), np.empty(len(amount), np.int64)
    addresses = [array.ctypes.data for array in (amount, qty, price, stops)]
    left = library.strandline_allocate(*addresses, len(amount), shares.ctypes.data, huge.ctypes.data)
    return shares, huge[:left]


def hashes(columns: Ints, count: int, extra: Sequence[tuple[str, int, Ints]]) -> tuple[np.ndarray, np.ndarray]:
    """The keys and the contents of orders, 16 bytes each. `columns`: where the columns of keyed.c are; `extra`: the name, kind
    and place of more, by name."""
    more = (_Extra * (len(extra) or 1))()
    for one, (name, kind, place) in zip(more, extra, strict=False):
        one.name, one.length, one.kind, one.arrow = name.encode(), len(name), kind, (c_int64 * 4)(*place.tolist())
    keys, contents = np.empty(16 * count, np.uint8), np.empty(16 * count, np.uint8)
    into = (keys.ctypes.data, contents.ctypes.data)
    if library.strandline_hashes(columns.ctypes.data, count, more, len(extra), *into):
        raise MemoryError
    return keys, contents


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the fast path read, by record: NULLs and no items where it is `refused`. The items of record i are
    items[i]:items[i + 1] of the columns of items. `bare`: it has neither amount nor items, but other keys."""

    refused: Bools
    bare: Bools
    numbers: dict[str, Numbers]
    texts: dict[str, Texts]
    items: Ints
    extra: dict[str, Numbers | Texts]  # by the name of the column; true is 1, false is 0


class _ScanMemory:
    """The memory of a scan. Freed when no array uses it. `extra`: names and types."""

    def __init__(self, tables: Tables, extra: Columns) -> None:
        self._guesses = (c_uint8 * tables.guesses)()  # ctypes does not keep an array that is cast
        self.scan = _Scan(mapping=ctypes.pointer(tables), guesses=ctypes.cast(self._guesses, POINTER(c_uint8)))
        self._extra = extra

    def __del__(self, release: Any = library.strandline_release) -> None:
        release(byref(self.scan))

    def read(self) -> Scanned:
        """The results, as arrays over this memory."""
        columns = dict(zip(_NAMES, self.scan.columns, strict=False))
        count = columns["items"].count
        numbers = {name: self._numbers(columns[name]) for name in _NAMES if name not in (*_TEXTS, "items")}
        texts = {name: self._texts(columns[name]) for name in _TEXTS}
        ends = _array(columns["items"].values, count, np.int64, self)
        items = np.concatenate([np.zeros(1, np.int64), ends])
        bare = ~_array(columns["items"].valid, count, np.bool_, self)
        extra = {
            name: self._texts(column) if kind == "text" else self._numbers(column)
            for (name, kind), column in zip(self._extra, self.scan.columns[len(_NAMES) :], strict=False)
        }
        return Scanned(~texts["order_id"].valid, bare, numbers, texts, items, extra)

    def _numbers(self, column: _Column) -> Numbers:
        values = _array(column.values, column.count, np.int64, self)
        return Numbers(values, _array(column.valid, column.count, np.bool_, self))

    def _texts(self, column: _Column) -> Texts:
        offsets = _array(column.values, column.count + 1, np.int64, self)
        data = _array(column.bytes, column.used, np.uint8, self)
        return Texts(offsets, data, _array(column.valid, column.count, np.bool_, self))


def is_mappable(mapping: FieldMapping) -> bool:
    """Whether the fast path reads records under a mapping. Else it refuses all of them, which costs time."""
    return _tables_of(mapping) is not None


@lru_cache(maxsize=64)
def _tables_of(mapping: FieldMapping) -> Tables | None:
    return tables_of(mapping, library.strandline_prepare_keys)


def _memory_for(mapping: FieldMapping) -> _ScanMemory:
    tables = _tables_of(mapping)
    assert tables is not None, "ask is_mappable before"
    return _ScanMemory(tables, mapping.extra_columns)


def scanned(blob: bytes, starts: Ints, stops: Ints, mapping: FieldMapping = DIRECT) -> Scanned:
    """Reads records: record i is blob[starts[i]:stops[i]]. Numbers in minor units stay so."""
    memory = _memory_for(mapping)
    starts, stops = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(stops, np.int64)
    records = (starts.ctypes.data, stops.ctypes.data, len(starts))
    if library.strandline_scan(blob, len(blob), *records, byref(memory.scan)):
        raise MemoryError
    return memory.read()


def scanned_array(
    text: bytes, *, inside: bool = False, mapping: FieldMapping = DIRECT
) -> tuple[Ints, Ints, Scanned] | None:
    """The `parts` of an array, and the records `scanned` from them, in one pass. None also where the values are too small to be
    orders: their columns would take more memory than the text."""
    memory, spans = _memory_for(mapping), _SpanMemory()
    if _found(library.strandline_scan_array(text, len(text), inside, byref(spans.spans), byref(memory.scan))):
        return (*spans.read(), memory.read())
    return None


def lines(text: bytes) -> tuple[Ints, Ints]:
    """The starts and ends of the lines of a text that are not blank, without blanks around them."""
    spans = _SpanMemory()
    _found(library.strandline_lines(text, len(text), byref(spans.spans)))
    return spans.read()


def parts(text: bytes, *, inside: bool = False) -> tuple[Ints, Ints] | None:
    """The starts and ends of the values of an array, or of the keys and values of an object in turn. `text`: one array or object,
    or (`inside`) the text between the brackets of an array. None where it is not, or nested too deep."""
    spans = _SpanMemory()
    return spans.read() if _found(library.strandline_parts(text, len(text), inside, byref(spans.spans))) else None


class InnerKeys:
    """Keys of a record, for `shapes`."""

    def __init__(self, keys: Collection[str]) -> None:
        names = [json.dumps(key, ensure_ascii=False).encode() for key in sorted(keys)]
        self._kept = (c_char_p * (len(names) or 1))(*names), (c_int64 * (len(names) or 1))(*map(len, names))
        self.table = _Inner(*self._kept, len(names))


def shapes(blob: bytes, starts: Ints, stops: Ints, inner: InnerKeys) -> NDArray[np.uint64]:
    """A hash for the shape of each record blob[starts[i]:stops[i]]: of its keys, and those in the values of `inner` keys."""
    starts, stops = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(stops, np.int64)
    hashes = np.empty(len(starts), np.uint64)
    places = (starts.ctypes.data, stops.ctypes.data, len(starts))
    library.strandline_shapes(blob, *places, byref(inner.table), hashes.ctypes.data)
    return hashes


def _found(refused: int) -> bool:
    if refused < 0:
        raise MemoryError
    return not refused


class _SpanMemory:
    """The memory of spans. Freed when no array uses it."""

    def __init__(self) -> None:
        self.spans = _Spans()

    def __del__(self, release: Any = library.strandline_release_spans) -> None:
        release(byref(self.spans))

    def read(self) -> tuple[Ints, Ints]:
        """The start and the end of each span."""
        spans = self.spans
        return tuple(_array(one, spans.count, np.int64, self) for one in (spans.starts, spans.stops))  # type: ignore[return-value]


def _array(pointer: Any, length: int, kind: Any, owner: object = None) -> np.ndarray:
    """C memory as an array, which keeps its owner alive."""
    if not length:
        return np.zeros(0, kind)
    size = length * np.dtype(kind).itemsize
    memory = (c_uint8 * size).from_address(ctypes.addressof(pointer.contents))
    memory.owner = owner
    return np.frombuffer(memory, kind)
