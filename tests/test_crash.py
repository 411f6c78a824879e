"""A run that ends after any of its changes to the disk: the next one finishes it, to the result of an undisturbed run."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from daemon.batch import repair
from daemon.core.model import ParseContext
from daemon.operate.rebuild import prepare_rebuild, take_over
from tests.support.command import order
from tests.support.crash import crash_at, drop, run
from tests.support.harness import DAY, apply_batch, open_engine, tree
from tests.support.ledgers import changing

Deliver = Callable[[Path], None]


def first(root: Path) -> None:
    drop(root, "a.json", json.dumps([order(1), order(2, 3), order(3, 4)]).encode(), 3000)
    drop(root, "users.csv", b"user_id,email\nu_1,a@example.com\n", 2900)


def second(root: Path) -> None:
    """Every kind of effect: new and corrected orders, a move that empties a date, discards, quarantine, a duplicate, a
    dimension, a restatement, the link."""
    moved = order(3, 5, updated_at="2026-03-06T00:00:00Z")
    corrected = order(1, amount=7, updated_at="2026-03-06T00:00:00Z")
    drop(
        root,
        "b.ndjson",
        b"\n".join(json.dumps(o).encode() for o in (moved, corrected, order(4), {"order_id": 1})),
        2000,
    )
    drop(root, "a-again.json", json.dumps([order(1), order(2, 3), order(3, 4)]).encode(), 1900)
    drop(root, "broken.json", b"<html>", 1800)
    drop(root, "users-2.csv", b"user_id,email\nu_2,b@example.com\n,nobody@example.com\n", 1700)


def ledger_rows(root: Path) -> list[tuple[object, ...]]:
    """What became of each drop. Numbers are given anew to what was not archived when the run ended, so they are left out."""
    with closing(sqlite3.connect(root / "output" / "state" / "ledger.sqlite")) as sql:
        return sql.execute(
            "SELECT name, sha256, outcome, reason, counts, (SELECT name FROM drops AS first WHERE first.seq = one.duplicate_of) "
            "FROM drops AS one ORDER BY name"
        ).fetchall()


def published(root: Path) -> dict[str, object]:
    """Everything that a user sees, without numbers of drops and times of receipt."""
    output = root / "output"
    found: dict[str, object] = {"curated": tree(output / "curated")}
    for layer in ("raw", "quarantine"):
        found[layer] = sorted(
            (path.rpartition("/")[2].partition("_")[2], "" if path.endswith(".reason.json") else digest)
            for path, digest in tree(output / layer).items()
        )
    found["link"] = (output / "raw" / "orders_raw.json").read_bytes()
    found["receipts"] = sorted(path.name.partition("_")[2] for path in (output / "receipts").rglob("*.json"))
    for name, hidden in (("discarded", "drop"), ("restatements.jsonl", "cause")):
        files = sorted((output / name).rglob("*.jsonl")) if (output / name).is_dir() else [output / name]
        lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
        found[name] = sorted(json.dumps({key: value for key, value in line.items() if key != hidden}) for line in lines)
    return found


def world(root: Path) -> Path:
    first(root)
    run(root)
    second(root)
    return root


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whenever_a_run_ends_the_next_finishes_it(tmp_path: Path, after: bool) -> None:
    """At each change to a file or the ledger: every drop is taken once, and everything is as if nothing had happened."""
    undisturbed = world(tmp_path / "undisturbed")
    run(undisturbed)
    expected, rows = published(undisturbed), ledger_rows(undisturbed)
    assert [row[2] for row in rows] == ["duplicate", "applied", "applied", "quarantined", "applied", "applied"]
    for last in range(1, 1000):
        root = world(tmp_path / str(last))
        if not crash_at(root, last, after=after):
            break
        run(root)
        assert published(root) == expected, last
        assert ledger_rows(root) == rows, last
        assert list((root / "inbox").iterdir()) == [], last
        assert not [path for path in (root / "output" / ".staging").rglob("*") if path.is_file()], last
    assert last > 60, "the run must have had many steps"


def test_the_run_that_finishes_may_end_early_too(tmp_path: Path) -> None:
    """Recovery ends at each of its own steps, twice in a row, after a run that ended at some of the first one's."""
    undisturbed = world(tmp_path / "undisturbed")
    run(undisturbed)
    expected, rows = published(undisturbed), ledger_rows(undisturbed)
    for first_end in (9, 17, 25, 33, 41, 49, 57):
        for last in range(3, 60, 7):
            root = world(tmp_path / f"{first_end}-{last}")
            assert crash_at(root, first_end, after=True)
            crash_at(root, last, after=last % 2 == 0)
            crash_at(root, last + 2, after=last % 2 == 1)
            run(root)
            assert published(root) == expected, (first_end, last)
            assert ledger_rows(root) == rows, (first_end, last)
            assert list((root / "inbox").iterdir()) == []


def lost_ledger(root: Path, damage: Callable[[Path], object]) -> dict[str, str]:
    """Drops of five days, one order each; then the ledger is lost, and the receipt of the oldest is damaged. What was
    published before."""
    with open_engine(root) as engine:
        for day in range(1, 6):
            received_at = (20_520 + day) * DAY
            apply_batch(engine, root, [(f"{day}.json", json.dumps([order(day, day)]).encode())], received_at)
    (receipt,) = (root / "output" / "receipts").rglob("*_1.json.json")
    damage(receipt)
    shutil.rmtree(root / "output" / "state")
    return tree(root / "output" / "curated")


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"")], ids=["gone", "empty"])
def test_a_drop_whose_receipt_is_lost_with_the_ledger_is_applied_wherever_its_copy_lies(
    tmp_path: Path, damage: Callable[[Path], object]
) -> None:
    """Not only where a crash leaves unknown copies, at the newest end. The rebuild may end as soon as its ledger is the true
    one: any next start finishes it."""
    before = lost_ledger(tmp_path, damage)
    link = tmp_path / "output" / "raw" / "orders_raw.json"
    newest = link.readlink()
    with open_engine(tmp_path) as engine:
        take_over(engine, prepare_rebuild(engine, 20_600 * DAY, {"default": ParseContext(0, DAY)}))
    run(tmp_path)
    assert tree(tmp_path / "output" / "curated") == before
    assert len(list((tmp_path / "output" / "receipts").rglob("*.json"))) == 5, "a receipt lies where the lost one lay"
    assert link.readlink() == newest, "a drop that is applied late is not the newest"
    with open_engine(tmp_path) as engine:
        assert [drop.name for drop in engine.ledger.applied_drops()] == [f"{day}.json" for day in range(1, 6)]


@pytest.mark.parametrize("copied", ["00000001_1.json (copy).json", "00000009_9.json.json", "../00000001_1.json.json"])
def test_a_copy_of_a_receipt_is_no_history(tmp_path: Path, copied: str) -> None:
    """Under another name or in another folder; and it does not keep a rebuild from being made."""
    before = lost_ledger(tmp_path, lambda receipt: shutil.copy(receipt, beside(receipt, copied)))
    with open_engine(tmp_path) as engine:
        take_over(engine, prepare_rebuild(engine, 20_600 * DAY, {"default": ParseContext(0, DAY)}))
    run(tmp_path)
    with open_engine(tmp_path) as engine:
        assert [drop.name for drop in engine.ledger.applied_drops()] == [f"{day}.json" for day in range(1, 6)]
    assert tree(tmp_path / "output" / "curated") == before


def beside(receipt: Path, copied: str) -> Path:
    """Where a copy of a receipt goes: into its folder, or into the next one."""
    folder = sorted(receipt.parent.parent.iterdir())[1] if copied.startswith("..") else receipt.parent
    return folder / Path(copied).name


def never_know(root: Path, drop: int) -> None:
    """Changes the ledger to one that never had this applied drop."""
    with closing(changing(root / "output" / "state" / "ledger.sqlite")) as sql:
        sql.execute("DELETE FROM drops WHERE seq = ?", (drop,))
        sql.execute("UPDATE totals SET value = value - 1 WHERE name = 'drops.applied'")
        sql.commit()


def test_a_rebuild_takes_in_copies_that_a_restored_ledger_does_not_know(tmp_path: Path) -> None:
    """The ledger is there, and older than what lies in raw, with days between of which it knows all."""
    with open_engine(tmp_path) as engine:
        for day in range(1, 6):
            apply_batch(
                engine, tmp_path, [(f"{day}.json", json.dumps([order(day, day)]).encode())], (20_520 + day) * DAY
            )
        before = tree(tmp_path / "output" / "curated")
    never_know(tmp_path, 2)
    run(tmp_path)
    with open_engine(tmp_path) as engine:
        assert [drop.seq for drop in engine.ledger.applied_drops()] == [1, 3, 4, 5]
        take_over(engine, prepare_rebuild(engine, 20_600 * DAY, {"default": ParseContext(0, DAY)}))
    run(tmp_path)
    with open_engine(tmp_path) as engine:
        assert [drop.seq for drop in engine.ledger.applied_drops()] == [1, 2, 3, 4, 5]
    assert tree(tmp_path / "output" / "curated") == before


def told_three_times(root: Path) -> None:
    """One order, at one instant: what the first drop says, another amount, and the first again. Each drop is a batch."""
    with open_engine(root) as engine:
        for number, amount in enumerate((1, 2, 1), 1):
            said = json.dumps([order(1, amount=amount)]).encode() + b" " * number
            apply_batch(engine, root, [(f"{number}.json", said)], 20_521 * DAY)


def test_a_copy_that_a_rebuild_takes_in_may_say_what_came_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rebuild knows the first and the third drop, which say the same, and reads one after the other. The index has to name
    the third of them, or the second, which is taken in after, would win."""
    monkeypatch.setattr(repair, "_READ_BYTES", 1)
    told_three_times(tmp_path)
    before = tree(tmp_path / "output" / "curated")
    (receipt,) = (tmp_path / "output" / "receipts").rglob("*_2.json.json")
    receipt.unlink()
    shutil.rmtree(tmp_path / "output" / "state")
    with open_engine(tmp_path) as engine:
        take_over(engine, prepare_rebuild(engine, 20_600 * DAY, {"default": ParseContext(0, DAY)}))
    run(tmp_path)
    assert tree(tmp_path / "output" / "curated") == before
    receipts = sorted((tmp_path / "output" / "receipts").rglob("*.json"))
    assert [json.loads(one.read_bytes())["records"]["superseded"] for one in receipts] == [0, 1, 0]


def test_only_a_rebuild_takes_in_a_copy_that_is_older_than_what_was_applied(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Any start finds it, and says where it lies and what to do."""
    told_three_times(tmp_path)
    before = tree(tmp_path / "output" / "curated")
    never_know(tmp_path, 2)
    for _ in range(2):
        caplog.clear()
        run(tmp_path)
        (told,) = [record for record in caplog.records if "rebuild" in record.message]
        assert told.levelname == "ERROR" and "/00000002_" in vars(told)["path"]
    with open_engine(tmp_path) as engine:
        assert [drop.seq for drop in engine.ledger.applied_drops()] == [1, 3]
        take_over(engine, prepare_rebuild(engine, 20_600 * DAY, {"default": ParseContext(0, DAY)}))
    run(tmp_path)
    with open_engine(tmp_path) as engine:
        assert [drop.seq for drop in engine.ledger.applied_drops()] == [1, 2, 3]
    assert tree(tmp_path / "output" / "curated") == before


def test_a_copy_whose_number_was_only_skipped_is_adopted_once_it_is_whole(tmp_path: Path) -> None:
    """A restored ledger does not know the second drop, whose copy is damaged at first: nothing newer was applied meanwhile."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("1.json", json.dumps([order(1)]).encode())], 20_521 * DAY)
    old = tmp_path / "old.sqlite"
    shutil.copy(tmp_path / "output" / "state" / "ledger.sqlite", old)
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("2.json", json.dumps([order(2)]).encode())], 20_521 * DAY)
    expected = tree(tmp_path / "output" / "curated")
    shutil.copy(old, tmp_path / "output" / "state" / "ledger.sqlite")
    (copy,) = (tmp_path / "output" / "raw").rglob("00000002_*")
    whole = copy.read_bytes()
    copy.write_bytes(whole[:-1])
    run(tmp_path)
    copy.write_bytes(whole)
    run(tmp_path)
    assert tree(tmp_path / "output" / "curated") == expected
    with open_engine(tmp_path) as engine:
        assert [drop.seq for drop in engine.ledger.applied_drops()] == [1, 2]


def test_two_raw_copies_of_one_unknown_number_do_not_keep_a_run_from_starting(tmp_path: Path) -> None:
    """One is taken; the other, somebody's copy of it, stays where it is."""
    first(tmp_path)
    run(tmp_path)
    before = tree(tmp_path / "output" / "curated")
    for path in [path for path in (tmp_path / "output" / "raw").rglob("0*_*") if path.is_file()]:
        shutil.copy(path, path.with_name(f"{path.name} (copy).json"))
    for folder in ("state", "receipts", "curated"):
        shutil.rmtree(tmp_path / "output" / folder)
    run(tmp_path)
    with open_engine(tmp_path) as engine:
        assert [drop.name for drop in engine.ledger.applied_drops()] == ["a.json", "users.csv"]
    assert tree(tmp_path / "output" / "curated") == before


def test_a_new_drop_of_the_same_name_that_came_meanwhile_is_another_drop(tmp_path: Path) -> None:
    """Between the end and the next start somebody drops other content under a name that was under way."""
    for last in range(1, 40, 3):
        root = tmp_path / str(last)
        first(root)
        crash_at(root, last, after=True)
        late = json.dumps([order(100)]).encode()
        there = (root / "inbox" / "a.json").exists()
        drop(root, "b.json" if there else "a.json", late)
        run(root)
        run(root)
        found = [row for row in ledger_rows(root) if row[2] == "applied"]
        assert len(found) == 3, last
        assert list((root / "inbox").iterdir()) == []
