"""One bad thing stops only itself: a date that is lost, a layer that is removed, a log that nobody reads."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from tests.support.command import as_drop, drop, order, strandline
from tests.support.daemon_process import Daemon, place, started, until
from tests.support.harness import lose, rows, tree


def test_a_run_sets_a_lost_date_aside_says_so_and_mends_it_later(tmp_path: Path) -> None:
    """Exit code 1 until it is mended; `status` and `verify` name it; new orders of the date are not lost."""
    drop(tmp_path, "a.json", as_drop([order(1), order(2, 3)]))
    assert strandline(tmp_path, "--once").returncode == 0
    copy, content = lose(tmp_path / "output", "a.json", "2026-03-02")
    drop(tmp_path, "b.json", as_drop([order(3), order(4, 3)]))
    ended = strandline(tmp_path, "--once")
    assert ended.returncode == 1 and "set aside" in ended.stderr and copy.name in ended.stderr, ended.stderr
    assert [one["order_id"] for one in rows(tmp_path / "output", "2026-03-03")] == ["o_2", "o_4"]
    status = strandline(tmp_path, "status")
    assert "Set aside" in status.stdout and "2026-03-02" in status.stdout and copy.name in status.stdout
    (one,) = json.loads(strandline(tmp_path, "status", "--json").stdout)["set_aside"]
    assert one["name"] == "2026-03-02" and copy.name in one["reason"]
    verified = strandline(tmp_path, "verify")
    assert verified.returncode == 1 and "not what was committed, and set aside: " in verified.stdout
    refused = strandline(tmp_path, "rebuild", "2026-03-02")
    assert refused.returncode == 3 and copy.name in refused.stderr
    copy.write_bytes(content)
    ended = strandline(tmp_path, "--once")
    assert ended.returncode == 0 and "no longer set aside" in ended.stderr
    assert [one["order_id"] for one in rows(tmp_path / "output", "2026-03-02")] == ["o_1", "o_3"]
    assert strandline(tmp_path, "verify").returncode == 0


def test_rebuild_of_the_date_mends_it_at_once(tmp_path: Path) -> None:
    drop(tmp_path, "a.json", as_drop([order(1), order(2, 3)]))
    strandline(tmp_path, "--once")
    copy, content = lose(tmp_path / "output", "a.json", "2026-03-02")
    drop(tmp_path, "b.json", as_drop([order(3)]))
    assert strandline(tmp_path, "--once").returncode == 1
    copy.write_bytes(content)
    assert strandline(tmp_path, "rebuild", "2026-03-02", "2026-03-03").returncode == 0
    assert strandline(tmp_path, "verify").returncode == 0


def test_a_rebuild_of_several_dates_makes_those_that_it_can(tmp_path: Path) -> None:
    """And names the one that it cannot."""
    drop(tmp_path, "a.json", as_drop([order(1)]))
    drop(tmp_path, "b.json", as_drop([order(2, 3)]))
    strandline(tmp_path, "--once")
    copy, _ = lose(tmp_path / "output", "a.json", "2026-03-02")
    drop(tmp_path, "c.json", as_drop([order(3)]))
    assert strandline(tmp_path, "--once").returncode == 1
    (tmp_path / "output" / "curated" / "date=2026-03-03" / "fact_order.parquet").write_bytes(b"damaged")
    refused = strandline(tmp_path, "rebuild", "2026-03-02", "2026-03-03")
    assert refused.returncode == 3 and copy.name in refused.stderr and "2026-03-03" not in refused.stderr
    assert [one["order_id"] for one in rows(tmp_path / "output", "2026-03-03")] == ["o_2"]


def test_sql_reads_the_other_dates_and_ends_with_1(tmp_path: Path) -> None:
    """Standard output has the rows in the form that was asked for, and nothing else; standard error says what is missing. What
    the error of a damaged date says to do sets it aside where it cannot be made again."""
    drop(tmp_path, "a.json", as_drop([order(1)]))
    drop(tmp_path, "b.json", as_drop([order(2, 3)]))
    strandline(tmp_path, "--once")
    copy, content = lose(tmp_path / "output", "a.json", "2026-03-02")
    query = ("sql", "--json", "SELECT DISTINCT order_id FROM fact_order ORDER BY ALL")
    damaged = strandline(tmp_path, *query)
    assert damaged.returncode == 3 and not damaged.stdout and "`strandline rebuild DATE`" in damaged.stderr
    refused = strandline(tmp_path, "rebuild", "2026-03-02")
    assert refused.returncode == 3 and copy.name in refused.stderr
    ended = strandline(tmp_path, *query)
    assert ended.returncode == 1 and json.loads(ended.stdout) == [{"order_id": "o_2"}]
    assert "without 2026-03-02" in ended.stderr and "`strandline status`" in ended.stderr
    assert strandline(tmp_path, "sql", "SELECT 1").returncode == 0
    copy.write_bytes(content)
    assert strandline(tmp_path, "rebuild", "2026-03-02").returncode == 0
    ended = strandline(tmp_path, *query)
    assert (
        ended.returncode == 0
        and not ended.stderr
        and json.loads(ended.stdout) == [{"order_id": "o_1"}, {"order_id": "o_2"}]
    )


def test_a_manifest_is_without_what_is_set_aside_and_ends_with_1(tmp_path: Path) -> None:
    """A date that is set aside need not have a folder. A dimension is one file: without it, there is no manifest."""
    users = b"user_id,email\nu_1,a@example.com\n"
    for name, content in {"users.csv": users, "a.json": as_drop([order(1)]), "b.json": as_drop([order(2, 3)])}.items():
        drop(tmp_path, name, content)
    strandline(tmp_path, "--once")
    lose(tmp_path / "output", "a.json", "2026-03-02")
    (raw,) = tmp_path.glob("output/raw/*/*users.csv")
    raw.unlink()
    (tmp_path / "output" / "curated" / "dim_user.parquet").write_bytes(b"damaged")
    drop(tmp_path, "c.json", as_drop([order(3, user_id="u_1")]))
    assert strandline(tmp_path, "--once").returncode == 1
    shutil.rmtree(tmp_path / "output" / "curated" / "date=2026-03-02")
    for dates, listed, is_whole in (
        ((), ["2026-03-03"], False), (("2026-03-02", "2026-03-03"), ["2026-03-03"], False), (("2026-03-02",), [], False),
        (("2026-03-03",), ["2026-03-03"], True),
    ):  # fmt: skip
        ended = strandline(tmp_path, "manifest", "fact_order", "s3://bucket/shop", *dates)
        urls = [entry["url"] for entry in json.loads(ended.stdout)["entries"]]
        assert urls == [f"s3://bucket/shop/curated/date={date}/fact_order.parquet" for date in listed]
        assert ended.returncode == (0 if is_whole else 1)
        assert ("not in the manifest: 2026-03-02, set aside or in a folder" in ended.stderr) is not is_whole
        assert ended.stderr.splitlines()[-1].startswith(f"{len(listed)} file")
    ended = strandline(tmp_path, "manifest", "dim_user", "s3://bucket/shop")
    assert ended.returncode == 3 and not ended.stdout and "it is set aside: " in ended.stderr


def test_a_daemon_whose_layer_is_removed_is_not_ready_until_it_is_made_anew(tmp_path: Path) -> None:
    """It notices at the next scan. The files are the same."""
    daemon = started(tmp_path, WATCH__RESCAN_SECONDS="2")
    try:
        until(daemon.ready, "ready")
        place(daemon.inbox / "a.json", as_drop([order(number, number) for number in range(1, 20)]))
        daemon.applied("a.json")
        curated = daemon.output / "curated"
        before = tree(curated)
        for _ in range(10):  # the next scan may come, and make all anew, before it is asked
            shutil.rmtree(curated)
            code, why = daemon.get("/-/ready")
            until(daemon.ready, "ready again")
            assert tree(curated) == before and len(before) == 38
            if code == 503:
                break
        assert code == 503 and "published files are missing" in why
        assert daemon.said("published files are missing") and daemon.said("the published files are there again")
    finally:
        daemon.process.kill()
        daemon.process.wait()


def with_a_pipe_as_log(home: Path) -> tuple[Daemon, int]:
    """A daemon whose log goes to a pipe, and the end of the pipe that can be read."""
    home.mkdir(exist_ok=True)
    os.mkfifo(home / "pipe")
    ours = os.open(home / "pipe", os.O_RDWR | os.O_NONBLOCK)
    daemon = started(home, ("sh", "-c", 'exec "$@" 2>"$0"', str(home / "pipe")), WATCH__RESCAN_SECONDS="0.3")
    return daemon, ours


def fill(pipe: int) -> None:
    try:
        while True:
            os.write(pipe, b"." * 512)
    except BlockingIOError:
        pass


def empty(pipe: int) -> None:
    try:
        while os.read(pipe, 1 << 16):
            pass
    except BlockingIOError:
        pass


def test_a_log_that_nobody_reads_makes_the_daemon_not_ready_and_loses_nothing(tmp_path: Path) -> None:
    """It waits, says why to whoever asks, and goes on once the log is read again."""
    daemon, pipe = with_a_pipe_as_log(tmp_path)
    try:
        until(daemon.ready, "ready")
        fill(pipe)
        place(daemon.inbox / "a.json", as_drop([order(1)]))
        until(lambda: "the log could not be written" in daemon.get("/-/ready")[1], "it says so")
        assert daemon.get("/-/ready")[0] == 503 and daemon.get("/-/healthy")[0] == 200
        assert daemon.metrics()["strandline_log_blocked_seconds"] > 2
        empty(pipe)
        daemon.applied("a.json")
        until(daemon.ready, "ready again")
        assert daemon.metrics()["strandline_log_blocked_seconds"] == 0
    finally:
        daemon.process.kill()
        daemon.process.wait()
        os.close(pipe)
