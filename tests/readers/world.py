"""One output with the values at the ends of every type, and the rows that each of its tables must have.

Those of fact_order and order_items are the plain model's, and what follows from them is plain Python; the rest are literals.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from daemon.core.mapping import Columns, FieldMapping
from daemon.core.model import LAST_INSTANT
from tests.model import Drop, Model
from tests.strategies import RECEIVED_AT_US
from tests.support.as_model import as_model_mapping
from tests.support.command import strandline
from tests.support.harness import apply_batch, open_engine

Row = dict[str, Any]
COLUMNS: Columns = (("gift", "boolean"), ("shipped", "instant"), ("status", "text"), ("tip", "decimal"))
MOST = "99999999999999.9999"
FIRST, LAST = "1970-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"
MICROSECOND = "1970-01-01T00:00:00.000001Z"

# The values of one row, as SQL and as they must be read: the types that a model may have. TIME is in a model of its own, since
# Spark refuses it.
KINDS: dict[str, tuple[str, Any]] = {
    "yes": ("true", True),
    "tiny": ("(-128)::TINYINT", -128),
    "small": ("(-32768)::SMALLINT", -(2**15)),
    "whole": ("(-2147483648)::INTEGER", -(2**31)),
    "big": ("(-9223372036854775808)::BIGINT", -(2**63)),
    "utiny": ("255::UTINYINT", 2**8 - 1),
    "usmall": ("65535::USMALLINT", 2**16 - 1),
    "uwhole": ("4294967295::UINTEGER", 2**32 - 1),
    "ubig": ("18446744073709551615::UBIGINT", 2**64 - 1),
    "half": ("0.1::FLOAT", 0.10000000149011612),
    "double": ("'-inf'::DOUBLE", float("-inf")),
    "d4": ("999.9::DECIMAL(4,1)", Decimal("999.9")),
    "d9": ("-9999999.99::DECIMAL(9,2)", Decimal("-9999999.99")),
    "d18": (f"-{MOST}::DECIMAL(18,4)", -Decimal(MOST)),
    "d38": (f"{'9' * 28}.{'9' * 10}::DECIMAL(38,10)", Decimal("9" * 28 + "." + "9" * 10)),
    "text": ("'nul' || chr(0) || 'l, 😀'", "nul\0l, 😀"),
    "blob": ("'\\x00\\xFF'::BLOB", b"\0\xff"),
    "day": ("DATE '0001-01-01'", date(1, 1, 1)),
    "local": ("TIMESTAMP '1582-10-10 00:00:00.000001'", datetime(1582, 10, 10, 0, 0, 0, 1)),
    "instant": ("TIMESTAMPTZ '9999-12-31 23:59:59.999999+00'", datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
    "list": ("[1, NULL, 2]", [1, None, 2]),
    "empty": ("[]::VARCHAR[]", []),
    "struct": ("{'a': 1, 'b': [{'c': 'x'}]}", {"a": 1, "b": [{"c": "x"}]}),
    "map": ("MAP {'k': 1.5::DECIMAL(18,4)}", {"k": Decimal("1.5")}),
}
DAYS = (date(1, 1, 1), date(1970, 1, 1), date(9999, 12, 31))


def _kinds() -> str:
    """A model with a row of those values on each of DAYS, and a row of NULLs on each."""
    values = ", ".join(f"{text} AS {name}" for name, (text, _) in KINDS.items())
    nulls = ", ".join(f"NULL AS {name}" for name in KINDS)
    days = ", ".join(f"DATE '{day}'" for day in DAYS)
    both = f"SELECT 1 AS n, {values} UNION ALL SELECT 2 AS n, {nulls}"
    rows = f"(SELECT unnest([{days}]) AS date) AS days, ({both}) AS rows, (SELECT count(*) FROM dim_user) AS there"
    return f"-- whole\nSELECT date, rows.* FROM {rows}\nORDER BY date, n"


def kinds() -> list[Row]:
    full = {name: value for name, (_, value) in KINDS.items()}
    return [{"date": day, "n": n} | row for day in DAYS for n, row in ((1, full), (2, dict.fromkeys(KINDS)))]


MODELS = ("clock", "daily", "frame", "kinds")
FILES = {
    "models/kinds.sql": _kinds(),
    "models/clock.sql": "SELECT DISTINCT date, TIME '23:59:59.999999' AS clock FROM fact_order",
    "models/daily.sql": "SELECT date, count(DISTINCT order_id) AS orders, sum(amount) AS amount FROM fact_order GROUP BY date",
    "models/frame.py": (
        "def model(fact_order):\n    some = fact_order[['date', 'order_id', 'line_number', 'amount', 'created_at', 'user_id']]\n"
        "    return some[some.line_number <= 1]\n"
    ),
    "checks/negative.sql": "SELECT date, order_id, line_number, amount FROM fact_order WHERE amount < 0",
}

USERS = f"""user_id,email,created_at,country
u_0,,,
u_1,"a,""b""@example.org",{FIRST},NA
u_2,日本😀,{LAST},
"""
PRODUCTS = f"""sku,name,category,price
p_0,,,
p_1,{"é" * 128},c,{MOST}
p_2,😀,,-{MOST}
"""


def _order(order_id: str, created_at: str, **more: Any) -> str:
    return json.dumps({"order_id": order_id, "created_at": created_at} | more, ensure_ascii=False)


def _all_of_unicode() -> Iterator[str]:
    """Texts that have every character together, of up to 256 bytes each. A letter on both sides keeps white space."""
    text = ""
    for number in (*range(0xD800), *range(0xE000, 0x110000)):
        text += chr(number)
        if len(text) == 63:
            yield f"a{text}z"
            text = ""
    yield f"a{text}z"


def _drops() -> list[tuple[Columns, list[tuple[str, str]]]]:
    """Batches: the extra columns that are defined, and drops. On 1970-01-01 nothing changes after the first batch, so its file
    has none of the extra columns."""
    item = {"sku": "p_1", "qty": MOST, "price": MOST}
    nothing = {"sku": None, "qty": None, "price": None}
    full = {
        "user_id": "u_1",
        "amount": MOST,
        "currency": "EUR",
        "updated_at": LAST,
        "metadata": {"a": [1, {}]},
        "items": [item],
    }
    each = [
        _order(f"without {name}", "2026-03-02T10:00:00Z", **{key: value for key, value in full.items() if key != name})
        for name in full
    ]
    extra = {"gift": True, "shipped": LAST, "status": "paid", "tip": f"-{MOST}"}
    each_extra = [
        _order(f"with {name}", "2026-03-04", **{name: value}) for name, value in (extra | {"gift": False}).items()
    ]
    everything = [
        _order("all", LAST, **full, **extra),
        _order("last", LAST, **extra | {"shipped": FIRST}),
        _order("least", "9999-12-31", amount=f"-{MOST}", items=[item, nothing], tip="0.0001"),
    ]
    unicode = _order(
        "unicode", "2026-03-03T00:00:00Z", items=[{"sku": text} for text in _all_of_unicode()], metadata="\0"
    )
    first = [
        _order("o_1", FIRST, amount=1, items=[nothing, nothing, item]),
        _order("o_0", FIRST),
        _order("o_2", "1970-01-01T23:59:59.999999Z", updated_at=MICROSECOND, amount="-0.0001"),
        "not an order",
        *each,
    ]
    return [
        ((), [("first.jsonl", "\n".join(first)), ("users.csv", USERS), ("products.csv", PRODUCTS)]),
        (COLUMNS, [("second.jsonl", "\n".join([*each[:2], *each_extra, *everything, unicode]))]),
    ]


@dataclass(frozen=True)
class World:
    """The files of each table, and the rows that they must have, by its name."""

    home: Path
    files: dict[str, list[Path]]
    rows: dict[str, list[Row]]


def build(home: Path) -> World:
    """An output of two batches, with models and a check."""
    model = Model(tolerance_us=LAST_INSTANT)
    with open_engine(home) as engine:
        for columns, drops in _drops():
            mapping = FieldMapping(columns=tuple((name, kind, (name,)) for name, kind in columns))
            given = [(name, text.encode()) for name, text in drops]
            apply_batch(engine, home, given, RECEIVED_AT_US, LAST_INSTANT, mapping=mapping)
            orders = [Drop(name, data, RECEIVED_AT_US) for name, data in given if name.endswith(".jsonl")]
            model.apply(orders, mapping=as_model_mapping(mapping))
    for name, text in FILES.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text)
    ended = strandline(home, "--once")
    assert ended.returncode == 0, ended.stderr
    ended = strandline(home, "sql", "FROM discards", "--output", str(home / "discards.parquet"))
    assert ended.returncode == 0, ended.stderr
    output = home / "output"
    found = {
        "fact_order": sorted(output.glob("curated/date=*/fact_order.parquet")),
        "order_items": sorted(output.glob("curated/date=*/order_items.parquet")),
        "dim_user": [output / "curated/dim_user.parquet"],
        "dim_product": [output / "curated/dim_product.parquet"],
        "discards": [home / "discards.parquet"],
        "negative": [output / "checks/negative/negative.parquet"],
    }
    found |= {name: sorted(output.glob(f"models/{name}/date=*/{name}.parquet")) for name in MODELS}
    return World(home, found, _expected(model))


def _expected(model: Model) -> dict[str, list[Row]]:
    none = dict.fromkeys(name for name, _ in COLUMNS)
    fact = [none | row for day in model.dates() for row in model.fact_rows(day)]
    for row in fact:
        row["date"] = date.fromisoformat(row["date"])
    items = [row | {"date": date.fromisoformat(row["date"])} for day in model.dates() for row in model.item_rows(day)]
    negative = [
        {name: row[name] for name in ("date", "order_id", "line_number", "amount")}
        for row in fact
        if row["amount"] is not None and row["amount"] < 0
    ]
    return {
        "fact_order": fact,
        "order_items": items,
        "dim_user": [
            {"user_id": "u_0", "email": None, "created_at": None, "country": None},
            {"user_id": "u_1", "email": 'a,"b"@example.org', "created_at": 0, "country": "NA"},
            {"user_id": "u_2", "email": "日本😀", "created_at": LAST_INSTANT, "country": None},
        ],
        "dim_product": [
            {"sku": "p_0", "name": None, "category": None, "price": None},
            {"sku": "p_1", "name": "é" * 128, "category": "c", "price": Decimal(MOST)},
            {"sku": "p_2", "name": "😀", "category": None, "price": -Decimal(MOST)},
        ],
        "clock": [{"date": day, "clock": time(23, 59, 59, 999_999)} for day in sorted({row["date"] for row in fact})],
        "discards": [
            {"drop": 1, "name": "first.jsonl", "source": "default", "position": 4, "reason": "malformed_record"}
            | {"record": '"not an order"'}
        ],
        "daily": [
            _of_day(day, [row for row in fact if row["date"] == day]) for day in sorted({r["date"] for r in fact})
        ],
        "frame": [
            {name: row[name] for name in ("date", "order_id", "line_number", "amount", "created_at", "user_id")}
            for row in fact
            if row["line_number"] <= 1
        ],
        "kinds": kinds(),
        "negative": negative,
    }


def _of_day(day: date, fact: list[Row]) -> Row:
    amounts = [row["amount"] for row in fact if row["amount"] is not None]
    return {"date": day, "orders": len({row["order_id"] for row in fact}), "amount": sum(amounts) if amounts else None}
