"""`--since`: a narrow run and wider ones after it come to what one run over everything comes to."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.core.entries import Counts
from daemon.core.model import LAST_INSTANT, DropOutcome
from daemon.pipeline import catch_up
from daemon.raw import date_of
from daemon.receipts import instant_text
from daemon.replay import history_from_receipts
from tests.harness import apply_batch, house, tree
from tests.strategies import RECEIVED_AT_US, batches

SLOW = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
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
        with house(Path(one)) as rooms:
            for batch in named(many):
                apply_batch(rooms, Path(one), batch, RECEIVED_AT_US)
            hwm, totals = rooms.ledger.hwm, rooms.ledger.totals()
        with house(Path(other)) as rooms:
            for batch in named(many):
                apply_batch(rooms, Path(other), batch, RECEIVED_AT_US, since=steps[0])
            narrowest = steps[0]
            for since in [*steps[1:], 0]:
                assert all((day + 1) * DAY_US > narrowest for day in rooms.ledger.partitions())
                found = rooms.ledger.read_since(since)
                if found:
                    outcome = catch_up(rooms, found, since, RECEIVED_AT_US)
                    assert all(result.outcome is DropOutcome.APPLIED for result in outcome.results)
                narrowest = since
                assert all(conserved(result.counts) for result in rooms.ledger.last_results(100))
            again = rooms.ledger.totals()
            assert rooms.ledger.hwm == hwm
            assert again["orders.before_since"] == 0
            for name in ("orders.extracted", "drops.applied", "drops.quarantined"):
                assert again[name] == totals[name]
            for prefix in ("orders.discarded.", "orders.faults."):
                assert {k: v for k, v in again.items() if k.startswith(prefix)} == {
                    k: v for k, v in totals.items() if k.startswith(prefix)
                }
        assert tree(Path(one) / "output" / "curated") == tree(Path(other) / "output" / "curated")
        assert tree(Path(one) / "output" / "discarded") == tree(Path(other) / "output" / "discarded")


def test_a_resend_under_a_wider_since_is_no_duplicate(tmp_path: Path) -> None:
    """The same bytes again bring what was left out the first time; after that they are a duplicate."""
    data = b'[{"order_id":"a","created_at":"2026-11-10"},{"order_id":"b","created_at":"2026-11-18"}]'
    with house(tmp_path) as rooms:
        narrow = apply_batch(rooms, tmp_path, [("a.json", data)], RECEIVED_AT_US, since=RECEIVED_AT_US - 5 * DAY_US)
        wide = apply_batch(rooms, tmp_path, [("a.json", data)], RECEIVED_AT_US)
        third = apply_batch(rooms, tmp_path, [("a.json", data)], RECEIVED_AT_US)
    assert (narrow.results[0].counts.new, narrow.results[0].counts.before_since) == (1, 1)
    assert (wide.results[0].counts.new, wide.results[0].counts.unchanged) == (1, 1)
    assert third.results[0].outcome is DropOutcome.DUPLICATE


@pytest.mark.parametrize("since", [LAST_INSTANT, LAST_INSTANT + 1, 2**62])
def test_whatever_instant_was_committed_is_published(tmp_path: Path, since: int) -> None:
    """Also one after the calendar, as an earlier version took it: all that follows the commit still happens, the next batch
    too, and the receipt can be read as history."""
    with house(tmp_path) as rooms:
        outcome = apply_batch(
            rooms, tmp_path, [("a.json", b'{"order_id":"a","created_at":0}')], RECEIVED_AT_US, since=since
        )
        assert outcome.results[0].counts.before_since == 1 and rooms.ledger.unpublished_batch() is None
        assert (
            apply_batch(rooms, tmp_path, [("b.json", b"[]")], RECEIVED_AT_US).results[0].outcome is DropOutcome.APPLIED
        )
        first, second = history_from_receipts(tmp_path / "output")
    assert (first.drop.judge.since, second.drop.judge.since) == (LAST_INSTANT, None)


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
    with house(tmp_path) as rooms:
        apply_batch(rooms, tmp_path, [("a.json", data)], RECEIVED_AT_US, since=RECEIVED_AT_US - 5 * DAY_US)
        before = rooms.ledger.hwm
        outcome = catch_up(rooms, rooms.ledger.read_since(0), 0, RECEIVED_AT_US)
        assert rooms.ledger.hwm == before and outcome.results[0].counts.late == 1
        assert rooms.ledger.read_since(0) == []
