"""Rounds over models and checks that concern each other: who waits for whom, and what none may do to the others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event

import pytest

from daemon.batch.mending import mend
from daemon.core.errors import Stopped, UsageError
from daemon.core.retry import Backoff
from daemon.downstream import results
from daemon.downstream.attempts import Followed
from daemon.downstream.contract import DownstreamFailed, InputChanged
from daemon.downstream.follow import failing
from daemon.downstream.follower import Follower, bring_up_to_date
from daemon.storage.ledger import Ledger
from daemon.storage.set_aside import SetAside
from tests.support.following import BACKOFF, DAILY, LIMITS, Home, InlineWorker, day, never
from tests.support.harness import open_engine

FRAME = "def model(fact_order):\n    return fact_order.groupby('date', as_index=False)['amount'].sum()\n"
WORKER = InlineWorker(LIMITS)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    one = Home(tmp_path)
    one.publish(*(one.order(number, number % 3, number) for number in range(6)))
    return one


def errors(home: Home) -> dict[str, str]:
    return {name: one.error for name, one in home.round(WORKER).items() if one.error}


def test_any_name_that_is_allowed_can_be_read_by_others(home: Home) -> None:
    """Also those of what is in a scratch folder."""
    before = "fact_order"
    for name in ("out", "tmp", "lock", "in", "rows", "select", "date"):
        home.model(name, f'SELECT DISTINCT date FROM "{before}"')
        before = name
    assert errors(home) == {} and home.rows("date").keys() == {day(0), day(1), day(2)}


def test_a_check_with_the_name_of_a_model_is_refused_and_nobody_waits_for_it(home: Home) -> None:
    """The model and what reads it are made."""
    home.model("a", "SELECT date FROM fact_order")
    home.model("b", "SELECT date FROM a")
    home.check("a", "SELECT 1 AS x")
    with home.following(WORKER) as following:
        found = [(one.kind, one.name, bool(one.error)) for one in following.round(never)]
    assert sorted(found) == [("check", "a", True), ("model", "a", False), ("model", "b", False)]


def test_of_two_files_of_one_name_neither_is_run(home: Home) -> None:
    """It is told once, and not again at each round; what is there stays."""
    path = home.model("a.py", FRAME)
    home.round(WORKER)
    before = home.rows("a")
    home.model("a.sql", "SELECT date FROM fact_order")
    with home.following(WORKER) as following:
        for failures in (1, 0, 0):
            (found,) = following.round(never)
            assert "given once" in found.error and found.failures == failures
        assert home.rows("a") == before
        path.unlink()
        assert [one.error for one in following.round(never)] == [""]


@pytest.mark.parametrize("name", ["a.sql", "a.py"])
def test_a_model_that_reads_nothing_with_dates_must_be_whole(home: Home, name: str) -> None:
    """No date could ever become stale, so it would silently have no result."""
    python = (
        "import datetime, pandas as pd\n"
        "def model(dim_user):\n    return pd.DataFrame({'date': [datetime.date(2026, 3, 1)]})\n"
    )  # fmt: skip
    text = python if name == "a.py" else "SELECT DATE '2026-03-01' AS date"
    home.publish(users="user_id\nu_1\n")
    home.model(name, text)
    assert "add the comment `whole`" in errors(home)["a"]
    home.model(name, f"{'#' if name == 'a.py' else '--'} whole\n{text}")
    assert errors(home) == {} and home.rows("a").keys() == {day(0)}


def test_what_reads_a_python_model_is_judged_when_it_runs(home: Home) -> None:
    """Its columns are known then, and not before; the error is that of an inspection."""
    home.model("frame.py", FRAME)
    home.model("good", "SELECT date, amount FROM frame")
    home.model("none", "SELECT amount FROM frame")
    home.model("text", "SELECT date::VARCHAR AS date FROM frame")
    home.model("instant", "SELECT date::TIMESTAMP AS date FROM frame")
    found = errors(home)
    assert found.keys() == {"none", "text", "instant"} and "no column `date`" in found["none"]
    assert "must be a DATE" in found["text"] and "must be a DATE" in found["instant"]


@pytest.mark.parametrize("column", ["None if first else 'a'", "1 if first else 1.5", "[1] if first else [2]"])
def test_columns_of_a_python_model_may_differ_from_date_to_date(
    home: Home, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    """What reads it sees all of them, with a type that fits all: a column of missing values, whole numbers among others."""
    monkeypatch.setattr(results, "_PANDAS_PIECE_BYTES", 1)  # a piece for each date
    home.model(
        "frame.py",
        "def model(fact_order):\n    f = fact_order[['date']].drop_duplicates()\n    first = f['date'].iloc[0].day == 1\n"
        f"    f['x'] = {column}\n    if not first:\n        f['y'] = 'new'\n    return f\n",
    )
    home.model("sql", "SELECT date, x, y FROM frame")
    home.model("other.py", "def model(frame):\n    return frame\n")
    assert errors(home) == {}
    values = eval(f"[{column} for first in (True, False, False)]")
    values = [value[0] if isinstance(value, list) else value for value in values]
    for name in ("sql", "other"):
        assert [row[0][1:] for row in home.rows(name).values()] == list(zip(values, (None, "new", "new"), strict=True))


def test_a_python_model_without_rows_has_columns_that_nobody_knows(home: Home) -> None:
    """What reads it says so, and is made once there are rows."""
    home.model("frame.py", "def model(fact_order):\n    return fact_order[fact_order['amount'] > 100]\n")
    home.model(
        "reader", "SELECT f.date, count(frame.amount) AS n FROM fact_order f LEFT JOIN frame USING (date) GROUP BY 1"
    )
    found = errors(home)
    assert found.keys() == {"reader"} and "frame, whose columns are not known" in found["reader"]
    home.publish(home.order(9, 1, 1000))
    assert errors(home) == {} and len(home.rows("reader")) == 3


def test_what_reads_the_readers_of_a_python_model_is_made_in_the_first_round(home: Home) -> None:
    """Its columns are known once it has run: they are bound then, also where a table between has no rows."""
    home.model("frame.py", FRAME)
    home.model("b", "SELECT date, amount FROM frame WHERE amount > 1000")
    home.model("c", "SELECT f.date, count(b.date) AS n FROM frame f LEFT JOIN b USING (date) GROUP BY 1")
    home.model("d.py", "def model(c):\n    return c\n")
    home.model("e", "SELECT date, n FROM d")
    assert errors(home) == {} and len(home.rows("e")) == 3 and home.rows("b") == {}
    with home.following(WORKER) as following:
        following.refresh(["frame"])
        assert not any(one.error for one in following.round(never))


def test_a_python_model_can_be_changed_together_with_what_reads_it(home: Home) -> None:
    """A start is not refused because the files have the columns of the text before; nor after a run of the new one failed."""
    home.model("frame.py", FRAME)
    home.model("between", "SELECT * FROM frame")
    home.model("over.py", "def model(between):\n    return between\n")
    home.model("reader", "SELECT date, amount FROM over")
    assert errors(home) == {}
    home.model("reader", "SELECT date, total FROM over")
    for text in (
        "    return 1 / 0\n",
        "    return fact_order.groupby('date', as_index=False).agg(total=('amount', 'sum'))\n",
    ):
        home.model("frame.py", f"def model(fact_order):\n{text}")
        with home.following(WORKER) as following:
            following.catalog(never).refuse_errors()
            found = {one.name: one.error for one in following.round(never, now=True)}
        with home.following(WORKER) as following:
            following.catalog(never).refuse_errors()
    assert not any(found.values()) and len(home.rows("reader")) == 3
    home.model("reader", "SELECT date, amount FROM over")
    with home.following(WORKER) as following, pytest.raises(UsageError, match="amount"):
        following.catalog(never).refuse_errors()


def test_a_new_extra_column_makes_stale_what_may_show_it(home: Home) -> None:
    """A column is NULL where a file has none, whether or not any file has it; `*` shows it on all dates."""
    home.model("star", "SELECT * FROM fact_order")
    home.model("users", "SELECT date, count(*) AS n FROM order_items GROUP BY date")
    home.round(WORKER)
    home.columns = (("status", "text"),)
    home.model("named", "SELECT date, status FROM fact_order")
    home.model("frame.py", "def model(fact_order):\n    return fact_order[['date', 'status']]\n")
    assert errors(home) == {}
    home.publish(home.order(1, 1, 5, status="paid"))
    found = home.round(WORKER)
    assert found["star"].dates == found["named"].dates == 3 and found["users"].dates == 0
    assert {len(row) for rows in home.rows("star").values() for row in rows} == {13}
    for name in ("named", "frame"):
        assert sorted(row[1] or "" for rows in home.rows(name).values() for row in rows) == [""] * 5 + ["paid"]


class _Stuck(InlineWorker):
    """Cannot inspect some statement: the process dies, or takes too long."""

    def call(self, what: str, function: str, *arguments: object, stopped: Callable[[], bool]) -> object:
        if function == "inspect" and any("stuck" in one.text for one in arguments[0]):  # type: ignore[attr-defined]
            raise DownstreamFailed(f"{what}: it took too long")
        return super().call(what, function, *arguments, stopped=stopped)


def test_sql_that_cannot_be_inspected_costs_only_itself(home: Home) -> None:
    """The one that is too much is found, what reads it waits, and the others are inspected without it."""
    home.model("a", "SELECT date FROM fact_order")
    home.model("bad", "SELECT date FROM a -- stuck")
    home.model("reader", "SELECT date FROM bad")
    home.model("z", "SELECT date FROM a")
    found = home.round(_Stuck(LIMITS))
    assert {name: one.error for name, one in found.items()} == {
        "a": "", "z": "", "bad": f"{home.models}/bad.sql: it took too long", "reader": "it waits for bad",
    }  # fmt: skip


def test_a_damaged_input_is_told_with_what_to_do_and_heals(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a model that others read: they fail, and it is made again when it is refreshed."""
    monkeypatch.setattr("daemon.downstream.follow._CHANGED_SECONDS", 0.0)
    home.model("daily", DAILY)
    home.model("reader", "SELECT date FROM daily")
    home.round(WORKER)
    (home.output / "models" / "daily" / f"date={day(1)}" / "daily.parquet").write_bytes(b"damaged")
    home.model("reader", "SELECT date FROM daily WHERE true")
    with home.following(WORKER) as following:
        (error,) = [one.error for one in following.round(never) if one.error]
        assert f"models/daily/date={day(1)}/daily.parquet" in error and "strandline refresh" in error
        following.refresh(["daily"])
        assert not any(one.error for one in following.round(never))


def test_a_batch_that_is_published_meanwhile_begins_the_round_again(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the commit and its renames, the ledger names files that are not there yet."""
    home.model("daily", DAILY)
    kept, tries = results.Inputs.views, []

    def changing(*arguments: object) -> object:
        tries.append(1)
        if len(tries) < 4:
            raise InputChanged("of another batch")
        return kept(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(results.Inputs, "views", changing)
    monkeypatch.setattr("daemon.downstream.follow._CHANGED_SECONDS", 0.0)
    assert errors(home) == {} and len(tries) == 4 and len(home.rows("daily")) == 3


def test_a_batch_that_takes_long_to_publish_is_waited_for(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long; a file that is not the one of the ledger is damaged only where nothing is being published."""
    monkeypatch.setattr("daemon.downstream.follow._CHANGED_SECONDS", 0.0)
    home.model("daily", DAILY)
    path = home.output / "curated" / f"date={day(1)}" / "fact_order.parquet"
    content = path.read_bytes()
    path.write_bytes(b"of the batch before")
    with closing(sqlite3.connect(home.output / "state" / "ledger.sqlite", isolation_level=None)) as sql:
        sql.execute("UPDATE batches SET published = 0")
        looks = []

        def stopped() -> bool:
            looks.append(1)
            if len(looks) == 500:
                path.write_bytes(content)
                sql.execute("UPDATE batches SET published = 1")
            return False

        with home.following(WORKER) as following:
            assert [one.error for one in following.round(stopped)] == [""]
    assert len(looks) >= 500 and len(home.rows("daily")) == 3


def test_a_stop_ends_the_wait_for_a_batch(home: Home) -> None:
    """One that is never published."""
    home.model("daily", DAILY)
    (home.output / "curated" / f"date={day(1)}" / "fact_order.parquet").unlink()
    with closing(sqlite3.connect(home.output / "state" / "ledger.sqlite", isolation_level=None)) as sql:
        sql.execute("UPDATE batches SET published = 0")
    looks: list[int] = []
    with home.following(WORKER) as following, pytest.raises(Stopped):
        following.round(lambda: looks.append(1) or len(looks) > 30)  # type: ignore[func-returns-value]


@pytest.mark.parametrize("kind", ["model", "check"])
def test_a_folder_that_is_missing_removes_nothing(home: Home, kind: str) -> None:
    """It may be moved, or not mounted: an error until it is there again. An empty one removes the results, which is told."""
    (home.model if kind == "model" else home.check)("one", DAILY)
    home.round(WORKER)
    folder, results = home.models if kind == "model" else home.checks, f"{kind}s/one"
    before = home.states(results)
    folder.rename(home.root / "moved")
    for _ in range(2):
        (found,) = home.round(WORKER).values()
        assert f"the folder [paths] {kind}s {folder} is missing" in found.error and failing([found]) == ["one"]
    assert home.states(results) == before != {}
    folder.mkdir()
    (found,) = home.round(WORKER).values()
    assert (found.is_removed, found.files, found.error) == (True, len(before), "")
    assert home.states(results) == {} and home.round(WORKER) == {}


class _Failing:
    """What follows, where every round fails because of the environment."""

    def __init__(self, rounds: list[object]) -> None:
        self.rounds = rounds

    def round(self, *_: object, **__: object) -> list[Followed]:
        found = self.rounds.pop(0)
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[return-value]

    def rest(self) -> None: ...

    def close(self) -> None: ...

    delay_seconds = 0.0


def test_rounds_that_fail_are_tried_again_with_growing_delays(home: Home) -> None:
    """Each with a new look at everything; after one that succeeds, from the beginning."""
    ended, notes, rounds = (
        Event(),
        [],
        [OSError(28, "No space"), OSError(5, "broken"), RuntimeError("a bug"), [], OSError(5, "x")],
    )

    def note(text: str) -> None:
        notes.append(text)
        if not rounds:
            ended.set()

    def make() -> _Failing | None:
        return _Failing(rounds) if rounds else None

    with Follower(make, 0.01, BACKOFF, lambda _: None, note):  # type: ignore[arg-type]
        assert ended.wait(60)
    assert [text.rpartition("again in ")[2] for text in notes] == ["0.01 s", "0.02 s", "0.04 s", "0.01 s"]
    assert "No space" in notes[0] and "an unexpected error in round (test_follow.py, line" in notes[2]


def test_a_run_once_tries_again_only_what_the_environment_failed() -> None:
    """As often as it may; a model that fails by itself is not run again with the same input."""
    one = Followed("model", "m", 0, 0, 0, 1, 0.0, "it failed", 1)
    transient = Followed("model", "m", 0, 0, 0, 1, 0.0, "no space", 1, is_transient=True)
    good = Followed("model", "m", 1, 1, 1, 0, 0.0)
    for rounds, left, names in (
        ([[one], [good]], 1, ["m"]), ([[transient], [good]], 0, []), ([[transient]] * 3, 0, ["m"]), ([[good], [one]], 1, []),
    ):  # fmt: skip
        following = _Failing(list(rounds))
        assert bring_up_to_date(following, Backoff(3, 0.0, 0.0), Event(), lambda _: None) == names  # type: ignore[arg-type]
        assert len(following.rounds) == left


@pytest.fixture
def with_a_lost_date(home: Home) -> Home:
    """Models that are up to date, then a date that is damaged and set aside, then a batch on all dates."""
    home.publish(home.order(9, 5, 9))
    home.model("daily", DAILY)
    home.model("after", "SELECT date, count(*) AS days FROM daily GROUP BY date")
    home.model(
        "pairs",
        "-- lookback = 1\nSELECT CAST(date + ahead AS DATE) AS date, count(*) AS n\n"
        "FROM fact_order, unnest([0, 1]) AS t(ahead) GROUP BY 1",
    )
    home.model("whole", "-- whole = true\nSELECT min(date) AS date, count(*) AS n FROM fact_order")
    assert errors(home) == {}
    (home.output / "curated" / f"date={day(1)}" / "fact_order.parquet").write_bytes(b"damaged")
    with closing(Ledger(home.output / "state" / "ledger.sqlite")) as ledger:
        ledger.set_one_aside(SetAside(day(1), 1, "damaged"))
    home.publish(*(home.order(20 + number, number % 3, 1) for number in range(6)), home.order(30, 5))
    return home


def test_a_date_that_is_set_aside_keeps_nothing_back_but_what_reads_it(with_a_lost_date: Home) -> None:
    """A model by date is up to date on all others, and so is what reads it; a window that needs it waits, and a whole model."""
    home = with_a_lost_date
    found = home.round(WORKER)
    waiting = {name: one.waiting for name, one in found.items() if one.error}
    assert waiting == {"pairs": 2, "whole": 1}
    assert all(day(1) in found[name].error and "strandline status" in found[name].error for name in waiting)
    assert [sum(row[-1] for row in home.rows("pairs")[date]) for date in (day(0), day(3), day(5))] == [4, 4, 2]
    assert home.rows("after").keys() == {day(0), day(1), day(2), day(5)}
    assert {name: one.waiting for name, one in home.round(WORKER, now=False).items() if one.error} == waiting


def test_what_waited_for_a_date_goes_on_once_it_is_mended(with_a_lost_date: Home) -> None:
    home = with_a_lost_date
    home.round(WORKER)
    with open_engine(home.root) as engine:
        (one,) = engine.ledger.set_aside().values()
        mend(engine, one, 10)
    assert errors(home) == {}
    assert [sum(row[-1] for row in home.rows("pairs")[date]) for date in (day(1), day(2))] == [8, 8]


def test_a_dimension_that_is_set_aside_keeps_back_what_reads_it_and_nothing_else(home: Home) -> None:
    """What waits says for what, and to restore it; once it is back, all of it goes on. A check waits like a model."""
    home.publish(users="user_id,email\nu_1,a@example.com\n")
    home.model("daily", DAILY)
    home.model(
        "named", "SELECT date, count(email) AS n FROM fact_order LEFT JOIN dim_user USING (user_id) GROUP BY date"
    )
    assert errors(home) == {}
    file = home.output / "curated" / "dim_user.parquet"
    content = file.read_bytes()
    file.write_bytes(b"damaged")
    with closing(Ledger(home.output / "state" / "ledger.sqlite")) as ledger:
        ledger.set_one_aside(SetAside("dim_user.parquet", 1, "damaged"))
    home.check("nameless", "SELECT user_id FROM dim_user WHERE email IS NULL")
    home.publish(home.order(20, 3))
    found = home.round(WORKER)
    assert {name: one.waiting for name, one in found.items() if one.error} == {"named": 1, "nameless": 1}
    for name in ("named", "nameless"):
        assert "it waits for dim_user, whose" in found[name].error and "`strandline status`" in found[name].error
        assert "rebuild" not in found[name].error
    assert day(3) in home.rows("daily") and day(3) not in home.rows("named")
    file.write_bytes(content)
    with closing(Ledger(home.output / "state" / "ledger.sqlite")) as ledger:
        ledger.mended("dim_user.parquet")
    assert errors(home) == {} and day(3) in home.rows("named")
