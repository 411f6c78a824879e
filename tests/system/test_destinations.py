"""Destinations with the real command and the real daemon, a real PostgreSQL, S3 server and receiver: what arrives, what one that
fails costs, and that no secret is anywhere."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import obstore
import psycopg
import pyarrow.parquet as pq
import pytest
from obstore.store import from_url

from tests.support import REPO, s3
from tests.support.command import drop, once, order, strandline
from tests.support.daemon_process import free_port, place, running, series, started, until
from tests.support.postgres import Server, cluster

FAST = {
    "WATCH__RESCAN_SECONDS": "0.2",
    "WATCH__SETTLE_SECONDS": "0.05",
    "RETRY__INITIAL_DELAY_SECONDS": "0.1",
    "ENGINE__WORKERS": "1",
}
SECRET = "sw0rdf1sh-0123456789"


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    with cluster() as one:
        yield one


@pytest.fixture
def dsn(database: Server) -> Iterator[str]:
    """A database of this test's own."""
    with psycopg.connect(database.conninfo, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS shop WITH (FORCE)")
        connection.execute("CREATE DATABASE shop")
    yield database.conninfo.replace("dbname=postgres", "dbname=shop")


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    with s3.server() as url:
        yield url


def configure(home: Path, text: str) -> None:
    (home / "config.toml").write_text(text)


def loaded(dsn: str, schema: str = "strandline") -> dict[str, Decimal]:
    """The amount of each order in the database."""
    with psycopg.connect(dsn) as connection:
        if connection.execute("SELECT to_regclass(%s)", [f"{schema}.fact_order"]).fetchone() == (None,):
            return {}
        rows = connection.execute(f"SELECT order_id, sum(amount) FROM {schema}.fact_order GROUP BY 1").fetchall()
        return dict(rows)


def published(home: Path) -> dict[str, Decimal]:
    found: dict[str, Decimal] = {}
    for path in (home / "output" / "curated").glob("date=*/fact_order.parquet"):
        for row in pq.ParquetFile(path).read(["order_id", "amount"]).to_pylist():
            found[row["order_id"]] = found.get(row["order_id"], Decimal(0)) + row["amount"]
    return found


def settled(home: Path, name: str, *numbers: int, day: int = 2, **more: object) -> None:
    drop(home, name, [order(number, day, **more) for number in numbers])


# ------------------------------------------------------------------------------------------------------------------ --once


def test_the_whole_way_of_the_compose_profile(tmp_path: Path, dsn: str, storage: str, monkeypatch: Any) -> None:
    """deploy/warehouse/config.toml as it is shipped: from a drop to a row in the warehouse and an object in the bucket, with the
    example models; and a correction."""
    for name in ("models", "checks"):
        shutil.copytree(REPO / name, tmp_path / name)
    configure(tmp_path, (REPO / "deploy" / "warehouse" / "config.toml").read_text())
    access = {"AWS_ACCESS_KEY_ID": s3.KEY, "AWS_SECRET_ACCESS_KEY": s3.SECRET, "AWS_REGION": "us-east-1"}
    for name, value in ({"WAREHOUSE_DSN": dsn, "AWS_ENDPOINT_URL": storage, "AWS_ALLOW_HTTP": "true"} | access).items():
        monkeypatch.setenv(name, value)
    bucket = from_url(s3.bucket(storage, "strandline"))
    settled(tmp_path, "a.json", 1, 2, 3)
    ended = once(tmp_path, "--config", "config.toml", **FAST)
    assert ended.returncode == 0, ended.stderr
    assert loaded(dsn) == {"o_1": 1, "o_2": 2, "o_3": 3} == published(tmp_path)
    settled(tmp_path, "b.json", 2, day=4, updated_at="2026-03-05T10:00:00Z", amount=22)
    assert once(tmp_path, "--config", "config.toml", **FAST).returncode == 0
    assert loaded(dsn) == {"o_1": 1, "o_2": 22, "o_3": 3}
    below = tmp_path / "output"
    files = {str(path.relative_to(below)): path.read_bytes() for path in below.glob("curated/date=*/*.parquet")}
    names = [one["path"] for chunk in obstore.list(bucket, "output/curated") for one in chunk]
    objects = {name.removeprefix("output/"): obstore.get(bucket, name).bytes() for name in names if "/date=" in name}
    assert {name: bytes(objects[name]) for name in objects if name.endswith(".parquet")} == files and len(files) == 4
    verified = strandline(tmp_path, "verify", "--destinations", "--config", "config.toml")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_one_that_is_away_makes_once_end_with_1_and_says_why(tmp_path: Path, dsn: str) -> None:
    """The drop is applied all the same; the next run brings everything."""
    away = f"postgresql://tester:{SECRET}@127.0.0.1:{free_port()}/shop"
    configure(tmp_path, '[load.warehouse]\ndsn = "${file:dsn}"\n')
    (tmp_path / "dsn").write_text(away)
    settled(tmp_path, "a.json", 1, 2)
    ended = once(tmp_path, **FAST, RETRY__ATTEMPTS="2", LOG__FORMAT="json")
    assert ended.returncode == 1 and published(tmp_path) == {"o_1": 1, "o_2": 2}
    (event,) = [json.loads(line) for line in ended.stderr.splitlines() if '"not up to date"' in line]
    assert event["load"] == "warehouse" and "[load.warehouse]" in event["cause"]
    assert json.loads(ended.stderr.splitlines()[-1])["behind"] == ["warehouse"]
    for command in (["status"], ["downstream"], ["downstream", "--json"], ["status", "--json"]):
        shown = strandline(tmp_path, *command).stdout
        assert "warehouse" in shown and SECRET not in shown
    (tmp_path / "dsn").write_text(dsn)
    assert once(tmp_path, **FAST).returncode == 0 and loaded(dsn) == published(tmp_path)
    assert SECRET not in ended.stderr
    assert not [
        path for path in (tmp_path / "output").rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


def test_a_model_of_the_same_name_is_refused(tmp_path: Path) -> None:
    """`refresh NAME` could mean both."""
    configure(tmp_path, '[mirror.daily]\nurl = "copy"\n')
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "daily.sql").write_text("SELECT date FROM fact_order")
    ended = once(tmp_path)
    assert ended.returncode == 2 and "[mirror.daily]" in ended.stderr and "choose another name" in ended.stderr


# -------------------------------------------------------------------------------------------------------------- the daemon


def test_the_daemon_follows_and_everything_shows_it(tmp_path: Path, dsn: str) -> None:
    """Metrics, the page, `downstream`; `verify --destinations` finds what somebody changed there, and `refresh` beside the daemon
    mends it."""
    configure(tmp_path, f'[load.warehouse]\ndsn = "{dsn}"\n[mirror.copy]\nurl = "copy"\n')
    with running(tmp_path, **FAST) as daemon:
        place(daemon.inbox / "a.json", json.dumps([order(1), order(2, 5)]).encode())
        until(lambda: loaded(dsn) == {"o_1": 1, "o_2": 2})
        labels = {"kind": "load", "name": "warehouse"}
        until(lambda: daemon.metrics()[series("strandline_downstream_last_success_timestamp_seconds", **labels)] > 0)
        metrics = daemon.metrics()
        assert metrics[series("strandline_downstream_sent_bytes_total", **labels)] > 0
        assert metrics[series("strandline_downstream_stale_dates", **labels)] == 0
        assert metrics[series("strandline_downstream_failing", kind="mirror", name="copy")] == 0
        (_, mirror, load) = [{}, *json.loads(strandline(tmp_path, "downstream", "--json").stdout)]
        assert (mirror["name"], load["name"], load["stale"], load["error"]) == ("copy", "warehouse", 0, None)
        page = daemon.get("/")[1]
        assert "warehouse" in page and "postgres, schema strandline" in page
        with psycopg.connect(dsn) as connection:
            connection.execute("UPDATE strandline.fact_order SET amount = 7 WHERE order_id = 'o_2'")
        found = strandline(tmp_path, "verify", "--destinations")
        assert found.returncode == 1 and "refresh warehouse 2026-03-05" in found.stdout, found.stdout
        assert strandline(tmp_path, "verify").returncode == 0  # only on request
        assert strandline(tmp_path, "refresh", "warehouse", "2026-03-05").returncode == 0
        until(lambda: loaded(dsn)["o_2"] == 2)
    assert strandline(tmp_path, "verify", "--destinations").returncode == 0
    for path in (tmp_path / "output" / "state").glob("downstream.sqlite*"):
        path.unlink()
    with psycopg.connect(dsn) as connection:
        connection.execute("DELETE FROM strandline.fact_order WHERE order_id = 'o_2'")
    assert strandline(tmp_path, "verify", "--destinations").returncode == 1  # they need no records of ours


def test_one_that_never_answers_delays_neither_a_drop_nor_the_end(tmp_path: Path) -> None:
    """It takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        configure(tmp_path, f'[load.warehouse]\ndsn = "postgresql://tester@127.0.0.1:{port}/shop"\n')
        with running(tmp_path, **FAST) as daemon:
            for number in range(1, 4):
                place(daemon.inbox / f"{number}.json", json.dumps([order(number)]).encode())
                daemon.applied(f"{number}.json")
            until(lambda: any("python" in text for text in _children(daemon.process.pid)))
            began = time.monotonic()
            assert daemon.stop() == 0
            assert time.monotonic() - began < 10


def _children(pid: int) -> list[str]:
    found = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [one for path in found for one in path.read_text().split()]
    return [Path(f"/proc/{one}/cmdline").read_bytes().decode() for one in pids if Path(f"/proc/{one}").exists()]


def test_a_server_that_restarts_is_caught_up_with(tmp_path: Path) -> None:
    """Drops come all the time, the server is killed twice; the daemon is never told."""
    with cluster() as server:
        configure(tmp_path, f'[load.warehouse]\ndsn = "{server.conninfo}"\n')
        with running(tmp_path, **FAST) as daemon:
            for number in range(1, 13):
                place(daemon.inbox / f"{number}.json", json.dumps([order(number, 1 + number % 5)]).encode())
                if number in (4, 8):
                    server.stop(signal.SIGQUIT)
                    time.sleep(0.3)
                    server.start()
                time.sleep(0.1)
            until(lambda: loaded(server.conninfo) == {f"o_{number}": number for number in range(1, 13)})
            until(lambda: daemon.metrics()[series("strandline_downstream_failing", kind="load", name="warehouse")] == 0)


def test_a_daemon_killed_at_any_moment_leaves_a_whole_batch_or_none(tmp_path: Path, dsn: str) -> None:
    """SIGKILL to the whole group while orders move between dates: a reader always sees each order exactly once, and in the end
    everything is equal."""
    configure(tmp_path, f'[load.warehouse]\ndsn = "{dsn}"\n[table.lake]\nurl = "lake"\n[mirror.copy]\nurl = "copy"\n')
    numbers, rounds = list(range(1, 31)), random.Random(7)
    settled(tmp_path, "first.json", *numbers)
    assert once(tmp_path, **FAST).returncode == 0
    wrong: list[Any] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            with psycopg.connect(dsn) as connection:
                rows = connection.execute("SELECT order_id, count(*) FROM strandline.fact_order GROUP BY 1").fetchall()
            if len(rows) != len(numbers) or any(count != 1 for _, count in rows):
                wrong.append(rows)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for step in range(6):
            at = f"2026-04-01T10:{step:02d}:00Z"
            moved = [order(number, 1 + (number + step) % 9, updated_at=at, amount=step) for number in numbers]
            daemon = started(tmp_path, **FAST)
            place(tmp_path / "inbox" / f"{step}.json", json.dumps(moved).encode())
            time.sleep(1.2 + rounds.random())
            os.kill(daemon.process.pid, signal.SIGKILL)
            daemon.process.wait()
        assert once(tmp_path, **FAST).returncode == 0
    finally:
        over.set()
        reader.join()
    assert wrong == []
    assert loaded(dsn) == dict.fromkeys((f"o_{number}" for number in numbers), 5) == published(tmp_path)
    verified = strandline(tmp_path, "verify", "--destinations")
    assert verified.returncode == 0, verified.stdout


# ----------------------------------------------------------------------------------------------------------- notifications


@contextmanager
def receiver(home: Path) -> Iterator[Path]:
    """A command that appends what it is told to a file."""
    script = home / "tell.sh"
    script.write_text(f"#!/bin/sh\ncat >> {home}/told.jsonl\necho >> {home}/told.jsonl\n")
    script.chmod(0o755)
    yield home / "told.jsonl"


def test_a_command_is_told_of_every_change(tmp_path: Path) -> None:
    """Each date with orders and amounts before and after; an idle run tells nothing."""
    with receiver(tmp_path) as told:
        configure(tmp_path, f'[notify.team]\ncommand = ["{tmp_path}/tell.sh"]\n')
        settled(tmp_path, "a.json", 1, 2)
        assert once(tmp_path, **FAST).returncode == 0
        settled(tmp_path, "b.json", 3)
        assert once(tmp_path, **FAST).returncode == 0
        assert once(tmp_path, **FAST).returncode == 0
        first, second = [json.loads(line) for line in told.read_text().splitlines() if line.strip()]
        assert first["dates"][0]["before"] is None and first["dates"][0]["after"]["orders"] == 2
        assert second["dates"][0]["before"] == first["dates"][0]["after"]
        assert second["dates"][0]["after"]["orders"] == 3 and Decimal(second["dates"][0]["after"]["amount"]) == 6
        assert first["id"] != second["id"]
