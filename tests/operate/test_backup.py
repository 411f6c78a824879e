"""A backup is of one moment, or it is no backup; and nothing is restored over anything."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from daemon.batch import pipeline
from daemon.batch.engine import Engine
from daemon.core.errors import EnvironmentFault, UsageError
from daemon.core.parse.naming import Ids
from daemon.core.progress import silent
from daemon.operate import backup as module
from daemon.operate.backup import MARKER, backup, restore
from daemon.storage import files
from tests.operate.test_forget_histories import forget
from tests.support.command import differences, once, strandline
from tests.support.harness import apply_batch, open_engine, rows, tree

NOW = 1_790_000_000_000_000


class Killed(BaseException):
    """Stands for a kill: nothing of the program runs afterwards."""


def content(amount: int) -> bytes:
    record = {"order_id": "a", "amount": amount, "created_at": f"2026-03-02T10:00:0{amount}Z", "items": []}
    return json.dumps([record, {"order_id": "bad"}]).encode()


def applied(engine: Engine, root: Path, amount: int) -> None:
    apply_batch(engine, root, [(f"{amount}.json", content(amount)), (f"broken-{amount}.json", b"null")], NOW + amount)


def amounts(output: Path) -> list[float]:
    return [float(str(row["amount"])) for row in rows(output, "2026-03-02")]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An output with one order, one discard, one quarantined drop."""
    with open_engine(tmp_path) as engine:
        applied(engine, tmp_path, 1)
    return tmp_path


def made(home: Path, name: str = "backup") -> dict[str, Any]:
    return backup(home / "output", home / name, "now", silent)


def put_back(home: Path, name: str = "backup") -> Path:
    """Restores beside the first output, and calls that `new/output`."""
    restore(home / name, home / "new" / "output", silent)
    return home / "new"


def test_what_was_backed_up_comes_back(home: Path) -> None:
    """Every file but the lock and staging, with its bytes; and nothing is different to verify."""
    about = made(home)
    assert about["damaged"] == [] and about["linked"] > 0
    before = {name: sha for name, sha in tree(home / "output").items() if not name.startswith(("state/", "."))}
    new = put_back(home)
    found = tree(new / "output")
    assert {name: sha for name, sha in found.items() if not name.startswith("state/")} == before
    assert {name for name in found if name.startswith("state/")} == {"state/ledger.sqlite", "state/lock"}
    assert {name.split("/")[0] for name in before} == {"raw", "curated", "discarded", "quarantine", "receipts"}
    assert differences(new) == []


def test_without_hard_links_everything_is_copied(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into another file system, and on one that has none."""

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refused)
        about = made(home)
    assert (about["linked"], about["damaged"]) == (0, [])
    assert {path.stat().st_nlink for path in (home / "backup").rglob("*") if path.is_file()} == {1}
    linked = made(home, "other")
    assert (linked["files"], linked["bytes"]) == (about["files"], about["bytes"])
    same = tree(home / "backup").items() - tree(home / "other").items()
    assert {name for name, _ in same} <= {"backup.json", "state/ledger.sqlite"}
    assert put_back(home).exists()


def test_a_batch_in_the_middle_gives_the_state_after_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first links are of a file that is replaced before the ledger is copied: none of them is in the backup."""
    link_all, calls = module._link_all, []
    with open_engine(home) as engine:

        def interrupted(*arguments: Any) -> None:
            link_all(*arguments)
            calls.append(1)
            if len(calls) <= 2:
                applied(engine, home, 1 + len(calls))

        monkeypatch.setattr(module, "_link_all", interrupted)
        about = made(home)
    assert (len(calls), about["batch"], about["damaged"]) == (3, 3, [])
    new = put_back(home)
    assert amounts(new / "output") == [3.0] and differences(new) == []


def test_batches_after_the_moment_are_not_in_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drop that waits in raw/ is in the backup as one that waits, although it is in quarantine or gone when it is copied."""
    copy_drops = module._copy_drops
    with open_engine(home) as engine:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(pipeline, "_apply", fails)
            apply_batch(engine, home, [("2.json", content(2)), ("null.json", b"null"), ("3.json", content(2))], NOW + 2)
        waiting = engine.ledger.uncommitted()
        assert len(waiting) == 3

        def later(*arguments: Any) -> None:
            pipeline.resume(engine, waiting, NOW + 3)
            applied(engine, home, 4)
            copy_drops(*arguments)

        monkeypatch.setattr(module, "_copy_drops", later)
        about = made(home)
    assert (about["batch"], about["damaged"]) == (1, [])
    new = put_back(home)
    assert amounts(new / "output") == [1.0]
    (new / "inbox").mkdir()
    assert once(new).returncode == 1  # the broken one
    assert amounts(new / "output") == [2.0] and differences(new) == []


def fails(*_: Any, **__: Any) -> None:
    raise Killed


def test_no_moment_is_no_backup(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that a crash left unpublished needs its staged files. What finishes it is said."""
    monkeypatch.setattr(module, "_BUSY_SECONDS", 0.1)
    with open_engine(home) as engine, monkeypatch.context() as patch:
        patch.setattr(pipeline, "publish", fails)
        with pytest.raises(Killed):
            applied(engine, home, 2)
    with pytest.raises(EnvironmentFault, match="strandline --once"):
        made(home)
    assert not (home / "backup").exists() and os.listdir(home / "output" / ".downstream") == []


def dying_at(step: int | str) -> Callable[..., bool]:
    """Copies as many files as this, and then is killed."""
    add, done = module.Copied.add, []

    def dies(*arguments: Any, **options: Any) -> bool:
        if len(done) == step:
            raise Killed
        done.append(1)
        return add(*arguments, **options)

    return dies


@pytest.mark.parametrize("step", [0, 1, 3, 5, "sync", "marker"])
def test_a_backup_that_was_killed_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, step: int | str) -> None:
    """Whenever: the marker is written last, when all else is durable."""
    if step == "sync":
        monkeypatch.setattr(files, "sync_file_system", fails)
    elif step == "marker":
        monkeypatch.setattr(os, "replace", fails)
    else:
        monkeypatch.setattr(module.Copied, "add", dying_at(step))
    with pytest.raises(Killed):
        made(home)
    monkeypatch.undo()
    assert (home / "backup").exists()
    with pytest.raises(UsageError, match=MARKER):
        put_back(home)
    assert not (home / "new").exists()
    with pytest.raises(UsageError, match="not empty"):
        made(home)


@pytest.mark.parametrize("step", [1, 3, 7])
def test_an_output_whose_restore_was_killed_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """No daemon begins a new life in it, and a second restore says that something is there."""
    made(home)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module.Copied, "add", dying_at(step))
        put_back(home)
    with pytest.raises(UsageError, match="not empty"):
        put_back(home)
    with open_engine(home / "new") as engine:
        from daemon.batch.recovery import is_lost

        assert is_lost(engine)


def test_what_is_not_all_of_a_backup_is_refused(home: Path) -> None:
    """A file that was lost, cut short or added on the way."""
    made(home)
    (receipt, *_) = (home / "backup" / "receipts").rglob("*.json")
    receipt.rename(home / "aside")
    with pytest.raises(UsageError, match="not the whole backup"):
        put_back(home)
    receipt.write_bytes((home / "aside").read_bytes()[:-1])
    with pytest.raises(UsageError, match="not the whole backup"):
        put_back(home)
    receipt.write_bytes((home / "aside").read_bytes())
    (home / "backup" / "state" / "ledger.sqlite-shm").write_bytes(b"of whoever looked into it")
    assert (put_back(home) / "output" / "state" / "ledger.sqlite").exists()


@pytest.mark.parametrize("there", ["orders.txt", ".hidden", "raw/"])
def test_nothing_is_written_over(home: Path, there: str) -> None:
    """Neither by a backup nor by a restore, whatever is there."""
    made(home)
    for folder in (home / "other", home / "new" / "output"):
        path = folder / there
        (path if there.endswith("/") else path.parent).mkdir(parents=True)
        if not there.endswith("/"):
            path.write_bytes(b"precious")
    for call in (lambda: made(home, "other"), lambda: put_back(home)):
        with pytest.raises(UsageError, match="not empty"):
            call()
    assert os.listdir(home / "other") == os.listdir(home / "new" / "output") == [there.strip("/")]


@pytest.mark.parametrize("name", ["output", "output/backup", "."])
def test_a_backup_is_neither_in_the_output_nor_around_it(home: Path, name: str) -> None:
    with pytest.raises(UsageError, match="contain each other"):
        made(home, name)


def test_what_is_damaged_is_copied_and_told(home: Path) -> None:
    """A copy of what is left is worth more than none."""
    (raw,) = (home / "output" / "raw").rglob("*_1.json")
    raw.write_bytes(raw.read_bytes().replace(b"bad", b"BAD"))
    (fact,) = (home / "output" / "curated").rglob("fact_order.parquet")
    fact.unlink()
    assert made(home)["damaged"] == sorted(str(path.relative_to(home / "output")) for path in (raw, fact))
    assert len(differences(put_back(home))) >= 2


def test_a_later_retry_does_not_reach_into_the_backup(home: Path) -> None:
    """Where files are linked: a program that writes to a file in the inbox changes no file of the backup."""
    made(home)
    (kept,) = (path for path in (home / "backup" / "quarantine").iterdir() if not path.name.endswith(".reason.json"))
    (live,) = (path for path in (home / "output" / "quarantine").iterdir() if path.name == kept.name)
    assert kept.stat().st_ino != live.stat().st_ino and kept.read_bytes() == b"null"


def test_what_is_restored_has_the_rights_of_whoever_restores(home: Path) -> None:
    """Whatever the backup has; and a change there does not reach the backup."""
    made(home)
    for path in (home / "backup").rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    before = os.umask(0o077)
    try:
        new = put_back(home)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in (new / "output").rglob("*") if path.is_file()}
    assert modes == {0o600}


def test_half_a_restore_is_no_output(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command says what to do; nothing takes it for an output without a ledger."""
    made(home)
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module.files, "sync_file_system", killed)
        put_back(home)
    (home / "new" / "inbox").mkdir()
    for words in (["status"], ["rebuild"], ["verify"], ["--once"]):
        ended = strandline(home / "new", *words)
        assert ended.returncode == 2 and "half of a restore" in ended.stderr, ended.stderr


def killed(*_: object) -> None:
    raise Killed


def test_an_erasure_meanwhile_is_no_moment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backup would have the orders that were erased, and not their raw copy."""
    copy_drops = module._copy_drops

    def later(*arguments: Any) -> None:
        forget(home, Ids(orders=frozenset({"a"})))
        copy_drops(*arguments)

    monkeypatch.setattr(module, "_copy_drops", later)
    with pytest.raises(EnvironmentFault, match="erased"):
        made(home)


def test_forget_removes_what_a_killed_backup_holds(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Links to partitions, and a copy of the ledger."""
    child = os.fork()
    if not child:
        monkeypatch.setattr(module, "_copy_drops", lambda *_: os._exit(9))
        made(home)
    os.waitpid(child, 0)
    assert any((home / "output" / ".downstream").rglob("*.parquet"))
    forget(home, Ids(orders=frozenset({"a"})))
    assert not any((home / "output" / ".downstream").rglob("*.parquet"))
