"""Drift across crashes and rebuilds: keys that come and vanish are part of the commit."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from daemon.batch.outcome import BatchOutcome
from daemon.batch.pipeline import catch_up
from daemon.core.drift import KnownKey
from daemon.core.mapping import FieldMapping
from daemon.core.model import ParseContext
from daemon.observe.observer import Observer
from daemon.operate.rebuild import prepare_rebuild, take_over
from tests.support.command import order
from tests.support.crash import Crash, World, drop, run
from tests.support.harness import DAY, apply_batch, open_engine

NOW = 1_780_000_000_000_000


class Told(Observer):
    """Counts what is reported."""

    def __init__(self) -> None:
        self.keys: Counter[str] = Counter()

    def applied(self, outcome: BatchOutcome, latencies: Sequence[float]) -> None:
        for drift in outcome.drift:
            self.keys.update([*(f"+{key}" for key in drift.unread), *(f"-{key}" for key in drift.missing)])


def known(root: Path) -> list[KnownKey]:
    with open_engine(root) as engine:
        return engine.ledger.record_keys()


def deliver(root: Path) -> None:
    """Two batches' worth: a key that comes with the second drop, and a field that vanishes with it."""
    drop(root, "a.json", json.dumps([order(1, currency="EUR", shop="x")]).encode(), 3000)
    run(root)
    drop(root, "b.json", json.dumps([order(2, tax=5)]).encode(), 2000)
    drop(root, "broken.json", b"<html>", 1000)


EXPECTED = {"+tax": 1, "-currency": 1}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_crash_neither_loses_nor_repeats_drift(tmp_path: Path, after: bool) -> None:
    """At each change to a file or the ledger: it is in the ledger exactly if the drop is, and reported at most once."""
    deliver(tmp_path / "undisturbed")
    told = Told()
    run(tmp_path / "undisturbed", told)
    assert told.keys == EXPECTED
    expected = [(one.key, one.is_read, one.missing_since is None) for one in known(tmp_path / "undisturbed")]
    for last in range(1, 10_000):
        root = tmp_path / str(last)
        deliver(root)
        told, world = Told(), World(last, after=after)
        try:
            with world.running():
                run(root, told)
            crashed = False
        except Crash:
            crashed = True
        with open_engine(root) as engine:
            is_committed = engine.ledger.drop_count() > 1
            assert ("tax" in {one.key for one in engine.ledger.record_keys()}) == is_committed
        run(root, told)
        assert [(one.key, one.is_read, one.missing_since is None) for one in known(root)] == expected
        assert all(count == 1 for count in told.keys.values())
        if not crashed:
            assert told.keys == EXPECTED
            return
        shutil.rmtree(root)


MAPPED = FieldMapping(fields=(("amount", ("total",)),))


def applied(root: Path) -> None:
    """Drops one batch each, some under another mapping, with duplicates and a drop that is quarantined."""
    with open_engine(root) as engine:
        drops = [
            [order(1, shop="x", currency="EUR")], [order(2, tax=5, currency="EUR")], [order(1, shop="x", currency="EUR")],
            [{"id": 1}], [order(3, total=7)],
        ]  # fmt: skip
        for number, records in enumerate(drops):
            apply_batch(engine, root, [(f"{number}.json", json.dumps(records).encode())], NOW)
        for number, records in enumerate(
            ([order(4, total=7, user_id=1)], [order(5, total=7)], [order(6, user_id=2, total=3)])
        ):
            data = json.dumps(records).encode()
            apply_batch(engine, root, [(f"mapped{number}.json", data)], NOW, mapping=MAPPED)


@pytest.mark.parametrize("lost", [False, True], ids=["ledger", "receipts"])
def test_a_rebuild_finds_the_same_drift(tmp_path: Path, lost: bool) -> None:
    """From the old ledger or from the receipts, each drop under its own mapping."""
    applied(tmp_path)
    before = known(tmp_path)
    assert {one.key: one.first_drop for one in before if not one.is_read} == {"amount": 6, "shop": 1, "tax": 2}
    assert {one.key: (one.missing_since, one.told) for one in before if one.told} == {
        "currency": (5, True), "user_id": (None, True),
    }  # fmt: skip
    if lost:
        shutil.rmtree(tmp_path / "output" / "state")
    with open_engine(tmp_path) as engine:
        take_over(engine, prepare_rebuild(engine, time.time_ns() // 1000, {"default": ParseContext(0, DAY)}))
    run(tmp_path)
    assert known(tmp_path) == before


def test_a_drop_that_is_read_again_for_an_earlier_since_brings_nothing(tmp_path: Path) -> None:
    """What it has was seen when it was read first, and what came since then is not missing in it."""
    with open_engine(tmp_path) as engine:
        first = [order(1, 2, tax=1), order(2, 9, tax=1)]
        apply_batch(engine, tmp_path, [("a.json", json.dumps(first).encode())], NOW, since=1_772_668_800_000_000)
        apply_batch(engine, tmp_path, [("b.json", json.dumps([order(3, user_id="u")]).encode())], NOW)
        before = engine.ledger.record_keys()
        (result,) = engine.ledger.read_since(0)
        assert not catch_up(engine, [result], None, NOW).drift
        assert engine.ledger.record_keys() == before
