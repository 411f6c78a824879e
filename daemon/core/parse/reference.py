"""The reference parser: the text of one record in, one exact order or the reason of its discard out.

It uses the JSON scanner of the standard library, keeps number tokens as text, and is the authority on what a record means. It is
slow (some 25 µs per record), so `parse` only sends it the records that the fast path refuses. It also splits documents that the
fast path refuses, and distinguishes a truncated document from a wrong one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from json import JSONDecodeError, JSONDecoder
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any, TypeVar

from ..model import DELETED_AT, FIELDS, MAX_DEPTH, Field, ParseContext, Reason
from .values import FAULT, Fault, Number, is_shortened, read_decimal, read_instant, read_metadata, read_text, unwrapped

_SPACE = re.compile(r"[ \t\n\r]*")
_PLAIN_KEY = re.compile(r'[ \t\n\r]*"([^"\\\x00-\x1f]*)"[ \t\n\r]*:[ \t\n\r]*')
_CUT_ESCAPE = re.compile(r"u[0-9a-fA-F]{0,4}\Z")
_CUT_TOKEN = re.compile(
    r"(?:t|tr|tru|f|fa|fal|fals|n|nu|nul|-|\.[0-9]*|(?:\.[0-9]+)?[eE][+-]?|\\(?:u[0-9a-fA-F]{0,3})?"
    r"|Na?|-?I(?:n(?:f(?:i(?:n(?:it?)?)?)?)?)?)?$"
)
# The messages of Python's scanner, and what they mean for a person.
_WORDS = (
    ("Expecting value", "a value is missing"),
    ("Expecting ',' delimiter", "a comma or a closing bracket is missing"),
    ("Expecting ':' delimiter", "a colon is missing after a key"),
    ("Expecting property name", "a key in double quotes is missing"),
    ("Illegal trailing comma", "a comma precedes a closing bracket"),
    (
        "Invalid control character",
        "a text holds a line end or another control character; its closing quote may be missing",
    ),
    ("Invalid \\", "a backslash begins no escape of JSON"),
    ("Unterminated string", "a text has no closing quote"),
)


def _in_words(message: str) -> str:
    return next((words for begin, words in _WORDS if message.startswith(begin)), "it is not JSON")


# NaN and Infinity are not JSON, but programs write them for a missing number: only their field is a fault.
_decoder = JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=lambda name: FAULT)


_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Item:
    """One item of an order; quantities and prices in units of 1/10,000."""

    sku: str | None
    qty: int | None
    price: int | None


@dataclass(frozen=True, slots=True)
class Order:
    """One accepted record, read exactly. Instants in microseconds, the amount in units of 1/10,000."""

    order_id: str
    created_at: int
    updated_at: int | None
    user_id: str | None
    amount: int | None
    currency: str | None
    metadata: str | None
    items: tuple[Item, ...]
    faults: Counter[str]
    other_keys: tuple[str, ...] = ()  # of a record with neither `amount` nor `items`: its keys that are not fields
    extra: tuple[object, ...] = ()  # the values of its extra columns, as a mapping has these; none: all are NULL


class NotJson(Exception):
    """A text is not JSON. `position`: the character where that shows. `truncated`: more text could make it JSON."""

    def __init__(self, why: str, position: int = 0, *, truncated: bool = False) -> None:
        super().__init__(why)
        self.position, self.truncated = position, truncated


class TooDeep(NotJson):
    """Valid so far, but nested deeper than MAX_DEPTH."""


def read_record(raw: bytes, context: ParseContext) -> Order | Reason:
    """Parses one record. `order_id` is checked first, then `created_at`; no other field rejects the record."""
    try:
        text = raw.decode()
        check_depth(text)
        members = dict(_members(text))
    except (NotJson, UnicodeDecodeError):
        return Reason.MALFORMED_RECORD
    except NotAnObject:
        return Reason.NOT_AN_OBJECT
    order_id = read_text(_value(members, "order_id"))
    if not isinstance(order_id, str) or is_shortened(order_id):
        return Reason.MISSING_ORDER_ID if order_id is None else Reason.INVALID_ORDER_ID
    created_at = read_instant(_value(members, "created_at"))
    if not isinstance(created_at, int):
        return Reason.MISSING_CREATED_AT if created_at is None else Reason.INVALID_CREATED_AT
    if created_at > context.latest_instant:
        return Reason.FUTURE_CREATED_AT
    return _kept(members, order_id, created_at, context)


def order_id_of(raw: bytes) -> str | None:
    """The id of a record, whatever else is wrong with it; None where it has none that can be read."""
    try:
        text = raw.decode()
        check_depth(text)
        order_id = read_text(_value(dict(_members(text)), "order_id"))
    except (NotJson, NotAnObject, UnicodeDecodeError):
        return None
    return order_id if isinstance(order_id, str) else None


def deletion(order_id: str, instant: int) -> Order:
    """The version of an order that says that it is gone since `instant`, in microseconds."""
    return Order(order_id, DELETED_AT, instant, None, None, None, None, (), Counter())


class NotAnObject(Exception):
    """The text is JSON, but not an object."""


def is_object(raw: bytes) -> bool:
    """Whether a line is one complete JSON object."""
    try:
        text = raw.decode()
        check_depth(text)
        for _ in _members(text):
            pass
    except (NotJson, NotAnObject, UnicodeDecodeError):
        return False
    return True


def is_order(members: Mapping[str, bytes]) -> bool:
    """Whether an object with these members (as texts) is an order, valid or not: its `order_id` can be read, and its
    `created_at` is not missing."""
    texts = (members.get(key, b"null").decode() for key in ("order_id", "created_at"))
    order_id, created_at = (unwrapped(_scan(text, 0)[1]) for text in texts)
    found = read_text(order_id)
    return isinstance(found, str) and not is_shortened(found) and read_instant(created_at) is not None


def is_json(raw: bytes) -> bool:
    """Whether a text is one complete JSON value. NaN and Infinity count as numbers."""
    try:
        whole(raw.decode())
    except (NotJson, UnicodeDecodeError):
        return False
    return True


def whole(text: str) -> str:
    """The one JSON value in `text`, as text without surrounding white space. NotJson where there is not exactly one."""
    start = _space(text, 0)
    end = value_end(text, start)
    rest = _space(text, end)
    if rest != len(text):
        raise NotJson("the document is complete before this, and text follows", rest)
    return text[start:end]


def value_of(text: str) -> Any:
    """The one JSON value in a text, with numbers as values.Number and NaN as FAULT. NotJson where there is not exactly one."""
    end, value = _scan(text, _space(text, 0))
    if (rest := _space(text, end)) != len(text):
        raise NotJson("the document is complete before this, and text follows", rest)
    return value


def value_end(text: str, position: int) -> int:
    """The end of the JSON value that begins at `position`. NotJson where there is none."""
    return _scan(text, position)[0]


def elements(text: str) -> list[str]:
    """The texts of a JSON array's elements. `text` is one complete array."""
    found: list[str] = []
    position = _space(text, 1)
    while text[position] != "]":
        end = value_end(text, position)
        found.append(text[position:end])
        position = _space(text, end)
        if text[position] == ",":
            position = _space(text, position + 1)
    return found


def members(text: str) -> dict[str, str]:
    """The members of an object, each value as text; of a repeated key the last counts."""
    return dict(pairs(text))


def pairs(text: str) -> list[tuple[str, str]]:
    """The keys of an object and their values as texts, in order."""
    return [(key, raw) for key, (_, raw) in _members(text)]


def _kept(members: dict[str, tuple[Any, str]], order_id: str, created_at: int, context: ParseContext) -> Order:
    """The order of an accepted record: a field that cannot be read is NULL, and counted as a fault."""
    faults: Counter[str] = Counter()
    updated_at = read_instant(_value(members, "updated_at"))
    if isinstance(updated_at, int) and updated_at > context.latest_instant:
        updated_at = FAULT
    return Order(
        order_id,
        created_at,
        _settle(faults, Field.UPDATED_AT, updated_at),
        _settle(faults, Field.USER_ID, read_text(_value(members, "user_id"))),
        _settle(faults, Field.AMOUNT, read_decimal(_value(members, "amount"))),
        _settle(faults, Field.CURRENCY, read_text(_value(members, "currency"))),
        _settle(faults, Field.METADATA, read_metadata(members["metadata"][1] if "metadata" in members else None)),
        tuple(read_items(_settle(faults, Field.ITEMS, _read_items(_value(members, "items"))) or [], faults)),
        faults,
        () if "amount" in members or "items" in members else tuple(members.keys() - FIELDS),
    )


def _settle(faults: Counter[str], field: Field, value: _T | Fault | None) -> _T | None:
    """The value, or None and a counted fault."""
    if isinstance(value, Fault):
        faults[field] += 1
        return None
    return value


def _value(members: dict[str, tuple[Any, str]], key: str) -> Any:
    return unwrapped(members[key][0]) if key in members else None


def _read_items(value: object) -> list[Any] | Fault | None:
    if isinstance(value, list):
        return value
    return None if value is None or (type(value) is str and read_text(value) is None) else FAULT


def read_items(items: list[Any], faults: Counter[str]) -> Iterator[Item]:
    """The items of an order. Counts what cannot be read in `faults`."""
    for item in items:
        if isinstance(item, dict):
            yield Item(
                _settle(faults, Field.SKU, read_text(unwrapped(item.get("sku")))),
                _settle(faults, Field.QTY, read_decimal(unwrapped(item.get("qty")))),
                _settle(faults, Field.PRICE, read_decimal(unwrapped(item.get("price")))),
            )
        else:
            faults[Field.ITEM] += 1
            yield Item(None, None, None)


def _members(text: str) -> Iterator[tuple[str, tuple[Any, str]]]:
    """The members of the object `text`, in order: key, value, and the text of the value."""
    position = _space(text, 0)
    if not text.startswith("{", position):
        whole(text)
        raise NotAnObject
    position = _space(text, position + 1)
    if not text.startswith("}", position):
        position -= 1
        separator = ","
        while separator == ",":
            plain = _PLAIN_KEY.match(text, position + 1)
            key, position = (plain[1], plain.end()) if plain else _key(text, _space(text, position + 1))
            end, value = _scan(text, position)
            yield key, (value, text[position:end])
            position = _space(text, end)
            separator = text[position : position + 1]
        if separator != "}":
            raise NotJson("a comma or a closing bracket is missing", position, truncated=not separator)
    if _space(text, position + 1) != len(text):
        raise NotJson("the document is complete before this, and text follows", _space(text, position + 1))


def _key(text: str, position: int) -> tuple[str, int]:
    """The key at `position`, and the start of its value."""
    if not text.startswith('"', position):
        raise NotJson("a key in double quotes is missing", position, truncated=position == len(text))
    try:
        key, position = scanstring(text, position + 1)
    except JSONDecodeError as error:
        raise NotJson(_in_words(error.msg), error.pos, truncated=_ran_out(error, text)) from None
    position = _space(text, position)
    if not text.startswith(":", position):
        raise NotJson("a colon is missing after a key", position, truncated=position == len(text))
    return key, _space(text, position + 1)


def _scan(text: str, position: int) -> tuple[int, Any]:
    try:
        value, end = _decoder.raw_decode(text, position)
    except JSONDecodeError as error:
        raise NotJson(_in_words(error.msg), error.pos, truncated=_ran_out(error, text)) from None
    except RecursionError:
        raise TooDeep(f"nested more than {MAX_DEPTH} levels deep", position) from None
    return end, value


def _ran_out(error: JSONDecodeError, text: str) -> bool:
    """Whether the scanner reached the end of the text, rather than a wrong character."""
    if error.doc is not text:
        return False
    if error.msg.startswith("Unterminated string"):
        return True
    if error.msg.startswith("Invalid \\u"):  # the position is that of the `u`
        return _CUT_ESCAPE.match(text, error.pos) is not None
    return _CUT_TOKEN.match(text.rstrip(" \t\n\r"), error.pos) is not None


def _space(text: str, position: int) -> int:
    """The end of the white space at `position`; mostly there is none."""
    if text[position : position + 1] > " ":
        return position
    match = _SPACE.match(text, position)
    return match.end() if match else position


def check_depth(text: str) -> None:
    """TooDeep where a text is nested more than MAX_DEPTH levels deep. Nearly all have too few brackets for that."""
    if text.count("{") + text.count("[") > MAX_DEPTH and depth(text) > MAX_DEPTH:
        raise TooDeep(f"nested more than {MAX_DEPTH} levels deep")


def depth(text: str) -> int:
    """The largest number of brackets that are open at once, outside of strings. Not recursive, so that any text is safe."""
    deepest = level = 0
    for match in re.finditer(r'[][{}]|"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', text, re.DOTALL):
        token = match.group()
        if token in "{[":
            level += 1
            deepest = max(deepest, level)
        elif token in "}]":
            level -= 1
    return deepest
