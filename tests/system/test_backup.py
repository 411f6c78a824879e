"""`strandline backup` beside a real daemon under load, and what a restore of it is worth."""

from __future__ import annotations

import itertools
import json
import threading
from contextlib import contextmanager
from pathlib import Path

from tests.support.command import differences, drop, once, order, strandline
from tests.support.daemon_process import Daemon, place, running, until
from tests.support.harness import rows


@contextmanager
def load(daemon: Daemon):
    """Drops that correct the same five dates over and over, with broken ones, and some that come twice."""
    stop = threading.Event()

    def write() -> None:
        for number in itertools.count():
            orders = [
                order(n, day=2 + n % 5, amount=number, updated_at=f"2026-03-20T10:00:00.{number:06d}Z")
                for n in range(40)
            ]
            content = json.dumps([*orders, {"order_id": "bad"}]).encode()
            place(daemon.inbox / f"{number}.json", content)
            if number % 3 == 0:
                place(daemon.inbox / f"again-{number}.json", content)
                place(daemon.inbox / f"broken-{number}.json", b"[1, null")
            if stop.wait(0.05):
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        stop.set()
        writer.join()


def test_a_backup_beside_a_daemon_under_load_is_whole(tmp_path: Path) -> None:
    """It is one state to the last file: raw copies give every partition again, and a model its results. The restored output goes
    on: it takes the next drop. Nobody's work fails meanwhile, and nothing is written over."""
    home, copy, new = tmp_path / "home", str(tmp_path / "backup"), tmp_path / "new"
    (home / "models").mkdir(parents=True)
    (home / "models" / "daily.sql").write_text("SELECT date, sum(amount) AS amount FROM fact_order GROUP BY date")
    with running(home) as daemon, load(daemon):
        until(lambda: len(list((daemon.output / "receipts").rglob("*.json"))) > 12)
        ended = strandline(home, "backup", copy, "--json")
        assert ended.returncode == 0, ended.stderr
        made = json.loads(ended.stdout)
        until(lambda: len(list((daemon.output / "receipts").rglob("*.json"))) > made["drops"] + 3)
        assert not [event for event in daemon.events() if event["level"] == "error"]
    new.mkdir()
    (new / "models").symlink_to(home / "models")
    ended = strandline(new, "restore", copy)
    assert ended.returncode == 0 and f"{made['drops']:,} drops" in ended.stdout
    assert differences(new) == []
    drop(new, "next.json", [order(1000, day=9)])
    assert once(new).returncode in (0, 1)  # broken drops that waited
    assert [row["order_id"] for row in rows(new / "output", "2026-03-09")] == ["o_1000"]
    assert (new / "output" / "models" / "daily" / "date=2026-03-09" / "daily.parquet").exists()
    again = strandline(new, "restore", copy)
    assert again.returncode == 2 and "not empty" in again.stderr
