"""Another program cuts our files while they are read, and while they are mapped. Real processes, which stop at a chosen operation
while the files are cut.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from tests.faults import Action, Control, Ended, Server, library
from tests.faults.kills import scratch
from tests.support.command import drop
from tests.support.daemon_process import until
from tests.support.examples import LONG
from tests.support.harness import dates, rows

pytestmark = pytest.mark.timeout(300)

if library() is None and not os.environ.get("REQUIRE_TEST_TOOLS"):
    pytest.skip("needs a C compiler (cc or gcc) on Linux", allow_module_level=True)

ORDERS, DISCARDS, DAYS = 16_000, 6_000, 10  # more bytes than the main process reads itself; and large tables of both


@pytest.fixture
def folder() -> Iterator[Path]:
    place = scratch()
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as one:
        yield one


def large_drop(home: Path) -> None:
    home.mkdir()
    orders = (
        {"order_id": f"o_{n}", "created_at": f"2026-03-{1 + n % DAYS:02d}", "note": "x" * 400} for n in range(ORDERS)
    )
    discards = ({"note": "x" * 400} for _ in range(DISCARDS))
    drop(home, "large.ndjson", "\n".join(map(json.dumps, [*orders, *discards])).encode())


def stopped_at(
    server: Server, home: Path, control: Control, point: int, change: Callable[[int], object]
) -> tuple[Ended, bool]:
    """A run that stops at an operation while `change` is called with its pid; how it ended, and whether it came so far."""
    control.act(Action.STOP, point)
    with ThreadPoolExecutor(1) as beside:
        run = beside.submit(server.run, home, control)
        until(lambda: run.done() or control.stopped)
        if was_stopped := not run.done():
            until(lambda: "T (stopped)" in Path(f"/proc/{control.stopped}/status").read_text())
            change(control.stopped)
            os.kill(control.stopped, signal.SIGCONT)
        return run.result(), was_stopped


def count(home: Path) -> int:
    return sum(len(rows(home / "output", date)) for date in dates(home / "output"))


def test_a_file_that_is_cut_before_it_is_read_costs_no_order(server: Server, folder: Path) -> None:
    """The copy of a drop, and a table on its way from a worker, before each look at it and each read. The run takes the file of
    the inbox again."""
    large_drop(folder / "base")
    cut = Counter[str]()

    def cut_all(_: int) -> None:
        for path in (folder / "home" / "output").glob(".staging/*"):
            with suppress(FileNotFoundError):  # another process has just taken it
                if path.is_file() and path.stat().st_size > 1 << 20:
                    os.truncate(path, path.stat().st_size // 2)
                    cut[path.suffix] += 1

    for point in range(6, 400, 1 if LONG else 6):
        home = shutil.copytree(folder / "base", folder / "home")
        control = Control(folder / "control", home / "output" / ".staging", reads=True)
        ended, _ = stopped_at(server, home, control, point, cut_all)
        assert ended.status == 0, ended.stderr
        assert count(home) == ORDERS, control.what
        if "/1/" in control.what:  # the batch is being staged: all is read
            break
        shutil.rmtree(home)
    assert cut[".part"] > 1 and (cut[".arrow"] or not LONG), cut


def test_a_mapped_table_that_is_cut_ends_the_process_and_costs_no_order(server: Server, folder: Path) -> None:
    """Only root can reach it, since it has no name any more; a disk that cannot give a page does the same. The next run goes on
    from what is committed."""
    large_drop(folder / "base")
    mapped = []

    def cut_all(pid: int) -> None:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            if ".arrow" in line:
                mapped.append(line)
                os.truncate(f"/proc/{pid}/map_files/{line.split()[0]}", 0)

    for point in range(38, 400, 3):
        home = shutil.copytree(folder / "base", folder / "home")
        control = Control(folder / "control", home / "output" / ".staging")
        ended, _ = stopped_at(server, home, control, point, cut_all)
        if mapped:
            break
        shutil.rmtree(home)
    assert ended.status == -signal.SIGBUS and mapped
    assert server.run(home, None).status == 0
    assert count(home) == ORDERS
