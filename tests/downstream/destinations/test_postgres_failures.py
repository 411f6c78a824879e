"""What may happen to a delivery: kills, restarts, a failover, a full disk, locks, time limits, refused connections. Afterwards
the next delivery is right, the error says what to do, and no error has a secret in it."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from daemon.core.errors import StrandlineError, Unavailable
from daemon.core.model import FACT
from daemon.downstream.contract import DownstreamFailed
from daemon.downstream.destinations import postgres_rows
from daemon.downstream.destinations.postgres import Postgres
from daemon.downstream.destinations.postgres_connection import Connection, conninfo, secrets_of, statement_error
from daemon.downstream.destinations.store import Change, Delivery
from tests.support import REPO
from tests.support.examples import LONG
from tests.support.loads import DAY, after, change, deliver, expected, fact, items, query, rows, target
from tests.support.postgres import Server, cluster, free_port, standby_of

COLUMNS = FACT.names


def moved(folder: Path, batch: int) -> tuple[dict[tuple[str, int], pa.Table], list[Change]]:
    """Three dates and two tables; in each batch the orders are on other dates."""
    contents: dict[tuple[str, int], pa.Table] = {}
    for day in range(DAY, DAY + 3):
        orders = {f"o{number}": 2 for number in range(60) if (number * 7 + batch * (number % 5 + 1)) % 3 == day - DAY}
        contents |= {("fact_order", day): fact(day, orders), ("order_items", day): items(day, orders)}
    return contents, [change(folder, *key, table) for key, table in contents.items()]


def assert_has(dsn: str, contents: dict[tuple[str, int], pa.Table]) -> None:
    for table in ("fact_order", "order_items"):
        names = next(one for (name, _), one in contents.items() if name == table).schema.names
        assert rows(dsn, table, names) == expected(contents, table, names)


# ---------------------------------------------------------------------------------------------------- kills and restarts

_CHILD = """
import os, pickle, signal, sys
from daemon.downstream.destinations import postgres_connection, postgres_rows
from daemon.downstream.destinations.postgres import Postgres
target, delivery, point = pickle.load(sys.stdin.buffer)
run, batch = postgres_connection.Connection._rows, postgres_rows.Rows.batch

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def statement(self, attempted, text):
    if point == f"before {text.split()[0]}":
        die()
    found = run(self, attempted, text)
    if point == f"after {text.split()[0]}":
        die()
    return found

def rows(self, part):
    found = batch(self, part)
    rows.count += 1
    if point == f"rows {rows.count}":
        die()
    return found

rows.count = 0
postgres_connection.Connection._rows, postgres_rows.Rows.batch = statement, rows
Postgres(target).deliver(delivery)
"""
_POINTS = ["after DELETE", "rows 2", "after COMMIT"]
_MORE_POINTS = [
    "before BEGIN",
    "after BEGIN",
    "before DELETE",
    "rows 1",
    "rows 4",
    "rows 6",
    "before INSERT",
    "after INSERT",
    "before COMMIT",
]


@pytest.mark.parametrize("point", _POINTS + _MORE_POINTS if LONG else _POINTS)
def test_a_kill_leaves_what_was_or_what_should_be(database: str, tmp_path: Path, point: str) -> None:
    """A real process that delivers gets SIGKILL at this point."""
    store = Postgres(target(database))
    before, first = moved(tmp_path, 1)
    deliver(store, first)
    contents, changes = moved(tmp_path, 2)
    schemas = {one.table: contents[one.key].schema for one in changes}
    ended = subprocess.run(
        [sys.executable, "-c", _CHILD],
        input=pickle.dumps((target(database), Delivery(store.contents(), changes, schemas, 2), point)),
        env=os.environ | {"PYTHONPATH": str(REPO)}, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    found = store.contents()
    assert found == (after({}, changes) if point == "after COMMIT" else after({}, first))
    assert_has(database, contents if point == "after COMMIT" else before)
    deliver(store, changes)
    assert_has(database, contents)
    store.close()


@pytest.fixture
def own() -> Iterator[Server]:
    """A server that the test may stop."""
    with cluster() as one:
        yield one


def interrupted(
    monkeypatch: pytest.MonkeyPatch, store: Postgres, changes: Sequence[Change], do: Callable[[], None]
) -> StrandlineError:
    """What a delivery raises during which this is done, between two batches of a COPY."""
    original, count = postgres_rows.Rows.batch, [0]

    def batch(self: postgres_rows.Rows, part: pa.RecordBatch) -> pa.RecordBatch:
        count[0] += 1
        if count[0] == 2:
            do()
        return original(self, part)

    before = store.contents()
    schemas = {one.table: {"fact_order": FACT, "order_items": FACT}[one.table] for one in changes}
    schemas["order_items"] = items(DAY, {}).schema
    with monkeypatch.context() as patched, pytest.raises(StrandlineError) as raised:
        patched.setattr(postgres_rows.Rows, "batch", batch)
        store.deliver(Delivery(before, changes, schemas, 2))
    store.close()  # as the worker does
    return raised.value


def test_a_restart_of_the_server(own: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a COPY, as in a crash: nothing of the delivery is there, and the next one is right. Between two
    deliveries, nobody notices it."""
    store = Postgres(target(own.conninfo))
    before, first = moved(tmp_path, 1)
    deliver(store, first)

    def restart() -> None:
        own.stop(signal.SIGQUIT)
        own.start()

    contents, changes = moved(tmp_path, 2)
    error = interrupted(monkeypatch, store, changes, restart)
    assert isinstance(error, Unavailable) and "could not load fact_order: " in str(error)
    assert_has(own.conninfo, before)
    assert store.contents() == after({}, first)
    deliver(store, changes)
    assert_has(own.conninfo, contents)
    restart()
    assert store.contents() == after({}, changes)
    own.stop()
    with pytest.raises(Unavailable, match="no server is listening there"):
        store.contents()
    own.start()
    deliver(store, first)
    assert_has(own.conninfo, before)
    store.close()


def test_an_administrator_who_ends_the_session(own: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """57P01: tried again."""
    store = Postgres(target(own.conninfo))
    contents, changes = moved(tmp_path, 1)
    end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'strandline'"
    error = interrupted(monkeypatch, store, changes, lambda: query(own.conninfo, end) and None)
    assert isinstance(error, Unavailable)
    assert store.contents() == {}
    deliver(store, changes)
    assert_has(own.conninfo, contents)
    store.close()


def test_a_failover_in_the_middle(own: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A streaming standby is promoted while a delivery runs. With both hosts in dsn, the next one goes to the new primary."""
    with standby_of(own) as standby:
        dsn = f"host={own.folder},{standby.folder} user=tester dbname=postgres target_session_attrs=read-write"
        store = Postgres(target(dsn))
        before, first = moved(tmp_path, 1)
        deliver(store, first)
        _wait_until(lambda: Postgres(target(standby.conninfo)).contents() == after({}, first))  # a standby can be read
        assert_has(standby.conninfo, before)
        with pytest.raises(Unavailable, match=r"accepts no writes.*25006"):
            deliver(Postgres(target(standby.conninfo)), first)

        def fail_over() -> None:
            own.stop(signal.SIGQUIT)
            standby.promote()

        contents, changes = moved(tmp_path, 2)
        assert isinstance(interrupted(monkeypatch, store, changes, fail_over), Unavailable)
        assert_has(standby.conninfo, before)
        deliver(store, changes)
        assert_has(standby.conninfo, contents)
        store.close()


def test_a_failover_that_loses_a_commit(own: Server, tmp_path: Path) -> None:
    """The standby did not get the last delivery. What the daemon believes is then refused; what the database says is right."""
    with standby_of(own) as standby:
        dsn = f"host={own.folder},{standby.folder} user=tester dbname=postgres target_session_attrs=read-write"
        store = Postgres(target(dsn))
        _, first = moved(tmp_path, 1)
        deliver(store, first)
        _wait_until(lambda: Postgres(target(standby.conninfo)).contents() == after({}, first))
        standby.stop()
        deliver(store, moved(tmp_path, 2)[1])
        believed = store.contents()
        own.stop(signal.SIGQUIT)
        standby.start()
        standby.promote()
        third, more = moved(tmp_path, 3)
        schemas = {one.table: third[one.key].schema for one in more}
        with pytest.raises(Unavailable, match="failed over"):
            store.deliver(Delivery(believed, more[:2], schemas, 3))
        store.close()
        assert store.contents() == after({}, first)
        deliver(store, more)
        assert_has(standby.conninfo, third)
        store.close()


def _wait_until(reached: Callable[[], bool]) -> None:
    for _ in range(600):
        try:
            if reached():
                return
        except Unavailable:
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come to that")


def test_a_full_disk_of_the_server(database: str, tmp_path: Path) -> None:
    """A tablespace on a file system of 4 MiB: nothing of the delivery is there, and there is when the disk has grown."""
    with _small_disk(database) as grow:
        query(database, "ALTER DATABASE shop SET default_tablespace = small")
        store = Postgres(target(database))
        small = change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))
        deliver(store, [small])
        large = fact(DAY + 1, {f"order {number}": 20 for number in range(2_000)})
        with pytest.raises(
            Unavailable, match=r"load fact_order: the disk of the server is full; free space there.*53100"
        ):
            deliver(store, [change(tmp_path, "fact_order", DAY + 1, large)])
        assert store.contents() == after({}, [small])
        assert len(rows(database, "fact_order", ["order_id"])) == 1
        grow()
        deliver(store, [change(tmp_path, "fact_order", DAY + 1, large)])
        assert len(rows(database, "fact_order", ["order_id"])) == 40_001
        store.close()
        query(database, "DROP SCHEMA strandline CASCADE")


class _small_disk:
    """A tablespace `small` on a file system of its own; gives a function that makes it larger."""

    def __init__(self, database: str) -> None:
        self._database = database

    def __enter__(self) -> Callable[[], None]:
        if os.geteuid() != 0:
            pytest.skip("only root may mount a small file system")
        self._folder = Path(tempfile.mkdtemp(prefix="pg-small-"))
        mount = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "none", str(self._folder)]
        if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
            self._folder.rmdir()
            pytest.skip("mounting is not allowed here")
        (self._folder / "space").mkdir()
        shutil.chown(self._folder / "space", "nobody")
        self._run(f"CREATE TABLESPACE small LOCATION '{self._folder}/space'")
        return lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(self._folder)], check=True) and None

    def __exit__(self, *_: object) -> None:
        self._run("ALTER DATABASE shop RESET default_tablespace")
        self._run("DROP DATABASE shop WITH (FORCE)")
        self._run("DROP TABLESPACE small")
        subprocess.run(["umount", str(self._folder)], check=True)
        self._folder.rmdir()

    def _run(self, statement: str) -> None:
        with psycopg.connect(self._database.replace("dbname=shop", "dbname=postgres"), autocommit=True) as connection:
            connection.execute(statement)


# -------------------------------------------------------------------------------------------------- locks and time limits


@pytest.mark.parametrize(
    ("lock", "values", "message"),
    [
        ("LOCK TABLE strandline.fact_order", {"lock_timeout": 0.2}, "delete from fact_order.*lock_timeout.*55P03"),
        (
            "LOCK TABLE strandline.fact_order",
            {"lock_timeout": 0.0, "statement_timeout": 0.2},
            "statement_timeout.*57014",
        ),
        ("SELECT * FROM strandline.fact_order FOR UPDATE", {"lock_timeout": 0.2}, "delete from fact_order.*55P03"),
        ("", {"lock_timeout": 0.2}, "wait for another load to end.*55P03"),
    ],
)
def test_a_lock_that_somebody_holds(
    database: str, tmp_path: Path, lock: str, values: dict[str, float], message: str
) -> None:
    """The delivery gives up after its time, changes nothing, and succeeds without the lock. "": another load of the schema."""
    from daemon.downstream.destinations.postgres_sql import lock as lock_of_load

    _, first = moved(tmp_path, 1)
    store = Postgres(target(database, **values))
    deliver(store, first)
    contents, changes = moved(tmp_path, 2)
    with psycopg.connect(database) as other:
        other.execute(lock or lock_of_load("strandline"))
        with pytest.raises(Unavailable, match=message):
            deliver(store, changes)
        other.rollback()
    assert store.contents() == after({}, first)
    deliver(store, changes)
    assert_has(database, contents)
    store.close()


def test_settings_of_the_session(database: str) -> None:
    """Its name, its time limits and its encoding; those that dsn names itself take precedence."""
    connection = Connection("[load.shop]", f"{database} application_name=mine")
    (found,) = connection.rows("look", "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()")
    assert found == ("mine",)
    connection.close()
    store = Postgres(target(database, lock_timeout=1.5, statement_timeout=7200.0))
    with store._transaction() as transaction:
        names = (
            "application_name",
            "lock_timeout",
            "statement_timeout",
            "client_encoding",
            "transaction_isolation",
            "row_security",
        )
        found = [transaction.rows("look", f"SELECT current_setting('{name}')")[0][0] for name in names]
        assert found == ["strandline", "1500ms", "2h", "UTF8", "read committed", "off"]
    # It was of the transaction
    assert transaction.rows("look", "SELECT current_setting('statement_timeout')") == [("0",)]
    store.close()


def test_a_database_of_another_encoding_gets_the_right_characters(conninfo: str, tmp_path: Path) -> None:
    """What it has no character for is an error, and not another one."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS latin")
        connection.execute("CREATE DATABASE latin ENCODING latin1 LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    latin = conninfo.replace("dbname=postgres", "dbname=latin")
    store = Postgres(target(latin))
    deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"é": 1}))])
    assert rows(latin, "fact_order", ["order_id"]) == [("é",)]
    with pytest.raises(DownstreamFailed, match=r"cannot hold a value.*22P05"):
        deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"\u4e2d": 1}))])
    store.close()


# --------------------------------------------------------------------------------------------- errors, and what they say


def test_a_password_that_is_refused_is_tried_again(tmp_path: Path) -> None:
    """It may be changed on both sides, one after the other. A database that is not there is not tried again so soon."""
    port = free_port()
    with cluster(["-c", "listen_addresses=127.0.0.1"], port) as server_:
        socket_dsn = server_.conninfo
        query(socket_dsn, "CREATE ROLE loader LOGIN PASSWORD 's3cr3t/?@#%'")
        query(socket_dsn, "GRANT CREATE ON DATABASE postgres TO loader")
        hba = server_.data / "pg_hba.conf"
        hba.write_text("local all tester trust\nhost all loader 127.0.0.1/32 scram-sha-256\n")
        query(socket_dsn, "SELECT pg_reload_conf()")
        right = f"postgresql://loader:s3cr3t%2F%3F%40%23%25@127.0.0.1:{port}/postgres"
        one = change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))
        for dsn in (right, f"host=127.0.0.1 port={port} dbname=postgres user=loader password='s3cr3t/?@#%'"):
            store = Postgres(target(dsn))
            deliver(store, [one])
            assert store.contents() == {one.key: one.sha256}
            store.close()
        wrong = right.replace("s3cr3t", "wr0ng")
        for dsn, cls, message in (
            (wrong, Unavailable, "refuses the user or the password"),
            (f"host=127.0.0.1 port={port} dbname=postgres user=loader password=wr0ng", Unavailable, "refuses the user"),
            (f"postgresql://loader@127.0.0.1:{port}/postgres", DownstreamFailed, "dsn has none"),
            (right.replace("/postgres", "/wr0ng"), DownstreamFailed, "no such database"),
            (right.replace("loader:", "wr0ng:"), DownstreamFailed, "pg_hba"),
        ):  # fmt: skip
            with pytest.raises(cls, match=message) as raised:
                Postgres(target(dsn)).contents()
            assert not {"s3cr3t", "wr0ng", "127.0.0.1", "%2F"} & set(str(raised.value).replace("/", " ").split()), (
                raised.value
            )
            assert "wr0ng" not in str(raised.value) and "s3cr3t" not in str(raised.value)
        query(socket_dsn, "ALTER ROLE loader CONNECTION LIMIT 0")
        with pytest.raises(Unavailable, match="no free connection"):
            Postgres(target(right)).contents()


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://u:SECRET%zz@h/db",
        "postgresql://u:x@localhost:SECRET/db",
        "postgresql://u:SECRET@h/db?nonsense=SECRET",
        "postgresql://u:SECRET@nohost.invalid/db",
        "postgresql://u:SECRET@127.0.0.1:1,127.0.0.1:2/db",
        "postgres://u@127.0.0.1:1/db?password=SECRET&sslmode=SECRET",
        "postgresql://u:S?ECRET@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password=SECRET",
        "host=127.0.0.1 port=1 password = 'SECRET \\' SECRET'",
        "host=127.0.0.1 password=x SECRET",
        "host=127.0.0.1 password='SECRET",
        "hostSECRET=1",
        "SECRET",
        "https://u:SECRET@h/db",
        "host=127.0.0.1 port=1 passwordSECRET=SECRET",
        "",
    ],
)
def test_no_error_of_connecting_has_a_part_of_the_dsn(dsn: str) -> None:
    """In whatever form it is, and whatever libpq repeats of it; also not in the traceback."""
    import traceback

    with pytest.raises((Unavailable, DownstreamFailed)) as raised:
        Postgres(target(dsn)).contents()
    text = "".join(traceback.format_exception(raised.value))
    shown = text.replace("Postgres(target(dsn))", "")
    assert "SECRET" not in shown and "ECRET" not in shown
    assert str(raised.value).startswith("[load.shop]: could not connect: ")
    assert "the reason is one that" not in str(raised.value)  # each of these is recognized


def test_a_server_that_repeats_a_password_does_not_get_it_into_an_error(database: str, tmp_path: Path) -> None:
    """Here as the name of a constraint."""
    store = Postgres(target(f"{database} password=hunter2"))
    deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))])
    query(database, "ALTER TABLE strandline.fact_order ADD CONSTRAINT hunter2 CHECK (order_id < 'b')")
    with pytest.raises(DownstreamFailed, match=r'constraint "\*\*\*"') as raised:
        deliver(store, [change(tmp_path, "fact_order", DAY, fact(DAY, {"person@example.com": 1}))])
    assert "hunter2" not in str(raised.value)
    assert "person@" not in str(raised.value)  # nor a value of the row, which the server tells as a detail
    store.close()


@pytest.mark.parametrize(
    ("dsn", "secrets"),
    [
        ("postgresql://u:p%40ss@h/db", {"p%40ss", "p@ss"}),
        ("postgresql://u:a?b@h/db?password=q%20r&x=1", {"a?b", "q%20r", "q r"}),
        ("postgresql://h/db", set()),
        ("host=h password='it\\'s' user=u", {"it\\'s", "it's"}),
        ("password = plain host=h sslpassword=two", {"plain", "two"}),
    ],
)
def test_the_secrets_of_a_dsn(dsn: str, secrets: set[str]) -> None:
    """As written and as meant, and the whole."""
    assert set(secrets_of(dsn)) >= secrets | {dsn}
    assert set(secrets_of(dsn)) - {dsn} - secrets <= {one for one in secrets_of(dsn) if len(one) > 20 or "host" in one}


@pytest.mark.parametrize(
    ("dsn", "expected_end"),
    [
        ("postgresql://u:a?b@h/db", "postgresql://u:a?b@h/db?"),
        ("postgresql://h/db?sslmode=require", "&sslmode=require"),
        ("postgres://", "postgres://?"),
        ("postgresql://h/a@b", "postgresql://h/a@b?"),
        ("host=h dbname=d", " host=h dbname=d"),
    ],
)
def test_our_settings_come_before_those_of_the_dsn(dsn: str, expected_end: str) -> None:
    """So a user's own count: the last one of a name does."""
    made = conninfo(dsn)
    assert "application_name=strandline" in made and "connect_timeout=10" in made
    assert made.startswith(expected_end) if expected_end.endswith("?") else made.endswith(expected_end)


@pytest.mark.parametrize(
    ("state", "cls"),
    [
        ("08006", Unavailable), ("25006", Unavailable), ("40001", Unavailable), ("40P01", Unavailable), ("53100", Unavailable),
        ("53200", Unavailable), ("53300", Unavailable), ("55P03", Unavailable), ("57014", Unavailable), ("57P01", Unavailable),
        ("57P02", Unavailable), ("57P03", Unavailable), ("58030", Unavailable), ("25P03", Unavailable), ("28P01", Unavailable),
        ("08P01", DownstreamFailed), ("22P03", DownstreamFailed), ("23505", DownstreamFailed), ("3D000", DownstreamFailed),
        ("42501", DownstreamFailed), ("42804", DownstreamFailed), ("XX001", DownstreamFailed), ("0A000", DownstreamFailed),
    ],
)  # fmt: skip
def test_what_each_sqlstate_means(state: str, cls: type[StrandlineError]) -> None:
    """Whether it is of use to try again."""
    error = statement_error(
        "[load.shop]", "load t", "IO: [libpq] x: FEHLER:  ging nicht\nDETAIL:  (a)=(b)", state, ["nicht"]
    )
    assert type(error) is cls
    assert str(error).startswith("[load.shop]: could not load t: ") and str(error).endswith(
        f"(ging ***, SQLSTATE {state})"
    )


def test_an_error_without_sqlstate_is_of_the_connection() -> None:
    """Unless the text says otherwise."""
    for text in ("IO: Error occurred writing COPY data: ", "server closed the connection unexpectedly", ""):
        assert isinstance(statement_error("w", "load t", text, None, []), Unavailable)
    assert isinstance(statement_error("w", "load t", "IO: x ERROR:  no", None, []), DownstreamFailed)


def test_nothing_of_a_target_is_in_what_a_worker_answers(database: str, tmp_path: Path) -> None:
    """Through the worker's own function, and pickled as it is sent."""
    from daemon.downstream.destinations import work

    dsn: Any = f"{database} password=hunter2"
    one = change(tmp_path, "fact_order", DAY, fact(DAY, {"a": 1}))
    assert work.destination_contents(target(dsn)) == {}
    delivered = work.destination_deliver(target(dsn), Delivery({}, [one], {"fact_order": FACT}, 1))
    assert b"hunter2" not in pickle.dumps(delivered)
    assert work.destination_differences(target(dsn), [one], tmp_path) == {}
    query(database, "UPDATE strandline.fact_order SET sku = 'y'")
    found = work.destination_differences(target(dsn), [one], tmp_path)
    assert found == {one.key: "1 row is missing, 1 is not in the file"}
    work._close()
