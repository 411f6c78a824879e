"""Writers of other users, and writers that are not done when it looks so: real processes, real uids, with CAP_LEASE and without.

A writer begins a drop, pauses with the file open, and goes on. Nothing is taken half, and nothing that is written is lost.
"""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import command, environment, order, receipts
from tests.support.daemon_process import started, until
from tests.support.harness import dates, rows
from tests.support.users import SERVICE, WRITER, as_user, require_users

pytestmark = pytest.mark.timeout(300)  # slow by nature

PAUSES = (0.5, 2.0, 4.0, 8.0)
SETTLE_SECONDS = 11.0  # of files of which nobody can tell: longer than any pause
LINES = 40

# Writes lines into a file that it holds open, and pauses in the middle: NAME PAUSE FIRST LINES.
_WRITER = """
import gzip, json, sys, time
name, pause, first, lines = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
raw = open(name, "wb", buffering=0)
file = gzip.GzipFile(fileobj=raw, mode="wb") if name.endswith(".gz") else raw
for number in range(first, first + lines):
    file.write((json.dumps({"order_id": f"o_{number}", "created_at": "2026-03-02", "amount": 1}) + "\\n").encode())
    if number == first + lines // 2:
        file.flush()
        time.sleep(pause)
file.close()
raw.close()
"""


@pytest.fixture(scope="module")
def base() -> Iterator[Path]:
    """A folder that other users may enter."""
    require_users()
    folder = Path(tempfile.mkdtemp(prefix="strandline-users-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def home(base: Path, name: str) -> Path:
    """A home of the service, with an inbox that everybody may write to."""
    folder = base / name
    for path in (folder, folder / "inbox", folder / "output"):
        path.mkdir()
        os.chown(path, SERVICE, SERVICE)
    (folder / "inbox").chmod(0o777)
    return folder


def writer(
    folder: Path, name: str, pause: float, first: int, lines: int = LINES, uid: int = WRITER
) -> subprocess.Popen[bytes]:
    arguments = [
        *as_user(uid),
        sys.executable,
        "-c",
        _WRITER,
        folder / "inbox" / name,
        str(pause),
        str(first),
        str(lines),
    ]
    return subprocess.Popen(arguments)


def orders(folder: Path) -> set[object]:
    output = folder / "output"
    return {row["order_id"] for date in dates(output) for row in rows(output, date)}


def applied(folder: Path) -> int:
    """How many orders receipts say are new."""
    return sum(receipt["records"]["new"] for receipt in receipts(folder).values())


SETTINGS = {
    "WATCH__SETTLE_SECONDS": "0.2",
    "WATCH__RESCAN_SECONDS": "0.5",
    "WATCH__FOREIGN_SETTLE_SECONDS": str(SETTLE_SECONDS),
}


def writers(folder: Path) -> tuple[list[subprocess.Popen[bytes]], set[object]]:
    """One for each pause, plain and compressed; and all orders that they write."""
    names = [(f"{pause}.{ending}", pause) for pause in PAUSES for ending in ("ndjson", "ndjson.gz")]
    running = [writer(folder, name, pause, number * LINES) for number, (name, pause) in enumerate(names)]
    return running, {f"o_{number}" for number in range(len(names) * LINES)}


def daemon_beside_writers(folder: Path, capabilities: Sequence[str]) -> dict[str, Any]:
    daemon = started(folder, wrapper=as_user(SERVICE, *capabilities), **SETTINGS)
    try:
        until(daemon.ready, "ready")
        running, expected = writers(folder)
        assert [one.wait(60) for one in running] == [0] * len(running)
        until(lambda: len(receipts(folder)) >= len(running), "all are applied")
        until(lambda: os.listdir(folder / "inbox") == [], "nothing is kept hidden any more", 2 * SETTLE_SECONDS + 30)
        assert daemon.stop() == 0
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
    return {"expected": expected, "found": orders(folder), "receipts": receipts(folder)}


def once_beside_writers(folder: Path, capabilities: Sequence[str]) -> dict[str, Any]:
    running, expected = writers(folder)
    ended, said = [], ""
    for _ in range(4):  # as from cron; each leaves what is not finished
        run = subprocess.run(
            [*as_user(SERVICE, *capabilities), *command()], cwd=folder, env=environment(**SETTINGS), capture_output=True,
            text=True, timeout=300, check=False,
        )  # fmt: skip
        ended.append(run.returncode)
        said += run.stderr
        if all(one.poll() == 0 for one in running) and run.returncode == 0:
            break
    assert [one.wait(60) for one in running] == [0] * len(running)
    assert os.listdir(folder / "inbox") == []
    return {"expected": expected, "found": orders(folder), "receipts": receipts(folder), "codes": ended, "said": said}


@dataclass(frozen=True)
class Case:
    name: str
    capabilities: tuple[str, ...]
    run: Any


CASES = [
    Case("daemon", (), daemon_beside_writers),
    Case("daemon with CAP_LEASE", ("lease",), daemon_beside_writers),
    Case("once", (), once_beside_writers),
    Case("once with CAP_LEASE", ("lease",), once_beside_writers),
]


@pytest.fixture(scope="module")
def results(base: Path) -> dict[str, Any]:
    """All cases at once: they mostly wait."""
    with ThreadPoolExecutor(len(CASES)) as pool:
        futures = {
            case.name: pool.submit(case.run, home(base, case.name.replace(" ", "-")), case.capabilities)
            for case in CASES
        }
        return {name: future.result() for name, future in futures.items()}


@pytest.mark.parametrize("case", [case.name for case in CASES])
def test_a_drop_of_another_user_is_taken_whole_however_long_its_writer_pauses(
    results: dict[str, Any], case: str
) -> None:
    """Plain and compressed; by `--once`, too. No record is discarded, no drop is quarantined, each drop is applied once."""
    found = results[case]
    assert found["found"] == found["expected"]
    assert {receipt["outcome"] for receipt in found["receipts"].values()} == {"applied"}
    assert len(found["receipts"]) == 2 * len(PAUSES)
    assert all(receipt["records"]["new"] == LINES for receipt in found["receipts"].values())


def test_once_says_why_it_waits(results: dict[str, Any]) -> None:
    """A minute of silence looks like a program that hangs."""
    why = "it is unknown whether files of other users are still written"
    assert why in results["once"]["said"] and why not in results["once with CAP_LEASE"]["said"]


def test_what_another_user_appends_to_a_drop_that_was_taken_is_a_new_drop(base: Path) -> None:
    """One writer closes it, so it is taken; another holds it open, and writes into the hidden file. No lease can tell."""
    folder = home(base, "appended")
    daemon = started(folder, wrapper=as_user(SERVICE), **(SETTINGS | {"WATCH__FOREIGN_SETTLE_SECONDS": "4"}))
    script = textwrap.dedent("""
        import json, os, sys, time
        def line(number): return (json.dumps({"order_id": f"o_{number}", "created_at": "2026-03-02"}) + "\\n").encode()
        appender = open(sys.argv[1], "ab", buffering=0)
        with open(sys.argv[1], "ab") as first:
            first.write(line(1))
        inode = os.fstat(appender.fileno()).st_ino
        while os.path.exists(sys.argv[1]):
            time.sleep(0.01)
        appender.write(line(2))
        time.sleep(1)
        appender.write(line(3))
        appender.close()
    """)
    try:
        until(daemon.ready, "ready")
        appender = subprocess.run(
            [*as_user(WRITER), sys.executable, "-c", script, folder / "inbox" / "a.ndjson"], timeout=120, check=False
        )
        assert appender.returncode == 0
        until(lambda: applied(folder) == 3, "all lines")
        assert orders(folder) == {"o_1", "o_2", "o_3"}
        until(lambda: os.listdir(folder / "inbox") == [], "nothing is kept hidden any more")
        assert daemon.stop() == 0
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


# ------------------------------------------------------------------------------------------------- appenders of one's own


@pytest.mark.parametrize("holds", [False, True])
def test_no_line_of_an_appender_is_lost(tmp_path: Path, holds: bool) -> None:
    """It opens, appends a line, and closes, as fast as it can, or holds the file open for some lines."""
    script = textwrap.dedent("""
        import json, sys, time
        number, holds = 0, int(sys.argv[2])
        while number < 1500:
            with open(sys.argv[1], "ab", buffering=0) as file:
                for _ in range(5 if holds else 1):
                    file.write((json.dumps({"order_id": f"o_{number}", "created_at": "2026-03-02"}) + "\\n").encode())
                    number += 1
                    time.sleep(0.002 * holds)
    """)
    daemon = started(tmp_path, WATCH__SETTLE_SECONDS="0.01", WATCH__RESCAN_SECONDS="0.05", BATCH__LINGER_SECONDS="0")
    try:
        until(daemon.ready, "ready")
        arguments = [sys.executable, "-c", script, daemon.inbox / "log.ndjson", str(int(holds))]
        assert subprocess.run(arguments, timeout=120, check=False).returncode == 0
        expected = {f"o_{number}" for number in range(1500)}
        until(lambda: applied(tmp_path) == len(expected), "all lines")
        assert orders(tmp_path) == expected
        assert daemon.stop() == 0
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
    assert os.listdir(daemon.inbox) == []


def test_a_line_that_is_appended_while_a_large_drop_is_copied_is_not_lost(tmp_path: Path) -> None:
    """A hundred thousand lines, and one that is written as soon as the copy has begun, by a writer who holds the file open."""
    many = 100_000
    daemon = started(tmp_path, WATCH__SETTLE_SECONDS="0.05", WATCH__RESCAN_SECONDS="0.2")
    try:
        until(daemon.ready, "ready")
        hidden = daemon.inbox / ".large"
        with open(hidden, "wb") as file:
            for number in range(many):
                file.write(json.dumps(order(number, more="x" * 300)).encode() + b"\n")
        os.rename(hidden, daemon.inbox / "large.ndjson")
        staging = daemon.output / ".staging"
        until(lambda: any(name.startswith("drop-") for name in os.listdir(staging)) or receipts(tmp_path), "copying")
        try:
            with open(daemon.inbox / "large.ndjson", "r+b", buffering=0) as late:
                late.seek(0, os.SEEK_END)
                time.sleep(0.3)
                late.write(json.dumps(order(many)).encode() + b"\n")
        except FileNotFoundError:
            pytest.skip("the machine was too fast: it was taken before it could be opened")
        until(lambda: applied(tmp_path) == many + 1, "all lines", 120)
        assert daemon.stop() == 0
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()


def test_a_compressed_drop_that_is_resumed_is_waited_for(tmp_path: Path) -> None:
    """A transfer is cut and goes on: the file is closed in between, and its stream is incomplete."""
    whole = gzip.compress(b"".join(json.dumps(order(number)).encode() + b"\n" for number in range(5000)))
    daemon = started(tmp_path, WATCH__SETTLE_SECONDS="0.05", WATCH__RESCAN_SECONDS="0.2")
    try:
        until(daemon.ready, "ready")
        path = daemon.inbox / "a.ndjson.gz"
        for begin in range(0, len(whole), len(whole) // 3):
            with open(path, "ab") as file:
                file.write(whole[begin : begin + len(whole) // 3])
            time.sleep(0.7)
        assert daemon.applied("a.ndjson.gz")["records"]["new"] == 5000
        assert daemon.stop() == 0
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
