"""How drops are divided into batches."""

from __future__ import annotations

import pytest

from daemon.batch.sizes import batches, weight


def test_compressed_drops_count_several_times_towards_a_batch() -> None:
    """They are several times as large when they are read, and a batch is limited for the sake of memory."""
    drops = [("a.json", 40), ("b.json.gz", 14), ("c.JSON.ZST", 2), ("d.json", 40), ("e.zip", 26)]
    found = batches(drops, 100, 100, lambda one: weight(*one))
    assert [[name for name, _ in batch] for batch in found] == [
        ["a.json", "b.json.gz"],
        ["c.JSON.ZST", "d.json"],
        ["e.zip"],
    ]


@pytest.mark.parametrize(
    ("max_drops", "expected"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (4, [4, 1]), (5, [5]), (6, [5])]
)
def test_a_batch_has_at_most_so_many_drops(max_drops: int, expected: list[int]) -> None:
    assert [len(batch) for batch in batches(range(5), max_drops, 100, lambda _: 1)] == expected


def test_a_batch_has_at_most_so_many_bytes_unless_one_drop_has_more() -> None:
    """Exactly so many is allowed; a larger drop is a batch of its own."""
    sizes = [4, 6, 1, 10, 11, 30, 0, 9, 2]
    assert list(map(list, batches(sizes, 100, 10, int))) == [[4, 6], [1], [10], [11], [30], [0, 9], [2]]


def test_nothing_is_no_batch() -> None:
    assert not list(batches([], 1, 1, len))
