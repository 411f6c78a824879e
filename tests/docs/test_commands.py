"""Every command in the documentation is run, in its page's order, and gives what the page shows.

What cannot run here is named with the reason, and what it passes to strandline must still be accepted.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from daemon.commands.parser import parser
from tests.docs.blocks import PAGES, Command, blocks, commands, inline
from tests.docs.worlds import WORLDS, Variables, history, with_history
from tests.support import REPO, zygote
from tests.support.command import environment
from tests.support.daemon_process import started_with, until

# By the first word, why it is not run.
NOT_RUN = {
    "pip": "it installs; tests/system/test_installed.py installs the wheel",
    "python": "it measures, and CI runs the parts that are quick",
    "python3": "it makes an environment",
    "docker": "its images come from a registry; tests/system/test_container.py runs the image and checks the compose file",
    "systemctl": "it is for the machine's service manager",
    "journalctl": "it is for the machine's service manager",
    "make": "its target is looked up; CI runs `make demo`, `make lint`, `make test` and `make docs`",
    "pre-commit": "it changes the repository's hooks; what they call is run by `make lint`",
    ".ci/run": "it runs these tests",
    ".venv/bin/python": "it runs tests",
    ".venv/bin/ruff": "it is a part of `make lint`",
    "apt-get": "it installs",
}
IN_A_SHELL = ("cat", "chmod", "cp", "export", "ls", "mkdir", "mv")
SETTINGS = {"WATCH__SETTLE_SECONDS": "0", "LOG__FORMAT": "console", "HTTP__PORT": "0", "ENGINE__WORKERS": "1"}
WITH_COMMANDS = [page for page in PAGES if commands(page)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a history of drops."""
    home = tmp_path_factory.mktemp("history")
    history(home)
    return home


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: str(page.relative_to(REPO)))
def test_the_commands_of_a_page_do_what_it_shows(page: Path, made: Path, tmp_path: Path) -> None:
    """Each ends with the exit code that the page says (0 where it says none), and with its output where it shows some."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "examples").symlink_to(REPO / "examples")
    name = str(page.relative_to(REPO))
    with WORLDS[name](home) if name in WORLDS else with_history(home, made) as variables:
        env = environment(**SETTINGS) | {"TZ": "UTC", **variables}
        for command in commands(page):
            _run(command, home, env, variables)


def _run(command: Command, home: Path, env: dict[str, str], variables: Variables) -> None:
    words = command.words
    if words and words[0] in NOT_RUN:
        _look_up(command, words)
    elif words == ["strandline"]:
        _watch(home, env)
    elif words and words[0] == "strandline":
        before = dict(re.findall(r"(STRANDLINE_\w+)=(\S+) ", command.text.partition("strandline ")[0]))
        ended = zygote.run([_local(word, home) for word in words[1:]], home, env | before)
        assert ended.returncode == command.exit_code, f"{command}\n{ended.stdout}{ended.stderr}"
        if command.shown is not None:
            _compare(command, ended.stdout or ended.stderr)
    elif words and words[0] == "export":
        assert variables.keys() >= dict(word.split("=", 1) for word in words[1:]).keys(), (
            f"{command}: not what the page's world needs"
        )
    else:
        assert words and words[0] in IN_A_SHELL, f"{command}: say in NOT_RUN why it is not run, or add it to IN_A_SHELL"
        subprocess.run(["sh", "-euc", _local(command.text, home)], cwd=home, check=True)


def _local(text: str, home: Path) -> str:
    """Absolute folders of the documentation are in the folder of the test."""
    return re.sub(r"(?<![\w.])/backups\b", str(home / "backups"), text)


def _look_up(command: Command, words: Sequence[str]) -> None:
    """What is not run names targets, files and arguments that exist."""
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (REPO / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert {word for word in words[1:] if "=" not in word} <= set(targets), command
    if words[:4] == ["docker", "compose", "run", "--rm"]:
        _accepted(words[5:])
    for option, module in pairwise(words):
        if option == "-m" and module.startswith(("benchmarks", "tests")):
            assert (path := REPO / module.replace(".", "/")).is_dir() or path.with_suffix(".py").is_file(), command
    for word in words:
        if re.match(r"(tests|docs|deploy|examples|benchmarks)/", word):
            assert (REPO / word).exists(), f"{command}: there is no {word}"


def _watch(home: Path, env: Mapping[str, str]) -> None:
    """The daemon starts, and ends at SIGTERM."""
    (home / "inbox").mkdir(exist_ok=True)
    daemon = started_with(home, {key: value for key, value in env.items() if key.startswith("SHOP")})
    try:
        until(daemon.ready, "ready")
        assert daemon.stop(signal.SIGTERM) == 0
    finally:
        daemon.process.kill()
        daemon.process.wait()


def _compare(command: Command, output: str) -> None:
    """Line by line. A line `…` stands for any lines, and `...` in a line for any text; times and durations differ."""
    assert command.shown is not None
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "…" else _line(line) for line in command.shown if line.strip())
    text = "".join(line.rstrip() + "\n" for line in output.splitlines() if line.strip())
    assert re.fullmatch(pattern, text), (
        f"{command}\nthe page shows:\n" + "\n".join(command.shown) + f"\nit prints:\n{text}"
    )


_TIME = r"\d\d:\d\d:\d\d(?:[+-]\d\d:\d\d)?"


def _line(line: str) -> str:
    text = re.escape(line.rstrip()).replace(re.escape("..."), ".*")
    if not re.search(r"│", line):  # tables are exact
        text = re.sub(r"^\d\d:\d\d:\d\d(?:\\\+\d\d:\d\d)?", lambda _: _TIME, text)
        text = re.sub(r"\d+\\\.\d+(\\ s)?$", lambda found: r"\d+\.\d+" + (found[1] or ""), text)
    return text + "\n"


# ------------------------------------------------------------------------------------------------- within sentences


@pytest.mark.parametrize(
    "page", [page for page in PAGES if list(inline(page))], ids=lambda page: str(page.relative_to(REPO))
)
def test_commands_within_sentences_are_accepted(page: Path) -> None:
    """By the parser of the command line. Where only a part is written (`strandline undo`), and where brackets and dots show what
    may follow, the command and each option that is named exist."""
    for text in inline(page):
        words = shlex.split(re.split(" [<|] ", text)[0])[1:]
        if set(text) & set("[(…") or words[0].isupper() or _UNFINISHED.search(_refusal(words) or ""):
            _known(text)
        else:
            _accepted(words, text)


_UNFINISHED = re.compile("expected one argument|expected at least one argument|arguments are required")


def _accepted(words: Sequence[str], text: str = "") -> None:
    assert not (refusal := _refusal(words)), f"{text or words}: {refusal}"


def _refusal(words: Sequence[str]) -> str | None:
    """Why the parser does not take a command line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser().parse_args(words)
    except SystemExit as ended:
        return said.getvalue() if ended.code else None
    return None


def _known(usage: str) -> None:
    words = re.findall(r"[\w-]+", usage.removeprefix("strandline "))
    named, options = words[0], {word for word in words if word.startswith("--")}
    (commands_of,) = [action.choices for action in parser()._actions if isinstance(action.choices, dict)]
    if named.isupper():  # `strandline COMMAND --help`
        named = next(iter(commands_of))
    of = parser() if named.startswith("--") else commands_of[named]
    known = {option for action in of._actions for option in action.option_strings}
    assert options <= known, f"{usage}: {options - known}"


def test_every_block_says_what_it_is() -> None:
    """So no command hides in a block without a language, or in one of plain text."""
    for page in PAGES:
        for block in blocks(page):
            where = f"{block.page}, line {block.line}"
            assert block.language, f"{where}: a block without a language; write sh, console or text"
            if block.language not in ("sh", "console"):
                assert not re.search(r"^(\$ )?strandline ", block.text, re.MULTILINE), (
                    f"{where}: a command in a {block.language} block"
                )
