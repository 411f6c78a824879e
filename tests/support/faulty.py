"""A server between a client and an S3-speaking one, on loopback, that answers some requests itself or cuts them."""

from __future__ import annotations

import http.client
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_HOP = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@dataclass
class Fault:
    """What happens to requests that fit. `status` and `code`: the answer. `cut`: the connection is closed after half of the body,
    or before the answer where there is none. `times`: how often; then requests pass."""

    method: str
    path: str = ""  # is in the path and query
    status: int = 0
    code: str = ""
    cut: bool = False
    times: int = 1 << 30
    met: int = field(default=0, init=False)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that no longer waits is nothing to tell."""
        if not isinstance(sys.exception(), ConnectionError):
            traceback.print_exc()


class Proxy:
    """`url` is what clients use. `requests`: the method and path of each one, as it came."""

    def __init__(self, upstream: str, faults: list[Fault], delay_seconds: float = 0.0) -> None:
        self.delay_seconds = delay_seconds
        self.faults, self.requests = faults, list[tuple[str, str]]()
        self._lock = threading.Lock()
        self._host = urlsplit(upstream).netloc
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def fault(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.requests.append((method, path))
            for one in self.faults:
                if one.method == method and one.path in path and one.met < one.times:
                    one.met += 1
                    return one
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy, upstream = self, self._host

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Nothing."""

            def _any(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                fault = proxy.fault(self.command, self.path)
                if fault is not None and fault.cut:
                    self.rfile.read(size // 2)
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                body = self.rfile.read(size)
                time.sleep(proxy.delay_seconds)
                if fault is not None:
                    self._answer(fault.status, [("Content-Type", "application/xml")], _error(fault.code))
                    return
                connection = http.client.HTTPConnection(upstream, timeout=60)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers.items()))
                    answer = connection.getresponse()
                    headers = [(name, value) for name, value in answer.getheaders() if name.lower() not in _HOP]
                    self._answer(answer.status, headers, answer.read(), answer.getheader("Content-Length"))
                finally:
                    connection.close()

            def _answer(
                self, status: int, headers: list[tuple[str, str]], body: bytes, length: str | None = None
            ) -> None:
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                is_head = self.command == "HEAD"
                self.send_header("Content-Length", (length or "0") if is_head else str(len(body)))
                self.end_headers()
                if not is_head:
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

        return Handler


def _error(code: str) -> bytes:
    """As S3 spells an error. It has what must never be shown."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>The message</Message>'
        f"<AWSAccessKeyId>AKIDTESTTESTTESTTEST</AWSAccessKeyId><StringToSign>a-string-to-sign</StringToSign></Error>"
    ).encode()


@contextmanager
def between(upstream: str, *faults: Fault, delay_seconds: float = 0.0) -> Iterator[Proxy]:
    """A proxy that is closed at the end. `delay_seconds`: of each answer."""
    proxy = Proxy(upstream, list(faults), delay_seconds)
    try:
        yield proxy
    finally:
        proxy.close()
