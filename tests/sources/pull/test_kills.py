"""A pull that is killed at any durable operation, by a real signal: every order is there once, and no cursor was too far."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from itertools import cycle
from pathlib import Path

import pytest

from daemon.storage.ledger import Ledger
from tests.faults import KILLED, KILLS, Action, Control, Server, library
from tests.faults.world import CONFIG, copied
from tests.support.api import Api, Shop, serving
from tests.support.examples import LONG
from tests.support.harness import dates, rows
from tests.support.ledgers import changing

pytestmark = pytest.mark.timeout(900)

if library() is None and not os.environ.get("REQUIRE_TEST_TOOLS"):
    pytest.skip("needs a C compiler (cc or gcc) on Linux", allow_module_level=True)

FIRST = 1_700_000_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server() as one:
        yield one


def prepared(home: Path, api: Api, shop: Shop, server: Server, way: str) -> None:
    """A first round is applied; then orders change, move to another date and come, also one of the cursor's own second."""
    params = 'since = "{since}", page = "{page}"'
    (home / "inbox").mkdir(parents=True)
    (home / "config.toml").write_text(
        f'{CONFIG}[sources.shop.pull]\nurl = "{api.url}/orders"\nparams = {{{params}}}\nnext = "{way}"\nlookback = 0\n'
        'cursor = "orders.updated_at"\nsince_format = "seconds"\n'
    )
    for number in range(5):
        shop.put(f"o_{number}", FIRST + number, number + 1)
    ended = server.run(home, None)
    assert ended.status == 0, ended.stderr
    shop.put("o_same_second", FIRST + 4, 50)
    shop.put("o_1", FIRST + 10, 71)
    shop.put("o_3", FIRST + 11, 73, created=FIRST + 200_000)
    for number in range(5, 9):
        shop.put(f"o_{number}", FIRST + 10 + number, number + 1, created=FIRST + 86_400 * (number % 2))


def amounts(home: Path) -> dict[str, list[float]]:
    """The lines of each published order."""
    found: dict[str, list[float]] = {}
    for day in dates(home / "output"):
        for row in rows(home / "output", day):
            found.setdefault(str(row["order_id"]), []).append(float(str(row["amount"])))
    return found


def expected(shop: Shop) -> dict[str, list[float]]:
    return {name: [float(one["amount"])] for name, one in shop.orders.items()}


def cursor_of(home: Path) -> int:
    return (Ledger.pull_state_of(home / "output" / "state" / "ledger.sqlite", "shop").cursor or 0) // 1_000_000


@pytest.mark.parametrize(("way", "step"), [("page", 1 if LONG else 14), ("since", 1 if LONG else 26)])
def test_a_pull_killed_at_any_operation_loses_and_doubles_nothing(
    tmp_path: Path, server: Server, way: str, step: int
) -> None:
    """The next round begins at the committed cursor, without a lookback: had it advanced before the drops, orders would be
    missing. The recovery is killed, too."""
    shop = Shop(3)
    with serving(shop.by_page) as api:
        base = tmp_path / "base"
        prepared(base, api, shop, server, way)
        assert cursor_of(base) == FIRST + 4
        undisturbed = copied(base, tmp_path / "undisturbed")
        control = Control(tmp_path / "control", undisturbed)
        assert server.run(undisturbed, control).status == 0
        assert amounts(undisturbed) == expected(shop) and cursor_of(undisturbed) == FIRST + 18
        points, killed = control.count, 0
        for point, action in zip(range(1, points + 1, step), cycle(KILLS), strict=False):
            home = copied(base, tmp_path / "run")
            for at in (point, 1 + point % 40):
                control = Control(tmp_path / "control", home)
                control.act(action, at)
                ended = server.run(home, control)
                assert ended.status in (KILLED, 0), ended.stderr
                killed += ended.status == KILLED
            ended = server.run(home, None)
            assert ended.status == 0, ended.stderr
            assert amounts(home) == expected(shop), f"{way}, point {point}, {action.name}"
            assert cursor_of(home) == FIRST + 18
            shutil.rmtree(home)
        assert killed > points / step


def test_a_cursor_that_advances_too_early_would_be_found(tmp_path: Path, server: Server) -> None:
    """The check of the test above: with a cursor beyond what is committed, the next round misses orders."""
    shop = Shop(3)
    with serving(shop.by_page) as api:
        prepared(tmp_path / "home", api, shop, server, "page")
        with closing(changing(tmp_path / "home" / "output" / "state" / "ledger.sqlite")) as sql:
            sql.execute("UPDATE pulls SET cursor = cursor + 12000000")
            sql.commit()
        assert server.run(tmp_path / "home", None).status == 0
        assert amounts(tmp_path / "home") != expected(shop)


def test_a_pull_with_a_full_disk_loses_nothing(tmp_path: Path, server: Server) -> None:
    """Every operation fails with ENOSPC in turn, and a run without faults follows."""
    shop = Shop(3)
    with serving(shop.by_page) as api:
        base = tmp_path / "base"
        prepared(base, api, shop, server, "page")
        counted = Control(tmp_path / "control", copied(base, tmp_path / "count"))
        server.run(tmp_path / "count", counted)
        for point in range(1, counted.count + 1, 1 if LONG else 31):
            home = copied(base, tmp_path / "run")
            control = Control(tmp_path / "control", home)
            control.act(Action.FAIL, point, point, errno.ENOSPC)
            assert server.run(home, control).status in (0, 1, 3)
            assert server.run(home, None).status == 0
            assert amounts(home) == expected(shop), point
            shutil.rmtree(home)
