"""The reference model: the input contract, the versions and the allocation, read from DESIGN.md a second time.

It owns the slow and obvious answer to "what should become of these drops?", and holds everything in memory.
It shares no code with the daemon, only the contract, so that the two can disagree. It never opens a file, never asks
the clock, and never tries to be fast: where a loop is plainer than an index, there is a loop.
It sees drops as they are after decompression; dimensions, files and crashes are not its business.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

DAY_US = 86_400_000_000
ENVELOPE_KEYS = ("orders", "data", "results", "records")
MAX_DEPTH = 512
MAX_TEXT_BYTES = 256
MAX_METADATA_BYTES = 65_535
JSON_SPACE = " \t\n\r"
TEXT_SPACE = " \t\n\r\x0b\x0c"
EPOCH = datetime(1970, 1, 1)
LAST_US = (datetime(9999, 12, 31) - EPOCH + timedelta(days=1)) // timedelta(microseconds=1) - 1
ONE_TICK = Decimal("0.0001")
WIDE = Context(prec=100)  # far more digits than any value that is still in range


@dataclass(frozen=True)
class Item:
    """One line of an order as the API gave it."""

    sku: str | None
    qty: Decimal | None
    price: Decimal | None


@dataclass(frozen=True)
class Order:
    """One accepted record. Two orders are equal when their rows in the fact are."""

    order_id: str
    user_id: str | None
    amount: Decimal | None
    currency: str | None
    created_at: int
    updated_at: int | None
    metadata: str | None
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Discard:
    """One record that was rejected."""

    position: int
    reason: str


@dataclass(frozen=True)
class Record:
    """One record as it was cut from its drop; a line that is no JSON is one too."""

    position: int
    text: str
    is_json: bool


class Unreadable(Exception):
    """The whole drop is to be quarantined; the text says why."""


class _Rejected(Exception):
    """The record at hand is a discard; the text is its reason."""


class _Fault(Exception):
    """The field at hand cannot be read."""


# --- JSON, token by token: the text of every value is needed as it was written ------------------------------------

_CHARS = r'[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]*+)*+'
_INT = r"-?(?:0|[1-9][0-9]*+)"
_MANTISSA = rf"{_INT}(?:\.[0-9]++)?+"
_NUMBER = re.compile(rf"({_MANTISSA})(?:[eE]([+-]?)([0-9]++))?+")
_SPACE = r"[ \t\n\r]*+"
_TOKEN = re.compile(rf'{_SPACE}(?P<token>[\[\]{{}}:,]|true|false|null|"{_CHARS}"|{_NUMBER.pattern})')
_CUT_TOKEN = re.compile(
    rf'{_SPACE}(?P<token>"{_CHARS}(?:\\(?:u[0-9a-fA-F]{{0,3}})?)?|-|{_INT}\.|{_MANTISSA}[eE][+-]?'
    r"|t|tr|tru|f|fa|fal|fals|n|nu|nul)\Z"
)
COMPLETE, UNFINISHED, WRONG = "complete", "unfinished", "wrong"


def scan(text: str) -> str:
    """Is this one JSON value (complete), the beginning of one (unfinished), or neither (wrong)?

    A stack instead of recursion, so that depth is a number to look at and never a crash.
    """
    text = text.strip(JSON_SPACE)
    opened: list[str] = []
    wanted, at = "value", 0
    while at < len(text):
        token = _CUT_TOKEN.match(text, at) or _TOKEN.match(text, at)
        if token is None or not (wanted := _wanted_after(token["token"][0], wanted, opened)):
            return WRONG
        if token.re is _CUT_TOKEN:
            return UNFINISHED
        at = token.end()
    return COMPLETE if wanted == "nothing" else UNFINISHED


def _wanted_after(first: str, wanted: str, opened: list[str]) -> str:
    """What is wanted after a token that begins with `first`; nothing at all ("") if it may not stand here."""
    if first in ",:":
        after_comma = "key" if opened[-1:] == ["{"] else "value"
        return {",comma": after_comma, ":colon": "value"}.get(first + wanted, "")
    if wanted in ("key", "key or }") and first == '"':
        return "colon"
    if first in "]}":
        may_close = ("comma", f"key or {first}", f"value or {first}")
        if wanted not in may_close or not opened or opened.pop() + first not in ("[]", "{}"):
            return ""
    elif wanted not in ("value", "value or ]"):
        return ""
    elif first in "[{":
        opened.append(first)
        return "value or ]" if first == "[" else "key or }"
    return "comma" if opened else "nothing"


def tokens(text: str) -> list[tuple[str, int, int]]:
    """The tokens of a complete JSON value with their spans; what lies between them is white space."""
    return [(match["token"], match.start("token"), match.end()) for match in _TOKEN.finditer(text)]


def parts(text: str) -> list[str]:
    """The raw texts inside a container, cut at its own commas and colons: elements, or keys and values in turn."""
    cuts = []
    depth = 0
    for token, start, end in tokens(text):
        depth -= token in "]}"
        if (depth == 1 and token in ",:") or (depth == 0 and token in "[]{}"):
            cuts.append((start, end))
        depth += token in "[{"
    between = [text[end:start].strip(JSON_SPACE) for (_, end), (start, _) in pairwise(cuts)]
    return [] if between == [""] else between


def members(text: str) -> dict[str, str]:
    """The members of an object as key -> raw value text; of equal keys the last counts."""
    cut = parts(text)
    return dict(zip((json.loads(key) for key in cut[::2]), cut[1::2], strict=True))


def compact(text: str) -> str:
    """The value as written, minus the white space outside strings."""
    return "".join(token for token, _, _ in tokens(text))


def depth_of(text: str) -> int:
    """How many brackets are open at the deepest place; the value's own count."""
    return max(accumulate((token in "[{") - (token in "]}") for token, _, _ in tokens(text)))


# --- From a drop to its records -----------------------------------------------------------------------------------


def split(data: bytes, records_path: str = "") -> list[Record]:
    """Cut a drop into its records. The form is decided by content alone: a document, else lines, else unreadable."""
    # A byte order mark, or an ASCII character with a NUL before or after it; UTF-32 begins like UTF-16.
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or (len(data) > 1 and b"\0" in data[:2]):
        raise Unreadable("not UTF-8: this looks like UTF-16 or UTF-32")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if not data.strip(JSON_SPACE.encode()):
        raise Unreadable("empty")
    verdict = _scan_bytes(data)
    if verdict == COMPLETE:
        return _document_records(data.decode().strip(JSON_SPACE), records_path)
    if verdict == UNFINISHED:
        raise Unreadable("truncated: the JSON document ends too early")
    records = _line_records(data)
    if records[0].text.startswith("[") and not records[0].is_json:
        raise Unreadable("a damaged array: only a first line that is complete by itself makes it lines")
    if not any(record.is_json and record.text.startswith("{") for record in records):
        raise Unreadable("neither a JSON document nor lines of JSON objects")
    return records


def _scan_bytes(data: bytes) -> str:
    """Scan bytes: a bad byte is a wrong byte, but a character that is cut off at the very end was cut, not wrong."""
    data = data.strip(JSON_SPACE.encode())
    try:
        return scan(data.decode())
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        cut_off = error.reason == "unexpected end of data" and error.end == len(data)
        # Any character may follow inside a string, and none outside: U+FFFD stands for the one that was cut.
        return UNFINISHED if cut_off and scan(before + "\ufffd") == UNFINISHED else WRONG


def _document_records(text: str, records_path: str) -> list[Record]:
    is_order = text.startswith("{") and "order_id" in members(text)
    elements = [text] if is_order else parts(_find_array(text, records_path))
    if any(depth_of(element) > MAX_DEPTH for element in elements):
        raise Unreadable(f"nested deeper than {MAX_DEPTH} levels")
    return [Record(position, element, True) for position, element in enumerate(elements, 1)]


def _find_array(text: str, records_path: str) -> str:
    """The array that holds the records of a document, as its raw text: the document itself, or what an envelope holds."""
    if text.startswith("["):
        return text
    if records_path:
        return _array_at(text, records_path)
    envelope = members(text) if text.startswith("{") else {}
    for key in ENVELOPE_KEYS:
        if envelope.get(key, "").startswith("["):
            return envelope[key]
    raise Unreadable("a JSON document that is neither orders nor an envelope (an API's error, perhaps)")


def _array_at(text: str, records_path: str) -> str:
    found = text
    for key in records_path.split("."):
        found = members(found).get(key, "") if found.startswith("{") else ""
    if not found.startswith("["):
        raise Unreadable(f"no array at records_path {records_path!r}")
    return found


def _line_records(data: bytes) -> list[Record]:
    """A line that is nested too deep counts as no JSON."""
    records: list[Record] = []
    for line in data.split(b"\n"):
        text = line.decode(errors="replace").strip(JSON_SPACE)
        if text:
            is_json = _scan_bytes(line) == COMPLETE and depth_of(text) <= MAX_DEPTH
            records.append(Record(len(records) + 1, text, is_json))
    return records


# --- From a record to an order ------------------------------------------------------------------------------------


def read_drop(
    data: bytes, *, received_at_us: int, tolerance_us: int = DAY_US, records_path: str = ""
) -> tuple[list[tuple[int, Order]], list[Discard], Counter[str]]:
    """Everything a drop holds: the orders with their positions, the discards, and the faults of the kept records."""
    judged = list(_judged(data, received_at_us, tolerance_us, records_path))
    orders = [(position, verdict) for position, verdict, _ in judged if isinstance(verdict, Order)]
    discards = [Discard(position, verdict) for position, verdict, _ in judged if isinstance(verdict, str)]
    return orders, discards, sum((faults for _, _, faults in judged), Counter())


def _judged(
    data: bytes, received_at_us: int, tolerance_us: int, records_path: str
) -> Iterator[tuple[int, Order | str, Counter[str]]]:
    """Each record as (position, order or reason, its field faults); a discard has none."""
    for record in split(data, records_path):
        faults: Counter[str] = Counter()
        try:
            order = _read_record(record, received_at_us + tolerance_us, faults)
        except _Rejected as rejected:
            yield record.position, str(rejected), Counter()
        else:
            yield record.position, order, faults


def _read_record(record: Record, latest_us: int, faults: Counter[str]) -> Order:
    """order_id is judged first, then created_at; nothing else can cost the order."""
    if not record.is_json:
        raise _Rejected("malformed_record")
    if not record.text.startswith("{"):
        raise _Rejected("not_an_object")
    raw = members(record.text)
    order_id = _required("order_id", _text, raw)
    created_at = _required("created_at", _instant, raw)
    if created_at > min(latest_us, LAST_US):
        raise _Rejected("future_created_at")
    return Order(
        order_id=order_id,
        user_id=_optional("user_id", _text, raw, faults),
        amount=_optional("amount", _decimal, raw, faults),
        currency=_optional("currency", _text, raw, faults),
        created_at=created_at,
        updated_at=_optional("updated_at", lambda value: _instant_until(value, latest_us), raw, faults),
        metadata=_optional("metadata", _metadata, raw, faults),
        items=_items(raw, faults),
    )


def _required(name: str, read: Any, raw: dict[str, str]) -> Any:
    try:
        value = read(raw.get(name, "null"))
    except _Fault:
        raise _Rejected(f"invalid_{name}") from None
    if value is None:
        raise _Rejected(f"missing_{name}")
    return value


def _optional(name: str, read: Any, raw: dict[str, str], faults: Counter[str]) -> Any:
    """A field that cannot be read is NULL and counted."""
    try:
        return read(raw.get(name, "null"))
    except _Fault:
        faults[name] += 1
        return None


def _is_nothing(value: str) -> bool:
    """null and blank text say nothing; an absent field is read as null."""
    return value == "null" or (value.startswith('"') and not json.loads(value).strip(TEXT_SPACE))


def _text(value: str) -> str | None:
    if _is_nothing(value):
        return None
    if value.startswith('"'):
        text = str(json.loads(value)).strip(TEXT_SPACE)
    elif re.fullmatch(_INT, value):
        text = "0" if value == "-0" else value
    else:
        raise _Fault
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        raise _Fault from None
    if size > MAX_TEXT_BYTES:
        raise _Fault
    return text


def _exact(value: str) -> Decimal:
    """The number that a JSON number token writes, exactly.

    An exponent of more than nine digits is cut to nine nines: Decimal refuses larger ones, and no drop is long enough
    to bring such a number back into range.
    """
    match = _NUMBER.fullmatch(value)
    if match is None:
        raise _Fault
    mantissa, sign, exponent = match.groups()
    digits = (exponent or "0").lstrip("0") or "0"
    return Decimal(f"{mantissa}e{sign or ''}{digits if len(digits) <= 9 else '9' * 9}")


def _decimal(value: str) -> Decimal | None:
    """DECIMAL(18,4), rounded half away from zero."""
    if _is_nothing(value):
        return None
    exact = _exact(str(json.loads(value)).strip(TEXT_SPACE) if value.startswith('"') else value)
    if exact and exact.adjusted() > 20:
        raise _Fault  # so large that rounding it would take all memory
    rounded = exact.quantize(ONE_TICK, ROUND_HALF_UP, WIDE)
    if abs(rounded) >= 10**14:
        raise _Fault
    return rounded or Decimal("0.0000")  # never -0


_TIMESTAMP = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"(?:[T ]([01][0-9]|2[0-3]):([0-5][0-9])(?::([0-5][0-9])(?:\.([0-9]+))?)?"
    r"(?:Z|([+-])([01][0-9]|2[0-3]):?([0-5][0-9]))?)?"
)


def _instant(value: str) -> int | None:
    """Microseconds since 1970 in UTC. What cannot be a moment from 1970 on is a fault; a far future is not."""
    if _is_nothing(value):
        return None
    if value.startswith('"'):
        instant = _instant_of_text(str(json.loads(value)).strip(TEXT_SPACE))
    else:
        instant = _instant_of_number(_exact(value))
    if instant < 0:
        raise _Fault
    return instant


def _instant_of_text(text: str) -> int:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        raise _Fault
    year, month, day, hour, minute, second, fraction, sign, zone_hour, zone_minute = match.groups()
    try:
        days = (datetime(int(year), int(month), int(day)) - EPOCH).days
    except ValueError:  # no such day
        raise _Fault from None
    minutes = days * 1440 + int(hour or 0) * 60 + int(minute or 0)
    offset = int(zone_hour or 0) * 60 + int(zone_minute or 0)
    minutes += offset if sign == "-" else -offset
    micros = int((fraction or "")[:6].ljust(6, "0"))
    return (minutes * 60 + int(second or 0)) * 1_000_000 + micros


def _instant_of_number(number: Decimal) -> int:
    """Epoch seconds, or milliseconds from 1e11 on."""
    if number < 0:
        return -1
    if number and number.adjusted() > 20:
        return LAST_US + 1
    per_unit, last_digit = (10**6, "1e-6") if number < 10**11 else (10**3, "1e-3")
    return int(Fraction(number.quantize(Decimal(last_digit), ROUND_DOWN, WIDE)) * per_unit)


def _instant_until(value: str, latest_us: int) -> int | None:
    instant = _instant(value)
    if instant is not None and instant > min(latest_us, LAST_US):
        raise _Fault
    return instant


def _metadata(value: str) -> str | None:
    if _is_nothing(value):
        return None
    text = compact(value)
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise _Fault
    return text


def _items(raw: dict[str, str], faults: Counter[str]) -> tuple[Item, ...]:
    value = raw.get("items", "null")
    if _is_nothing(value):
        return ()
    if not value.startswith("["):
        faults["items"] += 1
        return ()
    return tuple(_item(element, faults) for element in parts(value))


def _item(value: str, faults: Counter[str]) -> Item:
    if not value.startswith("{"):
        faults["item"] += 1
        return Item(None, None, None)
    raw = members(value)
    return Item(
        sku=_optional("sku", _text, raw, faults),
        qty=_optional("qty", _decimal, raw, faults),
        price=_optional("price", _decimal, raw, faults),
    )


# --- Allocation ---------------------------------------------------------------------------------------------------


def allocate(amount: Decimal | None, items: Sequence[Item]) -> list[Decimal | None]:
    """The amount of each fact row of an order. An order without items is one row, and carries all of it."""
    if amount is None or not items:
        return [amount] * max(1, len(items))
    weights = [_weight(item) for item in items]
    if not any(weights):
        weights = [Fraction(1)] * len(items)
    # The cumulative share after k lines, rounded; each line gets the step, so that all steps add up to the amount.
    steps = [_ticks(Fraction(amount) * sum(weights[:k]) / sum(weights)) for k in range(len(items) + 1)]
    return [Decimal(after - before).scaleb(-4, WIDE) for before, after in pairwise(steps)]


def _weight(item: Item) -> Fraction:
    return Fraction(0) if item.qty is None or item.price is None else abs(Fraction(item.qty) * Fraction(item.price))


def _ticks(value: Fraction) -> int:
    """Ten-thousandths, rounded half away from zero."""
    away = int(abs(value) * 10_000 + Fraction(1, 2))
    return -away if value < 0 else away


# --- Versions and batches -----------------------------------------------------------------------------------------


class Version(NamedTuple):
    """What orders two records of one order; the larger wins."""

    instant_us: int
    seq: int
    position: int


class Restatement(NamedTuple):
    """A change to a date that had been published before, its return after it had lost its last order included. A total over no
    amount at all is None, as SUM says."""

    date: str
    orders_before: int
    orders_after: int
    amount_before: Decimal | None
    amount_after: Decimal | None


@dataclass(frozen=True)
class Drop:
    """One file that arrived; its name plays no part in the outcome."""

    name: str
    data: bytes
    received_at_us: int


@dataclass
class DropOutcome:
    """What became of one drop, in counts."""

    seq: int
    outcome: str
    reason: str | None = None
    extracted: int = 0
    discarded: Counter[str] = field(default_factory=Counter)
    before_since: int = 0
    superseded: int = 0
    unchanged: int = 0
    new: int = 0
    corrected: int = 0
    late: int = 0
    field_faults: Counter[str] = field(default_factory=Counter)

    def check(self) -> None:
        """Conservation: every record extracted ends as exactly one thing."""
        kept = self.superseded + self.unchanged + self.new + self.corrected
        assert self.extracted == self.discarded.total() + self.before_since + kept, self
        assert self.late <= kept, self
        assert self.outcome == "applied" or not (self.extracted or self.field_faults), self
        assert (self.reason is not None) == (self.outcome == "quarantined"), self


class _Candidate(NamedTuple):
    version: Version
    order: Order
    outcome: DropOutcome


class Model:
    """A whole Strandline in memory: what is published, how far it has come, and what it restated."""

    def __init__(self, *, tolerance_us: int = DAY_US, records_path: str = "") -> None:
        self.hwm_us: int | None = None
        self.restatements: list[Restatement] = []
        self._ever: set[str] = set()  # the dates that were ever published
        self.affected: list[str] = []  # the dates whose rows the last batch changed
        self._tolerance_us = tolerance_us
        self._records_path = records_path
        self._seq = 0
        self._applied: set[str] = set()
        self._published: dict[str, tuple[Version, Order]] = {}

    def apply(self, batch: Sequence[Drop], since_us: int | None = None) -> list[DropOutcome]:
        """Apply one batch: read every drop, let the latest version of each order win, and count what became of all."""
        candidates: list[_Candidate] = []
        outcomes = [self._read(drop, since_us, candidates) for drop in batch]
        before = self._orders_by_date()
        self._count_late(candidates)
        for candidate in _winners(candidates):
            self._publish(candidate)
        self._restate(before)
        instants = [candidate.order.created_at for candidate in candidates]
        self.hwm_us = max(instants if self.hwm_us is None else [*instants, self.hwm_us], default=None)
        for outcome in outcomes:
            outcome.check()
        return outcomes

    def _read(self, drop: Drop, since_us: int | None, candidates: list[_Candidate]) -> DropOutcome:
        self._seq += 1
        digest = hashlib.sha256(drop.data).hexdigest()
        if digest in self._applied:
            return DropOutcome(self._seq, "duplicate")
        outcome = DropOutcome(self._seq, "applied")
        try:
            judged = list(_judged(drop.data, drop.received_at_us, self._tolerance_us, self._records_path))
        except Unreadable as unreadable:
            return DropOutcome(self._seq, "quarantined", str(unreadable))
        self._applied.add(digest)
        outcome.extracted = len(judged)
        for position, verdict, faults in judged:
            if isinstance(verdict, str):
                outcome.discarded[verdict] += 1
            elif since_us is not None and verdict.created_at < since_us:
                outcome.before_since += 1
            else:
                outcome.field_faults += faults
                candidates.append(_Candidate(_version(verdict, outcome.seq, position), verdict, outcome))
        return outcome

    def _count_late(self, candidates: list[_Candidate]) -> None:
        for candidate in candidates:
            if self.hwm_us is not None and candidate.order.created_at < self.hwm_us:
                candidate.outcome.late += 1

    def _publish(self, winner: _Candidate) -> None:
        """Hold the winner of its batch against what is published."""
        version, order, outcome = winner
        published = self._published.get(order.order_id)
        if published and version < published[0]:
            outcome.superseded += 1
            return
        if published is None:
            outcome.new += 1
        elif published[1] == order:
            outcome.unchanged += 1
        else:
            outcome.corrected += 1
        self._published[order.order_id] = (version, order)

    def _restate(self, before: dict[str, list[Order]]) -> None:
        after = self._orders_by_date()
        self.affected = [d for d in sorted({*before, *after}) if before.get(d) != after.get(d)]
        for date in self.affected:
            if date in self._ever:
                old, new = before.get(date, []), after.get(date, [])
                self.restatements.append(Restatement(date, len(old), len(new), _total(old), _total(new)))
        self._ever |= {*after}

    def _orders_by_date(self) -> dict[str, list[Order]]:
        """The published orders by date, each list in the order of its rows."""
        by_date: dict[str, list[Order]] = {}
        for _, order in self._published.values():
            by_date.setdefault(_date(order), []).append(order)
        return {date: sorted(by_date[date], key=_row_order) for date in by_date}

    def dates(self) -> list[str]:
        """The dates that have rows."""
        return sorted(self._orders_by_date())

    def fact_rows(self, date: str) -> list[dict[str, Any]]:
        """The rows of fact_order for one date, sorted as they are published."""
        return [row for order in self._orders_by_date().get(date, []) for row in _fact_rows(order)]

    def item_rows(self, date: str) -> list[dict[str, Any]]:
        """The rows of order_items for one date: the fact's lines without those of orders that have no items."""
        names = ("order_id", "line_number", "sku", "qty", "price", "date")
        return [{name: row[name] for name in names} for row in self.fact_rows(date) if row["line_number"]]

    def latest(self) -> dict[str, Version]:
        """The version of each order that won."""
        return {order_id: version for order_id, (version, _) in self._published.items()}

    def index(self) -> dict[str, tuple[str, Version]]:
        """Where each order lives, and which record has it."""
        return {order_id: (_date(order), version) for order_id, (version, order) in self._published.items()}


def _version(order: Order, seq: int, position: int) -> Version:
    return Version(order.created_at if order.updated_at is None else order.updated_at, seq, position)


def _winners(candidates: list[_Candidate]) -> list[_Candidate]:
    """The latest version of each order in a batch; the others are superseded there and then."""
    latest: dict[str, _Candidate] = {}
    for candidate in sorted(candidates, key=lambda c: c.version):
        beaten = latest.get(candidate.order.order_id)
        if beaten:
            beaten.outcome.superseded += 1
        latest[candidate.order.order_id] = candidate
    return list(latest.values())


def _date(order: Order) -> str:
    return (EPOCH + timedelta(microseconds=order.created_at)).date().isoformat()


def _row_order(order: Order) -> tuple[int, bytes]:
    return order.created_at, order.order_id.encode()


def _total(orders: list[Order]) -> Decimal | None:
    amounts = [order.amount for order in orders if order.amount is not None]
    return sum(amounts, Decimal("0.0000")) if amounts else None


def _fact_rows(order: Order) -> list[dict[str, Any]]:
    lines = list(enumerate(order.items, 1)) or [(0, Item(None, None, None))]
    head = {"order_id": order.order_id, "user_id": order.user_id}
    when = {"created_at": order.created_at, "date": _date(order)}
    tail = {"currency": order.currency, "updated_at": order.updated_at, "metadata": order.metadata}
    return [
        {**head, "sku": item.sku, "amount": share, "qty": item.qty, "price": item.price}
        | {**when, "line_number": line_number, **tail}
        for (line_number, item), share in zip(lines, allocate(order.amount, order.items), strict=True)
    ]
