"""Starts a real PostgreSQL server for tests: a new cluster in its own folder, on a Unix socket, removed afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_PATIENCE_SECONDS = 120


def binary(name: str) -> str:
    """The path of a PostgreSQL program, which Debian does not put on PATH. Without it, the test is skipped; in CI it fails."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    path = str(found[-1]) if found else shutil.which(name)
    if path:
        return path
    reason = f"{name} is not installed: apt-get install postgresql"
    if os.environ.get("REQUIRE_TEST_TOOLS") == "1":
        pytest.fail(reason)
    return pytest.skip(reason)


@contextmanager
def server() -> Iterator[str]:
    """A running server; yields the connection string. PostgreSQL refuses to run as root; then it runs as `nobody`."""
    programs = {name: binary(name) for name in ("initdb", "postgres")}
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # not in pytest's folders, which other users cannot enter
    data = folder / "data"
    user = _user(folder)
    try:
        _run(
            [
                programs["initdb"],
                "-D",
                str(data),
                "-U",
                "tester",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-locale",
                "--no-sync",
            ],
            folder,
            user,
        )
        command = [
            programs["postgres"],
            "-D",
            str(data),
            "-k",
            str(folder),
            "-c",
            "listen_addresses=",
            "-c",
            "fsync=off",
        ]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, **user)
        try:
            yield _when_ready(f"host={folder} user=tester dbname=postgres", process, folder / "log")
        finally:
            process.send_signal(signal.SIGINT)  # "fast" shutdown: open connections are ended
            process.wait(_PATIENCE_SECONDS)
    finally:
        shutil.rmtree(folder)


def _user(folder: Path) -> dict[str, object]:
    """The user that the server runs as, who becomes the owner of the folder."""
    if os.geteuid() != 0:
        return {}
    who = pwd.getpwnam("nobody")
    os.chown(folder, who.pw_uid, who.pw_gid)
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


def _run(command: list[str], folder: Path, user: dict[str, object]) -> None:
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, **user)
    assert ended.returncode == 0, ended.stderr


def _when_ready(conninfo: str, process: subprocess.Popen[bytes], log: Path) -> str:
    import psycopg

    deadline = time.monotonic() + _PATIENCE_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            psycopg.connect(conninfo).close()
            return conninfo
        except psycopg.OperationalError:
            time.sleep(0.05)
    raise AssertionError(f"the server did not start: {log.read_text()}")
