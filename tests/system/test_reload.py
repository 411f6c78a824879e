"""SIGHUP: the real daemon reads its configuration again."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import differences, environment, order
from tests.support.daemon_process import LIMIT_SECONDS, Daemon, place, running, series, started, until
from tests.support.harness import rows

BEGIN = "[watch]\nsettle_seconds = 0\n[retry]\nattempts = 2\ninitial_delay_seconds = 0.05\nmax_delay_seconds = 0.1\n"
SECRET = "do-not-show-me"
DROPS = 15


def write(home: Path, text: str) -> None:
    """Replaces the configuration, as editors do."""
    home.mkdir(exist_ok=True, parents=True)
    place(home / "config.toml", text.encode())


def reloaded(daemon: Daemon, text: str) -> dict[str, Any]:
    """Has a daemon read another configuration; returns what it said in the end, with what it said of each setting."""
    before = len(daemon.events())
    write(daemon.home, text)
    daemon.process.send_signal(signal.SIGHUP)

    def answer() -> dict[str, Any] | None:
        new = daemon.events()[before:]
        ends = [
            one for one in new if one["event"].startswith(("configuration read again", "the configuration is wrong"))
        ]
        told = {one["setting"]: one for one in new if "setting" in one}
        return ends[-1] | {"settings": told} if ends else None

    return until(answer, "an answer to SIGHUP")


def in_rows(*numbers: int) -> bytes:
    """An envelope with its orders under a key that only records_path names."""
    return json.dumps({"rows": [order(number) for number in numbers]}).encode()


def test_a_right_configuration_takes_effect_without_a_restart(tmp_path: Path) -> None:
    """Another way to read drops, a source with its folder, series and mapping, a column. What was counted stays counted."""
    write(tmp_path, BEGIN)
    with running(tmp_path) as daemon:
        place(daemon.inbox / "before.json", json.dumps([order(1)]).encode())
        daemon.applied("before.json")
        own = '[columns]\nstatus = "text"\n[sources.berlin]\nid_prefix = "b-"\n[sources.berlin.fields]\norder_id = "number"\n'
        said = reloaded(daemon, BEGIN + '[input]\nrecords_path = "rows"\n' + own)
        assert said["event"] == "configuration read again" and (said["changed"], said["at_the_next_start"]) == (4, 0)
        path = said["settings"]["[input] records_path"]
        assert (path["old"], path["new"]) == ("", "rows")
        source = said["settings"]["[sources.berlin]"]
        assert (source["old"], source["new"]) == (None, "there")

        until((daemon.inbox / "berlin").is_dir, "the folder of the new source")
        applied = series("strandline_drops_total", source="berlin", outcome="applied")
        until(lambda: daemon.metrics().get(applied) == 0, "its series, before its first drop")
        place(daemon.inbox / "rows.json", in_rows(2, 3))
        assert daemon.applied("rows.json")["records"]["new"] == 2
        place(
            daemon.inbox / "berlin" / "shop.json", json.dumps([order(9) | {"number": "7", "status": "paid"}]).encode()
        )
        assert daemon.applied("shop.json")["source"] == "berlin"
        kept = {row["order_id"]: row.get("status") for row in rows(daemon.output, "2026-03-02")}
        assert kept == {"o_1": None, "o_2": None, "o_3": None, "b-7": "paid"}
        found = daemon.metrics()
        assert found[series("strandline_drops_total", source="default", outcome="applied")] == 2
        assert found[applied] == 1 and found["strandline_config_last_reload_successful"] == 1
        assert found["strandline_config_last_reload_success_timestamp_seconds"] > found["process_start_time_seconds"]
        pid = daemon.process.pid
        assert json.loads(daemon.get("/api/status")[1])["running"]["pid"] == pid
    assert differences(tmp_path) == []


def test_a_wrong_configuration_changes_nothing_and_is_told(tmp_path: Path) -> None:
    """By the log and by metrics, until it is right; also where a file is gone, which a start would take for the defaults, and
    where only the ledger or the environment refuses it."""
    in_force = BEGIN + '[input]\nrecords_path = "rows"\n[columns]\nstatus = "text"\n'
    write(tmp_path, in_force)
    with running(tmp_path) as daemon:
        place(daemon.inbox / "a.json", in_rows(1))
        daemon.applied("a.json")
        wrong = {
            "unknown setting 'max'": in_force + "[batch]\nmax = 1\n",
            '[columns] status = "decimal" is not allowed': in_force.replace('"text"', '"decimal"'),
            "the environment variable NOT_SET is missing": (
                in_force + '[sources.shop.pull]\nurl = "https://shop.example.com/${NOT_SET}"\n'
            ),
        }
        for cause, text in wrong.items():
            said = reloaded(daemon, text)
            assert said["level"] == "error" and cause in said["cause"], said
            assert said["settings"] == {}
            assert daemon.metrics()["strandline_config_last_reload_successful"] == 0
        assert not (daemon.inbox / "shop").exists()
        (tmp_path / "config.toml").unlink()
        daemon.process.send_signal(signal.SIGHUP)
        until(
            lambda: any("config.toml is gone" in one["cause"] for one in daemon.said("configuration is wrong")), "gone"
        )
        place(daemon.inbox / "b.json", in_rows(2))
        assert daemon.applied("b.json")["records"]["new"] == 1

        said = reloaded(daemon, in_force)
        assert (said["event"], said["changed"]) == ("configuration read again", 0)
        assert daemon.metrics()["strandline_config_last_reload_successful"] == 1
        assert daemon.ready()


def test_what_needs_a_start_is_named_and_not_half_applied(tmp_path: Path) -> None:
    """The rest of the file takes effect: an API comes and goes, without its secret in the log."""
    write(tmp_path, BEGIN)
    api = f'[sources.shop.pull]\nurl = "http://127.0.0.1:9/"\nevery = 0.2\nheaders = {{X-Token = "{SECRET}"}}\n'
    later = '[paths]\ninbox = "elsewhere"\noutput = "other"\n[engine]\nworkers = 1\n'
    with running(tmp_path) as daemon:
        said = reloaded(daemon, BEGIN + later + api)
        assert (said["changed"], said["at_the_next_start"]) == (2, 3)  # [sources.shop] and its pull
        for setting in ("[paths] inbox", "[paths] output", "[engine] workers"):
            assert "at the next start" in said["settings"][setting]["event"]
            assert said["settings"][setting]["level"] == "warning"
        failed = series("strandline_pull_rounds_total", source="shop", outcome="failed")
        until(lambda: daemon.metrics().get(failed, 0) > 0, "the new source is pulled")
        place(daemon.inbox / "a.json", json.dumps([order(1)]).encode())
        daemon.applied("a.json")
        assert not (tmp_path / "elsewhere").exists() and not (tmp_path / "other").exists()

        said = reloaded(daemon, BEGIN + later + api.replace(SECRET, SECRET + "-2"))
        headers = said["settings"]["[sources.shop.pull] headers"]
        assert (headers["old"], headers["new"]) == ("(not shown)", "(not shown)")
        said = reloaded(daemon, BEGIN + later)
        assert said["at_the_next_start"] == 3  # still
        until(lambda: failed not in daemon.metrics(), "the series of an API that is gone")
        assert SECRET not in daemon.log_path.read_text()


def test_many_signals_between_many_batches_lose_nothing(tmp_path: Path) -> None:
    """Each drop is a batch. Every other configuration is another one, so the loop is built anew again and again."""
    texts = [BEGIN + f"[batch]\nmax_drops = {number}\n" for number in (1, 2)]
    write(tmp_path, texts[0])
    (tmp_path / "inbox").mkdir()
    for number in range(DROPS):
        place(tmp_path / "inbox" / f"{number:02d}.json", json.dumps([order(number), order(1000)]).encode())
    with running(tmp_path) as daemon:
        for sent in range(10):
            write(tmp_path, texts[(sent + 1) % 2])
            daemon.process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
        until(lambda: len(daemon.said("configuration read again")) >= 3, "it was read again")
        until(lambda: daemon.receipt(f"{DROPS - 1:02d}.json"), "the last drop")
        assert daemon.process.poll() is None
    assert sorted(row["order_id"] for row in rows(tmp_path / "output", "2026-03-02")) == sorted(
        [f"o_{number}" for number in range(DROPS)] + ["o_1000"]
    )
    assert differences(tmp_path) == []


def test_process_1_reads_its_configuration_again(tmp_path: Path) -> None:
    """As in a container: the kernel discards signals of process 1 that have no handler."""
    unshare = shutil.which("unshare")
    apart = ["--pid", "--fork", "--kill-child", "--map-root-user"]
    if unshare is None or subprocess.run([unshare, *apart, "true"], capture_output=True, check=False).returncode:
        reason = "process namespaces are not allowed here"
        pytest.fail(reason) if os.environ.get("REQUIRE_TEST_TOOLS") and os.geteuid() == 0 else pytest.skip(reason)
    write(tmp_path, BEGIN)
    daemon = started(tmp_path, wrapper=(unshare, *apart))
    try:
        until(daemon.ready, "ready")
        (child,) = Path(f"/proc/{daemon.process.pid}/task/{daemon.process.pid}/children").read_text().split()
        assert json.loads(daemon.get("/api/status")[1])["running"]["pid"] == 1
        write(tmp_path, BEGIN + '[input]\nrecords_path = "rows"\n')
        os.kill(int(child), signal.SIGHUP)
        until(lambda: daemon.said("configuration read again"), "it was read again")
        place(daemon.inbox / "rows.json", in_rows(1))
        assert daemon.applied("rows.json")["records"]["new"] == 1
        os.kill(int(child), signal.SIGTERM)
        assert daemon.process.wait(LIMIT_SECONDS) == 0
    finally:
        daemon.process.kill()
        daemon.process.wait()


def test_a_terminal_that_is_closed_ends_it(tmp_path: Path) -> None:
    """A daemon that nobody sees any more should not go on; a signal from elsewhere reloads, here too."""
    write(tmp_path, BEGIN)
    (tmp_path / "inbox").mkdir()
    ours, theirs = pty.openpty()
    log = tmp_path / "log.jsonl"
    shell = f"exec {sys.executable} -m daemon < {os.ttyname(theirs)}"  # a leader of a session gets the first terminal it opens
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            ["sh", "-c", shell], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True, env=environment(HTTP__ENABLED="false"),
        )  # fmt: skip
    daemon = Daemon(tmp_path, process, 0, log)
    try:
        until(lambda: daemon.said("run started"), "it runs")
        os.close(theirs)
        said = reloaded(daemon, BEGIN + "[batch]\nmax_drops = 3\n")
        assert said["changed"] == 1
        os.close(ours)
        assert process.wait(LIMIT_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_once_ends_at_a_hangup(tmp_path: Path) -> None:
    """Only a daemon has a configuration to read again. A crash loses nothing, and this is no worse."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "open.json").write_bytes(b"[")  # is waited for
    log = tmp_path / "log"
    with open(log, "wb") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "daemon", "--once"], cwd=tmp_path, stderr=stream, env=environment()
        )
    try:
        until(lambda: b"run started" in log.read_bytes(), "it runs")
        process.send_signal(signal.SIGHUP)
        assert process.wait(LIMIT_SECONDS) == -signal.SIGHUP
    finally:
        process.kill()
        process.wait()
