"""The command line as somebody meets it who does not know it yet: a mistake says what is there and where to look."""

from __future__ import annotations

import subprocess
import sys

import pytest

from daemon import cli
from daemon.core.errors import UsageError
from tests.support import REPO


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command line that is not taken says."""
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    said = capsys.readouterr()
    assert ended.value.code == 2 and not said.out
    return said.err


def test_an_unknown_command_names_the_one_that_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    """And all others; what is like none of them gets these alone. The last line says where to look."""
    said = refused(capsys, "staus")
    assert said.startswith("strandline: there is no command 'staus'; did you mean status? Allowed are status, usage, ")
    assert said.endswith("\n`strandline --help` shows what there is\n") and said.count("\n") == 2
    assert "there is no command 'xyzzy'; allowed are status, usage, " in refused(capsys, "xyzzy")


def test_a_mistake_in_a_command_leads_to_the_help_of_that_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, "trace") == (
        "strandline: the following arguments are required: ORDER_ID\n`strandline trace --help` shows what there is\n"
    )
    assert refused(capsys, "schema", "--dialect", "postgress").startswith(
        "strandline: --dialect cannot be 'postgress'; did you mean postgres? Allowed are redshift, postgres, duckdb\n"
    )
    assert refused(capsys, "status", "--jsn") == (
        "strandline: unrecognized arguments: --jsn; did you mean --json?\n`strandline status --help` shows what there is\n"
    )
    assert refused(capsys, "--onec") == (
        "strandline: unrecognized arguments: --onec; did you mean --once?\n`strandline --help` shows what there is\n"
    )
    assert "--seconsd=7; did you mean --seconds?\n`strandline trace --help`" in refused(
        capsys, "trace", "o", "--seconsd=7"
    )
    assert "unrecognized arguments: more --xyzzy\n" in refused(capsys, "status", "more", "--xyzzy")


def test_no_message_has_characters_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come with what somebody typed, or with the name of a file. Lines stay lines."""
    assert failed_with(UsageError("there is no \x1b[31mred\u202e\nSee below"), monkeypatch) == 2
    assert capsys.readouterr().err == "strandline: there is no \\x1b[31mred\\u202e\nSee below\n"
    assert "unrecognized arguments: \\x1b[31mred\n" in refused(capsys, "status", "\x1b[31mred")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory ran out. Nothing is lost"),
        (MemoryError("malloc of size 7 failed"), "memory ran out (malloc of size 7 failed). Nothing is lost"),
        (RuntimeError("can't start new thread"), "memory ran out (can't start new thread). Nothing is lost"),
        (ImportError("x.so: failed to map segment from shared object"), "memory ran out (x.so: failed to map segment "),
    ],
)
def test_what_says_that_memory_ran_out(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert failed_with(error, monkeypatch) == 3
    assert capsys.readouterr().err.startswith(f"strandline: {said}")


@pytest.mark.parametrize(
    ("error", "code", "otherwise"),
    [("SyntaxError('x')", 3, "an unexpected error in fails ("), ("KeyboardInterrupt", 1, "interrupted; ")],
)
def test_where_memory_ran_out_any_error_says_so(error: str, code: int, otherwise: str) -> None:
    """Python's parser, for one, then finds syntax errors in its own library, and OpenBLAS sends SIGINT. With memory left, the
    same is a mistake of ours, or of somebody who interrupts."""
    script = f"""
import resource
from pathlib import Path
from daemon import cli
from daemon.core.errors import UsageError

def fails(options):
    raise {error}

cli._run, cli._report = fails, lambda error: ""
print(cli.main(["status"]))
in_use = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()  # its data and stacks
resource.setrlimit(resource.RLIMIT_DATA, (in_use + (8 << 20),) * 2)
print(cli.main(["status"]))
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=True)
    first, second = ended.stderr.splitlines()
    assert ended.stdout == f"{code}\n3\n"
    assert first.startswith(f"strandline: {otherwise}")
    assert second.startswith("strandline: memory ran out. Nothing is lost")


@pytest.mark.parametrize("error", ["MemoryError()", "SystemError('error return without exception set')"])
def test_where_memory_does_not_suffice_to_report_that_it_is_said_nevertheless(error: str) -> None:
    """Python loses the error itself, or the report fails again."""
    script = f"""
from daemon import __main__, cli

def fails():
    raise {error}

cli.main = fails
__main__.run()
"""
    ended = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr == "strandline: memory ran out. Nothing is lost: give it more memory, and start again\n"


def failed_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command that raises this."""

    def fails(options: object) -> int:
        raise error

    monkeypatch.setattr(cli, "_run", fails)
    monkeypatch.setattr(cli, "_report", lambda error: "")
    return cli.main(["status"])
