"""The layers of ARCHITECTURE.md: who may import whom, and what the core may not know."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

DAEMON = Path(__file__).resolve().parents[1] / "daemon"
MODULES = {str(p.relative_to(DAEMON).with_suffix("")).replace("/", "."): p for p in sorted(DAEMON.rglob("*.py"))}
# What the core may not import, as a whole package or one module of it.
WORLD = {
    "asyncio", "concurrent", "ctypes", "fcntl", "glob", "io", "logging", "multiprocessing", "os", "pathlib",
    "pyarrow.fs", "pyarrow.parquet", "random", "secrets", "shutil", "signal", "socket", "sqlite3", "subprocess",
    "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
# What one module of the core needs of it nevertheless, and why.
NEEDED = {
    "core.native": {"ctypes", "pathlib"},  # it loads what is compiled, which computes and does nothing else
    "core.parquet": {"pyarrow.parquet"},  # it writes into memory with it
}
CLOCKS = {"now", "utcnow", "today", "time_ns", "monotonic", "perf_counter"}
DOES_IO = {"open", "print", "input", "exec", "eval", "__import__"}

# The edges: each owns one thing of the world, and takes plain paths and numbers.
EDGES = {
    "files",
    "inbox",
    "inbox_folder",
    "names",
    "unfinished",
    "raw",
    "ledger",
    "order_index",
    "ledger_schema",
    "store",
    "publish",
    "receipts",
    "spill",
    "cluster",
    "workers",
    "lock",
    "lean",
    "progress",
    "ddl",
    "warehouse",
    "phases",
    "watcher",
    "stopping",
    "systemd",
    "http",
}
# The only imports between edges, each with its reason.
BETWEEN_EDGES = {
    ("raw", "files"): "files is how every edge makes things durable",
    ("store", "files"): "the same",
    ("publish", "files"): "the same",
    ("receipts", "files"): "the same",
    ("lock", "files"): "the same",
    ("inbox_folder", "files"): "the same",
    ("inbox_folder", "raw"): "a name that is in use becomes one like it, by the rules of raw copies",
    ("names", "raw"): "a name is unfinished if what it begins with is one that raw knows",
    ("unfinished", "raw"): "it decompresses as raw does",
    ("inbox", "inbox_folder"): "the folder that is looked at",
    ("inbox", "names"): "what is no drop",
    ("inbox", "unfinished"): "what is no whole drop yet",
    ("watcher", "inbox_folder"): "the probe is a file in the inbox",
    ("ledger", "files"): "by device and inode it knows whether its file was replaced",
    ("ledger", "order_index"): "the index lives inside the ledger's file and its transactions",
    ("ledger", "ledger_schema"): "its tables, version by version",
    ("ledger_schema", "order_index"): "the index has its own tables there",
    ("receipts", "raw"): "a receipt is named by the same rules as the raw copy",
    ("warehouse", "ddl"): "a manifest is for a table of the DDL",
}

# Above the edges, from the bottom up: a module imports only what lies below it, and any edge.
ABOVE = [
    {"config", "guard", "tasks", "taking", "arguments"},
    {"changeset", "reading", "preloaded"},
    {"rebuild", "rewriting", "adoption", "reread", "published"},
    {"dimensions"},
    {"pipeline"},
    {"persistence"},
    {"observer"},
    {"health", "log", "metrics", "recovery", "service", "plan", "replay", "status", "quarantine", "frames"},
    {"trace", "verify", "page"},
    {"wiring"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(ABOVE) for name in sorted(names)}


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


CORE = [name for name in MODULES if name.startswith("core.")]
OUTSIDE = [name for name in MODULES if not name.startswith("core.") and name != "__init__"]


@pytest.mark.parametrize("name", CORE)
def test_the_core_knows_no_world(name: str) -> None:
    """core/ imports nothing of the program outside core/, and nothing that does I/O, asks a clock or logs."""
    program = {module for module in imports(MODULES[name]) if module.startswith("daemon")}
    assert all(module == "daemon.core" or module.startswith("daemon.core.") for module in program)
    foreign = imports(MODULES[name])
    world = (foreign | {module.partition(".")[0] for module in foreign}) & WORLD
    assert world == NEEDED.get(name, set())


@pytest.mark.parametrize("name", CORE)
def test_the_core_asks_no_clock_and_opens_nothing(name: str) -> None:
    """Where a module may be imported for its arithmetic (datetime), its clocks are not; nor is anything opened or shown."""
    for node in ast.walk(ast.parse(MODULES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            assert node.attr not in CLOCKS, f"line {node.lineno}: {node.attr}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in DOES_IO, f"line {node.lineno}: {node.func.id}"


def test_every_module_has_its_place() -> None:
    """A new module is an edge or has a level, and what is named here exists."""
    assert EDGES | LEVEL.keys() == set(OUTSIDE)
    assert not EDGES & LEVEL.keys()


def test_edges_do_not_know_each_other() -> None:
    """An edge imports the core, and another edge only where the list has the reason; the list has no dead entry."""
    found = {(name, other) for name in EDGES for other in ours(MODULES[name]) if not other.startswith("core.")}
    assert found == BETWEEN_EDGES.keys()


@pytest.mark.parametrize("name", LEVEL)
def test_imports_go_downwards(name: str) -> None:
    """Above the edges, a module imports only what lies below it."""
    for other in ours(MODULES[name]):
        if not other.startswith("core.") and other not in EDGES:
            assert LEVEL[other] < LEVEL[name], f"{name} imports {other}"


def test_pandas_and_duckdb_are_not_needed_to_run() -> None:
    """Neither is imported anywhere in the daemon: start-up stays short."""
    for name, path in MODULES.items():
        if name == "frames":
            continue  # the face for notebooks: nobody else imports it
        assert "daemon.frames" not in imports(path)
        assert not {"pandas", "duckdb"} & {module.partition(".")[0] for module in imports(path)}, name


def test_settings_are_known_in_one_room() -> None:
    """Only cli and wiring see the configuration; the others take plain values."""
    assert {name for name, path in MODULES.items() if "config" in ours(path)} == {"cli", "wiring"}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_and_stays_short(name: str) -> None:
    """Each that holds code opens with a sentence at least, and is no longer than a sitting."""
    text = MODULES[name].read_text(encoding="utf-8")
    if text.strip():  # core/__init__.py is empty: the map of rooms in daemon/__init__.py speaks for it
        assert re.search(r"\w\W*\s\w.*[.:]", ast.get_docstring(ast.parse(text)) or "")
    assert text.count("\n") <= 450


def test_what_is_said_to_have_some_lines_has_about_as_many() -> None:
    """A number in the docs that nobody counts again says something else after a while."""
    root = DAEMON.parent
    said = [
        (DAEMON / name, int(lines.replace(",", "")))
        for path in (root / "README.md", root / "ARCHITECTURE.md")
        for name, lines in re.findall(r"`(core/\w+\.c)`, some ([0-9,]+) lines", path.read_text(encoding="utf-8"))
    ]
    assert said
    for path, lines in said:
        assert abs(len(path.read_text(encoding="utf-8").splitlines()) - lines) <= lines / 10, path
