"""The daemon as a process: real files, real signals. What a writer does, what a file system does, what an operator does."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.support import REPO, elsewhere
from tests.support.command import environment, once, order, strandline
from tests.support.daemon_process import Daemon, free_port, place, running, series, started, started_deaf, until
from tests.support.harness import dates, rows, tree

FOREVER = "3600"  # a rescan that never comes: what is seen was announced by an event


def content(*numbers: int, day: int = 2) -> bytes:
    return json.dumps([order(number, day) for number in numbers]).encode()


def ids(daemon: Daemon, date: str = "2026-03-02") -> set[object]:
    return {row["order_id"] for row in rows(daemon.output, date)}


# ------------------------------------------------------------------------------------------------------- what writers do


def test_a_drop_is_applied_because_an_event_announced_it(tmp_path: Path) -> None:
    """Without any rescan and without waiting to settle, however the drop gets its name: written and closed, moved in, linked."""
    with running(tmp_path, WATCH__RESCAN_SECONDS=FOREVER, WATCH__SETTLE_SECONDS="30") as daemon:
        (daemon.inbox / "written.json").write_bytes(content(1))
        daemon.applied("written.json")
        outside = tmp_path / "outside.json"
        outside.write_bytes(content(2))
        os.rename(outside, daemon.inbox / "moved.json")
        daemon.applied("moved.json")
        outside.write_bytes(content(3))
        subprocess.run(["cp", "--preserve", outside, daemon.inbox / "copied.json"], check=True)
        daemon.applied("copied.json")
        assert ids(daemon) == {"o_1", "o_2", "o_3"}
        assert daemon.metrics()["strandline_drops_found_by_rescan_total"] == 0


def test_a_drop_that_comes_while_another_is_applied_need_not_settle_by_time(tmp_path: Path) -> None:
    """Each comes at the moment when the one before it is published, while its receipt is still to be written."""
    with running(tmp_path, WATCH__RESCAN_SECONDS=FOREVER, WATCH__SETTLE_SECONDS=FOREVER) as daemon:
        for number in range(1, 31):
            (daemon.inbox / f"{number}.json").write_bytes(content(number))
            until(lambda number=number: dates(daemon.output) and f"o_{number}" in ids(daemon), f"drop {number}")


def test_a_hard_link_gives_no_closing_event_and_settles_by_time(tmp_path: Path) -> None:
    """Only a creation is announced; the drop is taken after it stayed as it is for settle_seconds."""
    with running(tmp_path, WATCH__RESCAN_SECONDS=FOREVER, WATCH__SETTLE_SECONDS="0.3") as daemon:
        outside = tmp_path / "outside.json"
        outside.write_bytes(content(1))
        os.link(outside, daemon.inbox / "linked.json")
        daemon.applied("linked.json")
        assert outside.exists()


def test_a_slow_writer_is_waited_for_however_long_it_pauses(tmp_path: Path) -> None:
    """It holds the file open and pauses for many times settle_seconds: nothing is taken before it closes the file."""
    with running(tmp_path, WATCH__SETTLE_SECONDS="0.05", WATCH__RESCAN_SECONDS="0.1") as daemon:
        with open(daemon.inbox / "slow.json", "wb", buffering=0) as writer:
            writer.write(content(1)[:-1] + b", ")
            looked = daemon.metrics()["strandline_inbox_pending_drops"]
            time.sleep(1.0)  # twenty times the settling; no assertion waits for it
            assert daemon.receipt("slow.json") is None and looked in (0, 1)
            writer.write(content(2)[1:])
        assert daemon.applied("slow.json")["records"]["new"] == 2


def test_open_close_reopen_append_is_one_drop_or_two_and_loses_nothing(tmp_path: Path) -> None:
    """A writer that closes a line drop and appends to it later: every line is applied, whenever it is looked at."""
    with running(tmp_path, WATCH__SETTLE_SECONDS="0.2", WATCH__RESCAN_SECONDS="0.5") as daemon:
        path = daemon.inbox / "grows.ndjson"
        for number in range(1, 30):
            with open(path, "ab") as writer:
                writer.write(json.dumps(order(number)).encode() + b"\n")
            time.sleep(0.01)
        until(lambda: dates(daemon.output) and len(ids(daemon)) == 29, "29 orders")
        assert not list((daemon.output / "quarantine").glob("*"))


def test_overwriting_in_place_and_the_same_name_again_are_new_drops(tmp_path: Path) -> None:
    """Other content under a known name is another drop; so is what overwrites a file while it is being read."""
    with running(tmp_path, WATCH__RESCAN_SECONDS="0.5") as daemon:
        for number in range(1, 20):
            (daemon.inbox / "same.json").write_bytes(content(number))
            time.sleep(0.005 * (number % 5))
        until(lambda: dates(daemon.output) and "o_19" in ids(daemon), "the last content")

        def drops() -> list[dict[str, Any]]:
            return [r for r in map(json.loads, _receipt_texts(daemon)) if r["name"] == "same.json"]

        until(lambda: sum(r["records"]["new"] for r in drops()) == len(ids(daemon)), "the last receipt")
        assert {r["outcome"] for r in drops()} == {"applied"}


def _receipt_texts(daemon: Daemon) -> list[str]:
    return [path.read_text() for path in (daemon.output / "receipts").rglob("*.json")]


def test_rsync_and_other_temporary_names_are_not_touched(tmp_path: Path) -> None:
    """rsync writes .name.XXXXXX and renames; *.part, *.tmp and *~ are left alone until they get their names."""
    with running(tmp_path, WATCH__RESCAN_SECONDS=FOREVER) as daemon:
        for name in (".a.json.XyZ12", "b.json.part", "c.json.tmp", "d.json~"):
            (daemon.inbox / name).write_bytes(content(1))
        place(daemon.inbox / "e.json", content(2))
        daemon.applied("e.json")
        assert sorted(p.name for p in daemon.inbox.iterdir()) == [
            ".a.json.XyZ12",
            "b.json.part",
            "c.json.tmp",
            "d.json~",
        ]
        os.rename(daemon.inbox / ".a.json.XyZ12", daemon.inbox / "a.json")
        os.rename(daemon.inbox / "b.json.part", daemon.inbox / "b.json")
        daemon.applied("a.json")
        daemon.applied("b.json")


def test_a_drop_moved_in_across_file_systems_is_taken_whole(tmp_path: Path) -> None:
    """mv copies then, and may take its time."""
    if (other := elsewhere(tmp_path)) is None:
        pytest.skip("no second file system at /dev/shm or /var/tmp")
    lines = b"".join(json.dumps(order(number)).encode() + b"\n" for number in range(50_000))
    source = other / f"strandline-test-{os.getpid()}.ndjson"
    source.write_bytes(lines)
    try:
        with running(tmp_path) as daemon:
            shutil.move(source, daemon.inbox / "big.ndjson")
            assert daemon.applied("big.ndjson")["records"]["new"] == 50_000
    finally:
        source.unlink(missing_ok=True)


def test_subfolders_are_left_alone_and_named_once(tmp_path: Path) -> None:
    """The inbox is one folder. What lies in a folder below is not looked at; the log says so."""
    with running(tmp_path, WATCH__RESCAN_SECONDS="0.2") as daemon:
        (daemon.inbox / "sub").mkdir()
        (daemon.inbox / "sub" / "a.json").write_bytes(content(1))
        place(daemon.inbox / "b.json", content(2))
        daemon.applied("b.json")
        until(lambda: daemon.said("left in the inbox"), "the folder's line")
        time.sleep(1.0)
        assert len(daemon.said("left in the inbox")) == 1 and (daemon.inbox / "sub" / "a.json").exists()
        assert ids(daemon) == {"o_2"}


# ---------------------------------------------------------------------------------------------------- many drops at once


def test_drops_gather_while_a_batch_runs(tmp_path: Path) -> None:
    """A flood is applied in far fewer batches than drops, each order exactly once."""
    with running(tmp_path) as daemon:
        for number in range(2000):
            place(daemon.inbox / f"{number}.json", content(number))
        until(
            lambda: daemon.metrics()[series("strandline_drops_total", source="default", outcome="applied")] == 2000,
            "2000 drops",
        )
        assert len(ids(daemon)) == 2000
        batches = daemon.metrics()[series("strandline_batch_duration_seconds_count", phase="commit")]
        assert batches < 500


def test_a_poison_drop_holds_up_no_other(tmp_path: Path) -> None:
    """Among good drops, one that cannot be read is quarantined, and the rest of its batch is applied."""
    with running(tmp_path) as daemon:
        for number in range(20):
            place(daemon.inbox / f"{number}.json", content(number))
        place(daemon.inbox / "poison.json", b"<html>")
        assert daemon.applied("poison.json")["outcome"] == "quarantined"
        until(lambda: dates(daemon.output) and len(ids(daemon)) == 20, "20 orders")
        assert daemon.metrics()["strandline_quarantined_drops"] == 1


# ---------------------------------------------------------------------------------------------------- what mounts do


def test_an_inbox_that_is_deleted_and_made_again_is_watched_again(tmp_path: Path) -> None:
    """The observer of the old folder stays alive and deaf; a look at the folder's identity finds that out."""
    with running(tmp_path, WATCH__RESCAN_SECONDS="0.3", RETRY__INITIAL_DELAY_SECONDS="0.1") as daemon:
        shutil.rmtree(daemon.inbox)
        until(lambda: daemon.metrics()["strandline_watcher_up"] == 0, "deaf")
        assert daemon.get("/-/ready")[0] == 503
        daemon.inbox.mkdir()
        place(daemon.inbox / "a.json", content(1))
        daemon.applied("a.json")
        until(daemon.ready, "ready again")
        place(daemon.inbox / "b.json", content(2))
        daemon.applied("b.json")
        assert daemon.metrics()["strandline_drops_found_by_rescan_total"] == 0


def test_an_inbox_that_is_replaced_by_another_folder_is_watched_instead(tmp_path: Path) -> None:
    """As when something is mounted over it: the path is the inbox, whatever lies there."""
    with running(tmp_path, WATCH__RESCAN_SECONDS="0.3") as daemon:
        other = tmp_path / "other"
        other.mkdir()
        place(other / "there.json", content(1))
        os.rename(daemon.inbox, tmp_path / "gone")
        os.rename(other, daemon.inbox)
        daemon.applied("there.json")
        until(lambda: daemon.said("replaced") or daemon.said("is back"), "the line")
        place(daemon.inbox / "later.json", content(2))
        daemon.applied("later.json")


def test_something_that_is_mounted_over_the_inbox_is_the_inbox(tmp_path: Path) -> None:
    """And what is unmounted is not: each time the folder under the path is watched, whichever it is."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount")
    with running(tmp_path, WATCH__RESCAN_SECONDS="0.3") as daemon:
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", daemon.inbox]
        if subprocess.run(mount, check=False, capture_output=True).returncode:
            pytest.skip("mounting is not permitted here")
        try:
            place(daemon.inbox / "mounted.json", content(1))
            daemon.applied("mounted.json")
            until(lambda: daemon.said("replaced"), "the line")
            place(daemon.inbox / "heard.json", content(2))
            daemon.applied("heard.json")
        finally:
            subprocess.run(["umount", "--lazy", daemon.inbox], check=True)
        place(daemon.inbox / "below.json", content(3))
        daemon.applied("below.json")
        until(daemon.ready, "ready")


def test_a_queue_of_events_that_really_overflows_loses_no_drop(tmp_path: Path) -> None:
    """The process is stopped while more comes than the kernel keeps events for; without any rescan all is found."""
    limit = Path("/proc/sys/fs/inotify/max_queued_events")
    if not limit.exists() or int(limit.read_text()) > 20_000:
        pytest.skip("no limit of events, or too large a one")
    number = int(limit.read_text()) // 2 + 500
    with running(tmp_path, WATCH__RESCAN_SECONDS=FOREVER) as daemon:
        daemon.process.send_signal(signal.SIGSTOP)
        for index in range(number):  # each is created, closed, and renamed
            place(daemon.inbox / f"{index}.json", content(index))
        daemon.process.send_signal(signal.SIGCONT)
        applied = series("strandline_drops_total", source="default", outcome="applied")
        until(lambda: daemon.metrics()[applied] == number, "all drops", 180)
        until(lambda: daemon.said("overflowed"), "the line")
        assert len(ids(daemon)) == number


def test_polling_needs_no_event(tmp_path: Path) -> None:
    """Mode polling looks every second at most, however long a rescan takes."""
    with running(tmp_path, WATCH__MODE="polling", WATCH__RESCAN_SECONDS="0.2") as daemon:
        place(daemon.inbox / "a.json", content(1))
        daemon.applied("a.json")
        assert daemon.metrics()["strandline_watcher_up"] == 1


def test_what_no_event_announces_is_found_counted_and_said(tmp_path: Path) -> None:
    """Without inotify instances (the limit is exhausted) the daemon says so, looks instead, and applies what comes."""
    daemon = started_deaf(tmp_path, WATCH__RESCAN_SECONDS="0.2")
    try:
        until(daemon.ready, "ready")
        place(daemon.inbox / "a.json", content(1))
        daemon.applied("a.json")
        assert daemon.said("cannot be watched")
        until(lambda: daemon.metrics()["strandline_drops_found_by_rescan_total"] == 1, "counted")
    finally:
        daemon.process.kill()
        daemon.process.wait()


# ---------------------------------------------------------------------------------------------------- the environment


def test_a_full_disk_pauses_keeps_everything_and_heals(tmp_path: Path) -> None:
    """ENOSPC while archiving: nothing is quarantined, readiness says why, and it goes on by itself when there is room."""
    if os.geteuid() != 0:
        pytest.skip("needs root to mount a small tmpfs")
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", small], check=False, capture_output=True
    ).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        settings = {"PATHS__OUTPUT": str(small / "output"), "RETRY__INITIAL_DELAY_SECONDS": "0.05",
                    "RETRY__MAX_DELAY_SECONDS": "0.2", "RETRY__ATTEMPTS": "3"}  # fmt: skip
        with running(tmp_path, **settings) as daemon:
            daemon.output = small / "output"
            place(daemon.inbox / "a.json", content(1))
            until(lambda: dates(daemon.output), "the first drop")
            before = tree(daemon.output / "curated")
            ballast = small / "ballast"
            with open(ballast, "wb") as file:
                try:
                    while True:
                        file.write(b"\0" * 65536)
                        file.flush()
                except OSError as error:
                    assert error.errno == errno.ENOSPC
            place(daemon.inbox / "b.json", b" " * 200_000 + content(2))
            until(lambda: daemon.metrics()["strandline_paused"] == 1, "paused")
            status, why = daemon.get("/-/ready")
            assert status == 503 and "No space left" in why
            assert daemon.get("/-/healthy")[0] == 200
            assert tree(daemon.output / "curated") == before
            metrics = daemon.metrics()
            assert metrics[series("strandline_retries_total", operation="archive")] >= 3
            assert metrics[series("strandline_retries_exhausted_total", operation="archive")] == 1
            ballast.unlink()
            until(lambda: len(ids(daemon)) == 2, "healed")
            until(daemon.ready, "ready again")
            assert daemon.metrics()["strandline_paused"] == 0
            assert not list((daemon.output / "quarantine").glob("*"))
            assert daemon.stop() == 0
    finally:
        subprocess.run(["umount", "--lazy", small], check=False)


def test_a_ledger_that_somebody_else_holds_is_waited_for(tmp_path: Path) -> None:
    """SQLite busy beyond its own patience: tried again, counted, and applied when it is free."""
    with running(tmp_path, RETRY__INITIAL_DELAY_SECONDS="0.1") as daemon:
        place(daemon.inbox / "a.json", content(1))
        daemon.applied("a.json")
        with closing(sqlite3.connect(daemon.output / "state" / "ledger.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            place(daemon.inbox / "b.json", content(2))
            until(lambda: daemon.metrics()[series("strandline_retries_total", operation="archive")] >= 1, "a retry")
            assert "locked" in daemon.said("operation failed")[0]["cause"]
            other.execute("ROLLBACK")
        assert daemon.applied("b.json")["outcome"] == "applied"
        until(daemon.ready, "ready")


def test_an_inbox_without_rights_is_waited_for(tmp_path: Path) -> None:
    """EACCES on the folder itself: not ready, with the reason; it goes on when the rights are back."""
    as_others = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
    if as_others and subprocess.run([*as_others, "true"], check=False, capture_output=True).returncode:
        pytest.skip("root's rights cannot be taken away here (setpriv)")
    settings = {
        "WATCH__RESCAN_SECONDS": "0.3",
        "RETRY__INITIAL_DELAY_SECONDS": "0.05",
        "RETRY__MAX_DELAY_SECONDS": "0.2",
    }
    daemon = started(tmp_path, as_others, **settings)
    try:
        until(daemon.ready, "ready")
        daemon.inbox.chmod(0)
        until(lambda: "Permission denied" in daemon.get("/-/ready")[1], "not ready")
        until(lambda: daemon.metrics()["strandline_paused"] == 1, "paused")
        daemon.inbox.chmod(0o700)
        place(daemon.inbox / "a.json", content(1))
        daemon.applied("a.json")
        until(daemon.ready, "ready again")
        assert daemon.stop() == 0
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


# --------------------------------------------------------------------------------------------------------------- scrapes


def test_a_scrape_does_not_wait_for_a_batch(tmp_path: Path) -> None:
    """While a large batch is under way, metrics and health are answered."""
    lines = b"".join(json.dumps(order(number, 1 + number % 28)).encode() + b"\n" for number in range(300_000))
    with running(tmp_path) as daemon:
        place(daemon.inbox / "big.ndjson", lines)
        until(lambda: not (daemon.inbox / "big.ndjson").exists(), "it was taken")
        answered = 0
        while daemon.receipt("big.ndjson") is None:
            assert daemon.metrics()["strandline_paused"] == 0 and daemon.get("/-/healthy")[0] == 200
            answered += 1
        assert answered > 3
        until(
            lambda: daemon.metrics()[series("strandline_orders_total", source="default", outcome="new")] == 300_000,
            "counted",
        )


def test_a_catch_up_writes_the_textfile_if_asked(tmp_path: Path) -> None:
    """Two runs add up; a relative path is relative to the working directory of the variable."""
    (tmp_path / "inbox").mkdir()
    for number in (1, 2):
        place(tmp_path / "inbox" / f"{number}.json", content(number))
        assert once(tmp_path, METRICS__TEXTFILE="strandline.prom").returncode == 0
    text = (tmp_path / "strandline.prom").read_text()
    assert 'strandline_drops_total{outcome="applied",source="default"} 2.0' in text
    assert "strandline_high_water_mark_timestamp_seconds 1.772" in text
    refused = once(tmp_path, METRICS__TEXTFILE="nowhere/strandline.prom")
    assert refused.returncode == 2 and "nowhere" in refused.stderr and "Traceback" not in refused.stderr


# -------------------------------------------------------------------------------------------------------------- stopping


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_idle_daemon_with_exit_code_0(tmp_path: Path, number: int) -> None:
    """Also while it sleeps for an hour."""
    with running(tmp_path, WATCH__RESCAN_SECONDS=FOREVER) as daemon:
        assert daemon.stop(number) == 0
        assert daemon.events()[-1]["event"] == "run ended"


def test_a_signal_at_any_moment_of_start_up_ends_it_with_exit_code_0(tmp_path: Path) -> None:
    """From the moment at which our first line runs; what it had begun is finished by the next start."""
    hooked = tmp_path / "hooked.py"
    hooked.write_text(  # kills itself after so many seconds, counted from our first line
        "import os, signal, sys, threading, time, runpy\n"
        "from daemon.stopping import hold\n"
        "delay = float(sys.argv.pop(1))\n"
        "if __name__ == '__main__':\n"
        "    hold()\n"
        "    threading.Thread(target=lambda: (time.sleep(delay), os.kill(os.getpid(), signal.SIGTERM)), daemon=True).start()\n"
        "    from daemon.cli import main\n"
        "    sys.exit(main([]))\n"
    )
    (tmp_path / "inbox").mkdir()
    place(tmp_path / "inbox" / "a.json", content(1))
    for step in range(16):
        ended = subprocess.run(
            [sys.executable, hooked, str(step * 0.05)], cwd=tmp_path, env=environment(HTTP__PORT=str(free_port())),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert ended.returncode == 0, (step, ended.stderr)
    assert once(tmp_path).returncode == 0
    assert [row["order_id"] for row in rows(tmp_path / "output", "2026-03-02")] == ["o_1"]


def test_a_signal_in_the_middle_of_a_large_batch_ends_it_within_ten_seconds(tmp_path: Path) -> None:
    """At several moments, one after the other on the same output; at the end nothing is lost or doubled."""
    (tmp_path / "inbox").mkdir()
    lines = [json.dumps(order(number, 1 + number % 28)).encode() for number in range(300_000)]
    place(tmp_path / "inbox" / "big.ndjson", b"\n".join(lines) + b"\n")
    for step in range(6):
        daemon = started(tmp_path)
        _wait_for_start(daemon)
        daemon.log_path.write_text("")
        time.sleep(step * 0.3)
        begun = time.monotonic()
        assert daemon.stop() == 0
        assert time.monotonic() - begun < 10  # a promise; what would be usual is far less
    assert once(tmp_path).returncode == 0
    assert sum(len(rows(tmp_path / "output", date)) for date in dates(tmp_path / "output")) == 300_000


def _wait_for_start(daemon: Daemon) -> None:
    until(lambda: daemon.said("run started"), "start")


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """Whatever it is doing; the next start finishes it."""
    (tmp_path / "inbox").mkdir()
    lines = [json.dumps(order(number)).encode() for number in range(400_000)]
    place(tmp_path / "inbox" / "big.ndjson", b"\n".join(lines) + b"\n")
    daemon = started(tmp_path)
    _wait_for_start(daemon)
    time.sleep(0.5)
    daemon.process.send_signal(signal.SIGTERM)
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.process.wait(60) in (0, -signal.SIGTERM, 128 + signal.SIGTERM)
    assert once(tmp_path).returncode == 0
    assert len(rows(tmp_path / "output", "2026-03-02")) == 400_000


def test_a_call_that_does_not_return_is_ended_at_the_deadline(tmp_path: Path) -> None:
    """Whatever hangs, in C or in the kernel: exit code 0 within ten seconds, and nothing is lost."""
    hanging = tmp_path / "hanging.py"
    hanging.write_text(
        "import sys, time\n"
        "import daemon.storage.store as s\n"
        "if __name__ == '__main__':\n"
        "    s.encode = lambda table: time.sleep(1000)\n"
        "    from daemon.cli import main\n"
        "    sys.exit(main([]))\n"
    )
    (tmp_path / "inbox").mkdir()
    place(tmp_path / "inbox" / "a.json", content(1))
    process = subprocess.Popen([sys.executable, hanging], cwd=tmp_path, env=environment(HTTP__PORT=str(free_port())))
    try:
        until(lambda: list((tmp_path / "output").glob("raw/received=*/*")), "it is archived")
        begun = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert time.monotonic() - begun < 10
    finally:
        process.kill()
        process.wait()
    assert once(tmp_path).returncode == 0
    assert [row["order_id"] for row in rows(tmp_path / "output", "2026-03-02")] == ["o_1"]


def test_as_pid_1_it_stops_on_a_signal(tmp_path: Path) -> None:
    """The kernel drops signals to PID 1 that have no handler; there is one."""
    wrapper = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    if subprocess.run([*wrapper, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no PID namespace can be made here")
    daemon = started(tmp_path, wrapper)
    try:
        until(daemon.ready, "ready")
        children = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGTERM)
        assert daemon.process.wait(20) == 0
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


# ------------------------------------------------------------------------------------------------------------ one writer


def test_a_second_instance_says_who_holds_the_output(tmp_path: Path) -> None:
    """Exit code 3 with host, process and time; `status` and `plan` work beside the running daemon."""
    with running(tmp_path) as daemon:
        place(daemon.inbox / "a.json", content(1))
        daemon.applied("a.json")
        for arguments in ((), ("--once",)):
            other = subprocess.run(
                [sys.executable, "-m", "daemon", *arguments], cwd=tmp_path, env=environment(HTTP__PORT=str(free_port())),
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            assert other.returncode == 3
            assert f"pid {daemon.process.pid}" in other.stderr and socket.gethostname() in other.stderr
            assert "Traceback" not in other.stderr
        status = _command(tmp_path, "status", "--json")
        assert json.loads(status)["orders"]["new"] == 1
        (tmp_path / "next.json").write_bytes(content(2))
        assert "2026-03-02" in _command(tmp_path, "plan", "next.json")


def _command(home: Path, *arguments: str) -> str:
    ended = strandline(home, *arguments)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_worker_that_is_killed_costs_nothing(tmp_path: Path) -> None:
    """The kernel's out-of-memory killer takes a reader now and then: its work is done again, and the daemon goes on."""
    lines = [json.dumps(order(number)).encode() for number in range(300_000)]
    with running(tmp_path) as daemon:
        over = threading.Event()
        killed: list[int] = []

        def kill_one() -> None:
            while not over.is_set():
                for pid in _descendants(daemon.process.pid):
                    if "forkserver" in Path(f"/proc/{pid}/cmdline").read_text() and _parent(pid) != daemon.process.pid:
                        os.kill(pid, signal.SIGKILL)
                        killed.append(pid)
                        return

        thread = threading.Thread(target=kill_one)
        thread.start()
        place(daemon.inbox / "big.ndjson", b"\n".join(lines) + b"\n")
        receipt = daemon.applied("big.ndjson")
        over.set()
        thread.join()
        assert killed, "no worker was there to be killed"
        assert receipt["outcome"] == "applied" and receipt["records"]["new"] == 300_000


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _descendants(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parent = _parent(int(path.name))
        except OSError:
            continue
        if parent == pid:
            found += [int(path.name), *_descendants(int(path.name))]
    return found


# --------------------------------------------------------------------------------------------------------------- systemd


def test_systemd_is_told_when_it_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    """READY=1 once what an earlier run left is done and the inbox is watched; STOPPING=1 at the end."""
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(address)
        channel.settimeout(60)
        daemon = started(tmp_path, wrapper=("env", f"NOTIFY_SOCKET={address}"))
        assert channel.recv(100) == b"READY=1"
        assert daemon.stop() == 0
        assert channel.recv(100) == b"STOPPING=1"


def test_the_systemd_unit_says_what_the_daemon_does() -> None:
    """Type=notify, the documented exit codes, and enough time to stop."""
    unit = (REPO / "deploy" / "strandline.service").read_text()
    for line in ("Type=notify", "KillSignal=SIGTERM", "RestartPreventExitStatus=2",
                 "AmbientCapabilities=CAP_LEASE", "CapabilityBoundingSet=CAP_LEASE"):  # fmt: skip
        assert line in unit.splitlines()
