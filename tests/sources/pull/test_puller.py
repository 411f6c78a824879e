"""When the daemon may begin a round."""

from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from daemon.sources.pull import puller as pullers
from daemon.sources.pull.outcome import Pulled
from daemon.sources.pull.puller import Gate, Puller
from daemon.stopping import Stop
from daemon.storage.ledger import Ledger
from daemon.wiring import engine, pulled_source
from tests.support.pulls import Home

GIB = 1 << 30


def disk(monkeypatch: pytest.MonkeyPatch, whole: int, free: int) -> None:
    found = SimpleNamespace(f_frsize=4096, f_blocks=whole // 4096, f_bavail=free // 4096)
    monkeypatch.setattr(os, "statvfs", lambda path: found)


@pytest.mark.parametrize(
    ("whole", "free", "is_closed"),
    [
        (500 * GIB, 2 * GIB, False),
        (500 * GIB, GIB - 4096, True),
        (2 * GIB, GIB // 8, False),
        (2 * GIB, GIB // 11, True),
    ],
)
def test_no_round_begins_while_the_disk_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: int, free: int, is_closed: bool
) -> None:
    disk(monkeypatch, whole, free)
    assert ("nearly full" in Gate(tmp_path).why_closed()) == is_closed


def test_no_round_begins_while_the_daemon_is_paused_or_the_output_is_gone(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    assert gate.why_closed() == ""
    gate.is_paused = True
    assert "paused" in gate.why_closed()
    assert "No such file" in Gate(tmp_path / "gone").why_closed()


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.rounds: list[Pulled] = []
        self.notes: list[str] = []

    def pulled(self, one: Pulled, now: float) -> None:
        self.rounds.append(one)


def puller(home: Home, heard: Heard) -> Puller:
    with engine(home.config, Stop()):  # makes the folders and the ledger
        pass
    source = pulled_source(home.config, "shop", {})
    return Puller(source, home.ledger, Gate(home.home / "output"), lambda: None, heard, heard.notes.append)


def test_the_thread_goes_on_whatever_a_round_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And waits no longer than a day, whatever a server says."""
    ended: list[Pulled | Exception] = [
        sqlite3.OperationalError("disk I/O error"), Pulled("shop"), Pulled("shop", wait_seconds=1e18),
    ]  # fmt: skip

    def pull_round(*_: object, **__: object) -> Pulled:
        found = ended.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(pullers, "pull_round", pull_round)
    heard = Heard()
    one = puller(Home(tmp_path, 'url = "http://127.0.0.1:9/"\nevery = 0.1'), heard)
    waits: list[float] = []
    monkeypatch.setattr(one._stop, "wait", lambda seconds: waits.append(seconds) or len(waits) > 3)
    one._run()
    assert [round_.outcome for round_ in heard.rounds] == ["failed", "succeeded", "succeeded"]
    assert "disk I/O error" in heard.rounds[0].error and waits[-1] == 86_400


def test_a_page_that_is_not_taken_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the log and in the ledger, after a minute; a folder with such a name is no page."""
    heard = Heard()
    one = puller(Home(tmp_path, 'url = "http://127.0.0.1:9/"'), heard)
    inbox = tmp_path / "inbox" / "shop"
    (inbox / "shop-000001-00002.json").mkdir()
    assert one._waiting() == []
    (inbox / "shop-000001-00001-1.json").write_bytes(b"[]")
    one._turn()
    assert heard.notes == []
    monkeypatch.setattr(pullers, "_WAITING_SECONDS", 0.0)
    one._turn()
    one._turn()
    (note,) = heard.notes
    assert "still in the inbox, such as shop-000001-00001-1.json" in note
    assert [round_.outcome for round_ in heard.rounds] == ["failed"]
    assert "still in the inbox" in Ledger.pull_state_of(tmp_path / "output" / "state" / "ledger.sqlite", "shop").error


def test_a_source_has_one_round_at_a_time_also_after_its_thread_was_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A configuration was read again while a request waits for its answer: the next thread waits for that round."""
    begun, go_on = threading.Semaphore(0), threading.Event()
    under_way, most = 0, 0

    def pull_round(*_: object, **__: object) -> Pulled:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        begun.release()
        go_on.wait(60)
        under_way -= 1
        return Pulled("shop")

    monkeypatch.setattr(pullers, "pull_round", pull_round)
    monkeypatch.setattr(pullers, "_JOIN_SECONDS", 0.01)
    home = Home(tmp_path, 'url = "http://127.0.0.1:9/"\nevery = 0.1')
    with puller(home, Heard()):
        assert begun.acquire(timeout=60)
    with puller(home, Heard()):
        assert not begun.acquire(timeout=0.3)  # of a thread that would not wait, it would be there at once
        go_on.set()
        assert begun.acquire(timeout=60)
    assert most == 1
