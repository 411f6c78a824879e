"""Days as values: what is published equals DuckDB over the files, what arrived the sums of the receipts, restatements the log."""

from __future__ import annotations

import json
import random
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from daemon.core.model import MICROSECONDS_PER_DAY
from daemon.observe.pages.rendering import Renderer
from daemon.operate import by_day
from daemon.storage.look_ups import FIRST_DAY, LAST_DAY
from daemon.storage.set_aside import SetAside
from tests.support.command import order, receipts
from tests.support.harness import apply_batch, open_engine

FIRST = 20_600  # 2026-05-27: later than any order
EPOCH = date(1970, 1, 1)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drops of some days: new orders and corrections, discards, users, a duplicate, a quarantined one, and an order that moves
    away and leaves its date without any."""
    root = tmp_path_factory.mktemp("days")
    chosen = random.Random(27)
    with open_engine(root) as engine:
        for number in range(10):
            records: list[Any] = [
                order(chosen.randrange(60), chosen.randint(1, 9), amount=f"{chosen.randrange(10**6) / 100:.2f}",
                      updated_at=f"2026-04-{number + 1:02d}T00:00:00Z")
                for _ in range(20)
            ]  # fmt: skip
            records += [{"order_id": "o_x"}, {"order_id": None, "created_at": "2026-03-01"}][: number % 3]
            now = (FIRST + number // 2 * 3) * MICROSECONDS_PER_DAY + number * 1_000_000
            files = [
                (f"{number}.json", json.dumps(records).encode()),
                (f"users{number}.csv", f"user_id\nu_{number}\n,\n".encode()),
            ]
            if number == 4:
                files += [("again.json", files[0][1]), ("broken.json", b"[{"), ("users.csv", b"user_id\nu_1\n,x\n")]
            apply_batch(engine, root, files, now)
        last = (FIRST + 20) * MICROSECONDS_PER_DAY
        apply_batch(engine, root, [("far.json", json.dumps([order(99, 20)]).encode())], last)
        moved = order(99, 21, updated_at="2026-04-20T00:00:00Z")
        apply_batch(engine, root, [("moved.json", json.dumps([moved]).encode())], last + 1)
    return root


def overview(home: Path, first: int = FIRST_DAY, last: int = LAST_DAY) -> dict[str, Any]:
    with open_engine(home) as engine:
        return by_day.overview(engine.ledger, first, last, FIRST)


def published(home: Path) -> dict[str, tuple[int, int, Decimal]]:
    """Orders, lines and amount of each date, by DuckDB."""
    files = f"{home}/output/curated/*/fact_order.parquet"
    found = duckdb.sql(
        f"SELECT date::VARCHAR, count(DISTINCT order_id), count(*), sum(amount)::DECIMAL(38, 4) FROM '{files}' GROUP BY ALL"
    ).fetchall()
    return {day: (orders, lines, amount) for day, orders, lines, amount in found}


def test_what_is_published_equals_the_files(home: Path) -> None:
    """Of each date, and in all; a date that lost its last order says so."""
    expected, found = published(home), overview(home)
    shown = {one["date"]: one["published"] for one in found["days"] if one["published"]}
    assert {d: (one["orders"], one["lines"], Decimal(one["amount"])) for d, one in shown.items()} == expected
    total = found["total"]
    assert (total["dates"], total["orders"], Decimal(total["amount"])) == (
        len(expected), sum(one[0] for one in expected.values()), sum(one[2] for one in expected.values()),
    )  # fmt: skip
    (gone,) = [one for one in found["days"] if one["date"] == "2026-03-20"]
    assert gone["published"] is None and gone["restatements"] == 1


def test_what_arrived_equals_the_receipts(home: Path) -> None:
    """Drops by outcome, orders by what became of them, discards by reason: also those of users."""
    dropped: dict[str, Counter[str]] = {}
    orders: dict[str, Counter[str]] = {}
    discarded: dict[str, Counter[str]] = {}
    for one in receipts(home).values():
        day = one["received_at"][:10]
        dropped.setdefault(day, Counter())[one["outcome"]] += 1
        discarded.setdefault(day, Counter()).update(one["records"]["discarded"])
        if one["name"].endswith(".json"):
            orders.setdefault(day, Counter()).update({k: v for k, v in one["records"].items() if isinstance(v, int)})
    assert {outcome for one in dropped.values() for outcome in one} == {"applied", "duplicate", "quarantined"}
    found = {one["date"]: one["received"] for one in overview(home)["days"] if sum(one["received"]["drops"].values())}
    assert {day: +Counter(one["drops"]) for day, one in found.items()} == dropped
    assert {day: Counter(one["discarded"]) for day, one in found.items()} == discarded
    for day, one in found.items():
        assert {k: v for k, v in one["orders"].items() if k != "late"} == {
            name: orders[day][name] for name in one["orders"] if name != "late"
        }


def test_a_filter_narrows_it_and_today_is_always_there(home: Path) -> None:
    """Both ends are included. Today is shown, whatever is asked for."""
    first, last = (date(2026, 3, 3) - EPOCH).days, (date(2026, 3, 5) - EPOCH).days
    found = overview(home, first, last)
    expected = {day: value for day, value in published(home).items() if "2026-03-03" <= day <= "2026-03-05"}
    assert [one["date"] for one in found["days"]] == sorted(expected, reverse=True)
    assert Decimal(found["total"]["amount"]) == sum(one[2] for one in expected.values())
    assert found["today"]["date"] == (EPOCH + timedelta(FIRST)).isoformat()
    assert found["today"]["received"]["drops"]["applied"] == 4
    assert overview(home, LAST_DAY, LAST_DAY)["days"] == []


def test_a_day_has_its_restatements_and_its_drops(home: Path) -> None:
    """Each line of the log, the newest first, with the batch that it names."""
    log = [json.loads(line) for line in (home / "output" / "restatements.jsonl").read_text().splitlines()]
    with open_engine(home) as engine:
        for day in {line["date"] for line in log}:
            found = by_day.day(engine.ledger, home / "output", (date.fromisoformat(day) - EPOCH).days)
            expected = [line for line in reversed(log) if line["date"] == day]
            assert found["restatements"] == len(expected) and found["restatements_searched_from"] == 0
            assert [(one["batch"], one["drops"], one["amount_after"]) for one in found["restated"]] == [
                (line["cause"]["batch"], line["cause"]["drops"], line["amount_after"]) for line in expected
            ]
            assert all(one["committed_at"] for one in found["restated"]) and found["drops"] == []
        arrived = by_day.day(engine.ledger, home / "output", FIRST + 6)
    assert [one["name"] for one in arrived["drops"]][::-1] == [
        "4.json", "users4.csv", "again.json", "broken.json", "users.csv", "5.json", "users5.csv",
    ]  # fmt: skip


def test_lists_have_a_limit_and_say_what_they_leave_out(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest days come first; the rest begins where they end. Of the log, only its end is read."""
    every = [one["date"] for one in overview(home)["days"]]
    monkeypatch.setattr(by_day, "_SHOWN_DAYS", 4)
    seen: list[str] = []
    last = LAST_DAY
    while True:
        found = overview(home, FIRST_DAY, last)
        seen += [one["date"] for one in found["days"]]
        assert found["left_out"] == len(every) - len(seen)
        if found["older_to"] is None:
            break
        last = (date.fromisoformat(found["older_to"]) - EPOCH).days
    assert seen == every
    monkeypatch.setattr(by_day, "_SEARCHED_BYTES", 300)
    monkeypatch.setattr(by_day, "_SHOWN_DROPS", 2)
    with open_engine(home) as engine:
        moved = by_day.day(engine.ledger, home / "output", (date(2026, 3, 20) - EPOCH).days)
        assert len(moved["restated"]) == 1 and moved["restatements_searched_from"] > 0
        arrived = by_day.day(engine.ledger, home / "output", FIRST + 6)
    assert len(arrived["drops"]) == 2 and arrived["older_before"] == arrived["drops"][-1]["drop"]


def test_before_the_first_drop_there_is_nothing(tmp_path: Path) -> None:
    """The same keys, and no number."""
    with open_engine(tmp_path) as engine:
        found = by_day.overview(engine.ledger, FIRST_DAY, LAST_DAY, FIRST)
        assert found["days"] == [] and found["total"]["amount"] == "0.0000" and found["today"]["published"] is None
        assert by_day.day(engine.ledger, engine.output, FIRST)["restated"] == []


def test_a_date_that_is_set_aside_says_why(tmp_path: Path) -> None:
    """Alone, in the list and as today; the others have none."""
    with open_engine(tmp_path) as engine:
        apply_batch(
            engine, tmp_path, [("a.json", json.dumps([order(1), order(2, 3)]).encode())], FIRST * MICROSECONDS_PER_DAY
        )
        engine.ledger.set_one_aside(SetAside("2026-03-02", 0, "its copy is <gone>"))
        aside = (date(2026, 3, 2) - EPOCH).days
        days = by_day.overview(engine.ledger, FIRST_DAY, LAST_DAY, aside)
        one = by_day.day(engine.ledger, engine.output, aside)
        other = by_day.day(engine.ledger, engine.output, aside + 1)
    assert days["today"]["set_aside"] == one["set_aside"] == "its copy is <gone>" and other["set_aside"] is None
    reasons = {row["date"]: row["set_aside"] for row in days["days"]}
    assert reasons["2026-03-02"] == "its copy is <gone>" and reasons["2026-03-03"] is None
    values = {"query": {"date": "", "from": "", "to": ""}, "given": {}, "error": ""}
    page = Renderer("1").page("days", {"here": "/days", "found": days, **values}).content
    assert page.count(b"set aside</span>") == 2
    alone = b"Set aside:</strong>", b"its copy is &lt;gone&gt;"
    shown = Renderer("1").page("day", {"here": "/day", "found": one, **values}).content
    assert all(text in shown for text in alone)
    assert b"Set aside" not in Renderer("1").page("day", {"here": "/day", "found": other, **values}).content
