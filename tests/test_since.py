"""`--since`: a narrow run and wider ones after it come to what one run over everything comes to."""

from __future__ import annotations

import json
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.engine import Engine
from daemon.batch.pipeline import catch_up, publish_committed
from daemon.core.entries import Counts
from daemon.core.model import LAST_INSTANT, DropOutcome, ParseContext
from daemon.operate.rebuild import history_from_receipts, prepare_rebuild, take_over
from daemon.operate.verify import copy_ledger, verify
from daemon.storage.ledger import Ledger
from daemon.storage.raw import date_of
from daemon.storage.receipts import instant_text
from tests.strategies import RECEIVED_AT_US, batches
from tests.support.examples import examples
from tests.support.harness import apply_batch, open_engine, tree

SLOW = examples(50)
DAY_US = 86_400_000_000
Batches = list[list[bytes]]


def named(many: Batches) -> list[list[tuple[str, bytes]]]:
    names = iter(range(10_000))
    return [[(f"drop-{next(names)}.json", data) for data in batch] for batch in many]


def conserved(counts: Counts) -> bool:
    kept = counts.superseded + counts.unchanged + counts.new + counts.corrected
    return counts.extracted == counts.discarded.total() + counts.before_since + kept


@SLOW
@given(batches(), st.lists(st.integers(0, 20), min_size=1, max_size=3))
def test_a_wider_since_catches_up_to_the_same_bytes(many: Batches, days_back: list[int]) -> None:
    """Whatever the steps by which `--since` widens, the curated layer, the index and the high-water mark end as if there had
    been none; each receipt adds up on the way; nothing before `since` is published before it is asked for."""
    steps = [RECEIVED_AT_US - days * DAY_US for days in sorted(days_back)]
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        with open_engine(Path(one)) as engine:
            for batch in named(many):
                apply_batch(engine, Path(one), batch, RECEIVED_AT_US)
            hwm, totals = engine.ledger.hwm, engine.ledger.totals()
        with open_engine(Path(other)) as engine:
            for batch in named(many):
                apply_batch(engine, Path(other), batch, RECEIVED_AT_US, since=steps[0])
            narrowest = steps[0]
            for since in [*steps[1:], 0]:
                assert all((day + 1) * DAY_US > narrowest for day in engine.ledger.partitions())
                found = engine.ledger.read_since(since)
                if found:
                    outcome = catch_up(engine, found, since, RECEIVED_AT_US)
                    assert all(result.outcome is DropOutcome.APPLIED for result in outcome.results)
                narrowest = since
                assert all(conserved(result.counts) for result in engine.ledger.last_results(100))
            again = engine.ledger.totals()
            assert engine.ledger.hwm == hwm
            assert again["orders.before_since"] == 0
            for name in ("orders.extracted", "drops.applied", "drops.quarantined"):
                assert again[name] == totals[name]
            for prefix in ("orders.discarded.", "orders.faults."):
                assert {k: v for k, v in again.items() if k.startswith(prefix)} == {
                    k: v for k, v in totals.items() if k.startswith(prefix)
                }
        assert tree(Path(one) / "output" / "curated") == tree(Path(other) / "output" / "curated")
        assert tree(Path(one) / "output" / "discarded") == tree(Path(other) / "output" / "discarded")


def said(order_id: str, date: str, amount: int, hour: int = 12) -> dict[str, object]:
    return {"order_id": order_id, "created_at": date, "updated_at": f"2026-11-18T{hour}:00:00Z", "amount": amount}


THIS, OTHER = said("a", "2026-11-10", 1), said("a", "2026-11-10", 2)
RARE = [said("a", "2026-11-18", 1), said("a", "2026-11-10", 1, hour=13), said("b", "2026-11-10", 1)]


@st.composite
def ties(draw: st.DrawFn) -> list[tuple[list[bytes], int | None]]:
    """Batches of drops, each read under a `since` that passes most over, or under none. They say one of two things of an order,
    at one instant; now and then something else. Who said what, and how often, is all that decides."""
    records = st.lists(st.sampled_from([THIS] * 3 + [OTHER] * 3 + RARE), min_size=1, max_size=2)
    spaces = iter(range(1, 1000))  # no two drops are the same bytes
    return [
        (
            [
                json.dumps(drop).encode() + b" " * next(spaces)
                for drop in draw(st.lists(records, min_size=1, max_size=2))
            ],
            draw(st.sampled_from([None, None, RECEIVED_AT_US - 5 * DAY_US])),
        )
        for _ in range(draw(st.integers(2, 6)))
    ]


def looked_at(engine: Engine, root: Path) -> list[str]:
    """What `verify` finds."""
    with tempfile.TemporaryDirectory() as scratch:
        copy_ledger(engine.ledger, Path(scratch) / "copy.sqlite")
        with closing(Ledger(Path(scratch) / "copy.sqlite")) as copy:
            ledger = engine.ledger.path
            return [
                str(one)
                for one in verify(
                    replace(engine, ledger=copy), lambda: Ledger(ledger), Path(scratch) / "again", RECEIVED_AT_US
                )
            ]


@SLOW
@given(ties(), st.sets(st.integers(0, 5), max_size=1))
def test_the_index_is_right_whatever_was_read_again_under_a_since(
    batches: list[tuple[list[bytes], int | None]], catching_up: set[int]
) -> None:
    """Whatever is said again, and whichever drops are read once more at some time: in the end it is as if each had been read
    whole when it came; `verify` finds nothing on the way, and a rebuild gives the same."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        with open_engine(Path(one)) as engine:
            for number, (drops, _) in enumerate(batches):
                named = [(f"{number}-{i}.json", data) for i, data in enumerate(drops)]
                apply_batch(engine, Path(one), named, RECEIVED_AT_US)
            expected = tree(Path(one) / "output" / "curated")
        with open_engine(Path(other)) as engine:
            for number, (drops, since) in enumerate(batches):
                named = [(f"{number}-{i}.json", data) for i, data in enumerate(drops)]
                apply_batch(engine, Path(other), named, RECEIVED_AT_US, since=since)
                if number in catching_up and (found := engine.ledger.read_since(0)):
                    catch_up(engine, found, 0, RECEIVED_AT_US)
            assert looked_at(engine, Path(other)) == []
            if found := engine.ledger.read_since(0):
                catch_up(engine, found, 0, RECEIVED_AT_US)
            assert tree(Path(other) / "output" / "curated") == expected
            assert looked_at(engine, Path(other)) == []
            take_over(engine, prepare_rebuild(engine, RECEIVED_AT_US, {"default": ParseContext(0, DAY_US)}))
        with open_engine(Path(other)) as engine:
            publish_committed(engine, recovering=True)
            assert tree(Path(other) / "output" / "curated") == expected
            assert looked_at(engine, Path(other)) == []


def test_a_resend_under_a_wider_since_is_no_duplicate(tmp_path: Path) -> None:
    """The same bytes again bring what was left out the first time; after that they are a duplicate."""
    data = b'[{"order_id":"a","created_at":"2026-11-10"},{"order_id":"b","created_at":"2026-11-18"}]'
    with open_engine(tmp_path) as engine:
        narrow = apply_batch(engine, tmp_path, [("a.json", data)], RECEIVED_AT_US, since=RECEIVED_AT_US - 5 * DAY_US)
        wide = apply_batch(engine, tmp_path, [("a.json", data)], RECEIVED_AT_US)
        third = apply_batch(engine, tmp_path, [("a.json", data)], RECEIVED_AT_US)
    assert (narrow.results[0].counts.new, narrow.results[0].counts.before_since) == (1, 1)
    assert (wide.results[0].counts.new, wide.results[0].counts.unchanged) == (1, 1)
    assert third.results[0].outcome is DropOutcome.DUPLICATE


@pytest.mark.parametrize("since", [LAST_INSTANT, LAST_INSTANT + 1, 2**62])
def test_whatever_instant_was_committed_is_published(tmp_path: Path, since: int) -> None:
    """Also one after the calendar, as an earlier version took it: all that follows the commit still happens, the next batch
    too, and the receipt can be read as history."""
    with open_engine(tmp_path) as engine:
        outcome = apply_batch(
            engine, tmp_path, [("a.json", b'{"order_id":"a","created_at":"1970-01-01"}')], RECEIVED_AT_US, since=since
        )
        assert outcome.results[0].counts.before_since == 1 and engine.ledger.unpublished_batch() is None
        assert (
            apply_batch(engine, tmp_path, [("b.json", b"[]")], RECEIVED_AT_US).results[0].outcome is DropOutcome.APPLIED
        )
        first, second = history_from_receipts(tmp_path / "output")
    assert (first.drop.context.since, second.drop.context.since) == (LAST_INSTANT, None)


@pytest.mark.parametrize(
    ("instant", "text"),
    [(-(10**30), "0001-01-01T00:00:00Z"), (0, "1970-01-01T00:00:00Z"), (10**30, "9999-12-31T23:59:59.999999Z")],
)
def test_every_instant_has_a_text_and_a_date(instant: int, text: str) -> None:
    """A file's time of change may be any number; it stops at the ends of the calendar."""
    assert (instant_text(instant), date_of(instant)) == (text, text[:10])


def test_since_never_moves_the_high_water_mark_back(tmp_path: Path) -> None:
    """Catching up with old orders leaves the mark where it is, and counts them as late."""
    data = b'[{"order_id":"a","created_at":"2026-11-10"},{"order_id":"b","created_at":"2026-11-18"}]'
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", data)], RECEIVED_AT_US, since=RECEIVED_AT_US - 5 * DAY_US)
        before = engine.ledger.hwm
        outcome = catch_up(engine, engine.ledger.read_since(0), 0, RECEIVED_AT_US)
        assert engine.ledger.hwm == before and outcome.results[0].counts.late == 1
        assert engine.ledger.read_since(0) == []
