"""Divides what is to be applied into batches, by the number and the size of drops."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_T = TypeVar("_T")
_COMPRESSED, _COMPRESSED_WEIGHT = (".gz", ".zst", ".zip"), 4


def weight(name: str, size_bytes: int) -> int:
    """What a drop counts towards the bytes of a batch. A compressed one is several times as large when it is read."""
    return size_bytes * (_COMPRESSED_WEIGHT if name.lower().endswith(_COMPRESSED) else 1)


def batches(
    things: Sequence[_T], max_drops: int, max_bytes: int, size_bytes: Callable[[_T], int]
) -> Iterator[Sequence[_T]]:
    """Divides things, in order, into batches within the limits of drops and bytes."""
    batch: list[_T] = []
    left = max_bytes
    for thing in things:
        if batch and (len(batch) >= max_drops or size_bytes(thing) > left):
            yield batch
            batch, left = [], max_bytes
        batch.append(thing)
        left -= size_bytes(thing)
    if batch:
        yield batch
