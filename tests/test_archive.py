"""The way out of the inbox, and names: what a writer does meanwhile, and what a file may be called."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from unittest.mock import Mock

import pytest

from daemon.batch.pipeline import take
from daemon.batch.recovery import recover
from daemon.core.model import ParseContext
from daemon.core.retry import Backoff
from daemon.observe.observer import Observer
from daemon.service import Service
from daemon.sources.inbox import Inbox
from daemon.sources.inbox_folder import InboxFolder
from daemon.storage import files
from daemon.storage.raw import kind_of, printable, shortened
from tests.crash import TERMS, drop, run
from tests.harness import DAY, apply_batch, engine
from tests.system.test_once import order

NOW = 1_780_000_000_000_000


def test_a_writer_that_comes_while_it_is_looked_whether_one_is_there_ends_nobody(tmp_path: Path) -> None:
    """The kernel signals whoever holds a lease that is broken, by default with a signal that ends the process."""
    drop(tmp_path, "a.json", b"[]")
    writer = (
        "import sys\nwhile True:\n    for _ in range(999): open(sys.argv[1], 'ab').close()\n    print(flush=True)\n"
    )
    looking = (
        "import sys, time\nfrom pathlib import Path\nfrom daemon.sources.inbox import Inbox\n"
        "from daemon.core.retry import Backoff\n"
        "inbox = Inbox(Path(sys.argv[1]), 0.0, Backoff(1, 0.1, 0.1))\n"
        "for _ in range(20000): inbox.scan(time.time())\n"
    )
    path = tmp_path / "inbox" / "a.json"
    beside = subprocess.Popen([sys.executable, "-c", writer, path], stdout=subprocess.PIPE)
    try:
        assert beside.stdout is not None
        beside.stdout.readline()  # it writes
        ended = subprocess.run(
            [sys.executable, "-c", looking, path.parent],
            cwd=Path(__file__).resolve().parents[1],
            check=False,
            timeout=300,
        )
    finally:
        beside.send_signal(signal.SIGKILL)
        beside.wait()
    assert ended.returncode == 0


NAMES = ["a.json", "a b'\"\\.json", "a\nb.json", "..json", "[x]*.json", "%41.json", "x" * 250 + ".json"]


@pytest.mark.parametrize(
    "name",
    [
        "a.json",
        "users.csv.gz",
        "x" * 250 + ".json",
        "users" + "x" * 246 + ".csv",
        "a" * 130 + "." + "b" * 119 + ".json",
    ],
)
def test_a_hidden_file_gets_its_name_back_or_one_that_is_read_alike(tmp_path: Path, name: str) -> None:
    """Also where that is taken, and where an earlier try came half-way."""
    contents = []
    for number in range(4):
        hidden = tmp_path / f".strandline-{number}"
        hidden.write_text(str(number))
        contents.append(str(number))
        if number == 2:
            os.link(hidden, tmp_path / "elsewhere")
        InboxFolder(tmp_path).show(hidden.name, name)
    os.unlink(tmp_path / "elsewhere")
    found = sorted(tmp_path.iterdir())
    assert sorted(path.read_text() for path in found) == contents
    assert {kind_of(path.name) for path in found} == {kind_of(name)}
    assert (tmp_path / name).read_text() == "0"


def test_a_file_that_was_given_its_name_and_not_unlinked_is_finished(tmp_path: Path) -> None:
    """A crash between the two must not leave the drop there twice."""
    hidden = tmp_path / ".strandline-1-a.json"
    hidden.write_text("[]")
    os.link(hidden, tmp_path / "a.json")
    InboxFolder(tmp_path).show(hidden.name, "a.json")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_names_in_raw_are_printable_bounded_and_tell_how_to_read() -> None:
    """Whatever bytes a name has; and no two escapes collide."""
    for name in [
        *NAMES,
        os.fsdecode(b"\xff\xfe.json"),
        "users" + "é" * 120 + ".csv",
        "orders" + "x" * 240 + ".json.gz",
    ]:
        found = shortened(printable(name))
        assert found.isprintable() and len(found.encode()) <= 180 and "/" not in found
        assert kind_of(found) == kind_of(name)
    assert printable("%41.json") != printable("A.json") != printable(os.fsdecode(b"\xff.json"))


class Heard(Observer):
    def __init__(self) -> None:
        self.refusals: list[str] = []

    def refused(self, name: str, cause: str) -> None:
        self.refusals.append(f"{name}: {cause}")


def test_a_drop_that_cannot_be_taken_is_said_once_and_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays in the inbox, is tried again less and less often, and is applied once it can be taken."""
    opened = InboxFolder.opened
    denied = True

    def refuse(folder: InboxFolder, name: str) -> AbstractContextManager[int]:
        if denied and "locked" in name:
            raise PermissionError(13, "Permission denied", name)
        return opened(folder, name)

    monkeypatch.setattr(InboxFolder, "opened", refuse)
    drop(tmp_path, "locked.json", json.dumps([order(1)]).encode())
    drop(tmp_path, "open.json", json.dumps([order(2)]).encode())
    heard = Heard()
    with engine(tmp_path) as rooms:
        inbox = Inbox(tmp_path / "inbox", 0.0, Backoff(3, 0.01, 0.01))
        service = Service(rooms, inbox, TERMS, [heard], lambda: recover(rooms, tmp_path / "inbox", DAY, ""))
        for _ in range(5):
            summary = service.once(Event())
        assert summary.applied == 1 and summary.left == ["locked.json"]
        assert heard.refusals == ["locked.json: Permission denied"]
        denied = False
        monkeypatch.undo()
        time.sleep(0.02)
        summary = service.once(Event())
    assert summary.applied == 2 and summary.left == []


def breaking(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """From now on this file can be opened, and reading it fails, as where its disk has a bad block."""
    read, inode = os.read, path.stat().st_ino

    def read_or_fail(descriptor: int, size: int) -> bytes:
        if os.fstat(descriptor).st_ino == inode:
            raise OSError(errno.EIO, "Input/output error")
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", read_or_fail)


def test_a_drop_that_cannot_be_read_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named with the cause, nothing of it is left behind, and it is applied once it can be read."""
    drop(tmp_path, "bad.json", json.dumps([order(1)]).encode())
    breaking(monkeypatch, tmp_path / "inbox" / "bad.json")
    run(tmp_path)
    assert list((tmp_path / "output" / ".staging").iterdir()) == []
    drop(tmp_path, "good.json", json.dumps([order(2)]).encode())
    heard = Heard()
    summary = run(tmp_path, heard)
    assert summary.applied == 1 and summary.left == ["bad.json"]
    assert heard.refusals == ["bad.json: Input/output error"]
    assert [path.name for path in (tmp_path / "inbox").iterdir()] == ["bad.json"]
    monkeypatch.undo()
    assert run(tmp_path).applied == 1


def test_a_copy_that_cannot_be_written_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up everything, as it must: no other drop could be copied either, and none is refused."""
    drop(tmp_path, "a.json", json.dumps([order(1)]).encode())
    monkeypatch.setattr(files, "_write_all", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    heard = Heard()
    with pytest.raises(OSError, match="Input/output error"):
        run(tmp_path, heard)
    assert heard.refusals == []


@pytest.mark.parametrize("damage", ["shortened", "lengthened", "gone"])
def test_the_log_of_restatements_is_continued_whatever_was_done_to_it(tmp_path: Path, damage: str) -> None:
    """The ledger knows how long it was: what follows is written there, whole; what was cut off is not made up."""
    log = tmp_path / "output" / "restatements.jsonl"
    with engine(tmp_path) as rooms:
        for number in range(3):
            apply_batch(rooms, tmp_path, [(f"{number}.json", json.dumps([order(number)]).encode())], NOW)
        before = log.read_bytes()
        if damage == "shortened":
            log.write_bytes(before[:-10])
        elif damage == "lengthened":
            log.write_bytes(before + b"what a torn write left")
        else:
            log.unlink()
        apply_batch(rooms, tmp_path, [("9.json", json.dumps([order(9)]).encode())], NOW)
    assert log.read_bytes().endswith(
        b'"orders_before": 3, "orders_after": 4, "amount_before": "3.0000", "amount_after": "12.0000"}\n'
    )
    if damage == "lengthened":
        assert [json.loads(line)["orders_after"] for line in log.read_bytes().splitlines()] == [2, 3, 4]


def test_a_strange_number_in_raw_is_never_given_again(tmp_path: Path) -> None:
    """Something in raw/ that is no drop of ours bears a number: the next drop gets one above it, and the file stays."""
    drop(tmp_path, "a.json", json.dumps([order(1)]).encode())
    run(tmp_path)
    (folder,) = (tmp_path / "output" / "raw").glob("received=*")
    stranger = folder / "00000041_0123456789ab_notes.json"
    stranger.write_bytes(b"not what its name says")
    drop(tmp_path, "b.json", json.dumps([order(2)]).encode())
    run(tmp_path)
    assert stranger.read_bytes() == b"not what its name says"
    assert [path.name.split("_")[0] for path in folder.glob("*_b.json")] == ["00000042"]


def test_a_drop_that_changes_between_look_and_copy_is_a_new_drop_later(tmp_path: Path) -> None:
    """What was seen is not there any more: nothing is taken, and nothing is lost."""
    drop(tmp_path, "a.json", json.dumps([order(1)]).encode())
    with engine(tmp_path) as rooms:
        look = Inbox(tmp_path / "inbox", 0.0, Backoff(1, 0.1, 0.1)).scan(10**10)
        os.unlink(tmp_path / "inbox" / "a.json")
        outcome, refused = take(rooms, look.settled, ParseContext(NOW, DAY), NOW)
        assert outcome is None and refused == []
    drop(tmp_path, "a.json", json.dumps([order(2)]).encode())
    assert run(tmp_path).applied == 1
