"""Completion as shells do it: real ones, in a terminal, in which somebody types and presses Tab."""

from __future__ import annotations

import os
import pty
import select
import shutil
import stat
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from daemon.commands.parser import parser
from tests.docs.worlds import history
from tests.support import REPO
from tests.support.command import environment, strandline

# Asked by a shell, it is the program; else it writes down what it was called with.
PROGRAM = """#!/bin/sh
if [ -n "$_ARGCOMPLETE" ] || [ "$1" = completion ]; then exec {python} -m daemon "$@"; fi
printf '%s\\n' "$*" >>{called}
"""
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(strandline completion bash)"'),
    "zsh": (["zsh", "-f", "-i"], 'autoload -Uz compinit; compinit -u -D; eval "$(strandline completion zsh)"'),
    "fish": (["fish", "--no-config", "-i"], "strandline completion fish | source"),
}
CONFIG = '[sources.berlin]\npreset = "shopify"\n[sources.berlin.pull]\nurl = "http://127.0.0.1:9"\n'
# What is typed (§: Tab), and what the program is called with then.
TYPED = {
    "strandline hist§": "history",
    "strandline history --si§hwm": "history --since hwm",
    "strandline completion fi§": "completion fish",  # not run: the program is called without the variable
    "strandline schema --dialect post§": "schema --dialect postgres",
    "strandline init --preset woo§": "init --preset woocommerce",
    "strandline pull ber§": "pull berlin",
    "strandline plan --source ber§": "plan --source berlin",
    "strandline retry trun§": "retry truncated.json",
    "strandline discard log§": "discard login.json",
    "strandline undo pri§--dry-run": "undo prices.json --dry-run",
    "strandline refresh dai§": "refresh daily_sales",
    "strandline rebuild 2026-03-02§": "rebuild 2026-03-02",
    "strandline manifest order§s3://b/p": "manifest order_items s3://b/p",
    "strandline plan inbox/or§": "plan inbox/orders.json",
    "strandline trace or§": "trace or",  # no id of an order is known without reading all, and a file is none
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a history of drops, a source with an API, a model, and a program of that name on the PATH."""
    home = tmp_path_factory.mktemp("history")
    history(home)
    (home / "config.toml").write_text(CONFIG)
    (home / "models").mkdir()
    shutil.copy(REPO / "models" / "daily_sales.sql", home / "models")
    (home / "inbox" / "orders.json").write_text("[]")
    (home / "orders.txt").write_text("")
    program = home / "bin" / "strandline"
    program.parent.mkdir()
    program.write_text(PROGRAM.format(python=sys.executable, called=home / "called"))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return home


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes_commands_options_and_names(shell: str, home: Path) -> None:
    """Whatever stands in the configuration and in the output, too."""
    command, setup = SHELLS[shell]
    require(shell)
    called = home / "called"
    called.unlink(missing_ok=True)
    lines = {typed: wanted for typed, wanted in TYPED.items() if not wanted.startswith("completion")}
    with_terminal(command, home, [setup, *(line.replace("§", "\t") for line in lines)], called, len(lines))
    assert called.read_text().splitlines() == list(lines.values())


def require(shell: str) -> None:
    """Skips where a shell is not installed; in CI, fails."""
    if shutil.which(shell) is None:
        reason = f"{shell} is not installed: apt-get install {shell}"
        pytest.fail(reason) if os.environ.get("REQUIRE_TEST_TOOLS") else pytest.skip(reason)


def with_terminal(command: list[str], home: Path, lines: list[str], called: Path, wanted: int) -> None:
    """Types lines into a shell in a terminal, each once the one before was run."""
    env = environment() | {
        "PATH": f"{home / 'bin'}:{os.environ['PATH']}",
        "TERM": "xterm",
        "HOME": str(home),
        "PS1": "> ",
    }
    main, side = pty.openpty()
    command = ["setsid", "--ctty", "--wait", *command]  # fish wants to control its terminal
    process = subprocess.Popen(command, cwd=home, env=env, stdin=side, stdout=side, stderr=side)
    os.close(side)
    try:
        end = time.monotonic() + 20
        shown = b""
        done = 0
        os.write(main, lines[0].encode() + b"\n")
        pending = lines[1:]
        while done < wanted:
            assert time.monotonic() < end and process.poll() is None, shown.decode(errors="replace")
            if pending and done == wanted - len(pending):
                os.write(main, pending.pop(0).encode() + b"\n")
            if select.select([main], [], [], 0.05)[0]:
                with suppress(OSError):  # the shell has ended
                    shown += os.read(main, 65536)
            done = len(called.read_text().splitlines()) if called.exists() else 0
    finally:
        os.close(main)  # the shell gets SIGHUP
        process.wait(60)


def test_nothing_is_shown_where_names_cannot_be_read(tmp_path: Path) -> None:
    """A configuration that is wrong, and no output: the commands and options remain."""
    (tmp_path / "config.toml").write_text("[nonsense")
    assert asked(tmp_path, "strandline undo ") == ["--config", "--dry-run", "--help", "--json", "--reason", "--revert"]
    assert asked(tmp_path, "strandline stat") == ["status"]
    assert list(tmp_path.iterdir()) == [tmp_path / "config.toml"]


def asked(home: Path, line: str) -> list[str]:
    """What the program answers a shell that asks; its streams stay empty."""
    answer = home.parent / "answer"
    env = environment() | {
        "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "fish", "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line, "COMP_POINT": str(len(line)),
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-m", "daemon"], cwd=home, env=env, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    return sorted(one.split("\t")[0].strip() for one in answer.read_text().splitlines())


def test_no_argument_offers_files_by_mistake() -> None:
    """Where an argument is no file, something else is offered for it, or nothing."""
    (commands,) = [one.choices for one in parser()._actions if isinstance(one.choices, dict)]
    files = {"config", "file", "folder", "output"}
    for name, command in commands.items():
        for one in command._actions:
            offered = hasattr(one, "completer") or one.choices is not None or one.nargs == 0 or one.dest in files
            assert offered, f"{name} {one.dest}"


def test_the_code_for_a_shell_is_printed_and_nothing_else(tmp_path: Path) -> None:
    for shell in SHELLS:
        ended = strandline(tmp_path, "completion", shell)
        assert ended.returncode == 0 and "_ARGCOMPLETE" in ended.stdout and not ended.stderr
    assert not list(tmp_path.iterdir())
