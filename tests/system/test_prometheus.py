"""A real Prometheus scrapes the real daemon: what it stores is what the drops had."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.support import REPO
from tests.support.api import Shop, serving
from tests.support.command import order
from tests.support.daemon_process import place, running, until
from tests.support.prometheus import prometheus, tool
from tests.support.pulls import pulling_home

DIRTY = b"\n".join(
    [
        json.dumps(order(2) | {"amount": "twelve"}).encode(),
        b'{"order_id": null}',
        b'{"order_id": "x"}',
        b'{"order_id": "y", "created_at": "yesterday"}',
        b"not json",
        b"still not json",
        b"[1]",
        json.dumps(order(1)).encode(),  # a file that ends in an object looks finished
    ]
) + b"\n"  # fmt: skip

MODELS = {
    "models/daily.sql": "SELECT date, count(*) AS lines FROM fact_order GROUP BY date",
    "models/failing.sql": "SELECT date, error('no') AS never FROM fact_order",
    "checks/lines.sql": "SELECT order_id FROM fact_order",
}


def test_a_query_for_discards_and_retries_gives_the_numbers_that_the_drops_had(tmp_path: Path) -> None:
    """Counted by the daemon, scraped and stored by Prometheus, asked for in PromQL."""
    settings = {"RETRY__ATTEMPTS": "3", "RETRY__INITIAL_DELAY_SECONDS": "0.05", "RETRY__MAX_DELAY_SECONDS": "0.1"}
    with (
        running(tmp_path, **settings) as daemon,
        prometheus(tmp_path / "prometheus", f"127.0.0.1:{daemon.port}") as server,
    ):
        until(lambda: server.value("up") == 1, "a first scrape")
        place(daemon.inbox / "dirty.ndjson", DIRTY)
        place(daemon.inbox / "users.csv", b"user_id,email\nu_1,a@example.com\n,nobody@example.com\n")
        place(daemon.inbox / "cut.json", b'[{"order_id": 1},')
        daemon.applied("cut.json")
        daemon.applied("users.csv")
        daemon.applied("dirty.ndjson")
        until(lambda: server.value('strandline_drops_total{outcome="quarantined"}') == 1, "the quarantine is scraped")
        until(lambda: server.value('strandline_drops_total{outcome="applied"}') == 2, "the drops are scraped")

        discards = server.query("strandline_orders_discarded_total > 0")
        assert {dict(labels)["reason"]: value for labels, value in discards.items()} == {
            "missing_order_id": 1, "missing_created_at": 1, "invalid_created_at": 1, "malformed_record": 2,
            "not_an_object": 1, "missing_key": 1,
        }  # fmt: skip
        assert server.query("strandline_retries_total > 0") == {(("operation", "read_drop"),): 3}
        assert server.query("strandline_retries_exhausted_total > 0") == {(("operation", "read_drop"),): 1}
        assert server.value("strandline_orders_extracted_total") == 8
        assert server.value('strandline_orders_total{outcome="new"}') == 2
        assert server.query("strandline_field_faults_total > 0") == {(("field", "amount"), ("source", "default")): 1}
        # increase() sees what came after a scrape of the zero, since each series was there before
        assert server.value('increase(strandline_drops_total{outcome="quarantined"}[1h])') is not None


def test_promtool_finds_nothing_to_say(tmp_path: Path) -> None:
    """Names, units, help texts, as Prometheus' own linter wants them."""
    program = tool("promtool")
    with running(tmp_path) as daemon:
        place(daemon.inbox / "dirty.ndjson", DIRTY)
        daemon.applied("dirty.ndjson")
        checked = subprocess.run(
            [program, "check", "metrics"], input=daemon.get("/metrics")[1], capture_output=True, text=True, check=False
        )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_every_question_in_the_docs_is_promql_that_answers(tmp_path: Path) -> None:
    """docs/METRICS.md, asked of a real Prometheus after a real drop."""
    text = (REPO / "docs" / "METRICS.md").read_text(encoding="utf-8")
    block = text.split("```promql\n")[1].split("```")[0]
    lines = [line for line in block.replace("\n  ", " ").splitlines() if line and not line.startswith("#")]
    assert len(lines) == 14
    (while_it_runs,) = (line for line in lines if "stale_dates" in line)
    for name, content in MODELS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    shop = Shop()
    shop.put("s_1", 1_700_000_000)
    with (
        serving(shop.by_page) as api,
        running(pulling_home(tmp_path, api)) as daemon,
        prometheus(tmp_path / "prometheus", f"127.0.0.1:{daemon.port}") as server,
    ):
        until(lambda: server.value("up") == 1, "a first scrape")
        until(lambda: server.value("strandline_pull_cursor_timestamp_seconds") == 1_700_000_000, "a round")
        api.faults.extend(["error_500"] * 1000)
        place(daemon.inbox / "dirty.ndjson", DIRTY)
        place(daemon.inbox / "cut.json", b'[{"order_id": 1},')
        daemon.applied("dirty.ndjson")
        for line in lines:
            if line != while_it_runs:
                until(lambda line=line: server.query(line), line)
        (tmp_path / "models" / "slow.py").write_text("import time\ndef model(fact_order): time.sleep(600)\n")
        until(lambda: server.query(while_it_runs), while_it_runs)
