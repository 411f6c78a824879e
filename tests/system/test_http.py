"""HTTP of the real daemon: bad clients stall neither scrapes nor drops; who may see what."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from daemon.storage.store import folder_name
from tests.support import bad_clients
from tests.support.command import drop, once, order, strandline
from tests.support.daemon_process import Daemon, place, running, started_with, until
from tests.support.ledgers import changing
from tests.support.prometheus import prometheus

DATES, DROPS = 18_000, 10_000
USER, PASSWORD, TOKEN = "jo", 'pass:wörd "1"', "t0ken-of-prometheus"
QUESTIONS = ("/days", "/day", "/drops", "/receipt?drop=1", "/quarantine", "/disk", "/order?id=o_1")
PAGES = ("/", "/api/status", *QUESTIONS, *(f"/api{one}" for one in QUESTIONS))
LOGIN = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}


def ask(daemon: Daemon, path: str, headers: dict[str, str] | None = None, seconds: float = 60) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=seconds)
    with closing(connection):
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def with_many_dates(home: Path) -> None:
    """An output whose ledger has as many partitions as fifty years have days."""
    drop(home, "first.json", [order(1)])
    assert once(home).returncode == 0
    with closing(changing(home / "output" / "state" / "ledger.sqlite")) as ledger, ledger:
        columns = [row[1] for row in ledger.execute("PRAGMA table_info(partitions)")]
        others = ", ".join(columns[1:])
        ledger.execute(
            "WITH RECURSIVE day(date) AS (SELECT 1 UNION ALL SELECT date + 1 FROM day WHERE date < ?) "
            f"INSERT INTO partitions SELECT day.date, {others} FROM day, (SELECT {others} FROM partitions)",
            (DATES,),
        )
    for day in range(1, DATES + 1):  # a start looks for the folders, and makes anew what is missing
        (home / "output" / "curated" / folder_name(day)).mkdir()


def with_many_drops(home: Path) -> None:
    """The same with ten thousand drops, which are the first one again and again."""
    with closing(changing(home / "output" / "state" / "ledger.sqlite")) as ledger, ledger:
        columns = ", ".join([row[1] for row in ledger.execute("PRAGMA table_info(drops)")][2:])
        ledger.execute(
            f"WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < {DROPS}) "
            f"INSERT INTO drops SELECT n.i, 'drop-' || n.i || '.json', {columns} FROM n, "
            f"(SELECT {columns} FROM drops WHERE seq = 1)"
        )
        ledger.execute("UPDATE totals SET value = value + ? WHERE name = 'drops.applied'", (DROPS - 1,))


def pages_stay_small(daemon: Daemon) -> None:
    """Each answer is bounded, and says what it leaves out."""
    for path in ("/days", "/day", "/drops", "/drops?name=drop-77", "/quarantine", "/receipt?drop=77"):
        for one in (path, f"/api{path}"):
            until(lambda one=one: ask(daemon, one)[0] == 200, one)  # a busy machine may take too long once
            assert len(ask(daemon, one)[1]) < 200_000, one
    days = json.loads(ask(daemon, "/api/days")[1])
    assert days["total"]["dates"] == DATES + 1 and len(days["days"]) == 62
    assert days["left_out"] == DATES + 2 - 62  # with the day on which the drops arrived
    assert len(json.loads(ask(daemon, "/api/days?from=1990-01-01&to=1990-01-31")[1])["days"]) == 31
    assert len(json.loads(ask(daemon, "/api/drops?name=drop-77.json")[1])["drops"]) == 1


def test_bad_clients_stall_neither_scrapes_nor_drops(tmp_path: Path) -> None:
    """Twelve that ask for a status with 18,000 dates all the time, and more slow ones than there may be connections, at once.
    Pages over them, and over 10,000 drops, are small."""
    with_many_dates(tmp_path)
    with_many_drops(tmp_path)
    with running(tmp_path) as daemon:
        pages_stay_small(daemon)
        assert len(json.loads(ask(daemon, "/api/status")[1])["partitions"]) == DATES + 1
        with (
            bad_clients.attack(bad_clients.status, daemon.port, 12),
            bad_clients.attack(bad_clients.slow_line, daemon.port, 205),
        ):
            for number in range(2):
                place(daemon.inbox / f"{number}.json", json.dumps([order(100 + number)]).encode())
                for path in ("/-/healthy", "/-/ready", "/metrics", "/"):
                    assert ask(daemon, path, seconds=bad_clients.LIMIT_SECONDS)[0] == 200, path
                daemon.applied(f"{number}.json")


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that requires a login: its password comes from the environment, its token from a file beside the configuration."""
    (tmp_path / "config.toml").write_text(
        f'[http]\nallowed_hosts = ["orders.example.com"]\nbasic_auth = "{USER}:${{PASSWORD}}"\nbearer_token = "${{file:token}}"\n'
    )
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    daemon = started_with(tmp_path, {"PASSWORD": PASSWORD})
    try:
        until(daemon.ready)
        yield daemon
        assert daemon.stop() == 0
    finally:
        daemon.process.kill()
        daemon.process.wait()


def test_a_login_is_needed_for_everything_but_health(guarded: Daemon) -> None:
    """No secret is logged or shown; health says whether, and not why not."""
    for path in (*PAGES, "/metrics", "/nowhere"):
        assert ask(guarded, path)[0] == 401 and ask(guarded, path, {"Authorization": "Bearer wrong"})[0] == 401, path
    until(lambda: ask(guarded, "/api/disk", LOGIN)[0] == 200, "the files are listed")
    for headers in (LOGIN, {"Authorization": f"Bearer {TOKEN}"}):
        for path in (*PAGES, "/metrics", "/-/ready"):
            status, body = ask(guarded, path, headers)
            nothing_of_it = "receipt" in path or "order" in path
            assert status == (404 if nothing_of_it else 200) and TOKEN not in body and PASSWORD not in body, path
    assert ask(guarded, "/-/healthy") == (200, "healthy\n") and ask(guarded, "/-/ready") == (200, "ready\n")
    assert strandline(guarded.home, "pause", "--reason", "stock-taking").returncode == 0
    until(lambda: ask(guarded, "/-/ready")[0] == 503)
    assert ask(guarded, "/-/ready")[1] == "not ready\n" and "stock-taking" in ask(guarded, "/-/ready", LOGIN)[1]
    log = guarded.log_path.read_text()
    assert TOKEN not in log and "w\\u00f6rd" not in log and "wörd" not in log


def test_another_name_is_refused_and_is_told_what_to_set(guarded: Daemon) -> None:
    """As a page sends it whose name was made to point here; with a login, too. Health answers to any name."""
    for name in ("evil.example", f"evil.example:{guarded.port}"):
        for path in PAGES:
            status, body = ask(guarded, path, LOGIN | {"Host": name})
            assert status == 421 and "[http] allowed_hosts" in body and "partitions" not in body, path
        assert ask(guarded, "/-/healthy", {"Host": name}) == (200, "healthy\n")
    for name in ("localhost", "orders.example.com", "10.0.0.1", f"[::1]:{guarded.port}"):
        assert ask(guarded, "/api/status", LOGIN | {"Host": name})[0] == 200, name


def test_prometheus_logs_in(guarded: Daemon, tmp_path: Path) -> None:
    """With either login, as docs/METRICS.md shows it; without one its target is down."""
    secret = tmp_path / "prometheus-token"
    secret.write_text(TOKEN)
    jobs = {
        "basic": {"basic_auth": {"username": USER, "password": PASSWORD}},
        "bearer": {"authorization": {"credentials_file": str(secret)}},
        "nothing": {},
    }
    with prometheus(tmp_path / "prometheus", f"127.0.0.1:{guarded.port}", jobs=jobs) as server:
        for job, up in (("basic", 1), ("bearer", 1), ("nothing", 0)):
            until(lambda job=job, up=up: server.value(f'up{{job="{job}"}}') == up, job)


def test_a_secret_that_is_not_there_ends_the_start_and_is_found_by_check(tmp_path: Path) -> None:
    """Before anything listens: exit code 2, and the name of the variable."""
    (tmp_path / "config.toml").write_text('[http]\nbearer_token = "${NOT_SET_HERE}"\n')
    daemon = started_with(tmp_path, {})
    assert daemon.process.wait(60) == 2
    assert "[http]: the environment variable NOT_SET_HERE is missing" in daemon.log_path.read_text()
