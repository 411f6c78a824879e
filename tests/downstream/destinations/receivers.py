"""A receiver of notifications on loopback, an output that tells it, and what it should know."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from daemon.downstream.attempts import Followed
from tests.downstream.kinds import Order
from tests.downstream.worlds import WORKER
from tests.support.following import Home, day


@dataclass
class Received:
    """A request as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> dict[str, Any]:
        return json.loads(self.body)


@dataclass
class Receiver:
    """A webhook on loopback. `answers`: what the next requests get, then 204; a function gets the handler."""

    url: str = ""
    server: Any = None
    received: list[Received] = field(default_factory=list)
    answers: list[int | tuple[int, dict[str, str], bytes] | Callable[[Any], None]] = field(default_factory=list)

    @property
    def messages(self) -> list[dict[str, Any]]:
        return [one.message for one in self.received]

    @property
    def known(self) -> dict[str, dict[str, Any]]:
        """What a receiver that tells repeats by their ids knows of each date."""
        seen: set[str] = set()
        dates: dict[str, Any] = {}
        for message in self.messages:
            if message["id"] not in seen:
                seen.add(message["id"])
                for one in message["dates"]:
                    assert one["before"] == dates.get(one["date"]), "before is what was told last"
                    dates[one["date"]] = one["after"]
        return {date: sums for date, sums in dates.items() if sums is not None}


@contextmanager
def receiving() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.received.append(Received(self.path, dict(self.headers), body))
            answer = found.answers.pop(0) if found.answers else 204
            if callable(answer):
                answer(self)
                return
            status, headers, content = answer if isinstance(answer, tuple) else (answer, {}, b"")
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    found.server = server
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class World:
    """An output with orders, and one receiver."""

    def __init__(self, root: Path, section: str) -> None:
        self.home = Home(root)
        self.orders: dict[int, Order] = {}
        self.home.destinations(f"[notify.team]\n{section}\n")

    def publish(self, *orders: Order) -> None:
        self.orders |= {one.number: one for one in orders}
        self.home.publish(*(self.home.order(one.number, one.on, one.amount, one.user) for one in orders))

    def round(self) -> Followed:
        return self.home.round(WORKER)["team"]

    def well(self) -> Followed:
        found = self.round()
        assert not found.error and found.stale == 0, found
        return found

    def expected(self) -> dict[str, dict[str, Any]]:
        """What plain Python expects of each date. An order has one line."""
        sums: dict[str, list[Order]] = {}
        for one in self.orders.values():
            sums.setdefault(day(one.on), []).append(one)
        return {
            date: {"orders": len(those), "lines": len(those), "amount": Decimal(sum(one.amount for one in those))}
            for date, those in sums.items()
        }


def exact(known: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {date: sums | {"amount": Decimal(sums["amount"])} for date, sums in known.items()}


def is_gone(pid: int) -> bool:
    """Ended, and perhaps not yet taken note of by its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
