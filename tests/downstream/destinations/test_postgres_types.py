"""Every Arrow type that a file may have: what it becomes in PostgreSQL, and what cannot be loaded."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.downstream.contract import DownstreamFailed
from daemon.downstream.destinations.postgres import Postgres
from daemon.downstream.destinations.store import Change
from tests.support.examples import examples
from tests.support.loads import DAY, deliver, query, target

_NAN = float("nan")
_INFINITY = float("inf")
_LAST = 2**63 - 1  # microseconds

# The column, its type in the database, and its values as text there.
LOADED: dict[str, tuple[pa.Array, str, list[Any]]] = {
    "bool": (pa.array([True, False, None]), "boolean", ["true", "false", None]),
    "int8": (pa.array([-128, 127], pa.int8()), "smallint", ["-128", "127"]),
    "int16": (pa.array([-(2**15), 2**15 - 1], pa.int16()), "smallint", ["-32768", "32767"]),
    "int32": (pa.array([-(2**31), 2**31 - 1], pa.int32()), "integer", ["-2147483648", "2147483647"]),
    "int64": (pa.array([-(2**63), 2**63 - 1], pa.int64()), "bigint", ["-9223372036854775808", "9223372036854775807"]),
    "uint8": (pa.array([255, None], pa.uint8()), "smallint", ["255", None]),
    "uint16": (pa.array([65_535], pa.uint16()), "integer", ["65535"]),
    "uint32": (pa.array([2**32 - 1], pa.uint32()), "bigint", ["4294967295"]),
    "uint64": (pa.array([2**64 - 1, 0], pa.uint64()), "numeric(20,0)", ["18446744073709551615", "0"]),
    "float16": (pa.array(np.array([1.5, -0.0], np.float16)), "real", ["1.5", "-0"]),
    "float32": (pa.array([0.1, _NAN, _INFINITY], pa.float32()), "real", ["0.1", "NaN", "Infinity"]),
    "float64": (
        pa.array([0.1, 5e-324, -_INFINITY, _NAN, -0.0]), "double precision", ["0.1", "5e-324", "-Infinity", "NaN", "-0"],
    ),
    "decimal": (
        pa.array([Decimal("1.20"), Decimal("-0.01"), None], pa.decimal128(5, 2)), "numeric(5,2)", ["1.20", "-0.01", None],
    ),
    "decimal_38": (pa.array([Decimal("9" * 38)], pa.decimal128(38, 0)), "numeric(38,0)", ["9" * 38]),
    "decimal_76": (
        pa.array([Decimal("9" * 40 + "." + "9" * 36)], pa.decimal256(76, 36)), "numeric(76,36)", ["9" * 40 + "." + "9" * 36],
    ),
    "decimal_small": (pa.array([Decimal("0.00001"), Decimal(0)], pa.decimal128(18, 18)), "numeric(18,18)",
                      ["0.000010000000000000", "0.000000000000000000"]),
    "day": (pa.array([date(1, 1, 1), date(9999, 12, 31), None]), "date", ["0001-01-01", "9999-12-31", None]),
    "date_far": (
        pa.array([-2_440_588, 2_145_042_905], pa.int32()).cast(pa.date32()), "date", ["4714-11-24 BC", "5874897-12-31"],
    ),
    "time_ms": (pa.array([time(23, 59, 59, 999_000)], pa.time32("ms")), "time without time zone", ["23:59:59.999"]),
    "time_us": (pa.array([time(0, 0, 0, 1)], pa.time64("us")), "time without time zone", ["00:00:00.000001"]),
    "time_ns": (pa.array([1_000], pa.time64("ns")), "time without time zone", ["00:00:00.000001"]),
    "timestamp_us": (
        pa.array([datetime(1, 1, 1), datetime(9999, 12, 31, 23, 59, 59, 999_999)], pa.timestamp("us")),
        "timestamp without time zone", ["0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"],
    ),
    "timestamp_ms": (pa.array([1], pa.timestamp("ms")), "timestamp without time zone", ["1970-01-01 00:00:00.001"]),
    "timestamp_ns": (pa.array([1_000], pa.timestamp("ns")), "timestamp without time zone", ["1970-01-01 00:00:00.000001"]),
    "instant": (
        pa.array([datetime(2026, 3, 1, 12, tzinfo=UTC), None], pa.timestamp("us", "Europe/Berlin")),
        "timestamp with time zone", ["2026-03-01 12:00:00+00", None],
    ),
    "instant_far": (
        pa.array([-210_866_803_200_000_000, _LAST], pa.int64()).cast(pa.timestamp("us", "UTC")),
        "timestamp with time zone", ["4714-11-24 00:00:00+00 BC", "294247-01-10 04:00:54.775807+00"],
    ),
    "text": (pa.array(["", "é\U0001f600\\.\t\n,\"'", None]), "text", ["", "é\U0001f600\\.\t\n,\"'", None]),
    "large_text": (pa.array(["x"], pa.large_string()), "text", ["x"]),
    "dictionary": (pa.array(["b", "a", None, "b"]).dictionary_encode(), "text", ["b", "a", None, "b"]),
    "dictionary_of_numbers": (pa.array([7, 7]).dictionary_encode(), "bigint", ["7", "7"]),
    "bytes": (pa.array([b"\x00\xff", b"", None]), "bytea", ["\\x00ff", "\\x", None]),
    "fixed_bytes": (pa.array([b"ab"], pa.binary(2)), "bytea", ["\\x6162"]),
    "uuid": (
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(range(16))], pa.binary(16))), "uuid",
        ["00010203-0405-0607-0809-0a0b0c0d0e0f"],
    ),
    "json": (pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}'])), "text", ['{"a": 1}']),
}  # fmt: skip

REFUSED: dict[str, tuple[pa.Array, str]] = {
    "list": (pa.array([[1], None]), r"list<.*int64>: make JSON of it in the model: to_json"),
    "struct": (pa.array([{"a": 1}]), r"struct<a: int64>: make JSON of it"),
    "map": (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())), "make JSON of it"),
    "nanoseconds": (pa.array([1], pa.timestamp("ns")), "cannot hold exactly.*cast it in the model"),
    "time_nanoseconds": (pa.array([1], pa.time64("ns")), "cannot hold exactly.*cast it in the model"),
    "before_all_dates": (pa.array([-2_440_589], pa.int32()).cast(pa.date32()), "outside of what PostgreSQL can hold"),
    "after_all_dates": (pa.array([2_145_042_906], pa.int32()).cast(pa.date32()), "outside of what PostgreSQL can hold"),
    "before_all_instants": (
        pa.array([-210_866_803_200_000_001], pa.int64()).cast(pa.timestamp("us", "UTC")), "outside of what PostgreSQL can hold",
    ),
    "infinity": (pa.array([-(2**63) + 1], pa.int64()).cast(pa.timestamp("us")), "outside of what PostgreSQL can hold"),
    "n" * 64: (pa.array([1]), "63 bytes.*rename it"),
}  # fmt: skip


@pytest.fixture
def store(database: str) -> Iterator[Postgres]:
    one = Postgres(target(database))
    yield one
    one.close()


def model(folder: Path, name: str, column: pa.Array, *, arrow_types: bool) -> tuple[Change, pa.Schema]:
    """A file with one column besides the date. `arrow_types`: as Arrow has them, or only those that Parquet has."""
    days = pa.array([DAY] * len(column), pa.int32()).cast(pa.date32())
    path = folder / f"{name[:20]}-{arrow_types}.parquet"
    pq.write_table(pa.table({"date": days, name: column}), path, store_schema=arrow_types, coerce_timestamps=None)
    return Change("model", DAY, path, b"\1" * 32, path.stat().st_size), pq.read_schema(path)


def as_text(database: str, name: str) -> list[str | None]:
    query(database, "ALTER DATABASE shop SET extra_float_digits = 1")
    with psycopg.connect(database, options="-c timezone=UTC -c bytea_output=hex") as connection:
        return [row[0] for row in connection.execute(f'SELECT "{name}"::text FROM strandline.model').fetchall()]


@pytest.mark.parametrize("name", LOADED)
def test_a_type_is_loaded_exactly(store: Postgres, database: str, tmp_path: Path, name: str) -> None:
    """In the type that holds each of its values, and the comparison with the file finds no difference."""
    column, kind, values = LOADED[name]
    for arrow_types in (True, False):
        query(database, "DROP SCHEMA IF EXISTS strandline CASCADE")
        one, schema = model(tmp_path, name, column, arrow_types=arrow_types)
        assert one.path is not None and deliver(store, [one], {"model": schema}).rows == len(column)
        found = query(
            database,
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
            "WHERE attrelid = 'strandline.model'::regclass AND attname = %s",
            name,
        )
        if arrow_types:  # Parquet itself has fewer types: no half floats, and neither dictionaries nor zones
            assert found == [(kind,)]
        assert as_text(database, name) == values
        assert store.difference("model", DAY, one.path, tmp_path) == ""


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_loaded_names_table_column_and_what_to_do(
    store: Postgres, database: str, tmp_path: Path, name: str
) -> None:
    """And nothing of the delivery is there."""
    column, message = REFUSED[name]
    one, schema = model(tmp_path, name, column, arrow_types=True)
    with pytest.raises(DownstreamFailed, match=rf"\[load.shop\]: the table model: .*{name}.*{message}"):
        deliver(store, [one], {"model": schema})
    assert query(database, "SELECT 1 FROM pg_tables WHERE schemaname = 'strandline'") == []


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        (pa.array([1], pa.int32()), pa.array([1], pa.int64()), "column v is integer, and not bigint; change its type"),
        (pa.array(["a"]), pa.array([1.0]), "column v is text, and not double precision"),
        (
            pa.array([1], pa.timestamp("us")),
            pa.array([1], pa.timestamp("us", "UTC")),
            "without time zone, and not timestamp with",
        ),
    ],
)
def test_a_column_that_has_another_type_now(
    store: Postgres, tmp_path: Path, was: pa.Array, now: pa.Array, message: str
) -> None:
    """The table keeps its type until somebody decides."""
    for column, refused in ((was, ""), (now, message)):
        one, schema = model(tmp_path, "v", column, arrow_types=not refused)
        if not refused:
            deliver(store, [one], {"model": schema})
            continue
        with pytest.raises(DownstreamFailed, match=message):
            deliver(store, [one], {"model": schema})


@pytest.mark.parametrize(
    ("schema_type", "column", "message"),
    [
        (pa.float32(), pa.array([0.1]), "the table has float"),
        (pa.int64(), pa.array(["5"]), "the table has int64"),
        (pa.int16(), pa.array([70_000], pa.int32()), "not in range"),
        (pa.int64(), pa.array([2**63], pa.uint64()), "not in range"),
        (pa.timestamp("us", "UTC"), pa.array([1], pa.timestamp("us")), "instants with a time zone"),
        (pa.decimal128(10, 1), pa.array([Decimal("0.25")], pa.decimal128(10, 2)), "data loss"),
    ],
)
def test_a_file_whose_values_do_not_fit_the_schema(
    store: Postgres, tmp_path: Path, schema_type: pa.DataType, column: pa.Array, message: str
) -> None:
    """No value becomes another one silently."""
    one, _ = model(tmp_path, "v", column, arrow_types=True)
    schema = pa.schema([("date", pa.date32()), ("v", schema_type)])
    with pytest.raises(DownstreamFailed, match=f"column v .*{message}"):
        deliver(store, [one], {"model": schema})


def test_a_file_with_narrower_types_than_the_schema(store: Postgres, database: str, tmp_path: Path) -> None:
    """Values are widened exactly."""
    schema = pa.schema([("date", pa.date32()), ("v", pa.float64())])
    one, _ = model(tmp_path, "v", pa.array([0.5, None], pa.float32()), arrow_types=True)
    deliver(store, [one], {"model": schema})
    assert as_text(database, "v") == ["0.5", None]


def test_a_column_of_a_file_that_the_schema_lacks_is_not_lost(store: Postgres, tmp_path: Path) -> None:
    """It is an error, and not left out."""
    one, _ = model(tmp_path, "v", pa.array([1]), arrow_types=True)
    with pytest.raises(DownstreamFailed, match="the column v is in a file"):
        deliver(store, [one], {"model": pa.schema([("date", pa.date32())])})


def test_names_of_columns_are_quoted(store: Postgres, database: str, tmp_path: Path) -> None:
    """Reserved words, quotes, capitals, and a date in capitals."""
    table = pa.table({
        "Date": pa.array([DAY], pa.int32()).cast(pa.date32()), 'a"b': [1], "select": [2], "Ünï %s {}": [3],
    })  # fmt: skip
    path = tmp_path / "odd.parquet"
    pq.write_table(table, path)
    for sha256 in (b"\1" * 32, b"\2" * 32):
        deliver(store, [Change("model", DAY, path, sha256, 1)], {"model": table.schema})
    assert query(database, "SELECT * FROM strandline.model") == [(date(2026, 3, 1), 1, 2, 3)]
    deliver(store, [Change("model", DAY, None)])
    assert query(database, "SELECT * FROM strandline.model") == []


def test_a_name_that_postgres_reserves_for_itself_is_told(store: Postgres, tmp_path: Path) -> None:
    """Every table has a hidden column ctid."""
    one, schema = model(tmp_path, "ctid", pa.array([1]), arrow_types=True)
    with pytest.raises(DownstreamFailed, match='"ctid" conflicts with a system column'):
        deliver(store, [one], {"model": schema})


_VALUES = {
    pa.float64(): st.floats(),
    pa.string(): st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    pa.decimal128(38, 10): st.integers(-(10**28) + 1, 10**28 - 1).map(Decimal),
    pa.timestamp("us", "UTC"): st.integers(-210_866_803_200_000_000, _LAST),
    pa.binary(): st.binary(max_size=5),
}


@examples(10)
@given(data=st.data())
def test_random_values_arrive_as_they_are(
    conninfo: str, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """By the comparison, and by the rows that psycopg reads."""
    folder = tmp_path_factory.mktemp("random")
    size = data.draw(st.integers(0, 8))
    columns: dict[str, pa.Array] = {"date": pa.array([DAY] * size, pa.int32()).cast(pa.date32())}
    for number, (kind, values) in enumerate(_VALUES.items()):
        drawn = data.draw(st.lists(st.none() | values, min_size=size, max_size=size))
        is_instant = pa.types.is_timestamp(kind)
        columns[f"v{number}"] = pa.array(drawn, pa.int64()).cast(kind) if is_instant else pa.array(drawn, kind)
    table = pa.table(columns)
    path = folder / "random.parquet"
    pq.write_table(table, path)
    store = Postgres(target(conninfo, schema="random"))
    try:
        sha256 = struct.pack("32s", json.dumps(str(path)).encode())
        delivered = deliver(store, [Change("values", DAY, path, sha256, 1)], {"values": table.schema})
        assert store.difference("values", DAY, path, folder) == ""
        assert delivered.altered == sum("\0" in (one or "") for one in table["v1"].to_pylist())
        found = query(conninfo, "SELECT v1, v2, v4 FROM random.values")
        texts = [None if one is None else one.replace("\0", "") for one in table["v1"].to_pylist()]
        wanted = zip(texts, table["v2"].to_pylist(), table["v4"].to_pylist(), strict=True)
        assert sorted(found, key=repr) == sorted(wanted, key=repr)
    finally:
        store.close()
