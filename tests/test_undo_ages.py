"""An undo where raw copies have gone by age: what they alone had does not come back, and all else is exact."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.entries import Undo
from daemon.core.errors import UsageError
from daemon.operate.undo import table, undo
from daemon.storage import ages
from tests.batch.test_deletions import MAPPING, RECORDS, is_gone, published
from tests.strategies import RECEIVED_AT_US
from tests.support.command import as_drop, order
from tests.support.examples import examples
from tests.support.harness import apply_batch, open_engine, tree
from tests.test_ages import age, differences, rebuilt

SLOW = examples(30)


def undone(seq: int, *, is_revert: bool = False) -> Undo:
    return Undo(seq, RECEIVED_AT_US, "ada", "", is_revert)


def winners(drops: dict[int, list[dict[str, Any]]]) -> dict[int, tuple[tuple[str, int, int], dict[str, Any]]]:
    """Of each order the latest version in these drops (by number), with its rank."""
    found: dict[int, tuple[tuple[str, int, int], dict[str, Any]]] = {}
    for number, drop in drops.items():
        for position, one in enumerate(drop):
            rank = (one.get("updated_at", one["created_at"]), number, position)
            if one["order_id"] not in found or rank > found[one["order_id"]][0]:
                found[one["order_id"]] = rank, one
    return found


def after_undo(drops: dict[int, list[dict[str, Any]]], withdrawn: int, gone: int) -> dict[str, tuple[str, int]]:
    """Orders of other drops stay. Those of the withdrawn drop get the latest version of the drops that can still be read."""
    there = winners({number: drop for number, drop in drops.items() if number > gone and number != withdrawn})
    kept = {
        order_id: there.get(order_id) if rank[1] == withdrawn else (rank, one)
        for order_id, (rank, one) in winners(drops).items()
    }
    orders = {order_id: found[1] for order_id, found in kept.items() if found and not is_gone(found[1])}
    return {str(order_id): (one["created_at"][:10], one["amount"]) for order_id, one in orders.items()}


@SLOW
@given(st.lists(st.lists(RECORDS, min_size=1, max_size=4), min_size=2, max_size=5, unique_by=json.dumps), st.data())
def test_orders_return_to_what_can_still_be_read(many: list[list[dict[str, Any]]], data: st.DataObject) -> None:
    """Whichever first drops have gone, and whichever drop is withdrawn. A revert gives back what was there before."""
    drops = dict(enumerate(many, 1))
    gone, withdrawn = data.draw(st.integers(0, len(many))), data.draw(st.integers(1, len(many)))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with open_engine(root) as engine:
            for number, drop in drops.items():
                lines = "\n".join(map(json.dumps, drop)).encode()
                apply_batch(engine, root, [(f"{number}.jsonl", lines)], RECEIVED_AT_US + number, mapping=MAPPING)
            age(engine, {ages.RAW: 0}, RECEIVED_AT_US + gone + 1)
            before, hwm = tree(root / "output" / "curated"), engine.ledger.hwm
            undo(engine, str(withdrawn), undone)
            assert published(root / "output") == after_undo(drops, withdrawn, gone)
            assert differences(engine) == []
        without = tree(root / "output" / "curated")
        if data.draw(st.booleans()):
            rebuilt(root)
        with open_engine(root) as engine:
            assert tree(root / "output" / "curated") == without and differences(engine) == []
            if withdrawn <= gone:
                with pytest.raises(UsageError, match="gone by age"):
                    undo(engine, str(withdrawn), lambda seq: undone(seq, is_revert=True))
                return
            undo(engine, str(withdrawn), lambda seq: undone(seq, is_revert=True))
            assert differences(engine) == []
            lost = {key for key, value in before.items() if tree(root / "output" / "curated").get(key) != value}
            assert lost == set() and engine.ledger.hwm == hwm


def users(*rows: tuple[str, str]) -> bytes:
    return "".join(["user_id,email\n", *(f"{user},{mail}@example.com\n" for user, mail in rows)]).encode()


def mails(root: Path) -> dict[str, str]:
    import pyarrow.parquet as pq

    found = pq.ParquetFile(root / "output" / "curated" / "dim_user.parquet").read().to_pylist()
    return {row["user_id"]: row["email"].partition("@")[0] for row in found}


def test_users_return_to_what_can_still_be_read(tmp_path: Path) -> None:
    """Rows that only an aged drop had stay, unless the withdrawn drop had replaced them; it can be applied again."""
    with open_engine(tmp_path) as engine:
        for number, content in enumerate(
            [
                users(("a", "x"), ("b", "x"), ("c", "x")),
                users(("b", "y"), ("d", "y")),
                users(("a", "z"), ("b", "z"), ("e", "z")),
            ]
        ):
            apply_batch(engine, tmp_path, [(f"users-{number}.csv", content)], RECEIVED_AT_US + number)
        apply_batch(engine, tmp_path, [("o.json", as_drop([order(1)]))], RECEIVED_AT_US + 5)
        age(engine, {ages.RAW: 0}, RECEIVED_AT_US + 1)
        everything = mails(tmp_path)
        found = undo(engine, "3", undone)
        assert mails(tmp_path) == {"b": "y", "c": "x", "d": "y"}
        assert "drops up to 1 have gone by age" in table(found, dry_run=False) and differences(engine) == []
        with pytest.raises(UsageError, match="has gone by age"):
            undo(engine, "1", undone)
    rebuilt(tmp_path)
    with open_engine(tmp_path) as engine:
        assert mails(tmp_path) == {"b": "y", "c": "x", "d": "y"} and differences(engine) == []
        undo(engine, "3", lambda seq: undone(seq, is_revert=True))
        assert mails(tmp_path) == everything and differences(engine) == []
        undo(engine, "3", undone)
        undo(engine, "2", undone)
        assert mails(tmp_path) == {"c": "x"} and differences(engine) == []


@pytest.mark.parametrize(("first", "may_lack"), [
    (("1.json", as_drop([order(1)])), True), (("users.csv", users(("a", "x"))), False),
])  # fmt: skip
def test_what_has_gone_is_said_only_where_it_may_be_missed(
    tmp_path: Path, first: tuple[str, bytes], may_lack: bool
) -> None:
    """Not where all other drops with orders can still be read."""
    later = order(2, updated_at="2026-03-09T00:00:00Z", amount="7.00")
    with open_engine(tmp_path) as engine:
        for number, drop in enumerate([first, ("2.json", as_drop([order(2)])), ("3.json", as_drop([later]))], 1):
            apply_batch(engine, tmp_path, [drop], RECEIVED_AT_US + number)
        age(engine, {ages.RAW: 0}, RECEIVED_AT_US + 2)
        assert engine.ledger.horizon(ages.RAW) == 1
        assert ("have gone by age" in table(undo(engine, "3", undone), dry_run=False)) is may_lack
