"""Operations fail because the disk is full, broken, read-only or not permitted, or because of a signal; once, or until the fault
ends. Published files stay as they are or become what was committed, no drop is quarantined because of it, and every drop is
applied when the cause is gone. With --reads, the operations that read fail: open, read, mmap, stat, listing a folder.

    python -m tests.faults.errors --seeds 10            all points of 10 worlds, each errno, once and lasting
    python -m tests.faults.errors --seeds 10 --reads    the same of reads
    python -m tests.faults.errors --seed 7 --point 43 --error ENOSPC --lasting      repeats one run and keeps its folder
"""

from __future__ import annotations

import argparse
import errno
import hashlib
import random
import shutil
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.faults import MANY, Action, Control, Server
from tests.faults.kills import kind_of, scratch
from tests.faults.world import copied, violations, whole, world

ERRORS = (errno.ENOSPC, errno.EIO, errno.EROFS, errno.EACCES, errno.EINTR)
READ_ERRORS = (errno.EIO, errno.ESTALE, errno.EAGAIN, errno.EINTR)
CUT = 0  # no error: a write or a read takes half of its bytes


@dataclass(frozen=True)
class Failed:
    """One run in which an operation failed, and if `lasting` all operations after it."""

    seed: int
    point: int
    error: int
    lasting: bool
    what: str
    recovered: bool  # within the run, without a second one
    violations: list[str]
    reads: bool = False

    @property
    def replay(self) -> str:
        name = errno.errorcode.get(self.error, "CUT")
        return (
            f"python -m tests.faults.errors --seed {self.seed} --point {self.point} --error {name}"
            + " --lasting" * self.lasting
            + " --reads" * self.reads
        )


class FailureBench:
    """One world in which operations fail. `reads`: those that read."""

    def __init__(self, server: Server, folder: Path, seed: int, *, reads: bool = False) -> None:
        self._server, self._folder, self.reads = server, folder, reads
        self.world = world(seed)
        self.base = folder / "base"
        self.world.prepare(self.base, lambda home: server.run(home, None))
        undisturbed = copied(self.base, folder / "undisturbed")
        control = Control(folder / "control", undisturbed, reads=reads)
        self._status = server.run(undisturbed, control).status
        self.points = control.count
        self._allowed = _published(self.base) | _published(undisturbed)

    def fail(self, point: int, error: int, *, lasting: bool, keep: bool = False) -> Failed:
        """A run in which the operation fails; if it does not recover within the run, a second one without faults."""
        home = self._folder / "run"
        shutil.rmtree(home, ignore_errors=True)
        copied(self.base, home)
        control = Control(self._folder / "control", home, reads=self.reads)
        control.act(Action.FAIL if error else Action.SHORT, point, MANY if lasting else point, error)
        found: list[str] = []
        ended = self._server.run(home, control)
        if ended.status not in (0, 1, 3):
            found.append(f"exit code {ended.status}: {ended.stderr[-2000:]}")
        if ended.status == 3 and len(ended.stderr.strip().splitlines()[-1:]) != 1:
            found.append(f"no line gives the cause: {ended.stderr!r}")
        found += whole(home)
        found += [
            f"{path} is neither what it was nor what was committed" for path, _ in _published(home) - self._allowed
        ]
        recovered = ended.status == self._status and not violations(home, self.world)
        if not recovered:
            ended = self._server.run(home, None)
            if ended.status not in (0, 1):
                found.append(f"exit code {ended.status} after the fault: {ended.stderr[-2000:]}")
            found += violations(home, self.world)
        if not keep:
            shutil.rmtree(home)
        return Failed(self.world.seed, point, error, lasting, control.what, recovered, found, self.reads)


def _published(home: Path) -> set[tuple[str, str]]:
    curated = home / "output" / "curated"
    return {
        (str(path.relative_to(curated)), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in curated.rglob("*.parquet")
    }


def every_failure(bench: FailureBench, *, step: int = 1) -> Iterator[Failed]:
    """Every `step`-th operation fails with each errno, once and lasting, and is cut short. EINTR does not last, because the
    interpreter would retry it for ever."""
    chosen = random.Random(bench.world.seed)
    for error in (*(READ_ERRORS if bench.reads else ERRORS), CUT):
        for lasting in (False, True) if error != errno.EINTR else (False,):
            for point in range(1 + chosen.randrange(step), bench.points + 1, step):
                yield bench.fail(point, error, lasting=lasting)


def run_seed(seed: int, folder: Path, *, step: int = 1, reads: bool = False) -> Iterator[Failed]:
    """All failures of one seed's world."""
    with Server() as server:
        yield from every_failure(FailureBench(server, folder, seed, reads=reads), step=step)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--point", type=int)
    names = [errno.errorcode[one] for one in dict.fromkeys((*ERRORS, *READ_ERRORS))]
    parser.add_argument("--error", default="EIO", choices=[*names, "CUT"])
    parser.add_argument("--reads", action="store_true")
    parser.add_argument("--lasting", action="store_true")
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    folder = scratch()
    if options.point:
        error = getattr(errno, options.error, CUT)
        with Server() as server:
            bench = FailureBench(server, folder, options.seed, reads=options.reads)
            one = bench.fail(options.point, error, lasting=options.lasting, keep=True)
        print(one, f"kept in {folder}", sep="\n")
        return 1 if one.violations else 0
    seeds = [options.seed] if options.seed is not None else list(range(1, options.seeds + 1))
    began, runs, recovered, bad = time.monotonic(), 0, 0, 0

    def all_of(seed: int) -> list[Failed]:
        place = folder / str(seed)
        place.mkdir()
        found = list(run_seed(seed, place, step=options.step, reads=options.reads))
        shutil.rmtree(place)
        return found

    with ThreadPoolExecutor(options.processes) as pool:
        for seed, found in zip(seeds, pool.map(all_of, seeds), strict=True):
            runs += len(found)
            recovered += sum(one.recovered for one in found)
            for one in found:
                if one.violations:
                    bad += 1
                    print(f"VIOLATION at {kind_of(one.what)}: {one.violations[0]}\n  {one.replay}", flush=True)
            print(f"seed {seed}: {len(found)} runs", file=sys.stderr, flush=True)
    shutil.rmtree(folder)
    seconds = time.monotonic() - began
    print(f"{runs:,} runs, {recovered:,} recovered without a second run, {bad} violations, {seconds:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
