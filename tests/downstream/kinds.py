"""Every kind of downstream, for the contract: how to make one, what it has, and what it should have.

A new kind is one more entry of KINDS.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from tests.support.following import Home, State, day, file_rows, state_of

Rows = Mapping[str, list[tuple[Any, ...]]]  # by date; all together where there are no dates


@dataclass(frozen=True)
class Order:
    """What the expectations know of an order. The dates are numbers."""

    number: int
    on: int
    amount: int
    user: str = "u_1"


@dataclass(frozen=True)
class Kind:
    """`make`: sets one up; `text`: makes it again with another definition that has the same result; `unmake`: removes it.
    `rows`: what it has, in any order. `marks`: by date, what changes if anybody touches the result. `expected`: in plain Python.
    `reach`: the days after a changed one that change with it; None: there is one result of all dates, or every file may change.
    `broken`: makes it fail while `bad` is published."""

    label: str
    kind: str
    name: str
    make: Callable[[Home], None]
    text: Callable[[Home], None]
    unmake: Callable[[Home], None]
    rows: Callable[[Home], Rows]
    marks: Callable[[Home], Mapping[str, State]]
    expected: Callable[[Iterable[Order]], Rows]
    broken: Callable[[Home], None]
    reach: int | None = 0
    is_dated: bool = True


def _model(
    label: str, name: str, text: str, broken: str, expected: Callable[[Iterable[Order]], Rows], **more: Any
) -> Kind:
    mark = "#" if name.endswith(".py") else "--"
    stem = name.partition(".")[0]
    folder = f"models/{stem}"
    return Kind(
        label, "model", stem,
        make=lambda home: _write(home, "model", name, text),
        text=lambda home: _write(home, "model", name, f"{text}\n{mark} the same\n"),
        unmake=lambda home: (home.models / name).unlink(),
        rows=lambda home: home.rows(stem),
        marks=lambda home: {
            path.parent.name.removeprefix("date="): state_of(path) for path in (home.output / folder).glob("*/*.parquet")
        },
        expected=expected, broken=lambda home: _write(home, "model", name, broken), **more,
    )  # fmt: skip


def _check(label: str, name: str, text: str, broken: str, expected: Callable[[Iterable[Order]], Rows]) -> Kind:
    def path(home: Home) -> Any:
        return home.output / "checks" / name / f"{name}.parquet"

    return Kind(
        label, "check", name,
        make=lambda home: _write(home, "check", f"{name}.sql", text),
        text=lambda home: _write(home, "check", f"{name}.sql", f"{text}\n-- the same\n"),
        unmake=lambda home: (home.checks / f"{name}.sql").unlink(),
        rows=lambda home: {"": file_rows(path(home))} if path(home).exists() else {},
        marks=lambda home: {"": state_of(path(home))} if path(home).exists() else {},
        expected=expected, broken=lambda home: _write(home, "check", f"{name}.sql", broken), reach=None, is_dated=False,
    )  # fmt: skip


def _write(home: Home, kind: str, name: str, text: str) -> None:
    (home.model if kind == "model" else home.check)(name, text)


def _by_day(orders: Iterable[Order]) -> dict[int, list[Order]]:
    found: dict[int, list[Order]] = defaultdict(list)
    for order in orders:
        found[order.on].append(order)
    return found


def _date(number: int) -> date:
    return date.fromisoformat(day(number))


def _daily(orders: Iterable[Order]) -> Rows:
    return {
        day(on): [(_date(on), len(those), Decimal(sum(one.amount for one in those)))]
        for on, those in _by_day(orders).items()
    }


def _window(orders: Iterable[Order]) -> Rows:
    """The sum of a date and of the two days before it, for each date that has any of them."""
    days = _by_day(orders)
    sums = {
        on: [one.amount for back in range(3) for one in days.get(on - back, ())]
        for on in {first + ahead for first in days for ahead in range(3)}
    }
    return {day(on): [(_date(on), Decimal(sum(amounts)))] for on, amounts in sums.items()}


def _firsts(orders: Iterable[Order]) -> Rows:
    """The users whose first order was on a date."""
    first: dict[str, int] = {}
    for order in sorted(orders, key=lambda one: one.on):
        first.setdefault(order.user, order.on)
    return {
        day(on): sorted((_date(on), user) for user, when in first.items() if when == on) for on in set(first.values())
    }


def _negative(orders: Iterable[Order]) -> Rows:
    return {"": sorted((f"o_{one.number}", Decimal(one.amount)) for one in orders if one.amount < 0)}


_BAD_SQL = "WHERE CASE WHEN amount = 666 THEN error('bad amount') ELSE true END"
_DAILY = (
    "SELECT date, count(*) AS orders, CAST(sum(amount) AS DECIMAL(18, 4)) AS amount\nFROM fact_order\n{} GROUP BY date"
)
_WINDOW = (
    "-- lookback = 2\nSELECT CAST(date + ahead AS DATE) AS date, sum(amount) AS amount\n"
    "FROM (SELECT * FROM fact_order {}), (SELECT unnest([0, 1, 2]) AS ahead) GROUP BY 1"
)
_FIRSTS = "-- whole\nSELECT min(date) AS date, user_id FROM (SELECT * FROM fact_order {}) GROUP BY user_id"
_PANDAS = (
    "def model(fact_order):\n"
    "    {}\n"
    "    days = fact_order.groupby('date', as_index=False)\n"
    "    return days.agg(orders=('order_id', 'count'), amount=('amount', 'sum'))\n"
)
_NEGATIVE = "SELECT order_id, amount FROM fact_order WHERE amount < 0 {}"

KINDS = [
    _model("SQL", "daily.sql", _DAILY.format(""), _DAILY.format(_BAD_SQL), _daily),
    _model("SQL with lookback", "rolling.sql", _WINDOW.format(""), _WINDOW.format(_BAD_SQL), _window, reach=2),
    _model("whole SQL", "firsts.sql", _FIRSTS.format(""), _FIRSTS.format(_BAD_SQL), _firsts, reach=None),
    _model("pandas", "frame.py", _PANDAS.format("pass"), _PANDAS.format("assert 666 not in list(fact_order.amount)"), _daily),
    _check("check", "negative", _NEGATIVE.format(""), _NEGATIVE.format(_BAD_SQL.replace("WHERE", "AND")), _negative),
]  # fmt: skip
