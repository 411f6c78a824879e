"""Makes the frozen outputs of the version in pyproject.toml: `python -m tests.support.frozen` (`make frozen-output`).

A frozen output is the home of a strandline of that version, as a tar file in tests/data/outputs/VERSION/: it keeps modes, links
and empty folders, which git does not. `plain` has a bit of everything that the ledger can know; `aged` has raw copies that have
gone. Beside the output there is history.json: the drops whose orders count, and how they are read, for the plain model.
tests/test_upgrade.py opens them with the code of its day.
"""

from __future__ import annotations

import json
import sys
import tarfile
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from tests.support import REPO
from tests.support.api import Shop, serving
from tests.support.command import drop, strandline
from tests.support.harness import apply_batch, open_engine

FOLDER = REPO / "tests" / "data" / "outputs"
MODELS = {
    "models/daily.sql": "SELECT date, count(DISTINCT order_id) AS orders, sum(amount) AS amount FROM fact_order GROUP BY date",
    "checks/negative.sql": "SELECT date, order_id, amount FROM fact_order WHERE amount < 0",
}
BEGIN = '[watch]\nsettle_seconds = 0\n[engine]\nworkers = 1\n[raw]\nkeep = "{keep}"\n'
SHOP = {"id_prefix": "s-", "fields": [["order_id", ["id"]], ["amount", ["total"]], ["created_at", ["made"]]]}
SOURCE = """
[columns]
status = "text"
[sources.shop]
id_prefix = "s-"
deleted = {path = "status", values = ["gone"]}
[sources.shop.fields]
order_id = "id"
amount = "total"
created_at = "made"
"""
PULL = """
[sources.api]
[sources.api.pull]
url = "%s/orders"
params = {since = "{since}", page = "{page}"}
next = "page"
cursor = "orders.updated_at"
since_format = "seconds"
"""
STATUS = {"columns": [["status", "text", ["status"]]]}
USERS = "user_id,email,country\nu_1,a@example.org,NA\nu_2,,\nu_9,nine@example.org,SE\n"
PRODUCTS = "sku,name,category,price\np_1,é,c,1.50\n"
DAYS_AGO_US = 500 * 86_400_000_000


def order(number: int, day: int, **more: Any) -> dict[str, Any]:
    items = [{"sku": f"p_{line}", "qty": line, "price": "1.5"} for line in range(1, number % 3 + 1)]
    base = {"order_id": f"o_{number}", "user_id": f"u_{number % 3}", "amount": f"{number}.0001", "currency": "EUR"}
    return base | {"created_at": f"2024-03-{day:02}T10:00:00Z", "metadata": {"n": [number]}, "items": items} | more


def lines(*records: Any) -> str:
    return "\n".join(one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in records)


def main() -> int:
    version = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    folder = FOLDER / version
    if folder.exists():
        print(
            f"{folder} exists: a frozen output is never changed. Raise the version in pyproject.toml first",
            file=sys.stderr,
        )
        return 2
    with tempfile.TemporaryDirectory() as scratch:
        made = {name: Path(scratch) / name for name in ("plain", "aged")}
        for home in made.values():
            home.mkdir()
        history = {"plain": plain(made["plain"]), "aged": aged(made["aged"])}
        folder.mkdir(parents=True)
        for name, home in made.items():
            (home / "history.json").write_text(json.dumps({"strandline": version} | history[name], indent=1))
            with tarfile.open(folder / f"{name}.tar.xz", "w:xz") as tar:
                tar.add(home, arcname=name, filter=_anonymous)
            print(folder / f"{name}.tar.xz", (folder / f"{name}.tar.xz").stat().st_size, "bytes")
    return 0


def _anonymous(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the owner."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def run(home: Path, *words: str, code: int = 0) -> None:
    ended = strandline(home, *words)
    assert ended.returncode == code, (words, ended.stdout, ended.stderr)


def configured(home: Path, more: str = "", keep: str = "forever") -> None:
    (home / "config.toml").write_text(BEGIN.format(keep=keep) + more)


def plain(home: Path) -> dict[str, Any]:
    """Orders, users and products; discards, faults, quarantine, a duplicate; another source, extra columns, a deletion; a pull;
    drops that were withdrawn, one applied again; an erasure with a block; models and a check."""
    configured(home)
    for name, text in MODELS.items():
        (home / name).parent.mkdir()
        (home / name).write_text(text)
    first = lines(*(order(number, number % 3 + 1) for number in range(1, 7)), "no order", order(7, 2, amount="x"))
    drop(home, "a.jsonl", first.encode(), 3000)
    drop(home, "a again.jsonl", first.encode(), 2900)
    drop(home, "users.csv", USERS.encode(), 2800)
    drop(home, "products.csv", PRODUCTS.encode(), 2700)
    drop(home, "broken.json", b'[{"order_id"', 2600)
    drop(home, "other.json", b"[", 2500)
    run(home, "--once", code=1)

    configured(home, SOURCE)
    (home / "inbox" / "shop").mkdir()
    moved = lines(
        order(1, 9, updated_at="2024-04-01", status="moved"), order(2, 3, amount="-7", updated_at="2024-04-02")
    )
    wrong = lines(order(3, 3, amount="999", updated_at="2024-04-03"), order(20, 5))
    nine = order(9, 4, user_id="u_9")
    shop = [
        {"id": 1, "total": "5", "made": "2024-03-01"},
        {"id": 2, "total": "6", "made": "2024-03-06", "status": "new"},
    ]
    drop(home, "moved.jsonl", moved.encode(), 2400)
    drop(home, "wrong.jsonl", wrong.encode(), 2300)
    drop(home, "nine.jsonl", lines(nine, order(10, 4)).encode(), 2200)
    drop(home, "shop/s.json", shop, 2100)
    drop(home, "shop/gone.json", [{"id": 2, "made": "2024-03-06", "status": "gone"}], 2000)
    run(home, "--once")

    api = Shop(2)
    for number in range(3):
        api.put(f"api_{number}", 1_700_000_000 + number, number + 1)
    with serving(api.by_page) as server:
        configured(home, SOURCE + PULL % server.url)
        run(home, "pull", "api")
    configured(home, SOURCE)
    run(home, "undo", "wrong.jsonl", "--reason", "of the test shop")
    run(home, "undo", "moved.jsonl")
    run(home, "undo", "moved.jsonl", "--revert")
    run(home, "discard", "broken.json", "--reason", "known")
    run(home, "retry", "other.json")
    run(home, "--once", code=1)
    run(home, "forget", "--user", "u_9", "--block")
    run(home, "verify")
    drops = [(first, {}), (moved, STATUS), (lines(nine, order(10, 4)), STATUS), (json.dumps(shop), SHOP | STATUS)]
    drops.append((json.dumps([*api.orders.values()]), STATUS))
    return {"drops": [{"text": text, "mapping": mapping} for text, mapping in drops], "gone": ["s-2", "o_9"]}


def aged(home: Path) -> dict[str, Any]:
    """Two drops of 500 days ago, whose raw copies have gone, and one of today."""
    old = [lines(*(order(number, number) for number in range(1, 5))), lines(order(2, 8, updated_at="2024-04-01"))]
    with open_engine(home) as engine:
        given = [(f"{number}.jsonl", text.encode()) for number, text in enumerate(old)]
        then = time.time_ns() // 1000 - DAYS_AGO_US
        apply_batch(engine, home, given, then, tolerance=DAYS_AGO_US * 2)
    configured(home, keep="400d")
    new = lines(order(3, 3, amount="8", updated_at="2024-04-02"))
    drop(home, "new.jsonl", new.encode())
    run(home, "--once")
    run(home, "verify")
    return {"drops": [{"text": text, "mapping": {}} for text in (*old, new)], "gone": []}


if __name__ == "__main__":
    sys.exit(main())
