"""The command line as somebody meets it who does not know it yet: a mistake says what is there and where to look."""

from __future__ import annotations

import pytest

from daemon import cli


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
    assert refused(capsys, "schema", "--dialect", "oracle").startswith(
        "strandline: argument --dialect: invalid choice: 'oracle'"
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
