"""`history`: all drops in order, in bounded memory; and the time zone of what people read."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from daemon.observe.pages.filters import moment
from daemon.operate import history, status
from daemon.operate.downstreams import table as downstreams_table
from daemon.operate.pull import pull_rows
from daemon.storage import ledger_queries
from daemon.storage.lock import _described
from daemon.storage.receipts import local_text
from tests.support.command import drop, once, order, strandline
from tests.support.harness import apply_batch, open_engine

NOW = 1_772_445_600_000_000  # 2026-03-02T10:00:00Z
HOUR = 3_600_000_000


@pytest.fixture
def kolkata(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Half an hour beside the hours of UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_every_drop_is_there_once_and_the_newest_is_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By batch, then by number, whatever the size of a page; `--since` leaves out the older ones."""
    with open_engine(tmp_path) as engine:
        for number in range(3):
            drops = [(f"{number}-{name}.json", json.dumps([order(number)]).encode()) for name in "ab"]
            apply_batch(engine, tmp_path, [*drops, (f"{number}-c.json", b"null")], NOW + number * HOUR)
        whole = [json.loads("\n".join(history.as_json(engine.ledger.by_batch(0))))]
        for rows in (1, 2, 4):
            monkeypatch.setattr(ledger_queries, "_PAGE_ROWS", rows)
            whole.append(json.loads("\n".join(history.as_json(engine.ledger.by_batch(0)))))
        assert all(one == whole[0] for one in whole)
        assert [(one["batch"], one["drop"]) for one in whole[0]] == [(1 + n // 3, 1 + n) for n in range(9)]
        assert {one["outcome"] for one in whole[0]} == {"applied", "duplicate", "quarantined"}
        assert whole[0][0]["committed_at"] == whole[0][0]["received_at"] == "2026-03-02T10:00:00Z"
        newer = list(history.as_json(engine.ledger.by_batch(NOW + HOUR)))
        assert [one["drop"] for one in json.loads("".join(newer))] == [4, 5, 6, 7, 8, 9]
        assert json.loads("".join(history.as_json(engine.ledger.by_batch(NOW * 2)))) == []


def test_a_page_is_all_that_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table begins before the second page is read."""
    monkeypatch.setattr(ledger_queries, "_PAGE_ROWS", 2)
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [(f"{n}.json", f"[{n}]".encode()) for n in range(5)], NOW)
        asked: list[str] = []
        engine.ledger._sql.set_trace_callback(lambda text: asked.append(text) if "LIMIT" in text else None)
        lines = history.table(engine.ledger.by_batch(0))
        next(lines), next(lines), next(lines)
        assert len(asked) == 1
        assert len(list(lines)) == 5 and len(asked) == 4


def test_an_instant_within_a_reason_is_in_local_time(tmp_path: Path, kolkata: None) -> None:
    """In the table, beside other local times; the array has it as the ledger does."""
    why = "discarded by ada at 2026-03-02T10:00:00Z (junk); from 2026-03-01T00:00:00Z on"
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", b"null")], NOW)
        engine.ledger._sql.execute("UPDATE drops SET reason = ?", (why,))
        shown = list(history.table(engine.ledger.by_batch(0)))[1]
        assert "discarded by ada at 2026-03-02 15:30:00+05:30 (junk); from 2026-03-01T00:00:00Z on" in shown
        assert why in "".join(history.as_json(engine.ledger.by_batch(0)))


def test_the_table_is_in_local_time_and_the_array_in_utc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the real command, with TZ: history, status and the console log; JSON and the JSON log stay in UTC."""
    monkeypatch.setenv("TZ", "Asia/Kolkata")
    drop(tmp_path, "a\x1b.json", [order(1)])
    ended = once(tmp_path, LOG__FORMAT="console")
    assert all(line.split(" ")[0].endswith("+05:30") for line in ended.stderr.splitlines()), ended.stderr
    drop(tmp_path, "b.json", [order(2)])
    assert all(json.loads(line)["at"].endswith("Z") for line in once(tmp_path).stderr.splitlines())
    heading, first, second, _, last = strandline(tmp_path, "history").stdout.splitlines()
    assert last.startswith("2 drops: 2 applied")
    assert heading.split()[:4] == ["BATCH", "COMMITTED", "DROP", "OUTCOME"]
    assert "+05:30" in first and "\x1b" not in first and second.split()[-2:] == ["1", "new"]
    rows = json.loads(strandline(tmp_path, "history", "--json").stdout)
    assert len(rows) == 2 and all(one["committed_at"].endswith("Z") for one in rows)
    at = " ".join(second.split()[1:3])  # what is read can be given back
    assert datetime.fromisoformat(at).utcoffset() == datetime.fromisoformat("2026-01-01T00:00+05:30").utcoffset()
    since = [one["drop"] for one in rows if datetime.fromisoformat(one["received_at"]) >= datetime.fromisoformat(at)]
    assert 2 in since  # and the first, if both came within a second
    found = json.loads(strandline(tmp_path, "history", "--json", "--since", at).stdout)
    assert [one["drop"] for one in found] == since
    assert json.loads(strandline(tmp_path, "history", "--json", "--since", "9999-01-01").stdout) == []
    shown = strandline(tmp_path, "status").stdout
    assert "High-water mark   2026-03-02 15:30:00+05:30" in shown
    assert json.loads(strandline(tmp_path, "status", "--json").stdout)["high_water_mark"] == "2026-03-02T10:00:00Z"
    assert strandline(tmp_path / "..", "history", PATHS__OUTPUT=str(tmp_path / "none")).returncode == 2


def test_what_people_read_has_the_local_time_and_its_offset(kolkata: None) -> None:
    """The page, pulls, downstreams, the holder of the lock; to the second, and at the ends of the calendar."""
    utc, local = "2026-03-02T10:00:00.25Z", "2026-03-02 15:30:00+05:30"
    assert local_text(utc) == moment(utc) == local
    assert (local_text(None, "never"), moment(None)) == ("never", "–")
    assert local_text("9999-12-31T23:59:59.999999Z").startswith("9999-12-31 23:59:59")
    pulled = {"cursor": utc, "succeeded_at": None, "error": ""}
    assert pull_rows({"shop": {"pull": pulled}}) == [("shop", f"cursor {local}", "last success (never)", "")]
    holder = {"host": "h", "pid": 1, "since": "2026-03-02T10:00:00+00:00"}
    assert _described(holder).endswith(f"since {local}") and status._running(holder).endswith(f"since {local}")
    one = {
        "kind": "model", "name": "m", "reads": [], "lookback": 0, "rows": 0, "last_success": utc, "seconds": 1.0,
        "stale": 0, "waits_for": [], "error": None, "whole": False, "failures": 0,
    }  # fmt: skip
    assert local in downstreams_table([one])
