"""The whole way of a batch, against the model: rows, counts, homes, high-water mark, bytes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.core.model import INDEX_ENTRY
from daemon.core.scalars import order_key
from daemon.pipeline import BatchOutcome, House
from daemon.rebuild import partitions_from_raw
from tests.harness import apply_batch, dates, house, rows, tree
from tests.model import Drop, DropOutcome, Model
from tests.strategies import RECEIVED_AT_US, batches, clean_drops

SLOW = settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))
Batches = list[list[bytes]]


def run(root: Path, many: Batches, model: Model | None = None) -> None:
    """Applies batches, each checked against the model on the way."""
    number = 0
    with house(root) as rooms:
        for batch in many:
            named = [(f"drop-{number + i}.json", data) for i, data in enumerate(batch)]
            number += len(batch)
            outcome = apply_batch(rooms, root, named, RECEIVED_AT_US)
            if model is not None:
                expected = model.apply([Drop(name, data, RECEIVED_AT_US) for name, data in named])
                assert_counts(outcome, expected)
                assert sorted(w.date for w in outcome.written) == model.affected
                assert rooms.ledger.hwm == model.hwm_us
                assert_restatements(root / "output", model)
                assert_published(rooms, root / "output", model)


def assert_counts(outcome: BatchOutcome, expected: Sequence[DropOutcome]) -> None:
    for result, want in zip(outcome.results, expected, strict=True):
        got = result.counts
        assert (result.drop.seq, str(result.outcome)) == (want.seq, want.outcome)
        for name in ("extracted", "before_since", "superseded", "unchanged", "new", "corrected", "late"):
            assert getattr(got, name) == getattr(want, name), (name, got, want)
        assert +got.discarded == +want.discarded
        assert +got.faults == +want.field_faults
        kept = got.superseded + got.unchanged + got.new + got.corrected
        assert got.extracted == got.discarded.total() + got.before_since + kept


def assert_restatements(output: Path, model: Model) -> None:
    path = output / "restatements.jsonl"
    found = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    assert [(r["date"], r["orders_before"], r["orders_after"]) for r in found] == [
        tuple(r[:3]) for r in model.restatements
    ]
    for line, (*_, before, after) in zip(found, model.restatements, strict=True):
        assert (Decimal(line["amount_before"]), Decimal(line["amount_after"])) == (before or 0, after or 0)


def assert_published(rooms: House, output: Path, model: Model) -> None:
    assert dates(output) == model.dates()
    for date in model.dates():
        assert [r | {"date": str(r["date"])} for r in rows(output, date)] == [
            r | {"date": str(r["date"])} for r in model.fact_rows(date)
        ]
        assert [r | {"date": str(r["date"])} for r in rows(output, date, "order_items")] == [
            r | {"date": str(r["date"])} for r in model.item_rows(date)
        ]
    homes = dict(
        sorted(model.index().items(), key=lambda home: tuple(np.frombuffer(order_key(home[0].encode()), "<u8")))
    )
    wanted = np.zeros(len(homes), INDEX_ENTRY)
    for i, order_id in enumerate(homes):
        wanted[i]["hi"], wanted[i]["lo"] = np.frombuffer(order_key(order_id.encode()), "<u8")
    entries, found = rooms.ledger.index.find(wanted)
    assert found.all()
    for entry, (date, version) in zip(entries, homes.values(), strict=True):
        assert str(np.datetime64(int(entry["date"]), "D")) == date
        assert (entry["instant"], entry["drop"], entry["position"]) == tuple(version)


@SLOW
@given(batches())
def test_every_batch_is_as_the_model_says(many: Batches) -> None:
    """After each batch the rows, the counts, the written dates, every order's home and the high-water mark are the model's."""
    with tempfile.TemporaryDirectory() as folder:
        run(Path(folder), many, Model())


@SLOW
@given(batches())
def test_batching_does_not_change_the_result(many: Batches) -> None:
    """The same drops in one batch, or one by one, give the same files to the byte."""
    drops = [data for batch in many for data in batch]
    results = []
    for division in ([drops], [[drop] for drop in drops]):
        with tempfile.TemporaryDirectory() as folder:
            run(Path(folder), division)
            results.append(tree(Path(folder) / "output" / "curated"))
    assert results[0] == results[1]


@SLOW
@given(batches())
def test_partitions_made_anew_from_raw_are_the_same_bytes(many: Batches) -> None:
    """Every partition, lost and made anew from the raw layer, has the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        run(root, many)
        before = tree(root / "output" / "curated")
        with house(root) as rooms:
            for day in rooms.ledger.partitions():
                for path in rooms.store.curated.glob("*/*.parquet"):
                    if str(np.datetime64(day, "D")) in str(path):
                        path.unlink()
                partitions_from_raw(rooms.ledger, rooms.reader, rooms.store, [day])
        assert tree(root / "output" / "curated") == before


@SLOW
@given(batches(), st.data())
def test_a_damaged_partition_is_made_anew_before_it_is_merged(many: Batches, data: st.DataObject) -> None:
    """A published file that is not what the ledger says never gets into a merge: the result is as if it had been whole."""
    extra = data.draw(clean_drops())
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as other:
        run(Path(folder), [*many, [extra]])
        run(Path(other), many)
        root = Path(other)
        for path in (root / "output" / "curated").glob("*/fact_order.parquet"):
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 1
            path.write_bytes(content)
        with house(root) as rooms:
            outcome = apply_batch(rooms, root, [("extra.json", extra)], RECEIVED_AT_US)
        whole = tree(Path(folder) / "output" / "curated")
        found = tree(root / "output" / "curated")
        touched = {w.date for w in outcome.written} | set(outcome.rebuilt)
        assert {k: v for k, v in found.items() if k[5:15] in touched} == {
            k: v for k, v in whole.items() if k[5:15] in touched
        }
