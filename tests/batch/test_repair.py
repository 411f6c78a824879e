"""Files that are made anew from raw, also those that another writer wrote."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daemon.batch.engine import Engine
from daemon.batch.pipeline import publish_committed
from daemon.batch.repair import partitions_from_raw, refuse_unknown
from daemon.core import parquet
from daemon.core.errors import Corruption, UsageError
from daemon.storage import files
from tests.strategies import RECEIVED_AT_US
from tests.support.command import as_drop, order, strandline
from tests.support.harness import apply_batch, open_engine, rows, tree

DATES = {day: int(np.datetime64(f"2026-03-0{day}", "D").astype(int)) for day in (2, 3)}


@pytest.fixture
def written_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Engine, dict[str, str]]]:
    """Two dates and a dimension, published by an earlier version of the writer: the same rows in other bytes."""
    drops = [
        ("users.csv", b"user_id,email\nu_1,a@example.com\n"),
        ("a.json", as_drop([order(1, user_id="u_1"), order(2, 3, user_id="u_1"), order(4)])),
    ]
    with open_engine(tmp_path) as engine:
        with monkeypatch.context() as earlier:
            earlier.setitem(parquet._OPTIONS, "compression", "zstd")
            for module in ("storage.store", "batch.dimensions"):
                earlier.setattr(f"daemon.{module}.WRITER", "pyarrow 1.2.3, options 0")
            apply_batch(engine, tmp_path, drops, RECEIVED_AT_US)
        yield engine, tree(tmp_path / "output" / "curated")


def test_rows_by_another_writer_are_no_difference(
    written_by_another: tuple[Engine, dict[str, str]], tmp_path: Path
) -> None:
    """`verify` compares rows with a rebuild, since the bytes differ; other rows are found nevertheless."""
    engine, _ = written_by_another
    assert strandline(tmp_path, "verify").returncode == 0, strandline(tmp_path, "verify").stdout
    path = tmp_path / "output" / "curated" / "date=2026-03-02" / "fact_order.parquet"
    other = pq.read_table(path)
    other = other.set_column(other.schema.get_field_index("sku"), "sku", pa.array(["p_2"] * len(other)))
    pq.write_table(other.cast(pq.read_schema(path)), path)
    with engine.ledger.transaction():
        engine.ledger._sql.execute(
            "UPDATE partitions SET fact_sha256 = ? WHERE date = ?", (files.sha256_of(path), DATES[2])
        )
    ended = strandline(tmp_path, "verify")
    assert ended.returncode == 1 and "a rebuild from raw gives other rows" in ended.stdout


def test_a_damaged_file_by_another_writer_is_made_anew_under_its_new_hash(
    written_by_another: tuple[Engine, dict[str, str]], tmp_path: Path
) -> None:
    """By a batch that needs it, a partition and a dimension; and by the command. The other files stay as they are."""
    engine, before = written_by_another
    curated = tmp_path / "output" / "curated"
    for name in ("date=2026-03-02/fact_order.parquet", "date=2026-03-03/order_items.parquet", "dim_user.parquet"):
        (curated / name).write_bytes(b"damaged")
    engine.store._keys.clear()
    outcome = apply_batch(engine, tmp_path, [("b.json", as_drop([order(7)]))], RECEIVED_AT_US)
    assert outcome.repaired == ["dim_user.parquet", "2026-03-02"]
    assert len(rows(tmp_path / "output", "2026-03-02")) == 3
    partitions_from_raw(engine.ledger, engine.reader, engine.store, [DATES[3]])
    assert {one.writer for one in engine.ledger.partitions().values()} == {parquet.WRITER}
    assert {one.writer for one in engine.ledger.dimensions().values()} == {parquet.WRITER}
    assert not set(tree(curated).values()) & set(before.values())
    assert engine.ledger.unpublished_batch() is None and not list(engine.store.staging.iterdir())
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

    engine, _ = written_by_another
    (tmp_path / "output" / "curated" / "date=2026-03-02" / "fact_order.parquet").write_bytes(b"damaged")
    with monkeypatch.context() as broken, pytest.raises(Crash):
        broken.setattr(where, crash)
        partitions_from_raw(engine.ledger, engine.reader, engine.store, [DATES[2]])
    assert engine.ledger.unpublished_batch() == 1
    publish_committed(engine, recovering=True)
    assert engine.ledger.unpublished_batch() is None and not list(engine.store.staging.iterdir())
    assert strandline(tmp_path, "verify").returncode == 0


def test_an_order_that_is_another_in_raw_is_no_ground_to_write_a_file(
    written_by_another: tuple[Engine, dict[str, str]], tmp_path: Path
) -> None:
    """Where the bytes prove nothing, the hash of each order's content does."""
    engine, before = written_by_another
    with engine.ledger.transaction():
        entries = engine.ledger.index.of_dates(list(engine.ledger.partitions())).copy()
        entries["content"] = b"x" * 16
        engine.ledger.index.adopt(engine.ledger.index.write_ahead(entries))
    with pytest.raises(Corruption, match="raw does not hold the orders"):
        partitions_from_raw(engine.ledger, engine.reader, engine.store, [DATES[2]])
    assert tree(tmp_path / "output" / "curated") == before


def test_a_date_that_is_not_published_is_refused_with_those_that_are(tmp_path: Path) -> None:
    with open_engine(tmp_path) as engine:
        with pytest.raises(UsageError, match=r"no partition is published for 2026-03-02; there is none$"):
            refuse_unknown(engine.ledger, [DATES[2]])
        apply_batch(engine, tmp_path, [("a.json", as_drop([order(1), order(2, 3)]))], RECEIVED_AT_US)
        refuse_unknown(engine.ledger, list(DATES.values()))
        span = "there are 2, from 2026-03-02 to 2026-03-03$"
        with pytest.raises(UsageError, match=rf"published for 2026-03-04, 2026-03-01; {span}"):
            refuse_unknown(engine.ledger, [DATES[2], DATES[2] + 2, DATES[2] - 1])
