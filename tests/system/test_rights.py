"""Who may read what the daemon makes: its owner, and the group where that is asked for, whatever the umask outside."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import REPO
from tests.support.command import drop, once, order, strandline
from tests.support.daemon_process import place, running

DAEMON = 61_234  # a user that this machine need not know


@contextmanager
def outside(umask: int) -> Iterator[None]:
    """The umask of whoever starts the daemon."""
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


def modes(home: Path, *folders: str) -> dict[str, int]:
    """The modes of all folders and files below these; links have none of their own."""
    found = [home / folder for folder in folders]
    found += [path for folder in found for path in folder.rglob("*")]
    return {
        str(path.relative_to(home)): stat.S_IMODE(path.stat().st_mode)
        for path in found
        if not path.is_symlink() and path.exists()
    }


def wrong(found: dict[str, int], home: Path, folder: int, file: int) -> dict[str, str]:
    return {
        name: oct(mode) for name, mode in found.items() if mode != (folder if (home / name).is_dir() else file)
    }  # fmt: skip


def prepared(home: Path) -> None:
    """Drops that leave a file in each part of the output, and models that are SQL, pandas and a check."""
    for folder in ("models", "checks"):
        (home / folder).mkdir(parents=True)
    (home / "models" / "daily.sql").write_text("SELECT date, count(*) AS orders FROM fact_order GROUP BY date")
    (home / "models" / "frame.py").write_text(
        "import pandas\n\ndef model(fact_order):\n    return fact_order.groupby('date', as_index=False)['amount'].max()\n"
    )
    (home / "checks" / "none.sql").write_text("SELECT * FROM fact_order WHERE amount < 0")
    good = json.dumps([order(1), order(2, day=3), {"order_id": "bad"}]).encode()
    for name, content in {"good.json": good, "broken.json": b"null", "users.csv": b"user_id,name\nu_1,Ada\n"}.items():
        drop(home, name, content).chmod(0o600)


@pytest.mark.parametrize(
    ("umask", "mode", "folder", "file"), [(0o000, "private", 0o700, 0o600), (0o077, "group", 0o750, 0o640)]
)
def test_all_that_is_made_has_the_mode_of_the_setting(
    tmp_path: Path, umask: int, mode: str, folder: int, file: int
) -> None:
    """Raw copies, partitions, discards, quarantine, receipts, state, staging, models and checks, and what `retry` puts back. A
    umask that forbids nothing does not widen the mode; one that forbids more does not narrow it."""
    prepared(tmp_path)
    settings = {"PATHS__MODE": mode, "METRICS__TEXTFILE": str(tmp_path / "strandline.prom")}
    with outside(umask):
        assert once(tmp_path, **settings).returncode == 1  # one drop is quarantined
        assert strandline(tmp_path, "retry", "good.json", **settings).returncode == 0
    found = modes(tmp_path, "output", "inbox")
    assert found.pop("inbox") and "inbox/good.json" in found
    assert wrong(found, tmp_path, folder, file) == {}
    parts = {name.split("/")[1] for name in found if name.startswith("output/")}
    made = {"raw", "curated", "discarded", "quarantine", "receipts", "state", "models", "checks", ".staging"}
    assert made <= parts, parts
    assert stat.S_IMODE((tmp_path / "strandline.prom").stat().st_mode) == 0o644  # node_exporter is another user


def test_a_running_daemon_and_its_folders_are_private(tmp_path: Path) -> None:
    """SQLite's -wal and -shm exist while it runs. A source's folder has the rights of the inbox, which its writers need."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox").chmod(0o1777)
    (tmp_path / "config.toml").write_text('[sources.berlin]\nfolder = "berlin"\n')
    with outside(0o000), running(tmp_path) as daemon:
        place(daemon.inbox / "a.json", json.dumps([order(1)]).encode())
        daemon.applied("a.json")
        found = modes(tmp_path, "output")
        assert {f"output/state/ledger.sqlite{suffix}" for suffix in ("", "-wal", "-shm")} <= found.keys()
        assert wrong(found, tmp_path, 0o700, 0o600) == {}
        assert stat.S_IMODE((tmp_path / "inbox" / "berlin").stat().st_mode) == 0o1777


def test_the_documented_command_upgrades_an_output(tmp_path: Path) -> None:
    """An output that an older version made, with modes for all to read."""
    copy = tmp_path / "output" / "raw" / "received=2026-03-02" / "1_00_a.json"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(b"[]")
    (tmp_path / "output" / "raw" / "orders_raw.json").symlink_to("received=2026-03-02/1_00_a.json")
    for path in modes(tmp_path, "output"):
        (tmp_path / path).chmod(0o755 if (tmp_path / path).is_dir() else 0o644)
    text = (REPO / "docs" / "SECURITY.md").read_text()
    command = text.split("## Who may read the output")[1].split("```sh\n")[1].split("```")[0]
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert wrong(modes(tmp_path, "output"), tmp_path, 0o700, 0o600) == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_what_root_requests_can_be_read_by_the_daemon_of_another_user(tmp_path: Path) -> None:
    """`retry` of an applied drop copies it into the inbox, and `discard` leaves its work to the daemon."""
    drop(tmp_path, "good.json", [order(1)])
    drop(tmp_path, "broken.json", b"null")
    once(tmp_path)
    for path in [tmp_path / "output", tmp_path / "inbox", *(tmp_path / "output").rglob("*")]:
        os.chown(path, DAEMON, DAEMON, follow_symlinks=False)
    assert strandline(tmp_path, "retry", "good.json").returncode == 0
    ended = strandline(tmp_path, "discard", "broken.json")
    assert "by the owner's next run" in ended.stdout
    made = [path for part in ("inbox", "output") for path in (tmp_path / part).rglob("*")]
    assert {"good.json", "again", "discard"} <= {path.name for path in made}
    unreadable = [path for path in made if path.lstat().st_uid != DAEMON and path.parent.name != "again"]
    assert unreadable == []  # of a request to read again, only the name is read
