"""SIGKILL to a real process at points of a round that tells a receiver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.downstream.destinations.notify_process import POINTS
from tests.downstream.destinations.receivers import Receiver, World, exact, is_gone
from tests.downstream.kinds import Order
from tests.downstream.worlds import ORDERS
from tests.support import REPO
from tests.support.daemon_process import until
from tests.support.examples import LONG

pytestmark = pytest.mark.usefixtures("quick_tries")


def process(root: Path, point: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.downstream.destinations.notify_process", str(root), point]
    return subprocess.Popen(command, cwd=REPO, env=os.environ | {"PYTHONPATH": str(REPO)})


def killed(root: Path, point: str) -> None:
    """One round that is killed."""
    running = process(root, point)
    assert running.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize("point", ["received", *POINTS] if LONG else ["received", "recorded", "told"])
def test_a_message_is_told_again_with_the_same_bytes_unless_its_end_was_noted(
    tmp_path: Path, receiver: Receiver, point: str
) -> None:
    """Whatever changed between the kill and the next start is told after it, in a message of its own."""
    world = World(tmp_path, f'url = "{receiver.url}"')
    world.publish(*ORDERS)
    world.well()
    world.publish(Order(1, 1, 11))
    if point == "received":
        running: Any = process(tmp_path, "")
        receiver.answers = [lambda handler: running.kill()]
        assert running.wait(60) == -signal.SIGKILL
    else:
        killed(tmp_path, point)
    world.publish(Order(1, 1, 12))
    world.well()
    _, *told = receiver.received
    amounts = [one.message["dates"][0]["after"]["amount"] for one in told]
    expected = {
        "received": [11, 11, 12], "not recorded": [12], "recorded": [11, 12], "answered": [11, 11, 12], "told": [11, 12],
        "noted": [11, 12],
    }  # fmt: skip
    assert amounts == [f"{amount}.0000" for amount in expected[point]]
    if amounts[:2] == ["11.0000"] * 2:
        assert told[0].body == told[1].body
    assert exact(receiver.known) == world.expected() and world.well().dates == 0


def test_a_killed_daemon_leaves_no_command(tmp_path: Path) -> None:
    """Neither the command nor its children go on: the message that is sent again must not overtake them."""
    script = tmp_path / "tell.sh"
    script.write_text(f"#!/bin/sh\ntrap '' TERM\nsleep 600 & echo $$ $! > {tmp_path}/pids\nwait\n")
    script.chmod(0o755)
    world = World(tmp_path, f'command = ["{script}"]')
    world.publish(*ORDERS)
    running = process(tmp_path, "")
    pids = until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().split())
    assert len(pids) == 2 and not any(is_gone(int(pid)) for pid in pids)
    running.kill()
    running.wait(60)
    for pid in pids:
        until(lambda pid=pid: is_gone(int(pid)), "the end of the command")
