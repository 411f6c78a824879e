"""Records that say that an order is gone: it leaves the published partitions, and an older version cannot bring it back."""

from __future__ import annotations

import json
import tempfile
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.mapping import FieldMapping
from daemon.core.model import ParseContext
from daemon.operate.rebuild import prepare_rebuild, take_over
from daemon.operate.verify import verify
from daemon.storage.ledger import Ledger
from tests.strategies import RECEIVED_AT_US
from tests.support.examples import examples
from tests.support.harness import DAY, apply_batch, dates, open_engine, rows, tree

SLOW = examples(60)
MAPPING = FieldMapping(deleted_path="state.gone", deleted_values=("true", '"yes"'))
HOURS = ["2026-11-10T10:00:00Z", "2026-11-10T11:00:00Z", "2026-11-11T10:00:00Z"]


def record(order_id: int, created: int, updated: int | None, gone: object, amount: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "order_id": order_id,
        "created_at": HOURS[created],
        "amount": amount,
        "state": {"gone": gone},
    }
    return found if updated is None else found | {"updated_at": HOURS[updated]}


RECORDS = st.builds(
    record, st.integers(1, 3), st.integers(0, 2), st.none() | st.integers(0, 2),
    st.sampled_from([None, False, True, "yes", "no"]), st.integers(0, 2),
)  # fmt: skip


def is_gone(one: dict[str, Any]) -> bool:
    return one["state"]["gone"] is True or one["state"]["gone"] == "yes"


def expected(drops: list[list[dict[str, Any]]]) -> dict[str, tuple[str, int]]:
    """Of each order its latest version, unless that is a deletion: (date, amount)."""
    latest: dict[int, tuple[tuple[str, int, int], dict[str, Any]]] = {}
    for number, drop in enumerate(drops):
        if drop in drops[:number]:  # a duplicate
            continue
        for position, one in enumerate(drop):
            version = (one.get("updated_at", one["created_at"]), number, position)
            if one["order_id"] not in latest or version > latest[one["order_id"]][0]:
                latest[one["order_id"]] = version, one
    kept = {order_id: one for order_id, (_, one) in latest.items() if not is_gone(one)}
    return {str(order_id): (one["created_at"][:10], one["amount"]) for order_id, one in kept.items()}


def published(output: Path) -> dict[str, tuple[str, int]]:
    return {row["order_id"]: (date, int(row["amount"])) for date in dates(output) for row in rows(output, date)}  # type: ignore[call-overload, misc]


@SLOW
@given(st.lists(st.lists(RECORDS, min_size=1, max_size=4), min_size=1, max_size=4), st.data())
def test_a_deleted_order_is_gone_until_a_later_version_brings_it_back(
    drops: list[list[dict[str, Any]]], data: st.DataObject
) -> None:
    """However the drops are batched; the counts add up, and a rebuild and `verify` agree."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with open_engine(root) as engine:
            waiting = [(f"{n:02}.jsonl", "\n".join(map(json.dumps, drop)).encode()) for n, drop in enumerate(drops)]
            while waiting:
                together = data.draw(st.integers(1, len(waiting)))
                batch, waiting = waiting[:together], waiting[together:]
                outcome = apply_batch(engine, root, batch, RECEIVED_AT_US, mapping=MAPPING)
                for counts in (result.counts for result in outcome.results):
                    ended = counts.new + counts.corrected + counts.unchanged + counts.superseded + counts.deleted
                    assert counts.extracted == ended
            assert published(root / "output") == expected(drops)
            before = tree(root / "output" / "curated")
            scratch = root / "scratch"
            scratch.mkdir()
            path = engine.ledger.path
            assert list(verify(engine, lambda: Ledger(path, read_only=True), scratch, RECEIVED_AT_US)) == []
            take_over(engine, prepare_rebuild(engine, RECEIVED_AT_US, ParseContext(0, DAY)))
            with closing(Ledger(path)) as ledger:
                created = [microseconds(one) for drop in drops for one in drop if not is_gone(one)]
                assert ledger.hwm == max(created, default=None)
        assert tree(root / "output" / "curated") == before


def microseconds(one: dict[str, Any]) -> int:

    return int(datetime.fromisoformat(one["created_at"]).timestamp()) * 1_000_000


def test_a_deletion_needs_no_created_at_and_counts_as_deleted(tmp_path: Path) -> None:
    """Of an order that is published, of one that is not known yet, and once more."""
    with open_engine(tmp_path) as engine:
        orders = [record(1, 0, None, None, 5), record(2, 0, None, None, 5)]
        apply_batch(engine, tmp_path, [("a.json", json.dumps(orders).encode())], RECEIVED_AT_US, mapping=MAPPING)
        gone = [{"order_id": number, "state": {"gone": True}, "updated_at": HOURS[2]} for number in (1, 3)]
        outcome = apply_batch(
            engine, tmp_path, [("b.json", json.dumps(gone).encode())], RECEIVED_AT_US, mapping=MAPPING
        )
        assert outcome.results[0].counts.deleted == 2 and published(tmp_path / "output") == {"2": ("2026-11-10", 5)}
        again = [*gone, record(3, 1, None, None, 5)]
        outcome = apply_batch(
            engine, tmp_path, [("c.json", json.dumps(again).encode())], RECEIVED_AT_US, mapping=MAPPING
        )
        counts = outcome.results[0].counts
        assert (counts.unchanged, counts.superseded, counts.new) == (2, 1, 0) and not outcome.written
