"""The metrics: every series from the start, the numbers of the drops, and a file that goes on counting."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from daemon.batch.ageing import Aged
from daemon.batch.phases import OPERATIONS, PHASES
from daemon.batch.pipeline import catch_up
from daemon.batch.retries import Retry
from daemon.core.model import DropOutcome, Field, Reason
from daemon.downstream.attempts import Followed
from daemon.observe.metrics import Metrics, write_textfile
from tests.support import REPO
from tests.support.daemon_process import series
from tests.support.harness import apply_batch, open_engine

NOW = 1_780_000_000_000_000
DIRTY = (
    b'{"order_id":"a","created_at":"2026-03-02T10:00:00Z","amount":"x","items":[{"sku":"p","qty":1,"price":2}]}\n'
    b'{"order_id":"a","created_at":"2026-03-02T10:00:00Z","updated_at":"2026-03-03T10:00:00Z","amount":3}\n'
    b'{"order_id":null}\n{"order_id":"c"}\nnonsense\n[1]\n'
)
USERS = b"user_id,email\nu_1,a@example.com\n,b@example.com\n"


def samples(text: str) -> dict[str, float]:
    return {series(s.name, **s.labels): s.value for f in text_string_to_metric_families(text) for s in f.samples}


def now_of(metrics: Metrics) -> dict[str, float]:
    return samples(generate_latest(metrics.registry).decode())


def test_every_series_of_the_design_exists_before_anything_happened(tmp_path: Path) -> None:
    """A rate over a counter that appears with its first value misses that value."""
    found = now_of(Metrics(tmp_path, "1", lambda: True))
    labelled = {
        "drops_total": [{"source": "default", "outcome": o} for o in DropOutcome],
        "orders_total": [
            {"source": "default", "outcome": o} for o in ("new", "corrected", "unchanged", "superseded", "before_since")
        ],
        "orders_discarded_total": [{"source": "default", "reason": r} for r in Reason],
        "field_faults_total": [{"source": "default", "field": f} for f in Field],
        "key_drift_total": [{"source": "default", "kind": kind} for kind in ("unread", "missing")],
        "unknown_keys_total": [{"dimension": d} for d in ("user", "product")],
        "rows_written_total": [{"table": t} for t in ("fact_order", "order_items", "dim_user", "dim_product")],
        "retries_total": [{"operation": o} for o in ("read_drop", *PHASES)],
        "retries_exhausted_total": [{"operation": o} for o in OPERATIONS],
        "batch_duration_seconds_count": [
            {"phase": p} for p in ("archive", "parse", "decide", "rewrite", "stage", "commit", "publish")
        ],
    }
    for name, many in labelled.items():
        for labels in many:
            assert found[series(f"strandline_{name}", **labels)] == 0
    for name in (
        "orders_extracted_total", "late_orders_total", "restatements_total", "partitions_written_total",
        "drops_found_by_rescan_total", "high_water_mark_timestamp_seconds", "last_new_data_timestamp_seconds",
        "last_batch_timestamp_seconds", "inbox_pending_drops", "inbox_oldest_drop_timestamp_seconds",
        "inbox_unfinished_files", "quarantined_drops",
        "drop_latency_seconds_count", "paused",
    ):  # fmt: skip
        assert found[f"strandline_{name}"] == 0
    assert found["strandline_watcher_up"] == 1 and found["strandline_disk_free_bytes"] > 0
    assert any(name.startswith("strandline_build_info{") for name in found)
    assert not any(name.partition("{")[0].endswith("_created") for name in found)


def test_what_a_batch_did_is_counted_once_and_adds_up(tmp_path: Path) -> None:
    """extracted = discarded + the outcomes, for orders and for rows of users apart."""
    metrics = Metrics(tmp_path / "output", "1")
    before = set(now_of(metrics))
    with open_engine(tmp_path) as engine:
        metrics.applied(apply_batch(engine, tmp_path, [("a.ndjson", DIRTY), ("users.csv", USERS)], NOW), [0.5, 0.7])
        metrics.applied(apply_batch(engine, tmp_path, [("b.ndjson", DIRTY), ("c.json", b"null")], NOW + 1), [0.1])
        metrics.scanned(3, 123.0, 2)
    found = now_of(metrics)
    assert set(found) == before, "a label value that was not known beforehand"
    assert found["strandline_orders_extracted_total"] == 6
    assert found[series("strandline_orders_total", source="default", outcome="new")] == 1
    assert found[series("strandline_orders_total", source="default", outcome="superseded")] == 1
    discards = {r: found[series("strandline_orders_discarded_total", source="default", reason=r)] for r in Reason}
    assert {r: n for r, n in discards.items() if n} == {
        "missing_order_id": 1, "missing_created_at": 1, "malformed_record": 1, "not_an_object": 1, "missing_key": 1,
    }  # fmt: skip
    assert found[series("strandline_dimension_rows_total", dimension="user", outcome="new")] == 1
    assert found[series("strandline_dimension_rows_total", dimension="user", outcome="discarded")] == 1
    assert found[series("strandline_field_faults_total", source="default", field="amount")] == 1
    assert {o: found[series("strandline_drops_total", source="default", outcome=o)] for o in DropOutcome} == {
        "applied": 2, "duplicate": 1, "quarantined": 1, "withdrawn": 0,
    }  # fmt: skip
    assert found[series("strandline_rows_written_total", table="fact_order")] == 1
    assert found[series("strandline_rows_written_total", table="dim_user")] == 1
    assert found["strandline_partitions_written_total"] == 1
    assert found["strandline_high_water_mark_timestamp_seconds"] == 1772445600
    assert found["strandline_last_new_data_timestamp_seconds"] == NOW / 1e6
    assert found["strandline_last_batch_timestamp_seconds"] == (NOW + 1) / 1e6
    assert found["strandline_drop_latency_seconds_count"] == 3
    assert found[series("strandline_batch_duration_seconds_count", phase="commit")] == 2
    assert found["strandline_quarantined_drops"] == 1
    assert (
        found["strandline_inbox_pending_drops"] == 3 and found["strandline_inbox_oldest_drop_timestamp_seconds"] == 123
    )


def test_sources_that_are_configured_or_in_the_ledger_have_their_series_from_the_start(tmp_path: Path) -> None:
    """Each counts for itself."""
    with open_engine(tmp_path) as engine:
        metrics = Metrics(tmp_path / "output", "1", sources=["default", "shop"])
        before = set(now_of(metrics))
        metrics.applied(apply_batch(engine, tmp_path, [("a.ndjson", DIRTY)], NOW), [])
        assert engine.ledger.sources() == {"default"}
    found = now_of(metrics)
    assert set(found) == before
    for source, new in (("default", 1), ("shop", 0)):
        assert found[series("strandline_drops_total", source=source, outcome="applied")] == new
        assert found[series("strandline_orders_total", source=source, outcome="new")] == new
        assert found[series("strandline_orders_discarded_total", source=source, reason="not_an_object")] == new
        assert found[series("strandline_field_faults_total", source=source, field="amount")] == new


def test_what_a_wider_since_brings_is_counted_on_top(tmp_path: Path) -> None:
    """As docs/METRICS.md says: counters do not fall, so `before_since` stays, while the receipt has what is true now."""
    text = (REPO / "docs" / "METRICS.md").read_text(encoding="utf-8")
    assert "where a wider `--since` applies what was counted as `before_since`, that count stays" in text
    metrics = Metrics(tmp_path / "output", "1")
    data = b'[{"order_id":"a","created_at":"2026-03-01"},{"order_id":"b","created_at":"2026-03-02"}]'
    with open_engine(tmp_path) as engine:
        since = 20_514 * 86_400_000_000  # 2 March
        metrics.applied(apply_batch(engine, tmp_path, [("a.json", data)], NOW, since=since), [])
        metrics.applied(catch_up(engine, engine.ledger.read_since(0), 0, NOW), [])
        (result,) = engine.ledger.last_results(1)
    found = now_of(metrics)
    assert found["strandline_orders_extracted_total"] == 2
    assert found[series("strandline_orders_total", source="default", outcome="new")] == 2
    assert found[series("strandline_orders_total", source="default", outcome="before_since")] == 1
    assert (result.counts.new, result.counts.before_since) == (2, 0)


def test_gauges_of_progress_come_back_from_the_ledger(tmp_path: Path) -> None:
    """A restart does not look like a source that never delivered."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.ndjson", DIRTY)], NOW)
        apply_batch(engine, tmp_path, [("b.json", b"[]")], NOW + 5_000_000)
        metrics = Metrics(tmp_path / "output", "1")
        metrics.restore(engine.ledger.hwm, engine.ledger.last_commit(with_new_data=True), engine.ledger.last_commit())
    found = now_of(metrics)
    assert found["strandline_high_water_mark_timestamp_seconds"] == 1772445600
    assert found["strandline_last_new_data_timestamp_seconds"] == NOW / 1e6
    assert found["strandline_last_batch_timestamp_seconds"] == NOW / 1e6 + 5


def test_a_pause_begins_with_the_last_attempt_and_ends_with_the_work(tmp_path: Path) -> None:
    """Each retry counts for its operation; a pause counts as exhausted once."""
    metrics = Metrics(tmp_path, "1")
    for attempt in range(1, 8):
        metrics.failed(Retry("stage", attempt, 0.1, "disk full", exhausted=attempt == 5))
    found = now_of(metrics)
    assert found[series("strandline_retries_total", operation="stage")] == 7
    assert found[series("strandline_retries_exhausted_total", operation="stage")] == 1
    assert found["strandline_paused"] == 1
    metrics.recovered()
    assert now_of(metrics)["strandline_paused"] == 0


def test_nothing_that_is_asked_at_a_scrape_can_break_it(tmp_path: Path) -> None:
    """An output folder that is gone gives NaN, and every other series."""
    gone = Metrics(tmp_path / "file" / "output", "1")
    (tmp_path / "file").write_text("not a folder")
    found = now_of(gone)
    assert found["strandline_disk_free_bytes"] != found["strandline_disk_free_bytes"]
    assert found["strandline_paused"] == 0


def test_the_textfile_goes_on_counting(tmp_path: Path) -> None:
    """Counters and histograms add to what the file says; gauges are what they are now."""
    path = tmp_path / "strandline.prom"
    for run in (1, 2, 3):
        metrics = Metrics(tmp_path, "1")
        metrics.waiting("x", 1, 0.5, "it is empty")
        metrics.scanned(run, None, 0)
        metrics._latency.observe(0.3)
        assert write_textfile(metrics.registry, path) == ""
        found = samples(path.read_text())
        assert found[series("strandline_retries_total", operation="read_drop")] == run
        assert found["strandline_drop_latency_seconds_count"] == run
        assert found[series("strandline_drop_latency_seconds_bucket", le="0.5")] == run
        assert found["strandline_inbox_pending_drops"] == run
    assert [p.name for p in tmp_path.iterdir()] == ["strandline.prom"]


@pytest.mark.parametrize("content", [b"strandline_retries_total{", b"\xff\xfe", b"strandline_retries_total nonsense\n"])
def test_a_damaged_textfile_is_replaced_and_said(tmp_path: Path, content: bytes) -> None:
    """Counters begin anew, as after a restart; Prometheus knows what that means."""
    path = tmp_path / "strandline.prom"
    path.write_bytes(content)
    assert write_textfile(Metrics(tmp_path, "1").registry, path)
    assert samples(path.read_text())[series("strandline_retries_total", operation="commit")] == 0


def test_every_metric_is_documented_and_every_documented_one_exists(tmp_path: Path) -> None:
    """docs/METRICS.md has each name with each label and value; the reverse holds, too."""
    text = (REPO / "docs" / "METRICS.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `(strandline_[a-z_]+)`", text, re.MULTILINE))
    found = set()
    metrics = Metrics(tmp_path, "1", lambda: True)
    check = Followed("check", "name", 1, 1, 0, 0, 0.1, found=0, severity="warning")
    metrics.followed([check, replace(check, kind="model", found=None)], 0.0)  # series come with their files
    for family in text_string_to_metric_families(generate_latest(metrics.registry).decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found.add("strandline_build_info" if name == "strandline_build" else name)
        for sample in family.samples:
            for key, value in sample.labels.items():
                if key not in ("le", "version", "python"):
                    assert f"`{key}`" in text and f"`{value}`" in text, (name, key, value)
    assert documented == found


def test_the_core_knows_no_metric() -> None:
    """What happened is returned; who counts it is no matter of the core or of the pipeline."""
    for path in [*(REPO / "daemon" / "core").rglob("*.py"), REPO / "daemon" / "batch" / "pipeline.py"]:
        imported = {
            alias.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }  # fmt: skip
        assert not imported & {"prometheus_client", "metrics", "observer"}, path


def test_what_has_gone_by_age_is_counted_by_kind(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path, "1")
    metrics.aged(Aged("raw", 9, files=3, bytes=700))
    metrics.aged(Aged("raw", 12, files=1, bytes=7, left=2, cause="no"))
    found = now_of(metrics)
    assert found[series("strandline_aged_files_total", kind="raw")] == 4
    assert found[series("strandline_aged_bytes_total", kind="raw")] == 707
    assert found[series("strandline_aged_files_total", kind="discards")] == 0
