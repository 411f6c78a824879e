"""Starts real PostgreSQL servers for tests: each a new cluster in its own folder, on a Unix socket, removed afterwards."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

_PATIENCE_SECONDS = 120
_QUICK = ("-c", "fsync=off", "-c", "full_page_writes=off")  # a test has no power cut


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


class Server:
    """One cluster, in `folder`/data. PostgreSQL refuses to run as root: it is `nobody` then."""

    def __init__(self, folder: Path, options: Sequence[str] = (), port: int = 5432) -> None:
        self.folder, self.data, self._options, self._port = folder, folder / "data", options, port
        self._process: subprocess.Popen[bytes] | None = None
        self.user = _user(folder)

    @property
    def conninfo(self) -> str:
        return f"host={self.folder} port={self._port} user=tester dbname=postgres"

    def create(self) -> None:
        settings = ["-U", "tester", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
        self.run(binary("initdb"), "-D", str(self.data), *settings)

    def copy_of(self, primary: Server) -> None:
        """Makes it a standby that streams from a running server."""
        self.run(binary("pg_basebackup"), "-D", str(self.data), "-d", primary.conninfo, "-R", "-c", "fast", "--no-sync")

    def run(self, *command: str) -> None:
        ended = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **self.user)
        assert ended.returncode == 0, ended.stderr

    def start(self) -> str:
        """Returns the connection string when it takes connections."""
        command = [
            binary("postgres"), "-D", str(self.data), "-k", str(self.folder), "-c", "listen_addresses=", "-p", str(self._port),
            *_QUICK,
            *self._options,
        ]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, **self.user)
        return _when_ready(self.conninfo, self._process, self.folder / "log")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: "fast", open connections are ended. SIGQUIT: "immediate", as in a crash; the next start recovers."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_PATIENCE_SECONDS)
        self._process = None

    def promote(self) -> None:
        """Makes a standby the primary."""
        import psycopg

        with psycopg.connect(self.conninfo, autocommit=True) as connection:
            connection.execute("SELECT pg_promote(true, 60)")


@contextmanager
def cluster(options: Sequence[str] = (), port: int = 5432) -> Iterator[Server]:
    """A running server."""
    with _folder() as folder:
        one = Server(folder, options, port)
        one.create()
        one.start()
        try:
            yield one
        finally:
            one.stop()


@contextmanager
def standby_of(primary: Server) -> Iterator[Server]:
    """A running standby."""
    with _folder() as folder:
        one = Server(folder)
        one.copy_of(primary)
        one.start()
        try:
            yield one
        finally:
            one.stop()


@contextmanager
def server() -> Iterator[str]:
    """A running server; yields the connection string."""
    with cluster() as one:
        yield one.conninfo


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def _folder() -> Iterator[Path]:
    binary("postgres")
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # not in pytest's folders, which other users cannot enter
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _user(folder: Path) -> dict[str, object]:
    """The user that the server runs as, who becomes the owner of the folder."""
    if os.geteuid() != 0:
        return {}
    who = pwd.getpwnam("nobody")
    os.chown(folder, who.pw_uid, who.pw_gid)
    return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": []}


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
