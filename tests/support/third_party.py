"""Data from third-party generators, converted into drops, and the totals that the daemon must publish.

The orders come from jafgen (a simulated café chain, CSV) and tpchgen-cli (TPC-H, Parquet), so this project chose neither their
shape nor their quirks. The converters move values and never compute with them. The totals come from a direct DuckDB query of the
generator's files and share nothing with the drops.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest

from benchmarks.data import find_tool, make_tables, order_lines_sql, write_ndjson

INDIA = timezone(timedelta(hours=5, minutes=30))
JAFGEN_PAGE_ORDERS = 500
TPCH_PAGE_ORDERS = 5_000

Order = dict[str, object]


def require_tool(name: str) -> str:
    """The path of a generator's command. Without it, the test is skipped; in CI it fails, so that no gap goes unnoticed."""
    path = find_tool(name)
    if path is not None:
        return path
    reason = f"{name} is not installed: pip install {name}"
    if os.environ.get("REQUIRE_TEST_TOOLS") == "1":
        pytest.fail(reason)
    return pytest.skip(reason)


@dataclass(frozen=True)
class Page:
    """A future drop: one page of an API response."""

    name: str
    content: bytes

    @property
    def order_ids(self) -> list[str]:
        """The orders on this page."""
        return [str(order["order_id"]).strip() for order in read_page(self.content)]


# --- jafgen ----------------------------------------------------------------------------------------------------------


def run_jafgen(folder: Path, years: int = 1) -> Path:
    """Lets jafgen simulate some years. It writes below the current folder. Each run gives other data, on purpose."""
    tool = require_tool("jafgen")
    subprocess.run([tool, str(years)], cwd=folder, check=True, capture_output=True, timeout=600)
    return folder / "jaffle-data"


def jafgen_pages(tables: Path, size: int = JAFGEN_PAGE_ORDERS) -> list[Page]:
    """The orders as pages of an API: an envelope, amounts as decimal text, and the next page."""
    orders = jafgen_orders(tables)
    cuts = range(0, len(orders), size)
    return [jafgen_page(orders[cut : cut + size], number, len(cuts)) for number, cut in enumerate(cuts, 1)]


def jafgen_page(orders: list[Order], number: int, last: int) -> Page:
    """One envelope."""
    following = None if number == last else f"/orders?page={number + 1}"
    envelope = {"data": orders, "page": number, "next": following}
    return Page(f"orders-page-{number:04}.json", json.dumps(envelope).encode())


def jafgen_orders(tables: Path) -> list[Order]:
    """Each row of raw_orders.csv as an order, with its rows of raw_items.csv as items, priced by raw_products.csv."""
    prices = {product["sku"]: product["price"] for product in read_csv(tables / "raw_products.csv")}
    items = defaultdict(list)
    for item in read_csv(tables / "raw_items.csv"):
        items[item["order_id"]].append({"sku": item["sku"], "qty": 1, "price": decimal_text(prices[item["sku"]])})
    return [jafgen_order(row, items[row["id"]]) for row in read_csv(tables / "raw_orders.csv")]


def jafgen_order(row: dict[str, str], items: list[Order]) -> Order:
    """One order. jafgen's times have no zone, which means UTC in the input contract."""
    return {
        "order_id": row["id"],
        "user_id": row["customer"],
        "amount": decimal_text(row["order_total"]),
        "currency": "USD",
        "created_at": row["ordered_at"],
        "items": items,
        "metadata": {"store_id": row["store_id"], "tax_paid": int(row["tax_paid"])},
    }


def jafgen_dimensions(tables: Path) -> list[Page]:
    """The customers and products of jafgen, with column names of the input contract. Only the headers are changed."""
    customers = (tables / "raw_customers.csv").read_bytes().replace(b"id,name", b"user_id,full_name", 1)
    products = (tables / "raw_products.csv").read_bytes().replace(b"sku,name,type,", b"sku,name,category,", 1)
    return [Page("users-jafgen.csv", customers), Page("products-jafgen.csv", products)]


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, all of them as text."""
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def decimal_text(cents: str) -> str:
    """Whole cents as decimal text, without floats: "3921" is "39.21"."""
    sign, digits = ("-", cents[1:]) if cents.startswith("-") else ("", cents)
    padded = digits.zfill(3)
    return f"{sign}{padded[:-2]}.{padded[-2:]}"


# --- TPC-H -----------------------------------------------------------------------------------------------------------


def run_tpch(folder: Path, scale: str = "0.1") -> Path:
    """The orders and lineitem tables of TPC-H; scale 0.1 has 150,000 orders."""
    require_tool("tpchgen-cli")
    return make_tables(folder / f"tpch-sf{scale}", scale)


def tpch_pages(tables: Path, scratch: Path, size: int = TPCH_PAGE_ORDERS) -> list[Page]:
    """The orders in pages that are alternately arrays and lines, with amounts as JSON numbers and their original dates."""
    ndjson = scratch / "tpch-lines.ndjson"
    write_ndjson(order_lines_sql(tables, "as_is"), ndjson)
    lines = ndjson.read_bytes().splitlines()
    ndjson.unlink()
    return [tpch_page(lines[cut : cut + size], number) for number, cut in enumerate(range(0, len(lines), size), 1)]


def tpch_page(lines: list[bytes], number: int) -> Page:
    """An array when the number is even, else lines."""
    if number % 2:
        return Page(f"orders-{number:04}.ndjson", b"\n".join(lines) + b"\n")
    return Page(f"orders-{number:04}.json", b"[" + b",\n ".join(lines) + b"]")


# --- the same orders in another spelling -----------------------------------------------------------------------------


def read_page(content: bytes) -> list[Order]:
    """The orders of a page from this module: an envelope, an array, or lines."""
    if content.startswith(b"["):
        return json.loads(content)
    if content.startswith(b'{"data"'):
        return json.loads(content)["data"]
    return [json.loads(line) for line in content.splitlines()]


def respelled(page: Page) -> Page:
    """The same orders in other bytes, as from an API that was rewritten in another language. No order changes."""
    orders = [respelled_order(order) for order in read_page(page.content)]
    if page.content.startswith(b"["):
        return Page(f"again-{page.name}", json.dumps({"orders": orders}, indent=1).encode())
    if page.content.startswith(b'{"data"'):
        lines = "".join(json.dumps(order, separators=(",", ":")) + "\n" for order in orders)
        return Page(f"again-{page.name}", lines.encode())
    return Page(f"again-{page.name}", json.dumps(orders).encode())


def respelled_order(order: Order) -> Order:
    """Reverses the keys, pads the id with blanks, writes the instant in Indian time, numbers as text and text as numbers."""
    items = [{**item, "price": respelled_number(item["price"])} for item in order["items"]]
    changed = {
        "order_id": f" {order['order_id']} ",
        "amount": respelled_number(order["amount"]),
        "created_at": respelled_instant(str(order["created_at"])),
        "items": items,
        "field_of_tomorrow": True,
    }
    return dict(reversed({**order, **changed}.items()))


def respelled_number(value: str | float) -> str | float:
    """`"39.20"` to 39.2, and 39.2 to `"39.2000"`. Up to 15 digits, a float has the text of the original decimal."""
    return float(value) if isinstance(value, str) else f"{value:.4f}"


def respelled_instant(text: str) -> str:
    """The same instant, on another calendar date for a quarter of them."""
    instant = datetime.fromisoformat(text)
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return aware.astimezone(INDIA).isoformat(sep=" ")


# --- totals ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Totals:
    """The totals that must be equal on both sides. All are decimals, so the comparison is exact."""

    by_day: dict[object, tuple]  # orders, lines, qty, qty * price, amount
    by_product: dict[object, tuple]  # lines, qty, qty * price; None: orders without items
    items_by_product: dict[object, tuple]


# Both sources as two tables: orders (id, day, amount) and items (id, sku, qty, value). Cents are scaled with decimals.
JAFGEN_TABLES = """
orders AS (
  SELECT id, CAST(ordered_at AS DATE) AS day, CAST(order_total AS DECIMAL(15, 0)) * 0.01 AS amount
  FROM read_csv('{tables}/raw_orders.csv', all_varchar = true)
), items AS (
  SELECT order_id AS id, sku, CAST(1 AS DECIMAL(15, 0)) AS qty, CAST(price AS DECIMAL(15, 0)) * 0.01 AS value
  FROM read_csv('{tables}/raw_items.csv', all_varchar = true) AS sold
  JOIN read_csv('{tables}/raw_products.csv', all_varchar = true) AS products USING (sku)
)
"""
TPCH_TABLES = """
orders AS (
  SELECT 'o_' || o_orderkey AS id, o_orderdate AS day, o_totalprice AS amount FROM '{tables}/orders.parquet'
), items AS (
  SELECT 'o_' || l_orderkey AS id, 'p_' || l_partkey AS sku, l_quantity AS qty, l_extendedprice AS value
  FROM '{tables}/lineitem.parquet'
)
"""
WITHOUT = "kept AS (SELECT * FROM orders WHERE id NOT IN (SELECT unnest(CAST($left_out AS VARCHAR[]))))"
EXPECTED_BY_DAY = """
, baskets AS (SELECT id, count(*) AS lines, sum(qty) AS qty, sum(value) AS value FROM items GROUP BY id)
SELECT day, count(*), sum(coalesce(lines, 1)), sum(qty), sum(value), sum(amount)
FROM kept LEFT JOIN baskets USING (id) GROUP BY day
"""
EXPECTED_BY_PRODUCT = "SELECT sku, count(*), sum(qty), sum(value) FROM kept LEFT JOIN items USING (id) GROUP BY sku"
EXPECTED_ITEMS = "SELECT sku, count(*), sum(qty), sum(value) FROM kept JOIN items USING (id) GROUP BY sku"

FOUND_BY_DAY = """
SELECT date, count(DISTINCT order_id), count(*), sum(qty), sum(qty * price), sum(amount)
FROM read_parquet('{output}/curated/date=*/fact_order.parquet', hive_partitioning = false) GROUP BY date
"""
FOUND_BY_PRODUCT = """
SELECT sku, count(*), sum(qty), sum(qty * price)
FROM read_parquet('{output}/curated/date=*/{table}.parquet', hive_partitioning = false) GROUP BY sku
"""


JAFGEN_BY_CATEGORY = """
SELECT type, count(*), sum(CAST(price AS DECIMAL(15, 0)) * 0.01) FROM read_csv('{tables}/raw_items.csv', all_varchar = true)
JOIN read_csv('{tables}/raw_products.csv', all_varchar = true) USING (sku) GROUP BY type
"""
FOUND_BY_CATEGORY = """
SELECT category, count(*), sum(qty * items.price)
FROM read_parquet('{output}/curated/date=*/order_items.parquet', hive_partitioning = false) AS items
JOIN '{output}/curated/dim_product.parquet' USING (sku) GROUP BY category
"""
JAFGEN_CUSTOMERS = "SELECT id, NULL, NULL, NULL FROM read_csv('{tables}/raw_customers.csv', all_varchar = true)"
FOUND_USERS = "SELECT user_id, email, created_at, country FROM '{output}/curated/dim_user.parquet'"


def expected_totals(sources: str, tables: Path, left_out: Iterable[str] = ()) -> Totals:
    """The totals of the generator's files, without the orders that are not delivered yet."""
    head = f"WITH {sources.format(tables=tables)}, {WITHOUT} "
    given = {"left_out": list(left_out)}
    queries = (EXPECTED_BY_DAY, EXPECTED_BY_PRODUCT, EXPECTED_ITEMS)
    return Totals(*(keyed_rows(head + query, given) for query in queries))


def curated_totals(output: Path) -> Totals:
    """The same totals of the published files."""
    fact = FOUND_BY_PRODUCT.format(output=output, table="fact_order")
    items = FOUND_BY_PRODUCT.format(output=output, table="order_items")
    return Totals(*(keyed_rows(query) for query in (FOUND_BY_DAY.format(output=output), fact, items)))


def keyed_rows(query: str, given: dict[str, object] | None = None) -> dict[object, tuple]:
    """The rows of a query by their first column."""
    with duckdb.connect() as database:
        return {row[0]: row[1:] for row in database.execute(query, given).fetchall()}
