"""The folders in which the commands of a page run: what a reader of that page has by then."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from subprocess import CompletedProcess

from examples import demo_pull
from tests.sources.pull.test_presets import CHANGED, CREATED, SECRET, SHOPS
from tests.support import REPO
from tests.support.api import serving
from tests.support.command import drop, order, strandline
from tests.support.shop_apis import Order

Variables = Mapping[str, str]  # of the environment
World = Callable[[Path], AbstractContextManager[Variables]]


def history(home: Path) -> None:
    """Applied drops 1 to 17, each with an order of a user, and quarantined drops 18 and 19."""
    names = [*(f"{number:02}.json" for number in range(1, 17)), "prices.json"]
    for number, name in enumerate(names, 1):
        more = {"user_id": f"u_{number}"} | ({"amount": 10, "items": _ITEMS} if number == 7 else {})
        drop(home, name, [order(number, 2 + number % 3, **more)], 4000 - number)
    drop(home, "truncated.json", b'{"data": [{"order_id": "o_1"}', 2000)
    drop(home, "login.json", b"<html>please log in</html>", 1000)
    _run(home, 1)


_ITEMS = [
    {"sku": "p_1", "qty": 2, "price": 4},
    {"sku": "p_2", "qty": 1, "price": 3},
    {"sku": "p_3", "qty": 1, "price": 1},
]


def _run(home: Path, exit_code: int = 0) -> None:
    ended: CompletedProcess[str] = strandline(home, "--once")
    assert ended.returncode == exit_code, ended.stderr


@contextmanager
def nothing(home: Path) -> Iterator[Variables]:
    """An empty folder."""
    yield {}


@contextmanager
def queries(home: Path) -> Iterator[Variables]:
    """What READING.md shows the rows of."""
    orders = [
        order(1, 2, amount="25.50"),
        order(2, 3, amount="12.50"),
        {"order_id": "o_9"},
    ]
    drop(home, "shop.json", orders)
    _run(home)
    yield {}


@contextmanager
def models(home: Path) -> Iterator[Variables]:
    """A model that is up to date, and a correction in the inbox."""
    shutil.copytree(REPO / "models", home / "models")
    for name in ("customers.py", "rolling_week.sql"):
        (home / "models" / name).unlink()
    drop(home, "a.json", [order(1, 2), order(2, 3)])
    _run(home)
    drop(home, "b.json", [order(1, 2, amount=5, updated_at="2026-03-05")])
    yield {}


@contextmanager
def demo_api(home: Path) -> Iterator[Variables]:
    """The API of `make demo-pull`, and its configuration."""
    with demo_pull.api() as url:
        (home / "config.toml").write_text(demo_pull.CONFIG.format(url=url), encoding="utf-8")
        for name in ("inbox", "output"):
            (home / name).mkdir()
        yield {"SHOP_TOKEN": demo_pull.TOKEN}


@contextmanager
def berlin(home: Path) -> Iterator[Variables]:
    """A folder with the configuration that docs/sources/README.md gives for its example."""
    page = (REPO / "docs" / "sources" / "README.md").read_text(encoding="utf-8")
    config = page.split("## From a file to its rows")[1].split("```toml\n")[1].split("```")[0]
    (home / "config.toml").write_text(config, encoding="utf-8")
    (home / "inbox").mkdir()
    yield {}


def shop(name: str) -> World:
    """The configuration of a page of docs/sources, with the API on this machine."""

    @contextmanager
    def opened(home: Path) -> Iterator[Variables]:
        api = SHOPS[name].api(SECRET)
        for number in (1, 2, 3):
            api.put(Order(number, 100 + number, CREATED + number, CHANGED + number))
        section = (REPO / "docs" / "sources" / f"{name}.md").read_text(encoding="utf-8").split("## Pulling")[1]
        config = re.sub(r"^url = .*\n", "", section.split("```toml\n")[1].split("```")[0], flags=re.MULTILINE)
        with serving(api.answer) as server:
            url = SHOPS[name].lines.splitlines()[0].format(url=server.url)
            config = config.replace("[sources.berlin.pull]\n", f"[sources.berlin.pull]\n{url}\n")
            (home / "config.toml").write_text(config, encoding="utf-8")
            for folder in ("inbox", "output"):
                (home / folder).mkdir()
            yield {SHOPS[name].variable: SECRET, **SHOPS[name].more}

    return opened


# Pages that need something else than a history of drops.
WORLDS: dict[str, World] = {
    "README.md": nothing,
    "docs/QUICKSTART.md": nothing,
    "docs/sources/README.md": berlin,
    "docs/READING.md": queries,
    "docs/MODELS.md": models,
    "docs/PULL.md": demo_api,
    **{f"docs/sources/{name}.md": shop(name) for name in SHOPS},
}


def with_history(home: Path, made: Path) -> AbstractContextManager[Variables]:
    """A copy of the folder that `history` filled."""
    shutil.copytree(made, home, dirs_exist_ok=True)
    return nullcontext({})
