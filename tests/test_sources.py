"""Several sources in one output: a crash at any moment, a lost ledger, and raw copies of a source that nobody knows any more."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest

from daemon.batch.recovery import recover
from daemon.core.mapping import FieldMapping
from daemon.core.model import Contexts, ParseContext
from daemon.operate.rebuild import prepare_rebuild, take_over
from daemon.service import Service
from daemon.sources.inbox import Inbox
from daemon.sources.inboxes import Inboxes
from daemon.sources.source_folder import SourceFolder
from tests.support.command import order
from tests.support.crash import TERMS, Crash, World
from tests.support.harness import DAY, dates, open_engine, rows, tree

SHOP = FieldMapping(fields=(("amount", ("total",)), ("order_id", ("number",))), id_prefix="s-")
CONTEXTS = {
    "default": ParseContext(0, DAY),
    "shop": ParseContext(0, DAY, source="shop", mapping=SHOP),
    "web": ParseContext(0, DAY, "data.orders", source="web"),
}
FOLDERS = {"default": "", "shop": "shop", "web": "eu/web"}


def once(root: Path, contexts: Contexts = CONTEXTS) -> list[str]:
    """`--once` over root/inbox and root/output, in this thread; returns what it left."""
    places = [SourceFolder(root / "inbox", FOLDERS[source], source) for source in contexts]
    with open_engine(root) as engine:
        for place in places:
            place.make()
        inboxes = Inboxes([Inbox(place, 0.0, TERMS.backoff) for place in places])
        terms = replace(TERMS, contexts=contexts)
        summary = Service(engine, inboxes, terms, [], lambda: recover(engine, places, contexts)).once(Event())
        assert not summary.stopped
        return summary.left


def rebuild(root: Path, contexts: Contexts = CONTEXTS) -> None:
    with open_engine(root) as engine:
        take_over(engine, prepare_rebuild(engine, time.time_ns() // 1000, contexts))
    once(root, contexts)


def put(path: Path, content: object, age: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    os.utime(path, (time.time() - 3600 - age,) * 2)


def of_shop(number: int, total: int) -> dict[str, object]:
    return {"number": str(number), "total": total, "created_at": "2026-03-02T10:00:00Z"}


def deliver(root: Path) -> None:
    """A drop into each folder, all under the same name, and one that cannot be read."""
    put(root / "inbox" / "a.json", [order(1), order(2, 3)], 4)
    put(root / "inbox" / "shop" / "a.json", [of_shop(1, 5), of_shop(9, 7), {"total": 1}], 3)
    put(root / "inbox" / "eu" / "web" / "a.json", {"data": {"orders": [order(2, 3, amount=4)]}}, 2)
    put(root / "inbox" / "shop" / "broken.json", b'{"number": ', 1)


def is_whole(root: Path) -> None:
    """Each drop was applied once, under the settings of its source, and lies where its source does."""
    output = root / "output"
    published = {row["order_id"]: row["amount"] for day in dates(output) for row in rows(output, day)}
    assert {key: int(value) for key, value in published.items()} == {"o_1": 1, "o_2": 4, "s-1": 5, "s-9": 7}  # type: ignore[arg-type, call-overload]
    with open_engine(root) as engine:
        drops = {(drop.context.source, drop.name): drop for drop in engine.ledger.applied_drops()}
        assert drops.keys() == {("default", "a.json"), ("shop", "a.json"), ("web", "a.json")}
        assert engine.ledger.drop_count() == 4 and engine.ledger.sources() == {"default", "shop", "web"}
        for (source, _), drop in drops.items():
            assert drop.context == replace(CONTEXTS[source], received_at=drop.context.received_at)
            folder = "raw/received=" if source == "default" else f"raw/source={source}/received="
            assert (drop.raw or "").startswith(folder) and (output / (drop.raw or "")).is_file()
        assert engine.ledger.totals_by_source()["shop", "orders.discarded.missing_order_id"] == 1
    (reason,) = (output / "quarantine").glob("*.reason.json")
    assert json.loads(reason.read_text())["source"] == "shop"
    left = [path for path in (root / "inbox").rglob("*") if not path.is_dir()]
    assert left == []


def test_drops_of_all_sources_are_one_batch_each_under_its_own_settings(tmp_path: Path) -> None:
    """The same order in two sources is one order: o_2 of the default source is superseded by that of web."""
    deliver(tmp_path)
    assert once(tmp_path) == []
    is_whole(tmp_path)
    with open_engine(tmp_path) as engine:
        (batch,) = {row[0] for row in engine.ledger._sql.execute("SELECT batch FROM drops")}
        assert batch == 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_whenever_a_run_ends_the_next_one_finishes_it(tmp_path: Path, after: bool) -> None:
    """At each change to a file or the ledger, between archive and commit among them. What was archived and is not in the ledger
    yet is adopted under the settings of the source that its path names."""
    ended = 0
    for last in range(1, 1000):
        root = tmp_path / "home"
        deliver(root)
        world = World(last, after=after)
        with suppress(Crash), world.running():
            once(root)
        ended += world.done >= last
        once(root)
        is_whole(root)
        shutil.rmtree(root)
        if world.done < last:
            break
    assert ended > 60, "a run has many steps"


@pytest.mark.parametrize("lost", [("state",), ("state", "receipts"), ("state", "curated")], ids=" and ".join)
def test_a_rebuild_gives_the_same_bytes(tmp_path: Path, lost: Sequence[str]) -> None:
    """Without the ledger, from the receipts; without receipts, too, from the places in raw and today's settings."""
    deliver(tmp_path)
    once(tmp_path)
    output = tmp_path / "output"
    before = tree(output / "curated"), tree(output / "receipts")
    for folder in lost:
        shutil.rmtree(output / folder)
    if "receipts" in lost:
        shutil.rmtree(output / "curated")  # without a history, what is published is nobody's
        shutil.rmtree(output / "quarantine")
        (output / "restatements.jsonl").unlink(missing_ok=True)
        once(tmp_path)
        assert tree(output / "curated") == before[0]
        return
    with open_engine(tmp_path) as engine:
        today = {"default": CONTEXTS["default"]}  # the other sources are not even configured any more
        take_over(engine, prepare_rebuild(engine, time.time_ns() // 1000, today))
    once(tmp_path, today)
    is_whole(tmp_path)
    assert (tree(output / "curated"), tree(output / "receipts")) == before


def old_receipts(output: Path, change: Callable[[dict], None]) -> None:
    for path in (output / "receipts").rglob("*.json"):
        receipt = json.loads(path.read_text())
        change(receipt)
        path.write_text(json.dumps(receipt))


def test_receipts_without_a_source_mean_the_default_one(tmp_path: Path) -> None:
    """As those that were written before there were sources; they had no mapping either."""
    put(tmp_path / "inbox" / "a.json", [order(1)])
    once(tmp_path)
    output = tmp_path / "output"
    before = tree(output / "curated"), tree(output / "receipts")

    def older(receipt: dict) -> None:
        del receipt["source"], receipt["parsed_with"]["mapping"]

    old_receipts(output, older)
    shutil.rmtree(output / "state")
    rebuild(tmp_path)
    with open_engine(tmp_path) as engine:
        (drop,) = engine.ledger.applied_drops()
        assert drop.context.source == "default" and drop.context.mapping == FieldMapping()
    assert tree(output / "curated") == before[0]


def test_raw_copies_of_an_unknown_source_are_left_and_named_until_it_is_configured(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing says how to read them. Their numbers are not given again."""
    deliver(tmp_path)
    once(tmp_path)
    output = tmp_path / "output"
    published = tree(output / "curated")
    for folder in ("state", "receipts", "curated", "quarantine"):
        shutil.rmtree(output / folder)
    copies = tree(output / "raw")
    less = {source: context for source, context in CONTEXTS.items() if source != "shop"}
    once(tmp_path, less)
    told = [vars(record) for record in caplog.records if "not configured" in record.message]
    assert [(one["source"], one["path"].partition("/received=")[0]) for one in told] == [("shop", "raw/source=shop")]
    assert tree(output / "raw") == copies
    put(tmp_path / "inbox" / "later.json", [])
    once(tmp_path, less)
    with open_engine(tmp_path) as engine:
        assert [drop.name for drop in engine.ledger.applied_drops()] == ["a.json", "a.json", "later.json"]
        numbers = {copy.seq: copy.source for copy in engine.raw.stored()}
        assert len(numbers) == 4 and numbers[2] == "shop"
    rebuild(tmp_path)
    assert tree(output / "curated") == published


def test_a_mapping_is_in_the_ledger_once(tmp_path: Path) -> None:
    """However many drops were read under it."""
    for number in range(40):
        put(tmp_path / "inbox" / "shop" / f"{number}.json", [of_shop(number, 1)])
        put(tmp_path / "inbox" / f"{number}.json", [order(number)])
    once(tmp_path)
    put(tmp_path / "inbox" / "shop" / "again.json", [of_shop(99, 1)])
    once(tmp_path)
    with closing(sqlite3.connect(tmp_path / "output" / "state" / "ledger.sqlite")) as sql:
        assert sorted(row[0] for row in sql.execute("SELECT mapping FROM mappings")) == ["", SHOP.to_json()]
        assert dict(sql.execute("SELECT source, count(*) FROM drops GROUP BY source")) == {"default": 40, "shop": 41}


def test_the_same_bytes_in_two_sources_are_a_duplicate_only_if_they_are_read_alike(tmp_path: Path) -> None:
    """shop maps its fields; web finds its records elsewhere; a third source has the settings of the inbox."""
    data = [order(1)]
    contexts = {**CONTEXTS, "shop": replace(CONTEXTS["default"], source="shop")}
    put(tmp_path / "inbox" / "a.json", data, 3)
    put(tmp_path / "inbox" / "shop" / "b.json", data, 2)
    put(tmp_path / "inbox" / "eu" / "web" / "c.json", data, 1)
    once(tmp_path, contexts)
    with open_engine(tmp_path) as engine:
        outcomes = {one.drop.name: str(one.outcome) for one in engine.ledger.all_results()}
    assert outcomes == {"a.json": "applied", "b.json": "duplicate", "c.json": "applied"}
