"""Random models over random histories, with rounds that crash: what is there in the end is what the same SQL gives when it is run
once over everything, and what plain Python expects."""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.downstream.inputs import schemas
from daemon.downstream.records import Records
from tests.support.crash import Crash
from tests.support.crash import World as Crashing
from tests.support.examples import examples
from tests.support.following import LIMITS, Home, InlineWorker, day, file_rows, never

HISTORIES = examples(8)
WORKER = InlineWorker(LIMITS)
SUM = "CAST(sum(amount) AS DECIMAL(38, 4))"


@dataclass(frozen=True)
class Model:
    """A file of the folder of models, and the SQL that gives the same when it is run over everything. `needs`: models that it
    reads."""

    file: str
    text: str
    sql: str = ""
    needs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.file.partition(".")[0]

    @property
    def oracle(self) -> str:
        return self.sql or self.text


AGGREGATES = {"n": "count(*)", "total": SUM, "least": "min(amount)", "users": "count(DISTINCT user_id)"}
CONDITIONS = ["true", "amount > 0", "user_id = 'u_1'", "amount IS NULL OR amount < 2"]
PANDAS = {
    "n": "('order_id', 'size')", "total": "('amount', 'sum')", "least": "('amount', 'min')", "users": "('user_id', 'nunique')",
}  # fmt: skip


def grouped(aggregate: str, condition: str) -> Model:
    return Model(
        "grouped.sql", f"SELECT date, {AGGREGATES[aggregate]} AS x FROM fact_order WHERE {condition} GROUP BY date"
    )


def rolling(aggregate: str, condition: str, days: int) -> Model:
    return Model(
        "rolling.sql",
        f"-- lookback = {days}\nSELECT CAST(date + ahead AS DATE) AS date, {AGGREGATES[aggregate]} AS x\n"
        f"FROM fact_order, (SELECT unnest(range({days + 1})::INTEGER[]) AS ahead) WHERE {condition} GROUP BY 1",
    )


def whole(condition: str) -> Model:
    return Model(
        "firsts.sql", f"-- whole\nSELECT min(date) AS date, user_id FROM fact_order WHERE {condition} GROUP BY user_id"
    )


def frame(aggregate: str) -> Model:
    """The same as `grouped` in pandas; it leaves a missing amount out of a sum, as SQL does."""
    return Model(
        "frame.py",
        "def model(fact_order):\n    kept = fact_order[fact_order['amount'].notna()]\n"
        f"    return kept.groupby('date', as_index=False).agg(x={PANDAS[aggregate]})\n",
        f"SELECT date, {AGGREGATES[aggregate]} AS x FROM fact_order WHERE amount IS NOT NULL GROUP BY date",
    )


def whole_frame() -> Model:
    return Model(
        "ranks.py",
        "# whole\ndef model(fact_order):\n"
        "    return fact_order.dropna(subset='user_id').groupby('user_id', as_index=False)['date'].max()\n",
        "SELECT user_id, max(date) AS date FROM fact_order WHERE user_id IS NOT NULL GROUP BY user_id",
    )


def over(name: str, column: str) -> Model:
    return Model("over.sql", f"SELECT date, {column} AS y, date + 0 AS again FROM {name}", needs=(name,))


def over_days(name: str, days: int) -> Model:
    return Model(
        "overdays.sql",
        f"-- lookback = {days}\nSELECT CAST(date + ahead AS DATE) AS date, count(*) AS y\n"
        f"FROM {name}, (SELECT unnest(range({days + 1})::INTEGER[]) AS ahead) GROUP BY 1",
        needs=(name,),
    )


COUNTRIES = Model(
    "countries.sql",
    "SELECT date, coalesce(country, '?') AS country, count(*) AS n\n"
    "FROM fact_order LEFT JOIN dim_user USING (user_id) GROUP BY 1, 2",
)


@st.composite
def models(draw: st.DrawFn) -> list[Model]:
    """Some of the family, those that others read among them."""
    aggregate, condition = draw(st.sampled_from(list(AGGREGATES))), draw(st.sampled_from(CONDITIONS))
    base = draw(st.sampled_from([grouped(aggregate, condition), frame(aggregate), whole(condition)]))
    column = "user_id" if base.name == "firsts" else "x"
    more = st.sampled_from(
        [rolling(aggregate, condition, draw(st.integers(0, 3))), COUNTRIES, whole_frame(), over(base.name, column),
         over_days(base.name, draw(st.integers(0, 2)))]
    )  # fmt: skip
    return [base, *draw(st.lists(more, min_size=1, max_size=3, unique_by=lambda one: one.name))]


ORDER = st.fixed_dictionaries(
    {
        "number": st.integers(0, 5), "on": st.integers(0, 6), "amount": st.sampled_from([1, 2.5, -3, 0, None]),
        "user": st.sampled_from(["u_1", "u_2", "u_3"]),
    },
    optional={"gone": st.just(True)},
)  # fmt: skip
USERS = st.dictionaries(st.sampled_from(["u_1", "u_2", "u_3"]), st.sampled_from(["DE", "FR"]), max_size=2)
# What follows a batch: nothing, a round, or a round that crashes before or after an operation.
ROUND = st.none() | st.just(0) | st.tuples(st.integers(1, 60), st.booleans())
BATCH = st.tuples(st.lists(ORDER, min_size=1, max_size=4, unique_by=lambda one: one["number"]), USERS, ROUND)


@contextmanager
def a_home() -> Iterator[Home]:
    root = Path(tempfile.mkdtemp())
    try:
        yield Home(root)
    finally:
        shutil.rmtree(root)


def lived(home: Home, history: list) -> dict[int, dict[str, Any]]:
    """Publishes the batches, with rounds between them; returns the orders there are in the end."""
    orders: dict[int, dict[str, Any]] = {}
    for number, (batch, users, after) in enumerate(history, 1):
        lines = "".join(f"{user},{country}\n" for user, country in users.items())
        versions = [
            home.order(
                one["number"], one["on"], one["amount"], one["user"], **({"gone": True} if "gone" in one else {})
            )
            for one in batch
        ]
        home.publish(*versions, users=f"user_id,country\n{lines}" if lines else "")
        for one in batch:
            orders[one["number"]] = one
            if "gone" in one:
                del orders[one["number"]]
        if isinstance(after, tuple):
            crashes(home, *after)
        elif after is not None and number < len(history):
            home.round(WORKER)
    found = home.round(WORKER)
    assert not any(one.error or one.stale for one in found.values()), found
    return orders


def crashes(home: Home, last: int, after: bool) -> None:
    """A round after whose n-th operation there is none."""
    with home.following(WORKER) as following, suppress(Crash), Crashing(last, after=after).running(Records):
        following.round(never, now=True)


def oracle(home: Home, all_models: list[Model]) -> dict[str, dict[str, list]]:
    """The rows of each model by date: its SQL once over all files."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    curated = home.output / "curated"
    for name, schema in schemas(()).items():
        connection.from_arrow(schema.empty_table()).create(f"empty_{name}")
        paths = list(map(str, [*curated.glob(f"date=*/{name}.parquet"), *curated.glob(f"{name}.parquet")]))
        rest = f"UNION ALL BY NAME SELECT * FROM read_parquet({paths!r}, hive_partitioning = false)" if paths else ""
        connection.execute(f"CREATE VIEW {name} AS SELECT * FROM empty_{name} {rest}")
    found = {}
    for model in all_models:
        connection.execute(f"CREATE VIEW {model.name} AS {model.oracle}")
        result = connection.sql(f"SELECT * FROM {model.name}")
        place = result.columns.index("date")
        by_date = defaultdict(list)
        for row in result.fetchall():
            by_date[str(row[place])].append(row)
        found[model.name] = {when: sorted(rows, key=repr) for when, rows in by_date.items()}
    return found


def made(home: Home, name: str) -> dict[str, list]:
    return {when: sorted(rows, key=repr) for when, rows in home.rows(name).items()}


@HISTORIES
@given(models(), st.lists(BATCH, min_size=1, max_size=4))
def test_models_are_what_the_same_sql_gives_over_everything(family: list[Model], history: list) -> None:
    """For any history of corrections, moves, deletions and dimensions, and wherever rounds crashed."""
    with a_home() as home:
        for model in family:
            home.model(model.file, model.text)
        lived(home, history)
        expected = oracle(home, family)
        for model in family:
            assert made(home, model.name) == expected[model.name], model


@HISTORIES
@given(st.lists(BATCH, min_size=1, max_size=5), st.integers(0, 3))
def test_a_grouped_and_a_rolling_model_are_what_plain_python_expects(history: list, days: int) -> None:
    """Counts by date, and sums over the days before it, of the orders that there are."""
    with a_home() as home:
        home.model("grouped.sql", grouped("n", "true").text)
        home.model("rolling.sql", rolling("total", "amount IS NOT NULL", days).text)
        orders = lived(home, history).values()
        counts: dict[int, int] = defaultdict(int)
        sums: dict[int, Decimal] = defaultdict(Decimal)
        for one in orders:
            counts[one["on"]] += 1
            for ahead in range(days + 1) if one["amount"] is not None else ():
                sums[one["on"] + ahead] += Decimal(str(one["amount"]))
        when = {number: date.fromisoformat(day(number)) for number in range(20)}
        assert home.rows("grouped") == {day(on): [(when[on], n)] for on, n in counts.items()}
        assert home.rows("rolling") == {day(on): [(when[on], total)] for on, total in sums.items()}


@HISTORIES
@given(st.lists(BATCH, min_size=1, max_size=4))
def test_a_check_finds_the_rows_of_the_orders_that_are_wrong(history: list) -> None:
    """Those of now, not of a history."""
    with a_home() as home:
        home.check("negative", "SELECT order_id, amount FROM fact_order WHERE amount < 0")
        orders = lived(home, history)
        expected = [
            (f"o_{number}", Decimal(one["amount"])) for number, one in orders.items() if (one["amount"] or 0) < 0
        ]
        assert sorted(file_rows(home.output / "checks" / "negative" / "negative.parquet")) == sorted(expected)


@pytest.mark.parametrize("after", [False, True])
def test_rounds_of_the_oracle_do_crash(after: bool) -> None:
    """The points that histories draw are reached, and leave something to do."""
    with a_home() as home:
        home.publish(home.order(1, 1), home.order(2, 2))
        home.model("grouped.sql", grouped("n", "true").text)
        left = set()
        for last in range(1, 60, 6):
            crashes(home, last, after)
            with home.following(WORKER) as following:
                (found,) = following.round(never, now=True)
            left.add(found.dates)
            with home.following(WORKER) as following:
                following.refresh()
        assert 2 in left and left <= {0, 2}
