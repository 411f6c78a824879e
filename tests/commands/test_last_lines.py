"""The last line of each command says what happened, and what to do next."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest

from daemon.commands.guide import GUIDES
from tests.docs.worlds import history
from tests.support import REPO
from tests.support.command import drop, order, strandline

SETTINGS = {"WATCH__SETTLE_SECONDS": "0", "ENGINE__WORKERS": "1"}
# By command line: the last line of what it prints, where that is the same each time; in the order in which they are run.
LINES = {
    "status": "Needs attention: 2 drops in quarantine; see above. `strandline history` lists all drops",
    "usage": "…, set keep: `strandline docs AGES`",
    "history": "19 drops: 17 applied, 2 quarantined; `strandline retry` or `strandline discard` what is quarantined",
    "history --since 2100-01-01": "No drop was received then; `strandline history` without --since lists all",
    "trace o_3": "1 version; the one that counts is of drop 3, which `strandline undo 3` would withdraw",
    "trace nothing": "No order is published under this id. Ids are as in fact_order: `strandline sql` looks there",
    "plan new.json": "Nothing was changed; to apply it, put it into the inbox",
    "plan part.json": "Nothing was changed; to apply it without the discarded records, put it into the inbox",
    "plan again.json": "Nothing was changed; it need not be dropped",
    "plan bad.json": "Nothing was changed; correct what the reason says first: the file itself, or the settings of its source",
    "verify": "19 drops and 3 partitions verified: all of it is there and right",
    "downstream": "No models, checks or destinations. …",
    "schema": "-- Run this in the warehouse; …fills the tables: `strandline docs WAREHOUSE`",
    "undo 3 --dry-run": "Nothing was changed; `strandline undo 3` does it",
    "undo 3": "Drop 3 is withdrawn; `strandline undo 3 --revert` takes that back",
    "undo 3 --revert": "Drop 3 is applied again; `strandline undo 3` takes that back",
    "forget --order o_404": "nothing in the output names them; ids are as in fact_order",
    "discard 19": "…_login.json is discarded; its receipt and `strandline history` say so",
    "retry": "1 drop put back; `strandline --once` takes it",
    "retry 1 2": "2 drops put back; `strandline --once` takes them",
    "rebuild 2026-03-02": "1 date rebuilt from raw; `strandline verify` compares everything",
    "forget --order o_4 --dry-run": "Nothing was changed; without --dry-run it is erased",
    "forget --order o_4": "Backups from before still have them: remove those",
    "forget --order o_4 --unblock": "0 blocks are lifted; what comes from now on is applied",
    "rebuild": "The ledger and 3 dates rebuilt from raw; `strandline verify` compares everything",
    "pause": "…; a batch that is being applied is finished, and no drop is taken until `strandline resume`",
    "pause --reason again": "… already; `strandline resume` ends that",
    "resume": "…; drops are taken by the next run",
    "backup copy": "copy has …; `strandline restore copy` puts it back",
    "init --config other.toml": "3. Run `strandline` to watch the inbox, …; then `strandline status`.",
    "check": "…",
    "completion bash": "…",
    "docs": "`strandline docs NAME` prints one, `strandline docs NAME#SECTION` a section; …",
    "sql 'FROM fact_order LIMIT 3'": "3 rows",
}
ELSEWHERE = {"manifest", "pull", "refresh", "restore"}  # JSON; and what needs something else: below and in tests/system


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("history")
    history(home)
    (home / "new.json").write_text(json.dumps([order(100)]))
    (home / "part.json").write_text(json.dumps([order(100), 7]))
    (home / "bad.json").write_text("{")
    shutil.copy(next((home / "output").glob("raw/*/*_03.json")), home / "again.json")
    return home


def last_line(home: Path, *words: str) -> str:
    return strandline(home, *words, **SETTINGS).stdout.rstrip().splitlines()[-1]


def test_names_that_are_mistyped(home: Path) -> None:
    """Each command that takes a name says which one is meant."""
    for words, meant in {
        ("undo", "price.json"): "did you mean prices.json?", ("discard", "truncate.json"): "did you mean truncated.json?",
        ("plan", "--source", "defualt", "new.json"): "did you mean default?", ("pull", "defalt"): "did you mean default?",
        ("init", "--preset", "shopfy", "--config", "x"): "did you mean shopify?",
        ("manifest", "fact_orders", "s3://bucket/x"): "did you mean fact_order?",
        ("sql", "FROM fact_orders"): "did you mean fact_order?", ("docs", "RUNBOK"): "did you mean RUNBOOK?",
        ("docs", "RUNBOOK#strandlinepause"): "did you mean strandlinepaused?",
    }.items():  # fmt: skip
        ended = strandline(home, *words, **SETTINGS)
        assert ended.returncode == 2 and meant in ended.stderr, f"{words}: {ended.stderr}"


def test_a_model_that_has_not_run_is_known_by_its_file(tmp_path: Path) -> None:
    """A mistyped name gets it; the right one, that there is nothing to make again."""
    assert strandline(tmp_path, "--once", **SETTINGS).returncode == 0
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "daily.sql").write_text("SELECT date, count(*) AS lines FROM fact_order GROUP BY date")
    for name, said in (("daly", "did you mean daily? Known are daily"), ("daily", "daily has not run yet")):
        ended = strandline(tmp_path, "refresh", name, **SETTINGS)
        assert ended.returncode == 2 and said in ended.stderr, ended.stderr


@pytest.mark.timeout(600)
def test_each_command_ends_with_what_happened_and_what_to_do_next(home: Path) -> None:
    """Whether it did something or found nothing to do."""
    assert GUIDES.keys() <= {line.split()[0] for line in LINES} | ELSEWHERE
    for line, wanted in LINES.items():
        before, rest, after = wanted.partition("…")
        said = last_line(home, *shlex.split(line))
        assert said == wanted if not rest else said.startswith(before) and said.endswith(after), f"{line}: {said}"


def test_a_manifest_is_all_of_standard_output(home: Path) -> None:
    """Programs read it; what happened and what to do next goes to standard error."""
    ended = strandline(home, "manifest", "fact_order", "s3://bucket/shop", **SETTINGS)
    listed = len(json.loads(ended.stdout)["entries"])
    said = f"{listed} files of fact_order listed; put the manifest beside them, and COPY reads it: `strandline docs WAREHOUSE`\n"
    assert (ended.returncode, ended.stderr) == (0, said) and listed > 1


def test_nothing_to_do_is_said(tmp_path: Path) -> None:
    """Before the first drop, and after it."""
    assert strandline(tmp_path, "--once", **SETTINGS).returncode == 0
    assert last_line(tmp_path, "status").startswith(
        "Nothing needs attention. Put a file with orders into the inbox; `strandline`"
    )
    assert last_line(tmp_path, "history").startswith("No drop was received")
    drop(tmp_path, "a.json", [order(1)])
    assert strandline(tmp_path, "--once", **SETTINGS).returncode == 0
    assert last_line(tmp_path, "status").startswith(
        "Nothing needs attention. `strandline sql` answers queries; `strandline`"
    )
    assert last_line(tmp_path, "retry") == "Nothing is in quarantine; there is nothing to retry"
    assert last_line(tmp_path, "resume") == "strandline was not paused; nothing was changed"


def test_models_and_what_was_copied(tmp_path: Path) -> None:
    drop(tmp_path, "a.json", [order(1)])
    (tmp_path / "models").mkdir()
    shutil.copy(REPO / "models" / "daily_sales.sql", tmp_path / "models")
    assert strandline(tmp_path, "--once", **SETTINGS).returncode == 0
    assert last_line(tmp_path, "downstream") == "All are up to date; `strandline refresh NAME` makes one again"
    assert last_line(tmp_path, "refresh", "daily_sales").endswith(
        "is made again by the next run, such as strandline --once"
    )
    assert last_line(tmp_path, "downstream").startswith("daily_sales: not up to date; the daemon brings them")
    assert strandline(tmp_path, "backup", "copy").returncode == 0
    shutil.rmtree(tmp_path / "output")
    assert last_line(tmp_path, "restore", "copy").endswith("; run `strandline verify`, then start the daemon")


@pytest.mark.parametrize(
    ("content", "step"),
    [
        (json.dumps([order(1)]), "strandline sql looks at the result, strandline status at everything"),
        ("{", "strandline status has the reasons; then strandline retry, or strandline discard"),
        (None, "put a file into the inbox"),
    ],
)
def test_a_run_says_what_comes_next(tmp_path: Path, content: str | None, step: str) -> None:
    """In its last log line, which programs read, too."""
    if content is not None:
        drop(tmp_path, "a.json", content.encode())
    last = json.loads(strandline(tmp_path, "--once", **SETTINGS).stderr.splitlines()[-1])
    assert (last["event"], last["next"]) == ("run ended", step)
