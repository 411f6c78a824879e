"""Records of a source that spells its orders in another way, translated into the format of docs/INPUT.md. Pure, on texts.

A translated record holds the values of the mapped paths as they are written, so the reference parser reads it by the same rules
as any other. What cannot be translated (a text that is not JSON, a value of another kind) stays as it is: the parser says what is
wrong. The fast path needs no translation: see native/tables.py.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from ..mapping import ITEM_FIELDS, ORDER_FIELDS, FieldMapping, Path, keys_of
from ..model import FIELDS, LAST_INSTANT, ParseContext, Reason
from ..native.bindings import Scanned
from . import reference
from .texts import elements_of, members_of
from .values import (  # fmt: skip
    FAULT,
    WHITE_SPACE,
    Fault,
    Number,
    is_number,
    is_shortened,
    parts_of,
    read_boolean,
    read_decimal,
    read_instant,
    read_text,
    unwrapped,
)

_MINOR_DIGITS_OF = dict.fromkeys(  # of the currencies that do not have two: ISO 4217
    re.findall("...", "BIFCLPDJFGNFISKJPYKMFKRWPYGRWFUGXUYIVNDVUVXAFXOFXPF"), 0
) | dict.fromkeys(re.findall("...", "BHDIQDJODKWDLYDOMRTND"), 3)
_MINOR_DIGITS = 2  # of all other currencies, and of an unknown one
_INTEGER = re.compile(r"(-?)(0|[1-9][0-9]*)")
_CODE = re.compile(r"[A-Za-z]{3}")

_Members = dict[str, Any]
_encoded = json.JSONEncoder().encode


def _read_any_instant(value: object) -> int | Fault | None:
    """An instant of the calendar: a column may be about the future."""
    instant = read_instant(value)
    return FAULT if isinstance(instant, int) and instant > LAST_INSTANT else instant


_READ: Mapping[str, Callable[[object], object]] = {
    "text": read_text, "decimal": read_decimal, "instant": _read_any_instant, "boolean": read_boolean,
}  # fmt: skip


class Translator:
    """A compiled mapping."""

    def __init__(self, mapping: FieldMapping) -> None:
        self._mapping = mapping
        self._record = keys_of(mapping.record)
        self._paths = mapping.compiled()
        self._skip = keys_of(mapping.skip_items_with)
        self._deleted = keys_of(mapping.deleted_path)
        self._read = mapping.read_keys()
        self._zone = None if mapping.time_zone == "UTC" else ZoneInfo(mapping.time_zone)

    def __call__(self, record: bytes) -> bytes:
        """The record in the format of docs/INPUT.md. What is not a JSON object stays as it is; a deletion has only its id."""
        members = self.members(record)
        if members is None:
            return record
        texts = self._translated(members, record)
        if self.deletes(members):
            texts = {"order_id": texts["order_id"]} if "order_id" in texts else {}
        return _object(texts).encode()

    def identity(self, record: bytes) -> dict[str, bytes]:
        """What an object has of `order_id` and `created_at`, as texts. Nothing else of it is decoded: it may be a whole drop."""
        members = self.texts(record)
        found = {}
        for field in ("order_id", "created_at"):
            texts = (text for path in self._paths[field] if (text := _text_at(members, path)) is not None)
            for text in texts:
                if _is_there(value := reference.value_of(text.decode())):
                    prefixed = self._prefixed(value)
                    found[field] = text if field != "order_id" or prefixed is value else as_json(prefixed).encode()
                    break
        return found

    def is_deletion(self, record: bytes) -> bool:
        """Whether an object says that its order is gone. Like `identity`."""
        text = _text_at(self.texts(record), self._deleted) if self._deleted else None
        return text is not None and as_json(reference.value_of(text.decode())) in self._mapping.deleted_values

    def texts(self, record: bytes) -> Mapping[str, bytes]:
        """The members of the order in an object, as they are written."""
        members = members_of(record)
        inner = _text_at(members, self._record) if self._record else None
        return members_of(inner) if inner is not None and inner.startswith(b"{") else members

    def deletion(self, record: bytes, context: ParseContext) -> reference.Order | None:
        """The deletion that a record is, if it is one: it has an order_id that can be read, and says so. Its instant is that of
        its version; without one, the time of receipt."""
        members = self.members(record)
        if members is None or not self.deletes(members):
            return None
        texts = self._translated(members, record)
        order_id = read_text(unwrapped(reference.value_of(texts.get("order_id", "null"))))
        if not isinstance(order_id, str) or is_shortened(order_id):
            return None
        return reference.deletion(order_id, self.version_of_deletion(members, record, context)[1])

    def version_of_deletion(self, members: _Members, record: bytes, context: ParseContext) -> tuple[str, int]:
        """The field that says since when an order is gone, and the instant; "" and the time of receipt where none does."""
        texts = self._translated(members, record)
        for name in ("updated_at", "created_at"):
            instant = read_instant(unwrapped(reference.value_of(texts.get(name, "null"))))
            if isinstance(instant, int) and instant <= context.latest_instant:
                return name, instant
        return "", context.received_at

    def deletion_value(self, members: _Members) -> Any:
        """The value that would say that an order is gone."""
        return _at(members, self._deleted)

    def found_column(self, members: _Members, paths: Sequence[str]) -> tuple[str, Any]:
        """The first path of an extra column that has a value, and the value as it is written; "" and None where none has."""
        found = ((path, _at(members, keys_of(path))) for path in paths)
        return next(((path, value) for path, value in found if _is_there(value)), ("", None))

    def extra(self, record: bytes) -> tuple[tuple[object, ...], Counter[str]]:
        """The values of the extra columns of an order, and the faults among them."""
        members = self.members(record) or {}
        values: list[object] = []
        faults: Counter[str] = Counter()
        for name, kind, paths in self._mapping.columns:
            _, found = self.found_column(members, paths)
            value = _READ[kind](unwrapped(self.zoned(found) if kind == "instant" and self._zone else found))
            faults[name] += isinstance(value, Fault)
            values.append(None if isinstance(value, Fault) else value)
        return tuple(values), +faults

    def deletes(self, members: _Members) -> bool:
        """Whether an order says that it is gone."""
        found = _at(members, self._deleted) if self._deleted else None
        return found is not None and as_json(found) in self._mapping.deleted_values

    def members(self, record: bytes) -> _Members | None:
        """The members of the order in a record, as values; None where it is no JSON object."""
        try:
            text = record.decode()
            reference.check_depth(text)
            members = reference.value_of(text)
        except (reference.NotJson, UnicodeDecodeError):
            return None
        inner = _at(members, self._record) if self._record and isinstance(members, dict) else None
        found = inner if isinstance(inner, dict) else members
        return found if isinstance(found, dict) else None

    def _translated(self, members: _Members, record: bytes) -> dict[str, str]:
        """The fields of an order, as JSON texts."""
        found = {field: value for field in ORDER_FIELDS if (value := self._first(members, field)) is not None}
        if isinstance(currency := found.get("currency"), str) and _CODE.fullmatch(currency.strip(WHITE_SPACE)):
            found["currency"] = currency.strip(WHITE_SPACE).upper()
        digits = _minor_digits(found.get("currency")) if self._mapping.minor_units else 0
        if self._mapping.id_prefix:
            found |= {field: self._prefixed(found[field]) for field in ("order_id", "user_id") if field in found}
        if self._zone is not None:
            found |= {field: self.zoned(found[field]) for field in ("created_at", "updated_at") if field in found}
        texts = {field: as_json(value) for field, value in found.items() if field not in ("items", "metadata")}
        if digits and "amount" in found:
            texts["amount"] = _shifted(found["amount"], digits)
        if isinstance(items := found.get("items"), list):
            texts["items"] = f"[{','.join(self._item(one, digits) for one in items if not self.is_skipped(one))}]"
        elif "items" in found:
            texts["items"] = as_json(items)
        if "metadata" in found:
            texts["metadata"] = self._metadata(record)
        if "amount" not in texts and "items" not in texts and not self._mapping.fields:  # see bare.py
            texts |= {key: "null" for key in members if key not in self._read and key not in FIELDS}
        return texts

    def _item(self, item: object, digits: int) -> str:
        if not isinstance(item, dict):
            return as_json(item)
        found = {field: value for field in ITEM_FIELDS if (value := self._first(item, field)) is not None}
        texts = {field: as_json(value) for field, value in found.items()}
        if digits and "price" in found:
            texts["price"] = _shifted(found["price"], digits)
        return _object(texts)

    def is_skipped(self, item: object) -> bool:
        """Whether an element of `items` is left out."""
        mark = _at(item, self._skip) if self._skip and isinstance(item, dict) else None
        return _is_there(mark) and mark != "0"  # a number is a text here: shops write 0 for none

    def _first(self, members: _Members, field: str) -> Any:
        """The value of the first path that has one; None where none has."""
        return self.found(members, field)[1]

    def found(self, members: _Members, field: str) -> tuple[str, Any]:
        """The same with its path; ("", None) where no path has a value. `members`: of an order, or of an item."""
        for path in self._paths[field]:
            found = members.get(path[0]) if len(path) == 1 else _at(members, path)
            if _is_there(found) and not (field == "user_id" and isinstance(found, str) and found == "0"):
                return ".".join(path), found
        return "", None

    def _metadata(self, record: bytes) -> str:
        """The text of the metadata as it is written: it is kept so."""
        members = self.texts(record)
        found = (_text_at(members, path) for path in self._paths["metadata"])
        texts = (text.decode() for text in found if text is not None)
        return next(text for text in texts if _is_there(reference.value_of(text)))

    def _prefixed(self, value: object) -> object:
        text = read_text(unwrapped(value))
        return self._mapping.id_prefix + text if isinstance(text, str) and not is_shortened(text) else value

    def zoned(self, value: object) -> object:
        """A local time as an instant in UTC. Of a time that occurs twice, the first; of one that is skipped, the later."""
        inner = unwrapped(value)
        parts = parts_of(inner.strip(WHITE_SPACE)) if type(inner) is str else None
        if parts is None or parts[2] is not None:
            return value
        try:
            instant = parts[0].replace(tzinfo=self._zone).astimezone(UTC).replace(tzinfo=None)
        except OverflowError:
            return value
        return f"{instant.isoformat()}{f'.{parts[1]}' if parts[1] else ''}Z"


@lru_cache(maxsize=64)
def translator(mapping: FieldMapping) -> Translator:
    """The compiled mapping. KeyError where its time zone is unknown."""
    return Translator(mapping)


def direct(record: bytes, mapping: FieldMapping) -> bytes:
    """A record as the reference parser reads it."""
    return record if mapping.is_direct else translator(mapping)(record)


def read_record(record: bytes, context: ParseContext) -> tuple[reference.Order | Reason, bool]:
    """What the reference parser reads in a record under the mapping of its source, with its extra columns; and whether that is a
    deletion."""
    mapping = context.mapping
    if not mapping.is_direct and (deletion := translator(mapping).deletion(record, context)):
        return deletion, True
    read = reference.read_record(direct(record, mapping), context)
    if isinstance(read, Reason) or not mapping.columns:
        return read, False
    extra, faults = translator(mapping).extra(record)
    others = set(read.other_keys) - mapping.column_keys
    return replace(read, extra=extra, faults=read.faults + faults, other_keys=tuple(others)), False


def in_major_units(read: Scanned) -> Scanned:
    """What the fast path read of amounts and prices in minor units, which are whole numbers, so that no digit is lost."""
    currency = read.texts["currency"].array().dictionary_encode()
    digits = [_minor_digits(code) for code in currency.dictionary.to_pylist()]
    # The last one is for those without a code.
    of_code = np.array([10**count for count in [*digits, _MINOR_DIGITS]], np.int64)
    divisor = of_code[currency.indices.fill_null(len(digits)).to_numpy()]
    amount, price = read.numbers["amount"], read.numbers["price"]
    return replace(
        read,
        numbers=read.numbers
        | {
            "amount": replace(amount, values=amount.values // divisor),
            "price": replace(price, values=price.values // np.repeat(divisor, np.diff(read.items))),
        },
    )


def identity_of(record: bytes, mapping: FieldMapping) -> Mapping[str, bytes]:
    """The `order_id` and `created_at` of an object, as texts, if it has them."""
    return members_of(record) if mapping.is_direct else translator(mapping).identity(record)


def is_order(record: bytes, mapping: FieldMapping) -> bool:
    """Whether an object is an order, valid or not, or the deletion of one."""
    fields = identity_of(record, mapping)
    if reference.is_order(fields):
        return True
    return not mapping.is_direct and translator(mapping).is_deletion(record) and "order_id" in fields


def order_id_in(members: _Members, mapping: FieldMapping) -> str | None:
    """The id of an object that is an order, valid or not; None of any other. Under a mapping, other objects may have an id and a
    date, too: an order has an amount or items besides."""
    by = translator(mapping)
    order_id = read_text(unwrapped(by.found(members, "order_id")[1]))
    created_at = read_instant(unwrapped(by.found(members, "created_at")[1]))
    if not isinstance(order_id, str) or is_shortened(order_id) or created_at is None:
        return None
    is_more = mapping.is_direct or by.found(members, "amount")[0] or by.found(members, "items")[0]
    return order_id if is_more else None


def _at(members: _Members, path: Path) -> Any:
    """The value at a path; None where there is none."""
    value: Any = members
    for key in path:
        if isinstance(value, dict):
            value = value.get(key)
        elif isinstance(value, list) and key.isascii() and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _text_at(members: Mapping[str, bytes], path: Path) -> bytes | None:
    """The same, as it is written."""
    value = members.get(path[0])
    for key in path[1:]:
        if value is None or not value.startswith((b"{", b"[")):
            return None
        if value.startswith(b"{"):
            value = members_of(value).get(key)
            continue
        elements = elements_of(value)
        value = elements[int(key)] if key.isascii() and key.isdigit() and int(key) < len(elements) else None
    return value


def _is_there(value: object) -> bool:
    return value is not None and not (isinstance(value, str) and not value.strip(WHITE_SPACE))


def as_json(value: object) -> str:
    """A value as JSON text; numbers as they are written."""
    if isinstance(value, Number):
        return value
    if isinstance(value, dict):
        return _object({key: as_json(one) for key, one in value.items()})
    if isinstance(value, list):
        return f"[{','.join(map(as_json, value))}]"
    return "NaN" if isinstance(value, Fault) else _encoded(value)


def _object(texts: Mapping[str, str]) -> str:
    return "{" + ",".join([f"{_encoded(key)}:{text}" for key, text in texts.items()]) + "}"


def _minor_digits(currency: object) -> int:
    return _MINOR_DIGITS_OF.get(currency, _MINOR_DIGITS) if isinstance(currency, str) else _MINOR_DIGITS


def _shifted(value: object, digits: int) -> str:
    """A number divided by 10^digits, exactly, as JSON text."""
    value = unwrapped(value)
    text = value.strip(WHITE_SPACE) if isinstance(value, str) else ""
    if not is_number(text):
        return as_json(value)
    if match := _INTEGER.fullmatch(text):
        padded = match[2].rjust(digits + 1, "0")
        return f"{match[1]}{padded[:-digits]}.{padded[-digits:]}"
    number, _, exponent = text.lower().partition("e")
    return f"{number}e{int(exponent or 0) - digits}" if len(exponent) < 10 else as_json(value)
