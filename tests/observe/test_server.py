"""The server under the HTTP endpoint, with real sockets and clients in a process of their own: nobody keeps it from answering."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from daemon.core.errors import EnvironmentFault
from daemon.observe import server as module
from daemon.observe.access import Access
from daemon.observe.http import HEADERS, Application, Document, text
from daemon.observe.metrics import Metrics
from daemon.observe.server import CONNECTIONS, LARGEST_REQUEST_BYTES, serving
from tests.support import bad_clients
from tests.support.daemon_process import free_port, until

LONGEST = b"x" * (4 << 20)
MANY = 1000 if os.environ.get("TEST_LONG") else CONNECTIONS + 50


class Stuck:
    """An answer that does not come until it is released, as from a ledger on a disk that hangs."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked = 0

    def __call__(self, _: Mapping[str, Any]) -> Document:
        self.asked += 1
        self.released.wait(60)
        return text("late")


def ask(port: int, path: str, seconds: float = 60) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=seconds)
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status


def exchanged(port: int, sent: bytes) -> bytes:
    """All that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(sent)
        found = b""
        while part := client.recv(1 << 16):
            found += part
        return found


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    one = Stuck()
    yield one
    one.released.set()


@pytest.fixture
def application(tmp_path: Path, stuck: Stuck) -> Application:
    more = {"/api/status": lambda _: Document(LONGEST), "/stuck": stuck}
    return Application(Metrics(tmp_path, "1").registry, list, list, Access(), more)


@pytest.fixture
def port(application: Application) -> Iterator[int]:
    number = free_port()
    with serving(application, application.threads, "127.0.0.1", number):
        yield number


@pytest.mark.parametrize(
    ("client", "number"),
    [
        (bad_clients.slow_line, MANY), (bad_clients.slow_body, MANY), (bad_clients.silent, MANY), (bad_clients.deaf, MANY),
        (bad_clients.quick, 100), (bad_clients.status, 50), (bad_clients.endless, 50), (bad_clients.huge_header, 50),
    ],
)  # fmt: skip
def test_no_client_keeps_others_from_their_answer(
    port: int, monkeypatch: pytest.MonkeyPatch, client: bad_clients.Client, number: int
) -> None:
    """Health and metrics come within what a scrape waits for, also before any deadline. Connections and threads have a bound."""
    monkeypatch.setattr(module, "CLIENT_SECONDS", 3600)
    files = len(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    with bad_clients.attack(client, port, number):
        for _ in range(3):
            for path in ("/-/healthy", "/-/ready", "/metrics"):
                assert ask(port, path, bad_clients.LIMIT_SECONDS) == 200, path
            assert len(os.listdir("/proc/self/fd")) <= files + CONNECTIONS + 50
            assert threading.active_count() == threads


def test_a_client_has_a_deadline_however_busy_it_is(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then does not prolong it."""
    monkeypatch.setattr(module, "CLIENT_SECONDS", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.settimeout(0.05)

        def is_closed() -> bool:
            try:
                client.sendall(b"x")
                return client.recv(1) == b""
            except TimeoutError:
                return False
            except ConnectionError:
                return True

        until(is_closed)


def test_an_answer_that_is_not_taken_has_a_deadline_too(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of it does not come."""
    monkeypatch.setattr(module, "CLIENT_SECONDS", 0.5)
    files = len(os.listdir("/proc/self/fd"))
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect(("127.0.0.1", port))
        client.sendall(b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: len(os.listdir("/proc/self/fd")) == files + 2, "the server has its end")
        until(lambda: len(os.listdir("/proc/self/fd")) == files + 1, "it closed that")
        received = 0
        try:
            while part := client.recv(1 << 16):
                received += len(part)
        except ConnectionError:
            pass
        assert received < len(LONGEST)


def test_the_one_that_waited_longest_makes_room(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many connections, the newest is answered."""
    monkeypatch.setattr(module, "CONNECTIONS", 8)
    number = free_port()
    with serving(application, application.threads, "127.0.0.1", number), ExitStack() as stack:
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", number), timeout=60)) for _ in range(9)]
        assert clients[0].recv(1) == b""
        for client in clients[1:]:
            client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
            assert client.recv(12) == b"HTTP/1.0 200"


ASK = """
import http.client, sys

sys.stdin.readline()
for _ in range(3):
    connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=float(sys.argv[2]))
    connection.request("GET", "/-/healthy")
    print(connection.getresponse().status)
"""


def test_where_no_file_can_be_opened_one_that_waited_long_makes_room(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process has as many open as it may. No deadline helps. Who asks is another process, which may open files."""
    monkeypatch.setattr(module, "CLIENT_SECONDS", 3600)

    def opened() -> list[int]:
        return list(map(int, os.listdir("/proc/self/fd")))

    with ExitStack() as stack:
        command = [sys.executable, "-c", ASK, str(port), str(bad_clients.LIMIT_SECONDS)]
        client = stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        stack.callback(client.kill)
        assert client.stdin and client.stdout
        without = len(opened())
        stack.enter_context(bad_clients.attack(bad_clients.silent, port, 50))
        until(lambda: len(opened()) >= without + 50, "all of them are accepted")
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(opened()) + 20, before[1]))
        taken = [os.open("/dev/null", os.O_RDONLY)]
        stack.callback(lambda: [os.close(one) for one in taken])
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(taken[0]))
        client.stdin.write(b"\n")
        client.stdin.flush()
        assert client.stdout.read() == b"200\n" * 3


def test_a_path_that_hangs_harms_only_those_who_ask_for_it(port: int, stuck: Stuck) -> None:
    """More than there may be connections wait for it, and it is asked once. Everything else is answered, the path itself again
    when it can be."""
    with ExitStack() as stack:
        for _ in range(CONNECTIONS + 50):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            client.sendall(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for path in ("/-/healthy", "/-/ready", "/metrics", "/api/status"):
            assert ask(port, path, bad_clients.LIMIT_SECONDS) == 200, path
        assert stuck.asked == 1
        stuck.released.set()
        assert client.recv(12) == b"HTTP/1.1 200"


def test_it_ends_though_a_path_hangs(application: Application, stuck: Stuck) -> None:
    """And its port is free."""
    number = free_port()
    with serving(application, application.threads, "127.0.0.1", number):
        client = socket.create_connection(("127.0.0.1", number), timeout=60)
        client.sendall(b"GET /stuck HTTP/1.1\r\nHost: localhost\r\n\r\n")
        until(lambda: stuck.asked)
    with client, pytest.raises(ConnectionError), socket.create_connection(("127.0.0.1", number)):
        pass
    with serving(application, application.threads, "127.0.0.1", number):
        assert ask(number, "/-/healthy") == 200
    assert not stuck.released.is_set()


def test_an_end_leaves_no_descriptor(application: Application) -> None:
    """Neither of the server, nor of clients that are connected."""
    with ExitStack() as stack:
        before = -1
        for number in range(3):
            with serving(application, application.threads, "localhost", free_port()) as addresses:
                port = int(addresses.rpartition(":")[2])
                assert ask(port, "/-/healthy") == 200
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            after = len(os.listdir("/proc/self/fd")) - number
            assert before in (-1, after)
            before = after


GET = b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("sent", "first"),
    [
        (b"GET /-/healthy HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK"),
        (b"GET /-/healthy HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"HTTP/1.0 200 OK"),
        (b"GET /-/healthy\r\n\r\n", b"HTTP/1.0 200 OK"),
        (b"GET http://localhost/-/healthy HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 200 OK"),
        (GET + b"Content-Length: 5\r\n\r\nhello", b"HTTP/1.1 200 OK"),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", b"HTTP/1.1 200 OK"),
        (GET + b"\r\n" + GET + b"\r\n" + GET + b"\r\n", b"HTTP/1.1 200 OK"),
        (b"HEAD /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 200 OK"),
        (b"POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello", b"HTTP/1.1 405 Method Not Allowed"),
        (b"CONNECT x:1 HTTP/1.1\r\nHost: localhost\r\n\r\n", b"HTTP/1.1 405 Method Not Allowed"),
        (b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000000\r\n\r\n", b"HTTP/1.1 413 "),
        (b"GET /-/healthy HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"HTTP/1.1 400 "),
        (GET + b"Transfer-Encoding: gzip\r\n\r\n", b"HTTP/1.1 501 "),
        (GET + b"no colon\r\n\r\n", b"HTTP/1.0 400 "),
        (b"GET /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 400 "),
        (b"GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"HTTP/1.1 421 "),
        (b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", b"HTTP/1.1 421 "),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"HTTP/1.0 400 "),
        (b"GET / HTTP/1.1\r\nX: ".ljust(LARGEST_REQUEST_BYTES, b"x"), b"HTTP/1.0 431 "),
    ],
)  # fmt: skip
def test_a_request_of_any_kind_gets_one_answer(port: int, sent: bytes, first: bytes) -> None:
    """And then the connection is closed, whatever else was sent and whatever the client wishes. The headers that keep other pages
    out come with every answer, also with those to what cannot be read."""
    found = exchanged(port, sent)
    assert found.startswith(first) and found.count(b"HTTP/1.") == 1
    head = found.partition(b"\r\n\r\n")[0]
    assert head.lower().count(b"\r\nconnection: close") == 1
    assert [name for name, value in HEADERS.items() if head.count(f"\r\n{name}: {value}".encode()) != 1] == []
    if sent.startswith(b"HEAD"):
        assert found.endswith(b"\r\n\r\n") and f"Content-Length: {len(LONGEST)}".encode() in found


def test_expect_continue_is_answered(port: int) -> None:
    """Before the body."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        client.sendall(GET + b"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_a_long_answer_arrives_whole(port: int) -> None:
    """At many clients at once, which share it."""
    request = b"GET /api/status HTTP/1.1\r\nHost: localhost\r\n\r\n"
    found: list[bool] = []
    clients: list[Callable[[], None]] = [
        lambda: found.append(exchanged(port, request).endswith(b"\r\n\r\n" + LONGEST))
    ] * 8
    threads = [threading.Thread(target=client) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 8


def test_a_taken_port_is_one_clear_error_and_a_left_one_is_free() -> None:
    """The same address can be bound again as soon as the block ended."""
    port = free_port()
    for _ in range(3):
        with serving(lambda *_: [], {}, "127.0.0.1", port) as address:
            assert address == f"http://127.0.0.1:{port}"
            with (
                pytest.raises(EnvironmentFault, match=f"127.0.0.1:{port}.*in use"),
                serving(lambda *_: [], {}, "127.0.0.1", port),
            ):
                pass


def test_a_host_that_does_not_exist_is_a_clear_error() -> None:
    """As a mistyped [http] host."""
    with (
        pytest.raises(EnvironmentFault, match=r"serve HTTP on no\.such\.host\.invalid:1"),
        serving(lambda *_: [], {}, "no.such.host.invalid", 1),
    ):
        pass
