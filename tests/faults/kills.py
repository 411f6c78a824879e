"""Kills the real command at every durable operation of a run, and again while it recovers; then runs it undisturbed. Nothing may
be lost or applied twice: everything is compared with the model.

    python -m tests.faults.kills --seeds 50             all points of 50 worlds, 2 processes
    python -m tests.faults.kills --seeds 50 --step 3    every third point with each action
    python -m tests.faults.kills --seed 17              all points of one world
    python -m tests.faults.kills --seed 17 --point 43 --action KILL_AFTER --second 5    repeats one run and keeps its folder
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.faults import KILLED, KILLS, Action, Control, Server
from tests.faults.world import World, copied, violations, whole, world


@dataclass(frozen=True)
class Killed:
    """One killed run. `second`: the point at which its recovery was killed, too; 0: none."""

    seed: int
    point: int
    action: Action
    second: int
    what: str
    what_second: str
    violations: list[str]

    @property
    def replay(self) -> str:
        return (
            f"python -m tests.faults.kills --seed {self.seed} --point {self.point} --action {self.action.name} "
            f"--second {self.second}"
        )


@dataclass
class Bench:
    """One world whose run is killed. `base` has the files before the run."""

    server: Server
    folder: Path
    world: World
    mutant: str = ""

    def __post_init__(self) -> None:
        self.base = self.folder / f"base-{self.world.seed}"
        self.world.prepare(self.base, lambda home: self.server.run(home, None))
        undisturbed = copied(self.base, self.folder / f"undisturbed-{self.world.seed}")
        control = Control(self.folder / f"control-{self.world.seed}", undisturbed)
        ended = self.server.run(undisturbed, control)
        assert ended.status in (0, 1), ended.stderr
        self.undisturbed = violations(undisturbed, self.world)
        self.points = control.count
        shutil.rmtree(undisturbed)

    def kill(self, point: int, action: Action, second: int, *, keep: bool = False) -> Killed:
        """A run that is killed at a point, one that is killed at a point of the recovery (if it gets there), one undisturbed."""
        home = copied(self.base, self.folder / f"run-{self.world.seed}")
        found: list[str] = []
        what = ["", ""]
        try:
            for number, (at, how) in enumerate(((point, action), (second, action))):
                if not at:
                    continue
                control = Control(self.folder / f"control-{self.world.seed}", home)
                control.act(how, at)
                ended = self.server.run(home, control, mutant=self.mutant)
                what[number] = control.what
                if ended.status not in (KILLED, 0, 1):
                    found.append(f"exit code {ended.status}: {ended.stderr[-2000:]}")
                found += whole(home)
            ended = self.server.run(home, None, mutant=self.mutant)
            if ended.status not in (0, 1):
                found.append(f"exit code {ended.status} of the undisturbed run: {ended.stderr[-2000:]}")
            else:
                found += violations(home, self.world)
        finally:
            if not keep:
                shutil.rmtree(home)
        return Killed(self.world.seed, point, action, second, what[0], what[1], found)


def kind_of(what: str) -> str:
    """The name of a point without the parts that differ between runs: 'rename .staging/N/date=D/… > curated/…'."""
    what = re.sub(r"\d{4}-\d{2}-\d{2}", "D", what)
    what = re.sub(r"[0-9a-f]{12}_", "", what)
    what = re.sub(r"(?<=\.)[0-9a-f]{8}(?=\.tmp)", "H", what)
    what = re.sub(r"(?<=/D\.)[0-9a-f]+(?=\.)", "H", what)
    what = re.sub(r"\.strandline-\d+-[^ ]*", "HIDDEN", what)
    what = re.sub(r"\d{8}_[^ ]*", "N_NAME", what)
    what = re.sub(r"inbox/[^. ][^ ]*", "inbox/NAME", what)
    return re.sub(r"\d+", "N", what)


def every_point(bench: Bench, seed: int, *, actions: tuple[Action, ...] = KILLS, step: int = 1) -> Iterator[Killed]:
    """Kills every `step`-th point of the run with each action, and then one point of the recovery, in turn. Each action begins
    one point after the one before, and each seed one after the last: three actions with a step of 3 end a run at every point."""
    second = 0
    for number, action in enumerate(actions):
        for point in range(1 + (seed + number) % step, bench.points + 1, step):
            second = second % 60 + 1
            yield bench.kill(point, action, second)


def run_seed(seed: int, folder: Path, *, mutant: str = "", step: int = 1) -> Iterator[Killed]:
    """All points of one seed's world."""
    with Server() as server:
        bench = Bench(server, folder, world(seed), mutant)
        if bench.undisturbed:
            yield Killed(seed, 0, Action.NOTHING, 0, "", "", bench.undisturbed)
        yield from every_point(bench, seed, step=step)


def scratch() -> Path:
    """A folder in memory, if possible. A killed process loses no written data, so a disk would only be slower."""
    shm = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="strandline-faults-", dir=shm if shm.is_dir() else None))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--point", type=int)
    parser.add_argument("--action", choices=[action.name for action in KILLS], default="KILL_BEFORE")
    parser.add_argument("--second", type=int, default=0)
    parser.add_argument("--mutant", default="")
    parser.add_argument(
        "--step", type=int, default=1, help="kill at every STEP-th point with each action (default: 1, all). The first point "
        "follows from the seed and the action: all actions together kill at every point of each world up to a step of 3, and "
        "over STEP seeds each action comes to every number"
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    folder = scratch()
    if options.point:
        with Server() as server:
            bench = Bench(server, folder, world(options.seed), options.mutant)
            one = bench.kill(options.point, Action[options.action], options.second, keep=True)
        print(one.what, one.what_second, *(one.violations or ["no violation"]), f"kept in {folder}", sep="\n")
        return 1 if one.violations else 0
    seeds = [options.seed] if options.seed is not None else list(range(1, options.seeds + 1))
    began, runs, bad = time.monotonic(), 0, 0
    points: Counter[str] = Counter()

    def all_of(seed: int) -> list[Killed]:
        place = folder / str(seed)
        place.mkdir()
        found = list(run_seed(seed, place, mutant=options.mutant, step=options.step))
        shutil.rmtree(place)
        return found

    with ThreadPoolExecutor(options.processes) as pool:
        for seed, found in zip(seeds, pool.map(all_of, seeds), strict=True):
            runs += len(found)
            points.update(kind_of(what) for one in found for what in (one.what, one.what_second) if what)
            for one in found:
                if one.violations:
                    bad += 1
                    print(f"VIOLATION {one.what} / {one.what_second}: {one.violations[0]}\n  {one.replay}", flush=True)
            print(f"seed {seed}: {len(found)} runs", file=sys.stderr, flush=True)
    shutil.rmtree(folder)
    for name, number in sorted(points.items()):
        print(f"{number:7,}  {name}")
    print(f"{runs:,} runs, {points.total():,} kills at {len(points)} kinds of points, {bad} violations, "
          f"{time.monotonic() - began:.0f} s")  # fmt: skip
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
