"""Raw copies of numbers that were given twice: an older backup of the output was restored and gone on with, and then the raw
copies that are newer than the backup were put back. None is lost, and none is removed that is kept nowhere else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from daemon.core.model import ParseContext
from daemon.operate.rebuild import prepare_rebuild, take_over
from daemon.storage import files
from daemon.storage.adoption import kept_as
from tests.model import Drop, Model
from tests.support.command import differences, order, strandline
from tests.support.crash import Crash, World, drop, run
from tests.support.harness import DAY, dates, open_engine, rows, tree

RECEIVED = 20_600 * DAY


def orders_of(name: str) -> bytes:
    """The content of a drop. `shared` is in all of them, at one instant, so that the order of the drops decides."""
    number = sum(name.encode())
    shared = order(1, amount=number, updated_at="2026-03-06T00:00:00Z")
    return json.dumps([order(number, 1 + number % 5), shared], indent=len(name)).encode()


def deliver(root: Path, *names: str) -> None:
    """Applies drops, each in a batch of its own."""
    for name in names:
        drop(root, f"{name}.json", orders_of(name))
        run(root)


def restored(root: Path, with_numbers_of: Sequence[str] = ("d", "e")) -> Path:
    """a and b are in the backup; c, cc and ccc came after it. The disk is lost, the backup restored, and `with_numbers_of` are
    taken, which get the numbers of c and cc. Then the raw copies of c, cc and ccc are put back from the lost disk."""
    deliver(root, "a", "b")
    shutil.copytree(root / "output", root / "backup", symlinks=True)
    deliver(root, "c", "cc", "ccc")
    (root / "output").rename(root / "lost")
    (root / "backup").rename(root / "output")
    deliver(root, *with_numbers_of)
    put_back(root)
    return root


def put_back(root: Path) -> None:
    for path in (root / "lost" / "raw").glob("received=*/*"):
        target = root / "output" / path.relative_to(root / "lost")
        target.parent.mkdir(exist_ok=True)
        shutil.copy2(path, target)


def rebuilt(root: Path) -> None:
    """As the command does it: what an earlier run left, the rebuild, and what it found."""
    run(root)
    with open_engine(root) as engine:
        take_over(engine, prepare_rebuild(engine, RECEIVED, ParseContext(0, DAY)))
    run(root)


def by_number(root: Path) -> list[str]:
    with open_engine(root) as engine:
        return [one.name.removesuffix(".json") for one in engine.ledger.applied_drops()]


def is_as_the_model_says(root: Path, names: Sequence[str]) -> None:
    """Drops in this order give these rows, exactly."""
    model = Model()
    for name in names:
        model.apply([Drop(f"{name}.json", orders_of(name), RECEIVED)])
    output = root / "output"
    assert dates(output) == model.dates()
    for date in dates(output):
        for table, wanted in (("fact_order", model.fact_rows(date)), ("order_items", model.item_rows(date))):
            found = [row | {"date": str(row["date"])} for row in rows(output, date, table)]
            assert found == [row | {"date": str(row["date"])} for row in wanted]


def test_a_rebuild_takes_in_both_copies_of_one_number(tmp_path: Path) -> None:
    """The one that the ledger knows keeps it, the other gets the next free number; the result is that of all drops, and verify
    finds nothing."""
    root = restored(tmp_path)
    told = {one["what"].rpartition("_")[2]: one["found"] for one in differences(root)}
    assert "`strandline rebuild` adopts it under a free number" in told["c.json"] and "(d.json)" in told["c.json"]
    assert "under a free number" in told["cc.json"]
    assert "`strandline rebuild` adopts it" in told["ccc.json"]
    ended = strandline(root, "rebuild")
    assert ended.returncode == 0, ended.stderr
    assert by_number(root) == ["a", "b", "d", "e", "ccc", "c", "cc"]
    is_as_the_model_says(root, by_number(root))
    assert differences(root) == []
    copies = sorted(path.name for path in (root / "output" / "raw").glob("received=*/*"))
    assert [int(name[:8]) for name in copies] == list(range(1, 8))
    assert {path.read_bytes() for path in (root / "output" / "raw").glob("received=*/*")} == {
        orders_of(name) for name in by_number(root)
    }


def test_a_start_takes_in_the_newer_one_and_says_of_the_others_who_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A start does not rename what is there."""
    root = restored(tmp_path)
    before = {path for path in tree(root / "output" / "raw") if path.startswith("received=")}
    run(root)
    assert by_number(root) == ["a", "b", "d", "e", "ccc"]
    told = [vars(record)["path"] for record in caplog.records if "only `strandline rebuild`" in record.message]
    assert [path.rpartition("_")[2] for path in told] == ["c.json", "cc.json"]
    assert before <= tree(root / "output" / "raw").keys()


def test_two_copies_of_one_number_that_nobody_knows_are_both_taken(tmp_path: Path) -> None:
    """Ledger and receipts are lost, too: any start adopts both."""
    root = restored(tmp_path)
    for folder in ("state", "receipts", "curated"):
        shutil.rmtree(root / "output" / folder)
    (root / "output" / "restatements.jsonl").unlink()
    run(root)
    assert sorted(by_number(root)) == sorted(["a", "b", "c", "cc", "ccc", "d", "e"])
    is_as_the_model_says(root, by_number(root))
    assert differences(root) == []


@pytest.mark.parametrize("lose", ["its own", "the other"])
def test_a_lost_ledger_with_receipts_of_both_histories(tmp_path: Path, lose: str) -> None:
    """Of two receipts with one number the history is the one whose copy is there."""
    root = restored(tmp_path)
    for path in (root / "lost" / "receipts").glob("received=*/*"):
        shutil.copy2(path, root / "output" / path.relative_to(root / "lost"))
    if lose == "the other":
        (copy,) = (root / "output" / "raw").glob("received=*/00000003_*_c.json")
        copy.unlink()
    shutil.rmtree(root / "output" / "state")
    assert strandline(root, "rebuild").returncode == 0
    expected = {"a", "b", "c", "cc", "ccc", "d", "e"} - ({"c"} if lose == "the other" else set())
    assert set(by_number(root)) == expected
    is_as_the_model_says(root, by_number(root))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whenever_a_rebuild_ends_the_next_one_finishes_it(tmp_path: Path, after: bool) -> None:
    """At each change to a file or the ledger, renaming the copies among them: all are taken, once."""
    made = restored(tmp_path / "made")
    undisturbed = shutil.copytree(made, tmp_path / "undisturbed", symlinks=True)
    rebuilt(undisturbed)
    ended = 0
    for last in range(1, 2000, 7):
        root = shutil.copytree(made, tmp_path / "home", symlinks=True)
        world = World(last, after=after)
        with suppress(Crash), world.running():
            rebuilt(root)
        ended += world.done >= last
        (root / "output" / "state").mkdir(exist_ok=True)
        rebuilt(root)
        assert sorted(by_number(root)) == sorted(by_number(undisturbed)), last
        is_as_the_model_says(root, by_number(root))
        copies = [path.read_bytes() for path in (root / "output" / "raw").glob("received=*/*")]
        assert sorted(copies) == sorted(orders_of(name) for name in by_number(root)), last
        shutil.rmtree(root)
        if world.done < last:
            break
    assert ended > 8, "the rebuild must have had many steps"


def test_only_what_is_kept_elsewhere_may_be_removed(tmp_path: Path) -> None:
    """A second copy of the same bytes; then the first is damaged, then gone: the second is the only one left."""
    deliver(tmp_path, "a", "b")
    (first,) = (tmp_path / "output" / "raw").glob("received=*/00000001_*")
    second = first.with_name(first.name.replace("00000001", "00000002"))
    shutil.copy2(first, second)
    what = str(second.relative_to(tmp_path / "output"))
    kept = str(first.relative_to(tmp_path / "output"))

    def told() -> str:
        return next(one["found"] for one in differences(tmp_path) if one["what"] == what)

    assert told() == f"the same bytes are kept as {kept}; this copy may be removed"
    with open_engine(tmp_path) as engine:
        sha256 = files.sha256_of(first) or b""
        assert kept_as(engine.ledger, engine.output, sha256, besides=what) == kept
    for damage in (lambda: first.write_bytes(b"[]"), first.unlink, lambda: first.symlink_to(second.name)):
        damage()
        assert told().endswith(f"is missing or damaged; move it to {kept}") and "remove" not in told()
    first.unlink()
    second.rename(first)
    assert differences(tmp_path) == []


def test_a_copy_of_a_drop_whose_own_is_missing_is_not_taken_for_a_repetition(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Adopted as a duplicate it would be removed, and its bytes were nowhere any more."""
    deliver(tmp_path, "a", "b")
    (first,) = (tmp_path / "output" / "raw").glob("received=*/00000001_*")
    only = first.rename(first.with_name(first.name.replace("00000001", "00000009")))
    run(tmp_path)
    assert only.read_bytes() == orders_of("a")
    assert [vars(one)["path"] for one in caplog.records if "move it there" in one.message] == [
        str(only.relative_to(tmp_path / "output"))
    ]
    deliver(tmp_path, "c")
    only.rename(first)
    assert differences(tmp_path) == []


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


def _alter(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"o_", b"x_"))


@pytest.mark.parametrize("damage", [_truncate, _alter])
def test_a_damaged_copy_of_another_number_is_left_alone(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """It is named, nobody is told to remove it, and once it is whole a rebuild takes it in."""
    root = restored(tmp_path)
    (copy,) = (root / "output" / "raw").glob("received=*/00000003_*_c.json")
    damage(copy)
    rebuilt(root)
    assert copy.exists() and "c" not in by_number(root)
    (found,) = differences(root)
    assert found["what"].endswith("_c.json") and "put the whole file in its place" in found["found"]
    copy.write_bytes(orders_of("c"))
    rebuilt(root)
    assert by_number(root)[-1] == "c"
    is_as_the_model_says(root, by_number(root))
    assert differences(root) == []
