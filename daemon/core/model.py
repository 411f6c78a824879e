"""The vocabulary: what a drop is parsed under, what a record can become, and the columns that flow between packages.

Everything here is a value. Instants are int64 microseconds since 1970 UTC, dates are int32 days since 1970, amounts are
int64 units of 1/10,000 (`DECIMAL(18,4)` without its point): nothing passes through a float.

ORDERS is the table that flows from `parse` to `merge`: a row per accepted record, with its items as a list. DISCARDS has a row
per rejected record, and goes straight to the stage.

    parse ── ORDERS (any order, an order_id may repeat) ──> versions ── winners ──> merge ── FACT, ITEMS (sorted) ──> store
      └───── DISCARDS (of a drop together, by position) ───────────────────────────────────── lines of JSON ────────> stage
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from .drift import SeenKeys
from .mapping import DEFAULT_SOURCE, DIRECT, FieldMapping

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

SCALE = 10_000  # amounts, quantities and prices are exact multiples of 1/SCALE
DECIMAL_LIMIT = 10**18  # DECIMAL(18,4): the first unscaled magnitude that does not fit
MAX_ID_BYTES = 256
MAX_METADATA_BYTES = 65_535  # VARCHAR(65535), the longest text Redshift holds
MAX_DEPTH = 512  # levels of nesting in one record; deeper is "nested beyond reason"
MICROSECONDS_PER_SECOND = 1_000_000
MICROSECONDS_PER_DAY = 86_400 * MICROSECONDS_PER_SECOND
LAST_INSTANT = 2_932_897 * MICROSECONDS_PER_DAY - 1  # the end of the year 9999, the last of Python's calendar
# A deletion is a version of an order whose `created_at` is DELETED_AT, which gives it a date that is on no calendar.
DELETED_DATE = -100_000_000
DELETED_AT = DELETED_DATE * MICROSECONDS_PER_DAY
FIRST_INSTANT = -719_162 * MICROSECONDS_PER_DAY  # the beginning of the year 1, the first


# The keys of a record that have a meaning; docs/INPUT.md has a rule for each.
FIELDS = frozenset({"order_id", "created_at", "updated_at", "user_id", "amount", "currency", "items", "metadata"})


# Shopify's bulk operations write the items of an order as lines of their own, which name the order under this key.
PARENT_KEY = "__parentId"


class Reason(StrEnum):
    """Why a record was discarded (docs/INPUT.md)."""

    MISSING_ORDER_ID = "missing_order_id"
    INVALID_ORDER_ID = "invalid_order_id"
    MISSING_CREATED_AT = "missing_created_at"
    INVALID_CREATED_AT = "invalid_created_at"
    FUTURE_CREATED_AT = "future_created_at"
    MALFORMED_RECORD = "malformed_record"
    NOT_AN_OBJECT = "not_an_object"
    MISSING_KEY = "missing_key"  # this and the next: rows of a dimension
    INVALID_KEY = "invalid_key"
    SHORTENED_KEY = "shortened_key"  # 1.23E+12: a spreadsheet has removed its last digits
    BLOCKED = "blocked"  # of a user or an order that was erased and must not come back; a row or a record of orders


# A record that is discarded for one of these is not an order. A drop of such records alone is refused as a whole.
NO_ORDER = frozenset(
    {
        Reason.MISSING_ORDER_ID, Reason.INVALID_ORDER_ID, Reason.MISSING_CREATED_AT, Reason.MALFORMED_RECORD,
        Reason.NOT_AN_OBJECT,
    }
)  # fmt: skip


class Field(StrEnum):
    """A field that can be a fault while its order is kept."""

    USER_ID = "user_id"
    AMOUNT = "amount"
    CURRENCY = "currency"
    UPDATED_AT = "updated_at"
    ITEMS = "items"
    ITEM = "item"
    SKU = "sku"
    QTY = "qty"
    PRICE = "price"
    METADATA = "metadata"
    EMAIL = "email"  # this and the next: fields of a dimension
    CREATED_AT = "created_at"
    COUNTRY = "country"
    NAME = "name"
    CATEGORY = "category"


class DropOutcome(StrEnum):
    """What became of a drop as a whole."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    QUARANTINED = "quarantined"
    WITHDRAWN = "withdrawn"  # it was applied, and `undo` took it back


@dataclass(frozen=True, slots=True)
class ParseContext:
    """What a drop is parsed under. The ledger keeps it, so that a rebuild years later parses it in the same way."""

    received_at: int
    tolerance: int
    records_path: str = ""
    since: int | None = None
    until: int | None = None  # to read again under an earlier `since`: records from here on were applied before
    source: str = DEFAULT_SOURCE
    mapping: FieldMapping = DIRECT

    def reads_alike(self, earlier: ParseContext, refused_as_future: bool) -> bool:
        """Whether the same bytes give no more orders under this context than under the earlier one. `refused_as_future`: some
        orders were in the future then."""
        as_far_back = earlier.since is None or (self.since is not None and earlier.since <= self.since)
        same = (earlier.tolerance, earlier.records_path, earlier.mapping) == (
            self.tolerance, self.records_path, self.mapping,
        )  # fmt: skip
        return as_far_back and same and not (refused_as_future and self.latest_instant > earlier.latest_instant)

    @property
    def latest_instant(self) -> int:
        """The last instant that is not in the future, in microseconds."""
        return min(self.received_at + self.tolerance, LAST_INSTANT)


Contexts = Mapping[str, ParseContext]  # what the drops of each source are parsed under, by the name of the source


@dataclass(frozen=True, slots=True)
class Discard:
    """One rejected record: a row of DISCARDS as a value."""

    drop: int
    position: int
    reason: Reason
    record: str


SAMPLES = 20  # of a drop


@dataclass(frozen=True, slots=True)
class Sample:
    """One of the first SAMPLES orders without an amount of a drop, where the mapping of its source names fields."""

    position: int
    keys: tuple[str, ...]  # the first keys of the order
    has_amount_key: bool  # there is something at a path of the amount, perhaps null
    inside: str  # the path of another order inside its record; "": there is none


@dataclass(slots=True)
class Tally:
    """The counts of one drop: extracted = accepted + discarded + before_since (+ records after `until`)."""

    extracted: int = 0
    before_since: int = 0
    discarded: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    bare: int = 0  # bare orders: see parse/bare.py
    bare_keys: tuple[str, ...] = ()  # the keys of the first one that nothing reads
    bare_at: int = 0  # its position
    # These four are of a source whose mapping names fields: of all its orders that are no deletions, whatever their date.
    orders: int = 0
    with_amount: int = 0
    with_price: int = 0  # without an amount, but with the price of an item
    samples: tuple[Sample, ...] = ()
    mapping: FieldMapping = DIRECT
    pages: int = 0  # records that were arrays or envelopes with orders in them
    strays: int = 0  # records that were neither pages nor orders
    keys: SeenKeys | None = None  # of its first records; None: none was sampled
    parts: int = 0  # records that are no orders, but a part of another record: see PARENT_KEY
    hidden_at: int = 0  # the position of the first record that is no order and may hold several; 0: there is none
    cut_at: int = 0  # the position of the last line of a file that ends in the middle of it; 0: it does not

    @property
    def no_orders(self) -> int:
        """How many records are not orders."""
        return sum(self.discarded[reason] for reason in NO_ORDER)

    def note_bare(self, position: int, keys: Iterable[str]) -> None:
        """Remembers the unread keys of a bare order, if it is the first one."""
        if not self.bare_at or position < self.bare_at:
            self.bare_at, self.bare_keys = position, tuple(sorted(keys))

    def note_samples(self, samples: Iterable[Sample]) -> None:
        """Adds samples; keeps the first ones."""
        self.samples = tuple(sorted((*self.samples, *samples), key=lambda one: one.position)[:SAMPLES])

    def add(self, other: Tally) -> None:
        """Adds the counts of the next piece of the same drop."""
        before = self.extracted
        self.hidden_at = self.hidden_at or (other.hidden_at and before + other.hidden_at)
        self.cut_at = self.cut_at or (other.cut_at and before + other.cut_at)
        if other.bare_at and not self.bare_at:
            self.bare_at, self.bare_keys = before + other.bare_at, other.bare_keys
        self.orders += other.orders
        self.with_amount += other.with_amount
        self.with_price += other.with_price
        self.note_samples(replace(one, position=before + one.position) for one in other.samples)
        self.extracted += other.extracted
        self.before_since += other.before_since
        self.discarded += other.discarded
        self.faults += other.faults
        self.bare += other.bare
        self.pages += other.pages
        self.strays += other.strays
        self.parts += other.parts
        self.note_keys(other.keys)

    def note_keys(self, keys: SeenKeys | None) -> None:
        """Adds the keys of more records."""
        self.keys = self.keys.plus(keys) if self.keys and keys else self.keys or keys


@dataclass(frozen=True, slots=True)
class DimensionRows:
    """The rows of a dimension in one drop. `table` has the columns of the dimension, in the order of the file."""

    dimension: str
    table: pa.Table


ITEM_TYPE = pa.struct([("sku", pa.large_string()), ("qty", pa.int64()), ("price", pa.int64())])

VERSIONS = pa.schema(  # in the order of native/keyed.c
    [
        pa.field("key", pa.binary(16), nullable=False),  # order_key(order_id)
        pa.field("content", pa.binary(16), nullable=False),  # the hash of all other fields: see keys.with_hashes
        pa.field("drop", pa.int64(), nullable=False),
        pa.field("position", pa.int64(), nullable=False),  # from 1, in its drop
        pa.field("created_at", pa.int64(), nullable=False),
        pa.field("updated_at", pa.int64()),
    ]
)

# The columns of a version come first, so that they are together in a file: `versions` reads no others.
ORDERS = pa.schema(
    [
        *VERSIONS,
        pa.field("order_id", pa.large_string(), nullable=False),
        pa.field("user_id", pa.large_string()),
        pa.field("amount", pa.int64()),
        pa.field("currency", pa.large_string()),
        pa.field("metadata", pa.large_string()),
        pa.field("items", pa.large_list(ITEM_TYPE), nullable=False),
    ]
)

# Positions and drops have as many bits as in the index. The rows of a drop are together, sorted by position.
DISCARDS = pa.schema(
    [
        pa.field("drop", pa.uint32(), nullable=False),
        pa.field("position", pa.uint32(), nullable=False),  # from 1, in its drop
        pa.field("reason", pa.dictionary(pa.int8(), pa.large_string()), nullable=False),
        pa.field("record", pa.large_string(), nullable=False),  # JSON on one line
    ]
)


@dataclass(frozen=True, slots=True)
class Parsed:
    """What parsing some drops gives. `tallies` and `unreadable` are by drop; a drop is in one of them, never in both."""

    orders: pa.Table  # ORDERS
    discards: pa.Table  # DISCARDS
    tallies: Mapping[int, Tally]
    unreadable: Mapping[int, str]
    rows: Mapping[int, DimensionRows] = field(default_factory=dict)  # by drop

    @property
    def versions(self) -> pa.Table:
        """The VERSIONS table of all accepted records."""
        return self.orders.select(VERSIONS.names)

    def only(self, drops: Set[int]) -> Parsed:
        """What parsing these drops of orders, and no others, gives; all orders are of these."""
        others = (self.tallies.keys() | self.unreadable.keys()) - drops
        if not others:
            return self
        of_others = np.isin(self.discards["drop"].to_numpy(), sorted(others))
        by_drop = [{seq: of[seq] for seq in of.keys() - others} for of in (self.tallies, self.unreadable, self.rows)]
        return Parsed(self.orders, self.discards.filter(pa.array(~of_others)), *by_drop)  # type: ignore[arg-type]


_TIMESTAMP = pa.timestamp("us", tz="UTC")
_DECIMAL = pa.decimal64(18, 4)

FACT = pa.schema(
    [
        pa.field("order_id", pa.large_string(), nullable=False),
        pa.field("user_id", pa.large_string()),
        pa.field("sku", pa.large_string()),
        pa.field("amount", _DECIMAL),
        pa.field("qty", _DECIMAL),
        pa.field("price", _DECIMAL),
        pa.field("created_at", _TIMESTAMP, nullable=False),
        pa.field("date", pa.date32(), nullable=False),
        pa.field("line_number", pa.int32(), nullable=False),  # from 1; 0: the one row of an order without items
        pa.field("currency", pa.large_string()),
        pa.field("updated_at", _TIMESTAMP),
        pa.field("metadata", pa.large_string()),
    ]
)

DIM_USER = pa.schema(
    [
        pa.field("user_id", pa.large_string(), nullable=False),
        pa.field("email", pa.large_string()),
        pa.field("created_at", _TIMESTAMP),
        pa.field("country", pa.large_string()),
    ]
)

DIM_PRODUCT = pa.schema(
    [
        pa.field("sku", pa.large_string(), nullable=False),
        pa.field("name", pa.large_string()),
        pa.field("category", pa.large_string()),
        pa.field("price", _DECIMAL),
    ]
)


@dataclass(frozen=True)
class Dimension:
    """A table that orders refer to by its first column."""

    name: str  # in metrics, receipts and the ledger
    drops: str  # the beginning of the names of its drops
    schema: pa.Schema

    @property
    def key(self) -> str:
        return str(self.schema.names[0])

    @property
    def file(self) -> str:
        return f"dim_{self.name}.parquet"


DIMENSIONS = {
    one.name: one for one in (Dimension("user", "users", DIM_USER), Dimension("product", "products", DIM_PRODUCT))
}

ITEMS = pa.schema([FACT.field(name) for name in ("order_id", "line_number", "sku", "qty", "price", "date")])

# One entry of the order index: the date of an order, its latest version, and the hash of its content. `drop` 0: the order is not
# known any more (see versions.absent).
INDEX_ENTRY = np.dtype(
    [
        ("hi", "<u8"), ("lo", "<u8"), ("date", "<i4"), ("instant", "<i8"), ("drop", "<u4"), ("position", "<u4"),
        ("content", "V16"),
    ]
)  # fmt: skip


def on_the_calendar(instant: int) -> int:
    """The nearest instant that Python's calendar has: the time of a file may be any number."""
    return min(max(instant, FIRST_INSTANT), LAST_INSTANT)


def dates_of(instants: Ints) -> NDArray[np.int32]:
    """The UTC date of each instant, in days since 1970."""
    dates = np.empty(len(instants), np.int32)
    np.floor_divide(instants, MICROSECONDS_PER_DAY, out=dates, casting="unsafe")  # without another array of int64
    return dates


def concat_orders(tables: Iterable[pa.Table]) -> pa.Table:
    """One ORDERS table out of many, without copying: a chunk for each table that has rows. An extra column that some tables lack
    is NULL there."""
    some = [table for table in tables if table.num_rows]
    return pa.concat_tables([ORDERS.empty_table(), *some], promote_options="default")


def amount_text(units: int) -> str:
    """Units of 1/10,000 as decimal text."""
    sign, digits = "-" if units < 0 else "", abs(units)
    return f"{sign}{digits // SCALE}.{digits % SCALE:04d}"
