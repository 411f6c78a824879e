"""Reading drops: however they are divided, and whatever one of them brings, each gets what it gets alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon import tasks
from daemon.core import documents
from daemon.core.errors import Corruption
from daemon.core.model import DropOutcome
from daemon.pipeline import BatchOutcome
from daemon.reading import Limits, Reader
from daemon.rebuild import partitions_from_raw
from daemon.workers import Inline
from tests.harness import DAY, apply_batch, dates, house, rows, tree
from tests.system.test_once import order

NOW = 1_780_000_000_000_000


def outcomes(outcome: BatchOutcome) -> dict[str, str]:
    return {result.drop.name: result.outcome.value for result in outcome.results}


@pytest.mark.parametrize("deep_at", [0, 57, 199])
def test_a_record_too_deep_makes_the_whole_array_unreadable_also_when_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deep_at: int
) -> None:
    """A drop is read or not read as a whole, however it is divided."""
    orders = [order(number) for number in range(200)]
    nested = "[" * 5000 + "]" * 5000
    texts = [json.dumps(one) for one in orders]
    texts[deep_at] = texts[deep_at][:-1] + f', "metadata": {nested}}}'
    data = f"[{', '.join(texts)}]".encode()
    answers = []
    for piece_bytes in (1 << 20, 2000):
        monkeypatch.setattr(tasks, "PIECE_BYTES", piece_bytes)
        root = tmp_path / str(piece_bytes)
        with house(root) as rooms:
            outcome = apply_batch(rooms, root, [("deep.json", data), ("good.json", b"[%s]" % texts[0].encode())], NOW)
        answers.append([(r.drop.name, r.outcome, r.reason) for r in outcome.results])
    assert answers[0] == answers[1]
    assert answers[0][0][1] is DropOutcome.QUARANTINED and "deep" in str(answers[0][0][2])


def test_a_wrong_cut_is_noticed_and_the_drop_is_read_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seams that lie inside records: lists of objects that open like the array's own."""
    orders = [order(number, metadata={"parts": [{"order_id": "x", "n": 1}] * 40}) for number in range(50)]
    data = json.dumps(orders).encode()
    wrong = 0

    def counted(*arguments: object, **options: object) -> object:
        nonlocal wrong
        answer = read(*arguments, **options)  # type: ignore[arg-type]
        wrong += answer is None
        return answer

    read = tasks.read
    results = []
    for piece_bytes in (1 << 20, 1500):
        monkeypatch.setattr(tasks, "PIECE_BYTES", piece_bytes)
        monkeypatch.setattr(tasks, "read", counted)
        root = tmp_path / str(piece_bytes)
        with house(root) as rooms:
            apply_batch(rooms, root, [("a.json", data)], NOW)
        results.append(tree(root / "output" / "curated"))
    assert results[0] == results[1] and wrong > 0


PERSONAL = "erika.mustermann@example.com"


@pytest.mark.parametrize(
    "content",
    [
        json.dumps({PERSONAL: 1, "error": PERSONAL}),
        f'[{{"order_id": "{PERSONAL}"',
        f'{{"order_id": "{PERSONAL}"}} trailing',
        f"<html>{PERSONAL}</html>",
        f'"{PERSONAL}"',
        f'{{"data": {{"{PERSONAL}": [1]}}}}',
        f"{PERSONAL},{PERSONAL}",
    ],
)
def test_no_reason_holds_anything_of_a_record(tmp_path: Path, content: str) -> None:
    """Reasons are kept in logs and receipts, where personal data has no place."""
    with house(tmp_path) as rooms:
        (result,) = apply_batch(rooms, tmp_path, [("a.json", content.encode())], NOW).results
    assert result.outcome is DropOutcome.QUARANTINED
    assert result.reason and "mustermann" not in result.reason.lower()


def test_an_error_that_nobody_foresaw_costs_its_drop_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours in the parse room quarantines the drop that brought it about; the rest of its batch is applied."""
    split = documents.split

    def broken(data: bytes, *rest: object) -> object:
        if b"poison" in data:
            raise ZeroDivisionError("a mistake of ours")
        return split(data, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr("daemon.core.parse.split", broken)
    drops = [(f"{number}.json", json.dumps([order(number)]).encode()) for number in range(5)]
    drops.insert(2, ("poison.json", json.dumps([order(9, note="poison")]).encode()))
    with house(tmp_path) as rooms:
        outcome = apply_batch(rooms, tmp_path, drops, NOW)
    assert outcomes(outcome) == {name: "quarantined" if "poison" in name else "applied" for name, _ in drops}
    reason = next(result.reason for result in outcome.results if result.reason)
    assert "ZeroDivisionError" in reason and "a mistake" not in reason
    assert len(rows(tmp_path / "output", "2026-03-02")) == 5


@pytest.mark.parametrize(
    ("one", "other"), [("a.txt", "b.json"), ("b.json", "b.json.gz"), ("users.csv", "products.csv")]
)
def test_equal_bytes_that_are_read_differently_are_no_duplicates(tmp_path: Path, one: str, other: str) -> None:
    """In one batch and one after the other: what cannot be read under one name may be fine under another."""
    data = b"sku,user_id\np_1,u_1\n" if "csv" in one else json.dumps([order(1)]).encode()
    for root, batches in ((tmp_path / "together", [[one, other]]), (tmp_path / "apart", [[other], [one]])):
        with house(root) as rooms:
            found = [outcomes(apply_batch(rooms, root, [(name, data) for name in batch], NOW)) for batch in batches]
        assert "duplicate" not in {outcome for batch in found for outcome in batch.values()}


def test_limits_that_were_lowered_do_not_judge_again(tmp_path: Path) -> None:
    """What was applied once is made anew from raw, whatever the settings say today."""
    with house(tmp_path) as rooms:
        apply_batch(rooms, tmp_path, [("a.json", json.dumps([order(n) for n in range(50)]).encode())], NOW)
        before = tree(tmp_path / "output" / "curated")
        fact = tmp_path / "output" / "curated" / "date=2026-03-02" / "fact_order.parquet"
        fact.unlink()
        strict = Reader(rooms.output, rooms.store.staging, Limits(10, 1), Inline())
        partitions_from_raw(rooms.ledger, strict, rooms.store, list(rooms.ledger.partitions()))
    assert tree(tmp_path / "output" / "curated") == before


def test_a_damaged_raw_copy_makes_nothing_anew(tmp_path: Path) -> None:
    """The error names the file and what to do; what is published stays as it is."""
    with house(tmp_path) as rooms:
        apply_batch(rooms, tmp_path, [("a.json", json.dumps([order(1)]).encode())], NOW)
        before = tree(tmp_path / "output" / "curated")
        (copy,) = (tmp_path / "output" / "raw").glob("received=*/*_a.json")
        copy.write_bytes(json.dumps([order(2)]).encode())
        with pytest.raises(Corruption, match=r"00000001_.*_a\.json is missing or is not what was archived.*backup"):
            partitions_from_raw(rooms.ledger, rooms.reader, rooms.store, list(rooms.ledger.partitions()))
    assert tree(tmp_path / "output" / "curated") == before


def test_orders_move_across_many_dates_in_one_batch(tmp_path: Path) -> None:
    """Every order of 40 dates goes to another one of them; each is there once, where its latest version says."""
    days = [f"2026-{3 + number // 28:02d}-{1 + number % 28:02d}" for number in range(40)]

    def all_orders(shift: int) -> bytes:
        orders = [
            order(
                number,
                created_at=f"{days[(number + shift) % 40]}T10:00:00Z",
                updated_at=f"2026-05-{10 + shift}T00:00:00Z",
            )
            for number in range(200)
        ]
        return json.dumps(orders).encode()

    with house(tmp_path) as rooms:
        apply_batch(rooms, tmp_path, [("a.json", all_orders(0))], NOW)
        apply_batch(rooms, tmp_path, [("b.json", all_orders(13))], NOW)
    found = {row["order_id"]: date for date in dates(tmp_path / "output") for row in rows(tmp_path / "output", date)}
    assert found == {f"o_{number}": days[(number + 13) % 40] for number in range(200)}
    assert sum(len(rows(tmp_path / "output", date)) for date in days) == 200
    assert NOW > DAY
