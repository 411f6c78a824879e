"""What is damaged and cannot be made anew is set aside; everything else goes on, and it is mended once it can be."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch import mending, pipeline, withdraw
from daemon.batch.ageing import one_pass
from daemon.batch.engine import Engine
from daemon.batch.mending import Mending, mend
from daemon.batch.repair import Lost
from daemon.batch.retries import is_transient
from daemon.core.entries import Undo
from daemon.operate.verify_files import check_curated, check_raw
from daemon.storage import files
from daemon.storage.generation import generation
from daemon.storage.ledger import Ledger
from daemon.storage.set_aside import SetAside
from daemon.storage.store import folder_name
from tests.strategies import RECEIVED_AT_US
from tests.support.command import as_drop, order, strandline
from tests.support.examples import examples
from tests.support.harness import apply_batch, open_engine, rows, tree

NOW = RECEIVED_AT_US
DAY2, DAY3 = "2026-03-02", "2026-03-03"


class World:
    """An output with two dates and users, in an engine; a twin that nothing happens to has what must be there at the end."""

    def __init__(self, root: Path, engine: Engine, twin: Engine) -> None:
        self.root, self.engine, self.twin = root, engine, twin
        self.told: list[set[str]] = []
        self.missing: list[int] = []
        self.mending = self.new_mending()
        self._number = 0

    def new_mending(self) -> Mending:
        return Mending(self.engine, self.missing.append, lambda found: self.told.append({one.name for one in found}))

    def apply(self, *drops: tuple[str, bytes]) -> list[str]:
        """Applies drops to both as one batch; returns what had to be repaired."""
        self._number += 1
        now = NOW + self._number
        apply_batch(self.twin, self.root / "twin", drops, now)
        return list(apply_batch(self.engine, self.root, drops, now).repaired)

    def path(self, name: str) -> Path:
        return self.root / "output" / name

    def lose(self, raw: int, published: str) -> tuple[Path, bytes]:
        """Removes the raw copy of a drop, and damages a published file; returns the raw copy."""
        drop = self.engine.ledger.drop(raw)
        assert drop is not None and drop.raw is not None
        copy = self.path(drop.raw)
        content = copy.read_bytes()
        copy.unlink()
        self.path(published).write_bytes(b"damaged")
        self.engine.store._keys.clear()
        return copy, content

    def assert_same(self, day: int) -> None:
        """The rows of a date are those of the twin; so is the number of orders that the ledger says it has."""
        name = folder_name(day)
        ours, theirs = (self.path(f"curated/{name}"), self.root / "twin" / "output" / "curated" / name)
        assert tree(ours) == tree(theirs)
        mine, others = (one.ledger.partitions([day])[day] for one in (self.engine, self.twin))
        assert (mine.orders, mine.lines, mine.amount) == (others.orders, others.lines, others.amount)

    def assert_as_if_nothing_happened(self) -> None:
        """Published rows, index and marks are those of the twin, and `verify` finds nothing."""
        assert not self.engine.ledger.set_aside() and not self.engine.ledger.uncommitted()
        assert tree(self.path("curated")) == tree(self.root / "twin" / "output" / "curated")
        ours, theirs = self.engine.ledger, self.twin.ledger
        assert ours.hwm == theirs.hwm
        ended = strandline(self.root, "verify")
        assert ended.returncode == 0, ended.stdout


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    (tmp_path / "twin").mkdir()
    with open_engine(tmp_path) as engine, open_engine(tmp_path / "twin") as twin:
        world = World(tmp_path, engine, twin)
        world.apply(("users.csv", b"user_id,email\nu_1,a@example.com\n"))
        world.apply(("a.json", as_drop([order(1), order(11), order(2, 3), order(3, 3)])))
        yield world


def fact(day: str) -> str:
    return f"curated/date={day}/fact_order.parquet"


def changes() -> Sequence[tuple[str, bytes]]:
    """Drops that add to, correct, and move orders between both dates."""
    return [
        ("b.json", as_drop([order(4), order(5, 3)])),
        ("c.json", as_drop([order(1, updated_at="2026-03-09T00:00:00Z", amount="77.00")])),
        ("d.json", as_drop([order(2, 2, updated_at="2026-03-09T00:00:00Z")])),
        ("e.json", as_drop([order(3, 3, updated_at="2026-03-08T00:00:00Z", amount="5.00")])),
    ]


def test_a_date_that_cannot_be_made_anew_is_set_aside_and_others_go_on(world: World) -> None:
    """Its files stay as they are, and the index has its new orders. No drop fails, and nothing counts as repaired."""
    copy, content = world.lose(2, fact(DAY2))
    for drop in changes():
        assert world.apply(drop) == []
    assert set(world.engine.ledger.set_aside()) == {DAY2}
    assert world.path(fact(DAY2)).read_bytes() == b"damaged"
    twin = world.root / "twin" / "output"
    assert rows(world.path(""), DAY3) == rows(twin, DAY3)
    (reason,) = [one.reason for one in world.engine.ledger.set_aside().values()]
    assert copy.name in reason and "restore it from a backup" in reason
    assert world.mending.run(NOW) == ([], False) and world.told == [{DAY2}]
    copy.write_bytes(content)
    (outcome,), waited = world.new_mending().run(NOW + 99)
    assert [one.date for one in outcome.written] == [DAY2] and not waited
    world.assert_as_if_nothing_happened()


def test_a_date_is_mended_with_its_published_file_where_the_raw_copy_stays_gone(world: World) -> None:
    """Orders of the raw copy that is gone come from the published file, and those that came meanwhile from raw."""
    before = world.path(fact(DAY2)).read_bytes()
    copy, content = world.lose(2, fact(DAY2))
    for drop in changes():
        world.apply(drop)
    world.path(fact(DAY2)).write_bytes(before)
    (one,) = world.engine.ledger.set_aside().values()
    mend(world.engine, one, NOW + 99)
    copy.write_bytes(content)  # only for verify
    world.assert_as_if_nothing_happened()


def test_a_date_that_did_not_change_meanwhile_gets_its_file_again_without_a_restatement(world: World) -> None:
    copy, content = world.lose(2, fact(DAY2))
    world.engine.ledger.set_one_aside(SetAside(DAY2, NOW + 99, "damaged"))
    copy.write_bytes(content)
    (one,) = world.engine.ledger.set_aside().values()
    assert mend(world.engine, one, NOW + 99) == []
    assert tree(world.path(f"curated/date={DAY2}")) == tree(world.root / "twin" / "output" / "curated" / f"date={DAY2}")
    assert not world.engine.ledger.set_aside()


def test_so_does_one_whose_orders_came_again_as_they_were(world: World) -> None:
    """The index names the drop that they came with last."""
    copy, content = world.lose(2, fact(DAY2))
    world.engine.ledger.set_one_aside(SetAside(DAY2, NOW, "damaged"))
    world.apply(("b.json", as_drop([order(1)])))
    copy.write_bytes(content)
    (one,) = world.engine.ledger.set_aside().values()
    assert mend(world.engine, one, NOW + 99) == []
    world.assert_as_if_nothing_happened()


def test_a_date_without_orders_left_is_removed_when_it_is_mended(world: World) -> None:
    """All of its orders move to another date while it is set aside."""
    copy, content = world.lose(2, fact(DAY3))
    for number in (2, 3):
        world.apply((f"m{number}.json", as_drop([order(number, 2, updated_at="2026-03-09T00:00:00Z")])))
    assert set(world.engine.ledger.set_aside()) == {DAY3}
    copy.write_bytes(content)
    world.new_mending().run(NOW + 99)
    world.assert_as_if_nothing_happened()
    assert not world.path(f"curated/date={DAY3}").exists()


def test_what_still_cannot_be_mended_stays_as_it_is_and_says_why(world: World) -> None:
    copy, _ = world.lose(2, fact(DAY2))
    world.apply(("b.json", as_drop([order(4)])))
    (one,) = world.engine.ledger.set_aside().values()
    with pytest.raises(
        Lost, match=f"could not make {DAY2} anew: its published file and raw copies of its orders .*{copy.name}"
    ):
        mend(world.engine, one, NOW + 9)
    assert set(world.engine.ledger.set_aside()) == {DAY2}
    assert world.path(fact(DAY2)).read_bytes() == b"damaged"


@pytest.mark.parametrize(("lost", "more"), [(3, ""), (4, " and 1 more")])
def test_three_raw_copies_are_named_that_are_gone(world: World, lost: int, more: str) -> None:
    for number in range(3, lost + 2):
        world.apply((f"{number}.json", as_drop([order(20 + number)])))
    copies = [world.lose(number, fact(DAY2))[0].name for number in range(2, lost + 2)]
    world.engine.ledger.set_one_aside(SetAside(DAY2, NOW + 99, "damaged"))
    with pytest.raises(Lost) as lost_it:
        mend(world.engine, *world.engine.ledger.set_aside().values(), NOW + 99)
    named = re.search(r"raw copies of its orders \((.*)\) are missing", str(lost_it.value))
    assert named is not None and named[1].endswith(f"{copies[2]}{more}") and named[1].count(", ") == 2


def test_a_dimension_that_cannot_be_made_anew_holds_back_its_drops_only(world: World) -> None:
    """Orders are applied, and not checked against it; its drops stay archived, and are applied once the file is back."""
    copy, content = world.lose(1, "curated/dim_user.parquet")
    users = ("users.csv", b"user_id,email\nu_2,b@example.com\n")
    world.apply(users, ("b.json", as_drop([order(4, user_id="u_2"), order(5, 3)])))
    assert set(world.engine.ledger.set_aside()) == {"dim_user.parquet"}
    assert [drop.name for drop in world.engine.ledger.uncommitted()] == ["users.csv"]
    assert world.path("curated/dim_user.parquet").read_bytes() == b"damaged"
    world.apply(("c.json", as_drop([order(6)])))
    copy.write_bytes(content)
    outcomes, waited = world.mending.run(NOW + 99)
    assert not outcomes and waited
    pipeline.resume(world.engine, world.engine.ledger.uncommitted(), NOW + 100)
    world.assert_as_if_nothing_happened()


def test_a_drop_that_repeats_one_from_before_those_that_wait_is_no_duplicate(world: World) -> None:
    """Its rows come after those of the drops that wait, and win again."""
    copy, content = world.lose(1, "curated/dim_user.parquet")
    world.apply(("b.json", as_drop([order(4)])))
    first = "user_id,email\nu_1,a@example.com\n"
    for name, text in (("b.csv", first.replace("a@", "b@")), ("c.csv", first)):
        place_users(world, name, text)
    assert [drop.duplicate_of for drop in world.engine.ledger.uncommitted()] == [None, None]
    copy.write_bytes(content)
    world.mending.run(NOW + 99)
    for drop in world.engine.ledger.uncommitted():
        pipeline.resume(world.engine, [drop], NOW + 100 + drop.seq)
    world.assert_as_if_nothing_happened()


def place_users(world: World, name: str, text: str) -> None:
    """A drop of users in a batch of its own, which waits in the engine."""
    world.apply((f"users-{name}", text.encode()), (f"{name}.json", as_drop([order(20 + len(name), 3)])))


def test_a_dimension_whose_only_drop_is_withdrawn_is_set_aside_no_longer(world: World) -> None:
    """Its raw copy is gone, and the loss is accepted: nothing is left to mend, and the next drop makes it anew."""
    world.lose(1, "curated/dim_user.parquet")
    world.apply(("b.json", as_drop([order(4)])))
    result = world.engine.ledger.result(1)
    assert result is not None
    undo = Undo(1, NOW + 50, "me", "it is lost")
    withdraw.carry_out(world.engine, withdraw.read(world.engine, result, undo))
    assert world.mending.run(NOW + 60) == ([], True) and not world.engine.ledger.set_aside()
    withdraw.carry_out(world.twin, withdraw.read(world.twin, result, undo))
    world.apply(("users.csv", b"user_id,email\nu_2,b@example.com\n"))
    world.assert_as_if_nothing_happened()


def mended_only_with(world: World, copy: Path, content: bytes) -> int:
    """The date that is set aside is not mended before this raw copy is back, and is then. Returns the date."""
    (one,) = world.engine.ledger.set_aside().values()
    with pytest.raises(Lost, match="not their latest versions"):
        mend(world.engine, one, NOW + 99)
    copy.write_bytes(content)
    mend(world.engine, one, NOW + 99)
    return one.day or 0


def test_the_published_file_is_not_taken_for_versions_that_it_does_not_have(world: World) -> None:
    """The correction that came meanwhile is lost, too: the published file has only the version before it."""
    before = world.path(fact(DAY2)).read_bytes()
    world.lose(2, fact(DAY2))
    world.apply(("b.json", as_drop([order(1, updated_at="2026-03-09T00:00:00Z", amount="77.00")])))
    copy, content = world.lose(3, fact(DAY2))
    world.path(fact(DAY2)).write_bytes(before)
    day = mended_only_with(world, copy, content)
    world.assert_same(day)


def test_nor_for_those_that_took_the_place_of_a_withdrawn_one(world: World) -> None:
    """The published file has the version of a drop that is withdrawn by now, and the raw copy of the one before is gone since."""
    world.apply(("b.json", as_drop([order(1, updated_at="2026-03-09T00:00:00Z", user_id="u_9")])))
    before = world.path(fact(DAY2)).read_bytes()
    world.engine.ledger.set_one_aside(SetAside(DAY2, NOW + 20, "damaged"))
    for engine in (world.engine, world.twin):
        result = engine.ledger.result(3)
        assert result is not None
        withdraw.carry_out(engine, withdraw.read(engine, result, Undo(3, NOW + 50, "me", "wrong")))
    copy, content = world.lose(2, fact(DAY2))
    world.path(fact(DAY2)).write_bytes(before)
    mended_only_with(world, copy, content)  # the sums are the same: a correction of the user, withdrawn
    world.assert_as_if_nothing_happened()


@pytest.mark.parametrize("clock", [NOW + 9, NOW - 10**9])
def test_a_correction_with_the_same_sums_is_published_whatever_the_clock_said(world: World, clock: int) -> None:
    copy, content = world.lose(2, fact(DAY2))
    world.engine.ledger.set_one_aside(SetAside(DAY2, NOW + 5, "damaged"))
    drop = ("b.json", as_drop([order(1, updated_at="2026-03-09T00:00:00Z", user_id="u_9")]))
    for engine, root in ((world.twin, world.root / "twin"), (world.engine, world.root)):
        apply_batch(engine, root, [drop], clock)
    copy.write_bytes(content)
    outcomes, _ = world.mending.run(NOW + 99)
    assert [one.date for outcome in outcomes for one in outcome.written] == [DAY2]
    world.assert_as_if_nothing_happened()


def test_what_is_missing_is_said_anew_at_each_try(world: World) -> None:
    """Two raw copies and the published file are gone; one of the copies comes back."""
    world.apply(("b.json", as_drop([order(4)])))
    first, content = world.lose(2, fact(DAY2))
    second, _ = world.lose(3, fact(DAY2))
    world.apply(("c.json", as_drop([order(5)])))
    world.mending.run(NOW + 50)
    reason = world.engine.ledger.set_aside()[DAY2].reason
    assert first.name in reason and second.name in reason
    first.write_bytes(content)
    world.new_mending().run(NOW + 99)
    reason = world.engine.ledger.set_aside()[DAY2].reason
    assert first.name not in reason and second.name in reason


def test_no_date_is_tried_twice_before_all_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a pass may take one try only. What is mended takes nothing of it."""
    monkeypatch.setattr(mending, "_TRY_SECONDS", 0.0)
    monkeypatch.setattr(mending, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(mending, "_TRY_SHARE", 0)
    copy, content = world.lose(2, fact(DAY2))
    world.path(fact(DAY3)).write_bytes(b"damaged")
    for day in (DAY2, DAY3):
        world.engine.ledger.set_one_aside(SetAside(day, NOW, ""))
    world.mending.run(NOW + 50)
    assert [bool(one.reason) for one in world.engine.ledger.set_aside().values()] == [True, False]
    world.mending.run(NOW + 60)
    assert all(one.reason for one in world.engine.ledger.set_aside().values())
    copy.write_bytes(content)
    world.new_mending().run(NOW + 99)
    assert not world.engine.ledger.set_aside()


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.EPERM])
def test_files_that_alone_cannot_be_read_are_damaged_ones(
    world: World, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A published file alone is made anew. With a raw copy, the date is set aside, and the others go on. Where the folder cannot
    be read, either, nothing is set aside: the disk fails, and everything waits."""
    bad: set[tuple[int, int] | None] = set()  # by inode: a new file of the same name is on other blocks

    def opened(path: Any, *args: Any, **options: Any) -> Any:
        if files.identity(path) in bad:
            raise OSError(number, os.strerror(number), str(path))
        return read(path, *args, **options)

    def no_folder(path: Any) -> Any:
        raise OSError(number, os.strerror(number), str(path))

    read = io.open
    monkeypatch.setattr(io, "open", opened)
    monkeypatch.setattr(files, "open", opened, raising=False)
    bad.add(files.identity(world.path(fact(DAY2))))
    assert world.apply(("b.json", as_drop([order(4)]))) == [DAY2]
    drop = world.engine.ledger.drop(2)
    assert drop is not None
    bad |= {files.identity(world.path(fact(DAY2))), files.identity(world.path(drop.raw or ""))}
    with monkeypatch.context() as patched, pytest.raises(OSError, match=os.strerror(number)) as raised:
        patched.setattr(os, "listdir", no_folder)
        world.engine.store.read_fact(20_514, b"")
    assert is_transient(raised.value)
    assert world.apply(("c.json", as_drop([order(5), order(6, 3)]))) == []
    assert set(world.engine.ledger.set_aside()) == {DAY2}
    (one,) = world.engine.ledger.set_aside().values()
    assert "cannot be read, and others can; let this user read it and its folder" in one.reason
    rights = f"{world.path(fact(DAY2))} is there and cannot be read: it is enough to let this user read it"
    assert rights in one.reason
    assert [(found.what, found.found[:14]) for found in check_raw(world.engine)] == [(drop.raw, "cannot be read")]
    world.mending.run(NOW + 50)
    assert rights in world.engine.ledger.set_aside()[DAY2].reason
    bad.clear()
    world.new_mending().run(NOW + 99)
    world.assert_as_if_nothing_happened()


def _a_file(folder: Path) -> None:
    folder.write_bytes(b"not a folder")


def _a_loop(folder: Path) -> None:
    folder.symlink_to(folder.name)


def _a_link_to_nothing(folder: Path) -> None:
    folder.symlink_to("nothing")


@pytest.mark.parametrize("instead", [_a_file, _a_loop, _a_link_to_nothing])
@pytest.mark.parametrize("day", [DAY2, "2026-03-05"])
def test_a_date_with_something_else_in_the_place_of_its_folder_is_set_aside(
    world: World, instead: Callable[[Path], None], day: str
) -> None:
    """Also a date that is new. It is made again once that is moved away, from raw copies that are all there."""
    folder = world.path(f"curated/date={day}")
    if folder.exists():
        folder.rename(world.path("away"))
    instead(folder)
    for drop in [*changes(), ("f.json", as_drop([order(9, int(day[-2:])), order(8, 6)]))]:
        assert world.apply(drop) == []
    (one,) = world.engine.ledger.set_aside().values()
    assert (
        one.name == day and f"could not read and write {folder}: " in one.reason and "move away what is" in one.reason
    )
    assert world.new_mending().run(NOW + 50) == ([], False) and folder.lstat()
    assert {found.what for found in check_curated(world.engine, lambda: Ledger(world.engine.ledger.path))} <= {
        fact(day), fact(day).replace("fact_order", "order_items"), f"curated/{folder.name}",
    }  # fmt: skip
    folder.unlink()
    world.new_mending().run(NOW + 99)
    world.assert_as_if_nothing_happened()


def test_a_new_date_whose_orders_leave_before_its_folder_can_be_made_is_removed(world: World) -> None:
    folder = world.path("curated/date=2026-03-05")
    _a_file(folder)
    world.apply(("b.json", as_drop([order(9, 5)])))
    assert set(world.engine.ledger.set_aside()) == {"2026-03-05"}
    world.apply(("c.json", as_drop([order(9, 3, updated_at="2026-03-09T00:00:00Z")])))
    assert rows(world.path(""), DAY3) == rows(world.root / "twin" / "output", DAY3)
    folder.unlink()
    world.new_mending().run(NOW + 99)
    world.assert_as_if_nothing_happened()


def test_raw_copies_do_not_go_by_age_while_something_is_set_aside(world: World) -> None:
    """They are what it will be made of."""
    world.engine.ledger.set_one_aside(SetAside(DAY2, NOW, "damaged"))
    list(one_pass(world.engine, {"raw": 1}, NOW + 10**12, lambda _: None))
    assert world.engine.ledger.horizon("raw") == 0
    world.engine.ledger.mended(DAY2)
    list(one_pass(world.engine, {"raw": 1}, NOW + 10**12, lambda _: None))
    assert world.engine.ledger.horizon("raw") == 2


@pytest.mark.parametrize("known", [True, False])
def test_the_loss_is_accepted_by_withdrawing_the_drop_whose_raw_copy_is_gone(world: World, known: bool) -> None:
    """The date is made of the other drops. Also where the undo is the first to find the damage."""
    world.apply(*changes())
    world.lose(2, fact(DAY2))
    if known:
        world.apply(("f.json", as_drop([order(6)])))
    for engine in (world.engine, world.twin):
        result = engine.ledger.result(2)
        assert result is not None
        withdraw.carry_out(engine, withdraw.read(engine, result, Undo(2, NOW + 50, "me", "it is lost")))
    assert set(world.engine.ledger.set_aside()) == {DAY2}
    world.new_mending().run(NOW + 99)
    world.assert_as_if_nothing_happened()


@pytest.mark.parametrize("recreated", [False, True])
def test_everything_published_is_made_anew_where_curated_was_removed(world: World, recreated: bool) -> None:
    """Also where something made the folder again in between. The generation says that something changed."""
    for drop in changes():
        world.apply(drop)
    world.mending.run(NOW)
    before = generation(world.path(""))
    shutil.rmtree(world.path("curated"))
    if recreated:
        world.path("curated").mkdir()
    world.mending.run(NOW + 99)
    assert world.missing == [3, 0]
    assert generation(world.path("")) > before and generation(world.path("")) % 2 == 0
    world.assert_as_if_nothing_happened()


def test_content_that_is_removed_is_made_anew_though_the_folder_stays(world: World) -> None:
    world.mending.run(NOW)
    for entry in world.path("curated").iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    world.mending.run(NOW + 99)
    assert world.missing == [3, 0]
    world.assert_as_if_nothing_happened()


def test_an_older_layer_in_the_place_of_the_published_one_is_made_anew(world: World) -> None:
    """It was moved away, drops came, and it is moved back."""
    world.mending.run(NOW)
    curated, away = world.path("curated"), world.path("away")
    curated.rename(away)
    world.mending.run(NOW + 50)
    for drop in changes():
        world.apply(drop)
    shutil.rmtree(curated)
    away.rename(curated)
    world.mending.run(NOW + 99)
    assert world.missing == [3, 0, 2, 0]
    world.assert_as_if_nothing_happened()


@pytest.mark.parametrize("at", ["fact_order.parquet", "order_items.parquet"])
def test_what_a_crash_left_of_a_layer_that_was_being_made_anew_is_made_by_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    """Of the date that was under way, a file is missing; and the generation says that files are being replaced."""

    def crashes(path: Path, content: bytes) -> None:
        write(path, content)
        if path.match(f"date={DAY3}/{at}"):
            raise SystemExit

    write = files.write
    shutil.rmtree(world.path("curated"))
    monkeypatch.setattr(files, "write", crashes)
    with pytest.raises(SystemExit):
        world.mending.run(NOW + 50)
    monkeypatch.setattr(files, "write", write)
    assert generation(world.path("")) % 2
    world.new_mending().run(NOW + 99)
    assert generation(world.path("")) % 2 == 0
    world.assert_as_if_nothing_happened()


def test_of_a_removed_layer_only_what_raw_cannot_give_is_set_aside(world: World) -> None:
    world.apply(("b.json", as_drop([order(7, 5), order(8, 6), order(9, 7)])), ("c.json", as_drop([order(10, 6)])))
    world.mending.run(NOW)
    expected = tree(world.path("curated"))
    drop = world.engine.ledger.drop(4)
    assert drop is not None
    world.path(drop.raw or "").unlink()
    shutil.rmtree(world.path("curated"))
    world.new_mending().run(NOW + 99)
    assert set(world.engine.ledger.set_aside()) == {"2026-03-06"}
    assert tree(world.path("curated")) == {name: sha for name, sha in expected.items() if "2026-03-06" not in name}


def test_the_ledger_keeps_what_is_set_aside(world: World) -> None:
    """Across a restart; the first time it was set aside counts."""
    world.engine.ledger.set_one_aside(SetAside(DAY2, NOW, "one"))
    world.engine.ledger.set_one_aside(SetAside(DAY2, NOW + 5, "two"))
    with closing(Ledger(world.engine.ledger.path, read_only=True)) as ledger:
        found: Mapping[str, SetAside] = ledger.set_aside()
    assert found == {DAY2: SetAside(DAY2, NOW, "two")}


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[list[tuple[int, int, int]], bool]], int, str]:
    """Batches of one drop each, as orders (number, date, version), with whether curated files are looked at for damage before it;
    the batch before which a date is lost; and what comes back at the end."""
    one = st.tuples(st.integers(1, 6), st.integers(2, 4), st.integers(1, 30))
    drops = draw(st.lists(st.tuples(st.lists(one, min_size=1, max_size=4), st.booleans()), min_size=3, max_size=7))
    return drops, draw(st.integers(1, len(drops) - 1)), draw(st.sampled_from(["raw", "published", "both"]))


@examples(25)
@given(histories())
def test_whatever_came_meanwhile_it_is_as_if_nothing_was_lost(
    history: tuple[list[tuple[list[tuple[int, int, int]], bool]], int, str],
) -> None:
    """Random orders that come, are corrected and move, around a date that is lost at a random time with a random raw copy."""
    drops, when, back = history
    with TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "twin").mkdir()
        with open_engine(root) as engine, open_engine(root / "twin") as twin:
            world = World(root, engine, twin)
            restored: dict[Path, bytes] = {}
            for number, (orders, tries) in enumerate(drops):
                if number == when:
                    restored = damage(world, back)
                if tries:
                    world.new_mending().run(NOW + 50 + number)
                records = [
                    order(which, day, amount=version, updated_at=f"2026-03-{version:02d}T00:00:00Z")
                    for which, day, version in orders
                ]
                world.apply((f"{number}.json", as_drop(records)))
            for path, content in restored.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            # Damage may be unnoticed so far
            world.apply(("last.json", as_drop([order(10 + day, day) for day in (2, 3, 4)])))
            world.new_mending().run(NOW + 99)
            assert not engine.ledger.set_aside()
            for day in engine.ledger.partitions():
                world.assert_same(day)
            assert engine.ledger.hwm == twin.ledger.hwm


def damage(world: World, back: str) -> dict[Path, bytes]:
    """Loses the newest date and the raw copy of the newest drop that it is made of; returns the files that come back later."""
    day = max(world.engine.ledger.partitions())
    published = world.path(f"curated/{folder_name(day)}/fact_order.parquet")
    drop = world.engine.ledger.drop(int(world.engine.ledger.index.of_dates([day])["drop"].max()))
    assert drop is not None and drop.raw is not None
    contents = {
        "raw": (world.path(drop.raw), world.path(drop.raw).read_bytes()),
        "published": (published, published.read_bytes()),
    }
    world.path(drop.raw).unlink()
    published.write_bytes(b"damaged")
    return dict(contents.values() if back == "both" else [contents[back]])


@pytest.mark.parametrize("name", [f"curated/date={DAY2}/fact_order.parquet", "curated/dim_user.parquet"])
@pytest.mark.parametrize("in_place", ["empty folder", "folder", "links"])
def test_what_is_no_file_in_the_place_of_one_stops_nothing_else(world: World, name: str, in_place: str) -> None:
    """An empty folder and a circle of links give way. A folder with files is not touched: the date, or the dimension, is set
    aside until somebody moves it away."""
    path = world.path(name)
    path.unlink()
    world.engine.store._keys.clear()
    path.symlink_to(path.name) if in_place == "links" else path.mkdir()
    if in_place == "folder":
        (path / "precious").touch()
    users = b"user_id,email\nu_9,nine@example.com\n"
    world.apply(("b.json", as_drop([order(4), order(5, 3)])), ("users-9.csv", users))
    world.assert_same(20_515)
    aside = world.engine.ledger.set_aside()
    assert bool(aside) == (in_place == "folder")
    if aside:
        (one,) = aside.values()
        assert f"could not make {path} anew: a folder with files is in its place. Move it away" in one.reason
        world.new_mending().run(NOW + 50)
        assert (path / "precious").exists() and world.engine.ledger.set_aside()
        shutil.rmtree(path)
        world.new_mending().run(NOW + 99)
        pipeline.resume(world.engine, world.engine.ledger.uncommitted(), NOW + 100)
    world.assert_as_if_nothing_happened()
