"""One run of a pandas model: the types that go in, the types that come out, and what is refused."""

from __future__ import annotations

import hashlib
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from daemon.core.model import FACT
from daemon.core.parquet import encode
from daemon.downstream.contract import DownstreamFailed
from daemon.downstream.pandas_runs import frame_of, run_pandas
from daemon.downstream.runs import Run
from daemon.downstream.sandbox import View
from daemon.frames import orders_df
from tests.support.following import Home, day, epoch_days

HEAD = "import datetime\nimport numpy as np\nimport pandas as pd\nimport pyarrow as pa\n\ndef model(fact_order):\n"
DAY = date(2026, 3, 2)


def facts(folder: Path, rows: int = 2) -> View:
    """A view of fact_order with a file per date: order o_1 on the first, o_2 on the second, …"""
    paths = []
    for number in range(rows):
        row = dict.fromkeys(FACT.names) | {
            "order_id": f"o_{number + 1}", "amount": Decimal(number) / 4,
            "created_at": datetime(2026, 3, 2 + number, 10, tzinfo=UTC), "date": date(2026, 3, 2 + number), "line_number": 1,
            "currency": "EUR",
        }  # fmt: skip
        path = folder / f"{number}.parquet"
        path.write_bytes(encode(pa.Table.from_pylist([row], FACT)))
        paths.append(str(path))
    return View(FACT, paths)


def run(folder: Path, body: str, rows: int = 2, **more: object) -> dict[str, list[dict]]:
    """The rows that a model keeps, by date. `body`: the lines of its function."""
    text = HEAD + "".join(f"    {line}\n" for line in body.splitlines())
    out = folder / "out"
    out.mkdir(exist_ok=True)
    made = run_pandas(Run("models/m.py", text, {"fact_order": facts(folder, rows)}, out, **more))  # type: ignore[arg-type]
    for one in made.values():
        content = one.path.read_bytes()
        assert (hashlib.sha256(content).digest(), len(content)) == (one.sha256, one.bytes)
        assert pq.ParquetFile(one.path).metadata.num_rows == one.rows > 0
    return {one.path.stem: pq.ParquetFile(one.path).read().to_pylist() for one in made.values()}


def refused(folder: Path, body: str, **more: object) -> str:
    with pytest.raises(DownstreamFailed) as caught:
        run(folder, body, **more)
    told = str(caught.value)
    assert told.startswith("models/m.py") and "\n" not in told
    return told


def test_a_model_gets_the_types_of_the_frames_for_notebooks(tmp_path: Path) -> None:
    """The same columns with the same types, so that what was tried there works here."""
    home = Home(tmp_path)
    home.publish(home.order(1, 1, 2.5), home.order(2, 2, None))
    paths = sorted(map(str, (home.output / "curated").glob("date=*/fact_order.parquet")))
    frame, there = frame_of(View(FACT, paths)), orders_df(home.output)
    common = frame.columns.intersection(there.columns)
    assert len(common) == 8 and dict(frame.dtypes[common]) == dict(there.dtypes[common])
    assert frame["order_id"].tolist() == ["o_1", "o_2"] and frame["amount"].sum() == Decimal("2.5")


def test_a_table_without_files_is_an_empty_frame_with_its_columns(tmp_path: Path) -> None:
    """So a model need not ask whether there is one."""
    frame = frame_of(View(FACT, []))
    assert list(frame.columns) == FACT.names and len(frame) == 0


def test_a_file_that_lacks_a_column_shows_missing_values(tmp_path: Path) -> None:
    """An extra column that came later."""
    view = facts(tmp_path)
    frame = frame_of(View(pa.schema([*FACT, pa.field("status", pa.large_string())]), view.paths, True))
    assert frame["status"].isna().all() and len(frame) == 2


@pytest.mark.parametrize(
    "dates",
    [
        "fact_order['date']",
        "[d for d in fact_order['date']]",
        "pd.to_datetime(fact_order['date'])",
        "pd.to_datetime(fact_order['date']).astype('datetime64[s]')",
        "pd.to_datetime(fact_order['date']).dt.tz_localize('Europe/Berlin')",
        "[np.datetime64(d) for d in fact_order['date']]",
        "fact_order['date'].astype(object)",
        "fact_order['date'].astype('category')",
        "pd.Series(fact_order['date'], dtype=pd.ArrowDtype(pa.date64()))",
        "pd.Series(pd.to_datetime(fact_order['date']), dtype=pd.ArrowDtype(pa.timestamp('us')))",
        "fact_order['created_at'].dt.normalize()",
        "fact_order['created_at'].dt.date",
    ],
)
def test_dates_may_have_any_type_that_is_a_date(tmp_path: Path, dates: str) -> None:
    """datetime.date, datetime64 and Arrow's, at midnight; the file has a DATE, in the place of the column."""
    found = run(tmp_path, f"return pd.DataFrame({{'a': 1, 'date': {dates}, 'z': 2}})")
    assert found == {str(d): [{"a": 1, "date": d, "z": 2}] for d in (DAY, date(2026, 3, 3))}
    assert list(found["2026-03-02"][0]) == ["a", "date", "z"]


@pytest.mark.parametrize(
    ("dates", "told"),
    [
        ("fact_order['created_at']", "is an instant"),
        ("pd.to_datetime(fact_order['date']) + pd.Timedelta(1, 'ns')", "is an instant"),
        ("[None, datetime.date(2026, 3, 2)]", "no date (NULL)"),
        ("[pd.NaT, pd.Timestamp('2026-03-02')]", "no date (NULL)"),
        ("pd.Series([pd.NA, datetime.date(2026, 3, 2)], dtype=pd.ArrowDtype(pa.date32()))", "no date (NULL)"),
        ("[float('nan'), datetime.date(2026, 3, 2)]", "no date (NULL)"),
        ("['2026-03-02', '2026-03-03']", "'2026-03-02' is no date"),
        ("[20260302, 20260303]", "20260302 is no date"),
        ("[1.5, 2.5]", "1.5 is no date"),
        ("['x' * 10**6] * 2", "xxx"),
    ],
)
def test_what_is_no_date_is_refused(tmp_path: Path, dates: str, told: str) -> None:
    """An instant with a time, a missing date, a text, a number: with what to do."""
    found = refused(tmp_path, f"return pd.DataFrame({{'date': {dates}}})")
    assert told in found and len(found) < 600


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("'text'", "text"),
        ("1", 1),
        ("1.5", 1.5),
        ("True", True),
        ("None", None),
        ("fact_order['amount']", Decimal("0.0000")),
        ("fact_order['currency']", "EUR"),
        ("fact_order['created_at']", datetime(2026, 3, 2, 10, tzinfo=UTC)),
        ("fact_order['created_at'].dt.tz_localize(None)", datetime(2026, 3, 2, 10)),
        ("fact_order['currency'].astype('category')", "EUR"),
        ("fact_order['line_number']", 1),
        ("[[1, 2]] * len(fact_order)", [1, 2]),
        ("[{'k': 1}] * len(fact_order)", {"k": 1}),
        ("b'bytes'", b"bytes"),
        ("np.float32(0.5)", 0.5),
    ],
)
def test_columns_of_a_result_keep_their_values(tmp_path: Path, column: str, value: object) -> None:
    """Of every type that Parquet has."""
    found = run(tmp_path, f"return pd.DataFrame({{'date': fact_order['date'], 'x': {column}}})")
    assert found["2026-03-02"] == [{"date": DAY, "x": value}]


@pytest.mark.parametrize("column", ["1j", "[1, 'a']", "[object(), object()]", "pd.DateOffset(months=1)"])
def test_columns_that_no_file_can_have_are_refused(tmp_path: Path, column: str) -> None:
    """In one line."""
    assert "does not fit into a file" in refused(
        tmp_path, f"return pd.DataFrame({{'date': fact_order['date'], 'x': {column}}})"
    )


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("pass", "returned NoneType"),
        ("return fact_order['amount']", "returned Series"),
        ("return 'text'", "returned str"),
        ("return fact_order[['amount']]", "no column `date`; it has amount"),
        ("return pd.DataFrame()", "no column `date`; it has none"),
        ("return fact_order.set_index('date')", "no column `date`"),
        ("return fact_order[['date', 'date']]", "a name of its own"),
        ("return fact_order[['date']].assign(**{'x': 1}).rename(columns={'x': 7})", "a name of its own"),
        ("return fact_order.groupby('date').agg({'amount': ['sum', 'max']}).reset_index()", "a name of its own"),
        ("x = 1\nreturn 1 / 0", "line 8: ZeroDivisionError"),
        ("return fact_order['nope']", "line 7: KeyError"),
        ("import sys\nsys.exit(3)", "line 8: SystemExit: 3"),
        ("raise KeyboardInterrupt", "line 7: KeyboardInterrupt"),
        ("raise ValueError('a\\nb' * 10_000)", "line 7: ValueError: a b"),
        ("import nowhere_at_all", "line 7: ModuleNotFoundError"),
        ("return model(fact_order)", "line 7: RecursionError"),
    ],
)
def test_what_is_no_frame_of_rows_by_date_is_refused(tmp_path: Path, body: str, told: str) -> None:
    """With the line of the model where it is its error; also what would end the process."""
    found = refused(tmp_path, body)
    assert told in found and len(found) < 600


def test_an_error_at_the_top_of_the_file_names_its_line(tmp_path: Path) -> None:
    """It is the model's error as well."""
    text = "x = 1\ny = x / 0\n\ndef model(fact_order):\n    return fact_order\n"
    with pytest.raises(DownstreamFailed, match=r"models/m\.py, line 2: ZeroDivisionError"):
        run_pandas(Run("models/m.py", text, {"fact_order": facts(tmp_path)}, tmp_path))


def test_running_out_of_memory_is_not_taken_for_an_error_of_the_model(tmp_path: Path) -> None:
    """The process tells it, with the limit."""
    with pytest.raises(MemoryError):
        run(tmp_path, "raise MemoryError")


def test_rows_of_a_date_keep_their_order(tmp_path: Path) -> None:
    """As the model returned them; the dates may come in any order, and the index does not matter."""
    body = "f = pd.concat([fact_order, fact_order[::-1]])[['date']]\nreturn f.assign(n=[1, 2, 3, 4])"
    found = run(tmp_path, body)
    assert {name: [row["n"] for row in rows] for name, rows in found.items()} == {
        "2026-03-02": [1, 4],
        "2026-03-03": [2, 3],
    }


def test_only_the_dates_that_were_asked_for_are_kept(tmp_path: Path) -> None:
    """Others belong to another piece; what cannot follow from what was read is refused."""
    asked = [epoch_days("2026-03-03")]
    possible = [*asked, epoch_days("2026-03-02")]
    assert run(tmp_path, "return fact_order[['date']]", asked=asked, possible=possible).keys() == {"2026-03-03"}
    assert "2026-03-02" in refused(tmp_path, "return fact_order[['date']]", asked=asked, possible=asked)


def test_no_rows_are_no_files(tmp_path: Path) -> None:
    """An empty frame with a date column is a result."""
    assert run(tmp_path, "return fact_order.head(0)") == {}
    assert run(tmp_path, "return pd.DataFrame({'date': []})") == {}
    assert run(tmp_path, "return fact_order[['date']]", rows=0) == {}


def test_a_model_is_compiled_as_it_stands(tmp_path: Path) -> None:
    """No `from __future__` of ours changes it."""
    body = "def f(x: 1 + 1): ...\nassert f.__annotations__ == {'x': 2}\nreturn fact_order[['date']]"
    assert len(run(tmp_path, body)) == 2


@pytest.mark.parametrize("name", ["m", "decimal"])
def test_a_model_is_a_module_that_python_knows_while_it_runs(tmp_path: Path, name: str) -> None:
    """As dataclasses need it, whatever its name: a module of Python of that name stays."""
    text = (
        "from __future__ import annotations\nimport decimal, pickle\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Row:\n    n: int = 0\n\n"
        "def model(fact_order):\n    assert decimal.Decimal(1) == pickle.loads(pickle.dumps(Row(1))).n\n"
        "    return fact_order[['date']]\n"
    )
    before = set(sys.modules)
    made = run_pandas(Run(f"models/{name}.py", text, {"fact_order": facts(tmp_path)}, tmp_path))
    assert len(made) == 2 and not {one for one in set(sys.modules) - before if one.startswith("model")}


def test_equal_frames_are_equal_files(tmp_path: Path) -> None:
    """So what did not change is not written again."""
    body = "return fact_order[['date', 'amount', 'currency']]"
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        folder.mkdir()
        run(folder, body)
    contents = [{path.name: path.read_bytes() for path in (folder / "out").iterdir()} for folder in folders]
    assert contents[0] == contents[1] and contents[0].keys() == {f"{day(1)}.parquet", f"{day(2)}.parquet"}
