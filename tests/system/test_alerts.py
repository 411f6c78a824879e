"""The alerts: unit tests with promtool, a runbook section for each, and each made to fire by its cause, through a real Prometheus
and a real Alertmanager, to a webhook."""

from __future__ import annotations

import errno
import http.server
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.faults import MANY, Action, Control, library, preloading
from tests.support import REPO
from tests.support.command import order
from tests.support.daemon_process import Daemon, place, started_deaf, started_with, until
from tests.support.prometheus import alertmanager, prometheus, tool
from tests.system.test_one_bad_thing import fill, lose, with_a_pipe_as_log

pytestmark = pytest.mark.timeout(300)  # slow by nature

RULES = REPO / "deploy" / "prometheus" / "alerts.yml"
NAMES = re.findall(r"- alert: (\w+)", RULES.read_text())


def test_promtool_approves_of_the_rules_and_of_their_unit_tests() -> None:
    """When each fires, and when it must not."""
    for arguments in (["check", "rules", RULES.name], ["test", "rules", "alerts_test.yml"]):
        ended = subprocess.run(
            [tool("promtool"), *arguments], cwd=RULES.parent, capture_output=True, text=True, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr


def test_every_alert_has_a_section_in_the_runbook_and_every_section_an_alert() -> None:
    """The link leads there; below, one is followed."""
    runbook = (REPO / "docs" / "RUNBOOK.md").read_text()
    assert re.findall(r"^## (\w+)$", runbook, re.MULTILINE) == NAMES
    assert re.findall(r"runbook_url: .*/docs/RUNBOOK#(\w+)", RULES.read_text()) == [name.lower() for name in NAMES]


def hastened(rules: str) -> str:
    """The same rules with every time made short: nobody waits six hours in a test."""
    rules = re.sub(r"for: \d+m", "for: 0s", rules)
    rules = re.sub(r"\[\d+[mh]\]", "[30s]", rules)
    return rules.replace("> 21600", "> 4").replace("> 900", "> 2")


# A model that fails, one that is not done until a file is there, and two checks that find rows.
MODELS = {
    "models/broken.sql": "SELECT nothing FROM fact_order",
    "models/slow.py": "import time\nfrom pathlib import Path\n\n\ndef model(fact_order):\n"
    "    while not Path('{home}/go').exists():\n        time.sleep(0.05)\n    return fact_order[['date']]\n",
}
CHECKS = {
    "checks/wrong.sql": '-- severity = "error"\nSELECT order_id FROM fact_order',
    "checks/odd.sql": "SELECT order_id FROM fact_order",
}


PULL = '[sources.gone.pull]\nurl = "http://127.0.0.1:9/"\nevery = 0.5\n'  # nobody listens there


class Pager:
    """Whoever is woken: keeps the alerts that came, by name."""

    def __init__(self) -> None:
        self.alerts: dict[str, list[dict[str, Any]]] = {}

    def fired(self, name: str, /, **labels: str) -> dict[str, Any]:
        """Waits for an alert; with labels, for the one that has them: the same cause may be elsewhere, too."""

        def found() -> dict[str, Any] | None:
            alerts = self.alerts.get(name, [])
            return next((one for one in reversed(alerts) if labels.items() <= one["labels"].items()), None)

        return until(found, f"{name} {labels} was received; so far {sorted(self.alerts)}")


@contextmanager
def pager() -> Iterator[tuple[Pager, str]]:
    one = Pager()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in content["alerts"]:
                if alert["status"] == "firing":
                    one.alerts.setdefault(alert["labels"]["alertname"], []).append(alert)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield one, f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system with less room than the alert asks for."""
    place.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", place], check=False).returncode
    ):
        pytest.skip("mounting a small file system is not allowed here")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)


def pulled(home: Path) -> Path:
    """The folder of a daemon with a source whose API is gone."""
    home.mkdir()
    (home / "config.toml").write_text(PULL)
    return home


def reload_wrong(home: Path, pid: int, woken: Pager) -> None:
    """Has a daemon read a configuration that is wrong."""
    (home / "config.toml").write_text(PULL + "[nonsense]\n")
    os.kill(pid, signal.SIGHUP)
    woken.fired("StrandlineConfigReloadFailed", severity="warning")


def drop_bad_data(daemon: Daemon, woken: Pager) -> None:
    """Drops with records and fields that cannot be read, one that is no data, and one that is never complete."""
    records = [order(1), {"order_id": 1}, {"order_id": 2}]
    place(daemon.inbox / "dirty.ndjson", "".join(json.dumps(one) + "\n" for one in records).encode())
    assert "67" in woken.fired("StrandlineHighDiscardShare")["annotations"]["summary"]
    place(daemon.inbox / "faulty.json", json.dumps([order(3) | {"amount": "12,50 €"}]).encode())
    assert "25%" in woken.fired("StrandlineFieldFaults")["annotations"]["summary"]
    place(daemon.inbox / "broken.json", b"<html>")
    woken.fired("StrandlineQuarantineGrowing")
    place(daemon.inbox / "cut.json", b'[{"order_id": 1},')
    assert woken.fired("StrandlineRetriesExhausted")["labels"]["operation"] == "read_drop"


def set_aside(daemon: Daemon, output: Path, woken: Pager) -> None:
    """Damages a date together with the raw copy that it is made of."""
    place(daemon.inbox / "more.json", json.dumps([order(5, 4), order(6, 5)]).encode())
    until((output / "curated" / "date=2026-03-05" / "fact_order.parquet").exists, "it is published")
    lose(output, "more.json", "2026-03-04")
    place(daemon.inbox / "again.json", json.dumps([order(7, 4)]).encode())
    woken.fired("StrandlineSetAside", severity="critical")


def pull(woken: Pager) -> None:
    """The alerts of a source whose API is gone."""
    woken.fired("StrandlinePullFailing", source="gone")
    woken.fired("StrandlinePullStale", source="gone")


def follow(home: Path, woken: Pager) -> None:
    """Makes the alerts of models and checks fire. While one model runs, another that fails is told of, too."""
    (home / "models").mkdir()
    (home / "checks").mkdir()
    for path, text in MODELS.items():
        place(home / path, text.replace("{home}", str(home)).encode())
    woken.fired("StrandlineDownstreamFailing", name="broken")
    woken.fired("StrandlineDownstreamStale", name="slow")
    (home / "go").touch()
    for path, text in CHECKS.items():
        place(home / path, text.encode())
    found = woken.fired("StrandlineCheckFoundErrors", name="wrong", severity="critical")
    assert "checks/wrong/wrong.parquet" in found["annotations"]["description"]
    woken.fired("StrandlineCheckFoundRows", name="odd", severity="warning")


def linked(daemon: Daemon, alert: dict[str, Any]) -> dict[str, str]:
    """The annotations of an alert, whose link leads to its section on the page of the daemon that it is about."""
    address, _, section = alert["annotations"]["runbook_url"].partition("#")
    status, page = daemon.get(address.removeprefix(f"http://127.0.0.1:{daemon.port}"))
    assert status == 200 and f'id="{section}">{alert["labels"]["alertname"]}<' in page
    return dict(alert["annotations"])


def test_each_alert_fires_by_its_cause(tmp_path: Path) -> None:
    """The fault is caused, the daemon notices, Prometheus evaluates, Alertmanager tells, and the message says what to do."""
    if library() is None:
        pytest.skip("needs a C compiler on Linux, to cause faults")
    retry = {"RETRY__ATTEMPTS": "2", "RETRY__INITIAL_DELAY_SECONDS": "0.05", "RETRY__MAX_DELAY_SECONDS": "0.2"}
    with small_disk(tmp_path / "small") as small, pager() as (woken, webhook):
        home = pulled(tmp_path / "home")
        control = Control(tmp_path / "control", small)
        daemon = started_with(
            home, preloading(control), PATHS__OUTPUT=str(small / "output"), WATCH__RESCAN_SECONDS="0.3", **retry
        )
        deaf = started_deaf(tmp_path / "deaf", WATCH__RESCAN_SECONDS="0.2")
        stalled, pipe = with_a_pipe_as_log(tmp_path / "stalled")
        try:
            until(daemon.ready, "ready")
            until(deaf.ready, "ready")
            until(stalled.ready, "ready")
            with (
                alertmanager(tmp_path / "alertmanager", webhook) as port,
                prometheus(
                    tmp_path / "prometheus", f"127.0.0.1:{daemon.port}", f"127.0.0.1:{deaf.port}", f"127.0.0.1:{stalled.port}",
                    rules=hastened(RULES.read_text()), alertmanager_port=port,
                ) as server,
            ):  # fmt: skip
                until(lambda: server.value("min(up)") == 1, "first scrapes")
                pull(woken)
                reload_wrong(home, daemon.process.pid, woken)
                woken.fired("StrandlineDiskFilling", instance=f"127.0.0.1:{daemon.port}")
                woken.fired("StrandlineNoNewData")  # a source that is silent since the start

                drop_bad_data(daemon, woken)
                place(deaf.inbox / "unseen.json", json.dumps([order(1)]).encode())
                woken.fired("StrandlineEventsMissed")

                fill(pipe)
                place(stalled.inbox / "a.json", json.dumps([order(1)]).encode())
                woken.fired("StrandlineLogBlocked", instance=f"127.0.0.1:{stalled.port}")

                follow(home, woken)
                set_aside(daemon, small / "output", woken)
                control.act(Action.FAIL, control.count + 1, MANY, errno.ENOSPC)
                place(daemon.inbox / "late.json", json.dumps([order(2)]).encode())
                then = time.time() - 600
                os.utime(daemon.inbox / "late.json", (then, then))
                assert "paused" in linked(daemon, woken.fired("StrandlinePaused"))["summary"]
                woken.fired("StrandlineBacklogAgeing")
                control.heal()
                until(lambda: daemon.metrics()["strandline_paused"] == 0, "it heals")

                daemon.inbox.rename(home / "elsewhere")
                daemon.inbox.write_text("no folder")
                woken.fired("StrandlineWatcherDeaf")
                daemon.process.kill()
                down = woken.fired("StrandlineDown")
                assert down["annotations"]["runbook_url"].endswith("/docs/RUNBOOK#strandlinedown")
        finally:
            for one in (daemon, deaf, stalled):
                one.process.kill()
                one.process.wait()
            os.close(pipe)
    assert sorted(woken.alerts) == sorted(NAMES)
    assert all(
        alert["annotations"]["summary"] and alert["annotations"]["description"]
        for alerts in woken.alerts.values()
        for alert in alerts
    )
