"""Orders by their 128-bit keys: hashes of ORDERS rows, and INDEX_ENTRY arrays sorted by key. The face of `keyed.c`. Pure.

"Sorted" means here: by key (`hi`, then `lo`), each key once. Entries are sorted when they are made, and stay so: what looks
many of them up, merges them or writes them goes through them in that order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from ..model import INDEX_ENTRY, ORDERS, VERSIONS, Bools, Ints
from ..native.bindings import library

_HASHED = ("order_id", "created_at", "updated_at", "user_id", "amount", "currency", "metadata", "items")
_ITEM = ("sku", "qty", "price")  # this and the one above: in the order of keyed.c
_IN_A_BUCKET = 8  # entries, about


def with_hashes(columns: Mapping[str, pa.Array]) -> pa.Table:
    """The ORDERS table of these columns; `key` and `content` are added here, from what the others say in the end. Equal
    contents are equal in all that decides the FACT rows of an order; NULL is equal to NULL alone."""
    items = columns["items"]
    flat = [items.values.field(name) for name in _ITEM]
    places = _addresses([columns[name] for name in _HASHED] + flat)
    count = len(items)
    hashes = {name: np.empty(16 * count, np.uint8) for name in ("key", "content")}
    if library.strandline_hashes(places.ctypes.data, count, *(made.ctypes.data for made in hashes.values())):
        raise MemoryError
    added = {
        name: pa.Array.from_buffers(pa.binary(16), count, [None, pa.py_buffer(made)]) for name, made in hashes.items()
    }
    return pa.table([{**columns, **added}[name] for name in ORDERS.names], schema=ORDERS)


def _addresses(arrays: list[pa.Array]) -> np.ndarray:
    """Where each column lies in memory, as keyed.c takes it: validity, values, bytes, offset. Good as long as they are."""
    places = np.zeros((len(arrays), 4), np.int64)
    for place, array in zip(places, arrays, strict=True):
        buffers = array.buffers()[: 3 if pa.types.is_large_string(array.type) else 2]
        place[: len(buffers)] = [buffer.address if buffer is not None else 0 for buffer in buffers]
        place[3] = array.offset
    return places


def latest(orders: pa.Table) -> tuple[np.ndarray, Ints]:
    """The latest record of each order in an ORDERS or VERSIONS table, as sorted entries, and which row each of them is."""
    batches = [batch for batch in orders.select(VERSIONS.names).to_batches() if len(batch)]
    located = [(_addresses(batch.columns), len(batch)) for batch in batches]
    bits = max(orders.num_rows // _IN_A_BUCKET, 1).bit_length() - 1
    counts = np.zeros((1 << bits) + 1, np.int64)
    for places, count in located:
        start = int(places[0, 1] + 16 * places[0, 3])
        library.strandline_count_keys(start, count, bits, counts.ctypes.data)
    place = np.cumsum(counts)  # where each bucket begins, and in the end where it ends
    entries, rows = np.empty(orders.num_rows, INDEX_ENTRY), np.empty(orders.num_rows, np.int64)
    into = (place.ctypes.data, entries.ctypes.data, rows.ctypes.data)
    row = 0
    for places, count in located:
        library.strandline_place_entries(places.ctypes.data, count, row, bits, *into)
        row += count
    kept = library.strandline_sort_entries(entries.ctypes.data, rows.ctypes.data, place.ctypes.data, 1 << bits)
    return entries[:kept], rows[:kept]


def ascending(entries: np.ndarray) -> bool:
    """Whether entries are sorted."""
    return bool(library.strandline_ascend(*_address(entries)))


def matches(wanted: np.ndarray, part: np.ndarray, found: Bools) -> tuple[Ints, Ints]:
    """What `part` has of the wanted entries that are not `found` yet (both sorted): their places in `wanted` and in `part`.
    They are marked as found."""
    room = min(len(wanted), len(part))
    where, places = np.empty(room, np.int64), np.empty(room, np.int64)
    into = (found.ctypes.data, where.ctypes.data, places.ctypes.data)
    count = library.strandline_match(*_address(wanted), *_address(part), *into)
    return where[:count], places[:count]


def merged(older: np.ndarray, newer: np.ndarray) -> np.ndarray:
    """One sorted array out of two: of a key in both, the newer entry."""
    out = np.empty(len(older) + len(newer), INDEX_ENTRY)
    return out[: library.strandline_merge(*_address(older), *_address(newer), out.ctypes.data)]


def take_entries(entries: np.ndarray, order: Ints) -> np.ndarray:
    """`entries[order]`, some times faster. `order`: int64, within the array."""
    order, out = np.ascontiguousarray(order, np.int64), np.empty(len(order), INDEX_ENTRY)
    library.strandline_take_entries(_address(entries)[0], order.ctypes.data, len(order), out.ctypes.data)
    return out


def put_entries(entries: np.ndarray, source: Ints, target: Ints, into: np.ndarray) -> None:
    """`into[target] = entries[source]`, some times faster. The indexes: int64, within the arrays."""
    source, target = np.ascontiguousarray(source, np.int64), np.ascontiguousarray(target, np.int64)
    places = (_address(entries)[0], source.ctypes.data, target.ctypes.data, len(source), _address(into)[0])
    library.strandline_put_entries(*places)


def sort(entries: np.ndarray) -> np.ndarray:
    """Entries (of each key one), sorted."""
    return take_entries(entries, np.lexsort([entries["lo"], entries["hi"]]))


def _address(entries: np.ndarray) -> tuple[int, int]:
    """Where entries lie, and how many there are."""
    assert entries.dtype == INDEX_ENTRY and entries.flags.c_contiguous
    return entries.ctypes.data, len(entries)
