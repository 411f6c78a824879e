"""Extra columns of fact_order, from the first drop to a rebuild: what files hold when [columns] changes, and what readers see."""

from __future__ import annotations

import json
import shutil
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from daemon.batch.pipeline import publish_committed
from daemon.batch.repair import partitions_from_raw
from daemon.core.mapping import Columns, FieldMapping
from daemon.core.model import ParseContext
from daemon.frames import orders_df
from daemon.operate.rebuild import prepare_rebuild, take_over
from daemon.operate.verify import verify
from daemon.storage import receipts
from daemon.storage.ledger import Ledger
from tests.model import Drop, Model
from tests.strategies import RECEIVED_AT_US
from tests.support.as_model import as_model_mapping, assert_counts, assert_published
from tests.support.examples import examples
from tests.support.harness import DAY, apply_batch, dates, open_engine, rows, tree

ALL: Columns = (("gift", "boolean"), ("shipped", "instant"), ("status", "text"), ("tip", "decimal"))


def mapping(*columns: tuple[str, str]) -> FieldMapping:
    """The usual format, with these extra columns at their own names."""
    return FieldMapping(columns=tuple((name, kind, (name,)) for name, kind in sorted(columns)))


def order(number: int, day: int = 10, **more: Any) -> dict[str, Any]:
    return {"order_id": f"o_{number}", "created_at": f"2026-11-{day}T10:00:00Z", "amount": 5, **more}


def drop(name: str, *orders: dict[str, Any]) -> tuple[str, bytes]:
    return name, "\n".join(map(json.dumps, orders)).encode()


def columns_in(output: Path, date: str) -> list[str]:
    """The names of the extra columns in the file of a date."""
    names = pq.ParquetFile(output / "curated" / f"date={date}" / "fact_order.parquet").schema_arrow.names
    assert names[11] == "metadata"
    return names[12:]


def differences(engine: Any, root: Path) -> list[str]:
    scratch = root / "scratch"
    path = engine.ledger.path
    return list(map(str, verify(engine, lambda: Ledger(path, read_only=True), scratch, RECEIVED_AT_US)))


def rebuild(root: Path, mapping: FieldMapping) -> None:
    """As the command does it, under a configuration with this mapping."""
    with open_engine(root) as engine:
        take_over(engine, prepare_rebuild(engine, RECEIVED_AT_US, {"default": ParseContext(0, DAY, mapping=mapping)}))
    with open_engine(root) as engine:
        publish_committed(engine, recovering=True)
        engine.store.clean_staging()
        receipts.restore(engine.output, engine.ledger.all_results())


def test_every_type_is_published_on_each_line_of_its_order(tmp_path: Path) -> None:
    with open_engine(tmp_path) as engine:
        one = order(1, status=" paid ", tip="1.23455", gift="TRUE", shipped="2026-11-12T08:00:00+01:00")
        one["items"] = [{"sku": "a", "qty": 1, "price": 1}, {"sku": "b", "qty": 1, "price": 4}]
        other = order(2, status=["x"], tip="1,5", gift=1, shipped=20261112)
        outcome = apply_batch(engine, tmp_path, [drop("a.json", one, other)], RECEIVED_AT_US, mapping=mapping(*ALL))
        assert dict(outcome.results[0].counts.faults) == {"gift": 1, "shipped": 1, "status": 1, "tip": 1}
    output = tmp_path / "output"
    assert columns_in(output, "2026-11-10") == ["gift", "shipped", "status", "tip"]
    found = [(r["gift"], r["shipped"], r["status"], r["tip"]) for r in rows(output, "2026-11-10")]
    shipped = 1_794_466_800_000_000
    assert found == [(True, shipped, "paid", Decimal("1.2346"))] * 2 + [(None, None, None, None)]


def test_a_change_of_a_value_corrects_its_order(tmp_path: Path) -> None:
    """And the same values again change nothing."""
    with open_engine(tmp_path) as engine:
        under = mapping(("status", "text"))
        for number, status in enumerate(["open", "open", "paid", None]):
            one = [drop(f"{number}.json", order(1, status=status, n=number))]
            counts = apply_batch(engine, tmp_path, one, RECEIVED_AT_US, mapping=under).results[0].counts
            assert (counts.new, counts.unchanged, counts.corrected) == [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 0, 1)][
                number
            ]
            assert rows(tmp_path / "output", "2026-11-10")[0]["status"] == status


def test_a_new_column_is_in_new_files_until_a_rebuild(tmp_path: Path) -> None:
    """Old files keep their bytes, rewritten ones have it, old orders in them have NULL; a rebuild reads it for all. At each step,
    verify finds no difference, and frames have one schema."""
    output = tmp_path / "output"
    with open_engine(tmp_path) as engine:
        first = [order(1, 10, status="paid"), order(2, 11, status="open"), order(3, 11, status="paid")]
        apply_batch(engine, tmp_path, [drop("a.json", *first)], RECEIVED_AT_US)
        old = tree(output / "curated")
        under = mapping(("status", "text"))
        more = [order(4, 11, status="new"), order(5, 12)]
        apply_batch(engine, tmp_path, [drop("b.json", *more)], RECEIVED_AT_US, mapping=under)
        new = tree(output / "curated")
        assert {name for name in old if old[name] == new[name]} == {
            "date=2026-11-10/fact_order.parquet", "date=2026-11-10/order_items.parquet", "date=2026-11-11/order_items.parquet",
        }  # fmt: skip
        assert [columns_in(output, date) for date in dates(output)] == [[], ["status"], ["status"]]
        assert [row["status"] for row in rows(output, "2026-11-11")] == [None, None, "new"]
        assert orders_df(output)["status"].fillna("-").tolist() == ["-", "-", "-", "new", "-"]
        assert differences(engine, tmp_path / "1") == []
    rebuild(tmp_path, under)
    with open_engine(tmp_path) as engine:
        assert [columns_in(output, date) for date in dates(output)] == [["status"]] * 3
        assert orders_df(output)["status"].fillna("-").tolist() == ["paid", "open", "paid", "new", "-"]
        assert {result.drop.context.mapping for result in engine.ledger.all_results()} == {under}
        assert differences(engine, tmp_path / "2") == []


def test_a_removed_column_stays_until_a_rebuild(tmp_path: Path) -> None:
    """Partitions that are written meanwhile have it too, with the values of the orders that they carry over."""
    output = tmp_path / "output"
    with open_engine(tmp_path) as engine:
        both = mapping(("status", "text"), ("tip", "decimal"))
        apply_batch(engine, tmp_path, [drop("a.json", order(1, status="paid", tip=1))], RECEIVED_AT_US, mapping=both)
        under = mapping(("tip", "decimal"))
        more = [order(2, status="paid", tip=2), order(3, 11)]
        apply_batch(engine, tmp_path, [drop("b.json", *more)], RECEIVED_AT_US, mapping=under)
        assert [columns_in(output, date) for date in dates(output)] == [["status", "tip"]] * 2
        assert [(r["status"], r["tip"]) for r in rows(output, "2026-11-10")] == [("paid", 1), (None, 2)]
        assert differences(engine, tmp_path / "1") == []
    rebuild(tmp_path, under)
    with open_engine(tmp_path) as engine:
        assert [columns_in(output, date) for date in dates(output)] == [["tip"]] * 2
        assert [r["tip"] for r in rows(output, "2026-11-10")] == [1, 2]
        assert differences(engine, tmp_path / "2") == []


def test_the_same_bytes_under_other_columns_are_no_duplicate(tmp_path: Path) -> None:
    """They correct the orders that have a value in the new column, and no others."""
    with open_engine(tmp_path) as engine:
        data = drop("a.json", order(1, status="paid"), order(2))
        apply_batch(engine, tmp_path, [data], RECEIVED_AT_US)
        under = mapping(("status", "text"))
        counts = apply_batch(engine, tmp_path, [data], RECEIVED_AT_US, mapping=under).results[0].counts
        assert (counts.corrected, counts.unchanged) == (1, 1)
        again = apply_batch(engine, tmp_path, [data], RECEIVED_AT_US, mapping=under).results[0]
        assert again.outcome == "duplicate"
        assert [row["status"] for row in rows(tmp_path / "output", "2026-11-10")] == ["paid", None]


def test_a_rebuild_after_the_loss_of_state_gives_the_same_bytes(tmp_path: Path) -> None:
    output, under = tmp_path / "output", mapping(*ALL)
    with open_engine(tmp_path) as engine:
        first = [order(1, status="paid", tip=1, gift=True), order(2, 11, shipped="2026-11-12")]
        apply_batch(engine, tmp_path, [drop("a.json", *first)], RECEIVED_AT_US, mapping=under)
        apply_batch(engine, tmp_path, [drop("b.json", order(1, status="void"))], RECEIVED_AT_US, mapping=under)
    published, kept = tree(output / "curated"), tree(output / "receipts")
    shutil.rmtree(output / "state")
    rebuild(tmp_path, under)
    assert (tree(output / "curated"), tree(output / "receipts")) == (published, kept)


def test_a_damaged_file_is_made_again_with_the_columns_that_it_had(tmp_path: Path) -> None:
    """Even if an order came again since, under columns that it has no value in."""
    output = tmp_path / "output"
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [drop("a.json", order(1))], RECEIVED_AT_US, mapping=mapping(("tip", "decimal")))
        apply_batch(engine, tmp_path, [drop("b.json", order(1))], RECEIVED_AT_US, mapping=mapping(*ALL))
        before = tree(output / "curated")
        assert columns_in(output, "2026-11-10") == ["tip"]
        (output / "curated" / "date=2026-11-10" / "fact_order.parquet").unlink()
        partitions_from_raw(engine.ledger, engine.reader, engine.store, list(engine.ledger.partitions()))
        assert tree(output / "curated") == before
        assert differences(engine, tmp_path / "1") == []


def test_a_source_that_is_gone_keeps_its_paths_in_a_rebuild(tmp_path: Path) -> None:
    """And new columns are at their own names there."""
    output = tmp_path / "output"
    with open_engine(tmp_path) as engine:
        old = FieldMapping(columns=(("status", "text", ("state.now",)),))
        one = order(1, state={"now": "paid"}, status="wrong", tip="1.50")
        apply_batch(engine, tmp_path, [drop("a.json", one)], RECEIVED_AT_US, mapping=old)
        today = mapping(("status", "text"), ("tip", "decimal"))
        contexts = {"other": ParseContext(0, DAY, source="other", mapping=today)}
        take_over(engine, prepare_rebuild(engine, RECEIVED_AT_US, contexts))
    with open_engine(tmp_path) as engine:
        publish_committed(engine, recovering=True)
    assert [(row["status"], row["tip"]) for row in rows(output, "2026-11-10")] == [("paid", Decimal("1.50"))]


PATHS = st.sampled_from([("status",), ("tip",), ("x.status",), ("x.tip", "status"), ()])
CONFIGURATIONS = st.lists(st.sampled_from(ALL), max_size=3, unique=True).flatmap(
    lambda some: st.tuples(*(st.tuples(st.just(name), st.just(kind), PATHS) for name, kind in sorted(some)))
)
VALUES = st.sampled_from([None, "", "paid", "TRUE", False, "1.5", "2026-11-12", 1_795_000_000, 2, [], "soon"])
RECORDS = st.builds(
    lambda number, day, later, status, tip, inner: order(
        number, day, status=status, tip=tip, x=inner, **({"updated_at": f"2026-11-{later}"} if later else {})
    ),
    st.integers(1, 4), st.integers(10, 12), st.none() | st.integers(13, 15), VALUES, VALUES,
    st.fixed_dictionaries({"status": VALUES, "tip": VALUES}),
)  # fmt: skip
DROPS = st.lists(st.lists(RECORDS, min_size=1, max_size=3), min_size=1, max_size=2)
STEPS = st.lists(
    st.tuples(CONFIGURATIONS, st.sampled_from(["apply", "apply", "repeat", "rebuild", "lose"]), DROPS),
    min_size=1,
    max_size=5,
)


@examples(60)
@given(STEPS)
def test_a_history_of_configurations_is_as_the_model_says(
    steps: list[tuple[Any, str, list[list[dict[str, Any]]]]],
) -> None:
    """Columns that come and go and change their paths, drops that repeat, rebuilds, and rebuilds after the loss of state/. The
    rows and the columns of every file, the counts and the index are those of the model, and verify finds no difference."""
    model = Model()
    with tempfile.TemporaryDirectory() as folder:
        root, earlier = Path(folder), [("0.jsonl", b"{}")]
        output = root / "output"
        for number, (columns, what, many) in enumerate(steps):
            under = FieldMapping(columns=columns)
            if what in ("rebuild", "lose"):
                if what == "lose":
                    shutil.rmtree(output / "state", ignore_errors=True)
                rebuild(root, under)
                model.rebuild(columns)
            else:
                again = what == "repeat"
                batch = earlier if again else [drop(f"{number}-{n}.jsonl", *one) for n, one in enumerate(many)]
                earlier = batch
                with open_engine(root) as engine:
                    outcome = apply_batch(engine, root, batch, RECEIVED_AT_US, mapping=under)
                drops = [Drop(name, data, RECEIVED_AT_US) for name, data in batch]
                assert_counts(outcome, model.apply(drops, mapping=as_model_mapping(under)))
            with open_engine(root) as engine:
                assert_published(engine, output, model)
                for date in dates(output):
                    assert columns_in(output, date) == model.columns(date)
                assert differences(engine, root / f"scratch-{number}") == []
