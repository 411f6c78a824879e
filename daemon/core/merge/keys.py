"""Orders by their 128-bit keys: hashes of ORDERS rows, and INDEX_ENTRY arrays sorted by key. Calls native/keyed.c. Pure.

"Sorted" means: by key (`hi`, then `lo`), each key once. Entries are sorted when they are made: look-ups, merges and writes go
through them in that order.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from ..columns import EXTRA, extra_of
from ..model import INDEX_ENTRY, ORDERS, VERSIONS, Bools, Ints
from ..native import bindings
from ..native.bindings import library

_HASHED = ("order_id", "created_at", "updated_at", "user_id", "amount", "currency", "metadata", "items")
_ITEM = ("sku", "qty", "price")  # after those above, in the order of keyed.c
_BUCKET_ENTRIES = 8  # on average


def with_hashes(columns: Mapping[str, pa.Array]) -> pa.Table:
    """The ORDERS table of these columns, with `key` and `content` computed from them. Orders with equal `content` have equal
    FACT rows; NULL only equals NULL, or an extra column that is not there."""
    extra = extra_of(columns)
    items = columns["items"]
    flat = [items.values.field(name) for name in _ITEM]
    addresses = _addresses([columns[name] for name in _HASHED] + flat)
    count = len(items)
    more = zip(
        extra, [columns[name].type for name in extra], _addresses([columns[name] for name in extra]), strict=True
    )
    hashes = bindings.hashes(
        addresses, count, [(name.removeprefix(EXTRA), _kind_of(kind), at) for name, kind, at in more]
    )
    added = {
        name: pa.Array.from_buffers(pa.binary(16), count, [None, pa.py_buffer(out)])
        for name, out in zip(("key", "content"), hashes, strict=True)
    }
    schema = pa.schema([*ORDERS, *(pa.field(name, columns[name].type) for name in extra)])
    return pa.table([{**columns, **added}[name] for name in schema.names], schema=schema)


def _kind_of(kind: pa.DataType) -> int:
    """The kind of an extra column in keyed.c: TEXT, NUMBER or BOOLEAN."""
    return 0 if pa.types.is_large_string(kind) else 2 if pa.types.is_boolean(kind) else 1


def _addresses(arrays: list[pa.Array]) -> np.ndarray:
    """Each column as the struct Arrow of keyed.c: the addresses of validity, values and bytes, and the offset. Valid as long as
    the arrays exist."""
    addresses = np.zeros((len(arrays), 4), np.int64)
    for row, array in zip(addresses, arrays, strict=True):
        buffers = array.buffers()[: 3 if pa.types.is_large_string(array.type) else 2]
        row[: len(buffers)] = [buffer.address if buffer is not None else 0 for buffer in buffers]
        row[3] = array.offset
    return addresses


def latest(orders: pa.Table) -> tuple[np.ndarray, Ints]:
    """The latest version of each order in an ORDERS or VERSIONS table, as sorted entries, and the row of each."""
    batches = [batch for batch in orders.select(VERSIONS.names).to_batches() if len(batch)]
    located = [(_addresses(batch.columns), len(batch)) for batch in batches]
    bits = max(orders.num_rows // _BUCKET_ENTRIES, 1).bit_length() - 1
    counts = np.zeros((1 << bits) + 1, np.int64)
    for addresses, count in located:
        keys = int(addresses[0, 1] + 16 * addresses[0, 3])
        library.strandline_count_keys(keys, count, bits, counts.ctypes.data)
    position = np.cumsum(counts)  # the start of each bucket; after placing, its end
    entries, rows = np.empty(orders.num_rows, INDEX_ENTRY), np.empty(orders.num_rows, np.int64)
    into = (position.ctypes.data, entries.ctypes.data, rows.ctypes.data)
    row = 0
    for addresses, count in located:
        library.strandline_place_entries(addresses.ctypes.data, count, row, bits, *into)
        row += count
    kept = library.strandline_sort_entries(entries.ctypes.data, rows.ctypes.data, position.ctypes.data, 1 << bits)
    return entries[:kept], rows[:kept]


def ascending(entries: np.ndarray) -> bool:
    """Whether entries are sorted."""
    return bool(library.strandline_ascend(*_address(entries)))


def matches(wanted: np.ndarray, part: np.ndarray, found: Bools) -> tuple[Ints, Ints]:
    """The keys of `wanted` that are in `part` and not `found` yet (both are sorted): their indexes in `wanted` and in `part`.
    Marks them as found."""
    most = min(len(wanted), len(part))
    in_wanted, in_part = np.empty(most, np.int64), np.empty(most, np.int64)
    into = (found.ctypes.data, in_wanted.ctypes.data, in_part.ctypes.data)
    count = library.strandline_match(*_address(wanted), *_address(part), *into)
    return in_wanted[:count], in_part[:count]


def merged(older: np.ndarray, newer: np.ndarray) -> np.ndarray:
    """One sorted array out of two. Of a key in both, the newer entry stays."""
    out = np.empty(len(older) + len(newer), INDEX_ENTRY)
    return out[: library.strandline_merge(*_address(older), *_address(newer), out.ctypes.data)]


def take_entries(entries: np.ndarray, order: Ints) -> np.ndarray:
    """`entries[order]`, several times faster. `order`: int64, in range."""
    order, out = np.ascontiguousarray(order, np.int64), np.empty(len(order), INDEX_ENTRY)
    library.strandline_take_entries(_address(entries)[0], order.ctypes.data, len(order), out.ctypes.data)
    return out


def put_entries(entries: np.ndarray, source: Ints, target: Ints, into: np.ndarray) -> None:
    """`into[target] = entries[source]`, several times faster. The indexes: int64, in range."""
    source, target = np.ascontiguousarray(source, np.int64), np.ascontiguousarray(target, np.int64)
    indexes = (source.ctypes.data, target.ctypes.data, len(source))
    library.strandline_put_entries(_address(entries)[0], *indexes, _address(into)[0])


def sort(entries: np.ndarray) -> np.ndarray:
    """Sorts entries, of which each key has one."""
    return take_entries(entries, np.lexsort([entries["lo"], entries["hi"]]))


def _address(entries: np.ndarray) -> tuple[int, int]:
    """The address of entries, and their number."""
    assert entries.dtype == INDEX_ENTRY and entries.flags.c_contiguous
    return entries.ctypes.data, len(entries)
