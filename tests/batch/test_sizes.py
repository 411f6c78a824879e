"""How drops are divided into batches."""

from __future__ import annotations

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
