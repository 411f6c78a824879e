"""The command of an ordinary user, without capabilities, and modes that forbid it one thing: only that stops, or the run ends and
says what to do. Nothing is lost, and everything is as it should be once the mode is corrected."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.command import as_drop, command, drop, environment, order, strandline
from tests.support.harness import rows
from tests.support.users import owner_without_capabilities, require_users

DAYS = range(2, 8)


class Home:
    """A home of that user, to which one drop for each of six dates was applied."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder / "output"
        for day in DAYS:
            drop(folder, f"day{day}.json", as_drop([order(day, day)]))
        assert strandline(folder, "--once").returncode == 0
        self.prefix = owner_without_capabilities(folder)

    def put(self, name: str, content: bytes) -> Path:
        path = drop(self.folder, name, content)
        os.chown(path, self.output.stat().st_uid, -1)
        return path

    def date(self, day: int) -> Path:
        return self.output / "curated" / f"date=2026-03-{day:02d}"

    def raw(self, name: str) -> Path:
        (found,) = self.output.glob(f"raw/*/*{name}")
        return found

    def run(self, *words: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """A command of that user."""
        line = [*self.prefix, *command()[:-1], *(words or ("--once",))]
        surroundings = environment(**({"RETRY__ATTEMPTS": "1", "WATCH__SETTLE_SECONDS": "0"} | settings))
        return subprocess.run(
            line, cwd=self.folder, env=surroundings, capture_output=True, text=True, timeout=120, check=False
        )

    def orders(self, day: int) -> set[object]:
        return {one["order_id"] for one in rows(self.output, self.date(day).name.removeprefix("date="))}


@pytest.fixture
def home() -> Iterator[Home]:
    require_users()
    folder = Path(tempfile.mkdtemp(prefix="strandline-rights-"))
    folder.chmod(0o755)
    yield Home(folder)
    shutil.rmtree(folder)


def test_files_and_folders_without_rights_stop_only_themselves(home: Home) -> None:
    """A published file, which is made again; the folder of a date that cannot be read; two that cannot be written, of which one
    loses its only order; a published file and the raw copy that it is made of; and a file in the inbox, which stays there."""
    closed = home.put("closed.json", as_drop([order(9, 2)]))
    files = {day: home.date(day) / "fact_order.parquet" for day in DAYS}
    forbidden = {
        files[3]: 0, home.date(4): 0, home.date(5): 0o555, files[6]: 0, home.raw("day6.json"): 0, home.date(7): 0o555, closed: 0,
    }  # fmt: skip
    before = {path: path.stat().st_mode for path in forbidden}
    for path, mode in forbidden.items():
        path.chmod(mode)
    ended = home.run("sql", "FROM fact_order")
    assert ended.returncode == 3 and "cannot be read. The file" in ended.stderr, ended.stderr
    ended = home.run("backup", str(home.folder / "copy"))
    assert ended.returncode == 1 and f"{files[4].relative_to(home.output)} is damaged or missing" in ended.stderr
    moved = order(7, 8, updated_at="2026-03-09T00:00:00Z")
    home.put("more.json", as_drop([*(order(100 + day, day) for day in range(2, 7)), moved]))
    ended = home.run()
    assert ended.returncode == 1 and "closed.json" in ended.stderr and closed.exists(), ended.stderr
    assert [home.orders(day) for day in (2, 3, 8)] == [{"o_2", "o_102"}, {"o_3", "o_103"}, {"o_7"}]
    aside = {one["name"][-1]: one["reason"] for one in json.loads(home.run("status", "--json").stdout)["set_aside"]}
    assert aside.keys() == {"4", "5", "6", "7"}
    for day in (4, 5, 7):
        assert f"could not read and write {home.date(day)}: Permission denied. Let this user" in aside[str(day)]
    assert home.raw("day6.json").name in aside["6"] and f"{files[6]} is there and cannot be read" in aside["6"]
    verified = home.run("verify")
    assert verified.returncode == 1 and f"curated/{files[4].relative_to(home.output / 'curated')}" in verified.stdout
    for path, mode in before.items():
        if path != files[3]:  # another file is there
            path.chmod(mode)
    ended = home.run()
    assert ended.returncode == 0, ended.stderr
    assert [home.orders(day) for day in range(2, 7)] == [
        {f"o_{day}", f"o_{100 + day}", *(["o_9"] if day == 2 else [])} for day in range(2, 7)
    ]
    assert not home.date(7).exists()
    ended = home.run("verify")
    assert ended.returncode == 0, ended.stdout


def test_what_everything_needs_ends_the_run_with_what_to_do(home: Home) -> None:
    """The ledger, its folder, and the folder of all dates, in which a new one must be made."""
    home.put("more.json", as_drop([order(100, 2), order(101, 9)]))
    state, curated = home.output / "state", home.output / "curated"
    rights = "Let this user read and write state/ and the files in it"
    for path, mode, told in (
        (state / "ledger.sqlite", 0, rights), (state, 0o555, rights), (curated, 0o555, f"to {home.date(9)}: Permission denied"),
    ):  # fmt: skip
        before = path.stat().st_mode
        path.chmod(mode)
        ended = home.run()
        assert ended.returncode == 3 and told in ended.stderr and "Traceback" not in ended.stderr, ended.stderr
        path.chmod(before)
    assert home.run().returncode == 0
    assert home.orders(2) == {"o_2", "o_100"} and home.orders(9) == {"o_101"}
    assert home.run("verify").returncode == 0
