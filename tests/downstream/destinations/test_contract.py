"""What holds for every kind of destination with rows: it becomes equal to what is published, only what changed is sent, what
fails costs nothing else, and what is there belongs to its users. Their own modules test what is special to each."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.downstream.attempts import Followed
from daemon.operate.verify_destinations import check_destinations
from tests.downstream.destinations.places import MIRROR, TABLE, Place, Rows, postgres
from tests.downstream.kinds import Order
from tests.downstream.worlds import ORDERS, WORKER
from tests.support.examples import examples
from tests.support.following import DAILY, Home, day, epoch_days, never
from tests.support.harness import open_engine
from tests.support.postgres import server

FACT = ("order_id", "amount", "user_id")
DAILY_COLUMNS = ("orders", "amount")


@pytest.fixture(scope="module")
def load() -> Iterator[Place]:
    with server() as dsn:
        yield postgres(dsn)


@pytest.fixture(params=["mirror", "table", "load"])
def place(request: pytest.FixtureRequest) -> Place:
    return (
        request.getfixturevalue("load")
        if request.param == "load"
        else {"mirror": MIRROR, "table": TABLE}[request.param]
    )


class World:
    """An output with a model and one destination, and the orders that are published in it."""

    def __init__(self, root: Path, place: Place) -> None:
        self.home, self.place = Home(root), place
        self.orders: dict[int, Order] = {}
        self.home.destinations(place.configure(self.home))
        self.home.model("daily", DAILY)

    def publish(self, *orders: Order, users: str = "") -> None:
        self.orders |= {order.number: order for order in orders}
        self.home.publish(*(self.home.order(one.number, one.on, one.amount, one.user) for one in orders), users=users)

    def round(self) -> Followed:
        """An undisturbed round of a new process: all is up to date."""
        found = self.home.round(WORKER)
        assert not any(one.error or one.stale for one in found.values()), found
        return found[self.place.name]

    def fact(self) -> Rows:
        return self.place.rows(self.home, "fact_order", FACT)

    def expected(self) -> Rows:
        """What plain Python expects of the facts."""
        found: dict[str, list[tuple[Any, ...]]] = {}
        for one in self.orders.values():
            found.setdefault(day(one.on), []).append((f"o_{one.number}", one.amount, one.user))
        return {date: sorted(rows, key=repr) for date, rows in found.items()}

    def is_right(self) -> bool:
        """Facts, items and the model."""
        published = sorted((self.home.output / "curated").glob("date=*/order_items.parquet"))
        columns = ("order_id", "line_number", "sku", "qty")
        items = {
            path.parent.name[5:]: sorted(
                (tuple(row[name] for name in columns) for row in pq.ParquetFile(path).read().to_pylist()), key=repr
            )
            for path in published
        }
        daily = {date: [(len(rows), sum(amount for _, amount, _ in rows))] for date, rows in self.expected().items()}
        return (
            self.fact() == self.expected()
            and self.place.rows(self.home, "order_items", columns) == items
            and self.place.rows(self.home, "daily", DAILY_COLUMNS) == daily
        )


@pytest.fixture
def world(tmp_path: Path, place: Place) -> World:
    one = World(tmp_path, place)
    one.publish(*ORDERS, users="user_id,name\nu_1,Ada\n")
    return one


def test_a_new_one_catches_up_and_then_rests(world: World) -> None:
    """All that was published before it, models and dimensions among them; a second round sends nothing."""
    sent = world.round()
    # 5 dates of 3 tables, and dim_user
    assert world.is_right() and sent.dates == 6 and sent.files == 16 and sent.bytes > 0
    rests = world.round()
    assert (rests.dates, rests.files, rests.bytes) == (0, 0, 0)


def test_only_what_changed_is_sent(world: World) -> None:
    """A corrected order: its date, of facts, items and the model; an unchanged file of that date is not sent again."""
    world.round()
    world.publish(Order(3, 3, -33))
    sent = world.round()
    assert world.is_right() and sent.dates == 1
    assert sent.files == 2  # its items are the same


def test_a_new_model_is_sent_without_sending_anything_else_again(world: World) -> None:
    """Every date is stale then, and of each only the model's file is new."""
    world.round()
    world.home.model("another", DAILY)
    assert world.round().files == 5
    assert world.place.rows(world.home, "another", DAILY_COLUMNS) == world.place.rows(
        world.home, "daily", DAILY_COLUMNS
    )
    (world.home.models / "another.sql").unlink()
    world.round()
    assert world.place.rows(world.home, "another", DAILY_COLUMNS) == {} and world.is_right()


def test_a_date_without_orders_loses_its_rows(world: World) -> None:
    """The only order of a date moves to another one."""
    world.round()
    world.publish(Order(5, 1, -50, "u_3"))
    world.round()
    assert world.is_right() and day(9) not in world.fact()


def test_a_date_that_is_gone_when_it_is_refreshed_loses_its_rows(world: World) -> None:
    """What is to be sent again is still there until then."""
    world.round()
    world.publish(Order(5, 1, -50, "u_3"))
    with world.home.following(WORKER) as following:
        following.refresh([world.place.name], [epoch_days(day(9))])
    world.round()
    assert world.is_right() and day(9) not in world.fact()


def test_tables_can_be_chosen(tmp_path: Path, place: Place) -> None:
    """What is not named is not sent; a name that is no table is an error that names those that there are."""
    world = World(tmp_path, place)
    world.publish(*ORDERS)
    text = place.configure(world.home)
    world.home.destinations(f'{text}tables = ["daily"]\n')
    world.round()
    assert world.fact() == {} and len(place.rows(world.home, "daily", DAILY_COLUMNS)) == 5
    world.home.destinations(f'{text}tables = ["daly"]\n')
    found = world.home.round(WORKER)[place.name]
    assert "there is no table or model daly; there are daily, dim_product" in found.error


def test_a_model_that_fails_costs_the_facts_nothing(world: World) -> None:
    """The results of the model that there are stay."""
    world.round()
    before = world.place.rows(world.home, "daily", DAILY_COLUMNS)
    world.home.model("daily", "SELECT date, no_such_column FROM fact_order")
    world.publish(Order(6, 2, 60))
    found = world.home.round(WORKER)
    assert found["daily"].error and not found[world.place.name].error
    assert world.fact() == world.expected() and world.place.rows(world.home, "daily", DAILY_COLUMNS) == before


def test_a_model_that_is_to_be_made_again_and_fails_costs_the_facts_nothing(world: World) -> None:
    """Nobody knows what is in its files: what the destination has of it stays, and everything else goes on."""
    world.round()
    before = world.place.rows(world.home, "daily", DAILY_COLUMNS)
    world.home.model("daily", "SELECT date, error('no') AS orders FROM fact_order")
    with world.home.following(WORKER) as following:
        following.refresh(["daily"])
    world.publish(Order(6, 2, 60))
    found = world.home.round(WORKER)
    assert found["daily"].error and not found[world.place.name].error
    assert world.fact() == world.expected() and world.place.rows(world.home, "daily", DAILY_COLUMNS) == before
    world.home.model("daily", DAILY)
    world.round()
    assert world.is_right()


def test_a_model_that_does_not_fit_keeps_back_no_orders(world: World) -> None:
    """A type that the destination has not; a mirror takes every file."""
    world.round()
    world.home.model("unfit", "SELECT date, [1] AS many, CAST(1 AS UINTEGER) AS whole FROM fact_order")
    world.publish(Order(6, 2, 60))
    found = world.home.round(WORKER)[world.place.name]
    assert bool(found.error) == (world.place.kind != "mirror") and world.fact() == world.expected()
    if found.error:
        assert "unfit" in found.error
    (world.home.models / "unfit.sql").unlink()
    world.round()
    assert world.is_right()


def test_an_output_in_which_nothing_was_published_removes_nothing(world: World) -> None:
    """A mistyped path, or a volume that is not mounted."""
    world.round()
    before = world.fact()
    world.home.output.rename(world.home.root / "away")
    (world.home.output / "state").mkdir(parents=True)
    with open_engine(world.home.root):  # makes an empty ledger
        pass
    found = world.home.round(WORKER)[world.place.name]
    assert "nothing was ever published in" in found.error and world.fact() == before
    shutil.rmtree(world.home.output)
    (world.home.root / "away").rename(world.home.output)
    world.round()
    assert world.is_right()


def test_one_that_is_away_costs_nothing_else_and_catches_up(world: World) -> None:
    """Its error says what was attempted; models go on; it is tried again, and then has everything."""
    world.round()
    world.publish(Order(6, 2, 60), Order(1, 4, 11))
    with world.place.away(world.home):
        found = world.home.round(WORKER)
        one = found[world.place.name]
        assert one.error and one.failures == 1, one
        assert one.stale in (3, 6)  # a folder that is gone has nothing
        assert one.is_transient or world.place.kind != "load"
        assert not found["daily"].error and found["daily"].dates == 3
    world.round()
    assert world.is_right()


def test_what_is_refreshed_is_sent_again(world: World) -> None:
    """One date or all: rows that somebody changed there become right. `verify` names them before."""
    world.round()
    for dates in ([epoch_days(day(3))], None):
        world.place.damage(world.home, "fact_order", day(3))
        with world.home.following(WORKER) as following:
            (difference,), behind = check_destinations(following, world.home.root, never)
            assert f"fact_order {day(3)}" in difference.what and f"refresh {world.place.name}" in difference.found
            assert behind == 0
            following.refresh([world.place.name], dates)
            found = next(one for one in following.round(never, now=True) if one.name == world.place.name)
            assert not found.error and found.dates == (1 if dates else 6), found
            assert check_destinations(following, world.home.root, never) == ([], 0)
        assert world.is_right()
        assert world.round().dates == 0


def test_a_section_that_is_removed_removes_nothing_there(world: World) -> None:
    """Its records go; what was sent stays, and the same section later finds it."""
    world.round()
    text = world.place.configure(world.home)
    world.home.destinations("")
    found = world.home.round(WORKER)
    assert found[world.place.name].is_removed and world.is_right()
    with world.home.following(WORKER) as following:
        assert [one.name for one in following.states()] == ["daily"]
    world.home.destinations(text)
    assert world.round().dates == 0


def test_lost_records_cost_nothing(world: World) -> None:
    """The destination itself says what it has."""
    world.round()
    for path in (world.home.output / "state").glob("downstream.sqlite*"):
        path.unlink()
    world.publish(Order(1, 1, 11))
    found = world.round()
    assert found.dates == 1 and world.is_right()


def test_one_that_was_restored_from_a_backup_is_brought_forward(world: World) -> None:
    """Nobody tells the daemon."""
    world.round()
    restore = world.place.backup(world.home)
    world.publish(Order(1, 1, 11), Order(2, 7, 22))
    world.round()
    restore()
    assert not world.is_right()
    world.round()
    assert world.is_right()


changes = st.lists(
    st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(-9, 9)),
    min_size=1,
    max_size=4,
    unique_by=lambda one: one[0],
)


@pytest.mark.parametrize("kind", ["mirror", "table", "load"])
def test_after_any_history_it_is_equal(
    kind: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> None:
    """Orders that come, change and move, rounds now and then, and times when it is away."""
    place = request.getfixturevalue("load") if kind == "load" else {"mirror": MIRROR, "table": TABLE}[kind]

    @examples(6)
    @given(st.lists(st.tuples(changes, st.sampled_from(["round", "nothing", "away"])), min_size=1, max_size=5))
    def histories(steps: list[tuple[list[tuple[int, int, int]], str]]) -> None:
        world = World(tmp_path_factory.mktemp("history"), place)
        for orders, then in steps:
            world.publish(*(Order(number, on, amount) for number, on, amount in orders))
            if then == "round":
                world.round()
                assert world.is_right()
            elif then == "away":
                with place.away(world.home):
                    world.home.round(WORKER)
        world.round()
        assert world.is_right()

    histories()
