"""Measures one whole process with everything that it starts: wall time, CPU time, and the peak of memory.

It knows nothing of what runs. Linux gives all three for the whole tree of processes; elsewhere the memory is that of
the largest single process, and processes that outlive their parent are not counted.
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
FETCHED_BYTES = 12 << 30  # far more than any of the contenders uses: the system takes pages from anywhere
PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Measured:
    """What one whole process, with all its children, took."""

    wall_seconds: float
    cpu_seconds: float
    peak_megabytes: float


def measure(command: list[str], folder: Path, log: Path) -> Measured:
    """Run a command in `folder` to its end. Nothing that it started is missed: see `adopt_orphans`."""
    os.sync()  # what the copying left dirty must not be written back on the time of the one that calls fsync
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    }  # as installed
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
    """Uses some gigabytes of free memory, and frees them again.

    Many virtual machines give free memory back to their host, and wait for it, up to some seconds a gigabyte, when it is used
    again. How much of that a run had to do depended on what had been freed just before it: a folder of the run before, say.
    """
    available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    block = bytes(1 << 20)
    with mmap.mmap(-1, max(min(FETCHED_BYTES, available * 3 // 4), len(block))) as memory:
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        for _ in range(len(memory) // len(block)):
            memory.write(block)


def tail(log: Path) -> str:
    """The end of what a failed process said."""
    return log.read_text(errors="replace")[-2000:]


def adopt_orphans() -> None:
    """Make this process the parent of grandchildren that lose theirs, such as the workers of a fork server.

    wait4 knows only children that were waited for; without this the CPU time of such workers would be lost, in favour
    of whoever uses them.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def orphans_cpu_seconds() -> float:
    """The CPU time of adopted processes, which end by themselves right after the process that started them."""
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
    raise SystemExit("a measured process left children behind that do not end")


class MemorySampler(threading.Thread):
    """The largest sum of resident memory over a process and its descendants, seen every 50 ms (Linux).

    Pages that processes share count once in each, so the sum errs to the high side for who uses processes.
    """

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.pid = pid
        self.peak_bytes = 0
        self.ended = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self.ended.wait(SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, sum(resident_bytes(pid) for pid in descendants(self.pid)))

    def stop(self) -> float:
        """The peak in megabytes; 0 where there is no /proc, or when all was over before the first look."""
        self.ended.set()
        self.join()
        return self.peak_bytes / (1 << 20)


def descendants(pid: int) -> Iterator[int]:
    """A process and all below it, as far as they can still be seen."""
    yield pid
    try:
        tasks = [task / "children" for task in Path(f"/proc/{pid}/task").iterdir()]
        children = [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:  # it ended between two looks
        return
    for child in children:
        yield from descendants(child)


def resident_bytes(pid: int) -> int:
    """The resident memory of one process now; 0 once it has ended."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
