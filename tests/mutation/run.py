"""Runs the tests of a module on mutants of it: `python -m tests.mutation.run [MODULE…]` (`make mutation`).

MUTANTS: how many, drawn by SEED (today's date, if it is not set) from all modules of TESTS, or from those named. Each runs in a process
that is forked from one that has imported every library and nothing of ours, so that the mutated module is the one that tests import.
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
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

REPO = Path(__file__).resolve().parents[2]
SURVIVORS = Path(__file__).with_name("survivors.toml")
COSMIC_RAY = REPO / "build" / "mutation" / "bin" / "python"
SECONDS = 20  # of processor time, beside ten times what the tests take without a mutation
LIBRARIES = (
    "numpy", "pandas", "pyarrow.parquet", "pyarrow.compute", "pyarrow.dataset", "duckdb", "polars", "hypothesis", "pytest", "msgspec",
    "hypothesis.strategies", "tenacity", "jinja2", "prometheus_client", "urllib3", "watchdog.observers", "pytest_timeout", "xdist.plugin",
)  # fmt: skip

END_TO_END = ("tests/batch/test_pipeline.py",)
PARSE = ("tests/core/parse/test_parse.py", "tests/core/parse/test_mapped.py")
# By module of daemon/: what is run on its mutants, the quickest first.
TESTS: dict[str, Sequence[str]] = {
    "core/versions.py": ("tests/core/test_versions.py", *END_TO_END, "tests/batch/test_deletions.py"),
    "core/entries.py": (*END_TO_END, "tests/operate/test_rebuild.py"),
    "core/mapping.py": ("tests/sources/test_mapping_settings.py", *PARSE),
    "core/columns.py": ("tests/core/test_parquet.py", "tests/test_columns.py"),
    "core/quantities.py": ("tests/test_config.py",),
    "core/merge/facts.py": ("tests/core/merge/test_facts.py", "tests/core/test_parquet.py", *END_TO_END),
    "core/merge/keys.py": ("tests/core/merge/test_keys.py", *END_TO_END),
    "core/merge/partition.py": ("tests/core/merge/test_partition.py", *END_TO_END),
    "core/parse/values.py": PARSE,
    "core/parse/reference.py": PARSE,
    "batch/decide.py": (*END_TO_END, "tests/batch/test_deletions.py"),
    "batch/commit.py": (*END_TO_END, "tests/batch/test_publish.py", "tests/test_restatements.py"),
    "batch/withdraw.py": ("tests/batch/test_withdraw.py", "tests/operate/test_undo.py"),
    "batch/ageing.py": ("tests/test_ages.py",),
}


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


def _run_tests(module: str, source: str, cpu_seconds: float, log: Path) -> int:
    """The exit code of pytest on a mutant, in a forked process; negative: the signal that ended it."""
    pid = os.fork()
    if not pid:
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (int(cpu_seconds), int(cpu_seconds) + 5))
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.meta_path.insert(0, _Mutated(module, source))
            import pytest

            options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov", "-o", "addopts="]
            os._exit(int(pytest.main([*options, *TESTS[module]])))
        finally:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def mutants(modules: Sequence[str]) -> Iterator[dict[str, str]]:
    """All mutants of these modules, with paths below daemon/."""
    command = [str(COSMIC_RAY), str(Path(__file__).with_name("mutants.py")), *modules]
    made = subprocess.run(command, cwd=REPO / "daemon", capture_output=True, text=True, check=True)
    return map(json.loads, made.stdout.splitlines())


def listed() -> set[tuple[str, str, str]]:
    """The survivors that are known: module, line and mutated line."""
    found = tomllib.loads(SURVIVORS.read_text(encoding="utf-8"))["survivor"]
    return {(one["module"], one["before"], one["after"]) for one in found}


def main(modules: Sequence[str]) -> int:
    modules = modules or list(TESTS)
    seed = os.environ.get("SEED") or datetime.now(UTC).date().isoformat()
    every = list(mutants(modules))
    chosen = random.Random(seed).sample(every, min(int(os.environ.get("MUTANTS", "200")), len(every)))
    print(f"{len(chosen)} of {len(every)} mutants of {len(modules)} modules, SEED={seed}", flush=True)
    os.environ["CI"] = "1"  # the same examples each time
    os.chdir(REPO)
    sys.path.insert(0, str(REPO))
    for name in LIBRARIES:
        __import__(name)
    logs = REPO / "build" / "mutation" / "logs"
    logs.mkdir(parents=True, exist_ok=True)

    limits = {}
    for module in sorted({one["module"] for one in chosen}):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        code = _run_tests(module, (REPO / "daemon" / module).read_text(encoding="utf-8"), 10_000, logs / "baseline.log")
        if code:
            print(f"the tests of {module} fail without a mutation ({code}): see {logs / 'baseline.log'}")
            return 2
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        limits[module] = SECONDS + 10 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        print(f"{module}: {(limits[module] - SECONDS) / 10:.1f} s of processor time", flush=True)

    known, counts = listed(), {"killed": 0, "timed out": 0, "known survivors": 0}
    survivors = []

    def tried(number: int) -> None:
        one = chosen[number]
        key = (one["module"], one["before"], one["after"])
        if key in known:
            counts["known survivors"] += 1
            return
        code = _run_tests(one["module"], one["source"], limits[one["module"]], logs / f"{number}.log")
        if code == 0:
            survivors.append(key)
            print("SURVIVED", *key, sep="\n  ", flush=True)
        else:
            counts["timed out" if code in (-signal.SIGXCPU, -signal.SIGKILL) else "killed"] += 1

    began = time.monotonic()
    with ThreadPoolExecutor(int(os.environ.get("PROCESSES", "2"))) as pool:
        list(pool.map(tried, range(len(chosen))))
    print(f"{counts}, {len(survivors)} survived; {time.monotonic() - began:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
