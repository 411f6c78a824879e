"""The wheel as users install it, beside python-daemon, whose top-level package is called `daemon`: both work, and share no file.

In the checkout the package is the folder daemon/; installed, it is called strandline.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from importlib.metadata import Distribution, distributions
from pathlib import Path

import pytest

from daemon.commands.shared import commit, version
from tests.support import REPO
from tests.support.command import drop, order, receipts
from tests.support.daemon_process import Daemon, free_port, place, until
from tests.support.harness import dates, rows

pytestmark = pytest.mark.timeout(300)  # slow by nature

LOCK = REPO / "tests" / "beside.lock"


def pip(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--quiet"], cwd=REPO, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a new environment with python-daemon, and after it our wheel. What the wheel depends on is found in the
    environment of the tests."""
    folder = tmp_path_factory.mktemp("installed")
    built = pip("wheel", ".", "--no-build-isolation", "--no-deps", "--wheel-dir", str(folder / "wheel"))
    assert built.returncode == 0, built.stderr
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    interpreter = folder / "venv" / "bin" / "python"
    beside = pip("--python", str(interpreter), "install", "--no-deps", "--require-hashes", "--requirement", str(LOCK))
    if beside.returncode and not os.environ.get("REQUIRE_TEST_TOOLS"):
        pytest.skip(f"python-daemon cannot be had: {beside.stderr.strip().splitlines()[-1]}")
    assert beside.returncode == 0, beside.stderr
    (wheel,) = (folder / "wheel").glob("strandline-*.whl")
    ours = pip("--python", str(interpreter), "install", "--no-deps", "--no-index", str(wheel))
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
        assert one.stop() == 0
    finally:
        process.kill()
        process.wait()


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
