"""What each model and check was made from: together with its files, whatever happens to the file that says so."""

from __future__ import annotations

import datetime
import os
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from daemon.core.errors import EnvironmentFault
from daemon.downstream.definitions import MODEL
from daemon.downstream.records import VERSION, Records, ResultFile, telling_damage
from daemon.downstream.results import Result, path_of
from daemon.operate.downstreams import refresh
from daemon.storage import files
from tests.faults.damage import CUT, KINDS
from tests.support import REPO
from tests.support.following import DAILY, LIMITS, Home, InlineWorker, day, epoch_days

FILE = ResultFile(b"s" * 32, 3, 100)
M = ("model", "m")
STEP = 1 if os.environ.get("TEST_LONG") else 3


def filled(path: Path) -> None:
    with closing(Records(path)) as records:
        records.define(*M, {"file": "m.sql"})
        records.remember(*M, {1: b"one", 2: b"two"}, {1: FILE}, [])


def test_what_was_remembered_is_there_after_a_restart(tmp_path: Path) -> None:
    """Fingerprints, files, definitions and how runs went; of each downstream its own."""
    filled(tmp_path / "r")
    with closing(Records(tmp_path / "r")) as records:
        assert records.has(*M) == {1: b"one", 2: b"two"} and records.files(*M) == {1: FILE}
        assert records.has("check", "m") == {} and records.files("model", "n") == {}
        assert [(one.kind, one.name, one.definition) for one in records.states()] == [(*M, {"file": "m.sql"})]


def test_an_intention_forgets_before_files_change(tmp_path: Path) -> None:
    """The fingerprints of all its dates, and the content of the files that change; of no other."""
    filled(tmp_path / "r")
    with closing(Records(tmp_path / "r")) as records:
        records.intend(*M, [1, 3], [1, 3])
        assert records.has(*M) == {2: b"two"}
        assert {date: one.sha256 for date, one in records.files(*M).items()} == {1: b"", 3: b""}


def test_a_remembered_removal_forgets_the_file(tmp_path: Path) -> None:
    """A date without rows has a fingerprint and no file."""
    filled(tmp_path / "r")
    with closing(Records(tmp_path / "r")) as records:
        records.remember(*M, {1: b"none"}, {}, [1])
        assert records.files(*M) == {} and records.has(*M)[1] == b"none"


def test_failures_count_up_to_the_next_success_or_the_next_definition(tmp_path: Path) -> None:
    """The last error is told until then; defining the same again is no change."""
    filled(tmp_path / "r")
    with closing(Records(tmp_path / "r")) as records:
        assert [records.failed(*M, 5, "one"), records.failed(*M, 6, "two")] == [1, 2]
        records.define(*M, {"file": "m.sql"})
        (state,) = records.states()
        assert (state.failures, state.error, state.failed_at) == (2, "two", 6)
        records.define(*M, {"file": "m.sql", "lookback": 1})
        assert (records.states()[0].failures, records.states()[0].error) == (0, None)
        records.failed(*M, 7, "three")
        records.succeeded(*M, 8, 0.5)
        (state,) = records.states()
        assert (state.failures, state.error, state.succeeded_at, state.seconds) == (0, None, 8, 0.5)


@pytest.mark.parametrize("dates", [None, [1]])
def test_distrust_forgets_what_it_names(tmp_path: Path, dates: list[int] | None) -> None:
    """All dates or some: neither fingerprint nor content."""
    filled(tmp_path / "r")
    with closing(Records(tmp_path / "r")) as records:
        records.distrust(*M, dates)
        assert records.has(*M) == ({} if dates is None else {2: b"two"}) and records.files(*M)[1].sha256 == b""


def test_an_error_within_a_transaction_leaves_all_as_it_was(tmp_path: Path) -> None:
    """All or nothing."""
    filled(tmp_path / "r")
    with closing(Records(tmp_path / "r")) as records:
        with pytest.raises(RuntimeError), records.transaction():
            records._forget(*M, None)
            raise RuntimeError
        assert records.has(*M) == {1: b"one", 2: b"two"}


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def _garbage(path: Path) -> None:
    path.write_bytes(b"no database at all" * 300)


def _page(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))


def _version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as sql:
        sql.execute(f"PRAGMA user_version = {VERSION + 1}")
        sql.execute("DROP TABLE has")


@pytest.mark.parametrize("damage", [_cut, _garbage, _page, _version, Path.unlink])
def test_damaged_or_foreign_records_are_made_anew(tmp_path: Path, damage: object) -> None:
    """A file that is cut, that is none, with a broken page, of another version, or gone: it says that it is new."""
    filled(tmp_path / "r")
    damage(tmp_path / "r")  # type: ignore[operator]
    with closing(Records(tmp_path / "r")) as records:
        assert records.is_new and records.states() == [] and records.has(*M) == {}
        records.define(*M, {})
    with closing(Records(tmp_path / "r")) as records:
        assert not records.is_new and len(records.states()) == 1


@pytest.mark.parametrize("damage", [_page, Path.unlink])
def test_after_the_loss_of_the_records_results_are_right_and_nothing_is_left_over(
    tmp_path: Path, damage: object
) -> None:
    """A date that lost its rows meanwhile loses its file, a model that is gone its folder, and the rest is made anew."""
    home, worker = Home(tmp_path), InlineWorker(LIMITS)
    home.publish(home.order(1, 1), home.order(2, 2))
    home.model("daily", DAILY)
    gone = home.model("gone", DAILY)
    home.check("all", "SELECT order_id FROM fact_order")
    old = home.check("old", "SELECT order_id FROM fact_order")
    home.round(worker)
    (home.output / "models" / "notes.txt").write_text("of somebody else")
    home.publish(home.order(1, 2))
    gone.unlink()
    old.unlink()
    damage(home.output / "state" / "downstream.sqlite")  # type: ignore[operator]
    assert not any(one.error for one in home.round(worker).values())
    assert home.states("models").keys() == {f"daily/date={day(2)}/daily.parquet", "notes.txt"}
    assert not (home.output / "models" / "daily" / f"date={day(1)}").exists()
    assert home.states("checks").keys() == {"all/all.parquet"}
    assert home.rows("daily") == {day(2): [(datetime.date(2026, 3, 3), 2, 2)]}


@pytest.mark.parametrize("kind", [*KINDS, CUT])
def test_no_damage_of_the_records_lets_a_date_count_as_up_to_date(tmp_path: Path, kind: str) -> None:
    """Every page in turn, or every third. Whoever reads gets what is right, or an error that says that the next run makes the
    records anew. The next round leaves what an undisturbed one does: each date, with the file that the records name."""
    home, worker = Home(tmp_path), InlineWorker(LIMITS)
    home.publish(*(home.order(number, number) for number in range(12)))
    home.model("daily", DAILY)
    home.model("after", "SELECT date, amount * 2 AS twice FROM daily")
    home.check("all", "SELECT order_id FROM fact_order")
    home.round(worker)
    path = home.output / "state" / "downstream.sqlite"
    sound, results = path.read_bytes(), (home.rows("daily"), home.rows("after"))
    known, told = _known(path), 0
    for page in range([*KINDS, CUT].index(kind) % STEP, len(sound) // 4096, STEP):
        content = bytearray(sound)
        place = slice(page * 4096, (page + 1) * 4096)
        if kind == CUT:
            del content[page * 4096 :]
        else:
            part = content[place]
            KINDS[kind](part, random.Random(page))
            content[place] = part
        path.write_bytes(content)
        try:
            with telling_damage(path):
                assert _known(path) == known
        except EnvironmentFault as error:
            assert "the next run, such as strandline --once, makes it anew" in str(error)
            told += 1
        assert not any(one.error for one in home.round(worker).values()), page
        assert (home.rows("daily"), home.rows("after")) == results
        with closing(Records(path)) as records:
            for name in ("daily", "after"):
                found = records.files(MODEL, name)
                assert len(found) == len(records.has(MODEL, name)) == 12
                for day, one in found.items():
                    assert files.has_sha256(home.output / path_of(MODEL, name, day), one.sha256)
    assert told


def _known(path: Path) -> list[object]:
    """What readers ask the records."""
    with closing(Records(path, read_only=True)) as records:
        names = [(state.kind, state.name) for state in records.states()]
        return [(one, records.has(*one), records.files(*one)) for one in names]


def test_what_was_made_anew_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path / "r")
    with closing(sqlite3.connect(tmp_path / "r")) as sql:
        sql.create_function("row_checksum", -1, lambda *_: 0)
        sql.execute("DELETE FROM files WHERE date = 1")
        sql.commit()
    with closing(Records(tmp_path / "r")) as records:
        assert records.is_new
    (line,) = caplog.records
    assert "made anew" in line.message and "the table files is not what was written" in line.cause  # type: ignore[attr-defined]


def test_a_second_process_reads_and_refreshes_beside_the_first(tmp_path: Path) -> None:
    """Its change is seen at once; a reader needs no right to write."""
    filled(tmp_path / "r")
    program = (
        "import sys; from pathlib import Path; from daemon.downstream.records import Records\n"
        "one = Records(Path(sys.argv[1]), read_only=True); print(len(one.has('model', 'm'))); one.close()\n"
        "one = Records(Path(sys.argv[1])); one.distrust('model', 'm', [1]); one.close()"
    )
    with closing(Records(tmp_path / "r")) as records:
        ended = subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "r")], cwd=REPO, capture_output=True, text=True, check=True
        )
        assert ended.stdout.strip() == "2" and records.has(*M) == {2: b"two"}


def test_a_refresh_beside_a_daemon_makes_the_files_anew(tmp_path: Path) -> None:
    """Another process forgets what a model has while the first one follows."""
    home, worker = Home(tmp_path), InlineWorker(LIMITS)
    home.publish(home.order(1, 1), home.order(2, 2))
    home.model("daily", DAILY)
    with home.following(worker) as following:
        following.round(lambda: False)
        before = home.states("models")
        with closing(Records(home.output / "state" / "downstream.sqlite")) as other:
            other.distrust("model", "daily", [epoch_days(day(1))])
        following.round(lambda: False)
        after = home.states("models")
        changed = {name for name in after if after[name] != before[name]}
        assert changed == {f"daily/date={day(1)}/daily.parquet"}


def test_a_refresh_while_the_result_is_made_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run that is under way is from before it, and its results are made again."""
    home, worker = Home(tmp_path), InlineWorker(LIMITS)
    home.publish(home.order(1, 1), home.order(2, 2))
    home.model("daily", DAILY)
    with home.following(worker) as following:
        made, called = Result.made, 0

        def refreshed(*arguments: object) -> object:
            nonlocal called
            called += 1
            found = made(*arguments)  # type: ignore[arg-type]
            if called == 1:
                assert refresh(home.output, "daily", None) == "model"
            return found

        monkeypatch.setattr(Result, "made", refreshed)
        following.round(lambda: False)
        (again,) = following.round(lambda: False)
        assert (again.dates, again.files, called) == (2, 2, 2)
        assert following.round(lambda: False)[0].dates == 0


def test_a_refresh_of_one_date_mends_a_damaged_file_of_a_whole_model(tmp_path: Path) -> None:
    """Such a model is made again as a whole, and no file of it is trusted."""
    home, worker = Home(tmp_path), InlineWorker(LIMITS)
    home.publish(home.order(1, 1), home.order(2, 2))
    home.model("daily", f"-- whole\n{DAILY}")
    with home.following(worker) as following:
        following.round(lambda: False)
        damaged = home.output / f"models/daily/date={day(1)}/daily.parquet"
        right = damaged.read_bytes()
        damaged.write_bytes(right[:-9] + b"x" + right[-8:])
        assert refresh(home.output, "daily", [epoch_days(day(1))]) == "model"
        following.round(lambda: False)
        assert damaged.read_bytes() == right
