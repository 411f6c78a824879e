"""Real data from third parties, through the real process: the totals are those of the generator's own files.

Each data set is delivered as an API would, page by page, and then a third of it again in another spelling: whoever
takes a resend for something new, or a float for an amount, ends with other totals.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import pytest

from tests.support import REPO
from tests.support.third_party import (
    FOUND_BY_CATEGORY,
    FOUND_USERS,
    JAFGEN_BY_CATEGORY,
    JAFGEN_CUSTOMERS,
    JAFGEN_TABLES,
    TPCH_TABLES,
    Page,
    curated_totals,
    expected_totals,
    jafgen_dimensions,
    jafgen_pages,
    keyed_rows,
    read_page,
    respelled,
    run_jafgen,
    run_tpch,
    tpch_pages,
)

pytestmark = pytest.mark.timeout(300)  # slow by nature

CONFIG = '[paths]\ninbox = "inbox"\noutput = "output"\n\n[http]\nenabled = false\n'
ENOUGH_SECONDS = 600


@pytest.fixture(scope="session")
def jaffle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One simulated year of the café chain: some 70,000 orders."""
    return run_jafgen(tmp_path_factory.mktemp("jafgen"))


@pytest.fixture(scope="session")
def tpch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TPC-H at a tenth: 150,000 orders on 2,406 dates."""
    return run_tpch(tmp_path_factory.mktemp("tpch"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with an empty inbox and a configuration."""
    (tmp_path / "inbox").mkdir()
    (tmp_path / "config.toml").write_text(CONFIG)
    return tmp_path


def deliver(pages: Iterable[Page], home: Path) -> None:
    """Put pages into the inbox, each a little younger than the one before, and all old enough to be settled."""
    minute_ago = time.time_ns() - 60 * 10**9
    for number, page in enumerate(pages):
        drop = home / "inbox" / page.name
        drop.write_bytes(page.content)
        os.utime(drop, ns=(minute_ago + number, minute_ago + number))


def catch_up(home: Path) -> None:
    """Run the real process once; it must take all that lies in the inbox."""
    command = [sys.executable, "-m", "daemon", "--once", "--config", str(home / "config.toml")]
    ended = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=ENOUGH_SECONDS, check=False)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-4000:]
    assert list((home / "inbox").iterdir()) == []


def strandline(home: Path, *words: str) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "daemon", *words, "--config", str(home / "config.toml")]
    return subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=ENOUGH_SECONDS, check=True).stdout


def published(home: Path) -> dict[Path, tuple[int, int]]:
    """Each published partition file with what would show that somebody wrote it: its inode and time."""
    files = (home / "output" / "curated").glob("date=*/*.parquet")
    return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}


def rewritten_dates(before: dict[Path, tuple[int, int]], after: dict[Path, tuple[int, int]]) -> set[date]:
    """The dates of the files that came, went, or were written anew."""
    changed = {file for file, _ in before.items() ^ after.items()}
    return {date.fromisoformat(file.parent.name.removeprefix("date=")) for file in changed}


def test_jafgen_pages_come_to_the_totals_of_jafgens_own_files(jaffle: Path, home: Path) -> None:
    """Pages that arrive late complete their dates; pages that arrive again, respelled or not, change nothing."""
    pages = jafgen_pages(jaffle)
    late = pages[5::10]
    held_back = [order_id for page in late for order_id in page.order_ids]

    deliver([page for page in pages if page not in late], home)
    catch_up(home)
    incomplete = expected_totals(JAFGEN_TABLES, jaffle, left_out=held_back)
    assert curated_totals(home / "output") == incomplete
    before = published(home)

    deliver([pages[0], *map(respelled, pages[::3]), *late], home)
    catch_up(home)
    complete = expected_totals(JAFGEN_TABLES, jaffle)
    assert curated_totals(home / "output") == complete
    grown = {day for day, totals in complete.by_day.items() if totals != incomplete.by_day.get(day)}
    assert rewritten_dates(before, published(home)) == grown


def test_jafgen_customers_and_products_become_dimensions(jaffle: Path, home: Path) -> None:
    """Orders joined with the product dimension come to the sums of jafgen's own join; every customer is a row; an order is
    counted as unknown only where its customer or product was held back."""
    orders = jafgen_pages(jaffle)[:20]
    users, products = jafgen_dimensions(jaffle)
    header, *rows = products.content.splitlines(keepends=True)
    deliver([*orders, users, Page(products.name, header + b"".join(rows[1:]))], home)
    catch_up(home)
    held_back = rows[0].split(b",")[0].decode()
    unknown = sum(
        any(item["sku"] == held_back for item in order["items"]) for page in orders for order in read_page(page.content)
    )
    found = json.loads(strandline(home, "status", "--json"))
    assert found["orders"]["unknown"] == {"product": unknown}

    deliver([*jafgen_pages(jaffle)[20:], products], home)
    catch_up(home)
    output = home / "output"
    assert keyed_rows(FOUND_BY_CATEGORY.format(output=output)) == keyed_rows(JAFGEN_BY_CATEGORY.format(tables=jaffle))
    assert keyed_rows(FOUND_USERS.format(output=output)) == keyed_rows(JAFGEN_CUSTOMERS.format(tables=jaffle))
    found = json.loads(strandline(home, "status", "--json"))
    assert found["orders"]["unknown"] == {"product": unknown}
    assert found["dimensions"]["product"]["unchanged"] == len(rows) - 1


def test_tpch_pages_come_to_the_totals_of_tpch_itself(tpch: Path, home: Path) -> None:
    """A third of the pages again, in another spelling, changes no total and touches no file."""
    pages = tpch_pages(tpch, home)
    expected = expected_totals(TPCH_TABLES, tpch)

    deliver(pages, home)
    catch_up(home)
    assert curated_totals(home / "output") == expected
    before = published(home)

    deliver(map(respelled, pages[::3]), home)
    catch_up(home)
    assert curated_totals(home / "output") == expected
    assert rewritten_dates(before, published(home)) == set()
