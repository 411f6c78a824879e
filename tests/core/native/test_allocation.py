"""Memory that runs out: at each allocation of the C in turn, the call raises MemoryError, and the next call is right again.

The C allocates with `realloc` alone. All other memory is numpy's and Arrow's, whose MemoryError is the drop's reason, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from daemon.core.mapping import DIRECT, FieldMapping
from daemon.core.merge.keys import with_hashes
from daemon.core.native import bindings
from daemon.core.parse.parse import Piece, parse
from tests.support.as_model import CONTEXT, orders_of
from tests.support.binaries import imported
from tests.support.counted import Counted

ALLOCATING = {
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "aligned_alloc",
    "posix_memalign",
    "strdup",
    "strndup",
    "alloca",
    "mmap",
}


def order(number: int, **more: object) -> dict[str, object]:
    items = [{"sku": f"p_{line}", "qty": 1, "price": 2.5} for line in range(number % 5)]
    record = {"order_id": f"o_{number}", "user_id": "u" * 40, "amount": number, "currency": "EUR", "items": items}
    return (
        record | {"created_at": "2026-03-02T10:00:00Z", "metadata": {"note": "é" * (number % 90), "x": [1, 2]}} | more
    )


# Enough that each column grows several times, in its values and in its texts. Some records are refused in the middle.
RECORDS = [
    json.dumps(order(n) | ({"items": [{"sku": "p"}, 7]} if n % 7 == 0 else {}), ensure_ascii=False).encode()
    for n in range(900)
]
LINES, ARRAY = b"\n".join(RECORDS), b"[" + b", ".join(RECORDS) + b"]"
OBJECT = json.dumps({f"key_{n}": n for n in range(900)}).encode()
MAPPED = FieldMapping(
    fields=(("amount", ("total", "amount")), ("user_id", ("customer.id", "user_id"))),
    id_prefix="prefix-", columns=(("note", "text", ("metadata.note",)), ("sum", "decimal", ("tip",))),
)  # fmt: skip


def scanned(mapping: FieldMapping = DIRECT) -> list[object]:
    starts, stops = bindings.lines(LINES)
    return shown(bindings.scanned(LINES, starts, stops, mapping))


def shown(read: bindings.Scanned) -> list[object]:
    columns = {**read.numbers, **read.texts, **read.extra}
    return [
        read.refused.tolist(),
        read.items.tolist(),
        {name: one.array().to_pylist() for name, one in columns.items()},
    ]


def array_in_one_go() -> object:
    found = bindings.scanned_array(ARRAY)
    assert found is not None
    return found[0].tolist(), found[1].tolist(), shown(found[2])


def spans(text: bytes) -> list[list[int]] | None:
    found = bindings.parts(text)
    return None if found is None else [one.tolist() for one in found]


def hashed() -> list[object]:
    table = parse([Piece(1, LINES, CONTEXT)]).orders
    columns = {name: table[name].combine_chunks() for name in table.column_names if name not in ("key", "content")}
    found = with_hashes(columns)
    return [found["key"].to_pylist(), found["content"].to_pylist()]


CALLS: dict[str, Callable[[], object]] = {
    "lines": lambda: [one.tolist() for one in bindings.lines(LINES)],
    "parts of an array": lambda: spans(ARRAY),
    "parts of an object": lambda: spans(OBJECT),
    "scanned": scanned,
    "scanned under a mapping": lambda: scanned(MAPPED),
    "scanned_array": array_in_one_go,
    "hashes": hashed,
    "parse": lambda: orders_of(parse([Piece(1, LINES, CONTEXT)])),
}


def test_the_library_allocates_with_realloc_alone() -> None:
    """So the linker's wrapper sees every allocation."""
    assert imported(bindings.LIBRARY) & ALLOCATING == {"realloc"}


@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("name", CALLS)
def test_an_allocation_that_fails_is_a_memory_error_and_nothing_else(
    name: str, lasting: bool, counted: Counted
) -> None:
    """At each allocation until there are no more: no crash, no result that differs, and all memory is freed."""
    call = CALLS[name]
    expected = call()
    with counted.in_use():
        assert call() == expected
        needed = counted.allocations
    assert needed > 5
    for failing in range(1, needed + 1):
        with counted.in_use(failing=failing, lasting=lasting):
            with pytest.raises(MemoryError):
                call()
            assert counted.live == 0
    with counted.in_use(failing=needed + 1, lasting=lasting):
        assert call() == expected and counted.live == 0
