"""`strandline pause` and `resume`: no drop is taken in between, by a daemon or by --once, also after a kill."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from daemon.cli import main
from daemon.storage.pause import pause
from tests.support.command import differences, drop, once, order, receipts, strandline
from tests.support.daemon_process import place, started, until

SETTLED = {"WATCH__SETTLE_SECONDS": "0", "WATCH__RESCAN_SECONDS": "0.2"}


def test_a_paused_daemon_serves_and_takes_nothing_until_it_is_resumed(tmp_path: Path) -> None:
    """It says so everywhere, and a kill does not end the pause."""
    daemon = started(tmp_path, **SETTLED)
    try:
        until(daemon.ready, "ready")
        place(daemon.inbox / "before.json", json.dumps([order(1)]).encode())
        daemon.applied("before.json")
        said = strandline(tmp_path, "pause", "--reason", "stock-taking").stdout
        assert "paused since" in said and "(stock-taking)" in said and "strandline resume" in said
        place(daemon.inbox / "later.json", json.dumps([order(2)]).encode())
        until(lambda: daemon.metrics()["strandline_inbox_pending_drops"] == 1, "the drop was seen")
        until(lambda: daemon.said("(stock-taking): no drop is taken"), "the log says so")
        code, why = daemon.get("/-/ready")
        assert code == 503 and "paused since" in why and "(stock-taking)" in why
        assert daemon.get("/-/healthy")[0] == 200
        assert json.loads(daemon.get("/api/status")[1])["paused"]["reason"] == "stock-taking"
        assert '<span class="badge warn">paused</span>' in daemon.get("/")[1]
        assert daemon.metrics()["strandline_pause_timestamp_seconds"] > 1_700_000_000
        assert "(stock-taking)" in strandline(tmp_path, "status").stdout

        daemon.process.kill()
        daemon.process.wait()
        daemon = started(tmp_path, **SETTLED)
        until(lambda: daemon.get("/-/healthy")[0] == 200, "it serves")
        until(lambda: daemon.metrics()["strandline_inbox_pending_drops"] == 1, "the inbox was scanned")
        assert daemon.receipt("later.json") is None and (daemon.inbox / "later.json").exists()
        assert daemon.get("/-/ready")[0] == 503

        assert "drops are taken within 0.2 s by the daemon" in strandline(tmp_path, "resume", **SETTLED).stdout
        assert daemon.applied("later.json")["records"]["new"] == 1
        until(daemon.ready, "ready again")
        assert daemon.metrics()["strandline_pause_timestamp_seconds"] == 0
        assert daemon.said("resumed: drops are taken")
        assert daemon.stop() == 0
    finally:
        daemon.process.kill()
        daemon.process.wait()
    assert differences(tmp_path) == []


def test_once_and_pull_take_nothing_while_it_is_paused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--once ends with 1 and leaves the inbox and the APIs alone; `pull` is refused. Both say why."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output" / "state").mkdir(parents=True)
    pause(tmp_path / "output", 1_700_000_000.0, "")
    drop(tmp_path, "a.json", [order(1)])
    (tmp_path / "config.toml").write_text('[sources.shop.pull]\nurl = "http://127.0.0.1:9/"\n')
    textfile = tmp_path / "metrics.prom"
    ended = once(tmp_path, METRICS__TEXTFILE=str(textfile))
    assert ended.returncode == 1 and "no drop is taken" in ended.stderr
    assert (tmp_path / "inbox" / "a.json").exists() and receipts(tmp_path) == {}
    assert json.loads(ended.stderr.splitlines()[-1])["left"] == ["a.json"]
    lines = textfile.read_text().splitlines()
    assert "strandline_pause_timestamp_seconds 0.0" not in lines
    assert 'strandline_pull_rounds_total{outcome="failed",source="shop"} 0.0' in lines
    ended = strandline(tmp_path, "pull", "shop")
    assert ended.returncode == 2 and "run `strandline resume` first" in ended.stderr

    assert main(["resume"]) == 0
    (tmp_path / "config.toml").unlink()
    assert once(tmp_path).returncode == 0
    assert receipts(tmp_path)["1:a.json"]["records"]["new"] == 1
