"""Users and products: against a plain model of cells and rows, through the whole way of a batch, and on bad files."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.outcome import BatchOutcome
from daemon.batch.repair import dimension_from_raw
from daemon.core.model import DIMENSIONS, DropOutcome
from tests.csv_model import COLUMNS, DimensionModel, csv_drops
from tests.strategies import RECEIVED_AT_US
from tests.support.examples import examples
from tests.support.harness import apply_batch, open_engine, tree

SLOW = examples(100)


def table_rows(table: Any) -> list[tuple[object, ...]]:
    plain = [column.cast("int64") if "timestamp" in str(column.type) else column for column in table.columns]
    return list(zip(*(column.to_pylist() for column in plain), strict=True))


def counted(outcome: BatchOutcome) -> list[Counter[str] | None]:
    results: list[Counter[str] | None] = []
    for result in outcome.results:
        counts = result.counts
        kept = {name: getattr(counts, name) for name in ("new", "unchanged", "corrected", "superseded")}
        assert counts.extracted == sum(kept.values()) + counts.discarded.total()
        if result.outcome is DropOutcome.QUARANTINED:
            results.append(Counter(quarantined=1))
            continue
        duplicate = result.outcome is DropOutcome.DUPLICATE
        results.append(None if duplicate else Counter({n: c for n, c in {**kept, **counts.discarded}.items() if c}))
    return results


@SLOW
@given(st.sampled_from(["user", "product"]), st.data())
def test_every_batch_is_as_the_model_says(name: str, data: st.DataObject) -> None:
    """Rows, counts and duplicates are the model's after each batch; files change only where rows do; and a lost file made anew
    from raw has the same bytes."""
    pool = data.draw(st.lists(csv_drops(name), min_size=1, max_size=3))
    many = data.draw(st.lists(st.lists(st.sampled_from(pool), min_size=1, max_size=4), min_size=1, max_size=4))
    dimension, expected, number = DIMENSIONS[name], DimensionModel(name), 0
    with tempfile.TemporaryDirectory() as folder, open_engine(Path(folder)) as engine:
        path = Path(folder) / "output" / "curated" / dimension.file
        for batch in many:
            before = (path.stat().st_ino, dict(expected.published)) if path.exists() else None
            drops = [(f"{dimension.drops}_{number + i}.csv", content) for i, content in enumerate(batch)]
            number += len(batch)
            assert counted(apply_batch(engine, Path(folder), drops, RECEIVED_AT_US)) == expected.apply(batch)
            rows = table_rows(pq.read_table(path)) if path.exists() else []
            assert rows == sorted(expected.published.values(), key=lambda row: str(row[0]).encode())
            if before is not None:
                assert (path.stat().st_ino == before[0]) == (expected.published == before[1])
        if not path.exists():  # every drop was refused
            return
        content = path.read_bytes()
        path.unlink()
        dimension_from_raw(engine.ledger, engine.reader, engine.store, dimension)
        assert path.read_bytes() == content


@SLOW
@given(st.sampled_from(["user", "product"]), st.data())
def test_batching_does_not_change_the_table(name: str, data: st.DataObject) -> None:
    """The same drops in one batch, or one by one, give the same file to the byte."""
    pool = data.draw(st.lists(csv_drops(name), min_size=1, max_size=3))
    drops = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=6))
    named = [(f"{DIMENSIONS[name].drops}{i}.csv", content) for i, content in enumerate(drops)]
    results = []
    for division in ([named], [[drop] for drop in named]):
        with tempfile.TemporaryDirectory() as folder, open_engine(Path(folder)) as engine:
            for batch in division:
                apply_batch(engine, Path(folder), batch, RECEIVED_AT_US)
            results.append(tree(Path(folder) / "output" / "curated"))
    assert results[0] == results[1]


def test_a_drop_that_returns_to_an_earlier_state_is_no_duplicate(tmp_path: Path) -> None:
    """The later drop wins, so the first file again after a second one puts its rows back."""
    one, other = b"user_id,country\na,NA\n", b"user_id,country\na,DE\n"
    with open_engine(tmp_path) as engine:
        for number, content in enumerate([one, other, one, one]):
            (result,) = apply_batch(engine, tmp_path, [(f"users{number}.csv", content)], RECEIVED_AT_US).results
            assert result.outcome is (DropOutcome.DUPLICATE if number == 3 else DropOutcome.APPLIED)
    assert pq.read_table(tmp_path / "output/curated/dim_user.parquet")["country"].to_pylist() == ["NA"]


def test_a_damaged_dimension_is_made_anew_before_rows_are_put_on_top(tmp_path: Path) -> None:
    """A flipped bit is not carried on: the result is as if the file had been whole, and it is said."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("users.csv", b"user_id,country\na,NA\nb,DE\n")], RECEIVED_AT_US)
        path = tmp_path / "output" / "curated" / "dim_user.parquet"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        outcome = apply_batch(engine, tmp_path, [("users2.csv", b"user_id,country\nc,FR\n")], RECEIVED_AT_US)
    assert list(outcome.repaired) == ["dim_user.parquet"]
    assert pq.read_table(path)["country"].to_pylist() == ["NA", "DE", "FR"]


def test_orders_of_unknown_users_and_products_are_counted_and_kept(tmp_path: Path) -> None:
    """Counted by order, against what the dimensions know with this batch; none is dropped; NULL is nobody unknown."""

    def order(number: int, user: str | None, *skus: str | None) -> dict[str, object]:
        items = [{"sku": sku, "qty": 1, "price": 1} for sku in skus]
        return {"order_id": f"o{number}", "user_id": user, "created_at": "2026-11-18", "items": items}

    users, products = b"user_id\nu1\n", b"sku\np1\n"
    first = [order(1, "u1", "p1"), order(2, "u2", "p1", "p2", "p3"), order(3, None, None), order(4, "u1")]
    again = [order(2, "u2", "p1", "p2", "p3"), order(5, "u2", "p1")]
    with open_engine(tmp_path) as engine:
        before = apply_batch(
            engine, tmp_path, [("a.json", json.dumps([order(0, "u1", "p1")]).encode())], RECEIVED_AT_US
        )
        drops = [("b.json", json.dumps(first).encode()), ("products.csv", products), ("users.csv", users)]
        during = apply_batch(engine, tmp_path, drops, RECEIVED_AT_US)
        after = apply_batch(engine, tmp_path, [("c.json", json.dumps(again).encode())], RECEIVED_AT_US)
        totals = engine.ledger.totals()
    assert before.results[0].counts.unknown == Counter(user=1, product=1)  # no drop ever brought any
    assert during.results[0].counts.unknown == Counter(user=1, product=1)
    assert after.results[0].counts.unknown == Counter(user=1)  # what is unchanged was counted before
    assert (totals["orders.unknown.user"], totals["orders.unknown.product"]) == (3, 2)
    assert sum(written.orders for written in after.written) == 6


def test_a_header_alone_is_an_empty_dimension(tmp_path: Path) -> None:
    """So that there is a table to join with."""
    with open_engine(tmp_path) as engine:
        (result,) = apply_batch(engine, tmp_path, [("products.csv", b"sku\n")], RECEIVED_AT_US).results
    assert result.outcome is DropOutcome.APPLIED
    table = pq.read_table(tmp_path / "output/curated/dim_product.parquet")
    assert (table.num_rows, table.column_names) == (0, COLUMNS["product"])
