"""Drops that somebody looks for: filters find what a plain search over all receipts finds; each has its next step."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from daemon.core.model import MICROSECONDS_PER_DAY
from daemon.operate import found
from daemon.storage.look_ups import Wanted
from tests.support.command import order, receipts
from tests.support.harness import Engine, apply_batch, open_engine

FIRST = 20_600
NAMES = (
    "a.json",
    "B.json",
    "100%_a.json",
    "100xxa.json",
    "back\\slash.json",
    "ünder_score.json",
    "<b>.json",
    "quote'\".json",
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drop a day, every third of which is broken; then two duplicates."""
    root = tmp_path_factory.mktemp("found")
    with open_engine(root) as engine:
        for number, name in enumerate(NAMES):
            content = b"[{" if number % 3 == 2 else json.dumps([order(number), {"order_id": "x"}]).encode()
            apply_batch(engine, root, [(name, content)], (FIRST + number) * MICROSECONDS_PER_DAY)
        again = [("again.json", json.dumps([order(0), {"order_id": "x"}]).encode())]
        apply_batch(engine, root, again, (FIRST + 20) * MICROSECONDS_PER_DAY)
    return root


@pytest.fixture
def engine(home: Path) -> Any:
    with open_engine(home) as one:
        yield one


def numbers(engine: Engine, wanted: Wanted, below: int | None = None) -> list[int]:
    return [one["drop"] for one in found.drops(engine.ledger, engine.output, wanted, below)["drops"]]


@pytest.mark.parametrize(
    "name", ["", "a", "A", "100%_", "100_", "%", "_", "\\", "ünder", "<b>", "'\"", ".json", "nothing"]
)
def test_a_part_of_the_name_finds_what_has_it(home: Path, engine: Engine, name: str) -> None:
    """Signs that SQL has a meaning for stand for themselves; of letters of ASCII, the case does not matter."""
    expected = [one["drop"] for one in receipts(home).values() if name.lower() in one["name"].lower()]
    assert numbers(engine, Wanted(name=name)) == sorted(expected, reverse=True)


def test_filters_add_up(home: Path, engine: Engine) -> None:
    """Outcome, source and days of arrival, both of which are included."""
    every = receipts(home).values()
    for outcome in ("applied", "duplicate", "quarantined", "withdrawn"):
        expected = sorted((one["drop"] for one in every if one["outcome"] == outcome), reverse=True)
        assert numbers(engine, Wanted(outcome=outcome)) == expected
    assert numbers(engine, Wanted(source="nowhere")) == [] and len(numbers(engine, Wanted(source="default"))) == len(
        every
    )
    assert numbers(engine, Wanted(first=FIRST + 2, last=FIRST + 4)) == [5, 4, 3]
    assert numbers(engine, Wanted(first=FIRST + 2, last=FIRST + 4, outcome="quarantined")) == [3]
    assert numbers(engine, Wanted(), below=3) == [2, 1]


def test_a_list_has_a_limit_and_goes_on_where_it_ends(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Page by page, each drop is there once."""
    monkeypatch.setattr(found, "_SHOWN", 2)
    seen: list[int] = []
    below = None
    while True:
        page = found.drops(engine.ledger, engine.output, Wanted(), below)
        seen += [one["drop"] for one in page["drops"]]
        if (below := page["older_before"]) is None:
            break
    assert seen == sorted(seen, reverse=True) and len(seen) == len(NAMES) + 1 and all(a > b for a, b in pairwise(seen))
    first = found.quarantine(engine.ledger, engine.output, Wanted(), None)
    assert (
        [one["drop"] for one in first["drops"]] == [6, 3]
        and first["older_before"] is None
        and first["in_quarantine"] == 2
    )
    monkeypatch.setattr(found, "_SHOWN", 1)
    first = found.quarantine(engine.ledger, engine.output, Wanted(), None)
    assert first["older_before"] == 6
    assert [one["drop"] for one in found.quarantine(engine.ledger, engine.output, Wanted(), 6)["drops"]] == [3]


def test_a_receipt_is_the_receipt_with_what_may_be_done(home: Path, engine: Engine) -> None:
    """All keys of the file are there, as they are."""
    for one in receipts(home).values():
        shown = found.receipt(engine.ledger, engine.output, one["drop"])
        assert shown is not None and {key: shown[key] for key in one} == one
    assert found.receipt(engine.ledger, engine.output, 99) is None


def test_the_next_step_is_that_of_its_state(engine: Engine) -> None:
    """One in quarantine is retried or discarded by its number, whatever its name; when it has left, there is nothing to do."""

    def commands(number: int) -> list[str]:
        shown = found.receipt(engine.ledger, engine.output, number)
        assert shown is not None
        return [one["command"] for one in shown["next_steps"]]

    assert commands(1) == ["strandline undo 1"] and commands(9) == []
    assert commands(3) == ["strandline retry 3", "strandline discard 3"]
    (file,) = [one for one in (engine.output / "quarantine").glob("*3_*") if not one.name.endswith(".reason.json")]
    aside = file.rename(engine.output / "aside")
    assert commands(3) == []
    aside.rename(file)


def test_what_is_in_quarantine_is_found_by_a_part_of_its_name(engine: Engine) -> None:
    """With its reason. A reason file that somebody changed breaks nothing."""
    (row,) = found.quarantine(engine.ledger, engine.output, Wanted(name="100%"), None)["drops"]
    assert row["name"] == "100%25_a.json" and "JSON" in row["reason"] and row["source"] == "default"
    (reason,) = (engine.output / "quarantine").glob("*3_*.reason.json")
    content = reason.read_bytes()
    reason.chmod(0o600)
    for wrong in (
        b"",
        b"[]",
        b'{"name": ["x"], "reason": {"a": 1}, "source": null}',
        b"\xff" * 10,
        b'{"reason": "' + b"y" * 5000 + b'"}',
    ):
        reason.write_bytes(wrong)
        (row,) = found.quarantine(engine.ledger, engine.output, Wanted(name="100%"), None)["drops"]
        assert row["drop"] == 3 and all(
            isinstance(row[key], str) and len(row[key]) <= 1000 for key in ("name", "reason")
        )
    reason.write_bytes(content)


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [(FIRST + 2, FIRST + 2, [3]), (FIRST + 3, FIRST + 5, [6]), (FIRST, FIRST + 9, [6, 3]), (FIRST + 3, FIRST + 4, [])],
)
def test_what_is_in_quarantine_is_found_by_its_day_of_arrival(
    engine: Engine, first: int, last: int, expected: list[int]
) -> None:
    """Both days are included. All that is there is counted, whatever is asked for; so is a part of the name."""
    shown = found.quarantine(engine.ledger, engine.output, Wanted(first=first, last=last), None)
    assert [one["drop"] for one in shown["drops"]] == expected and shown["in_quarantine"] == 2
    receipts_of = [found.receipt(engine.ledger, engine.output, number) for number in expected]
    assert [one["received_at"] for one in shown["drops"]] == [one["received_at"] for one in receipts_of if one]
    both = found.quarantine(engine.ledger, engine.output, Wanted("100", first=first, last=last), None)
    assert [one["drop"] for one in both["drops"]] == [number for number in expected if number == 3]


def test_a_file_in_quarantine_that_the_ledger_does_not_have_is_shown_without_a_day(engine: Engine) -> None:
    """As after a restore of an older backup: it has a next step, and is of no day that is asked for."""
    (file,) = [one for one in (engine.output / "quarantine").glob("*3_*") if not one.name.endswith(".reason.json")]
    unknown = file.with_name("0000000099_" + file.name.partition("_")[2])
    unknown.write_bytes(b"[{")
    try:
        shown = found.quarantine(engine.ledger, engine.output, Wanted(), None)["drops"]
        assert (shown[0]["drop"], shown[0]["received_at"]) == (99, None) and len(shown) == 3
        wanted = Wanted(first=FIRST, last=FIRST + 30)
        assert [one["drop"] for one in found.quarantine(engine.ledger, engine.output, wanted, None)["drops"]] == [6, 3]
    finally:
        unknown.unlink()
