"""What is answered over HTTP: `/metrics` for Prometheus, `/-/healthy` and `/-/ready` for a supervisor, and the documents that are
added.

Answers come from memory or from the last commit: no request waits for a batch, and no batch for a request.
"""

from __future__ import annotations

import io
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from ..core.errors import StrandlineError, meant, shown
from .access import Access

Ask = Callable[[], Sequence[str]]  # what is wrong; empty where nothing is
ASKED = "strandline.asked"  # in the environment of a request: when it was complete, by time.monotonic()
HEALTHY, READY, METRICS = "/-/healthy", "/-/ready", "/metrics"
_REST = 9  # a document that is made at intervals takes a tenth of a processor at most
_METHODS = ("GET", "HEAD")
_OPEN_METRICS = "application/openmetrics-text"
# Nothing is a document that loads or runs anything, unless it says so itself. No other page may show it or read it.
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_T = TypeVar("_T")


class Shared(Generic[_T]):
    """A value that is made once for all who asked before it was begun. With `fresh_seconds`, also for those who ask so long
    afterwards, and longer where making it takes much processor time. Thread-safe."""

    def __init__(self, make: Callable[[], _T], fresh_seconds: float = 0.0) -> None:
        self._make, self._fresh = make, fresh_seconds
        self._lock = threading.Lock()
        self._known: tuple[float, _T] | None = None

    def get(self, asked: float) -> _T:
        """`asked`: by time.monotonic()."""
        with self._lock:
            if self._known is not None and asked <= self._known[0]:
                return self._known[1]
            began, cost = time.monotonic(), time.thread_time()
            made = self._make()
            cost = time.thread_time() - cost
            until = time.monotonic() + max(self._fresh, _REST * cost) if self._fresh else began
            self._known = until, made
            return made


@dataclass(frozen=True, slots=True)
class Document:
    """What is sent. `headers`: in addition to, or in place of those of every answer."""

    content: bytes
    kind: str = "text/plain; charset=utf-8"
    status: str = "200 OK"
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Mapping[str, Any]], Document]  # the environment of a request in, as WSGI has it


class Application:
    """The WSGI application. `access`: who may see more than whether it is healthy and ready. `more`: further answers by path.
    `shared`: of some of these paths, the thread that answers them; each other path has a thread of its own."""

    def __init__(
        self,
        registry: CollectorRegistry,
        why_unhealthy: Ask,
        why_not_ready: Ask,
        access: Access,
        more: Mapping[str, Answer] | None = None,
        shared: Mapping[str, str] | None = None,
    ) -> None:
        self._access = access
        self._checks = {HEALTHY: ("healthy", Shared(why_unhealthy)), READY: ("ready", Shared(why_not_ready))}
        self._answers: dict[str, Answer] = {METRICS: _metrics(registry), **(more or {})}
        self.threads = {path: path for path in (*self._answers, *self._checks)} | dict(shared or {})

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        found = self._found(environ)
        headers = (
            {"Content-Type": found.kind, "Content-Length": str(len(found.content))} | HEADERS | dict(found.headers)
        )
        start_response(found.status, list(headers.items()))
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        send = environ.get("wsgi.file_wrapper")  # copies nothing, however many clients are slow to take it
        return send(io.BytesIO(found.content)) if send else [found.content]

    def _found(self, environ: Mapping[str, Any]) -> Document:
        path = environ.get("PATH_INFO", "")
        if environ["REQUEST_METHOD"] not in _METHODS:
            allowed = {"Allow": ", ".join(_METHODS)}
            return text("only GET and HEAD are allowed", "405 Method Not Allowed", allowed)
        refused = self._access.refusal(environ)
        if path in self._checks:
            name, wrong = self._checks[path]
            return _checked(name, wrong.get(asked(environ)), is_told=refused is None)
        if refused is not None:
            return text(refused.why, refused.status, refused.headers)
        answer = self._answers.get(path)
        if answer is None:
            question = meant(path, self.threads)
            begin = f"there is no path {shown(path)}{question and f'; {question}'}"
            return text(f"{begin}\nThe paths here are: {', '.join(_not_listed(self.threads))}", "404 Not Found")
        try:
            return answer(environ)
        except (OSError, StrandlineError, sqlite3.Error) as error:
            return text(f"not available now: {error}", "503 Service Unavailable")


def _not_listed(paths: Iterable[str]) -> list[str]:
    """Those that no other one lists: a path that ends with "/" lists what is below it."""
    lists = tuple(path for path in paths if path.endswith("/") and path != "/")
    return [path for path in paths if path in lists or not path.startswith(lists)]


def asked(environ: Mapping[str, Any]) -> float:
    """When a request was complete."""
    return float(environ.get(ASKED) or time.monotonic())


def text(line: str, status: str = "200 OK", headers: Mapping[str, str] | None = None) -> Document:
    """A line of plain text."""
    return Document(f"{line}\n".encode(errors="replace"), status=status, headers=headers or {})


def _checked(name: str, wrong: Sequence[str], *, is_told: bool) -> Document:
    """Whether all is well; and why not, to those who may see that."""
    if not wrong:
        return text(name)
    return text("\n".join([f"not {name}", *(wrong if is_told else ())]), "503 Service Unavailable")


def _metrics(registry: CollectorRegistry) -> Answer:
    """The metrics: OpenMetrics for a client that accepts it, otherwise the text format."""
    plain, open_metrics = (
        (Shared(partial(encode, registry)), kind) for encode, kind in map(choose_encoder, ("", _OPEN_METRICS))
    )

    def answer(environ: Mapping[str, Any]) -> Document:
        made, kind = open_metrics if _OPEN_METRICS in environ.get("HTTP_ACCEPT", "") else plain
        return Document(made.get(asked(environ)), kind)

    return answer
