"""The order index against a dictionary."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from sqlite3 import OperationalError
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.entries import Commit
from daemon.core.merge.keys import sort
from daemon.core.model import INDEX_ENTRY
from daemon.storage import order_index
from daemon.storage.ledger import Ledger
from daemon.storage.order_index import OrderIndex
from tests.support.examples import examples

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
            value + 1,  # no drop has the number 0: that would be an order that is absent
            1,
        )
        row["content"] = hashlib.blake2b(b"%d" % value, digest_size=16).digest()
    return sort(entries)


def opened() -> OrderIndex:
    sql = sqlite3.connect(":memory:", isolation_level=None)
    for statement in order_index.SCHEMA.split(";\n"):
        sql.execute(statement)
    return OrderIndex(sql)


def assert_same(index: OrderIndex, truth: dict[Key, int], asked: set[Key]) -> None:
    found, mask = index.find(entries_of(dict.fromkeys(asked, 0)))
    for key, entry, is_there in zip(sorted(asked), found, mask, strict=True):
        assert bool(is_there) == (key in truth)
        if is_there:
            assert entry.tobytes() == entries_of({key: truth[key]}).tobytes()


@examples(60)
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


def test_what_is_written_again_takes_the_place_of_what_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large runs of which the first is no longer wanted: the file does not grow by both."""
    index = opened()
    monkeypatch.setattr(order_index, "_BLOCK", 4)
    monkeypatch.setattr(order_index, "_STEP_BLOCKS", 2)
    everything = {(hi, 0): 1 for hi in range(100)}
    index.write_ahead(entries_of(everything))
    assert index.sweep(len(everything))
    index.adopt(index.write_ahead(entries_of(everything)))
    assert not index.sweep()


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


SMALL = {"_BLOCK": 3, "_STEP_BLOCKS": 2, "_INLINE_ENTRIES": 30}  # so that a few entries make merges of many steps


@examples(150)
@given(
    st.lists(
        st.one_of(
            st.dictionaries(KEYS, st.integers(1, 10**6), min_size=1, max_size=60),
            st.sampled_from(["step", "step", "step", "fails", "lost"]),
        ),
        max_size=60,
    )
)
def test_a_merge_in_steps_changes_nothing_that_is_found(actions: list[dict[Key, int] | str]) -> None:
    """Batches come between its steps, steps are undone, batches are given up: a look-up gives what was added last, always."""
    with mock.patch.multiple(order_index, **SMALL):
        index, truth = opened(), {}
        for action in actions:
            index._sql.execute("BEGIN")
            if isinstance(action, dict):
                index.sweep()
                index.adopt(index.write_ahead(entries_of(action)))
                truth |= action
            elif action == "lost":
                index.write_ahead(entries_of({(7, 7): 7}))
            else:
                index.compact()
            index._sql.execute("ROLLBACK" if action == "fails" else "COMMIT")
            if action == "fails":
                index.forget_merge()
            assert_same(index, truth, set(truth) | {(hi, 301) for hi, _ in truth})
        while index.compact():
            pass
        sizes = [size for _, size in index._runs()]
        assert all(size > 2 * sum(sizes[:place]) for place, size in enumerate(sizes))
        assert_same(index, truth, set(truth))
        blocks = {run for (run,) in index._sql.execute("SELECT run FROM order_blocks")}
        assert blocks == {run for run, _ in index._runs()}


def test_no_step_and_no_batch_has_much_to_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the runs are by now: what a batch merges has a bound, and what a step writes or removes."""
    monkeypatch.setattr(order_index, "_BLOCK", 3)
    monkeypatch.setattr(order_index, "_STEP_BLOCKS", 20)
    monkeypatch.setattr(order_index, "_INLINE_ENTRIES", 400)
    index = opened()
    spread = np.random.default_rng(3).integers(0, 2**64 - 1, 8000, np.uint64).tolist()
    written = mock.Mock(wraps=index._write_blocks)
    monkeypatch.setattr(index, "_write_blocks", written)
    for start in range(0, 8000, 25):
        index.adopt(index.write_ahead(entries_of({(hi, 0): start + 1 for hi in spread[start : start + 25]})))
    assert max(len(call.args[1]) for call in written.call_args_list) <= 400
    changes = [index._sql.total_changes]
    while index.compact():
        changes.append(index._sql.total_changes)
    assert len(index) == 8000 and len(index._runs()) == 1
    assert max(after - before for before, after in pairwise(changes)) < 5 * 20  # the last step removes the runs, too


def test_a_ledger_takes_batches_while_a_merge_is_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are written ahead by another connection, which leaves alone what belongs to the merge; and a step that fails, as on
    a full disk, begins the merge anew."""
    for name, value in SMALL.items():
        monkeypatch.setattr(order_index, name, value)
    truth: dict[Key, int] = {}
    with closing(Ledger(tmp_path / "ledger.sqlite")) as ledger:

        def add(number: int, size: int) -> None:
            batch = {(2**40 * i + number, number): number + 1 for i in range(size)} | {(5, 5): number + 1}
            run = ledger.write_ahead(entries_of(batch))
            ledger.commit(Commit(number, [], run, [], [], [], {}, None, [], 0))
            truth.update(batch)

        for number in range(10):
            add(number, 29)
        while ledger.index.merge is None:
            assert ledger.compact()
        merge = ledger.index.merge
        for number in range(10, 13):
            add(number, 5)
            while ledger.index.sweep():
                pass
            assert ledger.compact() and ledger.index.merge is merge
        with monkeypatch.context() as failing:
            failing.setattr(ledger.index, "_write_blocks", mock.Mock(side_effect=OperationalError("disk is full")))
            with pytest.raises(OperationalError):
                ledger.compact()
        assert ledger.index.merge is None
        while ledger.compact():
            pass
        assert len(ledger.index._runs()) == 1
        assert_same(ledger.index, truth, set(truth))
