"""Throughput by the number of workers of a Dask cluster on loopback: none (the local engine), 1, 2 and 4.

    python -m benchmarks.scale [--runs 3] [--work FOLDER]

Each run is the same backfill, 100 drops with 1.5M orders in all, as one batch. Measures whole processes; the numbers of workers
alternate. Workers start before the clock, because a real cluster is already running.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.compare import CONFIG, lay_out
from benchmarks.data import REPO, WORK, Input, make_input

WORKERS = (0, 1, 2, 4)


@contextmanager
def cluster(workers: int) -> Iterator[str]:
    """Starts a scheduler with so many workers of one thread each; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address, quiet = f"tcp://127.0.0.1:{port}", {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = [sys.executable, "-m", "dask"]
    worker = [*dask, "worker", address, "--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
    command = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    processes = [subprocess.Popen(command, cwd=REPO, **quiet)]  # type: ignore[call-overload]
    try:
        processes += [subprocess.Popen(worker, cwd=REPO, **quiet) for _ in range(workers)]  # type: ignore[call-overload]
        from distributed import Client

        with Client(address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=60)
        yield address
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(REPO / "dask-worker-space", ignore_errors=True)


def seconds(drops: Path, home: Path, workers: int) -> float:
    """The seconds of one run."""
    inbox = lay_out(drops, home)
    (home / "config.toml").write_text(CONFIG)
    os.sync()
    with cluster(workers) if workers else nullcontext("") as address:
        settings = {"STRANDLINE_BATCH__MAX_BYTES": "1GiB", "STRANDLINE_ENGINE__SCHEDULER": address}
        command = [sys.executable, "-m", "daemon", "--once", "--config", str(home / "config.toml")]
        started = time.perf_counter()
        subprocess.run(command, cwd=REPO, env=os.environ | settings, check=True, stderr=subprocess.DEVNULL)
        taken = time.perf_counter() - started
    if any(inbox.iterdir()):
        raise SystemExit("drops were left in the inbox")
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--work", type=Path, default=WORK)
    options = parser.parse_args()
    drops = make_input(Input(drops=100), options.work.resolve())
    taken: dict[int, list[float]] = {workers: [] for workers in WORKERS}
    for run in range(1, options.runs + 1):
        for workers, found in taken.items():
            found.append(seconds(drops, options.work.resolve() / "case-scale", workers))
            print(f"  run {run}: {workers or 'no'} workers {found[-1]:.2f} s", flush=True)
    print("| workers | seconds | orders per second |\n|---|---|---|")
    for workers, found in taken.items():
        median = statistics.median(found)
        print(f"| {workers or 'none: the local engine'} | {median:.1f} | {1_500_000 / median:,.0f} |")
    shutil.rmtree(options.work / "case-scale", ignore_errors=True)


if __name__ == "__main__":
    main()
