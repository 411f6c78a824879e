"""Models and checks over an output, in this process: publishes orders, writes the files of models and checks, and runs rounds."""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet as pq

from daemon.core.errors import Unavailable
from daemon.core.mapping import Columns, FieldMapping
from daemon.core.retry import Backoff
from daemon.downstream import follow, worker_main
from daemon.downstream.attempts import Followed
from daemon.downstream.contract import DownstreamFailed
from daemon.downstream.destinations.settings import destinations_of
from daemon.downstream.follow import Following
from daemon.downstream.sandbox import Limits
from daemon.downstream.settings import Settings
from daemon.downstream.worker import Worker
from tests.support.harness import apply_batch, open_engine

LIMITS = Limits(256 << 20, 1, 60.0)
BACKOFF = Backoff(3, 0.01, 0.05)
RECEIVED_AT = 1_780_000_000_000_000
DELETIONS = FieldMapping(deleted_path="gone", deleted_values=("true",))
DAILY = (
    "SELECT date, count(*) AS orders, sum(amount) AS amount\n"
    "FROM fact_order GROUP BY date"
)  # fmt: skip

State = tuple[int, int, str]  # inode, mtime_ns and SHA-256 of a file


def epoch_days(text: str) -> int:
    """Days since 1970 of YYYY-MM-DD."""
    return (date.fromisoformat(text) - date(1970, 1, 1)).days


def day(number: int) -> str:
    """The date that tests call by a number."""
    return (date(2026, 3, 1) + timedelta(days=number)).isoformat()


def never() -> bool:
    return False


class InlineWorker:
    """Calls the functions of a worker in this process: quicker to start, and killed with it."""

    def __init__(self, limits: Limits, niceness: int = 0) -> None:
        self.limits = limits

    def call(
        self, what: str, function: str, *arguments: Any, stopped: Callable[[], bool], time_limit: object = None
    ) -> Any:
        try:
            return worker_main.call(function, arguments)
        except Exception as error:
            kind, value = worker_main._described(error)
            if kind == "system":
                raise OSError(*value) from None
            if kind == "unavailable":
                raise Unavailable(value) from None
            raise DownstreamFailed(value if kind == "failed" else f"{what}: {value}") from None

    def close(self) -> None:
        """Nothing is running."""


class KeptWorker(Worker):
    """A real worker that is kept from one test to the next."""

    def close(self) -> int | None:
        """Only a process that ended by itself is cleaned up."""
        return None if self._process is None or self._process.poll() is None else super().close()

    def end(self) -> None:
        super().close()


class Home:
    """An output with models and checks. Orders are numbered; each version that is published is the latest of its order."""

    def __init__(self, root: Path, columns: Columns = ()) -> None:
        self.root, self.output = root, root / "output"
        self.models, self.checks = root / "models", root / "checks"
        self.columns = columns
        self.version = 0  # of the last order
        for folder in (self.output / "state", self.models, self.checks):
            folder.mkdir(parents=True, exist_ok=True)

    def order(self, number: int, on: int, amount: object = 1, user: str = "u_1", **more: Any) -> dict[str, Any]:
        """A version of an order on the date with a number; later than all before it."""
        self.version += 1
        updated = f"2026-04-01T{self.version // 3600:02d}:{self.version // 60 % 60:02d}:{self.version % 60:02d}Z"
        return {
            "order_id": f"o_{number}", "created_at": f"{day(on)}T10:00:00Z", "updated_at": updated, "amount": amount,
            "user_id": user, "items": [{"sku": "p_1", "qty": 1, "price": 1}],
        } | more  # fmt: skip

    def publish(self, *orders: dict[str, Any], users: str = "") -> None:
        """Applies orders, and the lines of a file of users, as one batch."""
        drops = [(f"d{self.version}.json", json.dumps(orders).encode())] if orders else []
        if users:
            drops.append((f"users-{self.version}-{hashlib.md5(users.encode()).hexdigest()}.csv", users.encode()))
        with open_engine(self.root) as engine:
            mapping = FieldMapping(
                deleted_path="gone", deleted_values=("true",),
                columns=tuple((name, kind, (name,)) for name, kind in self.columns),
            )  # fmt: skip
            apply_batch(engine, self.root, drops, RECEIVED_AT, mapping=mapping)

    def model(self, name: str, text: str) -> Path:
        """Writes a model; the ending is .sql unless the name has one."""
        return _written(self.models, name, text)

    def check(self, name: str, text: str) -> Path:
        return _written(self.checks, name, text)

    def destinations(self, text: str) -> None:
        """Writes the sections of destinations."""
        (self.root / "destinations.toml").write_text(text, encoding="utf-8")

    def settings(self, limits: Limits = LIMITS, backoff: Backoff = BACKOFF) -> Settings:
        path = self.root / "destinations.toml"
        content = tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return Settings(
            self.models, self.checks, limits, backoff, self.columns, destinations=destinations_of(content, path)
        )

    @contextmanager
    def following(self, worker: Any = None, **settings: Any) -> Iterator[Following]:
        """What follows, with a worker of its own or one that is given."""
        settled = self.settings(**settings)
        with mock.patch.object(follow, "Worker", (lambda *_: worker) if worker else Worker):
            found = Following(self.output, settled, lambda: None)
        try:
            yield found
        finally:
            found.close()

    def round(self, worker: Any = None, *, now: bool = True) -> dict[str, Followed]:
        """One round of a process that has just started: what it did, by name."""
        with self.following(worker) as following:
            return by_name(following.round(never, now=now))

    def states(self, *below: str) -> dict[str, State]:
        """The files below a folder of the output: what changes if anybody touches them."""
        folder = self.output.joinpath(*below)
        return {str(path.relative_to(folder)): state_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}

    def rows(self, name: str) -> dict[str, list[tuple[Any, ...]]]:
        """The rows of a model by date, in the order of its files."""
        return {
            path.parent.name.removeprefix("date="): file_rows(path)
            for path in sorted((self.output / "models" / name).glob(f"date=*/{name}.parquet"))
        }


def by_name(found: list[Followed]) -> dict[str, Followed]:
    return {one.name: one for one in found}


def state_of(path: Path) -> State:
    found = path.stat()
    return found.st_ino, found.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest()


def file_rows(path: Path) -> list[tuple[Any, ...]]:
    """The rows of a Parquet file as plain values."""
    return [tuple(row.values()) for row in pq.ParquetFile(path).read().to_pylist()]


def _written(folder: Path, name: str, text: str) -> Path:
    path = folder / (name if "." in name else f"{name}.sql")
    temporary = path.with_name(f".{path.name}")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return path
