"""A source with an API, pulled and applied in this process. For tests."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from threading import Event

from daemon.config import Config, load
from daemon.service import Summary
from daemon.sources.pull.outcome import Pulled
from daemon.sources.pull.round import pull_round
from daemon.stopping import Stop
from daemon.storage.ledger import Ledger
from daemon.wiring import engine, pulled_source, service
from tests.support.api import Api
from tests.support.harness import dates, rows

BEGIN = """\
[paths]
inbox = "inbox"
output = "output"
[watch]
settle_seconds = 0
[retry]
attempts = 3
initial_delay_seconds = 0.001
max_delay_seconds = 0.01
[engine]
workers = 1
"""


def written(home: Path, pull: str, more: str = "") -> Path:
    """A configuration with one source, `shop`. `pull`: the lines of its section; `more`: those of the source."""
    path = home / "config.toml"
    path.write_text(f"{BEGIN}[sources.shop]\n{more}\n[sources.shop.pull]\n{pull}\n")
    return path


class Home:
    """A folder with a source `shop` that has an API."""

    def __init__(self, home: Path, pull: str, more: str = "", environment: Mapping[str, str] | None = None) -> None:
        self.home, self.environment = home, environment or {}
        self.config: Config = load(written(home, pull, more), {})

    def round(self, since: int | None = None, stop: Event | None = None) -> Pulled:
        """One round; nothing is applied."""
        with engine(self.config, Stop()) as opened:
            source = pulled_source(self.config, "shop", self.environment)
            return pull_round(source, opened.ledger.path, stop or Event(), check=opened.guard.check, since=since)

    def apply(self) -> Summary:
        """Applies what is in the inbox."""
        stop = Stop()
        with engine(self.config, stop) as opened:
            return service(self.config, opened, []).once(stop.asked)

    def pull(self) -> Pulled:
        """A round, and what came of it applied."""
        done = self.round()
        self.apply()
        return done

    @property
    def cursor(self) -> int | None:
        """The committed cursor in whole seconds."""
        found = Ledger.pull_state_of(self.ledger, "shop").cursor
        return None if found is None else found // 1_000_000

    @property
    def ledger(self) -> Path:
        return self.home / "output" / "state" / "ledger.sqlite"

    def amounts(self) -> dict[str, float]:
        """The published orders with their amounts, each once: their lines added up."""
        found: dict[str, float] = {}
        for day in dates(self.home / "output"):
            for row in rows(self.home / "output", day):
                found[str(row["order_id"])] = found.get(str(row["order_id"]), 0.0) + float(str(row["amount"]))
        return found

    @property
    def inbox(self) -> Path:
        return self.home / "inbox" / "shop"

    def pages(self) -> list[str]:
        """The pages that wait in the folder of the source."""
        return sorted(path.name for path in self.inbox.iterdir())


def seconds_ago(seconds: float) -> int:
    return int(time.time() - seconds)


def pulling_home(home: Path, api: Api) -> Path:
    """The folder of a daemon with a source `shop` that is pulled every 0.2 s by page. Its paths are the usual ones, and there."""
    for folder in ("inbox", "output"):
        (home / folder).mkdir(exist_ok=True)
    (home / "config.toml").write_text(
        f'''[sources.shop.pull]
url = "{api.url}/orders"
params = {{since = "{{since}}", page = "{{page}}"}}
next = "page"
cursor = "orders.updated_at"
since_format = "seconds"
every = 0.2
[watch]
settle_seconds = 0.05
[retry]
attempts = 2
initial_delay_seconds = 0.01
max_delay_seconds = 0.05
'''
    )
    return home
