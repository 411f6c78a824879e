"""The layers of ARCHITECTURE.md: who may import whom, and what the core may not know."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import REPO

DAEMON = REPO / "daemon"
MODULES = {str(p.relative_to(DAEMON).with_suffix("")).replace("/", "."): p for p in sorted(DAEMON.rglob("*.py"))}
# What the core may not import, as a whole package or one module of it.
WORLD = {
    "asyncio", "concurrent", "ctypes", "fcntl", "glob", "io", "logging", "multiprocessing", "os", "pathlib",
    "pyarrow.fs", "pyarrow.parquet", "random", "secrets", "shutil", "signal", "socket", "sqlite3", "subprocess",
    "sys", "tempfile", "threading", "time", "uuid",
}  # fmt: skip
# What one module of the core needs of it nevertheless, and why.
NEEDED = {
    "core.native.bindings": {"ctypes", "pathlib"},  # it loads what is compiled, which computes and does nothing else
    "core.native.tables": {"ctypes"},  # it makes the structures that scan.c reads
    "core.parquet": {"pyarrow.parquet"},  # it writes into memory with it
}
CLOCKS = {"now", "utcnow", "today", "time_ns", "monotonic", "perf_counter"}
DOES_IO = {"open", "print", "input", "exec", "eval", "__import__"}

# From the bottom up: a package imports only itself and those before it. What lies flat in daemon/ may import all of them.
PACKAGES = ("core", "storage", "execution", "sources", "batch", "downstream", "operate", "observe")
TOP = "commands"  # it may import what lies flat
MOST_FLAT_MODULES = 10


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


CORE = [name for name in MODULES if name.startswith("core.") and not name.endswith("__init__")]
OUTSIDE = [name for name in MODULES if not name.startswith("core.") and not name.endswith("__init__")]


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


def package_of(name: str) -> str:
    return name.partition(".")[0] if "." in name else ""


def test_every_package_is_known_and_few_modules_lie_flat() -> None:
    """A new package gets its place in the order."""
    assert {package_of(name) for name in MODULES} - {""} == {*PACKAGES, TOP}
    assert len([name for name in MODULES if not package_of(name)]) <= MOST_FLAT_MODULES


@pytest.mark.parametrize("name", OUTSIDE)
def test_imports_go_downwards(name: str) -> None:
    """No package imports one above it, and nothing in a package imports the top level."""
    own = package_of(name)
    for other in ours(MODULES[name]):
        if own and own != TOP and other != name:
            assert package_of(other) in PACKAGES[: PACKAGES.index(own) + 1], f"{name} imports {other}"


def test_no_two_modules_import_each_other() -> None:
    """Within a package, too: whoever reads one must not have read the other first."""
    needs = {name: ours(path) - {name} for name, path in MODULES.items()}
    found = {(name, other) for name in needs for other in needs[name] if name in needs[other]}
    assert {tuple(sorted(pair)) for pair in found if not any(one.endswith("__init__") for one in pair)} == set()


@pytest.mark.parametrize("package", [path.parent for path in DAEMON.rglob("__init__.py")], ids=lambda path: path.name)
def test_a_package_says_what_it_owns(package: Path) -> None:
    """Its docstring has a few sentences."""
    assert len((ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or "").split(". ")) >= 2


def test_pandas_and_duckdb_are_imported_only_where_they_are_used() -> None:
    """Neither is imported in the process of the daemon: start-up stays short, and what a model does, it does elsewhere."""
    using = {"frames": {"pandas"}, "downstream.pandas_runs": {"pandas"}, "downstream.runs": {"duckdb"},
             "downstream.sandbox": {"duckdb"}, "operate.sql.session": {"duckdb"}}  # fmt: skip
    for name, path in MODULES.items():
        assert "daemon.frames" not in imports(path)  # the face for notebooks: nobody else imports it
        found = {"pandas", "duckdb"} & {module.partition(".")[0] for module in imports(path)}
        assert found == using.get(name, set()), name


def test_the_daemon_starts_without_pandas_and_duckdb() -> None:
    """Modules that name them import them in functions, or are imported by a worker."""
    program = """
import sys
from daemon.execution.process import prepare
prepare()
import daemon.cli, daemon.service, daemon.wiring
print({"pandas", "duckdb"} & sys.modules.keys())
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=REPO, capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"


def test_only_the_top_level_knows_the_configuration() -> None:
    """Only these see the configuration; the others take plain values."""
    found = {name.partition(".")[0] for name, path in MODULES.items() if "config" in ours(path)}
    assert found == {"cli", TOP, "reloading", "serving", "wiring"}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_and_stays_short(name: str) -> None:
    """Each that holds code opens with a sentence at least, and is no longer than a sitting."""
    text = MODULES[name].read_text(encoding="utf-8")
    assert re.search(r"\w\W*\s\w.*[.:]", ast.get_docstring(ast.parse(text)) or "")
    assert text.count("\n") <= (450 if package_of(name) in ("batch", "operate") else 400)


def test_what_is_said_to_have_some_lines_has_about_as_many() -> None:
    """A number in the docs that nobody counts again says something else after a while."""
    root = DAEMON.parent
    said = [
        (DAEMON / name, int(lines.replace(",", "")))
        for path in (root / "README.md", root / "ARCHITECTURE.md")
        for name, lines in re.findall(r"`(core/native/\w+\.c)`, some ([0-9,]+) lines", path.read_text(encoding="utf-8"))
    ]
    assert said
    for path, lines in said:
        assert abs(len(path.read_text(encoding="utf-8").splitlines()) - lines) <= lines / 10, path
