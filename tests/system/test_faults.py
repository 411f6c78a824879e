"""Nothing is lost and nothing doubled, whatever happens: a part of what the full runs in tests/faults/ do, each point once.

The real command, real signals, real system calls; the answer is the model's. docs/RELIABILITY.md has the figures of full runs.
"""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from random import Random

import pytest

from tests.faults import (
    KILLED,
    KILLS,
    MANY,
    Action,
    Control,
    Ended,
    Server,
    damage,
    errors,
    kills,
    library,
    limits,
    power,
    preloading,
)
from tests.faults.mutants import MUTANTS, POWER_MUTANTS
from tests.faults.world import World, copied, violations, whole, world
from tests.support import REPO
from tests.support.daemon_process import Daemon, started, until
from tests.support.examples import LONG
from tests.support.harness import dates

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
    # A few in a run: larger steps may miss them
    rare = {"truncate", "mkdir", "rmdir", "symlink"} if step == 1 else set()
    assert hit.keys() >= {"open", "write", "fsync", "rename", "unlink"} | rare


@pytest.mark.parametrize("seed", [2, 8])
def test_a_power_loss_at_any_operation_loses_and_doubles_nothing(server: Server, folder: Path, seed: int) -> None:
    """States of the disk in which what was not synced is missing, torn or reordered."""
    outage = power.Outage(server, folder, seed)
    twice = 0
    for one in power.every_state(outage, step=1 if LONG else 13):
        assert one.violations == [], one.replay
        twice += one.again > 0
    assert twice > (15 if LONG else 8)


def test_a_power_loss_while_a_date_is_mended_leaves_it_to_the_next_start(
    server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any operation: it stays set aside, or it is mended; all is right at the end."""

    class WithLostDate(World):
        """Applied; a date is set aside, and what it is made of is there again."""

        def prepare(self, home: Path, run: Callable[[Path], Ended]) -> None:
            super().prepare(home, run)
            assert run(home).status in (0, 1)
            output = home / "output"
            date = dates(output)[0]
            (output / "curated" / f"date={date}" / "fact_order.parquet").write_bytes(b"damaged")
            (output / "raw").rename(home / "raw")
            (output / "raw").mkdir()
            ended = server.run(home, None, ("rebuild", date))
            assert ended.status == 3 and "restore it from a backup" in ended.stderr, ended.stderr
            (output / "raw").rmdir()
            (home / "raw").rename(output / "raw")

    before = world(2)
    monkeypatch.setattr(power, "world", lambda _: WithLostDate(2, before.before, before.now))
    monkeypatch.setattr(power, "whole", lambda _: [])  # the damaged file is not, until it is mended
    outage = power.Outage(server, folder, 2)
    assert any("fact_order.parquet" in one.path for one in outage.record)
    for one in power.every_state(outage, step=1 if LONG else 11):
        assert one.violations == [], one.replay


def test_an_operation_that_fails_costs_no_drop(server: Server, folder: Path) -> None:
    """No space, broken, read-only, not allowed, interrupted, cut short; once and lasting."""
    found = list(errors.every_failure(errors.FailureBench(server, folder, 3), step=4 if LONG else 36))
    assert [(one.replay, one.violations) for one in found if one.violations] == []
    assert {one.error for one in found} == {*errors.ERRORS, errors.CUT}
    assert sum(one.recovered for one in found) > (30 if LONG else 15) and any(not one.recovered for one in found)


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_harness_catches_a_broken_version(server: Server, folder: Path, mutant: str) -> None:
    """A kill at some point must show it, and nothing else: undisturbed, it does what it should."""
    bench = kills.Bench(server, folder, world(1), mutant)
    assert bench.kill(0, Action.KILL_BEFORE, 0).violations == []
    points = list(range(bench.points, 0, -3))
    Random(1).shuffle(points)  # each mutant fails in another part of the run
    assert any(bench.kill(point, Action.KILL_BEFORE, 0).violations for point in points), mutant


@pytest.mark.parametrize("mutant", POWER_MUTANTS)
def test_the_power_harness_catches_a_broken_version(server: Server, folder: Path, mutant: str) -> None:
    """A version that does not sync must lose something."""
    outage = power.Outage(server, folder, 1, mutant)
    assert any(one.violations for one in islice(power.every_state(outage, step=5), 60)), mutant


@pytest.mark.parametrize(
    ("error", "point", "reads"),
    [
        (errno.ENOSPC, 30, False),
        (errno.EIO, 60, False),
        (errno.EROFS, 90, False),
        (errno.EACCES, 110, False),
        (errno.EIO, 400, True),
        (errno.ESTALE, 540, True),
    ],
)
def test_a_watching_daemon_heals_by_itself(server: Server, folder: Path, error: int, point: int, reads: bool) -> None:
    """Everything fails from one operation on; the daemon lives on, and once the cause is gone applies all that is there."""
    home, one = folder / "home", world(1)
    one.prepare(home, lambda place: server.run(place, None))
    control = Control(folder / "control", home, reads=reads)
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


@pytest.mark.parametrize(("what", "most", "step"), [("bytes", 320 << 10, 8 << 10), ("files", 60, 1 if LONG else 4)])
def test_a_disk_that_is_really_full(server: Server, folder: Path, what: str, most: int, step: int) -> None:
    """A small file system, its free space or its free inodes swept: wherever it ends, published files stay whole, and all is
    applied after."""
    one = world(3)
    one.prepare(folder / "base", lambda home: server.run(home, None))
    with limits.small_file_system(folder / "small", "size=16m,nr_inodes=1000") as place:
        if place is None:
            pytest.skip("mounting a small file system is not allowed here")
        refused = 0
        for left in range(0, most, step):
            home = copied(folder / "base", place / "home")
            with limits.filled(place, left if what == "bytes" else None, left if what == "files" else None):
                ended = server.run(home, None)
            refused += ended.status == 3
            assert ended.status in (0, 1, 3), ended.stderr
            assert whole(home) == []
            ended = server.run(home, None)
            assert ended.status in (0, 1), ended.stderr
            assert violations(home, one) == [], left
            shutil.rmtree(home)
        assert refused > 5


@pytest.mark.parametrize(
    ("limit", "allowed", "exit_codes"),
    [
        (resource.RLIMIT_NOFILE, 64, (0,)),
        (resource.RLIMIT_NOFILE, 12, (0, 3)),
        (resource.RLIMIT_DATA, 100 << 20, (0, 1, 3, -6, -11)),
        (resource.RLIMIT_DATA, 130 << 20, (0, 3, -6, -11)),
        (resource.RLIMIT_DATA, 150 << 20, (0, 3, -6, -11)),
        (resource.RLIMIT_DATA, 165 << 20, (0, 3, -6, -11)),
        (resource.RLIMIT_FSIZE, 64 << 10, (0, 3)),
    ],
    ids=["64 open files", "12 open files", "100 MiB", "130 MiB", "150 MiB", "165 MiB of memory", "files of 64 KiB"],
)
def test_a_limit_of_the_process_costs_no_drop(
    server: Server, folder: Path, limit: int, allowed: int, exit_codes: tuple[int, ...]
) -> None:
    """Drops over many dates, with a limit that a careless set-up sets: it works, or stops and says what to do. Where memory is
    too little for a library, that may end the process itself; it must end."""
    one = limits.wide_world(*((100, 300) if LONG else (20, 60)))
    one.prepare(folder / "home", lambda home: server.run(home, None))
    ended = limits.limited(folder / "home", {limit: allowed})
    assert ended.status in exit_codes, ended.stderr
    assert ended.status != 3 or "Nothing is lost" in ended.stderr.splitlines()[-1], ended.stderr
    assert "unexpected" not in ended.stderr
    assert whole(folder / "home") == []
    ended = server.run(folder / "home", None)
    assert ended.status == 0, ended.stderr
    assert violations(folder / "home", one) == []


@contextmanager
def watching(server: Server, home: Path) -> Iterator[tuple[Daemon, Callable[[], None], World]]:
    """A daemon that is ready, what moves drops over many dates into its inbox, and the world that they make."""
    one = limits.wide_world(20, 60)
    one.prepare(home, lambda home: server.run(home, None))
    later = home / "later"
    (home / "inbox").rename(later)
    daemon = started(home, HTTP__ENABLED="true", WATCH__RESCAN_SECONDS="0.3")

    def arrive() -> None:
        for path in sorted(later.iterdir()):
            path.rename(daemon.inbox / path.name)

    try:
        until(daemon.ready, "ready")
        yield daemon, arrive, one
    finally:
        daemon.process.kill()
        daemon.process.wait()


def goes_on(daemon: Daemon) -> None:
    until(lambda: daemon.process.poll() is not None or not any(daemon.inbox.iterdir()), "the drops are taken")
    until(lambda: daemon.process.poll() is not None or daemon.ready(), "ready again")


@pytest.mark.parametrize(
    ("limit", "allowed", "exit_codes"),
    [
        (resource.RLIMIT_NOFILE, 12, ()),
        (resource.RLIMIT_FSIZE, 1000, (3,)),
        (resource.RLIMIT_DATA, 1 << 20, (3, -6, -11)),
    ],
    ids=["12 open files", "files of 1 kB", "no more memory"],
)
def test_a_watching_daemon_goes_on_when_a_limit_is_gone(
    server: Server, folder: Path, limit: int, allowed: int, exit_codes: tuple[int, ...]
) -> None:
    """It says what fails, and applies everything once it can. Where memory is too little for a library, that may end the process;
    the next start then loses nothing."""
    with watching(server, folder / "home") as (daemon, arrive, one):
        before = resource.prlimit(daemon.process.pid, limit)
        resource.prlimit(daemon.process.pid, limit, (allowed, before[1]))
        arrive()
        failed = "operation failed; trying again"
        until(lambda: daemon.said(failed) or daemon.process.poll() is not None, "it says so")
        assert whole(folder / "home") == []
        if daemon.process.poll() is None:
            resource.prlimit(daemon.process.pid, limit, before)
            goes_on(daemon)
        code = daemon.process.poll()
        assert code in (None, *exit_codes), daemon.log_path.read_text()[-3000:]
    assert server.run(folder / "home", None).status == 0
    assert violations(folder / "home", one) == []


def test_a_watching_daemon_goes_on_when_there_are_inodes_again(server: Server, folder: Path) -> None:
    """It is not ready while there are none, and says why."""
    with limits.small_file_system(folder / "small", "size=64m,nr_inodes=2000") as place:
        if place is None:
            pytest.skip("mounting a small file system is not allowed here")
        with watching(server, place / "home") as (daemon, arrive, one):
            with limits.filled(place, None, 3):
                arrive()
                until(lambda: "No space left on device" in daemon.get("/-/ready")[1], "it says so")
                assert whole(daemon.home) == []
            goes_on(daemon)
            assert daemon.stop() == 0
        assert violations(place / "home", one) == []


def test_a_read_that_fails_costs_no_drop(server: Server, folder: Path) -> None:
    """Broken, stale, not now, interrupted, cut short; once and lasting: of files and folders that are read."""
    bench = errors.FailureBench(server, folder, 3, reads=True)
    found = list(errors.every_failure(bench, step=4 if LONG else 180))
    assert [(one.replay, one.violations) for one in found if one.violations] == []
    assert {one.error for one in found} == {*errors.READ_ERRORS, errors.CUT}
    assert sum(one.recovered for one in found) > (30 if LONG else 10) and any(not one.recovered for one in found)


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "writes"])
def test_a_folder_of_one_date_on_a_broken_part_of_the_disk_stops_only_its_date(
    server: Server, folder: Path, reads: bool
) -> None:
    """All that reads in it fails with EIO, or all that writes. What the date had is not lost, nor what came for it meanwhile."""
    home, date = folder / "home", "2026-03-02"
    later = [{"order_id": f"o_of_{day}", "created_at": day, "amount": 1} for day in (date, "2025-01-01")]
    one = world(3)
    one = replace(one, now=[*one.now, ("zz.json", json.dumps(later).encode())])
    one.prepare(home, lambda home: server.run(home, None))
    place = home / "output" / "curated" / f"date={date}"
    control = Control(folder / "control", place, reads=reads)
    control.act(Action.FAIL, 1, MANY, errno.EIO)
    ended = server.run(home, control)
    assert ended.status == 1 and f"could not read and write {place}: Input/output error" in ended.stderr, ended.stderr
    assert "2025-01-01" in dates(home / "output") and not any((home / "inbox").iterdir())
    assert server.run(home, control).status == 1
    control.heal()
    assert server.run(home, control).status == 0
    found = violations(home, one)
    assert [what for what in found if not what.startswith("restatements ")] == []  # its own is the last one


def test_a_process_killed_while_it_leaves_a_date_out_loses_nothing(server: Server, folder: Path) -> None:
    """Something else is in the place of a new date, which is found when the committed batch is published: that date is set aside,
    and the rest is published, whenever the process is killed."""
    order = {"order_id": "o_new", "created_at": "2025-01-01", "amount": 1}
    one = world(1)
    one = replace(one, now=[*one.now, ("zz.json", json.dumps([order]).encode())])
    one.prepare(folder / "base", lambda home: server.run(home, None))
    junk = Path("output/curated/date=2025-01-01")
    (folder / "base" / junk).write_bytes(b"junk")
    for point in range(3, 1000, 1 if LONG else 60):
        home = copied(folder / "base", folder / "home")
        control = Control(folder / "control", home)
        control.act(Action.KILL_BEFORE, point)
        ended = server.run(home, control)
        if ended.status != KILLED:
            break
        ended = server.run(home, None)
        assert ended.status == 1 and "Not a directory. Let this user" in ended.stderr, ended.stderr
        (home / junk).unlink()
        assert server.run(home, None).status == 0
        assert violations(home, one) == [], (point, control.what)
        shutil.rmtree(home)
    assert point > 120


def test_a_damaged_ledger_publishes_nothing_wrong(server: Server, folder: Path) -> None:
    """Bits flipped in a page, a page zeroed, the file cut: every command says what to do or is right, and what it says helps."""
    kinds = [*damage.KINDS, damage.CUT]
    found = list(damage.every_page(damage.DamageBench(server, folder, 2), kinds, step=1 if LONG else 28))
    assert [(one.replay, one.violations) for one in found if one.violations] == []
    assert sum(one.runs["--once"] == 3 for one in found) > len(found) // 2
