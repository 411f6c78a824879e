"""A mirror and a table when the process is killed, or an operation on a file fails, at any point of a round. Databases and object
storage are killed as processes, in the modules of their kinds."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest

from tests.downstream.destinations.places import MIRROR, TABLE, Place
from tests.downstream.destinations.test_contract import World
from tests.downstream.kinds import Order
from tests.downstream.worlds import ORDERS
from tests.faults import KILLED, KILLS, MANY, Action, Control, Server, library
from tests.faults.kills import scratch
from tests.faults.world import copied
from tests.support.examples import LONG

STEP = 1 if LONG else 23
ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS)

if library() is None and not os.environ.get("REQUIRE_TEST_TOOLS"):
    pytest.skip("needs a C compiler (cc or gcc) on Linux", allow_module_level=True)


class Bench:
    """A destination with a date to send, one to send again and one to remove, and copies of it that are disturbed."""

    def __init__(self, server: Server, folder: Path, place: Place) -> None:
        self.server, self.folder, self.place = server, folder, place
        self.base = folder / "base"
        self.base.mkdir()
        self.world = World(self.base, place)
        self.world.publish(*ORDERS)
        self.world.round()
        self.before = self.world.expected()
        self.world.publish(Order(3, 3, -33), Order(5, 1, -50, "u_3"), Order(7, 12, -7))
        with self.copy() as home:
            control = Control(folder / "control", home)
            assert server.run(home, control).status == 0
            self.points = control.count
            assert self.at(home).is_right()

    @contextmanager
    def copy(self) -> Iterator[Path]:
        home = copied(self.base, self.folder / "run")
        try:
            yield home
        finally:
            shutil.rmtree(home)

    def at(self, home: Path) -> World:
        world = World.__new__(World)
        world.home, world.place, world.orders = type(self.world.home)(home), self.place, self.world.orders
        return world

    def run(
        self, home: Path, action: Action, point: int, last: int | None = None, error: int = 0
    ) -> tuple[int, str, str]:
        control = Control(self.folder / "control", home)
        control.act(action, point, last, error)
        ended = self.server.run(home, control)
        return ended.status, control.what, ended.stderr

    def heals(self, home: Path, what: str) -> None:
        """Every date has the rows of before or of after; the next round makes all right, and leaves nothing behind."""
        now, after = self.at(home).fact(), self.world.expected()
        for date, rows in now.items():
            assert rows in [found[date] for found in (self.before, after) if date in found], (what, date)
        ended = self.server.run(home, None)
        assert ended.status == 0 and self.at(home).is_right(), (what, ended.stderr)
        assert not list((home / "place").rglob("*.tmp")), what


@pytest.fixture(scope="module", params=[MIRROR, TABLE], ids=lambda place: place.kind)
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    folder = scratch()
    with Server("tests.downstream.rounds:main") as server:
        yield Bench(server, folder, request.param)
    shutil.rmtree(folder)


def test_a_round_killed_at_any_operation_is_finished_by_the_next(bench: Bench) -> None:
    """Before, after and within each in turn."""
    assert bench.points > 100
    for point, action in zip(range(2, bench.points + 1, STEP), cycle(KILLS), strict=False):
        with bench.copy() as home:
            status, what, stderr = bench.run(home, action, point)
            if not what:  # this run had a few operations less
                assert status == 0 and point > bench.points * 0.9 and bench.at(home).is_right()
                break
            assert status == KILLED, (point, stderr)
            bench.heals(home, f"{action.name} {point}: {what}")


@pytest.mark.parametrize("lasting", [False, True])
def test_an_operation_that_fails_is_told_and_costs_nothing(bench: Bench, lasting: bool) -> None:
    """No space, broken, read-only."""
    told = 0
    for point, error in zip(range(3 + 5 * lasting, bench.points + 1, 2 * STEP), cycle(ERRORS), strict=False):
        with bench.copy() as home:
            status, what, stderr = bench.run(home, Action.FAIL, point, MANY if lasting else point, error)
            assert status in (0, 1, 3), (point, what, stderr)
            if status:
                assert stderr.strip() and "unexpected" not in stderr, (point, what, stderr)
                told += 1
            bench.heals(home, f"{errno.errorcode[error]} {point}: {what}")
    assert told > 0
