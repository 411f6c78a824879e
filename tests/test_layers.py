"""The layers of ARCHITECTURE.md: who may import whom, and what the core may not know."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

DAEMON = Path(__file__).resolve().parents[1] / "daemon"
MODULES = {str(p.relative_to(DAEMON).with_suffix("")).replace("/", "."): p for p in sorted(DAEMON.rglob("*.py"))}
OUTSIDE_THE_CORE = {
    "os",
    "time",
    "pathlib",
    "logging",
    "sqlite3",
    "subprocess",
    "socket",
    "random",
    "threading",
    "pyarrow.parquet",
}

# A module may import those of lower rank; of its own rank only where named, with the reason.
RANKS = [
    {"files", "lean", "progress", "config", "inbox", "order_index"},
    {"ledger", "raw", "store", "lock"},
    {"receipts", "publish", "tasks"},
    {"reading", "changeset"},
    {"rebuild"},
    {"pipeline"},
    {"recovery", "service", "log"},
    {"cli"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(RANKS) for name in names}


def imports(path: Path) -> set[str]:
    """Modules that a file imports anywhere, relative ones as names under daemon."""
    package = path.relative_to(DAEMON.parent).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *([node.module] if node.module else [])])
            name = base if node.level else (node.module or "")
            found |= {name} | {f"{name}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    return {name.removeprefix("daemon.") for name in imports(path) if name.startswith("daemon.")} & MODULES.keys()


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("core.")])
def test_the_core_knows_no_world(name: str) -> None:
    """core/ imports nothing of the program outside core/, and nothing that does I/O, asks a clock or logs."""
    assert all(other.startswith("core.") for other in ours(MODULES[name]))
    assert not imports(MODULES[name]) & OUTSIDE_THE_CORE


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("core.") and name != "__init__"])
def test_imports_go_downwards(name: str) -> None:
    """Outside the core, a module imports only what lies below it."""
    if name == "core.__init__":
        return
    for other in ours(MODULES[name]):
        if not other.startswith("core"):
            assert RANK[other] < RANK[name], f"{name} imports {other}"


def test_pandas_and_duckdb_are_not_needed_to_run() -> None:
    """Neither is imported anywhere in the daemon: start-up stays short."""
    for name, path in MODULES.items():
        assert not {"pandas", "duckdb"} & {module.partition(".")[0] for module in imports(path)}, name


def test_settings_are_known_in_one_room() -> None:
    """Only cli (and whoever checks the page) sees the configuration; the others take plain values."""
    assert {name for name, path in MODULES.items() if "config" in ours(path)} == {"cli"}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_and_stays_short(name: str) -> None:
    """Each opens with a docstring, and is no longer than a sitting."""
    text = MODULES[name].read_text(encoding="utf-8")
    assert name == "core.__init__" or len(ast.get_docstring(ast.parse(text)) or "") > 30
    assert text.count("\n") <= 450
