"""The HTTP endpoint: `/metrics` for Prometheus, `/-/healthy` and `/-/ready` for a supervisor, and the documents that are added.

It answers in its own threads, from memory or from the last commit: no request waits for a batch, and no batch for a request.
Waitress reads a whole request before a thread handles it, and closes slow and idle clients, so that these block no thread.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app

from ..core.errors import EnvironmentFault, StrandlineError

Answer = Callable[[Mapping[str, Any], Callable[..., Any]], Iterable[bytes]]  # a WSGI application
Ask = Callable[[], Sequence[str]]  # what is wrong; empty where nothing is
_THREADS = 4
_CONNECTIONS = 200
_IDLE_SECONDS = 5
_CLOSING_SECONDS = 1.0
_LARGEST_REQUEST_BYTES = 16 << 10


def application(
    registry: CollectorRegistry, why_unhealthy: Ask, why_not_ready: Ask, more: Mapping[str, Answer] | None = None
) -> Answer:
    """The WSGI application. `more`: further answers by path."""
    answers: dict[str, Answer] = {
        "/metrics": make_wsgi_app(registry),
        "/-/healthy": _check("healthy", why_unhealthy),
        "/-/ready": _check("ready", why_not_ready),
        **(more or {}),
    }

    def answer(environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = answers.get(environ.get("PATH_INFO", ""))
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text(start_response, "405 Method Not Allowed", "only GET and HEAD are allowed\n")
        if found is None:
            return _text(start_response, "404 Not Found", "the paths here are: " + ", ".join(answers) + "\n")
        body = found({**environ, "REQUEST_METHOD": "GET"}, start_response)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else body

    return answer


def document(kind: str, make: Callable[[], str], headers: Mapping[str, str] | None = None) -> Answer:
    """Answers with the document that `make` returns; 503 where it fails."""

    def answer(_: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            body = make()
        except (OSError, StrandlineError, sqlite3.Error) as error:
            return _text(start_response, "503 Service Unavailable", f"not available now: {error}\n")
        return _text(start_response, "200 OK", body, kind, headers or {})

    return answer


def _check(name: str, ask: Ask) -> Answer:
    def answer(_: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        wrong = ask()
        if not wrong:
            return _text(start_response, "200 OK", f"{name}\n")
        return _text(start_response, "503 Service Unavailable", f"not {name}\n" + "".join(f"{one}\n" for one in wrong))

    return answer


def _text(
    start_response: Callable[..., Any],
    status: str,
    text: str,
    kind: str = "text/plain",
    more: Mapping[str, str] | None = None,
) -> list[bytes]:
    body = text.encode(errors="replace")
    headers = [
        ("Content-Type", f"{kind}; charset=utf-8"),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        *(more or {}).items(),
    ]
    start_response(status, headers)
    return [body]


def _listening(server: Any) -> list[tuple[str, int]]:
    """The addresses: a name may have several."""
    return getattr(server, "effective_listen", None) or [(server.effective_host, server.effective_port)]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


@contextmanager
def serving(answer: Answer, host: str, port: int) -> Iterator[str]:
    """Serves until the block ends; yields the address. EnvironmentFault where the port is in use."""
    from waitress.server import BaseWSGIServer, create_server

    sockets: dict[int, Any] = {}
    logging.getLogger("waitress").setLevel(logging.ERROR)  # clients that disconnect are not worth a line
    try:
        server = create_server(
            answer, sockets, host=host, port=port, threads=_THREADS, connection_limit=_CONNECTIONS, channel_timeout=_IDLE_SECONDS,
            cleanup_interval=1, max_request_header_size=_LARGEST_REQUEST_BYTES, max_request_body_size=_LARGEST_REQUEST_BYTES,
            asyncore_use_poll=True, ident="strandline", clear_untrusted_proxy_headers=True,
        )  # fmt: skip
    except (OSError, ValueError) as error:  # ValueError: no such host
        cause = getattr(error, "strerror", None) or error
        raise EnvironmentFault(
            "serve HTTP on",
            f"{host}:{port}",
            cause,
            "Set [http] host and port to a free address, or enabled = false.",
        ) from error
    thread = threading.Thread(target=server.run, name="http", daemon=True)
    thread.start()
    try:
        yield ", ".join(f"http://{_bracketed(found)}:{number}" for found, number in _listening(server))
    finally:
        for one in list(sockets.values()):
            if isinstance(one, BaseWSGIServer):  # closed in its own thread, which would keep the port in use
                one.trigger.pull_trigger(one.close)
        thread.join(_CLOSING_SECONDS)
        server.task_dispatcher.shutdown(cancel_pending=True, timeout=_CLOSING_SECONDS)
