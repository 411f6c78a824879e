"""Runs the tests of a module on mutants of it: `python -m tests.mutation.run [MODULE…]` (`make mutation`).

MUTANTS: how many, drawn by SEED (today's date, if it is not set) from all modules of core/ and batch/, or from those named.
PROCESSES: how many at once. Each runs in a process that is forked from one that has imported every library and nothing of ours,
so that the mutated module is the one that tests import; commands that tests start as processes of their own have it unchanged.
Exit code 1 if a mutant survives that survivors.toml does not have.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.mutation.tested import REPO, modules, suite_of

SURVIVORS = Path(__file__).with_name("survivors.toml")
WORK = REPO / "build" / "mutation"  # the environment of cosmic-ray, mutants, and what tests printed
CPU_SECONDS = 120  # of the tests on a mutant: one that makes a loop endless ends so
TEST_SECONDS = 120  # of one test: a mutant that waits forever ends so
LIBRARIES = (
    "numpy", "pandas", "pyarrow.parquet", "pyarrow.compute", "pyarrow.dataset", "duckdb", "polars", "hypothesis.strategies",
    "pytest", "msgspec", "tenacity", "jinja2", "prometheus_client", "urllib3", "watchdog.observers", "pytest_timeout",
)  # fmt: skip


class _Mutated(MetaPathFinder, Loader):
    """Imports one module from another source."""

    def __init__(self, module: str, source: str) -> None:
        self._name, self._path, self._source = _name_of(module), REPO / "daemon" / module, source

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        return spec_from_loader(name, self, origin=str(self._path)) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, str(self._path), "exec"), module.__dict__)


def _name_of(module: str) -> str:
    return "daemon." + module.removesuffix(".py").replace("/", ".")


def _run_tests(tests: Sequence[str], log: Path, mutated: _Mutated | None = None) -> int:
    """The exit code of pytest in a forked process, on a mutant if there is one; negative: the signal that ended it."""
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            if mutated:
                resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
                sys.meta_path.insert(0, mutated)
            os._exit(_pytest(tests))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _pytest(tests: Sequence[str]) -> int:
    """Runs tests until the first fails: with an eighth of the examples, the same each time, which are not made smaller."""
    import pytest
    from hypothesis import Phase, settings

    from tests.support import examples

    fewer = {"max_examples": 25, "phases": (Phase.explicit, Phase.generate), "derandomize": True, "database": None}
    settings.register_profile("mutation", deadline=None, **fewer)
    every = examples.examples
    examples.examples = lambda count: settings(every(count), max_examples=max(6, count // 8))
    options = f"-x -q -p no:cacheprovider -p no:xdist -p no:cov -o addopts= --timeout {TEST_SECONDS}"
    return int(pytest.main([*options.split(), "--hypothesis-profile", "mutation", *tests]))


def mutants(modules: Sequence[str]) -> Iterator[dict[str, str]]:
    """All mutants of these modules, with paths below daemon/. They are kept until a module changes: making them takes a while."""
    script = Path(__file__).with_name("mutants.py")
    for module in modules:
        made = WORK / "made" / (module.replace("/", ".") + ".jsonl")
        if not made.exists() or made.stat().st_mtime < max(
            one.stat().st_mtime for one in (script, REPO / "daemon" / module)
        ):
            command = [str(WORK / "bin" / "python"), str(script), module]
            found = subprocess.run(command, cwd=REPO / "daemon", capture_output=True, text=True, check=True)
            made.parent.mkdir(exist_ok=True)
            made.write_text(found.stdout, encoding="utf-8")
        yield from map(json.loads, made.read_text(encoding="utf-8").splitlines())


def listed() -> set[tuple[str, str, str | None]]:
    """The survivors that are known: module, line and mutated line; None: whatever the line is changed to."""
    found = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivor"]
    return {(one["module"], one["before"], one.get("after")) for one in found}


def main(named: Sequence[str]) -> int:
    chosen_from = named or modules()
    seed = os.environ.get("SEED") or datetime.now(UTC).date().isoformat()
    every = list(mutants(chosen_from))
    chosen = random.Random(seed).sample(every, min(int(os.environ.get("MUTANTS", "200")), len(every)))
    print(f"{len(chosen)} of {len(every)} mutants of {len(chosen_from)} modules, SEED={seed}", flush=True)
    os.environ["CI"] = "1"  # the same examples each time
    os.chdir(REPO)
    sys.path.insert(0, str(REPO))
    for name in LIBRARIES:
        __import__(name)
    logs = WORK / "logs"
    logs.mkdir(parents=True, exist_ok=True)

    if _run_tests(sorted({test for one in chosen for test in suite_of(one["module"])}), logs / "unmutated.log"):
        print(f"tests fail without a mutation; see {logs / 'unmutated.log'}")
        return 2
    with ThreadPoolExecutor(int(os.environ.get("PROCESSES", "2"))) as pool:
        return _tried(pool, chosen, logs)


def _tried(pool: ThreadPoolExecutor, chosen: Sequence[dict[str, str]], logs: Path) -> int:
    """Runs the tests on each mutant that is not listed. The exit code."""

    def tested(number: int) -> int:
        one = chosen[number]
        return _run_tests(suite_of(one["module"]), logs / f"{number}.log", _Mutated(one["module"], one["source"]))

    known, began = listed(), time.monotonic()
    new = [n for n, one in enumerate(chosen) if known.isdisjoint({_key(one), (*_key(one)[:2], None)})]
    counts: Counter[str] = Counter(listed=len(chosen) - len(new))
    for number, code in zip(new, pool.map(tested, new), strict=True):
        if code:
            counts["out of time" if code == -signal.SIGXCPU else "killed"] += 1
        else:
            counts["survived"] += 1
            print("SURVIVED", number, *_key(chosen[number]), sep="\n  ", flush=True)
    print(f"{dict(counts)}; {time.monotonic() - began:.0f} s")
    return 1 if counts["survived"] else 0


def _key(one: dict[str, str]) -> tuple[str, str, str]:
    return one["module"], one["before"], one["after"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
