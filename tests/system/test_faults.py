"""Nothing is lost and nothing doubled, whatever happens: a part of what the full runs in tests/faults/ do, each point once.

The real command, real signals, real system calls; the answer is the model's. docs/RELIABILITY.md has the figures of full runs.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path

import pytest

from tests.faults import KILLED, KILLS, MANY, Action, Control, Server, errors, kills, library, power, preloading
from tests.faults.mutants import MUTANTS, POWER_MUTANTS
from tests.faults.world import copied, violations, whole, world
from tests.support import REPO
from tests.support.daemon_process import until
from tests.support.examples import LONG

pytestmark = pytest.mark.timeout(900)  # slow by nature

if library() is None and not os.environ.get("REQUIRE_TEST_TOOLS"):
    pytest.skip("needs a C compiler (cc or gcc) on Linux", allow_module_level=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    place = kills.scratch()
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as one:
        yield one


# The world of seed 4 has three times the operations.
@pytest.mark.parametrize(("seed", "step"), [(1, 1 if LONG else 4), (4, 1 if LONG else 9)])
def test_a_process_killed_at_any_operation_loses_and_doubles_nothing(
    server: Server, folder: Path, seed: int, step: int
) -> None:
    """Durable operations of a run, SQLite's among them, before, after and within each in turn; then one of the recovery."""
    bench = kills.Bench(server, folder, world(seed))
    assert bench.undisturbed == []
    hit: Counter[str] = Counter()
    for point, action in zip(range(1, bench.points + 1, step), cycle(KILLS), strict=False):
        one = bench.kill(point, action, 1 + point % 60)
        assert one.violations == [], one.replay
        hit.update(kills.kind_of(what).partition(" ")[0] for what in (one.what, one.what_second) if what)
    assert hit["fsync"] > 40 // step and hit["write"] > 60 // step, hit
    rare = {"truncate", "rmdir", "symlink"} if step == 1 else set()  # a few in a run: larger steps may miss them
    assert hit.keys() >= {"open", "write", "fsync", "rename", "unlink", "mkdir"} | rare


@pytest.mark.parametrize("seed", [2, 8])
def test_a_power_loss_at_any_operation_loses_and_doubles_nothing(server: Server, folder: Path, seed: int) -> None:
    """States of the disk in which what was not synced is missing, torn or reordered."""
    outage = power.Outage(server, folder, seed)
    twice = 0
    for one in power.every_state(outage, step=1 if LONG else 9):
        assert one.violations == [], one.replay
        twice += one.again > 0
    assert twice > (15 if LONG else 8)


def test_an_operation_that_fails_costs_no_drop(server: Server, folder: Path) -> None:
    """No space, broken, read-only, not allowed, interrupted, cut short; once and lasting."""
    found = list(errors.every_failure(errors.FailureBench(server, folder, 3), step=4 if LONG else 24))
    assert [(one.replay, one.violations) for one in found if one.violations] == []
    assert {one.error for one in found} == {*errors.ERRORS, errors.CUT}
    assert sum(one.recovered for one in found) > (30 if LONG else 15) and any(not one.recovered for one in found)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_harness_catches_a_broken_version(server: Server, folder: Path, mutant: str) -> None:
    """A kill at some point must show it."""
    bench = kills.Bench(server, folder, world(1), mutant)
    tries = (bench.kill(point, Action.KILL_BEFORE, 0) for point in range(bench.points, 0, -3))
    assert any(one.violations for one in islice(tries, 60)), mutant


@pytest.mark.parametrize("mutant", POWER_MUTANTS)
def test_the_power_harness_catches_a_broken_version(server: Server, folder: Path, mutant: str) -> None:
    """A version that does not sync must lose something."""
    outage = power.Outage(server, folder, 1, mutant)
    assert any(one.violations for one in islice(power.every_state(outage, step=5), 60)), mutant


@pytest.mark.parametrize(
    ("error", "point"), [(errno.ENOSPC, 30), (errno.EIO, 60), (errno.EROFS, 90), (errno.EACCES, 110)]
)
def test_a_watching_daemon_heals_by_itself(server: Server, folder: Path, error: int, point: int) -> None:
    """Everything fails from one operation on; the daemon lives on, and once the cause is gone applies all that is there."""
    home, one = folder / "home", world(1)
    one.prepare(home, lambda place: server.run(place, None))
    control = Control(folder / "control", home)
    control.act(Action.FAIL, point, MANY, error)
    process = subprocess.Popen(
        [sys.executable, "-m", "daemon"], cwd=home, env=preloading(control) | {"PYTHONPATH": str(REPO)},
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: control.acted >= 5)
        assert process.poll() is None
        assert whole(home) == []
        control.heal()
        until(lambda: violations(home, one) == [])
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_a_daemon_killed_in_its_first_batch(server: Server, folder: Path) -> None:
    """The real process, started as people start it, is killed at operations of its first batch; the next one finishes."""
    one = world(4)
    one.prepare(folder / "base", lambda place: server.run(place, None))
    for point in (20, 60, 100, 140, 180, 220):
        home = copied(folder / "base", folder / "home")
        control = Control(folder / "control", home)
        control.act(Action.KILL_AFTER, point)
        ended = subprocess.run(
            [sys.executable, "-m", "daemon"], cwd=home, env=preloading(control) | {"PYTHONPATH": str(REPO)},
            stderr=subprocess.DEVNULL, start_new_session=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == KILLED
        assert server.run(home, None).status in (0, 1)
        assert violations(home, one) == []
        shutil.rmtree(home)


def test_a_disk_that_is_really_full(server: Server, folder: Path) -> None:
    """A small file system, its free space swept: wherever it ends, published files stay whole, and all is applied after."""
    place = folder / "small"
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=False).returncode
    ):
        pytest.skip("mounting a small file system is not allowed here")
    try:
        one = world(3)
        one.prepare(folder / "base", lambda home: server.run(home, None))
        refused = 0
        for kib in range(0, 320, 8):
            home = copied(folder / "base", place / "home")
            subprocess.run(["fallocate", "-l", "8m", place / "filler"], check=False, stderr=subprocess.DEVNULL)
            free = os.statvfs(place).f_bavail * os.statvfs(place).f_frsize
            with open(place / "filler", "ab") as filler:
                with suppress(OSError):
                    filler.write(b"." * free)
                filler.truncate(max(0, (place / "filler").stat().st_size - kib * 1024))
            ended = server.run(home, None)
            refused += ended.status == 3
            assert ended.status in (0, 1, 3), ended.stderr
            assert whole(home) == []
            (place / "filler").unlink()
            ended = server.run(home, None)
            assert ended.status in (0, 1), ended.stderr
            assert violations(home, one) == [], kib
            shutil.rmtree(home)
        assert refused > 5
    finally:
        subprocess.run(["umount", place], check=True)
