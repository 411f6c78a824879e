"""[table.NAME]: Delta tables have the published rows, whatever happened before, and readers see whole batches."""

from __future__ import annotations

import ast
import datetime
import hashlib
import json
import os
import random
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, TableFeatures, write_deltalake

from daemon.core.errors import Unavailable
from daemon.core.parquet import encode
from daemon.downstream.contract import WHOLE, DownstreamFailed
from daemon.downstream.destinations.delta import Delta
from daemon.downstream.destinations.settings import destinations_of
from daemon.downstream.destinations.store import Change, Delivery, Target
from tests.downstream.lakes import FIRST, MODEL, World, rows_of, target
from tests.support.examples import LONG


@pytest.fixture
def world(tmp_path: Path) -> World:
    (tmp_path / "published").mkdir()
    return World(tmp_path / "published")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    return tmp_path / "lake"


def store_of(lake: Path, **values: object) -> Delta:
    return Delta(target("table", lake, **values))


def read(lake: Path, table: str) -> pa.Table:
    return DeltaTable(lake / table).to_pyarrow_table()


def same_rows(world: World, lake: Path, table: str) -> bool:
    return rows_of(read(lake, table), sorted(world.schemas[table].names)) == world.rows(table)


def test_the_published_files_are_added_as_they_are(world: World, lake: Path) -> None:
    """Byte for byte, one file a date, and one commit a table for all dates."""
    for date in range(FIRST, FIRST + 3):
        world.publish("fact_order", date, seed=1)
    user = world.publish("dim_user", WHOLE, seed=1)
    store = store_of(lake)
    delivered = world.bring(store)
    assert delivered.rows == 3 * 7 + 7
    assert delivered.bytes == sum(one.bytes for one in world.wanted.values())
    assert DeltaTable(lake / "fact_order").version() == 0
    assert DeltaTable(lake / "fact_order").transaction_version("strandline") == world.batch
    for (table, date), one in world.wanted.items():
        folder = (
            lake / table / ("" if date == WHOLE else f"date={datetime.date(1970, 1, 1) + datetime.timedelta(date)}")
        )
        assert one.path is not None
        assert (folder / f"{table}-{one.sha256.hex()}.parquet").read_bytes() == one.path.read_bytes()
    assert DeltaTable(lake / "dim_user").metadata().partition_columns == []
    assert user.sha256 in store.contents().values()


def test_every_reader_takes_date_from_file_and_folder_alike(world: World, lake: Path) -> None:
    """`date` is a column of the files, and the one that the table is divided by. Types are exact, and ranges skip no row."""
    for date in range(FIRST, FIRST + 4):
        world.publish("fact_order", date, seed=date, columns=(("note", "text"),))
    world.bring(store_of(lake))
    path, day = str(lake / "fact_order"), datetime.date(2024, 10, 5)
    table = DeltaTable(path)
    names = sorted(world.schemas["fact_order"].names)
    want = world.rows("fact_order")
    one_day = [row for row in want if row[names.index("date")] == day]
    last = max(row[names.index("created_at")] for row in want)
    newest = sum(row[names.index("created_at")] == last for row in want)
    assert one_day and newest
    dataset = table.to_pyarrow_dataset()
    assert rows_of(table.to_pyarrow_table(), names) == want
    assert rows_of(dataset.to_table(filter=pa.compute.field("date") == day), names) == one_day
    assert len(dataset.to_table(filter=pa.compute.field("created_at") >= last)) == newest
    frame = polars.scan_delta(path)
    assert rows_of(frame.collect().to_arrow(), names) == want
    assert rows_of(frame.filter(polars.col("date") == day).collect().to_arrow(), names) == one_day
    assert frame.filter(polars.col("created_at") >= last).collect().height == newest
    assert polars.read_delta(path).schema["amount"] == polars.Decimal(18, 4)
    pandas = table.to_pandas()
    assert sorted(pandas["date"]) == sorted(row[names.index("date")] for row in want)
    assert sorted(pandas["amount"]) == sorted(row[names.index("amount")] for row in want)
    import duckdb

    source = dataset
    assert source is not None
    found = duckdb.sql(
        "SELECT date, sum(amount) FROM source WHERE created_at >= '2024-10-05' GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert [date for date, _ in found] == [day + datetime.timedelta(days) for days in range(3)]


def test_dates_without_rows_go_and_new_columns_come_in_the_same_commit(world: World, lake: Path) -> None:
    for date in range(FIRST, FIRST + 3):
        world.publish("fact_order", date, seed=1)
    store = store_of(lake)
    world.bring(store)
    world.remove("fact_order", FIRST)
    world.publish("fact_order", FIRST + 1, seed=2, columns=(("note", "text"),))
    world.bring(store)
    table = DeltaTable(lake / "fact_order")
    assert table.version() == 1
    assert "note" in [one.name for one in table.schema().fields]
    assert same_rows(world, lake, "fact_order")
    world.remove("fact_order", FIRST + 1)
    world.bring(store)
    assert same_rows(world, lake, "fact_order")
    world.remove("fact_order", FIRST + 2)
    world.bring(store)
    assert len(read(lake, "fact_order")) == 0
    world.publish("fact_order", FIRST, seed=5)
    world.bring(store)
    assert same_rows(world, lake, "fact_order")


def test_history_can_be_read(world: World, lake: Path) -> None:
    world.publish("daily", FIRST, seed=1)
    store = store_of(lake)
    world.bring(store)
    before = world.rows("daily")
    world.publish("daily", FIRST, seed=2)
    world.bring(store)
    names = sorted(MODEL.names)
    assert rows_of(DeltaTable(lake / "daily", version=0).to_pyarrow_table(), names) == before != world.rows("daily")


@pytest.mark.parametrize("seed", range(20 if LONG else 4))
def test_random_histories_equal_a_plain_model(world: World, lake: Path, seed: int) -> None:
    """Contents, rows and columns after each step, with vacuum of everything that no version needs."""
    chance = random.Random(seed)
    store = store_of(lake, checkpoint=3)
    for number in range(12):
        world.step(chance)
        if number % 4 == 3:
            store = store_of(lake, checkpoint=3)
        world.bring(store)
        for table in {table for table, _ in world.wanted}:
            assert same_rows(world, lake, table)
    for (table, date), one in world.wanted.items():
        assert one.path is not None
        assert store.difference(table, date, one.path, lake) == ""


def test_a_file_that_comes_back_survives_vacuum(world: World, lake: Path) -> None:
    """A, B, and A again: the log has removed it once. Vacuum, once a day, removes what killed runs left, and B once it is old."""
    a = world.publish("daily", FIRST, seed=1)
    store = store_of(lake, vacuum=3600, checkpoint=1000)
    world.bring(store)
    b = world.publish("daily", FIRST, seed=2)
    world.bring(store)
    folder = lake / "daily" / "date=2024-10-04"
    a_path, b_path = (folder / f"daily-{one.sha256.hex()}.parquet" for one in (a, b))
    left = [folder / f"daily-{'0' * 64}.parquet", folder / f"daily-{'1' * 64}.parquet.tmp"]
    young = folder / f"daily-{'2' * 64}.parquet"
    for path in (*left, young):
        path.write_bytes(b"left by a killed run, or being uploaded")
    for path in (*left, a_path, b_path):
        os.utime(path, (time.time() - 7200,) * 2)
    world.wanted["daily", FIRST] = a
    world.bring(store)
    assert all(path.exists() for path in left), "there was a vacuum today"
    _edit_log(lake / "daily", _no_vacuum_today)
    world.publish("daily", FIRST + 1, seed=3)
    world.bring(store)
    assert not any(path.exists() for path in left)
    assert young.exists() and b_path.exists(), "the version that has B is young"
    _edit_log(lake / "daily", _no_vacuum_today)
    _edit_log(lake / "daily", _removed_long_ago)
    os.utime(a_path, (time.time() - 7200,) * 2)
    world.publish("daily", FIRST + 1, seed=4)
    world.bring(store)
    assert not b_path.exists() and a_path.exists()
    assert same_rows(world, lake, "daily")


def _edit_log(table: Path, edit: Callable[[dict], None]) -> None:
    """Changes the past."""
    for path in sorted((table / "_delta_log").glob("*.json")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines:
            edit(line)
        path.write_text("\n".join(map(json.dumps, lines)))


def _no_vacuum_today(line: dict) -> None:
    if line.get("txn", {}).get("appId") == "strandline.vacuum":
        line["txn"]["version"] -= 1


def _removed_long_ago(line: dict) -> None:
    if "remove" in line:
        line["remove"]["deletionTimestamp"] -= 7_200_000


def test_the_log_has_checkpoints_and_loses_what_is_old(world: World, lake: Path) -> None:
    """Every `checkpoint` commits; versions older than `vacuum` are no longer in the log. 0 keeps all."""
    for vacuum, is_kept in ((3600, False), (0, True)):
        place = lake / str(vacuum)
        store = store_of(place, vacuum=vacuum, checkpoint=3)
        log = place / "daily" / "_delta_log"
        for seed in range(4):
            world.publish("daily", FIRST, seed=seed)
            world.bring(store)
        assert list(log.glob("*.checkpoint.parquet"))
        for path in log.iterdir():
            os.utime(path, (time.time() - 4 * 86_400,) * 2)
        for seed in range(4, 10):
            world.publish("daily", FIRST, seed=seed)
            world.bring(store)
        assert (log / f"{0:020}.json").exists() == is_kept
        assert same_rows(world, place, "daily")


def test_a_setting_that_changes_is_changed_in_the_table(world: World, lake: Path) -> None:
    world.publish("daily", FIRST, seed=1)
    world.bring(store_of(lake, checkpoint=5))
    world.publish("daily", FIRST, seed=2)
    world.bring(store_of(lake, checkpoint=7))
    assert DeltaTable(lake / "daily").metadata().configuration["delta.checkpointInterval"] == "7"
    assert same_rows(world, lake, "daily")


def test_another_writer_is_noticed(world: World, lake: Path) -> None:
    """One that was faster since the comparison."""
    world.publish("daily", FIRST, seed=1)
    world.bring(store_of(lake))
    world.publish("daily", FIRST + 1, seed=2)
    late = world.delivery(store_of(lake))
    world.bring(store_of(lake))
    with pytest.raises(Unavailable, match="somebody else has changed the table daily"):
        store_of(lake).deliver(late)


@pytest.mark.parametrize("is_strandline", [True, False])
def test_a_commit_between_our_look_and_ours_is_noticed(
    world: World, lake: Path, monkeypatch: pytest.MonkeyPatch, is_strandline: bool
) -> None:
    """Also of a date that we do not change: neither commit is lost, and the next delivery makes the table right."""
    world.publish("daily", FIRST, seed=1)
    world.bring(store_of(lake))
    world.publish("daily", FIRST + 1, seed=2)
    store = store_of(lake)
    upload = store._files.upload

    def uploading(sources: Mapping[str, Path]) -> None:
        upload(sources)
        if not is_strandline:
            write_deltalake(str(lake / "daily"), read(lake, "daily").slice(0, 1), mode="append")
            return
        other = World(world.folder, dict(world.schemas), {("daily", FIRST): world.wanted["daily", FIRST]})
        other.publish("daily", FIRST + 3, seed=4)
        other.bring(store_of(lake))

    monkeypatch.setattr(store._files, "upload", uploading)
    with pytest.raises(Unavailable, match="somebody else has changed the table daily"):
        store.deliver(world.delivery(store))
    assert DeltaTable(lake / "daily").version() == 1
    world.bring(store_of(lake))
    assert same_rows(world, lake, "daily")


def test_two_that_make_the_same_table_do_not_mix(world: World, lake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world.publish("daily", FIRST, seed=1)
    store = store_of(lake)
    delivery = world.delivery(store)
    monkeypatch.setattr(store._files, "upload", lambda _: world.bring(store_of(lake)))
    with pytest.raises(Unavailable, match="somebody else has changed the table daily"):
        store.deliver(delivery)


def test_a_foreign_table_is_never_changed(world: World, lake: Path) -> None:
    write_deltalake(str(lake / "daily"), pa.table({"x": [1, 2]}))
    (lake / "notes").mkdir()
    world.publish("daily", FIRST, seed=1)
    store = store_of(lake)
    assert store.contents() == {}
    with pytest.raises(
        DownstreamFailed, match="a Delta table daily that strandline did not make; choose another url, or move it"
    ):
        store.deliver(world.delivery(store))
    assert DeltaTable(lake / "daily").version() == 0
    assert read(lake, "daily").to_pydict() == {"x": [1, 2]}


@pytest.mark.parametrize("what", ["compacted", "appended", "deleted", "restored"])
def test_what_others_do_to_a_table_of_ours_is_undone(world: World, lake: Path, what: str) -> None:
    """Where rows came from is known by the names of our files alone."""
    store = store_of(lake)
    for seed in (1, 2):
        for date in (FIRST, FIRST + 1):
            world.publish("daily", date, seed=seed)
        world.bring(store)
    table = DeltaTable(lake / "daily")
    if what == "compacted":
        table.optimize.z_order(["orders"])
    elif what == "appended":
        write_deltalake(table, read(lake, "daily").slice(0, 1), mode="append")
    elif what == "deleted":
        table.delete("orders = 2")
    else:
        table.restore(0)
    assert store.contents() != world.digests
    differing = [
        store.difference(name, date, one.path, lake)
        for (name, date), one in world.wanted.items()
        if one.path is not None
    ]
    assert any(differing) == (what != "compacted"), differing
    world.bring(store)
    assert same_rows(world, lake, "daily")
    paths = pa.table(DeltaTable(lake / "daily").get_add_actions())["path"].to_pylist()
    assert len(paths) == len(set(paths)) == 2
    for log in (lake / "daily" / "_delta_log").glob("*.json"):
        found = [
            (kind, one["path"])
            for line in log.read_text().splitlines()
            for kind, one in json.loads(line).items()
            if "path" in one
        ]
        assert len(found) == len({path for _, path in found}), "a path comes and goes in one commit"


def test_rows_without_a_date_are_an_error(world: World, lake: Path) -> None:
    world.publish("daily", FIRST, seed=1)
    store = store_of(lake)
    world.bring(store)
    row = read(lake, "daily").slice(0, 1)
    row = row.set_column(row.schema.get_field_index("date"), "date", pa.nulls(1, pa.date32()))
    write_deltalake(str(lake / "daily"), row, mode="append")
    with pytest.raises(DownstreamFailed, match="rows without a date to the table daily; delete them there"):
        store.contents()


def test_rows_that_can_go_without_a_trace_are_an_error(world: World, lake: Path) -> None:
    world.publish("daily", FIRST, seed=1)
    store = store_of(lake)
    world.bring(store)
    DeltaTable(lake / "daily").alter.add_feature(TableFeatures.DeletionVectors, allow_protocol_versions_increase=True)
    with pytest.raises(DownstreamFailed, match="has got the feature deletionVectors"):
        store.contents()


def test_a_damaged_file_is_found_and_repaired(world: World, lake: Path) -> None:
    """Delivered again, the same file is uploaded and no commit is made."""
    one = world.publish("daily", FIRST, seed=1)
    store = store_of(lake)
    world.bring(store)
    assert one.path is not None
    path = lake / "daily" / "date=2024-10-04" / f"daily-{one.sha256.hex()}.parquet"
    path.write_bytes(b"x" + path.read_bytes()[1:])
    assert "is damaged" in store.difference("daily", FIRST, one.path, lake)
    path.unlink()
    assert "is gone" in store.difference("daily", FIRST, one.path, lake)
    assert store.difference("daily", FIRST + 1, one.path, lake) == "it is not there"
    assert store.difference("weekly", FIRST, one.path, lake) == "it is not there"
    store.deliver(Delivery(store.contents(), [one], world.schemas, 9))
    assert store.difference("daily", FIRST, one.path, lake) == ""
    assert DeltaTable(lake / "daily").version() == 0
    other = world.publish("daily", FIRST, seed=2)
    assert other.path is not None
    assert store.difference("daily", FIRST, other.path, lake) == "7 rows are missing or differ"


@pytest.mark.parametrize(
    ("kind", "cast"),
    [
        (pa.uint32(), "CAST(x AS BIGINT)"), (pa.uint64(), "CAST(x AS DECIMAL(20, 0))"),
        (pa.time64("us"), "CAST(x AS VARCHAR)"),
        (pa.timestamp("ns"), "CAST(x AS TIMESTAMP)"),
        (pa.timestamp("ms", "UTC"), "CAST(x AS TIMESTAMP)"),
        (pa.month_day_nano_interval(), "CAST(x AS VARCHAR)"), (pa.duration("us"), "CAST(x AS VARCHAR)"),
        (pa.decimal256(60, 2), "CAST(x AS DECIMAL(38, 10))"), (pa.float16(), "CAST(x AS FLOAT)"),
        (pa.null(), "CAST(x AS VARCHAR)"),
        (pa.binary(16), "CAST(x AS VARCHAR)"), (pa.date64(), "CAST(x AS DATE)"),
        (pa.list_(pa.uint8()), "CAST(x[] AS BIGINT)"), (pa.struct([("y", pa.time32("s"))]), "CAST(x.y AS VARCHAR)"),
    ],
    ids=str,
)  # fmt: skip
def test_a_type_that_delta_has_not_is_named_with_the_cast(
    world: World, lake: Path, kind: pa.DataType, cast: str
) -> None:
    one = world.publish("daily", FIRST, seed=1)
    schema = pa.schema([*MODEL, pa.field("x", kind)])
    with pytest.raises(DownstreamFailed) as caught:
        store_of(lake).deliver(Delivery({}, [one], {"daily": schema}, 1))
    assert f"of daily has the type {kind if kind.num_fields == 0 else kind.field(0).type}" in str(caught.value)
    assert str(caught.value).endswith(f"write {cast}")
    assert not (lake / "daily").exists()


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a b"], "its name is empty or has a blank"),
        (["sum(x)"], "give it another one with AS"),
        (["Orders"], "takes them for one"),
    ],
)
def test_a_name_that_readers_refuse_is_an_error(world: World, lake: Path, names: list[str], said: str) -> None:
    one = world.publish("daily", FIRST, seed=1)
    schema = pa.schema([*MODEL, *(pa.field(name, pa.int64()) for name in names)])
    with pytest.raises(DownstreamFailed, match=said):
        store_of(lake).deliver(Delivery({}, [one], {"daily": schema}, 1))


def test_a_type_that_changes_needs_all_dates(world: World, lake: Path) -> None:
    """Where all files of the table are replaced, it gets the new columns; where some stay, it is an error."""
    narrow = pa.schema([("date", pa.date32()), ("orders", pa.string())])
    for date in (FIRST, FIRST + 1):
        world.publish("daily", date, seed=1)
    store = store_of(lake)
    world.bring(store)
    world.publish("daily", FIRST, seed=2, schema=narrow)
    with pytest.raises(DownstreamFailed, match="is string now, and int64 in the files of 1 dates, such as 2024-10-05"):
        store.deliver(world.delivery(store))
    world.publish("daily", FIRST + 1, seed=2, schema=narrow)
    world.bring(store)
    assert same_rows(world, lake, "daily")
    assert read(lake, "daily").schema.names == ["date", "orders"]


def test_instants_without_a_zone_come_to_a_table_that_had_none(world: World, lake: Path) -> None:
    """They need a table feature, without which the table could not be read any more."""
    wide = pa.schema([*MODEL, ("at", pa.timestamp("us"))])
    world.publish("daily", FIRST, seed=1)
    store = store_of(lake)
    world.bring(store)
    world.publish("daily", FIRST + 1, seed=1, schema=wide)
    world.bring(store)
    assert same_rows(world, lake, "daily")
    world.publish("other", FIRST, seed=1, schema=wide)
    world.bring(store)
    assert same_rows(world, lake, "other")


def test_nested_values_are_kept(world: World, lake: Path) -> None:
    """Lists, structs and maps; also when a date comes to a table that has them already."""
    schema = pa.schema(
        [
            ("date", pa.date32()), ("tags", pa.list_(pa.string())), ("best", pa.struct([("sku", pa.string())])),
            ("parts", pa.map_(pa.string(), pa.list_(pa.int64()))),
        ]
    )  # fmt: skip
    store = store_of(lake)
    for date in (FIRST, FIRST + 1):
        days = pa.array([date] * 2, pa.int32()).cast(pa.date32())
        columns = [days, [["a"], None], [{"sku": "x"}, None], [[("y", [1, 2])], None]]
        rows = pa.table(columns, schema=schema)
        path = world.folder / f"{date}.parquet"
        path.write_bytes(bytes(encode(rows)))
        one = Change("nested", date, path, hashlib.sha256(path.read_bytes()).digest(), path.stat().st_size)
        store.deliver(Delivery(store.contents(), [one], {"nested": schema}, 1))
    found = read(lake, "nested").to_pylist()
    assert sorted(map(repr, found)) == sorted(
        repr(row)
        for date in (FIRST, FIRST + 1)
        for row in pq.ParquetFile(world.folder / f"{date}.parquet").read().to_pylist()
    )
    other = world.folder / "other.parquet"
    other.write_bytes(bytes(encode(rows.slice(0, 1))))
    assert store.difference("nested", FIRST + 1, other, lake) == "1 rows are too many"
    other.write_bytes(bytes(encode(rows.set_column(1, "tags", [["a", "b"]]))))
    assert store.difference("nested", FIRST + 1, other, lake) == "its columns have other types"


def test_an_output_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "ledger.sqlite").touch()
    with pytest.raises(DownstreamFailed, match="is an output folder of strandline"):
        store_of(tmp_path)


def test_a_damaged_log_is_named(world: World, lake: Path) -> None:
    world.publish("daily", FIRST, seed=1)
    store = store_of(lake)
    world.bring(store)
    (lake / "daily" / "_delta_log" / f"{1:020}.json").write_text('{"add":')
    with pytest.raises(DownstreamFailed, match="could not read the log of the table daily: Kernel error: Json error"):
        store.contents()


def test_the_settings_of_a_section_are_what_it_takes(world: World, lake: Path) -> None:
    """The defaults, too."""
    (section,) = destinations_of({"table": {"lake": {"url": str(lake)}}}, lake / "config.toml")
    store = Delta(Target("table", "lake", section.values()))
    world.publish("daily", FIRST, seed=1)
    world.bring(store)
    configuration = DeltaTable(lake / "daily").metadata().configuration
    assert configuration["delta.checkpointInterval"] == "10"
    assert configuration["delta.deletedFileRetentionDuration"] == f"interval {30 * 86_400} seconds"


_DUCKDB_READS = """
import glob, sys
import duckdb, duckdb_ext
(path,) = glob.glob(list(duckdb_ext.__path__)[0] + "/extensions/*/*/delta.duckdb_extension")
con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
con.load_extension(path)
where = sys.argv[1]
query = "SELECT date::VARCHAR, orders, amount::VARCHAR, best FROM delta_scan('{}/daily') ORDER BY ALL"
print(con.sql(query.format(where)).fetchall())
query = "SELECT count(*) FROM delta_scan('{}/fact_order') WHERE created_at >= TIMESTAMPTZ '2024-10-06 00:00:00+00'"
print(con.sql(query.format(where)).fetchall())
"""


def test_duckdbs_own_extension_reads_the_same(world: World, lake: Path) -> None:
    """After removals, new columns and checkpoints. The extension comes from a server, or in a package for one of its versions."""
    python = os.environ.get("DUCKDB_DELTA_PYTHON")
    if not python:
        pytest.skip("DUCKDB_DELTA_PYTHON is not set: an interpreter with pip install duckdb-ext-delta pytz")
    chance, store = random.Random(5), store_of(lake, checkpoint=3)
    for _ in range(15):
        world.step(chance)
        world.bring(store)
    world.publish("daily", FIRST, seed=1)
    for date in (FIRST, FIRST + 2):
        world.publish("fact_order", date, seed=1)
    world.bring(store)
    ended = subprocess.run([python, "-c", _DUCKDB_READS, str(lake)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    daily, counts = map(ast.literal_eval, ended.stdout.splitlines())
    names = sorted(MODEL.names)
    wanted = [dict(zip(names, row, strict=True)) for row in world.rows("daily")]
    assert daily == sorted((str(one["date"]), one["orders"], str(one["amount"]), one["best"]) for one in wanted)
    names = sorted(world.schemas["fact_order"].names)
    instants = [row[names.index("created_at")] for row in world.rows("fact_order")]
    assert counts == [(sum(one >= datetime.datetime(2024, 10, 6, tzinfo=datetime.UTC) for one in instants),)]
    assert counts != [(len(instants),)]
