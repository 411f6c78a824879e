"""The real daemon removes what is old: once its configuration says so, and after it was killed while it did."""

from __future__ import annotations

import signal
import time
from contextlib import closing
from pathlib import Path

from daemon.storage import ages
from daemon.storage.ledger import Ledger
from tests.support.command import as_drop, differences, order
from tests.support.daemon_process import place, running, series, until
from tests.support.harness import apply_batch, open_engine, tree

DROPS = 600
BEGIN = "[watch]\nsettle_seconds = 0\nrescan_seconds = 0.2\n"


def raw_copies(home: Path) -> int:
    return sum(1 for path in (home / "output" / "raw").glob("received=*/*") if path.is_file())


def swept(home: Path) -> bool:
    with closing(Ledger(home / "output" / "state" / "ledger.sqlite", read_only=True)) as ledger:
        horizon = ages.only(ledger.horizons(), ages.RAW)
        return horizon.swept == horizon.through == DROPS


def test_a_daemon_that_is_killed_while_it_removes_copies_goes_on_at_the_next_start(tmp_path: Path) -> None:
    """SIGHUP brings the age. All that is old has gone in the end, the metrics tell it, and nothing else has changed."""
    place(tmp_path / "config.toml", BEGIN.encode())
    then = time.time_ns() // 1000 - 500 * 86_400_000_000
    with open_engine(tmp_path) as engine:
        many = [(f"{number:04}.json", as_drop([order(number % 50, amount=number)])) for number in range(DROPS)]
        apply_batch(engine, tmp_path, many, then, tolerance=10**18)
    published = tree(tmp_path / "output" / "curated")
    with running(tmp_path) as daemon:
        assert raw_copies(tmp_path) == DROPS
        place(tmp_path / "config.toml", f'{BEGIN}[raw]\nkeep = "400d"\n'.encode())
        daemon.process.send_signal(signal.SIGHUP)
        until((tmp_path / "output" / ages.MARKER).exists, "it begins to remove copies")
        daemon.process.kill()
        daemon.process.wait()
    with running(tmp_path) as daemon:
        until(lambda: swept(tmp_path), "the rest goes")
        place(daemon.inbox / "new.json", as_drop([order(1, amount=7, updated_at="2026-03-09")]))
        daemon.applied("new.json")
        until(lambda: daemon.said("old copies removed"), "the log tells it")
        told = daemon.said("old copies removed")[0]
        counted = daemon.metrics()[series("strandline_aged_files_total", kind="raw")]
        assert (told["kind"], told["through"], told["files"]) == ("raw", DROPS, counted)
    assert raw_copies(tmp_path) == 1
    assert differences(tmp_path) == []
    after = tree(tmp_path / "output" / "curated")
    assert {name for name in published if published[name] != after[name]} <= {
        "date=2026-03-02/fact_order.parquet", "date=2026-03-02/order_items.parquet",
    }  # fmt: skip
