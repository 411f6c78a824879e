"""The Grafana dashboard: what is committed is what the code makes, and each panel's question has an answer in a real
Prometheus that scrapes the real daemon. No Grafana server is started here."""

from __future__ import annotations

import json
import math
import re
import runpy
from pathlib import Path
from typing import Any

from tests.support import REPO
from tests.support.api import Shop, serving
from tests.support.command import order
from tests.support.daemon_process import place, running, until
from tests.support.prometheus import prometheus
from tests.support.pulls import pulling_home

GRAFANA = REPO / "deploy" / "grafana"
CODE = runpy.run_path(str(GRAFANA / "dashboard.py"))


FOLLOWING = {
    "models/daily.sql": "SELECT date, count(*) AS lines FROM fact_order GROUP BY date",
    "checks/large.sql": "SELECT order_id FROM fact_order WHERE amount > 1",
}


def panels() -> list[dict[str, Any]]:
    return [panel for panel in CODE["panels"]() if panel["type"] != "row"]


def test_the_committed_dashboard_is_what_the_code_makes() -> None:
    """Run deploy/grafana/dashboard.py after a change."""
    assert json.loads((GRAFANA / "dashboards" / "strandline.json").read_text()) == CODE["dashboard"]()


def test_panels_lie_beside_each_other() -> None:
    """No two cover the same place, none leaves the grid, every one has a description and its own number."""
    cells: set[tuple[int, int]] = set()
    for panel in CODE["panels"]():
        place_of = panel["gridPos"]
        covered = {(x, y) for x in range(place_of["x"], place_of["x"] + place_of["w"])
                   for y in range(place_of["y"], place_of["y"] + place_of["h"])}  # fmt: skip
        assert not cells & covered and max(x for x, _ in covered) < 24
        cells |= covered
    assert all(panel["description"] for panel in panels())
    assert len({panel["id"] for panel in CODE["panels"]()}) == len(CODE["panels"]())


def test_every_metric_is_on_it() -> None:
    """But for what only a label would show."""
    asked = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    documented = set(
        re.findall(r"^\| `(strandline_\w+)`", (GRAFANA.parents[1] / "docs" / "METRICS.md").read_text(), re.MULTILINE)
    )
    assert documented - set(re.findall(r"strandline_\w+?(?=_bucket|_sum|\{)", asked)) == {"strandline_build_info"}


def test_each_panel_has_series(tmp_path: Path) -> None:
    """Every expression, with the dashboard's variables filled in, gives series with numbers."""
    for path, text in FOLLOWING.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    shop = Shop()
    shop.put("s_1", 1_700_000_000)
    with (
        serving(shop.by_page) as api,
        running(with_a_mirror(pulling_home(tmp_path, api))) as daemon,
        prometheus(tmp_path / "prometheus", f"127.0.0.1:{daemon.port}") as server,
    ):
        until(lambda: server.value("up") == 1, "a first scrape")
        place(daemon.inbox / "users.csv", b"user_id,email\nu_1,a@example.com\n,nobody@example.com\n")
        records = [order(1, user_id="u_9"), order(2, amount="twelve"), {"order_id": 1}]
        place(daemon.inbox / "a.ndjson", "".join(json.dumps(one) + "\n" for one in records).encode())
        daemon.applied("a.ndjson")
        place(
            daemon.inbox / "b.ndjson",
            (json.dumps(order(1, amount=9, updated_at="2026-03-05T00:00:00Z")) + "\n").encode(),
        )
        daemon.applied("b.ndjson")
        until(lambda: server.value('strandline_drops_total{outcome="applied",source="default"}') == 3, "all is scraped")
        for panel in panels():
            for target in panel["targets"]:
                expression = (
                    target["expr"]
                    .replace("$__rate_interval", "1m")
                    .replace("$job", "strandline")
                    .replace("$instance", ".+")
                )
                until(lambda asked=expression: has_series(server.query(asked)), f"{panel['title']}: {expression}")  # type: ignore[misc]


def has_series(found: dict[tuple[tuple[str, str], ...], float]) -> bool:
    return any(not math.isnan(value) for value in found.values())


def with_a_mirror(home: Path) -> Path:
    """A home with one more section in its configuration."""
    path = home / "config.toml"
    path.write_text(path.read_text() + '\n[mirror.copy]\nurl = "copy"\n')
    return home
