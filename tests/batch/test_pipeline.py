"""The whole way of a batch, against the model: rows, counts, homes, high-water mark, bytes."""

from __future__ import annotations

import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daemon.batch.pipeline import BatchOutcome, Engine, publish_committed
from daemon.batch.repair import partitions_from_raw
from daemon.core import parquet
from daemon.core.errors import Corruption
from daemon.core.model import INDEX_ENTRY
from daemon.core.parse.values import order_key
from daemon.operate.rebuild import make_anew, take_over
from daemon.storage import files
from daemon.storage.store import iso_date
from tests.model import Drop, DropOutcome, Model
from tests.strategies import RECEIVED_AT_US, batches, clean_drops
from tests.support.command import strandline
from tests.support.harness import apply_batch, dates, engine, rows, tree

SLOW = settings(deadline=None, max_examples=120, suppress_health_check=list(HealthCheck))
Batches = list[list[bytes]]


def run(root: Path, many: Batches, model: Model | None = None) -> None:
    """Applies batches, each checked against the model on the way."""
    number = 0
    with engine(root) as rooms:
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
                assert_restated(rooms, model)
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


def assert_restated(rooms: Engine, model: Model) -> None:
    """The ledger's counts are those of the log."""
    told = Counter(one.date for one in model.restatements)
    counted = {iso_date(day): number for day, number in rooms.ledger.restatements().items()}
    assert counted == {date: told[date] for date in counted} and +told == +Counter(counted)
    assert {iso_date(day) for day in rooms.ledger.partitions()} == set(model.dates())


def assert_published(rooms: Engine, output: Path, model: Model) -> None:
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
        with engine(root) as rooms:
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
        with engine(root) as rooms:
            outcome = apply_batch(rooms, root, [("extra.json", extra)], RECEIVED_AT_US)
        whole = tree(Path(folder) / "output" / "curated")
        found = tree(root / "output" / "curated")
        touched = {w.date for w in outcome.written} | set(outcome.rebuilt)
        assert {k: v for k, v in found.items() if k[5:15] in touched} == {
            k: v for k, v in whole.items() if k[5:15] in touched
        }


# ------------------------------------------------------------------------------------------------------------- resends


def order(number: int, day: int = 2, **more: object) -> dict[str, object]:
    return {"order_id": f"o_{number}", "created_at": f"2026-03-0{day}T10:00:00Z", "items": [{"sku": "p_1"}]} | more


def as_drop(orders: list[dict[str, object]], indent: int | None = None) -> bytes:
    return json.dumps(orders, indent=indent).encode()


def unreadable(output: Path) -> dict[str, str]:
    """Overwrites every published file with what nobody could read; returns them as they are then."""
    for path in (output / "curated").glob("*/*.parquet"):
        path.write_bytes(b"not to be read")
    return tree(output / "curated")


def unchanged_drop(rooms: Engine, root: Path, name: str, data: bytes) -> int:
    """Applies a drop of which nothing must come but newer versions; how many."""
    before = tree(root / "output" / "curated")
    outcome = apply_batch(rooms, root, [(name, data)], RECEIVED_AT_US)
    (result,) = outcome.results
    assert (list(outcome.written), list(outcome.rebuilt)) == ([], []) and tree(root / "output" / "curated") == before
    assert result.counts.unchanged == result.counts.extracted
    return result.counts.unchanged


def test_a_resend_looks_at_no_partition(tmp_path: Path) -> None:
    """What comes again in another spelling is known to be the same by the index alone: nobody notices that every published
    file is damaged. The index names the later versions from then on."""
    orders = [order(number, 2 + number % 2) for number in range(50)]
    with engine(tmp_path) as rooms:
        apply_batch(rooms, tmp_path, [("a.json", as_drop(orders))], RECEIVED_AT_US)
        unreadable(tmp_path / "output")
        for drop in (2, 3):
            assert unchanged_drop(rooms, tmp_path, f"{drop}.json", as_drop(orders, indent=drop)) == 50
            entries = rooms.ledger.index.of_dates(list(rooms.ledger.partitions()))
            assert set(entries["drop"].tolist()) == {drop}
            assert sorted(entries["position"].tolist()) == list(range(1, 51))


def test_only_dates_that_change_are_looked_at(tmp_path: Path) -> None:
    """Among many that come again, one order is corrected and one moves: their dates are merged, and no other."""
    orders = [order(number, 2 + number % 4) for number in range(40)]
    with engine(tmp_path) as rooms, engine(tmp_path / "plain") as plain:
        apply_batch(rooms, tmp_path, [("a.json", as_drop(orders))], RECEIVED_AT_US)
        apply_batch(plain, tmp_path / "plain", [("a.json", as_drop(orders))], RECEIVED_AT_US)
        damaged = tmp_path / "output" / "curated" / "date=2026-03-05" / "fact_order.parquet"
        whole = damaged.read_bytes()
        damaged.write_bytes(b"not to be read")
        orders[0] |= {"amount": 7}
        orders[1] |= {"created_at": "2026-03-04T00:00:00Z"}
        outcome = apply_batch(rooms, tmp_path, [("b.json", as_drop(orders))], RECEIVED_AT_US)
        (result,) = outcome.results
        assert (result.counts.unchanged, result.counts.corrected) == (38, 2) and not outcome.rebuilt
        assert [one.date for one in outcome.written] == ["2026-03-02", "2026-03-03", "2026-03-04"]
        assert damaged.read_bytes() == b"not to be read"
        damaged.write_bytes(whole)
        apply_batch(plain, tmp_path / "plain", [("b.json", as_drop(orders[:2]))], RECEIVED_AT_US)
    assert tree(tmp_path / "output" / "curated") == tree(tmp_path / "plain" / "output" / "curated")


# -------------------------------------------------------------------------------------------------------- restatements


def come_and_go(rooms: Engine, root: Path, names: str) -> list[list[str]]:
    """An order of 2 March that moves to the third, and another of 2 March: the dates that each drop restated."""
    moves = {"a": order(1), "b": order(1, 3, updated_at="2026-03-05T00:00:00Z"), "c": order(2)}
    return [
        apply_batch(rooms, root, [(f"{name}.json", as_drop([moves[name]]))], RECEIVED_AT_US).restated for name in names
    ]


def restatements(root: Path) -> list[tuple[str, int, int]]:
    lines = map(json.loads, (root / "output" / "restatements.jsonl").read_text().splitlines())
    return [(line["date"], line["orders_before"], line["orders_after"]) for line in lines]


GONE, BACK = ("2026-03-02", 1, 0), ("2026-03-02", 0, 1)
DATES = {day: int(np.datetime64(f"2026-03-0{day}", "D").astype(int)) for day in (2, 3)}


def test_a_date_that_comes_back_is_restated(tmp_path: Path) -> None:
    """It had been published before: the log, the outcome and the count say so, the count going on from what it was."""
    with engine(tmp_path) as rooms:
        assert come_and_go(rooms, tmp_path, "abc") == [[], ["2026-03-02"], ["2026-03-02"]]
        assert restatements(tmp_path) == [GONE, BACK]
        assert rooms.ledger.restatements() == {DATES[2]: 2, DATES[3]: 0}


@pytest.mark.parametrize("lost", [False, True], ids=["ledger", "receipts"])
@pytest.mark.parametrize("before", ["abc", "ab"], ids=["back", "gone"])
def test_a_rebuild_counts_restatements_as_history_did(tmp_path: Path, before: str, lost: bool) -> None:
    """Whether history comes from the ledger, or from receipts and the log; also of a date that is gone, and comes back then."""
    with engine(tmp_path) as rooms:
        come_and_go(rooms, tmp_path, before)
        counts = rooms.ledger.restatements()
    if lost:
        shutil.rmtree(tmp_path / "output" / "state")
    with engine(tmp_path) as rooms:
        take_over(rooms, make_anew(rooms, RECEIVED_AT_US, 0, ""))
    with engine(tmp_path) as rooms:
        publish_committed(rooms, recovering=True)
        assert rooms.ledger.restatements() == counts
        come_and_go(rooms, tmp_path, "c" if before == "ab" else "")
        assert rooms.ledger.restatements() == {DATES[2]: 2, DATES[3]: 0}
    assert restatements(tmp_path) == [GONE, BACK]


# ---------------------------------------------------------------------------------------------- ledgers of other versions


@pytest.mark.parametrize("version", [5, 7])
def test_a_ledger_of_another_version_is_refused_and_a_rebuild_makes_a_new_one(tmp_path: Path, version: int) -> None:
    """Every command but `rebuild` says what to do, and changes nothing. `rebuild` sets the ledger aside, and takes the history
    from the receipts."""
    home = tmp_path / "home"
    with engine(home) as rooms:
        apply_batch(rooms, home, [("a.json", as_drop([order(1), order(2, 3)])), ("x.json", b"[")], RECEIVED_AT_US)
        apply_batch(rooms, home, [("b.json", as_drop([order(1, amount=4)]))], RECEIVED_AT_US)
        path, published = rooms.ledger.path, tree(home / "output" / "curated")
        results = [result.counts for result in rooms.ledger.all_results()]
    with closing(sqlite3.connect(path)) as sql:
        sql.execute(f"PRAGMA user_version = {version}")
    before = tree(home / "output")
    for command in (["--once"], ["status"], ["verify"], ["rebuild", "2026-03-02"]):
        ended = strandline(home, *command)
        assert ended.returncode == 3 and "`strandline rebuild`" in ended.stderr, ended.stderr
    assert {name: digest for name, digest in tree(home / "output").items() if "state/" not in name} == {
        name: digest for name, digest in before.items() if "state/" not in name
    }
    ended = strandline(home, "rebuild")
    assert ended.returncode in (0, 1), ended.stderr
    assert (path.parent / f"ledger.version-{version}.1.sqlite").exists()
    assert tree(home / "output" / "curated") == published
    assert strandline(home, "verify").returncode == 0
    with engine(home) as rooms:
        assert [result.counts for result in rooms.ledger.all_results()] == results
        assert unchanged_drop(rooms, home, "c.json", as_drop([order(1, amount=4), order(2, 3)], indent=1)) == 2


# -------------------------------------------------------------------------------------------------------- another writer


@pytest.fixture
def written_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Engine, dict[str, str]]]:
    """Two dates and a dimension, published by an earlier version of the writer: the same rows in other bytes."""
    drops = [
        ("users.csv", b"user_id,email\nu_1,a@example.com\n"),
        ("a.json", as_drop([order(1, user_id="u_1"), order(2, 3, user_id="u_1"), order(4)])),
    ]
    with engine(tmp_path) as rooms:
        with monkeypatch.context() as earlier:
            earlier.setitem(parquet._OPTIONS, "compression", "zstd")
            for module in ("storage.store", "batch.dimensions"):
                earlier.setattr(f"daemon.{module}.WRITER", "pyarrow 1.2.3, options 0")
            apply_batch(rooms, tmp_path, drops, RECEIVED_AT_US)
        yield rooms, tree(tmp_path / "output" / "curated")


def test_rows_by_another_writer_are_no_difference(
    written_by_another: tuple[Engine, dict[str, str]], tmp_path: Path
) -> None:
    """`verify` compares rows with a rebuild, since the bytes differ; other rows are found nevertheless."""
    rooms, _ = written_by_another
    assert strandline(tmp_path, "verify").returncode == 0, strandline(tmp_path, "verify").stdout
    path = tmp_path / "output" / "curated" / "date=2026-03-02" / "fact_order.parquet"
    other = pq.read_table(path)
    other = other.set_column(other.schema.get_field_index("sku"), "sku", pa.array(["p_2"] * len(other)))
    pq.write_table(other.cast(pq.read_schema(path)), path)
    with rooms.ledger.transaction():
        rooms.ledger._sql.execute(
            "UPDATE partitions SET fact_sha256 = ? WHERE date = ?", (files.sha256_of(path), DATES[2])
        )
    ended = strandline(tmp_path, "verify")
    assert ended.returncode == 1 and "a rebuild from raw gives other rows" in ended.stdout


def test_a_damaged_file_by_another_writer_is_made_anew_under_its_new_hash(
    written_by_another: tuple[Engine, dict[str, str]], tmp_path: Path
) -> None:
    """By a batch that needs it, a partition and a dimension; and by the command. The other files stay as they are."""
    rooms, before = written_by_another
    curated = tmp_path / "output" / "curated"
    for name in ("date=2026-03-02/fact_order.parquet", "date=2026-03-03/order_items.parquet", "dim_user.parquet"):
        (curated / name).write_bytes(b"damaged")
    rooms.store._keys.clear()
    outcome = apply_batch(rooms, tmp_path, [("b.json", as_drop([order(7)]))], RECEIVED_AT_US)
    assert outcome.rebuilt == ["dim_user.parquet", "2026-03-02"]
    assert len(rows(tmp_path / "output", "2026-03-02")) == 3
    partitions_from_raw(rooms.ledger, rooms.reader, rooms.store, [DATES[3]])
    assert {one.writer for one in rooms.ledger.partitions().values()} == {parquet.WRITER}
    assert {one.writer for one in rooms.ledger.dimensions().values()} == {parquet.WRITER}
    assert not set(tree(curated).values()) & set(before.values())
    assert rooms.ledger.unpublished_batch() is None and not list(rooms.store.staging.iterdir())
    assert strandline(tmp_path, "verify").returncode == 0


@pytest.mark.parametrize(
    "where",
    ["daemon.batch.repair.publish", "daemon.batch.publish.files.move", "daemon.storage.ledger.Ledger.published"],
)
def test_a_crash_while_a_file_gets_a_new_hash_is_finished_at_start_up(
    written_by_another: tuple[Engine, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """The ledger knows the new hash before the file is in its place."""

    class Crash(Exception):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    rooms, _ = written_by_another
    (tmp_path / "output" / "curated" / "date=2026-03-02" / "fact_order.parquet").write_bytes(b"damaged")
    with monkeypatch.context() as broken, pytest.raises(Crash):
        broken.setattr(where, crash)
        partitions_from_raw(rooms.ledger, rooms.reader, rooms.store, [DATES[2]])
    assert rooms.ledger.unpublished_batch() == 1
    publish_committed(rooms, recovering=True)
    assert rooms.ledger.unpublished_batch() is None and not list(rooms.store.staging.iterdir())
    assert strandline(tmp_path, "verify").returncode == 0


def test_an_order_that_is_another_in_raw_is_no_ground_to_write_a_file(
    written_by_another: tuple[Engine, dict[str, str]], tmp_path: Path
) -> None:
    """Where the bytes prove nothing, the hash of each order's content does."""
    rooms, before = written_by_another
    with rooms.ledger.transaction():
        entries = rooms.ledger.index.of_dates(list(rooms.ledger.partitions())).copy()
        entries["content"] = b"x" * 16
        rooms.ledger.index.adopt(rooms.ledger.index.write_ahead(entries))
    with pytest.raises(Corruption, match="raw does not hold the orders"):
        partitions_from_raw(rooms.ledger, rooms.reader, rooms.store, [DATES[2]])
    assert tree(tmp_path / "output" / "curated") == before
