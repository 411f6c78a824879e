"""What `--help` says below the arguments: each example works, and each page exists."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from daemon.commands.guide import GUIDES, MAIN
from daemon.commands.parser import parser
from daemon.operate.docs import pages
from tests.docs.worlds import demo_api, history
from tests.support import REPO
from tests.support.command import strandline
from tests.support.daemon_process import started_with, until

SETTINGS = {"WATCH__SETTLE_SECONDS": "0", "HTTP__PORT": "0", "ENGINE__WORKERS": "1", "LOG__LEVEL": "warning"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a history of drops, and one file that waits in the inbox."""
    home = tmp_path_factory.mktemp("history")
    history(home)
    (home / "inbox" / "orders.json").write_text("[]")
    return home


def _model(home: Path) -> None:
    (home / "models").mkdir()
    shutil.copy(REPO / "models" / "daily_sales.sql", home / "models")
    (home / "inbox" / "orders.json").unlink()
    assert strandline(home, "--once", **SETTINGS).returncode == 0


def _backup(home: Path) -> None:
    assert strandline(home, "backup", "../backups/monday").returncode == 0
    shutil.rmtree(home / "output")


def _empty(home: Path) -> None:
    for one in home.iterdir():
        shutil.rmtree(one)


# What is there beside the history, before the examples of a command are run in their order.
FIRST: dict[str, Callable[[Path], None]] = {"refresh": _model, "restore": _backup, "": _empty, "init": _empty}


@pytest.mark.parametrize("name", ["", *(name for name in GUIDES if name != "pull")])
def test_the_examples_of_a_command_work(name: str, made: Path, tmp_path: Path) -> None:
    """One after the other, as somebody types them who tries them out."""
    home = tmp_path / "home"
    shutil.copytree(made, home, symlinks=True)
    FIRST.get(name, lambda _: None)(home)
    _run_all(name, home)


def test_the_examples_of_pull_work(tmp_path: Path) -> None:
    """With a source of that name."""
    with demo_api(tmp_path) as variables:
        config = tmp_path / "config.toml"
        config.write_text(re.sub(r"\[sources\.\w+", "[sources.berlin", config.read_text()))
        _run_all("pull", tmp_path, **variables)


def _run_all(name: str, home: Path, **variables: str) -> None:
    for line, _ in GUIDES[name].examples if name else MAIN.examples:
        if line == "strandline":
            _watch(home)
            continue
        with pytest.MonkeyPatch.context() as patch:
            for variable, value in variables.items():
                patch.setenv(variable, value)
            if line == "strandline --once":
                (home / "inbox" / "one.json").write_text(
                    '[{"order_id": "o_1", "amount": 1, "created_at": "2026-03-02"}]'
                )
            ended = strandline(home, *shlex.split(line)[1:], **SETTINGS)
        assert ended.returncode == 0, f"{line}\n{ended.stdout}{ended.stderr}"
        assert ended.stdout or ended.stderr or name in ("", "rebuild"), line


def _watch(home: Path) -> None:
    daemon = started_with(home, {})
    try:
        until(daemon.ready, "ready")
        assert daemon.stop(2) == 0
    finally:
        daemon.process.kill()
        daemon.process.wait()


def _commands() -> Iterator[tuple[str, str]]:
    """Each command with its help."""
    (commands,) = [one.choices for one in parser()._actions if isinstance(one.choices, dict)]
    yield "", parser().format_help()
    yield from ((name, command.format_help()) for name, command in commands.items())


@pytest.mark.parametrize(("name", "text"), list(_commands()), ids=lambda one: one if len(one) < 20 else "")
def test_the_help_of_a_command_shows_them(name: str, text: str) -> None:
    """With a purpose before them, and behind them where to go next; the page that is named exists."""
    guide = GUIDES[name] if name else MAIN
    purpose = re.search(r"^usage: .*?\n\n(\w.*?)\n\n", text, re.DOTALL)
    assert purpose is not None and purpose[1].endswith("."), name
    for line, what in guide.examples:
        assert f"  {line}" in text and what in text, line
        assert re.match(rf"strandline {name}\b" if name else "strandline", line)
    assert " ".join(text.split()).count(guide.after) == 1
    assert guide.page in pages()


def test_every_example_is_of_its_command_and_every_command_has_some() -> None:
    (commands,) = [one.choices for one in parser()._actions if isinstance(one.choices, dict)]
    assert GUIDES.keys() == commands.keys()
    assert all(guide.examples for guide in GUIDES.values())
