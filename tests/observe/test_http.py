"""What is answered over HTTP, with real sockets."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from email.message import Message
from pathlib import Path
from types import SimpleNamespace

import pytest

from daemon.batch.retries import Retry
from daemon.observe.access import Access
from daemon.observe.health import Health
from daemon.observe.http import Application, Shared
from daemon.observe.metrics import Metrics
from daemon.observe.server import serving
from tests.support.daemon_process import free_port


class Server:
    def __init__(self, port: int, health: Health) -> None:
        self.port, self.health, self.up = port, health, True

    def ask(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body, answer.headers["Content-Type"]

    def headers(self, path: str, method: str = "GET", **sent: str) -> Message:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, headers=sent)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.headers


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    one: list[Server] = []
    staging = tmp_path / ".staging"
    for folder in (staging, tmp_path / "curated"):
        folder.mkdir()
    health = Health(staging, 10.0, lambda: one[0].up, lambda: None)
    one.append(Server(port, health))
    answer = Application(Metrics(tmp_path, "1").registry, health.why_unhealthy, health.why_not_ready, Access())
    with serving(answer, answer.threads, "127.0.0.1", port):
        yield one[0]


def test_metrics_are_served_as_prometheus_reads_them(server: Server) -> None:
    """With the content type of the text format."""
    status, body, kind = server.ask("/metrics")
    assert status == 200 and kind.startswith("text/plain") and "strandline_drops_total{" in body


def test_other_paths_and_methods_are_refused_with_a_hint(server: Server) -> None:
    """404 names what there is, and what is meant; nothing but GET and HEAD is answered."""
    status, body, _ = server.ask("/nowhere")
    assert status == 404 and body.startswith("there is no path '/nowhere'\n") and "/metrics" in body
    assert server.ask("/Metric")[1].startswith("there is no path '/Metric'; did you mean /metrics?\n")
    assert server.ask("/metrics", "POST")[0] == 405
    assert server.ask("/metrics", "HEAD")[:2] == (200, "")


def test_readiness_says_why_not(server: Server, tmp_path: Path) -> None:
    """Starting, deaf, paused, not writable: each is one line; when all is well again it is green."""
    assert server.ask("/-/ready")[0] == 503 and "starting" in server.ask("/-/ready")[1]
    server.health.scanned(0, None, 0)
    assert server.ask("/-/ready")[:2] == (200, "ready\n")
    server.up = False
    assert "cannot be watched" in server.ask("/-/ready")[1]
    server.up = True
    server.health.failed(Retry("commit", 1, 0.5, "disk I/O error", exhausted=False))
    assert server.ask("/-/ready")[0] == 200  # the first failures may pass unseen
    server.health.failed(Retry("commit", 5, 0.5, "disk I/O error", exhausted=True))
    assert "paused: commit failed (disk I/O error)" in server.ask("/-/ready")[1]
    server.health.recovered()
    assert server.ask("/-/ready")[0] == 200
    (tmp_path / ".staging").rename(tmp_path / "gone")
    assert "cannot write to" in server.ask("/-/ready")[1]
    assert server.ask("/-/healthy")[0] == 200


def test_who_asks_at_once_does_not_find_the_others_guilty(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two scrapers have a file each to try with. (They shared one, and who came second could not remove it.)"""
    server.health.scanned(0, None, 0)
    both_wrote = threading.Barrier(2, timeout=60)
    write_bytes = Path.write_bytes

    def together(path: Path, content: bytes) -> int:
        written = write_bytes(path, content)
        both_wrote.wait()
        return written

    monkeypatch.setattr(Path, "write_bytes", together)
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda _: server.health.why_not_ready(), range(2))) == [[], []]


def test_a_batch_that_ends_meanwhile_does_not_make_it_red(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cleans the staging folder, this file included."""
    server.health.scanned(0, None, 0)
    write_bytes = Path.write_bytes

    def cleaned(path: Path, content: bytes) -> int:
        written = write_bytes(path, content)
        path.unlink()
        return written

    monkeypatch.setattr(Path, "write_bytes", cleaned)
    assert server.ask("/-/ready")[:2] == (200, "ready\n")


def test_a_loop_that_stands_still_is_unhealthy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is allowed its rest and one long step; then it counts as hanging, until it turns again."""
    server.health.turn()
    now = time.monotonic()
    clock = SimpleNamespace(monotonic=lambda: now + 100)
    monkeypatch.setattr("daemon.observe.health.time", clock)
    assert server.ask("/-/healthy")[0] == 200
    clock.monotonic = lambda: now + 1000
    status, why, _ = server.ask("/-/healthy")
    assert status == 503 and "has not run for" in why
    server.health.turn()
    assert server.ask("/-/healthy")[0] == 200


def test_every_answer_forbids_what_it_does_not_need(server: Server) -> None:
    """It loads nothing, is shown by no other page, is not kept, and is what it says. Which version answers is not told."""
    for path in ("/metrics", "/-/healthy", "/-/ready", "/nowhere"):
        headers = server.headers(path)
        assert "default-src 'none'" in headers["Content-Security-Policy"], path
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"] and headers["X-Frame-Options"] == "DENY"
        assert headers["X-Content-Type-Options"] == "nosniff" and headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store" and headers["Server"] == "strandline"
    assert server.headers("/metrics", "DELETE")["Allow"] == "GET, HEAD"


def test_metrics_come_in_the_format_that_is_accepted(server: Server) -> None:
    """OpenMetrics, and the text format otherwise. What a client sends is in no answer."""
    accepted = "application/openmetrics-text;version=1.0.0;evil=1,text/plain;q=0.1"
    assert server.headers("/metrics", Accept=accepted)["Content-Type"].startswith(
        "application/openmetrics-text; version=1.0.0"
    )
    assert server.headers("/metrics", Accept="text/plain;version=9;evil=1")["Content-Type"].startswith(
        "text/plain; version=0.0.4"
    )


def test_a_value_is_made_once_for_all_who_wait() -> None:
    """Who asked before it was begun shares it. Who asked later gets a new one."""
    made: list[float] = []
    shared = Shared(lambda: made.append(time.monotonic()) or len(made))
    long_ago = time.monotonic()
    assert [shared.get(long_ago) for _ in range(5)] == [1] * 5
    assert shared.get(time.monotonic()) == 2 and shared.get(long_ago) == 2


def test_a_value_is_fresh_for_as_long_as_it_says_and_longer_where_it_costs_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A second; and nine times as long as it took."""
    now, cost = [1000.0], [0.0]
    monkeypatch.setattr(
        "daemon.observe.http.time", SimpleNamespace(monotonic=lambda: now[0], thread_time=lambda: now[0])
    )
    made: list[int] = []

    def make() -> int:
        now[0] += cost[0]
        made.append(1)
        return len(made)

    shared = Shared(make, 1.0)
    assert [shared.get(asked) for asked in (1000.0, 1001.0)] == [1, 1]
    now[0], cost[0] = 1001.5, 2.0
    assert shared.get(1001.5) == 2  # made from 1001.5 to 1003.5
    assert [shared.get(asked) for asked in (1003.5, 1021.5, 1021.6)] == [2, 2, 3]


def test_an_answer_that_fails_is_shared_by_nobody() -> None:
    """The next one tries again."""
    results = iter([OSError("gone"), 7])

    def make() -> int:
        found = next(results)
        if isinstance(found, OSError):
            raise found
        return found

    shared = Shared(make)
    with pytest.raises(OSError, match="gone"):
        shared.get(0.0)
    assert shared.get(0.0) == 7


def test_only_who_may_see_it_is_told_why(tmp_path: Path) -> None:
    """Without a login, health says whether, and not why not; everything else asks for the login."""
    answer = Application(Metrics(tmp_path, "1").registry, lambda: ["it hangs"], lambda: ["no room"], Access((), "u:p"))

    def asked(path: str, **more: str) -> tuple[str, bytes, dict[str, str]]:
        told: list[tuple[str, dict[str, str]]] = []
        environ = {"PATH_INFO": path, "REQUEST_METHOD": "GET", "HTTP_HOST": "localhost"} | more
        body = b"".join(answer(environ, lambda status, headers: told.append((status, dict(headers)))))
        return told[0][0], body, told[0][1]

    login = {"HTTP_AUTHORIZATION": "Basic dTpw"}
    assert asked("/-/healthy")[:2] == ("503 Service Unavailable", b"not healthy\n")
    assert asked("/-/ready")[:2] == ("503 Service Unavailable", b"not ready\n")
    assert asked("/-/ready", **login)[1] == b"not ready\nno room\n"
    assert asked("/-/ready", HTTP_HOST="evil.example", **login)[1] == b"not ready\n"
    for path in ("/metrics", "/", "/nowhere"):
        status, body, headers = asked(path)
        assert (
            status == "401 Unauthorized"
            and headers["WWW-Authenticate"].startswith("Basic realm=")
            and b"strandline_" not in body
        )
    assert asked("/metrics", **login)[0] == "200 OK" and asked("/nowhere", **login)[0] == "404 Not Found"
