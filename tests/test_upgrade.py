"""The output of every released version, opened by the code of today: it is right as it is, or refused with what to do."""

from __future__ import annotations

import argparse
import json
import sqlite3
import stat
import tarfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon.commands.parser import parser
from daemon.core.model import LAST_INSTANT
from daemon.downstream.records import VERSION as RECORDS_VERSION
from daemon.storage.ledger import Ledger
from daemon.storage.ledger_schema import VERSION
from tests.model import Drop, Mapping, Model
from tests.strategies import RECEIVED_AT_US
from tests.support.command import differences, drop, strandline
from tests.support.frozen import FOLDER
from tests.support.harness import dates, rows, tree

FROZEN = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.tar.xz"))
# Orders of both frozen outputs are corrected and moved, and one is new. u_9 was erased from one of them, and is blocked there.
NEW = [
    {"order_id": "o_1", "created_at": "2024-03-02T08:00:00Z", "updated_at": "2024-05-01", "items": [{"sku": "p"}]},
    {"order_id": "o_2", "created_at": "2024-03-03T10:00:00Z", "updated_at": "2024-05-01", "amount": "2"},
    {"order_id": "new", "created_at": "2024-03-20"},
    {"order_id": "o_9", "created_at": "2024-03-21", "user_id": "u_9"},
]


def opened(name: str, folder: Path) -> Path:
    """The home that a frozen output was."""
    with tarfile.open(FOLDER / name) as tar:
        tar.extractall(folder, filter="tar")
    return folder / Path(name).name.split(".")[0]


def ledger_of(home: Path) -> Path:
    return home / "output" / "state" / "ledger.sqlite"


def schema_version(home: Path, file: str = "ledger.sqlite") -> int:
    with closing(sqlite3.connect(home / "output" / "state" / file)) as sql:
        return int(sql.execute("PRAGMA user_version").fetchone()[0])


def set_schema_version(home: Path, version: int) -> None:
    with closing(sqlite3.connect(ledger_of(home))) as sql:
        sql.execute(f"PRAGMA user_version = {version}")
        sql.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def model_of(home: Path) -> tuple[Model, list[str]]:
    """The plain model of what was frozen, and the ids of orders that are gone."""
    history = json.loads((home / "history.json").read_text())
    model = Model(tolerance_us=LAST_INSTANT)
    for one in history["drops"]:
        given = dict(one["mapping"])
        for name in given.keys() & {"fields", "columns"}:
            given[name] = tuple(
                tuple(tuple(part) if isinstance(part, list) else part for part in entry) for entry in given[name]
            )
        model.apply([Drop("", one["text"].encode(), RECEIVED_AT_US)], mapping=Mapping(**given))
    return model, history["gone"]


def assert_published(home: Path, model: Model, gone: list[str]) -> None:
    """Both files of each date have the rows of the model; a column that a file lacks is NULL."""

    def compared(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{k: str(v) if k == "date" else v for k, v in row.items() if v is not None} for row in found]

    def wanted(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return compared([row for row in found if row["order_id"] not in gone])

    output = home / "output"
    assert dates(output) == [day for day in model.dates() if wanted(model.fact_rows(day))]
    for day in dates(output):
        assert compared(rows(output, day)) == wanted(model.fact_rows(day))
        assert compared(rows(output, day, "order_items")) == wanted(model.item_rows(day))


def whole(home: Path) -> dict[str, str]:
    """Every file with its content and mode, every folder and every link. Without what a process leaves that looked: its number in
    the lock, and the files that SQLite needs for a reader."""
    contents, of_a_look = tree(home), ("state/lock", ".sqlite-shm", ".sqlite-wal")
    found = {}
    for path in home.rglob("*"):
        name = path.relative_to(home).as_posix()
        if not name.endswith(of_a_look):
            target = path.readlink() if path.is_symlink() else ""
            found[name] = f"{stat.filemode(path.lstat().st_mode)} {target} {contents.get(name, '')}"
    return found


def assert_refused(home: Path, words: list[str], *said: str) -> None:
    """A command ends with what to do, and changes nothing."""
    before = whole(home)
    ended = strandline(home, *words)
    assert ended.returncode in (2, 3), (words, ended.stdout, ended.stderr)
    assert all(text in ended.stdout + ended.stderr for text in said), (words, ended.stdout, ended.stderr)
    assert whole(home) == before, words


def assert_goes_on(home: Path) -> None:
    """All of it is right, a new drop is applied exactly, and then all is right."""
    model, gone = model_of(home)
    assert differences(home) == []
    assert_published(home, model, gone)
    data = json.dumps(NEW).encode()
    model.apply([Drop("new.json", data, RECEIVED_AT_US)])
    drop(home, "new.json", data)
    ended = strandline(home, "--once")
    assert ended.returncode == 0, ended.stderr
    assert_published(home, model, gone)
    assert differences(home) == []


@pytest.mark.parametrize("name", FROZEN)
def test_the_output_of_a_released_version(tmp_path: Path, name: str) -> None:
    """With the same schema, it goes on. With another, it is refused until a rebuild, or for good where raw copies have gone."""
    home = opened(name, tmp_path)
    version = schema_version(home)
    if version != VERSION:
        is_aged = (home / "output" / "raw" / "aged.json").exists()
        first = ["Run the strandline that wrote it"] if is_aged else ["`strandline rebuild`"]
        assert_refused(home, ["--once"], f"its schema version is {version}", *first)
        if is_aged:
            assert_refused(home, ["rebuild"], "gone by age")
            return
        assert strandline(home, "rebuild").returncode == 0
    if schema_version(home, "downstream.sqlite") != RECORDS_VERSION:
        assert_refused(home, ["verify"], "the next run, such as strandline --once, makes it anew")
        assert strandline(home, "--once").returncode == 0
    assert_goes_on(home)


def test_each_release_has_its_frozen_outputs() -> None:
    """`make frozen-output` makes those of the version in pyproject.toml."""
    from daemon.commands.shared import version

    assert {f"{version()}/{name}.tar.xz" for name in ("plain", "aged")} <= set(FROZEN)
    assert all((FOLDER / name).stat().st_size < 100_000 for name in FROZEN)


def test_a_frozen_output_keeps_what_git_does_not(tmp_path: Path) -> None:
    """Modes, links and empty folders."""
    home = opened(FROZEN[-1], tmp_path)
    paths = [path for path in home.rglob("*") if "output" in path.parts]
    assert any(path.is_symlink() for path in paths)
    assert any(path.is_dir() and not any(path.iterdir()) for path in home.rglob("*"))
    assert {stat.S_IMODE(path.lstat().st_mode) for path in paths if path.is_file() and not path.is_symlink()} == {0o600}


# ------------------------------------------------------------------------------------------------ a ledger of another version

# A run of each command. Those of WITHOUT do not open the ledger: they need no state, or have no output yet.
RUNS = {
    "": ["--once"], "status": ["status"], "usage": ["usage"], "history": ["history"], "trace": ["trace", "o_1"],
    "plan": ["plan", "history.json"], "verify": ["verify"], "downstream": ["downstream"], "sql": ["sql", "FROM drops"],
    "retry": ["retry"], "discard": ["discard", "other.json"], "undo": ["undo", "1"], "pull": ["pull", "api"],
    "refresh": ["refresh", "daily"], "rebuild": ["rebuild", "2024-03-02"], "forget": ["forget", "--order", "o_1"],
    "backup": ["backup", "copy"], "check": ["check"], "manifest": ["manifest", "fact_order", "s3://bucket"],
}  # fmt: skip
WITHOUT = {"schema", "init", "pause", "resume", "restore", "completion", "docs"}


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    home = opened(next(name for name in reversed(FROZEN) if "plain" in name), tmp_path_factory.mktemp("older"))
    (home / "config.toml").write_text(
        (home / "config.toml").read_text() + '[sources.api.pull]\nurl = "http://127.0.0.1:9"\n'
    )
    set_schema_version(home, VERSION - 1)
    yield home


def test_every_command_is_run_on_a_ledger_of_another_version() -> None:
    action = next(one for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    assert RUNS.keys() | WITHOUT == {"", *action.choices}


@pytest.mark.parametrize("command", RUNS)
def test_a_command_on_a_ledger_of_another_version(older: Path, command: str) -> None:
    """It says what to do, and changes nothing on the disk."""
    assert_refused(older, RUNS[command], f"its schema version is {VERSION - 1}", "`strandline rebuild`")


def test_a_rebuild_makes_a_ledger_of_this_version(tmp_path: Path) -> None:
    """As docs/OPERATING.md says; then all is right, and goes on: who is blocked stays blocked, and APIs are read from
    where the old one left off. For one of a newer version, the newer program is named, too."""
    home = opened(next(name for name in reversed(FROZEN) if "plain" in name), tmp_path)
    set_schema_version(home, VERSION + 1)
    assert_refused(home, ["--once"], "Run the newer strandline that wrote it", "`strandline rebuild`")
    set_schema_version(home, VERSION - 1)
    cursor = Ledger.pull_state_of(ledger_of(home), "api").cursor
    ended = strandline(home, "rebuild")
    assert ended.returncode == 0, ended.stderr
    assert Ledger.pull_state_of(ledger_of(home), "api").cursor == cursor is not None
    assert_goes_on(home)


def test_an_output_with_ages_stays_with_the_version_that_wrote_it(tmp_path: Path) -> None:
    home = opened(next(name for name in reversed(FROZEN) if "aged" in name), tmp_path)
    set_schema_version(home, VERSION - 1)
    assert_refused(home, ["--once"], "Run the strandline that wrote it")
    assert_refused(home, ["rebuild"], "gone by age")
    set_schema_version(home, VERSION)
    assert_goes_on(home)
