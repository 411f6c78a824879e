"""The pandas API, for notebooks: records of an API, and the curated layer, as data frames.

Records are read by core/parse, so a notebook and the daemon never disagree: exact amounts, instants in UTC, NULL for what cannot
be read. Every frame has the same columns and types, even if it is empty: texts are `string`, instants `datetime64[us, UTC]`,
whole numbers `Int64`, true and false `boolean`, dates and amounts Arrow types (`decimal128(18, 4)`, whose sums stay exact).
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from .core.columns import columns_of
from .core.errors import StrandlineError, Unavailable, Unreadable
from .core.model import FACT, ITEMS, LAST_INSTANT, MICROSECONDS_PER_DAY, ParseContext, dates_of
from .core.parse.discards import each
from .core.parse.parse import Piece, parse
from .core.parse.values import read_instant
from .downstream.pandas_runs import dtype
from .storage.generation import one_state
from .storage.ledger import Ledger
from .storage.store import FACT_FILE, ITEMS_FILE, fact_of, folder_name

# The public API of the package, all of it. What else can be imported may change with any release.
__all__ = [
    "SetAsideWarning", "Unavailable", "Unreadable", "dedupe", "items_df", "normalize", "orders_df", "read", "set_aside",
]  # fmt: skip

_DECIMAL = pa.decimal128(18, 4)
_INSTANT = pa.timestamp("us", tz="UTC")
_RECORD = pa.field("record", pa.int64())  # the position of the record, from 1
_ORDERS = pa.schema(
    [
        ("order_id", pa.string()), ("user_id", pa.string()), ("amount", _DECIMAL), ("currency", pa.string()),
        ("created_at", _INSTANT), ("updated_at", _INSTANT), ("date", pa.date32()), ("items", pa.int64()),
        ("metadata", pa.string()),
    ]
)  # fmt: skip
_EXTRA = {"text": pa.string(), "decimal": _DECIMAL, "instant": _INSTANT, "boolean": pa.bool_()}
_ITEMS = pa.schema(
    [
        ("order_id", pa.string()), ("line_number", pa.int64()), ("sku", pa.string()), ("qty", _DECIMAL),
        ("price", _DECIMAL), ("date", pa.date32()),
    ]
)  # fmt: skip

T = TypeVar("T")
Records = str | bytes | Mapping[str, Any] | Iterable[Any]
Since = str | date | datetime | None


def normalize(records: Records, *, records_path: str = "") -> tuple[pd.DataFrame, pd.DataFrame]:
    """Parses records into two frames, in the order given: one row per accepted record, and one row per item.

    `records`: the text of a drop (an array, an envelope, one order, lines); or decoded records, with Decimal and datetime allowed
    (NaN, NaT and NA are NULL). A record that the daemon would discard is left out, and is in `orders_df.attrs["discards"]` as
    {"position", "reason", "record"}; `attrs["field_faults"]` counts the fields that could not be read and are NULL. No instant
    counts as being in the future. All versions of an order are kept (see `dedupe`); the column `record`, the position of the
    record, connects items with their version. Unreadable where a text is not a drop, TypeError where a value has no JSON.
    """
    parsed = parse([Piece(1, _as_bytes(records), ParseContext(LAST_INSTANT, 0, records_path))], refusing=False)
    if parsed.unreadable:
        raise Unreadable(parsed.unreadable[1])
    orders = parsed.orders.take(pc.sort_indices(parsed.orders, [("position", "ascending")])).combine_chunks()
    lists = orders["items"].combine_chunks()
    counts = lists.value_lengths().to_numpy() if len(lists) else np.zeros(0, np.int64)
    columns = {
        name: orders[name] for name in ("order_id", "user_id", "currency", "created_at", "updated_at", "metadata")
    }
    columns |= {
        "record": orders["position"],
        "amount": _as_decimals(orders["amount"]),
        "date": pa.array(dates_of(orders["created_at"].to_numpy())).view(pa.date32()),
        "items": pa.array(counts),
    }
    frame = _frame(columns, pa.schema([_RECORD, *_ORDERS]))
    frame.attrs["discards"] = [
        {"position": d.position, "reason": str(d.reason), "record": d.record} for d in each(parsed.discards)
    ]
    frame.attrs["field_faults"] = dict(parsed.tallies[1].faults)
    return frame, _items_of(lists, counts, columns)


def _items_of(lists: pa.Array, counts: np.ndarray, orders: Mapping[str, Any]) -> pd.DataFrame:
    items = lists.flatten()
    of_order = pa.array(np.repeat(np.arange(len(counts)), counts))
    ends = np.cumsum(counts)
    columns = {name: orders[name].take(of_order) for name in ("record", "order_id", "date")}
    columns |= {
        "line_number": pa.array(np.arange(len(items)) - np.repeat(ends - counts, counts) + 1),
        "sku": items.field("sku"),
        "qty": _as_decimals(items.field("qty")),
        "price": _as_decimals(items.field("price")),
    }
    return _frame(columns, pa.schema([_RECORD, *_ITEMS]))


def dedupe(df: pd.DataFrame, key: str = "order_id") -> pd.DataFrame:
    """The latest version of each key: by `updated_at` or else `created_at`, then by the later row. Rows keep their order and
    index; rows without a key are kept. TypeError where a time is text, which would be compared letter by letter."""
    versions = pd.Series(pd.NaT, df.index, dtype="datetime64[us, UTC]")
    for name in ("created_at", "updated_at"):
        if name not in df:
            continue
        if not isinstance(df[name].dtype, pd.DatetimeTZDtype):
            raise TypeError(f"{name} is {df[name].dtype}; convert it with pd.to_datetime(df[{name!r}], utc=True)")
        versions = df[name].astype(versions.dtype).fillna(versions)
    rows = np.arange(len(df))
    known = pd.DataFrame({"key": df[key].to_numpy(object), "version": versions.to_numpy("datetime64[us]"), "row": rows})
    ranked = known[df[key].notna().to_numpy()].sort_values(["version", "row"], na_position="first", kind="stable")
    last = ranked.drop_duplicates("key", keep="last")["row"].to_numpy()
    stays = np.isin(rows, last) | df[key].isna().to_numpy()
    return df[stays]


class SetAsideWarning(UserWarning):
    """Published dates or dimensions are damaged and cannot be made anew for now. The text names them, and what to do."""


def set_aside(output: str | Path) -> dict[str, str]:
    """Published dates (YYYY-MM-DD) and files of dimensions (dim_user.parquet) that are damaged and cannot be made anew for now,
    each with the damage and what to restore. What their files have is not to be relied on. Empty where the ledger is not there or
    cannot be read, as in a copy of curated/ alone."""
    path = Path(output) / "state" / "ledger.sqlite"
    try:
        if not path.exists():
            return {}
        with closing(Ledger(path, read_only=True)) as ledger:
            return {name: one.reason for name, one in ledger.set_aside().items()}
    except (StrandlineError, PermissionError):  # of another version, or of another user: whoever reads needs no ledger
        return {}


def read(output: str | Path, reader: Callable[[Path], T], wait_seconds: float = 60.0) -> T:
    """What `reader` returns, called with the folder curated/, so that all that it read was of one state: it is called again where
    a batch was published meanwhile. For any library: DuckDB, polars, pyarrow. Unavailable where no try within `wait_seconds` saw
    one state. Warns (SetAsideWarning) of dates and dimensions that `reader` should leave out."""
    _warn(set_aside(output), "leave it out", callers=2)
    return one_state(Path(output), lambda: reader(_curated(output)), wait_seconds)


def orders_df(output: str | Path, since: Since = None) -> pd.DataFrame:
    """The published orders of one state, one row each, by created_at and id. `amount` is that of the whole order. Extra columns
    come last. `since`: only orders created at or after it; earlier partitions are not opened. Dates that are set aside are left
    out, with a warning (SetAsideWarning); `attrs["set_aside"]` names them."""
    fact, lacking = _published(output, FACT_FILE, FACT, since)
    line_number = fact["line_number"].to_numpy()
    starts = np.flatnonzero(line_number <= 1)
    first = fact.take(pa.array(starts))
    known = first["amount"].is_valid().to_numpy()
    units = fact["amount"].combine_chunks().view(pa.int64()).fill_null(0).to_numpy()
    amounts = np.add.reduceat(units, starts) if len(starts) else np.zeros(0, np.int64)
    items = np.add.reduceat(line_number > 0, starts, dtype=np.int64) if len(starts) else np.zeros(0, np.int64)
    more = columns_of(fact.schema)
    names = [*_ORDERS.names, *(name for name, _ in more)]
    columns = {name: first[name] for name in names if name not in ("amount", "items")}
    columns |= {"amount": _as_decimals(pa.array(amounts, mask=~known)), "items": pa.array(items)}
    frame = _frame(columns, pa.schema([*_ORDERS, *(pa.field(name, _EXTRA[kind]) for name, kind in more)]))
    frame.attrs["set_aside"] = lacking
    return frame


def items_df(output: str | Path, since: Since = None) -> pd.DataFrame:
    """The published items of one state, one row each, as the source has them. `since`: only items of orders created at
    or after it. Dates that are set aside are left out, as by `orders_df`."""
    if since is None:
        items, lacking = _published(output, ITEMS_FILE, ITEMS, None)
    else:  # order_items has no created_at: the same rows are in the fact
        fact, lacking = _published(output, FACT_FILE, FACT, since)
        items = fact.filter(pc.greater(fact["line_number"], 0)).select(ITEMS.names)
    frame = _frame({name: items[name] for name in ITEMS.names}, _ITEMS)
    frame.attrs["set_aside"] = lacking
    return frame


# ------------------------------------------------------------------------------------------------------- curated layer


def _published(output: str | Path, file: str, schema: pa.Schema, since: Since) -> tuple[pa.Table, list[str]]:
    """The rows, and the dates that are left out because they are set aside."""
    start = 0 if since is None else _instant_of(since)
    first = folder_name(start // MICROSECONDS_PER_DAY)

    def tables() -> tuple[list[pa.Table], dict[str, str]]:
        folders = sorted(path for path in _curated(output).glob("date=*") if path.name >= first)
        aside = {name: reason for name, reason in set_aside(output).items() if f"date={name}" >= first}
        opened = (pq.ParquetFile(one / file) for one in folders if one.name.removeprefix("date=") not in aside)
        return [fact_of(one) if file == FACT_FILE else one.read().cast(schema) for one in opened], aside

    found, aside = one_state(Path(output), tables)
    lacking = {name: reason for name, reason in aside.items() if not name.endswith(".parquet")}
    _warn(lacking, "and the rows are without it", callers=3)
    found = [schema.empty_table(), *found]
    table = pa.concat_tables(found, promote_options="default").combine_chunks()  # files may lack extra columns
    rows = table.filter(pc.greater_equal(table["created_at"].cast(pa.int64()), start)) if start else table
    return rows, sorted(lacking)


def _warn(aside: Mapping[str, str], consequence: str, callers: int) -> None:
    """`callers`: how many calls below the code of the user."""
    for name, reason in aside.items():
        warnings.warn(f"{name} is set aside, {consequence}: {reason}", SetAsideWarning, stacklevel=callers + 1)


def _curated(output: str | Path) -> Path:
    curated = Path(output) / "curated"
    if not curated.is_dir():
        raise FileNotFoundError(f"{curated} is not a folder; name an output folder of `strandline`")
    return curated


def _instant_of(since: Since) -> int:
    text = since.isoformat() if isinstance(since, date) else since
    instant = read_instant(text)
    if not isinstance(instant, int):
        raise ValueError(
            f"since {since!r} is not an instant; write 2026-03-02, 2026-03-02T18:04:11Z, or pass a datetime"
        )
    return instant


# ------------------------------------------------------------------------------------------------------------- pandas


def _as_decimals(units: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Units of 1/10,000 as decimals, exactly."""
    array = units.combine_chunks() if isinstance(units, pa.ChunkedArray) else units
    return array.view(pa.decimal64(18, 4)).cast(_DECIMAL)


def _frame(columns: Mapping[str, Any], schema: pa.Schema) -> pd.DataFrame:
    table = pa.table([columns[field.name].cast(field.type) for field in schema], schema=schema)
    frame: pd.DataFrame = table.to_pandas(types_mapper=dtype)
    return frame


# --------------------------------------------------------------------------------------------------- records as JSON


def _as_bytes(records: Records) -> bytes:
    if isinstance(records, bytes):
        return records
    if isinstance(records, str):
        return records.encode(errors="backslashreplace")  # a lone surrogate becomes its JSON escape
    text = _json(records) if isinstance(records, Mapping) else "[" + ",".join(map(_json, records)) + "]"
    return text.encode()


def _json(value: Any) -> str:
    """A value as JSON; numbers keep all digits."""
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{json.dumps(str(key))}:{_json(one)}" for key, one in value.items()) + "}"
    if isinstance(value, np.ndarray | list | tuple):
        return "[" + ",".join(map(_json, value)) + "]"
    if isinstance(value, np.datetime64):  # with nanoseconds, its item() is a number
        value = pd.Timestamp(value)
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return "null"
    if isinstance(value, float | Decimal):
        return _number(value)
    if isinstance(value, datetime | date):
        return json.dumps(value.isoformat())
    if isinstance(value, str | bool | int):
        return json.dumps(value)
    raise TypeError(f"a {type(value).__name__} has no JSON: {value!r}"[:200])


def _number(value: float | Decimal) -> str:
    if value.is_nan() if isinstance(value, Decimal) else math.isnan(value):
        return "null"
    return str(value) if math.isfinite(value) else json.dumps(str(value))  # infinity as text, which is a fault
