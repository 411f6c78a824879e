"""The watcher over real folders: what it hears, and how it finds out that it hears nothing any more."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.sources.source_folder import SourceFolder
from daemon.sources.watcher import Watcher


class Listening:
    """A watcher and the bell that it rings."""

    def __init__(self, inbox: Path, mode: str = "native") -> None:
        inbox.mkdir(exist_ok=True)
        self.inbox = inbox
        self.bell = threading.Event()
        self.watcher = Watcher(SourceFolder(inbox), mode, 10.0, self.bell.set)
        self.first_notes = self.watcher.check()

    def rang(self) -> bool:
        heard = self.bell.wait(30)
        self.bell.clear()
        return heard


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    one = Listening(tmp_path / "inbox")
    yield one
    one.watcher.stop()


def heard_until(one: Listening, name: str) -> tuple[set[str], set[str]]:
    """All that is heard until a name has spoken."""
    names: set[str] = set()
    closed: set[str] = set()
    while name not in names:
        assert one.rang(), f"nothing heard of {name}"
        heard = one.watcher.take()
        names |= heard.names
        closed |= heard.closed
    return names, closed


def test_a_closed_and_a_moved_file_are_heard_as_closed_and_a_link_is_not(listening: Listening) -> None:
    """A link says that there is something, not that its writer is done."""
    (listening.inbox / "written.json").write_text("[]")
    while "written.json" not in heard_until(listening, "written.json")[1]:
        (listening.inbox / "written.json").touch()  # the creation was heard first; its closing comes
    (listening.inbox.parent / "outside").write_text("[]")
    os.link(listening.inbox.parent / "outside", listening.inbox / "linked.json")
    names, closed = heard_until(listening, "linked.json")
    assert "linked.json" in names and "linked.json" not in closed
    os.rename(listening.inbox.parent / "outside", listening.inbox / "moved.json")
    assert "moved.json" in heard_until(listening, "moved.json")[1]


def test_half_a_rename_holds_up_nothing_that_comes_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """watchdog would wait for the other half of a move out of the inbox, and let every later event wait with it."""
    grouper = pytest.importorskip("watchdog.observers.inotify_move_event_grouper").InotifyMoveEventGrouper
    monkeypatch.setattr(grouper, "delay", 40.0)  # longer than the limit of `rang`
    one = Listening(tmp_path / "inbox")
    try:
        (one.inbox / "leaves.json").write_text("x")
        os.rename(one.inbox / "leaves.json", tmp_path / "elsewhere.json")
        (one.inbox / "comes.json").write_text("x")
        heard_until(one, "comes.json")
    finally:
        one.watcher.stop()


def test_hidden_names_ring_no_bell(listening: Listening) -> None:
    """Ours and those of careful writers: the next name that rings is the visible one."""
    (listening.inbox / ".hidden").write_text("x")
    (listening.inbox / "a.json").write_text("x")
    assert listening.rang()
    assert ".hidden" not in listening.watcher.take().names


def test_an_overflowed_queue_is_noticed_in_watchdogs_log_and_rings(listening: Listening) -> None:
    """watchdog raises nothing and only logs; what was lost is found by looking."""
    logging.getLogger("watchdog.observers.inotify_c").warning("inotify queue overflow, some events lost")
    notes = listening.watcher.check()
    assert "overflow" in notes[0] and listening.bell.is_set()
    assert listening.watcher.check() == []


@pytest.mark.parametrize("victim", ["observer", "emitter"])
def test_a_dead_thread_is_noticed_and_replaced(listening: Listening, victim: str) -> None:
    """Whichever died; afterwards events come again."""
    watch = listening.watcher.watch
    observer = listening.watcher._observer
    threads = [observer] if victim == "observer" else list(observer.emitters)
    for thread in threads:
        thread.stop()
        thread.join(10)
    assert "died" in listening.watcher.check()[0]
    assert listening.watcher.watch == watch + 1 and listening.watcher.up
    listening.bell.clear()
    (listening.inbox / "a.json").write_text("x")
    heard_until(listening, "a.json")


def test_an_exception_in_the_callback_does_not_end_the_watch(tmp_path: Path) -> None:
    """In watchdog it would end the dispatching thread without a word."""
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    calls = threading.Semaphore(0)

    def wake() -> None:
        calls.release()
        raise RuntimeError("a mistake of ours")

    watcher = Watcher(SourceFolder(inbox), "native", 10.0, wake)
    watcher.check()
    try:
        for name in ("a.json", "b.json"):
            (inbox / name).write_text("x")
            assert calls.acquire(timeout=30)
        assert watcher.check() == [] and watcher.up
    finally:
        watcher.stop()


def test_a_replaced_inbox_is_noticed_by_its_identity(listening: Listening) -> None:
    """The old folder's watch lives on, deaf."""
    os.rename(listening.inbox, listening.inbox.with_name("old"))
    assert "cannot be read" in listening.watcher.check()[0]
    assert not listening.watcher.up
    listening.inbox.mkdir()
    assert "is back" in listening.watcher.check()[0]
    assert listening.watcher.up
    other = listening.inbox.with_name("other")
    other.mkdir()
    os.rename(listening.inbox, listening.inbox.with_name("older"))
    os.rename(other, listening.inbox)
    assert "replaced" in listening.watcher.check()[0]
    listening.bell.clear()
    (listening.inbox / "a.json").write_text("x")
    heard_until(listening, "a.json")


def test_auto_probes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """On a file system with events it relies on them, and says nothing."""
    one = Listening(tmp_path / "inbox", "auto")
    try:
        assert one.first_notes == [] and one.watcher.interval_seconds == 10.0
        assert list(one.inbox.iterdir()) == []
    finally:
        one.watcher.stop()


def test_auto_looks_every_second_where_the_probe_is_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on mounts that send no events."""
    monkeypatch.setattr("daemon.sources.watcher._EventHandler.dispatch", lambda *_: None)
    one = Listening(tmp_path / "inbox", "auto")
    try:
        assert "probe file gave no event" in one.first_notes[0] and one.watcher.interval_seconds == 1.0
        assert one.watcher.up
    finally:
        one.watcher.stop()


def test_auto_stops_relying_on_events_when_a_drop_came_without_one(tmp_path: Path) -> None:
    """A probe from inside proves nothing about writers on the other side of a mount; native is what was asked for."""
    for mode, expected in (("auto", 1.0), ("native", 10.0)):
        one = Listening(tmp_path / mode, mode)
        try:
            notes = one.watcher.missed(3)
            assert one.watcher.interval_seconds == expected
            assert bool(notes) == (mode == "auto")
            assert one.watcher.missed(1) == []  # said once
        finally:
            one.watcher.stop()


def test_polling_sets_no_watch_and_looks_often(tmp_path: Path) -> None:
    """There is nothing to hear, and nothing is wrong with that."""
    one = Listening(tmp_path / "inbox", "polling")
    assert one.watcher.up and one.watcher.interval_seconds == 1.0
    (one.inbox / "a.json").write_text("x")
    assert not one.bell.wait(0.2) and one.watcher.check() == []


def test_stopping_ends_every_thread(tmp_path: Path) -> None:
    """However often it was armed anew."""
    before = set(threading.enumerate())
    one = Listening(tmp_path / "inbox")
    for number in range(3):
        os.rename(one.inbox, one.inbox.with_name(f"old{number}"))
        one.inbox.mkdir()
        one.watcher.check()
    one.watcher.stop()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive(), thread
