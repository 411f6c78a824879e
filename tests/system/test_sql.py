"""`strandline sql` as a real process: beside a running daemon, as another user, on a terminal, stopped, and with a reader that
leaves."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import pty
import select
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daemon.core.retry import Backoff
from daemon.downstream.sandbox import Limits
from daemon.downstream.settings import Settings
from daemon.operate.sql.history import SCHEMAS
from daemon.operate.sql.session import Session, opened
from tests.support import REPO
from tests.support.command import drop, environment, once, order, strandline
from tests.support.daemon_process import place, running, until
from tests.support.harness import tree
from tests.support.users import WRITER, as_user, require_users

pytestmark = pytest.mark.timeout(300)

ENDLESS = "SELECT count(*) FROM range(1000000000000) a, range(1000000) b WHERE a.range % 7 = b.range % 11"
DAILY = "SELECT date, sum(amount) AS amount FROM fact_order GROUP BY ALL"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder after one run over orders of two dates, with a model and a check."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "daily_sales.sql").write_text(DAILY)
    (tmp_path / "checks").mkdir()
    (tmp_path / "checks" / "large_amount.sql").write_text("SELECT order_id, amount FROM fact_order WHERE amount > 1")
    drop(tmp_path, "a.json", [order(1, 2), order(2, 3, amount=12345678901234.5)])
    assert once(tmp_path).returncode == 0
    return tmp_path


def started(home: Path, *words: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "daemon", "sql", *words], cwd=home, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, **more,  # type: ignore[call-overload]
    )  # fmt: skip


def scratch_folders(home: Path) -> list[Path]:
    return list((home / "output" / ".downstream").iterdir())


def test_a_query_answers_with_the_values_of_the_files(home: Path) -> None:
    """The tables, a model and a check, in each form, and the exit code 0."""
    rows = json.loads(strandline(home, "sql", "--json", "FROM fact_order ORDER BY date").stdout, parse_float=Decimal)
    files = sorted((home / "output" / "curated").glob("date=*/fact_order.parquet"))
    assert [row["amount"] for row in rows] == [pq.read_table(path)["amount"][0].as_py() for path in files]
    ended = strandline(home, "sql", "--csv", "FROM daily_sales ORDER BY date")
    assert ended.stdout == "date,amount\n2026-03-02,1.0000\n2026-03-03,12345678901234.5000\n"
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "│ o_2      │ 12345678901234.5000 │" in strandline(home, "sql", "FROM large_amount").stdout
    target = home / "result.parquet"
    assert strandline(home, "sql", "FROM fact_order", "--output", str(target)).returncode == 0
    assert pq.read_table(target)["amount"].to_pylist() == [row["amount"] for row in rows]
    assert scratch_folders(home) == []


def test_each_column_of_the_tables_is_documented() -> None:
    """In the list of docs/READING.md, whose commands tests/docs runs."""
    text = (REPO / "docs" / "READING.md").read_text(encoding="utf-8")
    section = text.partition("### The tables")[2].partition("### The forms")[0]
    for schema in SCHEMAS.values():
        assert [name for name in schema.names if f"`{name}`" not in section] == []


def test_a_query_comes_from_standard_input(home: Path) -> None:
    """With `-`, and without a query where standard input is no terminal."""
    for words in (["-"], []):
        ended = subprocess.run(
            [sys.executable, "-m", "daemon", "sql", "--csv", *words], cwd=home, env=environment(), text=True, capture_output=True,
            input="SELECT count(*) AS n\nFROM fact_order;\n", check=True,
        )  # fmt: skip
        assert ended.stdout == "n\n2\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["SELECT\n x\nFROM fact_order"], "LINE 2"),
        (["COPY (SELECT 1) TO 'x.csv'"], "COPY is refused"),
        (["WITH a AS (COPY (SELECT 1) TO 'x.csv') FROM a"], "COPY is refused"),
        (["ATTACH 'x.db'"], "ATTACH is refused"),
        (["FROM read_text('/etc/passwd')"], "/etc/passwd"),
        (["FROM read_text('../a.json')"], "../a.json"),
        (["SELECT 1; SELECT 2"], "2 statements"),
        (["SELECT 1", "--output", "output/x.parquet"], "is in the output folder"),
        (["SELECT 1", "--output", "output/../output/x.csv"], "is in the output folder"),
        (["SELECT 1", "--output", "link/x.csv"], "is in the output folder"),
        (["SELECT 1", "--output", "x.txt"], "must end with"),
        (["SELECT 1", "--output", "none/x.csv"], "does not exist"),
        (["SELECT 1", "--csv", "--output", "x.json"], "--csv does not go with"),
    ],
)
def test_what_is_refused_is_one_line_and_exit_code_2(home: Path, words: list[str], said: str) -> None:
    """And nothing in the folder of the process changes."""
    (home / "link").symlink_to(home / "output" / "curated")
    before = tree(home)
    ended = strandline(home, "sql", *words)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert {name: content for name, content in tree(home).items() if name in before or "sqlite" not in name} == before


def test_a_model_that_is_behind_is_said(home: Path) -> None:
    """A batch is applied, and the model fails: the query is answered, with a note on standard error."""
    (home / "models" / "daily_sales.sql").write_text(
        DAILY.replace("sum(amount)", "sum(1 / (amount < 5 AND error('no'))::INT)")
    )
    drop(home, "b.json", [order(3, 4)])
    assert once(home).returncode == 1
    ended = strandline(home, "sql", "--csv", "SELECT count(*) AS n FROM daily_sales")
    assert ended.returncode == 0
    assert "daily_sales: 3 dates are not up to date" in ended.stderr
    assert strandline(home, "sql", "FROM fact_order").stderr == ""


def test_a_reader_that_leaves_is_no_error(home: Path) -> None:
    """`| head`: the process ends without a word, and leaves nothing."""
    for form in (["--csv"], ["--json"], []):
        process = started(home, *form, "SELECT range, repeat('x', 100) AS x FROM range(200000)")
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert (process.wait(120), process.stderr.read()) == (0, "")
        process.stderr.close()
    assert scratch_folders(home) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_query(home: Path, number: int) -> None:
    """A query that would run for years ends, with exit code 1, and its scratch folder is gone."""
    process = started(home, ENDLESS)
    with process:
        until(
            lambda: any((home / "output" / ".downstream").glob("*/*/fact_order.empty.parquet")),
            "the query is being run",
        )
        process.send_signal(number)
        assert process.wait(60) == 1
        assert process.stderr and process.stderr.read() == "strandline: interrupted\n"
    assert scratch_folders(home) == []


def test_a_signal_ends_a_process_that_waits_for_its_reader(home: Path) -> None:
    """A reader that reads no more, such as a pager: the process waits in a write, and a signal ends it."""
    process = started(home, "--csv", "SELECT range, repeat('x', 100) AS x FROM range(200000)")
    with process:
        assert process.stdout and process.stderr
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 1
        assert process.stderr.read() == "strandline: interrupted\n"
    assert scratch_folders(home) == []


def test_a_result_larger_than_the_memory_limit(home: Path) -> None:
    """It goes to disk: all rows come, sorted, and the temporary files are gone afterwards."""
    target = home / "sorted.csv"
    query = "SELECT md5(range::VARCHAR) AS a, range AS b FROM range(2000000) ORDER BY a"
    ended = strandline(home, "sql", query, "--output", str(target), MODELS__MEMORY_LIMIT="48MiB", MODELS__THREADS="1")
    assert ended.returncode == 0, ended.stderr
    with open(target, newline="") as file:
        rows = list(csv.reader(file))[1:]
    assert sorted(int(row[1]) for row in rows) == list(range(2_000_000))
    assert all(one[0] <= other[0] for one, other in pairwise(rows))
    assert scratch_folders(home) == []


# ------------------------------------------------------------------------------------------------- beside a running daemon


def settings(home: Path) -> Settings:
    return Settings(home / "models", home / "checks", Limits(256 << 20, 1, 60.0), Backoff(1, 0.1, 0.1), ())


@contextlib.contextmanager
def unlinked(home: Path) -> Iterator[Session]:
    (folder := home / "elsewhere").mkdir()
    one = Session(home / "output", settings(home), folder, linked=False)
    try:
        yield one
    finally:
        one.close()


def moved(inbox: Path, stop: threading.Event, receipts: Path) -> None:
    """Moves the order x between two dates, again and again, one drop after the other."""
    number = 0
    while not stop.is_set():
        number += 1
        one = order(0, 2 + number % 2, order_id="x", updated_at=f"2026-04-01T00:00:00.{number:06d}Z")
        place(inbox / f"x{number}.json", json.dumps([one]).encode())
        while not stop.is_set() and not any(receipts.rglob(f"*_x{number}.json.json")):
            time.sleep(0.005)


@pytest.mark.parametrize("linked", [True, False])
def test_an_order_that_moves_is_there_exactly_once(home: Path, *, linked: bool) -> None:
    """A daemon moves an order between two dates without a pause. Each of many queries sees it on one date, never on none or on
    both, in the same state as the drops; so does a process of the command."""
    once_there = "SELECT count(*), (SELECT max(batch) FROM drops) FROM fact_order WHERE order_id = 'x'"
    with running(
        home, WATCH__SETTLE_SECONDS="0", WATCH__FOREIGN_SETTLE_SECONDS="0", BATCH__LINGER_SECONDS="0"
    ) as daemon:
        stop = threading.Event()
        thread = threading.Thread(target=moved, args=(daemon.inbox, stop, daemon.output / "receipts"))
        thread.start()
        try:
            until(lambda: any((daemon.output / "receipts").rglob("*_x1.json.json")), "the order is there")
            seen, mixed = set(), 0
            with opened(home / "output", settings(home)) if linked else unlinked(home) as one:
                while len(seen) < 12:
                    result = one.answer(once_there)
                    ((count, batch),) = (
                        row for rows in result.rows(["*"]) for row in zip(*rows.to_pydict().values(), strict=True)
                    )
                    if any("mix" in note for note in result.notes):
                        mixed += 1
                        assert not linked
                    else:
                        assert count == 1
                    seen.add(batch)
            if linked:
                for _ in range(3):
                    ended = strandline(
                        home, "sql", "--csv", "SELECT count(*) AS n FROM fact_order WHERE order_id = 'x'"
                    )
                    assert (ended.returncode, ended.stdout) == (0, "n\n1\n"), ended.stderr
        finally:
            stop.set()
            thread.join()
    assert daemon.output.exists()


# -------------------------------------------------------------------------------------------------------- as another user


def test_a_user_who_cannot_write_reads_all_the_same(home: Path) -> None:
    """Beside a running daemon and without one: every table, with nothing made in the output. With `[paths] mode = "group"`, and
    the user's group."""
    require_users()
    base = Path(tempfile.mkdtemp(prefix="strandline-sql-users-"))
    base.chmod(0o755)
    try:
        shutil.copytree(home, base / "home")
        (where := base / "home").chmod(0o755)
        for path in [where / "output", *(where / "output").rglob("*")]:
            os.chown(path, -1, WRITER, follow_symlinks=False)
            if not path.is_symlink():
                path.chmod(0o2750 if path.is_dir() else 0o640)
        query = "SELECT count(*) AS n, (SELECT count(*) FROM drops) AS d, (SELECT count(*) FROM daily_sales) AS m FROM fact_order"
        command = [*as_user(WRITER), sys.executable, "-m", "daemon", "sql", "--csv", query]

        def read() -> str:
            before = sorted(path.name for path in (where / "output").iterdir())
            ended = subprocess.run(
                command,
                cwd=where,
                env=environment() | {"TMPDIR": "/tmp"},
                capture_output=True,
                text=True,
                check=False,
            )
            assert ended.returncode == 0, ended.stderr
            assert sorted(path.name for path in (where / "output").iterdir()) == before
            return ended.stdout

        assert read() == "n,d,m\n2,1,2\n"
        with running(where, PATHS__MODE="group"):
            assert read() == "n,d,m\n2,1,2\n"
    finally:
        shutil.rmtree(base)


# -------------------------------------------------------------------------------------------------------------- the prompt


class Terminal:
    """A process on a pseudo-terminal."""

    def __init__(self, home: Path, *words: str) -> None:
        self.process_id, self._descriptor = pty.fork()
        if not self.process_id:
            os.chdir(home)
            state = {"XDG_STATE_HOME": str(home / "state"), "TERM": "dumb", "COLUMNS": "100"}
            os.execve(sys.executable, [sys.executable, "-m", "daemon", "sql", *words], environment() | state)
        self.said = ""
        self._is_over = False

    def sees(self, text: str) -> None:
        """Waits until a text is on the screen, and forgets what is before its end."""
        end = time.monotonic() + 60
        while text not in self.said:
            assert time.monotonic() < end, f"{text!r} is not in {self.said!r}"
            if select.select([self._descriptor], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # the process has ended
                    self.said += os.read(self._descriptor, 65_536).decode(errors="replace")
        self.said = self.said.partition(text)[2]

    def types(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        """A test that failed leaves no process behind."""
        if not self._is_over:
            os.kill(self.process_id, signal.SIGKILL)
            self.ended()

    def ended(self) -> int:
        self._is_over = True
        code = os.waitstatus_to_exitcode(os.waitpid(self.process_id, 0)[1])
        os.close(self._descriptor)
        return code


def test_the_prompt(home: Path) -> None:
    """Several lines until `;`, errors that do not end it, Ctrl-C in a query and at the prompt, the newest state, completion, and
    history that only its owner can read."""
    with Terminal(home) as terminal:
        prompted(home, terminal)


def prompted(home: Path, terminal: Terminal) -> None:
    terminal.sees("strandline> ")
    terminal.types("SELECT count(*) AS n\n")
    terminal.sees("...> ")
    terminal.types("FROM fact_order;\n")
    terminal.sees("│ 2 │".replace("2", "     2"))
    terminal.sees("strandline> ")
    terminal.types("SELECT nothing;\n")
    terminal.sees("LINE 1")
    terminal.sees("strandline> ")
    terminal.types(f"{ENDLESS};\n")
    until(lambda: any((home / "output" / ".downstream").glob("*/*/fact_order.empty.parquet")), "the query is being run")
    terminal.types("\x03")
    terminal.sees("interrupted")
    terminal.sees("strandline> ")
    terminal.types("SELECT forgotten\n")
    terminal.sees("...> ")
    terminal.types("\x03")
    terminal.sees("strandline> ")
    terminal.types(".schema daily_sales\n")
    terminal.sees("amount                   DECIMAL(38,4)")
    terminal.types(".tables\n")
    terminal.sees("restatements")
    drop(home, "b.json", [order(3, 4)])
    assert once(home).returncode == 0
    terminal.sees("strandline> ")
    terminal.types("SELECT count(*) + 4200 AS n FROM fact_ord\t;\n")
    terminal.sees("4203")
    terminal.sees("strandline> ")
    terminal.types("\x04")
    assert terminal.ended() == 0
    assert scratch_folders(home) == []
    history = home / "state" / "strandline" / "history"
    assert "SELECT nothing;" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, None])
def test_the_prompt_ends_and_leaves_nothing(home: Path, number: int | None) -> None:
    """By SIGTERM with exit code 1, and by .quit with 0; also where no history can be written."""
    (home / "state").write_text("a file where the folder should be")
    with Terminal(home) as terminal:
        terminal.sees("strandline> ")
        if number is None:
            terminal.types(".quit\n")
        else:
            os.kill(terminal.process_id, number)
        assert terminal.ended() == (0 if number is None else 1)
    assert scratch_folders(home) == []


def test_an_error_that_a_signal_became_is_told_as_the_signal() -> None:
    """DuckDB looks at signals while it reads, and makes an error of its own of what a handler raises."""
    program = """
import os, signal
from daemon.operate.sql.signals import Signals
signals = Signals(lambda: None)
try:
    with signals.raising():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            signal.pause()
        except KeyboardInterrupt:
            raise RuntimeError("INTERRUPT Error: Interrupted!") from None
except KeyboardInterrupt:
    print("interrupted")
try:
    with signals.raising():
        raise RuntimeError("another one")
except RuntimeError:
    print("failed")
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.stdout.split() == ["interrupted", "failed"], ended.stderr
