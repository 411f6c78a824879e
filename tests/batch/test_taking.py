"""How a drop leaves the inbox, step by step, with writers and jokers between the steps."""

from __future__ import annotations

import errno
import json
import os
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Event
from unittest.mock import Mock

import pytest

from daemon.batch import taking as module
from daemon.batch.pipeline import take
from daemon.batch.recovery import recover
from daemon.batch.taking import Copy, NotTaken, Taking
from daemon.core.entries import Drop
from daemon.core.model import ParseContext
from daemon.core.retry import Backoff
from daemon.observe.observer import Observer
from daemon.service import Service
from daemon.sources import inbox_folder, writers
from daemon.sources.inbox import Arrival, Inbox
from daemon.sources.inbox_folder import InboxFolder
from daemon.sources.inboxes import Inboxes
from daemon.sources.source_folder import SourceFolder
from daemon.sources.writers import Writer
from daemon.storage import files
from daemon.storage.raw import RawLayer
from tests.support.command import order
from tests.support.crash import TERMS, drop, run
from tests.support.harness import DAY, open_engine

CONTENT = b'[{"order_id":1,"created_at":"2026-03-02"}]'
FOREIGN_SECONDS = 60.0


class Bench:
    """An inbox, an output, and a clock that only we turn."""

    def __init__(self, root: Path) -> None:
        self.inbox, self.output = root / "inbox", root / "output"
        for folder in (self.inbox, self.output / "raw", self.output / ".staging"):
            folder.mkdir(parents=True)
        self.now = 1000.0
        self.known: dict[int, Drop] = {}
        self.raw = RawLayer(self.output, self.output / ".staging")
        self.taking = self.new()

    def new(self) -> Taking:
        """As after a start."""
        return Taking(self.raw, self.known.get, FOREIGN_SECONDS, lambda: self.now)

    def arrival(self, name: str = "a.json") -> Arrival:
        (found,) = [
            one
            for one in Inbox(SourceFolder(self.inbox), 0.0, Backoff(1, 0.1, 0.1)).scan(10**10).settled
            if one.name == name
        ]
        return found

    def written(self, name: str = "a.json", content: bytes = CONTENT) -> Path:
        path = self.inbox / name
        path.write_bytes(content)
        return path

    def copied(self, seq: int = 1) -> Copy:
        return self.taking.copy(self.arrival(), seq, ParseContext(0, 0))

    def hidden(self, seq: int = 1) -> Copy:
        self.written()
        return self.taking.hide(self.copied(seq))

    def enter(self, copy: Copy) -> None:
        one = copy.stored
        self.known[one.seq] = Drop(one.seq, one.name, one.path, one.sha256, one.size_bytes, ParseContext(0, 0))

    def shown(self) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in self.inbox.iterdir() if not p.name.startswith(".")}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.fixture
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    """No lease can be had, as on another user's file. (Real users: tests/system/test_foreign_writers.py.)"""
    monkeypatch.setattr(writers, "_lease", lambda descriptor: Writer.UNKNOWN)


def test_a_drop_leaves_once_the_ledger_knows_it(bench: Bench) -> None:
    """The plain case: nothing of it stays."""
    copy = bench.hidden()
    assert bench.shown() == {}
    bench.enter(copy)
    bench.taking.remove([copy])
    assert os.listdir(bench.inbox) == [] and bench.taking.kept == []


def test_a_writer_that_opened_it_before_the_rename_gets_it_back(bench: Bench) -> None:
    """It holds the file open, and writes later: nothing is archived, and the name is as before."""
    path = bench.written()
    copy = bench.copied()
    with open(path, "ab") as writer:
        with pytest.raises(NotTaken, match="open for writing"):
            bench.taking.hide(copy)
        writer.write(b"more")
    assert bench.shown() == {"a.json": CONTENT + b"more"}


def test_a_writer_that_comes_by_another_link_makes_a_new_drop(bench: Bench, tmp_path: Path) -> None:
    """The hidden name is not the only one of the file: it is asked again before it is removed, open or changed."""
    for closes in (False, True):
        path = bench.written()
        link = tmp_path / "elsewhere"
        os.link(path, link)
        copy = bench.taking.hide(bench.copied())
        bench.enter(copy)
        with open(link, "ab") as writer:
            writer.write(b" ")
            writer.flush()
            if closes:
                writer.close()
            bench.taking.remove([copy])
        assert bench.shown() == {"a.json": CONTENT + b" "}
        path.unlink()
        link.unlink()


def test_a_new_drop_under_the_name_is_not_replaced(bench: Bench) -> None:
    """The appender made a file of the same name meanwhile: what was hidden comes back under one like it."""
    copy = bench.hidden()
    assert copy.hidden is not None
    (bench.inbox / copy.hidden.hidden_name).write_bytes(CONTENT + b"\n")
    bench.written(content=b"[2]")
    bench.enter(copy)
    bench.taking.remove([copy])
    assert bench.shown() == {"a.json": b"[2]", "a-1.json": CONTENT + b"\n"}


@pytest.mark.usefixtures("foreign")
def test_a_file_of_which_nobody_can_tell_is_kept_and_looked_at_again(bench: Bench) -> None:
    """For `foreign_settle_seconds`; unchanged it goes then, and what has grown is a new drop."""
    for grows in (False, True):
        copy = bench.hidden()
        bench.enter(copy)
        bench.taking.remove([copy])
        assert copy.hidden is not None
        hidden = bench.inbox / copy.hidden.hidden_name
        assert hidden.exists() and bench.taking.kept == ["a.json"] and bench.taking.due_seconds == FOREIGN_SECONDS
        bench.now += FOREIGN_SECONDS - 1
        bench.taking.check_kept()
        assert hidden.exists()
        if grows:
            with open(hidden, "ab") as writer:
                writer.write(b" ")
        bench.now += 1
        bench.taking.check_kept()
        assert bench.shown() == ({"a.json": CONTENT + b" "} if grows else {})
        assert bench.taking.kept == [] and not hidden.exists()


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("grows", [False, True])
def test_a_start_goes_on_with_what_a_crash_left_kept(bench: Bench, grows: bool) -> None:
    """The same wait, the same answer."""
    copy = bench.hidden()
    bench.enter(copy)
    bench.taking.remove([copy])
    after = bench.new()
    after.recover(InboxFolder(bench.inbox))
    assert after.kept == ["a.json"]
    if grows:
        assert copy.hidden is not None
        (bench.inbox / copy.hidden.hidden_name).write_bytes(CONTENT + b" ")
    bench.now += FOREIGN_SECONDS
    after.check_kept()
    assert bench.shown() == ({"a.json": CONTENT + b" "} if grows else {}) and after.kept == []


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("is_open", [False, True])
def test_a_start_finishes_hidden_files(bench: Bench, known: bool, is_open: bool) -> None:
    """Known and closed: it goes. Unknown, or open for writing: it gets its name back."""
    copy = bench.hidden()
    assert copy.hidden is not None
    if known:
        bench.enter(copy)
    with open(bench.inbox / copy.hidden.hidden_name, "r+b" if is_open else "rb"):
        bench.new().recover(InboxFolder(bench.inbox))
    assert bench.shown() == ({} if known and not is_open else {"a.json": CONTENT})


def test_a_hidden_file_of_another_drop_gets_its_name_back(bench: Bench) -> None:
    """Its number was given again: its bytes decide, not the number."""
    copy = bench.hidden()
    bench.enter(copy)
    assert copy.hidden is not None
    (bench.inbox / copy.hidden.hidden_name).write_bytes(CONTENT.replace(b"1,", b"2,"))
    bench.new().recover(InboxFolder(bench.inbox))
    assert bench.shown() == {"a.json": CONTENT.replace(b"1,", b"2,")}


def test_sizes_are_compared_before_anything_is_read(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hidden file of 30 GB is not hashed to find out that it is another."""
    copy = bench.hidden()
    bench.enter(copy)
    assert copy.hidden is not None
    os.truncate(bench.inbox / copy.hidden.hidden_name, 30 << 30)
    monkeypatch.setattr(module.files, "sha256_of_open", lambda descriptor: pytest.fail("it was read"))
    bench.new().recover(InboxFolder(bench.inbox))
    assert [name for name in os.listdir(bench.inbox) if not name.startswith(".")] == ["a.json"]


@pytest.mark.parametrize(
    "name",
    [
        ".strandline-9-.",
        ".strandline-9-..",
        ".strandline-1-x.json",
        ".strandline-1-0123456789abcdef-.",
        ".strandline-1-0123456789abcdef-.x.json",
        ".strandline-put-0123456789abcdef",
    ],
)
def test_a_hidden_name_that_is_not_ours_is_left_alone(bench: Bench, name: str) -> None:
    """Impossible names are nobody's drop."""
    (bench.inbox / name).write_bytes(CONTENT)
    bench.taking.recover(InboxFolder(bench.inbox))
    assert os.listdir(bench.inbox) == [name]


def test_what_a_crash_left_half_copied_is_removed_when_it_is_old(bench: Bench) -> None:
    """Its source was kept."""
    path = bench.inbox / ".strandline-put-0123456789abcdef"
    path.write_bytes(b"half")
    os.utime(path, (1e9, 1e9))
    bench.taking.recover(InboxFolder(bench.inbox))
    assert os.listdir(bench.inbox) == []


# ---------------------------------------------------------------------------------------------------------------- jokers


def _link(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def _hard_link(path: Path, victim: Path) -> None:
    os.link(victim, path)


def _fifo(path: Path, victim: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path, victim: Path) -> None:
    path.mkdir()


def _other_file(path: Path, victim: Path) -> None:
    path.write_bytes(b"somebody else's")


def _nothing(path: Path, victim: Path) -> None:
    return


def _not_permitted(*_: object, **__: object) -> None:
    raise PermissionError(1, "Operation not permitted")


THINGS: list[Callable[[Path, Path], None]] = [_link, _hard_link, _fifo, _folder, _other_file, _nothing]


def _contents(folder: Path) -> dict[str, object]:
    """What there is, by name: the text of a link, the bytes of a file, or the kind."""
    return {path.name: _content(path) for path in folder.iterdir()}


def _content(path: Path) -> object:
    if path.is_symlink():
        return path.readlink()
    return path.read_bytes() if path.is_file() else path.stat().st_mode


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_swapped_in_between_look_and_copy_is_not_taken(
    bench: Bench, tmp_path: Path, thing: Callable[[Path, Path], None]
) -> None:
    """Nothing is read of it, nothing is lost of it."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of the operator")
    path = bench.written()
    arrival = bench.arrival()
    path.unlink()
    thing(path, victim)
    before = _contents(bench.inbox)
    with pytest.raises(NotTaken):
        bench.taking.copy(arrival, 1, ParseContext(0, 0))
    assert _contents(bench.inbox) == before and victim.read_bytes() == b"of the operator"
    assert list((bench.output / ".staging").iterdir()) == []


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_swapped_in_between_copy_and_hiding_gets_its_name_back(
    bench: Bench, tmp_path: Path, thing: Callable[[Path, Path], None]
) -> None:
    """A rename takes whatever is there; it is looked at afterwards."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of the operator")
    path = bench.written()
    copy = bench.copied()
    path.unlink()
    thing(path, victim)
    before = _contents(bench.inbox)
    with pytest.raises(NotTaken):
        bench.taking.hide(copy)
    assert _contents(bench.inbox) == before and victim.read_bytes() == b"of the operator"


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_swapped_in_under_the_hidden_name_is_not_removed(
    bench: Bench, tmp_path: Path, thing: Callable[[Path, Path], None]
) -> None:
    """It is not what was copied: it gets a name, or is reported and left."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of the operator")
    copy = bench.hidden()
    bench.enter(copy)
    assert copy.hidden is not None
    hidden = bench.inbox / copy.hidden.hidden_name
    hidden.unlink()
    thing(hidden, victim)
    before = list(_contents(bench.inbox).values())
    bench.taking.remove([copy])
    bench.now += 10
    bench.taking.check_kept()
    assert list(_contents(bench.inbox).values()) == before and victim.read_bytes() == b"of the operator"


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_swapped_in_while_a_file_gets_its_name_back_ends_nothing(
    bench: Bench, tmp_path: Path, thing: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the new link and the removal of the hidden name: what is there then is not ours to remove, and no error of it is
    more than this file's own."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of the operator")
    sync = InboxFolder.sync

    def swap(folder: InboxFolder) -> None:
        sync(folder)
        for hidden in [path for path in bench.inbox.iterdir() if path.name.startswith(".strandline-1-")]:
            hidden.unlink()
            thing(hidden, victim)

    path = bench.written()
    copy = bench.copied()
    monkeypatch.setattr(InboxFolder, "sync", swap)
    with open(path, "ab"), pytest.raises(NotTaken, match="open for writing"):
        bench.taking.hide(copy)
    assert bench.shown()["a.json"] == CONTENT and victim.read_bytes() == b"of the operator"
    assert len(os.listdir(bench.inbox)) == (1 if thing is _nothing else 2)


@pytest.mark.parametrize("linkable", [True, False])
def test_a_hidden_file_that_vanishes_is_nobodys_error(
    bench: Bench, linkable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody removed it before it got its name back, where hard links can be made and where not."""
    if not linkable:
        monkeypatch.setattr(os, "link", _not_permitted)
    copy = bench.hidden()
    assert copy.hidden is not None
    (bench.inbox / copy.hidden.hidden_name).unlink()
    bench.taking.undo([copy])
    assert bench.taking.kept == [] and os.listdir(bench.inbox) == []


def test_a_file_that_cannot_get_its_name_back_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up nothing, and is not forgotten."""
    copy = bench.hidden()

    def broken(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", broken)
        bench.taking.undo([copy])
        assert bench.taking.kept == ["a.json"]
    bench.now += 2
    bench.taking.check_kept()
    assert bench.shown() == {"a.json": CONTENT} and bench.taking.kept == []


def test_a_rewrite_of_equal_size_whose_mtime_was_restored_is_a_new_drop(bench: Bench, tmp_path: Path) -> None:
    """Nobody can set a ctime: where it changed, the hash decides."""
    for content in (CONTENT, CONTENT.replace(b"1,", b"2,")):
        path = bench.written()
        os.link(path, tmp_path / "elsewhere")
        copy = bench.taking.hide(bench.copied())
        bench.enter(copy)
        times = os.stat(tmp_path / "elsewhere")
        (tmp_path / "elsewhere").write_bytes(content)
        os.utime(tmp_path / "elsewhere", ns=(times.st_atime_ns, times.st_mtime_ns))
        bench.taking.remove([copy])
        assert bench.shown() == ({} if content == CONTENT else {"a.json": content})
        (tmp_path / "elsewhere").unlink()


@pytest.mark.parametrize("thing", THINGS[:-1])
def test_even_a_guessed_name_is_not_used(
    bench: Bench, tmp_path: Path, thing: Callable[[Path, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random names cannot be guessed; if one were, what is there would neither be replaced nor written to."""
    victim = tmp_path / "victim"
    victim.write_bytes(b"of the operator")
    monkeypatch.setattr(secrets, "token_hex", lambda size: "0" * 2 * size)
    folder = InboxFolder(bench.inbox)
    bench.written()
    copy = bench.copied()
    guessed = [
        ".strandline-1-0000000000000000-a.json",
        ".strandline-probe-0000000000000000",
        ".strandline-put-0000000000000000",
    ]
    for name in guessed:
        thing(bench.inbox / name, victim)
    before = _contents(bench.inbox)
    with pytest.raises(NotTaken):
        bench.taking.hide(copy)
    with pytest.raises(OSError, match="exists"), folder.probe(inbox_folder.probe_name()):
        pass
    with pytest.raises(OSError, match="exists"):
        folder.put(victim, "b.json", may_link=False)
    assert _contents(bench.inbox) == before and victim.read_bytes() == b"of the operator"


def test_where_no_hard_links_can_be_made_a_name_in_use_is_not_replaced_either(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's file may often not be linked; with renameat2 and without."""
    monkeypatch.setattr(os, "link", _not_permitted)
    for number in range(2):
        copy = bench.hidden()
        bench.written(content=b"[2]")
        bench.taking.undo([copy])
        assert bench.shown() == {"a.json": b"[2]", "a-1.json": CONTENT}
        for path in bench.inbox.iterdir():
            path.unlink()
        if not number:
            monkeypatch.setattr(inbox_folder, "_renameat2", None)


def test_a_file_with_holes_is_not_copied(bench: Bench) -> None:
    """Its bytes were never written: 3 GB of nothing would become 3 GB of zeros."""
    with open(bench.inbox / "a.json", "wb") as file:
        file.write(b"[")
        file.truncate(3 << 30)
        file.seek((3 << 30) - 1)
        file.write(b"]")
    with pytest.raises(NotTaken, match="holes"):
        bench.copied()
    assert list((bench.output / ".staging").iterdir()) == []


def test_a_file_that_grows_without_end_is_not_copied_without_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copying ends once it is larger than it was when it was looked at."""
    bench.written()
    arrival = bench.arrival()
    block, copied = b"x" * (1 << 20), [0]

    def endless(descriptor: int) -> bytes:
        copied[0] += len(block)
        assert copied[0] < 100 << 20
        return block

    monkeypatch.setattr(module.files, "_read_block", endless)
    with pytest.raises(NotTaken, match="changed"):
        bench.taking.copy(arrival, 1, ParseContext(0, 0))


NOW = 1_780_000_000_000_000


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
    with open_engine(tmp_path) as engine:
        inbox = Inbox(SourceFolder(tmp_path / "inbox"), 0.0, Backoff(3, 0.01, 0.01))
        service = Service(
            engine,
            Inboxes([inbox]),
            TERMS,
            [heard],
            lambda: recover(engine, [SourceFolder(tmp_path / "inbox")], {"default": ParseContext(0, DAY)}),
        )
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
    monkeypatch.setattr(files, "write_all", Mock(side_effect=OSError(errno.EIO, "Input/output error")))
    heard = Heard()
    with pytest.raises(OSError, match="Input/output error"):
        run(tmp_path, heard)
    assert heard.refusals == []


def test_a_drop_that_changes_between_look_and_copy_is_a_new_drop_later(tmp_path: Path) -> None:
    """What was seen is not there any more: nothing is taken, and nothing is lost."""
    drop(tmp_path, "a.json", json.dumps([order(1)]).encode())
    with open_engine(tmp_path) as engine:
        look = Inbox(SourceFolder(tmp_path / "inbox"), 0.0, Backoff(1, 0.1, 0.1)).scan(10**10)
        os.unlink(tmp_path / "inbox" / "a.json")
        outcome, refused = take(engine, look.settled, {"default": ParseContext(NOW, DAY)}, NOW)
        assert outcome is None and refused == []
    drop(tmp_path, "a.json", json.dumps([order(2)]).encode())
    assert run(tmp_path).applied == 1
