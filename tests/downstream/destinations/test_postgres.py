"""Loads into a real PostgreSQL: equal rows after random histories, and what is refused."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

from daemon.core.columns import fact_schema
from daemon.core.errors import Unavailable
from daemon.core.model import DIM_USER, FACT, ITEMS
from daemon.downstream.contract import WHOLE, DownstreamFailed
from daemon.downstream.destinations.postgres import Postgres
from daemon.downstream.destinations.store import Change, Delivered, Delivery
from tests.support.examples import LONG
from tests.support.loads import (
    DAY,
    EPOCH,
    after,
    change,
    deliver,
    expected,
    fact,
    items,
    query,
    rows,
    target,
    users,
)

REVENUE = pa.schema([("date", pa.date32()), ("total", pa.decimal128(30, 2)), ('Gross "€"', pa.float64())])


@pytest.fixture
def store(database: str) -> Iterator[Postgres]:
    one = Postgres(target(database))
    yield one
    one.close()


# ------------------------------------------------------------------------------------------------------------- equality


def revenue(day: int, count: int, random_: random.Random) -> pa.Table:
    dates = pa.array([day] * count, pa.int32()).cast(pa.date32())
    totals = pa.array([random_.randrange(-(10**20), 10**20) for _ in range(count)], pa.decimal128(30, 0))
    return pa.table(
        [dates, totals.cast(pa.decimal128(30, 2)), [random_.random() for _ in range(count)]], schema=REVENUE
    )


@pytest.mark.parametrize("seed", range(20 if LONG else 2))
def test_rows_equal_the_files_after_random_histories(database: str, tmp_path: Path, seed: int) -> None:
    """Deliveries that add, replace, remove and move orders, of several tables together; stores that are opened again. The rows
    are those of the last files, and `contents` names these files."""
    choose = random.Random(seed)
    held: dict[tuple[str, int], pa.Table] = {}
    recorded: dict[tuple[str, int], bytes] = {}
    homes: dict[str, int] = {}
    store = Postgres(target(database))
    for batch in range(1, 16):
        touched = {}
        for order in choose.sample(range(40), choose.randrange(1, 12)):
            name, day = f"o{order}", DAY + choose.randrange(6)
            touched |= {homes.pop(name, day): True, day: True}
            if choose.random() < 0.8:
                homes[name] = day
        contents: dict[tuple[str, int], pa.Table | None] = {}
        for day in touched:
            orders = {name: choose.randrange(1, 4) for name, home in homes.items() if home == day}
            contents |= {("fact_order", day): fact(day, orders) if orders else None}
            contents |= {("order_items", day): items(day, orders) if orders else None}
            contents |= {("revenue", day): revenue(day, choose.randrange(5), choose) if orders else None}
        if choose.random() < 0.5:
            contents["dim_user", WHOLE] = users([f"u{number}" for number in range(choose.randrange(5))])
        changes = [change(tmp_path, table, day, content) for (table, day), content in contents.items()]
        choose.shuffle(changes)
        delivered = deliver(store, changes, {"revenue": REVENUE}, batch)
        assert delivered.rows == sum(len(one) for one in contents.values() if one is not None)
        assert delivered.bytes == sum(one.bytes for one in changes)
        held = {key: one for key, one in (held | contents).items() if one is not None}
        recorded = after(recorded, changes)
        if choose.random() < 0.3:
            store.close()
            store = Postgres(target(database))
        assert store.contents() == recorded
    for table, schema in {"fact_order": FACT, "order_items": ITEMS, "dim_user": DIM_USER, "revenue": REVENUE}.items():
        if any(name == table for name, _ in held):
            assert rows(database, table, schema.names) == expected(held, table, schema.names)
            assert all(
                store.difference(table, one.date, one.path, tmp_path) == ""
                for one in (change(tmp_path, *key, content) for key, content in held.items() if key[0] == table)
                if one.path is not None
            )
    counts = query(database, "SELECT table_name, date - DATE '1970-01-01', row_count FROM strandline.strandline_loaded")
    assert {(name, WHOLE if day is None else day): count for name, day, count in counts} == {
        key: len(content) for key, content in held.items()
    }
    store.close()


def test_a_file_is_loaded_a_batch_at_a_time(store: Postgres, database: str, tmp_path: Path) -> None:
    """More rows than a batch has, and two files in one COPY."""
    changes = []
    for day in (DAY, DAY + 1):
        table = pa.concat_tables([fact(day, {f"{day}": 1})] * 20_000)
        numbers = pa.array(range(len(table)), pa.int32())
        table = table.set_column(FACT.names.index("line_number"), FACT.field("line_number"), numbers)
        changes.append(change(tmp_path, "fact_order", day, table))
    deliver(store, changes)
    found = query(database, "SELECT date, count(*), sum(line_number) FROM strandline.fact_order GROUP BY 1 ORDER BY 1")
    assert [(count, total) for _, count, total in found] == [(20_000, sum(range(20_000)))] * 2


def test_a_dimension_is_replaced_whole(store: Postgres, database: str, tmp_path: Path) -> None:
    """Its file has no date, and `date` is NULL in the table of what is loaded."""
    deliver(store, [change(tmp_path, "dim_user", WHOLE, users(["a", "b"]))])
    deliver(store, [change(tmp_path, "dim_user", WHOLE, users(["b", "c"]))])
    assert [row[0] for row in rows(database, "dim_user", ["user_id"])] == ["b", "c"]
    assert query(database, "SELECT table_name, date FROM strandline.strandline_loaded") == [("dim_user", None)]
    deliver(store, [Change("dim_user", WHOLE, None)])
    assert rows(database, "dim_user", ["user_id"]) == [] and store.contents() == {}


def test_tables_have_the_types_the_key_and_an_index_on_date(store: Postgres, database: str, tmp_path: Path) -> None:
    """Those of `strandline schema`: an empty table that was made with it is taken."""
    deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))])
    found = query(
        database, "SELECT indexdef FROM pg_indexes WHERE schemaname = 'strandline' AND tablename = 'fact_order'"
    )
    assert any("UNIQUE" in one and "(order_id, line_number)" in one for (one,) in found)
    assert any(one.endswith("(date)") for (one,) in found)
    from daemon.core.ddl import ddl

    with psycopg.connect(database) as connection:
        connection.execute("CREATE SCHEMA other")
        connection.execute("SET search_path = other")
        connection.execute(ddl("postgres"))
    columns = "SELECT table_name, column_name, data_type, is_nullable, numeric_scale FROM information_schema.columns "
    ours = query(
        database, f"{columns} WHERE table_schema = 'strandline' AND table_name = 'fact_order' ORDER BY ordinal_position"
    )
    assert ours == query(
        database, f"{columns} WHERE table_schema = 'other' AND table_name = 'fact_order' ORDER BY ordinal_position"
    )
    other = Postgres(target(database, schema="other"))
    deliver(other, [change(tmp_path, name, DAY, one) for name, one in {
        "fact_order": fact(DAY, {"a": 1}), "order_items": items(DAY, {"a": 1})}.items()])  # fmt: skip
    indexes = query(database, "SELECT count(*) FROM pg_indexes WHERE schemaname = 'other' AND indexdef LIKE '%(date)'")
    assert indexes == [(2,)]  # those that were there
    other.close()


def test_columns_that_are_added_later(store: Postgres, database: str, tmp_path: Path) -> None:
    """The table gets them; files that lack them leave NULL; a column with nothing but NULL has no type, and comes with it."""
    deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))])
    columns = (("order", "text"), ("vip", "boolean"))
    wide = fact_schema(columns)
    changes = [
        change(tmp_path, "fact_order", DAY + 1, fact(DAY + 1, {"b": 1}, columns, {"order": "x", "vip": True})),
        change(tmp_path, "fact_order", DAY + 2, fact(DAY + 2, {"c": 1})),
    ]
    deliver(store, changes, {"fact_order": wide})
    found = rows(database, "fact_order", ["order_id", "order", "vip"])
    assert found == [("a", None, None), ("b", "x", True), ("c", None, None)]
    days = pa.array([DAY], pa.int32()).cast(pa.date32())
    unknown = pa.table({"date": days, "why": pa.nulls(1)})
    known = pa.table({"date": days, "why": ["because"]})
    deliver(store, [change(tmp_path, "model", DAY, unknown)], {"model": unknown.schema})
    deliver(store, [change(tmp_path, "model", DAY, known)], {"model": known.schema})
    assert rows(database, "model", ["why"]) == [("because",)]
    deliver(store, [change(tmp_path, "model", DAY, unknown)], {"model": unknown.schema})
    assert rows(database, "model", ["why"]) == [(None,)]


def test_a_text_with_nul_is_loaded_without_it_and_counted(store: Postgres, database: str, tmp_path: Path) -> None:
    """Texts are counted, not characters; `difference` removes them alike."""
    table = fact(DAY, {"a\0b": 2, "c": 1})
    first = change(tmp_path, "fact_order", DAY, table)
    assert deliver(store, [first]) == Delivered(3, first.bytes, 2)
    assert [row[0] for row in rows(database, "fact_order", ["order_id"])] == ["ab", "ab", "c"]
    assert first.path is not None and store.difference("fact_order", DAY, first.path, tmp_path) == ""
    assert deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"c": 1}))]).altered == 0
    with pytest.raises(DownstreamFailed, match=r"same key.*U\+0000.*23505"):
        deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"a\0": 1, "a": 1}))])


def test_difference_counts_rows_as_multisets(store: Postgres, database: str, tmp_path: Path) -> None:
    """A value that differs in its last digit is another row; equal rows count as often as they are there."""
    schema = pa.schema([("date", pa.date32()), ("amount", pa.float64())])
    day = pa.array([DAY] * 4, pa.int32()).cast(pa.date32())
    one = change(tmp_path, "model", DAY, pa.table([day, [0.1, 0.1, -0.0, float("nan")]], schema=schema))
    assert one.path is not None
    deliver(store, [one], {"model": schema})
    assert store.difference("model", DAY, one.path, tmp_path) == ""
    query(database, "UPDATE strandline.model SET amount = 0.0 WHERE amount = 0")
    assert store.difference("model", DAY, one.path, tmp_path) == "1 row is missing, 1 is not in the file"
    query(database, "DELETE FROM strandline.model WHERE amount = 0.1::float8")
    assert store.difference("model", DAY, one.path, tmp_path) == "3 rows are missing, 1 is not in the file"
    query(database, "TRUNCATE strandline.model")
    query(
        database,
        "INSERT INTO strandline.model SELECT date '2026-03-01', a FROM unnest('{0.1,0.1,0.1,-0,NaN}'::float8[]) a",
    )
    assert store.difference("model", DAY, one.path, tmp_path) == "1 row is not in the file"
    query(database, "ALTER TABLE strandline.model ALTER amount TYPE text")
    assert store.difference("model", DAY, one.path, tmp_path) == "the column amount is text, and not double precision"
    query(database, "DROP TABLE strandline.model")
    assert store.difference("model", DAY, one.path, tmp_path) == "there is no table model"


# ----------------------------------------------------------------------------------------------------- what is recorded


def test_contents_of_a_new_database_are_empty(store: Postgres, database: str) -> None:
    """No schema, no table, and nothing is made; also where nothing may be written."""
    assert store.contents() == {}
    assert query(database, "SELECT 1 FROM pg_namespace WHERE nspname = 'strandline'") == []
    query(database, "ALTER DATABASE shop SET default_transaction_read_only = on")
    reader = Postgres(target(database))
    assert reader.contents() == {}
    reader.close()


def test_a_table_that_was_dropped_is_not_among_the_contents(store: Postgres, database: str, tmp_path: Path) -> None:
    """So everything of it is loaded again; the other tables stay."""
    first = [change(tmp_path, "fact_order", DAY + number, fact(DAY + number, {f"{number}": 1})) for number in range(3)]
    deliver(store, [*first, change(tmp_path, "dim_user", WHOLE, users(["a"]))])
    query(database, "DROP TABLE strandline.fact_order")
    assert store.contents().keys() == {("dim_user", WHOLE)}
    deliver(store, first[:2])
    assert store.contents().keys() == {("dim_user", WHOLE), ("fact_order", DAY), ("fact_order", DAY + 1)}
    deliver(store, first[2:])
    assert [row[0] for row in rows(database, "fact_order", ["order_id"])] == ["0", "1", "2"]


def test_a_database_that_has_something_else_by_now_is_left_alone(
    store: Postgres, database: str, tmp_path: Path
) -> None:
    """A restored backup, or another writer: the round asks again and delivers what differs."""
    first = change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))
    deliver(store, [first])
    before = store.contents()
    other = Postgres(target(database))
    deliver(other, [change(tmp_path, "fact_order", DAY + 1, fact(DAY + 1, {"b": 1}))])
    other.close()
    late = Delivery(before, [change(tmp_path, "fact_order", DAY, fact(DAY, {"c": 1}))], {"fact_order": FACT}, 2)
    with pytest.raises(Unavailable, match="not what it was"):
        store.deliver(late)
    assert [row[0] for row in rows(database, "fact_order", ["order_id"])] == ["a", "b"]
    deliver(store, late.changes)
    assert [row[0] for row in rows(database, "fact_order", ["order_id"])] == ["b", "c"]


def test_two_writers_at_once_exclude_each_other(database: str, tmp_path: Path) -> None:
    """Of two deliveries that began with the same contents, one is made and the other one refused."""
    stores = [Postgres(target(database)) for _ in range(2)]
    outcomes: list[str] = []

    def run(store: Postgres, name: str) -> None:
        try:
            store.deliver(
                Delivery({}, [change(tmp_path, "fact_order", DAY, fact(DAY, {name: 3}))], {"fact_order": FACT}, 1)
            )
            outcomes.append(name)
        except Unavailable as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=run, args=(store, f"w{number}")) for number, store in enumerate(stores)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    (won,) = [one for one in outcomes if len(one) == 2]
    assert sum("not what it was" in one for one in outcomes) == 1
    assert [row[0] for row in rows(database, "fact_order", ["order_id"])] == [won] * 3
    for one in stores:
        one.close()


# ---------------------------------------------------------------------------------------------------------- readers


def test_a_reader_never_sees_half_a_batch_or_an_order_twice(database: str, tmp_path: Path) -> None:
    """100 orders move between dates in each delivery, which also writes its number into a model. Each snapshot of a concurrent
    reader has every order once, on the dates that its delivery gave it."""
    store, choose, done, seen = Postgres(target(database)), random.Random(5), threading.Event(), []
    schema = pa.schema([("date", pa.date32()), ("batch", pa.int64())])

    def read() -> None:
        with psycopg.connect(database, options="-c default_transaction_isolation=repeatable\\ read") as connection:
            while not done.is_set():
                orders = connection.execute("SELECT order_id, date FROM strandline.fact_order").fetchall()
                items_ = connection.execute("SELECT order_id, date FROM strandline.order_items").fetchall()
                batch = connection.execute("SELECT batch FROM strandline.model").fetchall()
                connection.rollback()
                seen.append((sorted(orders), sorted(items_), batch))

    homes: dict[int, dict[str, int]] = {}
    reader = threading.Thread(target=read)
    for batch in range(15):
        homes[batch] = {f"o{number}": DAY + choose.randrange(4) for number in range(100)}
        changes = []
        for day in range(DAY, DAY + 4):
            orders = {name: 1 for name, home in homes[batch].items() if home == day}
            changes += [
                change(tmp_path, "fact_order", day, fact(day, orders)), change(tmp_path, "order_items", day, items(day, orders)),
            ]  # fmt: skip
        days = pa.array([DAY], pa.int32()).cast(pa.date32())
        changes.append(change(tmp_path, "model", DAY, pa.table([days, [batch]], schema=schema)))
        deliver(store, changes, {"model": schema}, batch)
        if batch == 0:
            reader.start()
        count = len(seen)
        # Each batch is seen, and each delivery read beside
        while len(seen) < count + 2 and (reader.is_alive() or batch == 0):
            time.sleep(0.001)
    done.set()
    reader.join()
    store.close()
    assert {number for ((number,),) in (one[2] for one in seen)} == set(homes)
    for orders, items_, batch_rows in seen:
        ((number,),) = batch_rows
        wanted = sorted((name, day) for name, day in homes[number].items())
        assert [(name, (day - EPOCH).days) for name, day in orders] == wanted
        assert [(name, (day - EPOCH).days) for name, day in items_] == wanted


# ------------------------------------------------------------------------------------------------------ what is refused


def _other_table(database: str, definition: str, insert: str = "") -> None:
    query(database, "CREATE SCHEMA IF NOT EXISTS strandline")
    query(database, f"{definition}")
    if insert:
        query(database, insert)


_COLUMNS = ", ".join(
    f"{name} {kind}" for name, kind in {
        "order_id": "text NOT NULL", "user_id": "text", "sku": "text", "amount": "numeric(18,4)", "qty": "numeric(18,4)",
        "price": "numeric(18,4)", "created_at": "timestamptz NOT NULL", "date": "date NOT NULL", "line_number": "int NOT NULL",
        "currency": "text", "updated_at": "timestamptz", "metadata": "text",
    }.items()
)  # fmt: skip


@pytest.mark.parametrize(
    ("definition", "insert", "message"),
    [
        ("CREATE VIEW strandline.fact_order AS SELECT 1 AS order_id", "", "it is a view.*choose another schema"),
        (
            f"CREATE TABLE strandline.fact_order ({_COLUMNS.replace('metadata text', 'metadata jsonb')})", "",
            "column metadata is jsonb, and not text; change its type, or drop",
        ),
        (
            f"CREATE TABLE strandline.fact_order ({_COLUMNS.replace('amount numeric(18,4)', 'amount numeric(10,2)')})", "",
            r"column amount is numeric\(10,2\), and not numeric\(18,4\)",
        ),
        ("CREATE TABLE strandline.fact_order (note text)", "", "it has no column order_id"),
        (
            f"CREATE TABLE strandline.fact_order ({_COLUMNS}, tenant text NOT NULL)", "",
            'must not be NULL.*"tenant".*23502',
        ),
        (f"CREATE TABLE strandline.fact_order ({_COLUMNS}, CHECK (line_number > 9))", "", "a constraint.*23514"),
        (
            f"CREATE TABLE strandline.fact_order ({_COLUMNS})",
            "INSERT INTO strandline.fact_order (order_id, created_at, date, line_number) VALUES ('x', now(), '1999-01-01', 1)",
            "rows that strandline did not load.*drop the table.*rename it",
        ),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused_with_what_to_do(
    store: Postgres, database: str, tmp_path: Path, definition: str, insert: str, message: str
) -> None:
    """Nothing of it is changed, and nothing is recorded."""
    _other_table(database, definition, insert)
    before = query(database, "SELECT * FROM strandline.fact_order")
    with pytest.raises(DownstreamFailed, match=message) as raised:
        deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))])
    assert str(raised.value).startswith("[load.shop]: ")
    assert query(database, "SELECT * FROM strandline.fact_order") == before
    assert store.contents() == {}


def test_rows_on_a_date_that_was_never_loaded_are_not_deleted(store: Postgres, database: str, tmp_path: Path) -> None:
    """Also in a table that is otherwise ours; the dates that are ours go on."""
    deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))])
    query(
        database,
        "INSERT INTO strandline.fact_order (order_id, created_at, date, line_number) VALUES ('x', now(), '2026-03-02', 1)",
    )
    with pytest.raises(DownstreamFailed, match="rows that strandline did not load"):
        deliver(store, [change(tmp_path, "fact_order", DAY + 1, fact(DAY + 1, {"b": 1}))])
    deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"c": 1}))])
    assert [row[0] for row in rows(database, "fact_order", ["order_id"])] == ["c", "x"]
    query(database, "DROP TABLE strandline.strandline_loaded")
    with pytest.raises(DownstreamFailed, match="rows that strandline did not load"):
        deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"c": 1}))])


def test_a_user_without_rights_is_told_which(database: str, tmp_path: Path) -> None:
    """Creating the schema needs CREATE on the database; reading another's table is refused, too."""
    query(database, "CREATE ROLE guest LOGIN")
    guest = Postgres(target(database.replace("user=tester", "user=guest")))
    one = change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))
    with pytest.raises(DownstreamFailed, match=r"create the schema strandline: .*needs CREATE.*42501"):
        deliver(guest, [one])
    query(database, "CREATE SCHEMA strandline")
    query(database, "GRANT USAGE, CREATE ON SCHEMA strandline TO guest")
    deliver(guest, [one])
    query(
        database,
        "CREATE TABLE strandline.dim_user (user_id text PRIMARY KEY, email text, created_at timestamptz, country text)",
    )
    with pytest.raises(DownstreamFailed, match=r"must belong to it.*42501"):
        deliver(guest, [change(tmp_path, "dim_user", WHOLE, users(["a"]))])
    guest.close()


def test_row_level_security_hides_no_row_from_a_delivery(store: Postgres, database: str, tmp_path: Path) -> None:
    """It would make DELETE leave rows; with it, there is an error instead."""
    query(database, "CREATE ROLE loader LOGIN")
    query(database, "GRANT CREATE ON DATABASE shop TO loader")
    loader = Postgres(target(database.replace("user=tester", "user=loader")))
    deliver(loader, [change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))])
    query(database, "ALTER TABLE strandline.fact_order ENABLE ROW LEVEL SECURITY")
    query(database, "ALTER TABLE strandline.fact_order FORCE ROW LEVEL SECURITY")
    for content in (None, fact(DAY, {"b": 1})):
        with pytest.raises(DownstreamFailed, match="row-level security"):
            deliver(loader, [change(tmp_path, "fact_order", DAY, content)])
    assert query(database, "SELECT count(*) FROM strandline.fact_order") == [(1,)]
    loader.close()


@pytest.mark.parametrize("table", ["strandline_loaded", "m" * 64])
def test_a_model_whose_name_no_table_can_have(store: Postgres, tmp_path: Path, table: str) -> None:
    """The table of what is loaded has a name of its own; longer names would be cut off."""
    one = pa.table({"date": pa.array([DAY], pa.int32()).cast(pa.date32())})
    with pytest.raises(DownstreamFailed, match="rename the model"):
        deliver(store, [change(tmp_path, table, DAY, one)], {table: one.schema})


def test_one_table_that_is_refused_takes_no_other_along(store: Postgres, database: str, tmp_path: Path) -> None:
    """A delivery is one transaction: nothing of it is there."""
    _other_table(database, "CREATE VIEW strandline.order_items AS SELECT 1 AS one")
    with pytest.raises(DownstreamFailed, match="order_items"):
        deliver(store, [
            change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1})), change(tmp_path, "order_items", DAY, items(DAY, {"a": 1})),
        ])  # fmt: skip
    assert query(database, "SELECT 1 FROM pg_tables WHERE schemaname = 'strandline'") == []
