"""Measures one process with all its descendants: wall time, CPU time, and peak memory.

It is independent of what runs. On Linux all three cover the whole process tree. Elsewhere the memory is that of the largest
single process, and processes that outlive their parent are not counted.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.05
REAP_SECONDS = 5.0
FETCHED_BYTES = 12 << 30  # far more than any contender uses, since the system may take pages from anywhere
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Measured:
    """The cost of one process with all its descendants."""

    wall_seconds: float
    cpu_seconds: float
    peak_megabytes: float


def measure(command: list[str], folder: Path, log: Path) -> Measured:
    """Runs a command in `folder` and waits until it ends. Counts all processes that it started: see `adopt_orphans`."""
    os.sync()  # otherwise a contender that calls fsync would pay for writing back the copied input
    # As installed
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    fetch_memory()
    with log.open("wb") as sink:
        started = time.perf_counter()
        process = subprocess.Popen(command, cwd=folder, stdout=sink, stderr=subprocess.STDOUT, env=environment)
        memory = MemorySampler(process.pid)
        memory.start()
        _, status, usage = os.wait4(process.pid, 0)
        wall_seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    peak = memory.stop() or usage.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    if process.returncode != 0:
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}\n{tail(log)}")
    return Measured(wall_seconds, usage.ru_utime + usage.ru_stime + orphans_cpu_seconds(), peak)


def fetch_memory() -> None:
    """Uses some gigabytes of free memory and frees them again.

    Many virtual machines return free memory to their host and wait for it, up to some seconds per gigabyte, when they use it
    again. Without this, that time would depend on what was freed just before the run, such as the folder of the previous run.
    """
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    block = bytes(1 << 20)
    with mmap.mmap(-1, max(min(FETCHED_BYTES, available * 3 // 4), len(block))) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        for _ in range(len(memory) // len(block)):
            memory.write(block)


def tail(log: Path) -> str:
    """The end of the output of a failed process."""
    return log.read_text(errors="replace")[-2000:]


def adopt_orphans() -> None:
    """Makes this process the parent of orphaned descendants, such as the workers of a fork server.

    wait4 reports only children of this process. Without this, the CPU time of such workers would be missed, which would favour
    contenders that use them.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def orphans_cpu_seconds() -> float:
    """The CPU time of adopted processes, which exit right after the process that started them."""
    seconds, deadline = 0.0, time.monotonic() + REAP_SECONDS
    while time.monotonic() < deadline:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return seconds
        if pid:
            seconds += usage.ru_utime + usage.ru_stime
        else:
            time.sleep(0.01)
    raise SystemExit("a measured process left children that do not exit")


class MemorySampler(threading.Thread):
    """The largest sum of the resident memory of a process and its descendants, sampled every 50 ms (Linux).

    Shared pages count once in each process, so the sum is too high for programs with several processes.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peak_bytes = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Samples until `stop` is called."""
        while not self.ended.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, sum(resident_bytes(pid) for pid in descendants(self.pid)))

    def stop(self) -> float:
        """The peak in megabytes; 0 without /proc, or if the process ended before the first sample."""
        self.ended.set()
        self.join()
        return self.peak_bytes / (1 << 20)


def descendants(pid: int) -> Iterator[int]:
    """A process and its descendants, as far as they still exist."""
    yield pid
    try:
        tasks = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:  # it ended meanwhile
        return
    for child in children:
        yield from descendants(child)


def resident_bytes(pid: int) -> int:
    """The current resident memory of one process; 0 after it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
