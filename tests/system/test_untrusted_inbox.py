"""A writer to the inbox who means harm: real processes, and everything that can be put under a name there. Nothing of the
operator's changes, the daemon goes on, and other drops are applied."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from daemon.operate.quarantine import retry
from daemon.sources.source_folder import SourceFolder
from tests.support.command import drop, environment, once, order, receipts, strandline
from tests.support.daemon_process import place, running, started, until
from tests.support.harness import tree
from tests.support.users import SERVICE, WRITER, as_user, require_users

HEX = "0123456789abcdef"
# Every form of name that the code creates or looks for in the inbox, and those that 0.1 did.
NAMES = [
    ".strandline-probe", f".strandline-probe-{HEX}", f".strandline-put-{HEX}", f".strandline-1-{HEX}-first.json",
    f".strandline-7-{HEX}-x.json", ".strandline-1-first.json", ".strandline-9-.", f".strandline-9-{HEX}-.",
    f".strandline-9-{HEX}-..",
    ".retry-00000001_0123456789ab_first.json", "first.json", "first-1.json",
]  # fmt: skip


def _raw_copy(home: Path) -> Path:
    return next((home / "output" / "raw").glob("received=*/*first.json"))


def _link_to_raw(path: Path, home: Path) -> None:
    path.symlink_to(_raw_copy(home))


def _link_to_ledger(path: Path, home: Path) -> None:
    path.symlink_to(home / "output" / "state" / "ledger.sqlite")


def _link_to_precious(path: Path, home: Path) -> None:
    path.symlink_to(home / "precious")


def _hard_link_to_raw(path: Path, home: Path) -> None:
    os.link(_raw_copy(home), path)


def _fifo(path: Path, home: Path) -> None:
    os.mkfifo(path)


def _device(path: Path, home: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))


def _folder(path: Path, home: Path) -> None:
    path.mkdir()
    (path / "inside").write_text("kept")


THINGS: list[Callable[[Path, Path], None]] = [
    _link_to_raw, _link_to_ledger, _link_to_precious, _hard_link_to_raw, _fifo, _device, _folder,
]  # fmt: skip


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which one drop was applied."""
    home = tmp_path_factory.mktemp("used")
    drop(home, "first.json", [order(1)])
    assert once(home).returncode == 0
    (home / "precious").write_text("of the operator")
    return home


def kept(home: Path) -> dict[str, str]:
    """The bytes of all that a second run may not change."""
    found = {name: digest for name, digest in tree(home / "output" / "raw").items() if "orders_raw" not in name}
    return found | {"precious": (home / "precious").read_text()}


@pytest.mark.parametrize("thing", THINGS)
def test_nothing_under_any_name_harms_or_stops_anything(
    used: Path, tmp_path: Path, thing: Callable[[Path, Path], None]
) -> None:
    """A catch-up run, a daemon in mode auto (which makes a probe), and `retry`: each ends, and the bytes are as before."""
    for mode in ("once", "daemon"):
        home = tmp_path / mode
        shutil.copytree(used, home, symlinks=True)
        before = kept(home)
        for name in NAMES:
            try:
                thing(home / "inbox" / name, home)
            except PermissionError:
                pytest.skip("not permitted here")
        there = {name for name in NAMES if thing is not _hard_link_to_raw}
        drop(home, "second.json", [order(2)])
        if mode == "once":
            ended = once(home, RETRY__ATTEMPTS="1")
            assert ended.returncode in (0, 1) and "Traceback" not in ended.stderr, ended.stderr
        else:
            with running(home, WATCH__MODE="auto") as daemon:
                daemon.applied("second.json")
        assert {**kept(home), **before} == kept(home)
        assert "second.json" in {receipt["name"] for receipt in receipts(home).values()}
        assert there <= set(os.listdir(home / "inbox"))
        verified = subprocess.run(
            [sys.executable, "-m", "daemon", "verify"],
            cwd=home,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert verified.returncode == 0, verified.stdout


def test_a_hidden_file_of_30_gb_delays_no_start(used: Path, tmp_path: Path) -> None:
    """It bears the number of a known drop; its size says that it is another, and nobody hashes it."""
    home = tmp_path / "home"
    shutil.copytree(used, home, symlinks=True)
    with open(home / "inbox" / f".strandline-1-{HEX}-first.json", "wb") as file:
        file.truncate(30 << 30)
    drop(home, "second.json", [order(2)])
    began = time.monotonic()
    ended = once(home, RETRY__ATTEMPTS="1", RETRY__INITIAL_DELAY_SECONDS="0.1", WATCH__SETTLE_SECONDS="0")
    assert ended.returncode == 1 and "max_drop_bytes" in ended.stderr
    assert time.monotonic() - began < 30  # hashing would take a minute
    assert "second.json" in {receipt["name"] for receipt in receipts(home).values()}


def test_a_sparse_drop_is_not_copied(used: Path, tmp_path: Path) -> None:
    """3 GB of holes stay in the inbox, with the reason and exit code 1; nothing of that size is anywhere else."""
    home = tmp_path / "home"
    shutil.copytree(used, home, symlinks=True)
    with open(drop(home, "holes.json", b"["), "r+b") as file:
        file.truncate(3 << 30)
    os.utime(home / "inbox" / "holes.json", (1e9, 1e9))
    ended = once(home, RETRY__ATTEMPTS="1", RETRY__INITIAL_DELAY_SECONDS="0.1", WATCH__SETTLE_SECONDS="0")
    assert ended.returncode == 1 and "holes" in ended.stderr
    assert sum(path.lstat().st_size for path in (home / "output").rglob("*")) < 10 << 20
    assert os.listdir(home / "inbox") == ["holes.json"]


def test_an_unreadable_hidden_file_of_another_user_stops_nothing(tmp_path: Path) -> None:
    """Mode 000, in a sticky inbox, so that it can be neither read nor renamed: it is reported, and other drops are applied."""
    require_users()
    base = Path("/tmp") / f"strandline-unreadable-{os.getpid()}"
    base.mkdir(mode=0o755)
    try:
        for path in (base, base / "inbox", base / "output"):
            path.mkdir(exist_ok=True)
            os.chown(path, SERVICE, SERVICE)
        os.chown(base / "inbox", 0, 0)
        (base / "inbox").chmod(0o1777)

        def run() -> subprocess.CompletedProcess[str]:
            settings = environment(
                RETRY__ATTEMPTS="1",
                RETRY__INITIAL_DELAY_SECONDS="0.1",
                WATCH__SETTLE_SECONDS="0",
                WATCH__FOREIGN_SETTLE_SECONDS="0",
            )
            command = [*as_user(SERVICE), sys.executable, "-m", "daemon", "--once"]
            return subprocess.run(
                command, cwd=base, env=settings, capture_output=True, text=True, timeout=120, check=False
            )

        def written(name: str, content: bytes, uid: int, mode: int = 0o644) -> None:
            path = base / "inbox" / name
            path.write_bytes(content)
            os.chown(path, uid, uid)
            path.chmod(mode)

        first = json.dumps([order(1)]).encode()
        written("first.json", first, SERVICE)
        assert run().returncode == 0
        hidden = f".strandline-1-{HEX}-first.json"
        written(hidden, first, WRITER, 0o000)
        written("second.json", json.dumps([order(2)]).encode(), SERVICE)
        ended = run()
        assert "Traceback" not in ended.stderr and ended.returncode in (0, 1), ended.stderr
        assert len(receipts(base)) == 2
        assert (base / "inbox" / hidden).exists()
        assert "could not be removed or given its name back" in ended.stderr
    finally:
        shutil.rmtree(base)


def test_an_inbox_that_becomes_a_link_into_the_output_is_noticed(tmp_path: Path) -> None:
    """Nothing of ours is taken for a drop; it says why, and goes on once the folder is back."""
    with running(tmp_path, WATCH__RESCAN_SECONDS="0.2", RETRY__ATTEMPTS="2", RETRY__INITIAL_DELAY_SECONDS="0.1",
                 RETRY__MAX_DELAY_SECONDS="0.2") as daemon:  # fmt: skip
        place(daemon.inbox / "a.json", json.dumps([order(1)]).encode())
        daemon.applied("a.json")
        before = tree(daemon.output / "raw")
        (raw,) = (daemon.output / "raw").glob("received=*")
        daemon.inbox.rename(tmp_path / "aside")
        daemon.inbox.symlink_to(raw)
        until(lambda: daemon.get("/-/ready")[0] == 503, "not ready")
        until(lambda: "in each other" in daemon.get("/-/ready")[1], "it says why")
        assert tree(daemon.output / "raw") == before
        daemon.inbox.unlink()
        (tmp_path / "aside").rename(daemon.inbox)
        place(daemon.inbox / "b.json", json.dumps([order(2)]).encode())
        daemon.applied("b.json")
        until(daemon.ready, "ready again")


# ----------------------------------------------------------------------------------------------------------------- retry


_ATTACKER = """
import os, sys
inbox, victim = sys.argv[1:]
while True:
    for name in os.listdir(inbox):
        path = os.path.join(inbox, name)
        try:
            if not os.path.islink(path):
                os.unlink(path)
                os.symlink(victim, path)
        except OSError:
            pass
"""


@pytest.mark.parametrize("across", [False, True], ids=["link", "copy"])
def test_retry_writes_to_no_file_of_the_operators(
    tmp_path: Path, across: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While somebody replaces every file in the inbox by a link to it, as fast as possible; whether it links or copies. And the
    drop is either in the inbox, or still in quarantine, or was replaced after it had been put there."""
    victim = tmp_path / "precious"
    victim.write_text("of the operator")
    quarantine, inbox = tmp_path / "output" / "quarantine", tmp_path / "inbox"
    quarantine.mkdir(parents=True)
    inbox.mkdir()
    if across:
        link = os.link

        def refuse(source: object, *arguments: object, **options: object) -> None:
            if str(source).startswith(str(quarantine)):
                raise OSError(18, "Invalid cross-device link")
            link(source, *arguments, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(os, "link", refuse)
    attacker = subprocess.Popen([sys.executable, "-c", _ATTACKER, inbox, victim])
    try:
        for number in range(1, 60):
            path = quarantine / f"{number:08d}_0123456789ab_a.json"
            path.write_bytes(b"of the attacker" * 1000)
            try:
                retry(quarantine, [SourceFolder(inbox)], [])
            except OSError:
                assert path.exists()
                path.unlink()
            assert victim.read_text() == "of the operator"
    finally:
        attacker.kill()
        attacker.wait()
    assert victim.read_text() == "of the operator"


# ------------------------------------------------------------------------------------------------------ names of the field


UNFINISHED = [
    "Unconfirmed 123.crdownload", "orders.json.!sync", "orders.json.1a2b3c4d.partial", "orders.json.6eF5b5da", "orders.json.PART",
    "orders.json.TMP", "orders.json._COPYING_", "orders.json.aria2", "orders.json.crdownload", "orders.json.download",
    "orders.json.filepart", "orders.json.inprogress", "orders.json.lock", "orders.json.upload", "orders.json.writing",
    "orders.json_.gstmp", "users.csv~", ".orders.json.Xy12Ab",
]  # fmt: skip
JUNK = ["Thumbs.db", "_SUCCESS", "desktop.ini", "~$users.xlsx", ".DS_Store"]


def test_unfinished_names_are_left_alone_and_counted_and_junk_is_ignored(tmp_path: Path) -> None:
    """However old; by `--once` with exit code 0, by `status`, the page and the gauge."""
    for name in UNFINISHED + JUNK:
        drop(tmp_path, name, [order(1)], age_seconds=7200)
    drop(tmp_path, "good.json", [order(2)])
    ended = once(tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert set(os.listdir(tmp_path / "inbox")) == {*UNFINISHED, *JUNK}
    assert [receipt["name"] for receipt in receipts(tmp_path).values()] == ["good.json"]
    with running(tmp_path) as daemon:
        until(lambda: daemon.metrics()["strandline_inbox_unfinished_files"] == len(UNFINISHED), "the gauge")
        assert json.loads(daemon.get("/api/status")[1])["inbox"]["unfinished"] == len(UNFINISHED)
        assert f"{len(UNFINISHED)} unfinished" in daemon.get("/")[1]
        assert daemon.metrics()["strandline_inbox_pending_drops"] == 0


def test_readme_txt_is_quarantined_and_ignore_is_a_setting(tmp_path: Path) -> None:
    """Any other name gets its reason; unless the operator says that it is no drop."""
    drop(tmp_path, "readme.txt", b"hello")
    assert once(tmp_path, WATCH__IGNORE='["README*"]').returncode == 0
    assert os.listdir(tmp_path / "inbox") == ["readme.txt"]
    assert once(tmp_path).returncode == 1
    assert len(list((tmp_path / "output" / "quarantine").iterdir())) == 2


def test_a_table_of_orders_is_led_to_what_is_read(tmp_path: Path) -> None:
    """A shop's export is often a CSV or a workbook: the reason says what to export instead, and the status what to do then."""
    for name in ("orders_export_1.csv", "orders.xlsx", "readme.txt"):
        drop(tmp_path, name, f"Name,Email\n#1001,a@example.org\n{name},\n".encode())  # the same bytes have one reason
    assert once(tmp_path).returncode == 1
    reasons = {one["name"]: one["reason"] for one in receipts(tmp_path).values()}
    assert [name for name, reason in sorted(reasons.items()) if "Orders in a table are not read" in reason] == [
        "orders.xlsx", "orders_export_1.csv",
    ]  # fmt: skip
    assert "In quarantine (3): correct the cause, then `strandline retry`" in strandline(tmp_path, "status").stdout


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "empty"), (b"PK\3\4abc", "zip"), (b"\x1f\x8b\x08\0", "cut short"), (b"[", "]")]
)
def test_an_unfinished_drop_is_waited_for(tmp_path: Path, content: bytes, why: str) -> None:
    """It is closed, and is not whole: looked at again with growing delays; what its writer adds meanwhile is taken with it."""
    daemon = started(tmp_path, WATCH__SETTLE_SECONDS="0.05", WATCH__RESCAN_SECONDS="0.2")
    try:
        until(daemon.ready, "ready")
        path = daemon.inbox / "a.json"
        path.write_bytes(content)
        until(lambda: [e for e in daemon.said("unfinished; waiting") if why in e["cause"]], "it waits")
        assert not receipts(tmp_path)
        path.write_bytes(json.dumps([order(1)]).encode())
        assert daemon.applied("a.json")["outcome"] == "applied"
        assert daemon.stop() == 0
    finally:
        if daemon.process.poll() is None:
            daemon.process.kill()
            daemon.process.wait()
