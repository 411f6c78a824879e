"""A small API of orders on loopback, with real connections, that fails in the ways in which APIs fail."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from daemon.storage.raw import zstd_module

Query = dict[str, str]


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    query: Query
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Reply:
    """What is sent, and what goes wrong meanwhile."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None  # in place of the true one
    sent: int | None = None  # only so many bytes, then the connection ends
    silent: bool = False  # the connection ends without an answer
    slow: float = 0.0  # seconds before the body
    drip: float = 0.0  # seconds between two bytes


def page(document: Any, **headers: str) -> Reply:
    return Reply(json.dumps(document).encode(), headers={"Content-Type": "application/json", **headers})


def _zstd(body: bytes) -> bytes:
    return bytes(zstd_module().compress(body))


# By name: what a fault makes of the right answer.
FAULTS: dict[str, Callable[[Reply], Reply]] = {
    "silent": lambda right: Reply(silent=True),
    "cut": lambda right: Reply(right.body, headers=right.headers, sent=len(right.body) // 2),
    "cut_without_length": lambda right: Reply(right.body, headers=right.headers, length=-1, sent=len(right.body) // 2),
    "longer_length": lambda right: Reply(right.body, headers=right.headers, length=len(right.body) + 7),
    "shorter_length": lambda right: Reply(right.body, headers=right.headers, length=len(right.body) - 7),
    "busy": lambda right: Reply(b"slow down", 429, {"Retry-After": "0"}),
    "busy_until": lambda right: Reply(b"slow down", 429, {"Retry-After": formatdate(usegmt=True)}),
    "busy_without_time": lambda right: Reply(b"slow down", 429),
    "error_500": lambda right: Reply(b'{"error": "internal"}', 500),
    "error_503": lambda right: Reply(b"<h1>Maintenance</h1>", 503, {"Retry-After": "0"}),
    "html": lambda right: Reply(b"<html><body>Please log in</body></html>", headers={"Content-Type": "text/html"}),
    "empty": lambda right: Reply(b""),
    "gzip": lambda right: Reply(gzip.compress(right.body), headers=right.headers | {"Content-Encoding": "gzip"}),
    "gzip_members": lambda right: Reply(
        gzip.compress(right.body[:9]) + gzip.compress(right.body[9:]),
        headers=right.headers | {"Content-Encoding": "gzip"},
    ),
    "deflate": lambda right: Reply(zlib.compress(right.body), headers=right.headers | {"Content-Encoding": "deflate"}),
    "zstd": lambda right: Reply(_zstd(right.body), headers=right.headers | {"Content-Encoding": "zstd"}),
    "cut_zstd": lambda right: Reply(_zstd(right.body)[:-3], headers=right.headers | {"Content-Encoding": "zstd"}),
    "wrong_zstd": lambda right: Reply(b"no" + right.body, headers=right.headers | {"Content-Encoding": "zstd"}),
    "cut_gzip": lambda right: Reply(
        gzip.compress(right.body)[:-12], headers=right.headers | {"Content-Encoding": "gzip"}
    ),
    "wrong_gzip": lambda right: Reply(b"\x1f\x8b" + right.body, headers=right.headers | {"Content-Encoding": "gzip"}),
}


class Api:
    """Answers on loopback with `answer`. `faults`: for the next requests, one each; None: no fault. `before`: called before each
    answer, with the number of the request."""

    def __init__(self, answer: Callable[[Asked], Reply]) -> None:
        self.answer = answer
        self.faults: deque[str | None] = deque()
        self.asked: list[Asked] = []
        self.before: Callable[[int], None] = lambda number: None
        self._lock = threading.Lock()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                api._serve(self)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        parts = urlsplit(handler.path)
        query = {name: ",".join(values) for name, values in parse_qs(parts.query).items()}
        with self._lock:
            asked = Asked(handler.command, parts.path, query, dict(handler.headers), body)
            self.asked.append(asked)
            self.before(len(self.asked))
            reply = self.answer(asked)
            if self.faults and (fault := self.faults.popleft()):
                reply = FAULTS[fault](reply)
        _send(handler, reply)


def _send(handler: BaseHTTPRequestHandler, reply: Reply) -> None:
    if reply.silent:
        handler.close_connection = True
        return
    handler.send_response(reply.status)
    for name, value in reply.headers.items():
        handler.send_header(name, value)
    length = len(reply.body) if reply.length is None else reply.length
    if length >= 0:
        handler.send_header("Content-Length", str(length))
    else:
        handler.send_header("Connection", "close")
    handler.end_headers()
    if reply.slow:
        threading.Event().wait(reply.slow)
    try:
        body = reply.body if reply.sent is None else reply.body[: reply.sent]
        for part in [body] if not reply.drip else [body[at : at + 1] for at in range(len(body))]:
            handler.wfile.write(part)
            handler.wfile.flush()
            if reply.drip:
                threading.Event().wait(reply.drip)
    except (BrokenPipeError, ConnectionResetError):
        pass
    if reply.length is not None or reply.sent is not None:
        handler.close_connection = True


@contextmanager
def serving(answer: Callable[[Asked], Reply]) -> Iterator[Api]:
    api = Api(answer)
    try:
        yield api
    finally:
        api.close()


class Shop:
    """Orders that an API lists by the time of their change. Times are whole seconds since 1970."""

    def __init__(self, limit: int = 3) -> None:
        self.limit = limit
        self.orders: dict[str, dict[str, Any]] = {}

    def put(self, order_id: str, changed: int, amount: int = 1, created: int = 1_700_000_000) -> None:
        self.orders[order_id] = {
            "order_id": order_id, "created_at": created, "updated_at": changed, "amount": amount,
            "items": [{"sku": "p_1", "qty": 1, "price": amount}],
        }  # fmt: skip

    def since(self, seconds: int) -> list[dict[str, Any]]:
        """What changed since an instant, inclusive, sorted by that."""
        found = [one for one in self.orders.values() if one["updated_at"] >= seconds]
        return sorted(found, key=lambda one: (one["updated_at"], one["order_id"]))

    def by_page(self, asked: Asked) -> Reply:
        """?since=&page= from 1 on."""
        first = (int(asked.query.get("page", 1)) - 1) * self.limit
        return page({"orders": self.since(int(asked.query.get("since", 0)))[first : first + self.limit]})

    def by_offset(self, asked: Asked) -> Reply:
        first = int(asked.query.get("offset", 0))
        return page({"orders": self.since(int(asked.query.get("since", 0)))[first : first + self.limit]})

    def by_token(self, asked: Asked) -> Reply:
        """?since=&cursor=; a token is the place of the last order of the page before."""
        place = tuple(json.loads(asked.query["cursor"])) if "cursor" in asked.query else (-1, "")
        rest = [
            one for one in self.since(int(asked.query.get("since", 0))) if (one["updated_at"], one["order_id"]) > place
        ]
        some = rest[: self.limit]
        token = json.dumps([some[-1]["updated_at"], some[-1]["order_id"]]) if len(rest) > self.limit else None
        return page({"orders": some, "meta": {"next_cursor": token}})

    def by_link(self, asked: Asked) -> Reply:
        reply = self.by_token(asked)
        token = json.loads(reply.body)["meta"]["next_cursor"]
        if token is not None:
            from urllib.parse import urlencode

            query = urlencode({"since": asked.query.get("since", 0), "cursor": token})
            reply.headers["Link"] = f'<{asked.path}?{query}>; rel="next", <{asked.path}>; rel="first"'
        return reply

    def by_url(self, asked: Asked) -> Reply:
        """The URL of the next page in the body."""
        linked = self.by_link(asked)
        content = json.loads(linked.body)
        link = linked.headers.get("Link", "")
        content["next_url"] = link[1 : link.index(">")] if link else None
        return page(content)
