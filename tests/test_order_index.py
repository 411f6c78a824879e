"""The order index against a dictionary."""

from __future__ import annotations

import hashlib
import sqlite3

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon import order_index
from daemon.core import keyed
from daemon.core.model import INDEX_ENTRY
from daemon.order_index import OrderIndex

# Few values of `hi`, some equal at block borders, so that keys share their first half as they never do in practice.
KEYS = st.tuples(st.sampled_from([0, 1, 2**63 - 1, 2**63, 2**64 - 1]), st.integers(0, 300))
Key = tuple[int, int]


def entries_of(keys: dict[Key, int]) -> np.ndarray:
    entries = np.zeros(len(keys), INDEX_ENTRY)
    for row, ((hi, lo), value) in zip(entries, keys.items(), strict=True):
        row["hi"], row["lo"], row["date"], row["instant"], row["drop"], row["position"] = (
            hi,
            lo,
            value % 5,
            value,
            value,
            1,
        )
        row["content"] = hashlib.blake2b(b"%d" % value, digest_size=16).digest()
    return keyed.sort(entries)


def opened() -> OrderIndex:
    sql = sqlite3.connect(":memory:", isolation_level=None)
    sql.create_function("with_content", 1, order_index.with_content)
    for statement in (order_index.SCHEMA + order_index.UPGRADE).split(";\n"):
        sql.execute(statement)
    return OrderIndex(sql)


def assert_same(index: OrderIndex, truth: dict[Key, int], asked: set[Key]) -> None:
    found, mask = index.find(entries_of(dict.fromkeys(asked, 0)))
    for key, entry, is_there in zip(sorted(asked), found, mask, strict=True):
        assert bool(is_there) == (key in truth)
        if is_there:
            assert entry.tobytes() == entries_of({key: truth[key]}).tobytes()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.dictionaries(KEYS, st.integers(1, 10**6), max_size=400), max_size=8), st.data())
def test_the_newest_entry_of_a_key_is_found(batches: list[dict[Key, int]], data: st.DataObject) -> None:
    """Whatever runs there are, and however they were merged, a look-up gives what was added last, or nothing."""
    index, truth = opened(), {}
    for batch in batches:
        index.adopt(index.write_ahead(entries_of(batch)))
        truth |= batch
        few = data.draw(st.sets(KEYS, max_size=5))
        assert_same(index, truth, few)
    assert_same(index, truth, set(truth) | {(hi, 301) for hi, _ in truth})
    for date in range(5):
        here = index.of_dates([date])
        assert {(int(e["hi"]), int(e["lo"])) for e in here} == {k for k, v in truth.items() if v % 5 == date}
    index.sweep()
    assert_same(index, truth, set(truth))


def test_a_run_counts_for_nothing_until_it_is_adopted() -> None:
    """What is written ahead is not found; what was left by a crash is swept away and its number may come again."""
    index = opened()
    index.adopt(index.write_ahead(entries_of({(1, 1): 7})))
    lost = index.write_ahead(entries_of({(1, 1): 8, (2, 2): 9}))
    assert lost is not None
    assert_same(index, {(1, 1): 7}, {(1, 1), (2, 2)})
    index.sweep()
    assert_same(index, {(1, 1): 7}, {(1, 1), (2, 2)})
    index.adopt(index.write_ahead(entries_of({(2, 2): 10})))
    assert_same(index, {(1, 1): 7, (2, 2): 10}, {(1, 1), (2, 2)})


def test_the_number_of_runs_stays_small() -> None:
    """A thousand small batches leave a handful of runs, so that a look-up does not get slower as history grows."""
    index, truth = opened(), {}
    for number in range(1000):
        batch = {(number * 2**50 + i, i): number + 1 for i in range(3)}
        index.adopt(index.write_ahead(entries_of(batch)))
        truth |= batch
    runs = index._sql.execute("SELECT count(*) FROM order_runs").fetchone()[0]
    assert runs <= 12
    assert_same(index, truth, set(truth))


def test_compaction_changes_nothing_that_is_found() -> None:
    """Merging runs when idle keeps every answer."""
    index, truth = opened(), {}
    for number in range(40):
        batch = {(number, i): number + i for i in range(400 - 10 * number)}
        run = index.write_ahead(entries_of(batch))
        assert run is not None
        index.adopt(order_index.Run(run.number, run.entries, ()) if not run.replaces else run)
        truth |= batch
    while index.compact():
        pass
    assert_same(index, truth, set(truth))
