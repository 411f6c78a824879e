"""The pandas face: against the parse room on the same input, against plain Python, and against DuckDB over the same files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import partial
from itertools import count, cycle
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from threading import Event
from time import sleep
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow.dataset as ds
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from daemon.core.errors import Unavailable, Unreadable
from daemon.core.model import LAST_INSTANT, ParseContext
from daemon.core.parse.discards import each
from daemon.core.parse.parse import Piece, parse
from daemon.frames import SetAsideWarning, dedupe, items_df, normalize, orders_df, read, set_aside
from daemon.storage.generation import changing
from tests.strategies import RECEIVED_AT_US, batches, clean_drops
from tests.support import REPO, command
from tests.support.examples import examples
from tests.support.harness import apply_batch, lose, open_engine

SLOW = examples(50)
DTYPES = {
    "order_id": "string", "user_id": "string", "amount": "decimal128(18, 4)[pyarrow]", "currency": "string",
    "created_at": "datetime64[us, UTC]", "updated_at": "datetime64[us, UTC]", "date": "date32[day][pyarrow]", "items": "Int64",
    "metadata": "string", "line_number": "Int64", "sku": "string", "qty": "decimal128(18, 4)[pyarrow]",
    "price": "decimal128(18, 4)[pyarrow]", "record": "Int64",
}  # fmt: skip
ORDER_COLUMNS = ["order_id", "user_id", "amount", "currency", "created_at", "updated_at", "date", "items", "metadata"]
ITEM_COLUMNS = ["order_id", "line_number", "sku", "qty", "price", "date"]


def plain(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as plain values, instants in microseconds."""
    rows = []
    for row in frame.astype(object).to_dict("records"):
        values = {key: None if pd.isna(value) else value for key, value in row.items()}
        rows.append({k: int(v.asm8.view("i8")) if isinstance(v, pd.Timestamp) else v for k, v in values.items()})
    return rows


def units(value: Decimal | None) -> int | None:
    return None if value is None else int(value.scaleb(4))


def assert_typed(frame: pd.DataFrame, columns: list[str]) -> None:
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {name: DTYPES[name] for name in columns}
    assert list(frame.columns) == columns


@SLOW
@given(batches())
def test_normalize_reads_what_the_fast_lane_reads(many: list[list[bytes]]) -> None:
    """Orders, items, discards and faults of every drop, clean or dirty, are those of the parse room."""
    for data in (drop for batch in many for drop in batch):
        parsed = parse([Piece(1, data, ParseContext(LAST_INSTANT, 0))], refusing=False)
        if parsed.unreadable:
            with pytest.raises(Unreadable):
                normalize(data)
            continue
        orders, items = normalize(data)
        assert_typed(orders, ["record", *ORDER_COLUMNS])
        assert_typed(items, ["record", *ITEM_COLUMNS])
        expected = sorted(parsed.orders.to_pylist(), key=lambda order: order["position"])
        found = plain(orders)
        for got, want in zip(found, expected, strict=True):
            assert units(got["amount"]) == want["amount"]
            assert got["items"] == len(want["items"]) and got["record"] == want["position"]
            for name in ("order_id", "user_id", "currency", "created_at", "updated_at", "metadata"):
                assert got[name] == want[name]
            assert got["date"] == datetime.fromtimestamp(want["created_at"] // 1_000_000, UTC).date()
        lines = [(order, n, item) for order in expected for n, item in enumerate(order["items"], 1)]
        for got, (order, number, item) in zip(plain(items), lines, strict=True):
            assert (got["record"], got["order_id"], got["line_number"]) == (
                order["position"],
                order["order_id"],
                number,
            )
            assert (got["sku"], units(got["qty"]), units(got["price"])) == (item["sku"], item["qty"], item["price"])
        assert [(d["position"], d["reason"]) for d in orders.attrs["discards"]] == [
            (d.position, str(d.reason)) for d in each(parsed.discards)
        ]
        assert orders.attrs["field_faults"] == dict(parsed.tallies[1].faults)


@SLOW
@given(clean_drops())
def test_decoded_records_read_as_their_text(data: bytes) -> None:
    """What `json.loads` made of a drop, with numbers as Decimal, comes to the same frames."""
    text = data.decode("utf-8-sig")
    try:
        records = json.loads(text, parse_float=Decimal)
    except json.JSONDecodeError:
        try:
            records = [json.loads(line, parse_float=Decimal) for line in text.split("\n") if line.strip(" \t\r")]
        except json.JSONDecodeError:
            assume(False)  # several documents, or marks between them: nobody decodes these with json.loads
    try:
        one = normalize(data)
    except Unreadable:
        assume(False)  # its form is refused; a list of its records has another
    other = normalize(records)
    for left, right in zip(one, other, strict=True):
        names = [name for name in left if name != "metadata"]  # its white space and key spelling went with decoding
        pd.testing.assert_frame_equal(left[names], right[names])


def test_values_of_a_notebook() -> None:
    """datetime, Decimal, numpy values and the several kinds of nothing are what they mean."""
    orders, items = normalize(
        {
            "order_id": np.int64(7), "amount": Decimal("12345678901234.5678"), "created_at": datetime(2026, 3, 2, 18, tzinfo=UTC),
            "updated_at": pd.NaT, "user_id": pd.NA, "currency": float("nan"),
            "items": np.array([{"sku": "a", "qty": np.float64(1.5), "price": float("inf")}]),
        }
    )  # fmt: skip
    (order,), (item,) = plain(orders), plain(items)
    assert order["order_id"] == "7" and order["amount"] == Decimal("12345678901234.5678")
    assert order["user_id"] is order["currency"] is order["updated_at"] is None
    assert item["qty"] == Decimal("1.5") and item["price"] is None
    assert orders.attrs["field_faults"] == {"price": 1}
    with pytest.raises(TypeError, match="object"):
        normalize([{"order_id": object()}])


@pytest.mark.parametrize("nothing", [b"[]", "[]", [], {"data": []}])
def test_nothing_has_the_same_columns_and_types(nothing: Any) -> None:
    """Empty frames can be concatenated and joined as full ones."""
    orders, items = normalize(nothing)
    assert_typed(orders, ["record", *ORDER_COLUMNS])
    assert_typed(items, ["record", *ITEM_COLUMNS])
    assert len(dedupe(orders)) == 0


VERSIONS = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 3), st.one_of(st.none(), st.integers(0, 3))), max_size=8
)


@given(VERSIONS)
def test_dedupe_keeps_the_latest_version(rows: list[tuple[str | None, int, int | None]]) -> None:
    """By updated_at or else created_at, then the later row; in the order and with the index that the frame has."""
    day = 86_400_000_000
    frame = pd.DataFrame(
        {
            "order_id": pd.array([row[0] for row in rows], "string"),
            "created_at": pd.to_datetime([row[1] * day for row in rows], unit="us", utc=True),
            "updated_at": pd.to_datetime(
                [None if row[2] is None else row[2] * day for row in rows], unit="us", utc=True
            ),
        },
        index=pd.RangeIndex(100, 100 + len(rows)),
    )
    best: dict[str, tuple[int, int]] = {}
    for place, (key, created, updated) in enumerate(rows):
        if key is not None:
            best[key] = max(best.get(key, (-1, -1)), (created if updated is None else updated, place))
    expected = [n for n, row in enumerate(rows) if row[0] is None or best[row[0]][1] == n]
    assert list(dedupe(frame).index) == [100 + n for n in expected]


def test_dedupe_refuses_to_compare_times_as_text() -> None:
    """That was the fault of the script that this replaces."""
    frame = pd.DataFrame({"order_id": ["a", "a"], "created_at": ["2026-03-02T18:00:00+02:00", "2026-03-02T17:00:00Z"]})
    with pytest.raises(TypeError, match=r"pd\.to_datetime"):
        dedupe(frame)


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Path]:
    """Orders with and without items and amounts, on three dates."""

    def order(name: str, day: int, amount: object, items: int) -> dict[str, object]:
        lines = [{"sku": f"p_{n}", "qty": n + 1, "price": 3.7} for n in range(items)]
        return {
            "order_id": name,
            "user_id": "u",
            "amount": amount,
            "created_at": f"2026-11-{day}T08:00:00Z",
            "items": lines,
        }

    orders = [
        order("a", 16, "0.1", 3),
        order("b", 16, None, 2),
        order("c", 17, 5, 0),
        order("d", 18, "99999999999999.9999", 7),
    ]
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", json.dumps(orders).encode())], RECEIVED_AT_US)
    yield tmp_path / "output"


def test_the_curated_layer_as_frames(output: Path) -> None:
    """One row per order with its own amount, one per item: what DuckDB finds in the same files."""
    orders, items = orders_df(output), items_df(output)
    assert_typed(orders, ORDER_COLUMNS)
    assert_typed(items, ITEM_COLUMNS)
    fact = f"read_parquet('{output}/curated/date=*/fact_order.parquet', hive_partitioning = false)"
    query = f"SELECT order_id, sum(amount), count(sku), min(date) FROM {fact} GROUP BY ALL ORDER BY min(created_at), order_id"
    expected = duckdb.execute(query).fetchall()
    assert [(o["order_id"], o["amount"], o["items"], o["date"]) for o in plain(orders)] == expected
    assert [o["amount"] for o in plain(orders)] == [Decimal("0.1"), None, 5, Decimal("99999999999999.9999")]
    files = f"read_parquet('{output}/curated/date=*/order_items.parquet', hive_partitioning = false)"
    columns = ", ".join(ITEM_COLUMNS)
    expected = duckdb.execute(f"SELECT {columns} FROM {files} ORDER BY date, order_id, line_number").fetchall()
    assert [tuple(item.values()) for item in plain(items)] == expected


@pytest.mark.parametrize(
    ("since", "ids"),
    [
        (None, "abcd"), ("2026-11-17", "cd"), ("2026-11-17T08:00:00Z", "cd"), ("2026-11-17T08:00:00.000001Z", "d"),
        ("2026-11-17T09:30:00+01:30", "cd"), (date(2026, 11, 18), "d"), (datetime(2026, 11, 16, 8, tzinfo=UTC), "abcd"),
        (pd.Timestamp("2026-11-18T08:00:01Z"), ""),
    ],
)  # fmt: skip
def test_since_is_an_instant(output: Path, since: Any, ids: str) -> None:
    """Orders created at or after it, and their items; partitions before it are not opened."""
    if since is not None:
        (output / "curated" / "date=2026-11-01").mkdir()
        (output / "curated" / "date=2026-11-01" / "fact_order.parquet").write_bytes(b"never opened")
    orders = orders_df(output, since)
    assert "".join(orders["order_id"]) == ids
    items = {"a": 3, "b": 2, "c": 0, "d": 7}
    assert len(items_df(output, since)) == sum(items[name] for name in ids)
    assert_typed(orders, ORDER_COLUMNS)


def test_files_that_are_replaced_while_they_are_read_are_whole(tmp_path: Path) -> None:
    """Beside a daemon: each frame is of one version of a partition or of the other."""
    path = tmp_path / "output" / "curated" / "date=2026-03-02" / "fact_order.parquet"
    versions, sizes = [], (10, 13)
    with open_engine(tmp_path) as engine:
        for number in sizes:
            orders = [{"order_id": f"o_{i}", "created_at": "2026-03-02", "amount": i} for i in range(number)]
            apply_batch(engine, tmp_path, [(f"{number}.json", json.dumps(orders).encode())], RECEIVED_AT_US)
            versions.append(tmp_path / f"{number}.parquet")
            versions[-1].write_bytes(path.read_bytes())
    done = Event()

    def replace_them() -> None:
        beside = tmp_path / "beside.parquet"
        for version in cycle(versions):
            if done.is_set():
                return
            os.link(version, beside)
            os.replace(beside, path)

    with ThreadPoolExecutor(1) as thread:
        replacing = thread.submit(replace_them)
        try:
            seen = {len(orders_df(tmp_path / "output")) for _ in range(300)}
            while seen < set(sizes):  # the timeout of the test ends it
                seen.add(len(orders_df(tmp_path / "output")))
        finally:
            done.set()
        replacing.result()
    assert seen == set(sizes)


def restate(home: str, stop: Synchronized[int]) -> None:
    """Publishes one batch after another: all orders move from one date to the next."""
    with open_engine(Path(home)) as engine:
        for number in count(1):
            if stop.value:
                return
            updated = datetime.fromtimestamp(1_775_000_000 + number, UTC).isoformat()
            moved = {"created_at": f"2026-03-{1 + number % 3:02d}", "updated_at": updated}
            orders = [{"order_id": f"o_{i}", "amount": 1} | moved for i in range(MOVING)]
            apply_batch(engine, Path(home), [(f"{number}.json", json.dumps(orders).encode())], RECEIVED_AT_US)


MOVING = 20
RECIPE: dict[str, Any] = {}
BLOCKS = (REPO / "docs" / "READING.md").read_text(encoding="utf-8").split("```")
exec(next(block for block in BLOCKS if "def one_state" in block).removeprefix("python\n"), RECIPE)


def ids_by_duckdb(curated: Path) -> list[str]:
    files = f"{curated}/date=*/fact_order.parquet"
    return [
        one
        for (one,) in duckdb.sql(f"SELECT order_id FROM read_parquet('{files}', hive_partitioning = false)").fetchall()
    ]


def ids_by_pandas(curated: Path) -> list[str]:
    return [
        one for path in sorted(curated.glob("date=*/fact_order.parquet")) for one in pd.read_parquet(path)["order_id"]
    ]


def ids_by_polars(curated: Path) -> list[str]:
    found = pl.scan_parquet(f"{curated}/date=*/fact_order.parquet", hive_partitioning=False)
    return found.select("order_id").collect()["order_id"].to_list()


def ids_by_pyarrow(curated: Path) -> list[str]:
    files = [str(path) for path in sorted(curated.glob("date=*/fact_order.parquet"))]
    return ds.dataset(files, format="parquet").to_table(columns=["order_id"])["order_id"].to_pylist()


LIBRARIES = (ids_by_duckdb, ids_by_pandas, ids_by_polars, ids_by_pyarrow)
READERS: list[Callable[[Path], list[str]]] = [
    *(partial(read, reader=one) for one in LIBRARIES),
    *(lambda output, one=one: RECIPE["one_state"](lambda: one(output / "curated"), output) for one in LIBRARIES),
    lambda output: orders_df(output)["order_id"].to_list(),
]


def test_a_reader_beside_a_daemon_sees_one_state(tmp_path: Path) -> None:
    """Each order is there exactly once, however often it moves meanwhile, whichever library reads."""
    context = get_context("fork")
    stop = context.Value("i", 0)
    restating = context.Process(target=restate, args=(str(tmp_path), stop))
    restating.start()
    try:
        while not (tmp_path / "output" / "state" / "generation").exists():  # the timeout of the test ends it
            sleep(0.01)
        expected = sorted(f"o_{number}" for number in range(MOVING))
        for reader in READERS * 12:
            assert sorted(reader(tmp_path / "output")) == expected
        assert restating.is_alive()
    finally:
        stop.value = 1
        restating.join()


def test_half_a_publish_is_no_state(tmp_path: Path) -> None:
    """A crash leaves an odd number, and a reader waits until the batch is published; an error of a reader is its own."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", b'[{"order_id": "a", "created_at": "2026-03-02"}]')], RECEIVED_AT_US)
    output = tmp_path / "output"
    assert len(read(output, lambda curated: list(curated.glob("date=*")))) == 1
    with pytest.raises(ZeroDivisionError):
        read(output, lambda _: 1 // 0)
    with suppress(OSError), changing(output):
        raise OSError("the disk is full")
    with pytest.raises(Unavailable, match="--once"):
        read(output, ids_by_pandas, wait_seconds=0.1)
    with changing(output):
        pass
    assert len(orders_df(output)) == 1


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A folder that is no output, an instant that is none, a text that is no drop."""
    with pytest.raises(FileNotFoundError, match="not a folder"):
        orders_df(tmp_path)
    (tmp_path / "curated").mkdir()
    assert_typed(orders_df(tmp_path), ORDER_COLUMNS)
    with pytest.raises(ValueError, match="not an instant"):
        items_df(tmp_path, "last week")
    with pytest.raises(Unreadable, match="HTML"):
        normalize("<html></html>")


@pytest.mark.parametrize("unit", ["D", "s", "ms", "us", "ns"])
def test_instants_of_numpy_are_instants(unit: str) -> None:
    """What `df.values` holds, whatever they count in."""
    value = np.datetime64("2026-03-02T00:00:00", unit)
    orders, _ = normalize([{"order_id": "a", "created_at": value, "updated_at": np.datetime64("NaT", unit)}])
    assert [orders["created_at"][0], pd.isna(orders["updated_at"][0])] == [pd.Timestamp("2026-03-02", tz="UTC"), True]


@pytest.mark.parametrize("value", [Decimal("sNaN"), Decimal("-sNaN1"), Decimal("NaN"), float("nan")])
def test_what_is_not_a_number_is_null(value: object) -> None:
    """Also where it would be an error to calculate with it."""
    orders, _ = normalize([{"order_id": "a", "created_at": "2026-03-02", "amount": value}])
    assert pd.isna(orders["amount"][0]) and orders.attrs["field_faults"] == {}


def test_dates_that_are_set_aside_are_left_out_with_a_warning(tmp_path: Path) -> None:
    """The rows are those of all other dates, and `attrs` names what they are without; so it is for readers of one state."""
    with open_engine(tmp_path) as engine:
        apply_batch(
            engine, tmp_path, [("a.json", command.as_drop([command.order(1), command.order(2, 3)]))], RECEIVED_AT_US
        )
        assert set_aside(tmp_path / "output") == {}
        copy, _ = lose(tmp_path / "output", "a.json", "2026-03-02")
        apply_batch(
            engine, tmp_path, [("b.json", command.as_drop([command.order(3), command.order(4, 3)]))], RECEIVED_AT_US + 1
        )
    (name, reason) = next(iter(set_aside(tmp_path / "output").items()))
    assert name == "2026-03-02" and copy.name in reason
    for frame in (orders_df, items_df):
        with pytest.warns(
            SetAsideWarning, match="2026-03-02 is set aside, and the rows are without it: .*restore it"
        ) as warned:
            found = frame(tmp_path / "output")
        assert warned[0].filename == __file__
        assert set(found["order_id"]) == {"o_2", "o_4"} and found.attrs["set_aside"] == ["2026-03-02"]
        later = frame(tmp_path / "output", since="2026-03-03")
        assert set(later["order_id"]) == {"o_2", "o_4"} and later.attrs["set_aside"] == []
    with pytest.warns(SetAsideWarning, match="2026-03-02 is set aside, leave it out") as warned:
        read(tmp_path / "output", lambda curated: curated)
    assert warned[0].filename == __file__


@pytest.mark.parametrize("content", [None, b"", b"no ledger"])
def test_readers_need_no_ledger(tmp_path: Path, content: bytes | None) -> None:
    """A copy of the published files alone is read as a whole."""
    with open_engine(tmp_path) as engine:
        apply_batch(engine, tmp_path, [("a.json", command.as_drop([command.order(1)]))], RECEIVED_AT_US)
    ledger = tmp_path / "output" / "state" / "ledger.sqlite"
    ledger.unlink()
    if content is not None:
        ledger.write_bytes(content)
    assert len(orders_df(tmp_path / "output")) == 1 and set_aside(tmp_path / "output") == {}
