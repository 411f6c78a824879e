"""The metrics of models and checks: told while a round runs and at its end, and gone with their files."""

from __future__ import annotations

import os
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families as plain

from daemon.core.retry import Backoff
from daemon.downstream.attempts import Followed
from daemon.downstream.follow import Following
from daemon.downstream.sandbox import Limits
from daemon.downstream.settings import Settings
from daemon.observe.following import FollowingMetrics
from tests.support.command import as_drop, order
from tests.support.harness import apply_batch, open_engine

NOW = 1_780_000_000_000_000
CHECK = Followed("check", "wrong", 1, 1, 3, 0, 0.1, found=3, severity="warning")
MODEL = Followed("model", "daily", 2, 2, 4, 0, 0.5)


class Asked:
    """Metrics, and the value of each series."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = FollowingMetrics(self.registry, "strandline_")

    def value(self, metric: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"strandline_{metric}", labels)

    def series(self) -> int:
        return sum(len(family.samples) for family in self.registry.collect())


def test_stale_dates_are_told_while_a_round_runs() -> None:
    """A round of a long history takes hours: its end alone would say that everything is up to date, always."""
    asked = Asked()
    asked.metrics.following(replace(MODEL, stale=730))
    assert asked.value("downstream_stale_dates", kind="model", name="daily") == 730
    assert asked.value("downstream_runs_total", kind="model", name="daily", outcome="succeeded") == 0
    asked.metrics.following(replace(MODEL, stale=400))
    assert asked.value("downstream_stale_dates", kind="model", name="daily") == 400
    asked.metrics.followed([MODEL], 7.0)
    assert asked.value("downstream_stale_dates", kind="model", name="daily") == 0
    assert asked.value("downstream_last_success_timestamp_seconds", kind="model", name="daily") == 7


def test_a_check_with_another_severity_counts_under_that_one_only() -> None:
    """The alert of the old severity would never end."""
    asked = Asked()
    asked.metrics.followed([CHECK], 1.0)
    assert asked.value("check_rows", name="wrong", severity="warning") == 3
    asked.metrics.followed([Followed("check", "wrong", 1, 1, 2, 0, 0.1, found=2, severity="error")], 2.0)
    assert asked.value("check_rows", name="wrong", severity="error") == 2
    assert asked.value("check_rows", name="wrong", severity="warning") is None


def test_series_go_with_their_files() -> None:
    """What is removed is neither stale nor failing."""
    asked = Asked()
    asked.metrics.followed([CHECK, MODEL], 1.0)
    asked.metrics.following(replace(MODEL, name="other"))
    asked.metrics.followed([], 2.0)
    assert asked.series() == 0


def test_a_round_tells_how_far_it_is(tmp_path: Path) -> None:
    """Of each model when it is begun, after each piece and when it is done. One that failed before fails until it succeeds: the
    alert counts the minutes since then."""
    told: list[tuple[str, int, bool]] = []

    def progress(one: Followed) -> None:
        told.append((one.name, one.stale, bool(one.error)))

    raises = "SELECT date, error('no') AS x FROM fact_order"
    with over(tmp_path, {"daily": "SELECT DISTINCT date FROM fact_order", "raises": raises}) as following:
        following.round(lambda: False, progress=progress)
        assert told == [
            ("daily", 2, False),
            ("daily", 0, False),
            ("daily", 0, False),
            ("raises", 2, False),
            ("raises", 2, True),
        ]
        told.clear()
        following.round(lambda: False, now=True, progress=progress)
        assert told == [("daily", 0, False), ("raises", 2, True), ("raises", 2, True)]


def test_a_file_whose_name_is_not_utf8_is_an_error_of_its_own(tmp_path: Path) -> None:
    """Records, metrics and the page are UTF-8: such a name must not keep every other model from being brought up to date."""
    (tmp_path / "models").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/models/caf\xe9.sql")).write_text("SELECT 1")
    with over(tmp_path, {"daily": "SELECT DISTINCT date FROM fact_order"}) as following:
        found = {one.name: one for one in following.round(lambda: False)}
    assert "UTF-8" in found["caf\ufffd"].error
    assert found["daily"].dates == 2 and not found["daily"].error


@pytest.mark.parametrize(
    "name", ['a"b', "a\\b", "a\nb", 'a\\"\nb', "a} 1\nstrandline_up 1", "<b>", "caf\ufffd", "\u202egnp"]
)
def test_a_name_is_a_value_of_a_label_and_nothing_else(name: str) -> None:
    """Whatever it has: Prometheus reads the name as it is, and no other series."""
    asked = Asked()
    asked.metrics.followed([replace(MODEL, name=name)], 1.0)
    for encode, parse in ((generate_latest, plain), (generate_open_metrics, open_metrics)):
        found = [sample for family in parse(encode(asked.registry).decode()) for sample in family.samples]
        assert {sample.labels["name"] for sample in found} == {name} and len(found) == asked.series()
        assert all(sample.name.startswith("strandline_downstream_") for sample in found)


def over(root: Path, models: dict[str, str]) -> closing[Following]:
    """What follows an output with orders of two dates."""
    (root / "models").mkdir(exist_ok=True)
    for name, text in models.items():
        (root / "models" / f"{name}.sql").write_text(text)
    with open_engine(root) as engine:
        apply_batch(engine, root, [("a.json", as_drop([order(1, 2), order(2, 3)]))], NOW)
    settings = Settings(root / "models", root / "checks", Limits(256 << 20, 1, 60.0), Backoff(3, 0.01, 0.05), ())
    return closing(Following(root / "output", settings))
