"""Commands that are told: what they get, when they and their children end, and what is shown of what they print."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from daemon.downstream.destinations import notify_command
from tests.downstream.destinations.receivers import World, is_gone
from tests.downstream.worlds import ORDERS
from tests.support.daemon_process import until

pytestmark = pytest.mark.usefixtures("quick_tries")
KEY = "abcdefghijklmnop"


def world_of(root: Path, text: str, *arguments: str, more: str = "") -> World:
    """An output whose receiver is a shell script."""
    script = root / "tell.sh"
    script.write_text(f"#!/bin/sh\n{text}\n")
    script.chmod(0o755)
    world = World(root, f"command = {json.dumps([str(script), *arguments])}\nattempts = 1\n{more}")
    world.publish(*ORDERS)
    return world


def test_it_has_the_environment_and_the_id(tmp_path: Path, monkeypatch: Any) -> None:
    """And a message that is longer than what a pipe holds. SIGPIPE ends what it starts, as usual."""
    monkeypatch.setenv("SHOP", "a")
    out = tmp_path / "out"
    world = world_of(tmp_path, f'echo "$SHOP $NOTIFY_ID" > {out}; cat >> {out}; yes | head -n 1 >> {out}')
    with mock.patch("daemon.downstream.destinations.notify._shown", lambda told: {"sums": "x" * 50_000}):
        world.well()
    first, message, last = out.read_text().replace("}y\n", "}\ny\n").splitlines()
    assert first == f"a {json.loads(message)['id']}" and len(message) > 400_000 and last == "y"


def test_what_it_leaves_running_is_ended(tmp_path: Path) -> None:
    """Also where it succeeds: otherwise each message could add a process."""
    world_of(tmp_path, f"sleep 600 & echo $! > {tmp_path}/pid").well()
    pid = int((tmp_path / "pid").read_text())
    until(lambda: is_gone(pid), "the end of the child")


def test_a_process_of_another_group_is_not_waited_for(tmp_path: Path) -> None:
    """It keeps the output open, and goes on."""
    text = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    (tmp_path / "other.py").write_text(text)
    with mock.patch.object(notify_command, "_OUTPUT_SECONDS", 0.2):
        world_of(
            tmp_path, f"setsid python3 {tmp_path}/other.py & while ! [ -s {tmp_path}/pid ]; do sleep 0.02; done"
        ).well()
    pid = int((tmp_path / "pid").read_text())
    assert not is_gone(pid)
    os.kill(pid, signal.SIGKILL)


def test_children_have_time_to_end(tmp_path: Path) -> None:
    """Also where the command itself ends at once."""
    child = f"trap 'sleep 0.3; touch {tmp_path}/clean; exit' TERM; touch {tmp_path}/up; while :; do sleep 0.05; done"
    world = world_of(tmp_path, f"({child}) & sleep 600", more="timeout = 1")
    assert "took longer than timeout, 1 s" in world.round().error
    assert (tmp_path / "up").exists() and (tmp_path / "clean").exists()


@pytest.mark.parametrize(
    "text",
    ["echo $1 >&2", "printf %s $1; printf '%0300d' 0", "yes $1 | head -n 30000", "printf %s $1 | sed 's/./&\\n/g'"],
    ids=["plain", "where it is cut", "again and again", "by line"],
)  # fmt: skip
def test_a_secret_that_it_prints_is_not_shown(tmp_path: Path, monkeypatch: Any, text: str) -> None:
    """Nor a part of it. It is known, since an argument has it."""
    monkeypatch.setenv("HOOK_KEY", KEY)
    error = world_of(tmp_path, f"{text}; exit 3", "${HOOK_KEY}").round().error
    assert "exit code 3" in error and not any(KEY[at : at + 4] in error for at in range(len(KEY) - 3))


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("#!/no/such/interpreter", "No such file or directory; correct command"),
        ("\x00\x01 no program", "Exec format error; correct command"),
        ("#!/bin/sh\nno-such-program", "not found; correct command"),
    ],
)
def test_what_cannot_be_run_is_not_tried_again_in_the_round(tmp_path: Path, first: str, said: str) -> None:
    """It needs somebody: a file that is no program, and a program that is not there."""
    world = world_of(tmp_path, "")
    (tmp_path / "tell.sh").write_text(first)
    found = world.round()
    assert f"cannot run {tmp_path}/tell.sh: " in found.error and said in found.error and not found.is_transient


def test_one_that_is_killed_with_its_parent_process_is_told_again(tmp_path: Path) -> None:
    """Whoever runs it may be the one that the kernel kills where memory is short."""
    world = world_of(tmp_path, f"sleep 600 & echo $! > {tmp_path}/pid; kill -9 $PPID; sleep 600")
    found = world.round()
    assert "exit code -9" in found.error and found.is_transient
    until(lambda: is_gone(int((tmp_path / "pid").read_text())), "the end of the child")
    (tmp_path / "tell.sh").write_text("#!/bin/sh\n")
    world.well()
