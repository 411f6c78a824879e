"""Models and checks with the real command and the real daemon: what is computed, what is refused, what one costs the others."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.support.command import drop, once, order
from tests.support.daemon_process import Daemon, place, running, series, started, until
from tests.support.following import state_of

DAILY = "SELECT date, count(*) AS n, sum(amount) AS amount\nFROM fact_order GROUP BY date"
WEEK = (
    "-- lookback = 6\nSELECT CAST(date + ahead AS DATE) AS date, sum(n) AS n\n"
    "FROM daily_sales, (SELECT unnest(range(7)::INTEGER[]) AS ahead) GROUP BY 1"
)  # fmt: skip
FRAME = "def model(fact_order):\n    return fact_order.groupby('date', as_index=False)['amount'].sum()\n"
FAST = {
    "WATCH__RESCAN_SECONDS": "0.2", "WATCH__SETTLE_SECONDS": "0.05", "RETRY__INITIAL_DELAY_SECONDS": "0.1",
    "MODELS__THREADS": "1", "ENGINE__WORKERS": "1",
}  # fmt: skip
ENDLESS = (
    "SELECT f.date, count(*) AS n FROM fact_order f, range(1000000) a, range(1000000) b, range(1000000) c GROUP BY 1"
)


def write(home: Path, name: str, text: str) -> Path:
    """A file below the home, by rename as a careful writer does."""
    path = home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    place(path, text.encode())
    return path


def rows(home: Path, name: str) -> dict[str, list[dict]]:
    """The rows of a model by date."""
    return {
        path.parent.name.removeprefix("date="): pq.ParquetFile(path).read().to_pylist()
        for path in sorted((home / "output" / "models" / name).glob("date=*/*.parquet"))
    }


def states(home: Path, name: str) -> dict[str, tuple]:
    return {path.parent.name[5:]: state_of(path) for path in (home / "output" / "models" / name).glob("*/*.parquet")}


def told(stderr: str) -> list[dict]:
    return [json.loads(line) for line in stderr.splitlines() if line.startswith("{")]


# ------------------------------------------------------------------------------------------------------------------ --once


def test_a_corrected_order_recomputes_the_dates_that_depend_on_it_and_touches_no_other(tmp_path: Path) -> None:
    """Of 730 dates: one of a model by date, seven of a week that looks back; all other files stay the same files."""
    days = [(date(2024, 1, 1) + timedelta(days=number)).isoformat() for number in range(730)]
    orders = [
        order(number) | {"created_at": f"{day}T10:00:00Z", "amount": number} for number, day in enumerate(days)
    ]  # fmt: skip
    drop(tmp_path, "all.json", orders)
    write(tmp_path, "models/daily_sales.sql", DAILY)
    write(tmp_path, "models/rolling_week.sql", WEEK)
    assert once(tmp_path, **FAST).returncode == 0
    before = {name: states(tmp_path, name) for name in ("daily_sales", "rolling_week")}
    assert len(before["daily_sales"]) == 730 and len(before["rolling_week"]) == 736
    more = order(1000) | {"created_at": f"{days[400]}T11:00:00Z"}
    drop(tmp_path, "one.json", [more, orders[400] | {"amount": 99, "updated_at": f"{days[400]}T12:00:00Z"}])
    ended = once(tmp_path, **FAST, LOG__FORMAT="json")
    assert ended.returncode == 0, ended.stderr
    done = {event["model"]: event["dates"] for event in told(ended.stderr) if event["event"] == "brought up to date"}
    assert done == {"daily_sales": 1, "rolling_week": 7}
    for name, stale in (("daily_sales", days[400:401]), ("rolling_week", days[400:407])):
        after = states(tmp_path, name)
        assert sorted(day for day in after if after[day] != before[name].get(day)) == stale
        assert after.keys() == before[name].keys()


def test_a_run_ends_with_models_and_checks_up_to_date(tmp_path: Path) -> None:
    """SQL, a model over it, pandas, and a check that finds nothing: exit code 0; then once more nothing is done."""
    drop(tmp_path, "a.json", [order(1), order(2, 3)])
    write(tmp_path, "models/daily.sql", DAILY)
    write(tmp_path, "models/over.sql", "SELECT date, n + 1 AS m FROM daily")
    write(tmp_path, "models/frame.py", "print('said')\n" + FRAME)
    write(tmp_path, "models/over_frame.sql", "SELECT date, amount FROM frame")
    write(tmp_path, "checks/lost.sql", "SELECT * FROM fact_order WHERE order_id IS NULL")
    ended = once(tmp_path, **FAST)
    assert ended.returncode == 0 and ended.stdout == "", ended.stderr
    assert [row["m"] for those in rows(tmp_path, "over").values() for row in those] == [2, 2]
    assert len(rows(tmp_path, "over_frame")) == 2
    assert pq.read_table(tmp_path / "output/checks/lost/lost.parquet").num_rows == 0
    again = once(tmp_path, **FAST)
    assert again.returncode == 0 and "brought up to date" not in again.stderr and "said" not in again.stderr


@pytest.mark.parametrize(("severity", "code"), [("error", 1), ("warning", 0)])
def test_a_check_that_finds_rows_keeps_them(tmp_path: Path, severity: str, code: int) -> None:
    """Its severity decides the exit code; what is right again is right again."""
    drop(tmp_path, "a.json", [order(1), order(2, amount=-5)])
    write(
        tmp_path, "checks/negative.sql", f"-- severity = '{severity}'\nSELECT order_id FROM fact_order WHERE amount < 0"
    )
    ended = once(tmp_path, **FAST)
    assert ended.returncode == code and "negative" in ended.stderr
    path = tmp_path / "output/checks/negative/negative.parquet"
    assert pq.read_table(path).to_pylist() == [{"order_id": "o_2"}]
    assert once(tmp_path, **FAST).returncode == code
    drop(tmp_path, "b.json", [order(2, amount=5, updated_at="2026-03-05T00:00:00Z")])
    assert once(tmp_path, **FAST).returncode == 0 and pq.read_table(path).num_rows == 0


BAD_MODELS = {
    "raises.py": ("def model(fact_order):\n    x = 1\n    return 1 / 0\n", "line 3: ZeroDivisionError"),
    "sysexit.py": ("import sys\ndef model(fact_order):\n    sys.exit(0)\n", "line 3: SystemExit"),
    "osexit.py": ("import os\ndef model(fact_order):\n    os._exit(0)\n", "it ended its process (exit code 0)"),
    "killed.py": ("import os\ndef model(fact_order):\n    os.kill(os.getpid(), 9)\n", "its process was killed"),
    "prints.py": ("def model(fact_order):\n    print('x' * 10**6)\n    return None\n", "returned NoneType"),
    "unbounded.py": (
        "def model(fact_order):\n    kept = []\n    while True:\n        kept.append(bytearray(1 << 24))\n",
        "memory",
    ),
    "wrong.sql": ("SELECT date,\n       CAST(order_id AS INTEGER) AS x\nFROM fact_order", "line 2: "),
    "memory.sql": (
        "SELECT f.date, list(a.range::VARCHAR || repeat('x', 1000)) AS x\nFROM fact_order f, range(10000000) a GROUP BY 1",
        "memory",
    ),
}


def test_what_a_model_does_it_does_to_itself(tmp_path: Path) -> None:
    """Each error names the model; every other model, the checks and all drops are there; exit code 1."""
    drop(tmp_path, "a.json", [order(1), order(2, 3)])
    for name, (text, _) in BAD_MODELS.items():
        write(tmp_path, f"models/{name}", text)
    write(tmp_path, "models/reader.sql", "SELECT date FROM raises")
    write(tmp_path, "models/daily.sql", DAILY)
    write(tmp_path, "models/zzz.sql", DAILY)
    write(tmp_path, "checks/some.sql", "SELECT 1 AS x FROM fact_order")
    ended = once(tmp_path, **FAST, MODELS__MEMORY_LIMIT="128MiB", LOG__FORMAT="json")
    assert ended.returncode == 1
    causes = {event["model"]: event["cause"] for event in told(ended.stderr) if event["event"] == "not up to date"}
    assert causes.keys() == {name.partition(".")[0] for name in BAD_MODELS} | {"reader"}
    for name, (_, text) in BAD_MODELS.items():
        cause = causes[name.partition(".")[0]]
        assert f"models/{name}" in cause and text in cause, cause
    assert causes["reader"] == "it waits for raises"
    assert len(rows(tmp_path, "daily")) == len(rows(tmp_path, "zzz")) == 2
    assert pq.read_table(tmp_path / "output/checks/some/some.parquet").num_rows == 2
    assert not list((tmp_path / "inbox").iterdir())


REFUSED = {
    "unknown table": ("a.sql", "SELECT date\nFROM fact_ordr", 2, "fact_ordr"),
    "unknown table in Python": ("a.py", "\ndef model(fact_ordr): ...", 2, "fact_ordr"),
    "circle": ("a.sql", "SELECT date FROM b", None, "line 1) reads b"),
    "no date": ("a.sql", "SELECT order_id FROM fact_order", None, "`date`"),
    "date of a wrong type": ("a.sql", "SELECT created_at AS date FROM fact_order", None, "DATE"),
    "no dated table": ("a.sql", "SELECT DATE '2026-01-01' AS date FROM dim_user", None, "whole"),
    "two statements": ("a.sql", "SELECT date FROM fact_order;\nSELECT 2", 2, "second"),
    "INSERT": ("a.sql", "INSERT INTO fact_order SELECT * FROM fact_order", 1, "INSERT"),
    "COPY": ("a.sql", "\nCOPY fact_order TO '/tmp/x'", 2, "COPY"),
    "PRAGMA": ("a.sql", "PRAGMA version", 1, "PRAGMA"),
    "unknown option": ("a.sql", "-- Week.\n-- lookbock = 6\nSELECT date FROM fact_order", 2, "lookbock"),
    "syntax": ("a.sql", "SELECT date\nFRM fact_order", 2, "syntax"),
    "Python syntax": ("a.py", "def model(fact_order):\n    return (", 2, ""),
    "no function": ("a.py", "x = 1\n", None, "`model`"),
    "a reserved name": ("fact_order.sql", "SELECT date FROM order_items", None, "fact_order"),
    "a name that is no name": ("a-b.sql", "SELECT date FROM fact_order", None, "name"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_wrong_is_refused_before_anything_is_taken(tmp_path: Path, case: str) -> None:
    """Exit code 2, and one line that names the file and its line; the drop is still in the inbox."""
    name, text, line, why = REFUSED[case]
    path = drop(tmp_path, "a.json", [order(1)])
    write(tmp_path, f"models/{name}", text)
    if case == "circle":
        write(tmp_path, "models/b.sql", "SELECT date FROM a")
    ended = once(tmp_path, **FAST)
    assert ended.returncode == 2, ended.stderr
    (said,) = ended.stderr.strip().splitlines()
    assert f"models/{name}" in said and (line is None or f", line {line}: " in said) and why in said
    assert path.exists() and not (tmp_path / "output" / "raw").exists()


# -------------------------------------------------------------------------------------------------------------- the daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    write(tmp_path, "models/daily.sql", DAILY)
    with running(tmp_path, **FAST) as one:
        yield one


def sums(home: Path, name: str = "daily", column: str = "n") -> dict[str, int]:
    """A model that is being replaced may be read again."""
    try:
        return {day: int(those[0][column]) for day, those in rows(home, name).items()}
    except FileNotFoundError:
        return {}


def test_models_follow_their_files_and_the_drops(daemon: Daemon) -> None:
    """A drop changes a date; a model is added, changed, broken, mended and removed while the daemon runs."""
    home = daemon.home
    place(daemon.inbox / "a.json", json.dumps([order(1), order(2, 3)]).encode())
    until(lambda: sums(home) == {"2026-03-02": 1, "2026-03-03": 1}, "the first result")
    place(daemon.inbox / "b.json", json.dumps([order(3, 3)]).encode())
    until(lambda: sums(home) == {"2026-03-02": 1, "2026-03-03": 2}, "the changed date")
    path = write(home, "models/other.sql", "SELECT date, 1 AS n FROM daily")
    until(lambda: sums(home, "other") == {"2026-03-02": 1, "2026-03-03": 1}, "the added model")
    write(home, "models/other.sql", "SELECT date, 2 AS n FROM daily")
    until(lambda: sums(home, "other") == {"2026-03-02": 2, "2026-03-03": 2}, "the changed model")
    write(home, "models/other.sql", "SELECT date,\n  nope AS n FROM daily")
    until(
        lambda: [one for one in daemon.said("not up to date") if "other.sql, line 2" in one["cause"]], "the broken one"
    )
    place(daemon.inbox / "c.json", json.dumps([order(4, 4)]).encode())
    until(lambda: len(sums(home)) == 3, "others go on")
    assert sums(home, "other") == {"2026-03-02": 2, "2026-03-03": 2}, "a broken model keeps what it had"
    write(home, "models/other.sql", "SELECT date, 3 AS n FROM daily")
    until(lambda: sums(home, "other") == dict.fromkeys(("2026-03-02", "2026-03-03", "2026-03-04"), 3), "the mended one")
    path.unlink()
    until(lambda: not (home / "output/models/other").exists(), "the removed one")


def test_metrics_tell_how_a_model_stands(daemon: Daemon) -> None:
    """Before, during and after a failure; its series go with it."""
    labels = {"kind": "model", "name": "daily"}
    place(daemon.inbox / "a.json", json.dumps([order(1)]).encode())
    write(daemon.home, "checks/negative.sql", "SELECT order_id FROM fact_order WHERE amount < 0")

    def now(name: str, /, **more: str) -> float:
        return daemon.metrics().get(series(f"strandline_{name}", **more), -1.0)

    until(lambda: now("downstream_runs_total", **labels, outcome="succeeded") == 1, "the first run")
    assert now("downstream_stale_dates", **labels) == now("downstream_failing", **labels) == 0
    first = now("downstream_last_success_timestamp_seconds", **labels)
    assert abs(first - time.time()) < 600 and now("downstream_run_seconds_total", **labels) > 0
    until(lambda: now("check_rows", name="negative", severity="warning") == 0, "the check")
    write(daemon.home, "models/daily.sql", DAILY.replace("count(*)", "error('on purpose')"))
    until(lambda: now("downstream_failing", **labels) == 1, "failing")
    until(lambda: now("downstream_runs_total", **labels, outcome="failed") >= 2, "it is tried again")
    assert now("downstream_stale_dates", **labels) == 1
    assert now("downstream_last_success_timestamp_seconds", **labels) == first
    write(daemon.home, "models/daily.sql", DAILY + " HAVING true")
    until(lambda: now("downstream_failing", **labels) == 0 == now("downstream_stale_dates", **labels), "mended")
    assert now("downstream_last_success_timestamp_seconds", **labels) > first
    place(daemon.inbox / "b.json", json.dumps([order(2, amount=-1)]).encode())
    until(lambda: now("check_rows", name="negative", severity="warning") == 1, "the check found it")
    (daemon.home / "checks/negative.sql").unlink()
    until(lambda: not any("negative" in one for one in daemon.metrics()), "its series are gone")


def test_a_model_that_never_ends_delays_no_drop_and_is_ended(tmp_path: Path) -> None:
    """A sleeping model, then an endless query: drops are applied meanwhile, others are made, and the time limit ends them."""
    write(tmp_path, "models/asleep.py", "import time\ndef model(fact_order):\n    time.sleep(10**6)\n")
    with running(tmp_path, **FAST, MODELS__TIME_LIMIT="4") as daemon:
        for number in range(3):
            place(daemon.inbox / f"{number}.json", json.dumps([order(number)]).encode())
            daemon.applied(f"{number}.json")
        until(lambda: workers(daemon), "the model runs")
        place(daemon.inbox / "more.json", json.dumps([order(9)]).encode())
        daemon.applied("more.json")
        ended = until(lambda: [one for one in daemon.said("not up to date") if one["model"] == "asleep"], "ended")
        assert "asleep.py" in ended[0]["cause"] and "time_limit" in ended[0]["cause"]
        (tmp_path / "models/asleep.py").unlink()
        write(tmp_path, "models/endless.sql", ENDLESS)
        write(tmp_path, "models/zzz.sql", DAILY)
        ended = until(lambda: [one for one in daemon.said("not up to date") if one["model"] == "endless"], "ended, too")
        assert "time_limit" in ended[0]["cause"]
        until(lambda: sums(tmp_path, "zzz") == {"2026-03-02": 4}, "the others")


def workers(daemon: Daemon) -> list[int]:
    """The processes that run models, and what these started, of this daemon."""
    mine = str(daemon.home.resolve())
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                is_worker = b"downstream.worker_main" in (entry / "cmdline").read_bytes()
                if is_worker and str((entry / "cwd").readlink()) == mine:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# What holds Python's lock, what started a process of its own, and a query.
BUSY = {
    "lock.py": "def model(fact_order):\n    return sum(range(10**15))\n",
    "child.py": (
        "import os, subprocess\ndef model(fact_order):\n    child = subprocess.Popen(['sleep', '100000'])\n"
        "    open('child.txt', 'w').write(str(child.pid))\n    child.wait()\n"
    ),
    "endless.sql": ENDLESS,
}


@pytest.mark.parametrize("model", BUSY)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_daemon_that_ends_leaves_no_process(tmp_path: Path, model: str, number: int) -> None:
    """In the middle of a run, whatever it does: SIGTERM ends all of it; after a kill, its worker ends by itself."""
    drop(tmp_path, "a.json", [order(1)])
    write(tmp_path, f"models/{model}", BUSY[model])
    daemon = started(tmp_path, **FAST)
    pids: list[int] = []
    try:
        pids = until(
            lambda: [pid for pid in workers(daemon) if is_running(pid) and busy(pid, tmp_path, model)], "it runs"
        )
        if model == "child.py":
            pids.append(int((tmp_path / "child.txt").read_text()))
        daemon.process.send_signal(number)
        assert daemon.process.wait(60) == (0 if number == signal.SIGTERM else -number)
        if number == signal.SIGTERM:
            assert not any(map(is_running, pids))
        until(lambda: not any(map(is_running, pids[:1] if number == signal.SIGKILL else pids)), "no process is left")
    finally:
        for pid in [*pids, daemon.process.pid]:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        daemon.process.wait()


def busy(pid: int, home: Path, model: str) -> bool:
    """Whether the worker is in the middle of the run, and not still inspecting SQL."""
    if model == "child.py":
        return (home / "child.txt").exists() and bool((home / "child.txt").read_text())
    if not any((home / "output" / ".downstream").glob("*/out")):
        return False
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) > 100  # a second of user time
