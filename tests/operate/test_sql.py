"""`strandline sql` in this process: what is refused, what the tables hold, how values are written, and which state is read."""

from __future__ import annotations

import io
import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from daemon.batch.mending import mend
from daemon.batch.repair import Damaged, repair
from daemon.core.errors import EnvironmentFault, StrandlineError, UsageError
from daemon.core.retry import Backoff
from daemon.downstream.sandbox import Limits
from daemon.downstream.settings import Settings
from daemon.operate.sql.box import write_box
from daemon.operate.sql.output import write_csv, write_file, write_json
from daemon.operate.sql.published import Behind
from daemon.operate.sql.session import Session, opened
from tests.support.following import LIMITS, Home, InlineWorker, never
from tests.support.harness import apply_batch, lose, open_engine, tree

NOW = 1_772_500_000_000_000  # 2026-03-03


def settings(root: Path, **columns: str) -> Settings:
    limits = Limits(256 << 20, 2, 60.0)
    return Settings(root / "models", root / "checks", limits, Backoff(1, 0.1, 0.1), tuple(columns.items()))


@contextmanager
def session(root: Path, *, linked: bool = True, **columns: str) -> Iterator[Session]:
    if linked:
        with opened(root / "output", settings(root, **columns)) as one:
            yield one
        return
    (folder := root / "elsewhere").mkdir(exist_ok=True)
    one = Session(root / "output", settings(root, **columns), folder, linked=False)
    try:
        yield one
    finally:
        one.close()


def order(order_id: str, day: int, amount: str = "1.10", updated: int = 0) -> str:
    return (
        f'{{"order_id": "{order_id}", "amount": {amount}, "created_at": "2026-03-0{day}T10:00:00Z", '
        f'"updated_at": "2026-03-02T10:00:{updated:02d}Z", "items": []}}'
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An output after two batches: orders on two dates, a discard, a quarantined drop, a restatement."""
    with open_engine(tmp_path) as engine:
        first = f'[{order("a", 1, "0.1")}, {order("b", 2, "12345678901234.5678")}, {{"order_id": "x", "n": 1e400}}]'
        apply_batch(engine, tmp_path, [("a.json", first.encode()), ("bad.json", b"null")], NOW)
        apply_batch(engine, tmp_path, [("b.json", f"[{order('a', 1, '0.2', 5)}]".encode())], NOW + 1)
    return tmp_path


def as_json(one: Session, query: str) -> list[dict]:
    out = io.StringIO()
    write_json(one.answer(query), out)
    return json.loads(out.getvalue(), parse_float=Decimal)


REFUSED = [
    "COPY (SELECT 1) TO 'x.csv'", "COPY fact_order FROM 'x.csv'", "EXPORT DATABASE 'x'", "ATTACH 'x.db'", "INSTALL httpfs",
    "LOAD httpfs", "SET threads = 1", "RESET threads", "PRAGMA database_size", "CALL pragma_version()", "CHECKPOINT", "VACUUM",
    "CREATE TABLE t AS SELECT 1", "CREATE TABLE t AS PIVOT fact_order ON sku USING sum(amount)", "INSERT INTO t VALUES (1)",
    "UPDATE fact_order SET sku = ''", "DELETE FROM fact_order", "DROP VIEW fact_order", "BEGIN", "USE memory",
    "COPY (PIVOT fact_order ON sku USING sum(amount)) TO 'x.csv'", "EXPLAIN ANALYZE COPY (SELECT 1) TO 'x.csv'",
    "/* c */ EXPLAIN -- c\n ANALYZE (FORMAT json) COPY (SELECT 1) TO 'x.csv'",
    "WITH a AS (COPY (SELECT 1) TO 'x.csv') FROM a", "EXPLAIN ANALYZE WITH a AS (COPY (SELECT 1) TO 'x.csv') FROM a",
    "WITH a AS (COPY (SELECT 1) TO 'x.csv') PIVOT fact_order ON sku USING sum(amount)",
    "FROM query('FROM fact_order')", "FROM query_table('fact_order')", "SELECT 1; SELECT 2", "", "-- nothing",
]  # fmt: skip


@pytest.mark.parametrize("query", REFUSED)
def test_what_does_more_than_read_is_refused(root: Path, query: str) -> None:
    """The error is one line, and comes before anything is run."""
    before = tree(root / "output" / "curated")
    with session(root) as one, pytest.raises(UsageError) as raised:
        one.answer(query)
    assert "\n" not in str(raised.value)
    assert tree(root / "output" / "curated") == before


READING = [
    "SELECT 1", "(SELECT 1)", "FROM fact_order", "VALUES (1)", "TABLE fact_order", "WITH a AS (FROM fact_order) FROM a",
    "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 3) FROM n", "DESCRIBE fact_order", "DESCRIBE",
    "SUMMARIZE fact_order", "SHOW TABLES", "SHOW fact_order", "EXPLAIN SELECT 1", "EXPLAIN ANALYZE FROM fact_order",
    "PIVOT fact_order ON date USING sum(amount)", "FROM (PIVOT fact_order ON date USING sum(amount))",
    "WITH a AS (FROM fact_order) PIVOT a ON date USING sum(amount) GROUP BY order_id", "UNPIVOT fact_order ON amount, qty",
    "EXPLAIN PIVOT fact_order ON date USING sum(amount)", "SELECT 1;", "SELECT 1 -- done",
]  # fmt: skip


@pytest.mark.parametrize("query", READING)
@pytest.mark.parametrize("linked", [True, False])
def test_what_reads_is_answered(root: Path, query: str, *, linked: bool) -> None:
    """Each kind of reading statement, over links and over the paths themselves."""
    with session(root, linked=linked) as one:
        assert one.answer(query).count >= 1


@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize(
    "query",
    [
        "FROM histogram(fact_order, amount)", "FROM histogram_values(fact_order, amount) WHERE bin IS NULL",
        "SELECT count(*) AS n FROM histogram(fact_order, order_id)", "SUMMARIZE FROM histogram(fact_order, amount)",
        "FROM histogram(drops, number)", "SELECT 1 WHERE EXISTS (FROM order_items, histogram(fact_order, amount))",
    ],
)  # fmt: skip
def test_a_table_that_a_function_reads_by_itself_is_never_empty(root: Path, query: str, *, linked: bool) -> None:
    """Its files are linked only where the statement names it, so anything else is an error, which says so."""
    with session(root, linked=linked) as one, pytest.raises(UsageError, match="is not named after FROM or JOIN"):
        one.answer(query)


def test_tables_that_a_query_does_not_read_can_be_described(root: Path) -> None:
    """With their columns and types, as DuckDB has them."""
    with session(root) as one:
        kinds = {row["column_name"]: row["column_type"] for row in as_json(one, "DESCRIBE fact_order")}
        query = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'fact_order'"
        assert {row["column_name"]: row["data_type"] for row in as_json(one, query)} == kinds
        assert kinds["amount"].startswith("DECIMAL") and kinds["date"] == "DATE"


def test_show_tables_names_all_tables_and_no_other(root: Path) -> None:
    """The names, also of tables that a query does not read."""
    with session(root) as one:
        found = {row["name"] for row in as_json(one, "SHOW TABLES")}
        assert found == one.tables().keys()
    assert found == {"fact_order", "order_items", "dim_user", "dim_product", "drops", "discards", "restatements"}


@pytest.mark.parametrize(
    "query",
    [
        "FROM read_text('/etc/passwd')", "FROM '/etc/passwd'", "FROM glob('/etc/*')", "FROM read_text('{raw}')",
        "FROM read_text('{output}/state/../../a.txt')", "FROM read_text('{output}/link')",
        "FROM read_csv('{output}/curated/*/*')",
        "SELECT getenv('HOME')", "FROM read_text('http://127.0.0.1/')", "FROM sniff_csv('/etc/passwd')",
    ],
)  # fmt: skip
@pytest.mark.parametrize("linked", [True, False])
def test_no_other_file_can_be_read(root: Path, query: str, *, linked: bool) -> None:
    """Neither of the machine, nor of the output, nor through `..` or a symbolic link."""
    output = root / "output"
    (root / "a.txt").write_text("secret")
    (output / "link").symlink_to("/etc/passwd")
    raw = next(path for path in (output / "raw").rglob("*") if path.is_file())
    with session(root, linked=linked) as one, pytest.raises(UsageError):
        one.answer(query.format(output=output, raw=raw))


def test_values_are_those_of_the_files(root: Path) -> None:
    """JSON has the decimals that pyarrow reads, all digits of them, and instants in UTC."""
    files = sorted((root / "output" / "curated").glob("date=*/fact_order.parquet"))
    expected = [row for path in files for row in pq.ParquetFile(path).read().to_pylist()]
    with session(root) as one:
        found = as_json(one, "FROM fact_order ORDER BY date, order_id")
        assert one.answer("FROM fact_order").schema.names == pq.read_schema(files[0]).names
    assert (
        [row["amount"] for row in found]
        == [row["amount"] for row in expected]
        == [Decimal("0.2"), Decimal("12345678901234.5678")]
    )
    assert [row["created_at"] for row in found] == [f"{row['created_at']:%Y-%m-%dT%H:%M:%SZ}" for row in expected]
    assert [row["date"] for row in found] == [str(row["date"]) for row in expected]


def test_drops_discards_and_restatements_say_what_happened(root: Path) -> None:
    """One row for each drop, each rejected record with the bytes that are kept of it, and each restatement."""
    with session(root) as one:
        drops = as_json(one, "FROM drops ORDER BY number")
        assert [(row["name"], row["outcome"], row["batch"]) for row in drops] == [
            ("a.json", "applied", 1), ("bad.json", "quarantined", 1), ("b.json", "applied", 2),
        ]  # fmt: skip
        assert [(row["extracted"], row["new"], row["corrected"], row["discarded"]) for row in drops] == [
            (3, 2, 0, 1), (0, 0, 0, 0), (1, 0, 1, 0),
        ]  # fmt: skip
        assert drops[0]["received_at"] == "2026-03-03T01:06:40Z"
        assert as_json(one, "FROM discards") == [
            {"drop": 1, "name": "a.json", "source": "default", "position": 3, "reason": "missing_created_at",
             "record": '{"order_id":"x","n":1e400}'}
        ]  # fmt: skip
        assert as_json(one, "FROM restatements") == [
            {"date": "2026-03-01", "batch": 2, "drops": [3], "orders_before": 1, "orders_after": 1,
             "amount_before": Decimal("0.1"), "amount_after": Decimal("0.2")}
        ]  # fmt: skip


def test_an_output_with_nothing_in_it_has_its_tables_empty(tmp_path: Path) -> None:
    """Also with extra columns; and to ask makes nothing."""
    with session(tmp_path, channel="text") as one:
        assert as_json(one, "SELECT count(channel) AS n FROM fact_order, drops, discards, restatements, dim_user") == [
            {"n": 0}
        ]
    assert list(tmp_path.iterdir()) == []


def test_a_lost_ledger_is_no_empty_output(root: Path) -> None:
    """Where only the ledger is gone, empty tables would be wrong."""
    for path in (root / "output" / "state").glob("ledger.sqlite*"):
        path.unlink()
    with session(root) as one, pytest.raises(EnvironmentFault, match="strandline rebuild"):
        one.answer("FROM fact_order")


def test_extra_columns_are_there(root: Path) -> None:
    """A configured column that no file has yet is NULL."""
    with session(root, channel="text") as one:
        assert as_json(one, "SELECT count(*) AS rows, count(channel) AS channels FROM fact_order") == [
            {"rows": 2, "channels": 0}
        ]


VALUES = """SELECT NULL AS n, '' AS e, 'a,"b' AS q, 1.50::DECIMAL(18, 4) AS d, TIMESTAMPTZ '2026-01-01 10:00:00.5+00' AS t,
    [1.5::DECIMAL(4, 2)] AS l, 'x'::BLOB AS b, DATE '2026-01-01' AS day, TRUE AS yes, 'nan'::DOUBLE AS nan,
    170141183460469231731687303715884105727::HUGEINT AS h, {'at': TIMESTAMPTZ '2026-01-01 00:00:00+00'} AS s, MAP {'k': 1} AS m,
    INTERVAL 3 DAY AS i, TIMESTAMP '2026-01-01 10:00:00' AS naive"""


def test_json_is_exact(root: Path) -> None:
    """Numbers keep their digits, instants end with Z, NULL and what is no number are null."""
    out = io.StringIO()
    with session(root) as one:
        write_json(one.answer(VALUES), out)
    assert out.getvalue() == (
        '[\n{"n":null,"e":"","q":"a,\\"b","d":1.5000,"t":"2026-01-01T10:00:00.5Z","l":[1.50],"b":"78","day":"2026-01-01",'
        '"yes":true,"nan":null,"h":170141183460469231731687303715884105727,"s":{"at":"2026-01-01T00:00:00Z"},"m":{"k":1},'
        '"i":"3 days","naive":"2026-01-01T10:00:00"}\n]\n'
    )


def test_csv_tells_null_from_an_empty_text(root: Path) -> None:
    """NULL is nothing, an empty text is quoted; so are commas, quotes and line breaks. A single NULL is no empty line."""
    out = io.StringIO()
    with session(root) as one:
        write_csv(
            one.answer("SELECT NULL AS n, '' AS e, 'a,\"b' AS q, 'x\ny' AS \"l,1\", 1.5::DECIMAL(18, 4) AS d"), out
        )
        write_csv(one.answer("SELECT NULL AS n"), out)
        write_csv(one.answer("SELECT 1 AS n WHERE false"), out)
    assert out.getvalue() == 'n,e,q,"l,1",d\n,"","a,""b","x\ny",1.5000\nn\n""\nn\n'


def test_json_of_no_rows_is_an_empty_array(root: Path) -> None:
    """A program can always parse it."""
    out = io.StringIO()
    with session(root) as one:
        write_json(one.answer("SELECT 1 AS n WHERE false"), out)
    assert json.loads(out.getvalue()) == []


def box(one: Session, query: str, width: int | None = None) -> list[str]:
    out = io.StringIO()
    write_box(one.answer(query), out, width)
    return out.getvalue().splitlines()


def test_a_table_says_what_it_leaves_out(root: Path) -> None:
    """On a terminal no line is wider than that, and the number of rows is the true one; elsewhere all rows are there."""
    query = "SELECT range AS n, repeat('x', 60) AS a, repeat('日', 30) AS b, 1 AS c, 2 AS d, 3 AS e, 'z' AS f FROM range(20000)"
    with session(root) as one:
        short = box(one, query, 60)
        assert max(map(len, short)) <= 60
        assert short[-2:] == ["20,000 rows (the first and the last 20 are shown)", "7 columns (4 are shown)"]
        assert "19999" in short[-4].split("│")[1]
        whole = box(one, query)
        assert whole[-1] == "20,000 rows"
        assert len(whole) == 20_000 + 6
        assert box(one, "SELECT 1 AS a", 60)[-1] == "1 row"


def test_a_table_obeys_no_escape_sequence(root: Path) -> None:
    """A text from a drop cannot move the cursor, nor turn the direction of writing."""
    with session(root) as one:
        text = "".join(box(one, "SELECT chr(27) || '[2J' || chr(155) || chr(8238) || chr(10) AS a"))
    assert not {"\x1b", "\x9b", "\u202e"} & set(text)
    assert "\\u001b[2J\\u009b\\u202e\\n" in text


def test_a_parquet_file_has_the_rows(root: Path) -> None:
    """It has the values of the query, and nothing is left beside it."""
    folder = root / "results"
    folder.mkdir()
    with session(root) as one:
        write_file(one.answer("SELECT order_id, amount FROM fact_order ORDER BY ALL"), folder / "a.parquet")
        with pytest.raises(UsageError, match="cast it"):
            write_file(one.answer("SELECT INTERVAL 1 DAY AS i"), folder / "b.parquet")
    assert pq.read_table(folder / "a.parquet").to_pylist() == [
        {"order_id": "a", "amount": Decimal("0.2000")}, {"order_id": "b", "amount": Decimal("12345678901234.5678")},
    ]  # fmt: skip
    assert [path.name for path in folder.iterdir()] == ["a.parquet"]


def test_an_error_is_one_line_with_the_line_of_the_query(root: Path) -> None:
    """It does not speak of what was put around the query."""
    with session(root) as one, pytest.raises(UsageError) as raised:
        one.answer("SELECT\n  amounts\nFROM fact_order")
    assert str(raised.value).startswith('LINE 2: Referenced column "amounts" not found')
    assert "\n" not in str(raised.value)


def test_an_unknown_table_is_answered_with_those_that_there_are(root: Path) -> None:
    """Not with a table of DuckDB's own that has a similar name."""
    with session(root) as one, pytest.raises(UsageError, match=r"^LINE 2: there is no table order; .*\bfact_order\b"):
        one.answer('SELECT *\nFROM "order"')


def test_too_little_memory_is_said_with_the_setting(root: Path) -> None:
    """The error names what to change."""
    small = Settings(root / "models", root / "checks", Limits(8 << 20, 1, 60.0), Backoff(1, 0.1, 0.1), ())
    with opened(root / "output", small) as one, pytest.raises(EnvironmentFault, match="memory_limit"):
        one.answer("SELECT list(range) AS all FROM range(5000000)")


def test_a_model_that_has_not_run_is_named(root: Path) -> None:
    """Not: there is no such table."""
    (root / "models").mkdir()
    (root / "models" / "later.sql").write_text("SELECT date FROM fact_order")
    with session(root) as one, pytest.raises(UsageError, match="the model later has no result yet"):
        one.answer("FROM later")


def test_what_is_not_up_to_date_is_said_in_words() -> None:
    """One date, many dates, and a result that has no dates."""
    assert str(Behind("a", 1, False, None)) == "a: 1 date is not up to date"
    assert str(Behind("a", 3, False, None)) == "a: 3 dates are not up to date"
    assert str(Behind("a", 1, True, "it failed")) == "a: not up to date (it failed)"


def the_ledger(root: Path) -> sqlite3.Connection:
    return sqlite3.connect(root / "output" / "state" / "ledger.sqlite", isolation_level=None)


def test_a_damaged_file_is_never_read(root: Path) -> None:
    """Its SHA-256 is not that of the ledger: the error says how it is mended."""
    path = root / "output" / "curated" / "date=2026-03-01" / "fact_order.parquet"
    content = bytearray(path.read_bytes())
    content[20] ^= 1
    path.write_bytes(content)
    with session(root) as one:
        with pytest.raises(EnvironmentFault, match="strandline rebuild"):
            one.answer("FROM fact_order")
        assert as_json(one, "SELECT count(*) AS n FROM drops") == [{"n": 3}], "other tables can be read"


@pytest.mark.parametrize("linked", [True, False])
def test_a_batch_that_nobody_publishes_is_said(root: Path, *, linked: bool) -> None:
    """After a crash between commit and publishing, without a daemon: no half of it is read, and the error says what to do."""
    path = root / "output" / "curated" / "date=2026-03-01" / "fact_order.parquet"
    with closing(the_ledger(root)) as sql:
        sql.execute("UPDATE batches SET published = 0 WHERE batch = 2")
    path.rename(path.with_suffix(".before"))
    with session(root, linked=linked) as one, pytest.raises(EnvironmentFault, match="strandline --once"):
        one.answer("FROM fact_order")


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("linked", [True, False])
def test_results_that_cannot_be_made_again_are_told_with_the_error_of_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, linked: bool, is_running: bool
) -> None:
    """A model that was refreshed and fails now: at once, beside a daemon and without one; also for what reads it."""
    home = Home(tmp_path)
    home.publish(home.order(1, 1))
    home.model("frame.py", "def model(fact_order):\n    return fact_order[['date']]\n")
    home.model("reader", "SELECT date FROM frame")
    worker = InlineWorker(LIMITS)
    with home.following(worker) as following:
        following.round(never)
        following.refresh(["frame", "reader"])
        home.model("frame.py", "def model(fact_order):\n    return 1 / 0\n")
        following.round(never)
    monkeypatch.setattr("daemon.operate.sql.session.holder_of", lambda _: 1 if is_running else None)
    with session(tmp_path, linked=linked) as one:
        for name in ("frame", "reader"):
            began = time.monotonic()
            with pytest.raises(StrandlineError, match=rf"results of {name} .*line 2: ZeroDivisionError"):
                one.answer(f"FROM {name}")
            assert time.monotonic() - began < 10


def test_results_that_take_long_to_be_made_again_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a daemon: it is not publishing without a pause."""
    home = Home(tmp_path)
    home.publish(home.order(1, 1))
    home.model("a", "SELECT date FROM fact_order")
    with home.following(InlineWorker(LIMITS)) as following:
        following.round(never)
        following.refresh(["a"])
    monkeypatch.setattr("daemon.operate.sql.session.holder_of", lambda _: 1)
    monkeypatch.setattr("daemon.operate.sql.session._WAIT_SECONDS", 0.2)
    with session(tmp_path) as one, pytest.raises(EnvironmentFault, match="Results of a are still being made"):
        one.answer("FROM a")


def test_each_query_sees_the_newest_state_and_leaves_nothing(root: Path) -> None:
    """Within one session, too; afterwards no scratch folder is there."""
    with session(root) as one:
        query = "SELECT count(*) AS n FROM fact_order"
        assert as_json(one, query) == [{"n": 2}]
        with open_engine(root) as engine:
            apply_batch(engine, root, [("c.json", f"[{order('c', 2)}]".encode())], NOW + 2)
        assert as_json(one, query) == [{"n": 3}]
        assert as_json(one, "SELECT count(*) AS n FROM drops") == [{"n": 4}]
    assert list((root / "output" / ".downstream").iterdir()) == []


def test_without_links_a_result_is_of_one_state(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is published while the query runs: it is run again."""
    with session(root, linked=False) as one:
        filled, runs = one._filled, []

        def disturbed(*arguments: object) -> object:
            found = filled(*arguments)
            runs.append(found)
            if len(runs) == 1:
                with open_engine(root) as engine:
                    apply_batch(engine, root, [("c.json", f"[{order('c', 2)}]".encode())], NOW + 2)
            return found

        monkeypatch.setattr(one, "_filled", disturbed)
        result = one.answer("FROM fact_order")
        assert (result.count, len(runs), result.notes) == (3, 2, [])


def test_without_links_a_daemon_that_never_rests_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a batch is published in each run, the result comes with a note."""
    with session(root, linked=False) as one:
        filled, runs = one._filled, []

        def disturbed(*arguments: object) -> object:
            found = filled(*arguments)
            runs.append(found)
            with open_engine(root) as engine:
                apply_batch(engine, root, [(f"c{len(runs)}.json", f"[{order(f'c{len(runs)}', 2)}]".encode())], NOW + 2)
            return found

        monkeypatch.setattr(one, "_filled", disturbed)
        assert ["may mix two states" in note for note in one.answer("FROM fact_order").notes] == [True]


@pytest.mark.parametrize("linked", [True, False])
def test_a_query_reads_all_dates_but_those_that_are_set_aside(root: Path, *, linked: bool) -> None:
    """It says which the result is without; a query over other tables is without nothing."""
    copy, content = lose(root / "output", "b.json", "2026-03-01")
    with open_engine(root) as engine:
        apply_batch(engine, root, [("c.json", f"[{order('c', 1)}, {order('d', 2)}]".encode())], NOW + 2)
        assert set(engine.ledger.set_aside()) == {"2026-03-01"}
        with session(root, linked=linked) as one:
            for table in ("fact_order", "order_items"):
                answer = one.answer(f"SELECT DISTINCT order_id FROM {table} ORDER BY ALL")
                assert answer.lacking == ["2026-03-01"]
                (note,) = answer.notes
                assert "without 2026-03-01" in note and "`strandline status` says what to restore" in note
            assert [
                row["order_id"] for row in as_json(one, "SELECT DISTINCT order_id FROM fact_order ORDER BY ALL")
            ] == ["b", "d"]
            others = one.answer("SELECT (SELECT count(*) FROM drops), (SELECT count(*) FROM dim_user)")
            assert not others.lacking and not others.notes
            copy.write_bytes(content)
            mend(engine, *engine.ledger.set_aside().values(), NOW + 3)
            answer = one.answer("SELECT DISTINCT order_id FROM fact_order")
            assert not answer.lacking and not answer.notes and answer.count == 4


def test_a_query_over_a_dimension_that_is_set_aside_is_refused(root: Path) -> None:
    """Others go on, also one that names the dimension nowhere but in a text."""
    with open_engine(root) as engine:
        apply_batch(engine, root, [("users.csv", b"user_id\nu_1\n")], NOW + 2)
        (copy,) = (root / "output" / "raw").glob("*/*users.csv")
        copy.unlink()
        (root / "output" / "curated" / "dim_user.parquet").write_bytes(b"damaged")
        engine.store._keys.clear()
        apply_batch(engine, root, [("c.json", f"[{order('c', 1)}]".encode())], NOW + 3)
        assert set(engine.ledger.set_aside()) == {"dim_user.parquet"}
    with session(root) as one:
        with pytest.raises(
            EnvironmentFault, match=f"dim_user.parquet is set aside: .*{copy.name}.*restore it from a backup"
        ):
            one.answer("FROM fact_order JOIN dim_user USING (user_id)")
        answer = one.answer(
            "SELECT DISTINCT order_id, 'dim_user' FROM fact_order, dim_product RIGHT JOIN (SELECT 1) ON true"
        )
        assert not answer.lacking and not answer.notes


def test_a_damaged_date_that_no_batch_has_met_can_be_set_aside(root: Path) -> None:
    """What the error says to do lets the other dates be read."""
    lose(root / "output", "b.json", "2026-03-01")
    with session(root) as one:
        with pytest.raises(EnvironmentFault, match="`strandline rebuild DATE`"):
            one.answer("FROM fact_order")
        with open_engine(root) as engine:
            days = sorted(engine.ledger.partitions())
            repair(engine.ledger, engine.reader, engine.store, Damaged(days), NOW + 2)
        assert one.answer("FROM fact_order").lacking == ["2026-03-01"]
