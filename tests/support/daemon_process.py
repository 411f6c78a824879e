"""The real daemon as a separate process, over a folder, with its HTTP endpoint on a free port. For tests.

Tests wait for conditions, with a limit that only a bug reaches.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from prometheus_client.parser import text_string_to_metric_families

from tests.support.command import environment, receipts

LIMIT_SECONDS = 60.0
_T = TypeVar("_T")


def until(what: Callable[[], _T], why: str = "", seconds: float = LIMIT_SECONDS) -> _T:
    """Calls `what` until it returns something true, and returns that."""
    end = time.monotonic() + seconds
    while True:
        if answer := what():
            return answer
        assert time.monotonic() < end, f"not within {seconds} s: {why or what}"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Daemon:
    """One running instance."""

    def __init__(self, home: Path, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.home, self.process, self.port, self.log_path = home, process, port, log
        self.inbox, self.output = home / "inbox", home / "output"

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=LIMIT_SECONDS) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return 0, ""

    def ready(self) -> bool:
        assert self.process.poll() is None, self.log_path.read_text()
        return self.get("/-/ready")[0] == 200

    def metrics(self) -> dict[str, float]:
        """Every sample, by its name and labels as in PromQL."""
        families = text_string_to_metric_families(self.get("/metrics")[1])
        return {series(s.name, **s.labels): s.value for family in families for s in family.samples}

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_path.read_text().splitlines() if line.startswith("{")]

    def said(self, text: str) -> list[dict[str, Any]]:
        return [event for event in self.events() if text in event["event"]]

    def receipt(self, name: str) -> dict[str, Any] | None:
        return next((r for r in receipts(self.home).values() if r["name"] == name), None)

    def applied(self, name: str) -> dict[str, Any]:
        """Waits for a drop's receipt."""
        return until(lambda: self.receipt(name), f"the receipt of {name}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(LIMIT_SECONDS)


def series(name: str, /, **labels: str) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


def started(home: Path, wrapper: tuple[str, ...] = (), **settings: str) -> Daemon:
    """A daemon that has just started; its port may not be open yet."""
    return _started(home, [*wrapper, sys.executable, "-m", "daemon"], {}, settings)


def started_with(home: Path, variables: dict[str, str], **settings: str) -> Daemon:
    """The same, with additional environment variables."""
    return _started(home, [sys.executable, "-m", "daemon"], variables, settings)


_DEAF = """\
import errno, os, sys, watchdog.observers.inotify_c as c
def refuse(*_, **__): raise OSError(errno.EMFILE, 'inotify instance limit reached')
c.inotify_init = refuse
sys.argv = ['daemon']
from daemon.cli import main
if __name__ == '__main__': sys.exit(main([]))
"""


def started_deaf(home: Path, **settings: str) -> Daemon:
    """A daemon that cannot use inotify, as if the limit of instances is reached."""
    home.mkdir(exist_ok=True, parents=True)
    script = home / "deaf.py"
    script.write_text(_DEAF)
    return _started(home, [sys.executable, str(script)], {}, settings)


def _started(home: Path, command: list[str], variables: dict[str, str], settings: dict[str, str]) -> Daemon:
    (home / "inbox").mkdir(exist_ok=True, parents=True)
    port = free_port()
    log = home / "log.jsonl"
    surroundings = environment(**({"HTTP__PORT": str(port)} | settings)) | variables
    with open(log, "ab") as stream:
        process = subprocess.Popen(command, cwd=home, stdout=stream, stderr=stream, env=surroundings)
    return Daemon(home, process, port, log)


@contextmanager
def running(home: Path, **settings: str) -> Iterator[Daemon]:
    """A daemon that is ready. It ends with the block; without an exception in the block, its exit code must be 0."""
    one = started(home, **settings)
    try:
        until(one.ready, "ready")
        yield one
        if one.process.poll() is None:
            assert one.stop() == 0
    finally:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def place(path: Path, content: bytes) -> None:
    """Writes a file as a careful writer does: under a hidden name, then renamed."""
    temporary = path.with_name(f".{path.name}.writing")
    temporary.write_bytes(content)
    os.rename(temporary, path)
