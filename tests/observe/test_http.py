"""The HTTP endpoint with real sockets: what it answers, and that nobody can keep it from answering."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemon.batch.retries import Retry
from daemon.core.errors import EnvironmentFault
from daemon.observe.health import Health
from daemon.observe.http import application, serving
from daemon.observe.metrics import Metrics
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


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    port = free_port()
    one: list[Server] = []
    staging = tmp_path / ".staging"
    for folder in (staging, tmp_path / "curated"):
        folder.mkdir()
    health = Health(staging, 10.0, lambda: one[0].up, lambda: None)
    one.append(Server(port, health))
    answer = application(Metrics(tmp_path, "1").registry, health.why_unhealthy, health.why_not_ready)
    with serving(answer, "127.0.0.1", port):
        yield one[0]


def test_metrics_are_served_as_prometheus_reads_them(server: Server) -> None:
    """With the content type of the text format."""
    status, body, kind = server.ask("/metrics")
    assert status == 200 and kind.startswith("text/plain") and "strandline_drops_total{" in body


def test_other_paths_and_methods_are_refused_with_a_hint(server: Server) -> None:
    """404 names what there is; nothing but GET and HEAD is answered."""
    status, body, _ = server.ask("/nowhere")
    assert status == 404 and "/metrics" in body
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
    monkeypatch.setattr("daemon.observe.health.time.monotonic", lambda: now + 100)
    assert server.ask("/-/healthy")[0] == 200
    monkeypatch.setattr("daemon.observe.health.time.monotonic", lambda: now + 1000)
    status, why, _ = server.ask("/-/healthy")
    assert status == 503 and "has not run for" in why
    server.health.turn()
    assert server.ask("/-/healthy")[0] == 200


def test_idle_and_slow_clients_harm_nobody(server: Server) -> None:
    """Hundreds that connect and say nothing, or a byte at a time, do not keep a scrape from its answer."""
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(400)]
        for client in clients[::2]:
            client.sendall(b"GET /metr")
        ended = threading.Event()

        def drip() -> None:
            while not ended.wait(0.2):
                for client in clients[::4]:
                    try:
                        client.sendall(b"x")
                    except OSError:
                        continue

        dripping = threading.Thread(target=drip)
        dripping.start()
        try:
            assert server.ask("/metrics")[0] == 200
        finally:
            ended.set()
            dripping.join()


def test_an_oversized_request_is_refused(server: Server) -> None:
    """Headers without end are not read without end."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as client:
        try:
            client.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20))
            answer = client.recv(1000)
        except ConnectionError:
            answer = b""
    assert answer == b"" or b" 431 " in answer.splitlines()[0] or b" 400 " in answer.splitlines()[0]
    assert server.ask("/metrics")[0] == 200


def test_a_taken_port_is_one_clear_error_and_a_left_one_is_free() -> None:
    """The same address can be bound again as soon as the block ended."""
    port = free_port()
    for _ in range(3):
        with serving(lambda *_: [], "127.0.0.1", port) as address:
            assert address == f"http://127.0.0.1:{port}"
            with (
                pytest.raises(EnvironmentFault, match=f"127.0.0.1:{port}.*in use"),
                serving(lambda *_: [], "127.0.0.1", port),
            ):
                pass


def test_a_host_that_does_not_exist_is_a_clear_error() -> None:
    """As a mistyped [http] host."""
    with (
        pytest.raises(EnvironmentFault, match=r"serve HTTP on no\.such\.host\.invalid:1"),
        serving(lambda *_: [], "no.such.host.invalid", 1),
    ):
        pass
