"""What holds for every kind of downstream: it becomes equal to what is published, touches nothing that is equal, and whatever
fails in between, it never claims to have what it has not."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path

import pytest

from daemon.downstream.records import Records
from tests.downstream.kinds import KINDS, Kind, Order
from tests.faults import KILLED, KILLS, MANY, Action, Control, Ended, Server, library
from tests.faults.kills import scratch
from tests.faults.world import copied
from tests.support.examples import LONG
from tests.support.following import DAILY, LIMITS, Home, InlineWorker, day, epoch_days, never

ORDERS = [Order(1, 1, 10), Order(2, 2, 20, "u_2"), Order(3, 3, -30), Order(4, 5, 40), Order(5, 9, -50, "u_3")]
WORKER = InlineWorker(LIMITS)
STEP = 1 if LONG else 5

pytestmark = pytest.mark.timeout(900)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label.replace(" ", "-"))


class World:
    """An output with the orders that are published in it, and one downstream."""

    def __init__(self, root: Path, kind: Kind) -> None:
        self.home, self.kind = Home(root), kind
        self.orders: dict[int, Order] = {}
        self.publish(*ORDERS)

    def publish(self, *orders: Order) -> None:
        self.orders |= {order.number: order for order in orders}
        self.home.publish(*(self.home.order(one.number, one.on, one.amount, one.user) for one in orders))

    def round(self) -> None:
        """An undisturbed round."""
        found = self.home.round(WORKER)
        assert not any(one.error or one.stale for one in found.values()), found

    def is_right(self) -> bool:
        """Whether what it has is what plain Python expects."""
        found = {date: sorted(rows, key=repr) for date, rows in self.kind.rows(self.home).items()}
        return found == {
            date: sorted(rows, key=repr) for date, rows in self.kind.expected(self.orders.values()).items()
        }

    @property
    def marks(self) -> dict:
        return dict(self.kind.marks(self.home))


@pytest.fixture
def world(tmp_path: Path, kind: Kind) -> World:
    one = World(tmp_path, kind)
    kind.make(one.home)
    return one


@every_kind
def test_a_new_one_catches_up_and_then_rests(world: World) -> None:
    """All that was published before it; a second round does nothing and touches no file of the output."""
    world.round()
    assert world.is_right()
    before = world.home.states()
    found = world.home.round(WORKER)[world.kind.name]
    assert (found.dates, found.files, found.stale) == (0, 0, 0)
    assert {name: state for name, state in world.home.states().items() if not name.startswith("state/")} == {
        name: state for name, state in before.items() if not name.startswith("state/")
    }


@every_kind
def test_before_the_first_drop_there_is_nothing_to_do(tmp_path: Path, kind: Kind) -> None:
    """No error and no rows, and what comes later is made."""
    one = World.__new__(World)
    one.home, one.kind, one.orders = Home(tmp_path), kind, {}
    one.home.publish(users="user_id\nu_1\n")
    kind.make(one.home)
    one.round()
    assert not any(kind.rows(one.home).values())
    one.publish(*ORDERS)
    one.round()
    assert one.is_right()


@every_kind
def test_only_what_is_stale_is_made_again(world: World) -> None:
    """A corrected order changes its date and those that look back at it; all else stays the same file."""
    world.round()
    before = world.marks
    world.publish(Order(3, 3, -33))
    world.round()
    after = world.marks
    assert world.is_right()
    changed = {date for date in after if after[date] != before[date]}
    if world.kind.reach is None:
        assert changed <= {""}
    else:
        assert changed == {day(3 + ahead) for ahead in range(world.kind.reach + 1)}


@every_kind
def test_an_equal_result_leaves_the_file_as_it_is(world: World) -> None:
    """A changed text makes all stale; results that come out the same are not written."""
    world.round()
    before = world.marks
    world.kind.text(world.home)
    found = world.home.round(WORKER)[world.kind.name]
    assert found.dates == (len(before) if world.kind.is_dated and world.kind.reach is not None else 1)
    assert found.files == 0 and world.marks == before


@every_kind
def test_a_date_without_rows_loses_its_file_and_its_folder(world: World) -> None:
    """An order that moves away was the only one of its date, and of those that look back at it."""
    world.round()
    world.publish(Order(5, 1, -50, "u_3"))
    world.round()
    assert world.is_right()
    if world.kind.is_dated:
        folder = world.home.output / "models" / world.kind.name
        assert {path.name for path in folder.iterdir()} == {f"date={date}" for date in world.marks}
        assert day(9) not in world.marks


@every_kind
def test_a_removal_removes_output_and_records(world: World) -> None:
    """Nothing of it is left; other files are not touched."""
    world.home.model("other", DAILY)
    world.round()
    others = world.home.states("models", "other")
    world.kind.unmake(world.home)
    world.round()
    assert world.marks == {} and world.home.states("models", "other") == others
    assert not (world.home.output / f"{world.kind.kind}s" / world.kind.name).exists()
    with closing(Records(world.home.output / "state" / "downstream.sqlite")) as records:
        assert [one.name for one in records.states()] == ["other"]
        one = world.kind.kind, world.kind.name
        assert records.has(*one) == records.files(*one) == {}


@every_kind
def test_what_is_forgotten_is_made_again(world: World) -> None:
    """All of it or one date: a damaged file heals."""
    world.round()
    before = world.marks
    with world.home.following(WORKER) as following:
        following.refresh([world.kind.name], [epoch_days(day(2))])
        following.round(never)
        some = world.marks
        following.refresh([world.kind.name])
        following.round(never)
    if world.kind.reach is not None:
        assert {date for date in some if some[date] != before[date]} == {day(2)}
    after = world.marks
    assert world.is_right() and after.keys() == before.keys()
    assert all(after[date][:2] != some[date][:2] and after[date][2] == before[date][2] for date in after)


@every_kind
def test_a_forgotten_date_that_it_has_not_does_no_harm(world: World) -> None:
    """There is nothing to make."""
    world.round()
    with world.home.following(WORKER) as following:
        following.refresh([world.kind.name], [epoch_days(day(30))])
        following.round(never)
    assert world.is_right()


@every_kind
def test_an_effect_that_fails_costs_nothing_else(world: World) -> None:
    """Others go on, what reads it waits and says so, what it had stays; when the cause is gone, all is made."""
    world.home.model("other", DAILY)
    if world.kind.kind == "model":
        world.home.model("reader", f"SELECT date FROM {world.kind.name}")
    world.kind.broken(world.home)
    world.round()
    before = world.marks
    world.publish(Order(6, 2, 666))
    found = world.home.round(WORKER)
    name = world.kind.name
    if world.kind.kind == "check":  # it looks at no amount that is not negative
        assert not found[name].error
        return
    assert found[name].error and found[name].failures == 1 and found[name].stale > 0
    assert world.kind.name in found[name].error and not found["other"].error and found["other"].dates == 1
    assert found["reader"].error == f"it waits for {name}" and found["reader"].failures == 0
    assert world.marks == before
    world.publish(Order(6, 2, 6))
    world.round()
    assert world.is_right() and len(world.home.rows("reader")) == len(world.marks)


@every_kind
def test_what_fails_is_tried_again_later_and_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The delay doubles up to a bound; until then it is not run; a changed text is run at once, and starts anew."""
    if world.kind.kind == "check":
        world.orders, ORDER = dict(world.orders), Order(6, 2, -1)
        world.publish(ORDER)
        world.home.check(world.kind.name, "SELECT error('bad amount') AS x FROM fact_order")
    else:
        world.publish(Order(6, 2, 666))
        world.kind.broken(world.home)
    clock = [1000.0]
    monkeypatch.setattr("daemon.downstream.follow.time.monotonic", lambda: clock[0])
    with world.home.following(WORKER) as following:
        delays = []
        for failures in range(1, 22):
            (found,) = following.round(never)
            assert found.error and found.failures == failures
            assert following.delay_seconds is not None
            delays.append(following.delay_seconds)
            clock[0] += delays[-1] / 2
            (waiting,) = following.round(never)
            assert waiting.error == found.error and waiting.failures == 0 and waiting.dates == 0
            assert [one.failures for one in following.states()] == [failures]
            clock[0] += delays[-1] / 2 + 0.001
        assert delays == sorted(delays) and delays[1] == 2 * delays[0] and delays[-1] == delays[-2] == 900.0
        following.round(never)
        world.kind.text(world.home)
        (found,) = following.round(never)
        assert not found.error and following.delay_seconds is None
        assert [(one.failures, one.error) for one in following.states()] == [(0, None)]


@every_kind
def test_what_is_up_to_date_again_without_a_run_has_no_failure(world: World) -> None:
    """Its input goes back to what it was."""
    world.kind.broken(world.home)
    world.round()
    if world.kind.kind == "check":
        return
    world.publish(Order(6, 2, 666))
    assert world.home.round(WORKER)[world.kind.name].failures == 1
    with world.home.following(WORKER) as following:
        kept = following.states()[0].error
        world.home.publish(world.home.order(6, 2, 0, gone=True))
        del world.orders[6]
        following.round(never, now=True)
        assert kept and [one.error for one in following.states()] == [None]
    assert world.is_right()


# ------------------------------------------------------------------------------------------------ a process that is killed

if library() is None and not os.environ.get("REQUIRE_TEST_TOOLS"):
    pytest.skip("needs a C compiler (cc or gcc) on Linux", allow_module_level=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    place = scratch()
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("tests.downstream.rounds:main") as one:
        yield one


class Bench:
    """A world with one date to make, one to make again and one to remove, and what a disturbed round leaves of it."""

    def __init__(self, server: Server, folder: Path, kind: Kind) -> None:
        self.server, self.folder, self.kind = server, folder, kind
        self.base = folder / "base"
        self.base.mkdir()
        self.world = World(self.base, kind)
        kind.make(self.world.home)
        self.world.round()
        self.before = kind.rows(self.world.home)
        self.world.publish(Order(3, 3, -33), Order(5, 1, -50, "u_3"), Order(7, 12, -7))
        with self.copy() as home:
            control = Control(folder / "control", home)
            assert server.run(home, control).status == 0
            self.points = control.count
            self.after = self.at(home)
            assert self.is_right(home)

    def copy(self) -> _Copy:
        return _Copy(copied(self.base, self.folder / "run"))

    def run(self, home: Path, action: Action, point: int, last: int | None = None, error: int = 0) -> tuple[Ended, str]:
        control = Control(self.folder / "control", home)
        control.act(action, point, last, error)
        return self.server.run(home, control), control.what

    def at(self, home: Path) -> dict:
        return {date: sorted(rows, key=repr) for date, rows in self.kind.rows(Home(home)).items()}

    def is_right(self, home: Path) -> bool:
        one = World.__new__(World)
        one.home, one.kind, one.orders = Home(home), self.kind, self.world.orders
        return one.is_right()

    def heals(self, home: Path, what: str) -> None:
        """What is there now is whole and of before or after; an undisturbed round makes all right and leaves nothing over."""
        for date, rows in self.at(home).items():
            known = [sorted(found[date], key=repr) for found in (self.before, self.after) if date in found]
            assert rows in known, (what, date)
        ended = self.server.run(home, None)
        assert ended.status == 0 and self.is_right(home), (what, ended.stderr)
        assert list((home / "output" / ".downstream").iterdir()) == [], what
        if self.kind.is_dated:
            there = {path.name for path in (home / "output" / "models" / self.kind.name).iterdir()}
            assert there == {f"date={date}" for date in self.after}, what


class _Copy:
    def __init__(self, home: Path) -> None:
        self._home = home

    def __enter__(self) -> Path:
        return self._home

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self._home)


@every_kind
def test_a_round_killed_at_any_operation_is_finished_by_the_next(server: Server, folder: Path, kind: Kind) -> None:
    """Durable operations of a round, SQLite's among them, before, after and within each in turn."""
    bench = Bench(server, folder, kind)
    hit: Counter[str] = Counter()
    for point, action in zip(range(1, bench.points + 1, STEP), cycle(KILLS), strict=False):
        with bench.copy() as home:
            ended, what = bench.run(home, action, point)
            assert ended.status == KILLED and what, (point, ended)
            hit[what.partition(" ")[0]] += 1
            bench.heals(home, f"{action.name} {point}: {what}")
    assert hit.keys() >= {"write", "fsync", "rename" if STEP == 1 else "write"}


@every_kind
@pytest.mark.parametrize("lasting", [False, True])
def test_an_operation_that_fails_is_told_and_costs_nothing(
    server: Server, folder: Path, kind: Kind, lasting: bool
) -> None:
    """No space, broken, read-only: the round tells of it or does without; then an undisturbed one makes all right."""
    bench = Bench(server, folder, kind)
    told = 0
    errors = cycle((errno.ENOSPC, errno.EIO, errno.EROFS))
    for point, error in zip(range(1 + lasting, bench.points + 1, STEP * 2), errors, strict=False):
        with bench.copy() as home:
            ended, what = bench.run(home, Action.FAIL, point, MANY if lasting else point, error)
            assert ended.status in (0, 1, 3), (point, what, ended.stderr)
            if ended.status:
                assert os.strerror(error) in ended.stderr or "disk" in ended.stderr or "readonly" in ended.stderr, ended
                told += 1
            else:
                assert bench.is_right(home), (point, what)
            bench.heals(home, f"{errno.errorcode[error]} {point}: {what}")
    assert told > 0


@every_kind
def test_an_input_that_went_back_while_its_round_was_killed_gives_its_own_result(
    server: Server, folder: Path, kind: Kind
) -> None:
    """A, then B killed after its renames, then A again: the fingerprint of A must not stand for the file of B."""
    bench = Bench(server, folder, kind)
    hit = 0
    for point in range(1, bench.points + 1):
        with bench.copy() as home:
            _, what = bench.run(home, Action.KILL_AFTER, point)
            is_late = what.startswith("rename") or (what.startswith("fsync") and f"/{kind.kind}s/{kind.name}" in what)
            if not is_late:
                continue
            hit += 1
            back = World.__new__(World)
            back.home, back.kind, back.orders = Home(home), kind, dict(bench.world.orders)
            back.home.version = bench.world.home.version
            back.publish(Order(3, 3, -30), Order(5, 9, -50, "u_3"))
            back.home.publish(back.home.order(7, 12, 0, gone=True))
            del back.orders[7]
            back.round()
            assert back.is_right(), (point, what)
    assert hit > 0
