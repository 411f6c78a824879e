"""Power loss. The real command runs under the library, which records every change to the disk. From the record come states of the
disk in which anything that was not synced may be missing, torn or reordered. From each state the command must recover. The model
is harsher than any file system: names and data are lost independently, and the fsync of a file does not make its name durable.

    python -m tests.faults.power --seeds 20             20 worlds, three states at every operation of each
    python -m tests.faults.power --seeds 20 --step 2    the same at every second operation
    python -m tests.faults.power --seed 7               one world
    python -m tests.faults.power --seed 7 --cut 96 --state RANDOM      repeats one state and keeps its folder
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from tests.faults import Control, Server
from tests.faults.kills import scratch
from tests.faults.world import World, copied, violations, whole, world

_HEAD = struct.Struct("<iiqqii")  # struct head of faults.c
_SECTOR = 512
OPEN, WRITE, TRUNCATE, SYNC, SYNC_ALL, RENAME, LINK, UNLINK, SYMLINK, MKDIR, RMDIR = range(1, 12)


@dataclass(frozen=True)
class Operation:
    """One operation of the record. `offset`: the offset of a write, the size of a truncation, or 1 for an open that truncates."""

    kind: int
    path: str
    other: str
    offset: int
    data: bytes


def read_record(path: Path) -> list[Operation]:
    """All operations, in order."""
    content, found, at = path.read_bytes(), [], 0
    while at < len(content):
        kind, _, offset, size, path_bytes, other_bytes = _HEAD.unpack_from(content, at)
        at += _HEAD.size
        parts = []
        for length in (path_bytes, other_bytes, size):
            parts.append(content[at : at + length])
            at += length
        found.append(Operation(kind, os.fsdecode(parts[0]), os.fsdecode(parts[1]), offset, parts[2]))
    return found


# ------------------------------------------------------------------------------------------- a disk that loses writes


class Losing(Enum):
    """What happens to unsynced changes at a power loss."""

    EVERYTHING = "all of it is lost"
    DATA = "names are kept, data is lost"
    NAMES = "data is kept, names are lost"
    RANDOM = "each piece is lost, torn or kept, in any order"


@dataclass
class File:
    """A file's synced content, and the changes since: (offset, data), or (size, None) for a truncation."""

    content: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)
    mtime_ns: int = 0

    def sync(self) -> None:
        for offset, data in self.pending:
            _change(self.content, offset, data)
        self.pending = []


@dataclass
class Link:
    """A symbolic link."""

    target: str


@dataclass
class Folder:
    """`names`: what a program sees. `synced`: what is on the disk for certain."""

    names: dict[str, Node] = field(default_factory=dict)
    synced: dict[str, Node] = field(default_factory=dict)


Node = File | Link | Folder


@dataclass
class Naming:
    """An unsynced change of names. Each step sets a name in a folder to a node, or removes it. A later step reaches the disk only
    after the earlier ones, because a file system does not lose a file that is renamed."""

    steps: list[tuple[Folder, str, Node | None]]


def _change(content: bytearray, offset: int, data: bytes | None) -> None:
    if data is None:
        del content[offset:]
        content.extend(b"\0" * (offset - len(content)))
        return
    content.extend(b"\0" * (offset - len(content)))
    content[offset : offset + len(data)] = data


class Disk:
    """A folder before a run, all of it synced, to which the operations of the run are applied one by one."""

    def __init__(self, root: Path, base: Path) -> None:
        self._prefix = str(root)
        self._root = _loaded(base)
        self._pending: list[Naming] = []

    def do(self, one: Operation) -> None:
        """Applies one operation, as the program saw it."""
        folder, name = self._parent(one.path)
        if one.kind == OPEN:
            self._open(folder, name, truncates=bool(one.offset))
        elif one.kind in (WRITE, TRUNCATE):
            file = folder.names[name]
            assert isinstance(file, File)
            file.pending.append((one.offset, one.data if one.kind == WRITE else None))
        elif one.kind == SYNC:
            self._sync(folder.names[name] if name else self._root)
        elif one.kind == SYNC_ALL:
            self._sync_all(self._root)
        else:
            self._rename(one, folder, name)

    def _open(self, folder: Folder, name: str, *, truncates: bool) -> None:
        if name not in folder.names:
            self._name([(folder, name, File(mtime_ns=time.time_ns()))])
        file = folder.names[name]
        if truncates and isinstance(file, File):
            file.pending.append((0, None))

    def _rename(self, one: Operation, folder: Folder, name: str) -> None:
        node = folder.names.get(name)
        if one.kind in (RENAME, LINK):
            target, new = self._parent(one.other)
            gone: list[tuple[Folder, str, Node | None]] = [(folder, name, None)] if one.kind == RENAME else []
            self._name([(target, new, node), *gone])
        elif one.kind in (UNLINK, RMDIR):
            self._name([(folder, name, None)])
        elif one.kind == SYMLINK:
            self._name([(folder, name, Link(one.other))])
        elif name not in folder.names:
            self._name([(folder, name, Folder())])

    def _name(self, steps: list[tuple[Folder, str, Node | None]]) -> None:
        for folder, name, node in steps:
            if node is None:
                folder.names.pop(name, None)
            else:
                folder.names[name] = node
        self._pending.append(Naming(steps))

    def _sync(self, node: Node) -> None:
        if isinstance(node, File):
            node.sync()
        elif isinstance(node, Folder):
            rest = []
            for naming in self._pending:
                reached = [number for number, step in enumerate(naming.steps) if step[0] is node]
                done = max(reached, default=-1) + 1
                _keep(naming.steps[:done])
                if done < len(naming.steps):
                    rest.append(Naming(naming.steps[done:]))
            self._pending = rest

    def _sync_all(self, folder: Folder) -> None:
        for naming in self._pending:
            _keep(naming.steps)
        self._pending = []
        for node in folder.names.values():
            if isinstance(node, Folder):
                self._sync_all(node)
            elif isinstance(node, File):
                node.sync()

    def _parent(self, path: str) -> tuple[Folder, str]:
        assert path.startswith(self._prefix), path
        *folders, name = path[len(self._prefix) :].split("/")
        here: Node = self._root
        for part in folders:
            if part:
                assert isinstance(here, Folder)
                here = here.names[part]
        assert isinstance(here, Folder)
        return here, name

    def lost(self, losing: Losing, chosen: random.Random, target: Path) -> None:
        """Writes the state after a power loss at this point to `target`. Does not change this disk."""
        names: dict[int, dict[str, Node]] = {}

        def of(folder: Folder) -> dict[str, Node]:
            return names.setdefault(id(folder), dict(folder.synced))

        for naming in self._pending:
            kept = len(naming.steps) if losing is Losing.DATA else 0
            if losing is Losing.RANDOM:
                kept = chosen.choice([0, *range(len(naming.steps) + 1)])
            for folder, name, node in naming.steps[:kept]:
                if node is None:
                    of(folder).pop(name, None)
                else:
                    of(folder)[name] = node

        written: dict[int, Path] = {}  # a file may have two names

        def write(folder: Folder, path: Path) -> None:
            path.mkdir()
            for name, node in of(folder).items():
                if isinstance(node, Folder):
                    write(node, path / name)
                elif isinstance(node, Link):
                    (path / name).symlink_to(node.target)
                elif id(node) in written:
                    (path / name).hardlink_to(written[id(node)])
                else:
                    (path / name).write_bytes(_left(node, losing, chosen))
                    os.utime(path / name, ns=(node.mtime_ns, node.mtime_ns))
                    written[id(node)] = path / name

        write(self._root, target)


def _keep(steps: Sequence[tuple[Folder, str, Node | None]]) -> None:
    for folder, name, node in steps:
        if node is None:
            folder.synced.pop(name, None)
        else:
            folder.synced[name] = node


def _left(file: File, losing: Losing, chosen: random.Random) -> bytes:
    """The content of a file after a power loss: what was synced, and some of the rest, partly torn at sectors."""
    content = bytearray(file.content)
    for offset, data in file.pending:
        if losing is Losing.NAMES:
            _change(content, offset, data)
        elif losing is Losing.RANDOM:
            fate = chosen.choice(["lost", "torn", "kept"])
            if fate == "kept" or (fate == "torn" and data is None):
                _change(content, offset, data)
            elif fate == "torn" and data is not None:
                for start in range(0, len(data), _SECTOR):
                    if chosen.random() < 0.5:
                        _change(content, offset + start, data[start : start + _SECTOR])
    return bytes(content)


def _loaded(path: Path, known: dict[int, File] | None = None) -> Folder:
    """A folder of the real disk, all of it synced. `known`: the files so far, by inode."""
    folder, known = Folder(), {} if known is None else known
    for entry in sorted(path.iterdir()):
        if entry.is_symlink():
            folder.names[entry.name] = Link(str(entry.readlink()))
        elif entry.is_dir():
            folder.names[entry.name] = _loaded(entry, known)
        else:
            found = entry.stat()
            file = File(bytearray(entry.read_bytes()), mtime_ns=found.st_mtime_ns)
            folder.names[entry.name] = known.setdefault(found.st_ino, file)
    folder.synced = dict(folder.names)
    return folder


# ----------------------------------------------------------------------------------------------------------- the runs


@dataclass(frozen=True)
class Lost:
    """One state of the disk from which a run recovered. `again`: the number of operations before a second power loss; 0: none."""

    seed: int
    cut: int
    losing: Losing
    again: int
    violations: list[str]

    @property
    def replay(self) -> str:
        return f"python -m tests.faults.power --seed {self.seed} --cut {self.cut} --state {self.losing.name}"


class Outage:
    """The recorded run of one world, and its recovery after a power loss."""

    def __init__(self, server: Server, folder: Path, seed: int, mutant: str = "") -> None:
        self._server, self._folder, self._mutant = server, folder, mutant
        self.world: World = world(seed)
        self._base = folder / "base"
        self.world.prepare(self._base, lambda home: server.run(home, None))
        self.record = self._recorded(copied(self._base, folder / "recorded"))

    def _recorded(self, home: Path) -> list[Operation]:
        """Completes a run in `home` and returns its operations."""
        record = self._folder / "record"
        record.unlink(missing_ok=True)
        control = Control(self._folder / "control", home, record)
        ended = self._server.run(home, control, mutant=self._mutant)
        assert ended.status in (0, 1), ended.stderr
        return read_record(record)

    def lose(self, cut: int, losing: Losing, *, keep: bool = False) -> Lost:
        """A power loss after `cut` operations, and every third time a second one while the next run recovers."""
        chosen = random.Random(f"{self.world.seed} {cut} {losing.name}")
        home, again = self._folder / "run", 0
        shutil.rmtree(home, ignore_errors=True)
        self._state(self._folder / "recorded", self._base, self.record[:cut], losing, chosen, home)
        found = whole(home)
        if not found and chosen.random() < 0.33:
            state = copied(home, self._folder / "state")
            try:
                second = self._recorded(home)
                again = chosen.randint(1, max(1, len(second)))
                shutil.rmtree(home)
                os.rename(state, self._folder / "state-before")
                self._state(home, self._folder / "state-before", second[:again], Losing.RANDOM, chosen, home)
                found += whole(home)
            except AssertionError as error:
                found.append(f"the recovering run failed: {error}")
            finally:
                shutil.rmtree(self._folder / "state-before", ignore_errors=True)
                shutil.rmtree(state, ignore_errors=True)
        if not found:
            ended = self._server.run(home, None, mutant=self._mutant)
            found += (
                violations(home, self.world)
                if ended.status in (0, 1)
                else [f"exit code {ended.status}: {ended.stderr}"]
            )
        if not keep:
            shutil.rmtree(home)
        return Lost(self.world.seed, cut, losing, again, found)

    def _state(
        self, root: Path, base: Path, record: list[Operation], losing: Losing, chosen: random.Random, target: Path
    ) -> None:
        disk = Disk(root, base)
        for one in record:
            disk.do(one)
        disk.lost(losing, chosen, target)


def every_state(outage: Outage, *, step: int = 1) -> Iterator[Lost]:
    """After every `step`-th operation: all unsynced changes are lost; only data or only names are lost; a random part is lost.
    The first operation follows from the seed."""
    for cut in range(outage.world.seed % step, len(outage.record) + 1, step):
        yield outage.lose(cut, Losing.EVERYTHING)
        yield outage.lose(cut, Losing.DATA if cut // step % 2 else Losing.NAMES)
        yield outage.lose(cut, Losing.RANDOM)


def run_seed(seed: int, folder: Path, *, mutant: str = "", step: int = 1) -> Iterator[Lost]:
    """All states of one seed's world."""
    with Server() as server:
        yield from every_state(Outage(server, folder, seed, mutant), step=step)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--cut", type=int)
    parser.add_argument("--state", choices=[losing.name for losing in Losing], default="RANDOM")
    parser.add_argument("--mutant", default="")
    parser.add_argument(
        "--step", type=int, default=1, help="lose power after every STEP-th operation (default: 1, all); the first one follows "
        "from the seed, so that over STEP seeds every number is among them"
    )  # fmt: skip
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    folder = scratch()
    if options.cut is not None:
        with Server() as server:
            one = Outage(server, folder, options.seed, options.mutant).lose(
                options.cut, Losing[options.state], keep=True
            )
        print(one, f"kept in {folder}", sep="\n")
        return 1 if one.violations else 0
    seeds = [options.seed] if options.seed is not None else list(range(1, options.seeds + 1))
    began, states, twice, bad = time.monotonic(), 0, 0, 0

    def all_of(seed: int) -> list[Lost]:
        place = folder / str(seed)
        place.mkdir()
        found = list(run_seed(seed, place, mutant=options.mutant, step=options.step))
        shutil.rmtree(place)
        return found

    with ThreadPoolExecutor(options.processes) as pool:
        for seed, found in zip(seeds, pool.map(all_of, seeds), strict=True):
            states += len(found)
            twice += sum(one.again > 0 for one in found)
            for one in found:
                if one.violations:
                    bad += 1
                    print(
                        f"VIOLATION after {one.cut} operations, {one.losing.value}: {one.violations[0]}\n  {one.replay}"
                    )
            print(f"seed {seed}: {len(found)} states", file=sys.stderr, flush=True)
    shutil.rmtree(folder)
    seconds = time.monotonic() - began
    print(f"{states:,} states, {twice:,} with a second power loss, {bad} violations, {seconds:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
