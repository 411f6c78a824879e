"""The output folder is removed, moved or restored beside a running process, and another one starts in what is there now.

Whatever the first was doing, each drop is in the inbox, or in the ledger and the raw layer of an output; the first ends with
exit code 3 and changes nothing in the new folder.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.faults import MANY, Action, Control, Server, kills, library, preloading
from tests.faults.world import copied, ledger_rows, world
from tests.support.command import once, order, strandline
from tests.support.daemon_process import Daemon, place, running, started, started_with, until
from tests.support.examples import LONG

pytestmark = pytest.mark.timeout(600)  # slow by nature

NEEDS_C = pytest.mark.skipif(
    library() is None and not os.environ.get("REQUIRE_TEST_TOOLS"), reason="needs a C compiler (cc or gcc) on Linux"
)


def content(number: int) -> bytes:
    return json.dumps([order(number)]).encode()


def _remove(output: Path, backup: Path) -> None:
    # As `rm -r` does when it is asked again: the daemon may add a file while the folder is emptied
    while output.exists():
        shutil.rmtree(output, ignore_errors=True)


def _remove_state(output: Path, backup: Path) -> None:
    """Somebody means to begin anew, and leaves what is published."""
    shutil.rmtree(output / "state")


def _restore(output: Path, backup: Path) -> None:
    output.rename(output.with_name("away"))
    shutil.copytree(backup, output, symlinks=True)


def _restore_over(output: Path, backup: Path) -> None:
    """Into the folder that is there: new files under the old names, as tar and rsync write them."""
    for path in backup.rglob("*"):
        target = output / path.relative_to(backup)
        if path.is_file() and not path.is_symlink():
            shutil.copy2(path, target.with_name(".new"))
            os.replace(target.with_name(".new"), target)


def _write_over(output: Path, backup: Path) -> None:
    """The same, into the files that are there, as cp writes them."""
    subprocess.run(["cp", "-a", f"{backup}/.", f"{output}/"], check=True)


def ended(daemon: Daemon) -> str:
    """What a daemon said when it ended because its output was replaced."""
    assert daemon.process.wait(60) == 3, daemon.log_path.read_text()
    # A second daemon in the same home writes to the same log, so this need not be its last line.
    said = [line for line in daemon.log_path.read_text().splitlines() if "could not go on with" in line]
    assert len(said) == 1 and "start again" in said[0]
    return said[0]


def backup_of(home: Path) -> Path:
    """A home with a backup of its output, which has one drop; it was made when nobody was at work."""
    place_in_inbox(home, "first.json", 1)
    assert once(home).returncode == 0
    return copied(home / "output", home / "backup")


def beside_state(output: Path) -> list[str]:
    """Everything in an output but for state/."""
    return sorted(str(path) for path in output.rglob("*") if "state" not in path.parts)


def place_in_inbox(home: Path, name: str, number: int) -> None:
    (home / "inbox").mkdir(parents=True, exist_ok=True)
    place(home / "inbox" / name, content(number))


@pytest.mark.parametrize("replace", [_remove, _remove_state, _restore, _restore_over, _write_over])
def test_a_daemon_whose_output_was_replaced_takes_nothing_more(
    tmp_path: Path, replace: Callable[[Path, Path], None]
) -> None:
    """It ends with exit code 3 and says why; the drop that comes then is still in the inbox, and the next instance has it."""
    backup = backup_of(tmp_path)
    with running(tmp_path, WATCH__RESCAN_SECONDS="3600") as daemon:
        place(daemon.inbox / "before.json", content(2))
        daemon.applied("before.json")
        until(lambda: not any((daemon.output / ".staging").iterdir()))  # the receipt comes before the last of the batch
        replace(daemon.output, backup)
        there = beside_state(daemon.output)
        place(daemon.inbox / "after.json", content(3))
        ended(daemon)
        assert [path.name for path in daemon.inbox.iterdir()] == ["after.json"]
        assert beside_state(daemon.output) == there  # nothing was begun anew
    if replace is _remove_state:  # what is published is not taken for nothing
        assert once(tmp_path).returncode == 3
    if replace in (_remove_state, _restore_over, _write_over):  # SQLite may have joined two ledgers
        assert strandline(tmp_path, "rebuild").returncode == 0
    assert once(tmp_path).returncode == 0
    assert "after.json" in {row.name for row in ledger_rows(tmp_path)}
    verified = strandline(tmp_path, "verify")
    assert verified.returncode == 0, verified.stdout


def test_an_idle_daemon_notices_at_its_next_look(tmp_path: Path) -> None:
    """No drop has to come for that."""
    with running(tmp_path, WATCH__RESCAN_SECONDS="0.2") as daemon:
        daemon.output.rename(tmp_path / "away")
        assert "output is gone" in ended(daemon)
        assert not daemon.output.exists()


def test_a_second_daemon_takes_over_in_a_new_folder(tmp_path: Path) -> None:
    """Drops come all the time. Each is taken by one of the two, or by both, and none by neither."""
    numbers = iter(range(2, 10_000))
    sent: list[str] = []

    def deliver(many: int) -> None:
        for number in (next(numbers) for _ in range(many)):
            sent.append(f"{number}.json")
            place_in_inbox(tmp_path, sent[-1], number)

    with running(tmp_path, BATCH__MAX_DROPS="3") as first:
        deliver(40)
        until(lambda: first.receipt("5.json"), "the first drops")
        deliver(100)
        first.output.rename(tmp_path / "away")
        second = started(tmp_path)
        try:
            deliver(60)
            ended(first)
            deliver(20)
            until(lambda: not list((tmp_path / "inbox").glob("*.json")), "an empty inbox")
        finally:
            assert second.stop() == 0
    assert once(tmp_path).returncode == 0
    assert list((tmp_path / "inbox").iterdir()) == []
    taken = {row.name for row in ledger_rows(tmp_path)}
    assert strandline(tmp_path, "verify").returncode == 0
    (tmp_path / "output").rename(tmp_path / "second")
    (tmp_path / "away").rename(tmp_path / "output")
    assert once(tmp_path).returncode == 0  # what the first had archived
    assert {row.name for row in ledger_rows(tmp_path)} | taken == set(sent)
    assert strandline(tmp_path, "verify").returncode == 0


@pytest.fixture
def folder() -> Iterator[Path]:
    place = kills.scratch()
    yield place
    shutil.rmtree(place)


@NEEDS_C
@pytest.mark.parametrize("replace", [_remove, _restore])
def test_at_whatever_operation_it_happens_no_drop_is_in_neither(folder: Path, replace: Callable[..., None]) -> None:
    """A batch is stopped before one of its operations, the output replaced, another run made in what is there now (before the
    first goes on, or after); then the first goes on."""
    one = world(6)
    with Server() as first, Server() as second, ThreadPoolExecutor(1) as beside:
        one.prepare(folder / "base", lambda home: second.run(home, None))
        codes = []
        for point in range(1, 1000, 1 if LONG else 7):
            home = copied(folder / "base", folder / "home")
            control = Control(folder / "control", home)
            control.act(Action.STOP, point)
            run = beside.submit(first.run, home, control)
            until(lambda run=run, control=control: run.done() or control.stopped)
            if run.done():
                break
            until(lambda control=control: _is_stopped(control.stopped))
            inbox = _drops_in(home)
            if control.what.startswith("unlink /inbox/.strandline"):  # they were in both when they began to go
                assert all((home / "output" / row.raw).exists() for row in ledger_rows(home) if row.raw)
                inbox -= {row.name for row in ledger_rows(home)}
            replace(home / "output", folder / "base" / "output")
            if point % 2:
                assert second.run(home, None).status in (0, 1)
            os.kill(control.stopped, signal.SIGCONT)
            codes.append(run.result().status)
            assert codes[-1] in (0, 1, 3), run.result().stderr
            assert second.run(home, None).status in (0, 1)
            taken = {row.name for row in ledger_rows(home) if row.batch is not None}
            assert inbox <= taken, (point, control.what, inbox - taken)
            assert list((home / "inbox").iterdir()) == [], (point, control.what)
            if second.run(home, None, ["verify"]).status:
                assert any(name in control.what for name in _WRITTEN_BY_PATH), (point, control.what)
                assert second.run(home, None, ["rebuild"]).status == 0
                _remove_unknown_receipts(home)
                assert second.run(home, None, ["verify"]).status == 0, (point, control.what)
            if replace is _restore:
                (home / "output").rename(home / "new")
                (home / "away").rename(home / "output")
                assert second.run(home, None).status in (0, 1)
                assert {row.name for row in ledger_rows(home)} | taken >= {name for name, _ in one.now}
                assert second.run(home, None, ["verify"]).status == 0, (point, control.what)
            shutil.rmtree(home)
        assert len(codes) > 15 and codes.count(3) > 0.8 * len(codes)


# What the first run may still change in the new folder, if it was stopped between the look at it and this very operation. It
# holds no orders, and `rebuild` writes it anew.
_WRITTEN_BY_PATH = ("orders_raw.json", "restatements.jsonl", "receipts")


def _remove_unknown_receipts(home: Path) -> None:
    """What `verify` says to do with a receipt that was written into an output that has no such drop."""
    known = {row.seq for row in ledger_rows(home)}
    for path in (home / "output" / "receipts").glob("*/*.json"):
        if int(path.name.split("_")[0]) not in known:
            path.unlink()


def _is_stopped(process: int) -> bool:
    return "\nState:\tT" in Path(f"/proc/{process}/status").read_text()


def _drops_in(home: Path) -> set[str]:
    """The names of the drops in an inbox, also of those that are hidden while they are being taken."""
    return {
        path.name.split("-", 3)[-1] if path.name.startswith(".") else path.name for path in (home / "inbox").iterdir()
    }


@NEEDS_C
def test_a_rebuild_beside_a_paused_daemon_is_refused(tmp_path: Path) -> None:
    """Also where state/ was moved away first, as one does with a damaged ledger; the daemon ends when it looks again."""
    home = tmp_path / "home"
    place_in_inbox(home, "a.json", 1)
    control = Control(tmp_path / "control", home / "output")
    settings = {"RETRY__ATTEMPTS": "1", "RETRY__INITIAL_DELAY_SECONDS": "0.1", "RETRY__MAX_DELAY_SECONDS": "5"}
    daemon = started_with(home, preloading(control), **settings)
    try:
        daemon.applied("a.json")
        control.act(Action.FAIL, control.count + 1, MANY, errno.ENOSPC)
        place(daemon.inbox / "b.json", content(2))
        until(lambda: "paused" in daemon.get("/-/ready")[1], "it is paused")
        refused = strandline(home, "rebuild")
        assert refused.returncode == 3 and f"pid {daemon.process.pid}" in refused.stderr
        daemon.process.send_signal(signal.SIGSTOP)  # a pause that lasts
        (daemon.output / "state").rename(home / "state")
        refused = strandline(home, "rebuild")
        assert refused.returncode == 3 and "fuser" in refused.stderr
        daemon.process.send_signal(signal.SIGCONT)
        ended(daemon)
    finally:
        daemon.process.kill()
        daemon.process.wait()
    assert strandline(home, "rebuild").returncode == 0
    assert once(home).returncode == 0
    assert {row.name for row in ledger_rows(home)} == {"a.json", "b.json"}
    assert strandline(home, "verify").returncode == 0
