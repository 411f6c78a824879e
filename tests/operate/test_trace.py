"""`trace`: every record of an order that ever came, in the order of its versions, the winner among them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from daemon.core.mapping import FieldMapping
from daemon.operate import trace, trace_text
from tests.support.command import order, strandline
from tests.support.crash import drop, run
from tests.support.harness import DAY, apply_batch, open_engine, rows

NOW = 1_780_000_000_000_000


def lives(root: Path, order_id: str) -> trace.Trace:
    with open_engine(root) as engine:
        return trace.trace(engine, order_id)


def test_every_version_is_shown_with_what_made_it_lose(tmp_path: Path) -> None:
    """An update, a late older version, ties in a drop and between drops, a repeated drop, discards, what --since passed over."""
    with open_engine(tmp_path) as engine:

        def applied(name: str, *records: Any, since: int | None = None) -> None:
            data = b"\n".join(json.dumps(record).encode() for record in records)
            apply_batch(engine, tmp_path, [(name, data)], NOW, DAY, since)

        first = order(7, amount=1)
        applied("a.ndjson", first, order(8))
        applied("b.ndjson", order(7, amount=2), order(7, amount=3))
        applied("late.ndjson", order(7, amount=4, updated_at="2026-01-01T00:00:00Z"), order(7, created_at="soon"))
        applied("a-again.ndjson", first, order(8))
        applied(
            "c.ndjson", order(7, amount=5, created_at="2025-01-01T00:00:00Z"), order(9), since=1_767_225_600_000_000
        )
    found = lives(tmp_path, order(7)["order_id"])
    assert [(one.drop, one.position, one.content["amount"]) for one in found.versions] == [
        (5, 1, "5.0000"),
        (3, 1, "4.0000"),
        (1, 1, "1.0000"),
        (2, 1, "2.0000"),
        (2, 2, "3.0000"),
    ]
    assert [one.why.partition("(")[2].rstrip(")") or one.why for one in found.versions] == [
        "not applied: it is before the --since that its drop was read under",
        f"its instant is {found.versions[2].instant}",
        "the same instant, and it arrived later",
        "the same instant, and it comes later in the drop",
        "published: no other is later",
    ]
    assert found.agrees and found.published == ("2026-03-02", 2, 2)
    assert found.repeats[1] == ["drop 4 (a-again.ndjson)"]
    (discard,) = found.discards
    assert (discard.drop, discard.position, discard.reason) == (3, 2, "invalid_created_at")
    assert discard.why == 'created_at is "soon", which cannot be read as an instant'
    assert f"was discarded: invalid_created_at: {discard.why}" in trace_text.table(found)


def test_a_version_that_changes_nothing_is_the_one_that_is_published(tmp_path: Path) -> None:
    """The index names the latest version, also where an earlier one says the same."""
    with open_engine(tmp_path) as engine:
        for number, amount in enumerate((1, 1, 2), 1):
            data = json.dumps([order(7, amount=amount)], indent=number).encode()
            apply_batch(engine, tmp_path, [(f"{number}.json", data)], NOW)
            found = trace.trace(engine, order(7)["order_id"])
            assert found.agrees and found.winner is found.versions[-1]
            assert found.published == ("2026-03-02", number, 1)


def test_the_winner_is_what_is_published(tmp_path: Path) -> None:
    """Random drops: of each order all records are shown, and the last of them is the row in the partition."""
    chosen = random.Random(5)
    sent: dict[str, list[tuple[int, int]]] = {}
    with open_engine(tmp_path) as engine:
        for number in range(1, 9):
            records = [
                order(chosen.randrange(6), chosen.randint(1, 5), amount=chosen.randrange(10_000))
                | ({"updated_at": f"2026-03-0{chosen.randint(1, 9)}T00:00:00Z"} if chosen.random() < 0.7 else {})
                for _ in range(chosen.randint(1, 12))
            ]
            for position, record in enumerate(records, 1):
                sent.setdefault(record["order_id"], []).append((number, position))
            apply_batch(engine, tmp_path, [(f"{number}.json", json.dumps(records).encode())], NOW)
    for order_id, places in sent.items():
        found = lives(tmp_path, order_id)
        assert sorted((one.drop, one.position) for one in found.versions) == places
        assert found.agrees and found.winner is not None and found.winner is found.versions[-1]
        date = found.winner.content["created_at"][:10]
        published = [row for row in rows(tmp_path / "output", date) if row["order_id"] == order_id]
        assert f"{sum(row['amount'] for row in published):.4f}" == found.winner.content["amount"]


def test_an_index_that_names_another_version_is_told(tmp_path: Path) -> None:
    """The answer of raw is shown, and the disagreement is said."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", json.dumps([order(1), order(1, amount=9)]).encode())], NOW)
        with engine.ledger.transaction():
            entries = engine.ledger.index.of_dates(list(engine.ledger.partitions())).copy()
            entries["position"] = 1
            engine.ledger.index.adopt(engine.ledger.index.write_ahead(entries))
    found = lives(tmp_path, order(1)["order_id"])
    assert not found.agrees and "THIS IS NOT WHAT RAW SAYS" in trace_text.table(found)
    assert found.versions[1].why == "the latest, and not what the index names"


def test_the_command(tmp_path: Path) -> None:
    """Text for people with what changed, JSON for programs; 1 where there is no such order; nothing obeyed by a terminal."""
    drop(tmp_path, "a.json", json.dumps([order(1, metadata="\x1b[2J")]).encode(), 3000)
    drop(tmp_path, "b.json", json.dumps([order(1, amount=9, updated_at="2026-03-05T00:00:00Z")]).encode(), 100)
    run(tmp_path)
    shown = strandline(tmp_path, "trace", f" {order(1)['order_id']} ")
    assert shown.returncode == 0 and "amount      9.0000   (was " in shown.stdout and "\x1b" not in shown.stdout
    found = json.loads(strandline(tmp_path, "trace", order(1)["order_id"], "--json").stdout)
    assert found["agrees_with_raw"] and [one["drop"] for one in found["versions"]] == [1, 2]
    none = strandline(tmp_path, "trace", "nobody")
    assert none.returncode == 1 and none.stdout.startswith("order nobody: no applied drop has a record of it\n")


def test_a_deletion_is_shown_as_one(tmp_path: Path) -> None:
    """While the order is gone, after it came back, and where the deletion lost; also under a `--since`."""
    mapping = FieldMapping(deleted_path="gone", deleted_values=("true",))

    def applied(root: Path, *records: dict[str, Any], since: int | None = None) -> None:
        with open_engine(root) as engine:
            data = b"\n".join(json.dumps(record).encode() for record in records)
            number = len(list((root / "output" / "receipts").rglob("*.json")))
            apply_batch(engine, root, [(f"{number}.ndjson", data)], NOW, DAY, since, mapping=mapping)

    first, gone = order(7, amount=1), order(7, updated_at="2026-03-05T00:00:00Z", gone=True)
    home = tmp_path / "gone"
    applied(home, first)
    applied(home, gone, since=1_772_700_000_000_000)
    found = lives(home, first["order_id"])
    assert found.agrees and found.published == ("", 2, 1)
    assert [(one.is_deletion, one.content == {}) for one in found.versions] == [(False, False), (True, True)]
    assert found.versions[1].why == "deleted: no other is later"
    text, told = trace_text.table(found), trace.as_dict(found)
    assert "is deleted, by record 1 of drop 2" in text and "it deletes the order" in text
    assert told["published"] is None and told["deleted_by"] == {"drop": 2, "position": 1}
    applied(home, order(7, amount=2, updated_at="2026-03-06T00:00:00Z"))
    found = lives(home, first["order_id"])
    assert found.agrees and found.published is not None and found.published[1:] == (3, 1)
    assert "it deletes the order" in trace_text.table(found) and trace.as_dict(found)["deleted_by"] is None
    home = tmp_path / "lost"
    applied(home, order(7, amount=1, updated_at="2026-03-07T00:00:00Z"), gone)
    found = lives(home, first["order_id"])
    assert found.agrees and "superseded" in found.versions[0].why and found.versions[0].is_deletion


def test_the_text_says_how_the_amount_came_about(tmp_path: Path) -> None:
    """By the version that counts; each rule, and how far the items are from the amount."""
    three = [
        {"sku": "a", "qty": 2, "price": 4},
        {"sku": "b", "qty": 1, "price": 3},
        {"sku": "c\n", "qty": 1, "price": 1},
    ]
    orders = [
        order(1, amount=11, items=three), order(1, amount=10, items=three, updated_at="2026-03-09"),
        order(2, amount=13, items=three), order(3, amount=1, items=[{"sku": "a"}, {"sku": "b"}, {}]),
        order(4, amount=5, items=[]), order(5, amount="?"), order(6, amount=12, items=three),
    ]  # fmt: skip
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", json.dumps(orders).encode())], NOW)
        said = {number: trace_text.table(trace.trace(engine, order(number)["order_id"])) for number in range(1, 7)}
    assert said[1].count("divided over") == 1 and "13" not in said[1]
    assert """
  the amount is divided over the lines by weight: quantity × price, without its sign (`strandline docs EXACTNESS`)
    line  sku     qty   price  weight  share so far  rounded  amount
       1  a    2.0000  4.0000  8.0000   6.66666666…   6.6667  6.6667
       2  b    1.0000  3.0000  3.0000   9.16666666…   9.1667  2.5000
       3  c    1.0000  1.0000  1.0000       10.0000  10.0000  0.8333
  each line gets its rounded share so far, less that of the line before
  the items add up to 12.0000; what counts is the order's own amount, 10.0000
""" in said[1]
    assert "add up to 12.0000; what counts is the order's own amount, 13.0000" in said[2] and "add up" not in said[6]
    assert "the lines share the amount equally" in said[3] and "add up" not in said[3]
    assert "no items, so its one line (0) has the amount" in said[4] and "share so far" not in said[4]
    assert "no amount that could be read" in said[5] and "share so far" not in said[5]


def test_the_text_gives_weights_without_signs(tmp_path: Path) -> None:
    """A return among the lines: what is not a product is not called one, and the numbers agree."""
    items = [{"sku": "a", "qty": 1_000_000, "price": "0.0001"}, {"sku": "b", "qty": -1, "price": 5}]
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", json.dumps([order(1, amount=1, items=items)]).encode())], NOW)
        said = trace_text.table(trace.trace(engine, order(1)["order_id"]))
    assert (
        """
  the amount is divided over the lines by weight: quantity × price, without its sign (`strandline docs EXACTNESS`)
    line  sku           qty   price    weight  share so far  rounded  amount
       1  a    1000000.0000  0.0001  100.0000   0.95238095…   0.9524  0.9524
       2  b         -1.0000  5.0000    5.0000        1.0000   1.0000  0.0476
  each line gets its rounded share so far, less that of the line before
  the items add up to 95.0000; what counts is the order's own amount, 1.0000
"""
        in said
    )


def test_an_id_that_nothing_has_names_the_one_that_is_meant(tmp_path: Path) -> None:
    """One mistake away, without reading ids; where many orders are that near, none is likelier than another."""
    with open_engine(tmp_path) as engine:
        ids = ["WEB-1001", "#2002", "17", "18", "19", "10"]
        orders = [order(1) | {"order_id": one} for one in ids]
        apply_batch(engine, tmp_path, [("a.json", json.dumps(orders).encode())], NOW)

        def asked(order_id: str) -> str:
            return trace_text.table(trace.trace(engine, order_id)).splitlines()[-1]

        for typed in ("web-1001", "WEB-1010", "WEB-101", "WEB-10011", "WEB1001", "WEB-1801"):
            assert "Did you mean WEB-1001? Ids are" in asked(typed), typed
        assert "Did you mean #2002?" in asked("2002")
        for typed in ("nothing", "1", "", "x" * 10_000, "\ud800"):
            assert asked(typed).startswith("No order is published under this id. Ids are"), typed
        assert asked("17").startswith("1 version; the one that counts is of drop 1, which `strandline undo 1`")


def test_an_order_that_every_drop_passed_over_says_what_applies_it(tmp_path: Path) -> None:
    with open_engine(tmp_path) as engine:
        data = json.dumps([order(7, created_at="2026-03-01"), order(8)]).encode()
        apply_batch(engine, tmp_path, [("a.json", data)], NOW, DAY, 1_772_400_000_000_000)
        said = trace_text.table(trace.trace(engine, order(7)["order_id"])).splitlines()
    assert said[0].endswith("o_7: not published")
    assert said[-1].startswith(
        "It is before the --since that its drops were read under; `strandline --since TS` with an earlier"
    )


def test_a_limit_of_time_leaves_the_published_version_and_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The drop that the index names is read first, then the newest; it says which were not read. Enough time gives all."""
    with open_engine(tmp_path) as engine:
        instants = [5, 1, 9, 2, 8, 3]  # the third wins
        for number, day in enumerate(instants):
            one = order(7, amount=number, updated_at=f"2026-04-0{day}T00:00:00Z")
            apply_batch(engine, tmp_path, [(f"{number}.json", json.dumps([one]).encode())], NOW)
        monkeypatch.setattr(trace, "_AT_ONCE", 2)
        some = trace.trace(engine, "o_7", 0.0)
        assert {one.drop for one in some.versions} == {3, 6} and some.agrees and some.read_from == 6
        assert some.published is not None and some.winner is not None and some.winner.drop == 3
        assert "the time was up: drops before 6 were not read" in trace_text.table(some)
        monkeypatch.setattr(trace, "_AT_ONCE", 1)
        only = trace.trace(engine, "o_7", 0.0)
        assert [one.drop for one in only.versions] == [3] and only.read_from == 7
        whole = trace.trace(engine, "o_7", 3600.0)
        assert whole == trace.trace(engine, "o_7") and whole.read_from == 0 and len(whole.versions) == 6


def test_a_drop_that_cannot_be_read_costs_only_its_own_versions(tmp_path: Path) -> None:
    """Missing, damaged, or of a withdrawn drop: it is named, and orders of other drops are shown. Where the index names such a
    drop, what it names is shown, and nothing is said to be wrong with the index."""
    with open_engine(tmp_path) as engine:
        for number in range(1, 5):
            apply_batch(
                engine,
                tmp_path,
                [(f"{number}.json", json.dumps([order(7, amount=number), order(number + 10)]).encode())],
                NOW,
            )
        copies = [engine.output / (drop.raw or "") for drop in engine.ledger.applied_drops()]
    assert strandline(tmp_path, "undo", "3").returncode == 0
    copies[0].unlink()
    copies[2].write_bytes(b"damaged")
    whole = lives(tmp_path, "o_7")
    assert [one.drop for one in whole.not_read] == [1, 3] and whole.agrees
    assert all(str(copies[one.drop - 1]) in one.reason for one in whole.not_read)
    assert [(one.drop, one.has_gone) for one in whole.versions] == [(2, False), (4, False)]
    copies[3].unlink()
    whole = lives(tmp_path, "o_7")
    assert [one.drop for one in whole.not_read] == [1, 3, 4] and whole.agrees
    assert [(one.drop, one.has_gone) for one in whole.versions] == [(2, False), (4, True)]
    text = strandline(tmp_path, "trace", "o_7").stdout
    assert (
        "drop 1 (1.json) was not read: " in text and "its raw copy was not read" in text and "NOT WHAT RAW" not in text
    )
    assert [one["drop"] for one in json.loads(strandline(tmp_path, "trace", "--json", "o_7").stdout)["not_read"]] == [
        1,
        3,
        4,
    ]
    nobody = lives(tmp_path, "o_99")
    assert not nobody.versions and nobody.published is None and nobody.agrees
