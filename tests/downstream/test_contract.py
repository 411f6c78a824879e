"""What holds for every kind of downstream: it becomes equal to what is published, touches nothing that is equal, and what fails
costs nothing else. test_faults has the kills and the failures of operations."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from daemon.downstream.records import Records
from tests.downstream.kinds import Kind, Order
from tests.downstream.worlds import ORDERS, WORKER, World, every_kind
from tests.support.following import DAILY, day, epoch_days, never


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
    one = World(tmp_path, kind, {})
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
