"""What holds for every kind of downstream when its process is killed, or an operation fails, at any point of a round: nothing is
lost, nothing is half there, and no fingerprint stands for another file."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest

from tests.downstream.kinds import KINDS, Kind, Order
from tests.downstream.worlds import World, every_kind
from tests.faults import KILLED, KILLS, MANY, Action, Control, Ended, Server, library
from tests.faults.kills import scratch
from tests.faults.world import copied
from tests.support.examples import LONG

# From another first operation for each kind, so that together they meet all kinds of operations
STEP = 1 if LONG else 19

pytestmark = pytest.mark.timeout(900)

if library() is None and not os.environ.get("REQUIRE_TEST_TOOLS"):
    pytest.skip("needs a C compiler (cc or gcc) on Linux", allow_module_level=True)


class Bench:
    """A world with one date to make, one to make again and one to remove, and what a disturbed round leaves of it."""

    def __init__(self, server: Server, folder: Path, kind: Kind) -> None:
        self.server, self.folder, self.kind = server, folder, kind
        self.base = folder / "base"
        self.base.mkdir(parents=True)
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

    @contextmanager
    def copy(self) -> Iterator[Path]:
        home = copied(self.base, self.folder / "run")
        try:
            yield home
        finally:
            shutil.rmtree(home)

    def run(self, home: Path, action: Action, point: int, last: int | None = None, error: int = 0) -> tuple[Ended, str]:
        control = Control(self.folder / "control", home)
        control.act(action, point, last, error)
        return self.server.run(home, control), control.what

    def at(self, home: Path) -> dict:
        return {date: sorted(rows, key=repr) for date, rows in self.kind.rows(World(home, self.kind, {}).home).items()}

    def is_right(self, home: Path) -> bool:
        return World(home, self.kind, self.world.orders).is_right()

    def heals(self, home: Path, what: str) -> None:
        """What is there now is whole and of before or after; an undisturbed round makes all right and leaves nothing over, except
        an empty folder that could not be removed."""
        for date, rows in self.at(home).items():
            known = [sorted(found[date], key=repr) for found in (self.before, self.after) if date in found]
            assert rows in known, (what, date)
        ended = self.server.run(home, None)
        assert ended.status == 0 and self.is_right(home), (what, ended.stderr)
        assert list((home / "output" / ".downstream").iterdir()) == [], what
        if self.kind.is_dated:
            folder = home / "output" / "models" / self.kind.name
            there = {path.name for path in folder.iterdir() if "rmdir" not in what or any(path.iterdir())}
            assert there == {f"date={date}" for date in self.after}, what


@pytest.fixture(scope="module")
def benches() -> Iterator[dict[str, Bench]]:
    """One of each kind, made when it is first asked for."""
    place = scratch()
    with Server("tests.downstream.rounds:main") as server:
        yield _Benches(server, place)
    shutil.rmtree(place)


class _Benches(dict[str, Bench]):
    def __init__(self, server: Server, folder: Path) -> None:
        self._server, self._folder = server, folder

    def __missing__(self, label: str) -> Bench:
        kind = next(kind for kind in KINDS if kind.label == label)
        self[label] = Bench(self._server, self._folder / kind.name, kind)
        return self[label]


@pytest.fixture
def bench(benches: dict[str, Bench], kind: Kind) -> Bench:
    return benches[kind.label]


@every_kind
def test_a_round_killed_at_any_operation_is_finished_by_the_next(bench: Bench, kind: Kind) -> None:
    """Durable operations of a round, SQLite's among them, before, after and within each in turn."""
    hit: Counter[str] = Counter()
    first = 1 + KINDS.index(kind) * 3 % STEP
    for point, action in zip(range(first, bench.points + 1, STEP), cycle(KILLS), strict=False):
        with bench.copy() as home:
            ended, what = bench.run(home, action, point)
            assert ended.status == KILLED and what, (point, ended)
            hit[what.partition(" ")[0]] += 1
            bench.heals(home, f"{action.name} {point}: {what}")
    assert hit.total() > 3
    assert STEP > 1 or hit.keys() >= {"open", "write", "fsync", "rename", "unlink", "mkdir", "rmdir", "link"}


@every_kind
@pytest.mark.parametrize("lasting", [False, True])
def test_an_operation_that_fails_is_told_and_costs_nothing(bench: Bench, kind: Kind, lasting: bool) -> None:
    """No space, broken, read-only: the round tells of it or does without; then an undisturbed one makes all right."""
    told = 0
    errors = cycle((errno.ENOSPC, errno.EIO, errno.EROFS))
    first = 2 + (KINDS.index(kind) * 5 + lasting * 7) % STEP
    for point, error in zip(range(first, bench.points + 1, STEP), errors, strict=False):
        with bench.copy() as home:
            ended, what = bench.run(home, Action.FAIL, point, MANY if lasting else point, error)
            assert ended.status in (0, 1, 3), (point, what, ended.stderr)
            if ended.status:
                assert ended.stderr.strip() and "unexpected" not in ended.stderr, (point, what, ended.stderr)
                told += 1
            else:
                assert bench.is_right(home), (point, what)
            bench.heals(home, f"{errno.errorcode[error]} {point}: {what}")
    assert told > 0


@every_kind
def test_an_input_that_went_back_while_its_round_was_killed_gives_its_own_result(bench: Bench, kind: Kind) -> None:
    """A, then B killed after its renames, then A again: the fingerprint of A must not stand for the file of B."""
    hit = 0
    for point in range(bench.points, 0, -1):  # the renames are near the end
        with bench.copy() as home:
            _, what = bench.run(home, Action.KILL_AFTER, point)
            if not what.startswith("rename"):
                if hit:
                    break
                continue
            hit += 1
            back = World(home, kind, bench.world.orders)
            back.home.version = bench.world.home.version
            gone = back.home.order(7, 12, 0, gone=True)
            del back.orders[7]
            back.publish(Order(3, 3, -30), Order(5, 9, -50, "u_3"), more=[gone])
            back.round()
            assert back.is_right(), (point, what)
        if not LONG:
            break
    assert hit > 0
