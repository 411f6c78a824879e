"""Loads into Redshift: nothing of this has run against one. Its statements are parsed in its dialect; those that PostgreSQL
shares run there; what COPY would read wrongly is refused before."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from sqlglot import exp

from daemon.core.ddl import TABLES, ddl
from daemon.core.errors import Unavailable
from daemon.core.model import DIM_USER, FACT, ITEMS
from daemon.downstream.contract import WHOLE, DownstreamFailed
from daemon.downstream.destinations import postgres as postgres_module
from daemon.downstream.destinations import postgres_sql as sql
from daemon.downstream.destinations.object_store import opened
from daemon.downstream.destinations.objects import Objects
from daemon.downstream.destinations.postgres import Postgres
from daemon.downstream.destinations.redshift import FromMirror, manifest, object_name
from daemon.downstream.destinations.store import Change, Delivery, Target
from tests.support.loads import DAY, change, fact, items, query, target, users
from tests.support.s3 import bucket, options
from tests.support.s3 import server as s3_server
from tests.support.sql import parsed

ROLE = "arn:aws:iam::123456789012:role/loader"


def redshift(dsn: str = "host=/nowhere", **values: Any) -> Target:
    settings = {
        "dialect": "redshift",
        "mirror": "s3",
        "mirror_url": "s3://bucket/shop",
        "mirror_options": {},
        "iam_role": ROLE,
    }
    return target(dsn, **settings | values)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with s3_server() as url:
        yield url


class Mirror:
    """A real mirror in a bucket of its own, with these files."""

    def __init__(self, s3: str, folder: Path, changes: Sequence[Change]) -> None:
        self.url = f"{bucket(s3, folder.name.replace('_', '-').lower())}/shop"
        self.options = options(s3)
        self._mirror = Objects(Target("mirror", "s3", {"url": self.url, "options": self.options}))
        self.deliver(changes)

    def deliver(self, changes: Sequence[Change]) -> None:
        self._mirror.deliver(Delivery(self._mirror.contents(), changes, {}, 1))

    def target(self, dsn: str = "host=/nowhere") -> Target:
        return redshift(dsn, mirror_url=self.url, mirror_options=self.options)

    def of(self) -> FromMirror:
        return FromMirror(self.target())

    def object(self, url: str) -> bytes | None:
        """The content of an object."""
        return opened(Target("mirror", "s3", {"url": self.url, "options": self.options})).read(
            url.removeprefix(f"{self.url}/")
        )


def columns(table: str, schema: pa.Schema) -> list[tuple[str, str]]:
    """Those of a table that was made for these files."""
    return [(one.name, one.type) for one in sql.columns_of(table, schema, "redshift")]


def files(changes: Sequence[Change]) -> list[tuple[Change, Path]]:
    return [(one, one.path) for one in changes if one.path is not None]


def test_the_tables_are_those_of_the_ddl() -> None:
    """The same columns, types, keys and layout as `strandline schema --dialect redshift` prints."""
    schemas = {
        "fact_order": FACT,
        "order_items": ITEMS,
        "dim_user": DIM_USER,
        "dim_product": TABLES["dim_product"].schema,
    }
    printed = {one.find(exp.Table).name: one for one in parsed(ddl("redshift"), "redshift")}
    for name, schema in schemas.items():
        (made,) = parsed(
            sql.create_table("strandline", name, sql.columns_of(name, schema, "redshift"), "redshift"), "redshift"
        )
        for part in (exp.ColumnDef, exp.PrimaryKey, exp.DistStyleProperty, exp.SortKeyProperty):
            found = [
                [one.sql("redshift", comments=False).replace('"', "") for one in each.find_all(part)]
                for each in (made, printed[name])
            ]
            assert found[0] == found[1] != [], part


def test_each_statement_is_sql_of_redshift() -> None:
    """Parsed strictly: sqlglot has no opaque command in them. LOCK and BEGIN READ ONLY are left to Redshift's documentation."""
    columns = sql.columns_of("fact_order", FACT, "redshift")
    now = datetime(2026, 3, 1, tzinfo=UTC)
    statements = [
        sql.schemas("s"), sql.relations("s"), sql.existing_columns("s", "t"), sql.create_schema("s"), sql.create_loaded("s"),
        sql.create_table("s", "fact_order", columns, "redshift"), sql.add_column("s", "t", columns[1]), sql.loaded("s"),
        sql.any_rows("s", "t", [DAY], "date"), sql.any_rows("s", "t", None, ""),
        sql.delete_rows("s", "t", [DAY, DAY + 1], "date"),
        sql.delete_rows("s", "t", None, ""), sql.forget("s", "t", [DAY]), sql.forget("s", "t", None),
        *sql.remember("s", {("t", DAY): (b"\1" * 32, 5), ("d", WHOLE): (b"\2" * 32, 6)}, 7, now),
        sql.copy_manifest("s", "t", "s3://bucket/m.json", ROLE), sql.copy_manifest("s", "t", "s3://bucket/it's", "default"),
        sql.select_rows("s", "t", ["a", "b"], DAY, "date"),
    ]  # fmt: skip
    for statement in statements:
        assert len(parsed(statement, "redshift")) == 1
    assert sql.copy_manifest("s", "t", "s3://bucket/m.json", ROLE) == (
        f"COPY \"s\".\"t\" FROM 's3://bucket/m.json' IAM_ROLE '{ROLE}' FORMAT AS PARQUET MANIFEST"
    )
    assert "'s3://bucket/it''s' IAM_ROLE default FORMAT" in statements[-2]


def test_a_manifest_has_exactly_the_files_of_the_delivery(tmp_path: Path) -> None:
    """Under the names that a mirror gives them, with their lengths."""
    changes = [change(tmp_path, "fact_order", day, fact(day, {"a": 1})) for day in (DAY, DAY + 3)]
    entries = json.loads(manifest("s3://bucket/shop", files(changes)))["entries"]
    assert entries == [
        {
            "url": f"s3://bucket/shop/curated/date={day}/fact_order.parquet",
            "mandatory": True,
            "meta": {"content_length": one.bytes},
        }
        for day, one in zip(("2026-03-01", "2026-03-04"), changes, strict=True)
    ]
    assert object_name("dim_user", WHOLE) == "curated/dim_user.parquet"
    assert object_name("daily_revenue", DAY) == "models/daily_revenue/date=2026-03-01/daily_revenue.parquet"


def test_copy_is_from_a_manifest_whose_objects_are_the_files(s3: str, tmp_path: Path) -> None:
    """One object per table of a load. Each URL in it is an object with the content of the file, and the length that it says."""
    day = pa.array([DAY], pa.int32()).cast(pa.date32())
    model = pa.table({"date": day, "v": pa.array([1], pa.int64())})
    changes = [
        change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1})),
        change(tmp_path, "fact_order", DAY + 1, fact(DAY + 1, {"b": 2})),
        change(tmp_path, "order_items", DAY, items(DAY, {"a": 1})), change(tmp_path, "dim_user", WHOLE, users(["u"])),
        change(tmp_path, "daily", DAY, model),
    ]  # fmt: skip
    mirror = Mirror(s3, tmp_path, changes)
    schemas = {"fact_order": FACT, "order_items": ITEMS, "dim_user": DIM_USER, "daily": model.schema}
    for table, schema in schemas.items():
        some = files([one for one in changes if one.table == table])
        statement = mirror.of().copy(table, some, columns(table, schema))
        url = f"{mirror.url}/manifests/shop/{table}.json"
        assert f"FROM '{url}' IAM_ROLE '{ROLE}'" in statement
        written = mirror.object(url)
        assert written == manifest(mirror.url, some)
        for entry, (_, path) in zip(json.loads(written or b"")["entries"], some, strict=True):
            content = mirror.object(entry["url"])
            assert content == path.read_bytes() and len(content) == entry["meta"]["content_length"]


def test_a_file_that_the_mirror_does_not_have_is_waited_for(s3: str, tmp_path: Path) -> None:
    """Another one of the same length would be loaded under the wrong SHA-256."""
    one = change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))
    mirror = Mirror(s3, tmp_path, [change(tmp_path, "fact_order", DAY, fact(DAY, {"b": 1}))])
    with pytest.raises(
        Unavailable, match=r"\[mirror.s3\] does not have curated/date=2026-03-01/fact_order.parquet as it is"
    ):
        mirror.of().copy("fact_order", files([one]), columns("fact_order", FACT))
    assert mirror.object("manifests/shop/fact_order.json") is None


def test_columns_at_another_position_are_refused(s3: str, tmp_path: Path) -> None:
    """COPY takes them by position: fewer columns, or another order, would be other values."""
    wide = change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}, (("note", "text"),)))
    narrow = change(tmp_path, "fact_order", DAY + 1, fact(DAY + 1, {"b": 1}))
    mirror = Mirror(s3, tmp_path, [wide, narrow])
    loader, there, note = mirror.of(), columns("fact_order", FACT), ("note", "character varying(256)")
    with pytest.raises(DownstreamFailed, match=r"by position and type\. Run `strandline rebuild`"):
        loader.copy("fact_order", files([wide, narrow]), [*there, note])
    with pytest.raises(DownstreamFailed, match="by position"):
        loader.copy("fact_order", files([wide]), [note, *there])
    with pytest.raises(DownstreamFailed, match="by position"):
        loader.copy("fact_order", files([wide]), [*there, ("note", "boolean")])
    assert mirror.object("manifests/shop/fact_order.json") is None
    assert loader.copy("fact_order", files([wide]), [*there, note])


def test_a_text_with_nul_is_refused(s3: str, tmp_path: Path) -> None:
    """The file goes to Redshift as it is."""
    one = change(tmp_path, "fact_order", DAY, fact(DAY, {"a\0": 1}))
    with pytest.raises(DownstreamFailed, match=r"U\+0000"):
        Mirror(s3, tmp_path, [one]).of().copy("fact_order", files([one]), columns("fact_order", FACT))


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (pa.array([1], pa.int8()), None),
        (pa.array([1], pa.uint32()), None),
        (pa.array([1], pa.timestamp("ns")), None),
        (pa.array([Decimal(1)], pa.decimal128(38, 4)), None),
        (pa.array([b"x"]), None),
        (pa.array([[1]]), None),
        (pa.array([1], pa.int32()), "integer"),
        (pa.array(["x"]), "character varying(65535)"),
        (pa.array([Decimal(1)], pa.decimal128(18, 4)), "numeric(18,4)"),
        (pa.array([1], pa.timestamp("us", "UTC")), "timestamp without time zone"),
    ],
)
def test_types_of_models_that_are_not_known_to_work_are_refused(column: pa.Array, kind: str | None) -> None:
    """With what to cast them to."""
    schema = pa.schema([("v", column.type)])
    if kind is None:
        with pytest.raises(sql.Unfit, match=r"the column v is .*in the model"):
            sql.columns_of("model", schema, "redshift")
    else:
        assert [one.type for one in sql.columns_of("model", schema, "redshift")] == [kind]


def test_names_with_capitals_are_refused() -> None:
    """Redshift makes them small, also in quotes: the column would not be found again."""
    with pytest.raises(sql.Unfit, match="rename the column Total"):
        sql.columns_of("model", pa.schema([("Total", pa.int64())]), "redshift")


def test_a_mirror_that_is_not_on_s3_is_refused(tmp_path: Path) -> None:
    """Redshift reads nothing else."""
    with pytest.raises(DownstreamFailed, match="copies from S3 only"):
        Postgres(redshift(mirror_url=str(tmp_path / "mirror")))


def test_a_delivery_with_the_statements_that_postgresql_shares(
    database: str, s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The delivery for Redshift runs in PostgreSQL, but for two things that it does not have: the layout of tables is left out,
    and COPY from S3 is replaced by the rows of the files of its manifest. Rows, what is recorded, and the order of statements
    are those of Redshift."""
    said: list[str] = []
    run = postgres_module.Connection._rows
    first = [change(tmp_path, "fact_order", day, fact(day, {f"a{day}": 2})) for day in (DAY, DAY + 1)]
    first += [
        change(tmp_path, "order_items", DAY, items(DAY, {"a": 1})),
        change(tmp_path, "dim_user", WHOLE, users(["u"])),
    ]
    second = [change(tmp_path, "fact_order", DAY, fact(DAY, {f"a{DAY + 1}": 1})), Change("fact_order", DAY + 1, None)]
    mirror = Mirror(s3, tmp_path, first)

    def statement(self: postgres_module.Connection, attempted: str, text: str) -> pa.Table:
        said.append(text)
        if text.startswith("COPY"):
            assert parsed(text, "redshift")
            name = text.split("'")[1]
            entries = json.loads(mirror.object(name) or b"")["entries"]
            table = Path(name).stem
            schema = {"fact_order": FACT, "order_items": ITEMS, "dim_user": DIM_USER}[table]
            rows = postgres_module.Rows(sql.columns_of(table, schema, "postgres"))
            contents = [mirror.object(entry["url"]) for entry in entries]
            paths = [tmp_path / f"copied-{number}" for number in range(len(contents))]
            for path, content in zip(paths, contents, strict=True):
                path.write_bytes(content or b"")
            batches = (batch for path in paths for batch in rows.of(path))
            self.copy(attempted, "strandline", table, batches, rows.schema)
            return pa.table({})
        for layout in (one.redshift for one in TABLES.values()):
            text = text.removesuffix(f" {layout}")
        return run(self, attempted, text)

    monkeypatch.setattr(postgres_module.Connection, "_rows", statement)
    store = Postgres(mirror.target(database))
    schemas = {"fact_order": FACT, "order_items": ITEMS, "dim_user": DIM_USER}
    store.deliver(Delivery(store.contents(), first, schemas, 1))
    del said[:]
    mirror.deliver(second)
    delivered = store.deliver(Delivery({one.key: one.sha256 for one in first}, second, schemas, 2))
    assert delivered.rows == 1
    words = [text.split()[0] for text in said if not text.startswith("SELECT")]
    assert words == ["BEGIN", "LOCK", "DELETE", "COPY", "DELETE", "INSERT", "COMMIT"]
    assert query(database, "SELECT order_id, date FROM strandline.fact_order") == [
        (f"a{DAY + 1}", datetime(2026, 3, 1).date())
    ]
    assert store.contents().keys() == {("fact_order", DAY), ("order_items", DAY), ("dim_user", WHOLE)}
    store.close()
