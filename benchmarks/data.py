"""Creates the benchmark inputs: TPC-H orders with their lineitems, as the order JSON that docs/INPUT.md describes.

The numbers come from tpchgen-cli, so they are not chosen to favour Strandline. DuckDB joins and formats them, since a Python
loop over six million items would take longer than the benchmarks. The same scale gives the same bytes every time: there is no
clock, no random number, and no hash that may change with a DuckDB version.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
WORK = REPO / "build" / "bench"
RECENT_DATES = 62
LAST_DATE = date(2026, 11, 15)
WIDE_SHIFT_YEARS = 28
LAST_TPCH_DATE = date(1998, 8, 2)
LAST_WIDE_DATE = LAST_TPCH_DATE.replace(year=LAST_TPCH_DATE.year + WIDE_SHIFT_YEARS)
CHUNK_BYTES = 16 << 20
DATES = ("recent", "wide", "as_is")
FORMS = ("ndjson", "array")


@dataclass(frozen=True)
class Input:
    """The input to create. Equal values give equal bytes, so `name` can be the key of a cache."""

    dates: str = "recent"
    form: str = "ndjson"
    scale: str = "1"
    drops: int = 1
    orders: int = 0
    last_date: date = LAST_DATE

    @property
    def name(self) -> str:
        """Everything that determines the bytes, and nothing else."""
        until = f"-{self.last_date}" if self.dates == "recent" else ""
        limit = f"-{self.orders}orders" if self.orders else ""
        return f"{self.dates}{until}-{self.form}-sf{self.scale}{limit}-{self.drops}drops"

    @property
    def latest(self) -> date:
        """The last date of the orders."""
        return {"recent": self.last_date, "wide": LAST_WIDE_DATE}.get(self.dates, LAST_TPCH_DATE)

    @property
    def suffix(self) -> str:
        """The usual suffix of the form. Strandline decides by content in any case."""
        return ".ndjson" if self.form == "ndjson" else ".json"


def find_tool(name: str) -> str | None:
    """A command on PATH, or beside this interpreter: a venv that is used without being activated is not on PATH."""
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    return shutil.which(name, path=beside)


def make_tables(folder: Path, scale: str) -> Path:
    """TPC-H orders and lineitem as Parquet. Generated once, then reused."""
    if (folder / "lineitem.parquet").exists():
        return folder
    tool = find_tool("tpchgen-cli")
    if tool is None:
        raise FileNotFoundError("tpchgen-cli is not installed: pip install tpchgen-cli")
    unfinished = fresh_folder(folder.with_name(folder.name + ".part"))
    where = ["--tables=orders,lineitem", f"--output-dir={unfinished}", "--quiet"]
    subprocess.run([tool, "parquet", "-s", scale, *where], check=True)
    unfinished.rename(folder)
    return folder


def fresh_folder(folder: Path) -> Path:
    """An empty folder. Removes what an interrupted run left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def mixed(salt: int) -> str:
    """SQL: a pseudo-random number derived from the order key `k` with Knuth's multiplicative hash, without overflow."""
    return f"((((k + {salt}) % 2147483648) * 2654435761) // 65536)"


def date_sql(dates: str, last_date: date = LAST_DATE) -> str:
    """SQL: the date of order `k`, whose TPC-H date is `d`."""
    if dates == "recent":
        return f"(DATE '{last_date}' - CAST({mixed(0)} % {RECENT_DATES} AS INTEGER))"
    if dates == "wide":
        return f"CAST(d + INTERVAL {WIDE_SHIFT_YEARS} YEAR AS DATE)"
    return "d"


def order_lines_sql(tables: Path, dates: str, last_date: date = LAST_DATE, orders: int = 0) -> str:
    """SQL: one order per row, as JSON text, sorted by order key. Numbers stay text, so none passes through a float.

    TPC-H prices a line as quantity times the part's price in cents, so a division gives the exact price.
    """
    clock = "'T' || " + " || ':' || ".join(
        f"lpad(CAST({mixed(salt)} % {size} AS VARCHAR), 2, '0')" for salt, size in ((1, 24), (2, 60), (3, 60))
    )
    limit = f"LIMIT {orders}" if orders else ""
    return f"""
    WITH lines AS (
      SELECT l_orderkey AS k, string_agg('{{"sku":"p_' || l_partkey || '","qty":' || CAST(l_quantity AS INTEGER)
             || ',"price":' || CAST(l_extendedprice / l_quantity AS DECIMAL(18, 2)) || '}}', ',' ORDER BY l_linenumber)
             AS items
      FROM '{tables}/lineitem.parquet' GROUP BY ALL
    ), orders AS (
      SELECT o_orderkey AS k, o_custkey AS u, o_totalprice AS a, o_orderdate AS d FROM '{tables}/orders.parquet'
    )
    SELECT '{{"order_id":"o_' || k || '","user_id":"u_' || u || '","amount":' || a || ',"currency":"USD","created_at":"'
           || CAST({date_sql(dates, last_date)} AS VARCHAR) || {clock} || 'Z","items":[' || items
           || '],"metadata":{{"source":"api","promo":null}}}}' AS line
    FROM orders JOIN lines USING (k) ORDER BY k {limit}"""


def write_ndjson(query: str, target: Path) -> None:
    """Lets DuckDB write the rows of `query`, which has one text column, as lines without quoting."""
    import duckdb

    with duckdb.connect() as database:
        options = r"FORMAT csv, HEADER false, QUOTE '', ESCAPE '', DELIMITER '\x01'"
        database.execute(f"COPY ({query}) TO '{target}' ({options})")


def write_array(ndjson: Path, target: Path) -> None:
    """Writes the same records as one array on one line, as an API sends it, so that splitting by lines does not help."""
    with ndjson.open("rb") as source, target.open("wb") as sink:
        sink.write(b"[")
        left = ndjson.stat().st_size - 1  # the last newline separates nothing
        while left > 0:
            piece = source.read(min(CHUNK_BYTES, left))
            sink.write(piece.replace(b"\n", b","))
            left -= len(piece)
        sink.write(b"]\n")


def pieces(ndjson: Path, count: int) -> Iterator[list[bytes]]:
    """Divides the lines into `count` parts whose lengths differ by at most one."""
    with ndjson.open("rb") as source:
        total = sum(1 for _ in source)
        source.seek(0)
        for number in range(count):
            yield list(islice(source, total * (number + 1) // count - total * number // count))


def write_drops(ndjson: Path, target: Path, wanted: Input) -> None:
    """Turns the NDJSON file into the wanted drops, in `target`."""
    if wanted.drops == 1 and wanted.form == "array":
        write_array(ndjson, target / f"orders{wanted.suffix}")
    elif wanted.drops == 1:
        ndjson.rename(target / f"orders{wanted.suffix}")
    else:
        for number, lines in enumerate(pieces(ndjson, wanted.drops), 1):
            (target / f"orders-{number:06}{wanted.suffix}").write_bytes(spelled(lines, wanted.form))


def spelled(lines: list[bytes], form: str) -> bytes:
    """Some lines as the content of one drop."""
    whole = b"".join(lines)
    return whole if form == "ndjson" else b"[" + whole.rstrip(b"\n").replace(b"\n", b",") + b"]\n"


def make_input(wanted: Input, work: Path = WORK) -> Path:
    """The folder with the drops of `wanted`, created now or by an earlier call."""
    folder = work / "inputs" / wanted.name
    if folder.exists():
        return folder
    work.mkdir(parents=True, exist_ok=True)
    tables = make_tables(work / f"tpch-sf{wanted.scale}", wanted.scale)
    unfinished = fresh_folder(folder.with_name(folder.name + ".part"))
    ndjson = work / "lines.ndjson.part"
    write_ndjson(order_lines_sql(tables, wanted.dates, wanted.last_date, wanted.orders), ndjson)
    write_drops(ndjson, unfinished, wanted)
    ndjson.unlink(missing_ok=True)
    unfinished.rename(folder)
    return folder


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """The options that this command and compare.py share."""
    parser.add_argument("--scale", default="1", help="TPC-H scale factor; 1 is 1.5M orders, 510 MB (default 1)")
    parser.add_argument(
        "--drops", type=int, default=1, help="number of drops that the orders are divided into (default 1)"
    )
    parser.add_argument("--orders", type=int, default=0, help="only this many orders (default: all)")
    parser.add_argument(
        "--last-date",
        type=date.fromisoformat,
        default=LAST_DATE,
        metavar="YYYY-MM-DD",
        help=f"the last of the {RECENT_DATES} recent dates (default {LAST_DATE})",
    )
    parser.add_argument("--work", type=Path, default=WORK, help="folder for all files (default build/bench)")


def main(arguments: list[str] | None = None) -> int:
    """Creates one input and prints its path."""
    parser = argparse.ArgumentParser(description="TPC-H orders as order JSON drops.")
    parser.add_argument(
        "--dates", choices=DATES, default="recent", help="62 dates, all 2,406 (+28 years), or unshifted"
    )
    parser.add_argument("--form", choices=FORMS, default="ndjson")
    add_size_options(parser)
    asked = parser.parse_args(arguments)
    wanted = Input(asked.dates, asked.form, asked.scale, asked.drops, asked.orders, asked.last_date)
    folder = make_input(wanted, asked.work.resolve())
    size = sum(drop.stat().st_size for drop in folder.iterdir())
    print(f"{folder}: {wanted.drops} drop(s), {size / 1e6:,.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
