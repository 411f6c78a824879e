"""The whole way of a batch, against the model: rows, counts, homes, high-water mark, bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.engine import Engine
from daemon.batch.repair import partitions_from_raw
from tests.model import Drop, Model
from tests.strategies import RECEIVED_AT_US, batches, clean_drops
from tests.support.as_model import assert_counts, assert_published, assert_restated, assert_restatements
from tests.support.command import as_drop, order
from tests.support.examples import examples
from tests.support.harness import apply_batch, open_engine, tree

SLOW = examples(80)
Batches = list[list[bytes]]


def run(root: Path, many: Batches, model: Model | None = None) -> None:
    """Applies batches, each checked against the model on the way."""
    number = 0
    with open_engine(root) as engine:
        for batch in many:
            named = [(f"drop-{number + i}.json", data) for i, data in enumerate(batch)]
            number += len(batch)
            outcome = apply_batch(engine, root, named, RECEIVED_AT_US)
            if model is not None:
                expected = model.apply([Drop(name, data, RECEIVED_AT_US) for name, data in named])
                assert_counts(outcome, expected)
                assert sorted(w.date for w in outcome.written) == model.affected
                assert engine.ledger.hwm == model.hwm_us
                assert_restatements(root / "output", model)
                assert_restated(engine, model)
                assert_published(engine, root / "output", model)


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
        with open_engine(root) as engine:
            for day in engine.ledger.partitions():
                for path in engine.store.curated.glob("*/*.parquet"):
                    if str(np.datetime64(day, "D")) in str(path):
                        path.unlink()
                partitions_from_raw(engine.ledger, engine.reader, engine.store, [day])
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
        with open_engine(root) as engine:
            outcome = apply_batch(engine, root, [("extra.json", extra)], RECEIVED_AT_US)
        whole = tree(Path(folder) / "output" / "curated")
        found = tree(root / "output" / "curated")
        touched = {w.date for w in outcome.written} | set(outcome.repaired)
        assert {k: v for k, v in found.items() if k[5:15] in touched} == {
            k: v for k, v in whole.items() if k[5:15] in touched
        }


# ------------------------------------------------------------------------------------------------------------- resends


def unreadable(output: Path) -> dict[str, str]:
    """Overwrites every published file with what nobody could read; returns them as they are then."""
    for path in (output / "curated").glob("*/*.parquet"):
        path.write_bytes(b"not to be read")
    return tree(output / "curated")


def unchanged_drop(engine: Engine, root: Path, name: str, data: bytes) -> int:
    """Applies a drop of which nothing must come but newer versions; how many."""
    before = tree(root / "output" / "curated")
    outcome = apply_batch(engine, root, [(name, data)], RECEIVED_AT_US)
    (result,) = outcome.results
    assert (list(outcome.written), list(outcome.repaired)) == ([], []) and tree(root / "output" / "curated") == before
    assert result.counts.unchanged == result.counts.extracted
    return result.counts.unchanged


def test_a_resend_looks_at_no_partition(tmp_path: Path) -> None:
    """What comes again in another spelling is known to be the same by the index alone: nobody notices that every published
    file is damaged. The index names the later versions from then on."""
    orders = [order(number, 2 + number % 2) for number in range(50)]
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", as_drop(orders))], RECEIVED_AT_US)
        unreadable(tmp_path / "output")
        for drop in (2, 3):
            assert unchanged_drop(engine, tmp_path, f"{drop}.json", as_drop(orders, indent=drop)) == 50
            entries = engine.ledger.index.of_dates(list(engine.ledger.partitions()))
            assert set(entries["drop"].tolist()) == {drop}
            assert sorted(entries["position"].tolist()) == list(range(1, 51))


def test_only_dates_that_change_are_looked_at(tmp_path: Path) -> None:
    """Among many that come again, one order is corrected and one moves: their dates are merged, and no other."""
    orders = [order(number, 2 + number % 4) for number in range(40)]
    with open_engine(tmp_path) as engine, open_engine(tmp_path / "plain") as plain:
        apply_batch(engine, tmp_path, [("a.json", as_drop(orders))], RECEIVED_AT_US)
        apply_batch(plain, tmp_path / "plain", [("a.json", as_drop(orders))], RECEIVED_AT_US)
        damaged = tmp_path / "output" / "curated" / "date=2026-03-05" / "fact_order.parquet"
        whole = damaged.read_bytes()
        damaged.write_bytes(b"not to be read")
        orders[0] |= {"amount": 7}
        orders[1] |= {"created_at": "2026-03-04T00:00:00Z"}
        outcome = apply_batch(engine, tmp_path, [("b.json", as_drop(orders))], RECEIVED_AT_US)
        (result,) = outcome.results
        assert (result.counts.unchanged, result.counts.corrected) == (38, 2) and not outcome.repaired
        assert [one.date for one in outcome.written] == ["2026-03-02", "2026-03-03", "2026-03-04"]
        assert damaged.read_bytes() == b"not to be read"
        damaged.write_bytes(whole)
        apply_batch(plain, tmp_path / "plain", [("b.json", as_drop(orders[:2]))], RECEIVED_AT_US)
    assert tree(tmp_path / "output" / "curated") == tree(tmp_path / "plain" / "output" / "curated")
