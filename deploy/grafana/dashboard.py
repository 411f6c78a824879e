"""The Grafana dashboard as code. `python deploy/grafana/dashboard.py` writes dashboards/strandline.json, which is committed.

Each panel answers one question of an on-call operator; its description says how to read it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TARGET = Path(__file__).parent / "dashboards" / "strandline.json"
SELECTED = 'job="$job", instance=~"$instance"'
_WIDTH = 24
_RED, _ORANGE, _GREEN, _BLUE = "#c4473d", "#d99a2b", "#3d9a63", "#2f86a6"


def rate(metric: str, by: str = "") -> str:
    """How fast a counter grows, per second, by a label."""
    return f"sum{f' by ({by})' if by else ''} (rate({metric}{{{SELECTED}}}[$__rate_interval]))"


def per_minute(metric: str, by: str = "") -> str:
    """The same, per minute."""
    return f"{rate(metric, by)} * 60"


def in_an_hour(metric: str, by: str = "") -> str:
    """How much a counter grew in the last hour, by a label."""
    return f"sum{f' by ({by}) ' if by else ''}(increase({metric}{{{SELECTED}}}[1h]))"


def panels() -> list[dict[str, Any]]:
    """All panels, in reading order."""
    return _placed(
        _row("Health"),
        _stat("Ready to apply", f"min(strandline_watcher_up{{{SELECTED}}}) * (1 - max(strandline_paused{{{SELECTED}}}))",
              "1 while new drops can be noticed and the environment does not fail.",
              mappings={"0": ("no", _RED), "1": ("yes", _GREEN)}),
        _stat("High-water mark lag", f"time() - max(strandline_high_water_mark_timestamp_seconds{{{SELECTED}}})",
              "Age of the newest order. It grows while a source is silent.", unit="s"),
        _stat("Since the last new data", f"time() - max(strandline_last_new_data_timestamp_seconds{{{SELECTED}}})",
              "Time since an order was last added or changed.", unit="s"),
        _stat("Waiting in the inbox", f"sum(strandline_inbox_pending_drops{{{SELECTED}}})", "Drops that are not taken yet."),
        _stat("In quarantine", f"sum(strandline_quarantined_drops{{{SELECTED}}})",
              "Drops that cannot be read; each has a reason file next to it.", steps=((None, _GREEN), (1, _ORANGE))),
        _stat("Free disk", f"min(strandline_disk_free_bytes{{{SELECTED}}})", "Under the output folder.", unit="bytes",
              steps=((None, _RED), (2e9, _ORANGE), (10e9, _GREEN))),
        _stat("Set aside", f"sum(strandline_set_aside{{{SELECTED}}})",
              "Published dates and dimensions that are damaged and cannot be made anew.", steps=((None, _GREEN), (1, _RED))),
        _graph("Paused, and configuration", "How long it is paused, whether what was read last is wrong, and whether the log "
               "cannot be written.", "s", [
            (f"(time() - max(strandline_pause_timestamp_seconds{{{SELECTED}}})) "
             f"* (max(strandline_pause_timestamp_seconds{{{SELECTED}}}) > bool 0)", "paused for"),
            (f"1 - min(strandline_config_last_reload_successful{{{SELECTED}}})", "configuration is wrong"),
            (f"time() - max(strandline_config_last_reload_success_timestamp_seconds{{{SELECTED}}})", "since it was read"),
            (f"max(strandline_log_blocked_seconds{{{SELECTED}}})", "the log is blocked for"),
        ]),
        _row("Freshness and throughput"),
        _graph("Freshness", "How far behind the data is, and the time since the last new data.", "s", [
            (f"time() - strandline_high_water_mark_timestamp_seconds{{{SELECTED}}}", "high-water mark lag {{instance}}"),
            (f"time() - strandline_last_new_data_timestamp_seconds{{{SELECTED}}}", "since the last new data {{instance}}"),
            (f"time() - strandline_last_batch_timestamp_seconds{{{SELECTED}}}", "since the last batch {{instance}}"),
        ]),
        _graph("Throughput", "Records by outcome, and rows that were written.", "short", [
            (rate("strandline_orders_total", "outcome"), "orders {{outcome}} /s"),
            (rate("strandline_rows_written_total", "table"), "rows {{table}} /s"),
        ]),
        _graph("Drops", "Drops by outcome.", "short", [
            (per_minute("strandline_drops_total", "source, outcome"), "{{source}} {{outcome}} /min"),
        ], stacked=True),
        _graph("Backlog", "Drops in the inbox, the age of the oldest, unfinished files, and files of no source.", "short", [
            (f"sum(strandline_inbox_pending_drops{{{SELECTED}}})", "drops"),
            (f"max((time() - strandline_inbox_oldest_drop_timestamp_seconds{{{SELECTED}}}) * on (job, instance) "
             f"(strandline_inbox_pending_drops{{{SELECTED}}} > bool 0))", "age of the oldest in s"),
            (f"sum(strandline_inbox_unfinished_files{{{SELECTED}}})", "unfinished files"),
            (f"sum(strandline_inbox_stray_files{{{SELECTED}}})", "files that no source takes"),
        ]),
        _row("Latency"),
        _graph("From settled to published", "Quantiles of the time from settled to published.", "s", [
            (f"histogram_quantile({quantile}, {rate('strandline_drop_latency_seconds_bucket', 'le')})", f"p{quantile * 100:.0f}")
            for quantile in (0.5, 0.95, 0.99)
        ]),
        _graph("Batch time by phase", "Seconds spent in each phase per second.", "s", [
            (rate("strandline_batch_duration_seconds_sum", "phase"), "{{phase}}"),
        ], stacked=True),
        _row("Data quality"),
        _graph("Discards by reason", "Rejected records; each is kept whole.", "short", [
            (per_minute("strandline_orders_discarded_total", "reason"), "{{reason}} /min"),
        ], stacked=True),
        _graph("Share of discards", "Discards as a share of all records of the last hour.", "percentunit", [
            (f"{in_an_hour('strandline_orders_discarded_total')} / clamp_min({in_an_hour('strandline_orders_extracted_total')} + "
             f"{in_an_hour('strandline_dimension_rows_total')}, 1)", "discarded"),
        ]),
        _graph("Field faults, unknown keys, late orders", "Records that were kept although a part is wrong.", "short", [
            (per_minute("strandline_field_faults_total", "field"), "fault in {{field}} /min"),
            (per_minute("strandline_bare_orders_total"), "orders with neither amount nor price /min"),
            (per_minute("strandline_key_drift_total", "source, kind"), "{{source}}: keys {{kind}} /min"),
            (per_minute("strandline_unknown_keys_total", "dimension"), "unknown {{dimension}} /min"),
            (per_minute("strandline_late_orders_total"), "late /min"),
        ]),
        _graph("Partitions", "Dates that were written, and those among them that had been published before.", "short", [
            (per_minute("strandline_partitions_written_total"), "written /min"),
            (per_minute("strandline_restatements_total"), "restated /min"),
        ]),
        _row("Pulls"),
        _graph("Rounds", "Rounds of the last hour by outcome. `put_off`: the server asked to wait.", "short", [
            (in_an_hour("strandline_pull_rounds_total", "source, outcome"), "{{source}} {{outcome}}"),
            (f"max by (source) (strandline_pull_failing{{{SELECTED}}})", "{{source}} fails"),
        ], stacked=True),
        _graph("Pages and bytes", "What rounds put into the inbox.", "short", [
            (per_minute("strandline_pull_pages_total", "source"), "{{source}} pages /min"),
            (f"{per_minute('strandline_pull_bytes_total', 'source')} / 1e3", "{{source}} kB /min"),
        ]),
        _graph("Requests tried again", "By reason. `rate_limit`: status 429.", "short", [
            (per_minute("strandline_pull_retries_total", "source, reason"), "{{source}} {{reason}} /min"),
        ], stacked=True),
        _graph("Behind", "Since the last success, and how old the cursor is: up to there, every change is committed.", "s", [
            (f"time() - max by (source) (strandline_pull_last_success_timestamp_seconds{{{SELECTED}}} > 0)",
             "{{source}} success"),
            (f"time() - max by (source) (strandline_pull_cursor_timestamp_seconds{{{SELECTED}}} > 0)", "{{source}} cursor"),
            (f"max by (source) (strandline_pull_interval_seconds{{{SELECTED}}})", "{{source}} every"),
        ]),
        _graph("Seconds per round", "Of the rounds of the last hour.", "s", [
            (f"{in_an_hour('strandline_pull_seconds_total', 'source')} / "
             f"({in_an_hour('strandline_pull_rounds_total', 'source')} > 0)", "{{source}}"),
        ]),
        _row("Models, checks and destinations"),
        _graph("Stale dates", "Dates that are not up to date: 0 soon after each batch, unless a model fails or is too slow.",
               "short", [(f"max by (kind, name) (strandline_downstream_stale_dates{{{SELECTED}}})", "{{kind}} {{name}}")]),
        _graph("Failing", "1 while one of them, or a model that it reads, cannot be brought up to date.", "short", [
            (f"max by (kind, name) (strandline_downstream_failing{{{SELECTED}}})", "{{kind}} {{name}}"),
        ]),
        _graph("Seconds per run", "Of the runs of the last hour.", "s", [
            (f"{in_an_hour('strandline_downstream_run_seconds_total', 'kind, name')} / "
             f"({in_an_hour('strandline_downstream_runs_total', 'kind, name')} > 0)", "{{kind}} {{name}}"),
        ]),
        _graph("Runs", "Runs of the last hour by outcome. A round in which nothing was stale is no run.", "short", [
            (in_an_hour("strandline_downstream_runs_total", "kind, name, outcome"), "{{kind}} {{name}} {{outcome}}"),
        ], stacked=True),
        _graph("Since the last success", "It grows while nothing changes that it reads. One that never succeeded is not shown.",
               "s", [(f"time() - max by (kind, name) (strandline_downstream_last_success_timestamp_seconds{{{SELECTED}}} > 0)",
                      "{{kind}} {{name}}")]),
        _graph("Rows that checks found", "Of the last run of each check. Its file in checks/ has the rows.", "short", [
            (f"max by (name, severity) (strandline_check_rows{{{SELECTED}}})", "{{name}} ({{severity}})"),
        ]),
        _graph("Sent to destinations", "Bytes of files and messages of the last hour.", "bytes", [
            (in_an_hour("strandline_downstream_sent_bytes_total", "kind, name"), "{{kind}} {{name}}"),
        ]),
        _graph("Altered texts", "Texts of the last hour that were sent without U+0000, which PostgreSQL cannot hold.", "short",
               [(in_an_hour("strandline_downstream_altered_texts_total", "kind, name"), "{{kind}} {{name}}")]),
        _row("Environment"),
        _graph("Retries", "Operations that were retried, and those whose attempts all failed.", "short", [
            (per_minute("strandline_retries_total", "operation"), "{{operation}} /min"),
            (per_minute("strandline_retries_exhausted_total", "operation"), "{{operation}} exhausted /min"),
        ]),
        _graph("Process", "Memory and processor of the daemon itself, without its workers.", "short", [
            (f"process_resident_memory_bytes{{{SELECTED}}} / 1e6", "resident MB {{instance}}"),
            (f"rate(process_cpu_seconds_total{{{SELECTED}}}[$__rate_interval]) * 100", "processor % {{instance}}"),
            (f"process_open_fds{{{SELECTED}}}", "descriptors {{instance}}"),
        ]),
        _graph("Free disk", "Under the output folder.", "bytes", [
            (f"strandline_disk_free_bytes{{{SELECTED}}}", "{{instance}}"),
        ]),
        _graph("Removed by age", "In the last hour: what was older than the `keep` of its kind.", "short", [
            (in_an_hour("strandline_aged_files_total", "kind"), "{{kind}} files"),
            (f"{in_an_hour('strandline_aged_bytes_total', 'kind')} / 1e6", "{{kind}} MB"),
        ]),
        _graph("Found by scans", "Drops found without an event. If it rises, set [watch] mode = polling.", "short", [
            (per_minute("strandline_drops_found_by_rescan_total"), "/min"),
        ]),
    )  # fmt: skip


def dashboard() -> dict[str, Any]:
    """The whole dashboard, as Grafana has it in its files."""
    return {
        "uid": "strandline",
        "title": "Strandline",
        "tags": ["strandline"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "utc",
        "graphTooltip": 1,
        "templating": {
            "list": [
                _variable("job", "label_values(strandline_build_info, job)"),
                _variable("instance", 'label_values(strandline_build_info{job="$job"}, instance)', several=True),
            ]
        },
        "annotations": {
            "list": [
                {
                    "name": "Alerts", "enable": True, "iconColor": _RED, "datasource": _source(), "expr":
                    'ALERTS{alertname=~"Strandline.*", alertstate="firing"}', "titleFormat": "{{alertname}}",
                }
            ]
        },
        "panels": panels(),
    }  # fmt: skip


def _source() -> dict[str, str]:
    return {"type": "prometheus", "uid": "prometheus"}


def _variable(name: str, query: str, *, several: bool = False) -> dict[str, Any]:
    return {
        "name": name, "type": "query", "datasource": _source(), "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1,
        "multi": several, "includeAll": several, "current": {"text": "All", "value": "$__all"} if several else {},
    }  # fmt: skip


def _target(expression: str, legend: str, number: int) -> dict[str, Any]:
    return {"refId": chr(ord("A") + number), "datasource": _source(), "expr": expression, "legendFormat": legend}


def _row(title: str) -> dict[str, Any]:
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "_size": (_WIDTH, 1)}


def _stat(
    title: str, expression: str, description: str, *, unit: str = "short",
    steps: tuple[tuple[float | None, str], ...] = ((None, _BLUE),), mappings: dict[str, tuple[str, str]] | None = None,
) -> dict[str, Any]:  # fmt: skip
    options = {value: {"text": text, "color": color} for value, (text, color) in (mappings or {}).items()}
    return {
        "type": "stat", "title": title, "description": description, "datasource": _source(), "_size": (4, 4),
        "targets": [_target(expression, "", 0)],
        "fieldConfig": {"overrides": [], "defaults": {
            "unit": unit, "decimals": 0 if unit == "short" else 1,
            "mappings": [{"type": "value", "options": options}] if options else [],
            "thresholds": {"mode": "absolute", "steps": [{"value": value, "color": color} for value, color in steps]},
        }},
        "options": {"colorMode": "value", "graphMode": "area", "reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value"},
    }  # fmt: skip


def _graph(
    title: str, description: str, unit: str, series: list[tuple[str, str]], *, stacked: bool = False
) -> dict[str, Any]:
    custom = {"drawStyle": "line", "lineWidth": 1, "fillOpacity": 30 if stacked else 8, "showPoints": "never",
              "stacking": {"mode": "normal" if stacked else "none"}}  # fmt: skip
    return {
        "type": "timeseries", "title": title, "description": description, "datasource": _source(), "_size": (12, 8),
        "targets": [_target(expression, legend, number) for number, (expression, legend) in enumerate(series)],
        "fieldConfig": {"overrides": [], "defaults": {"unit": unit, "min": 0, "custom": custom}},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
    }  # fmt: skip


def _placed(*made: dict[str, Any]) -> list[dict[str, Any]]:
    """Panels from left to right, a new line where one is full."""
    x = y = height = 0
    for number, panel in enumerate(made, 1):
        width, tall = panel.pop("_size")
        if x + width > _WIDTH:
            x, y, height = 0, y + height, 0
        panel |= {"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": tall}}
        x, height = x + width, max(height, tall)
    return list(made)


if __name__ == "__main__":
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(dashboard(), indent=2) + "\n", encoding="utf-8")
