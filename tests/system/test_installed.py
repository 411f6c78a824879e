"""The wheel as users install it, beside python-daemon, whose top-level package is called `daemon`: both work, and share no file.

In the checkout the package is the folder daemon/; installed, it is called strandline. The wheel is the one of `make wheel`: one
for every Linux with glibc 2.17 and every Python from 3.11 on. Each CPython from 3.11 to 3.13 that this machine has installs it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from daemon.commands.shared import commit, version
from hatch_build import LIBRARY, PLATFORM
from tests.support import REPO
from tests.support.binaries import unhardened
from tests.support.command import drop, order, receipts
from tests.support.daemon_process import Daemon, free_port, place, until
from tests.support.harness import dates, rows

pytestmark = pytest.mark.timeout(300)  # slow by nature

LOCK = REPO / "tests" / "beside.lock"


def pip(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--quiet"],
        cwd=REPO, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


WHEEL_PLATFORM = f"manylinux_2_17_{platform.machine()}"
NO_COMPILER = {"PATH": "/nonexistent", "CC": "/nonexistent"}


def cpythons() -> list[str]:
    """The other CPythons of this machine for which the wheel is made: on the PATH, or of pyenv."""
    of_pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = []
    for minor in ("3.11", "3.12", "3.13"):
        name = f"python{minor}"
        places = [*sorted(of_pyenv.glob(f"{minor}.*/bin/{name}")), *filter(None, [shutil.which(name)])]
        working = next((str(place) for place in places if _is_version(place, minor)), None)
        if working and minor != sysconfig.get_python_version():  # the other tests of this module have our own
            found.append(working)
    return found


def _is_version(python: Path | str, version: str) -> bool:
    """Whether an interpreter runs and is of this version: a shim of pyenv may be there without one."""
    ended = subprocess.run([python, "-V"], capture_output=True, text=True, check=False)
    return ended.returncode == 0 and f"Python {version}." in ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that `make wheel` makes."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-build-isolation", "--no-deps", "--wheel-dir", str(folder))
    built = pip("wheel", ".", *options, **{PLATFORM: WHEEL_PLATFORM})
    assert built.returncode == 0, built.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with python-daemon, and after it our wheel. What the wheel depends on is found in the
    environment of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    interpreter = folder / "venv" / "bin" / "python"
    beside = pip("--python", str(interpreter), "install", "--no-deps", "--require-hashes", "--requirement", str(LOCK))
    if beside.returncode and not os.environ.get("REQUIRE_TEST_TOOLS"):
        pytest.skip(f"python-daemon cannot be had: {beside.stderr.strip().splitlines()[-1]}")
    assert beside.returncode == 0, beside.stderr
    ours = pip("--python", str(interpreter), "install", "--no-deps", "--no-index", str(wheel), **NO_COMPILER)
    assert ours.returncode == 0, ours.stderr
    packages(interpreter).joinpath("dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return interpreter


def packages(python: Path) -> Path:
    (found,) = python.parents[1].glob("lib/python*/site-packages")
    return found


def surroundings(**settings: str) -> dict[str, str]:
    """Without the checkout: what is used must be what was installed."""
    settings = {f"STRANDLINE_{key}": value for key, value in settings.items()}
    return {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | settings


def run(home: Path, *command: str | Path) -> str:
    ended = subprocess.run(
        command, cwd=home, env=surroundings(), capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_the_two_packages_share_no_file(python: Path) -> None:
    """Whichever is installed last overwrites nothing of the other, and uninstalling one leaves the other whole."""
    here = packages(python)
    found = {one.metadata["Name"]: one for one in distributions(path=[str(here)])}
    ours, theirs = _files(found["strandline"]), _files(found["python-daemon"])
    assert not ours & theirs and {"strandline/__init__.py", "strandline/core/native/_native.so"} <= ours
    assert "strandline/config.toml" in ours  # which `strandline init` writes
    assert all(name.startswith(("strandline/", "strandline-")) or name == "../../../bin/strandline" for name in ours), (
        "one top-level package"
    )
    assert all((here / name).exists() for name in theirs)


def _files(distribution: Distribution) -> set[str]:
    return {str(path) for path in distribution.files or [] if "__pycache__" not in str(path)}


def test_strandline_runs_under_python_daemon(python: Path, tmp_path: Path) -> None:
    """Both in use: a process that python-daemon detached applies a drop."""
    drop(tmp_path, "a.json", [order(1), order(2, 3)])
    script = f"""
import daemon, pathlib, subprocess
assert daemon.__file__.startswith({str(packages(python))!r}), daemon.__file__
with open("log", "w") as log, daemon.DaemonContext(working_directory={str(tmp_path)!r}, stderr=log):
    ended = subprocess.run([{str(python.with_name("strandline"))!r}, "--once"], stderr=log)
    pathlib.Path("exit code").write_text(f"{{ended.returncode}}.")
"""
    run(tmp_path, python, "-c", script)
    code = tmp_path / "exit code"
    until(lambda: code.exists() and code.read_text().endswith("."), "its end")
    assert code.read_text() == "0.", (tmp_path / "log").read_text()
    assert receipts(tmp_path)["1:a.json"]["records"]["new"] == 2
    assert dates(tmp_path / "output") == ["2026-03-02", "2026-03-03"]


def test_the_module_has_the_name_of_the_command(python: Path, tmp_path: Path) -> None:
    """`python -m strandline`; what `init` writes; a large drop, so that worker processes import it, too; and the frames for
    notebooks."""
    run(tmp_path, python, "-m", "strandline", "init")
    assert (tmp_path / "config.toml").read_text() == (REPO / "config.toml").read_text()
    drop(tmp_path, "large.json", [order(number, note="." * 300) for number in range(30_000)])
    assert (tmp_path / "inbox" / "large.json").stat().st_size > 12 << 20
    run(tmp_path, python, "-m", "strandline", "--once")
    assert len(rows(tmp_path / "output", "2026-03-02")) == 30_000
    assert "all of it is there and right" in run(tmp_path, python, "-m", "strandline", "verify")
    script = "from strandline import frames; print(len(frames.orders_df('output')), frames.__file__)"
    count, where = run(tmp_path, python, "-c", script).split()
    assert count == "30000" and where == str(packages(python) / "strandline" / "frames.py")


def test_the_installed_daemon_serves_its_page(python: Path, tmp_path: Path) -> None:
    """What is not Python is in the wheel, too."""
    (tmp_path / "inbox").mkdir()
    port, log = free_port(), tmp_path / "log"
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            [python.with_name("strandline")], cwd=tmp_path, env=surroundings(HTTP__PORT=str(port)), stderr=stream
        )
    one = Daemon(tmp_path, process, port, log)
    try:
        until(one.ready, "ready")
        place(one.inbox / "a.json", json.dumps([order(1)]).encode())
        one.applied("a.json")
        status, page = one.get("/")
        assert status == 200 and "a.json" in page
        status, page = one.get("/docs/RUNBOOK")
        assert status == 200 and 'id="strandlinedown"' in page
        assert one.stop() == 0
    finally:
        process.kill()
        process.wait()


def test_the_wheel_brings_the_documentation(wheel: Path, python: Path, tmp_path: Path) -> None:
    """Its pages and the pictures that they show, and nothing that makes them. The commands that messages name work."""
    with zipfile.ZipFile(wheel) as archive:
        brought = {Path(name) for name in archive.namelist() if name.startswith("strandline/docs/")}
    there = (REPO / "docs").rglob("*")
    wanted = [one for one in there if one.suffix in (".md", ".svg")]
    assert brought == {"strandline" / one.relative_to(REPO) for one in wanted} and len(wanted) > 50
    assert run(tmp_path, python, "-m", "strandline", "docs", "CHANGELOG").startswith("# Changelog\n")
    listed = run(tmp_path, python, "-m", "strandline", "docs")
    assert (
        listed
        == subprocess.run(
            [sys.executable, "-m", "daemon", "docs"], cwd=REPO, capture_output=True, text=True, check=True
        ).stdout
    )


def test_it_says_its_version_and_its_commit(python: Path, tmp_path: Path) -> None:
    """A wheel knows the commit that it was built from, where it was built in a repository or told."""
    shown = run(tmp_path, python, "-m", "strandline", "--version")
    assert re.fullmatch(rf"strandline {re.escape(version())} \(commit \w+(-dirty)?\)\n", shown)
    known = packages(python) / "strandline" / "commit.txt"
    assert known.exists() == (commit() != "unknown")
    known.write_text("0123abc\n")
    assert "(commit 0123abc)" in run(tmp_path, python, "-m", "strandline", "--version")
    known.unlink()
    assert "(commit unknown)" in run(tmp_path, python, "-m", "strandline", "--version")


CONSUMER = """
from pathlib import Path

from strandline.frames import Unavailable, Unreadable, read

def files(curated: Path) -> int:
    return len(list(curated.iterdir()))

try:
    count: int = read("output", files)
except (Unavailable, Unreadable):
    pass
wrong: str = read("output", files)
"""


def test_programs_that_use_the_public_api_are_checked_by_mypy(python: Path, tmp_path: Path) -> None:
    """The wheel has py.typed, so the types of the frames reach those who import them."""
    (tmp_path / "consumer.py").write_text(CONSUMER)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--ignore-missing-imports",
               "--python-executable", str(python), "consumer.py"]  # fmt: skip
    ended = subprocess.run(command, cwd=tmp_path, env=surroundings(), capture_output=True, text=True, check=False)
    (error, closing) = ended.stdout.splitlines()
    assert error.startswith('consumer.py:13: error: Incompatible types in assignment (expression has type "int"'), ended
    assert "Found 1 error in 1 file" in closing


def test_the_wheel_is_for_every_linux_of_its_tag_and_every_python(wheel: Path) -> None:
    """What the library takes from glibc, glibc 2.17 has, says auditwheel; the tag names no version of Python."""
    assert wheel.name == f"strandline-{version()}-py3-none-{WHEEL_PLATFORM}.whl"
    shown = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", wheel], capture_output=True, text=True, check=True
    )
    said = " ".join(shown.stdout.split())
    consistent = re.search(r'consistent with the following platform tag: "manylinux_2_(\d+)_', said)
    assert consistent is not None and int(consistent[1]) <= 17, said
    assert "requires no external shared libraries" in said


def test_the_library_in_the_wheel_is_hardened(wheel: Path, tmp_path: Path) -> None:
    """The one that users load, not the one of this checkout."""
    name = LIBRARY.replace("daemon/", "strandline/", 1)
    with zipfile.ZipFile(wheel) as archive:
        assert unhardened(Path(archive.extract(name, tmp_path))) == []


@pytest.mark.parametrize("interpreter", cpythons(), ids=lambda path: Path(path).name)
def test_the_wheel_installs_and_runs_without_a_compiler(interpreter: str, wheel: Path, tmp_path: Path) -> None:
    """In a clean environment of another CPython, with what it depends on from the package index, as binaries alone."""
    subprocess.run([interpreter, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    options = ("--no-compile", "--only-binary", ":all:")
    installed = pip("--python", str(python), "install", *options, str(wheel), **NO_COMPILER)
    if installed.returncode and not os.environ.get("REQUIRE_TEST_TOOLS"):
        pytest.skip(f"its dependencies cannot be had: {installed.stderr.strip().splitlines()[-1]}")
    assert installed.returncode == 0, installed.stderr
    drop(tmp_path, "a.json", [order(1), order(2, 3)])
    run(tmp_path, python.with_name("strandline"), "--once")
    assert dates(tmp_path / "output") == ["2026-03-02", "2026-03-03"]
    assert "all of it is there and right" in run(tmp_path, python.with_name("strandline"), "verify")
