"""Records of a source that spells its orders in another way, translated into the format of docs/INPUT.md. Pure, on texts.

A translated record holds the values of the mapped paths as they are written, so the reference parser reads it by the same rules
as any other. What cannot be translated (a text that is not JSON, a value of another kind) stays as it is: the parser says what
is wrong. The fast path reads most mapped records as they are: see native/mapping.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from ..mapping import DIRECT, ITEM_FIELDS, ORDER_FIELDS, FieldMapping, keys_of
from ..model import FIELDS, ParseContext
from . import reference
from .envelopes import elements_of, members_of
from .values import (
    WHITE_SPACE,
    is_blank_string,
    is_number,
    is_shortened,
    read_instant,
    read_text,
    unwrapped,
    zone_of,
)

_MINOR_DIGITS_OF = dict.fromkeys(  # of the currencies that do not have two: ISO 4217
    re.findall("...", "BIFCLPDJFGNFISKJPYKMFKRWPYGRWFUGXUYIVNDVUVXAFXOFXPF"), 0
) | dict.fromkeys(re.findall("...", "BHDIQDJODKWDLYDOMRTND"), 3)
_MINOR_DIGITS = 2  # of all other currencies, and of an unknown one
_INTEGER = re.compile(r"(-?)(0|[1-9][0-9]*)")
_CODE = re.compile(r"[A-Za-z]{3}")
_NO_USER = (b"0", b'"0"')  # shops write it for guests

_Members = Mapping[str, bytes]


class Translator:
    """A compiled mapping."""

    def __init__(self, mapping: FieldMapping) -> None:
        self._mapping = mapping
        self._record = keys_of(mapping.record)
        self._paths = mapping.compiled()
        self._skip = keys_of(mapping.skip_items_with)
        self._deleted = keys_of(mapping.deleted_path)
        self._read = mapping.read_keys()
        self._zone = zone_of(mapping.time_zone)

    def __call__(self, record: bytes) -> bytes:
        """The record in the format of docs/INPUT.md; as it is where it is no JSON object."""
        members = self._members(record)
        if members is None:
            return record
        return b"{}" if self._deletes(members) else _object(self._translated(members))

    def identity(self, record: bytes) -> dict[str, bytes]:
        """What an object (whatever its depth) has of `order_id` and `created_at`, a deletion too."""
        return self._identity(self._inner(members_of(record)))

    def is_deletion(self, record: bytes) -> bool:
        """Whether an object says that its order is gone."""
        return self._deletes(self._inner(members_of(record)))

    def deletion(self, record: bytes, context: ParseContext) -> reference.Order | None:
        """The deletion that a record is, if it is one: it has an order_id that can be read, and says so. Its instant is that of
        its version; without one, the time of receipt."""
        members = self._members(record)
        if members is None or not self._deletes(members):
            return None
        found = self._identity(members, "order_id", "updated_at", "created_at")
        order_id, *instants = (_value(found.get(name, b"null")) for name in ("order_id", "updated_at", "created_at"))
        order_id = read_text(order_id)
        if not isinstance(order_id, str) or is_shortened(order_id):
            return None
        read = (read_instant(one, self._zone) for one in instants)
        instant = next(
            (one for one in read if isinstance(one, int) and one <= context.latest_instant), context.received_at
        )
        return reference.deletion(order_id, instant)

    def _deletes(self, members: _Members) -> bool:
        found = _at(members, self._deleted) if self._deleted else None
        return found is not None and _canonical(found) in self._mapping.deleted_values

    def _members(self, record: bytes) -> _Members | None:
        """The members of the order in a record; None where the record is no JSON object."""
        try:
            reference.check_depth(record.decode())
            return self._inner(members_of(record)) if record.startswith(b"{") else None
        except (reference.NotJson, UnicodeDecodeError):
            return None

    def _inner(self, members: _Members) -> _Members:
        inner = _at(members, self._record) if self._record else None
        return members_of(inner) if inner is not None and inner.startswith(b"{") else members

    def _identity(self, members: _Members, *names: str) -> dict[str, bytes]:
        found = self._found(members, names or ("order_id", "created_at"))
        if "order_id" in found:
            found["order_id"] = self._prefixed(found["order_id"])
        return found

    def _found(self, members: _Members, fields: Iterable[str]) -> dict[str, bytes]:
        return {field: value for field in fields if (value := self._first(members, field)) is not None}

    def _translated(self, members: _Members) -> dict[str, bytes]:
        found = self._found(members, ORDER_FIELDS)
        if "currency" in found:
            found["currency"] = _upper(found["currency"])
        digits = _minor_digits(found.get("currency")) if self._mapping.minor_units else 0
        for field in ("order_id", "user_id"):
            if field in found:
                found[field] = self._prefixed(found[field])
        if "amount" in found:
            found["amount"] = _shifted(found["amount"], digits)
        if found.get("items", b"").startswith(b"["):
            items = [one for one in elements_of(found["items"]) if not self._is_skipped(one)]
            found["items"] = b"[" + b",".join(self._item(one, digits) for one in items) + b"]"
        if "amount" not in found and "items" not in found:  # the keys that nothing reads are reported
            found |= {key: b"null" for key in members if key not in self._read and key not in FIELDS}
        return found

    def _item(self, text: bytes, digits: int) -> bytes:
        if not text.startswith(b"{"):
            return text
        found = self._found(members_of(text), ITEM_FIELDS)
        if "price" in found:
            found["price"] = _shifted(found["price"], digits)
        return _object(found)

    def _is_skipped(self, item: bytes) -> bool:
        if not self._skip or not item.startswith(b"{"):
            return False
        found = _at(members_of(item), self._skip)
        return found is not None and _is_there(found)

    def _first(self, members: _Members, field: str) -> bytes | None:
        """The value of the first path that has one."""
        for path in self._paths[field]:
            found = _at(members, path)
            if found is not None and _is_there(found) and not (field == "user_id" and found in _NO_USER):
                return found
        return None

    def _prefixed(self, value: bytes) -> bytes:
        prefix = self._mapping.id_prefix
        text = read_text(_value(value)) if prefix else None
        return _json(prefix + text) if isinstance(text, str) and not is_shortened(text) else value


@lru_cache(maxsize=64)
def translator(mapping: FieldMapping) -> Translator:
    """The compiled mapping. KeyError where its time zone is unknown."""
    return Translator(mapping)


def direct(record: bytes, mapping: FieldMapping) -> bytes:
    """A record as the reference parser reads it."""
    return record if mapping == DIRECT else translator(mapping)(record)


def identity_of(record: bytes, mapping: FieldMapping) -> Mapping[str, bytes]:
    """The `order_id` and `created_at` of an object, as texts, if it has them."""
    return members_of(record) if mapping == DIRECT else translator(mapping).identity(record)


def is_order(record: bytes, mapping: FieldMapping) -> bool:
    """Whether an object is an order, valid or not, or the deletion of one."""
    found = identity_of(record, mapping)
    if reference.is_order(found):
        return True
    return mapping != DIRECT and "order_id" in found and translator(mapping).is_deletion(record)


def _at(members: _Members, path: tuple[str, ...]) -> bytes | None:
    """The text of the value at a path; None where there is none."""
    value = members.get(path[0])
    for key in path[1:]:
        if value is None:
            return None
        if value.startswith(b"{"):
            value = members_of(value).get(key)
        elif value.startswith(b"[") and key.isascii() and key.isdigit():
            elements = elements_of(value)
            value = elements[int(key)] if len(key) < 10 and int(key) < len(elements) else None
        else:
            return None
    return value


def _is_there(value: bytes) -> bool:
    return value != b"null" and not (value.startswith(b'"') and is_blank_string(value.decode()))


def _value(text: bytes) -> object:
    return unwrapped(reference.value_of(text.decode()))


def _json(text: str) -> bytes:
    return json.dumps(text).encode()


def _canonical(value: bytes) -> str:
    """A scalar's JSON as deleted_values has it."""
    return json.dumps(json.loads(value), ensure_ascii=False) if value.startswith(b'"') else value.decode()


def _object(members: _Members) -> bytes:
    return b"{" + b",".join(_json(key) + b":" + value for key, value in members.items()) + b"}"


def _upper(value: bytes) -> bytes:
    text = json.loads(value).strip(WHITE_SPACE) if value.startswith(b'"') else ""
    return _json(text.upper()) if _CODE.fullmatch(text) else value


def _minor_digits(currency: bytes | None) -> int:
    code = json.loads(currency) if currency is not None and currency.startswith(b'"') else ""
    return _MINOR_DIGITS_OF.get(code, _MINOR_DIGITS)


def _shifted(value: bytes, digits: int) -> bytes:
    """A number divided by 10^digits, exactly."""
    found = _value(value)
    text = found.strip(WHITE_SPACE) if isinstance(found, str) else ""
    if not digits or not is_number(text):
        return value
    if match := _INTEGER.fullmatch(text):
        padded = match[2].rjust(digits + 1, "0")
        return f"{match[1]}{padded[:-digits]}.{padded[-digits:]}".encode()
    number, _, exponent = text.lower().partition("e")
    return f"{number}e{int(exponent or 0) - digits}".encode() if len(exponent) < 10 else value
