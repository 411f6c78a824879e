"""A real Prometheus for tests, which scrapes given targets and answers queries."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.daemon_process import free_port, until


def tool(name: str) -> str:
    """The path of a Prometheus program. Without it, the test is skipped; in CI it fails."""
    found = shutil.which(name)
    if found is None:
        reason = f"{name} is not installed (Debian: apt-get install prometheus prometheus-alertmanager)"
        if os.environ.get("REQUIRE_TEST_TOOLS"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class Prometheus:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def up(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/-/ready", timeout=10) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError):
            return False

    def query(self, promql: str) -> dict[tuple[tuple[str, str], ...], float]:
        """An instant query: values by their labels, without name, instance and job."""
        address = f"{self._url}/api/v1/query?" + urllib.parse.urlencode({"query": promql})
        with urllib.request.urlopen(address, timeout=20) as answer:
            content = json.load(answer)
        assert content["status"] == "success" and content["data"]["resultType"] == "vector", content
        hidden = {"__name__", "instance", "job"}
        return {
            tuple(sorted((k, v) for k, v in one["metric"].items() if k not in hidden)): float(one["value"][1])
            for one in content["data"]["result"]
        }

    def value(self, promql: str) -> float | None:
        """The single value of a query; None without a series."""
        found = self.query(promql)
        assert len(found) <= 1, found
        return next(iter(found.values()), None)


@contextmanager
def prometheus(
    folder: Path,
    *targets: str,
    rules: str = "",
    alertmanager_port: int = 0,
    jobs: Mapping[str, Mapping[str, object]] | None = None,
) -> Iterator[Prometheus]:
    """Scrapes the targets four times a second. With `rules`, evaluates them and sends alerts to an Alertmanager. `jobs`: by name,
    further settings of the jobs that scrape the targets."""
    program, port = tool("prometheus"), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, object] = {
        "global": {"scrape_interval": "250ms", "scrape_timeout": "250ms", "evaluation_interval": "500ms"},
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": list(targets)}], **more}
            for name, more in (jobs or {"strandline": {}}).items()
        ],
    }
    if rules:
        (folder / "rules.yml").write_text(rules)
        alertmanagers = [{"static_configs": [{"targets": [f"127.0.0.1:{alertmanager_port}"]}]}]
        config |= {"rule_files": ["rules.yml"], "alerting": {"alertmanagers": alertmanagers}}
    (folder / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
    with _process(
        folder / "log.txt", program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ):  # fmt: skip
        one = Prometheus(port)
        until(one.up, "Prometheus is ready")
        yield one


@contextmanager
def alertmanager(folder: Path, webhook: str) -> Iterator[int]:
    """Sends every alert to a webhook at once; yields the port of the Alertmanager."""
    program, port = tool("prometheus-alertmanager"), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = {
        "route": {"receiver": "test", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s"},
        "receivers": [{"name": "test", "webhook_configs": [{"url": webhook}]}],
    }
    (folder / "alertmanager.yml").write_text(json.dumps(config))
    with _process(
        folder / "log.txt", program, f"--config.file={folder}/alertmanager.yml", f"--storage.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address=",
    ):  # fmt: skip
        until(Prometheus(port).up, "Alertmanager is ready")
        yield port


@contextmanager
def _process(log: Path, *command: str) -> Iterator[None]:
    with open(log, "wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)
