"""What commands show on a real terminal and nowhere else: colours, and how far long work is."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from tests.docs.worlds import history
from tests.support import REPO
from tests.support.command import environment, order

SETTINGS = {"WATCH__SETTLE_SECONDS": "0", "ENGINE__WORKERS": "1"}
# Runs commands one after the other, each in a process of its own. With `now`, what takes no second is shown, too.
PROGRAM = """
import json, os, sys
from daemon.core import progress
from daemon import cli, wiring
progress.Bars.__init__.__defaults__ = (float(sys.argv[1]),)
for words in json.loads(sys.argv[2]):
    sys.stdout.flush()
    if not (child := os.fork()):
        print("$", *words, flush=True)
        code = cli.main(words)
        sys.stdout.flush()
        os._exit(code)
    os.waitpid(child, 0)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("history")
    history(home)
    (home / "models").mkdir()
    shutil.copy(REPO / "models" / "daily_sales.sql", home / "models")
    (home / "inbox" / "more.json").write_text(json.dumps([order(100)]))
    (home / "new.json").write_text(json.dumps([order(100)]))
    return home


def shown(
    home: Path, commands: Sequence[str], *, delay: float, terminal: bool = True, **variables: str
) -> dict[str, str]:
    """What each command shows."""
    env: Mapping[str, str] = {
        name: value for name, value in environment(**SETTINGS).items() if name not in ("NO_COLOR", "TERM")
    } | {"TERM": "xterm", **variables}
    command = [sys.executable, "-c", PROGRAM, str(delay), json.dumps([one.split() for one in commands])]
    if terminal:
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
        process = subprocess.Popen(command, cwd=home, env=env, stdin=subprocess.DEVNULL, stdout=side, stderr=side)
        os.close(side)
        said = b""
        with suppress(OSError):  # the terminal is closed
            while part := os.read(main, 65536):
                said += part
        process.wait()
        os.close(main)
    else:
        said = subprocess.run(command, cwd=home, env=env, stdout=-1, stderr=subprocess.STDOUT, check=False).stdout
    parts = re.split(r"^\$ (.*)\n", said.decode().replace("\r\n", "\n"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_colours_are_for_terminals(made: Path, tmp_path: Path) -> None:
    """Not where NO_COLOR is set, nor on a terminal that shows none, nor in a pipe; nothing else differs."""
    home = tmp_path / "home"
    shutil.copytree(made, home, symlinks=True)
    commands = ("status", "history", "plan new.json", "undo 99")
    coloured = shown(home, commands, delay=1e9)
    assert all("\x1b[" in text for text in coloured.values())
    plain = {name: re.sub(r"\x1b\[\d+m", "", text) for name, text in coloured.items()}
    assert plain == shown(home, commands, delay=1e9, NO_COLOR="1") == shown(home, commands, delay=1e9, terminal=False)
    assert shown(home, ["status"], delay=1e9, TERM="dumb")["status"] == plain["status"]
    (home / "inbox" / "bad.json").write_text("{")
    assert re.search(r"\x1b\[33mwarning\x1b\[0m drop quarantined", shown(home, ["--once"], delay=1e9)["--once"])


PHASES = {
    "plan new.json": ["reading", "writing partitions"],
    "--once": ["reading", "writing partitions", "bringing model daily_sales up to date"],
    "verify": ["checking raw", "checking discards", "checking receipts", "checking curated", "replaying drops",
               "checking the index"],
    "trace o_1": ["reading drops"],
    "usage": ["counting files"],
    "undo 3 --dry-run": ["writing partitions"],
    "forget --order o_4": ["searching drops", "redacting drops", "replaying drops"],
    "rebuild": ["replaying drops"],
    "backup copy": ["copying tables", "copying drops", "copying model daily_sales"],
    "restore copy --config other.toml": ["restoring"],
}  # fmt: skip


def test_long_work_shows_how_far_it_is(made: Path, tmp_path: Path) -> None:
    """On a terminal, in one line that goes before anything else is written; what is quick shows nothing."""
    home = tmp_path / "home"
    shutil.copytree(made, home, symlinks=True)
    (home / "other.toml").write_text('[paths]\noutput = "other"\n')
    found = shown(home, list(PHASES), delay=0)
    for name, phases in PHASES.items():
        for phase in phases:
            number = r"\d[\d.]*[kMG]?"
            total = "" if phase == "counting files" else rf" of {number}"
            assert re.search(rf"\r{phase}: {number}{total}, (\?|[\d.]+\w?)/s", found[name]), (
                f"{name}: {phase}\n{found[name]!r}"
            )
        for line in found[name].split("\n"):  # not at carriage returns
            kept = line.rpartition("\r")[2]
            assert not any(kept.startswith(f"{phase}: ") for phase in phases), f"{name}: {line!r}"
    assert "checking" not in shown(home, ["verify"], delay=1e9)["verify"]
    piped = shown(home, ["verify", "usage"], delay=0, terminal=False)
    assert "checking" not in piped["verify"] and "counting" not in piped["usage"]
