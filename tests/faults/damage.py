"""A page of the ledger is damaged: bits are flipped in it, it is zeroed, or the file ends before it. Whatever the command, the
damage is found or does not matter: no run publishes rows that differ from those of the model, every error was foreseen and says
what to do, and that brings everything back.

    python -m tests.faults.damage --seeds 4             every page of 4 worlds, each kind of damage
    python -m tests.faults.damage --seed 2 --page 7 --kind spread      repeats one, and keeps its folder
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults import Ended, Server
from tests.faults.kills import scratch
from tests.faults.world import copied, ledger_rows, put, record, violations, world
from tests.support.harness import dates, rows

LEDGER = "output/state/ledger.sqlite"
PAGE_BYTES = 16_384
FLIPS = 12
_DAMAGE = "run `strandline rebuild`"


def _burst(page: bytearray, chosen: random.Random) -> None:
    """Flips bits within 64 bytes that hold something."""
    start = chosen.choice(_used(page)) & ~63
    for _ in range(FLIPS):
        page[start + chosen.randrange(64)] ^= 1 << chosen.randrange(8)


def _spread(page: bytearray, chosen: random.Random) -> None:
    """Flips bits of bytes that hold something, anywhere in the page."""
    used = _used(page)
    for _ in range(FLIPS):
        page[chosen.choice(used)] ^= 1 << chosen.randrange(8)


def _head(page: bytearray, chosen: random.Random) -> None:
    """Flips bits where a page says what it has: its header and the places of its rows."""
    for _ in range(FLIPS):
        page[chosen.randrange(40)] ^= 1 << chosen.randrange(8)


def _zero(page: bytearray, chosen: random.Random) -> None:
    page[:] = bytes(len(page))


def _used(page: bytearray) -> list[int]:
    return [place for place, value in enumerate(page) if value] or [0]


KINDS = {"burst": _burst, "spread": _spread, "head": _head, "zero": _zero}
CUT = "cut"  # the file ends before the page


@dataclass(frozen=True)
class Damaged:
    """One damage, and what became of it. `runs`: the exit code of each command."""

    seed: int
    page: int
    kind: str
    runs: dict[str, int]
    violations: list[str]
    said: str = ""

    @property
    def replay(self) -> str:
        return f"python -m tests.faults.damage --seed {self.seed} --page {self.page} --kind {self.kind}"


COMMANDS: dict[str, tuple[str, ...]] = {
    "status": ("status",), "history": ("history", "--json"), "usage": ("usage",), "downstream": ("downstream",),
    "trace": ("trace", "o_1"), "plan": ("plan", "new.json"), "check": ("check",), "verify": ("verify",),
    "sql": ("sql", "SELECT count(*) FROM fact_order"), "manifest": ("manifest", "fact_order", "s3://b"),
    "dry undo": ("undo", "1", "--dry-run"), "dry forget": ("forget", "--order", "o_1", "--dry-run"),
    "backup": ("backup", "copy"), "discard": ("discard", "1"), "retry": ("retry", "1"),
}  # fmt: skip
CHANGING: dict[str, tuple[str, ...]] = {
    "undo": ("undo", "2"), "forget": ("forget", "--order", "o_1"), "rebuild a date": ("rebuild", "2026-03-02"),
}  # fmt: skip


@dataclass
class DamageBench:
    """One world, applied except for its last drops, whose ledger is damaged before these are applied."""

    server: Server
    folder: Path
    seed: int
    base: Path = field(init=False)

    def __post_init__(self) -> None:
        self.world = world(self.seed)
        self.base = self.folder / "base"
        self.world.prepare(self.base, lambda home: self.server.run(home, None))
        assert self.server.run(self.base, None).status in (0, 1)
        assert violations(self.base, self.world) == []
        chosen = random.Random(self.seed)
        self.later = [("c.ndjson", later_orders(chosen)), ("new.ndjson", later_orders(chosen))]
        put(self.base, self.later)
        shutil.copy(self.base / "inbox" / "c.ndjson", self.base / "new.json")
        undisturbed = copied(self.base, self.folder / "undisturbed")
        assert self.server.run(undisturbed, None).status == 0
        self.expected = published(undisturbed)
        self.drops = len(ledger_rows(undisturbed))
        self.pages = (self.base / LEDGER).stat().st_size // PAGE_BYTES
        shutil.rmtree(undisturbed)

    def damage(self, home: Path, page: int, kind: str) -> bool:
        """Damages one page (from 0); False where that changes nothing."""
        path = home / LEDGER
        content = bytearray(path.read_bytes())
        before = bytes(content)
        if kind == CUT:
            del content[page * PAGE_BYTES :]
        else:
            place = slice(page * PAGE_BYTES, (page + 1) * PAGE_BYTES)
            part = content[place]
            KINDS[kind.partition("-")[0]](part, random.Random(f"{self.seed} {page} {kind}"))
            content[place] = part
        path.write_bytes(content)
        return content != before

    def run(self, page: int, kind: str, commands: Sequence[str] = (), *, keep: bool = False) -> Damaged | None:
        """Damages a page and runs commands that change nothing, then --once, and if that stops, what it advises."""
        home = self.folder / "run"
        shutil.rmtree(home, ignore_errors=True)
        copied(self.base, home)
        if not self.damage(home, page, kind):
            return None
        found: list[str] = []
        runs: dict[str, int] = {}
        for name in commands:
            place = home
            if name in CHANGING:
                place = copied(home, self.folder / "other")
            arguments = (COMMANDS | CHANGING)[name]
            ended = self.server.run(place, None, arguments)
            runs[name] = ended.status
            found += unforeseen(name, ended, (0, 1, 2, 3))
            if place is not home:
                shutil.rmtree(place)
        ended = self.server.run(home, None)
        said = ended.stderr
        runs["--once"] = ended.status
        found += unforeseen("--once", ended, (0, 1, 3))
        if ended.status == 3:
            found += self._mended(home, runs, said)
        found += [f"after {runs}: {one}" for one in self._wrong(home)]
        if not keep:
            shutil.rmtree(home)
        return Damaged(self.seed, page, kind, runs, found, said)

    def _mended(self, home: Path, runs: dict[str, int], said: str) -> Iterator[str]:
        """Follows the advice, which is always the same: rebuild; where the file is no database, after it is moved away."""
        if "strandline rebuild" not in said:
            yield f"no advice: {said}"
        ended = self.server.run(home, None, ("rebuild",))
        runs["rebuild"] = ended.status
        yield from unforeseen("rebuild", ended, (0, 1, 3))
        if ended.status == 3:
            if "move it away" not in ended.stderr:
                yield f"no advice of rebuild: {ended.stderr}"
            for path in (home / LEDGER).parent.glob("ledger.sqlite*"):
                path.rename(home / path.name)
            ended = self.server.run(home, None, ("rebuild",))
            runs["rebuild anew"] = ended.status
            yield from unforeseen("rebuild anew", ended, (0, 1))
        ended = self.server.run(home, None)
        runs["--once again"] = ended.status
        yield from unforeseen("--once again", ended, (0, 1))

    def _wrong(self, home: Path) -> Iterator[str]:
        if (have := published(home)) != self.expected:
            yield (
                f"{sum(have.values())} rows are published, not the {sum(self.expected.values())} expected; "
                + str((Counter(have) - self.expected, self.expected - have))[:600]
            )
        if left := [path.name for path in (home / "inbox").iterdir()]:
            yield f"left in the inbox: {left}"


def published(home: Path) -> Counter[str]:
    """All published rows."""
    output = home / "output"
    return Counter(
        f"{table} {date} {row}" for date in dates(output) for table in ("fact_order", "order_items")
        for row in rows(output, date, table)
    )  # fmt: skip


def unforeseen(name: str, ended: Ended, allowed: Sequence[int]) -> Iterator[str]:
    """What is wrong with how a command ended."""
    if ended.status not in allowed:
        yield f"{name}: exit code {ended.status}: {ended.stderr[-1500:]}"
    elif "Traceback" in ended.stderr or "unexpected error" in ended.stderr:
        yield f"{name}: {ended.stderr[-1500:]}"


def later_orders(chosen: random.Random) -> bytes:
    """A drop that adds, corrects and moves orders."""

    return "".join(record(chosen) + "\n" for _ in range(8)).encode()


def every_page(bench: DamageBench, kinds: Sequence[str], *, step: int = 1, commands: bool = True) -> Iterator[Damaged]:
    chosen = random.Random(bench.seed)
    names = [*COMMANDS, *CHANGING]
    for kind in kinds:
        for page in range(chosen.randrange(step), bench.pages, step):
            some = chosen.sample(names, 3) if commands else []
            if (one := bench.run(page, kind, some)) is not None:
                yield one


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--page", type=int)
    parser.add_argument("--kind", default="spread")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--step", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="no other commands than --once and what it advises")
    options = parser.parse_args()
    folder = scratch()
    if options.page is not None:
        with Server() as server:
            bench = DamageBench(server, folder, options.seed)
            one = bench.run(options.page, options.kind, [*COMMANDS, *CHANGING], keep=True)
        print(one, f"kept in {folder}", sep="\n")
        return 1 if one and one.violations else 0
    kinds = [*(f"{kind}-{n}" for kind in ("burst", "spread", "head") for n in range(options.rounds)), "zero", CUT]
    began, bad, runs = time.monotonic(), 0, Counter[str]()

    def all_of(seed: int) -> list[Damaged]:
        place = folder / str(seed)
        place.mkdir()
        with Server() as server:
            found = list(
                every_page(DamageBench(server, place, seed), kinds, step=options.step, commands=not options.quick)
            )
        shutil.rmtree(place)
        return found

    with ThreadPoolExecutor(options.processes) as pool:
        seeds = [options.seed] if options.seed is not None else list(range(1, options.seeds + 1))
        for seed, found in zip(seeds, pool.map(all_of, seeds), strict=True):
            for one in found:
                runs[f"--once ended with {one.runs.get('--once')}"] += 1
                if one.violations:
                    bad += 1
                    print(f"VIOLATION {one.runs}: {one.violations[0]}\n  {one.replay}", flush=True)
            print(f"seed {seed}: {len(found)} damages", file=sys.stderr, flush=True)
    shutil.rmtree(folder)
    print(f"{runs.total():,} damages, {dict(runs)}, {bad} violations, {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
