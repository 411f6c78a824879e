"""A real Dask cluster on loopback: a scheduler and two workers as processes, and the daemon over the folder that they share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.batch.retries import cause_of, is_transient
from daemon.execution.cluster import _on_a_worker, _version
from tests.support import REPO
from tests.support.command import environment, order
from tests.support.daemon_process import free_port, place, running, until
from tests.support.harness import tree

pytestmark = pytest.mark.timeout(300)  # slow by nature

pytest.importorskip("distributed", reason="pip install 'strandline[cluster]'")
ORDERS, DROPS, DATES = 90_000, 30, 9


class Cluster:
    """A scheduler and its workers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.workers = folder, free_port(), []
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.start_scheduler()

    def start_scheduler(self) -> None:
        arguments = ["--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"]
        self.scheduler = self._start({}, "scheduler", *arguments)

    def _start(self, variables: dict[str, str], *arguments: str) -> subprocess.Popen[bytes]:
        log = self.folder / f"{arguments[0]}-{len(self.workers)}.log"
        with log.open("ab") as sink:
            command = [sys.executable, "-m", "dask", *arguments]
            return subprocess.Popen(
                command, cwd=REPO, env=os.environ | variables, stdout=sink, stderr=subprocess.STDOUT
            )

    def add_worker(self, **variables: str) -> None:
        spool = ["--local-directory", str(self.folder / "spool")]
        host = ["--host", "127.0.0.1", "--no-dashboard", "--no-nanny", "--nthreads", "1"]
        self.workers.append(self._start(variables, "worker", self.address, *host, *spool))

    def lose_scheduler(self) -> None:
        """SIGKILL, and with it the workers: they end by themselves a while later."""
        for process in (self.scheduler, *self.workers):
            process.kill()
            process.wait()

    def end(self) -> None:
        for process in [*self.workers, self.scheduler]:
            if process.poll() is None:
                process.terminate()
        for process in [*self.workers, self.scheduler]:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def cluster(folder: Path, workers: int) -> Iterator[Cluster]:
    folder.mkdir(parents=True)
    running = Cluster(folder)
    try:
        for _ in range(workers):
            running.add_worker()
        yield running
    finally:
        running.end()


def record(number: int, amount: float) -> str:
    day, second = 1 + number % DATES, number % 60
    order = {
        "order_id": f"o_{number}", "user_id": f"u_{number % 700}", "amount": amount, "currency": "EUR",
        "created_at": f"2026-03-{day:02d}T10:{number // 60 % 60:02d}:{second:02d}Z",
        "items": [{"sku": f"p_{number % 97}", "qty": 1 + number % 3, "price": 9.5}, {"sku": "p_x", "qty": 1, "price": 1}],
        "metadata": {"source": "backfill", "number": number},
    }  # fmt: skip
    return json.dumps(order)


def lay_out(home: Path) -> None:
    """A backfill: one drop that is large enough to be divided, many others, dimensions, and a few odd records."""
    inbox = home / "inbox"
    inbox.mkdir(parents=True)
    lines = [record(number, number / 4) for number in range(ORDERS)]
    lines[17], lines[4711] = "{broken", '{"order_id":"x","created_at":"yesterday"}'
    half, each = ORDERS // 2, ORDERS // 2 // (DROPS - 1)
    parts = {"a-large.ndjson": lines[:half]}
    parts |= {
        f"b-{number:02d}.json": lines[half + number * each : half + (number + 1) * each] for number in range(DROPS - 1)
    }
    contents = {name: "\n".join(part) + "\n" for name, part in parts.items()}
    contents["c-corrections.ndjson"] = "".join(record(number, 1.0) + "\n" for number in range(0, half, 2))
    contents["users.csv"] = "user_id,email,created_at,country\n" + "".join(
        f"u_{number},,2026-01-01,NA\n" for number in range(300)
    )
    for number, (name, content) in enumerate(contents.items()):
        (inbox / name).write_text(content)
        os.utime(inbox / name, (1_767_000_000 + number, 1_767_000_000 + number))


def start(home: Path, scheduler: str) -> subprocess.Popen[str]:
    # Small batches: later ones merge with what earlier ones published.
    settings = {"STRANDLINE_ENGINE__SCHEDULER": scheduler, "STRANDLINE_BATCH__MAX_BYTES": "12MiB"}
    return subprocess.Popen(
        [sys.executable, "-m", "daemon", "--once"], cwd=home, env=environment() | settings, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def finished(process: subprocess.Popen[str]) -> str:
    said, _ = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return said


def published(home: Path) -> dict[str, str]:
    output = home / "output"
    assert not [path for path in (output / ".staging").rglob("*") if path.is_file()]
    return tree(output / "curated") | tree(output / "discarded")


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What this machine alone makes of the backfill."""
    home = tmp_path_factory.mktemp("local")
    lay_out(home)
    finished(start(home, ""))
    return published(home)


def test_a_cluster_makes_the_same_bytes(tmp_path: Path, local: dict[str, str]) -> None:
    """Every published file and every discard, over several batches."""
    home = tmp_path / "home"
    lay_out(home)
    with cluster(tmp_path / "cluster", 2) as running:
        finished(start(home, running.address))
        assert published(home) == local
        said = "".join(path.read_text(errors="replace") for path in running.folder.glob("*.log"))
        assert "Traceback" not in said, said


def test_a_killed_worker_costs_nothing(tmp_path: Path, local: dict[str, str]) -> None:
    """SIGKILL while it works: what it had taken on, another does again."""
    home = tmp_path / "home"
    lay_out(home)
    with cluster(tmp_path / "cluster", 2) as running:
        process = start(home, running.address)
        staging, killed = home / "output" / ".staging", threading.Event()

        def kill_at_work() -> None:
            until(
                lambda: any(staging.glob("read-*.arrow*")) or any(staging.glob("sent-*.arrow*")), "work on the cluster"
            )
            os.kill(running.workers[0].pid, signal.SIGKILL)
            killed.set()

        killer = threading.Thread(target=kill_at_work)
        killer.start()
        finished(process)
        killer.join()
        assert killed.is_set() and running.workers[0].wait(10) == -signal.SIGKILL
    assert published(home) == local


def test_a_cluster_that_is_not_there_is_an_environment_fault(tmp_path: Path) -> None:
    """Exit 3 and one clear line; nothing is taken out of the inbox."""
    home = tmp_path / "home"
    lay_out(home)
    before = sorted(path.name for path in (home / "inbox").iterdir())
    process = start(home, f"tcp://127.0.0.1:{free_port()}")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 3 and "could not reach the Dask scheduler" in said and "Traceback" not in said, said
    assert sorted(path.name for path in (home / "inbox").iterdir()) == before


def test_a_daemon_goes_on_when_the_scheduler_was_away_for_long(tmp_path: Path) -> None:
    """Longer than Dask itself tries to come back: what was dropped meanwhile waits, and is applied once the cluster is back."""
    with cluster(tmp_path / "cluster", 1) as outer, running(tmp_path, ENGINE__SCHEDULER=outer.address) as daemon:
        place(daemon.inbox / "a.json", json.dumps([order(1)]).encode())
        daemon.applied("a.json")
        outer.lose_scheduler()
        until(lambda: "closing client" in daemon.log_path.read_text(), "Dask to give up")
        place(daemon.inbox / "b.json", json.dumps([order(2)]).encode())
        until(lambda: [e for e in daemon.said("") if "cannot use the Dask cluster" in str(e)], "a retry that says why")
        outer.start_scheduler()
        outer.add_worker()
        daemon.applied("b.json")
        place(daemon.inbox / "c.json", json.dumps([order(3)]).encode())
        daemon.applied("c.json")


def test_a_worker_of_another_version_that_joins_later_is_refused(tmp_path: Path) -> None:
    """It writes nothing: the drop waits, the log names the version, and a right worker applies it."""
    older = tmp_path / "older" / "strandline-0.0.1.dist-info"
    older.mkdir(parents=True)
    (older / "METADATA").write_text("Metadata-Version: 2.1\nName: strandline\nVersion: 0.0.1\n")
    with cluster(tmp_path / "cluster", 1) as outer, running(tmp_path, ENGINE__SCHEDULER=outer.address) as daemon:
        outer.workers[0].terminate()
        outer.workers[0].wait(30)
        outer.add_worker(PYTHONPATH=str(older.parent))
        place(daemon.inbox / "a.json", json.dumps([order(1)]).encode())
        until(lambda: [e for e in daemon.said("") if "has version 0.0.1 of strandline" in str(e)], "its refusal")
        assert daemon.receipt("a.json") is None
        outer.workers[1].terminate()
        outer.add_worker()
        daemon.applied("a.json")


def test_a_worker_that_does_not_see_the_folder_is_named(tmp_path: Path) -> None:
    """What it is to read is missing there: the error may pass, and says whose it is and what is asked of it."""
    with pytest.raises(FileNotFoundError, match="a Dask worker, which must see the output folder") as caught:
        _on_a_worker(_version(), 0o077, Path.read_bytes, (tmp_path / "sent-1.arrow",), {})
    assert is_transient(caught.value) and cause_of(caught.value).endswith("sent-1.arrow")
