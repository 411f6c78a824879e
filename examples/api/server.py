"""A small shop API on this machine, for `make demo-pull` and for trying settings of [sources.NAME.pull].

    python examples/api/server.py --port 8000

    GET  /orders?updated_since=INSTANT[&cursor=TOKEN]    what changed since then, four orders a page
    POST /orders/ID  {"amount": 99}                      changes an order

A page names the next one as next_cursor; in the last one that is null. Each request needs `Authorization: Bearer demo-token`. The
second one of a run is answered with 429 and `Retry-After: 1`. The orders are always the same; a change lasts until the end.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import parse_qsl, urlsplit

TOKEN = "demo-token"  # no secret
PAGE = 4
BUSY = 2  # the number of the request that is refused


def orders() -> dict[str, dict[str, Any]]:
    """Ten orders of three days, in the format of docs/INPUT.md."""
    found = {}
    for number in range(1, 11):
        created = datetime.fromisoformat("2026-03-02T09:00:00+00:00") + timedelta(hours=6 * number)
        found[f"o_{number}"] = {
            "order_id": f"o_{number}", "user_id": f"u_{number % 4}", "amount": 10 * number, "currency": "EUR",
            "created_at": f"{created:%Y-%m-%dT%H:%M:%SZ}", "updated_at": f"{created:%Y-%m-%dT%H:%M:%SZ}",
            "items": [{"sku": f"p_{number % 3}", "qty": 1, "price": 10 * number}],
        }  # fmt: skip
    return found


class Shop:
    """The orders, and how many requests came."""

    def __init__(self) -> None:
        self.orders, self.requests, self._lock = orders(), 0, Lock()

    def answer(self, method: str, target: str, token: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Status and content of the answer to one request."""
        with self._lock:
            self.requests += 1
            if token != f"Bearer {TOKEN}":
                return 401, {"error": "the header Authorization is missing or wrong"}
            if self.requests == BUSY:
                return 429, {"error": "too many requests"}
            parts = urlsplit(target)
            if method == "GET" and parts.path == "/orders":
                return 200, self._page(dict(parse_qsl(parts.query)))
            name = parts.path.removeprefix("/orders/")
            if method == "POST" and name in self.orders:
                return 200, self._changed(name, json.loads(body))
            return 404, {"error": "there is no such thing"}

    def _page(self, query: dict[str, str]) -> dict[str, Any]:
        """Sorted by change. A cursor is the place of the last order of the page before."""
        begin = query.get("cursor") or f"{query.get('updated_since', '')} "  # a blank sorts before each separator
        rest = sorted(
            (place, one) for one in self.orders.values() if (place := f"{one['updated_at']}/{one['order_id']}") > begin
        )
        some = rest[:PAGE]
        return {"orders": [one for _, one in some], "next_cursor": some[-1][0] if len(rest) > PAGE else None}

    def _changed(self, name: str, changes: dict[str, Any]) -> dict[str, Any]:
        """The change is a minute later than any before."""
        latest = max(datetime.fromisoformat(one["updated_at"]) for one in self.orders.values())
        self.orders[name] |= changes | {"updated_at": f"{latest + timedelta(minutes=1):%Y-%m-%dT%H:%M:%SZ}"}
        return self.orders[name]


def handler(shop: Shop) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = shop.answer(self.command, self.path, self.headers.get("Authorization", ""), body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            if status == 429:
                self.send_header("Retry-After", "1")
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, form: str, *values: object) -> None:
            print("  API:", form % values, file=sys.stderr, flush=True)

    return Handler


def main() -> None:
    parser = argparse.ArgumentParser(description="A small shop API on this machine.")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), handler(Shop()))
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass
    finally:
        server.server_close()


if __name__ == "__main__":
    main()
